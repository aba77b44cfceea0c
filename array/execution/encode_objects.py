"""Encode the objects of a write: new from scratch, or as a change of the stored object that keeps the bytes of the
other inner chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np

from zarrdock.array.execution.decode import copy_rows
from zarrdock.array.execution.pool import run
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.runs import Index, Runs, put, take
from zarrdock.array.planning.tasks import Leaves, Pieces, ProductLeaves, Task
from zarrdock.codecs import compiled
from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.codec import AnyArray, Buffer, ChunkSpec
from zarrdock.codecs.empty_chunks import EmptyTest
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.config import config
from zarrdock.errors import CodecError, ShardIndexError
from zarrdock.stores.base import LazyParts

__all__ = ["Coords", "Edit", "Inside", "PlainShard", "Prepared", "can_be_plain", "plain_shard"]


# -- Shards of uncompressed chunks, written as they are gathered: what is gathered beforehand has left the processor's
# cache by the time it is written, and costs fresh memory.


class PlainShard(LazyParts):
    """A shard in parts, of which those that are chunks are gathered when asked for.

    Args:
        parts: in the order of the file; a chunk is its place in ``value``.
        shape, stored: of a chunk.
    """

    def __init__(
        self,
        value: AnyArray,
        parts: list[Buffer | tuple[Any, ...]],
        shape: tuple[int, ...],
        stored: np.dtype[np.generic],
    ) -> None:
        self._value = value
        self._parts = parts
        self._shape = shape
        self._stored = stored

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def nbytes(self) -> int:
        """Size of all parts together in bytes."""
        chunk = prod(self._shape) * self._stored.itemsize
        return sum(chunk if isinstance(part, tuple) else len(part) for part in self._parts)

    def part(self, i: int) -> Buffer:
        """Part ``i``, made anew."""
        part = self._parts[i]
        if not isinstance(part, tuple):
            return part
        chunk = np.empty(self._shape, self._stored)
        copy_rows(chunk, self._value[part])
        return chunk.reshape(-1).view(np.uint8).data


def can_be_plain(layout: Layout) -> bool:
    """True if shards of that layout, when written whole, are just gathered chunks and an index."""
    return len(layout.levels) == 1 and bool(layout.shape) and layout.leaf.is_plain


def plain_shard(layout: Layout, task: Task, value: AnyArray, is_empty: EmptyTest | None) -> PlainShard | None:
    """The shard of a task that covers all of it; None where it holds nothing but fill value.

    Args:
        layout: of the object, with :func:`can_be_plain`.
        value: of the whole selection. is_empty: of a chunk; None to store all.
    """
    sharding, leaf = layout.levels[0].sharding, layout.leaf
    assert isinstance(leaf.serializer, BoundBytes)
    leaves = task.pieces.leaves(sharding.grid)
    n = sharding.layout.n_chunks
    offsets, lengths = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    places: dict[int, tuple[Any, ...]] = {}
    for flat, (_, outer) in zip(leaves.flat.tolist(), leaves.indices(np.arange(len(leaves.flat))), strict=True):
        assert isinstance(outer, tuple)  # pieces are sliced
        if is_empty is None or not is_empty(value[outer]):
            places[flat] = outer
    if not places:
        return None
    present = np.fromiter(places, np.int64, len(places))
    offsets[present], lengths[present] = 0, leaf.spec.nbytes
    index, _ = sharding.arrange(ShardIndex(offsets, lengths))
    encoded = sharding.layout.serialise(index)
    at_start = sharding.layout.location == "start"
    chunks = [places[flat] for flat in present[np.argsort(index.offsets[present])].tolist()]
    parts: list[Buffer | tuple[Any, ...]] = [encoded, *chunks] if at_start else [*chunks, encoded]
    return PlainShard(value, parts, leaf.spec.shape, leaf.serializer.stored)


Parts: TypeAlias = list[Buffer]
Coords: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A change to one object (or a shard in it), as far as it can be prepared without the stored one.

    Attributes:
        encoded: leaves wholly covered, by their flat number: their new bytes, None for nothing but fill value.
        patches: leaves covered in part: flat number, index into the leaf, values.
        children: inner shards.
    """

    encoded: dict[int, Buffer | None]
    patches: list[tuple[int, Index, AnyArray]]
    children: list[tuple[int, Prepared]]


# So much is encoded by one call: it can't be interrupted.
_AT_ONCE_NBYTES = 64 * 2**20

# Fresh memory for a chunk costs more than the copy into it; a thread keeps no more than this.
_SCRATCH_NBYTES = 4 * 2**20
_kept = threading.local()


def scratch(spec: ChunkSpec) -> AnyArray:
    """Memory of this thread for one chunk at a time."""
    memory = getattr(_kept, "memory", None)
    if memory is None or len(memory) < spec.nbytes:
        memory = _kept.memory = np.empty(spec.nbytes, np.uint8)
    return np.ndarray(spec.shape, spec.dtype, memory)


class Edit:
    """A value on its way into chunks.

    Args:
        value: the value to write, every axis of the selection kept (or one axis for points), in any dtype that numpy
            would assign.
    """

    def __init__(self, layout: Layout, value: AnyArray) -> None:
        self.layout = layout
        self._value = value
        self._is_empty = EmptyTest(layout.leaf.spec)
        self._keep_empty = layout.options.write_empty_chunks

    def build(self, task: Task) -> Parts | LazyParts | None:
        """The new object where all of it is covered; None where it would hold nothing but fill value."""
        # Gathered chunks are slices of the value: in another order of rows they would be other chunks.
        if can_be_plain(task.layout) and self._value.dtype == task.layout.dtype and task.pieces.sliced:
            return plain_shard(task.layout, task, self._value, None if self._keep_empty else self._is_empty)
        return self.apply([self.prepare(task)], None, task)

    def prepare(self, task: Task) -> Prepared:
        """The change to one object, for :meth:`apply`; what needs no old data is encoded here, outside of any
        update.
        """
        return self.for_object(task)._prepare(task.pieces, 0, self.first_leaf(task))

    def apply(self, changes: Sequence[Prepared], old: Buffer | None, task: Task) -> Parts | None:
        """An object with changes applied in their order; None where nothing but fill value is left.

        The changes may come from several edits of arrays with the same layout of chunks.

        Raises:
            CodecError: the stored object is damaged, and would have to be decoded.
        """
        return self.for_object(task)._apply(changes, 0, old, task, self.first_leaf(task))

    def nothing(self, task: Task) -> Parts:
        """An object of nothing but fill value: a shard without chunks, or a chunk."""
        layout = task.layout
        if layout.levels:
            index = layout.levels[0].sharding.layout
            n = index.n_chunks
            return [index.serialise(ShardIndex(np.full(n, -1, np.int64), np.zeros(n, np.int64)))]
        chunk = np.full(layout.leaf.spec.shape, layout.leaf.spec.fill_value, layout.leaf.spec.dtype)
        return [layout.leaf.encode(chunk, self.first_leaf(task))]

    def for_object(self, task: Task) -> Edit:
        """The same edit of an object that has a layout of its own."""
        if task.layout is self.layout:
            return self
        other = copy(self)
        other.layout = task.layout
        return other

    # -- before the old bytes are known -------------------------------------------------------------------------------

    def _prepare(self, pieces: Pieces, depth: int, first: Coords | None) -> Prepared:
        levels = self.layout.levels
        if depth + 1 < len(levels):
            children = [
                (flat, self._prepare(child, depth + 1, self._inside(first, depth, flat)))
                for flat, child in pieces.children(levels[depth])
            ]
            return Prepared({}, [], children)
        grid = levels[-1].sharding.grid if levels else (1,) * len(self.layout.shape)
        leaves = pieces.leaves(grid)
        whole = np.flatnonzero(leaves.whole)
        patched = np.flatnonzero(~leaves.whole)
        patches = [
            (int(leaves.flat[n]), inner, take(self._value, outer) if isinstance(outer, Runs) else self._value[outer])
            for n, (inner, outer) in zip(patched.tolist(), leaves.indices(patched), strict=True)
        ]
        return Prepared(self._encode_all(leaves, whole, first), patches, [])

    def _encode_all(
        self, leaves: Leaves, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], first_leaf: Coords | None
    ) -> dict[int, Buffer | None]:
        """Encode leaves that are wholly covered, with the help of other threads."""
        if not len(numbers):
            return {}
        encoded: dict[int, Buffer | None] = {}
        numbers = self._encode_compiled(leaves, numbers, encoded)
        per_job = max(1, config.job_bytes // max(1, self.layout.leaf.spec.nbytes))

        # Uncompressed leaves are copied once, into one block: memory that is asked for leaf by leaf costs more than the
        # copy. What is in the block is in the order it will be written in, unless another order was asked for.
        codecs = self.layout.leaf
        spec, serializer = codecs.spec, codecs.serializer
        gather = bool(
            spec.shape and codecs.byte_codecs and not codecs.array_codecs and isinstance(serializer, BoundBytes)
        )
        # What is stored otherwise than in memory is another copy already.
        reused = gather and codecs.byte_codecs[0].makes_new and spec.nbytes <= _SCRATCH_NBYTES
        plain = isinstance(serializer, BoundBytes) and self.layout.leaf.is_plain and len(numbers) > 1
        block = np.empty((len(numbers), *self.layout.leaf_shape), serializer.stored) if plain else None  # type: ignore[attr-defined]

        def job(first: int) -> None:
            some = numbers[first : first + per_job]
            for i, (flat, (inner, outer)) in enumerate(
                zip(leaves.flat[some].tolist(), leaves.indices(some), strict=True), first
            ):
                if block is None:
                    leaf = self._new_leaf(inner, outer)
                    if gather and not leaf.flags.c_contiguous:
                        # Row by row, which is faster. Into the same memory only where no codec hands it on.
                        gathered = scratch(spec) if reused else np.empty(spec.shape, spec.dtype)
                        copy_rows(gathered, leaf)
                        leaf = gathered
                    encoded[flat] = self._encode(leaf, self._inside(first_leaf, -1, flat))
                    continue
                leaf = self._new_leaf(inner, outer)
                if not self._keep_empty and self._is_empty(leaf):
                    encoded[flat] = None
                    continue
                copy_rows(block[i], leaf)
                encoded[flat] = block[i].reshape(-1).view(np.uint8).data

        run(partial(job, first) for first in range(0, len(numbers), per_job))
        return encoded

    def _encode_compiled(
        self,
        leaves: Leaves,
        numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
        encoded: dict[int, Buffer | None],
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Encode leaves by calls of the compiled part, and return the numbers of those that it left."""
        known, spec = self.layout.compiled, self.layout.leaf.spec
        if known is None or not known.encodes or not config.compiled or known.swapped(self._value.dtype) is None:
            return numbers
        if not isinstance(leaves, ProductLeaves) or not leaves.is_sliced:
            return numbers
        fill = None if self._keep_empty else np.asarray(spec.fill_value, spec.dtype).astype(self._value.dtype)
        slices = leaves.slices()
        left: list[int] = []
        n_at_once = max(1, _AT_ONCE_NBYTES // max(1, spec.nbytes))
        for first in range(0, len(numbers), n_at_once):
            some = numbers[first : first + n_at_once]
            found = compiled.encode(known, self._value, some, slices, fill, len(some) * spec.nbytes)
            for number, flat, data in zip(some.tolist(), leaves.flat[some].tolist(), found, strict=True):
                if data is False:
                    left.append(number)
                else:
                    encoded[flat] = data
        return np.array(left, np.int64)

    def _new_leaf(self, inner: Index, outer: Index) -> AnyArray:
        spec = self.layout.leaf.spec
        # Of a 0-d array numpy would give a scalar, or an object as it is.
        piece = take(self._value, outer) if isinstance(outer, Runs) else self._value[outer or ...]
        are_slices = not isinstance(inner, Runs) and all(isinstance(i, slice) and (i.step or 1) == 1 for i in inner)
        if piece.shape == spec.shape and are_slices:
            return piece if piece.dtype == spec.dtype else piece.astype(spec.dtype)
        # At the array's edge a chunk reaches beyond it; what lies there is fill value.
        leaf = np.full(spec.shape, spec.fill_value, spec.dtype)
        put(leaf, inner, piece)
        return leaf

    def _encode(self, leaf: AnyArray, coords: Coords | None) -> Buffer | None:
        return None if not self._keep_empty and self._is_empty(leaf) else self.layout.leaf.encode(leaf, coords)

    # -- where leaves are in the array, for codecs that ask -----------------------------------------------------------

    def first_leaf(self, task: Task) -> Coords | None:
        """Coordinates of an object's first leaf in the grid of all leaves."""
        return self.layout.first_leaf(task.coords) if self.layout.leaf.needs_coords else None

    def _inside(self, first: Coords | None, depth: int, flat: int) -> Coords | None:
        """The first leaf in inner chunk ``flat`` of the node at ``depth``, from that node's first leaf."""
        levels = self.layout.levels
        if first is None or not levels:
            return first
        level = levels[depth]
        inside = level.sharding.coords(flat)
        return tuple(f + c * n for f, c, n in zip(first, inside, level.leaves, strict=True))

    # -- once the old bytes are known ---------------------------------------------------------------------------------

    def _apply(
        self, changes: Sequence[Prepared], depth: int, old: Buffer | None, task: Task, first: Coords | None
    ) -> Parts | None:
        levels = self.layout.levels
        if not levels:
            leaf = old
            for change in changes:
                leaf = self._patch(change.patches[0], leaf, task, None, first) if change.patches else change.encoded[0]
            return None if leaf is None else [leaf]
        sharding = levels[depth].sharding
        try:
            needs_old = any(change.patches or change.children for change in changes)
            inside = _Inside(sharding.split(old), memoryview(old)) if needs_old and old is not None else None

            def child(flat: int, several: Sequence[Prepared], place: Coords | None) -> Buffer | None:
                return self.build_inner(several, depth + 1, inside.get(flat) if inside else None, task, place)

            return sharding.assemble(old, self.changed(changes, depth, inside, task, first, child))
        except ShardIndexError as error:
            raise error.at(key=task.key) from error.__cause__

    def changed(
        self,
        changes: Sequence[Prepared],
        depth: int,
        inside: Inside | None,
        task: Task,
        first: Coords | None,
        child: Callable[[int, Sequence[Prepared], Coords | None], Buffer | None],
    ) -> dict[int, Buffer | None]:
        """New bytes of a shard's inner chunks, None for those that are to go.

        Args:
            depth: of the shard. inside: its chunks as they are; None where there is no such shard yet.
            first: coordinates of its first leaf, where codecs ask for them.
            child: makes an inner shard of its number, its changes, and its first leaf.
        """
        sharding = self.layout.levels[depth].sharding
        changed: dict[int, Buffer | None] = {}
        children: dict[int, list[Prepared]] = {}
        for change in changes:
            changed.update(change.encoded)
            for patch in change.patches:
                flat = patch[0]
                leaf = changed[flat] if flat in changed else inside.get(flat) if inside else None
                place = self._inside(first, depth, flat)
                changed[flat] = self._patch(patch, leaf, task, sharding.coords(flat), place)
            for flat, inner in change.children:
                children.setdefault(flat, []).append(inner)
        for flat, several in children.items():
            changed[flat] = child(flat, several, self._inside(first, depth, flat))
        return changed

    def build_inner(
        self, changes: Sequence[Prepared], depth: int, old: Buffer | None, task: Task, first: Coords | None
    ) -> Buffer | None:
        """A whole inner shard, ``depth`` levels down, with changes applied."""
        parts = self._apply(changes, depth, old, task, first)
        return None if parts is None else b"".join(parts)

    def _patch(
        self,
        patch: tuple[int, Index, AnyArray],
        old: Buffer | None,
        task: Task,
        chunk: Coords | None,
        place: Coords | None,
    ) -> Buffer | None:
        """An encoded leaf with some elements replaced."""
        _, inner, values = patch
        spec = self.layout.leaf.spec
        leaf = np.empty(spec.shape, spec.dtype)
        try:
            leaf[...] = spec.fill_value if old is None else self.layout.leaf.decode(old)
        except CodecError as error:
            raise error.at(key=task.key, chunk=chunk) from error.__cause__
        if isinstance(inner, Runs):
            put(leaf, inner, values)
        else:
            leaf[inner] = values
        return self._encode(leaf, place)


class Inside(Protocol):
    """The inner chunks of a shard."""

    def get(self, flat: int) -> Buffer | None:
        """The bytes of an inner chunk, None where it is not there."""


class _Inside:
    """The inner chunks of a shard in memory."""

    def __init__(self, index: ShardIndex, data: memoryview) -> None:
        self._index = index
        self._data = data

    def get(self, flat: int) -> memoryview | None:
        """The bytes of an inner chunk, None where it is not there."""
        start, length = int(self._index.offsets[flat]), int(self._index.lengths[flat])
        return None if start < 0 else self._data[start : start + length]
