"""zstd by the standard library: what ``zstandard`` does, frame by frame, and the codec over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zarrdock.codecs import zstd_
from zarrdock.codecs.codec import ByteSpec
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError

zstandard = pytest.importorskip("zstandard")
zstd_stdlib = pytest.importorskip("zarrdock.codecs.zstd_stdlib")

VALUES = np.random.default_rng(0).integers(0, 9, 5000).astype("<u2").tobytes()


@pytest.fixture
def over_stdlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd_, "zstandard", zstd_stdlib)
    monkeypatch.setattr(zstd_, "_HAS_MANY", False)
    monkeypatch.setattr(zstd_, "_contexts", zstd_._PerThread())


def frames() -> dict[str, bytes]:
    """Frames as various writers make them."""
    whole = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(VALUES)
    stream = zstandard.ZstdCompressor(level=3, write_content_size=False)
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    halves = [zstandard.ZstdCompressor().compress(half) for half in (VALUES[:3000], VALUES[3000:])]
    return {
        "one frame": whole,
        "no checksum": zstandard.ZstdCompressor(level=-5).compress(VALUES),
        "no size": stream.compress(VALUES),
        "two frames": b"".join(halves),
        "a skippable one": skippable + whole,
        "an empty one": zstandard.ZstdCompressor().compress(b"") + whole,
    }


@pytest.mark.parametrize("name", frames())
@pytest.mark.parametrize("spec", [ByteSpec(len(VALUES), len(VALUES)), ByteSpec(None, len(VALUES) + 5)])
@pytest.mark.usefixtures("over_stdlib")
def test_frames_of_others(name: str, spec: ByteSpec) -> None:
    assert bytes(Zstd().bind(spec).decode(frames()[name])) == VALUES


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("level", [-131072, 0, 5, 22])
@pytest.mark.usefixtures("over_stdlib")
def test_frames_for_others(level: int, checksum: bool) -> None:
    bound = Zstd(level=level, checksum=checksum).bind(ByteSpec(len(VALUES), len(VALUES)))
    for _ in range(2):  # contexts are used again
        encoded = bytes(bound.encode(VALUES))
        parameters = zstandard.get_frame_parameters(encoded)
        assert (parameters.content_size, parameters.has_checksum) == (len(VALUES), checksum)
        assert zstandard.ZstdDecompressor().decompress(encoded, allow_extra_data=False) == VALUES


def outcome(bound: Any, data: bytes) -> bytes | None:
    try:
        return bytes(bound.decode(data))
    except CodecError:
        return None


def test_damage_is_seen_where_zstandard_sees_it(request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng(1)
    bound = Zstd().bind(ByteSpec(len(VALUES), len(VALUES)))
    damaged = []
    for frame in frames().values():
        for _ in range(60):
            changed = bytearray(frame)
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
            damaged += [bytes(changed), frame[: rng.integers(len(frame))]]
        damaged += [b"", frame + b"x", frame + frame, frame[:5], frame[:-1]]
    expected = [outcome(bound, data) for data in damaged]
    assert None in expected
    request.getfixturevalue("over_stdlib")
    assert [outcome(bound, data) for data in damaged] == expected


@pytest.mark.usefixtures("over_stdlib")
def test_no_more_than_is_possible() -> None:
    """A frame that does not say its size is not decoded beyond the chunk's."""
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10_000_000))
    with pytest.raises(CodecError, match="longer than the 100 bytes possible"):
        Zstd().bind(ByteSpec(100, 100)).decode(bomb)
