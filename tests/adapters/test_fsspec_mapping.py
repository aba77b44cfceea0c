"""Stores as fsspec filesystems and as mappings."""

import gc
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import zarrdock
from zarrdock.adapters.fsspec import ZarrdockFileSystem
from zarrdock.adapters.mutable_mapping import as_mapping

VALUES = np.arange(20 * 20, dtype="u2").reshape(20, 20)


@pytest.fixture(autouse=True)
def _protocol() -> None:
    fsspec.register_implementation("zarrdock", ZarrdockFileSystem, clobber=True)


@pytest.fixture
def store() -> zarrdock.Store:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name="a/b", data=VALUES, chunks=(5, 5), shards=(10, 10))
    store.write("plain", bytes(range(100)))
    return store


def test_files_and_folders(store: zarrdock.Store) -> None:
    fs = fsspec.filesystem("zarrdock", store=store)
    assert fs.ls("", detail=False) == ["a", "plain"]
    assert fs.ls("a/b", detail=False) == ["a/b/c", "a/b/zarr.json"]
    assert fs.info("plain") == {"name": "plain", "size": 100, "type": "file"}
    assert fs.isdir("a/b/c")
    assert fs.isfile("zarrdock://a/b/zarr.json")
    assert not fs.exists("a/x")
    assert fs.find("a/b/c") == [f"a/b/c/{i}/{j}" for i in range(2) for j in range(2)]
    assert fs.glob("a/b/c/*/1") == ["a/b/c/0/1", "a/b/c/1/1"]
    assert fs.du("a/b/c") == sum(entry.size or 0 for entry in store.list("a/b/c"))
    assert sorted(name for *_, files in fs.walk("") for name in files) == ["0", "0", "1", "1", "plain", "zarr.json"]
    with pytest.raises(FileNotFoundError):
        fs.info("a/x")


def test_parts(store: zarrdock.Store) -> None:
    fs = fsspec.filesystem("zarrdock", store=zarrdock.RecordingStore(store))
    data = bytes(range(100))
    for start, end in [(None, None), (3, 9), (90, 200), (-5, None), (5, -5), (-9, -3), (7, 7), (200, 300), (10, None)]:
        assert fs.cat_file("plain", start, end) == data[start:end]
    before = fs.store.n_rounds
    assert fs.cat_ranges(["plain", "plain", "no"], [0, 50, 0], [2, 52, 1])[:2] == [data[:2], data[50:52]]
    assert fs.store.n_rounds == before + 1
    assert fs.cat(["plain", "a/b/zarr.json"]).keys() == {"plain", "a/b/zarr.json"}
    with fs.open("plain") as file:
        file.seek(40)
        assert file.read(5) == data[40:45]
    with pytest.raises(FileNotFoundError):
        fs.cat_file("no")


def test_writing(store: zarrdock.Store) -> None:
    fs = fsspec.filesystem("zarrdock", store=store)
    with fs.open("new/x", "wb") as file:
        file.write(b"12")
        file.write(b"3")
    assert store.get("new/x").data == b"123"  # type: ignore[union-attr]
    with pytest.raises(TypeError), fs.open("new/y", "wb") as file:
        file.writelines([b"half", "no bytes"])
    assert not fs.exists("new/y")
    fs.cp("new/x", "new/z")
    fs.rm("new", recursive=True)
    assert not fs.exists("new")
    locked = fsspec.filesystem("zarrdock", store=store, read_only=True)
    with pytest.raises(zarrdock.errors.ReadOnlyError):
        locked.open("plain", "wb")


def test_a_key_that_is_there_is_not_opened_exclusively(store: zarrdock.Store) -> None:
    fs = fsspec.filesystem("zarrdock", store=store)
    with fs.open("new", "xb") as file:
        file.write(b"1")
    with pytest.raises(FileExistsError):
        fs.open("new", "xb")
    # One that comes meanwhile is kept, and the error is told once.
    file = fs.open("late", "xb")
    file.write(b"mine")
    store.write("late", b"theirs")
    with pytest.raises(FileExistsError):
        file.close()
    assert file.closed
    del file
    gc.collect()
    assert fs.cat_file("late") == b"theirs"


def test_from_a_url_and_through_pickle(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(5, 5))
    fs = fsspec.filesystem("zarrdock", store=str(tmp_path / "a.zarr"))
    assert pickle.loads(pickle.dumps(fs)).ls("", detail=False) == ["c", "zarr.json"]
    with pytest.raises(zarrdock.errors.UnsupportedError, match="store"):
        fsspec.filesystem("zarrdock")


@pytest.mark.peer
def test_zarr_python_reads_it(store: zarrdock.Store) -> None:
    zarr = pytest.importorskip("zarr")
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    fs = AsyncFileSystemWrapper(fsspec.filesystem("zarrdock", store=store), asynchronous=True)
    array = zarr.open_array(zarr.storage.FsspecStore(fs, path="/a/b", read_only=True), mode="r")
    np.testing.assert_array_equal(array[3:12, 4:], VALUES[3:12, 4:])


def test_mapping(store: zarrdock.Store) -> None:
    mapping = as_mapping(store)
    assert mapping["plain"] == bytes(range(100))
    assert "a/b/zarr.json" in mapping
    assert "a/b" not in mapping
    assert "../x" not in mapping
    assert sorted(mapping) == sorted(entry.key for entry in store.list())
    assert len(mapping) == 6
    mapping["x/y"] = b"1"
    assert mapping.getitems(["x/y", "no"]) == {"x/y": b"1"}
    assert mapping.listdir("a/b") == ["c", "zarr.json"]
    del mapping["x/y"]
    for key in ("x/y", "../x"):
        with pytest.raises(KeyError):
            mapping[key]
    with pytest.raises(KeyError):
        del mapping["x/y"]
    copied: dict[str, Any] = dict(mapping)
    np.testing.assert_array_equal(zarrdock.open_array(copied, path="a/b")[...], VALUES)
    mapping.rmdir("a")
    assert [*mapping] == ["plain"]
