"""Names to implementations, imported when first asked for.

The built-in ones are listed beside their kind (codecs: ``codecs/builtin.py``; stores: ``stores/open.py``; data types:
``array/dtypes/dtype.py``) as ``name -> "module:attribute"``. Third parties add theirs through entry points, in groups
such as ``zarrdock.codecs`` and ``zarrdock.stores``, or at run time with :meth:`Registry.add`.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """A lazy table of implementations. What is added at run time wins; a built-in name cannot be taken over by an
    entry point.

    Args:
        group: of entry points. builtin: name -> "module:attribute".
        foreign: entry point groups of other packages -> "module:function", an adapter. It is called with a name
            that no package provides here, if it stands in that group, or if the group's package has been imported and
            may know of it otherwise; it returns an implementation, or None.
    """

    #: Implementations registered at run time, in all registries.
    n_added: ClassVar[int] = 0

    def __init__(
        self, group: str, builtin: Mapping[str, str] | None = None, foreign: Mapping[str, str] | None = None
    ) -> None:
        self.group = group
        self._builtin: dict[str, str] = dict(builtin or {})
        self._foreign: dict[str, str] = dict(foreign or {})
        self._loaded: dict[str, T] = {}
        self._entry_points: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def add(self, name: str, implementation: T) -> None:
        """Register an implementation at run time, replacing an earlier one of that name."""
        Registry.n_added += 1
        self._loaded[name] = implementation

    def get(self, name: str) -> T | None:
        """The implementation, imported now if it was not yet; None if no package provides one.

        Raises:
            ImportError: it is provided, but its module can't be imported (a missing extra, say).
        """
        found = self._loaded.get(name)
        if found is not None:
            return found
        # Scanning entry points costs milliseconds: only for names that are not built in.
        target = self._builtin.get(name) or self._points(self.group).get(name)
        loaded: T | None = self._adapted(name) if target is None else _load(target)
        return None if loaded is None else self._loaded.setdefault(name, loaded)

    def names(self) -> Iterator[str]:
        """Every name known, sorted."""
        foreign = (name for group in self._foreign for name in self._points(group))
        return iter(sorted({*self._builtin, *self._points(self.group), *self._loaded, *foreign}))

    def _adapted(self, name: str) -> T | None:
        for group, adapter in self._foreign.items():
            package = group.partition(".")[0]
            if package in sys.modules or name in self._points(group):
                found: T | None = _load(adapter)(name)
                if found is not None:
                    return found
        return None

    def _points(self, group: str) -> dict[str, str]:
        with self._lock:
            if group not in self._entry_points:
                from importlib.metadata import entry_points  # 50 ms

                self._entry_points[group] = {point.name: point.value for point in entry_points(group=group)}
            return self._entry_points[group]


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
