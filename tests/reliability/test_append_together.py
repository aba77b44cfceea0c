"""Appending to all arrays of a dimension at once: every row stands under its own date, whoever else appends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from support.stores import HookedStore, remote
from support.storms.workers import in_processes, in_threads
from zarrdock.array.group import Group
from zarrdock.errors import AccessError, ConflictError, ReadOnlyError, SelectionError, StoreError
from zarrdock.testing import FaultyStore, StoreFault

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


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


def make(store: zarrdock.Store, zarr_format: Any = 3, *, consolidated: bool = False, n: int = 0) -> Group:
    """A cube of n rows: a coordinate, data with the dimension first and second, and what has another one."""
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    root.create_array("time", data=np.arange(n), chunks=7, dimension_names=["time"])
    root.create_array("t2m", data=cube(np.arange(n)), chunks=(5, 2), dimension_names=["time", "x"])
    root.create_array("tp", data=cube(np.arange(n)).T.copy(), chunks=(3, 4), dimension_names=["x", "time"])
    root.create_array("x", data=np.arange(3), dimension_names=["x"])
    return root.consolidate() if consolidated else root


def cube(dates: Any) -> np.ndarray[Any, Any]:
    return np.asarray(dates)[:, None] * 10.0 + np.arange(3)


def rows(dates: Any) -> dict[str, Any]:
    return {"time": np.asarray(dates), "t2m": cube(dates), "tp": cube(dates).T}


def check(store: zarrdock.Store, dates: Any = None, *, path: str = "") -> list[int]:
    """Each row belongs to its date; returned in the order of the rows."""
    group = zarrdock.open_group(store, path=path)
    time = group["time"][:]  # type: ignore[call-overload]
    np.testing.assert_array_equal(group["t2m"][:], cube(time))  # type: ignore[call-overload]
    np.testing.assert_array_equal(group["tp"][:], cube(time).T)  # type: ignore[call-overload]
    bare = zarrdock.open_group(store, path=path, use_consolidated=False)
    assert [bare[name].shape for name in ("time", "t2m", "tp")] == [(len(time),), (len(time), 3), (3, len(time))]  # type: ignore[union-attr]
    if dates is not None:
        np.testing.assert_array_equal(time, dates)
    return [int(date) for date in time]


@FORMATS
@pytest.mark.parametrize("consolidated", [False, True])
def test_all_arrays_get_the_same_rows(store: zarrdock.Store, zarr_format: Any, consolidated: bool) -> None:
    root = make(store, zarr_format, consolidated=consolidated, n=3)
    assert root.append(rows([3, 4]), dim="time") == slice(3, 5)
    assert root.append(rows([9]), dim="time") == slice(5, 6)
    assert root.append(rows(np.arange(20, 31)), dim="time") == slice(6, 17)
    check(store, [0, 1, 2, 3, 4, 9, *range(20, 31)])
    assert root["time"].shape == (17,)  # type: ignore[union-attr]
    assert root.append(rows(np.arange(0)), dim="time") == slice(17, 17)


def append(store: zarrdock.Store, who: int, n: int) -> list[slice]:
    group = zarrdock.open_group(store, "r+")
    done = []
    for i in range(n):
        n_rows = 1 + (who + i) % 3
        done.append(group.append(rows(1000 * who + 10 * i + np.arange(n_rows)), dim="time"))
    return done


def expected(n_writers: int, n: int) -> list[int]:
    return [1000 * who + 10 * i + j for who in range(n_writers) for i in range(n) for j in range(1 + (who + i) % 3)]


@pytest.mark.parametrize(
    "zarr_format, consolidated",
    [(3, True), *(pytest.param(*one, marks=pytest.mark.rare) for one in ((2, False), (2, True), (3, False)))],
)
def test_ten_processes(tmp_path: Path, zarr_format: Any, consolidated: bool) -> None:
    store = zarrdock.LocalStore(tmp_path / "x")
    make(store, zarr_format, consolidated=consolidated)
    done, _ = in_processes(append, [(store, who, 6) for who in range(10)])
    found = check(store)
    assert sorted(found) == expected(10, 6)
    for who, slices in enumerate(done):
        for i, where in enumerate(slices):
            assert found[where] == [1000 * who + 10 * i + j for j in range(where.stop - where.start)]


@pytest.mark.server
@pytest.mark.rare
def test_ten_processes_on_s3(moto: Endpoint) -> None:
    store = zarrdock.open_store(f"s3://{moto.bucket}/cube", storage_options=moto.storage_options)
    make(store, consolidated=True)
    in_processes(append, [(store, who, 2) for who in range(10)])
    assert sorted(check(store)) == expected(10, 2)


def test_ten_threads(store: zarrdock.Store) -> None:
    make(store, consolidated=True)
    in_threads(append, [(store, who, 4) for who in range(10)])
    assert sorted(check(store)) == expected(10, 4)


def test_who_reads_the_copy_never_sees_arrays_of_different_length() -> None:
    store = zarrdock.MemoryStore()
    root = make(store, consolidated=True)
    done = threading.Event()

    def write() -> None:
        for i in range(30):
            root.append(rows([i]), dim="time")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        check_lengths = {
            name: array.shape[array.dimension_names.index("time")]  # type: ignore[union-attr]
            for name, array in zarrdock.open_group(store).arrays()
            if name != "x"
        }
        assert len(set(check_lengths.values())) == 1
    thread.join()
    check(store, np.arange(30))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"tp": None}, r"\['tp'\] too"),
    "unknown": ({"wind": np.zeros(2)}, r"no arrays with a dimension 'time': \['wind'\]"),
    "another dimension": ({"x": np.zeros(2)}, r"no arrays with a dimension 'time': \['x'\]"),
    "lengths": ({"time": np.arange(3)}, "different lengths along 'time'"),
    "shape": ({"t2m": np.zeros((2, 4))}, r"data of shape \(2, 4\) along 'time' \(axis 0\) of 't2m'"),
    "ndim": ({"t2m": np.zeros(2)}, r"data of shape \(2,\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused(what: str) -> None:
    store = zarrdock.MemoryStore()
    root = make(store, n=3)
    wrong, match = REFUSED[what]
    data = {name: values for name, values in (rows([3, 4]) | wrong).items() if values is not None}
    with pytest.raises(SelectionError, match=match):
        root.append(data, dim="time")
    check(store, [0, 1, 2])


def test_values_that_cannot_be_stored_are_refused_first() -> None:
    store = zarrdock.MemoryStore()
    root = make(store, n=3)
    with pytest.raises(SelectionError, match="does not fit an array of int64"):
        root.append(rows([3, 4]) | {"time": ["a", "b"]}, dim="time")
    check(store, [0, 1, 2])


def test_dimensions_nobody_has() -> None:
    root = make(zarrdock.MemoryStore())
    with pytest.raises(SelectionError, match="no array here has a dimension 'depth'"):
        root.append({"time": [1]}, dim="depth")
    root.create_array("square", shape=(0, 0), dtype="i4", chunks=(1, 1), dimension_names=["time", "time"])
    with pytest.raises(SelectionError, match="more than once"):
        root.append(rows([1]), dim="time")
    with pytest.raises(ReadOnlyError):
        zarrdock.open_group(root.store).append(rows([1]), dim="time")


def test_without_a_coordinate() -> None:
    store = zarrdock.MemoryStore()
    root = zarrdock.create_group(store)
    for name in ("b", "a"):
        root.create_array(name, shape=0, dtype="i4", chunks=3, dimension_names=["step"])
    for i in range(5):
        assert root.append({"a": [i], "b": [-i]}, dim="step") == slice(i, i + 1)
    assert root["a"][:].tolist() == [0, 1, 2, 3, 4]  # type: ignore[call-overload]
    assert root["b"][:].tolist() == [0, -1, -2, -3, -4]  # type: ignore[call-overload]


@FORMATS
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("n_good", range(12))
def test_rows_are_given_back_where_writing_fails(zarr_format: Any, consolidated: bool, n_good: int) -> None:
    inner = zarrdock.MemoryStore()
    make(inner, zarr_format, consolidated=consolidated, n=3)
    store = FaultyStore(inner)
    group = zarrdock.open_group(store, "r+")
    store.add(StoreFault("write" if n_good % 2 else "update", "*[0-9]", AccessError, count=1, after=n_good // 2))
    error = None
    try:
        group.append(rows(np.arange(3, 20)), dim="time")
    except AccessError as caught:
        error = caught
    if error is not None:
        assert not getattr(error, "__notes__", [])
        check(inner, [0, 1, 2])
        root = zarrdock.open_group(inner, "r+", use_consolidated=False)
        for name in ("time", "t2m"):
            root[name].resize((20, *root[name].shape[1:]))  # type: ignore[union-attr]
            assert not root[name][3:].any()  # type: ignore[call-overload]
            root[name].resize((3, *root[name].shape[1:]))  # type: ignore[union-attr]
        zarrdock.open_group(inner, "r+").append(rows([7]), dim="time")
        check(inner, [0, 1, 2, 7])
    else:
        check(inner, np.arange(20))


def test_rows_are_not_given_back_where_others_came_behind() -> None:
    inner = zarrdock.MemoryStore()
    other = make(inner, n=3)
    done: list[slice] = []
    first = threading.Lock()  # two chunks are written at the same time

    def too_late(event: Any) -> None:
        if event.verb == "update" and event.key.startswith("t2m/c/") and first.acquire(blocking=False):
            done.append(other.append(rows([9]), dim="time"))
            raise StoreError("too late", key=event.key)

    with pytest.raises(StoreError, match="too late") as caught:
        zarrdock.open_group(HookedStore(inner, too_late), "r+").append(rows([5, 6]), dim="time")
    assert "3 to 5 along 'time' stay part of the arrays" in caught.value.__notes__[0]
    assert done == [slice(5, 6)]
    group = zarrdock.open_group(inner)
    assert group["time"][:].tolist() == [0, 1, 2, 0, 0, 9]  # type: ignore[call-overload]
    assert group["t2m"][5].tolist() == [90, 91, 92]  # type: ignore[call-overload]
    assert not group["t2m"][3:5].any()  # type: ignore[call-overload]


@pytest.mark.parametrize("n_done", range(8))
def test_whoever_comes_next_completes_what_a_kill_left(n_done: int) -> None:
    """A process that stops between any two changes leaves the rows of others under their dates."""

    class Killed(BaseException):
        pass

    inner = zarrdock.MemoryStore()
    make(inner, n=3)
    n = 0

    def kill(event: Any) -> None:
        nonlocal n
        if event.verb in ("update", "write"):
            n += 1
            if n > n_done:
                raise Killed

    with pytest.raises(Killed):
        zarrdock.open_group(HookedStore(inner, kill), "r+").append(rows([5, 6, 7]), dim="time")
    where = zarrdock.open_group(inner, "r+").append(rows([8, 9]), dim="time")
    group = zarrdock.open_group(inner)
    lengths = {group[name].shape[axis] for name, axis in (("time", 0), ("t2m", 0), ("tp", 1))}  # type: ignore[union-attr]
    assert lengths == {where.stop}
    for part in (slice(0, 3), where):
        dates = group["time"][part]  # type: ignore[call-overload]
        np.testing.assert_array_equal(group["t2m"][part], cube(dates))  # type: ignore[call-overload]
        np.testing.assert_array_equal(group["tp"][:, part], cube(dates).T)  # type: ignore[call-overload]
    between = group["time"][3 : where.start]  # type: ignore[call-overload]
    assert set(between.tolist()) <= {0, 5, 6, 7}
    assert group["time"][where].tolist() == [8, 9]  # type: ignore[call-overload]


def test_arrays_that_were_appended_to_one_by_one_are_refused() -> None:
    store = zarrdock.MemoryStore()
    root = make(store, n=3)
    zarrdock.open_array(store, "r+", path="t2m").append(cube([3]))
    with pytest.raises(ConflictError, match=r"different lengths along 'time': \{'t2m': 4\}, but 'time' has 3"):
        root.append(rows([4]), dim="time")
    (problem,) = zarrdock.tools.check(store).problems
    assert problem.severity == "warning"
    assert "different lengths along 'time'" in problem.message
    assert "'t2m' 4, 'time' 3, 'tp' 3" in problem.message
    zarrdock.open_array(store, "r+", path="t2m").resize((3, 3))
    root.append(rows([4]), dim="time")
    check(store, [0, 1, 2, 4])
    assert not zarrdock.tools.check(store).problems
