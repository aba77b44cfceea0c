"""Chunks of Blosc 2 under the name ``blosc``: read as the library itself reads them; and at worst, an error."""

from __future__ import annotations

import base64
import json
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.codec import ByteSpec
from zarrdock.errors import CodecError

DOCUMENT = json.loads(Path(__file__).with_name("blosc2").joinpath("chunks.json").read_text("utf-8"))
CONTENTS = {name: base64.b85decode(text) for name, text in DOCUMENT["contents"].items()}
CHUNKS: list[tuple[str, str, bytes]] = [
    (name, label, base64.b85decode(text)) for name, label, text in DOCUMENT["chunks"]
]


def bound(n: int, exact: bool = True) -> Any:
    return Blosc().bind(ByteSpec(n if exact else None, n if exact else n + 5, 4))


@pytest.mark.parametrize("exact", [True, False])
def test_what_the_library_wrote(exact: bool) -> None:
    assert len(CHUNKS) > 200
    for name, label, chunk in CHUNKS:
        content = CONTENTS[name]
        assert bytes(bound(len(content), exact).decode(memoryview(chunk))) == content, (name, label)
    decoded, truncated = (base64.b85decode(text) for text in DOCUMENT["truncated"])
    assert bytes(bound(len(decoded)).decode(truncated)) == decoded
    assert not bound(2**17).decode_into(CHUNKS[0][2], memoryview(bytearray(2**17)))


def header(nbytes: int, flags2: int, behind: bytes = b"", **changes: int) -> bytes:
    given = {"version": 5, "flags": 0x85, "typesize": 4, "blocksize": nbytes, "cbytes": 32 + len(behind), **changes}
    sizes = struct.pack("<III", nbytes, given["blocksize"], given["cbytes"])
    start = bytes((given["version"], 1, given["flags"], given["typesize"])) + sizes
    filters = bytes((0, 0, 0, 0, 0, given.get("filter", 0)))
    return start + filters + bytes(8) + bytes((0, flags2)) + behind


def test_chunks_of_one_value() -> None:
    assert bytes(bound(40).decode(header(40, 0x10))) == bytes(40)
    assert np.isnan(np.frombuffer(bound(40).decode(header(40, 0x20)), "<f4")).all()
    assert bytes(bound(40).decode(header(40, 0x30, b"abcd"))) == b"abcd" * 10
    assert bytes(bound(4).decode(header(4, 0, b"wxyz", flags=0x87))) == b"wxyz"


@pytest.mark.parametrize(
    ("chunk", "what"),
    [
        (header(40, 0x40), "never initialised"),
        (header(40, 0x30, b"abc"), "damaged"),
        (header(42, 0x20), "damaged|expected 40"),
        (header(40, 0x01), "dictionary"),
        (header(40, 0x08), "lazy"),
        (header(40, 0, filter=3), "delta"),
        (header(40, 0, filter=160), "filter 160"),
        (header(2**31, 0x10), "expected 40"),
        (header(40, 0, cbytes=10**9), "there are 32"),
        (header(40, 0, typesize=0), "not one of Blosc 2"),
        (header(40, 0, flags=0x80), "not one of Blosc 2"),
        (header(40, 0, blocksize=0), "blocks of 0"),
        (header(40, 0, blocksize=41), "blocks of 41"),
        (header(40, 0, blocksize=1), "places of 40"),
        (header(40, 0, struct.pack("<i", -5)), "at -5"),
        (header(40, 0, struct.pack("<i", 33)), "cut off"),
        (header(40, 0, struct.pack("<ii", 36, 7) + b"abc"), "3 are left"),
        (header(40, 0, struct.pack("<ii", 36, -3)), "run"),
        (header(40, 0, struct.pack("<ii", 36, -300) + b"\1"), "run"),
        (header(40, 0, struct.pack("<ii", 36, 3) + b"abc", flags=0xD5), "compressor 6"),
        (b"\5" + bytes(20), "fewer"),
        (b"\6" + bytes(40), "version 6"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_refused(chunk: bytes, what: str) -> None:
    with pytest.raises(CodecError, match=what):
        bound(40).decode(chunk)


def test_damage() -> None:
    rng = random.Random(0)
    some = [chunk for chunk in CHUNKS if chunk[0] in ("ramp", "text")]
    tracemalloc.start()
    try:
        for _ in range(3000):
            name, _, good = rng.choice(some)
            n = len(CONTENTS[name])
            broken = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(broken)) if rng.random() < 0.5 else rng.randrange(min(60, len(broken)))
                broken[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            if rng.random() < 0.3:
                del broken[rng.randrange(len(broken)) :]
                broken[12:16] = struct.pack("<I", len(broken))
            try:
                assert len(bound(n).decode(bytes(broken))) == n
            except CodecError:
                pass
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_what_is_written_is_blosc_1() -> None:
    for codec in (Blosc(), Blosc("zstd", 9, "bitshuffle"), Blosc("blosclz", 0)):
        encoded = bytes(codec.bind(ByteSpec(2000, 2000, 4)).encode(CONTENTS["ramp"]))
        assert encoded[0] == 2
