"""Chunk key encodings."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.array.metadata.key_encodings import KeyEncoding, SeparatedKeys, Separator, parse_key_encoding
from zarrdock.errors import MetadataError, UnknownExtensionError

ENCODINGS = [SeparatedKeys(name, separator) for name in ("default", "v2") for separator in ("/", ".")]
some_encoding = st.sampled_from(ENCODINGS)
some_coords = st.lists(st.integers(0, 2**63 - 1), max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("name", "separator", "coords", "key"),
    [
        ("default", "/", (1, 23, 45), "c/1/23/45"),
        ("default", ".", (1, 23, 45), "c.1.23.45"),
        ("default", "/", (), "c"),
        ("default", ".", (), "c"),
        ("default", "/", (0,), "c/0"),
        ("v2", ".", (1, 23, 45), "1.23.45"),
        ("v2", "/", (1, 23, 45), "1/23/45"),
        ("v2", ".", (), "0"),
        ("v2", ".", (0,), "0"),
    ],
)
def test_keys_of_the_specification(
    name: Literal["default", "v2"], separator: Separator, coords: tuple[int, ...], key: str
) -> None:
    encoding = SeparatedKeys(name, separator)
    assert encoding.key(coords) == key
    assert encoding.keys(np.array([coords, coords], np.int64).reshape(2, len(coords))) == [key, key]
    assert encoding.parse(key, len(coords)) == coords


@given(some_encoding, some_coords)
def test_parse_is_the_inverse_of_key(encoding: KeyEncoding, coords: tuple[int, ...]) -> None:
    key = encoding.key(coords)
    assert encoding.parse(key, len(coords)) == coords
    assert encoding.parse(key, len(coords) + 1) is None or key == "0"
    if coords:
        assert encoding.parse(key, 0) is None or key == "0"


@given(
    some_encoding, st.integers(0, 4).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 2**62)] * n), max_size=9))
)
def test_many_keys_are_as_one_by_one(encoding: KeyEncoding, coords: list[tuple[int, ...]]) -> None:
    ndim = len(coords[0]) if coords else 3
    table = np.array(coords, np.int64).reshape(len(coords), ndim)
    assert encoding.keys(table) == [encoding.key(row) for row in coords]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "key",
    [
        *(
            "",
            "c/",
            "c//1",
            "c/01",
            "c/-1",
            "c/1/",
            "/c/1",
            "c/1a",
            "zarr.json",
            "c/٣",
            "C/1",
            "00",
            "1.",
            ".1",
            "1..2",
        ),
        *(".zarray", " 1", "1\n", "+1", "cc", "c/99999999999999999999", "99999999999999999999"),
    ],
)
def test_keys_that_are_no_chunks(encoding: KeyEncoding, key: str) -> None:
    assert [encoding.parse(key, ndim) for ndim in range(4)] == [None] * 4


@given(some_encoding, st.text("c/.0123", max_size=12))
def test_what_parses_is_what_would_be_written(encoding: KeyEncoding, key: str) -> None:
    for ndim in range(4):
        coords = encoding.parse(key, ndim)
        if coords is not None:
            assert encoding.key(coords) == key


@pytest.mark.parametrize(
    ("json", "expected"),
    [
        ("default", SeparatedKeys("default", "/")),
        ({"name": "default"}, SeparatedKeys("default", "/")),
        ({"name": "v2"}, SeparatedKeys("v2", ".")),
        ({"name": "v2", "configuration": {}}, SeparatedKeys("v2", ".")),
        ({"name": "v2", "configuration": {"separator": "/"}}, SeparatedKeys("v2", "/")),
        (
            {"name": "default", "configuration": {"separator": "."}, "must_understand": True},
            SeparatedKeys("default", "."),
        ),
    ],
)
def test_metadata(json: Any, expected: KeyEncoding) -> None:
    encoding = parse_key_encoding(json)
    assert encoding == expected
    assert parse_key_encoding(encoding.to_json()) == encoding


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_key_encoding({"name": "hilbert", "must_understand": False}, "/chunk_key_encoding")
    assert (caught.value.kind, caught.value.name) == ("chunk key encoding", "hilbert")


@pytest.mark.parametrize(
    ("json", "pointer"),
    [
        (None, ""),
        ({"name": None}, "/name"),
        ({"name": "default", "separator": "/"}, "/separator"),
        ({"name": "default", "configuration": "/"}, "/configuration"),
        ({"name": "default", "configuration": {"separator": "-"}}, "/configuration/separator"),
        ({"name": "default", "configuration": {"separator": []}}, "/configuration/separator"),
        ({"name": "default", "configuration": {"prefix": "c"}}, "/configuration/prefix"),
    ],
)
def test_what_is_not_an_encoding(json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_key_encoding(json, "/chunk_key_encoding")
    assert caught.value.pointer == f"/chunk_key_encoding{pointer}"
