"""The functions users call: creating, opening, walking; what they accept and refuse."""

from __future__ import annotations

import json
import pickle
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import WithTraits
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.errors import (
    InvalidKeyError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    ReadOnlyError,
    SelectionError,
    UnknownExtensionError,
    UnsupportedError,
)
from zarrdock.stores.base import WrapperStore


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.Store:
    return zarrdock.MemoryStore() if request.param == "memory" else zarrdock.LocalStore(tmp_path)


@pytest.fixture(params=[2, 3])
def zarr_format(request: pytest.FixtureRequest) -> Any:
    return request.param


def keys(store: zarrdock.Store) -> list[str]:
    return sorted(entry.key for entry in store.list())


# -- arrays -----------------------------------------------------------------------------------------------------------


def test_an_array_and_what_is_said_of_it(store: zarrdock.Store) -> None:
    array = zarrdock.create_array(
        store,
        name="/a/x/",
        shape=(10, 7),
        chunks=(2, 3),
        shards=(4, 6),
        dtype="int16",
        fill_value=-1,
        attributes={"a": 1},
        dimension_names=["y", "x"],
        filters=[{"name": "transpose", "configuration": {"order": [1, 0]}}],
        compressors=["gzip", "crc32c"],
    )
    for found in (array, zarrdock.open_array(store, path="a/x"), zarrdock.open(store, path="a/x")):
        assert isinstance(found, zarrdock.Array)
        assert (found.shape, found.ndim, found.size, found.nbytes) == ((10, 7), 2, 70, 140)
        assert (found.chunks, found.shards, found.dtype, found.fill_value) == ((2, 3), (4, 6), np.dtype("i2"), -1)
        assert (found.cdata_shape, found.nchunks) == ((5, 3), 15)
        assert (found.path, found.name, found.basename) == ("a/x", "/a/x", "x")
        assert (found.zarr_format, found.dimension_names, dict(found.attrs)) == (3, ("y", "x"), {"a": 1})
        assert [codec.name for codec in found.filters] == ["transpose"]
        assert [codec.name for codec in found.compressors] == ["gzip", "crc32c"]
        assert "'/a/x' (10, 7) int16 chunks=(2, 3) shards=(4, 6)" in repr(found)
        assert len(found) == 10
        assert (np.asarray(found) == -1).all()
        assert [row.tolist() for row in found] == [[-1] * 7] * 10
    assert keys(store) == ["a/x/zarr.json"]  # no group is made above: this function makes one node
    array[:4] = 1
    assert array.nbytes_stored() == sum(store.size(key) or 0 for key in keys(store))


class Lazy(UserDict[str, bytes]):
    """A mapping whose values may be anywhere."""


@pytest.mark.parametrize("kind", [dict, Lazy])
def test_bytes_stored_in_a_mapping(kind: Any) -> None:
    mapping = kind()
    array = zarrdock.create_array(mapping, name="a", data=np.arange(20), chunks=5)
    zarrdock.create_array(mapping, name="b", data=np.arange(20))
    expected = {key: len(value) for key, value in mapping.items() if key.startswith("a/")}
    assert len(expected) == 5
    assert array.nbytes_stored() == sum(expected.values())
    listed = {entry.key: entry.size for entry in array.store.list("a")}
    assert listed == (expected if kind is dict else dict.fromkeys(expected))


def test_an_array_of_data(store: zarrdock.Store, zarr_format: Any) -> None:
    for i, data in enumerate([np.arange(12.0).reshape(3, 4), [[1, 2], [3, 4]], 7, np.float32(2.5), []]):
        array = zarrdock.create_array(store, name=str(i), data=data, zarr_format=zarr_format)
        np.testing.assert_array_equal(array[...], np.asarray(data))
        assert array.dtype == np.asarray(data).dtype
        assert array.shape == np.shape(data)
    copied = zarrdock.create_array(store, name="copy", data=zarrdock.open_array(store, path="0"), dtype="f4")
    np.testing.assert_array_equal(copied[...], np.arange(12.0, dtype="f4").reshape(3, 4))
    wider = zarrdock.create_array(store, name="wider", data=[1, 2], shape=(3, 2))
    assert wider[...].tolist() == [[1, 2]] * 3


def test_values_that_do_not_fit_leave_nothing_behind(store: zarrdock.Store) -> None:
    with pytest.raises(SelectionError):
        zarrdock.create_array(store, data=[1, 2], shape=(3,))
    with pytest.raises(SelectionError):
        zarrdock.create_group(store, path="g").create_array("x", data=np.zeros(2), shape=(3,))
    with pytest.raises(SelectionError, match="data= is no array"):
        zarrdock.create_array(store, data=[[1, 2], [3]])
    assert keys(store) == ["g/zarr.json"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_has_no_members(store: zarrdock.Store, zarr_format: Any) -> None:
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    root.create_array("a", data=[1, 2], chunks=1)
    before = keys(store)
    other = zarrdock.create_array({}, data=[5])
    same: dict[str, Any] = {"zarr_format": zarr_format}
    array: dict[str, Any] = {"shape": 1, "dtype": "i2"}
    acts: list[Callable[[], Any]] = [
        lambda: root.create_array("a/x", **array),
        lambda: root.create_group("a/x/y"),
        lambda: zarrdock.create_array(store, path="a/x", **array, **same),
        lambda: zarrdock.create_group(store, path="a/x/y", **same),
        lambda: zarrdock.open_array(store, "a", path="a/x", **array, **same),
        lambda: zarrdock.open_array(store, "w", path="a/x", **array, **same),
        lambda: zarrdock.open_group(store, "a", path="a/x", **same),
        lambda: zarrdock.create_hierarchy(store, {"a/x": array}, **same),
        lambda: zarrdock.copy(other, store, dst_path="a/x", zarr_format=zarr_format),
    ]
    for act in acts:
        with pytest.raises(NodeExistsError, match="an array has no members"):
            act()
        assert keys(store) == before


@pytest.mark.parametrize(
    "arguments, pointer",
    [
        ({"shape": -1}, "/shape"),
        ({"shape": (3, 2.5)}, "/shape"),
        ({"shape": 2.5}, "/shape"),
        ({"shape": (True,)}, "/shape"),
        ({"chunks": (2, 2)}, "/chunks"),
        ({"chunks": 0}, "/chunks"),
        ({"chunks": "small"}, "/chunks"),
        ({"chunks": 3, "shards": 10}, "/shards"),
        ({"chunks": 2, "shards": 0}, "/shards"),
        ({"chunks": 2, "shards": (4, 4)}, "/shards"),
        ({"chunks": 2, "shards": [(8,), (6,)]}, "/shards"),
        ({"shards": "large"}, "/shards"),
        ({"shards": 4, "zarr_format": 2}, "/shards"),
        ({"order": "A"}, "/order"),
        ({"zarr_format": 4}, "/zarr_format"),
        ({"zarr_format": 2, "order": "A"}, "/order"),
        ({"fill_value": "x"}, "/fill_value"),
        ({"fill_value": 300}, "/fill_value"),
        ({"filters": "zstd"}, "/filters"),
        ({"serializer": "zstd"}, "/serializer"),
        ({"compressors": "bytes"}, "/compressors"),
        ({"compressors": {"name": "zstd", "configuration": {"level": 99}}}, "/compressors/configuration/level"),
        ({"filters": {"name": "transpose", "configuration": {"order": [1, 0]}}}, "/codecs/0/configuration/order"),
        ({"dimension_names": ["a", "b"]}, "/dimension_names"),
        ({"zarr_format": 2, "compressors": [{"id": "zlib"}, {"id": "bz2"}]}, "/compressor"),
        ({"chunk_key_encoding": "-"}, "/chunk_key_encoding"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(store: zarrdock.Store, arguments: dict[str, Any], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrdock.create_array(store, **{"shape": 20, "dtype": "u1", **arguments})
    assert caught.value.pointer.startswith(pointer)
    assert keys(store) == []


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"chunks": 33, "shards": 100}, "shards=: chunks must divide shards evenly; expected a multiple of [33], "),
        ({"chunks": (2, 2)}, "chunks=: expected "),
        ({"chunks": [[5, 5]]}, "chunks="),
        ({"shape": -1}, "shape=: "),
        ({"dtype": {"name": "nonsense"}}, "dtype="),
        ({"fill_value": 300}, "fill_value=: "),
        ({"dimension_names": ["a", "b"]}, "dimension_names=: "),
        ({"compressors": "nonsense"}, "compressors=: unknown codec 'nonsense'"),
        (
            {"compressors": {"name": "zstd", "configuration": {"level": 99}}},
            "compressors= (/configuration/level): expected ",
        ),
    ],
)
def test_errors_about_new_arrays_name_the_parameter(
    store: zarrdock.Store, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrdock.create_array(store, **{"shape": 20, "dtype": "u1", **arguments})
    assert str(caught.value).startswith(said)
    assert caught.value.parameter == said.partition("=")[0]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_errors_about_stored_documents_name_the_place(store: zarrdock.Store) -> None:
    store.write("zarr.json", b'{"zarr_format": 3, "node_type": "array", "shape": -1}')
    with pytest.raises(MetadataError, match=r"^zarr\.json") as caught:
        zarrdock.open_array(store)
    assert caught.value.parameter == ""


def test_other_mistakes(store: zarrdock.Store) -> None:
    with pytest.raises(UnknownExtensionError, match="magic"):
        zarrdock.create_array(store, shape=3, dtype="u1", compressors="magic")
    with pytest.raises(UnknownExtensionError, match=r"compressors=: unknown codec 'gzp'; did you mean 'gzip'"):
        zarrdock.create_array(store, shape=3, dtype="u1", compressors="gzp")
    for dtype in ("nonsense", np.dtype(object)):
        with pytest.raises(UnknownExtensionError, match=r"^dtype=: unknown data type"):
            zarrdock.create_array(store, shape=3, dtype=dtype)
    with pytest.raises(UnsupportedError, match="shape= and dtype="):
        zarrdock.create_array(store, shape=3)
    with pytest.raises(UnsupportedError, match="mode 'x'"):
        zarrdock.open_array(store, "x")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="zigzag"):
        zarrdock.create_array(
            store,
            shape=3,
            chunks=1,
            shards=3,
            dtype="u1",
            options={"subchunk_write_order": "zigzag"},  # type: ignore[arg-type]
        )
    with pytest.raises(InvalidKeyError):
        zarrdock.create_array(store, name="a/../b", shape=3, dtype="u1")
    assert keys(store) == []


@pytest.mark.parametrize("name", ["write_empty_chunks", "in_place", "single_writer", "overwrite", "checksums"])
@pytest.mark.parametrize("value", ["yes", 1, None])
def test_neither_true_nor_false(store: zarrdock.Store, name: str, value: Any) -> None:
    of_options = name not in ("overwrite", "checksums")
    wrong: dict[str, Any] = {"options": {name: value}} if of_options else {name: value}
    calls = [lambda: zarrdock.create_array(store, shape=20, dtype="u1", shards=10, **wrong)]
    if of_options:
        calls += [lambda: zarrdock.open(store, **wrong), lambda: zarrdock.open_group(store, "a", **wrong)]
    for call in calls:
        with pytest.raises(UnsupportedError, match=f"{name}: True or False, not {value!r}"):
            call()
    assert keys(store) == []


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda store: zarrdock.open_array(store, chunkz=3), "did you mean chunks="),
        (lambda store: zarrdock.open(store, "a", chunkz=3), "did you mean chunks="),
        (lambda store: zarrdock.create_array(store, shape=3, dtype="u1", compresors=None), "did you mean compressors="),
        (lambda store: zarrdock.create_group(store).create_array("a", dtpye="u1"), "did you mean dtype="),
        (lambda store: zarrdock.open_group(store, atributes={}), "atributes"),
        (lambda store: zarrdock.open_array(store, "a", write_empty_chunks=True), "WriteOptions"),
    ],
)
def test_a_mistyped_keyword_is_an_error_everywhere(store: zarrdock.Store, call: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        call(store)


def test_an_unknown_option_is_an_error(store: zarrdock.Store) -> None:
    with pytest.raises(UnsupportedError, match="'in_plaze'"):
        zarrdock.open_group(store, "a", options={"in_plaze": True})
    assert keys(store) == []


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_modes_that_create_nothing_take_no_parameters_of_new_arrays(store: zarrdock.Store, mode: Any) -> None:
    zarrdock.create_array(store, shape=3, dtype="u1")
    with pytest.raises(UnsupportedError, match=r"shape= is for new arrays, and mode 'r\+?' creates none"):
        zarrdock.open_array(store, mode, shape=3)


def test_open_creates_arrays_and_groups(store: zarrdock.Store) -> None:
    assert isinstance(zarrdock.open(store, "a"), zarrdock.Group)
    made = zarrdock.open(store, "a", path="x", shape=3, dtype="u1")
    assert isinstance(made, zarrdock.Array)
    made[...] = 7
    again = zarrdock.open(store, "a", path="x", shape=3, dtype="u1")
    assert again[...].tolist() == [7, 7, 7]  # it was there
    assert zarrdock.open(store, "w", path="x", shape=2, dtype="u1")[...].tolist() == [0, 0]
    with pytest.raises(NodeExistsError):
        zarrdock.open(store, "w-", path="x", shape=2, dtype="u1")


class Late(WrapperStore):
    """A store where another process makes the node between our look and our own creation."""

    def __init__(self, store: zarrdock.Store, make: Callable[[], object]) -> None:
        super().__init__(store)
        self._make: Callable[[], object] | None = make

    def write(self, key: str, value: Any, /, *, create_only: bool = False) -> Any:
        make, self._make = self._make, None
        if make is not None:
            make()
        return super().write(key, value, create_only=create_only)


OPTIONS = zarrdock.WriteOptions(write_empty_chunks=True)


def test_a_group_opened_by_the_loser_of_a_race_has_its_options() -> None:
    inside = zarrdock.MemoryStore()
    store = Late(inside, lambda: zarrdock.create_group(inside))
    group = zarrdock.open_group(store, "a", options=OPTIONS, cache_bytes=2**20)
    array = group.create_array("x", data=np.zeros(4, "u1"), chunks=2)
    assert sorted(key for key in keys(inside) if "/c/" in key) == ["x/c/0", "x/c/1"]
    assert array._chunk_cache is not None


@pytest.mark.parametrize("mode", ["a", "w", "w-"])
def test_a_new_array_has_the_cache_that_was_asked_for(store: zarrdock.Store, mode: Any) -> None:
    array = zarrdock.open_array(store, mode, data=np.arange(8), cache_bytes=2**20)
    assert array._chunk_cache is not None
    recorder = zarrdock.RecordingStore(store)
    array = zarrdock.open_array(recorder, "w", data=np.arange(8, dtype="u1"), cache_bytes=2**20)
    assert array[:].tolist() == array[:].tolist()
    assert array._cache.chunks is not None


@pytest.mark.parametrize("shards", [None, 4])
def test_appends_store_empty_chunks_where_asked_to(store: zarrdock.Store, shards: Any) -> None:
    array = zarrdock.create_array(store, shape=0, dtype="u1", chunks=2, shards=shards, options=OPTIONS)
    array.append(np.zeros(8, "u1"))
    assert sum("c/" in key for key in keys(store)) == (4 if shards is None else 2)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_chunks(store: zarrdock.Store, order: Any) -> None:
    array = zarrdock.create_array(
        store, shape=(7, 9), chunks=(2, 1), shards=(6, 5), dtype="i4", options={"subchunk_write_order": order}
    )
    array[...] = np.arange(63).reshape(7, 9)
    assert "morton" not in str(array.metadata.to_json())
    again = zarrdock.open_array(store, "r+", options={"subchunk_write_order": order})
    again[2] = 0
    expected = np.arange(63).reshape(7, 9)
    expected[2] = 0
    np.testing.assert_array_equal(array[...], expected)


def test_chunks_chosen_for_the_user() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, name="a", shape=(5000, 3000), dtype="f8")
    assert 2**18 <= np.prod(array.chunks) * 8 <= 2**20
    array = zarrdock.create_array(store, name="b", shape=(50_000, 30_000), dtype="f8", shards="auto")
    assert array.shards is not None
    assert 2**25 <= np.prod(array.shards) * 8 <= 2**27
    assert 2**17 <= np.prod(array.chunks) * 8 <= 2**20
    assert all(s % c == 0 for s, c in zip(array.shards, array.chunks, strict=True))
    assert zarrdock.create_array(store, name="c", shape=(3, 0, 2), dtype="u1").chunks == (3, 174762, 2)
    assert zarrdock.create_array(store, name="d", shape=(), dtype="u1").chunks == ()
    assert zarrdock.create_array(store, name="e", shape=(8, 8), dtype="u1", chunks=3).chunks == (3, 3)
    assert zarrdock.create_array(
        store, name="f", shape=(8,), dtype="u1", chunks=np.int64(3), shards=np.int64(6)
    ).shards == (6,)


# -- modes ------------------------------------------------------------------------------------------------------------


def test_modes_of_arrays(store: zarrdock.Store, zarr_format: Any) -> None:
    new: dict[str, Any] = {"shape": 4, "dtype": "u1", "zarr_format": zarr_format}
    for mode in ("r", "r+", "a"):
        with pytest.raises(NodeNotFoundError):
            zarrdock.open_array(store, mode, path="x", zarr_format=zarr_format)  # type: ignore[arg-type]
    array = zarrdock.open_array(store, "a", path="x", **new)
    assert not array.read_only
    array[:] = 1
    assert zarrdock.open_array(store, "a", path="x", **new)[...].tolist() == [1] * 4
    zarrdock.open_array(store, "r+", path="x")[0] = 2
    with pytest.raises(ReadOnlyError):
        zarrdock.open_array(store, path="x")[0] = 3
    with pytest.raises(NodeExistsError, match="overwrite") as caught:
        zarrdock.open_array(store, "w-", path="x", **new)
    assert caught.value.__suppress_context__  # one traceback: the store's word for it says no more
    assert zarrdock.open_array(store, path="x")[...].tolist() == [2, 1, 1, 1]
    assert zarrdock.open_array(store, "w", path="x", data=[5], zarr_format=zarr_format)[...].tolist() == [5]
    assert zarrdock.open_array(store, "w-", path="y", **new).shape == (4,)
    with pytest.raises(UnsupportedError, match="shape= and dtype="):
        zarrdock.open_array(store, "w", path="z")


def test_modes_of_groups(store: zarrdock.Store, zarr_format: Any) -> None:
    for mode in ("r", "r+"):
        with pytest.raises(NodeNotFoundError):
            zarrdock.open_group(store, mode, path="g")  # type: ignore[arg-type]
    group = zarrdock.open_group(store, "a", path="g", zarr_format=zarr_format, attributes={"n": 1})
    assert group.zarr_format == zarr_format
    assert dict(zarrdock.open_group(store, "a", path="g").attrs) == {"n": 1}
    group.create_array("x", shape=3, dtype="u1")
    with pytest.raises(NodeExistsError):
        zarrdock.open_group(store, "w-", path="g", zarr_format=zarr_format)
    with pytest.raises(ReadOnlyError):
        zarrdock.open_group(store, path="g").create_group("y")
    with pytest.raises(ReadOnlyError):
        del zarrdock.open_group(store, path="g")["x"]
    assert list(zarrdock.open_group(store, "w", path="g", zarr_format=zarr_format)) == []


def test_overwriting_leaves_nothing_of_what_was_there(store: zarrdock.Store, zarr_format: Any) -> None:
    group = zarrdock.create_group(store, path="g", zarr_format=zarr_format, attributes={"a": 1})
    group.create_array("x", shape=3, dtype="u1", data=[1, 2, 3])
    zarrdock.create_group(store, path="gx", zarr_format=zarr_format)
    with pytest.raises(NodeExistsError):
        zarrdock.create_group(store, path="g", zarr_format=zarr_format)
    array = zarrdock.create_array(store, name="g", shape=3, dtype="u1", overwrite=True, zarr_format=zarr_format)
    assert dict(array.attrs) == {}
    assert [key for key in keys(store) if key.startswith("g/")] == ["g/zarr.json" if zarr_format == 3 else "g/.zarray"]
    assert zarrdock.open_group(store, path="gx").zarr_format == zarr_format


# -- groups -----------------------------------------------------------------------------------------------------------


def test_members(store: zarrdock.Store, zarr_format: Any) -> None:
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    root.create_array("a/b/x", shape=3, dtype="u1", data=[1, 2, 3])
    root.create_group("c")
    root.create_array("z", data=[[1]])
    store.write("notes/readme.txt", b"not Zarr")
    assert list(root) == ["a", "c", "z"]
    assert list(root.keys()) == ["a", "c", "z"]
    assert len(root) == 3
    assert [name for name, _ in root.arrays()] == ["z"]
    assert [name for name, _ in root.groups()] == ["a", "c"]
    assert root["a/b/x"][...].tolist() == [1, 2, 3]  # type: ignore[union-attr]
    assert root["a"]["b"]["x"].name == "/a/b/x"  # type: ignore[index]
    assert root[""] is root
    assert [p in root for p in ("a", "a/b", "a/b/x", "notes", "a/x", 7)] == [True, True, True, False, False, False]
    assert root.get("nothing") is None
    assert root.get("nothing", 5) == 5
    with pytest.raises(KeyError):
        root["nothing"]
    with pytest.raises(NodeNotFoundError):
        root["nothing"]
    assert root.require_group("c").path == "c"
    assert root.require_group("d/e").path == "d/e"
    with pytest.raises(NodeExistsError):
        root.require_group("z")
    with pytest.raises(NodeExistsError):
        root.create_array("z", shape=1, dtype="u1")
    with pytest.raises(NodeExistsError, match="an array has no members"):
        root.create_array("z/below", shape=1, dtype="u1")
    del root["a"]
    assert "a" not in root
    with pytest.raises(KeyError):
        del root["a"]
    assert list(root) == ["c", "d", "z"]


def test_a_broken_member_does_not_hide_the_others(store: zarrdock.Store) -> None:
    root = zarrdock.create_group(store)
    root.create_array("a", shape=3, dtype="u1")
    root.create_array("b", shape=3, dtype="u1")
    document = bytes(store.get("b/zarr.json").data)  # type: ignore[union-attr]
    store.write("b/zarr.json", document.replace(b"uint8", b"magic"))
    store.write("c/zarr.json", b"{")
    assert list(root) == ["a", "b", "c"]
    assert "b" in root
    assert "c" in root
    with pytest.raises(UnknownExtensionError, match="magic"):
        root["b"]
    with pytest.raises(MetadataError, match=r"c/zarr\.json"):
        root["c"]
    del root["c"]
    assert list(root) == ["a", "b"]


RESERVED = ["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "__x", "...", "a/__x/b", "a/zarr.json"]


@pytest.mark.parametrize("name", [*RESERVED, ".", "..", "a/../b", "a//b"])
def test_names_that_zarr_keeps_are_refused_at_creation(name: str, zarr_format: Any) -> None:
    values: dict[str, bytes] = {}
    group = zarrdock.create_group(values, zarr_format=zarr_format)
    before = dict(values)
    for create in (
        lambda: group.create_array(name, shape=1, dtype="u1"),
        lambda: group.create_group(name),
        lambda: group.require_group(name),
        lambda: zarrdock.create_array(values, name=name, shape=1, dtype="u1", zarr_format=zarr_format),
        lambda: zarrdock.create_group(values, path=name, zarr_format=zarr_format),
        lambda: zarrdock.open_group(values, "a", path=name, zarr_format=zarr_format),
        lambda: zarrdock.open_array(values, "a", path=name, shape=1, dtype="u1", zarr_format=zarr_format),
        lambda: zarrdock.copy(np.zeros(1), values, dst_path=name),
    ):
        with pytest.raises(InvalidKeyError):
            create()
    assert values == before


@pytest.mark.parametrize("name", ["__x", "..."])
def test_nodes_of_such_names_are_read_copied_and_deleted(name: str, zarr_format: Any) -> None:
    values: dict[str, bytes] = {}
    group = zarrdock.create_group(values, zarr_format=zarr_format)
    group.create_array("a", data=np.arange(3))
    for key in [key for key in values if key.startswith("a/")]:
        values[name + key[1:]] = values.pop(key)
    assert list(group.keys()) == [name]
    copied = zarrdock.copy(values, {})
    for found in (group, copied):
        assert found[name][...].tolist() == [0, 1, 2]
    zarrdock.open_array(values, "r+", path=name).attrs["x"] = 1
    del group[name]
    assert list(group.keys()) == []


def test_attributes(store: zarrdock.Store, zarr_format: Any) -> None:
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    array = group.create_array("x", shape=1, dtype="u1", attributes={"a": 1})
    for node, path in ((group, ""), (array, "x")):
        node.attrs["b"] = [1, {"c": None}]
        node.attrs.update({"d": "ü"}, e=2.5)
        found = zarrdock.open(store, path=path)
        assert {"b": [1, {"c": None}], "d": "ü", "e": 2.5}.items() <= dict(found.attrs).items()
        del node.attrs["d"]
        assert "d" not in zarrdock.open(store, path=path).attrs
        with pytest.raises(KeyError):
            node.attrs["d"]
        with pytest.raises(KeyError):
            del node.attrs["d"]
        node.attrs.put({"only": 1})
        assert zarrdock.open(store, path=path).attrs.asdict() == {"only": 1}
        with pytest.raises((MetadataError, TypeError)):
            node.attrs["bad"] = object()
        assert zarrdock.open(store, path=path).attrs.asdict() == {"only": 1}
        mixed = {"n": np.float32(1.5), "t": (np.int64(1), np.bool_(True)), "a": np.eye(2), "s": np.array(["x", "yz"])}
        plain = {"n": 1.5, "t": [1, True], "a": [[1.0, 0.0], [0.0, 1.0]], "s": ["x", "yz"]}
        node.attrs.put(mixed)
        assert json.dumps(node.attrs.asdict()) == json.dumps(plain)
        assert zarrdock.open(store, path=path).attrs.asdict() == plain
        for value in (np.datetime64("2026-01-01", "ns"), np.complex64(1), np.array([b"x"]), np.array([object()])):
            with pytest.raises(MetadataError, match=r"k.*JSON has no form"):
                node.attrs["k"] = value
        node.attrs.put({"only": 1})
    for made in (
        group.create_array("y", shape=1, dtype="u1", attributes=mixed),
        group.create_group("z", attributes=mixed),
        zarrdock.create_group({}, zarr_format=zarr_format, attributes=mixed),
        zarrdock.open_group({}, "w", zarr_format=zarr_format, attributes=mixed),
    ):
        assert json.dumps(made.attrs.asdict()) == json.dumps(plain)
    other = zarrdock.open_array(store, "r+", path="x")
    other.attrs["new"] = 1
    assert "new" not in array.attrs
    array.refresh()
    assert array.attrs["new"] == 1


def test_consolidated_metadata(zarr_format: Any) -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    root = zarrdock.create_group(store, zarr_format=zarr_format, attributes={"r": 1})
    root.create_array("a/x", shape=3, dtype="u1", data=[1, 2, 3], attributes={"n": 1})
    zarrdock.consolidate_metadata(store)
    store.reset()
    found = zarrdock.open_group(store)
    assert store.n_rounds == 1
    assert list(found) == ["a"]
    assert list(found["a"]) == ["x"]  # type: ignore[call-overload]
    array = found["a/x"]
    assert dict(array.attrs) == {"n": 1}
    assert dict(found.attrs) == {"r": 1}
    assert store.n_rounds == 1
    assert array[...].tolist() == [1, 2, 3]  # type: ignore[union-attr]
    root.create_array("b", shape=3, dtype="u1")
    assert list(zarrdock.open_group(store)) == ["a", "b"]
    assert list(zarrdock.open_group(store, use_consolidated=False)) == ["a", "b"]
    zarrdock.create_array(store, name="a/y", shape=3, dtype="u1", zarr_format=zarr_format)
    store.delete("b/zarr.json" if zarr_format == 3 else "b/.zarray")  # by another program
    assert list(zarrdock.open_group(store)["a"]) == ["x", "y"]  # type: ignore[call-overload]
    assert list(zarrdock.open_group(store)) == ["a", "b"]  # a copy, until it is made again
    zarrdock.consolidate_metadata(store)
    assert list(zarrdock.open_group(store)) == ["a"]


def test_stores_are_whatever_names_one(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "x", data=[1, 2])
    for where in (tmp_path / "x", str(tmp_path / "x"), f"file://{tmp_path}/x", zarrdock.LocalStore(tmp_path / "x")):
        assert zarrdock.open_array(where)[...].tolist() == [1, 2]
    assert zarrdock.open_array(tmp_path, path="x")[...].tolist() == [1, 2]
    contents: dict[str, bytes] = {}
    zarrdock.create_array(contents, data=[3])
    assert zarrdock.open_array(contents)[...].tolist() == [3]
    assert zarrdock.open_array("memory://somewhere/x", "a", data=[4])[...].tolist() == [4]


def test_resizing(store: zarrdock.Store, zarr_format: Any) -> None:
    array = zarrdock.create_array(store, shape=(4, 4), chunks=(3, 3), dtype="u1", zarr_format=zarr_format)
    array[...] = 1
    array.resize((np.int64(2), 5))
    assert array[...].tolist() == [[1, 1, 1, 1, 0]] * 2
    array.resize((4, 4))
    assert array[...].tolist() == [[1] * 4] * 2 + [[0] * 4] * 2
    for wrong in (3, (1, 2, 3), (-1, 2), (1.5, 2), "ab"):
        with pytest.raises(SelectionError):
            array.resize(wrong)  # type: ignore[arg-type]
    assert array.append(np.ones((2, 4))) == (6, 4)
    assert array.append([[7]] * 6, axis=-1) == (6, 5)
    assert array[:, 4].tolist() == [7] * 6
    for data, axis in ((np.ones((2, 4)), 0), (np.ones(5), 0), (np.ones((2, 5)), 2), (np.ones((2, 5)), 1)):
        with pytest.raises(SelectionError):
            array.append(data, axis)
    assert zarrdock.open_array(store).shape == (6, 5)
    line = zarrdock.create_array({}, shape=3, dtype="u1", zarr_format=zarr_format)
    line.resize(5)
    assert line.shape == (5,)


def test_stores_without_an_atomic_update() -> None:
    store = WithTraits(zarrdock.MemoryStore(), atomic_update=False)
    new: dict[str, Any] = {"shape": 8, "chunks": 2, "shards": 4, "dtype": "u1"}
    array = zarrdock.create_array(store, **new)
    array[:4] = 1  # a whole shard needs none
    for act in (lambda: array.write(0, 2), lambda: array.attrs.update(a=1), lambda: array.append([1])):
        with pytest.raises(UnsupportedError):
            act()
    assert zarrdock.open_array(store)[...].tolist() == [1] * 4 + [0] * 4
    single = zarrdock.open_array(store, "r+", options={"single_writer": True})
    single[0] = 2
    single[6:] = 3
    single.attrs["a"] = 1
    single.append([9])
    found = zarrdock.open_array(store)
    assert found[...].tolist() == [2, 1, 1, 1, 0, 0, 3, 3, 9]
    assert dict(found.attrs) == {"a": 1}


def test_nodes_that_were_deleted(store: zarrdock.Store, zarr_format: Any) -> None:
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    array = group.create_array("x", shape=4, dtype="u1", attributes={"a": 1})
    del group["x"]
    for act in (lambda: array.attrs.update(b=1), lambda: array.resize(5), lambda: array.append([1]), array.refresh):
        with pytest.raises(NodeNotFoundError):
            act()
    assert list(group) == []


def test_copying_protects_against_views() -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=[1, 2, 3])
    with pytest.raises(ValueError, match="copy"):
        array.__array__(copy=False)
    assert np.asarray(array, "f4").dtype == np.float32
    with pytest.raises(TypeError):
        len(zarrdock.create_array(zarrdock.MemoryStore(), data=1))


# -- the habits of zarr-python's users --------------------------------------------------------------------------------


def test_facts_of_nodes(store: zarrdock.Store) -> None:
    group = zarrdock.create_group(store, attributes={"a": 1})
    array = group.create_array("x", shape=(8, 6), dtype="i2", chunks=(2, 3), shards=(4, 6), dimension_names=("y", "x"))
    assert array.info["Chunks"] == "2 × 3"
    assert array.info["Shards"] == "4 × 6"
    assert "Dimensions  y, x" in str(array.info)
    assert "<table>" in array.info._repr_html_()
    assert group.info["Attributes"] == 1
    assert "Consolidated metadata" in group._repr_html_()


def test_members_are_counted_listed_and_drawn(store: zarrdock.Store, zarr_format: Any) -> None:
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    group.create_array("a", shape=(3,), dtype="u1")
    group.create_array("b/c/d", shape=(2, 2), dtype="f4")
    assert list(group.array_keys()) == ["a"]
    assert list(group.group_keys()) == ["b"]
    assert [group.nmembers(), group.nmembers(1), group.nmembers(max_depth=None)] == [2, 3, 4]
    assert group.tree() == "/\n├── a (3,) uint8\n└── b\n    └── c\n        └── d (2, 2) float32"
    assert group.tree(0) == "/\n├── a (3,) uint8\n└── b"


def test_required_arrays_are_made_once(store: zarrdock.Store) -> None:
    group = zarrdock.create_group(store)
    group.require_array("x", shape=(3,), dtype="u1")[...] = 7
    assert group.require_array("x", shape=3, dtype="u1")[...].tolist() == [7, 7, 7]
    with pytest.raises(NodeExistsError, match=r"shape \(3,\), not \(4,\)"):
        group.require_array("x", shape=(4,), dtype="u1")
    with pytest.raises(NodeExistsError, match="data type uint8, not f4"):
        group.require_array("x", shape=(3,), dtype="f4")
    group.create_group("g")
    with pytest.raises(NodeExistsError):
        group.require_array("g", shape=(3,), dtype="u1")


def test_attributes_are_updated_at_once(store: zarrdock.Store) -> None:
    group = zarrdock.create_group(store, attributes={"a": 1, "b": 2})
    assert group.update_attributes({"b": 3, "c": 4}) is group
    assert dict(zarrdock.open_group(store).attrs) == {"a": 1, "b": 3, "c": 4}
    array = group.create_array("x", shape=3, dtype="u1").update_attributes({"unit": "m"})
    assert dict(zarrdock.open_array(store, path="x").attrs) == {"unit": "m"}
    assert array.attrs["unit"] == "m"


def test_a_hierarchy_is_made_at_once(store: zarrdock.Store, zarr_format: Any) -> None:
    nodes: dict[str, Any] = {
        "a": {"attributes": {"unit": "K"}},
        "a/x": {"shape": (4, 4), "dtype": "i2", "chunks": (2, 2)},
        "b/c/y": {"shape": (2,), "dtype": "f4", "attributes": {"n": 1}},
        "d": {},
    }
    group = zarrdock.create_hierarchy(store, nodes, path="top", zarr_format=zarr_format)
    assert group.tree() == ("/top\n├── a\n│   └── x (4, 4) int16\n├── b\n│   └── c\n│       └── y (2,) float32\n└── d")
    assert dict(group["a"].attrs) == {"unit": "K"}
    assert dict(group["b/c/y"].attrs) == {"n": 1}
    with pytest.raises(NodeExistsError):
        zarrdock.create_hierarchy(store, {"a": {}}, path="top", zarr_format=zarr_format)
    with pytest.raises(TypeError, match="did you mean chunks"):
        zarrdock.create_hierarchy(store, {"z": {"shape": 1, "dtype": "u1", "chunkz": 1}}, path="top")


def test_settings_are_changed_for_a_block() -> None:
    before = zarrdock.config.threads
    with zarrdock.config.set(threads=before + 1, cache_bytes=5) as config:
        assert (config.threads, zarrdock.config.cache_bytes) == (before + 1, 5)
    assert zarrdock.config.threads == before
    with pytest.raises(TypeError, match="did you mean threads"), zarrdock.config.set(thread=3):
        pass


@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_stored_chunks_are_counted(store: zarrdock.Store, zarr_format: Any, shards: Any) -> None:
    if shards and zarr_format == 2:
        return
    group = zarrdock.create_group(store, zarr_format=zarr_format)
    array = group.create_array("x", shape=(7, 6), dtype="u1", chunks=(2, 3), shards=shards)
    group.create_array("x2", data=np.ones((2, 2), "u1"))
    assert array.nchunks_initialized == 0
    array[0, 0] = 1
    assert array.nchunks_initialized == (4 if shards else 1)
    array[...] = 1
    assert array.nchunks_initialized == array.nchunks == 8


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (), (0,), (0, 3), (3, 0)])
@pytest.mark.parametrize("value", [0, 3, 99, 2.5, float("nan"), "3", [0, 1, 2, 3], None])
def test_in_is_numpys(shape: tuple[int, ...], value: Any) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    array = zarrdock.create_array({}, data=values, chunks=2, shards=None)
    try:
        expected = value in values
    except ValueError:
        with pytest.raises(ValueError):
            value in array  # noqa: B015 - is what is tested
        return
    assert (value in array) is bool(expected)


def test_in_reads_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrdock.array.array._SEARCH_BYTES", 100)
    array = zarrdock.create_array({}, data=np.arange(200).reshape(50, 4), chunks=(3, 2))
    assert [n in array for n in (0, 77, 199, 200)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((0,), (131072,)),
        ((0, 5), (26214, 5)),
        ((5, 0), (5, 26214)),
        ((0, 0), (362, 362)),
        ((0, 4000, 4000), (1, 250, 500)),
        ((0, 2**20), (1, 2**17)),
    ],
)
def test_automatic_chunks_of_an_axis_that_is_to_grow(shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """Chunks of about 1 MiB, as for any array: not of one row."""
    array = zarrdock.create_array({}, shape=shape, dtype="f8")
    assert array.chunks == chunks
    assert zarrdock.create_array({}, shape=shape, dtype="f8", zarr_format=2).chunks == chunks


def test_appending_to_an_array_without_rows_makes_few_objects(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "a", shape=(0, 5), dtype="f8", shards="auto")
    for i in range(20):
        array.append(np.full((10, 5), i))
    assert len(list((tmp_path / "a" / "c").rglob("*"))) <= 2
    assert array[::10, 0].tolist() == list(range(20))
