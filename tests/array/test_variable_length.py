"""Text, bytes and objects of variable length in arrays: as chunks, in shards, in part, in both formats."""

from __future__ import annotations

import pickle
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from zarrdock.checking import check
from zarrdock.errors import CodecError, MetadataError, SelectionError, UnknownExtensionError

TEXT = np.dtypes.StringDType()
KINDS: list[Any] = ["string", "bytes"]


def elements(kind: str) -> st.SearchStrategy[Any]:
    return st.text(max_size=40) if kind == "string" else st.binary(max_size=40)


def stored_as(kind: str) -> np.dtype[Any]:
    return TEXT if kind == "string" else np.dtype(object)


def full(shape: tuple[int, ...], value: Any, kind: str) -> np.ndarray:
    """Objects, whatever the kind: what numpy can compare without a thought."""
    array = np.empty(shape, object)
    array[...] = value
    return array


def same(found: Any, model: np.ndarray, kind: str) -> None:
    assert found.shape == model.shape
    assert found.dtype == stored_as(kind)
    assert found.tolist() == model.tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, zarrdock.Array, np.ndarray]:
    kind = draw(st.sampled_from(KINDS))
    shape = tuple(draw(st.lists(st.integers(0, 8), max_size=2)))
    chunks = tuple(draw(st.integers(1, 4)) for _ in shape)
    fill = draw(elements(kind) | st.none())
    arguments: dict[str, Any] = {"fill_value": fill, "options": {"write_empty_chunks": draw(st.booleans())}}
    zarr_format = draw(st.sampled_from([3, 3, 2]))
    arguments["order"] = draw(st.sampled_from("CF"))
    if zarr_format == 3:
        arguments["compressors"] = draw(st.sampled_from([None, "auto", ["gzip", "crc32c"], [{"name": "blosc"}]]))
        levels = []
        sizes = chunks
        for _ in range(draw(st.integers(0, 2)) if shape else 0):
            sizes = tuple(n * draw(st.integers(1, 3)) for n in sizes)
            levels.insert(0, sizes)
        arguments["shards"] = levels or None
    else:
        arguments["compressors"] = draw(st.sampled_from([None, "auto", {"id": "zlib", "level": 1}]))
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), shape=shape, dtype=kind, chunks=chunks, zarr_format=zarr_format, **arguments
    )
    return kind, array, full(shape, ("" if kind == "string" else b"") if fill is None else fill, kind)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_arrays_beside_numpy(data: st.DataObject) -> None:
    kind, array, model = data.draw(cases())
    same(array[...], model, kind)
    for _ in range(data.draw(st.integers(1, 4))):
        shape = model.shape
        bound = st.integers(-9, 9) | st.none()
        selection = tuple(data.draw(st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1]))) for _ in shape)
        selection = (*selection, ...)
        n = model[selection].size
        items = data.draw(st.lists(elements(kind), min_size=n, max_size=n))
        value = np.empty(n, object)
        value[:] = items
        value = value.reshape(model[selection].shape)
        array[selection] = value
        model[selection] = value
        same(array[...], model, kind)
        same(array.read(selection), model[selection], kind)
    again = zarrdock.open_array(array.store)
    assert again.metadata.data_type == array.metadata.data_type
    assert again.fill_value == array.fill_value
    same(again[...], model, kind)
    out = np.empty(model.shape, object)
    again.read(out=out)
    assert out.tolist() == model.tolist()
    if model.size:
        at = tuple(data.draw(st.integers(0, n - 1)) for n in model.shape)
        element = again[at] if at else again[()]
        assert element == model[at]
        assert type(element) is (str if kind == "string" else bytes)
        points = tuple(np.array([i, i]) for i in at)
        if points:
            assert again.vindex[points].tolist() == [model[at], model[at]]
    assert check(array.store).is_good
    target = zarrdock.MemoryStore()
    zarrdock.copy(array.store, target)
    same(zarrdock.open_array(target)[...], model, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_to_other_chunks_shards_and_formats(kind: str) -> None:
    store = zarrdock.MemoryStore()
    values = [f"häß{i}" * (i % 5) for i in range(20)]
    model = np.array(values if kind == "string" else [v.encode() for v in values], object).reshape(5, 4)
    array = zarrdock.create_array(store, shape=(5, 4), dtype=kind, chunks=(2, 3))
    array[...] = model
    for wishes in (
        {"chunks": (3, 2), "shards": None},
        {"chunks": (1, 2), "shards": (2, 4)},
        {"compressors": "gzip"},
        {"zarr_format": 2},
    ):
        target = zarrdock.MemoryStore()
        zarrdock.copy(store, target, **wishes)
        copied = zarrdock.open_array(target)
        same(copied[...], model, kind)
        back = zarrdock.MemoryStore()
        zarrdock.copy(target, back, zarr_format=3, chunks=(5, 4), shards=None)
        same(zarrdock.open_array(back)[...], model, kind)
        assert zarrdock.open_array(back).metadata.data_type.serializer == array.metadata.data_type.serializer


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_that_change(kind: str) -> None:
    word: Any = "word" if kind == "string" else b"word"
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=5, dtype=kind, chunks=2, shards=4, fill_value=word)
    array[...] = model = full((5,), word * 2, kind)
    array.resize(3)
    array.resize(6)
    assert array[...].tolist() == [*model[:3].tolist(), word, word, word]
    array.append([word * 3, word * 4])
    assert array[6:].tolist() == [word * 3, word * 4]
    assert array.plan().n_chunks == 4


def test_numpys_text_goes_in_and_out() -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=4, dtype=str, chunks=2)
    assert array.dtype == TEXT
    for value in (
        ["a", "bb", "", "测试"],
        np.array(["a", "bb", "", "测试"]),
        np.array(["a", "bb", "", "测试"], object),
        np.array(["a", "bb", "", "测试"], TEXT),
        np.array(["a", "bb", "", "测试"], np.dtypes.StringDType(na_object=None)),
    ):
        array[...] = ""
        array[...] = value
        assert array[...].tolist() == ["a", "bb", "", "测试"]
    array[1:3] = "all"
    assert array[...].tolist() == ["a", "all", "all", "测试"]
    assert pickle.loads(pickle.dumps(array))[3] == "测试"


def test_bytes_go_in_and_out() -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=3, dtype=bytes, chunks=2)
    for value in ([b"a", b"", b"\0b\0"], np.array([b"a", b"", b"\0b\0"], object)):
        array[...] = value
        assert array[...].tolist() == [b"a", b"", b"\0b\0"]
    array[...] = np.array([b"a", b"", b"bc"])
    assert array[...].tolist() == [b"a", b"", b"bc"]
    array[...] = np.array([b"ab", b"cd", b"e"], "V2")
    assert array[...].tolist() == [b"ab", b"cd", b"e\0"]
    array[0] = b"\0"
    array[1] = bytearray(b"xy")
    assert array[:2].tolist() == [b"\0", b"xy"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 5),
        ("string", None),
        ("string", b"bytes"),
        ("string", [1, 2]),
        ("string", ["a", None]),
        ("string", np.array(["a", None], np.dtypes.StringDType(na_object=None))),
        ("string", np.array([b"a", b"b"])),
        ("string", np.zeros(2)),
        ("bytes", "text"),
        ("bytes", None),
        ("bytes", [b"a", "b"]),
        ("bytes", np.zeros(2)),
        ("bytes", 5),
    ],
    ids=str,
)
def test_values_of_another_kind(kind: str, value: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=2, dtype=kind, chunks=2)
    with pytest.raises(SelectionError):
        array[...] = value
    assert [entry.key for entry in store.list()] == ["zarr.json"]


def test_other_codecs_are_refused() -> None:
    for dtype in ("string", "bytes"):
        with pytest.raises(MetadataError):
            zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype=dtype, chunks=2, serializer="bytes")
    with pytest.raises(MetadataError):
        zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype="U3", chunks=2, serializer="vlen-utf8")


def test_damage_is_told() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=2, dtype="string", chunks=2, compressors=None)
    array[...] = ["ab", "cd"]
    good = bytes(store.get("c/0").data)  # type: ignore[union-attr]
    for bad in (good[:-1], good[:4], b"", b"\xff" * 12, good[:8] + b"\xff\xff" + good[10:], b"\3" + good[1:]):
        store.write("c/0", bad)
        with pytest.raises(CodecError, match="c/0"):
            array[...]
    assert not check(store).is_good


# -- v2's objects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "values"),
    [
        ({"id": "vlen-utf8"}, ["a", "", "测试", "b" * 30]),
        ({"id": "vlen-bytes"}, [b"a", b"", b"\0", b"b" * 30]),
        ({"id": "json2"}, ["a", {"b": [1, None]}, [1.5], None]),
        ({"id": "msgpack2"}, ["a", {"b": [1, None]}, [1.5], None]),
        ({"id": "categorize", "labels": ["x", "y"], "dtype": "|O", "astype": "|u1"}, ["x", "y", "y", "x"]),
        ({"id": "vlen-array", "dtype": "<i4"}, [[1], [], [2, 3], [4]]),
    ],
    ids=lambda x: x["id"] if isinstance(x, dict) else "",
)
def test_objects_of_v2(codec: dict[str, Any], values: list[Any]) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=4, dtype=object, chunks=3, zarr_format=2, filters=[codec])
    items = np.empty(4, object)
    items[:] = [np.array(v, "i4") for v in values] if codec["id"] == "vlen-array" else values
    array[...] = items
    again = zarrdock.open_array(store)
    assert again.metadata.to_json is not None
    assert [v.tolist() if isinstance(v, np.ndarray) else v for v in again[...].tolist()] == values
    array[1:2] = items[2:3]
    expected = [values[0], values[2], values[2], values[3]]
    assert [v.tolist() if isinstance(v, np.ndarray) else v for v in again[...].tolist()] == expected
    assert check(store).is_good


def test_objects_without_a_codec_are_refused() -> None:
    with pytest.raises(UnknownExtensionError, match="object codec"):
        zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype=object, chunks=2, zarr_format=2)
    with pytest.raises(UnknownExtensionError, match="'string'"):
        zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype=object, chunks=2)


def test_text_in_v2_needs_no_filter_to_be_named() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=2, dtype=str, chunks=2, zarr_format=2, fill_value="none")
    array[0] = "a"
    document = bytes(store.get(".zarray").data)  # type: ignore[union-attr]
    assert b'"|O"' in document
    assert b'"vlen-utf8"' in document
    assert zarrdock.open_array(store)[...].tolist() == ["a", "none"]
