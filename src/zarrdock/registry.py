"""Names to implementations, imported when first asked for.

The built-in ones are listed in the room they belong to (``codecs/builtin.py`` and so on) as ``name ->
"module:attribute"``; third parties add theirs through
entry points, in the groups ``zarrdock.codecs`` and ``zarrdock.stores``, or at run time with :meth:`Registry.add`.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """A lazy table of implementations. What is added at run time wins; a built-in name cannot be taken over by an
    entry point.
    """

    def __init__(self, group: str, builtin: Mapping[str, str] | None = None) -> None:
        self.group = group
        self._builtin: dict[str, str] = dict(builtin or {})
        self._loaded: dict[str, T] = {}
        self._entry_points: dict[str, str] | None = None
        self._lock = threading.Lock()

    def add(self, name: str, implementation: T) -> None:
        """Register an implementation at run time, replacing an earlier one of that name."""
        self._loaded[name] = implementation

    def get(self, name: str) -> T | None:
        """The implementation, imported now if it was not yet; None where nobody provides one.

        Raises:
            ImportError: it is provided, but its module can't be imported (a missing extra, say).
        """
        found = self._loaded.get(name)
        if found is not None:
            return found
        # Scanning entry points costs milliseconds: only for names that are not built in.
        target = self._builtin.get(name) or self._points().get(name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        loaded: T = getattr(importlib.import_module(module), attribute)
        return self._loaded.setdefault(name, loaded)

    def names(self) -> Iterator[str]:
        """Every name known, sorted."""
        return iter(sorted({*self._builtin, *self._points(), *self._loaded}))

    def _points(self) -> dict[str, str]:
        with self._lock:
            if self._entry_points is None:
                from importlib.metadata import entry_points  # 50 ms

                self._entry_points = {point.name: point.value for point in entry_points(group=self.group)}
            return self._entry_points
