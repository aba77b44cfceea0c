"""Values changed in part, by stores that can do so without reading and writing all of them.

A store that can has a method ``patch``; others don't have it. It keeps every promise of ``update``: readers see the old
bytes or the new ones, an interruption leaves the old ones, and no other writer's change is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from zarrdock.stores.base import Buffer, Store, Value

__all__ = ["OldValue", "Patch", "PatchChange", "patch_of"]


class OldValue(Protocol):
    """A value that is about to be changed; to be used during the call it is given to only."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def read(self, start: int, stop: int) -> Buffer:
        """Bytes ``start`` to ``stop`` of it, which lie within it."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A partial change of a value: it is cut or lengthened with zeros to ``size``, then pieces are written over it.

    Attributes:
        pieces: start and bytes of each; all within ``size``.
    """

    size: int
    pieces: Sequence[tuple[int, Buffer]]


#: Given the old value, or None where there is none: a patch of it, a whole new value, or None to delete the key. It may
#: run more than once, and must not touch the store itself.
PatchChange: TypeAlias = "Callable[[OldValue | None], Patch | Value | None]"


def patch_of(store: Store) -> Callable[[str, PatchChange], None] | None:
    """The method ``patch`` of a store, where it has one."""
    found: Callable[[str, PatchChange], None] | None = getattr(store, "patch", None)
    return found
