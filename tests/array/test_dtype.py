"""Data types and fill values: names, numpy dtypes, and every bit kept."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.array.dtypes.dtype import DATA_TYPES, DataType, data_type_of, parse_data_type
from zarrdock.array.dtypes.raw import RawBits
from zarrdock.array.dtypes.v2_dtypes import parse_data_type_v2
from zarrdock.errors import MetadataError, UnknownExtensionError

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
NAMES = ["bool", *INTEGERS, *FLOATS, *COMPLEX, "r8", "r24", "r128"]


def bits(scalar: Any) -> bytes:
    return np.asarray(scalar).tobytes()


def scalar_of(dtype: np.dtype[Any], data: bytes) -> Any:
    return np.frombuffer(data, dtype)[0]


@st.composite
def elements(draw: st.DrawFn) -> tuple[DataType, bytes]:
    """A data type and the bytes of any element of it."""
    data_type = parse_data_type(draw(st.sampled_from(NAMES)))
    size = data_type.numpy.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return data_type, bytes([data[0] & 1]) if data_type.name == "bool" else data


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_its_own_metadata(name: str) -> None:
    data_type = parse_data_type(name)
    assert data_type.name == data_type.to_json() == name
    assert data_type.numpy.isnative
    assert parse_data_type({"name": name}) == parse_data_type({"name": name, "configuration": {}}) == data_type
    assert data_type_of(name) == data_type_of(data_type) == data_type
    assert data_type_of(data_type.numpy).numpy == data_type.numpy
    assert bits(data_type.default_fill()) == bytes(data_type.numpy.itemsize)


@pytest.mark.parametrize("name", NAMES[:-3])
def test_numpy_says_the_same(name: str) -> None:
    assert parse_data_type(name).numpy == np.dtype(name)
    assert data_type_of(np.dtype(name)) == parse_data_type(name)


@given(elements())
def test_every_element_survives_as_a_fill_value(element: tuple[DataType, bytes]) -> None:
    data_type, data = element
    scalar = scalar_of(data_type.numpy, data)
    json = data_type.fill_to_json(scalar)
    assert bits(data_type.parse_fill(json)) == data
    assert bits(data_type.cast_fill(scalar)) == data
    assert type(data_type.parse_fill(json)) is type(scalar)


@given(elements())
def test_every_element_but_payloads_survives_in_v2(element: tuple[DataType, bytes]) -> None:
    data_type, data = element
    scalar = scalar_of(data_type.numpy, data)
    back = data_type.parse_fill_v2(data_type.fill_to_json_v2(scalar))
    if data_type.numpy.kind in "fc":
        assert str(back) == str(scalar).replace("-nan", "nan")
    else:
        assert bits(back) == data


@given(elements())
def test_v2_keeps_the_byte_order_and_gives_native_scalars(element: tuple[DataType, bytes]) -> None:
    data_type, data = element
    swapped = data_type.numpy.newbyteorder("S")
    big = parse_data_type_v2(swapped.str)
    assert big.numpy == swapped
    assert big.name == ("raw_bytes" if swapped.kind == "V" else data_type.name)
    scalar = scalar_of(data_type.numpy, data)
    assert bits(big.parse_fill(data_type.fill_to_json(scalar))) == data
    assert big.to_json_v2() == swapped.str


@pytest.mark.parametrize(
    ("name", "json", "expected"),
    [
        ("float32", "0x7fc00001", "0100c07f"),
        ("float32", "NaN", "0000c07f"),
        ("float32", "0x7fc00000", "0000c07f"),
        ("float32", "0xFFFFFFFF", "ffffffff"),
        ("float32", "0x1", "01000000"),
        ("float32", "-Infinity", "000080ff"),
        ("float16", "NaN", "007e"),
        ("float64", "NaN", "000000000000f87f"),
        ("float64", "0xfff8000000000001", "010000000000f8ff"),
        ("float64", -0.0, "0000000000000080"),
        ("float64", 1, "000000000000f03f"),
        ("float64", math.nan, "000000000000f87f"),
        ("float32", 1e39, "0000807f"),
        ("complex64", ["0x7f800001", "-Infinity"], "0100807f000080ff"),
        ("complex64", [1, -0.0], "0000803f00000080"),
        ("bool", True, "01"),
        ("int8", -128, "80"),
        ("uint64", 2**64 - 1, "ffffffffffffffff"),
        ("r24", [1, 2, 255], "0102ff"),
        ("r24", "AQL/", "0102ff"),
    ],
)
def test_fill_values_of_v3(name: str, json: Any, expected: str) -> None:
    data_type = parse_data_type(name)
    little = data_type.parse_fill(json)
    assert np.asarray(little, data_type.numpy.newbyteorder("<")).tobytes() == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("name", "json", "pointer"),
    [
        ("bool", 1, ""),
        ("bool", "true", ""),
        ("bool", None, ""),
        ("int8", 128, ""),
        ("int8", -129, ""),
        ("int8", True, ""),
        ("int8", 1.0, ""),
        ("int8", "1", ""),
        ("uint8", -1, ""),
        ("uint64", 2**64, ""),
        ("float32", None, ""),
        ("float32", True, ""),
        ("float32", "nan", ""),
        ("float32", "0x", ""),
        ("float32", "0x7fc000010", ""),
        ("float32", "0xgg", ""),
        ("float32", 10**400, ""),
        ("float32", [1], ""),
        ("complex64", 1, ""),
        ("complex64", [1], ""),
        ("complex64", [1, 2, 3], ""),
        ("complex64", [1, None], "/1"),
        ("complex64", ["x", 1], "/0"),
        ("complex64", [1, "0x1122334455"], "/1"),
        ("r16", [1], ""),
        ("r16", [1, 256], "/1"),
        ("r16", [True, 1], "/0"),
        ("r16", "AQ==", ""),
        ("r16", "A*I=", ""),
        ("r16", "é", ""),
        ("r16", 7, ""),
    ],
)
def test_what_is_not_a_fill_value(name: str, json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(name).parse_fill(json, "/fill_value")
    assert caught.value.pointer == f"/fill_value{pointer}"
    assert caught.value.expected
    assert caught.value.found == (json if not pointer else json[int(pointer[1:])])


@pytest.mark.parametrize(
    ("dtype", "json", "expected"),
    [
        ("|b1", 0, False),
        ("|b1", 1.0, True),
        ("<i4", 3.0, 3),
        (">i4", -3, -3),
        ("<f4", "NaN", math.nan),
        (">f8", "-Infinity", -math.inf),
        (">f8", math.inf, math.inf),
        ("<c8", [1, "NaN"], complex(1, math.nan)),
        ("<c8", 0, 0),
    ],
)
def test_fill_values_of_v2(dtype: str, json: Any, expected: Any) -> None:
    scalar = parse_data_type_v2(dtype).parse_fill_v2(json)
    np.testing.assert_equal(scalar, expected)
    assert scalar.dtype == np.dtype(dtype).newbyteorder("=")


def test_v2_pads_raw_bytes_as_numpy_does() -> None:
    raw = parse_data_type_v2("|V3")
    assert bits(raw.parse_fill_v2("AQI=")) == b"\1\2\0"
    assert raw.fill_to_json_v2(raw.parse_fill_v2("AQI=")) == "AQIA"


@pytest.mark.parametrize(
    ("dtype", "json"),
    [
        ("|b1", 2),
        ("|b1", "x"),
        ("<i4", 1.5),
        ("<i4", True),
        ("<f4", "0x7fc00001"),
        ("<c8", "1"),
        ("|V2", "AQID"),
        ("|V2", 0),
    ],
)
def test_what_is_not_a_fill_value_of_v2(dtype: str, json: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type_v2(dtype).parse_fill_v2(json, "/fill_value")
    assert caught.value.pointer == "/fill_value"


@pytest.mark.parametrize(
    ("name", "given_", "expected"),
    [
        ("bool", np.True_, True),
        ("bool", 0, False),
        ("uint8", np.int64(7), 7),
        ("uint8", 7.0, 7),
        ("int16", np.float32(-2), -2),
        ("float32", np.float64(0.1), np.float32(0.1)),
        ("float32", "Infinity", math.inf),
        ("float64", np.array(3), 3),
        ("complex64", 1 + 2j, 1 + 2j),
        ("complex128", np.complex64(1j), 1j),
        ("complex128", 4, 4),
        ("complex64", [1, 2], 1 + 2j),
        ("r16", b"ab", b"ab"),
        ("r16", np.void(b"ab"), b"ab"),
        ("r16", 0, b"\0\0"),
    ],
)
def test_users_fill_values(name: str, given_: Any, expected: Any) -> None:
    data_type = parse_data_type(name)
    scalar = data_type.cast_fill(given_)
    assert scalar.dtype == data_type.numpy
    assert bits(scalar) == bits(np.array(expected, data_type.numpy))


@pytest.mark.parametrize(
    ("name", "given_"),
    [
        ("bool", 2),
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", 1.5),
        ("uint8", "x"),
        ("float32", 1j),
        ("float32", None),
        ("r16", b"a"),
    ],
)
def test_users_fill_values_that_do_not_fit(name: str, given_: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(name).cast_fill(given_)
    assert caught.value.pointer == "/fill_value"


@given(st.floats(width=32))
def test_float32_is_written_so_that_any_reader_gets_it_back(value: float) -> None:
    json = parse_data_type("float32").fill_to_json(np.float32(value))
    if math.isfinite(value):
        assert struct.pack("<f", json) == struct.pack("<f", value)


@pytest.mark.parametrize(
    ("json", "name"),
    [
        ("float128", "float128"),
        ({"name": "N0f8", "configuration": {}}, "N0f8"),
        ("object", "object"),
    ],
)
def test_unknown_data_types(json: Any, name: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_data_type(json, "/data_type")
    assert (caught.value.kind, caught.value.name, caught.value.pointer) == ("data type", name, "/data_type")


@pytest.mark.parametrize(
    ("json", "pointer"),
    [
        (None, ""),
        (3, ""),
        ({}, ""),
        ([["a", "<i4"]], ""),
        ({"name": 3}, "/name"),
        ({"name": "int8", "configuration": None}, "/configuration"),
        ({"name": "int8", "configuration": {"a~/b": 1}}, "/configuration/a~0~1b"),
        ({"name": "int8", "extra": 1}, "/extra"),
        ({"name": "int8", "must_understand": 1}, "/must_understand"),
        ("r7", ""),
        ("r0", ""),
        ("r08", ""),
        ("r9999999999999999999", ""),
        ("raw_bytes", "/configuration/length_bytes"),
        ({"name": "raw_bytes", "configuration": {"length_bytes": 2**40}}, "/configuration/length_bytes"),
    ],
)
def test_what_is_not_a_data_type(json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(json, "/data_type")
    assert caught.value.pointer == f"/data_type{pointer}"
    assert not isinstance(caught.value, UnknownExtensionError)


@pytest.mark.parametrize("name", ["r16", {"name": "raw_bytes", "configuration": {"length_bytes": 2}}])
@pytest.mark.parametrize("fill", ["AQI=", [1, 2]])
def test_raw_bits_keep_the_form_of_their_fill_value(name: Any, fill: Any) -> None:
    data_type = parse_data_type(name).spelled_as(fill)
    assert data_type == parse_data_type(name)
    assert data_type.fill_to_json(data_type.parse_fill(fill)) == fill


def test_raw_bytes_of_zarr_python_keep_their_spelling() -> None:
    json = {"name": "raw_bytes", "configuration": {"length_bytes": 3}}
    data_type = parse_data_type(json)
    assert data_type.numpy == np.dtype("V3")
    assert data_type.to_json() == json
    assert data_type.fill_to_json(data_type.parse_fill("YWJj")) == "YWJj"
    assert data_type_of(json) == data_type


@pytest.mark.parametrize("dtype", ["<f16", "<g16", "<t4", "|O"])
def test_unknown_dtypes_of_v2(dtype: Any) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_data_type_v2(dtype, "/dtype")
    assert caught.value.pointer == "/dtype"


@pytest.mark.parametrize(
    "dtype",
    [
        "",
        "i4",
        "<i",
        "<f3",
        "|i4",
        " <i4",
        "<i4 ",
        "float32",
        None,
        4,
        {},
        "|V0",
        "|V9999999",
        "<i٤",
        "|S0",
        "|U3",
        [],
    ],
)
def test_what_is_not_a_dtype_of_v2(dtype: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type_v2(dtype, "/dtype")
    assert not isinstance(caught.value, UnknownExtensionError)
    assert caught.value.pointer == "/dtype"


@pytest.mark.parametrize("dtype", ["<b1", "|b1", ">u1", "|u1", "<i1"])
def test_a_byte_has_no_order(dtype: str) -> None:
    assert parse_data_type_v2(dtype).numpy == np.dtype(dtype[1:])


def test_data_type_of_a_users_dtype() -> None:
    assert data_type_of(">i4").numpy == np.dtype("=i4")
    assert data_type_of(">i4", zarr_format=2).numpy == np.dtype(">i4")
    assert data_type_of(float).name == "float64"
    assert data_type_of(np.uint8).name == "uint8"
    assert data_type_of("V5").to_json() == {"name": "raw_bytes", "configuration": {"length_bytes": 5}}
    assert data_type_of("r40").to_json() == "r40"


@pytest.mark.parametrize("dtype", [None, "nonsense", object, [("a", object)], ("f4", (2,)), "longdouble", 3])
def test_users_dtypes_that_are_not_known(dtype: Any) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        data_type_of(dtype)
    assert caught.value.kind == "data type"


def test_a_data_type_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    class Third(RawBits):
        @classmethod
        def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
            return cls(name, np.dtype(f"V{configuration['n']}"))

    monkeypatch.setattr(DATA_TYPES, "_loaded", dict(DATA_TYPES._loaded))
    DATA_TYPES.add("third", Third)
    assert parse_data_type({"name": "third", "configuration": {"n": 7}}) == Third("third", np.dtype("V7"))


def test_a_data_type_whose_module_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_TYPES._builtin, "lost", "no_such_module_anywhere:Lost")
    with pytest.raises(UnknownExtensionError, match="no_such_module_anywhere"):
        parse_data_type("lost")
