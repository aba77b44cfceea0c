"""References as kerchunk and VirtualiZarr write them, of an HDF5 file: documents and tables."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import MetadataError, NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.views import references
from zarrdock.views.references import ReferenceView

h5py = pytest.importorskip("h5py")
kerchunk_hdf = pytest.importorskip("kerchunk.hdf")
virtualizarr = pytest.importorskip("virtualizarr")
pytest.importorskip("fastparquet")  # kerchunk writes with it
pytest.importorskip("pyarrow")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,  # the writers take seconds to import
    # The writers' own: of numcodecs' codecs in v3, of pandas that will know fastparquet no more, of an older
    # VirtualiZarr's reader of files.
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr"),
    pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated"),
    pytest.mark.filterwarnings("ignore:ParallelStoreReader is deprecated"),
]

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("i4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A netCDF4 file, as far as HDF5 goes."""
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as made:
        for name, n in (("y", 50), ("x", 47)):
            made[name] = np.arange(n, dtype="f4") / 2
            made[name].make_scale(name)
        made.create_dataset("packed", data=VALUES, chunks=(8, 8), compression="gzip", shuffle=True, fillvalue=-1)
        made.create_dataset("whole", data=VALUES.astype(">f8"))
        made.create_dataset("nan", data=VALUES.astype("f4"), chunks=(20, 20), fillvalue=np.nan)
        made.create_dataset("holes", shape=(50, 47), dtype="f8", chunks=(8, 8), fillvalue=3)
        made["holes"][8:] = VALUES[8:]
        made.create_dataset("truth", data=VALUES > 500, chunks=(10, 10))
        for name in ("packed", "whole", "nan", "holes", "truth"):
            for axis, scale in enumerate("yx"):
                made[name].dims[axis].attach_scale(made[scale])
    return path


def by_kerchunk(file: Path) -> Any:
    # It holds h5py's lock and waits for zarr-python's thread; where that thread is the one to collect an h5py file that
    # another test left, each waits for the other.
    gc.collect()
    gc.disable()
    try:
        return kerchunk_hdf.SingleHdf5ToZarr(str(file), inline_threshold=0).translate()
    finally:
        gc.enable()


def by_kerchunk_in_tables(file: Path) -> Any:
    from kerchunk.df import refs_to_dataframe

    tables = file.parent / "refs.parq"
    refs_to_dataframe(by_kerchunk(file), str(tables), record_size=10)
    return str(tables)


@contextmanager
def virtual(file: Path) -> Iterator[Any]:
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr.parsers import HDFParser

    registry = ObjectStoreRegistry({"file://": LocalStore()})
    options: dict[str, Any] = {"registry": registry, "parser": HDFParser(), "loadable_variables": ["x", "y"]}
    with virtualizarr.open_virtual_dataset(f"file://{file}", **options) as dataset:
        yield dataset.vz


def by_virtualizarr(file: Path) -> Any:
    with virtual(file) as writer:
        return writer.to_kerchunk()


def by_virtualizarr_in_json(file: Path) -> Any:
    with virtual(file) as writer:
        writer.to_kerchunk(file.parent / "refs.json", format="json")
    return str(file.parent / "refs.json")


def by_virtualizarr_in_tables(file: Path) -> Any:
    with virtual(file) as writer:
        writer.to_kerchunk(file.parent / "refs.parquet", format="parquet")
    return str(file.parent / "refs.parquet")


WRITERS = [
    by_kerchunk,
    by_kerchunk_in_tables,
    by_virtualizarr,
    by_virtualizarr_in_json,
    by_virtualizarr_in_tables,
]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_values_in_few_requests(file: Path, write: Callable[[Path], Any]) -> None:
    store = zarrdock.open_store("reference://", storage_options={"fo": write(file), "lazy": True})
    assert isinstance(store, ReferenceView)
    with h5py.File(file) as made:
        expected = {name: made[name][...] for name in made}
    record = store.store = zarrdock.RecordingStore(store.store)
    group = zarrdock.open_group(store)
    assert sorted(group) == sorted(expected)
    for name, values in expected.items():
        record.reset()
        np.testing.assert_array_equal(group[name][...], values)  # type: ignore[index]
        # Chunks are side by side, but for what HDF5 has put between some of them; x and y may be inline.
        assert record.n_rounds <= 1
        assert record.n_requests <= 2
        assert dict(group[name].attrs)["_ARRAY_DIMENSIONS"] == (["y", "x"] if values.ndim == 2 else [name])
    sizes = {entry.key: entry.size for entry in store.list()}
    assert {"packed/5.4", "holes/1.0", ".zgroup"} <= sizes.keys()
    assert "holes/0.0" not in sizes
    for key in ("packed/5.4", "packed/.zarray", "whole/0.0"):
        assert sizes[key] == len(store.get(key).data) == store.size(key)  # type: ignore[union-attr]
    assert sorted(store.list_dir("nan").keys)[:2] == [".zarray", ".zattrs"]
    for missing in ("packed/0.6", "packed/0", "packed/zarr.json", "zarr.json", "never/0.0"):
        assert store.get(missing) is None


@pytest.mark.parametrize("write", [by_kerchunk, by_virtualizarr_in_tables])
def test_as_a_dataset(file: Path, write: Callable[[Path], Any]) -> None:
    xr = pytest.importorskip("xarray")
    from zarrdock.adapters.xarray import XarrayBackend

    dataset = xr.open_dataset("reference://", engine=XarrayBackend, storage_options={"fo": write(file)})
    assert dict(dataset.sizes) == {"y": 50, "x": 47}
    np.testing.assert_array_equal(dataset.packed.sel(y=2.5), VALUES[5])


def test_one_round_of_tables_for_one_of_chunks(file: Path) -> None:
    """42 chunks, in five tables of ten rows."""
    view = references(by_kerchunk_in_tables(file))
    tables = view._places._tables  # type: ignore[attr-defined]
    record = tables._store = zarrdock.RecordingStore(tables._store)
    tables._kept.clear()
    array = zarrdock.open_array(view, path="packed")
    np.testing.assert_array_equal(array[...], VALUES)
    assert (record.n_rounds, record.n_requests) == (1, 5)
    np.testing.assert_array_equal(array[3:40], VALUES[3:40])
    assert record.n_requests == 5


@pytest.mark.parametrize("write", [by_kerchunk, by_kerchunk_in_tables])
def test_a_file_that_is_gone(file: Path, write: Callable[[Path], Any]) -> None:
    array = zarrdock.open_array(references(write(file)), path="packed")
    file.unlink()
    with pytest.raises(StoreError, match=r"referred to does not exist.*a\.nc"):
        array[...]


def test_tables_that_are_none(file: Path) -> None:
    tables = Path(by_kerchunk_in_tables(file))
    (tables / "packed/refs.1.parq").write_bytes(b"no table")
    with pytest.raises(MetadataError, match=r"packed/refs\.1\.parq is no Parquet"):
        zarrdock.open_array(references(tables), path="packed")[...]
    for text, message in (
        ("{", "not JSON"),
        ("{}", "/metadata"),
        ('{"metadata": {}, "record_size": 0}', "/record_size"),
    ):
        (tables / ".zmetadata").write_text(text)
        with pytest.raises(MetadataError, match=message):
            references(tables)
    (tables / ".zmetadata").unlink()
    with pytest.raises(NodeNotFoundError, match="nor tables"):
        references(tables)


def test_tables_of_files_on_several_services(file: Path) -> None:
    document = by_kerchunk(file)
    document["refs"]["packed/0.1"] = ["s3://bucket/elsewhere", 0, 10]
    from kerchunk.df import refs_to_dataframe

    refs_to_dataframe(document, str(file.parent / "refs.parq"))
    view = references(file.parent / "refs.parq")
    assert view.get("packed/0.0") is not None
    with pytest.raises(UnsupportedError, match=r"packed/0\.1.*s3://bucket"):
        view.get("packed/0.1")
