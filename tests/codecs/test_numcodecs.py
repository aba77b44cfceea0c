"""The ``numcodecs.*`` codecs against numcodecs itself, and against what zarr-python writes with them."""

from __future__ import annotations

import warnings
from typing import Any

import numcodecs
import numpy as np
import pytest

from zarrdock.codecs.builtin import parse_codec, parse_codecs
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ByteSpec, ChunkSpec
from zarrdock.codecs.numcodecs_ import Bz2, Lz4, Lzma, Shuffle
from zarrdock.codecs.numcodecs_arrays import AsType, BitRound, Delta, FixedScaleOffset, PackBits, PCodec, Quantize, Zfpy
from zarrdock.errors import ChecksumError, CodecError, MetadataError, UnknownExtensionError

BYTES: list[dict[str, Any]] = [
    {"id": "adler32"},
    {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": -1, "blocksize": 0},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2},
    {"id": "bz2", "level": 2},
    {"id": "crc32"},
    {"id": "crc32", "location": "end"},
    {"id": "crc32c"},
    {"id": "crc32c", "location": "start"},
    {"id": "fletcher32"},
    {"id": "gzip", "level": 3},
    {"id": "jenkins_lookup3", "initval": 5},
    {"id": "lz4", "acceleration": 3},
    {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None},
    {"id": "lzma", "format": 3, "filters": [{"id": 3, "dist": 2}, {"id": 33, "preset": 1}]},
    {"id": "shuffle", "elementsize": 2},
    {"id": "zlib", "level": 4},
    {"id": "zstd", "level": 1, "checksum": True},
    {"id": "zstd"},
]

FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"id": "delta", "dtype": "<i4", "astype": "<i2"}, "<i4"),
    ({"id": "delta", "dtype": "<i8"}, "<M8[s]"),
    ({"id": "delta", "dtype": "<u2"}, "<i4"),
    ({"id": "bitround", "keepbits": 5}, "<f4"),
    ({"id": "fixedscaleoffset", "offset": 10, "scale": 2, "dtype": "<f8", "astype": "<i2"}, "<f8"),
    ({"id": "quantize", "digits": 1, "dtype": "<f8", "astype": "<f4"}, "<f8"),
    ({"id": "packbits"}, "|b1"),
    ({"id": "astype", "encode_dtype": "<f4", "decode_dtype": "<f8"}, "<f8"),
]


def named(configuration: dict[str, Any]) -> dict[str, Any]:
    members = dict(configuration)
    return {"name": f"numcodecs.{members.pop('id')}", "configuration": members}


def values(dtype: str, shape: tuple[int, ...] = (10, 7)) -> np.ndarray[Any, Any]:
    return (np.arange(np.prod(shape)) % 50).astype(dtype).reshape(shape)


@pytest.mark.parametrize("configuration", BYTES, ids=str)
@pytest.mark.parametrize("exact", [True, False])
def test_bytes_codecs_agree_with_numcodecs(configuration: dict[str, Any], exact: bool) -> None:
    array = values("<i2", (1000,))
    data = array.tobytes()
    theirs = numcodecs.get_codec(dict(configuration))
    bound: Any = parse_codec(named(configuration)).bind(ByteSpec(2000 if exact else None, 2000, 2))  # type: ignore[attr-defined]
    encoded = bound.encode(data)
    assert bytes(theirs.decode(bytes(encoded))) == data
    their_bytes = bytes(theirs.encode(array))
    for buffer in (their_bytes, bytearray(their_bytes), memoryview(their_bytes)):
        assert bytes(bound.decode(buffer)) == data
    out = bytearray(2000)
    if bound.decode_into(their_bytes, memoryview(out)):
        assert out == data


@pytest.mark.parametrize(("configuration", "dtype"), FILTERS, ids=str)
def test_filters_agree_with_numcodecs(configuration: dict[str, Any], dtype: str) -> None:
    array = values(dtype)
    theirs = numcodecs.get_codec(dict(configuration))
    bound: Any = parse_codec(named(configuration)).bind(
        ChunkSpec(array.shape, array.dtype, np.zeros((), array.dtype)[()])
    )  # type: ignore[attr-defined]
    for given in (array, np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))):
        encoded = bound.encode(given)
        assert encoded.shape == bound.encoded.shape
        assert encoded.dtype == bound.encoded.dtype
        assert encoded.tobytes() == np.asarray(theirs.encode(array)).tobytes()
    decoded = bound.decode(encoded)
    assert decoded.shape == array.shape
    assert decoded.dtype == array.dtype
    assert decoded.tobytes() == np.asarray(theirs.decode(np.asarray(theirs.encode(array)))).tobytes()


@pytest.mark.parametrize(
    ("codec", "dtype"),
    [
        (PCodec(), "<f4"),
        (PCodec(level=3), "<u2"),
        (Zfpy(mode=4, tolerance=1e-9), "<f8"),
        (Zfpy(mode=2, rate=40), "<i4"),
    ],
)
@pytest.mark.parametrize("shape", [(70,), (10, 7), (2, 5, 7)])
def test_number_compressors_agree_with_numcodecs(codec: Any, dtype: str, shape: tuple[int, ...]) -> None:
    array = values(dtype, shape)
    bound = codec.bind(ChunkSpec(shape, array.dtype))
    theirs = codec.implementation()
    encoded = bytes(bound.encode(np.asfortranarray(array)))
    assert encoded == bytes(theirs.encode(array))
    decoded = bound.decode(encoded)
    assert np.array_equal(decoded, np.asarray(theirs.decode(encoded)).reshape(shape))
    # zfp is lossy; for integers even at high rates.
    assert np.allclose(decoded, array, rtol=0, atol=8 if dtype == "<i4" else 1e-6)
    with pytest.raises(CodecError):
        codec.bind(ChunkSpec((3, *shape[1:]), array.dtype)).decode(encoded)
    with pytest.raises(CodecError):
        codec.bind(ChunkSpec(shape, np.dtype("<i8"))).decode(encoded)


def test_fill_values_are_encoded_where_elements_are() -> None:
    spec = ChunkSpec((4,), np.dtype("<f8"), np.float64(12.5))
    assert FixedScaleOffset(offset=10, scale=2, astype="<i2").bind(spec).encoded.fill_value == 5
    assert AsType(encode_dtype="<f4").bind(spec).encoded.fill_value == np.float32(12.5)
    assert Delta(dtype="<f8").bind(spec).encoded.fill_value == 12.5
    assert PackBits().bind(ChunkSpec((4,), np.dtype(bool), np.bool_(True))).encoded.fill_value == 0


@pytest.mark.parametrize(
    ("codec", "spec"),
    [
        (Delta(), ChunkSpec((2,), np.dtype(object))),
        (Delta(dtype="nonsense"), ChunkSpec((2,), np.dtype("i4"))),
        (Delta(dtype="<i8"), ChunkSpec((3,), np.dtype("i4"))),
        (Delta(dtype="<i4", digits=3), ChunkSpec((2,), np.dtype("i4"))),
        (AsType(), ChunkSpec((2,), np.dtype("i4"))),
        (Quantize(digits=1), ChunkSpec((2,), np.dtype("i4"))),
        (BitRound(), ChunkSpec((2,), np.dtype("f4"))),
        (BitRound(keepbits=3), ChunkSpec((2,), np.dtype("i4"))),
        (PackBits(), ChunkSpec((2,), np.dtype("u1"))),
        (PCodec(), ChunkSpec((2,), np.dtype("u1"))),
        (PCodec(nonsense=1), ChunkSpec((2,), np.dtype("u2"))),
        (Zfpy(mode=5), ChunkSpec((2, 2), np.dtype("f4"))),
        (Zfpy(), ChunkSpec((2, 2, 2, 2, 2), np.dtype("f4"))),
        (Lz4(speed=1), ByteSpec(4, 4)),
        (Bz2(acceleration=1), ByteSpec(4, 4)),
        (Lzma(format=7), ByteSpec(4, 4)),
        (Lzma(format=3), ByteSpec(4, 4)),
        (Shuffle(elementsize="4"), ByteSpec(4, 4)),
    ],
    ids=repr,
)
def test_what_cannot_work_is_said_when_binding(codec: Any, spec: Any) -> None:
    with pytest.raises(MetadataError):
        codec.bind(spec)


def test_damage_of_filters_and_checksums() -> None:
    packed = PackBits().bind(ChunkSpec((9,), np.dtype(bool)))
    with pytest.raises(CodecError, match="elements"):
        packed.decode(np.array([200, 0, 0], np.uint8))
    with pytest.raises(CodecError):
        BitRound(keepbits=99).bind(ChunkSpec((2,), np.dtype("f4"))).encode(np.zeros(2, "f4"))
    for name in ("crc32", "fletcher32", "jenkins_lookup3"):
        bound: Any = parse_codec(f"numcodecs.{name}").bind(ByteSpec(8, 8))  # type: ignore[attr-defined]
        with pytest.raises(ChecksumError):
            bound.decode(bytes(bound.encode(b"12345678"))[:-1] + b"\xff")


@pytest.mark.peer
@pytest.mark.parametrize(
    ("filters", "serializer", "compressors", "dtype"),
    [
        ([], None, [c], "int16")
        for c in BYTES
        # numcodecs' older settings that zarr-python's wrappers do not pass through
        if c["id"] != "shuffle"
    ]
    + [([f], None, [{"id": "zstd"}], d) for f, d in FILTERS if f.get("dtype") != "<u2" and f.get("astype") != "<f4"]
    + [([], {"id": "pcodec"}, [], "float32"), ([], {"id": "zfpy", "mode": 4, "tolerance": 1e-3}, [], "float64")],
    ids=str,
)
def test_what_zarr_python_writes_is_read(
    filters: list[dict[str, Any]], serializer: dict[str, Any] | None, compressors: list[dict[str, Any]], dtype: str
) -> None:
    zarr = pytest.importorskip("zarr")
    from zarr.registry import get_codec_class

    def theirs(configuration: dict[str, Any]) -> Any:
        document = named(configuration)
        return get_codec_class(document["name"]).from_dict(document)

    array = values(dtype)
    store: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python warns of names that are not in the specification
        written = zarr.create_array(
            zarr.storage.MemoryStore(store),
            shape=array.shape,
            chunks=array.shape,
            dtype=array.dtype,
            filters=[theirs(c) for c in filters],
            serializer=theirs(serializer) if serializer else "auto",
            compressors=[theirs(c) for c in compressors],
        )
        written[...] = array
        expected = written[...]
    codecs = parse_codecs(written.metadata.to_dict()["codecs"])
    chain = bind_chain(codecs, ChunkSpec(array.shape, array.dtype, np.zeros((), array.dtype)[()]))
    decoded = chain.decode(store["c/0/0"].to_bytes())
    assert np.array_equal(decoded, expected)


def test_a_codec_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(numcodecs.registry.codec_registry, "pcodec")
    with pytest.raises(UnknownExtensionError, match=r"zarrdock\[codecs\]"):
        PCodec().bind(ChunkSpec((2,), np.dtype("f4")))
