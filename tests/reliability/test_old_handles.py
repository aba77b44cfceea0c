"""An array that was opened before it was replaced: what it would write by the old document would damage the new one."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import remote
from zarrdock.array import array as array_module
from zarrdock.errors import NodeChangedError, NodeNotFoundError

NEW = [n + 0.5 for n in range(16)]


@pytest.fixture(params=["memory", "local", "zip", "remote", "mapping", pytest.param("S3", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[zarrdock.Store]:
    match request.param:
        case "memory":
            yield zarrdock.MemoryStore()
        case "local":
            yield zarrdock.LocalStore(tmp_path / "x")
        case "zip":
            with zarrdock.open_store(tmp_path / "x.zip") as archive:
                yield archive
        case "remote":
            yield remote(zarrdock.MemoryStore())
        case "mapping":
            yield zarrdock.open_store({})
        case "S3":
            yield request.getfixturevalue("on_s3")()


ACTS: dict[str, Callable[[zarrdock.Array], Any]] = {
    "all": lambda a: a.__setitem__(slice(0, 16), np.arange(16)),
    "whole chunks": lambda a: a.write(slice(0, 8), 3),
    "part of a chunk": lambda a: a.__setitem__(3, 7),
    "points": lambda a: a.vindex.__setitem__([1, 9], 7),
    "chunks emptied": lambda a: a.write(slice(0, 8), 0),
    "append": lambda a: a.append([1.7, 2.2]),
    "smaller": lambda a: a.resize(10),
    "larger": lambda a: a.resize(40),
    "attributes": lambda a: a.attrs.update(q=1),
}
OLD: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": 8, "compressors": None},
    "shards": {"chunks": 4, "shards": 8, "compressors": None, "zarr_format": 3},
    "compressed": {"chunks": 8},
}


def open_old(store: zarrdock.Store, how: str, **arguments: Any) -> zarrdock.Array:
    zarr_format = arguments.get("zarr_format", 3)
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    root.create_array("a", data=np.zeros(16, "i4"), **{k: v for k, v in arguments.items() if k != "zarr_format"})
    if how == "copy":
        root.consolidate()
        return zarrdock.open_group(store, "r+")["a"]  # type: ignore[return-value]
    array = zarrdock.open_array(store, "r+", path="a")
    array[0] = 1
    return pickle.loads(pickle.dumps(array)) if how == "pickle" and type(store) is zarrdock.LocalStore else array


def replace(store: zarrdock.Store, *, elsewhere: bool, zarr_format: Any) -> None:
    """Replace the array; ``elsewhere``: without this process knowing."""
    n = array_module.n_removals()
    zarrdock.create_array(
        store, name="a", data=np.array(NEW), chunks=4, compressors=None, overwrite=True, zarr_format=zarr_format
    )
    if elsewhere:
        from zarrdock.array import removal

        removal._n_removals = n


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("how", ["document", "copy", "pickle"])
@pytest.mark.parametrize("act", ACTS)
def test_a_replaced_array_is_not_damaged(
    store: zarrdock.Store, monkeypatch: pytest.MonkeyPatch, act: str, how: str, old: str, zarr_format: Any
) -> None:
    if old == "shards" and zarr_format == 2:
        pytest.skip("v2 has no shards")
    array = open_old(store, how, **OLD[old] | {"zarr_format": zarr_format})
    replace(store, elsewhere=False, zarr_format=zarr_format)
    with pytest.raises(NodeChangedError, match=r"replaced by another one .* refresh\(\)"):
        ACTS[act](array)
    found = zarrdock.open_array(store, path="a")
    assert found[:].tolist() == NEW
    assert found.attrs.asdict() == {}
    array.refresh()
    ACTS[act](array)


@pytest.mark.parametrize("act", ACTS)
def test_by_another_process(store: zarrdock.Store, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """What was read a while ago is not relied on."""
    array = open_old(store, "document", **OLD["chunks"])
    replace(store, elsewhere=True, zarr_format=3)
    array._distrust()
    with pytest.raises(NodeChangedError):
        ACTS[act](array)
    assert zarrdock.open_array(store, path="a")[:].tolist() == NEW


WHOLE = ("all", "whole chunks", "chunks emptied")


@pytest.mark.parametrize("act", ACTS)
def test_by_another_process_a_moment_ago(store: zarrdock.Store, act: str) -> None:
    """Parts of chunks wait for the look always, in the round of the chunks; whole chunks may go out beside it."""
    array = open_old(store, "document", **OLD["chunks"])
    replace(store, elsewhere=True, zarr_format=3)
    array._trust()
    array._n_removals = array_module.n_removals()
    with pytest.raises(NodeChangedError) as caught:
        ACTS[act](array)
    if array_module.Array._start_check(zarrdock.open_array(store, path="a")) is not None and act in WHOLE:
        assert "Write them anew" in caught.value.__notes__[0]
    else:
        assert zarrdock.open_array(store, path="a")[:].tolist() == NEW


@pytest.mark.parametrize("act", ACTS)
def test_a_deleted_array_is_not_written_to(store: zarrdock.Store, act: str) -> None:
    array = open_old(store, "document", **OLD["chunks"])
    del zarrdock.open_group(store, "r+")["a"]
    with pytest.raises(NodeNotFoundError):
        ACTS[act](array)
    assert not [entry.key for entry in store.list("a")]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_that_was_only_changed_is_the_same(store: zarrdock.Store, zarr_format: Any) -> None:
    array = open_old(store, "copy", **OLD["chunks"] | {"zarr_format": zarr_format})
    other = zarrdock.open_array(store, "r+", path="a")
    other.append(np.arange(5))
    other.attrs["q"] = float("nan")
    array[3] = 9
    array[8:16] = 4
    array.append([7])
    assert zarrdock.open_array(store, path="a")[:].tolist() == [*[0] * 3, 9, *[0] * 4, *[4] * 8, *range(5), 7]


def test_a_rectilinear_grid_that_grew_is_the_same() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=10, dtype="i4", chunks=[[2, 6, 2]])
    other = zarrdock.open_array(store, "r+")
    other.append(np.arange(7))
    array[:] = 1
    other.resize(3)
    array[:3] = 1
    for chunks in ([[2, 4, 4]], [[2, 6, 9]], [[2, 6, 4]], 4):
        zarrdock.create_array(store, shape=10, dtype="i4", chunks=chunks, overwrite=True)
        with pytest.raises(NodeChangedError):
            array[:] = 2


def test_chunks_that_are_as_long_within_the_array() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=16, dtype="i4", chunks=16)
    zarrdock.create_array(store, shape=16, dtype="i4", chunks=20, overwrite=True)
    with pytest.raises(NodeChangedError):
        array[:3] = 2


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "how",
    [
        {"compressors": "blosc"},
        {"compressors": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": -1, "blocksize": 0}, "zarr_format": 2},
        {"compressors": {"id": "zlib"}, "filters": [{"id": "delta", "dtype": "<i4"}], "zarr_format": 2},
        {"order": "F", "compressors": "gzip"},
        {"dtype": "U5"},
        {"dtype": ">i4"},
        {"dtype": "M8[s]"},
        {"dtype": [("a", "i4"), ("b", "f8")]},
        {"dtype": "f4", "fill_value": float("nan")},
        {"dtype": "c8", "fill_value": 1 - 0j},
        {"dtype": bool},
        {"dtype": str},
        {"shards": (4, 4), "chunks": (2, 2), "zarr_format": 3},
        {"shards": [(4, 4), (2, 2)], "chunks": (1, 1), "zarr_format": 3},
        {"chunks": [[1, 3], 2], "zarr_format": 3},
        {"dtype": "S3", "checksums": True, "zarr_format": 3},
    ],
    ids=str,
)
def test_a_new_array_is_the_one_in_its_document(how: dict[str, Any], zarr_format: Any) -> None:
    """What was asked for need not be what the document says of it, as the item size that Blosc finds out."""
    store = zarrdock.MemoryStore()
    arguments: dict[str, Any] = {"shape": (4, 4), "dtype": "i4", "chunks": (2, 2), "zarr_format": zarr_format} | how
    array = zarrdock.create_array(store, **arguments)
    value = np.zeros((4, 4), array.dtype) if array.dtype != object else np.full((4, 4), "x", object)
    array._confirmed = None, array.shape  # look closely
    array._distrust()
    array[1:3] = value[1:3]
    array.append(value)
    again = zarrdock.open_array(store, "r+")
    again._distrust()
    again[0] = value[0]


@pytest.mark.parametrize(
    "new",
    [
        {"fill_value": -0.0},
        {"fill_value": np.nan},
        {"chunks": 3},
        {"serializer": {"name": "bytes", "configuration": {"endian": "big"}}},
        {"dtype": "i8"},
        {"compressors": "gzip"},
        {"chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"shards": 8},
        {"zarr_format": 2},
    ],
)
def test_what_makes_another_array(new: dict[str, Any]) -> None:
    store = zarrdock.MemoryStore()
    same: dict[str, Any] = {"shape": 16, "dtype": "f8", "chunks": 4, "compressors": "zstd", "fill_value": 0.0}
    array = zarrdock.create_array(store, **same)
    zarrdock.create_array(store, **same, overwrite=True, attributes={"n": 1})
    array[:3] = 1
    zarrdock.create_array(store, **same | new, overwrite=True)
    with pytest.raises((NodeChangedError, NodeNotFoundError)):
        array[:3] = 2
    assert not zarrdock.open_array(store)[:][:3].astype(bool).any() or np.isnan(new.get("fill_value", 0))


def test_recompressing_a_replaced_array() -> None:
    store = zarrdock.MemoryStore()
    codec = zarrdock.Conditional((zarrdock.Zstd(),), decision="never")
    array = zarrdock.create_array(store, data=np.arange(100), chunks=10, compressors=codec)
    zarrdock.create_array(store, data=np.arange(100.0), chunks=20, compressors=codec, overwrite=True)
    with pytest.raises(NodeChangedError):
        zarrdock.recompress(array)
    assert zarrdock.open_array(store)[:].tolist() == list(range(100))


def test_what_was_cut_off_is_not_written_to(store: zarrdock.Store) -> None:
    """An array that was made smaller: values beyond its end would be there when it is made larger again."""
    zarrdock.create_array(store, name="a", data=np.arange(16), chunks=4)
    old, new = (zarrdock.open_array(store, "r+", path="a") for _ in range(2))
    new.resize(6)
    old._fresh_until = 0.0
    acts: list[Callable[[], None]] = [
        lambda: old.__setitem__(slice(4, 12), 9),
        lambda: old.__setitem__(15, 9),
        lambda: old.oindex.__setitem__(([1, 7],), 9),
        lambda: old.vindex.__setitem__(([1, 7],), 9),
        lambda: old.__setitem__(np.arange(16) > 7, 9),
    ]
    for act in acts:
        with pytest.raises(NodeChangedError, match="made smaller"):
            act()
    old[:6] = 7
    new.resize(16)
    assert new[:].tolist() == [7] * 6 + [0] * 10
    old[12:] = 3
    assert new[10:].tolist() == [0, 0, 3, 3, 3, 3]


def test_nobody_makes_members_of_a_deleted_group(store: zarrdock.Store) -> None:
    root = zarrdock.create_group(store)
    old = root.create_group("g")
    del root["g"]
    for act in (lambda: old.create_array("n", data=[1]), lambda: old.create_group("x/n")):
        with pytest.raises(NodeNotFoundError, match="was deleted since"):
            act()
    if not store.traits.remote:
        assert [entry.key for entry in store.list()] == ["zarr.json"]


def test_a_renamed_folder_is_not_made_again(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "one" / "x.zarr", data=np.arange(16), chunks=4)
    (tmp_path / "one").rename(tmp_path / "two")
    acts: list[Callable[[], Any]] = [
        lambda: array.append([1]),
        lambda: array.attrs.update(a=1),
        lambda: array.__setitem__(3, 5),
        lambda: array.resize(8),
    ]
    for act in acts:
        with pytest.raises(zarrdock.errors.ZarrdockError, match=r"gone|deleted"):
            act()
        assert [path.name for path in tmp_path.iterdir()] == ["two"]
    assert zarrdock.open_array(tmp_path / "two" / "x.zarr")[:].tolist() == list(range(16))


@pytest.mark.peer
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("pipeline", ["BatchedCodecPipeline", "CodecPipeline"])
def test_old_arrays_of_zarr_python(
    store: zarrdock.Store, monkeypatch: pytest.MonkeyPatch, pipeline: str, zarr_format: Any
) -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters import zarr_store

    monkeypatch.setattr(zarr_store, "_TRUSTED_SECONDS", -1.0)
    module = "zarrdock.adapters.zarr_python" if pipeline == "CodecPipeline" else "zarr.core.codec_pipeline"
    zarrdock.create_group(store, zarr_format=zarr_format).create_array("a", data=np.arange(8.0), chunks=4)
    with zarr.config.set({"codec_pipeline.path": f"{module}.{pipeline}"}):
        old = zarr.open_array(zarr_store.ZarrStore(store), path="a", mode="r+")
        old[:4] = 5
        zarrdock.open_array(store, "r+", path="a").append([1.0])
        zarrdock.open_array(store, "r+", path="a").attrs["k"] = 1
        old[:4] = 6  # larger, and with other attributes: it is the same array
        zarrdock.create_array(
            store, name="a", data=np.arange(8, dtype="i2"), chunks=4, overwrite=True, zarr_format=zarr_format
        )
        with pytest.raises(NodeChangedError):
            old[:4] = 9
        np.testing.assert_array_equal(zarrdock.open_array(store, path="a")[:], np.arange(8))
        del zarrdock.open_group(store, "r+")["a"]
        with pytest.raises(NodeNotFoundError):
            old[:4] = 9


READS: dict[str, Callable[[zarrdock.Array], Any]] = {
    "all": lambda a: a[...],
    "an element": lambda a: a[3],
    "points": lambda a: a.vindex[[1, 9]],
    "lazily": lambda a: a.lazy[4:].read(),
    "several": lambda a: zarrdock.read_many([a.lazy[:3], a]),
    "a coroutine": lambda a: asyncio.run(a.read_async()),
    "virtual": lambda a: zarrdock.concatenate([a, a], axis=0)[...],
}


def through_dask(array: zarrdock.Array) -> Any:
    pytest.importorskip("dask")
    return array.to_dask().compute(scheduler="synchronous")


READS["dask"] = through_dask


def unknown_here(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was removed since there were ``n`` removals was removed by another process, a while ago."""
    from zarrdock.array import removal

    removal._n_removals = n
    monkeypatch.setattr(array_module, "_TRUSTED_SECONDS", 0)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("how", ["document", "copy"])
@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("read", READS)
def test_an_array_that_was_deleted_has_no_fill_value(
    store: zarrdock.Store, monkeypatch: pytest.MonkeyPatch, read: str, old: str, how: str, elsewhere: bool
) -> None:
    array = open_old(store, how, **OLD[old])
    n = array_module.n_removals()
    del zarrdock.open_group(store, "r+")["a"]
    zarrdock.create_array(store, name="b", data=np.arange(3))  # so that the root is there
    if elsewhere:
        unknown_here(n, monkeypatch)
    with pytest.raises(NodeNotFoundError, match="was deleted since it was opened"):
        READS[read](array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("how", ["document", "copy"])
@pytest.mark.parametrize("read", READS)
def test_an_array_that_was_replaced_by_an_empty_one_has_no_fill_value(
    store: zarrdock.Store, monkeypatch: pytest.MonkeyPatch, read: str, how: str, elsewhere: bool, zarr_format: Any
) -> None:
    array = open_old(store, how, chunks=8, zarr_format=zarr_format)
    n = array_module.n_removals()
    zarrdock.create_array(store, name="a", shape=16, dtype="f4", fill_value=7, overwrite=True, zarr_format=zarr_format)
    if elsewhere:
        unknown_here(n, monkeypatch)
    with pytest.raises(NodeChangedError, match=r"replaced by another one .* refresh\(\)"):
        READS[read](array)
    array.refresh()
    assert array[...].tolist() == [7] * 16


@pytest.mark.peer
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("act", ["delete", "replace"])
def test_a_dataset_of_xarray(monkeypatch: pytest.MonkeyPatch, act: str, elsewhere: bool) -> None:
    xarray = pytest.importorskip("xarray")
    store = remote(zarrdock.MemoryStore())
    root = zarrdock.create_group(store)
    root.create_array("a", shape=16, dtype="i4", chunks=8, dimension_names=["x"])
    root.consolidate()
    dataset = xarray.open_dataset(store, engine="zarrdock")
    n = array_module.n_removals()
    if act == "delete":
        del zarrdock.open_group(store, "r+")["a"]
    else:
        zarrdock.create_array(store, name="a", shape=16, dtype="i4", fill_value=7, overwrite=True)
    if elsewhere:
        unknown_here(n, monkeypatch)
    with pytest.raises(NodeNotFoundError if act == "delete" else NodeChangedError):
        dataset["a"].load()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_whose_document_is_only_in_a_copy(store: zarrdock.Store, zarr_format: Any) -> None:
    """Some leave away the documents of members. Where the copy has lost the array, too, it was deleted."""
    if not store.traits.writable:
        pytest.skip("nothing can be deleted")
    name = ".zarray" if zarr_format == 2 else "zarr.json"
    array = open_old(store, "copy", zarr_format=zarr_format)
    store.delete(f"a/{name}")
    assert array[...].tolist() == [0] * 16
    assert array[5] == 0
    copy = ".zmetadata" if zarr_format == 2 else "zarr.json"
    store.write(copy, b"{}")
    with pytest.raises(NodeNotFoundError, match="was deleted since it was opened"):
        array[...]


def test_to_find_nothing_costs_a_request_every_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = zarrdock.RecordingStore(remote(zarrdock.MemoryStore()))
    array = zarrdock.create_array(store, shape=100, dtype="i4", chunks=10)
    monkeypatch.setattr(array_module, "_TRUSTED_SECONDS", 1000)
    array = zarrdock.open_array(store)
    store.reset()
    for i in range(10):
        assert not array[10 * i : 10 * i + 10].any()
    assert store.n_requests == 10
    monkeypatch.setattr(array_module, "_TRUSTED_SECONDS", 0)
    assert not array[:10].any()
    assert store.n_requests == 12
    array = zarrdock.open_array(store, "r+")
    array[:10] = 1
    store.reset()
    array[:20]
    assert store.n_requests == 2, "something was found"
