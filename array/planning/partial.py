"""Parts of chunks that are stored as their elements and nothing else: only the bytes that matter are read.

One request, as for the whole chunk, so that it never costs a round or a request more: from the first element wanted to
the last, along the first axis that is not down to one position. Where that saves less than the store's gap the chunk is
read whole, which also shows whether it has the length it should have.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.kept import Wanted
from zarrdock.array.planning.pieces import Index, Leaves, Task
from zarrdock.array.planning.reading import Asked, ReadSettings
from zarrdock.array.planning.sink import Found, IntArray, Sink
from zarrdock.codecs.base import AnyArray, Buffer, ChunkSpec
from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.chain import BoundChain
from zarrdock.errors import CodecError, RangeError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Result

__all__ = ["Block", "block_of", "decode_block", "element_of", "found_part", "narrowed", "read_part", "shifted"]

# Saving less is nothing against knowing that the chunk is sound, even in memory.
_LEAST = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a chunk that is contiguous in C order.

    Attributes:
        starts: where it begins, along each axis. shape: of it.
        span: its bytes in the chunk.
    """

    starts: tuple[int, ...]
    shape: tuple[int, ...]
    span: Span


def element_of(coords: tuple[int, ...], leaf: BoundChain, gap_bytes: int) -> Block | None:
    """One element of a chunk; None where it is to be read with all of the chunk."""
    itemsize = leaf.spec.dtype.itemsize
    if not leaf.is_plain or leaf.spec.nbytes - itemsize <= max(gap_bytes, _LEAST):
        return None
    shape = leaf.spec.shape
    flat = 0
    for c, n in zip(coords, shape, strict=True):
        flat = flat * n + c
    return Block(coords, (1,) * len(shape), Span(flat * itemsize, (flat + 1) * itemsize))


def decode_block(chain: BoundChain, shape: tuple[int, ...], data: Buffer) -> AnyArray:
    """A block's elements, as a plain chunk of the block's shape would be decoded.

    Raises:
        CodecError: they are none.
    """
    assert isinstance(chain.serializer, BoundBytes)
    spec = ChunkSpec(shape, chain.spec.dtype, chain.spec.fill_value)
    return BoundBytes(spec, chain.serializer.stored).decode(data)


def read_part(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Asked, list[Result], bool]:
    """Read what is wanted of an object that is one plain chunk; False where that is all of it, or it can't be had so.

    Raises:
        CodecError: the object is too short.
    """
    leaves = task.pieces.leaves((1,) * len(task.layout.shape))
    block = block_of(leaves, 0, task.layout.leaf, settings.traits.merge_gap_bytes)
    if block is None:
        return False
    nbytes = block.span.stop - block.span.start
    try:
        (result,) = yield Asked([Read(task.key, block.span)], True, nbytes)
    except RangeError as error:
        raise _too_short(task, block) from error
    if result is not None and not isinstance(result, Blob):
        return False
    settings.note(task.key, None if result is None else result.version)
    if result is None:
        sink.fill(task, leaves, None)
        return True
    if len(result.data) != nbytes:
        raise _too_short(task, block)
    sink.data(found_part(task, leaves, np.zeros(1, np.int64), block, result.data))
    return True


def narrowed(task: Task, wanted: Wanted, gap_bytes: int) -> tuple[list[Wanted], Block | None]:
    """What has to be read of the only chunk wanted of a shard, and the block that this is; None where it is all of the
    chunk.
    """
    leaves, numbers, starts, lengths = wanted
    leaf = task.layout.leaf
    if not leaf.is_plain or int(lengths[0]) != leaf.spec.nbytes:
        return [wanted], None
    block = block_of(leaves, int(numbers[0]), leaf, gap_bytes)
    if block is None:
        return [wanted], None
    span = block.span
    return [(leaves, numbers, starts + span.start, np.array([span.stop - span.start], np.int64))], block


def found_part(task: Task, leaves: Leaves, numbers: IntArray, block: Block, data: Buffer) -> Found:
    """The elements of the block that was read of the chunk ``numbers``."""
    try:
        array = decode_block(task.layout.leaf, block.shape, data)
    except CodecError as error:
        raise error.at(key=task.key) from error
    zero = np.zeros(1, np.int64)
    return Found(task, shifted(leaves, block), numbers, [], zero, zero, np.array([len(data)], np.int64), [array])


def _too_short(task: Task, block: Block) -> CodecError:
    spec = task.layout.chain.spec
    return CodecError(
        f"it ends before byte {block.span.stop} of the {spec.nbytes} that a chunk of shape {spec.shape} and dtype "
        f"{spec.dtype} has",
        codec="bytes",
        key=task.key,
    )


def block_of(leaves: Leaves, number: int, leaf: BoundChain, gap_bytes: int) -> Block | None:
    """The smallest block that holds what is wanted of a chunk; None where that is the chunk, or nearly."""
    spec = leaf.spec
    if not spec.shape:
        return None
    ((inner, _),) = leaves.indices([number])
    bounds = [_bounds(index) for index in inner]
    along = next((i for i, (low, high) in enumerate(bounds) if high - low != 1), len(bounds) - 1)
    low, high = bounds[along]
    rest = spec.shape[along + 1 :]
    shape = (1,) * along + (high - low, *rest)
    itemsize = spec.dtype.itemsize
    if (spec.size - prod(shape)) * itemsize <= max(gap_bytes, _LEAST):
        return None
    starts = (*(start for start, _ in bounds[:along]), low) + (0,) * len(rest)
    first = 0
    for c, n in zip(starts, spec.shape, strict=True):
        first = first * n + c
    return Block(starts, shape, Span(first * itemsize, (first + prod(shape)) * itemsize))


def _bounds(index: Any) -> tuple[int, int]:
    if isinstance(index, slice):
        return index.start, index.stop
    return int(index.min()), int(index.max()) + 1


def shifted(leaves: Leaves, block: Block) -> Leaves:
    """The same leaves, where a block is all there is of them."""
    return _Shifted(leaves, block.starts)


class _Shifted(Leaves):
    """Leaves of which only a block is there."""

    __slots__ = ("_leaves", "_starts", "flat", "is_sliced")

    def __init__(self, leaves: Leaves, starts: tuple[int, ...]) -> None:
        self._leaves = leaves
        self._starts = starts
        self.flat = leaves.flat
        self.is_sliced = leaves.is_sliced

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.flat), bool)

    def indices(self, numbers: Iterable[int] | IntArray) -> Iterator[tuple[Index, Index]]:
        for inner, outer in self._leaves.indices(numbers):
            yield tuple(_shift(index, start) for index, start in zip(inner, self._starts, strict=True)), outer


def _shift(index: Any, start: int) -> Any:
    return slice(index.start - start, index.stop - start, index.step) if isinstance(index, slice) else index - start
