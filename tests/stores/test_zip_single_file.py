"""Single-file OME-Zarr, held against RFC-9 of OME-NGFF by Python's zipfile."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import NodeExistsError, UnsupportedError, ZarrdockError
from zarrdock.stores.zip_single_file import has_documents_first, single_file_comment
from zarrdock.testing import FaultyStore, StoreFault

OME = {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Plates in a plate, whose names are not in the order of their depth, and a file of OME's."""
    root = zarrdock.create_group(tmp_path / "image.zarr", attributes={"ome": {"version": "0.5"}})
    for path in ("a/b/c/s0", "z", "a/b/s1"):
        root.create_array(path, data=np.arange(64).reshape(8, 8), chunks=(2, 2), shards=(4, 4))
    root.create_group("b", attributes={"n": 1})
    (tmp_path / "image.zarr" / "OME").mkdir()
    (tmp_path / "image.zarr" / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    return tmp_path / "image.zarr"


def depths(names: list[str]) -> list[int]:
    return [name.count("/") for name in names]


def has_zip64(path: Path) -> bool:
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    locator = data[end - 20 : end]
    assert locator[:4] == b"PK\x06\x07"
    (position,) = struct.unpack_from("<Q", locator, 8)
    return data[position : position + 4] == b"PK\x06\x06"


def test_a_copy_is_what_the_rfc_recommends(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.ozx"
    copied = zarrdock.copy(image, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.ozx", "image.zarr"]
    with zipfile.ZipFile(target) as file:
        entries = file.infolist()
        assert file.testzip() is None
        assert json.loads(file.comment) == OME
    names = [entry.filename for entry in entries]
    n = sum(name.endswith("zarr.json") for name in names)
    assert names[0] == "zarr.json"
    assert all(name.endswith("zarr.json") for name in names[:n])
    assert n == 8
    assert depths(names[:n]) == sorted(depths(names[:n]))
    assert entries[0].header_offset == 0, "nothing before it, not even an entry that is gone"
    assert [entry.header_offset for entry in entries] == sorted(entry.header_offset for entry in entries)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert len(names) == len(set(names))
    assert "OME/METADATA.ome.xml" in names
    last = entries[-1]
    data = target.read_bytes()
    assert data.index(b"PK\x01\x02") <= last.header_offset + 200 + last.compress_size, "no dead entries"
    assert has_zip64(target)
    assert isinstance(copied, zarrdock.Group)
    assert not copied.store.read_only
    for path in ("a/b/c/s0", "z", "a/b/s1"):
        assert (zarrdock.open_array(target, path=path)[...] == np.arange(64).reshape(8, 8)).all()
    assert zarrdock.open_group(f"{target}|zip:|zarr3:")["b"].attrs["n"] == 1


def test_zarr_python_reads_it(image: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarrdock.copy(image, tmp_path / "image.ozx").store.close()
    store = zarr.storage.ZipStore(tmp_path / "image.ozx", mode="r")
    assert (zarr.open_group(store, mode="r")["a/b/s1"][...] == np.arange(64).reshape(8, 8)).all()


def test_consolidated_metadata_stays_first(image: Path, tmp_path: Path) -> None:
    zarrdock.consolidate_metadata(image)
    zarrdock.copy(image, tmp_path / "image.ozx")
    with zipfile.ZipFile(tmp_path / "image.ozx") as file:
        assert json.loads(file.comment) == OME
        assert file.infolist()[0].header_offset == 0
    assert zarrdock.open_group(tmp_path / "image.ozx").metadata.consolidated


def test_a_copy_that_fails_leaves_what_was_there(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.ozx"
    broken = FaultyStore(zarrdock.LocalStore(image), [StoreFault("read", "z/c/*")])
    with pytest.raises(ZarrdockError):
        zarrdock.copy(broken, target)
    assert [path.name for path in tmp_path.iterdir()] == ["image.zarr"]
    zarrdock.copy(image, target)
    before = target.read_bytes()
    with pytest.raises(NodeExistsError, match="overwrite=True"):
        zarrdock.copy(image, target)
    broken = FaultyStore(zarrdock.LocalStore(image), [StoreFault("read", "z/c/*")])
    with pytest.raises(ZarrdockError):
        zarrdock.copy(broken, target, overwrite=True)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.ozx", "image.zarr"]
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(target, target, overwrite=True)


def test_an_archive_is_replaced_in_one_step(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.ozx"
    zarrdock.copy(image, target)
    reader = zarrdock.open_group(target)
    zarrdock.create_array(tmp_path / "x.zarr", data=np.arange(3))
    zarrdock.copy(tmp_path / "x.zarr", target, overwrite=True)
    assert zarrdock.open_array(target)[:].tolist() == [0, 1, 2]
    assert reader.store.get("z/zarr.json") is None
    with zipfile.ZipFile(target) as file:
        assert file.comment == b"", "it is no OME-Zarr any more"


def test_the_comment_is_true_whatever_is_written(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "image.ozx"
    with zarrdock.ZipStore(target) as store:
        group = zarrdock.create_group(store, attributes={"ome": {"version": "0.6"}})
        group.create_array("a", data=[1])
    assert comment(target)["ome"] == {**OME["ome"], "version": "0.6"}
    with zarrdock.ZipStore(target) as store:
        zarrdock.open_group(store, "r+").create_group("b")
    assert comment(target) == {"ome": {"version": "0.6"}}
    with zarrdock.ZipStore(target) as store:
        store.compact()
    assert comment(target)["ome"]["zipFile"] == OME["ome"]["zipFile"]
    with zipfile.ZipFile(target) as file:
        assert has_documents_first(file.namelist())
    assert has_zip64(target)
    with zarrdock.ZipStore(target) as store:
        zarrdock.open_group(store, "r+").attrs.put({})
    with zipfile.ZipFile(target) as file:
        assert file.comment == b""
    assert zarrdock.open_array(target, path="a")[:].tolist() == [1]


def comment(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        found: dict[str, Any] = json.loads(file.comment)
    return found


def test_other_archives_get_no_comment(image: Path, tmp_path: Path) -> None:
    zarrdock.copy(image, tmp_path / "image.zip").store.close()
    zarrdock.copy(image, tmp_path / "v2.ozx", zarr_format=2).store.close()
    for name in ("image.zip", "v2.ozx"):
        with zipfile.ZipFile(tmp_path / name) as file:
            assert file.comment == b""
            assert not any("zarrdock" in entry for entry in file.namelist())


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        (b"", OME),
        (b"not JSON", OME),
        (b'{"ome": {"version": "0.4"}}\0', OME),
        (b'{"ome": {"creator": "me"}, "x": 1}', {"ome": {"creator": "me", **OME["ome"]}, "x": 1}),
        (b'{"ome": 5}', OME),
        (b"[1]", OME),
    ],
)
def test_comments(old: bytes, expected: dict[str, Any]) -> None:
    root = json.dumps({"attributes": {"ome": {"version": "0.5"}}}).encode()
    assert json.loads(single_file_comment(root, old, json_first=True)) == expected


@pytest.mark.parametrize(
    "root", [None, b"", b"{", b"[]", b'{"attributes": {"ome": {"version": 5}}}', b'{"attributes": 5}']
)
def test_a_root_that_names_no_version_has_no_comment(root: bytes | None) -> None:
    assert single_file_comment(root, b'{"ome": {"version": "0.5"}}', json_first=True) == b""
    assert single_file_comment(root, b"words of others", json_first=True) == b"words of others"


def test_the_command_line(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zarrdock.cli.main import run

    assert run(["copy", str(image), str(tmp_path / "out.ozx")]) == 0
    assert "other file" in capsys.readouterr().out
    assert comment(tmp_path / "out.ozx") == OME
