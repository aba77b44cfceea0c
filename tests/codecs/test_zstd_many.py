"""Many frames decoded by one call: what one by one refuses is never taken, and damage never crashes."""

from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.codecs.codec import ByteSpec, Encoded
from zarrdock.codecs.zstd_ import Zstd, is_single_frame, single_frames
from zarrdock.errors import CodecError

SIZE = 600

COMPRESSORS = [
    zstandard.ZstdCompressor(level=level, write_content_size=size, write_checksum=checksum)
    for level in (1, 3, 19)
    for size in (True, False)
    for checksum in (True, False)
]

contents = st.one_of(
    st.binary(min_size=SIZE, max_size=SIZE),
    st.integers(0, 255).map(lambda i: bytes([i]) * SIZE),
    st.binary(min_size=20, max_size=20).map(lambda b: b * (SIZE // 20)),
)


@st.composite
def pieces(draw: st.DrawFn, *, damaged: bool) -> list[bytes]:
    found = [draw(st.sampled_from(COMPRESSORS)).compress(draw(contents)) for _ in range(draw(st.integers(1, 12)))]
    for _ in range(draw(st.integers(1, 3)) if damaged else 0):
        i = draw(st.integers(0, len(found) - 1))
        piece = bytearray(found[i])
        kind = draw(st.sampled_from(["bit", "cut", "more", "twice", "skippable", "other"]))
        if kind == "bit" and piece:
            piece[draw(st.integers(0, len(piece) - 1))] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut" and piece:
            del piece[draw(st.integers(0, len(piece) - 1)) :]
        elif kind == "more":
            piece += draw(st.binary(min_size=1, max_size=12))
        elif kind == "twice":
            piece = piece + piece
        elif kind == "skippable":
            piece += b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab"
        else:
            piece = bytearray(COMPRESSORS[0].compress(draw(st.binary(max_size=2 * SIZE))))
        found[i] = bytes(piece)
    return found


def one_buffer(data: bytes, starts: Any, lengths: Any) -> Encoded:
    return Encoded([data], np.zeros(len(starts), np.int64), starts, lengths)


def own_buffers(found: list[bytes]) -> Encoded:
    n = len(found)
    lengths = np.array([len(piece) for piece in found], np.int64)
    return Encoded(found, np.arange(n), np.zeros(n, np.int64), lengths)


def laid_out(found: list[bytes]) -> tuple[bytes, Any, Any]:
    lengths = np.array([len(piece) for piece in found], np.int64)
    return b"".join(found), np.cumsum(lengths) - lengths, lengths


@given(pieces(damaged=False))
def test_sound_frames(found: list[bytes]) -> None:
    bound = Zstd().bind(ByteSpec(SIZE, SIZE))
    data, starts, lengths = laid_out(found)
    assert single_frames(data, starts, lengths)
    alone = [bytes(bound.decode(piece)) for piece in found]
    for encoded in (one_buffer(data, starts, lengths), own_buffers(found)):
        decoded = bound.decode_many(encoded)
        assert decoded is not None
        assert [bytes(piece) for piece in decoded] == alone
    back = bound.decode_many(one_buffer(data, starts[::-1], lengths[::-1]))  # in any order
    assert back is not None
    assert [bytes(piece) for piece in back] == alone[::-1]


@given(pieces(damaged=True))
def test_damaged_frames(found: list[bytes]) -> None:
    bound = Zstd().bind(ByteSpec(SIZE, SIZE))
    for encoded in (one_buffer(*laid_out(found)), own_buffers(found)):
        decoded = bound.decode_many(encoded)
        if decoded is None:
            continue
        alone = []
        for piece in found:
            try:
                alone.append(bytes(bound.decode(piece)))
            except CodecError as error:
                raise AssertionError(f"taken among others, refused alone: {error}") from error
        assert [bytes(piece) for piece in decoded] == alone


def in_blocks(raw: bytes, n: int, *, known: bool) -> bytes:
    writer = COMPRESSORS[0].compressobj(len(raw) if known else -1)
    each = -(-len(raw) // n)
    parts = [
        writer.compress(raw[at : at + each]) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for at in range(0, len(raw), each)
    ]
    return b"".join(parts) + writer.flush()


@pytest.mark.parametrize("known", [True, False])
def test_frames_of_several_blocks(known: bool) -> None:
    size = 12_000
    rng = np.random.default_rng(0)
    raws = [rng.integers(0, 9, size, dtype=np.uint8).tobytes(), bytes(size), rng.bytes(size)]
    found = [in_blocks(raw, n, known=known) for raw, n in zip(raws, (1, 3, 6), strict=True)]
    data, starts, lengths = laid_out(found)
    assert single_frames(data, starts, lengths)
    assert not single_frames(data, starts, lengths - 1)
    assert all(map(is_single_frame, map(memoryview, found)))
    assert not any(is_single_frame(memoryview(piece)[:-1]) for piece in found)
    for encoded in (one_buffer(data, starts, lengths), own_buffers(found)):
        decoded = Zstd().bind(ByteSpec(size, size)).decode_many(encoded)
        assert decoded is not None
        assert [bytes(piece) for piece in decoded] == raws
    # Of more blocks than it is worth counting, and of contents that are better decoded one by one: not at all.
    assert Zstd().bind(ByteSpec(size, size)).decode_many(own_buffers([in_blocks(raws[0], 20, known=known)] * 2))
    data, starts, lengths = laid_out([in_blocks(raws[0], 20, known=known)] * 2)
    assert Zstd().bind(ByteSpec(size, size)).decode_many(one_buffer(data, starts, lengths)) is None
    large = [COMPRESSORS[0].compress(bytes(2**20))] * 2
    assert Zstd().bind(ByteSpec(2**20, 2**20)).decode_many(own_buffers(large)) is None
