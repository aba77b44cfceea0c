"""Damaged and lying bytes: only CodecError, never another length, never an allocation the chunk does not justify."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import zstandard

from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.codec import ArrayBytesCodec, ByteSpec, ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import (
    Adler32,
    Base64,
    Bz2,
    Crc32,
    Fletcher32,
    JenkinsLookup3,
    Lz4,
    Lzma,
    Shuffle,
)
from zarrdock.codecs.numcodecs_arrays import PCodec, Zfpy
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError

N = 6000

DECODERS: list[Codec] = [
    Zstd(),
    Zstd(3, True),
    Gzip(),
    Zlib(),
    Blosc(),
    Blosc("blosclz", 5, "bitshuffle", 4, 512),
    Blosc("zstd", 5, "shuffle", 4),
    Blosc("zlib", 5, "noshuffle"),
    Blosc("lz4hc", 5, "shuffle", 2, 1024),
    Crc32c(),
    Lz4(),
    Bz2(),
    Lzma(),
    Lzma(format=2),
    Shuffle(elementsize=4),
    Crc32(),
    Adler32(location="end"),
    Fletcher32(),
    JenkinsLookup3(),
    Base64(),
    PCodec(),
    Zfpy(mode=4, tolerance=0.01),
    Zfpy(mode=2, rate=16),
]


def bound_for(codec: Any, exact: bool) -> Any:
    if isinstance(codec, ArrayBytesCodec):
        return codec.bind(ChunkSpec((N // 60, 15), np.dtype("<f4")))
    return codec.bind(ByteSpec(N if exact else None, N if exact else N + 77, 4))


def content(rng: random.Random) -> bytes:
    """Compressible in parts, so that every kind of block is written."""
    values = np.array([rng.gauss(100, 3) for _ in range(N // 4)], "<f4")
    values[: N // 12] = 7
    return values.tobytes()


def damage(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    match rng.randrange(6):
        case 0:
            del broken[rng.randrange(len(broken)) :]
        case 1:
            at = rng.randrange(len(broken))
            del broken[at : at + rng.randrange(1, 9)]
        case 2:
            at = rng.randrange(min(len(broken), 40))
            broken[at] = rng.randrange(256)
        case 3:
            for _ in range(rng.randrange(1, 4)):
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        case 4:
            at = rng.randrange(len(broken))
            broken[at:at] = rng.randbytes(rng.randrange(1, 9))
        case _:
            broken += rng.randbytes(rng.randrange(1, 30))
    return bytes(broken)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("codec", DECODERS, ids=repr)
def test_damage_raises_codec_errors_and_nothing_else(codec: Codec, exact: bool) -> None:
    rng = random.Random(f"{codec!r}{exact}")
    bound = bound_for(codec, exact)
    data = content(rng)
    if isinstance(codec, ArrayBytesCodec):
        array = np.frombuffer(data, "<f4").reshape(bound.decoded.shape)
        encoded = bytes(bound.encode(array))
    else:
        encoded = bytes(bound.encode(data))
    bound.decode(encoded)
    messages = []
    for _ in range(400):
        broken = damage(encoded, rng)
        try:
            decoded = bound.decode(broken)
        except CodecError as error:
            messages.append(str(error))
            continue
        n = memoryview(decoded).nbytes
        assert n == N if exact or isinstance(codec, ArrayBytesCodec) else n <= N + 77
    assert messages
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    "codec", [Blosc("lz4", 5, "shuffle", 4), Blosc("blosclz", 9, "bitshuffle", 4, 600), Lz4()], ids=repr
)
def test_damage_writes_nothing_beside_the_destination(codec: Any) -> None:
    rng = random.Random(5)
    n = 12 * N
    bound = codec.bind(ByteSpec(n, n, 4))
    data = content(rng) * 12
    encoded = bytes(bound.encode(data))
    area = bytearray(b"\xa5" * (n + 512))
    assert bound.decode_into(encoded, memoryview(area)[256:-256])
    assert area[256:-256] == data
    for _ in range(600):
        try:
            bound.decode_into(damage(encoded, rng), memoryview(area)[256:-256])
        except CodecError:
            pass
        assert area[:256] == area[-256:] == b"\xa5" * 256


@pytest.mark.parametrize("codec", [c for c in DECODERS if not isinstance(c, Shuffle)], ids=repr)
def test_every_truncation_is_an_error(codec: Codec) -> None:
    rng = random.Random(1)
    bound = bound_for(codec, True)
    data = content(rng)
    if isinstance(codec, Zfpy):
        # A stream of bits without an end: what is cut off reads as zeros. Only the header is checked.
        lengths: Any = range(8)
    else:
        lengths = None
    is_array = isinstance(codec, ArrayBytesCodec)
    encoded = bytes(bound.encode(np.frombuffer(data, "<f4").reshape(bound.decoded.shape) if is_array else data))
    bound.decode(encoded)
    for n in lengths or [*range(min(40, len(encoded))), *range(40, len(encoded) - 1, 97), len(encoded) - 1]:
        with pytest.raises(CodecError):
            bound.decode(encoded[:n])


def zstd_frame_claiming(n: int) -> bytes:
    # Magic, descriptor (8 bytes of size, single segment), size, one empty last block.
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", n) + b"\x01\x00\x00"


def bomb(codec: Any, n: int) -> bytes:
    return bytes(codec.bind(ByteSpec(n, n)).encode(bytes(n)))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("codec", "lie"),
    [
        (Zstd(), zstd_frame_claiming(2**40)),
        (Zstd(), bomb(Zstd(), 2**26)),
        (Zstd(), zstandard.ZstdCompressor(write_content_size=False).compressobj().compress(b"")),
        (Zstd(), zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**26))),
        (Gzip(), bomb(Gzip(), 2**26)),
        (Zlib(), bomb(Zlib(), 2**26)),
        (Bz2(), bomb(Bz2(), 2**26)),
        (Lzma(), bomb(Lzma(), 2**25)),
        (Lz4(), b"\xff\xff\xff\x7f" + bytes(20)),
        (Lz4(), b"\xff\xff\xff\xff" + bytes(20)),
        (Blosc(), struct.pack("<BBBBIII", 2, 1, 2, 1, 2**31 - 1, 2**31 - 1, 20) + bytes(4)),
    ],
    ids=lambda value: repr(value) if isinstance(value, Codec) else len(value),
)
def test_lies_about_the_size_cost_no_memory(codec: Any, lie: bytes, exact: bool) -> None:
    bound = bound_for(codec, exact)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            bound.decode(lie)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # lzma has the dictionary its header asks for, 8 MiB by default.
    assert peak < (2**24 if isinstance(codec, Lzma) else 2**20)


def test_a_bomb_does_not_raise_the_peak_of_the_process() -> None:
    """What C libraries allocate by themselves tracemalloc can't see: ask the system, in a process of its own."""
    code = """
import resource, sys
from zarrdock.codecs.codec import ByteSpec
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError
lies = sys.stdin.buffer.read().split(b"<>")
bound = Zstd().bind(ByteSpec(None, 6000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for lie in lies:
    try:
        bound.decode(lie)
    except CodecError:
        continue
    sys.exit("decoded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**27))
    lies = b"<>".join([zstd_frame_claiming(2**40), bomb(Zstd(), 2**27), unknown])
    done = subprocess.run([sys.executable, "-c", code], input=lies, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < 2**24


def test_many_tiny_gzip_members_take_linear_time() -> None:
    member = bytes(Gzip().bind(ByteSpec(None, 0)).encode(b""))
    assert Gzip().bind(ByteSpec(None, 100)).decode(member * 20_000) == b""
