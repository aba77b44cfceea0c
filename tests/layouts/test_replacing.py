"""Arrays laid out anew in their own place: the old one or the new one is there, whenever the work is interrupted."""

from __future__ import annotations

import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import (
    AccessError,
    ConflictError,
    MetadataError,
    NodeNotFoundError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
)
from zarrdock.layouts import replacing
from zarrdock.layouts.replacing import replace_layout
from zarrdock.stores import local_swap

VALUES = np.random.default_rng(6).integers(0, 2**12, (60, 80)).astype("u2")
NEW: dict[str, Any] = {"shards": (60, 80), "compressors": ["zstd"]}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="folders change places on Linux alone")


def create(root: Path, name: str = "a.zarr") -> Path:
    zarrdock.create_array(root / name, data=VALUES, chunks=(5, 5), shards=(20, 20), compressors=None)
    return root / name


def shards_of(path: Path) -> Any:
    """Those of an array that is whole: the old one, or the new one."""
    array = zarrdock.open_array(path)
    assert np.array_equal(array[...], VALUES)
    assert sorted(e.key for e in array.store.list("c")) == (
        ["c/0/0"] if array.shards == (60, 80) else [f"c/{y}/{x}" for y in range(3) for x in range(4)]
    )
    return array.shards


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_takes_its_own_place(tmp_path: Path, zarr_format: Any) -> None:
    zarrdock.create_array(
        tmp_path / "a", data=VALUES, chunks=(5, 5), zarr_format=zarr_format, attributes={"unit": "mm"}, fill_value=7
    )
    (tmp_path / "a").chmod(0o750)
    steps: list[Any] = []
    assert replace_layout(tmp_path / "a", chunks=(10, 16), progress=steps.append)
    found = zarrdock.open_array(tmp_path / "a")
    assert (found.chunks, found.zarr_format, dict(found.attrs), found.fill_value) == (
        (10, 16),
        zarr_format,
        {"unit": "mm"},
        7,
    )
    assert np.array_equal(found[...], VALUES)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert steps[-1].n_objects == 30
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_members_of_groups_and_whole_hierarchies(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "g", attributes={"title": "t"})
    group.create_array("x/y", data=VALUES, chunks=(5, 5), shards=(20, 20))
    group.create_array("z", data=VALUES[0], chunks=(5,))
    seen: list[Any] = []

    def look(_: Any) -> None:
        seen.append(sorted(e.key for e in zarrdock.LocalStore(tmp_path).list() if "/c/" not in e.key))

    assert replace_layout(tmp_path / "g", path="x/y", progress=look, **NEW)
    assert all(keys == ["g/x/y/zarr.json", "g/x/zarr.json", "g/z/zarr.json", "g/zarr.json"] for keys in seen)
    assert group["x/y"].shards == (60, 80)  # type: ignore[union-attr]
    assert replace_layout(zarrdock.PrefixStore(zarrdock.LocalStore(tmp_path), "g"), chunks=(30, 40))
    again = zarrdock.open_group(tmp_path / "g")
    assert again["x/y"].chunks == (30, 40)  # type: ignore[union-attr]
    assert np.array_equal(again["x/y"][...], VALUES)  # type: ignore[index,arg-type]
    assert dict(again.attrs) == {"title": "t"}
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


# Where a process is killed: what it calls there, and whether the new array is in its place by then.
STEPS = {
    "before anything is copied": ("zarrdock.layouts.replacing", "copy", 1, False),
    "while shards are copied": ("zarrdock.stores.local.LocalStore", "write", 2, False),
    "before metadata is written": ("zarrdock.copying.copy_._Copier", "_write_documents", 1, False),
    "before the copy is finished": ("zarrdock.copying.state.Mark", "remove", 1, False),
    "when all is copied": ("zarrdock.layouts.replacing", "sync_file_system", 1, False),
    "before they change places": ("zarrdock.layouts.replacing", "exchange", 1, False),
    "after they changed places": ("zarrdock.layouts.replacing", "sync_folder", 1, True),
    "before the old one is looked at": ("zarrdock.layouts.replacing", "_content", 3, True),
    "before the old one is given up": ("zarrdock.layouts.replacing", "_release", 1, True),
    "before the old one is removed": ("shutil", "rmtree", 1, True),
    "while the old one is removed": ("os", "unlink", 4, True),
    "before the journal is removed": ("shutil", "rmtree", 2, True),
}

CODE = """
import importlib, os, signal, sys
from zarrdock.layouts.replacing import replace_layout
path, module, name, left = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
try:
    owner = importlib.import_module(module)
except ImportError:
    owner = getattr(importlib.import_module(module.rpartition(".")[0]), module.rpartition(".")[2])
real = getattr(owner, name)
def counted(*arguments, **named):
    global left
    if name != "unlink" or "dir_fd" in named:  # as a folder is removed
        left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)
setattr(owner, name, counted)
replace_layout(path, shards=(60, 80), compressors=["zstd"])
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_killed(tmp_path: Path, step: str) -> None:
    path = create(tmp_path)
    module, name, n, is_replaced = STEPS[step]
    done = subprocess.run([sys.executable, "-c", CODE, str(path), module, name, str(n)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert shards_of(path) == ((60, 80) if is_replaced else (20, 20))
    assert {e.key.split("/")[0] for e in zarrdock.LocalStore(tmp_path).list()} == {"a.zarr"}
    finished_before = not replace_layout(path, **NEW)
    assert finished_before == (is_replaced and n != 2)
    assert shards_of(path) == (60, 80)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


def test_shards_that_are_copied_are_not_copied_again(tmp_path: Path) -> None:
    path = create(tmp_path)
    arguments = ["zarrdock.copying.copy_._Copier", "_write_documents", "1"]
    subprocess.run([sys.executable, "-c", CODE, str(path), *arguments], check=False)
    steps: list[Any] = []
    replace_layout(path, **NEW, progress=steps.append)
    assert (steps[-1].n_kept, steps[-1].n_objects) == (1, 0)


def test_other_wishes_begin_anew(tmp_path: Path) -> None:
    path = create(tmp_path)
    for step in ("while shards are copied", "before the old one is removed"):
        module, name, n, _ = STEPS[step]
        subprocess.run([sys.executable, "-c", CODE, str(path), module, name, str(n)], check=False)
        assert replace_layout(path, chunks=(4, 4), shards=(20, 40))
        found = zarrdock.open_array(path)
        assert (found.chunks, found.shards) == ((4, 4), (20, 40))
        assert np.array_equal(found[...], VALUES)
        assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]
        shutil.rmtree(path)
        create(tmp_path)


def test_a_copy_that_is_half_removed_never_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def half_removed(beside: Path) -> None:
        assert sorted(one.name for one in beside.iterdir()) == ["new"]
        assert beside.stat().st_mode & 0o077 == 0
        (beside / "new" / "c" / "0" / "0").unlink()
        raise KeyboardInterrupt

    for name, stop, settings in (("exchange", killed, NEW), ("_remove", half_removed, {"shards": (40, 40)})):
        with monkeypatch.context() as once:
            once.setattr(replacing, name, stop)
            with pytest.raises(KeyboardInterrupt):
                replace_layout(path, **settings)
    assert replace_layout(path, **NEW)
    assert shards_of(path) == (60, 80)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("moment", ["sync_file_system", "exchange"])
def test_what_is_written_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    path = create(tmp_path)
    real = getattr(replacing, moment)

    def late(*arguments: str) -> None:
        with monkeypatch.context() as once:
            once.setattr(replacing, moment, real)
            zarrdock.open_array(path, "r+")[7, 8] = 9999
        real(*arguments)
        monkeypatch.setattr(replacing, moment, real)

    monkeypatch.setattr(replacing, moment, late)
    with pytest.raises(ConflictError, match="nothing was replaced"):
        replace_layout(path, **NEW)
    found = zarrdock.open_array(path)
    assert (found.shards, int(found[7, 8])) == ((20, 20), 9999)
    assert replace_layout(path, **NEW)
    found = zarrdock.open_array(path)
    assert (found.shards, int(found[7, 8])) == ((60, 80), 9999)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


def test_what_is_written_as_they_change_places_outlives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path)
    real = replacing.exchange

    def late(one: str, other: str) -> None:
        (path / "c" / "0" / "0").write_bytes(b"written")
        real(one, other)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(replacing, "exchange", late)
        with pytest.raises(KeyboardInterrupt):
            replace_layout(path, **NEW)
    (beside,) = (one for one in tmp_path.iterdir() if one != path)
    for settings in (NEW, {"chunks": (4, 4)}):  # and it is kept until somebody has decided
        with pytest.raises(ConflictError, match=rf"in the moment .* in {beside}/new: move it"):
            replace_layout(path, **settings)
        assert shards_of(path) == (60, 80)
        assert (beside / "new" / "c" / "0" / "0").read_bytes() == b"written"
    (beside / "new").rename(tmp_path / "kept")
    assert replace_layout(path, shards=(20, 20))
    assert shards_of(path) == (20, 20)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr", "kept"]


def test_who_opens_it_finds_one_or_the_other(tmp_path: Path) -> None:
    path = create(tmp_path)
    stop = threading.Event()
    seen: set[Any] = set()
    errors: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                seen.add(zarrdock.open_array(path).shards)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(4):
        replace_layout(path, **NEW)
        replace_layout(path, shards=(20, 20))
    stop.set()
    thread.join()
    assert errors == []
    assert seen <= {(20, 20), (60, 80)}


def test_who_has_it_open_reads_chunks_of_the_other(tmp_path: Path) -> None:
    """Why nobody may: no reader can know. Both layouts have one chunk of as many bytes at this place."""
    values = np.arange(200, dtype="u1").reshape(10, 20)
    zarrdock.create_array(tmp_path / "a", data=values, chunks=(5, 10), compressors=None)
    reader = zarrdock.open_array(tmp_path / "a")
    replace_layout(tmp_path / "a", chunks=(10, 5))
    assert not np.array_equal(reader[:5, :10], values[:5, :10])
    assert np.array_equal(zarrdock.open_array(tmp_path / "a")[...], values)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path)
    for missing in (tmp_path / "nothing", tmp_path / "nothing" / "in it"):
        with pytest.raises(NodeNotFoundError):
            replace_layout(missing, **NEW)
    with pytest.raises(MetadataError, match="do not divide"):
        replace_layout(path, shards=(7, 7))
    with pytest.raises(UnsupportedError, match="--to DST"):
        replace_layout(zarrdock.MemoryStore(), **NEW)
    with pytest.raises(ReadOnlyError):
        replace_layout(zarrdock.LocalStore(path, read_only=True), **NEW)
    for other in ("notes.txt", ".zarray", "c/zarr.json"):  # documents of another format, or of no node
        (path / other).write_text("{}")
        with pytest.raises(UnsupportedError, match=other):
            replace_layout(path, **NEW)
        (path / other).unlink()
    (path / "c" / "9").symlink_to(path / "c" / "0")
    with pytest.raises(UnsupportedError, match="is a link"):
        replace_layout(path, **NEW)
    (path / "c" / "9").unlink()
    group = zarrdock.create_group(tmp_path / "g")
    group.create_array("x", data=VALUES, chunks=(5, 5))
    zarrdock.consolidate_metadata(tmp_path / "g")
    with pytest.raises(UnsupportedError, match="consolidated"):
        replace_layout(tmp_path / "g", path="x", chunks=(10, 10))
    assert replace_layout(tmp_path / "g", chunks=(10, 10))
    assert zarrdock.open_group(tmp_path / "g")["x"].chunks == (10, 10)  # type: ignore[union-attr]
    with replacing._alone(tmp_path), pytest.raises(ConflictError, match="somebody else"):
        replace_layout(path, **NEW)

    def impossible(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(local_swap, "exchange", impossible)
    with pytest.raises(UnsupportedError, match="change places"):
        replace_layout(path, **NEW)
    assert shards_of(path) == (20, 20)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr", "g"]


FAILURES = {
    "no right to look": ("os.open", "lock", AccessError),
    "no right to make a folder": ("pathlib.Path.mkdir", "lay out anew", AccessError),
    "no place left": ("zarrdock.layouts.replacing.sync_file_system", "lay out anew", StoreError),
    "no exchange": ("zarrdock.layouts.replacing.exchange", "lay out anew", StoreError),
    "no right to remove": ("shutil.rmtree", "remove the old files of", AccessError),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_calls_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = create(tmp_path)
    place, doing, expected = FAILURES[kind]
    is_denied = expected is AccessError
    owner, _, name = place.rpartition(".")
    real = getattr(pkgutil.resolve_name(owner), name)

    def fails(first: Any, *arguments: Any, **named: Any) -> Any:
        if name == "open" and Path(first) != tmp_path:
            return real(first, *arguments, **named)
        raise OSError(13, "Permission denied", str(first)) if is_denied else OSError(28, "No space left on device")

    with monkeypatch.context() as once:
        once.setattr(place, fails)
        with pytest.raises(expected, match=f"cannot {doing} {tmp_path}") as caught:
            replace_layout(path, **NEW)
    assert ("Permission denied" if is_denied else "no space left") in str(caught.value)
    is_replaced = name == "rmtree"
    assert shards_of(path) == ((60, 80) if is_replaced else (20, 20))
    assert replace_layout(path, **NEW) is not is_replaced
    assert shards_of(path) == (60, 80)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_whose_names_nobody_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path)
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.R_OK)
    with pytest.raises(UnsupportedError, match="no folder can be made beside"):
        replace_layout(path, **NEW)


def test_systems_without_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    with pytest.raises(OSError, match="no renameat2"):
        local_swap.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not local_swap.can_exchange(str(tmp_path))
    assert [*tmp_path.iterdir()] == []
