"""HDF5 files as Zarr hierarchies, beside what h5py reads of them."""

import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import NodeNotFoundError, ReadOnlyError, UnknownExtensionError, UnsupportedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.base import Read
from zarrdock.views import as_v2, hdf5

h5py = pytest.importorskip("h5py")

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47))
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"chunks": (8, 8)},
    {"chunks": (8, 8), "compression": "gzip", "compression_opts": 4},
    {"chunks": (8, 8), "compression": "gzip", "shuffle": True},
    {"chunks": (7, 47), "compression": "gzip", "shuffle": True, "fletcher32": True},
    {"chunks": (8, 8), "fletcher32": True},
]


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("dtype", ["u2", ">i4", "<f8", "c8", "i1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_values(tmp_path: Path, layout: dict[str, Any], dtype: str, userblock: int) -> None:
    values = VALUES.astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=userblock) as file:
        dataset = file.create_dataset(
            "some/where", shape=values.shape, dtype=dtype, fillvalue=np.dtype(dtype).type(3), **layout
        )
        dataset.attrs["a"] = [1.5, np.nan]
        dataset[8:] = values[8:]  # the first chunks are not there
        expected = dataset[...]
    view = hdf5(tmp_path / "a.h5")
    array = zarrdock.open_array(view, path="some/where")
    assert (array.shape, array.dtype, array.fill_value) == (values.shape, values.dtype.newbyteorder("="), 3)
    assert dict(array.attrs) == {"a": [1.5, "NaN"]}
    np.testing.assert_array_equal(array[...], expected)
    np.testing.assert_array_equal(array[3:40:5, ::-7], expected[3:40:5, ::-7])
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None, entry.key
        assert view.size(entry.key) == len(blob.data)
        assert entry.size in (None, len(blob.data))
        folder, _, name = entry.key.rpartition("/")
        assert name in view.list_dir(folder).keys
    group = zarrdock.open_group(view)
    np.testing.assert_array_equal(group["some/where"][...], expected)  # type: ignore[index]


def masked(path: Path, **layout: Any) -> Any:
    """A dataset of 4 x 4 chunks, to which the filters shuffle, deflate and fletcher32 were applied in every combination
    but the last two.
    """
    rng = np.random.default_rng(1)
    values = rng.integers(0, 100, (16, 16)).astype("i4")
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "x",
            shape=(16, 16),
            dtype="i4",
            chunks=(4, 4),
            shuffle=True,
            compression="gzip",
            fletcher32=True,
            fillvalue=7,
        )
        for number in range(14):
            mask = number % 8
            i, j = divmod(number, 4)
            chunk = np.ascontiguousarray(values[4 * i : 4 * i + 4, 4 * j : 4 * j + 4])
            data = chunk.tobytes()
            if not mask & 1:
                data = chunk.view("u1").reshape(-1, 4).T.tobytes()
            if not mask & 2:
                data = zlib.compress(data)
            if not mask & 4:
                data += fletcher32(data)
            dataset.id.write_direct_chunk((4 * i, 4 * j), data, filter_mask=mask)
    with h5py.File(path) as file:
        expected = file["x"][...]
    np.testing.assert_array_equal(expected[:12], values[:12])
    assert (expected[12:, 8:] == 7).all()
    return expected


def fletcher32(data: bytes) -> bytes:
    """As HDF5 computes it: over big-endian words, an odd byte being the high half of one."""
    one = two = 0
    for word in np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").tolist():
        one = (one + word) % 65535
        two = (two + one) % 65535
    return ((two << 16) | one).to_bytes(4, "little")


def test_chunks_whose_filters_were_skipped(tmp_path: Path) -> None:
    expected = masked(tmp_path / "a.h5")
    view = hdf5(tmp_path / "a.h5")
    array = zarrdock.open_array(view, path="x")
    assert [codec.name for codec in array.metadata.codecs] == ["bytes", "conditional"]
    np.testing.assert_array_equal(array[...], expected)
    raw = (tmp_path / "a.h5").read_bytes()
    for number in range(14):
        blob = view.get(f"x/c/{number // 4}/{number % 4}")
        assert blob is not None
        data = bytes(blob.data)
        assert data[0] == ~(number % 8) & 7  # HDF5 counts what was skipped, the codec what was applied
        assert data[1:] in raw
    assert view.get("x/c/3/2") is None


def test_ranges_across_what_is_put_in_front(tmp_path: Path) -> None:
    masked(tmp_path / "a.h5")
    view = hdf5(tmp_path / "a.h5")
    blob = view.get("x/c/0/0")
    assert blob is not None
    data = bytes(blob.data)
    for range_, expected in (
        (Span(0, 1), data[:1]),
        (Span(0, 5), data[:5]),
        (Span(1, 5), data[1:5]),
        (Span(3, 99999), data[3:]),
        (Tail(2), data[-2:]),
        (Tail(99999), data),
    ):
        part = view.get("x/c/0/0", range_)
        assert part is not None
        assert (bytes(part.data), part.version) == (expected, blob.version)


def test_skipped_filters_applied_for_readers_that_do_not_know_the_codec(tmp_path: Path) -> None:
    expected = masked(tmp_path / "a.h5")
    view = pickle.loads(pickle.dumps(hdf5(tmp_path / "a.h5", masks="encode")))
    array = zarrdock.open_array(view, path="x")
    assert "conditional" not in {codec.name for codec in array.metadata.codecs}
    np.testing.assert_array_equal(array[...], expected)
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)
        assert entry.size in (None, len(blob.data))
    np.testing.assert_array_equal(zarrdock.open_array(as_v2(view), path="x")[...], expected)


def test_ranges_are_merged(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(8, 8), compression="gzip")
    memory = zarrdock.MemoryStore()
    memory.write("folder/a.h5", (tmp_path / "a.h5").read_bytes())
    record = zarrdock.RecordingStore(memory)
    view = hdf5(record, "folder/a.h5")
    array = zarrdock.open_array(view, path="x", zarr_format=3)
    opening = record.n_requests
    assert opening <= 12  # blocks of the file, not the library's hundreds of small reads
    record.reset()
    np.testing.assert_array_equal(array[...], VALUES)
    assert (record.n_rounds, record.n_requests) == (1, 1)  # 42 chunks, one after the other
    record.reset()
    np.testing.assert_array_equal(array[3, 4], VALUES[3, 4])
    assert (record.n_rounds, record.n_requests) == (1, 1)


def test_a_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    store = zarrdock.open_store(tmp_path)

    def put(name: str, values: Any, **layout: Any) -> None:
        with h5py.File(tmp_path / "new", "w") as file:
            file.create_dataset("filler", data=np.zeros(len(name) * 1000))
            file.create_dataset("x", data=values, **layout)
        store.write("a.h5", (tmp_path / "new").read_bytes())

    put("one", VALUES, chunks=(8, 8), compression="gzip")
    view = hdf5(store, "a.h5")
    array = zarrdock.open_array(view, path="x")
    np.testing.assert_array_equal(array[...], VALUES)
    put("another", VALUES + 1, chunks=(8, 8), compression="gzip")
    np.testing.assert_array_equal(array[...], VALUES + 1)
    put("a third one", VALUES.astype("f4"))
    assert zarrdock.open_array(view, path="x").dtype == np.float32
    store.delete("a.h5")
    with pytest.raises(NodeNotFoundError, match=r"a\.h5"):
        array[...]


def test_dimensions_and_what_netcdf_adds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        for name, n in (("y", 4), ("x", 3)):
            file[name] = np.arange(n, dtype="f4")
            file[name].make_scale(name)
        file["only"] = np.zeros(4)
        file["only"].make_scale("This is a netCDF dimension but not a netCDF variable.         4")
        file["t"] = np.ones((4, 3))
        file["t"].attrs["units"] = np.bytes_(b"K")
        file["t"].attrs["valid_range"] = np.array([0, 9], "i2")
        for axis, name in enumerate("yx"):
            file["t"].dims[axis].attach_scale(file[name])
        file["labels"] = np.ones((4, 3))
        file["labels"].dims[1].label = "column"
    group = zarrdock.open_group(hdf5(tmp_path / "a.nc"))
    assert sorted(group) == ["labels", "t", "x", "y"]
    names = {name: group[name].dimension_names for name in group}  # type: ignore[union-attr]
    assert names == {"labels": (None, "column"), "t": ("y", "x"), "x": ("x",), "y": ("y",)}
    assert dict(group["t"].attrs) == {"units": "K", "valid_range": [0, 9]}


def strange(path: Path) -> dict[str, Any]:
    with h5py.File(path, "w") as file:
        file.create_dataset("lzf", data=VALUES, chunks=(8, 8), compression="lzf")
        file.create_dataset("scaled", data=VALUES, chunks=(8, 8), scaleoffset=True)
        file.create_dataset("text", data=["a", "bcd", ""], dtype=h5py.string_dtype())
        file.create_dataset("good", data=VALUES, chunks=(8, 8))
        return {name: file[name].asstr()[...] if name == "text" else file[name][...] for name in file}


def test_what_has_no_form_says_what_it_is(tmp_path: Path) -> None:
    strange(tmp_path / "a.h5")
    view = hdf5(tmp_path / "a.h5")
    for name, message in (
        ("lzf", r"hdf5\.lzf.*reencode=True"),
        ("scaled", r"hdf5\.scaleoffset"),
        ("text", r"hdf5\.vlen"),
    ):
        document = json.loads(bytes(view.get(f"{name}/zarr.json").data))  # type: ignore[union-attr]
        assert document["shape"] == ([3] if name == "text" else [50, 47])
        with pytest.raises(UnknownExtensionError, match=message.partition(".*")[0]):
            zarrdock.open_array(view, path=name)
        assert view.get(f"{name}/c/0/0") is None
    np.testing.assert_array_equal(zarrdock.open_array(view, path="good")[...], VALUES)


def test_what_has_no_form_is_decoded_where_asked_for(tmp_path: Path) -> None:
    expected = strange(tmp_path / "a.h5")
    view = hdf5(tmp_path / "a.h5", reencode=True)
    for name, values in expected.items():
        np.testing.assert_array_equal(zarrdock.open_array(view, path=name)[...], values)
    for entry in view.list():
        blob = view.get(entry.key)
        assert blob is not None
        assert view.size(entry.key) == len(blob.data)


def test_shapes_at_the_edge(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scalar"] = 2.5
        file["none"] = h5py.Empty("f4")
        file.create_dataset("nothing", shape=(0, 3), dtype="f4")
        file.create_dataset("unwritten", shape=(5, 3), dtype="f4", fillvalue=4)
        file["truth"] = np.array([True, False, True])
        file["fixed"] = np.array([b"ab", b"c"])
        file["large"] = np.arange(3 * 1021 * 1024, dtype="i4").reshape(3, 1021, 1024)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"compact", h5py.h5t.STD_I16BE, space, compact).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.arange(4, dtype=">i2")
        )
        shrunk = file.create_dataset("shrunk", data=np.arange(100), chunks=(10,), maxshape=(None,))
        shrunk.resize((35,))
        file["soft"] = h5py.SoftLink("/truth")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
        expected = {name: file[name][()] for name in ("scalar", "nothing", "unwritten", "truth", "large", "compact")}
        expected |= {"shrunk": np.arange(35), "soft": expected["truth"], "fixed": file["fixed"][()]}
    view = hdf5(tmp_path / "a.h5")
    for name, values in expected.items():
        np.testing.assert_array_equal(zarrdock.open_array(view, path=name)[...], values, err_msg=name)
    assert zarrdock.open_array(view, path="large").chunks == (1, 1021, 1024)  # rows, as many as fit in 4 MiB
    for missing in ("elsewhere", "never", "truth/x"):
        with pytest.raises(NodeNotFoundError):
            zarrdock.open_array(view, path=missing)
    with pytest.raises(UnknownExtensionError):
        zarrdock.open_array(hdf5(tmp_path / "a.h5"), path="none")


def test_urls_and_misuse(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = VALUES
    (tmp_path / "b.h5").write_bytes(b"no such file")
    for url in (f"hdf5://{tmp_path}/a.h5", f"hdf5::file://{tmp_path}/a.h5"):
        np.testing.assert_array_equal(zarrdock.open_array(url, path="x")[...], VALUES)
    copied = zarrdock.copy(f"hdf5://{tmp_path}/a.h5", zarrdock.MemoryStore())
    np.testing.assert_array_equal(copied["x"][...], VALUES)  # type: ignore[index, call-overload]
    with pytest.raises(NodeNotFoundError, match=r"c\.h5"):
        hdf5(tmp_path / "c.h5")
    with pytest.raises(UnsupportedError, match=r"b\.h5.*no HDF5"):
        hdf5(tmp_path / "b.h5")
    with pytest.raises(UnsupportedError, match="which key"):
        hdf5(zarrdock.MemoryStore())
    with pytest.raises(UnsupportedError, match="masks"):
        hdf5(tmp_path / "a.h5", masks="no")  # type: ignore[arg-type]
    with pytest.raises(ReadOnlyError):
        hdf5(tmp_path / "a.h5").write("x", b"")
    assert hdf5(tmp_path / "a.h5").read([Read("x/c/0/0"), Read("nothing/c/0")])[1] is None
