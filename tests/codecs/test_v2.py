"""Zarr v2's filters and compressors: chunks made with numcodecs, as Zarr 2 makes them, decode the same here."""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import pytest

from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip, Zlib
from zarrdock.codecs.numcodecs_ import Lz4
from zarrdock.codecs.numcodecs_arrays import Delta
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.v2_codecs import StoredBytes, from_v2, to_v2
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

COMPRESSORS: list[dict[str, Any] | None] = [
    None,
    {"id": "zlib", "level": 1},
    {"id": "gzip", "level": 1},
    {"id": "zstd", "level": 3},
    {"id": "zstd", "level": 3, "checksum": True},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": -1, "blocksize": 512},
    {"id": "lz4", "acceleration": 1},
    {"id": "bz2", "level": 1},
    {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None},
    {"id": "crc32c", "location": "start"},
]

FILTERS: list[tuple[str, list[dict[str, Any]]]] = [
    (">i4", [{"id": "delta", "dtype": ">i4", "astype": ">i2"}]),
    ("<i4", [{"id": "delta", "dtype": ">i4", "astype": ">i4"}]),
    (">i4", [{"id": "delta", "dtype": ">i4"}, {"id": "delta", "dtype": ">i4"}]),
    ("<f8", [{"id": "fixedscaleoffset", "offset": 1.0, "scale": 10.0, "dtype": "<f8", "astype": "|u1"}]),
    ("<f8", [{"id": "quantize", "digits": 2, "dtype": "<f8", "astype": "<f8"}, {"id": "shuffle", "elementsize": 8}]),
    (">f4", [{"id": "astype", "encode_dtype": "<f8", "decode_dtype": ">f4"}]),
    ("|b1", [{"id": "packbits"}]),
    ("<u2", [{"id": "shuffle", "elementsize": 2}, {"id": "crc32"}, {"id": "zlib", "level": 2}]),
    ("<u2", [{"id": "fletcher32"}]),
    ("<i8", [{"id": "delta", "dtype": "<i8"}, {"id": "base64"}]),
    ("|S4", [{"id": "shuffle", "elementsize": 4}]),
]


def values(dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    flat = np.arange(np.prod(shape)) % 100
    if np.dtype(dtype).fields:
        array = np.zeros(shape, dtype)
        for name in array.dtype.names or ():
            array[name] = flat.reshape(shape)
        return array
    return flat.reshape(shape).astype(dtype)


def numcodecs_chunk(array: np.ndarray[Any, Any], order: str, filters: Any, compressor: Any) -> bytes:
    """What Zarr 2 stores: the array in its order, through the filters, through the compressor."""
    chunk: Any = array.copy(order=order)  # type: ignore[call-overload]
    for configuration in filters or ():
        chunk = numcodecs.get_codec(dict(configuration)).encode(chunk)
    if compressor is not None:
        chunk = numcodecs.get_codec(dict(compressor)).encode(chunk)
    return bytes(numcodecs.compat.ensure_bytes(chunk))


def numcodecs_values(data: bytes, array: np.ndarray[Any, Any], order: Any, filters: Any, compressor: Any) -> Any:
    chunk: Any = data
    if compressor is not None:
        chunk = numcodecs.get_codec(dict(compressor)).decode(chunk)
    for configuration in reversed(filters or ()):
        chunk = numcodecs.get_codec(dict(configuration)).decode(chunk)
    flat = np.frombuffer(numcodecs.compat.ensure_bytes(chunk), array.dtype)
    return flat.reshape(array.shape, order=order)


def check_chunk(array: np.ndarray[Any, Any], order: Any, filters: Any, compressor: Any) -> tuple[Codec, ...]:
    codecs = from_v2(compressor, filters, dtype=array.dtype, order=order, ndim=array.ndim)
    # The array layer may bind to the native data type or to the stored one.
    for dtype in (array.dtype, array.dtype.newbyteorder("=")):
        chain = bind_chain(codecs, ChunkSpec(array.shape, dtype, np.zeros((), dtype)[()]))
        theirs = numcodecs_chunk(array, order, filters, compressor)
        expected = numcodecs_values(theirs, array, order, filters, compressor)
        decoded = chain.decode(theirs)
        assert decoded.shape == array.shape
        assert decoded.astype(array.dtype).tobytes() == expected.tobytes()
        ours = bytes(chain.encode(array.astype(dtype)))
        assert numcodecs_values(ours, array, order, filters, compressor).tobytes() == expected.tobytes()
    return codecs


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i4", ">f8", "|u1", "|V3", "<c8"])
def test_compressors(compressor: dict[str, Any] | None, order: str, dtype: str) -> None:
    array = values(dtype, (6, 5, 4)) if dtype != "|V3" else values("|u1", (6, 5, 12)).view("|V3")
    codecs = check_chunk(array, order, None, compressor)
    assert isinstance(codecs[0], Transpose) == (order == "F")


@pytest.mark.parametrize(("dtype", "filters"), FILTERS, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}, {"id": "blosc"}], ids=str)
def test_filters(dtype: str, filters: list[dict[str, Any]], order: str, compressor: dict[str, Any] | None) -> None:
    check_chunk(values(dtype, (6, 7)), order, filters, compressor)


def test_bitround() -> None:
    # Order C only: numcodecs itself loses order F, because it copies the chunk into order C on the way.
    check_chunk(values("<f4", (6, 7)), "C", [{"id": "bitround", "keepbits": 3}], {"id": "zlib"})
    big = from_v2(None, [{"id": "bitround", "keepbits": 3}], dtype=np.dtype(">f4"), order="F", ndim=2)
    chain = bind_chain(big, ChunkSpec((6, 7), np.dtype("<f4"), np.float32(0)))
    stored = values(">f4", (7, 6))
    assert np.array_equal(chain.decode(stored.tobytes()), stored.T)
    assert bytes(chain.encode(np.float32([[2**-7] * 7] * 6))) == np.full((7, 6), 2**-7, ">f4").tobytes()


@pytest.mark.parametrize("shape", [(), (5,)])
def test_order_f_of_few_dimensions_changes_nothing(shape: tuple[int, ...]) -> None:
    codecs = check_chunk(values("<i4", shape), "F", None, {"id": "zstd"})
    assert codecs == (Bytes(), Zstd())


def test_structs() -> None:
    assert check_chunk(values([("a", "<u2"), ("b", "<f4")], (4, 3)), "F", None, {"id": "zlib"})[1] == Bytes()
    mixed = values([("a", "<u2"), ("b", ">f4"), ("c", "S2")], (4, 3))
    codecs = check_chunk(mixed, "C", None, {"id": "blosc", "shuffle": 1})
    assert isinstance(codecs[0], StoredBytes)
    with pytest.raises(UnsupportedError, match="two"):
        codecs[0].to_json()
    assert to_v2(codecs, dtype=mixed.dtype, ndim=2)[2] == "C"


def test_native_codecs_are_used_where_the_bytes_are_the_same() -> None:
    def one(compressor: dict[str, Any]) -> Codec:
        return from_v2(compressor, None, dtype=np.dtype("<i4"), order="C", ndim=1)[-1]

    assert one({"id": "zstd"}) == Zstd()
    assert one({"id": "gzip"}) == Gzip(1)
    assert one({"id": "zlib"}) == Zlib(1)
    assert one({"id": "blosc"}) == Blosc("lz4", 5, "shuffle")
    assert one({"id": "blosc", "shuffle": -1}) == Blosc()
    assert one({"id": "crc32c"}) == Crc32c()


@pytest.mark.parametrize(
    ("compressor", "filters", "pointer"),
    [
        (3, None, "/compressor"),
        ({}, None, "/compressor/id"),
        ({"id": "zstd", "level": "x"}, None, "/compressor/level"),
        ({"id": "blosc", "shuffle": 7}, None, "/compressor/shuffle"),
        ({"id": "blosc", "speed": 7}, None, "/compressor"),
        (None, {"id": "delta"}, "/filters"),
        (None, [{"id": "delta", "dtype": "<i4"}, 5], "/filters/1"),
    ],
)
def test_wrong_metadata_points_at_the_place(compressor: Any, filters: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        from_v2(compressor, filters, dtype=np.dtype("<i4"), order="C", ndim=1)
    assert caught.value.pointer == pointer


def test_what_is_not_known_or_not_possible() -> None:
    arguments: dict[str, Any] = {"dtype": np.dtype("<i4"), "order": "C", "ndim": 1}
    with pytest.raises(UnknownExtensionError) as caught:
        from_v2({"id": "middle-out"}, None, **arguments)
    assert (caught.value.name, caught.value.pointer) == ("middle-out", "/compressor/id")
    with pytest.raises(UnsupportedError, match="unpickling"):
        from_v2(None, [{"id": "pickle"}], **arguments)
    with pytest.raises(MetadataError, match="text of variable length"):
        bind_chain(from_v2(None, [{"id": "vlen-utf8"}], **arguments), ChunkSpec((2,), np.dtype("<i4")))
    with pytest.raises(UnsupportedError, match="needs a filter that encodes them"):
        from_v2({"id": "zstd"}, None, dtype=np.dtype(object), order="C", ndim=1)
    with pytest.raises(UnsupportedError, match="behind"):
        from_v2(None, [{"id": "shuffle"}, {"id": "delta", "dtype": "<i4"}], **arguments)
    with pytest.raises(UnsupportedError, match="elements"):
        from_v2({"id": "delta", "dtype": "<i4"}, None, **arguments)


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
@pytest.mark.parametrize(("dtype", "filters"), [("<i4", None), *FILTERS], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_there_and_back(compressor: Any, dtype: str, filters: Any, order: Any) -> None:
    codecs = from_v2(compressor, filters, dtype=np.dtype(dtype), order=order, ndim=3)
    again = to_v2(codecs, dtype=np.dtype(dtype), ndim=3)
    assert again[2] == order
    # Where one stands (a last filter as the compressor, a checksum as a filter) makes no difference to the bytes.
    assert from_v2(again[0], again[1], dtype=np.dtype(dtype), order=order, ndim=3) == codecs
    if compressor and compressor["id"] not in ("crc32c",):
        assert again[0] == compressor


def test_chains_of_v3_as_v2() -> None:
    i4 = np.dtype("<i4")
    assert to_v2([Bytes(), Zstd(3)], dtype=i4, ndim=2) == ({"id": "zstd", "level": 3}, None, "C")
    assert to_v2([Transpose((1, 0)), Delta(), Bytes(), Crc32c()], dtype=i4, ndim=2) == (
        None,
        [{"id": "delta", "dtype": "<i4"}, {"id": "crc32c", "location": "end"}],
        "F",
    )
    assert to_v2([Bytes(), Blosc().with_defaults(Bytes().bind(ChunkSpec((2,), i4)).encoded)], dtype=i4, ndim=1)[0] == {
        "id": "blosc",
        "cname": "lz4",
        "clevel": 5,
        "shuffle": 1,
        "blocksize": 0,
    }
    assert to_v2([Bytes("big"), Lz4()], dtype=np.dtype(">i4"), ndim=1)[0] == {"id": "lz4"}


@pytest.mark.parametrize(
    ("codecs", "what"),
    [
        ([Bytes("big")], "'>i4'"),
        ([Transpose((0, 2, 1)), Bytes()], "transpose"),
        ([Delta(), Transpose((2, 1, 0)), Bytes()], "transpose"),
        ([Sharding((2, 2, 2), (Bytes(),))], "shards"),
    ],
)
def test_what_v2_cannot_say(codecs: list[Codec], what: str) -> None:
    with pytest.raises(UnsupportedError, match=what):
        to_v2(codecs, dtype=np.dtype("<i4"), ndim=3)
