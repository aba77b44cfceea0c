"""Decoding leaf chunks and putting them where the result wants them."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product, repeat
from typing import Any, TypeAlias

import numpy as np

from zarrdock.array.execution.pool import Jobs
from zarrdock.array.planning.chunk_cache import Chunks
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.read_types import Found
from zarrdock.array.planning.runs import Index, put, take
from zarrdock.array.planning.selection import AxisPieces, IntArray
from zarrdock.array.planning.tasks import Leaves, ProductLeaves, Task
from zarrdock.codecs import compiled
from zarrdock.codecs.codec import AnyArray, Buffer
from zarrdock.config import config
from zarrdock.errors import ChunkNotFoundError, CodecError
from zarrdock.stores.base import FileBytes

__all__ = ["Block", "Scatter", "blocks", "chunk_not_found", "copy_rows", "has_rows", "missing_chunk"]


# -- Copying between arrays whose last axes are contiguous, faster than numpy does it element by element.
#
# A chunk in a larger array is many short rows. numpy spends more on beginning a row than on copying it; seen as one
# element a row, of raw bytes, the same copy takes a third to a half of the time (32^3 uint16 into 512^3: 5 us, not
# 15).

# Longer rows cost what they cost.
_MAX_NBYTES = 4096


@functools.lru_cache(maxsize=1024)
def _raw(nbytes: int) -> np.dtype[Any]:
    return np.dtype((np.void, nbytes))


def has_rows(array: AnyArray) -> bool:
    """True if :func:`copy_rows` may copy to parts of the array."""
    dtype = array.dtype
    return bool(array.ndim and array.strides[-1] == dtype.itemsize and not dtype.hasobject and dtype.itemsize)


def copy_rows(out: AnyArray, values: AnyArray) -> None:
    """``out[...] = values``, for arrays of one shape."""
    dtype = out.dtype
    itemsize = dtype.itemsize
    nbytes = values.shape[-1] * itemsize if values.ndim else 0
    if (
        out.ndim
        and values.strides[-1] == itemsize == out.strides[-1]
        and itemsize < nbytes <= _MAX_NBYTES
        and values.dtype == dtype
        and not dtype.hasobject
        and values.shape == out.shape
    ):
        raw = _raw(nbytes)
        out.view(raw)[...] = values.view(raw)
    else:
        out[...] = values


# -- Leaf chunks that lie side by side in the result: put in place together, they cost one call of numpy instead of
# one each. Pure.

Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """Leaves of a box in the grid of leaves. Of all of them the same part is wanted.

    Attributes:
        some: which of the leaves asked for they are among, in C order of a box of ``extents``; picks: of that box,
            which ones.
        inner: index into each leaf. outer: index into the result of them all.
    """

    some: slice
    extents: tuple[int, ...]
    picks: tuple[slice, ...]
    inner: tuple[slice, ...]
    outer: tuple[slice, ...]


def blocks(leaves: Leaves, numbers: IntArray) -> list[Block] | None:
    """Leaves ``numbers`` (ascending) as blocks; None where that would not be far fewer than leaves."""
    n = len(numbers)
    if n < 16 or not isinstance(leaves, ProductLeaves) or not leaves.is_sliced or not leaves.axes:
        return None
    most = n // 4
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    if len(breaks) >= most:
        return None
    firsts, stops = [0, *breaks.tolist()], [*breaks.tolist(), n]
    found: list[Block] = []
    for first, stop in zip(firsts, stops, strict=True):
        at = first
        for box in _boxes(int(numbers[first]), int(numbers[stop - 1]) + 1, leaves.extents):
            extents = tuple(b - a for a, b in box)
            some = slice(at, at := at + int(np.prod(extents)))
            each = zip(leaves.axes, leaves.ranges, box, strict=True)
            for parts in product(*(_alike(axis, low + a, low + b) for axis, (low, _), (a, b) in each)):
                picks, inner, outer = zip(*parts, strict=True)
                found.append(Block(some, extents, picks, inner, outer))
                if len(found) > most:
                    return None
    return found


def _boxes(first: int, stop: int, extents: tuple[int, ...]) -> Iterator[tuple[Range, ...]]:
    """Numbers ``first`` to ``stop`` of a grid as boxes, in C order."""
    if len(extents) == 1:
        yield ((first, stop),)
        return
    inner = int(np.prod(extents[1:]))
    low, begin = divmod(first, inner)
    high, end = divmod(stop, inner)
    if begin:
        for box in _boxes(begin, inner if high > low else end, extents[1:]):
            yield ((low, low + 1), *box)
        if high == low:
            return
        low += 1
    if high > low:
        yield ((low, high), *((0, n) for n in extents[1:]))
    if end:
        for box in _boxes(0, end, extents[1:]):
            yield ((high, high + 1), *box)


def _alike(axis: AxisPieces, low: int, high: int) -> list[tuple[slice, slice, slice]]:
    """Pieces ``low`` to ``high`` of an axis: runs of chunks that are wanted whole, others one by one."""
    whole = axis.whole[low:high]
    if whole.all():
        runs = [(low, high)]
    else:
        cuts = np.flatnonzero(~whole).tolist()
        edges = sorted({0, high - low, *cuts, *(i + 1 for i in cuts)})
        runs = [(low + a, low + b) for a, b in pairwise(edges)]
    return [(slice(a - low, b - low), _slice(axis.inner[a]), _span(axis, a, b)) for a, b in runs]


def _slice(selector: Any) -> slice:
    assert isinstance(selector, slice)  # leaves.is_sliced
    return selector


def _span(axis: AxisPieces, first: int, stop: int) -> slice:
    return slice(_slice(axis.outer[first]).start, _slice(axis.outer[stop - 1]).stop)


# Larger chunks gain nothing by being decoded side by side: another copy costs more than the calls.
_BLOCK_NBYTES = 16 * 2**10
# Bytes that are copied by the time another thread is awake.
_COPY_NBYTES = 4 * 2**20
# So much is decoded by one call: it can't be interrupted.
_AT_ONCE_NBYTES = 64 * 2**20
_AT_ONCE = 64
# So many jobs' work is shared out chunk by chunk instead, where that is all there is to a read.
_SHARED_JOBS = 4


# Leaves to be decoded: of which, its number, its bytes, and its indices.
_Work: TypeAlias = "deque[tuple[Found, int, Buffer, tuple[Index, Index]]]"


class Scatter:
    """A sink that decodes into ``out``: small work in the calling thread, larger work as jobs.

    What comes is collected until it is work enough for a job. The last of it is kept back for the calling thread, so
    that a small read never touches another one. Of a read that would be a few jobs, threads take the chunks one by one
    instead, so that none of them waits for the last job of another.

    Args:
        out: the result, every axis kept, axes that are read backwards already turned round; or one axis for points.
        is_zero: ``out`` holds zeros already, which need not be written where that is the fill value.
        chunks: where decoded chunks are to be kept.

    Attributes:
        found_any: a chunk came that is stored.
    """

    def __init__(
        self, layout: Layout, out: AnyArray, *, is_zero: bool, max_weight: int, chunks: Chunks | None = None
    ) -> None:
        self._layout = layout
        self._out = out
        self._out_rows = has_rows(out)
        self._skip_fill = is_zero and layout.fill_is_zero
        self._leaf_nbytes = max(1, layout.leaf.spec.nbytes)
        self._per_job = max(1, config.job_bytes // self._leaf_nbytes)
        self._jobs: Jobs | None = None
        self._max_weight = max_weight
        self._chunks = chunks
        self.found_any = False
        self._missing: dict[str, tuple[int, ...]] = {}  # by object, the first leaf that is not stored
        self._batch: list[Found] = []
        self._n = 0  # leaves in the batch
        self._few = True  # all that came is in the batch
        self._n_held = 0  # bytes of it as they came
        # A cancelled coroutine can't stop the thread that hands over what came; closing this gate can.
        self._gate = threading.Lock()
        self._abandoned = False
        # Chunks for the compiled part, as it wants them, and the bytes that they are decoded to and hold.
        self._compiled: list[tuple[Found, tuple[Any, ...]]] = []
        self._n_compiled = 0
        # The same for points and the like: chunks are decoded whole beside the result, and picked from.
        self._apart: list[Found] = []
        self._n_apart = 0

    def data(self, found: Found) -> None:
        """Take encoded leaves; see :class:`zarrdock.array.planning.read_types.Sink`."""
        with self._gate:
            if not self._abandoned:
                self._take(found)

    def _take(self, found: Found) -> None:
        self.found_any = True
        n = len(found.numbers)
        if found.decoded is not None and n * self._leaf_nbytes <= _COPY_NBYTES:
            self._decode_one(found)  # only to be copied: sooner done than handed to another thread
            return
        if config.compiled and (group := self._group(found)) is not None:
            self._compiled.append((found, group))
            self._n_compiled += n * self._leaf_nbytes
            self._n_held += sum(0 if isinstance(buffer, FileBytes) else len(buffer) for buffer in found.buffers)
            is_much = self._n_held > _SHARED_JOBS * config.job_bytes or self._n_compiled > _AT_ONCE_NBYTES
            if is_much or len(self._compiled) >= _AT_ONCE:
                self._decode_compiled()
            return
        if config.compiled and _is_apart(found):
            self._take_apart(found)
            return
        if self._few:
            limit = _SHARED_JOBS * config.job_bytes
            self._n_held += sum(map(len, found.buffers))
            if (self._n + n) * self._leaf_nbytes <= limit and self._n_held <= limit:
                self._batch.append(found)
                self._n += n
                return
            self._few = False
            batch, self._batch, self._n = self._batch, [], 0
            for each in batch:
                self._queue(each)
        self._queue(found)

    def _group(self, found: Found) -> tuple[Any, ...] | None:
        """Leaves as the compiled part wants them; None where it can't decode them, or not to their places."""
        leaves, known = found.leaves, found.task.layout.compiled
        if known is None or found.decoded is not None or found.keep is not None:
            return None
        if not isinstance(leaves, ProductLeaves) or not leaves.is_sliced:
            return None
        swapped = known.swapped(self._out.dtype)
        if swapped is None:
            return None
        return _described(found, swapped, found.numbers, leaves.slices())

    def _decode_compiled(self) -> None:
        """Decode what was collected for the compiled part, by one call; what it leaves, in Python."""
        batch, nbytes = self._compiled, self._n_compiled
        self._compiled, self._n_compiled, self._n_held = [], 0, 0
        if batch:
            for i, chunk in compiled.decode([group for _, group in batch], self._out, nbytes) or ():
                self._decode_one(batch[i][0].part(chunk, chunk + 1))

    def _take_apart(self, found: Found) -> None:
        leaf = found.task.layout.leaf.spec
        if self._apart and self._apart[0].task.layout.leaf.spec.shape != leaf.shape:
            self._decode_apart()
        most = max(config.n_threads, _COPY_NBYTES // self._leaf_nbytes)
        first = 0
        while first < len(found.numbers):
            part = found.part(first, first + most - self._n_apart)
            first += len(part.numbers)
            self._apart.append(part)
            self._n_apart += len(part.numbers)
            if self._n_apart == most:
                self._decode_apart()

    def _decode_apart(self) -> None:
        """Decode what was collected of it, by one call of the compiled part, and copy what is wanted of each chunk."""
        batch, n, self._apart, self._n_apart = self._apart, self._n_apart, [], 0
        if not batch:
            return
        spec = batch[0].task.layout.leaf.spec
        length = spec.shape[0]
        chunks = np.empty((n, *spec.shape), spec.dtype)
        beside = tuple([slice(0, m)] for m in spec.shape[1:])
        groups: list[tuple[Any, ...]] = []
        firsts = [0]
        for found in batch:
            first = firsts[-1]
            firsts.append(first + len(found.numbers))
            rows = [slice(i * length, (i + 1) * length) for i in range(first, firsts[-1])]
            slices = ([slice(0, length)] * len(rows), *beside), (rows, *beside)
            swapped = bool(found.task.layout.compiled.swapped(spec.dtype))  # type: ignore[union-attr]
            groups.append(_described(found, swapped, np.arange(len(rows)), slices))
        left = compiled.decode(groups, chunks.reshape(n * length, *spec.shape[1:]), chunks.nbytes) or ()
        for i, chunk in left:
            self._decode_one(batch[i].part(chunk, chunk + 1))
        skipped = {firsts[i] + chunk for i, chunk in left}
        for found, first in zip(batch, firsts, strict=False):
            for at, (inner, outer) in enumerate(found.leaves.indices(found.numbers), first):
                if at not in skipped:
                    put(self._out, outer, take(chunks[at], inner))

    def _queue(self, found: Found) -> None:
        """Collect leaves, and give those to threads that are enough for a job."""
        n = len(found.numbers)
        if self._n and self._n + n > self._per_job:
            self._submit(self._batch)
            self._batch, self._n = [], 0
        first = 0
        while n - first > self._per_job:
            self._submit([found.part(first, first + self._per_job)])
            first += self._per_job
        self._batch.append(found.part(first, n) if first else found)
        self._n += n - first

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Take leaves that hold only fill value."""
        if self._layout.missing_is_error:
            self._missing.setdefault(task.key, missing_chunk(task, leaves, numbers))
        with self._gate:
            if not self._abandoned and not self._skip_fill:
                self._fill(leaves, numbers)

    def _fill(self, leaves: Leaves, numbers: IntArray | None) -> None:
        value = self._layout.fill_value
        if numbers is None and (region := leaves.region()) is not None:
            self._out[region] = value
            return
        for _, outer in leaves.indices(np.arange(len(leaves.flat)) if numbers is None else numbers):
            put(self._out, outer, value)

    def barrier(self, again: Task | None = None) -> None:
        """Finish what was taken. What comes after may be the same leaves again, from another version of the object:
        the places of what is fill value now may hold data of the first attempt.
        """
        with self._gate:
            if again is not None:
                self._missing.pop(again.key, None)
            if not self._abandoned:
                self._finish()
                self._skip_fill = False

    def check_missing(self, store: object) -> None:
        """Raise where a leaf is not stored and the layout says that this is an error. Not before all is read: a kept
        index that says so may be out of date.
        """
        for key, chunk in self._missing.items():
            raise chunk_not_found(key, chunk, store)

    def _finish(self) -> None:
        batch, n, few = self._batch, self._n, self._few
        self._batch, self._n, self._few, self._n_held = [], 0, True, 0
        if few and n > 1 and n * self._leaf_nbytes > config.inline_bytes and config.n_threads > 1:
            batch = self._share(batch, n)
        self._decode_compiled()
        self._decode_apart()
        self._decode(batch)
        if self._jobs is not None:
            self._jobs.finish()

    def _share(self, batch: list[Found], n: int) -> list[Found]:
        """Share the jobs with other threads, and return those that are left for this one."""
        if self._jobs is None:
            self._jobs = Jobs(self._max_weight)
        if self._leaf_nbytes <= _BLOCK_NBYTES or any(found.keep or found.decoded is not None for found in batch):
            first, *others = _groups(batch, -(-n // config.n_threads))
            for group in others:
                self._submit(group)
            return first
        work: _Work = deque()
        for found in batch:
            numbers = found.numbers
            work.extend(
                zip(repeat(found), numbers.tolist(), found.encoded(), found.leaves.indices(numbers), strict=False)
            )
        job = partial(self._work_off, work)
        for _ in range(min(config.n_threads, n) - 1):
            self._jobs.add(job)
        job()
        return []

    def _work_off(self, work: _Work) -> None:
        """Decode one leaf after another, beside other threads that do so, until none is left."""
        out = self._out
        while not self._abandoned:
            try:
                found, number, data, (inner, outer) = work.popleft()
            except IndexError:
                return
            try:
                chunk = found.task.layout.leaf.decode(data)
            except CodecError as error:
                work.clear()
                raise error.at(key=found.task.key, chunk=_chunk(found, number)) from error
            if self._out_rows and found.leaves.is_sliced:
                copy_rows(out[outer], chunk[inner])  # type: ignore[index]
            else:
                put(out, outer, take(chunk, inner))
            del chunk  # its memory is the next one's

    def deliver(self, copy: Callable[[], None]) -> None:
        """Copy what was finished, unless it was abandoned."""
        with self._gate:
            if not self._abandoned:
                copy()

    def abandon(self) -> None:
        """Stop: nothing is written to ``out`` any more once this returns."""
        self._abandoned = True  # what holds the gate now ends at its next job
        if self._jobs is not None:
            self._jobs.abandon()
        with self._gate:
            self._batch, self._n = [], 0
            self._compiled, self._n_compiled = [], 0
            self._apart, self._n_apart = [], 0
            if self._jobs is not None:
                self._jobs.abandon()

    def _submit(self, batch: list[Found]) -> None:
        if self._jobs is None:
            self._jobs = Jobs(self._max_weight)
        self._jobs.add(partial(self._decode, batch), sum(int(found.lengths.sum()) for found in batch))

    def _decode(self, batch: list[Found]) -> None:
        for found in batch:
            self._decode_one(found)

    def _decode_blocks(self, found: Found) -> bool:
        """Decode small chunks together and put them in place together; False where they have to go one by one."""
        several = blocks(found.leaves, found.numbers)
        chunks = None if several is None else found.task.layout.leaf.decode_joined(found.encoded())
        if several is None or chunks is None:
            return False
        for block in several:
            _put(self._out, block, chunks)
        return True

    def _decode_one(self, found: Found) -> None:
        is_small = self._leaf_nbytes <= _BLOCK_NBYTES and found.decoded is None and found.keep is None
        if is_small and self._decode_blocks(found):
            return
        out = self._out
        leaves = found.leaves
        rows = self._out_rows and leaves.is_sliced
        keep = self._chunks is not None and found.keep is not None
        decoded: list[AnyArray] = []
        at = -1
        try:
            decode = found.task.layout.leaf.decode_each
            chunks = decode(found.encoded()) if found.decoded is None else iter(found.decoded)
            for inner, outer in leaves.indices(found.numbers):
                at += 1
                chunk = next(chunks)
                if keep:
                    # Of its own, where it came as part of something larger.
                    decoded.append(chunk if chunk.base is None or isinstance(chunk.base, bytes) else chunk.copy())
                if rows:
                    copy_rows(out[outer], chunk[inner])  # type: ignore[index]
                else:
                    put(out, outer, take(chunk, inner))
                del chunk  # its memory is the next one's
        except CodecError as error:
            raise error.at(key=found.task.key, chunk=_chunk(found, int(found.numbers[at]))) from error
        if self._chunks is not None and found.keep is not None:
            version, starts = found.keep
            self._chunks.put(found.task.key, version, list(zip(starts.tolist(), decoded, strict=True)))


def _described(found: Found, swapped: bool, numbers: IntArray, slices: Any) -> tuple[Any, ...]:
    """Leaves as the compiled part wants them."""
    known = found.task.layout.compiled
    assert known is not None
    places = found.buffer, found.offsets, found.lengths, numbers
    buffers = (b if not isinstance(b, FileBytes) else (b.fd, b.start, b.nbytes) for b in found.buffers)
    return (known.chain, swapped, tuple(buffers), *map(np.ascontiguousarray, places), *slices)


def _is_apart(found: Found) -> bool:
    """True for leaves that the compiled part can decode, though not to their places, which are no boxes."""
    known, spec = found.task.layout.compiled, found.task.layout.leaf.spec
    if isinstance(found.leaves, ProductLeaves) and found.leaves.is_sliced:
        return False
    if known is None or not spec.shape or found.decoded is not None or found.keep is not None:
        return False
    return known.swapped(spec.dtype) is not None


def _put(out: AnyArray, block: Block, chunks: AnyArray) -> None:
    """Put decoded chunks, shape (n, chunk shape), where they belong."""
    picked = chunks[block.some].reshape((*block.extents, *chunks.shape[1:]))[(*block.picks, *block.inner)]
    n = len(block.extents)
    # Each axis of the result as two, of chunks and within them: cutting axes never copies.
    target = out[block.outer].reshape(
        [length for pair in zip(picked.shape[:n], picked.shape[n:], strict=True) for length in pair]
    )
    copy_rows(target.transpose([*range(0, 2 * n, 2), *range(1, 2 * n, 2)]), picked)


def _groups(batch: list[Found], n_each: int) -> list[list[Found]]:
    """The leaves of a batch in groups of that many."""
    groups: list[list[Found]] = [[]]
    room = n_each
    for found in batch:
        n = len(found.numbers)
        first = 0
        while first < n:
            if not room:
                groups.append([])
                room = n_each
            stop = min(n, first + room)
            groups[-1].append(found.part(first, stop))
            room -= stop - first
            first = stop
    return groups


def missing_chunk(task: Task, leaves: Leaves, numbers: IntArray | None) -> tuple[int, ...]:
    """Coordinates of the first of some leaves: in the array's grid, or with shards in shards, in their shard's."""
    levels = task.layout.levels
    if not levels:
        return task.coords
    inside = levels[-1].sharding.coords(int(leaves.flat[0 if numbers is None else numbers[0]]))
    if len(levels) > 1:
        return inside
    return tuple(a + b for a, b in zip(task.layout.first_leaf(task.coords), inside, strict=True))


def chunk_not_found(key: str, chunk: tuple[int, ...], store: object) -> ChunkNotFoundError:
    """The error of a chunk that is not stored."""
    message = f"chunk {chunk} is not stored: missing='fill' reads the fill value in its place"
    return ChunkNotFoundError(message, key=key, store=store, chunk=chunk)


def _chunk(found: Found, number: int) -> tuple[int, ...] | None:
    """Coordinates of a leaf within its innermost shard; None for a chunk that is an object of its own, which the key
    already names.
    """
    levels = found.task.layout.levels
    return levels[-1].sharding.coords(int(found.leaves.flat[number])) if levels else None
