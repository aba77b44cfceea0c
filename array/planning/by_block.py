"""Parts of large chunks that Blosc compressed: only the blocks that hold what is wanted are read and decoded.

Two rounds, of one version of the object: the header with the table of blocks, then the blocks. Whatever is out of the
ordinary about a header is left to a read of the whole chunk, which knows what to say.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from zarrdock.array.planning.partial import Block, block_of, found_part, shifted
from zarrdock.array.planning.pieces import Leaves, Task
from zarrdock.array.planning.reading import Asked, ReadSettings
from zarrdock.array.planning.sink import Found, IntArray, Sink
from zarrdock.codecs.base import ByteSpec, ChunkSpec
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.blosc_frame import BoundExcerpt, Frame, head_nbytes, parse
from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.chain import BoundChain
from zarrdock.errors import CodecError, RangeError, ShardIndexError
from zarrdock.ranges import Span, merge
from zarrdock.stores.base import Blob, Buffer, Read, Result, Traits, Version

__all__ = ["pays", "read_blocks", "read_object"]

# What the library chooses for its usual levels, where metadata leaves it to the library.
_USUAL_BLOCK = 256 * 2**10
# Decoding so much less is worth one more call of a local store; measured in docs/design/profiles.md.
_LEAST = 512 * 2**10
# Stored bytes that take as long as one more round trip: 40 ms at 100 MB/s, what one connection to S3 or GCS brings.
# Chunks are taken to be compressed to half their size: how far they are is known only after that round.
_ROUND_TRIP_BYTES = 4 * 2**20
_USUAL_RATIO = 2
_MAX_CHANGES = 3


def pays(leaf: BoundChain, nbytes: int, traits: Traits) -> bool:
    """Whether one more round is worth it, to read and decode no more than blocks that hold ``nbytes`` of a chunk.

    Locally, where that leaves out half of the chunk and 512 KiB of it; remotely, where it leaves out what takes longer
    than a round trip.
    """
    if leaf.framed is None or not traits.conditional_read:
        return False
    whole = leaf.spec.nbytes
    saved = whole - nbytes - (leaf.framed.blocksize or _USUAL_BLOCK)
    if traits.remote:
        return saved >= _ROUND_TRIP_BYTES * _USUAL_RATIO
    return saved >= max(_LEAST, whole // 2)


def read_object(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Asked, list[Result], bool]:
    """Read what is wanted of an object that is one chunk; False where it is to be read whole."""
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
) -> Generator[Asked, list[Result], bool | None]:
    """Read and hand over what is wanted of one chunk.

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
        (head,) = yield Asked([Read(task.key, Span(start, start + n), version)], False, n)
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
) -> Generator[Asked, list[Result], list[Buffer] | bool | None]:
    """The bytes of blocks; False: the object changed; None: it ends before they do."""
    view = memoryview(head.data)
    if int((starts + lengths).max()) <= len(view):  # compressed to so little that they came with the table
        return [view[a : a + n] for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    traits = settings.traits
    merged = merge(starts + start, lengths, gap_bytes=traits.merge_gap_bytes, max_bytes=traits.max_request_bytes)
    spans = [Span(a, b) for a, b in zip(merged.starts.tolist(), merged.stops.tolist(), strict=True)]
    try:
        answers = yield Asked([Read(task.key, span, head.version) for span in spans], True, merged.n_bytes)
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
        return CodecError(f"it ends before byte {stop} of the frame", codec=Blosc.name, key=key)
    message = "the index points beyond the end of the shard: it is truncated, or its index is damaged"
    return ShardIndexError(message, codec="sharding_indexed", key=key)


def _found_blocks(
    task: Task, leaves: Leaves, numbers: IntArray, block: Block, frame: Frame, first: int, bodies: list[Buffer]
) -> Found:
    """The blocks as a chunk of their own, that decodes, in whatever thread, to what is wanted."""
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
