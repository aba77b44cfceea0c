"""One line under existing code: zarr-python's own stores, where zarrdock has one for the same place."""

import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from fsspec.implementations.local import LocalFileSystem  # noqa: E402
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore  # noqa: E402

import zarrdock  # noqa: E402
from support.fault_proxy import FaultProxy  # noqa: E402
from support.strict_s3 import StrictS3  # noqa: E402
from zarrdock.adapters.zarr_pipeline import CodecPipeline  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore, why  # noqa: E402
from zarrdock.errors import UnsupportedError  # noqa: E402

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")]

VALUES = np.arange(50 * 47, dtype="i4").reshape(50, 47)
Batches = list[str]


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    """zarrdock's pipeline in use; filled with whose each batch was."""
    seen: Batches = []
    wanted = CodecPipeline._wanted

    def watched(self: CodecPipeline, *arguments: Any) -> Any:
        found = wanted(self, *arguments)
        seen.append("zarr-python" if found is None else "zarrdock")
        return found

    monkeypatch.setattr(CodecPipeline, "_wanted", watched)
    with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
        yield seen


def make(store: Any, **more: Any) -> Any:
    layout: dict[str, Any] = {"shape": VALUES.shape, "dtype": "i4", "chunks": (8, 8), "shards": (16, 16)}
    return zarr.create_array(store, name="g/a", **layout | more)


def obstore_memory(_: Path) -> Any:
    return ObjectStore(pytest.importorskip("obstore.store").MemoryStore())


def obstore_local(folder: Path) -> Any:
    return ObjectStore(pytest.importorskip("obstore.store").LocalStore(prefix=str(folder)))


def relative(folder: Path) -> Any:
    os.chdir(folder)
    return "relative.zarr"


PLACES: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: str(folder / "a.zarr"),
    "relative path": relative,
    "LocalStore": lambda folder: LocalStore(folder / "a.zarr"),
    "dict": lambda _: {},
    "nothing": lambda _: None,
    "MemoryStore": lambda _: MemoryStore(),
    "memory://": lambda folder: f"memory://{folder.name}/a.zarr",
    "local filesystem": lambda folder: FsspecStore.from_mapper(
        fsspec.FSMap(str(folder / "a.zarr"), LocalFileSystem(auto_mkdir=True))
    ),
    "obstore's memory": obstore_memory,
    "obstore's files": obstore_local,
}


@pytest.fixture
def at_home() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("layout", [{}, {"shards": None}, {"shards": None, "zarr_format": 2}])
def test_plain_places_gain(batches: Batches, tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    array = make(PLACES[kind](tmp_path), **layout)
    assert why(array) == ""
    expected = VALUES.copy()
    array[:] = VALUES
    array[3:20, 5] = expected[3:20, 5] = 7  # parts of chunks, on stores without atomic updates too
    np.testing.assert_array_equal(array[...], expected)
    np.testing.assert_array_equal(array.oindex[[0, 9, 40], 2:30], expected[[0, 9, 40], 2:30])
    assert set(batches) == {"zarrdock"}
    again = zarr.open_array(array.store, path="g/a", mode="r")
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(array.store, path="g/a", mode="r")[...], expected)
    np.testing.assert_array_equal(again[...], expected)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1


@pytest.mark.usefixtures("at_home")
def test_nothing_is_left_beside_the_chunks(tmp_path: Path) -> None:
    array = make(tmp_path / "a.zarr")
    array[:] = VALUES
    array[3, 4] = 5
    names = {path.name for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()}
    assert names == {"zarr.json", *map(str, range(3))}


@pytest.mark.usefixtures("at_home")
def test_a_relative_path_is_where_the_process_is(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        os.chdir(tmp_path / name)
        make("a.zarr")[:] = value
    array = zarr.open_array("a.zarr", path="g/a", mode="r")
    assert array[0, 0] == 2
    os.chdir(tmp_path / "one")
    assert array[0, 0] == 1


@pytest.mark.parametrize("kind", ["path", "dict", "obstore's memory"])
def test_eight_writers_of_one_shard_of_a_plain_place(tmp_path: Path, kind: str) -> None:
    array = make(PLACES[kind](tmp_path), shape=(64, 8), chunks=(8, 8), shards=(64, 8))
    threads = [threading.Thread(target=array.__setitem__, args=(slice(i * 8, i * 8 + 8), i + 1)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.count_nonzero(array[:, 0]) == 64


def test_archives_gain_where_they_are_only_read(batches: Batches, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    store = ZipStore(path, mode="w")
    array = make(store)
    assert "open for writing" in why(array)
    array[:] = VALUES
    assert set(batches) == {"zarr-python"}
    store.close()
    batches.clear()
    store = ZipStore(path, mode="r")
    array = zarr.open_array(store, path="g/a", mode="r")
    assert why(array) == ""
    np.testing.assert_array_equal(array[...], VALUES)
    assert set(batches) == {"zarrdock"}
    store.close()


@pytest.mark.server
def test_s3_gains_requests(batches: Batches) -> None:
    with StrictS3("b") as service, FaultProxy(service.url) as proxy:
        options = {**service.storage_options, "endpoint_url": proxy.url}
        make(FsspecStore.from_url("s3://b/a.zarr", storage_options=options))[:] = VALUES
        spent = {}
        for name in ("zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrdock.adapters.zarr_python.CodecPipeline"):
            with zarr.config.set({"codec_pipeline.path": name}):
                store = FsspecStore.from_url("s3://b/a.zarr", storage_options=options)
                array = zarr.open_array(store, path="g/a", mode="r", zarr_format=3)
                before = len(proxy.log)
                np.testing.assert_array_equal(array[3:40, 9:30], VALUES[3:40, 9:30])
                np.testing.assert_array_equal(array[3:40, 9:30], VALUES[3:40, 9:30])
                spent[name.partition(".")[0]] = len(proxy.log) - before
        # Six shards: an index and one request for data each, and indexes are not asked for again.
        assert spent["zarrdock"] <= 18 < spent["zarr"]
        assert set(batches) == {"zarrdock"}


@pytest.mark.server
@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_services(batches: Batches, place: Any, kind: str) -> None:
    where = place(kind)
    if kind == "gcs":
        # In whole runs a request of gcsfs's own is left without an answer here, and is sent again when its time is up:
        # five minutes, if nothing else is said.
        limit = aiohttp.ClientTimeout(sock_read=20)
        where["storage_options"] = {**where["storage_options"], "requests_timeout": limit}
    array = make(FsspecStore.from_url(where["store"], storage_options=where["storage_options"]))
    assert why(array) == ""
    array[:] = VALUES
    array[3, 4] = 0
    expected = VALUES.copy()
    expected[3, 4] = 0
    np.testing.assert_array_equal(array[...], expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[3:9], expected[3:9])
    np.testing.assert_array_equal(
        zarrdock.open_array(where["store"], path="g/a", storage_options=where["storage_options"])[...], expected
    )
    assert set(batches) == {"zarrdock"}


@pytest.mark.server
def test_http_is_read_and_writing_is_zarr_pythons_affair(batches: Batches, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    from zarrdock.serve.server import Server

    make(tmp_path / "a.zarr")[:] = VALUES
    batches.clear()
    with Server(zarrdock.open_store(tmp_path / "a.zarr")) as server:
        array = zarr.open_array(f"{server.url}/g/a", mode="r")
        assert why(array) == ""
        np.testing.assert_array_equal(array[3:9], VALUES[3:9])
    assert set(batches) == {"zarrdock"}


# -- where it is not certain ------------------------------------------------------------------------


class Elsewhere(LocalStore):
    """A subclass may do anything."""


class ElsewhereToo(MemoryFileSystem):
    """A filesystem nobody knows."""

    protocol = "elsewhere"
    store: Any = {}
    pseudo_dirs: Any = [""]


def refusing(folder: Path) -> Any:
    fs = fsspec.implementations.asyn_wrapper.AsyncFileSystemWrapper(LocalFileSystem(auto_mkdir=True), asynchronous=True)
    return FsspecStore(fs, path=str(folder / "a.zarr"), allowed_exceptions=(FileNotFoundError, PermissionError))


def unknown(folder: Path) -> Any:
    fs = fsspec.implementations.asyn_wrapper.AsyncFileSystemWrapper(ElsewhereToo(), asynchronous=True)
    return FsspecStore(fs, path="/a.zarr")


UNCERTAIN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "subclass": (lambda folder: Elsewhere(folder / "a.zarr"), "no store of its own.*Elsewhere"),
    "wrapper": (lambda folder: WrapperStore(LocalStore(folder / "a.zarr")), "no store of its own.*WrapperStore"),
    "errors that are none": (refusing, "other errors"),
    "filesystem": (unknown, "ElsewhereToo.*another place"),
}


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_it_stands_back_and_says_why(batches: Batches, tmp_path: Path, kind: str) -> None:
    make_store, reason = UNCERTAIN[kind]
    array = make(make_store(tmp_path))
    assert re.search(reason, why(array))
    array[:] = VALUES
    np.testing.assert_array_equal(array[3:20, 5:9], VALUES[3:20, 5:9])
    assert "zarrdock" not in batches


def test_a_place_that_zarrdock_cannot_open_is_left_to_zarr_python(
    batches: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise UnsupportedError("no such system")

    monkeypatch.setattr("zarrdock.adapters.zarr_own_stores._local", refuse)
    array = make(tmp_path / "a.zarr")
    assert "no such system" in why(array)
    array[:] = VALUES
    np.testing.assert_array_equal(array[3:9], VALUES[3:9])
    assert set(batches) == {"zarr-python"}


def test_why_tells_of_arrays_too(tmp_path: Path) -> None:
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        assert "another codec pipeline" in why(make(tmp_path / "a.zarr"))
    strange = zarr.create_array(ZarrStore(zarrdock.MemoryStore()), shape=(2, 0), chunks=(1, 1), dtype="i4")
    assert why(strange) == ""
    for no_array in (zarr.create_group({}), np.zeros(3), "a.zarr"):
        with pytest.raises(TypeError, match="an array of zarr-python is needed"):
            why(no_array)


# -- the programs above -----------------------------------------------------------------------------


def test_xarray_gains(batches: Batches, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    dataset = xr.Dataset({"v": (("y", "x"), VALUES)}, coords={"x": np.arange(47) * 0.5})
    dataset.to_zarr(tmp_path / "a.zarr", consolidated=False, zarr_format=3)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None).load(), dataset)
    assert set(batches) == {"zarrdock"}


def test_dask_gains(batches: Batches, tmp_path: Path) -> None:
    da = pytest.importorskip("dask.array")
    make(tmp_path / "a.zarr")[:] = VALUES
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "a.zarr"), component="g/a").compute(), VALUES)
    assert set(batches) == {"zarrdock"}
