"""Chunks that are not stored as an error, where that is asked for."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import remote
from zarrdock.cli.main import run
from zarrdock.errors import AccessError, ChunkNotFoundError, UnsupportedError

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (2, 2)},
    "plain": {"chunks": (2, 2), "compressors": None},
    "blosc": {"chunks": (2, 2), "compressors": zarrdock.Blosc()},
    "shards": {"chunks": (2, 2), "shards": (4, 4)},
    "two levels": {"chunks": (2, 2), "shards": [(8, 8), (4, 4)]},
    "rectilinear": {"chunks": [[2, 2, 4], [4, 4]]},
    "v2": {"chunks": (2, 2), "zarr_format": 2},
}


def _array(store: Any, layout: str) -> zarrdock.Array:
    """Everything is stored but the last chunk."""
    array = zarrdock.create_array(store, shape=(8, 8), dtype="int16", **LAYOUTS[layout])
    array[...] = 1
    array[-2:, -2:] = 0 if layout != "rectilinear" else 1
    if layout == "rectilinear":
        array[-4:, -4:] = 0
    return array


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_way_to_read(layout: str, is_remote: bool) -> None:
    store = remote(zarrdock.MemoryStore()) if is_remote else zarrdock.MemoryStore()
    _array(store, layout)
    array = zarrdock.open_array(store, missing="error")
    for _ in range(2):  # cold, and with indexes known
        assert array[0, 0] == 1
        assert array[:4].all()
        for read in (
            lambda: array[...],
            lambda: array[7, 7],
            lambda: array[6:, 6:],
            lambda: array.vindex[[0, 7], [0, 7]],
            lambda: array.read(out=np.empty((8, 8), "int16")),
            lambda: asyncio.run(array.read_async()),
            lambda: array.lazy[7].read(),
            lambda: zarrdock.read_many([array.lazy[0], array]),
            lambda: pickle.loads(pickle.dumps(array))[7:],
            lambda: zarrdock.concatenate([array, array])[-1],
        ):
            with pytest.raises(ChunkNotFoundError, match="is not stored") as caught:
                read()
            assert caught.value.key
            assert isinstance(caught.value, FileNotFoundError)
    if layout in ("chunks", "plain", "shards", "v2"):
        assert caught.value.chunk == (3, 3)
        assert "(3, 3)" in str(caught.value)
    array.plan()
    assert zarrdock.open_array(store)[7, 7] == 0


def test_a_chunk_that_another_writer_has_added() -> None:
    """An index that was kept says that it is missing: the error is not raised on its word."""
    store = remote(zarrdock.MemoryStore())
    writer = _array(store, "shards")
    array = zarrdock.open_array(store, missing="error")
    assert array[4, 4] == 1  # the index is known
    writer[6:, 6:] = 5
    assert array[4:, 4:].sum() == 12 + 4 * 5
    assert array[7, 7] == 5


def test_writing_and_groups() -> None:
    group = zarrdock.create_group({})
    group.create_array("a", shape=4, dtype="int8", chunks=2)
    again = zarrdock.open_group(group.store, "r+", missing="error")
    array = again["a"]
    assert isinstance(array, zarrdock.Array)
    array[1] = 3  # a part of a chunk that is missing
    array.append([1, 2])
    assert array[:2].tolist() == [0, 3]
    with pytest.raises(ChunkNotFoundError):
        array[2]
    array.resize(2)
    assert array[...].tolist() == [0, 3]
    assert zarrdock.open(group.store, "a", path="b", shape=2, dtype="int8", missing="error").shape == (2,)
    with pytest.raises(ChunkNotFoundError):
        zarrdock.open_array(group.store, "a", path="c", shape=2, dtype="int8", missing="error")[0]
    with pytest.raises(UnsupportedError, match="'fill' or 'error'"):
        zarrdock.open_array(group.store, path="a", missing="raise")  # type: ignore[arg-type]


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """An error in any case: a file was meant to be there."""
    zarrdock.create_array(tmp_path, data=np.ones(4), chunks=2)
    (tmp_path / "c" / "1").unlink()
    (tmp_path / "c" / "1").symlink_to(tmp_path / "gone")
    for array in (zarrdock.open_array(tmp_path, missing="error"), zarrdock.open_array(tmp_path)):
        for read in (lambda array=array: array[...], lambda array=array: array[3]):
            with pytest.raises(AccessError, match="leads nowhere") as caught:
                read()
            assert caught.value.key == "c/1"


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_copy_and_check(layout: str, is_remote: bool) -> None:
    store = remote(zarrdock.MemoryStore()) if is_remote else zarrdock.MemoryStore()
    array = _array(store, layout)
    target = zarrdock.MemoryStore()
    with pytest.raises(ChunkNotFoundError):
        zarrdock.copy(store, target, missing="error")
    assert not list(target.list())
    (problem,) = zarrdock.tools.check(store, missing=True).problems
    n = array.nchunks
    assert problem.message.startswith(f"1 of {n} chunks are not stored")
    assert zarrdock.tools.check(store).problems == ()
    array[...] = 1
    assert zarrdock.tools.check(store, missing=True).problems == ()
    assert (np.asarray(zarrdock.copy(store, target, missing="error")) == 1).all()


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _array(tmp_path / "a.zarr", "chunks")
    assert run(["copy", str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), "--missing", "error"]) != 0
    assert "chunk (3, 3) is not stored" in capsys.readouterr().err
    assert not (tmp_path / "b.zarr").exists()
    assert run(["check", str(tmp_path / "a.zarr"), "--missing", "--json"]) == 0
    assert "1 of 16 chunks" in json.loads(capsys.readouterr().out)["problems"][0]["message"]


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    group = zarrdock.create_group({})
    array = group.create_array("a", shape=4, dtype="int8", chunks=2, dimension_names=["x"])
    array[:2] = 1
    dataset = xarray.open_dataset(group.store, engine="zarrdock", missing="error")
    assert dataset.a[:2].values.tolist() == [1, 1]
    with pytest.raises(ChunkNotFoundError, match="c/1"):
        dataset.a.load()
    assert xarray.open_dataset(group.store, engine="zarrdock").a.values.tolist() == [1, 1, 0, 0]
