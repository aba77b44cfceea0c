"""Shards changed in part where the store can keep the rest of an object without reading it.

A chunk whose new bytes fit where the old ones were is put there; another one goes behind all others, and its old place
is garbage. A shard that holds too much garbage is written anew. The store makes one atomic step of it, as of any
update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarrdock.array.execution.encode_objects import Coords, Edit, Prepared
from zarrdock.array.planning.tasks import Task
from zarrdock.codecs.codec import Buffer
from zarrdock.codecs.shard_index import ShardIndex, usage_of
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.errors import ShardIndexError
from zarrdock.stores.base import OldValue, Patch, Value

__all__ = ["change_in_place"]

Pieces = list[tuple[int, Buffer]]


def change_in_place(edit: Edit, changes: Sequence[Prepared], old: OldValue | None, task: Task) -> Patch | Value | None:
    """Apply changes to an object: a patch of it; the whole object, if that is simpler; None if only fill value is left.

    Raises:
        CodecError: a part of the object that has to be decoded is damaged.
    """
    if old is None:
        return edit.apply(changes, None, task)
    edit = edit.for_object(task)
    try:
        found = _Shard(edit, 0, old, 0, old.size, task).change(changes, edit.first_leaf(task))
    except ShardIndexError as error:
        raise error.at(key=task.key) from error.__cause__
    if found is None:
        return edit.apply(changes, old.read(0, old.size), task)
    return Patch(found.size, found.pieces)


@dataclass(slots=True)
class _Changed:
    """A shard changed in place: its size, and the pieces to write, with their places in its object."""

    size: int
    pieces: Pieces


class _Shard:
    """A shard, ``depth`` levels down, at ``start`` of its object."""

    def __init__(self, edit: Edit, depth: int, old: OldValue, start: int, length: int, task: Task) -> None:
        self.edit = edit
        self.depth = depth
        self.old = old
        self.start = start
        self.length = length
        self.task = task
        self.sharding: BoundSharding = task.layout.levels[depth].sharding
        layout = self.sharding.layout
        first, last = layout.span_within(0, length)
        self.index = layout.parse(old.read(start + first, start + last), length)

    def get(self, flat: int) -> Buffer | None:
        """The bytes of an inner chunk, None where it is not there."""
        at, length = int(self.index.offsets[flat]), int(self.index.lengths[flat])
        return None if at < 0 else self.old.read(self.start + at, self.start + at + length)

    def change(self, changes: Sequence[Prepared], first: Coords | None) -> _Changed | None:
        """Returns None where the shard has to be written anew."""
        if usage_of(self.sharding.layout, self.index, self.length).chunks != int(self.index.lengths.sum()):
            return None  # chunks share bytes: writing one would change another
        pieces: Pieces = []
        kept: set[int] = set()

        def child(flat: int, several: Sequence[Prepared], place: Coords | None) -> Buffer | None:
            found = self._change_inner(flat, several, place)
            if found is not None:
                pieces.extend(found.pieces)
                kept.add(flat)
                return b""
            return self.edit.build_inner(several, self.depth + 1, self.get(flat), self.task, place)

        changed = self.edit.changed(changes, self.depth, self, self.task, first, child)
        placed = self._place({flat: data for flat, data in changed.items() if flat not in kept}, pieces)
        if placed is None:
            return None
        index, size = placed
        if usage_of(self.sharding.layout, index, size).garbage > self.edit.layout.options.max_garbage * size:
            return None
        if size != self.length or not (
            np.array_equal(index.offsets, self.index.offsets) and np.array_equal(index.lengths, self.index.lengths)
        ):
            begin, _ = self.sharding.layout.span_within(0, size)
            pieces.append((self.start + begin, self.sharding.layout.serialise(index)))
        return _Changed(size, pieces)

    def _change_inner(self, flat: int, changes: Sequence[Prepared], first: Coords | None) -> _Changed | None:
        """An inner shard changed where it lies; None where it has to be built."""
        at, length = int(self.index.offsets[flat]), int(self.index.lengths[flat])
        if at < 0:
            return None
        return _Shard(self.edit, self.depth + 1, self.old, self.start + at, length, self.task).change(changes, first)

    def _place(self, new: dict[int, Buffer | None], pieces: Pieces) -> tuple[ShardIndex, int] | None:
        """Find places for chunks, and note the pieces to write. Returns the index, and the size of the shard; None
        where it can't have all of them, or has none.
        """
        offsets, lengths = self.index.offsets.copy(), self.index.lengths.copy()
        n_index = self.sharding.layout.nbytes
        at_end = self.sharding.layout.location == "end"
        data_stop = self.length - n_index if at_end else self.length
        starts = np.sort(np.append(offsets[offsets >= 0], data_stop))
        behind: list[tuple[int, Buffer]] = []
        for flat, data in new.items():
            at = int(offsets[flat])
            is_somewhere = at >= 0 and lengths[flat] > 0  # without a byte of its own, it may lie within another chunk
            if data is None:
                offsets[flat], lengths[flat] = -1, 0
            elif is_somewhere and at + len(data) <= int(starts[np.searchsorted(starts, at, "right")]):
                lengths[flat] = len(data)
                pieces.append((self.start + at, data))
            else:
                behind.append((flat, data))
                offsets[flat], lengths[flat] = -1, 0
        there = offsets >= 0
        stop = int((offsets[there] + lengths[there]).max(initial=0 if at_end else n_index))
        for flat, data in behind:
            offsets[flat], lengths[flat] = stop, len(data)
            pieces.append((self.start + stop, data))
            stop += len(data)
        if not (offsets >= 0).any():
            return None
        size = stop + n_index if at_end else stop
        if self.depth and size > self.length:
            return None  # what lies behind an inner shard is another one
        return ShardIndex(offsets, lengths), self.length if self.depth else size
