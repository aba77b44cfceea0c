"""The public face: every public name and signature is written down, shown by ``dir``.

After a change that is meant: ``ZARRDOCK_WRITE_PUBLIC=1 python -m pytest tests/test_public.py``, and look at the diff.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import zarrdock

MODULES = [
    "zarrdock",
    "zarrdock.storage",
    "zarrdock.errors",
    "zarrdock.views",
    "zarrdock.adapters",
    "zarrdock.tools",
    "zarrdock.testing",
]
RECORD = Path(__file__).parent / "public_names.txt"


def names(module: ModuleType) -> list[str]:
    return sorted(module.__all__)


def signature(value: Any) -> str:
    """The parameters of a callable as they are written; defaults that print an address are left out."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parts = []
    for parameter in found.parameters.values():
        text = str(parameter.replace(annotation=inspect.Parameter.empty))
        annotation = parameter.annotation
        if annotation is not inspect.Parameter.empty:
            text += f": {annotation if isinstance(annotation, str) else getattr(annotation, '__name__', annotation)}"
        parts.append(text.partition(" at 0x")[0])
    return f"({', '.join(parts)})"


def own_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public members that a class, or a private base class of zarrdock, defines."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if not base.__module__.startswith("zarrdock"):
            continue
        for name, value in vars(base).items():
            if not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, value


def lines() -> Iterator[str]:
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in names(module):
            value = getattr(module, name)
            full = f"{module_name}.{name}"
            if isinstance(value, ModuleType):
                yield f"{full}: module"
            elif inspect.isclass(value):
                bases = ", ".join(base.__name__ for base in value.__bases__)
                yield f"{full}: class({bases}){signature(value) if dataclasses.is_dataclass(value) else ''}"
                if module_name == "zarrdock" or not hasattr(zarrdock, name):
                    for member, inside in sorted(own_members(value)):
                        inside = getattr(inside, "__func__", inside)
                        shown = signature(inside) if inspect.isfunction(inside) else ""
                        yield f"  {full}.{member}{shown}"
            elif callable(value):
                yield f"{full}{signature(value)}"
            else:
                yield f"{full}: {type(value).__name__}"


def test_public_names_and_signatures_are_the_recorded_ones() -> None:
    found = "\n".join(lines()) + "\n"
    if os.environ.get("ZARRDOCK_WRITE_PUBLIC"):
        RECORD.write_text(found, "utf-8")
    assert found == RECORD.read_text("utf-8"), "the public face changed: see the head of this file"


@pytest.mark.parametrize("name", MODULES)
def test_dir_shows_the_public_names_and_nothing_else(name: str) -> None:
    module = importlib.import_module(name)
    assert [shown for shown in dir(module) if not shown.startswith("__")] == [
        public for public in names(module) if not public.startswith("__")
    ]


def test_typical_uses_run(repository: Path) -> None:
    """The code that type checkers read works."""
    runpy.run_path(str(repository / "tests" / "typing" / "typical_uses.py"))


def test_typical_uses_import_public_names_only(repository: Path) -> None:
    tree = ast.parse((repository / "tests" / "typing" / "typical_uses.py").read_bytes())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and name.startswith("zarrdock")} <= set(MODULES)
