"""Files in a hierarchy that are no Zarr go along with a copy, or are named."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run
from zarrdock.copying import CopyProgress, IncompleteCopyWarning
from zarrdock.copying import foreign as copying_foreign
from zarrdock.errors import StoreError
from zarrdock.stores.base import Read, Store
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import RecordingStore
from zarrdock.testing import FaultyStore, StoreFault

DATA = np.arange(24)
FILES = {
    "OME/METADATA.ome.xml": b"<OME/>",
    "points/p/points.parquet/part.0.parquet": b"PAR1",
    "points/p/points.parquet/part.1.parquet": b"",
    "README": b"read me",
    "a/notes.txt": b"beside chunks",
    "no nodes/deep/x": b"x",
}


def hierarchy(store: Any, zarr_format: Any = 3) -> Store:
    opened = zarrdock.open_store(store)
    group = zarrdock.create_group(opened, zarr_format=zarr_format)
    group.create_array("a", data=DATA, chunks=(4,))
    group.create_group("OME")
    group.create_group("points").create_group("p", attributes={"n": 1})
    for key, data in FILES.items():
        opened.write(key, data)
    return opened


def files_of(store: Any) -> dict[str, bytes]:
    opened = zarrdock.open_store(store)
    names = {"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}
    found = [entry.key for entry in opened.list() if entry.key.rpartition("/")[2] not in names]
    return {key: bytes(opened.read([Read(key)])[0].data) for key in found if not re.match(r"a/(c/)?\d", key)}  # type: ignore[union-attr]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (6,)}, {"zarr_format": 3}, {"zarr_format": 2}, {"compressors": None}]
)
def test_files_go_along(options: dict[str, Any], zarr_format: int, tmp_path: Path) -> None:
    source = hierarchy(tmp_path / "src", zarr_format)
    seen: list[CopyProgress] = []
    zarrdock.copy(source, tmp_path / "dst", progress=seen.append, **options)
    assert files_of(tmp_path / "dst") == FILES
    assert (seen[-1].n_files, seen[-1].left_out) == (len(FILES), ())
    np.testing.assert_array_equal(zarrdock.open_group(tmp_path / "dst")["a"][...], DATA)


@pytest.mark.parametrize("place", ["memory", "zip"])
def test_from_and_to_other_stores(place: str, tmp_path: Path) -> None:
    source: Any = MemoryStore() if place == "memory" else str(tmp_path / "src.zarr.zip")
    hierarchy(source)
    target: Any = MemoryStore() if place == "memory" else str(tmp_path / "dst.zarr.zip")
    zarrdock.copy(source, target)
    assert files_of(target) == FILES


def test_a_part_of_a_hierarchy_to_a_part_of_another(tmp_path: Path) -> None:
    source = hierarchy(tmp_path / "src")
    zarrdock.copy(source, tmp_path / "dst", src_path="points/p", dst_path="some/where")
    assert files_of(tmp_path / "dst") == {
        f"some/where/{key.removeprefix('points/p/')}": data for key, data in FILES.items() if key.startswith("points/p")
    }
    zarrdock.copy(source, tmp_path / "one", src_path="a")
    assert (tmp_path / "one" / "notes.txt").read_bytes() == FILES["a/notes.txt"]


def test_they_can_stay(tmp_path: Path) -> None:
    zarrdock.copy(hierarchy(tmp_path / "src"), tmp_path / "dst", other_files=False)
    assert files_of(tmp_path / "dst") == {}


def test_a_file_named_like_a_chunk_of_the_copy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = hierarchy(tmp_path / "src", 2)
    source.write("a/c/3", b"no chunk of v2")
    with pytest.warns(IncompleteCopyWarning, match="a/c/3"):
        copied = zarrdock.copy(source, tmp_path / "dst", zarr_format=3)
    np.testing.assert_array_equal(copied["a"][...], DATA)
    assert run(["copy", str(tmp_path / "src"), str(tmp_path / "dst2"), "--zarr-format", "3", "-q"]) == 3
    assert "a/c/3" in capsys.readouterr().err
    assert run(["copy", str(tmp_path / "src"), str(tmp_path / "dst3")]) == 0
    assert "7 other files" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_files_that_no_key_can_name_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    hierarchy(source)
    for name in (b"\xff.jpg", b"a/\xfe", b"OME/back\\slash"):
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(b"x")
    with pytest.warns(IncompleteCopyWarning, match=re.escape(r"OME/back\slash: no key has such a name")):
        zarrdock.copy(source, tmp_path / "out")
    assert run(["copy", str(source), str(tmp_path / "again")]) == 3
    told = capsys.readouterr().err
    assert all(rf"not copied: {name}: no key" in told for name in (r"\xff.jpg", r"a/\xfe", r"OME/back\slash"))


def test_large_files_are_copied_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying_foreign, "_PIECE_BYTES", 1000)
    source = RecordingStore(hierarchy(MemoryStore()), n_events=10_000)
    data = np.random.default_rng(0).bytes(10_500)
    source.write("OME/big.bin", data)
    target = MemoryStore()
    zarrdock.copy(source, target)
    assert files_of(target) == {**FILES, "OME/big.bin": data}
    reads = [read for event in source.log for read in event.requests if read.key == "OME/big.bin"]
    assert len(reads) == 11
    assert all(read.version is not None for read in reads[1:])


def test_an_interrupted_copy_is_no_hierarchy_before_they_are_there(tmp_path: Path) -> None:
    source, target = hierarchy(tmp_path / "src"), MemoryStore()
    failing = FaultyStore(target, [StoreFault("write", "*part.1.parquet", StoreError("no more"), count=None)])
    with pytest.raises(StoreError, match="no more"):
        zarrdock.copy(source, failing)
    with pytest.raises(zarrdock.errors.NodeNotFoundError):
        zarrdock.open_group(target)
    zarrdock.copy(source, target, resume=True)
    assert files_of(target) == FILES


def test_what_is_no_listing_more_than_before() -> None:
    """Groups were listed for their members anyway, arrays for their chunks."""
    source = MemoryStore()
    group = zarrdock.create_group(source)
    group.create_array("a", data=DATA, chunks=(4,))
    group.create_group("b").create_array("c", data=DATA, chunks=(4,))
    counts = []
    for other_files in (False, True):
        recorded = RecordingStore(source, n_events=10_000)
        zarrdock.copy(recorded, MemoryStore(), other_files=other_files)
        counts.append([event.verb for event in recorded.log])
    assert counts[0] == counts[1]
