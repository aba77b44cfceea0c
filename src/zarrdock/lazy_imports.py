"""Public names that are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

__all__ = ["lazy"]


def lazy(
    module: str,
    places: Mapping[str, str],
    names: Sequence[str],
    modules: Collection[str] = (),
    extras: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module whose names live elsewhere.

    Args:
        module: name of the module.
        places: public name -> the module of zarrdock that has it.
        names: all public names of the module: the only ones that ``dir`` shows.
        modules: those of them that are modules below it.
        extras: library that a name may need -> the extra of zarrdock that brings it.
    """

    def imported(target: str, name: str) -> Any:
        try:
            return importlib.import_module(target)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            extra = (extras or {}).get(library)
            if extra is None:
                raise
            raise ModuleNotFoundError(
                f'{module}.{name} needs {library}: pip install "zarrdock[{extra}]"', name=error.name
            ) from error

    def getattribute(name: str) -> Any:
        if name in modules:
            return imported(f"{module}.{name}", name)
        place = places.get(name)
        if place is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(imported(f"zarrdock.{place}", name), name)
        setattr(sys.modules[module], name, value)  # the next use finds it at once
        return value

    return getattribute, lambda: sorted(names)
