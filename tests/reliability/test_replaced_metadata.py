"""Whoever opens a node while its document is replaced gets the old one or the new one, never a mixture."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zarrdock
from support.servers import StrictGCS, StrictS3

N = 60


@pytest.fixture(
    params=["memory", "local", "zip", *(pytest.param(name, marks=pytest.mark.server) for name in ("S3", "GCS"))]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[zarrdock.Store]:
    match request.param:
        case "memory":
            yield zarrdock.MemoryStore()
        case "local":
            yield zarrdock.open_store(tmp_path / "x.zarr")
        case "zip":
            with zarrdock.open_store(tmp_path / "x.zarr.zip") as archive:
                yield archive
        case "S3":
            with StrictS3("b") as s3:
                yield zarrdock.open_store("s3://b/x", storage_options=s3.storage_options)
        case "GCS":
            with StrictGCS("b") as gcs:
                yield zarrdock.open_store("gs://b/x", storage_options=gcs.storage_options)


def beside(write: Callable[[int], Any], read: Callable[[], int]) -> None:
    """Read again and again while another thread writes versions 1, 2, 3, ...; what is read never goes back."""
    failed: list[BaseException] = []

    def writer() -> None:
        try:
            for i in range(1, N):
                write(i)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=writer)
    thread.start()
    seen = [0]
    while thread.is_alive():
        seen.append(read())
    thread.join()
    seen.append(read())
    assert failed == []
    assert seen == sorted(seen)
    assert seen[-1] == N - 1


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_attributes(store: zarrdock.Store, zarr_format: Any) -> None:
    array = zarrdock.create_array(
        store, shape=4, dtype="u1", zarr_format=zarr_format, attributes={"i": 0, "text": "", "same": 0}
    )

    def read() -> int:
        found = zarrdock.open_array(store).attrs.asdict()
        assert found["same"] == found["i"]
        assert found["text"] == "x" * (1000 * found["i"])
        return int(found["i"])

    beside(lambda i: array.attrs.update({"i": i, "text": "x" * (1000 * i), "same": i}), read)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_shapes(store: zarrdock.Store, zarr_format: Any) -> None:
    array = zarrdock.create_array(
        store, shape=(4, 4), chunks=(4, 4), dtype="u1", zarr_format=zarr_format, attributes={"note": "x" * 5000}
    )

    def read() -> int:
        found = zarrdock.open_array(store)
        assert found.attrs["note"] == "x" * 5000
        n, m = found.shape
        assert n == m
        return n - 4

    beside(lambda i: array.resize((4 + i, 4 + i)), read)


def test_consolidated(store: zarrdock.Store) -> None:
    root = zarrdock.create_group(store, attributes={"n": 0})
    root.consolidate()

    def write(i: int) -> None:
        root.create_array(f"a{i:03}", shape=i, dtype="u1")
        if i % 5 == 0 or i == N - 1:
            root.consolidate()

    def read() -> int:
        members = dict(zarrdock.open_group(store, zarr_format=3).arrays())
        assert sorted(members) == [f"a{i:03}" for i in range(1, len(members) + 1)]
        assert [array.shape for _, array in sorted(members.items())] == [(i,) for i in range(1, len(members) + 1)]
        return len(members)

    beside(write, read)
