"""Copying one array's elements: blocks are read, encoded and written side by side, within a bound on memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import ceil, prod

import numpy as np

from zarrdock.array.execution.encode_objects import Edit, Prepared
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.overlap import Division, touched
from zarrdock.array.planning.selection import basic
from zarrdock.array.planning.tasks import Task, tasks
from zarrdock.codecs.codec import AnyArray, Buffer
from zarrdock.copying.blocks import Blocks, IntArray, Region, choose_blocks
from zarrdock.copying.parallel import Workers, in_parallel
from zarrdock.copying.sources import Source
from zarrdock.stores.base import LazyParts, Store

__all__ = ["N_LOCAL", "N_REMOTE", "Outcome", "transfer"]

# Blocks under way: enough that one is read while another is encoded; more where a network is waited for.
N_LOCAL = 2
N_REMOTE = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a part of a copy.

    Attributes:
        n_elements: elements done, including those that did not have to be written.
        n_written: objects written, and nbytes: their bytes.
        n_kept: objects that an earlier attempt had already written.
    """

    n_elements: int = 0
    n_written: int = 0
    nbytes: int = 0
    n_kept: int = 0


def transfer(
    source: Source,
    store: Store,
    layout: Layout,
    *,
    chunks: Iterable[IntArray] | None,
    objects: Division,
    done: Collection[str],
    memory_bytes: int,
    is_remote: bool,
    workers: Workers | None = None,
) -> Iterator[Outcome]:
    """Copy the elements of an array into objects that are not there yet.

    Args:
        source: the array. store, layout: the destination.
        chunks: coordinates of the objects that the source has, arrays of shape (n, ndim): only blocks that overlap them
            are visited; None for all blocks. objects: how the source is divided into them.
        done: keys in the destination that are finished.
        memory_bytes: about what may be held at one time.
        is_remote: one of the two ends is separated by a network.
    """
    if 0 in layout.shape:
        return
    if layout.irregular is None:
        jobs = _of_blocks(source, store, layout, chunks, objects, done, memory_bytes)
    else:
        jobs = _of_objects(source, store, layout, layout.irregular.bounds, chunks, objects, done, memory_bytes)
    skipped = prod(layout.shape)
    n = N_REMOTE if is_remote else N_LOCAL
    for outcome in in_parallel(jobs, n=n, budget=memory_bytes, workers=workers):
        skipped -= outcome.n_elements
        yield outcome
    yield Outcome(n_elements=skipped)


def _of_blocks(
    source: Source,
    store: Store,
    layout: Layout,
    chunks: Iterable[IntArray] | None,
    objects: Division,
    done: Collection[str],
    memory_bytes: int,
) -> Iterator[tuple[int, partial[Outcome]]]:
    """Jobs of blocks, each of which is one object of the destination or several."""
    blocks = choose_blocks(
        layout.shape, layout.chunk_shape, layout.leaf_shape, source.grain, layout.dtype.itemsize, memory_bytes // 4
    )
    numbers = range(prod(blocks.grid)) if chunks is None else touched(chunks, objects, blocks.division)
    mover = _Mover(source, store, layout, blocks, done)
    for number in numbers:
        yield _weight(blocks, memory_bytes), partial(mover.move, number)


def _of_objects(
    source: Source,
    store: Store,
    layout: Layout,
    bounds: tuple[IntArray | None, ...],
    chunks: Iterable[IntArray] | None,
    objects: Division,
    done: Collection[str],
    memory_bytes: int,
) -> Iterator[tuple[int, partial[Outcome]]]:
    """Jobs of one object each, where those of the destination differ in shape: each is an array of its own."""
    division = Division(layout.shape, layout.chunk_shape, bounds)
    for number in range(prod(division.grid)) if chunks is None else touched(chunks, objects, division):
        coords = division.coords(number)
        own, start = layout.at(coords), layout.starts(coords)
        shape = tuple(min(n, end - at) for n, end, at in zip(own.chunk_shape, layout.shape, start, strict=True))
        blocks = choose_blocks(
            shape, own.chunk_shape, own.leaf_shape, source.grain, layout.dtype.itemsize, memory_bytes // 4
        )
        part = _Part(source, start, shape)
        mover = _Mover(part, store, replace(own, shape=shape), blocks, done, layout.key(coords))
        yield _weight(blocks, memory_bytes), partial(mover.move, 0)


def _weight(blocks: Blocks, memory_bytes: int) -> int:
    # The elements, and at worst as many bytes of encoded chunks. An object in slabs is alone: its encoded chunks all
    # wait for its end.
    return memory_bytes if blocks.is_slabbed else 2 * blocks.slab_nbytes


class _Part:
    """A part of a source, as a source."""

    def __init__(self, source: Source, start: tuple[int, ...], shape: tuple[int, ...]) -> None:
        self._source = source
        self._start = start
        self.shape = shape
        self.dtype = source.dtype
        self.grain = source.grain

    def read(self, region: Region, out: AnyArray) -> None:
        moved = tuple(slice(n + part.start, n + part.stop) for n, part in zip(self._start, region, strict=True))
        self._source.read(moved, out)


class _Mover:
    """Copies blocks of one array; used by several threads at once.

    Args:
        key: of the one object that there is, where the array is a part of another.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        layout: Layout,
        blocks: Blocks,
        done: Collection[str],
        key: str | None = None,
    ) -> None:
        self._key = key
        self._source = source
        self._store = store
        # Chunks at the edge are filled up by us, so that all chunks are whole and none is looked for in the store.
        whole = tuple(ceil(n / leaf) * leaf for n, leaf in zip(layout.shape, layout.leaf_shape, strict=True))
        self._layout = replace(layout, shape=whole)
        self._blocks = blocks
        self._done = done

    def move(self, number: int) -> Outcome:
        """Copy a block."""
        region = self._blocks.region(number)
        n_elements = prod(part.stop - part.start for part in region)
        keys = self._keys(region)
        n_kept = sum(key in self._done for key in keys) if self._done else 0
        if n_kept == len(keys):
            return Outcome(n_elements, n_kept=n_kept)
        if self._blocks.is_slabbed:
            written = self._by_slabs(region)
        else:
            written = self._at_once(region)
        return Outcome(n_elements, sum(n > 0 for n in written), sum(written), n_kept)

    def _keys(self, region: Region) -> list[str]:
        if self._key is not None:
            return [self._key]
        ranges = (
            range(part.start // n, (part.stop - 1) // n + 1)
            for part, n in zip(region, self._layout.chunk_shape, strict=True)
        )
        return [self._layout.key(coords) for coords in product(*ranges)]

    def _at_once(self, region: Region) -> list[int]:
        edit, found = self._read(region)
        return [self._write(task, edit.build(task)) for task in found if self._key or task.key not in self._done]

    def _by_slabs(self, region: Region) -> list[int]:
        """Fill one large object: slabs come and go, what stays are encoded chunks."""
        prepared: list[Prepared] = []
        with ThreadPoolExecutor(1, "zarrdock-ahead") as ahead:
            slabs = self._blocks.slabs(region)
            first = next(slabs)
            following = ahead.submit(self._read, first)
            for slab in slabs:
                edit, (task,) = following.result()
                following = ahead.submit(self._read, slab)
                prepared.append(edit.prepare(task))
                del edit
            edit, (task,) = following.result()
        prepared.append(edit.prepare(task))
        return [self._write(task, edit.apply(prepared, None, task))]

    def _read(self, region: Region) -> tuple[Edit, list[Task]]:
        layout = self._layout
        full = tuple(
            slice(part.start, ceil(part.stop / leaf) * leaf)
            for part, leaf in zip(region, layout.leaf_shape, strict=True)
        )
        shape = tuple(part.stop - part.start for part in full)
        inside = tuple(slice(0, part.stop - part.start) for part in region)
        value: AnyArray = np.empty(shape, layout.dtype)
        if any(a.stop != b.stop for a, b in zip(region, full, strict=True)):
            value[...] = layout.fill_value
        inside_value: AnyArray = value[(*inside, Ellipsis)]  # type: ignore[arg-type]
        self._source.read(region, inside_value)
        return Edit(layout, value), list(tasks(basic(full, layout.shape), layout))

    def _write(self, task: Task, parts: list[Buffer] | LazyParts | None) -> int:
        """Store an object; one that would hold nothing but fill value is left out. Returns its bytes."""
        if parts is None:
            return 0
        self._store.write(task.key if self._key is None else self._key, parts)
        if isinstance(parts, LazyParts):
            return parts.nbytes
        return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
