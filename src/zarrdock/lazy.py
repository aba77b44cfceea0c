"""Public names that are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

__all__ = ["lazy"]


def lazy(
    module: str, places: Mapping[str, str], names: Sequence[str], modules: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module whose names live elsewhere.

    Args:
        module: name of the module.
        places: public name -> the module of zarrdock that has it.
        names: all public names of the module: the only ones that ``dir`` shows.
        modules: those of them that are modules below it.
    """

    def getattribute(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{module}.{name}")
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"zarrdock.{place}"), name)
        setattr(sys.modules[module], name, value)  # the next use finds it at once
        return value

    return getattribute, lambda: sorted(names)
