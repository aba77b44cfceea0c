"""Every codec in both forms: v2 metadata said in v3 and back, v3's in v2 and back, or an error that says why.

What is compared is not only the metadata: chunks that one form wrote must decode the same in the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zarrdock
from zarrdock.codecs.builtin import CODECS, codecs_to_json, parse_codec, parse_codecs
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, ChunkSpec
from zarrdock.codecs.v2_codecs import from_v2, to_v2, to_v3
from zarrdock.errors import UnsupportedError

SHAPE = (4, 6)

# numcodecs' configurations: as filters or as compressors, for arrays of a dtype; with all members, in numcodecs' order
# of preference, so that they can be compared.
FILTERS: list[tuple[str, dict[str, Any]]] = [
    ("<i4", {"id": "delta", "dtype": "<i4", "astype": "<i2"}),
    (">i4", {"id": "delta", "dtype": ">i4", "astype": ">i2"}),
    (">f8", {"id": "fixedscaleoffset", "offset": 1.0, "scale": 10.0, "dtype": ">f8", "astype": ">i2"}),
    ("<f4", {"id": "quantize", "digits": 2, "dtype": "<f4", "astype": "<f4"}),
    (">f8", {"id": "quantize", "digits": 2, "dtype": ">f8", "astype": ">f4"}),
    (">f4", {"id": "astype", "encode_dtype": ">f8", "decode_dtype": ">f4"}),
    ("<i8", {"id": "astype", "encode_dtype": "<i2", "decode_dtype": "<i8"}),
    ("<f4", {"id": "bitround", "keepbits": 5}),
    ("|b1", {"id": "packbits"}),
    ("<M8[s]", {"id": "delta", "dtype": "<i8"}),
    ("<u2", {"id": "shuffle", "elementsize": 2}),
    (">u2", {"id": "crc32"}),
    ("<u2", {"id": "crc32c", "location": "end"}),
    ("<u2", {"id": "crc32c", "location": "start"}),
    ("<u2", {"id": "adler32"}),
    ("<u2", {"id": "fletcher32"}),
    ("<u2", {"id": "jenkins_lookup3", "initval": 5, "prefix": None}),
]
COMPRESSORS: list[dict[str, Any]] = [
    {"id": "zlib", "level": 2},
    {"id": "gzip", "level": 2},
    {"id": "zstd", "level": 3},
    {"id": "zstd", "level": 3, "checksum": True},
    {"id": "lz4", "acceleration": 2},
    {"id": "bz2", "level": 2},
    {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 256},
    {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 0, "blocksize": 0},
]
NUMBERS: list[dict[str, Any]] = [{"id": "pcodec", "level": 8}, {"id": "zfpy", "mode": 4, "tolerance": 0.001}]
TEXT: list[dict[str, Any]] = [{"id": "vlen-utf8"}, {"id": "vlen-bytes"}]
ONLY_V2: list[dict[str, Any]] = [
    {"id": "base64"},
    {"id": "json2"},
    {"id": "msgpack2"},
    {"id": "vlen-array", "dtype": "<i4"},
    {"id": "categorize", "labels": ["a"], "dtype": "|O"},
]


def values(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "T":
        return np.array([f"text {i}" * (i % 3) for i in range(24)], dtype).reshape(SHAPE)
    if dtype.kind == "O":
        return np.array([b"x" * i for i in range(24)], object).reshape(SHAPE)
    return (np.arange(24) % 7).astype(dtype).reshape(SHAPE)


def bound(codecs: Any, dtype: np.dtype[Any]) -> BoundChain:
    fill = {"T": "", "O": b""}.get(dtype.kind, np.zeros((), dtype)[()] if dtype.kind not in "TO" else None)
    return bind_chain(tuple(codecs), ChunkSpec(SHAPE, dtype, fill))


def same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one.astype(other.dtype), other))


def there_and_back(compressor: Any, filters: Any, dtype: Any, order: Any) -> None:
    stored = np.dtype(dtype) if isinstance(dtype, str) else dtype
    in_v2 = from_v2(compressor, filters, dtype=stored, order=order, ndim=2)
    in_v3 = parse_codecs(codecs_to_json(to_v3(in_v2, dtype=stored, chunk_shape=SHAPE)))
    native = stored.newbyteorder("=") if stored.kind not in "TO" else stored
    old, new = bound(in_v2, native), bound(in_v3, native)
    array = values(native)
    written = bytes(old.encode(array))
    assert same(new.decode(written), old.decode(written))
    assert same(old.decode(bytes(new.encode(array))), old.decode(written))
    again = to_v2(in_v3, dtype=stored, ndim=2)
    assert again[2] == order
    back = from_v2(again[0], again[1], dtype=stored, order=order, ndim=2)
    assert same(bound(back, native).decode(written), old.decode(written))
    # Said once more, nothing changes.
    assert codecs_to_json(to_v3(back, dtype=stored, chunk_shape=SHAPE)) == codecs_to_json(in_v3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("dtype", "filter_"), FILTERS, ids=str)
@pytest.mark.parametrize("compressor", [None, {"id": "zstd", "level": 1}], ids=["plain", "zstd"])
def test_filters(dtype: str, filter_: dict[str, Any], compressor: Any, order: str) -> None:
    there_and_back(compressor, [filter_], dtype, order)


@pytest.mark.parametrize(("dtype", "filter_"), FILTERS, ids=str)
def test_a_copy_to_v3_has_the_elements(dtype: str, filter_: dict[str, Any]) -> None:
    source = zarrdock.create_array({}, data=values(np.dtype(dtype)), filters=[filter_], zarr_format=2)
    copied = zarrdock.copy(source, {}, zarr_format=3)
    np.testing.assert_array_equal(copied[...], source[...])


@pytest.mark.parametrize(("dtype", "filter_"), FILTERS[:7], ids=str)
@pytest.mark.parametrize("endian", ["little", "big"])
def test_a_byte_order_in_a_filter_of_v3_does_not_change_numbers(
    dtype: str, filter_: dict[str, Any], endian: str
) -> None:
    """zarr-python notes the byte order of the array that it was given; a v3 array has none."""
    native = np.dtype(dtype).newbyteorder("=")
    configuration = {name: value for name, value in filter_.items() if name != "id"}
    json = [
        {"name": f"numcodecs.{filter_['id']}", "configuration": configuration},
        {"name": "bytes", "configuration": {"endian": endian}},
    ]
    swapped = {
        name: np.dtype(value).newbyteorder("S").str if "type" in name else value
        for name, value in configuration.items()
    }
    other = [{**json[0], "configuration": swapped}, json[1]]
    one, two = bound(parse_codecs(json), native), bound(parse_codecs(other), native)
    written = bytes(one.encode(values(native)))
    assert bytes(two.encode(values(native))) == written
    assert same(two.decode(written), one.decode(written))
    # In v2 the bytes of such elements would be seen as others, and that has no form in v3.
    chain = from_v2(None, [{"id": filter_["id"], **swapped}], dtype=np.dtype(dtype), order="C", ndim=2)
    with pytest.raises(UnsupportedError, match="own byte order"):
        to_v3(chain, dtype=np.dtype(dtype), chunk_shape=SHAPE)


@pytest.mark.parametrize("dtype", ["<i4", ">f8", "|u1", "|S3", "<c8"])
@pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
def test_compressors(dtype: str, compressor: dict[str, Any]) -> None:
    there_and_back(compressor, None, dtype, "C")
    stored = np.dtype(dtype)
    chain = to_v3(from_v2(compressor, None, dtype=stored, order="F", ndim=2), dtype=stored, chunk_shape=SHAPE)
    assert to_v2(chain, dtype=stored, ndim=2) == (compressor, None, "F")


@pytest.mark.parametrize("compressor", NUMBERS, ids=str)
def test_compressors_of_numbers(compressor: dict[str, Any]) -> None:
    there_and_back(compressor, None, "<f4", "C")


@pytest.mark.parametrize("filter_", TEXT, ids=str)
@pytest.mark.parametrize("compressor", [None, *COMPRESSORS[:8]], ids=str)
def test_text(filter_: dict[str, Any], compressor: Any) -> None:
    dtype: Any = np.dtypes.StringDType() if filter_["id"] == "vlen-utf8" else np.dtype(object)
    there_and_back(compressor, [filter_], dtype, "F")
    chain = from_v2(compressor, [filter_], dtype=dtype, order="C", ndim=2)
    assert to_v2(chain, dtype=dtype, ndim=2)[:2] == (compressor, [filter_])


@pytest.mark.parametrize("filter_", ONLY_V2, ids=str)
def test_what_only_v2_has(filter_: dict[str, Any]) -> None:
    dtype = np.dtype("|u1") if filter_["id"] == "base64" else np.dtype(object)
    chain = from_v2(None, [filter_], dtype=dtype, order="C", ndim=2)
    with pytest.raises(UnsupportedError, match=filter_["id"]):
        to_v3(chain, dtype=dtype, chunk_shape=SHAPE)
    with pytest.raises(UnsupportedError, match=filter_["id"]):
        codecs_to_json(chain)
    # In v2 it stays what it was.
    assert to_v2(chain, dtype=dtype, ndim=2)[1][0]["id"] == filter_["id"]  # type: ignore[index]


def test_bytes_seen_as_another_type_in_the_wrong_order() -> None:
    chain = from_v2(None, [{"id": "delta", "dtype": "<i4"}], dtype=np.dtype(">i4"), order="C", ndim=2)
    with pytest.raises(UnsupportedError, match="own byte order"):
        to_v3(chain, dtype=np.dtype(">i4"), chunk_shape=SHAPE)
    mixed = np.dtype([("a", "<u2"), ("b", ">f4")])
    with pytest.raises(UnsupportedError, match="one byte order"):
        to_v3(from_v2(None, None, dtype=mixed, order="C", ndim=2), dtype=mixed, chunk_shape=SHAPE)


# -- from v3 ----------------------------------------------------------------------------------------------------------

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def cast(data_type: str, **configuration: Any) -> dict[str, Any]:
    return {"name": "cast_value", "configuration": {"data_type": data_type, **configuration}}


SCALED = {"name": "scale_offset", "configuration": {"offset": 3, "scale": 7.3}}
SAME: list[tuple[str, list[Any]]] = [
    ("<f4", [{"name": "bitround", "configuration": {"keepbits": 7}}, BYTES]),
    ("<f8", [SCALED, cast("int32", out_of_range="wrap"), BYTES]),
    (">f8", [SCALED, cast("int16", out_of_range="wrap"), {"name": "bytes", "configuration": {"endian": "big"}}]),
    ("<i8", [cast("int16", out_of_range="wrap"), BYTES]),
    ("<i2", [cast("uint8", out_of_range="wrap"), "bytes"]),
    ("<f8", [cast("float32", out_of_range="clamp"), BYTES]),
    ("<f4", [cast("float64", out_of_range="clamp"), BYTES, "crc32c"]),
]


@pytest.mark.parametrize(("dtype", "json"), SAME, ids=str)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_codecs_of_the_registry_that_numcodecs_has(dtype: str, json: list[Any], data: st.DataObject) -> None:
    stored = np.dtype(dtype)
    native = stored.newbyteorder("=")
    elements: Any = None
    if native.kind == "f":
        elements = st.floats(-1000, 1000, width=8 * native.itemsize)
    array = data.draw(hnp.arrays(native, SHAPE, elements=elements))
    in_v3 = parse_codecs(json)
    compressor, filters, order = to_v2(in_v3, dtype=stored, ndim=2)
    in_v2 = from_v2(compressor, filters, dtype=stored, order=order, ndim=2)
    new, old = bound(in_v3, native), bound(in_v2, native)
    written = bytes(new.encode(array))
    assert bytes(old.encode(array)) == written
    assert new.decode(written).tobytes() == old.decode(written).astype(native).tobytes()


NOT_IN_V2: list[tuple[str, list[Any], str]] = [
    ("<i4", [{"name": "bitround", "configuration": {"keepbits": 7}}, BYTES], "floats"),
    ("<f4", [{"name": "bitround", "configuration": {"keepbits": 24}}, BYTES], "mantissa"),
    ("|b1", ["packbits"], "highest bit"),
    ("<f4", [{"name": "reshape", "configuration": {"shape": [-1]}}, BYTES], "shape"),
    ("<f4", [SCALED, BYTES], "rounds"),
    ("<f4", [SCALED, cast("int16", out_of_range="wrap"), BYTES], "float64"),
    ("<f8", [SCALED, cast("int16"), BYTES], "wrapping"),
    ("<f8", [SCALED, {"name": "reshape", "configuration": {"shape": [-1]}}, BYTES], "scale_offset"),
    ("<f8", [cast("int16", out_of_range="wrap"), BYTES], "truncates"),
    ("<i4", [cast("int16"), BYTES], "wrap"),
    ("<f8", [cast("float32"), BYTES], "clamp"),
    ("<f8", [cast("float32", out_of_range="clamp", scalar_map={"encode": [["NaN", 0]]}), BYTES], "cast_value"),
    ("<i4", [cast("int4", out_of_range="wrap"), BYTES], "cast_value"),
    ("<i4", [BYTES, {"name": "conditional", "configuration": {"codecs": ["crc32c"]}}], "chunk to chunk"),
    ("<i4", [{"name": "transpose", "configuration": {"order": [0, 1]}}, BYTES], ""),
]


@pytest.mark.parametrize(("dtype", "json", "why"), NOT_IN_V2, ids=str)
def test_what_v2_cannot_say_is_explained(dtype: str, json: list[Any], why: str) -> None:
    codecs = parse_codecs(json)
    if not why:
        assert to_v2(codecs, dtype=np.dtype(dtype), ndim=2) == (None, None, "C")
        return
    with pytest.raises(UnsupportedError, match=why):
        to_v2(codecs, dtype=np.dtype(dtype), ndim=2)


def test_no_codec_was_forgotten() -> None:
    """Every built-in name stands in one of the lists of this file."""
    listed = {f["id"] for _, f in FILTERS} | {c["id"] for c in [*COMPRESSORS, *NUMBERS, *TEXT, *ONLY_V2]} | {"pickle"}
    v3 = {"bytes", "endian", "transpose", "sharding_indexed", "zfp", "n5_default"}
    v3 |= {parse_codec(codec).name for _, json, *_ in [*SAME, *NOT_IN_V2] for codec in json}
    names = {name.removeprefix("numcodecs.") if name.startswith("numcodecs.") else name for name in CODECS._builtin}
    assert names - listed - v3 == set()


def test_kinds() -> None:
    for name in ("bitround", "reshape", "scale_offset", "cast_value", "transpose"):
        assert issubclass(CODECS.get(name), ArrayArrayCodec)  # type: ignore[arg-type]
    for name in ("packbits", "vlen-utf8", "vlen-bytes", "bytes"):
        assert issubclass(CODECS.get(name), ArrayBytesCodec)  # type: ignore[arg-type]
