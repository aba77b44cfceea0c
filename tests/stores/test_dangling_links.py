"""Symbolic links that lead nowhere, as of git-annex: what is behind them is not missing."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

import zarrdock
from zarrdock.checking import check
from zarrdock.errors import AccessError, StoreError
from zarrdock.ranges import Span
from zarrdock.stores.base import Read, Store
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.local import LocalStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links: POSIX")

OPENERS = pytest.mark.parametrize("opener", [LocalStore, lambda path: FsspecStore(LocalFileSystem(), str(path))])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An array of four chunks, and a folder ``annex`` beside it."""
    (tmp_path / "annex").mkdir()
    place = tmp_path / "a.zarr"
    zarrdock.create_array(place, shape=(8,), dtype="i4", chunks=(2,), fill_value=-1)[:6] = 5
    return place


def unfetch(path: Path) -> None:
    """Leave a link to nowhere in an annex where a file or folder was."""
    path = path.resolve()
    annex = next(parent / "annex" for parent in path.parents if (parent / "annex").is_dir())
    path.rename(annex / "content")
    path.symlink_to(annex / "objects" / "gone")


@OPENERS
def test_a_chunk(place: Path, opener: Callable[[Path], Store]) -> None:
    unfetch(place / "c" / "1")
    array = zarrdock.open_array(opener(place), "r+")
    with pytest.raises(AccessError, match=r"c/1 is a symbolic link that leads nowhere.*git annex get") as caught:
        array[:]
    assert caught.value.key == "c/1"
    assert array[:2].tolist() == [5, 5]
    assert array[6:].tolist() == [-1, -1], "what is missing is fill value"
    for use in (lambda s: s.size("c/1"), lambda s: s.exists("c/1"), lambda s: s.get("c/1", Span(0, 1))):
        with pytest.raises(AccessError):
            use(array.store)


def test_no_write_takes_it_for_missing(place: Path) -> None:
    unfetch(place / "c" / "1")
    array = zarrdock.open_array(place, "r+")
    with pytest.raises(AccessError):
        array[2:3] = 7
    with pytest.raises(StoreError, match="exists"):
        array.store.write("c/1", b"", create_only=True)
    assert (place / "c" / "1").is_symlink()
    array[2:4] = 7  # the whole chunk: the link is replaced, as links are
    assert array[:4].tolist() == [5, 5, 7, 7]


@OPENERS
def test_a_shard(tmp_path: Path, opener: Callable[[Path], Store]) -> None:
    (tmp_path / "annex").mkdir()
    place = tmp_path / "s.zarr"
    zarrdock.create_array(place, data=np.arange(8), chunks=(2,), shards=(4,))
    array = zarrdock.open_array(opener(place))
    assert array[5:6].tolist() == [5]
    unfetch(place / "c" / "1")
    for fresh in (array, zarrdock.open_array(opener(place))):
        with pytest.raises(AccessError):
            fresh[5:6]
        with pytest.raises(AccessError):
            fresh[5]


@OPENERS
@pytest.mark.parametrize("folder", ["c", "."])
def test_a_folder(place: Path, opener: Callable[[Path], Store], folder: str) -> None:
    array = zarrdock.open_array(opener(place))
    unfetch(place / folder)
    with pytest.raises(AccessError, match="leads nowhere"):
        array[:]
    with pytest.raises(AccessError, match="leads nowhere"):
        array.store.size("c/0")


def test_what_was_read_before_does_not_hide_it(place: Path) -> None:
    store = LocalStore(place)
    version = store.get("c/1").version  # type: ignore[union-attr]
    unfetch(place / "c" / "1")
    with pytest.raises(AccessError):
        store.read([Read("c/1", Span(0, 1), version)])


def test_links_that_lead_somewhere(place: Path) -> None:
    (place / "c" / "1").rename(place.parent / "annex" / "1")
    (place / "c" / "1").symlink_to(place.parent / "annex" / "1")
    (place / "c").rename(place.parent / "annex" / "c")
    (place / "c").symlink_to(place.parent / "annex" / "c")
    assert zarrdock.open_array(place)[:].tolist() == [5] * 6 + [-1] * 2
    assert LocalStore(place).get("c/0/1") is None, "below a file"
    assert LocalStore(place).get("d/0/1") is None
    assert check(zarrdock.open_store(place)).is_good


@OPENERS
def test_a_whole_store_that_is_not_there(tmp_path: Path, opener: Callable[[Path], Store]) -> None:
    assert opener(tmp_path / "new").get("zarr.json") is None
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    with pytest.raises(AccessError, match="leads nowhere"):
        zarrdock.open_array(opener(tmp_path / "link"))


def test_listings_have_them(place: Path) -> None:
    unfetch(place / "c" / "1")
    store = LocalStore(place)
    assert {entry.key: entry.size is None for entry in store.list()} == {
        "zarr.json": False,
        "c/0": False,
        "c/1": True,
        "c/2": False,
    }
    assert store.list_dir("c").keys == ("0", "1", "2")
    (place / "loop").symlink_to(place / "loop")
    assert len(list(store.list())) == 4


@pytest.mark.parametrize("name", ["c/1", "c"])
def test_check_names_it(place: Path, name: str) -> None:
    unfetch(place / name)
    report = check(zarrdock.open_store(place))
    assert [problem.key for problem in report.problems if problem.severity == "error"] == [name]
    assert "leads nowhere" in report.problems[0].message


@pytest.mark.parametrize("name", ["c/1", "c"])
@pytest.mark.parametrize("chunks", ["keep", (4,)])
def test_copies_do_not_leave_it_out(place: Path, name: str, chunks: object) -> None:
    unfetch(place / name)
    with pytest.raises(AccessError, match="leads nowhere"):
        zarrdock.copy(place, place.parent / "b.zarr", chunks=chunks)


def test_shrinking_does_not_overlook_it(place: Path) -> None:
    unfetch(place / "c")
    with pytest.raises(AccessError):
        zarrdock.open_array(place, "r+").resize((3,))


def test_deletion_takes_links_away(place: Path) -> None:
    unfetch(place / "c" / "1")
    zarrdock.create_array(place, shape=(8,), dtype="i4", chunks=(2,), overwrite=True)
    assert zarrdock.open_array(place)[:].tolist() == [0] * 8
    unfetched = place / "c"
    unfetched.symlink_to(place / "gone")
    LocalStore(place).delete_prefix("")
    assert not os.path.lexists(unfetched)


def test_a_file_that_comes_while_it_is_looked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched between the open that failed and the look at the link."""
    unfetch(place / "c" / "1")
    target = (place / "c" / "1").parent / (place / "c" / "1").readlink()
    access = os.access

    def fetched(path: str, *args: object, **kwargs: object) -> bool:
        if str(path).endswith("c/1") and not target.exists():
            target.parent.mkdir(parents=True)
            (place.parent / "annex" / "content").rename(target)
        return access(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", fetched)
    assert zarrdock.open_array(place)[:4].tolist() == [5] * 4


def test_a_folder_that_is_gone(place: Path) -> None:
    """A disk that is not mounted any more, or a worker on a machine that does not have it."""
    array = zarrdock.open_array(place)
    travelled = pickle.dumps(array)
    place.rename(place.parent / "elsewhere")
    for one in (array, pickle.loads(travelled)):
        with pytest.raises(StoreError, match="was there and is gone"):
            one[:]
        with pytest.raises(StoreError, match="was there and is gone"):
            one.store.size("c/0")
    with pytest.raises(zarrdock.errors.NodeNotFoundError):
        zarrdock.open_array(place)
    (place.parent / "elsewhere").rename(place)
    assert array[:].tolist() == [5] * 6 + [-1] * 2


def test_a_folder_that_was_emptied(place: Path) -> None:
    store = LocalStore(place)
    assert store.get("c/0") is not None
    store.delete_prefix("")
    assert store.get("c/0") is None
    assert store.size("zarr.json") is None
    zarrdock.create_array(store, shape=(8,), dtype="i4", chunks=(2,))
    assert zarrdock.open_array(store)[:].tolist() == [0] * 8
