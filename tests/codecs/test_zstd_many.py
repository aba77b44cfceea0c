"""Many frames decoded by one call: what one by one refuses is never taken, and damage never crashes."""

from typing import Any

import numpy as np
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.codecs.base import ByteSpec
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.codecs.zstd_frames import single_frames
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


def laid_out(found: list[bytes]) -> tuple[bytes, Any, Any]:
    lengths = np.array([len(piece) for piece in found], np.int64)
    return b"".join(found), np.cumsum(lengths) - lengths, lengths


@given(pieces(damaged=False))
def test_sound_frames(found: list[bytes]) -> None:
    bound = Zstd().bind(ByteSpec(SIZE, SIZE))
    data, starts, lengths = laid_out(found)
    assert single_frames(data, starts, lengths)
    decoded = bound.decode_many(data, starts, lengths)
    assert decoded is not None
    assert bytes(decoded) == b"".join(bytes(bound.decode(piece)) for piece in found)
    back = bound.decode_many(data, starts[::-1], lengths[::-1])  # in any order
    assert back is not None
    assert bytes(back) == b"".join(bytes(bound.decode(piece)) for piece in found[::-1])


@given(pieces(damaged=True))
def test_damaged_frames(found: list[bytes]) -> None:
    bound = Zstd().bind(ByteSpec(SIZE, SIZE))
    decoded = bound.decode_many(*laid_out(found))
    if decoded is None:
        return
    alone = []
    for piece in found:
        try:
            alone.append(bytes(bound.decode(piece)))
        except CodecError as error:
            raise AssertionError(f"taken among others, refused alone: {error}") from error
    assert bytes(decoded) == b"".join(alone)


def test_frames_of_several_blocks() -> None:
    size = 400_000
    rng = np.random.default_rng(0)
    raws = [rng.integers(0, 9, size, dtype=np.uint8).tobytes(), bytes(size), rng.bytes(size)]
    data, starts, lengths = laid_out([COMPRESSORS[0].compress(raw) for raw in raws])
    assert single_frames(data, starts, lengths)
    assert not single_frames(data, starts, lengths - 1)
    decoded = Zstd().bind(ByteSpec(size, size)).decode_many(data, starts, lengths)
    assert decoded is not None
    assert bytes(decoded) == b"".join(raws)
