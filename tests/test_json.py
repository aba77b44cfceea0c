"""Strict JSON, with pointers."""

import json
import math
from typing import Any

import numpy as np
import pytest

from zarrdock.errors import MetadataError
from zarrdock.json_ import (
    MAX_DEPTH,
    as_json,
    check_json,
    expect_boolean,
    expect_integer,
    expect_integers,
    expect_list,
    expect_object,
    expect_one_of,
    expect_string,
    float_to_json,
    in_document,
    known_members,
    loads,
    loads_lax,
    parse_float,
    parse_integer,
    pointer_to,
    serialise,
)


def nested(depth: int, kind: str) -> bytes:
    return (b"[" * depth + b"]" * depth) if kind == "array" else (b'{"a":' * depth + b"0" + b"}" * depth)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"{'a': 1}", "line 1, column 2"),
        (b"\n\n\xff", "line 3"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "duplicate member 'b'"),
        (b"1" * 5000, "integer"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (nested(MAX_DEPTH + 1, "array"), "nested"),
        (nested(MAX_DEPTH + 1, "object"), "nested"),
        (nested(100_000, "array"), "nested"),
        (nested(100_000, "object"), "nested"),
    ],
)
def test_what_is_not_json(document: bytes, message: str) -> None:
    with pytest.raises(MetadataError) as caught:
        loads(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "document, hint",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s3--12.json\n", "git annex get"),
        (b"\n<!DOCTYPE html>\n<html>", "web page"),
        (b'<?xml version="1.0"?><Error/>', "XML"),
    ],
)
def test_what_others_put_in_its_place_is_named(document: bytes, hint: str) -> None:
    with pytest.raises(MetadataError, match=f"not JSON.*{hint}"):
        loads(document)


@pytest.mark.parametrize("kind", ["array", "object"])
def test_depth_up_to_the_limit(kind: str) -> None:
    document = nested(MAX_DEPTH, kind)
    value = loads(document)
    assert loads(json.dumps([1] * 1000).encode()) == [1] * 1000
    assert loads(b'{"a": [' + b"[]," * MAX_DEPTH + b"{}]}")["a"][-1] == {}
    if kind == "object":
        assert loads(serialise(value)) == value


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
def test_any_buffer_and_a_byte_order_mark(convert: Any) -> None:
    assert loads(convert('\ufeff{"ä": "\\ud800"}'.encode())) == {"ä": "\ud800"}


def test_literals_that_are_not_json_are_kept() -> None:
    document = b'{"a": NaN, "b": [Infinity, -Infinity]}'
    value = loads(document)
    assert math.isnan(value["a"])
    assert value["b"] == [math.inf, -math.inf]
    assert b"NaN" in serialise(value)
    assert b"-Infinity" in serialise(value)


def test_documents_are_indented_and_in_order() -> None:
    assert serialise({"b": 1, "a": [True, None, "é"]}).decode() == (
        '{\n  "b": 1,\n  "a": [\n    true,\n    null,\n    "\\u00e9"\n  ]\n}'
    )


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"a": np.int64(1)}, "/a"),
        ({"a": [1, {"b/c": {1, 2}}]}, "/a/1/b~1c"),
        ({"a": {1: 2}}, "/a"),
        ({"a": b"x"}, "/a"),
        ({"a": np.zeros(3)}, "/a"),
        ({"a": math}, "/a"),
    ],
)
def test_values_without_a_form_in_json(value: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        serialise(value)
    assert caught.value.pointer == pointer


def test_a_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(MetadataError, match="nested"):
        check_json(value)


def test_pointers_are_escaped() -> None:
    assert pointer_to("/x", "a/b", 3, "c~d") == "/x/a~1b/3/c~0d"


# -- members ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda value: expect_object(value, "/a"), [{}], [[], None, "x", 1]),
        (lambda value: expect_list(value, "/a"), [[1], ()], [{}, None, "x"]),
        (lambda value: expect_string(value, "/a"), ["", "x"], [None, 1, b"x"]),
        (lambda value: expect_boolean(value, "/a"), [True, False], [0, 1, None, "true"]),
        (lambda value: expect_one_of(value, "/a", ("x", "y")), ["x", "y"], ["z", None, 1, ["x"], "xy"]),
        (lambda value: expect_integer(value, "/a", -1, 3), [-1, 3], [-2, 4, True, 1.0, "1", None, np.bool_(True)]),
        (lambda value: expect_integers(value, "/a"), [(), (0, 5)], [3, None, "12", {}]),
    ],
)
def test_checks_of_members(check: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert check(value) == value
    for value in bad:
        with pytest.raises(MetadataError) as caught:
            check(value)
        assert caught.value.pointer == "/a"
        assert caught.value.found is value
        assert caught.value.expected


def test_integers_of_numpy_are_integers() -> None:
    number = expect_integer(np.uint8(3), "/a", 0, 9)
    assert (number, type(number)) == (3, int)


def test_known_members() -> None:
    assert known_members({"a": 1}, ("a", "b"), "/x") == {"a": 1}
    with pytest.raises(MetadataError, match="unknown member") as caught:
        known_members({"a": 1, "c/d": 2}, ("a", "b"), "/x")
    assert (caught.value.pointer, caught.value.expected, caught.value.found) == ("/x/c~1d", "one of a, b", 2)
    with pytest.raises(MetadataError) as caught:
        known_members({"a": 1}, ())
    assert caught.value.expected == "no members"


def test_errors_know_their_document() -> None:
    with pytest.raises(MetadataError, match=r"g/zarr\.json#/a: expected") as caught, in_document("g/zarr.json"):
        expect_string(3, "/a")
    assert caught.value.key == "g/zarr.json"
    # Where the key is not known here, one that was known further down stands.
    with pytest.raises(MetadataError) as caught, in_document(""), in_document("inner"):
        expect_string(3, "/a")
    assert caught.value.key == "inner"


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint64", "int4", "uint2"])
def test_integers_within_the_range_of_a_type(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(__import__("ml_dtypes"), name, name))
    n_bits = int(name.removeprefix("u").removeprefix("int"))
    low, high = (0, 2**n_bits - 1) if name[0] == "u" else (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1)
    for value in (low, high):
        found = parse_integer(value, dtype, "/a")
        assert (int(found), found.dtype) == (value, dtype)
        if abs(value) < 2**53:
            assert parse_integer(float(value), dtype, "/a", integral=True) == found
    for wrong in (low - 1, high + 1, 1.0, True, "1", None):
        with pytest.raises(MetadataError, match=f"an integer from {low} to {high}"):
            parse_integer(wrong, dtype, "/a")


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "bfloat16", "float8_e5m2", "float8_e4m3fn"])
def test_floats_keep_their_bits(name: str) -> None:
    pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(__import__("ml_dtypes"), name, name))
    size = dtype.itemsize
    random = np.random.default_rng(1)
    for bits in (*random.integers(0, 2 ** (8 * size), 50, np.uint64).tolist(), 0, 2 ** (8 * size) - 1):
        text = f"0x{bits:0{2 * size}x}"
        found = parse_float(text, dtype, "/a")
        assert int(np.asarray(found).view(f"u{size}")) == bits
        again = parse_float(float_to_json(found, dtype), dtype, "/a")
        assert int(np.asarray(again).view(f"u{size}")) == bits
    assert float_to_json(parse_float("NaN", dtype, "/a"), dtype) == "NaN"
    for wrong in (f"0x{0:0{2 * size + 1}x}", "0x", "nan", "1", True, None, [], "0xg"):
        with pytest.raises(MetadataError) as caught:
            parse_float(wrong, dtype, "/a")
        assert caught.value.pointer == "/a"
    with pytest.raises(MetadataError):
        parse_float("0x0", dtype, "/a", all_digits=True)
    with pytest.raises(MetadataError):
        parse_float("0x00", dtype, "/a", hexadecimal=False)


def test_an_integer_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(MetadataError):
        parse_float(10**400, np.dtype("f8"), "/a")
    assert parse_float(10**60, np.dtype("f4"), "/a") == np.inf


# -- lax reading ------------------------------------------------------------------------------------------------------


def test_lax_reading_keeps_the_last_of_two_and_takes_latin1() -> None:
    found = loads_lax(b'{"a": 1, "a": 2, "b": {"c": 1, "d": 2, "c": 3}}')
    assert found is not None
    assert (found.value, found.is_latin1) == ({"a": 2, "b": {"c": 3, "d": 2}}, False)
    assert sorted(name for _, name in found.doubled) == ["a", "c"]
    assert any(owner is found.value for owner, _ in found.doubled)
    latin = loads_lax('{"a": "é"}'.encode("latin-1"))
    assert latin is not None
    assert (latin.value, latin.is_latin1, latin.doubled) == ({"a": "é"}, True, [])
    for wrong in (b"{", b"", nested(MAX_DEPTH + 1, "array"), nested(100_000, "object"), b"1" * 5000):
        assert loads_lax(wrong) is None


def test_values_as_they_will_be_read_back() -> None:
    given = {"a": np.arange(3), "b": (np.float32(0.5), {"c": np.str_("x")}), "d": [None, True, "x", 1]}
    assert as_json(given) == {"a": [0, 1, 2], "b": [0.5, {"c": "x"}], "d": [None, True, "x", 1]}
    assert loads(serialise(as_json(given))) == as_json(given)
    value: list[Any] = []
    value.append(value)
    with pytest.raises(MetadataError, match="nested"):
        as_json(value)
