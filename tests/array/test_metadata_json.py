"""Strict JSON, with pointers."""

import json
import math
from typing import Any

import numpy as np
import pytest

from zarrdock.array.json_ import MAX_DEPTH, check_json, loads, pointer_to, serialise
from zarrdock.errors import MetadataError


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
