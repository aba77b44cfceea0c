"""Readers of objects, as generators: a task yields the reads of its next round, is sent the answers, and hands what
came to a sink. No I/O here.

``rounds.py`` runs many tasks side by side, so that the indexes of all shards are one round and their data another.
The drivers are in ``array/execution/read_write.py``; ``Array.plan`` runs the same steps and stops short of the data,
which is why a plan cannot differ from the read.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np

from zarrdock.array.planning.chunk_cache import ROOT, Indexes
from zarrdock.array.planning.chunk_parts import found_part, narrowed, read_blocks, read_object, read_part
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.read_types import Found, IntArray, ReadSettings, Sink, Wanted
from zarrdock.array.planning.rounds import Round, Steps
from zarrdock.array.planning.tasks import Leaves, Pieces, Task
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.errors import ConflictError, RangeError, ShardIndexError, VersionChangedError
from zarrdock.ranges import Merged, Span, merge
from zarrdock.stores.base import Blob, Buffer, Read, Result, Version

__all__ = ["Keep", "confirm", "kept_whole", "read_task", "split_kept"]


# -- Chunks that were kept decoded: found again, and their object's version confirmed.


@dataclass(frozen=True, slots=True)
class Keep:
    """Version and indexes kept of an object that was read whole."""

    version: Version
    indexes: Indexes = field(default_factory=dict)


def kept_whole(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Round, list[Result], bool]:
    """An object that is one chunk, if it was kept decoded and is still the same."""
    known = settings.cache.get(task.key)
    if known is None or settings.chunks is None:
        return False
    (chunk,) = settings.chunks.get(task.key, known[0], (0,))
    if chunk is None or not (yield from confirm(task, known[0])):
        settings.cache.drop(task.key)
        return False
    settings.note(task.key, known[0])
    zero = np.zeros(1, np.int64)
    leaves = task.pieces.leaves((1,) * len(task.layout.shape))
    sink.data(Found(task, leaves, zero, [], zero, zero, zero, [chunk]))
    return True


def confirm(task: Task, version: Version | None) -> Generator[Round, list[Result], bool]:
    """True if an object still has the version that its kept chunks come from; asks for one byte."""
    (answer,) = yield Round([Read(task.key, Span(0, 1), version)], True, 1)
    return isinstance(answer, Blob)


def split_kept(
    task: Task, wanted: list[Wanted], version: Version, settings: ReadSettings
) -> tuple[list[Wanted], list[Found]]:
    """Split the wanted leaves into those to read, and those kept decoded."""
    assert settings.chunks is not None
    missing: list[Wanted] = []
    kept: list[Found] = []
    for leaves, numbers, starts, lengths in wanted:
        chunks = settings.chunks.get(task.key, version, starts.tolist())
        here = np.fromiter((chunk is not None for chunk in chunks), bool, len(chunks))
        if here.any():
            zeros = np.zeros(int(here.sum()), np.int64)
            decoded = [chunk for chunk in chunks if chunk is not None]
            kept.append(Found(task, leaves, numbers[here], [], zeros, zeros, zeros, decoded))
        if not here.all():
            missing.append((leaves, numbers[~here], starts[~here], lengths[~here]))
    return missing, kept


# After so many changes under a reader's hands the whole object is read in one request, which no writer can tear.
MAX_CHANGES = 3


def read_task(task: Task, settings: ReadSettings, sink: Sink) -> Steps:
    """Read one object's part of a selection; sharded or not, whatever the level."""
    if not task.layout.levels:
        yield from _whole(task, settings, sink)
        return
    for _ in range(MAX_CHANGES):
        if (yield from _try_shard(task, settings, sink)):
            return
        settings.cache.drop(task.key)
        sink.barrier(task)
    yield from _whole(task, settings, sink)


def _whole(task: Task, settings: ReadSettings, sink: Sink) -> Steps:
    """Read the whole object in one request, and find index and chunks in memory."""
    layout = task.layout
    if settings.chunks is not None and not layout.levels and (yield from kept_whole(task, settings, sink)):
        return
    if settings.chunks is None and settings.in_part:
        if layout.chain.is_plain and (yield from read_part(task, settings, sink)):
            return
        in_blocks = layout.chain.framed is not None and settings.in_blocks
        if in_blocks and (yield from read_object(task, settings, sink)):
            return
    lazy = settings.lazy and not layout.levels
    (result,) = yield Round([Read(task.key)], True, layout.chain.spec.nbytes, lazy=lazy)
    if isinstance(result, VersionChangedError):
        raise ConflictError(
            "other writers kept changing the object while it was read: try again", key=task.key
        ) from result
    version = None if result is None else result.version
    settings.note(task.key, version)
    keep = None if settings.chunks is None or version is None else Keep(version)
    data = None if result is None else result.data if lazy else memoryview(result.data)
    _in_memory(task, task.pieces, 0, data, 0, keep, sink)
    if keep is not None:  # needed to find the chunks again
        settings.cache.put(task.key, version, keep.indexes)


def _in_memory(
    task: Task, pieces: Pieces, depth: int, data: Buffer | None, start: int, keep: Keep | None, sink: Sink
) -> None:
    """Hand over the leaves of a shard (at ``depth`` levels down, ``start`` bytes into its object) that is all in
    memory; where ``keep`` is given, to be kept once they are decoded.
    """
    layout = task.layout
    if depth == len(layout.levels):  # not sharded: one leaf, the object itself
        leaves = pieces.leaves((1,) * len(layout.shape))
        if data is None:
            sink.fill(task, leaves, None)
        else:
            one = np.zeros(1, np.int64)
            found = Found(task, leaves, one, [data], one, one, np.array([len(data)], np.int64))
            sink.data(found if keep is None else replace(found, keep=(keep.version, one)))
        return
    level = layout.levels[depth]
    index = None
    if data is not None:
        try:
            index = level.sharding.split(data)
        except ShardIndexError as error:
            raise error.at(key=task.key) from error.__cause__
        if keep is not None:
            keep.indexes[depth, start] = index
    if depth + 1 < len(layout.levels):
        for flat, child in pieces.children(level):
            inside = None if index is None or data is None or index.offsets[flat] < 0 else _slice(data, index, flat)
            begin = start if inside is None or index is None else start + int(index.offsets[flat])
            _in_memory(task, child, depth + 1, inside, begin, keep, sink)
        return
    leaves = pieces.leaves(level.sharding.grid)
    if index is None or data is None:
        sink.fill(task, leaves, None)
        return
    offsets, lengths = index.offsets[leaves.flat], index.lengths[leaves.flat]
    _split_missing(task, leaves, offsets, sink)
    present = np.flatnonzero(offsets >= 0)
    if len(present):
        one = np.zeros(len(present), np.int64)
        offsets = offsets[present]
        found = Found(task, leaves, present, [data], one, offsets, lengths[present])
        sink.data(found if keep is None else replace(found, keep=(keep.version, offsets + start)))


def _slice(data: Buffer, index: ShardIndex, flat: int) -> Buffer:
    start = int(index.offsets[flat])
    return data[start : start + int(index.lengths[flat])]


def _split_missing(task: Task, leaves: Leaves, offsets: IntArray, sink: Sink) -> None:
    missing = np.flatnonzero(offsets < 0)
    if len(missing):
        sink.fill(task, leaves, None if len(missing) == len(offsets) else missing)


@dataclass(slots=True)
class _Node:
    """A shard in an object: the wanted chunks, the byte where it begins, and its index."""

    pieces: Pieces
    start: int
    length: int
    index: ShardIndex | None = None


def _try_shard(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Round, list[Result], bool]:
    """Try to read a sharded object from one version; False where the version changed meanwhile."""
    layout = task.layout
    cached = settings.cache.get(task.key)
    known: Indexes
    version: Version | None
    if cached is not None:
        version, known = cached
    else:
        if settings.wants_whole(task):
            yield from _whole(task, settings, sink)
            return True
        result = yield from _first_index(task, settings)
        if result is None:
            settings.note(task.key, None)
            _in_memory(task, task.pieces, 0, None, 0, None, sink)
            return True
        version, root = result
        known = {ROOT: root}
        settings.cache.put(task.key, version, known)
    settings.note(task.key, version)
    nodes = [_Node(task.pieces, 0, -1, known[ROOT])]
    checked = cached is None  # a cached index is only as good as a request that confirms its version
    for depth in range(1, len(layout.levels)):
        nodes, missing = _descend(nodes, layout, depth)
        for pieces in missing:
            _in_memory(task, pieces, depth, None, 0, None, sink)
        unknown = [node for node in nodes if (depth, node.start) not in known]
        if unknown:
            spans = [_span_of_index(task, settings, depth, node) for node in unknown]
            answers = yield Round(
                [Read(task.key, Span(*span), version) for span in spans], False, sum(b - a for a, b in spans)
            )
            fresh: Indexes = {}
            for node, answer in zip(unknown, answers, strict=True):
                if not isinstance(answer, Blob):
                    return False
                fresh[depth, node.start] = _parse(task, settings, depth, answer.data, node.length)
            del answers, answer  # what they are in is needed for the data
            known = {**known, **fresh}
            settings.cache.put(task.key, version, known)
            checked = True
        for node in nodes:
            node.index = known[depth, node.start]
    return (yield from _read_chunks(task, nodes, version, checked, settings, sink))


def _first_index(
    task: Task, settings: ReadSettings
) -> Generator[Round, list[Result], tuple[Version | None, ShardIndex] | None]:
    layout = task.layout.levels[0].sharding.layout
    try:
        (result,) = yield Round([Read(task.key, layout.range)], False, layout.nbytes)
    except RangeError as error:
        raise ShardIndexError(
            "the shard is an object of 0 bytes: delete it",
            codec="sharding_indexed",
            key=task.key,
        ) from error
    if result is None:
        return None
    if isinstance(result, VersionChangedError):
        raise ConflictError(
            "other writers kept changing the object while it was read: try again", key=task.key
        ) from result
    return result.version, _parse(task, settings, 0, result.data, None)


def _parse(task: Task, settings: ReadSettings, depth: int, data: Buffer, length: int | None) -> ShardIndex:
    try:
        return task.layout.levels[depth].sharding.layout.parse(data, length)
    except ShardIndexError as error:
        raise error.at(key=task.key) from error.__cause__


def _span_of_index(task: Task, settings: ReadSettings, depth: int, node: _Node) -> tuple[int, int]:
    try:
        return task.layout.levels[depth].sharding.layout.span_within(node.start, node.length)
    except ShardIndexError as error:
        raise error.at(key=task.key) from error.__cause__


def _descend(nodes: list[_Node], layout: Layout, depth: int) -> tuple[list[_Node], list[Pieces]]:
    """Descend from shards to the shards inside them; missing ones are returned apart."""
    level = layout.levels[depth - 1]
    found: list[_Node] = []
    missing: list[Pieces] = []
    for node in nodes:
        assert node.index is not None
        for flat, pieces in node.pieces.children(level):
            offset = int(node.index.offsets[flat])
            if offset < 0:
                missing.append(pieces)
            else:
                found.append(_Node(pieces, node.start + offset, int(node.index.lengths[flat])))
    return found, missing


def _read_chunks(
    task: Task, nodes: list[_Node], version: Version | None, checked: bool, settings: ReadSettings, sink: Sink
) -> Generator[Round, list[Result], bool]:
    """Read and hand over the leaves of the innermost shards."""
    grid = task.layout.levels[-1].sharding.grid
    wanted: list[Wanted] = []
    for node in nodes:
        assert node.index is not None
        leaves = node.pieces.leaves(grid)
        offsets, lengths = node.index.offsets[leaves.flat], node.index.lengths[leaves.flat]
        _split_missing(task, leaves, offsets, sink)
        present = np.flatnonzero(offsets >= 0)
        if len(present):
            wanted.append((leaves, present, offsets[present] + node.start, lengths[present]))
    keep = version if settings.chunks is not None else None
    kept: list[Found] = []
    if keep is not None:
        wanted, kept = split_kept(task, wanted, keep, settings)
        if kept and not wanted and not checked:
            checked = yield from confirm(task, version)
        if checked:
            for found in kept:
                sink.data(found)
            kept = []
    if not wanted:
        if checked:  # noqa: SIM103 - the comment below is about one of the two
            return True
        return False  # all fill value, says a cached index that no request has confirmed: ask again
    block = None
    if len(wanted) == 1 and len(wanted[0][1]) == 1 and keep is None and settings.in_part:
        if task.layout.leaf.framed is not None and settings.in_blocks:
            leaves, numbers, starts, lengths = wanted[0]
            places = int(numbers[0]), int(starts[0]), int(lengths[0])
            done = yield from read_blocks(task, leaves, *places, version, settings, sink)
            if done is not None:
                return done
        wanted, block = narrowed(task, wanted[0], settings.traits.merge_gap_bytes)
    starts = wanted[0][2] if len(wanted) == 1 else np.concatenate([w[2] for w in wanted])
    lengths = wanted[0][3] if len(wanted) == 1 else np.concatenate([w[3] for w in wanted])
    traits = settings.traits
    most = min(traits.max_request_bytes, settings.round_bytes)  # one larger answer would hold up all that follows
    merged = merge(starts, lengths, gap_bytes=traits.merge_gap_bytes, max_bytes=most)
    batches = _batches(task, merged, version, settings, lazy=settings.lazy and block is None)
    sizes = (merged.stops - merged.starts).tolist()
    first = 0
    for asked in batches:
        try:
            answers = yield asked
        except RangeError as error:
            raise ShardIndexError(
                "the index points beyond the end of the shard: it is truncated, or its index is damaged",
                codec="sharding_indexed",
                key=task.key,
            ) from error
        buffers: list[Buffer] = []
        for answer, expected in zip(answers, sizes[first : first + len(answers)], strict=True):
            if not isinstance(answer, Blob):
                return False  # changed, or deleted
            if len(answer.data) != expected:
                raise ShardIndexError(
                    f"{len(answer.data)} bytes came where the index promises {expected}: the shard is truncated or its"
                    " index damaged",
                    codec="sharding_indexed",
                    key=task.key,
                )
            buffers.append(answer.data)
        if block is not None:
            sink.data(found_part(task, wanted[0][0], wanted[0][1], block, buffers[0]))
            return True
        _hand_over(task, wanted, merged, lengths, buffers, first, keep, sink)
        first += len(buffers)
        del answers, answer, buffers  # not held while the next ones are read
    for found in kept:
        sink.data(found)
    return True


def _batches(task: Task, merged: Merged, version: Version | None, settings: ReadSettings, *, lazy: bool) -> list[Round]:
    """Split the requests for one object into rounds, each within the budget of bytes, however large the shard."""
    sizes = merged.stops - merged.starts
    reads = [
        Read(task.key, Span(a, b), version) for a, b in zip(merged.starts.tolist(), merged.stops.tolist(), strict=True)
    ]
    total = int(sizes.sum())
    if total <= settings.round_bytes:
        return [Round(reads, True, total, lazy=lazy)]
    parts: list[tuple[list[Read], int]] = []
    first, nbytes = 0, 0
    for i, size in enumerate(sizes.tolist()):
        if i > first and nbytes + size > settings.round_bytes:
            parts.append((reads[first:i], nbytes))
            first, nbytes = i, 0
        nbytes += size
    parts.append((reads[first:], nbytes))
    found: list[Round] = []
    for some, nbytes in reversed(parts):
        found.append(Round(some, True, nbytes, found[-1] if found else None, lazy=lazy))
    found.reverse()
    return found


def _hand_over(
    task: Task,
    wanted: list[Wanted],
    merged: Merged,
    lengths: IntArray,
    buffers: list[Buffer],
    first: int,
    keep: Version | None,
    sink: Sink,
) -> None:
    """Give the sink the leaves that answers ``first`` and on hold."""
    request = merged.request - first if first else merged.request
    everything = len(buffers) == len(merged.starts)
    at = 0
    for leaves, numbers, starts, _ in wanted:
        mine = slice(at, at + len(numbers))
        at += len(numbers)
        kept = None if keep is None else (keep, starts)
        found = Found(task, leaves, numbers, buffers, request[mine], merged.offset[mine], lengths[mine], None, kept)
        if everything:
            sink.data(found)
            continue
        here = np.flatnonzero((found.buffer >= 0) & (found.buffer < len(buffers)))
        if len(here):
            sink.data(found.pick(here))
