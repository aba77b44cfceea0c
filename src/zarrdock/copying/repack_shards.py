"""Copying chunks from shards to other shards as the bytes they are: where only the shards differ nothing is decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.array.execution.drivers import drive
from zarrdock.array.execution.read_write import n_together, read_settings
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.chunk_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.overlap import Division, touched
from zarrdock.array.planning.read_types import Found
from zarrdock.array.planning.rounds import lockstep
from zarrdock.array.planning.selection import basic
from zarrdock.array.planning.shard_reader import read_task
from zarrdock.array.planning.tasks import Leaves, ProductLeaves, Task, tasks
from zarrdock.codecs.builtin import with_defaults
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.sharding import Sharding
from zarrdock.copying.parallel import Workers, in_parallel
from zarrdock.copying.target_metadata import Parts
from zarrdock.copying.transfer import N_LOCAL, N_REMOTE, Outcome
from zarrdock.stores.base import Buffer, Store

__all__ = ["regroup", "same_leaves"]

IntArray: TypeAlias = npt.NDArray[np.int64]
Coords: TypeAlias = tuple[int, ...]

_INDEX_CACHE_BYTES = 16 * 2**20


def same_leaves(original: ArrayMetadata, new: ArrayMetadata) -> bool:
    """True if a copy can take over the smallest chunks byte by byte, because only their shards, or the order in them,
    differ.
    """
    if original.unknown or original.dtype != new.dtype:
        return False
    old, wanted = Parts.of(original), Parts.of(new)
    if any(isinstance(parts.grid, RectilinearGrid) and not parts.levels for parts in (old, wanted)):
        return False  # the chunks themselves differ in shape
    if old.chunk_shape != wanted.chunk_shape or not (old.levels or wanted.levels):
        return False
    if any(isinstance(codec, Sharding) for codec in old.codecs):
        return False  # codecs around a shard hide its chunks
    spec = ChunkSpec(old.chunk_shape, original.dtype, original.fill_value)
    return with_defaults(old.codecs, spec) == with_defaults(wanted.codecs, spec)


def regroup(
    source: Array,
    store: Store,
    layout: Layout,
    *,
    chunks: Iterable[IntArray] | None,
    done: Collection[str],
    budget: int,
    workers: Workers | None = None,
) -> Iterator[Outcome]:
    """Copy an array's chunks into objects that are not there yet.

    Args:
        store, layout: the destination; its smallest chunks are those of the source.
        chunks: coordinates of the objects that the source has, arrays of shape (n, ndim); None if they are unknown.
        done: keys in the destination that are finished.
        budget: about what may be held at one time, in bytes; at least one object of the destination.
    Raises:
        ShardIndexError: the source is damaged. StoreError.
    """
    shape = layout.shape
    if 0 in shape:
        return
    bounds = (None,) * len(shape) if layout.irregular is None else layout.irregular.bounds
    objects = Division(shape, layout.chunk_shape, bounds)
    numbers: Iterable[int] = range(prod(objects.grid))
    if chunks is not None:
        numbers = touched(chunks, Division.of(source.metadata.grid, shape), objects)
    cache = IndexCache(_INDEX_CACHE_BYTES)

    def move(number: int) -> Outcome:
        coords = objects.coords(number)
        extents = [objects.extent(axis, c) for axis, c in enumerate(coords)]
        region = tuple(slice(at, min(at + n, end)) for (at, n), end in zip(extents, shape, strict=True))
        n_elements = prod(part.stop - part.start for part in region)
        key = layout.key(coords)
        if key in done:
            return Outcome(n_elements, n_kept=1)
        first = layout.first_leaf(coords)
        found = _encoded(source, region, cache).items()
        parts = _assemble(
            layout.at(coords), {tuple(c - a for c, a in zip(at, first, strict=True)): data for at, data in found}
        )
        if parts is None:
            return Outcome(n_elements)
        store.write(key, parts)
        return Outcome(n_elements, 1, sum(map(len, parts)))

    left = prod(shape)
    is_remote = store.traits.remote or source.store.traits.remote
    weight = max(1, layout.chain.spec.nbytes)
    jobs = ((weight, partial(move, number)) for number in numbers)
    n = N_REMOTE if is_remote else N_LOCAL
    for outcome in in_parallel(jobs, n=n, budget=budget, workers=workers):
        left -= outcome.n_elements
        yield outcome
    yield Outcome(n_elements=left)


class _Collector:
    """Takes what a read brings, and keeps it encoded: by the chunk's coordinates in the grid of all chunks.

    Args:
        first: coordinates of the chunk that the read counts from.
    """

    def __init__(self, first: Coords) -> None:
        self._first = first
        self.found: dict[Coords, memoryview] = {}

    def data(self, found: Found) -> None:
        """Keep chunks."""
        leaves, numbers = found.leaves, found.numbers
        assert isinstance(leaves, ProductLeaves)
        places = np.unravel_index(numbers, leaves.extents) if leaves.extents else ()
        lines = [
            (axis.chunks[low:high][place] + first).tolist()
            for axis, (low, high), place, first in zip(leaves.axes, leaves.ranges, places, self._first, strict=True)
        ]
        coords: Iterable[Coords] = zip(*lines, strict=True) if lines else [()] * len(numbers)
        self.found.update(zip(coords, found.encoded(), strict=True))

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Skip chunks missing in the source."""

    def barrier(self, again: Task | None = None) -> None:
        """A changed object is read again, and all that is kept of it replaced, but for chunks that are gone."""
        self.found.clear()


def _encoded(source: Array, region: tuple[slice, ...], cache: IndexCache) -> dict[Coords, memoryview]:
    """The encoded chunks of a region, which begins at a chunk's border on every axis."""
    layout, store = source._layout, source.store
    settings = replace(read_settings(layout, store, cache), in_part=False)
    # A collector a task: each begins anew where its object changed.
    # Where objects differ in shape, the chunks in each are counted from its first.
    origin = (0,) * len(layout.shape)
    work = [
        (task, _Collector(origin if layout.irregular is None else layout.first_leaf(task.coords)))
        for task in tasks(basic(region, layout.shape), layout)
    ]
    rounds = lockstep(
        (read_task(task, settings, collector) for task, collector in work),
        round_bytes=settings.round_bytes,
        n_together=n_together(settings),
    )
    drive(rounds, store)
    found: dict[Coords, memoryview] = {}
    for _, collector in work:
        found |= collector.found
    return found


def _assemble(layout: Layout, chunks: dict[Coords, memoryview], depth: int = 0) -> list[Buffer] | None:
    """An object (or the shard in it, ``depth`` levels down), made of encoded chunks; None where it would hold none.

    Args:
        chunks: by their coordinates, counted from the object's first one.
    """
    if not chunks:
        return None
    if depth == len(layout.levels):
        (only,) = chunks.values()
        return [only]
    level = layout.levels[depth]
    grid = level.sharding.grid
    children: dict[Coords, dict[Coords, memoryview]] = {}
    for at, data in chunks.items():
        child = tuple(c // n for c, n in zip(at, level.leaves, strict=True))
        children.setdefault(child, {})[at] = data
    changed: dict[int, Buffer | None] = {}
    for child, inside in children.items():
        flat = 0
        for c, n in zip(child, grid, strict=True):
            flat = flat * n + c % n
        parts = _assemble(layout, inside, depth + 1)
        changed[flat] = None if parts is None else parts[0] if len(parts) == 1 else b"".join(parts)
    return level.sharding.assemble(None, changed)
