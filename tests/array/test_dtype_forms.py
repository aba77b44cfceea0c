"""Text, times, structures and small numbers: their metadata, and their fill values in every form."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.array.dtypes.dtype import DATA_TYPES, DataType, data_type_of, parse_data_type
from zarrdock.array.dtypes.v2_dtypes import object_type_of, parse_data_type_v2
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError

SMALL_INTEGERS = ["int2", "uint2", "int4", "uint4"]
SMALL_FLOATS = [
    "bfloat16",
    *("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz"),
    *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn"),
]
COMPLEX = [f"complex_{part}" for part in ("float16", "float32", "float64", *SMALL_FLOATS)]
POINT = {
    "name": "struct",
    "configuration": {"fields": [{"name": "x", "data_type": "float32"}, {"name": "n", "data_type": "int8"}]},
}
STRUCT = {
    "name": "struct",
    "configuration": {
        "fields": [
            {"name": "point", "data_type": POINT},
            {
                "name": "when",
                "data_type": {"name": "numpy.datetime64", "configuration": {"unit": "ms", "scale_factor": 10}},
            },
            {"name": "label", "data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}}},
            {"name": "raw", "data_type": "r24"},
            {"name": "small", "data_type": "bfloat16"},
        ]
    },
}
FORMS: list[Any] = [
    "string",
    "bytes",
    "variable_length_bytes",
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 20}},
    {"name": "null_terminated_bytes", "configuration": {"length_bytes": 7}},
    {"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}},
    {"name": "numpy.datetime64", "configuration": {"unit": "generic", "scale_factor": 1}},
    {"name": "numpy.timedelta64", "configuration": {"unit": "s", "scale_factor": 10}},
    POINT,
    STRUCT,
    {"name": "structured", "configuration": {"fields": [["a", "uint16"], ["b", POINT]]}},
    *SMALL_INTEGERS,
    *SMALL_FLOATS,
    *COMPLEX,
]


def bits(scalar: Any, dtype: np.dtype[Any]) -> bytes:
    return np.asarray(scalar, dtype).tobytes()


def elements(data_type: DataType) -> st.SearchStrategy[Any]:
    """Any element, as a scalar."""
    dtype = data_type.numpy
    if dtype.kind == "T":
        return st.text(max_size=9)
    if dtype.hasobject:
        return st.binary(max_size=9)
    if dtype.kind in "US":
        return hnp.from_dtype(dtype)
    if data_type.name in SMALL_INTEGERS + SMALL_FLOATS:
        n = 256**dtype.itemsize if dtype.itemsize > 1 else 2 ** int(_bits(dtype))
        return st.integers(0, n - 1).map(lambda i: np.array(i, f"u{dtype.itemsize}").view(dtype)[()])
    if dtype.kind == "V" and dtype.names == ("real", "imag"):
        n = 2 ** int(_bits(dtype["real"]))
        parts = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
        return parts.map(lambda pair: np.array(pair, "u1").view(dtype)[0])
    if dtype.names is not None:
        fields = data_type.fields  # type: ignore[attr-defined]
        return st.tuples(*(elements(field) for _, field, _ in fields)).map(lambda row: np.array([row], dtype)[0])
    return st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize).map(lambda data: np.frombuffer(data, dtype)[0])


def _bits(dtype: np.dtype[Any]) -> int:
    info: Any = ml_dtypes.iinfo(dtype) if "int" in dtype.name else ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return int(info.bits)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_metadata_is_written_as_it_was_read(form: Any) -> None:
    data_type = parse_data_type(form)
    assert data_type.to_json() == form
    assert json.loads(json.dumps(form)) == form
    assert data_type == parse_data_type(form)
    assert hash(data_type) == hash(parse_data_type(form))
    assert data_type_of(form if isinstance(form, str) else dict(form)) == data_type
    json_of_default = data_type.fill_to_json(data_type.default_fill())
    json.dumps(json_of_default, allow_nan=False)
    assert data_type.fill_to_json(data_type.parse_fill(json_of_default)) == json_of_default


def test_every_builtin_type_is_tested() -> None:
    names = {form if isinstance(form, str) else form["name"] for form in FORMS}
    core = {"bool", "r*", "raw_bytes", "complex64", "complex128", "float16", "float32", "float64"}
    assert names | core | {f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)} == set(DATA_TYPES._builtin)


@given(st.data())
def test_every_element_survives_as_a_fill_value(data: st.DataObject) -> None:
    data_type = parse_data_type(data.draw(st.sampled_from(FORMS)))
    scalar = data.draw(elements(data_type))
    form = data_type.fill_to_json(scalar)
    text = json.dumps(form, allow_nan=False)
    assert (
        bits(data_type.parse_fill(json.loads(text)), object if data_type.numpy.hasobject else data_type.numpy)
        == bits(scalar, object if data_type.numpy.hasobject else data_type.numpy)
        or data_type.parse_fill(json.loads(text)) == scalar
    )
    if not data_type.numpy.hasobject:
        assert bits(data_type.cast_fill(scalar), data_type.numpy) == bits(scalar, data_type.numpy)
    else:
        assert data_type.cast_fill(scalar) == scalar


@pytest.mark.parametrize("name", SMALL_INTEGERS + SMALL_FLOATS)
def test_numpy_dtypes_of_small_numbers(name: str) -> None:
    assert data_type_of(np.dtype(getattr(ml_dtypes, name))) == parse_data_type(name)
    assert parse_data_type_v2(name) == parse_data_type(name)
    assert parse_data_type(name).to_json_v2() == name


def test_numpy_dtypes_of_the_others() -> None:
    assert data_type_of(np.dtype(ml_dtypes.complex32)).name == "complex_float16"
    assert data_type_of(np.dtype(ml_dtypes.bcomplex32)).name == "complex_bfloat16"
    assert data_type_of(str) == data_type_of(np.dtypes.StringDType()) == data_type_of("string")
    assert data_type_of(bytes).name == "bytes"
    assert data_type_of("U5").to_json() == {"name": "fixed_length_utf32", "configuration": {"length_bytes": 20}}
    assert data_type_of(">U5", zarr_format=2).to_json_v2() == ">U5"
    assert data_type_of("S3").to_json() == {"name": "null_terminated_bytes", "configuration": {"length_bytes": 3}}
    assert data_type_of(">M8[10us]").numpy == np.dtype("=M8[10us]")
    assert data_type_of("m8").to_json() == {
        "name": "numpy.timedelta64",
        "configuration": {"unit": "generic", "scale_factor": 1},
    }
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    assert padded.itemsize == 16
    assert data_type_of(padded).numpy == np.dtype([("a", "i1"), ("b", "f8")])


@pytest.mark.parametrize(
    ("form", "json_", "expected"),
    [
        ("float8_e4m3fn", "NaN", 0x7F),
        ("float8_e4m3fn", "0xff", 0xFF),
        ("float8_e4m3fnuz", "NaN", 0x80),
        ("float8_e5m2", "Infinity", 0x7C),
        ("float8_e3m4", "-Infinity", 0xF0),
        ("float8_e8m0fnu", "NaN", 0xFF),
        ("float8_e8m0fnu", 1, 0x7F),
        ("float8_e5m2", 1e9, 0x7C),
        ("float6_e2m3fn", 7.5, 0x1F),
        ("float6_e2m3fn", -0.0, 0x20),
        ("float4_e2m1fn", -6, 0x0F),
        ("int2", -2, 2),
        ("uint4", 15, 15),
    ],
)
def test_fill_values_of_small_numbers(form: str, json_: Any, expected: int) -> None:
    data_type = parse_data_type(form)
    assert bits(data_type.parse_fill(json_), data_type.numpy) == bytes([expected])


def test_nan_of_bfloat16() -> None:
    bfloat16 = parse_data_type("bfloat16")
    assert bits(bfloat16.parse_fill("NaN"), bfloat16.numpy.newbyteorder("<")) == b"\xc0\x7f"
    assert bfloat16.fill_to_json(bfloat16.parse_fill("0x7fc1")) == "0x7fc1"
    assert bfloat16.fill_to_json(bfloat16.parse_fill("0xffc0")) == "0xffc0"
    assert bfloat16.fill_to_json(math.nan) == "NaN"


@pytest.mark.parametrize(
    ("form", "json_", "pointer"),
    [
        ("string", 0, ""),
        ("string", None, ""),
        ("bytes", "é", ""),
        ("bytes", [256], "/0"),
        ("bytes", 0, ""),
        (FORMS[3], "sixsix", ""),
        (FORMS[3], 0, ""),
        (FORMS[4], "not base64!", ""),
        (FORMS[4], "MTIzNDU2Nzg=", ""),
        (FORMS[5], 2**63, ""),
        (FORMS[5], "2020-01-01", ""),
        (FORMS[5], 1.0, ""),
        (FORMS[5], True, ""),
        (POINT, {"x": 1}, ""),
        (POINT, {"x": 1, "n": 128}, "/n"),
        (POINT, {"x": 1, "n": 1, "m": 1}, ""),
        (POINT, [1, 2], ""),
        (POINT, "AA==", ""),
        ("int4", 8, ""),
        ("uint4", -1, ""),
        ("int2", True, ""),
        ("int2", 1.0, ""),
        ("float8_e4m3fn", "Infinity", ""),
        ("float8_e4m3fn", 1e9, ""),
        ("float8_e4m3fn", "0x100", ""),
        ("float6_e2m3fn", "NaN", ""),
        ("float6_e2m3fn", "Infinity", ""),
        ("float6_e2m3fn", "0x40", ""),
        ("float6_e2m3fn", 9, ""),
        ("float4_e2m1fn", 1e300, ""),
        ("float8_e8m0fnu", 0, ""),
        ("float8_e8m0fnu", -1, ""),
        ("bfloat16", "nan", ""),
        ("bfloat16", None, ""),
        ("complex_float8_e5m2", 1, ""),
        ("complex_float8_e5m2", [1, "x"], "/1"),
    ],
    ids=str,
)
def test_what_is_not_a_fill_value(form: Any, json_: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(form).parse_fill(json_, "/fill_value")
    assert caught.value.pointer == f"/fill_value{pointer}"
    assert caught.value.expected


@pytest.mark.parametrize(
    ("form", "given_", "expected"),
    [
        ("string", 0, ""),
        ("string", np.str_("a"), "a"),
        ("bytes", bytearray(b"ab"), b"ab"),
        ("bytes", "YWI=", b"ab"),
        (FORMS[3], 0, ""),
        (FORMS[4], b"ab", b"ab"),
        (FORMS[4], "YWI=", b"ab"),
        (FORMS[5], 5, np.datetime64(5, "ns")),
        (FORMS[5], "2026-11-22", np.datetime64("2026-11-22", "ns")),
        (FORMS[5], np.datetime64("2026-11-22", "D"), np.datetime64("2026-11-22", "ns")),
        (FORMS[7], np.timedelta64(1, "m"), np.timedelta64(60, "s")),
        (POINT, 0, (0, 0)),
        (POINT, (1.5, 2), (1.5, 2)),
        (POINT, {"x": 1.5, "n": 2}, (1.5, 2)),
        (POINT, np.array((1.5, 2), "f8,i4"), (1.5, 2)),
        ("int4", np.int8(-8), -8),
        ("int4", 3.0, 3),
        ("bfloat16", np.float32(1.5), 1.5),
        ("complex_float16", 1 + 2j, 1 + 2j),
        ("complex_float8_e5m2", 1 + 2j, (1, 2)),
        ("complex_float32", [1, 2], 1 + 2j),
    ],
    ids=str,
)
def test_users_fill_values(form: Any, given_: Any, expected: Any) -> None:
    data_type = parse_data_type(form)
    found = data_type.cast_fill(given_)
    if data_type.numpy.hasobject:
        assert (found, type(found)) == (expected, type(expected))
    else:
        assert bits(found, data_type.numpy) == bits(np.array(expected, data_type.numpy), data_type.numpy)


@pytest.mark.parametrize(
    ("form", "given_"),
    [
        ("string", 1),
        ("string", None),
        ("bytes", 1),
        (FORMS[3], "sixsix"),
        (FORMS[4], b"12345678"),
        (FORMS[5], "no time"),
        (FORMS[5], 1.5),
        (FORMS[7], np.timedelta64(1, "s")),
        (POINT, (1, 2, 3)),
        (POINT, 5),
        ("int4", 9),
        ("float6_e2m3fn", 100),
        ("complex_float8_e5m2", "x"),
    ],
    ids=str,
)
def test_users_fill_values_that_do_not_fit(form: Any, given_: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(form).cast_fill(given_)
    assert caught.value.pointer.startswith("/fill_value")


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ("fixed_length_utf32", "/configuration/length_bytes"),
        ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 6}}, "/configuration/length_bytes"),
        ({"name": "null_terminated_bytes", "configuration": {"length_bytes": 0}}, "/configuration/length_bytes"),
        ({"name": "null_terminated_bytes", "configuration": {"length_bytes": 2**40}}, "/configuration/length_bytes"),
        ({"name": "numpy.datetime64", "configuration": {"unit": "s"}}, "/configuration/scale_factor"),
        ({"name": "numpy.datetime64", "configuration": {"unit": "x", "scale_factor": 1}}, "/configuration/unit"),
        (
            {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 2**31}},
            "/configuration/scale_factor",
        ),
        ({"name": "struct", "configuration": {}}, "/configuration/fields"),
        ({"name": "struct", "configuration": {"fields": []}}, "/configuration/fields"),
        ({"name": "struct", "configuration": {"fields": [["a", "int8"], ["a", "int8"]]}}, "/configuration/fields/1"),
        ({"name": "struct", "configuration": {"fields": [["", "int8"]]}}, "/configuration/fields/0"),
        ({"name": "struct", "configuration": {"fields": [["a", "string"]]}}, "/configuration/fields/0"),
        ({"name": "struct", "configuration": {"fields": [[1, "int8"]]}}, "/configuration/fields/0/0"),
        ({"name": "struct", "configuration": {"fields": [["a", "r9"]]}}, "/configuration/fields/0/1"),
        ({"name": "struct", "configuration": {"fields": ["a"]}}, "/configuration/fields/0"),
        ({"name": "string", "configuration": {"a": 1}}, "/configuration/a"),
        ({"name": "bfloat16", "configuration": {"a": 1}}, "/configuration/a"),
    ],
    ids=str,
)
def test_what_is_not_a_data_type(form: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type(form, "/data_type")
    assert caught.value.pointer == f"/data_type{pointer}"
    assert not isinstance(caught.value, UnknownExtensionError)


def test_an_unknown_field_is_named() -> None:
    form = {"name": "struct", "configuration": {"fields": [["a", "int8"], ["b", "odd"]]}}
    with pytest.raises(UnknownExtensionError, match="odd") as caught:
        parse_data_type(form, "/data_type")
    assert caught.value.pointer == "/data_type/configuration/fields/1/1"


def test_what_was_written_before_the_names_were_settled_is_read() -> None:
    pairs = {"name": "struct", "configuration": {"fields": [["x", "float32"], ["n", "int8"]]}}
    point = parse_data_type(pairs)
    assert point == parse_data_type(POINT)
    assert point.parse_fill("AADAPwI=") == np.array((1.5, 2), point.numpy)
    assert point.fill_to_json(point.parse_fill("AADAPwI=")) == {"x": 1.5, "n": 2}
    micro = parse_data_type({"name": "numpy.datetime64", "configuration": {"unit": "μs", "scale_factor": 1}})
    assert micro.numpy == np.dtype("M8[us]")
    assert micro.parse_fill("NaT").view("i8") == -(2**63)


@pytest.mark.parametrize("fill", ["YWI=", [97, 98]])
@pytest.mark.parametrize("name", ["bytes", "variable_length_bytes"])
def test_bytes_keep_the_form_of_their_fill_value(name: str, fill: Any) -> None:
    data_type = parse_data_type(name).spelled_as(fill)
    assert data_type.parse_fill(fill) == b"ab"
    assert data_type.fill_to_json(b"ab") == fill


@pytest.mark.parametrize(
    ("dtype", "fill", "value"),
    [
        ("<U3", "ab", "ab"),
        (">U3", 0, ""),
        ("|S3", "YWI=", b"ab"),
        ("|S3", "", b""),
        ("|S3", 0, b""),
        (">M8[ns]", 5, np.datetime64(5, "ns")),
        ("<M8[10s]", "NaT", np.datetime64("NaT", "s")),
        ("<m8", -5, np.int64(-5).view("m8")),
        ("<M8[D]", -(2**63), np.datetime64("NaT", "D")),
    ],
)
def test_dtypes_of_v2(dtype: str, fill: Any, value: Any) -> None:
    data_type = parse_data_type_v2(dtype)
    scalar = data_type.parse_fill_v2(fill, "/fill_value")
    assert bits(scalar, data_type.numpy) == bits(value, data_type.numpy)
    again = data_type.parse_fill_v2(data_type.fill_to_json_v2(scalar))
    assert bits(again, data_type.numpy) == bits(scalar, data_type.numpy)
    assert parse_data_type_v2(data_type.to_json_v2()) == data_type


def test_structures_of_v2() -> None:
    form = [["p", [["a", "<i2"], ["b", ">f4"]]], ["v", "<i2", [2]], ["s", "|S3"]]
    data_type = parse_data_type_v2(form)
    assert data_type.numpy == np.dtype([("p", [("a", "<i2"), ("b", ">f4")]), ("v", "<i2", (2,)), ("s", "S3")])
    assert data_type.to_json_v2() == form
    scalar = np.array(((1, 2.5), [3, 4], b"xyz"), data_type.numpy)[()]
    assert data_type.parse_fill_v2(data_type.fill_to_json_v2(scalar)) == scalar
    assert data_type.cast_fill(((1, 2.5), [3, 4], b"xyz")) == scalar
    assert bits(data_type.parse_fill_v2(0), data_type.numpy) == bytes(13)
    with pytest.raises(UnsupportedError, match="'v'"):
        data_type.to_json()
    assert data_type_of(data_type.numpy, zarr_format=2) == data_type


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ([["a"]], "/dtype/0"),
        ([["a", "<i4"], "b"], "/dtype/1"),
        ([["a", "<i4", [0]]], "/dtype/0/2/0"),
        ([["a", "<i4", ["x"]]], "/dtype/0/2/0"),
        ([[5, "<i4"]], "/dtype/0/0"),
        ([["a", "i4"]], "/dtype/0/1"),
        ([["a", "<i4", [2**19, 2]]], "/dtype"),
        ([], "/dtype"),
    ],
)
def test_what_is_not_a_structure_of_v2(form: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type_v2(form, "/dtype")
    assert caught.value.pointer == pointer


def test_objects_are_what_their_filter_says() -> None:
    assert object_type_of([{"id": "vlen-utf8"}]).name == "string"
    assert object_type_of([{"id": "vlen-bytes"}, {"id": "zlib"}]).numpy.hasobject
    assert object_type_of([{"id": "json2"}]).to_json_v2() == "|O"
    for filters in (None, [], [{"id": "delta"}], "x"):
        with pytest.raises(UnknownExtensionError, match="vlen-utf8"):
            object_type_of(filters, "/dtype")
    with pytest.raises(MetadataError):
        object_type_of([{"id": "json2"}]).cast_fill(object())


def test_an_ml_dtypes_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("complex32", "float6_e2m3fn"):
        monkeypatch.delattr(ml_dtypes, missing)
    for name in ("complex_float16", "float6_e2m3fn"):
        with pytest.raises(UnsupportedError, match=r"is too old for .*zarrdock\[ml\]"):
            parse_data_type(name)
    assert parse_data_type("complex_float32").numpy == np.complex64
