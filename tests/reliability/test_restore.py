"""Damaged chunks taken from another copy: those alone, and only where it is a copy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.checking import check
from zarrdock.cli.main import run
from zarrdock.errors import CodecError, UnsupportedError
from zarrdock.restoring import restore
from zarrdock.stores.memory import MemoryStore

VALUES = np.arange(1, 18 * 23 + 1, dtype="i4").reshape(18, 23)
KINDS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 4)},
    "v2": {"chunks": (4, 4), "zarr_format": 2, "compressors": {"id": "zlib", "level": 1}},
    "shards": {"chunks": (4, 4), "shards": (8, 12)},
    "index at the start": {"chunks": (4, 4), "shards": {"shape": (8, 12), "index_location": "start"}},
    "nested": {"chunks": (2, 3), "shards": [(8, 12), (4, 6)]},
    "rectilinear": {"chunks": [[4, 10, 4], [20, 3]]},
}


def damage(store: Any, key: str, at: int, n: int = 3) -> bytes:
    data = bytearray(store.get(key).data)
    data[at : at + n] = bytes(255 - byte for byte in data[at : at + n])
    store.write(key, data)
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_object_is_whole_again(kind: str) -> None:
    store = MemoryStore()
    array = zarrdock.create_array(store, data=VALUES, **KINDS[kind])
    source = zarrdock.create_array(MemoryStore(), data=VALUES, chunks=(5, 7), compressors=None)
    good = {entry.key: bytes(store.get(entry.key).data) for entry in store.list()}  # type: ignore[union-attr]
    keys = [key for key in good if key not in ("zarr.json", ".zarray")]
    for key in keys:
        for at in range(12, len(good[key]) - 4, max(1, len(good[key]) // 7)):
            damage(store, key, at)
            report = check(store)
            done = restore(store, source.store)
            assert check(store).is_good
            np.testing.assert_array_equal(array[...], VALUES)
            assert bool(done) != report.is_good
            store.write(key, good[key])


def test_chunks_beside_a_damaged_one_stay_as_they_are() -> None:
    """What was written here since the copy was made is not undone."""
    store = MemoryStore()
    array = zarrdock.create_array(store, data=VALUES, chunks=(4, 4), shards=(8, 12))
    source = zarrdock.create_array(MemoryStore(), data=VALUES)
    array[1, 1] = -5
    damage(store, "c/0/0", 200)
    (problem,) = check(store).problems
    assert problem.chunk not in (None, (0, 0))
    (repair,) = restore(store, source.store)
    assert repair.message.startswith("1 of its chunks was taken from ")
    expected = VALUES.copy()
    expected[1, 1] = -5
    np.testing.assert_array_equal(array[...], expected)


def test_another_array_is_no_copy() -> None:
    store = MemoryStore()
    zarrdock.create_array(store, data=VALUES, chunks=(4, 4))
    damaged = damage(store, "c/0/0", 12)
    for other in (VALUES + 1, VALUES[1:], VALUES.astype("i8")):
        source = zarrdock.create_array(MemoryStore(), data=other)
        with pytest.raises(UnsupportedError, match="no copy"):
            restore(store, source.store)
    assert bytes(store.get("c/0/0").data) == damaged  # type: ignore[union-attr]


def test_a_hierarchy_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = zarrdock.create_group(tmp_path / "g")
    group.create_array("a", data=VALUES, chunks=(4, 4), shards=(8, 12))
    group.create_group("deep").create_array("b", data=VALUES * 0.5, chunks=(9, 9))
    zarrdock.copy(group, tmp_path / "copy", compressors="gzip")
    damage(group.store, "a/c/1/1", 50)
    damage(group.store, "deep/b/c/0/1", 50)
    where = str(tmp_path / "g")
    assert run(["check", where]) == 1
    assert run(["check", where, "--from", str(tmp_path / "copy")]) == 1  # without --repair
    assert "both" in capsys.readouterr().err
    assert run(["check", where, "--repair", "--from", str(tmp_path / "copy")]) == 0
    out = capsys.readouterr().out
    assert "repaired: a/c/1/1" in out
    assert "repaired: deep/b/c/0/1" in out
    np.testing.assert_array_equal(group["a"][...], VALUES)  # type: ignore[index]
    np.testing.assert_array_equal(group["deep/b"][...], VALUES * 0.5)  # type: ignore[index]


def test_chunks_without_checksums_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = zarrdock.create_group(tmp_path)
    group.create_array("zstd", data=VALUES)
    group.create_array("gzip", data=VALUES, compressors="gzip")
    group.create_array("crc", data=VALUES, compressors=None, checksums=True, chunks=(4, 4), shards=(8, 12))
    group.create_array("bare", data=VALUES, compressors=None, chunks=(4, 4), shards=(8, 12))
    group.create_array("lz4", data=VALUES, compressors={"name": "blosc", "configuration": {"cname": "lz4"}})
    group.create_array("empty", shape=(3,), dtype="i4", compressors=None)
    assert check(tmp_path).unverified == ("bare", "lz4")
    assert run(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "not verified: /bare" in out
    assert "/empty" not in out


def test_new_arrays_notice_every_turned_bit() -> None:
    values = np.random.default_rng(0).normal(size=(64, 64))
    array = zarrdock.create_array(MemoryStore(), data=values, chunks=(16, 64))
    good = bytes(array.store.get("c/1/0").data)  # type: ignore[union-attr]
    n_errors = 0
    for at in range(0, len(good), 37):
        damage(array.store, "c/1/0", at, 1)
        try:
            np.testing.assert_array_equal(array[...], values)  # a bit that means nothing, if any
        except CodecError:
            n_errors += 1
        array.store.write("c/1/0", good)
    assert n_errors > 0.95 * len(range(0, len(good), 37))


def test_copies_with_checksums() -> None:
    bare = zarrdock.create_array(MemoryStore(), data=VALUES, compressors=None, chunks=(4, 4), shards=(8, 12))
    copied = zarrdock.copy(bare, None, checksums=True)
    assert check(copied.store).unverified == ()
    np.testing.assert_array_equal(copied[...], VALUES)
    packed = zarrdock.create_array(MemoryStore(), data=VALUES, compressors="gzip")
    assert zarrdock.copy(packed, None, checksums=True).metadata == packed.metadata  # it has one
    assert check(zarrdock.copy(VALUES, None, compressors=None, checksums=True).store).unverified == ()
    old = zarrdock.create_array(MemoryStore(), data=VALUES, compressors=None, zarr_format=2)
    with pytest.raises(zarrdock.errors.MetadataError, match="v2"):
        zarrdock.copy(old, None, checksums=True)
    assert check(zarrdock.copy(old, None, checksums=True, zarr_format=3).store).unverified == ()
