"""bytes, transpose, crc32c, gzip, zstd, blosc: round trips, what is in the bytes, and what is refused."""

from __future__ import annotations

import gzip
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numcodecs
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.codec import BytesBytesCodec, ByteSpec, ChunkSpec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import ChecksumError, CodecError, MetadataError

COMPRESSORS: list[BytesBytesCodec] = [
    Zstd(),
    Zstd(level=-5, checksum=True),
    Zstd(level=19),
    Gzip(level=0),
    Gzip(level=9),
    Zlib(level=-1),
    Blosc(),
    Blosc("zstd", 3, "bitshuffle", 2, 4096),
    Blosc("blosclz", 9, "noshuffle"),
    Blosc("zlib", 0, "shuffle", 300),
    Crc32c(),
]


def exactly(n: int, itemsize: int = 4) -> ByteSpec:
    return ByteSpec(n, n, itemsize)


def data_of(n: int) -> bytes:
    return (np.arange(n, dtype=np.uint32) ** 2 % 1009).astype(np.uint8).tobytes()


@pytest.mark.parametrize("codec", COMPRESSORS, ids=repr)
@pytest.mark.parametrize("n", [0, 1, 3, 4096, 70000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_come_back_from_any_buffer_and_any_spec(codec: Any, n: int, kind: type) -> None:
    data = data_of(n)
    for spec in (exactly(n), ByteSpec(None, n, 1), ByteSpec(None, 10 * n + 1, 1)):
        bound = codec.bind(spec)
        encoded = bound.encode(kind(data))
        assert len(encoded) <= bound.encoded.limit
        assert bound.encoded.exact in (None, len(encoded))
        decoded = bound.decode(kind(encoded))
        assert bytes(decoded) == data


@pytest.mark.parametrize("codec", COMPRESSORS, ids=repr)
@pytest.mark.parametrize("n", [5000, 70_000])
def test_decode_into_gives_the_same_or_says_no(codec: Any, n: int) -> None:
    data = data_of(n)
    bound = codec.bind(exactly(n))
    out = bytearray(b"\xaa" * (n + 2))
    if bound.decode_into(bound.encode(data), memoryview(out)[1:-1]):
        assert out == b"\xaa" + data + b"\xaa"


@pytest.mark.parametrize("codec", COMPRESSORS, ids=repr)
@pytest.mark.parametrize("n", [4999, 5001, 0, 10**6])
def test_another_length_than_the_chunks_is_an_error(codec: Any, n: int) -> None:
    encoded = codec.bind(exactly(n)).encode(data_of(n))
    with pytest.raises(CodecError):
        codec.bind(exactly(5000)).decode(encoded)
    if n > 5000:
        with pytest.raises(CodecError):
            codec.bind(ByteSpec(None, 5000)).decode(encoded)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bytes_of_every_dtype_and_order(data: st.DataObject) -> None:
    names = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "V3", "V1", "M8[s]"]
    dtype = np.dtype(data.draw(st.sampled_from(names)))
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
    raw = data.draw(hnp.arrays(np.uint8, int(np.prod(shape)) * dtype.itemsize))
    if dtype.kind == "b":
        raw &= 1
    array = np.ndarray(shape, dtype, raw.tobytes())
    endian = data.draw(st.sampled_from(["little", "big"]))
    bound = Bytes(endian).bind(ChunkSpec(shape, dtype))
    # Not contiguous, not native: both must come out as C order in the stored byte order.
    given_array = np.asfortranarray(array).astype(dtype.newbyteorder("S")) if dtype.kind != "V" else array
    encoded = bound.encode(given_array)
    assert bytes(encoded) == array.astype(dtype.newbyteorder("<" if endian == "little" else ">")).tobytes()
    decoded = bound.decode(bytes(encoded))
    assert decoded.shape == shape
    assert decoded.astype(dtype).tobytes() == array.tobytes()


def test_bytes_encodes_contiguous_arrays_without_a_copy_and_decodes_to_a_view() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    bound = Bytes().bind(ChunkSpec((2, 3), array.dtype))
    encoded = bound.encode(array)
    assert np.shares_memory(np.frombuffer(encoded, np.uint8), array)
    assert np.shares_memory(bound.decode(encoded), array)
    assert not bound.decode(bytes(encoded)).flags.writeable


def test_booleans_that_are_neither_0_nor_1_are_true() -> None:
    decoded = Bytes(None).bind(ChunkSpec((3,), np.dtype(bool))).decode(b"\0\1\7")
    assert decoded.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("n", [0, 23, 25])
def test_bytes_of_the_wrong_length_say_both_numbers(n: int) -> None:
    with pytest.raises(CodecError, match=rf"{n} bytes .* has 24") as caught:
        Bytes().bind(ChunkSpec((2, 3), np.dtype("<i4"))).decode(bytes(n))
    assert caught.value.codec == "bytes"


def test_bytes_needs_a_byte_order_where_there_is_one() -> None:
    for dtype in ("u2", "c8", "U1"):
        with pytest.raises(MetadataError, match="endian"):
            Bytes(None).bind(ChunkSpec((2,), np.dtype(dtype)))
    # Writers of structures left it out once, and meant little.
    assert Bytes(None).bind(ChunkSpec((1,), np.dtype([("a", ">u2")]))).stored == np.dtype([("a", "<u2")])
    for single in ("u1", "?", "S7", "V5", [("a", "u1"), ("b", "V2")]):
        spec = ChunkSpec((2,), np.dtype(single))  # type: ignore[call-overload]
        assert Bytes("big").with_defaults(spec) == Bytes(None)
        Bytes(None).bind(spec)
    with pytest.raises(MetadataError, match="fixed size"):
        Bytes().bind(ChunkSpec((2,), np.dtype(object)))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_transpose_is_the_specification_s_formula(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    array = np.arange(np.prod(shape)).reshape(shape)
    bound = Transpose(order).bind(ChunkSpec(shape, array.dtype))
    encoded = bound.encode(array)
    assert encoded.shape == bound.encoded.shape == tuple(shape[d] for d in order)
    position = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    assert encoded[tuple(position[d] for d in order)] == array[position]
    assert np.array_equal(bound.decode(encoded), array)
    assert np.shares_memory(encoded, array)


def test_transpose_of_drafts_and_of_nonsense() -> None:
    spec = ChunkSpec((2, 3, 4), np.dtype("u1"))
    assert Transpose("F").bind(spec).encoded.shape == (4, 3, 2)
    assert Transpose("C").bind(spec).encoded.shape == (2, 3, 4)
    assert Transpose("F").with_defaults(spec) == Transpose((2, 1, 0))
    assert Transpose([np.int64(1), 0]) == Transpose((1, 0))  # type: ignore[arg-type]
    for order in ((0, 0), (1, 2), "A", 3, (True, False), (0.0,)):
        with pytest.raises(MetadataError, match="order"):
            Transpose(order)  # type: ignore[arg-type]
    with pytest.raises(MetadataError, match="3 dimensions"):
        Transpose((0, 1)).bind(spec)


def test_crc32c_is_known_and_guards() -> None:
    bound = Crc32c().bind(exactly(9))
    encoded = bytes(bound.encode(b"123456789"))
    assert encoded == b"123456789" + 0xE3069283.to_bytes(4, "little")
    decoded = bound.decode(encoded)
    assert isinstance(decoded, memoryview)
    assert np.shares_memory(np.frombuffer(decoded, np.uint8), np.frombuffer(encoded, np.uint8))
    for i in range(len(encoded)):
        broken = bytearray(encoded)
        broken[i] ^= 4
        with pytest.raises(ChecksumError):
            bound.decode(broken)
    for n in range(len(encoded)):
        with pytest.raises(CodecError):
            bound.decode(encoded[:n])


def test_zstd_reads_what_other_writers_may_write() -> None:
    data = data_of(300_000)
    one = zstandard.ZstdCompressor()
    no_size = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    cases = [
        one.compress(data),
        no_size.compress(data),
        one.compress(data[:1000]) + no_size.compress(data[1000:]),
        skippable + no_size.compress(b"") + one.compress(data) + one.compress(b"") + skippable,
        b"".join(one.compress(data[i : i + 1000]) for i in range(0, len(data), 1000)),
        numcodecs.Zstd(level=5, checksum=True).encode(data),
    ]
    for spec in (exactly(len(data)), ByteSpec(None, len(data)), ByteSpec(None, 2 * len(data))):
        for encoded in cases:
            bound = Zstd().bind(spec)
            assert bound.decode(encoded) == data
            for broken in (encoded[:-1], encoded + b"\0", encoded + b"\x28\xb5\x2f\xfd", encoded + encoded[:200]):
                with pytest.raises(CodecError):
                    bound.decode(broken)


def test_zstd_writes_its_size_and_others_read_it() -> None:
    data = data_of(5000)
    for codec in (Zstd(), Zstd(3, True)):
        encoded = bytes(codec.bind(exactly(5000)).encode(data))
        parameters = zstandard.get_frame_parameters(encoded)
        assert parameters.content_size == 5000
        assert parameters.has_checksum == codec.checksum
        assert numcodecs.Zstd().decode(encoded) == data
        assert not codec.checksum or bytes(encoded) != bytes(Zstd(3).bind(exactly(5000)).encode(data))


def test_gzip_reads_members_and_padding_and_nothing_else() -> None:
    data = data_of(30_000)
    one = gzip.compress(data)
    several = gzip.compress(data[:1]) + gzip.compress(b"") + gzip.compress(data[1:]) + gzip.compress(b"")
    for spec in (exactly(len(data)), ByteSpec(None, len(data)), ByteSpec(None, 3 * len(data))):
        bound = Gzip().bind(spec)
        for encoded in (one, one + bytes(5), several, several + bytes(512)):
            assert bytes(bound.decode(encoded)) == data
        for broken in (
            b"",
            one[:-1],
            one[:-9],
            one[:5],
            one + b"x",
            one + bytes(3) + b"x",
            several[:-1],
            one + one[:30],
        ):
            with pytest.raises(CodecError):
                bound.decode(broken)
    zeros = gzip.compress(bytes(100)) * 3
    assert bytes(Gzip().bind(ByteSpec(None, 1000)).decode(zeros)) == bytes(300)
    assert gzip.decompress(bytes(Gzip().bind(exactly(len(data))).encode(data))) == data


def test_gzip_is_not_fooled_by_a_trailer_that_fits() -> None:
    # Two members, the second empty but for its length, which claims the first one's: only the first would be read.
    data = data_of(1000)
    one = gzip.compress(data)
    second = bytearray(gzip.compress(b"more"))
    second[-4:] = (1000).to_bytes(4, "little")
    with pytest.raises(CodecError):
        Gzip().bind(exactly(1000)).decode(one + bytes(second))
    with pytest.raises(CodecError):
        Gzip().bind(exactly(1000)).decode(one + gzip.compress(b"more"))


def test_zlib_refuses_what_is_behind_the_stream() -> None:
    data = data_of(1000)
    for spec in (exactly(1000), ByteSpec(None, 1000)):
        bound = Zlib().bind(spec)
        assert bytes(bound.decode(zlib.compress(data))) == data
        for broken in (
            b"",
            zlib.compress(data)[:-1],
            zlib.compress(data) + b"\0",
            zlib.compress(data) + zlib.compress(b"x"),
        ):
            with pytest.raises(CodecError):
                bound.decode(broken)


@pytest.mark.parametrize("cname", ["blosclz", "lz4", "lz4hc", "zlib", "zstd"])
@pytest.mark.parametrize("shuffle", ["noshuffle", "shuffle", "bitshuffle"])
def test_blosc_as_numcodecs_has_it(cname: str, shuffle: Any) -> None:
    array = np.arange(10_000, dtype="<u2")
    theirs = numcodecs.Blosc(cname, 5, ["noshuffle", "shuffle", "bitshuffle"].index(shuffle))
    bound = Blosc(cname, 5, shuffle).bind(exactly(20_000, 2))
    encoded = bound.encode(array.tobytes())
    assert encoded == theirs.encode(array)
    assert bound.decode(encoded) == theirs.decode(encoded) == array.tobytes()


def test_blosc_takes_typesize_and_shuffle_from_the_array_and_says_so_in_its_metadata() -> None:
    assert Blosc().with_defaults(exactly(8, 8)) == Blosc(shuffle="shuffle", typesize=8)
    assert Blosc().with_defaults(exactly(8, 1)) == Blosc(shuffle="bitshuffle", typesize=1)
    assert Blosc(shuffle="shuffle", typesize=3).with_defaults(exactly(8, 8)).typesize == 3
    with pytest.raises(MetadataError, match="typesize"):
        Blosc().to_json()
    with pytest.raises(MetadataError) as caught:
        Blosc.from_json({"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0})
    assert caught.value.pointer == "/typesize"
    plain = Blosc.from_json({"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 0, "blocksize": 0})
    assert "typesize" not in plain.to_json()["configuration"]
    assert Blosc().bind(exactly(40_000, 4)).encode(np.arange(10_000, dtype="<i4").tobytes())[3] == 4


def test_blosc_header_is_compared_before_the_library_sees_it() -> None:
    bound = Blosc().bind(exactly(4000))
    encoded = bytes(bound.encode(data_of(4000)))
    for at, value, what in (
        (0, 6, "version 6"),
        (0, 5, "Blosc 2"),
        (4, 1, "content"),
        (7, 127, "content"),
        (12, 1, "header says"),
    ):
        broken = bytearray(encoded)
        broken[at] = value
        with pytest.raises(CodecError, match=what):
            bound.decode(broken)
    with pytest.raises(CodecError, match="15 bytes"):
        bound.decode(encoded[:15])
    large = Blosc().bind(exactly(70_000))
    with pytest.raises(CodecError, match="header says"):
        large.decode_into(bytes(large.encode(bytes(70_000)))[:-1], memoryview(bytearray(70_000)))
    snappy = bytearray(bound.encode(b"ab" * 2000))
    snappy[2] = snappy[2] & 0x1F | 2 << 5
    with pytest.raises(CodecError, match="snappy"):
        bound.decode(snappy)
    with pytest.raises(CodecError, match="snappy"):
        Blosc("snappy").bind(exactly(4000)).encode(data_of(4000))
    with pytest.raises(MetadataError, match="smaller chunks"):
        Blosc().bind(exactly(2**31))


@pytest.mark.parametrize(
    ("make", "pointer"),
    [
        (lambda: Zstd(23), "/level"),
        (lambda: Zstd(1.0), "/level"),  # type: ignore[arg-type]
        (lambda: Zstd(True), "/level"),
        (lambda: Zstd(1, 1), "/checksum"),  # type: ignore[arg-type]
        (lambda: Gzip(10), "/level"),
        (lambda: Gzip(-1), "/level"),
        (lambda: Gzip("5"), "/level"),  # type: ignore[arg-type]
        (lambda: Blosc("lz5"), "/cname"),
        (lambda: Blosc(clevel=10), "/clevel"),
        (lambda: Blosc(shuffle=1), "/shuffle"),  # type: ignore[arg-type]
        (lambda: Blosc(typesize=0), "/typesize"),
        (lambda: Blosc(blocksize=-1), "/blocksize"),
        (lambda: Bytes("middle"), "/endian"),  # type: ignore[arg-type]
        (lambda: Zstd.from_json({"level": 1, "checksum": False, "fast": True}), "/fast"),
        (lambda: Crc32c.from_json({"x": 1}), "/x"),
    ],
)
def test_wrong_configurations_point_at_the_member(make: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        make()
    assert caught.value.pointer == pointer
    assert caught.value.expected


@pytest.mark.parametrize("codec", COMPRESSORS, ids=repr)
def test_one_bound_codec_serves_many_threads(codec: Any) -> None:
    bound = codec.bind(exactly(20_000))
    chunks = [data_of(20_000 + i)[i:] for i in range(16)]

    def there_and_back(data: bytes) -> bool:
        return all(bytes(bound.decode(bound.encode(data))) == data for _ in range(3))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, chunks))
