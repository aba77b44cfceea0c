"""v3 as v2 and v2 as v3."""

import json
import pickle
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import CodecError, UnsupportedError, VersionChangedError
from zarrdock.ranges import Span
from zarrdock.views import as_v2, as_v3

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("u2")
V3: list[dict[str, Any]] = [
    {"chunks": (8, 8), "shards": (16, 24)},
    {"chunks": (4, 4), "shards": [(32, 24), (8, 12)], "dimension_names": ("y", "x")},
    {"chunks": (8, 8), "compressors": [{"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5}}]},
    {"chunks": (8, 8), "compressors": "gzip", "chunk_key_encoding": ".", "order": "F"},
    {"chunks": (8, 8), "compressors": None, "serializer": {"name": "bytes", "configuration": {"endian": "big"}}},
]
V2: list[dict[str, Any]] = [
    {"chunks": (8, 8)},
    {"chunks": (8, 8), "order": "F", "chunk_key_encoding": "/", "compressors": None},
    {"chunks": (8, 8), "dimension_names": ("y", "x")},
    {"chunks": (8, 8), "dtype": ">u2", "compressors": "gzip"},
    {"chunks": (8, 8), "dtype": "<u2", "filters": [{"id": "delta", "dtype": "<u2"}]},
]


def documents(store: zarrdock.Store) -> set[str]:
    return {entry.key.rpartition("/")[2] for entry in store.list()} & {"zarr.json", ".zarray", ".zattrs", ".zgroup"}


@pytest.mark.parametrize("path", ["", "some/where"])
@pytest.mark.parametrize("layout", V3)
def test_v3_as_v2(layout: dict[str, Any], path: str) -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name=path, data=VALUES, fill_value=3, attributes={"a": 1}, **layout)
    view = as_v2(store)
    shown = zarrdock.open_array(view, path=path)
    assert shown.zarr_format == 2
    np.testing.assert_array_equal(shown[...], VALUES)
    assert shown.fill_value == 3
    assert shown.attrs["a"] == 1
    assert shown.dimension_names == layout.get("dimension_names")
    assert documents(view) == {".zarray", ".zattrs"}
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)


@pytest.mark.parametrize("path", ["", "some/where"])
@pytest.mark.parametrize("layout", V2)
def test_v2_as_v3(layout: dict[str, Any], path: str) -> None:
    store = zarrdock.MemoryStore()
    dtype = layout.get("dtype", "u2")
    rest = {name: value for name, value in layout.items() if name != "dtype"}
    array = zarrdock.create_array(
        store, name=path, shape=VALUES.shape, dtype=dtype, zarr_format=2, fill_value=3, attributes={"a": 1}, **rest
    )
    array[...] = VALUES
    view = as_v3(store)
    shown = zarrdock.open_array(view, path=path)
    assert shown.zarr_format == 3
    np.testing.assert_array_equal(shown[...], VALUES)
    assert dict(shown.attrs) == {"a": 1}
    assert shown.dimension_names == layout.get("dimension_names")
    assert documents(view) == {"zarr.json"}


@pytest.mark.peer
@pytest.mark.parametrize("layout", V3)
def test_zarr_python_reads_v2(layout: dict[str, Any]) -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, **layout)
    array = zarr.open_array(ZarrStore(as_v2(store)), mode="r", zarr_format=2)
    np.testing.assert_array_equal(array[...], VALUES)


@pytest.mark.peer
@pytest.mark.parametrize("layout", V2[:3])
def test_zarr_python_reads_v3(layout: dict[str, Any]) -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=VALUES, zarr_format=2, **layout)
    array = zarr.open_array(ZarrStore(as_v3(store)), mode="r", zarr_format=3)
    np.testing.assert_array_equal(array[...], VALUES)


@pytest.mark.parametrize("consolidated", [False, True])
def test_groups(consolidated: bool) -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store, attributes={"title": "x"})
    group.create_array("a/b", data=VALUES, chunks=(8, 8), shards=(16, 24))
    group.create_array("turned", shape=(4, 5, 6), dtype="u1", chunks=(4, 5, 6), filters=[TURNED])
    if consolidated:
        zarrdock.consolidate_metadata(store)
    view = as_v2(store)
    blob = view.get(".zmetadata")
    assert blob is not None
    members = json.loads(bytes(blob.data))["metadata"]
    assert "turned/.zarray" not in members
    assert {".zgroup", ".zattrs", "a/.zgroup", "a/b/.zarray"} <= members.keys()
    shown = zarrdock.open_group(view)
    assert shown.zarr_format == 2
    assert shown.attrs["title"] == "x"
    np.testing.assert_array_equal(shown["a/b"][...], VALUES)  # type: ignore[index]
    again = zarrdock.open_group(as_v3(view))
    assert again.zarr_format == 3
    np.testing.assert_array_equal(again["a/b"][...], VALUES)  # type: ignore[index]


def test_what_has_no_form_in_the_other_format_says_why() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name="t", shape=(4, 5, 6), dtype="u1", chunks=(4, 5, 6), filters=[TURNED])
    zarrdock.create_array(store, name="good", data=VALUES)
    view = as_v2(store)
    with pytest.raises(UnsupportedError, match=r"'t' cannot be shown as Zarr v2.*transpose"):
        view.get("t/.zarray")
    np.testing.assert_array_equal(zarrdock.open_array(view, path="good")[...], VALUES)


FILTERS_OF_BYTES = [
    ("delta", {"dtype": ">u2"}),
    ("fixedscaleoffset", {"scale": 1, "offset": 3, "dtype": ">u2", "astype": ">u2"}),
]


@pytest.mark.parametrize("name, configuration", FILTERS_OF_BYTES)
def test_filters_of_another_byte_order(name: str, configuration: dict[str, Any]) -> None:
    """In v3 a filter sees elements in the machine's order, and ``bytes`` puts what it makes into that of v2."""
    store = zarrdock.MemoryStore()
    filters = [{"id": name, **configuration}]
    zarrdock.create_array(store, dtype=">u2", shape=VALUES.shape, chunks=(8, 8), filters=filters, zarr_format=2)
    zarrdock.open_array(store, "r+")[...] = VALUES
    shown = zarrdock.open_array(as_v3(store))
    assert shown.zarr_format == 3
    np.testing.assert_array_equal(shown[...], VALUES)


def test_filters_that_see_elements_as_others_in_the_wrong_order() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, shape=(9,), dtype=">i4", filters=[{"id": "delta", "dtype": "<i4"}], zarr_format=2)
    with pytest.raises(UnsupportedError, match=r"cannot be shown as Zarr v3: .*own byte order"):
        as_v3(store).get("zarr.json")


TURNED = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}


def test_nodes_that_are_of_that_format_already() -> None:
    two, three = zarrdock.MemoryStore(), zarrdock.MemoryStore()
    zarrdock.create_array(two, data=VALUES, zarr_format=2)
    zarrdock.create_array(three, data=VALUES)
    assert zarrdock.open_array(as_v2(two)).metadata == zarrdock.open_array(two).metadata
    assert zarrdock.open_array(as_v3(three)).metadata == zarrdock.open_array(three).metadata
    np.testing.assert_array_equal(zarrdock.open_array(as_v2(two))[...], VALUES)


REENCODED: list[dict[str, Any]] = [
    {"chunks": (8, 8, 8), "filters": [TURNED]},
    {"chunks": (4, 4, 4), "shards": (8, 8, 16), "filters": [TURNED]},
    {"chunks": (4, 4, 4), "shards": (8, 8, 16), "dtype": ">i4", "filters": [TURNED], "compressors": "gzip"},
    {"chunks": (4, 4, 4), "shards": (8, 8, 16), "dtype": "bool", "filters": [TURNED], "dimension_names": tuple("zyx")},
]
CUBE = np.arange(20 * 21 * 22).reshape(20, 21, 22) % 251


@pytest.mark.parametrize("layout", REENCODED)
def test_chunks_are_reencoded_where_asked_for(layout: dict[str, Any]) -> None:
    store = zarrdock.MemoryStore()
    dtype = layout.get("dtype", "u1")
    values = (CUBE % 2 if dtype == "bool" else CUBE).astype(dtype)
    rest = {name: value for name, value in layout.items() if name != "dtype"}
    array = zarrdock.create_array(store, name="some/where", data=values, fill_value=1, **rest)
    array[8:16] = 1
    with pytest.raises(UnsupportedError, match=r"transpose.*--reencode"):
        as_v2(store).get("some/where/.zarray")
    view = pickle.loads(pickle.dumps(as_v2(store, reencode=True)))
    shown = zarrdock.open_array(view, path="some/where")
    assert (shown.zarr_format, shown.dtype, shown.fill_value) == (2, values.dtype.newbyteorder("="), 1)
    np.testing.assert_array_equal(shown[...], array[...])
    chunks = [entry.key for entry in view.list("some/where") if not entry.key.rpartition("/")[2].startswith(".z")]
    assert len(chunks) == np.prod(shown.cdata_shape) - np.prod(shown.cdata_shape[1:]) * (8 // shown.chunks[0])
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)
        assert entry.size in (None, len(blob.data))


def test_others_are_left_as_they_are() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name="plain", data=VALUES, chunks=(8, 8), shards=(16, 24))
    zarrdock.create_array(store, name="turned", data=CUBE, chunks=(8, 8, 8), filters=[TURNED])
    zarrdock.create_group(store)
    zarrdock.consolidate_metadata(store)
    one, other = as_v2(store), as_v2(store, reencode=True)
    assert bytes(one.get("plain/0/0").data) == bytes(other.get("plain/0/0").data)  # type: ignore[union-attr]
    members = [json.loads(bytes(view.get(".zmetadata").data))["metadata"] for view in (one, other)]  # type: ignore[union-attr]
    assert [("plain/.zarray" in found, "turned/.zarray" in found) for found in members] == [(True, False), (True, True)]
    np.testing.assert_array_equal(zarrdock.open_group(other)["turned"][...], CUBE)  # type: ignore[index]


def test_a_chunk_is_made_once_for_as_long_as_it_is_the_same() -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(record, data=CUBE, chunks=(20, 21, 22), filters=[TURNED], compressors=None)
    view = as_v2(record, reencode=True)
    first = view.get("0/0/0")
    assert first is not None
    record.reset()
    again = view.get("0/0/0", Span(2, 10))
    assert again is not None
    assert bytes(again.data) == bytes(first.data)[2:10]
    assert (again.version, record.nbytes) == (first.version, 1)
    assert view.size("0/0/0") == len(first.data)
    array[0] = 7
    assert bytes(view.get("0/0/0").data) != bytes(first.data)  # type: ignore[union-attr]
    with pytest.raises(VersionChangedError):
        view.get("0/0/0", version=first.version)
    record.write("c/0/0/0", b"broken")
    with pytest.raises(CodecError, match="c/0/0/0"):
        view.get("0/0/0")


@pytest.mark.peer
def test_zarr_python_reads_reencoded_chunks() -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=CUBE, chunks=(4, 4, 4), shards=(8, 8, 16), filters=[TURNED])
    array = zarr.open_array(ZarrStore(as_v2(store, reencode=True)), mode="r", zarr_format=2)
    np.testing.assert_array_equal(array[...], CUBE)


def test_text_and_bytes_of_any_length() -> None:
    words = np.array(["a", "bc", "déf"], np.dtypes.StringDType())
    raw = np.array([b"a", b"", b"def"], object)
    for values, dtype in ((words, "string"), (raw, "bytes")):
        for zarr_format, view in ((2, as_v3), (3, as_v2)):
            store = zarrdock.MemoryStore()
            zarrdock.create_array(
                store,
                shape=3,
                dtype=dtype,
                chunks=2,
                zarr_format=zarr_format,  # type: ignore[arg-type]
            )[...] = values
            shown = zarrdock.open_array(view(store))
            assert shown.zarr_format == 5 - zarr_format
            assert shown[...].tolist() == values.tolist()
    gzip = {"name": "gzip", "configuration": {"level": 1}}
    store = zarrdock.MemoryStore()
    zarrdock.create_array(
        store, data=words, chunks=2, compressors={"name": "conditional", "configuration": {"codecs": [gzip]}}
    )
    with pytest.raises(UnsupportedError, match="conditional"):
        zarrdock.open_array(as_v2(store, reencode=True))
