"""Arrays that do not exist: objects of which only sizes and indexes are known.

A read of one asks exactly what a read of the real thing would ask, since it is the same code that asks: its requests
can be counted. What is not an index reads as zeros.
"""

from __future__ import annotations

from builtins import list as list_  # inside Store, `list` is a method
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.layout import Layout, Level
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.errors import RangeError, ReadOnlyError
from zarrdock.layouts.indexes import ObjectIndexes
from zarrdock.ranges import is_empty, resolve
from zarrdock.stores.base import (
    Blob,
    Buffer,
    Change,
    Entry,
    Listing,
    Read,
    Results,
    Store,
    Traits,
    Value,
    Version,
)

__all__ = ["GhostObject", "GhostStore", "as_stored", "predicted"]

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GhostObject:
    """An object's size, and the bytes of it that are known: where each piece begins, and the piece."""

    nbytes: int
    pieces: tuple[tuple[int, Buffer], ...] = ()


class GhostStore(Store):
    """A store of ghosts, made when they are first asked for. Not for threads.

    Args:
        make: the object of a key, None where there is none.
        traits: of the store that is imitated.
    Attributes:
        rounds: requests and bytes of every round of reads so far.
    """

    read_only = True

    def __init__(self, make: Callable[[str], GhostObject | None], traits: Traits) -> None:
        self._make = make
        self._objects: dict[str, GhostObject | None] = {}
        self._zeros = np.zeros(2**20, np.uint8)
        self.traits = traits
        self.rounds: list_[tuple[int, int]] = []

    def find(self, key: str) -> GhostObject | None:
        """The object of a key."""
        if key not in self._objects:
            self._objects[key] = self._make(key)
        return self._objects[key]

    def read(self, requests: Sequence[Read], /) -> Results:
        results: Results = []
        n_requests = nbytes = 0
        for request in requests:
            if is_empty(request.range):
                results.append(Blob(b""))
                continue
            n_requests += 1
            ghost = self.find(request.key)
            if ghost is None:
                results.append(None)
                continue
            span = resolve(request.range, ghost.nbytes)
            if span is None:
                raise RangeError("the range starts beyond the end of the simulated object", key=request.key, store=self)
            nbytes += span[1] - span[0]
            results.append(Blob(self._bytes(ghost, *span), 1))
        if n_requests:
            self.rounds.append((n_requests, nbytes))
        return results

    def _bytes(self, ghost: GhostObject, start: int, stop: int) -> memoryview:
        known = [(at, data) for at, data in ghost.pieces if at < stop and at + len(data) > start]
        if known:
            # Fresh zeros cost nothing where nobody looks at them.
            whole = np.zeros(stop - start, np.uint8)
            for at, data in known:
                piece = np.frombuffer(data, np.uint8)
                low, high = max(at, start), min(at + len(data), stop)
                whole[low - start : high - start] = piece[low - at : high - at]
            return whole.data.toreadonly()
        if stop - start > len(self._zeros):
            self._zeros = np.zeros(stop - start, np.uint8)
        return self._zeros[: stop - start].data.toreadonly()

    def size(self, key: str, /) -> int | None:
        ghost = self.find(key)
        return None if ghost is None else ghost.nbytes

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        return iter(())

    def list_dir(self, prefix: str = "", /) -> Listing:
        return Listing()

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        raise self._refusal(key)

    def update(self, key: str, change: Change, /) -> None:
        raise self._refusal(key)

    def delete(self, key: str, /) -> None:
        raise self._refusal(key)

    def delete_prefix(self, prefix: str, /) -> None:
        raise self._refusal(prefix)

    def _refusal(self, key: str) -> ReadOnlyError:
        return ReadOnlyError("a simulated array cannot be written", key=key, store=self)


def as_stored(layout: Layout, objects: dict[str, ObjectIndexes]) -> Callable[[str], GhostObject | None]:
    """Ghosts of the objects there are, chunks where they lie."""

    def make(key: str) -> GhostObject | None:
        one = objects.get(key)
        if one is None:
            return None
        pieces = []
        levels = layout.at(one.coords).levels
        for shard in one.shards:
            level = levels[shard.depth].sharding.layout
            assert shard.nbytes is not None
            first, _ = level.span_within(shard.start, shard.nbytes)
            pieces.append((first, level.serialise(shard.index)))
        return GhostObject(one.nbytes, tuple(pieces))

    return make


def predicted(layout: Layout, lengths: IntArray) -> Callable[[str], GhostObject | None]:
    """Ghosts of the objects that an array of this layout would have.

    Args:
        layout: its shards with the options of their writer.
        lengths: of every smallest chunk, shape that of the grid of all of them, -1 where there is none.
    """
    skip = len(layout.prefix)
    ndim = len(layout.shape)
    grid_shape = layout.grid_shape()

    def make(key: str) -> GhostObject | None:
        coords = layout.key_encoding.parse(key[skip:], ndim)
        if coords is None or any(c >= n for c, n in zip(coords, grid_shape, strict=True)):
            return None
        levels = layout.at(coords).levels
        if not levels:
            return chunk(coords)
        # In the grid of inner chunks: objects may differ in shape, their inner chunks do not.
        return build(levels, 0, layout.first_inner(coords))

    def chunk(coords: tuple[int, ...]) -> GhostObject | None:
        length = int(lengths[coords])
        return None if length < 0 else GhostObject(length)

    def build(levels: tuple[Level, ...], depth: int, first: tuple[int, ...]) -> GhostObject | None:
        """A shard, the first part of which is at ``first`` in the grid of its like."""
        sharding = levels[depth].sharding
        grid = sharding.grid
        children: dict[int, GhostObject] = {}
        if depth + 1 == len(levels):
            block = np.full(grid, -1, np.int64)
            inside = lengths[tuple(slice(a, a + n) for a, n in zip(first, grid, strict=True))]
            block[tuple(slice(0, n) for n in inside.shape)] = inside
            sizes = block.reshape(-1)
        else:
            sizes = np.full(sharding.layout.n_chunks, -1, np.int64)
            for flat in range(sharding.layout.n_chunks):
                at = tuple(a + int(b) for a, b in zip(first, np.unravel_index(flat, grid), strict=True))
                if _is_inside(levels, at, depth + 1):
                    below = levels[depth + 1].sharding.grid
                    child = build(levels, depth + 1, tuple(a * n for a, n in zip(at, below, strict=True)))
                    if child is not None:
                        children[flat] = child
                        sizes[flat] = child.nbytes
        if (sizes < 0).all():
            return None
        index, nbytes = sharding.arrange(ShardIndex(np.where(sizes < 0, -1, 0), np.maximum(sizes, 0)))
        own, _ = sharding.layout.span_within(0, nbytes)
        pieces: list[tuple[int, Buffer]] = [(own, sharding.layout.serialise(index))]
        for flat, child in children.items():
            pieces += [(int(index.offsets[flat]) + at, data) for at, data in child.pieces]
        return GhostObject(nbytes, tuple(pieces))

    def _is_inside(levels: tuple[Level, ...], coords: tuple[int, ...], depth: int) -> bool:
        shape = levels[depth].sharding.decoded.shape
        return all(c * n < length for c, n, length in zip(coords, shape, layout.shape, strict=True))

    return make
