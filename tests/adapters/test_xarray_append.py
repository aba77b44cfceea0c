"""Appending xarray datasets: by many processes at once, in the encoding of what is stored; and what xarray's own way
of appending leaves behind where two use it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.storms.workers import in_processes
from zarrdock.errors import ConflictError, MetadataError, NodeNotFoundError, SelectionError

xr = pytest.importorskip("xarray")
pytest.importorskip("zarr")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")]

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
ENCODING: dict[str, Any] = {
    "time": {"units": "hours since 2020-01-01", "dtype": "i4"},
    "packed": {"dtype": "i2", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -9},
}


def days(first: int, n: int = 1) -> Any:
    """A dataset of n days: every variable tells the day."""
    numbers = np.arange(first, first + n)
    time = np.datetime64("2026-01-01", "ns") + numbers * np.timedelta64(1, "D")
    return xr.Dataset(
        {
            "t2m": (("time", "x"), (numbers[:, None] + np.arange(3) / 4).astype("f4")),
            "packed": (("x", "time"), np.full((3, n), numbers * 0.5)),
            "name": (("time",), np.array([f"day {number}" for number in numbers], dtype="U8")),
            "crs": ((), 4326),
        },
        {"time": time, "x": [1.0, 2.0, 3.0]},
    )


def write(store: Any, zarr_format: Any, *, consolidated: bool = True, n: int = 2) -> None:
    from zarrdock.adapters.zarr_python import ZarrStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of text in v3
        days(0, n).chunk({"time": 4}).to_zarr(
            ZarrStore(store), zarr_format=zarr_format, encoding=ENCODING, consolidated=consolidated
        )


def read(store: Any) -> Any:
    return xr.open_dataset(store, engine="zarrdock").load()


def check(found: Any) -> list[int]:
    """All variables tell the same day; returned in the order of the rows."""
    numbers = ((found.time.values - np.datetime64("2026-01-01")) // np.timedelta64(1, "D")).astype(int)
    for i, number in enumerate(numbers.tolist()):
        xr.testing.assert_equal(found.isel(time=[i]), days(number))
    return numbers.tolist()  # type: ignore[no-any-return]


@FORMATS
@pytest.mark.parametrize("consolidated", [False, True])
def test_it_is_what_xarray_would_have_written(zarr_format: Any, consolidated: bool) -> None:
    store, whole = zarrdock.MemoryStore(), zarrdock.MemoryStore()
    write(store, zarr_format, consolidated=consolidated)
    assert zarrdock.append(days(2, 3), store, dim="time") == slice(2, 5)
    assert zarrdock.append(days(5), store, dim="time") == slice(5, 6)
    write(whole, zarr_format, n=6)
    xr.testing.assert_identical(read(store), read(whole))
    assert zarrdock.open_array(store, path="time")[:].tolist() == [24 * (2192 + i) for i in range(6)]
    assert zarrdock.open_array(store, path="packed").dtype == np.int16
    assert check(read(store)) == [0, 1, 2, 3, 4, 5]


def test_a_group_below(tmp_path: Path) -> None:
    days(0).drop_vars("name").to_zarr(tmp_path / "x.zarr", group="a/b", zarr_format=3, consolidated=False)
    zarrdock.append(days(1).drop_vars("name"), tmp_path / "x.zarr", dim="time", group="a/b")
    assert xr.open_zarr(tmp_path / "x.zarr", group="a/b", consolidated=False).t2m.values[:, 0].tolist() == [0, 1]


def append_some(store: Any, who: int) -> None:
    for i in range(3):
        zarrdock.append(days(100 * who + 10 * i, 1 + i), store, dim="time")


@pytest.mark.parametrize("zarr_format", [3, pytest.param(2, marks=pytest.mark.rare)])
def test_many_processes(tmp_path: Path, zarr_format: Any) -> None:
    store = zarrdock.LocalStore(tmp_path / "x.zarr")
    write(store, zarr_format)
    in_processes(append_some, [(store, who) for who in range(1, 6)])
    expected = [0, 1, *(100 * who + 10 * i + j for who in range(1, 6) for i in range(3) for j in range(1 + i))]
    assert sorted(check(read(store))) == expected
    assert sorted(check(xr.open_zarr(tmp_path / "x.zarr").load())) == expected  # by the consolidated copy


def test_unsorted_arrival_stays_in_the_order_of_arrival() -> None:
    store = zarrdock.MemoryStore()
    write(store, 3)
    for number in (9, 4, 7):
        zarrdock.append(days(number), store, dim="time")
    found = read(store)
    assert check(found) == [0, 1, 9, 4, 7]
    assert check(found.sortby("time")) == [0, 1, 4, 7, 9]


def test_missing_values_and_lazy_data() -> None:
    pytest.importorskip("dask")
    store = zarrdock.MemoryStore()
    write(store, 3)
    new = days(2, 4)
    new["packed"][1, 2] = np.nan
    new["t2m"][0, 0] = np.nan
    zarrdock.append(new.chunk({"time": 1}), store, dim="time")
    xr.testing.assert_equal(read(store).isel(time=slice(2, None)), new)


REFUSED: dict[str, tuple[Any, str]] = {
    "a coordinate that differs": (
        lambda d: d.assign_coords(x=[1.0, 2.0, 4.0]),
        "'x' .* differs from the stored",
    ),
    "a variable that differs": (lambda d: d.assign(crs=4258), "'crs' .* differs from the stored values"),
    "a variable more": (lambda d: d.assign(wind=d.t2m), "the stored dataset has no 'wind'"),
    "a variable less": (lambda d: d.drop_vars("t2m"), r"every array of 'time' needs data.*\['t2m'\]"),
    "too large for its integers": (
        lambda d: d.assign(packed=d.packed + 1e6),
        r"'packed' cannot be stored as the others are \(.*int16",
    ),
    "numbers for times": (lambda d: d.assign_coords(time=[1]), "'time' is stored as times, in 'hours since"),
    "another shape": (lambda d: d.isel(x=[0, 1]), "'x'"),
    "other dimensions": (lambda d: d.assign(t2m=d.t2m.isel(x=0, drop=True)), "'t2m' has the dimensions"),
    "without the dimension": (lambda d: d.isel(time=0), "no dimension 'time'"),
}


@FORMATS
@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused(zarr_format: Any, what: str) -> None:
    store = zarrdock.MemoryStore()
    write(store, zarr_format)
    change, match = REFUSED[what]
    with pytest.raises(SelectionError, match=match):
        zarrdock.append(change(days(2)), store, dim="time")
    assert check(read(store)) == [0, 1]


@pytest.mark.filterwarnings("ignore:Times can't be serialized faithfully:UserWarning")
def test_times_that_the_units_cannot_tell() -> None:
    store = zarrdock.MemoryStore()
    write(store, 3)
    new = days(2).assign_coords(time=[np.datetime64("2026-01-03T00:20", "ns")])
    with pytest.raises(SelectionError, match=r"'time' cannot be stored .*units=hours since 2020-01-01"):
        zarrdock.append(new, store, dim="time")
    assert check(read(store)) == [0, 1]


@FORMATS
def test_fractions_are_not_rounded_to_integers(zarr_format: Any) -> None:
    """Neither in data nor in the coordinate; integers that are given as floats are integers."""
    from zarrdock.adapters.zarr_python import ZarrStore

    stored: dict[str, bytes] = {}
    cube = xr.Dataset({"v": ("t", np.arange(4))}, {"t": np.arange(4)})
    cube.to_zarr(ZarrStore(stored), zarr_format=zarr_format, consolidated=False)
    for name, values in {"t": [4, 5.5], "v": [0.5, 1]}.items():
        part = xr.Dataset({"v": ("t", [7, 8])}, {"t": [4, 5]}).assign({name: ("t", np.array(values))})
        with pytest.raises(SelectionError, match=f"values of '{name}' cannot be stored"):
            zarrdock.append(part, stored, dim="t")
    large = np.array([2.0**40, 2.0**40 + 1])
    zarrdock.append(xr.Dataset({"v": ("t", large)}, {"t": [4.0, 5.0]}), stored, dim="t")
    found = read(stored)
    assert found["t"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert found["v"].values.tolist() == [0, 1, 2, 3, 2**40, 2**40 + 1]


@pytest.mark.parametrize("values", [[[1]], xr.DataArray([1], dims="time"), {"t2m": [1]}])
def test_only_datasets_are_appended(values: Any) -> None:
    with pytest.raises(SelectionError, match=r"an xarray dataset is appended, not (list|DataArray|dict): .*to_dataset"):
        zarrdock.append(values, {}, dim="time")


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    with pytest.raises(NodeNotFoundError) as caught:
        zarrdock.append(days(0), tmp_path / "x.zarr", dim="time")
    assert "to_zarr" in caught.value.__notes__[0]


# -- to_zarr(append_dim=) ----------------------------------------------------------------------------------------------


@FORMATS
def test_two_who_append_with_to_zarr_are_found_out(zarr_format: Any) -> None:
    """Both read that there are two days and write that there are three: the second is refused before it damages any."""
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    store = zarrdock.MemoryStore()
    write(store, zarr_format)
    mine, other = (zarr.open_array(ZarrStore(store), path="t2m", mode="r+") for _ in range(2))
    other.append(np.full((1, 3), 5.0, "f4"))
    with pytest.raises(ConflictError, match=r"the array's metadata was changed since.*zarrdock\.append"):
        mine.append(np.full((1, 3), 6.0, "f4"))
    assert zarrdock.open_array(store, path="t2m")[-1].tolist() == [5, 5, 5]
    again = zarr.open_array(ZarrStore(store), path="t2m", mode="r+")
    again.append(np.full((1, 3), 7.0, "f4"))
    again.attrs["n"] = 1
    again.append(np.full((1, 3), 8.0, "f4"))
    assert zarrdock.open_array(store, path="t2m").shape == (5, 3)


@FORMATS
def test_one_who_appends_with_to_zarr_is_let(zarr_format: Any) -> None:
    from zarrdock.adapters.zarr_python import ZarrStore

    store = zarrdock.MemoryStore()
    write(store, zarr_format)
    adapter = ZarrStore(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in (2, 3):
            days(number).to_zarr(adapter, append_dim="time")
    assert check(read(store)) == [0, 1, 2, 3]


@FORMATS
def test_a_dataset_that_was_torn_says_why(zarr_format: Any) -> None:
    store = zarrdock.MemoryStore()
    write(store, zarr_format, consolidated=False)
    zarrdock.open_array(store, "r+", path="t2m").append(np.zeros((1, 3), "f4"))
    with pytest.raises(MetadataError, match=r"different lengths along 'time'.*zarrdock\.append\(\)"):
        xr.open_dataset(store, engine="zarrdock")
    assert xr.open_dataset(store, engine="zarrdock", drop_variables="t2m").sizes["time"] == 2
    with pytest.raises(ConflictError, match=r"'t2m': 3\}, but 'time' has 2"):
        zarrdock.append(days(2), store, dim="time")
    zarrdock.open_array(store, "r+", path="t2m").resize((2, 3))
    zarrdock.append(days(2), store, dim="time")
    assert check(read(store)) == [0, 1, 2]
