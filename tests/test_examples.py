"""Examples in docstrings run, and every public function and class has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import zarrdock

PUBLIC = ("storage", "views", "adapters", "tools", "testing")


def public_objects() -> Iterator[tuple[str, Any]]:
    """Public functions and classes, errors aside: those are shown by what raises them."""
    for module in (zarrdock, *(importlib.import_module(f"zarrdock.{name}") for name in PUBLIC)):
        for name in module.__all__:
            found = getattr(module, name)
            is_ours = getattr(found, "__module__", "").startswith("zarrdock.")
            is_error = inspect.isclass(found) and issubclass(found, Exception)
            if is_ours and not is_error and (inspect.isroutine(found) or inspect.isclass(found)):
                yield f"{module.__name__}.{name}", found


def modules_with_examples() -> list[str]:
    root = Path(zarrdock.__file__).parent
    found = []
    paths = (Path(folder) / name for folder, _, names in os.walk(root, followlinks=True) for name in names)
    for path in sorted(path for path in paths if path.suffix == ".py"):
        text = path.read_text("utf-8")
        if ">>> " in text and any(">>> " in (ast.get_docstring(node) or "") for node in documented(ast.parse(text))):
            inside = path.relative_to(root).with_suffix("").parts
            found.append(".".join(("zarrdock", *inside)).removesuffix(".__init__"))
    return found


def documented(tree: ast.Module) -> Iterator[Any]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    yield from (node for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_public_function_and_class_has_an_example() -> None:
    objects = dict(public_objects())
    assert len(objects) > 100
    assert [name for name, found in objects.items() if ">>> " not in (found.__doc__ or "")] == []


def members(kind: type) -> Iterator[tuple[str, list[str | None]]]:
    """Public methods and properties of a class that are ours, each with its docstrings along the bases; tests of the
    contract, which their names describe, left out.
    """
    for name in dir(kind):
        found = [(base, base.__dict__[name]) for base in kind.__mro__ if name in base.__dict__]
        is_ours = bool(found) and found[0][0].__module__.startswith("zarrdock.")
        if is_ours and not name.startswith(("_", "test_")):
            plain = [getattr(value, "__func__", value) for _, value in found]
            if callable(plain[0]) or isinstance(plain[0], property):
                yield name, [value.__doc__ for value in plain]


def test_everything_public_has_a_docstring() -> None:
    lacking, n = [], 0
    errors = [(f"zarrdock.errors.{name}", getattr(zarrdock.errors, name)) for name in zarrdock.errors.__all__]
    for name, found in (*public_objects(), *errors):
        inside = members(found) if inspect.isclass(found) else ()
        told = [(name, [found.__doc__]), *((f"{name}.{member}", docs) for member, docs in inside)]
        lacking += [one for one, docs in told if not any(docs)]
        n += len(told)
    assert n > 1000
    assert lacking == []


def examples(module: ModuleType) -> list[doctest.DocTest]:
    names = {"np": np, "zarrdock": zarrdock}
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(module, module.__name__, extraglobs=names) if test.examples]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = examples(module)
    assert found, "examples that nothing runs"
    said: list[str] = []
    for test in found:
        doctest.DocTestRunner().run(test, out=said.append)
    assert "".join(said) == ""


OFTEN_CALLED = {
    zarrdock.Array: (
        "append attrs blocks info nbytes_stored nchunks_initialized oindex plan read read_async refresh resize "
        "update_attributes vindex write write_async"
    ),
    zarrdock.Group: (
        "append arrays attrs consolidate create_array create_group get members nmembers require_array require_group "
        "tree update_attributes"
    ),
    zarrdock.Store: "aread delete_prefix exists get list list_dir patch read sizes update with_costs write",
}


@pytest.mark.parametrize("kind", OFTEN_CALLED)
def test_methods_that_are_often_called_have_examples(kind: type) -> None:
    names = OFTEN_CALLED[kind].split()
    assert [name for name in names if ">>> " not in getattr(kind, name).__doc__] == []
