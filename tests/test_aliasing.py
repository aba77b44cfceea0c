"""A destination that is the source under another name: refused before anything is deleted, and nothing else is."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from zarrdock.errors import UnsupportedError
from zarrdock.serve.server import Server
from zarrdock.stores.base import Store
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import PrefixStore, RecordingStore
from zarrdock.views.references import references
from zarrdock.views.unsharded import unshard

DATA = np.arange(1, 25)


def hierarchy(place: Any) -> None:
    group = zarrdock.create_group(place)
    group.create_array("a", data=DATA, chunks=(4,))
    group.create_group("inner").create_array("b", data=-DATA, chunks=(6,), attributes={"of": "b"})


def is_whole(place: Any) -> bool:
    group = zarrdock.open_group(place)
    return bool((group["a"][...] == DATA).all() and (group["inner/b"][...] == -DATA).all())


def listed(place: Any) -> list[str]:
    return sorted(entry.key for entry in zarrdock.open_store(place).list())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hierarchy(tmp_path / "real" / "g")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "g")
    (tmp_path / "link2").symlink_to(tmp_path / "link")
    (tmp_path / "up").symlink_to(tmp_path / "real")
    (tmp_path / "down").symlink_to(tmp_path / "real" / "g" / "inner")
    return tmp_path


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("real/g", "link"),
        ("link", "real/g"),
        ("link", "link2"),
        ("real/g", "up/g"),
        ("up/g/inner", "real/g"),
        ("real/g", "down"),
        ("down", "real/g"),
        ("down/b", "link"),
        ("link/inner", "down/b"),
    ],
)
def test_links_to_the_source_its_parents_and_its_children(folder: Path, src: str, dst: str) -> None:
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(folder / src, folder / dst, overwrite=True)
    assert is_whole(folder / "real" / "g")


def test_links_within_the_source_to_the_destination(tmp_path: Path) -> None:
    hierarchy(tmp_path / "dst")
    zarrdock.create_group(tmp_path / "src")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "linked").symlink_to(tmp_path / "dst" / "a")
    (tmp_path / "src" / "a").symlink_to(tmp_path / "far" / "linked")
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(tmp_path / "src", tmp_path / "dst", overwrite=True)
    assert is_whole(tmp_path / "dst")


def test_links_within_the_destination_go_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    hierarchy(tmp_path / "src")
    zarrdock.create_group(tmp_path / "dst")
    (tmp_path / "dst" / "a").symlink_to(tmp_path / "src" / "a")
    zarrdock.copy(tmp_path / "src", tmp_path / "dst", overwrite=True)
    assert is_whole(tmp_path / "src")
    assert is_whole(tmp_path / "dst")
    assert not (tmp_path / "dst" / "a").is_symlink()


def test_hard_links_are_two_places(tmp_path: Path) -> None:
    hierarchy(tmp_path / "src")
    shutil.copytree(tmp_path / "src", tmp_path / "dst", copy_function=os.link)
    zarrdock.copy(tmp_path / "src", tmp_path / "dst", overwrite=True, chunks=(3,))
    assert is_whole(tmp_path / "src")
    assert is_whole(tmp_path / "dst")
    assert zarrdock.open_group(tmp_path / "src")["a"].chunks == (4,)


@pytest.mark.parametrize("make", [MemoryStore, None], ids=["memory", "local"])
@pytest.mark.parametrize(("src", "dst"), [("", ""), ("inner", ""), ("", "inner"), ("inner/b", "inner")])
def test_a_store_and_its_own_server(make: Callable[[], Store] | None, src: str, dst: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "g") if make is None else make()
    hierarchy(store)
    for path in ("inner", ""):  # a server's groups cannot be listed
        zarrdock.consolidate_metadata(store, path=path)
    before = listed(store)
    with Server(store) as server, pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(f"{server.url}/{src}".rstrip("/"), store, dst_path=dst, overwrite=True)
    assert is_whole(store)
    assert listed(store) == before  # no mark is left either


def test_a_server_of_something_else_is_copied_from() -> None:
    store, target = MemoryStore(), MemoryStore()
    for one in (store, target):
        hierarchy(one)
    recorded = RecordingStore(target)
    with Server(store) as server:
        zarrdock.copy(server.url, recorded, overwrite=True, src_path="inner/b")
    np.testing.assert_array_equal(zarrdock.open_array(target)[...], -DATA)
    assert not [key for key in listed(target) if key.startswith(".")]


def test_two_names_for_one_bucket_are_told_by_the_mark(tmp_path: Path) -> None:
    """An fsspec filesystem that shows a folder under paths of its own stands for a second client of a service."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.memory import MemoryFileSystem

    class Disguised(MemoryFileSystem):  # type: ignore[misc]
        protocol = "disguised"

    inner = MemoryFileSystem()
    one = FsspecStore(inner, "/aliasing/g")
    hierarchy(one)
    for other in (
        FsspecStore(Disguised(), "/aliasing/g"),
        FsspecStore(DirFileSystem("/aliasing", inner), "g"),
    ):
        with pytest.raises(UnsupportedError, match="overlap"):
            zarrdock.copy(other, one, overwrite=True)
        assert is_whole(one)
    inner.rm("/aliasing", recursive=True)


def test_files_beside_the_destination_do_not_overlap_with_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "vol.h5", "w") as file:
        file["x"] = DATA
    np.save(tmp_path / "x.npy", DATA)
    for _ in range(2):
        copied = zarrdock.copy(f"hdf5://{tmp_path}/vol.h5", tmp_path / "vol.zarr", overwrite=True)
        np.testing.assert_array_equal(copied["x"][...], DATA)
        np.testing.assert_array_equal(zarrdock.copy(tmp_path / "x.npy", tmp_path / "x.zarr", overwrite=True), DATA)


def test_files_within_the_destination_do(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    hierarchy(tmp_path / "g")
    with h5py.File(tmp_path / "g" / "vol.h5", "w") as file:
        file["x"] = DATA
    np.save(tmp_path / "g" / "x.npy", DATA)
    zarrdock.create_array(str(tmp_path / "g" / "z.zarr.zip"), data=DATA)
    for source in (f"hdf5://{tmp_path}/g/vol.h5", tmp_path / "g" / "x.npy", tmp_path / "g" / "z.zarr.zip"):
        with pytest.raises(UnsupportedError, match="overlap"):
            zarrdock.copy(source, tmp_path / "g", overwrite=True)
    assert is_whole(tmp_path / "g")
    assert (tmp_path / "g" / "vol.h5").exists()


def test_a_node_of_an_archive_beside_its_source(tmp_path: Path) -> None:
    place = str(tmp_path / "g.zarr.zip")
    hierarchy(place)
    zarrdock.copy(place, place, src_path="a", dst_path="c")
    zarrdock.copy(place, place, src_path="a", dst_path="c", overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(place, path="c")[...], DATA)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(place, place, src_path="inner/b", dst_path="inner", overwrite=True)
    assert is_whole(place)


def test_references_into_the_destination(tmp_path: Path) -> None:
    hierarchy(tmp_path / "g")
    refs = {entry.key: [f"file://{tmp_path}/g/a/{entry.key}"] for entry in LocalStore(tmp_path / "g" / "a").list()}
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(references(refs), tmp_path / "g", dst_path="a", overwrite=True)
    assert is_whole(tmp_path / "g")
    zarrdock.copy(references(refs), tmp_path / "g", dst_path="inner", overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "g" / "inner")[...], DATA)


def test_wrappers_are_looked_through() -> None:
    store = MemoryStore()
    hierarchy(store)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(RecordingStore(PrefixStore(store, "inner")), PrefixStore(store, "inner"), overwrite=True)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(unshard(store), store, overwrite=True)
    assert is_whole(store)


@pytest.mark.server
def test_two_places_in_one_bucket_need_no_mark(moto: Endpoint) -> None:
    options = moto.storage_options
    places = [f"s3://{moto.bucket}/aliasing-{name}" for name in ("a", "b")]
    for place in places:
        zarrdock.create_array(place, data=DATA, storage_options=options)
    recorded = RecordingStore(zarrdock.open_store(places[1], storage_options=options), n_events=1000)
    zarrdock.copy(places[0], recorded, src_storage_options=options, overwrite=True)
    keys = [event.key for event in recorded.log if event.verb == "write"]
    assert not [key for key in keys if key.startswith(".zarrdock-") and "copy" not in key]
    other = zarrdock.open_store(places[0], storage_options={**options, "use_listings_cache": False})
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(places[0], other, src_storage_options=options, overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(places[0], storage_options=options)[...], DATA)
