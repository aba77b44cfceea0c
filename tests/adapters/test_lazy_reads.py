"""Lazy objects written over what they read: refused before anything is deleted."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import UnsupportedError

da = pytest.importorskip("dask.array")

from zarrdock.adapters.lazy_reads import readings  # noqa: E402

DATA = np.arange(1, 25)


@pytest.fixture
def place(tmp_path: Path) -> str:
    zarrdock.create_array(tmp_path / "a", data=DATA, chunks=(4,))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    return str(tmp_path / "a")


def ours(place: str) -> Any:
    return zarrdock.open_array(place).to_dask()


def inlined(place: str) -> Any:
    return zarrdock.open_array(place).to_dask(inline_array=True)


def linked(place: str) -> Any:
    return zarrdock.open_array(place.removesuffix("a") + "link").to_dask()


def computed(place: str) -> Any:
    return ((ours(place) + 0).reshape(4, 6) * 2)[::-1].ravel() // 2


def persisted_in_part(place: str) -> Any:
    return da.concatenate([ours(place)[:12], da.ones(12, dtype=DATA.dtype, chunks=4)])


def in_a_closure(place: str) -> Any:
    array = zarrdock.open_array(place)
    return da.map_blocks(lambda block: block + array[:4], da.zeros(24, dtype=DATA.dtype, chunks=4))


def in_a_partial(place: str) -> Any:
    function = functools.partial(lambda block, array: block + array[:4], array=zarrdock.open_array(place))
    return da.map_blocks(function, da.zeros(24, dtype=DATA.dtype, chunks=4))


def delayed(place: str) -> Any:
    import dask

    return da.from_delayed(dask.delayed(lambda array: array[:])(zarrdock.open_array(place)), (24,), DATA.dtype)


def of_zarr_python(place: str) -> Any:
    pytest.importorskip("zarr")
    return da.from_zarr(place)


def of_our_store(place: str) -> Any:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    return da.from_array(zarr.open_array(ZarrStore(place), mode="r"), chunks=4)


def of_an_fsspec_store(place: str) -> Any:
    zarr = pytest.importorskip("zarr")
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from fsspec.implementations.local import LocalFileSystem

    fs = AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True)
    return da.from_array(zarr.open_array(zarr.storage.FsspecStore(fs, path=place), mode="r"), chunks=4)


def of_a_file(place: str) -> Any:
    import dask

    np.save(f"{place}/x.npy", DATA)
    return da.from_delayed(dask.delayed(np.load)(f"{place}/x.npy"), (24,), DATA.dtype)


def of_a_memory_map(place: str) -> Any:
    np.save(f"{place}/x.npy", DATA)
    values = np.load(f"{place}/x.npy", mmap_mode="r")
    return da.map_blocks(lambda block: block + values[:4], da.zeros(24, dtype=DATA.dtype, chunks=4))


MAKERS = [
    ours,
    inlined,
    linked,
    computed,
    persisted_in_part,
    in_a_closure,
    in_a_partial,
    delayed,
    of_zarr_python,
    of_our_store,
    of_an_fsspec_store,
    of_a_file,
    of_a_memory_map,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_graph_is_not_written_over_what_it_reads(make: Callable[[str], Any], place: str) -> None:
    lazy = make(place)
    before = lazy.compute()
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.from_dask(lazy.rechunk(8), place, overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(place)[...], DATA)
    other = zarrdock.from_dask(lazy, place + "2", chunks=(8,))
    np.testing.assert_array_equal(other[...], before)
    np.testing.assert_array_equal(zarrdock.from_dask(lazy, place + "2", chunks=(8,), overwrite=True)[...], before)


def test_members_of_one_group_are_apart(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "g")
    for name in ("a", "b"):
        group.create_array(name, data=DATA, chunks=(4,))
    doubled = zarrdock.from_dask(group["a"].to_dask() * 2, tmp_path / "g", path="b", overwrite=True)
    np.testing.assert_array_equal(doubled[...], 2 * DATA)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.from_dask(group["a"].to_dask(), tmp_path / "g", overwrite=True)


def test_in_place_goes_where_blocks_need_only_themselves(place: str) -> None:
    array = zarrdock.open_array(place, "r+")
    zarrdock.from_dask(array.to_dask() * 2 + array.to_dask(), array)
    np.testing.assert_array_equal(array[...], 3 * DATA)
    zarrdock.from_dask(array.to_dask(chunks=8) // 3, array)
    np.testing.assert_array_equal(array[...], DATA)
    for entangled in (
        array.to_dask()[::-1],
        da.roll(array.to_dask(), 1),
        array.to_dask().rechunk(3),
        array.to_dask().cumsum(axis=0),
    ):
        with pytest.raises(UnsupportedError, match="still computed from it"):
            zarrdock.from_dask(entangled, array)
    np.testing.assert_array_equal(array[...], DATA)
    zarrdock.from_dask(array.to_dask()[:4], array, region=(slice(20, 24),))
    np.testing.assert_array_equal(array[20:], DATA[:4])


def test_a_graph_is_not_computed_to_be_searched(place: str) -> None:
    def fail(block: Any) -> Any:
        raise AssertionError

    lazy = da.map_blocks(fail, ours(place), dtype=DATA.dtype, meta=np.empty(0, DATA.dtype))
    assert [reading.url for reading in readings(lazy)] == [f"file://{place}"]


def dataset_at(place: str) -> None:
    group = zarrdock.create_group(place)
    group.create_array("x", data=DATA, chunks=(4,), dimension_names=["t"])
    group.create_array("y", data=-DATA, chunks=(4,), dimension_names=["t"])


@pytest.mark.parametrize("how", ["lazy", "dask", "computed with dask", "compute=False", "by zarr-python"])
def test_xarray_does_not_write_a_dataset_over_what_it_reads(how: str, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    place = str(tmp_path / "g")
    dataset_at(place)
    (tmp_path / "link").symlink_to(place)
    options: dict[str, Any] = {} if how == "lazy" else {"chunks": {}}
    if how == "by zarr-python":
        dataset = xr.open_zarr(str(tmp_path / "link"), consolidated=False)
    else:
        dataset = xr.open_dataset(place, engine="zarrdock", **options)
    if how == "computed with dask":
        dataset = dataset.assign(z=dataset.x.shift(t=1) + dataset.y).drop_vars(["x", "y"])
    with pytest.raises(UnsupportedError, match="overlap"):
        dataset.to_zarr(ZarrStore(place), mode="w", consolidated=False, compute=how != "compute=False")
    for name, values in (("x", DATA), ("y", -DATA)):
        np.testing.assert_array_equal(zarrdock.open_group(place)[name][...], values)
    dataset.to_zarr(ZarrStore(str(tmp_path / "other")), mode="w", consolidated=False)
    dataset.load().to_zarr(ZarrStore(place), mode="w", consolidated=False)
    with xr.open_zarr(place, consolidated=False) as written:
        xr.testing.assert_identical(written.load(), dataset)


def test_a_dataset_that_is_open_elsewhere_does_not_hinder_writing(tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    place = str(tmp_path / "g")
    dataset_at(place)
    still_open = xr.open_dataset(place, engine="zarrdock")
    xr.Dataset({"x": ("t", DATA * 2)}).to_zarr(ZarrStore(place), mode="w", consolidated=False)
    np.testing.assert_array_equal(zarrdock.open_group(place)["x"][...], 2 * DATA)
    assert still_open.x.shape == (24,)


def test_dask_by_way_of_zarr_python_does_not_write_over_what_it_reads(place: str) -> None:
    pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    with pytest.raises(UnsupportedError, match="overlap"):
        da.to_zarr(ours(place).rechunk(8) + 1, ZarrStore(place), overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(place)[...], DATA)
    da.to_zarr(ours(place) + 1, ZarrStore(place + "2"), overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(place + "2")[...], DATA + 1)
