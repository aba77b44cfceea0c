"""Creating the same node, and replacing metadata, while others look."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import zarrdock
from support.storms.base import place
from support.storms.workers import in_copies, in_processes
from zarrdock.errors import NodeExistsError, NodeNotFoundError


def create_many(store, who: int, n: int, zarr_format: int) -> list[int]:
    """Numbers of the arrays that this one created."""
    won = []
    for i in range(n):
        try:
            zarrdock.create_array(store, name=f"g/{i}", shape=4, dtype="i4", fill_value=who, zarr_format=zarr_format)
            won.append(i)
        except NodeExistsError:
            pass
    return won


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "name",
    ["local", "local threads", "memory threads", *(pytest.param(n, marks=pytest.mark.server) for n in ("S3", "GCS"))],
)
def test_of_those_who_create_one_node_one_wins(name: str, zarr_format: int) -> None:
    n, n_creators = 12, 4
    with place(name) as store:
        if name == "memory threads":
            with ThreadPoolExecutor(n_creators) as pool:
                won = [*pool.map(partial(create_many, store, n=n, zarr_format=zarr_format), range(n_creators))]
        else:
            many = in_processes if (name, zarr_format) == ("local", 3) else in_copies
            won, _ = many(create_many, [(store, who, n, zarr_format) for who in range(n_creators)])
        assert sorted(i for part in won for i in part) == [*range(n)]
        for who, part in enumerate(won):
            for i in part:
                assert zarrdock.open_array(store, path=f"g/{i}").fill_value == who


@pytest.mark.parametrize("name", ["local threads", "memory threads", pytest.param("S3", marks=pytest.mark.server)])
def test_metadata_replaced_while_it_is_read_is_the_old_or_the_new(name: str) -> None:
    with place(name) as store:
        array = zarrdock.create_array(store, shape=1, dtype="i4", chunks=7, attributes={"n": 1, "text": "x"})
        done = threading.Event()
        seen = set()

        def look() -> None:
            while not done.is_set():
                found = zarrdock.open_array(store)
                (n,) = found.shape
                # Shape and attributes are changed in turn, so they are never further apart than one step.
                assert n <= found.attrs["n"] <= n + 1
                assert found.attrs["text"] == "x" * found.attrs["n"]
                seen.add(n)

        with ThreadPoolExecutor(2) as pool:
            looking = [pool.submit(look) for _ in range(2)]
            n = 1
            while n < 40 or (len(seen) < 2 and n < 2000):  # on a busy machine those who look may come late
                n += 1
                array.attrs.update({"n": n, "text": "x" * n})
                array.resize(n)
            done.set()
            for future in looking:
                future.result()
        assert len(seen) > 1


def test_a_node_replaced_while_it_is_read_is_the_old_the_new_or_none(tmp_path) -> None:
    store = zarrdock.LocalStore(tmp_path)
    done = threading.Event()
    n_seen = 0

    def replace() -> None:
        for i in range(60):
            data = np.full(8 + i % 5, i, ["i4", "f8"][i % 2])
            zarrdock.create_array(store, name="a", data=data, chunks=3 + i % 2, overwrite=True)
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not done.is_set():
        try:
            metadata = zarrdock.open_array(store, path="a").metadata
        except NodeNotFoundError:
            continue
        n_seen += 1
        i = [i for i in range(60) if (8 + i % 5, 3 + i % 2) == (metadata.shape[0], metadata.grid.chunk_shape[0])]
        assert metadata.dtype == np.dtype(["i4", "f8"][i[0] % 2])
    thread.join()
    assert n_seen
    np.testing.assert_array_equal(zarrdock.open_array(store, path="a")[:], np.full(8 + 59 % 5, 59))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["local threads", "memory threads"])
def test_dask_with_misaligned_chunks_and_no_lock(name: str) -> None:
    da = pytest.importorskip("dask.array")
    values = np.arange(60 * 50, dtype="i4").reshape(60, 50) + 1
    with place(name) as store:
        array = zarrdock.create_array(store, shape=values.shape, dtype="i4", chunks=(8, 8), shards=(32, 40))
        da.store(da.from_array(values, chunks=(7, 11)), array, lock=False, scheduler="threads", num_workers=8)
        np.testing.assert_array_equal(array[...], values)
