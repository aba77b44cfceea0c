"""Values, bytes and shapes that the Zarr extension registry documents (metadata: ``test_registry_documents.py``)."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.dtypes.dtype import parse_data_type
from zarrdock.array.metadata.chunk_grids import RectilinearGrid, parse_chunk_grid
from zarrdock.array.planning.overlap import Division
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import MetadataError

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def document(codecs: Any, *, data_type: Any = "float32", shape: Any = (4,), fill_value: Any = 0) -> dict[str, Any]:
    """The rest of what an example leaves out."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": fill_value,
        "codecs": codecs,
    }


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


def stored(codecs: Any, values: Any, **more: Any) -> bytes:
    """The one chunk of an array with these values."""
    values = np.asarray(values)
    store = zarrdock.MemoryStore()
    metadata = document(codecs, shape=values.shape, **more)
    store.write("zarr.json", json.dumps(metadata).encode())
    zarrdock.open_array(store, mode="r+", options={"write_empty_chunks": True})[...] = values
    key = "/".join(["c", *("0" for _ in values.shape)])
    return bytes(store.get(key).data)  # type: ignore[union-attr]


def decoded(codecs: Any, data: bytes, shape: tuple[int, ...], **more: Any) -> Any:
    store = zarrdock.MemoryStore()
    store.write("zarr.json", json.dumps(document(codecs, shape=shape, **more)).encode())
    store.write("/".join(["c", *("0" for _ in shape)]), data)
    return zarrdock.open_array(store)[...]


# -- documented values ------------------------------------------------------------------------------------------------


def test_bitround_sample_data() -> None:
    floats = np.array([0.0, 0.1, 1.2, 12.3, 123.4, 1234.5, np.nan, np.inf, -np.inf], "f4")
    rounded = np.array([0.0, 0.1015625, 1.25, 12.0, 120.0, 1280.0, np.nan, np.inf, -np.inf], "f4")
    codecs = [codec("bitround", keepbits=3), LITTLE]
    data = stored(codecs, floats)
    assert decoded(codecs, data, floats.shape).tobytes() == rounded.tobytes()
    # The documented bits, in the file's little-endian order: sign, exponent, mantissa.
    assert f"{int.from_bytes(data[4:8], 'little'):032b}" == "0" + "01111011" + "10100000000000000000000"
    assert f"{int.from_bytes(data[20:24], 'little'):032b}" == "0" + "10001001" + "01000000000000000000000"
    bytes_ = np.array([0, 1, 10, 11, 100, 123, 200, 208, 209, 255], "u1")
    expected = [0, 1, 10, 12, 96, 128, 192, 192, 224, 224]
    codecs = [codec("bitround", keepbits=3), "bytes"]
    data = stored(codecs, bytes_, data_type="uint8")
    assert decoded(codecs, data, bytes_.shape, data_type="uint8").tolist() == expected


def test_cast_value_example() -> None:
    codecs = [codec("cast_value", data_type="uint8", rounding="towards-zero", out_of_range="clamp"), "bytes"]
    assert stored(codecs, np.array([1.7, -3.2, 300, 254.9], "f4")) == bytes([1, 0, 255, 254])


def test_scale_offset_example() -> None:
    codecs = [codec("scale_offset", offset=5, scale=0.1), LITTLE]
    values = np.array([5, 15, 25, -5], "f4")
    data = np.frombuffer(stored(codecs, values), "<f4")
    np.testing.assert_allclose(data, [0, 1, 2, -1], rtol=1e-6)
    np.testing.assert_allclose(decoded(codecs, data.tobytes(), (4,)), values, rtol=1e-6)


def test_fixedscaleoffset_is_what_it_is_converted_to() -> None:
    values = np.array([10, 30, 50, 400], "f4")
    old, new = (
        stored(codecs, values)
        for codecs in (
            [codec("numcodecs.fixedscaleoffset", astype="uint8", dtype="float32", scale=0.1, offset=10), "bytes"],
            [
                codec("scale_offset", scale=0.1, offset=10),
                codec("cast_value", data_type="uint8", out_of_range="wrap"),
                "bytes",
            ],
        )
    )
    assert old == new == bytes([0, 2, 4, 39])


def test_reshape_example() -> None:
    found: Any = parse_codec(codec("reshape", shape=[[0, 1], [2], 3]), "")
    bound = found.bind(ChunkSpec((100, 50, 64, 3), np.dtype("f4"), np.float32(0)))  # type: ignore[attr-defined]
    assert bound.encoded.shape == (5000, 64, 3)


def test_index_of_the_sharding_example() -> None:
    sharding = parse_codec(
        codec("sharding_indexed", chunk_shape=[32, 32], codecs=[LITTLE], index_codecs=[LITTLE, {"name": "crc32c"}]),
        "",
    )
    assert isinstance(sharding, Sharding)
    bound = sharding.bind(ChunkSpec((64, 64), np.dtype("f4"), np.float32(0)))
    assert bound.layout.nbytes == 68


def test_text_of_any_length_is_counted_and_measured() -> None:
    data = bytes.fromhex("02000000010000006102000000") + "é".encode()
    assert stored([codec("vlen-utf8")], np.array(["a", "é"], "T"), data_type="string", fill_value="") == data
    values = np.array([b"a", "é".encode()], object)
    assert stored([codec("vlen-bytes")], values, data_type="bytes", fill_value="") == data


@pytest.mark.parametrize(
    ("data_type", "value", "data"),
    [
        (codec("fixed_length_utf32", length_bytes=12), "Hi", "480000006900000000000000"),
        (codec("null_terminated_bytes", length_bytes=5), b"Hi", "4869000000"),
    ],
)
def test_bytes_of_a_scalar(data_type: Any, value: Any, data: str) -> None:
    values = np.array([value], parse_data_type(data_type).numpy)
    assert stored([LITTLE], values, data_type=data_type, fill_value="").hex() == data
    assert decoded([LITTLE], bytes.fromhex(data), (1,), data_type=data_type, fill_value="").tolist() == [value]


@pytest.mark.parametrize(
    ("data_type", "json_value", "value"),
    [
        (codec("fixed_length_utf32", length_bytes=48), "foo", "foo"),
        (codec("null_terminated_bytes", length_bytes=10), "SGk=", b"Hi"),
        (codec("null_terminated_bytes", length_bytes=10), "", b""),
    ],
)
def test_scalars_as_json(data_type: Any, json_value: str, value: Any) -> None:
    found = parse_data_type(data_type)
    scalar = found.parse_fill(json_value)
    assert scalar == value
    assert found.fill_to_json(scalar) == json_value


@pytest.mark.parametrize("name", ["numpy.datetime64", "numpy.timedelta64"])
def test_not_a_time_has_two_forms(name: str) -> None:
    found = parse_data_type(codec(name, unit="us", scale_factor=10))
    assert found.numpy == np.dtype(f"{name[6:]}[10us]")
    assert np.isnat(found.parse_fill("NaT"))
    assert np.isnat(found.parse_fill(-(2**63)))
    if name == "numpy.datetime64":
        ten_seconds = parse_data_type(codec(name, unit="s", scale_factor=10)).parse_fill(1)
        assert str(ten_seconds) == "1970-01-01T00:00:10"


POINT = [{"name": "x", "data_type": "float32"}, {"name": "y", "data_type": "float32"}]
STRUCTS = [
    (
        [("id", "int32"), ("flags", "uint8"), ("value", "float64")],
        {"id": 0, "flags": 4, "value": 5},
        13,
    ),
    ([("point", codec("struct", fields=POINT)), ("value", "float64")], {"point": 0, "value": 8}, 16),
    (
        [("timestamp", codec("numpy.datetime64", unit="s", scale_factor=1)), ("value", "float32")],
        {"timestamp": 0, "value": 8},
        12,
    ),
]


@pytest.mark.parametrize("name", ["struct", "structured"])
@pytest.mark.parametrize(("fields", "offsets", "size"), STRUCTS)
def test_fields_of_a_struct_lie_where_documented(name: str, fields: Any, offsets: dict[str, int], size: int) -> None:
    given = [{"name": n, "data_type": t} for n, t in fields] if name == "struct" else [[n, t] for n, t in fields]
    dtype = parse_data_type(codec(name, fields=given)).numpy
    assert dtype.itemsize == size
    assert dtype.fields is not None
    assert {field: place[1] for field, place in dtype.fields.items()} == offsets


def test_fill_values_of_structs() -> None:
    point = parse_data_type(codec("struct", fields=POINT))
    scalar = point.parse_fill({"x": 1.23, "y": 4.56})
    assert scalar.tolist() == tuple(np.array([1.23, 4.56], "f4").tolist())
    nested = parse_data_type(
        codec(
            "struct",
            fields=[
                {"name": "point", "data_type": codec("struct", fields=POINT)},
                {"name": "value", "data_type": "float64"},
            ],
        )
    )
    json_value = {"point": {"x": 1.0, "y": 2.0}, "value": 3.14}
    assert nested.fill_to_json(nested.parse_fill(json_value)) == json_value
    old = parse_data_type(codec("structured", fields=[["x", "float32"], ["y", "float32"]]))
    assert old.parse_fill("AAAAAAAAAAA=").tobytes() == base64.b64decode("AAAAAAAAAAA=") == bytes(8)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bfloat16", 0x7FC0),
        ("float8_e3m4", 0x78),
        ("float8_e4m3", 0x7C),
        ("float8_e5m2", 0x7E),
        ("float8_e4m3b11fnuz", 0x80),
        ("float8_e4m3fnuz", 0x80),
        ("float8_e5m2fnuz", 0x80),
        ("float8_e8m0fnu", 0xFF),
    ],
)
def test_not_a_number_has_the_documented_bits(name: str, bits: int) -> None:
    found = parse_data_type(name)
    assert int.from_bytes(found.parse_fill("NaN").tobytes(), "little") == bits
    if name.endswith(("fnuz", "fnu")):
        for infinity in ("Infinity", "-Infinity"):
            with pytest.raises(MetadataError):
                found.parse_fill(infinity)


def test_float4_has_neither() -> None:
    for value in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(MetadataError):
            parse_data_type("float4_e2m1fn").parse_fill(value)


# -- grids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "lengths"),
    [
        (4, (4, 2)),
        ([1, 2, 3], (1, 2, 3)),
        ([[4, 2]], (4, 2)),
        ([[1, 3], 3], (1, 1, 1, 3)),
        ([4, 4, 4], (4, 2)),
        ([[2, 3]], (2, 2, 2)),
        ([[1, 6]], (1, 1, 1, 1, 1, 1)),
        ([1, [2, 1], 3], (1, 2, 3)),
        ([6], (6,)),
    ],
)
def test_lengths_of_rectilinear_chunks(axis: Any, lengths: tuple[int, ...]) -> None:
    grid = parse_chunk_grid(codec("rectilinear", kind="inline", chunk_shapes=[axis]))
    grid.check((6,), "")
    assert grid.lengths((6,)) == (lengths,)
    assert parse_chunk_grid(grid.to_json()) == grid


def test_where_an_index_lies_in_a_rectilinear_grid() -> None:
    division = Division.of(RectilinearGrid.of([[24, 14], [16, 10]]), (38, 26))
    position = np.array([[36, 15]])
    owner = division.owners(position)
    assert owner.tolist() == [[1, 0]]
    assert (position - division.starts(owner)).tolist() == [[12, 15]]
    with pytest.raises(MetadataError, match="cover"):
        RectilinearGrid.of([[24, 13], [16, 10]]).check((38, 26), "")
