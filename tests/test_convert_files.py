"""Copies of ``.npy``, ``.npz`` and TIFF files, known by their content, and what ``info`` says of them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.stores import remote
from zarrdock.cli.main import run
from zarrdock.copying import IncompleteCopyWarning
from zarrdock.copying.recognise import ForeignFile, find_file
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError
from zarrdock.stores.memory import MemoryStore

STACK = np.arange(3 * 2 * 40 * 50, dtype="u2").reshape(3, 2, 40, 50)


# -- numpy's ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.npy", "x", "x.dat"])
def test_npy_by_content(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        np.save(file, STACK)
    np.testing.assert_array_equal(zarrdock.copy(tmp_path / name, tmp_path / "x.zarr")[...], STACK)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_a_group_of_arrays(save: Any, tmp_path: Path) -> None:
    arrays = {"a": STACK, "b": np.asfortranarray(STACK[0] * 0.5), "scalar": np.array(3), "text": np.array(["a", "bc"])}
    save(tmp_path / "x.npz", **arrays)
    group = zarrdock.copy(tmp_path / "x.npz", tmp_path / "x.zarr")
    assert sorted(name for name, _ in group.arrays()) == sorted(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(group[name][...], values)
    one = zarrdock.copy(tmp_path / "x.npz", tmp_path / "b.zarr", src_path="b", chunks=(1, 8, 8))
    np.testing.assert_array_equal(one[...], arrays["b"])
    with pytest.raises(NodeNotFoundError, match="c"):
        zarrdock.copy(tmp_path / "x.npz", tmp_path / "c.zarr", src_path="c")


def test_objects_in_npz_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=STACK, b=np.array([{}, None], object))
    with pytest.warns(IncompleteCopyWarning, match="b: .*objects"):
        group = zarrdock.copy(tmp_path / "x.npz", tmp_path / "x.zarr")
    assert [name for name, _ in group.arrays()] == ["a"]


def test_data_types_that_zarr_has_not_hide_no_other_array(tmp_path: Path) -> None:
    pairs = np.zeros(2, [("pair", "i4", (2,))])
    np.savez(tmp_path / "x.npz", good=np.arange(3), long=np.ones(2, np.longdouble), pairs=pairs)
    with pytest.warns(IncompleteCopyWarning, match="float128.*fields that are arrays"):
        copied = zarrdock.copy(tmp_path / "x.npz", tmp_path / "x.zarr")
    assert list(copied) == ["good"]
    with pytest.warns(IncompleteCopyWarning, match="float128"):
        copied = zarrdock.copy(tmp_path / "x.npz", tmp_path / "v2.zarr", zarr_format=2)
    assert sorted(copied) == ["good", "pairs"]


def test_zips_of_zarr_stay_what_they_are(tmp_path: Path) -> None:
    zarrdock.create_array(str(tmp_path / "x.zarr.zip"), data=STACK)
    assert find_file(tmp_path / "x.zarr.zip") is None
    np.testing.assert_array_equal(zarrdock.copy(str(tmp_path / "x.zarr.zip"), tmp_path / "x.zarr")[...], STACK)


def test_behind_a_network_names_tell(tmp_path: Path) -> None:
    from zarrdock.serve.server import Server

    store = MemoryStore()
    for name, values in {"x.npy": STACK, "y": STACK}.items():
        buffer = io.BytesIO()
        np.save(buffer, values)
        store.write(name, buffer.getvalue())
    with Server(store) as server:
        found = find_file(f"{server.url}/x.npy")
        assert isinstance(found, ForeignFile)
        assert found.kind == "npy"
        assert find_file(f"{server.url}/y") is None
        np.testing.assert_array_equal(zarrdock.copy(f"{server.url}/x.npy", None)[...], STACK)


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_netcdf_of_the_classic_formats(zarr_format: Any, form: Any, where: str, tmp_path: Path) -> None:
    netcdf4, xr = pytest.importorskip("netCDF4"), pytest.importorskip("xarray")
    x, table = np.arange(6), np.arange(24).reshape(4, 6)
    source: Any = tmp_path / "x.nc"
    with netcdf4.Dataset(source, "w", format=form) as file:
        file.setncatts({"title": "ü", "n": np.int32(4), "several": np.array([1.5, 2]), "empty": ""})
        for name, length in {"time": None, "x": 6, "n": 5}.items():
            file.createDimension(name, length)

        def put(name: str, dtype: Any, dims: tuple[str, ...], values: Any, fill: Any = None, **attributes: Any) -> None:
            variable = file.createVariable(name, dtype, dims, fill_value=fill)
            variable.setncatts(attributes)
            variable.set_auto_maskandscale(False)
            if values is not None:
                variable[...] = values

        put("time", "i4", ("time",), np.arange(4), units="days since 2000-01-01")
        put("x", "f8", ("x",), x / 6)
        put("t2m", "f4", ("time", "x"), np.where(table == 7, -999, table), np.float32(-999), coordinates="scalar")
        put("packed", "i2", ("time", "x"), table, np.int16(7), scale_factor=0.1, add_offset=10.0)
        put("unsigned", "i1", ("x",), x - 3, np.int8(-1), _Unsigned="true")
        put("missing", "f4", ("x",), [1, np.nan, 3, 4, 5, 6], missing_value=np.float32(np.nan))
        put("nan", "f4", ("x",), [1, np.nan, 3, 4, 5, 6], np.float32(np.nan))
        put("zeros", "i4", ("time", "x"), 0)
        put("never_written", "f8", ("time", "x"), None)
        put("scalar", "f8", (), 7)
        chars = np.array(["a", "bcd", "hallo", "", "x", "y"], "S5").view("S1").reshape(6, 5)
        put("chars", "S1", ("x", "n"), chars, _Encoding="utf-8")
        for kind in ("u1", "u2", "u4", "i8", "u8") if form == "NETCDF3_64BIT_DATA" else ():
            put(kind, kind, ("x",), x)
    with xr.open_dataset(source, engine="netcdf4") as opened:
        expected = opened.load()
    if where == "memory":
        fsspec = pytest.importorskip("fsspec")
        fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/x.nc", source.read_bytes())
        source = f"memory://{tmp_path.name}/x.nc"
    target = str(tmp_path / "x.zarr")
    zarrdock.copy(source, target, zarr_format=zarr_format)
    for made in (
        xr.open_zarr(target, consolidated=False, chunks=None),
        xr.open_dataset(target, engine="zarrdock"),
    ):
        xr.testing.assert_identical(made.load(), expected)
    one = zarrdock.copy(source, tmp_path / "one.zarr", src_path="time")
    assert (one[:].tolist(), one.attrs["units"]) == ([0, 1, 2, 3], "days since 2000-01-01")
    with pytest.raises(NodeNotFoundError, match="there are time, x"):
        zarrdock.copy(source, None, src_path="other")


def test_a_damaged_netcdf_file(tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    (tmp_path / "x.nc").write_bytes(b"CDF\x01" + bytes([255] * 100))
    with pytest.raises(MetadataError, match="netCDF4 can read"):
        zarrdock.copy(tmp_path / "x.nc", tmp_path / "x.zarr")


def test_what_is_neither_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(NodeNotFoundError, match="file"):
        zarrdock.copy(tmp_path / "text.txt", tmp_path / "x.zarr")
    (tmp_path / "broken.npy").write_text("hello")
    with pytest.raises(MetadataError):
        zarrdock.copy(tmp_path / "broken.npy", tmp_path / "x.zarr")
    zarrdock.create_array(tmp_path / "folder.nc", data=STACK)  # a folder may be called as it likes
    np.testing.assert_array_equal(zarrdock.copy(tmp_path / "folder.nc", tmp_path / "x.zarr")[...], STACK)


# -- TIFF -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tifffile() -> Any:
    pytest.importorskip("zarr")
    return pytest.importorskip("tifffile")


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}, {"bigtiff": True}])
def test_ome_tiff(how: dict[str, Any], tifffile: Any, tmp_path: Path) -> None:
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.5}
    tifffile.imwrite(tmp_path / "x.ome.tif", STACK, photometric="minisblack", metadata=metadata, **how)
    copied = zarrdock.copy(tmp_path / "x.ome.tif", tmp_path / "x.zarr", memory_bytes=2**16)
    np.testing.assert_array_equal(copied[...], STACK)
    assert copied.dimension_names == ("t", "c", "y", "x")
    assert "PhysicalSizeX" in copied.attrs["tiff"]["ImageDescription"]
    assert copied.attrs["tiff"]["axes"] == ["TCYX"]


def test_a_tiff_in_another_store_is_read_by_several_threads(tifffile: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", STACK, photometric="minisblack", tile=(16, 16), compression="zlib")
    store = MemoryStore()
    store.write("deep/x.tif", (tmp_path / "x.tif").read_bytes())
    from zarrdock.serve.server import Server

    with Server(store) as server:
        copied = zarrdock.copy(f"{server.url}/deep/x.tif", None, chunks=(1, 1, 8, 8), memory_bytes=2**16)
    np.testing.assert_array_equal(copied[...], STACK)


def test_pages_colours_and_byte_orders(tifffile: Any, tmp_path: Path) -> None:
    for name, values, how in (
        ("page", STACK[0, 0], {}),
        ("pages", STACK[:, 0], {"photometric": "minisblack"}),
        ("colours", np.arange(40 * 50 * 3, dtype="u1").reshape(40, 50, 3), {"photometric": "rgb"}),
        ("big-endian", STACK[0, 0], {"byteorder": ">"}),
        ("floats", STACK[0, 0] * 0.5, {}),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, **how)
        copied = zarrdock.copy(tmp_path / f"{name}.tif", tmp_path / f"{name}.zarr")
        np.testing.assert_array_equal(copied[...], values)
        assert copied.dtype == values.dtype


def test_series_and_levels_are_groups(tifffile: Any, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.ome.tif", ome=True) as writer:
        for factor in (1, 2):
            values = STACK[0, 0] * factor
            writer.write(values, subifds=1, tile=(16, 16))
            writer.write(values[::2, ::2], subfiletype=1, tile=(16, 16))
    copied = zarrdock.copy(tmp_path / "x.ome.tif", tmp_path / "x.zarr")
    for series, factor in (("0", 1), ("1", 2)):
        np.testing.assert_array_equal(copied[f"{series}/0"][...], STACK[0, 0] * factor)
        np.testing.assert_array_equal(copied[f"{series}/1"][...], STACK[0, 0, ::2, ::2] * factor)
    one = zarrdock.copy(tmp_path / "x.ome.tif", tmp_path / "one.zarr", src_path="1/1")
    np.testing.assert_array_equal(one[...], STACK[0, 0, ::2, ::2] * 2)


def test_a_folder_of_tiffs(tifffile: Any, tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    for i in range(12):
        tifffile.imwrite(tmp_path / "slices" / f"z{i}.tif", STACK[0, 0] + i)
    copied = zarrdock.copy(tmp_path / "slices", tmp_path / "x.zarr")
    np.testing.assert_array_equal(copied[...], np.stack([STACK[0, 0] + i for i in range(12)]))
    assert copied.dimension_names == ("i", "y", "x")
    assert copied.attrs["tiff"]["files"][:3] == ["z0.tif", "z1.tif", "z2.tif"]
    tifffile.imwrite(tmp_path / "slices" / "z12.tif", STACK[0, 0, 1:])
    with pytest.raises(UnsupportedError, match=r"z12\.tif"):
        zarrdock.copy(tmp_path / "slices", tmp_path / "y.zarr")
    (tmp_path / "slices" / "z12.tif").unlink()
    for name in ("notes.txt", "Thumbs.db", ".DS_Store"):  # the last two are made by systems
        (tmp_path / "slices" / name).write_text("no image")
    (tmp_path / "slices" / "raw").mkdir()
    with pytest.raises(NodeNotFoundError, match=r"slices also has notes\.txt, raw/: move what is no image"):
        zarrdock.copy(tmp_path / "slices", tmp_path / "y.zarr")
    (tmp_path / "slices" / "notes.txt").unlink()
    (tmp_path / "slices" / "raw").rmdir()
    assert zarrdock.copy(tmp_path / "slices", tmp_path / "y.zarr").shape[0] == 12
    (tmp_path / "other").mkdir()
    for name in ("a.tif", "b.txt", "c.txt"):
        (tmp_path / "other" / name).write_text("")
    with pytest.raises(NodeNotFoundError, match="there is no array or group"):
        zarrdock.copy(tmp_path / "other", tmp_path / "z.zarr")


def test_a_folder_of_tiffs_in_another_store(tifffile: Any, tmp_path: Path) -> None:
    memory = zarrdock.MemoryStore()
    ways: list[dict[str, Any]] = [
        {},
        {"compression": "lzw"},
        {"compression": "zlib", "tile": (16, 16)},
        {"bigtiff": True},
    ]
    for i in range(12):
        tifffile.imwrite(tmp_path / "x.tif", STACK[0, 0] + i, byteorder="<>"[i % 2], **ways[i % 4])
        memory.write(f"slices/z{i}.tif", (tmp_path / "x.tif").read_bytes())
    store = remote(memory)
    copied = zarrdock.copy(store, tmp_path / "x.zarr", src_path="slices")
    np.testing.assert_array_equal(copied[...], np.stack([STACK[0, 0] + i for i in range(12)]))
    assert copied.attrs["tiff"]["files"][-1] == "z11.tif"
    memory.write("slices/z7.tif", b"II*\0")
    with pytest.raises(zarrdock.errors.MetadataError, match=r"z7\.tif"):
        zarrdock.copy(store, tmp_path / "y.zarr", src_path="slices")


def test_a_tag_that_does_not_go_along_is_named(tifffile: Any, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", STACK[0, 0], extratags=[(65000, 7, 4, b"abcd", True), (65001, "s", 0, "text", True)]
    )
    with pytest.warns(IncompleteCopyWarning, match="65000"):
        copied = zarrdock.copy(tmp_path / "x.tif", tmp_path / "x.zarr")
    assert copied.attrs["tiff"]["65001"] == "text"


def test_a_damaged_tiff(tifffile: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", STACK[0, 0], compression="zlib")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    (tmp_path / "short.tif").write_bytes(data[:6])
    with pytest.raises(zarrdock.errors.ZarrdockError):
        zarrdock.copy(tmp_path / "short.tif", tmp_path / "short.zarr")
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        at = file.pages[0].dataoffsets[0]
    data[at + 4 : at + 60] = bytes(56)
    (tmp_path / "bad.tif").write_bytes(data)
    with pytest.raises(zarrdock.errors.ZarrdockError):
        zarrdock.copy(tmp_path / "bad.tif", tmp_path / "bad.zarr")


def plane_of(number: int, ids: list[str]) -> str:
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{i}" PlaneCount="1"><UUID FileName="{i}.ome.tif">{name}</UUID></TiffData>'
        for i, name in enumerate(ids)
    )
    return (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[number]}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" '
        f'SizeZ="{len(ids)}" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels>'
        "</Image></OME>"
    )


def test_an_image_in_several_files_is_whole_or_refused(tifffile: Any, tmp_path: Path) -> None:
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    for i in range(2):
        how = {"description": plane_of(i, ids), "metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", STACK[i, 0], **how)
    copied = zarrdock.copy(tmp_path / "0.ome.tif", tmp_path / "whole.zarr")
    np.testing.assert_array_equal(copied[...], STACK[:2, 0])
    (tmp_path / "1.ome.tif").unlink()
    with pytest.raises(MetadataError, match=r"lacks other files .*1\.ome\.tif"):
        zarrdock.copy(tmp_path / "0.ome.tif", tmp_path / "half.zarr")
    assert not (tmp_path / "half.zarr").exists()


@pytest.mark.filterwarnings("ignore:not copied:zarrdock.copying.IncompleteCopyWarning")
@pytest.mark.parametrize("how", [{}, {"metadata": None}, {"imagej": True}, {"ome": True}], ids=str)
def test_a_tiff_that_was_cut_is_whole_or_refused(how: dict[str, Any], tifffile: Any, tmp_path: Path) -> None:
    extra = {} if how.get("imagej") else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "x.tif", STACK[:, 0], **extra, **how)
    data = (tmp_path / "x.tif").read_bytes()
    folder = tmp_path / "folder"
    folder.mkdir()
    n_refused = 0
    for length in (len(data) - 100, len(data) * 2 // 3, len(data) // 3):
        (folder / "x.tif").write_bytes(data[:length])
        for source in (folder / "x.tif", folder):
            try:
                copied = zarrdock.copy(source, tmp_path / "copy.zarr", overwrite=True)
            except (MetadataError, zarrdock.errors.CodecError):
                n_refused += 1
            else:  # where what lies behind the pixels is not needed
                np.testing.assert_array_equal(copied[...].reshape(-1, 40, 50), STACK[:, 0])
    assert n_refused >= 4


# -- info -------------------------------------------------------------------------------------------------------------


def info(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_info_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", STACK)
    text = info(capsys, str(tmp_path / "x.npy"))
    assert "array, a .npy file, its copy as Zarr v3" in text
    assert "3 × 2 × 40 × 50" in text
    facts = json.loads(info(capsys, str(tmp_path / "x.npy"), "--json"))
    assert (facts["file"], facts["shape"], facts["left_out"]) == ("npy", [3, 2, 40, 50], [])
    np.savez(tmp_path / "x.npz", a=STACK, b=np.array([None]))
    text = info(capsys, str(tmp_path / "x.npz"))
    assert "group, an .npz file" in text
    assert "b: " in text
    assert "a  uint16" in text
    assert "uint16" in info(capsys, str(tmp_path / "x.npz"), "--path", "a")


def test_info_on_classic_netcdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    netcdf4 = pytest.importorskip("netCDF4")
    with netcdf4.Dataset(tmp_path / "x.nc", "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("t", 2)
        file.createVariable("v", "f8", ("t",))[:] = [1, 2]
    text = info(capsys, str(tmp_path / "x.nc"))
    assert "group, netCDF, its copy as Zarr v3" in text
    assert "v  float64" in text


def test_documents_of_virtual_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [zarrdock.create_array(f"{i}.zarr", data=np.full((4, 6), i), chunks=(2, 3)) for i in range(2)]
    zarrdock.concatenate(parts).save("both.json")
    assert "array, a virtual array, its copy as Zarr v3" in info(capsys, "both.json")
    copied = zarrdock.copy("both.json", "both.zarr", shards=(8, 6))
    np.testing.assert_array_equal(copied[...], np.repeat([0, 1], 4)[:, None] * np.ones((1, 6)))
    assert copied.shards == (8, 6)


def test_whoever_opens_a_file_learns_how_to_convert_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", STACK)
    for function in (zarrdock.open, zarrdock.open_array, zarrdock.open_group, zarrdock.plot):
        with pytest.raises(NodeNotFoundError, match=r"a file, not a folder: `zarrdock copy .*x\.npy"):
            function(tmp_path / "x.npy")
        with pytest.raises(NodeNotFoundError, match=r"^\S*none does not exist$"):
            function(tmp_path / "none")


def test_a_folder_of_nodes_is_none_and_names_them(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("")
    for name in ("b.zarr", "a.zarr"):
        zarrdock.create_group(tmp_path / name, zarr_format=2 if name[0] == "a" else 3)
    for function in (zarrdock.open, zarrdock.open_group):
        with pytest.raises(NodeNotFoundError, match=r"in it are a\.zarr, b\.zarr$"):
            function(tmp_path)
    for i in range(9):
        zarrdock.create_group(tmp_path / f"{i}.zarr")
    with pytest.raises(NodeNotFoundError, match=r"in it are 0\.zarr, 1\.zarr, 2\.zarr, 3\.zarr, 4\.zarr and 6 more$"):
        zarrdock.open(tmp_path)


def test_the_name_of_a_document_leads_to_its_node(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", data=np.arange(3))
    with pytest.raises(NodeNotFoundError, match=r"a part of a node: open 'file://.*a\.zarr'"):
        zarrdock.open(tmp_path / "a.zarr" / "zarr.json")


def test_folders_and_files_of_other_formats_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, files in {"n5": ("attributes.json",), "ice": ("snapshots", "manifests")}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"{}")
    with pytest.raises(NodeNotFoundError, match=r"as N5 has.* TensorStore does"):
        zarrdock.open(tmp_path / "n5")
    with pytest.raises(NodeNotFoundError, match=r"Icechunk repository: open '.*ice\|icechunk:'"):
        zarrdock.open(tmp_path / "ice")
    document = {"version": 1, "refs": {".zgroup": '{"zarr_format": 2}'}}
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(NodeNotFoundError, match="by 'reference::"):
        zarrdock.open(tmp_path / "r.json")
    assert run(["info", str(tmp_path / "r.json")]) == 1
    assert f"say reference::{tmp_path / 'r.json'}" in capsys.readouterr().err
    assert "Zarr v2" in info(capsys, f"reference::{tmp_path / 'r.json'}")


def test_info_on_hdf5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=STACK, chunks=(1, 1, 8, 8), compression="lzf")
        file.create_dataset("b", data=STACK, chunks=(1, 1, 8, 8), compression="gzip")
        file["c"] = h5py.Empty("f4")
    text = info(capsys, str(tmp_path / "x.h5"))
    assert "group, an HDF5 file as Zarr v3" in text
    assert "hdf5.lzf" in text  # as it lies there; a copy has it decoded
    assert "c: a dataset without data" in text
    assert "numcodecs.zlib" in info(capsys, str(tmp_path / "x.h5"), "--path", "b")
    assert run(["ls", str(tmp_path / "x.h5")]) == 0
    assert run(["tree", str(tmp_path / "x.h5")]) == 0


def test_info_on_tiff(tifffile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slices").mkdir()
    for i in range(3):
        tifffile.imwrite(tmp_path / "slices" / f"z{i}.tif", STACK[0, 0])
    assert "40 × 50" in info(capsys, str(tmp_path / "slices" / "z0.tif"))
    assert "3 × 40 × 50" in info(capsys, str(tmp_path / "slices"))
