"""Parts of large chunks that Blosc compressed: only the blocks that hold wanted elements are read and decoded.

Two rounds, of one version of the object: the header with the table of blocks, then the blocks. Whatever is out of the
ordinary about a header is left to a read of the whole chunk, which knows what to say.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.read_types import Found, IntArray, ReadSettings, Sink, Wanted
from zarrdock.array.planning.rounds import Round
from zarrdock.array.planning.runs import Index, Runs
from zarrdock.array.planning.tasks import Leaves, Task
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.blosc_frame import BoundExcerpt, Frame, head_nbytes, parse
from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.chain import BoundChain
from zarrdock.codecs.codec import AnyArray, Buffer, ByteSpec, ChunkSpec
from zarrdock.errors import CodecError, RangeError, ShardIndexError
from zarrdock.ranges import Span, merge
from zarrdock.stores.base import Blob, Read, Result, Traits, Version

__all__ = [
    "Block",
    "block_of",
    "decode_block",
    "element_of",
    "found_part",
    "narrowed",
    "pays",
    "read_blocks",
    "read_object",
    "read_part",
    "shifted",
]


# -- Parts of chunks that are stored as their elements and nothing else: only the bytes that matter are read.
#
# One request, as for the whole chunk, so that it never costs a round or a request more: from the first element wanted
# to the last, along the first axis that is not down to one position. Where that saves less than the store's gap the
# chunk is read whole, which also shows whether it has the length it should have.

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
    """Read one element of a chunk; None where the whole chunk has to be read."""
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


def read_part(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Round, list[Result], bool]:
    """Read the wanted part of an object that is one plain chunk; False where the whole object has to be read.

    Raises:
        CodecError: the object is too short.
    """
    leaves = task.pieces.leaves((1,) * len(task.layout.shape))
    block = block_of(leaves, 0, task.layout.leaf, settings.traits.merge_gap_bytes)
    if block is None:
        return False
    nbytes = block.span.stop - block.span.start
    try:
        (result,) = yield Round([Read(task.key, block.span)], True, nbytes)
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
    """Narrow the read of a shard's only wanted chunk to a block of it; None as block if all of it is needed."""
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
    """The smallest block that holds all wanted elements of a chunk; None where that is nearly the whole chunk."""
    spec = leaf.spec
    if not spec.shape:
        return None
    ((inner, _),) = leaves.indices([number])
    bounds = inner.bounds() if isinstance(inner, Runs) else [_bounds(index) for index in inner]
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
    if isinstance(index, int):
        return index, index + 1
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
            if isinstance(inner, Runs):
                yield Runs(inner.starts - np.asarray(self._starts, np.int64), inner.lengths), outer
            else:
                yield tuple(_shift(index, start) for index, start in zip(inner, self._starts, strict=True)), outer


def _shift(index: Any, start: int) -> Any:
    return slice(index.start - start, index.stop - start, index.step) if isinstance(index, slice) else index - start


# What the library chooses for its usual levels, where metadata leaves it to the library.
_USUAL_BLOCK = 256 * 2**10
# Decoding so much less is worth one more call of a local store; measured in docs/design/profiles.md.
_LEAST_SAVED = 512 * 2**10
# Stored bytes that take as long as one more round trip: 40 ms at 100 MB/s, what one connection to S3 or GCS brings.
# Chunks are taken to be compressed to half their size: how far they are is known only after that round.
_ROUND_TRIP_BYTES = 4 * 2**20
_USUAL_RATIO = 2
_MAX_CHANGES = 3


def pays(leaf: BoundChain, nbytes: int, traits: Traits) -> bool:
    """True if it is worth one more round to read and decode only the blocks that hold ``nbytes`` of a chunk.

    Locally, if that saves half of the chunk and 512 KiB of it; remotely, if reading the rest takes longer than a round
    trip.
    """
    if leaf.framed is None or not traits.conditional_read:
        return False
    whole = leaf.spec.nbytes
    saved = whole - nbytes - (leaf.framed.blocksize or _USUAL_BLOCK)
    if traits.remote:
        return saved >= _ROUND_TRIP_BYTES * _USUAL_RATIO
    return saved >= max(_LEAST_SAVED, whole // 2)


def read_object(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Round, list[Result], bool]:
    """Read the wanted part of an object that is one chunk; False where the whole object has to be read."""
    leaves = task.pieces.leaves((1,) * len(task.layout.shape))
    for _ in range(_MAX_CHANGES):
        done = yield from read_blocks(task, leaves, 0, 0, None, None, settings, sink)
        if done is not False:
            return done is True
    return False


def read_blocks(
    task: Task,
    leaves: Leaves,
    number: int,
    start: int,
    length: int | None,
    version: Version | None,
    settings: ReadSettings,
    sink: Sink,
) -> Generator[Round, list[Result], bool | None]:
    """Read the wanted part of one chunk and hand it to the sink.

    Args:
        number: of the chunk among the leaves. start, length: where it is in the object; a length of None: it is the
            object. version: of the object, where it is known.
    Returns:
        False: the object changed on the way. None: the chunk is to be read whole.
    """
    leaf, traits = task.layout.leaf, settings.traits
    if settings.cache.are_versionless:
        return None
    block = block_of(leaves, number, leaf, traits.merge_gap_bytes)
    if block is None or leaf.framed is None or not pays(leaf, block.span.stop - block.span.start, traits):
        return None
    n = head_nbytes(leaf.spec.nbytes, leaf.framed.blocksize)
    n = n if length is None else min(n, length)
    try:
        (head,) = yield Round([Read(task.key, Span(start, start + n), version)], False, n)
    except RangeError as error:
        raise _cut_off(task.key, start + head_nbytes(0, 0), length) from error
    if head is None and length is None:
        settings.note(task.key, None)
        sink.fill(task, leaves, None)
        return True
    if not isinstance(head, Blob):
        return False
    settings.cache.are_versionless = head.version is None  # from now on, no request is spent on finding that out
    frame = None if head.version is None else parse(head.data, leaf.spec.nbytes, length, leaf.encoded.limit)
    if frame is None:
        return None
    first, starts, lengths = _places(frame, block)
    if frame.starts is not None and len(starts) == len(frame.starts):
        return None
    bodies = yield from _bodies(task, head, start, length, starts, lengths, settings)
    if not isinstance(bodies, list):
        return bodies
    if length is None:
        settings.note(task.key, head.version)
    numbers = np.array([number], np.int64)
    if frame.starts is None:
        sink.data(found_part(task, leaves, numbers, block, bodies[0]))
    else:
        sink.data(_found_blocks(task, leaves, numbers, block, frame, first, bodies))
    return True


def _places(frame: Frame, block: Block) -> tuple[int, IntArray, IntArray]:
    """The first of the blocks that hold it, and where in the frame these are."""
    span = block.span
    if frame.starts is None or frame.lengths is None:
        behind = head_nbytes(0, 0)
        return 0, np.array([behind + span.start], np.int64), np.array([span.stop - span.start], np.int64)
    first, stop = span.start // frame.blocksize, -(-span.stop // frame.blocksize)
    return first, frame.starts[first:stop], frame.lengths[first:stop]


def _bodies(
    task: Task,
    head: Blob,
    start: int,
    length: int | None,
    starts: IntArray,
    lengths: IntArray,
    settings: ReadSettings,
) -> Generator[Round, list[Result], list[Buffer] | bool | None]:
    """The bytes of blocks; False: the object changed; None: it ends before they do."""
    view = memoryview(head.data)
    if int((starts + lengths).max()) <= len(view):  # compressed to so little that they came with the table
        return [view[a : a + n] for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    traits = settings.traits
    merged = merge(starts + start, lengths, gap_bytes=traits.merge_gap_bytes, max_bytes=traits.max_request_bytes)
    spans = [Span(a, b) for a, b in zip(merged.starts.tolist(), merged.stops.tolist(), strict=True)]
    try:
        answers = yield Round([Read(task.key, span, head.version) for span in spans], True, merged.nbytes)
    except RangeError as error:
        raise _cut_off(task.key, spans[-1].stop, length) from error
    views: list[memoryview] = []
    for span, answer in zip(spans, answers, strict=True):
        if not isinstance(answer, Blob):
            return False
        if len(answer.data) != span.stop - span.start:
            return None
        views.append(memoryview(answer.data))
    places = zip(merged.request.tolist(), merged.offset.tolist(), lengths.tolist(), strict=True)
    return [views[i][a : a + n] for i, a, n in places]


def _cut_off(key: str, stop: int, length: int | None) -> CodecError:
    # Where a read starts behind the end, nothing is left to be read whole.
    if length is None:
        return CodecError(f"the frame is cut off before byte {stop}", codec=Blosc.name, key=key)
    message = "the index points beyond the end of the shard: it is truncated, or its index is damaged"
    return ShardIndexError(message, codec="sharding_indexed", key=key)


def _found_blocks(
    task: Task, leaves: Leaves, numbers: IntArray, block: Block, frame: Frame, first: int, bodies: list[Buffer]
) -> Found:
    """Blocks as a chunk of their own, which decodes (in any thread) to the wanted elements."""
    leaf = task.layout.leaf
    assert isinstance(leaf.serializer, BoundBytes)
    begin = first * frame.blocksize
    n = min(begin + len(bodies) * frame.blocksize, frame.nbytes) - begin
    codec = BoundExcerpt(n, block.span.start - begin, block.span.stop - begin)
    spec = ChunkSpec(block.shape, leaf.spec.dtype, leaf.spec.fill_value)
    serializer = BoundBytes(spec, leaf.serializer.stored)
    chain = BoundChain(spec, (), serializer, (codec,), ByteSpec.compressed(codec.decoded), (codec,), ())
    data = frame.excerpt(first, bodies)
    zero = np.zeros(1, np.int64)
    part = replace(task, layout=replace(task.layout, leaf=chain))
    return Found(part, shifted(leaves, block), numbers, [data], zero, zero, np.array([len(data)], np.int64))
