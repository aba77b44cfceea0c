"""HDF5 files on S3 and behind HTTP."""

from pathlib import Path

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from zarrdock.views import as_v2, hdf5

h5py = pytest.importorskip("h5py")
pytest.importorskip("aiohttp")

from zarrdock.serve.server import Server  # noqa: E402

pytestmark = pytest.mark.server

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47))


@pytest.fixture
def file(tmp_path: Path) -> bytes:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        dataset = made.create_dataset("x", data=VALUES, chunks=(8, 8), compression="gzip", shuffle=True)
        chunk = np.ascontiguousarray(VALUES[8:16, 8:16] + 1)
        dataset.id.write_direct_chunk((8, 8), chunk.tobytes(), filter_mask=3)
    return (tmp_path / "a.h5").read_bytes()


def check(view: zarrdock.Store) -> None:
    expected = VALUES.copy()
    expected[8:16, 8:16] += 1
    np.testing.assert_array_equal(zarrdock.open_array(view, path="x")[...], expected)


def test_on_s3(file: bytes, moto: Endpoint) -> None:
    url = f"s3://{moto.bucket}/hdf5/folder"
    store = zarrdock.open_store(url, storage_options=moto.storage_options)
    store.write("a.h5", file)
    check(hdf5(f"{url}/a.h5", storage_options=moto.storage_options))
    check(zarrdock.open_store(f"hdf5::{url}/a.h5", storage_options=moto.storage_options))
    store.close()


def test_behind_http_in_few_requests(file: bytes) -> None:
    store = zarrdock.MemoryStore()
    store.write("a.h5", file)
    log: list[tuple[str, str, int, int]] = []
    with Server(store, log=lambda *line: log.append(line)) as server:
        view = hdf5(f"{server.url}/a.h5")
        check(view)
        n = len(log)
        check(view)
        assert n <= 4  # size, one block, its version once more, the chunks; hundreds of reads by the library
        assert len(log) - n <= 4
        view.close()


def test_served_to_readers_of_zarr(file: bytes) -> None:
    zarr = pytest.importorskip("zarr")
    store = zarrdock.MemoryStore()
    store.write("a.h5", file)
    expected = VALUES.copy()
    expected[8:16, 8:16] += 1
    with Server(as_v2(hdf5(store, "a.h5", masks="encode"))) as server:
        array = zarr.open_array(f"{server.url}/x", mode="r")
        np.testing.assert_array_equal(array[...], expected)
