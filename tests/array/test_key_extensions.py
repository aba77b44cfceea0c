"""Chunk key encodings of the extension registry; every example and every key that it documents is here."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrdock
from zarrdock.array.array import Array
from zarrdock.array.metadata.key_encodings import (
    FanoutKeys,
    KeyEncoding,
    PrefixedKeys,
    SeparatedKeys,
    SuffixedKeys,
    TemplateKeys,
    parse_key_encoding,
)
from zarrdock.checking import check
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.layouts.relayout import relayout
from zarrdock.repairing import repair
from zarrdock.stores.memory import MemoryStore


def template(format: str, separator: str | None = None) -> dict[str, Any]:
    configuration = {"format": format} | ({} if separator is None else {"separator": separator})
    return {"name": "template", "configuration": configuration}


# As the registry has them: README.md of each encoding, and examples.tsv of "template".
DOCUMENTED = [
    ({"name": "prefix", "configuration": {"prefix": "x/", "base_encoding": "v2"}}, (0, 0, 0), "x/0.0.0"),
    (
        {"name": "suffix", "configuration": {"suffix": ".tiff", "base-encoding": {"name": "default"}}},
        (1, 2),
        "c/1/2.tiff",
    ),
    ({"name": "suffix", "configuration": {"suffix": ".tiff"}}, (1, 2), "c/1/2.tiff"),
    (
        {"name": "suffix", "configuration": {"suffix": ".shard.zip", "base_encoding": {"name": "v2"}}},
        (1, 2),
        "1.2.shard.zip",
    ),
    ({"name": "fanout", "configuration": {"max_children": 101}}, (), "c"),
    ({"name": "fanout", "configuration": {"max_children": 101}}, (123,), "d0/1/23/c"),
    ({"name": "fanout", "configuration": {"max_children": 101}}, (1234, 5, 67890), "d0/12/34/d1/5/d2/6/78/90/c"),
    ({"name": "fanout", "configuration": {"max_children": 1001}}, (1001,), "d0/1/1/c"),
    ("fanout", (999, 1000), "d0/999/d1/1/0/c"),
    (template("images/{-1}/{*:04}.jpeg", "_"), (11, 22, 33), "images/33/0011_0022.jpeg"),
    (template("{2}-{0}_{1}"), (11, 22, 33), "33-11_22"),
    (template("c/{*}", "/"), (11, 22, 33), "c/11/22/33"),
    (template("{*}", "."), (11, 22, 33), "11.22.33"),
    (template("prefix/{*}", "/"), (11, 22, 33), "prefix/11/22/33"),
    (template("{*}.suffix", "_"), (11, 22, 33), "11_22_33.suffix"),
    (template("{2}/{0}/{1}", "."), (11, 22, 33), "33/11/22"),
    (template("{-1}/{*}", "/"), (11, 22, 33), "33/11/22"),
    (template("{*:04}", "/"), (11, 22, 33), "0011/0022/0033"),
    (template("{*:02}", "/"), (111, 2, 33), "111/02/33"),
]


@pytest.mark.parametrize(("json", "coords", "key"), DOCUMENTED)
def test_documented_keys(json: Any, coords: tuple[int, ...], key: str) -> None:
    encoding = parse_key_encoding(json)
    encoding.check(len(coords), "")
    assert encoding.key(coords) == key
    assert encoding.parse(key, len(coords)) == coords
    assert encoding.keys(np.array([coords, coords], np.int64).reshape(2, len(coords))) == [key, key]
    assert parse_key_encoding(encoding.to_json()) == encoding


def test_members_are_spelled_as_found() -> None:
    for member in ("base_encoding", "base-encoding"):
        json = {"name": "suffix", "configuration": {"suffix": ".tiff", member: {"name": "fanout"}}}
        base = {member: {"name": "fanout", "configuration": {"max_children": 1001}}}
        assert parse_key_encoding(json).to_json() == {
            "name": "suffix",
            "configuration": {"suffix": ".tiff"} | base,
        }
    for member in ("format", "template"):
        json = {"name": "template", "configuration": {member: "{0}-{1}", "separator": "."}}
        assert parse_key_encoding(json).to_json() == json


def test_a_template_may_be_called_template() -> None:
    json = {"name": "template", "configuration": {"template": "{0}.png"}}
    encoding = parse_key_encoding(json)
    assert encoding == TemplateKeys("{0}.png", None, "template")
    assert encoding.to_json() == json


@pytest.mark.parametrize(
    ("format", "coords", "key"),
    [
        ("{{{0}}}", (5,), "{5}"),
        ("100%{0}%d", (5,), "100%5%d"),
        ("a.b+{0}", (5,), "a.b+5"),
        ("1{0}2-3{1}4", (5, 67), "152-3674"),
        ("é/{1:03}x{-2}", (5, 6), "é/006x5"),
        ("{0:020}", (5,), "0" * 19 + "5"),
    ],
)
def test_templates(format: str, coords: tuple[int, ...], key: str) -> None:
    encoding = TemplateKeys(format)
    encoding.check(len(coords), "")
    assert encoding.key(coords) == key
    assert encoding.parse(key, len(coords)) == coords
    for other in (f"{key}\n", f" {key}", key[:-1], key.replace("5", "٥"), key.replace("5", "05"), ""):
        assert encoding.parse(other, len(coords)) is None


def bases() -> st.SearchStrategy[KeyEncoding]:
    plain = st.builds(SeparatedKeys, st.sampled_from(["default", "v2"]), st.sampled_from(["/", "."]))
    fanout = st.builds(FanoutKeys, st.integers(3, 1002))
    text = st.text("ab.-_%{}10é", min_size=1, max_size=4).filter(lambda text: ".." not in text and text.strip("."))
    return st.recursive(
        plain | fanout,
        lambda inner: st.builds(PrefixedKeys, text.map("x{}".format), inner) | st.builds(SuffixedKeys, text, inner),
        max_leaves=3,
    )


@st.composite
def templates(draw: st.DrawFn, ndim: int) -> TemplateKeys:
    """One for this many dimensions, some of them named from the front, some from the end, the others by a star."""
    order = draw(st.permutations(range(ndim)))
    n_named = draw(st.integers(0, ndim))
    pad = st.sampled_from(["", ":02", ":011"])
    terms = [f"{{{axis - draw(st.sampled_from([0, ndim]))}{draw(pad)}}}" for axis in order[:n_named]]
    if n_named < ndim:
        terms.insert(draw(st.integers(0, n_named)), f"{{*{draw(pad)}}}")
    text = st.sampled_from(["-", "/", "1_2", "{{", "}}.", "%s", "x/y"])
    parts = [draw(text) + term for term in terms]
    return TemplateKeys("a" + "".join(parts) + draw(st.sampled_from(["", "7", ".png"])), draw(text))


@given(st.data(), st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 1100), max_size=4).map(tuple))
def test_parse_is_the_inverse_of_key(data: st.DataObject, coords: tuple[int, ...]) -> None:
    encoding = data.draw(bases() | templates(len(coords)) if coords else bases())
    encoding.check(len(coords), "")
    key = encoding.key(coords)
    assert encoding.parse(key, len(coords)) == coords
    assert parse_key_encoding(encoding.to_json()) == encoding
    table = np.array([coords, coords], np.int64).reshape(2, len(coords))
    assert encoding.keys(table) == [key, key]


@given(st.data(), st.integers(1, 3))
def test_what_parses_is_what_would_be_written(data: st.DataObject, ndim: int) -> None:
    encoding = data.draw(bases() | templates(ndim))
    key = data.draw(st.lists(st.integers(0, 120), min_size=ndim, max_size=ndim).map(encoding.key))
    at = data.draw(st.integers(0, len(key)))
    changed = key[:at] + data.draw(st.text("0123/.cd_-", max_size=3)) + key[at + data.draw(st.integers(0, 2)) :]
    found = encoding.parse(changed, ndim)
    assert found is None or encoding.key(found) == changed


@given(st.data(), st.integers(1, 3))
def test_no_two_chunks_have_one_key(data: st.DataObject, ndim: int) -> None:
    encoding = data.draw(bases() | templates(ndim))
    coords = data.draw(st.lists(st.tuples(*[st.integers(0, 130)] * ndim), unique=True, max_size=20))
    assert len({encoding.key(at) for at in coords}) == len(coords)


@pytest.mark.parametrize(
    ("json", "pointer"),
    [
        ("prefix", "/configuration"),
        ({"name": "prefix", "configuration": {"prefix": "x/"}}, "/configuration"),
        ({"name": "prefix", "configuration": {"prefix": "", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "/x", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "../x", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "x//", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "a\\b", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "zarr.json", "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": 1, "base_encoding": "v2"}}, "/configuration/prefix"),
        ({"name": "prefix", "configuration": {"prefix": "x", "base-encoding": "v2"}}, "/configuration/base-encoding"),
        (
            {"name": "prefix", "configuration": {"prefix": "x", "base_encoding": {"name": "fanout", "x": 1}}},
            "/configuration/base_encoding/x",
        ),
        ({"name": "suffix", "configuration": {"base_encoding": "v2"}}, "/configuration"),
        (
            {"name": "suffix", "configuration": {"suffix": "x", "base_encoding": "v2", "base-encoding": "v2"}},
            "/configuration",
        ),
        ({"name": "fanout", "configuration": {"max_children": 2}}, "/configuration/max_children"),
        ({"name": "fanout", "configuration": {"max_children": True}}, "/configuration/max_children"),
        ({"name": "fanout", "configuration": {"max_children": 100.0}}, "/configuration/max_children"),
        ({"name": "fanout", "configuration": {"max": 100}}, "/configuration/max"),
        ("template", "/configuration"),
        ({"name": "template", "configuration": {"template": "{0}", "format": "{0}"}}, "/configuration"),
        (template("no expression"), "/configuration/format"),
        (template("{{0}}"), "/configuration/format"),
        (template("{0"), "/configuration/format"),
        (template("{0}}"), "/configuration/format"),
        (template("{-0}"), "/configuration/format"),
        (template("{01}"), "/configuration/format"),
        (template("{0:4}"), "/configuration/format"),
        (template("{0:00}"), "/configuration/format"),
        (template("{0:099999}"), "/configuration/format"),
        (template("{0.real}"), "/configuration/format"),
        (template("{*}{*}", "/"), "/configuration/format"),
        (template("{*}"), "/configuration/separator"),
        (template("/{0}"), "/configuration/format"),
        (template("a//{0}"), "/configuration/format"),
        (template("../{0}"), "/configuration/format"),
        (template("{0}\0"), "/configuration/format"),
        (template("zarr.json{0}"), "/configuration/format"),
        ({"name": "template", "configuration": {"format": "{0}", "separator": None}}, "/configuration/separator"),
    ],
)
def test_what_is_not_an_encoding(json: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_key_encoding(json, "/chunk_key_encoding")
    assert caught.value.pointer == f"/chunk_key_encoding{pointer}"


@pytest.mark.parametrize(
    ("json", "ndim", "member"),
    [
        (template("{0}"), 2, "format"),
        (template("{0}"), 0, "format"),
        (template("{0}/{0}"), 2, "format"),
        (template("{0}/{-2}"), 2, "format"),
        (template("{1}"), 1, "format"),
        (template("{-2}"), 1, "format"),
        (template("{0}/{*}", "/"), 1, "format"),
        (template("{*}", "/"), 0, "format"),
        # Both of 1, 11 and of 11, 1.
        (template("{0}{1}"), 2, "format"),
        (template("{0:03}{1:03}"), 2, "format"),
        (template("{0}1{1}"), 2, "format"),
        (template("{*}", ""), 2, "separator"),
        (template("{*}", "0"), 3, "separator"),
        # No store has such keys.
        (template("{*}", "//"), 2, ""),
        (template("{0}/"), 1, ""),
        (template("./{0}"), 1, ""),
        ({"name": "suffix", "configuration": {"suffix": "/"}}, 1, ""),
        ({"name": "suffix", "configuration": {"suffix": "/../../x"}}, 1, ""),
        ({"name": "suffix", "configuration": {"suffix": "/zarr.json"}}, 1, ""),
        ({"name": "suffix", "configuration": {"suffix": "\ud800"}}, 1, ""),
    ],
)
def test_encodings_that_do_not_fit_an_array(json: Any, ndim: int, member: str) -> None:
    encoding = parse_key_encoding(json)
    with pytest.raises(MetadataError) as caught:
        encoding.check(ndim, "/chunk_key_encoding")
    assert caught.value.pointer == "/chunk_key_encoding/configuration" + f"/{member}" * bool(member)


def test_encodings_in_encodings_have_an_end() -> None:
    json: Any = "v2"
    for _ in range(12):
        json = {"name": "prefix", "configuration": {"prefix": "x", "base_encoding": json}}
    with pytest.raises(MetadataError, match="at most 8 encodings"):
        parse_key_encoding(json, "/chunk_key_encoding")


ENCODINGS: list[Any] = [
    {"name": "prefix", "configuration": {"prefix": "chunks/", "base_encoding": "default"}},
    {"name": "suffix", "configuration": {"suffix": ".bin", "base_encoding": "v2"}},
    {"name": "fanout", "configuration": {"max_children": 3}},
    template("z{0:03}/{*}.raw", "_"),
]
VALUES = np.arange(7 * 9, dtype="u2").reshape(7, 9)


def array_with(encoding: Any, store: MemoryStore, **options: Any) -> Array:
    array = zarrdock.create_array(
        store, shape=VALUES.shape, dtype="u2", chunks=(2, 3), chunk_key_encoding=encoding, **options
    )
    array[:] = VALUES
    return array


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_arrays(encoding: Any, shards: Any) -> None:
    store = MemoryStore()
    array_with(encoding, store, shards=shards)
    array = zarrdock.open_array(store, mode="r+")
    np.testing.assert_array_equal(array[:], VALUES)
    assert check(store).problems == ()
    array.resize((2, 9))
    array.resize((7, 9))
    np.testing.assert_array_equal(array[:], np.where(np.arange(7)[:, None] < 2, VALUES, 0))
    assert check(store).problems == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_copies(encoding: Any) -> None:
    store, same, other, v2 = (MemoryStore() for _ in range(4))
    array_with(encoding, store)
    zarrdock.copy(store, same)
    assert {entry.key for entry in same.list("")} == {entry.key for entry in store.list("")}
    zarrdock.copy(store, other, chunks=(3, 3), shards=(6, 9))
    assert zarrdock.open_array(other).key_encoding == parse_key_encoding(encoding)
    zarrdock.copy(store, v2, zarr_format=2)
    for copied in (same, other, v2):
        np.testing.assert_array_equal(zarrdock.open_array(copied)[:], VALUES)
        assert check(copied).problems == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_shards_are_rewritten_and_repaired(encoding: Any) -> None:
    store = MemoryStore()
    array_with(encoding, store, shards=(4, 6))
    assert relayout(store, order="colexicographic").n_rewritten > 0
    key = zarrdock.open_array(store).key_encoding.key((0, 0))
    data = bytearray(store.get(key).data)  # type: ignore[union-attr]
    data[-4 - 4 * 16] ^= 1  # where the first of four chunks begins
    store.write(key, bytes(data))
    assert not check(store).is_good
    assert len(repair(store)) == 1
    assert check(store).problems == ()
    np.testing.assert_array_equal(zarrdock.open_array(store)[:], VALUES)


def test_zarr_v2_has_no_such_keys() -> None:
    with pytest.raises(UnsupportedError, match="'fanout'"):
        zarrdock.create_array(MemoryStore(), shape=4, dtype="u1", zarr_format=2, chunk_key_encoding="fanout")
