"""Arrays as dask arrays, and dask arrays into stores: threads here, a cluster of processes at the end."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

da = pytest.importorskip("dask.array")

import dask  # noqa: E402
from dask.base import tokenize  # noqa: E402

import zarrdock  # noqa: E402

pytestmark = pytest.mark.peer

VALUES = np.arange(50 * 47, dtype="i4").reshape(50, 47)


@pytest.fixture
def array() -> zarrdock.Array:
    return zarrdock.create_array(zarrdock.MemoryStore(), data=VALUES, chunks=(8, 8), shards=(16, 24))


def test_blocks_are_shards(array: zarrdock.Array) -> None:
    lazy = array.to_dask()
    assert lazy.chunksize == (16, 24)
    assert lazy.dtype == array.dtype
    np.testing.assert_array_equal(lazy.compute(), VALUES)
    np.testing.assert_array_equal((lazy + 1).sum(axis=0).compute(), (VALUES + 1).sum(axis=0))
    np.testing.assert_array_equal(lazy[3:9, [4, 1, 30]].compute(), VALUES[3:9][:, [4, 1, 30]])
    np.testing.assert_array_equal(lazy[::-3, 5].compute(), VALUES[::-3, 5])


def test_other_blocks(array: zarrdock.Array) -> None:
    assert array.to_dask(chunks=(10, 47)).chunksize == (10, 47)
    with dask.config.set({"array.chunk-size": "8 kiB"}):  # a shard has 1.5
        assert array.to_dask("auto").chunksize == (32, 47)
    plain = zarrdock.create_array(zarrdock.MemoryStore(), data=VALUES, chunks=(8, 8))
    np.testing.assert_array_equal(plain.to_dask(inline_array=True).compute(), VALUES)
    assert plain.to_dask().chunksize == (8, 8)


def test_each_shard_is_asked_for_once() -> None:
    memory = zarrdock.MemoryStore()
    zarrdock.create_array(memory, data=VALUES, chunks=(8, 8), shards=(16, 24))
    record = zarrdock.RecordingStore(memory)
    lazy = zarrdock.open_array(record, zarr_format=3).to_dask()
    before = record.n_requests
    assert before == 1
    lazy.compute()
    assert record.n_requests - before == 2 * 8  # an index and its data, for each of 4 * 2 shards


def test_tokens_name_the_array(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(8, 8))
    zarrdock.create_array(tmp_path / "b.zarr", data=VALUES, chunks=(8, 8))
    one, same = (zarrdock.open_array(tmp_path / "a.zarr") for _ in range(2))
    assert tokenize(one) == tokenize(same) == tokenize(pickle.loads(pickle.dumps(one)))
    assert tokenize(one) != tokenize(zarrdock.open_array(tmp_path / "b.zarr"))
    code = f"import zarrdock, dask.base; print(dask.base.tokenize(zarrdock.open_array({str(tmp_path / 'a.zarr')!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tokenize(one)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_blocks_become_objects(zarr_format: Any) -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore())
    x = da.from_array(VALUES, chunks=(16, 24))
    array = zarrdock.from_dask(x, record, path="a", zarr_format=zarr_format)
    assert (array.shards or array.chunks) == (16, 24)
    np.testing.assert_array_equal(array[...], VALUES)
    # Only chunks at the edge are looked at before they are written: another writer may have made the array longer.
    assert record.n_writes == 1 + 3
    assert record.n_updates == 5


@pytest.mark.parametrize("rechunk", [None, False, True])
def test_blocks_that_share_shards_lose_nothing(rechunk: bool | None) -> None:
    x = da.from_array(VALUES, chunks=(5, 7))
    array = zarrdock.from_dask(x, zarrdock.MemoryStore(), chunks=(8, 8), shards=(16, 24), rechunk=rechunk)
    np.testing.assert_array_equal(array[...], VALUES)


@pytest.mark.parametrize("kind", ["memory", "local", "zip"])
def test_dask_stores_by_itself_and_without_a_lock(kind: str, place: Any) -> None:
    """dask's own store(), which knows nothing of chunks: its tasks write at the same time to the same shard."""
    array = zarrdock.create_array(place(kind)["store"], shape=VALUES.shape, dtype="i4", chunks=(8, 8), shards=(56, 48))
    with dask.config.set(scheduler="threads", num_workers=8):
        da.store(da.from_array(VALUES, chunks=(5, 7)), array, lock=False)
    np.testing.assert_array_equal(array[...], VALUES)


def test_chunks_that_differ(tmp_path: Path) -> None:
    sizes = ((10, 20, 20), (40, 7))
    array = zarrdock.create_array(tmp_path / "a.zarr", shape=VALUES.shape, dtype="i4", chunks=sizes)
    zarrdock.from_dask(da.from_array(VALUES, chunks=(9, 9)), array, rechunk=True)
    assert array.to_dask().chunks == array.to_dask("auto").chunks == sizes
    np.testing.assert_array_equal(array.to_dask().compute(), VALUES)


def test_stores_without_atomic_updates_get_whole_objects(tmp_path: Path) -> None:
    store = zarrdock.FsspecStore(f"file://{tmp_path}")
    assert not store.traits.atomic_update
    x = da.from_array(VALUES[:48, :40], chunks=(5, 7))
    array = zarrdock.from_dask(x, store, chunks=(8, 8))
    np.testing.assert_array_equal(array[...], VALUES[:48, :40])
    with pytest.raises(zarrdock.errors.UnsupportedError):
        zarrdock.from_dask(x, store, chunks=(8, 8), rechunk=False, overwrite=True)


def test_part_of_an_array(array: zarrdock.Array) -> None:
    x = da.full((20, 30), -1, chunks=(7, 30), dtype="i4")
    zarrdock.from_dask(x, array, region=np.s_[5:25, 3:33], rechunk=True)
    expected = VALUES.copy()
    expected[5:25, 3:33] = -1
    np.testing.assert_array_equal(array[...], expected)
    with pytest.raises(zarrdock.errors.SelectionError, match="region"):
        zarrdock.from_dask(x, array)
    with pytest.raises(zarrdock.errors.SelectionError, match="does not fit"):
        zarrdock.from_dask(x, array, region=np.s_[5:24, 3:33])


def test_later(tmp_path: Path) -> None:
    array, stored = zarrdock.from_dask(da.from_array(VALUES, chunks=(16, 24)), tmp_path / "a.zarr", compute=False)
    assert not array[...].any()
    dask.compute(stored)
    np.testing.assert_array_equal(array[...], VALUES)


def test_memory_is_out_of_reach_for_other_processes() -> None:
    x = da.from_array(VALUES, chunks=(16, 24))
    with dask.config.set(scheduler="processes"), pytest.raises(zarrdock.errors.UnsupportedError, match="memory"):
        zarrdock.from_dask(x, zarrdock.MemoryStore())


@pytest.mark.rare
@pytest.mark.filterwarnings("ignore:Sending large graph", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_of_processes_writes_one_shard(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster),
    ):
        x = da.from_array(VALUES, chunks=(5, 7))
        array = zarrdock.from_dask(x, tmp_path / "a.zarr", chunks=(8, 8), shards=(56, 48))
        np.testing.assert_array_equal(array[...], VALUES)
        assert array.to_dask(chunks=(8, 8)).sum().compute() == VALUES.sum()
