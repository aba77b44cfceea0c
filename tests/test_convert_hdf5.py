"""Copies of HDF5 and netCDF4 files, opened beside xarray on the file: the same dataset, and what is not carried over is
named.

Known and not named for each copy: NaN and infinities in attributes are texts, which JSON has no numbers for (but
``_FillValue`` and ``missing_value``); numbers in attributes have no width, so that xarray unpacks float32 scales as
float64.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run
from zarrdock.copying import IncompleteCopyWarning
from zarrdock.errors import UnsupportedError

h5py = pytest.importorskip("h5py")
xr = pytest.importorskip("xarray")
pytest.importorskip("zarr")

X = np.arange(6)
TABLE = np.arange(24, dtype="i4").reshape(4, 6)


def describe(put: Callable[[str, Any], Any]) -> None:
    """Attributes of every kind that netCDF has."""
    put("title", "a title, ü")
    put("empty", "")
    put("int", np.int32(5))
    put("byte", np.int8(-3))
    put("half", np.float32(0.5))
    put("third", np.float64(1 / 3))
    put("large", np.uint64(2**63 + 1))
    put("several", np.array([1, 2, 3], "i4"))
    put("floats", np.array([0.5, 2.5]))


def by_netcdf4(path: Path, **how: Any) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(path, "w") as file:
        describe(file.setncattr)
        file.names = ["a", "bc", ""]
        for name, length in {"x": 6, "time": None, "bare": 3, "n5": 5}.items():
            file.createDimension(name, length)

        def put(name: str, dtype: Any, dims: tuple[str, ...], values: Any, fill: Any = None, **attributes: Any) -> Any:
            options = how if dims and dtype is not str and dtype != "S1" else {}
            variable = file.createVariable(name, dtype, dims, fill_value=fill, **options)
            variable.setncatts(attributes)
            variable.set_auto_maskandscale(False)
            if values is not None:
                variable[...] = values
            return variable

        put("x", "f8", ("x",), X / 6, units="m")
        put("time", "i4", ("time",), np.arange(4), units="days since 2000-01-01", calendar="standard")
        put("lon", "f8", ("x",), X * 1.0)
        values = TABLE.astype("f4")
        values[1, 1] = -999
        describe(put("t2m", "f4", ("time", "x"), values, np.float32(-999), coordinates="lon").setncattr)
        put("no_fill", "f4", ("time", "x"), 1, False)
        put("nan", "f8", ("x",), [1, np.nan, 3, 4, 5, 6], np.nan)
        put("missing", "f4", ("x",), [1, np.nan, 3, 4, 5, 6], missing_value=np.float32(np.nan))
        put("packed", "i2", ("time", "x"), TABLE, np.int16(7), scale_factor=0.1, add_offset=10.0)
        put("scaled", "i2", ("x",), X, scale_factor=0.25)
        put("unsigned", "i1", ("x",), X - 3, np.int8(-1), _Unsigned="true")
        put("flags", "i1", ("x",), X % 2, flag_values=np.array([0, 1], "i1"), flag_meanings="no yes")
        put("missing_int", "i4", ("x",), X, missing_value=np.int32(1))
        put("ranged", "f4", ("x",), 0.5, valid_range=np.array([0, 1], "f4"))
        put("delta", "i8", ("x",), 1, units="hours")
        file.createVariable("big", ">f4", ("x",), endian="big")[...] = 2
        put("text", str, ("x",), np.array(["a", "bü", "", "dd", "e", "f"], object))
        chars = np.array(["a", "bcd", "hallo", "", "x", "y"], "S5").view("S1").reshape(6, 5)
        put("chars", "S1", ("x", "n5"), chars).setncattr("_Encoding", "utf-8")
        put("scalar", "i8", (), 7)
        put("text_scalar", str, (), "text")
        put("without_coordinate", "u2", ("bare",), 3)
        put("never_written", "f4", ("time", "x"), None)
        put("n5", "i4", ("time",), np.arange(4))  # called as a dimension is that it does not have
        inner = file.createGroup("g")
        describe(inner.setncattr)
        inner.createDimension("y", 2)
        inner.createVariable("z", "f4", ("y", "x"))[...] = 1
        inner.createGroup("h").createVariable("w", "f4", ("x",))[...] = 1


def by_h5netcdf(path: Path) -> None:
    h5netcdf = pytest.importorskip("h5netcdf")
    with h5netcdf.File(path, "w") as file:
        describe(file.attrs.__setitem__)
        file.dimensions = {"x": 6, "time": None}
        file.resize_dimension("time", 4)
        file.create_variable("x", ("x",), data=X / 6).attrs["units"] = "m"
        time = file.create_variable("time", ("time",), data=np.arange(4))
        time.attrs["units"] = "hours since 1970-01-01"
        packed = file.create_variable("packed", ("time", "x"), "i2", data=TABLE, fillvalue=7, compression="gzip")
        packed.attrs["scale_factor"], packed.attrs["add_offset"] = 0.5, 1.0
        describe(packed.attrs.__setitem__)
        file.create_variable("text", ("x",), data=np.array(list("abcdef"), object), dtype=h5py.string_dtype())
        lzf = file.create_variable("lzf", ("time", "x"), data=TABLE * 0.5, compression="lzf", chunks=(2, 3))
        lzf.attrs["coordinates"] = "text"
        group = file.create_group("g")
        group.create_variable("deep", ("x",), data=X)
        group.create_group("h").create_variable("/g/h/deeper", ("time",), data=np.arange(4))


def by_h5py(path: Path) -> None:
    with h5py.File(path, "w") as file:
        describe(file.attrs.__setitem__)
        file.attrs["names"] = ["a", "bc"]
        file.attrs["bytes"] = np.bytes_(b"abc")
        file.attrs["one of"] = np.array([5])
        for name, values in {"x": X / 6, "t": np.arange(4)}.items():
            file[name] = values
            file[name].make_scale(name)

        def put(where: str, values: Any, *dims: str, **how: Any) -> Any:
            dataset = file.create_dataset(where, data=values, **how)
            for axis, name in enumerate(dims):
                dataset.dims[axis].attach_scale(file[name])
            return dataset

        put("plain", TABLE, "t", "x")
        describe(put("lzf", TABLE, "t", "x", compression="lzf", chunks=(2, 3)).attrs.__setitem__)
        put("gzip", TABLE, "t", "x", compression="gzip", shuffle=True, fletcher32=True, chunks=(2, 3))
        put("scaleoffset", TABLE, "t", "x", scaleoffset=5, chunks=(2, 3))
        put("filled", TABLE * 1.0, "t", "x", fillvalue=3.0, chunks=(2, 3))
        put("text", ["a", "bü", "", "dd", "e", "f"], "x", dtype=h5py.string_dtype())
        put("fixed", np.array([b"a", b"bcd", b"", b"d", b"e", b"f"], "S3"), "x")
        put("bool", X % 2 == 0, "x")
        put("complex", X * (1 + 1j), "x")
        put("float16", X.astype("f2"), "x")
        put("g/deep", X, "x")
        put("g/h/deeper", X, "x")


def without_scales(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, shape in {"a": (4, 6), "b": (4, 4), "c": (5,), "g/d": (5, 6), "g/h/e": (4,)}.items():
            file[name] = np.arange(np.prod(shape)).reshape(shape)


def by_xarray(path: Path, engine: str) -> None:
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    dataset = xr.Dataset(
        {
            "v": (("t", "x"), np.where(TABLE == 3, np.nan, TABLE).astype("f4"), {"units": "K"}),
            "s": ("x", np.array(["a", "b", "ü", "", "xx", "y"], object)),
            "b": ("x", X % 2 == 0),
            "i": ("x", X, {"a": 1}),
        },
        {"t": np.arange("2000-01-01", "2000-01-05", dtype="M8[D]").astype("M8[ns]"), "c": ("x", list("abcdef"))},
        {"title": "t"},
    )
    dataset.to_netcdf(path, engine=engine, encoding={"v": {"zlib": True, "chunksizes": (2, 3)}})


# Who writes the file, and with which engines of xarray it is compared. netCDF4 has no LZF, and crashes on
# some of what h5py writes.
FILES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "netCDF4": (by_netcdf4, ("netcdf4", "h5netcdf")),
    "netCDF4, zlib": (
        lambda path: by_netcdf4(path, zlib=True, shuffle=True, fletcher32=True),
        ("netcdf4", "h5netcdf"),
    ),
    "netCDF4, chunks": (lambda path: by_netcdf4(path, contiguous=False), ("netcdf4", "h5netcdf")),
    "h5netcdf": (by_h5netcdf, ("h5netcdf",)),
    "h5py": (by_h5py, ("h5netcdf",)),
    "h5py, no scales": (without_scales, ("netcdf4",)),
    "xarray, netCDF4": (lambda path: by_xarray(path, "netcdf4"), ("netcdf4", "h5netcdf")),
    "xarray, h5netcdf": (lambda path: by_xarray(path, "h5netcdf"), ("netcdf4", "h5netcdf")),
}
CASES = [(name, engine) for name, (_, engines) in FILES.items() for engine in engines]
COMMON = {"bytes", "zstd", "vlen-utf8", "transpose"}


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_the_copy_is_the_dataset_that_xarray_opens(name: str, engine: str, tmp_path: Path) -> None:
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    source, target = tmp_path / "file.nc", str(tmp_path / "copy.zarr")
    FILES[name][0](source)
    zarrdock.copy(source, target)
    groups = [None, "g", "g/h"] if "xarray" not in name else [None]
    for group in groups:
        with xr.open_dataset(source, engine=engine, group=group) as opened:
            expected = opened.load()
        for made in (
            xr.open_zarr(target, group=group, consolidated=False, chunks=None),
            xr.open_dataset(target, engine="zarrdock", group=group),
        ):
            xr.testing.assert_identical(made.load(), expected)
            assert {n: str(v.dtype) for n, v in made.variables.items() if v.dtype.kind in "iufbcMm"} == {
                n: str(v.dtype) for n, v in expected.variables.items() if v.dtype.kind in "iufbcMm"
            }
    for _, array in zarrdock.open_group(target).arrays():
        assert {codec.name for codec in array.metadata.codecs} <= COMMON


def test_a_hierarchy_of_netcdf4_is_a_tree(tmp_path: Path) -> None:
    by_netcdf4(tmp_path / "a.nc")
    zarrdock.copy(tmp_path / "a.nc", tmp_path / "a.zarr")
    with xr.open_datatree(tmp_path / "a.nc", engine="netcdf4") as expected:
        made = xr.open_datatree(tmp_path / "a.zarr", engine="zarrdock")
        assert made.groups == expected.groups
        xr.testing.assert_identical(made["g/h"].to_dataset(inherit=False), expected["g/h"].to_dataset(inherit=False))


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file with everything that Zarr has no form for."""
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = X
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        good = file.create_dataset("good", data=X)
        good.attrs["reference"] = good.ref
        good.attrs["structure"] = np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])
        good.attrs["fine"] = 1
        ragged = file.create_dataset("ragged", (3,), h5py.vlen_dtype("i4"))
        ragged[0] = [1, 2]
        file.create_dataset("references", (3,), h5py.ref_dtype)
        file["nothing"] = h5py.Empty("f4")
        file.create_dataset("named", data=np.array([0, 1, 1], "i1"), dtype=h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1"))
        for name, source in {"own view": (".", "good"), "other view": ("other.h5", "x")}.items():
            layout = h5py.VirtualLayout((6,), "i8")
            layout[:] = h5py.VirtualSource(*source, (6,))
            file.create_virtual_dataset(name, layout)
        file.create_dataset("outside", (6,), "i8", external=[(str(tmp_path / "raw.bin"), 0, 48)])[...] = X
        file["elsewhere"] = h5py.ExternalLink("other.h5", "x")
        file["dangling"] = h5py.SoftLink("/not there")
        file["again"] = h5py.SoftLink("/good")
        group = file.create_group("g")
        group["x"] = X
        group["circle"] = h5py.SoftLink("/")
        group["circle, hard"] = file["g"]
        file["zarr.json"] = X
        file.create_dataset("mixed", (2,), [("a", "i4"), ("text", h5py.string_dtype())])
        file.create_dataset("fields", (2,), [("a", "i4"), ("pair", "i4", (2,))])
        file.create_dataset("long", (2,), np.longdouble)
        three = h5py.h5t.STD_I32LE.copy()
        three.set_size(3)
        for name, kind in {"three": three, "times": h5py.h5t.UNIX_D32LE}.items():
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple((4,)))
        address = h5py.h5o.get_info(file.create_dataset("damaged", data=X).id).addr
    with open(path, "r+b") as raw:
        raw.seek(address)
        raw.write(b"\xff" * 16)
    return path


LEFT_OUT = [
    "again: attributes 'reference', 'structure'",
    "good: attributes 'reference', 'structure'",
    "ragged: lists of different lengths",
    "references: references to objects",
    "mixed: structures with text, lists or references in them",
    "fields: arrays as elements",
    "long: floats that Zarr has no data type for",
    "three: integers of a size that numpy has no data type for",
    "times: HDF5's data type of times",
    "damaged: h5py cannot read it",
    "nothing: a dataset without data",
    "named: names of the values of an enumeration, {'OFF': 0, 'ON': 1}",
    "other view: a virtual dataset of other files",
    "outside: data in other files",
    "elsewhere: a link to another file, 'other.h5'",
    "dangling: a link that leads nowhere",
    "g/circle: a link to a group that it lies in",
    "g/circle, hard: a link to a group that it lies in",
    "zarr.json: a name that a Zarr node cannot have",
]


def test_what_has_no_form_in_zarr_is_named_and_the_rest_is_there(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(IncompleteCopyWarning) as said:
        copied = zarrdock.copy(odd, tmp_path / "copy.zarr")
    text = str(said[0].message)
    for line in LEFT_OUT:
        assert line in text
    assert text.count("; ") == len(LEFT_OUT) - 1
    arrays = {name: array[...].tolist() for name, array in copied.arrays()}
    assert arrays == {"good": X.tolist(), "again": X.tolist(), "own view": X.tolist(), "named": [0, 1, 1]}
    np.testing.assert_array_equal(copied["g/x"][...], X)
    assert dict(copied["good"].attrs) == {"fine": 1}
    assert run(["copy", str(odd), str(tmp_path / "second.zarr"), "-q"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(LEFT_OUT)
    assert all(line.startswith("not copied: ") for line in lines)


def test_nothing_but_what_has_no_form_in_zarr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = h5py.Empty(h5py.string_dtype())
    assert run(["copy", str(tmp_path / "a.h5"), str(tmp_path / "a.zarr")]) == 3
    assert "not copied: text: a dataset without data" in capsys.readouterr().err


def converted_by_h5py(file: Any) -> None:
    """Data types that numpy has in another form than the file."""
    from h5py import h5t

    def put(name: str, kind: Any, values: Any, memory: Any = None) -> None:
        values = np.asarray(values)
        made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(values.shape))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values, mtype=memory)

    def changed(kind: Any, **settings: Any) -> Any:
        kind = kind.copy()
        for name, value in settings.items():
            getattr(kind, f"set_{name}")(*value if isinstance(value, tuple) else (value,))
        return kind

    def structure(size: int, **fields: tuple[int, Any]) -> Any:
        kind = h5t.create(h5t.COMPOUND, size)
        for name, (offset, member) in fields.items():
            kind.insert(name.encode(), offset, member)
        return kind

    truth = h5t.enum_create(h5t.STD_I32BE)
    truth.enum_insert(b"FALSE", 0)
    truth.enum_insert(b"TRUE", 1)
    fields = np.array([(1, 2.5, True), (-2, np.inf, False)], [("a", "i2"), ("b", "f8"), ("c", "?")])
    put("12 bits", changed(h5t.STD_I16LE, precision=12), np.array([1, -2, 2000], "i2"))
    put("12 bits, moved", changed(h5t.STD_U16LE, precision=12, offset=4), np.array([1, 2, 4000], "u2"))
    bfloat16 = changed(h5t.IEEE_F32LE, fields=(15, 7, 8, 0, 7), precision=16, size=2, ebias=127)
    put("bfloat16", bfloat16, np.array([1, -2.5, 100], "f4"))
    put("wide booleans", truth, np.array([False, True, True]))
    put(
        "two byte orders",
        structure(11, a=(0, h5t.STD_I16BE), b=(2, h5t.IEEE_F64LE), c=(10, h5t.py_create(bool))),
        fields,
    )
    put("big", structure(11, a=(0, h5t.STD_I16BE), b=(2, h5t.IEEE_F64BE), c=(10, h5t.py_create(bool))), fields)
    put("gaps", structure(24, a=(4, h5t.STD_I16LE), b=(8, h5t.IEEE_F64LE), c=(16, truth)), fields)
    put("bits", h5t.STD_B16BE, np.array([1, 2, 400], ">u2"), h5t.STD_B16BE)
    text = changed(h5t.C_S1, size=5, strpad=h5t.STR_SPACEPAD)
    put("spaces", text, np.array([b"ab", b"", b"abcde"], "S5"), h5t.py_create(np.dtype("S5")))
    ended = changed(h5t.C_S1, size=5)
    put("ended", ended, np.array([b"ab\0xy", b"", b"abcd"], "S5"), ended)
    file.create_dataset("ascii", data=[b"ab", b"", b"abcdef"], dtype=h5py.string_dtype("ascii"))


CONVERTED = {"12 bits", "12 bits, moved", "bfloat16", "wide booleans", "two byte orders", "gaps", "ascii"}


def test_elements_that_h5py_converts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        converted_by_h5py(file)
    copied = zarrdock.copy(tmp_path / "a.h5", tmp_path / "a.zarr")
    view = zarrdock.open_group(zarrdock.views.hdf5(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(copied) == set(file)
        for name, dataset in file.items():
            expected = dataset.asstr()[...] if h5py.check_string_dtype(dataset.dtype) else dataset[...]
            if dataset.dtype.kind == "S":
                expected = dataset[...]
            assert copied[name][...].tolist() == expected.tolist(), name
            if name in ("spaces", "ended"):  # all bytes of the field, where they are seen as they are
                continue
            if name in CONVERTED:
                with pytest.raises(zarrdock.errors.UnknownExtensionError, match="hdf5\\."):
                    view[name]
            else:
                assert view[name][...].tolist() == expected.tolist(), name


def test_the_page_has_the_matrix(repository: Path) -> None:
    """The files that are compared, with which engines, and all that is not carried over."""
    page = (repository / "docs" / "how-to" / "convert.md").read_text("utf-8")
    rows = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in page.splitlines())}
    for name, (_, engines) in FILES.items():
        assert rows[name][0] == ", ".join(engines), name
        assert rows[name][1] == "identical", name
    for line in LEFT_OUT:
        assert rows[f"`{line.partition(': ')[2]}`"], line


def test_a_part_of_a_file(odd: Path, tmp_path: Path) -> None:
    copied = zarrdock.copy(odd, tmp_path / "x.zarr", src_path="g/x")  # nothing is missing there
    np.testing.assert_array_equal(copied[...], X)
    with pytest.raises(UnsupportedError, match="lists of different lengths"):
        zarrdock.copy(odd, tmp_path / "ragged.zarr", src_path="ragged")
    with pytest.raises(zarrdock.errors.NodeNotFoundError):
        zarrdock.copy(odd, tmp_path / "none.zarr", src_path="not there")


@pytest.mark.parametrize("form", ["{}", "hdf5://{}", "file://{}"])
def test_a_file_is_known_by_its_content(form: str, tmp_path: Path) -> None:
    for name, userblock in {"a.h5": 0, "b": 1024, "c.dat": 0}.items():
        with h5py.File(tmp_path / name, "w", userblock_size=userblock) as file:
            file["x"] = X
        copied = zarrdock.copy(form.format(tmp_path / name), tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(copied["x"][...], X)


def test_asked_for_codecs_chunks_and_format(tmp_path: Path) -> None:
    by_h5py(tmp_path / "a.h5")
    copied = zarrdock.copy(
        tmp_path / "a.h5", tmp_path / "a.zarr", src_path="gzip", chunks=(4, 4), compressors="gzip", zarr_format=2
    )
    assert (copied.chunks, copied.zarr_format) == ((4, 4), 2)
    np.testing.assert_array_equal(copied[...], TABLE)


def test_a_view_that_is_handed_over_is_copied_as_it_shows_the_file(tmp_path: Path) -> None:
    from zarrdock.views import hdf5

    by_h5py(tmp_path / "a.h5")
    copied = zarrdock.copy(hdf5(tmp_path / "a.h5"), tmp_path / "a.zarr", src_path="gzip")
    assert [codec.name for codec in copied.metadata.codecs[1:]] == [
        "numcodecs.shuffle",
        "numcodecs.zlib",
        "numcodecs.fletcher32",
    ]


def test_listings_name_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
        file["elsewhere"] = h5py.ExternalLink("b.h5", "/y")
    for command in ("ls", "tree"):
        assert run([command, str(tmp_path / "a.h5")]) == 0
        said = capsys.readouterr()
        assert "x" in said.out
        assert "not readable as Zarr: elsewhere: a link to another file, 'b.h5'" in said.err
