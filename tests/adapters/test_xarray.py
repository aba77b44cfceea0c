"""The xarray engine, on what xarray and zarr-python wrote."""

import asyncio
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
pd = pytest.importorskip("pandas")

import zarrdock  # noqa: E402
from zarrdock.adapters.xarray import XarrayBackend  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402
from zarrdock.testing import FaultyStore, StoreFault  # noqa: E402

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:.*(String|UTF32|Consolidated).*")]


@pytest.fixture
def dataset() -> Any:
    rng = np.random.default_rng(0)
    temperature = rng.normal(size=(20, 12, 10)).astype("f4")
    temperature[3, 4] = np.nan
    return xr.Dataset(
        {
            "temperature": (("time", "y", "x"), temperature, {"units": "K"}),
            "count": (("y", "x"), rng.integers(0, 99, (12, 10)), {"long name": "n"}),
            "scalar": ((), np.float64(3.5)),
        },
        coords={"time": pd.date_range("2024-01-01", periods=20), "x": np.arange(10) * 0.5},
        attrs={"title": "a test"},
    )


def open_ours(place: Any, **options: Any) -> Any:
    return xr.open_dataset(place, engine=XarrayBackend, **options)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_reads_what_xarray_wrote(dataset: Any, tmp_path: Path, zarr_format: int, consolidated: bool) -> None:
    place = tmp_path / "a.zarr"
    encoding = {"temperature": {"chunks": (5, 6, 5), "dtype": "i2", "scale_factor": 0.01, "_FillValue": -9999}}
    dataset.to_zarr(place, zarr_format=zarr_format, consolidated=consolidated, encoding=encoding)
    theirs = xr.open_dataset(place, engine="zarr", consolidated=consolidated)
    ours = open_ours(place)
    xr.testing.assert_identical(ours.load(), theirs.load())
    assert ours.time.dtype.kind == "M"
    if consolidated:
        record = zarrdock.RecordingStore(zarrdock.open_store(place))
        lazy = open_ours(record, decode_times=False, drop_variables=["time", "x"], zarr_format=zarr_format)
        assert record.n_requests <= 2
        assert lazy.temperature.shape == (20, 12, 10)
    else:
        with pytest.raises(zarrdock.errors.NodeNotFoundError, match="consolidated"):
            open_ours(place, consolidated=True)


def test_dask_blocks_are_shards(dataset: Any) -> None:
    pytest.importorskip("dask")
    store = zarrdock.MemoryStore()
    encoding = {"temperature": {"chunks": (5, 3, 5), "shards": (10, 6, 10)}}
    dataset.to_zarr(ZarrStore(store), zarr_format=3, consolidated=False, encoding=encoding)
    lazy = open_ours(store, chunks={})
    assert lazy.temperature.data.chunksize == (10, 6, 10)
    assert lazy.temperature.encoding["shards"] == (10, 6, 10)
    xr.testing.assert_identical(lazy.compute(), dataset)


def test_lazy_indexing(dataset: Any) -> None:
    store = zarrdock.MemoryStore()
    dataset.to_zarr(
        ZarrStore(store), zarr_format=3, consolidated=False, encoding={"temperature": {"chunks": (5, 3, 5)}}
    )
    record = zarrdock.RecordingStore(store)
    lazy = open_ours(record, zarr_format=3)
    before = record.n_requests
    part = lazy.temperature[2:4, 5, ::-1]
    assert record.n_requests == before
    xr.testing.assert_identical(part.load(), dataset.temperature[2:4, 5, ::-1])
    assert record.n_requests == before + 2
    t, x = xr.DataArray([1, 7, 7], dims="p"), xr.DataArray([9, 0, 3], dims="p")
    for select in (
        lambda a: a[[1, 7], [3, 2], 4],
        lambda a: a.isel(time=t, x=x),
        lambda a: a.isel(time=t, y=xr.DataArray([0, 5, 5], dims="p"), x=x),
        lambda a: a[::-2, 3:9, [1, 1, 0]],
        lambda a: a[3, 4, 5],
        lambda a: a.sel(time="2024-01-05"),
        lambda a: a.where(a > 0).sum("time"),
    ):
        xr.testing.assert_identical(select(lazy.temperature).load(), select(dataset.temperature))
    xr.testing.assert_identical(pickle.loads(pickle.dumps(lazy)).load(), dataset)


def test_loading_from_a_coroutine(dataset: Any, tmp_path: Path) -> None:
    dataset.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)

    async def load() -> Any:
        return await open_ours(tmp_path / "a.zarr").load_async()

    xr.testing.assert_identical(asyncio.run(load()), dataset)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_trees(dataset: Any, tmp_path: Path, zarr_format: int) -> None:
    tree = xr.DataTree.from_dict({"/": dataset[["x"]], "/fine": dataset, "/coarse/twice": dataset.isel(time=[0])})
    tree.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    ours = xr.open_datatree(tmp_path / "a.zarr", engine=XarrayBackend)
    theirs = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")
    xr.testing.assert_identical(ours.load(), theirs.load())
    twice = theirs["coarse/twice"].to_dataset(inherit=False)
    xr.testing.assert_identical(open_ours(tmp_path / "a.zarr", group="coarse/twice").load(), twice)
    below = xr.open_datatree(tmp_path / "a.zarr", engine=XarrayBackend, group="coarse")
    assert [*below.children] == ["twice"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_tree_costs_rounds_by_its_depth(zarr_format: int) -> None:
    inner = zarrdock.MemoryStore()
    root = zarrdock.create_group(inner, zarr_format=zarr_format)
    for path in ("", *(f"g{i}" for i in range(4)), *(f"g{i}/h{j}" for i in range(4) for j in range(2))):
        group = root.create_group(path) if path else root
        for name in "xyz":
            named: dict[str, Any] = (
                {"dimension_names": ["t"]} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": ["t"]}}
            )
            group.create_array(name, shape=(4,), dtype="f4", **named)
    store = zarrdock.RecordingStore(inner, n_events=1000)
    tree = xr.open_datatree(store, engine=XarrayBackend)
    assert len(tree.groups) == 13
    assert all(list(node.data_vars) == ["x", "y", "z"] for node in tree.subtree)
    # Opening (in v2 attributes come after); then the documents of each level, in v2 with a round for its groups.
    assert store.n_rounds == (4 if zarr_format == 3 else 7)
    assert len([event for event in store.log if event.verb == "list_dir"]) == 13
    assert store.n_requests <= (4 + 51 if zarr_format == 3 else 4 + 39 * 2 + 12 * 3)


def test_a_bad_array_in_a_tree_is_an_error_when_it_is_read() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_group(store).create_group("g").create_array("a", shape=(2,), dtype="f4", dimension_names=["t"])
    store.write("g/a/zarr.json", b"{")
    tree = xr.open_datatree(store, engine=XarrayBackend)
    with pytest.raises(zarrdock.errors.MetadataError, match="g/a"):
        tree["g/a"].load()


def test_dimensions_without_a_name() -> None:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store)
    for name, shape, dims in (
        ("a", (2, 3), [None, None]),
        ("b", (2, 3), ["x", None]),
        ("c", (4, 4), [None, None]),
        ("d", (4,), [None]),
        ("e", (5,), ["phony_dim_1"]),
    ):
        group.create_array(name, shape=shape, dtype="f4", dimension_names=dims)
    found = open_ours(store)
    assert found.a.dims == ("phony_dim_0", "phony_dim_2")
    assert found.b.dims == ("x", "phony_dim_2")
    assert found.c.dims == ("phony_dim_3", "phony_dim_4")
    assert found.d.dims == ("phony_dim_3",)
    assert found.e.dims == ("phony_dim_1",)
    assert (found.a + found.b.rename(x="phony_dim_0")).shape == (2, 3)


@pytest.mark.parametrize("shards", [None, (10, 6, 10)])
def test_there_and_back(dataset: Any, shards: Any) -> None:
    """A dataset opened by one engine is written by the other with the same chunks and codecs."""
    first, second = zarrdock.MemoryStore(), zarrdock.MemoryStore()
    encoding: Any = {"temperature": {"chunks": (5, 3, 5)} | ({"shards": shards} if shards else {})}
    dataset.to_zarr(ZarrStore(first), zarr_format=3, consolidated=False, encoding=encoding)
    open_ours(first).to_zarr(ZarrStore(second), zarr_format=3, consolidated=False)
    xr.testing.assert_identical(open_ours(second).load(), dataset)
    for name in ("temperature", "count", "x"):
        assert zarrdock.open_array(second, path=name).metadata == zarrdock.open_array(first, path=name).metadata


WRITE = """
import sys, numpy, xarray, zarr
from zarrdock.adapters.zarr_python import ZarrStore
zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"})
place, rows = sys.argv[1], [*map(int, sys.argv[2].split())]
print(flush=True), sys.stdin.readline()  # all begin together
for row in rows:
    part = xarray.Dataset({"a": (("y", "x"), numpy.full((3, 20), row + 1, "i4"))})
    part.to_zarr(ZarrStore(place), zarr_format=3, consolidated=False, region={"y": slice(3 * row, 3 * row + 3)})
"""


def empty(place: Any) -> None:
    whole = xr.Dataset({"a": (("y", "x"), np.zeros((48, 20), "i4"))})
    encoding = {"a": {"chunks": (4, 4), "shards": (48, 20)}}
    whole.to_zarr(ZarrStore(place), zarr_format=3, consolidated=False, encoding=encoding)


def expect_all(place: Any) -> None:
    np.testing.assert_array_equal(open_ours(place).a, np.repeat(np.arange(16) + 1, 3)[:, None] * np.ones((1, 20)))


@pytest.mark.parametrize("kind", ["memory", "local", "zip"])
def test_regions_of_one_shard_written_by_threads(place: Any, kind: str) -> None:
    """Sixteen writers whose regions end within chunks."""
    store = zarrdock.open_store(place(kind)["store"])
    empty(store)

    def write(row: int) -> None:
        part = xr.Dataset({"a": (("y", "x"), np.full((3, 20), row + 1, "i4"))})
        part.to_zarr(ZarrStore(store), zarr_format=3, consolidated=False, region={"y": slice(3 * row, 3 * row + 3)})

    pipeline = "zarrdock.adapters.zarr_python.CodecPipeline"
    with zarr.config.set({"codec_pipeline.path": pipeline}), ThreadPoolExecutor(8) as pool:
        [*pool.map(write, range(16))]
    expect_all(store)


@pytest.mark.slow
def test_regions_of_one_shard_written_by_processes(tmp_path: Path) -> None:
    place = str(tmp_path / "a.zarr")
    empty(place)
    workers = []
    for i in range(2):
        rows = " ".join(map(str, range(i, 16, 2)))
        command = [sys.executable, "-W", "ignore", "-c", WRITE, place, rows]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "\n"
    for worker in workers:
        worker.communicate("\n", timeout=60)
        assert worker.returncode == 0
    expect_all(place)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_ours(tmp_path / "nothing.zarr")
    zarrdock.create_group(tmp_path / "a.zarr").create_array("bare", shape=(4,), dtype="u1")
    with pytest.raises(zarrdock.errors.MetadataError, match="dimension_names"):
        open_ours(tmp_path / "a.zarr")
    with pytest.raises(zarrdock.errors.NodeNotFoundError, match="is an array"):
        open_ours(tmp_path / "a.zarr", group="bare")


def test_guessing() -> None:
    backend = XarrayBackend()
    assert backend.guess_can_open("s3://bucket/a.zarr/")
    assert backend.guess_can_open(Path("a.zarr.zip"))
    assert not backend.guess_can_open("a.nc")


def broken(kind: str, document: dict[str, Any]) -> bytes:
    if kind == "codec":
        document["codecs"].append({"name": "who.knows"})
    elif kind == "type":
        document["data_type"] = "odd"
    elif kind == "text":
        document["data_type"] = "string"  # and the codec bytes, which can't hold it
    elif kind == "other shape":
        document = document | {"shape": [7], "data_type": "odd"}
    return b"{" if kind == "document" else json.dumps(document).encode()


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("kind", ["codec", "type", "text", "other shape", "document"])
def test_one_bad_array_hides_no_other(kind: str, consolidated: bool, tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "a.zarr")
    for name in ("good", "bad", "t"):
        group.create_array(name, data=np.arange(3.0), dimension_names=["t"], fill_value="NaN")
    inner = group.create_group("inner")
    inner.create_array("fine", data=np.arange(2), dimension_names=["u"])
    path = tmp_path / "a.zarr" / "bad" / "zarr.json"
    path.write_bytes(broken(kind, json.loads(path.read_bytes())))
    if consolidated:
        group.consolidate()
    if not consolidated or kind != "document":  # consolidated metadata leave out what is no document
        found = open_ours(tmp_path / "a.zarr")
        assert sorted(found.variables) == ["bad", "good", "t"]
        assert found.good.values.tolist() == [0, 1, 2]
        with pytest.raises(zarrdock.ZarrdockError) as caught:
            found["bad"].load()
        assert "bad/zarr.json" in str(caught.value) or "'/bad'" in str(caught.value)
        assert any("drop_variables=['bad']" in note for note in caught.value.__notes__)
        assert found["bad"].attrs["error"] == str(caught.value)
        assert "bad" in repr(found)
        tree = xr.open_datatree(tmp_path / "a.zarr", engine=XarrayBackend)
        assert tree["inner/fine"].values.tolist() == [0, 1]
    for dropped in ("bad", ["bad", "none"]):
        assert sorted(open_ours(tmp_path / "a.zarr", drop_variables=dropped).variables) == ["good", "t"]


@pytest.mark.parametrize("kind", ["codec", "document"])
def test_a_bad_coordinate_is_left_out_with_a_warning(kind: str, tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path)
    for name in ("good", "t"):
        group.create_array(name, data=np.arange(3.0), dimension_names=["t"])
    path = tmp_path / "t" / "zarr.json"
    path.write_bytes(broken(kind, json.loads(path.read_bytes())))
    with pytest.warns(UserWarning, match="coordinate 't' cannot be read and is left out"):
        found = open_ours(tmp_path)
    assert list(found.variables) == ["good"]
    assert list(open_ours(tmp_path, drop_variables="t").variables) == ["good"]


def test_a_store_that_fails_is_no_bad_array(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path)
    group.create_array("good", data=np.arange(3.0), dimension_names=["t"])
    group.create_array("bad", data=np.arange(3.0), dimension_names=["t"])

    down = StoreFault("read", "bad/*", zarrdock.errors.StoreError("down", key="bad/zarr.json"), count=None)
    failing = FaultyStore(zarrdock.open_store(tmp_path), [down])
    with pytest.raises(zarrdock.errors.StoreError, match="down"):
        open_ours(failing)
    assert list(open_ours(failing, drop_variables="bad").variables) == ["good"]


@pytest.mark.parametrize(("name", "member"), [("_nczarr_array", "dimension_references"), ("_NCZARR_ARRAY", "dimrefs")])
def test_dimensions_of_nczarr(name: str, member: str, tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path, zarr_format=2)
    details = {member: ["/y", "/g/x"], "storage": "chunked"}
    group.create_array("a", data=np.ones((2, 3)), attributes={name: details, "units": "m"})
    found = open_ours(tmp_path)
    assert found.a.dims == ("y", "x")
    assert found.a.attrs == {"units": "m"}
