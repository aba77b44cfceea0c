"""Forked children: locks, queues and caches that a thread of the parent may have held are made anew in them."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["reset_after_fork"]


class _Owner(weakref.ref[Any]):
    """An object with a method to be called: it goes as if it were not known here."""

    __slots__ = ("place",)

    place: tuple[int, Any]


def _forget(owner: Any) -> None:
    _methods.pop(owner.place, None)


# By object and method.
_methods: dict[tuple[int, Any], _Owner] = {}


def reset_after_fork(reset: Callable[[], object]) -> None:
    """Call ``reset`` in every forked child, before any other code of the child runs.

    Not at the first use in the child: by then it may have threads, and each would make a lock of its own.

    Args:
        reset: a function; or a method, which is called as long as its object lives. It may rely on no lock: the thread
            that held it is not in the child.

    >>> import threading
    >>> class Counter:
    ...     def __init__(self):
    ...         self._renew()
    ...         reset_after_fork(self._renew)
    ...
    ...     def _renew(self):
    ...         self._lock = threading.Lock()
    >>> counter = Counter()
    """
    if isinstance(reset, MethodType):
        owner = _Owner(reset.__self__, _forget)
        owner.place = id(reset.__self__), reset.__func__
        _methods[owner.place] = owner
    else:
        _register(reset)


def _register(function: Callable[[], object]) -> None:
    if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
        os.register_at_fork(after_in_child=function)


def _reset_objects() -> None:
    for (_, method), reference in [*_methods.items()]:
        owner = reference()
        if owner is not None:
            try:
                method(owner)
            except Exception:  # one object that cannot be reset keeps no other from it
                sys.excepthook(*sys.exc_info())


_register(_reset_objects)
