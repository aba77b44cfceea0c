"""HDF5 datasets whose last chunks are stored without their filters, beside what h5py reads of them."""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.views import hdf5

h5py = pytest.importorskip("h5py")

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("i4")
DONT_FILTER_PARTIAL_CHUNKS = 2


def library() -> ctypes.CDLL:
    """The HDF5 that h5py uses, which has the option; h5py itself does not show it."""
    maps = Path("/proc/self/maps")
    if maps.exists():
        loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "/libhdf5" in line}
    else:
        loaded = {str(path) for path in Path(h5py.__file__).parents[1].glob("h5py*/**/libhdf5*")}
    return ctypes.CDLL(next(path for path in sorted(loaded) if "libhdf5_hl" not in path))


def create(file: Any, name: str, *, filters: tuple[str, ...], is_raw: bool = True, n_attributes: int = 0) -> Any:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((8, 8))
    for filter_ in filters:
        getattr(plist, f"set_{filter_}")(*([4] if filter_ == "deflate" else []))
    if is_raw:
        set_chunk_opts = library().H5Pset_chunk_opts
        set_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
        assert set_chunk_opts(plist.id, DONT_FILTER_PARTIAL_CHUNKS) >= 0
    space = h5py.h5s.create_simple(VALUES.shape, (h5py.h5s.UNLIMITED, h5py.h5s.UNLIMITED))
    dataset = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT32, space, plist))
    for i in range(n_attributes):  # more than the header has room for: it goes on elsewhere
        dataset.attrs[f"attribute {i}"] = np.arange(20)
    dataset[...] = VALUES
    return dataset


def is_raw(file: Path, name: str) -> bool:
    """Whether the chunk in the corner lies in the file as its elements are."""
    corner = np.zeros((8, 8), "i4")
    corner[:2, :7] = VALUES[48:, 40:]
    with h5py.File(file) as made:
        info = made[name].id.get_chunk_info_by_coord((48, 40))
    return file.read_bytes()[info.byte_offset : info.byte_offset + info.size] == corner.tobytes()


@pytest.mark.parametrize("masks", ["conditional", "encode"])
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_same_values(tmp_path: Path, libver: Any, userblock: int, masks: Any) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=userblock, track_order=userblock > 0) as file:
        create(file, "packed", filters=("shuffle", "deflate"))
        create(file, "shuffled", filters=("shuffle",))  # as long with the filter as without it
        create(file, "filtered", filters=("shuffle",), is_raw=False)
        create(file, "described", filters=("shuffle", "deflate", "fletcher32"), n_attributes=7)
        create(file, "longer", filters=("shuffle",)).resize((70, 60))  # other chunks are cut off now
        create(file, "shorter", filters=("shuffle", "deflate")).resize((37, 31))
        expected = {name: file[name][...] for name in file}
    assert is_raw(path, "packed")
    assert is_raw(path, "shuffled")
    assert not is_raw(path, "filtered")
    view = hdf5(path, masks=masks)
    codecs = {}
    for name, values in expected.items():
        array = zarrdock.open_array(view, path=name)
        np.testing.assert_array_equal(array[...], values, err_msg=name)
        codecs[name] = array.metadata.codecs[1].name
        for entry in view.list(name):
            blob = view.get(entry.key)
            assert blob is not None
            assert view.size(entry.key) == len(blob.data)
    assert codecs["filtered"] == "numcodecs.shuffle"
    assert codecs["packed"] == ("conditional" if masks == "conditional" else "numcodecs.shuffle")
