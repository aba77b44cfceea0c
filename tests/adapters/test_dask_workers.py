"""Copies by a dask cluster: processes of this machine."""

import functools
import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")

import zarrdock  # noqa: E402
from zarrdock.adapters.dask_workers import DaskWorkers  # noqa: E402
from zarrdock.cli.main import run  # noqa: E402
from zarrdock.copying import CopyProgress  # noqa: E402

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore:Sending large graph"),
]

VALUES = np.random.default_rng(0).integers(0, 9, (70, 45), "i4")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with (
        warnings.catch_warnings(action="ignore"),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def source(tmp_path: Path) -> zarrdock.Group:
    group = zarrdock.create_group(tmp_path / "a.zarr", attributes={"title": "a test"})
    for name, shards in (("plain", None), ("sharded", (32, 16))):
        group.create_array(name, data=VALUES, chunks=(8, 8), shards=shards)
    return group


def expect_copy(place: Any) -> zarrdock.Group:
    found = zarrdock.open_group(place)
    assert found.attrs["title"] == "a test"
    for name in ("plain", "sharded"):
        np.testing.assert_array_equal(found[name][...], VALUES)
    return found


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="objects as they are"),
        pytest.param({"shards": (24, 24)}, id="chunks as they are"),
        pytest.param({"chunks": (10, 10), "shards": (40, 20), "compressors": None}, id="elements"),
        pytest.param({"chunks": (10, 10), "shards": (80, 50), "memory_bytes": 4000}, id="shards larger than memory"),
    ],
)
def test_copies(cluster: Any, source: zarrdock.Group, tmp_path: Path, how: Any) -> None:
    seen: list[CopyProgress] = []
    with DaskWorkers(cluster.scheduler_address) as workers:
        zarrdock.copy(source, tmp_path / "b.zarr", workers=workers, progress=seen.append, **how)
    expect_copy(tmp_path / "b.zarr")
    assert seen[-1].nbytes == seen[-1].nbytes_total == 2 * VALUES.nbytes
    zarrdock.copy(source, tmp_path / "c.zarr", **how)
    here, there = (
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("c.zarr", "b.zarr")
    )
    assert here == there


def test_a_pyramid(cluster: Any, source: zarrdock.Group, tmp_path: Path) -> None:
    with DaskWorkers(cluster.scheduler_address) as workers:
        for name, arguments in (("b.zarr", {"workers": workers, "memory_bytes": 20_000}), ("c.zarr", {})):
            zarrdock.pyramid(source["sharded"], tmp_path / name, levels=4, name="image", **arguments)
    here, there = (
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("c.zarr", "b.zarr")
    )
    assert here == there


def test_arrays_of_numpy_and_archives(cluster: Any, tmp_path: Path) -> None:
    """What is in this process's memory is sent to the workers once; an archive takes what several processes write."""
    with distributed.Client(cluster) as client:
        workers = DaskWorkers(client)
        large = np.arange(40_000, dtype="i8").reshape(200, 200)
        zarrdock.copy(large, tmp_path / "b.zarr", chunks=(20, 20), workers=workers)
        np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "b.zarr")[...], large)
        zarrdock.copy(tmp_path / "b.zarr", tmp_path / "c.zarr.zip", chunks=(30, 30), shards=None, workers=workers)
        np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "c.zarr.zip")[...], large)
        np.save(tmp_path / "d.npy", large)
        zarrdock.copy(tmp_path / "d.npy", tmp_path / "d.zarr", chunks=(30, 30), shards=None, workers=workers)
        np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "d.zarr")[...], large)
        workers.close()
        assert client.status == "running"  # it was not ours


def test_damage_is_the_error_it_is_here(cluster: Any, source: zarrdock.Group, tmp_path: Path) -> None:
    whole = (tmp_path / "a.zarr/plain/c/3/2").read_bytes()
    (tmp_path / "a.zarr/plain/c/3/2").write_bytes(b"nonsense")
    with DaskWorkers(cluster.scheduler_address) as workers:
        with pytest.raises(zarrdock.errors.CodecError, match="c/3/2"):
            zarrdock.copy(source, tmp_path / "b.zarr", chunks=(9, 9), shards=None, workers=workers)
        with pytest.raises(zarrdock.errors.NodeExistsError, match="unfinished"):
            zarrdock.copy(source, tmp_path / "b.zarr", chunks=(9, 9), shards=None, workers=workers)
        (tmp_path / "a.zarr/plain/c/3/2").write_bytes(whole)
        zarrdock.copy(source, tmp_path / "b.zarr", chunks=(9, 9), shards=None, workers=workers, resume=True)
    expect_copy(tmp_path / "b.zarr")


def test_a_lost_worker(source: zarrdock.Group, tmp_path: Path) -> None:
    """Its jobs are done by another; objects that are written twice are the same."""
    with (
        warnings.catch_warnings(action="ignore"),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        DaskWorkers(cluster.scheduler_address) as workers,
    ):
        killed: list[int] = []

        def progress(now: CopyProgress) -> None:
            if not killed:
                process = next(iter(cluster.workers.values())).process.process
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

        zarrdock.copy(
            source,
            tmp_path / "b.zarr",
            chunks=(9, 9),
            shards=None,
            memory_bytes=4000,
            workers=workers,
            progress=progress,
        )
        assert killed
    expect_copy(tmp_path / "b.zarr")


def test_a_lost_cluster(source: zarrdock.Group, tmp_path: Path) -> None:
    """The scheduler goes in the middle of a copy: a typed error, and another cluster does the rest."""
    how: Any = {"chunks": (9, 9), "shards": None, "memory_bytes": 4000}
    seen: list[CopyProgress] = []
    soon = dask.config.set({"distributed.comm.timeouts.connect": "10s"})
    with warnings.catch_warnings(action="ignore"), soon:
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        )
        with DaskWorkers(cluster.scheduler_address) as workers:

            def progress(now: CopyProgress) -> None:
                if len(seen) == 2:
                    cluster.close()
                seen.append(now)

            with pytest.raises(zarrdock.errors.StoreError, match=r"cluster is gone.*resume=True"):
                zarrdock.copy(source, tmp_path / "b.zarr", workers=workers, progress=progress, **how)
    zarrdock.copy(source, tmp_path / "b.zarr", resume=True, progress=seen.append, **how)
    assert seen[-1].n_kept > 0
    expect_copy(tmp_path / "b.zarr")


@pytest.mark.rare
def test_a_job_that_takes_workers_with_it(source: zarrdock.Group, tmp_path: Path) -> None:
    """Dask gives a job up that several workers died of; that is a typed error, and the copy can be resumed."""
    with (
        warnings.catch_warnings(action="ignore"),
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        DaskWorkers(cluster.scheduler_address) as workers,
        pytest.raises(zarrdock.errors.StoreError, match=r"2 workers that died.*memory_bytes"),
    ):
        list(workers.run([(1, functools.partial(os._exit, 1))], budget=10))


def test_the_command(cluster: Any, source: zarrdock.Group, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "copy",
        str(tmp_path / "a.zarr"),
        str(tmp_path / "b.zarr"),
        "--chunks",
        "9",
        "--shards",
        "none",
        "--json",
    ]
    assert run([*arguments, "--dask", cluster.scheduler_address]) == 0
    assert json.loads(capsys.readouterr().out)["nbytes"] == 2 * VALUES.nbytes
    expect_copy(tmp_path / "b.zarr")
    assert run([*arguments, "--overwrite", "--dask", "nonsense://x"]) == 1
    assert "no dask scheduler at nonsense://x" in capsys.readouterr().err


def test_what_workers_cannot_reach(cluster: Any, source: zarrdock.Group, monkeypatch: pytest.MonkeyPatch) -> None:
    with DaskWorkers(cluster.scheduler_address) as workers:
        with pytest.raises(zarrdock.errors.UnsupportedError, match="memory"):
            zarrdock.copy(source, zarrdock.RecordingStore(zarrdock.MemoryStore()), workers=workers)
        monkeypatch.setattr(zarrdock, "__version__", "0.0")
        with pytest.raises(zarrdock.errors.UnsupportedError, match="has zarrdock"):
            workers.check()
