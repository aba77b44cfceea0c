"""A change made through zarrdock is a change of the consolidated copies of metadata, at every level above the node."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import zarrdock
from support.servers import StrictGCS, StrictS3
from support.storms.workers import in_processes
from zarrdock.array.group import Group
from zarrdock.array.hierarchy import walk
from zarrdock.errors import ConflictError
from zarrdock.stores.base import Buffer, WrapperStore

SERVICES = ("S3", "S3, obstore", "GCS")
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture(params=["memory", "local", "zip", "prefix", pytest.param("S3", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[zarrdock.Store]:
    match request.param:
        case "memory":
            yield zarrdock.MemoryStore()
        case "local":
            yield zarrdock.LocalStore(tmp_path / "x")
        case "prefix":
            yield zarrdock.PrefixStore(zarrdock.MemoryStore(), "in/x")
        case "zip":
            with zarrdock.open_store(tmp_path / "x.zip") as archive:
                yield archive
        case "S3":
            yield request.getfixturevalue("on_s3")()


def tree(store: zarrdock.Store, zarr_format: Any) -> Group:
    """Copies at the root, and at a group below it."""
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    root.create_array("a", data=np.arange(1, 9), chunks=4)
    root.create_group("g", attributes={"n": 1}).create_array("b", data=np.arange(6.0), chunks=2)
    root.create_array("g/h/c", data=5)
    zarrdock.consolidate_metadata(store, path="g")
    return root.consolidate()


def described(group: Group) -> dict[str, Any]:
    """All nodes below a group, as their documents say."""
    found = {}
    for path, node in walk(group.store, group.path, group.metadata):
        assert not isinstance(node, Exception), node
        shape = getattr(node, "shape", None)
        found[path] = node.zarr_format, shape, str(getattr(node, "dtype", "")), dict(node.attributes)
    return found


def check(store: zarrdock.Store, *held: Group) -> dict[str, Any]:
    """Every copy says what the documents say: in groups that are opened now, and in those that were open before."""
    truth = described(zarrdock.open_group(store, use_consolidated=False))
    for path in ("", "g"):
        try:
            opened = zarrdock.open_group(store, path=path)
        except zarrdock.errors.NodeNotFoundError:
            continue
        assert opened.metadata.consolidated is not None
        prefix = f"{path}/" if path else ""
        below = {name.removeprefix(prefix): node for name, node in truth.items() if name.startswith(prefix)}
        assert described(opened) == below
        assert sorted(opened) == sorted({name.partition("/")[0] for name in below})
    for group in held:
        assert described(group) == truth
    return truth


CHANGES: dict[str, Callable[[Group], Any]] = {
    "append": lambda g: g["a"].append(np.arange(3)),
    "append below": lambda g: g["g/b"].append(np.arange(3.0)),
    "resize": lambda g: g["g"]["b"].resize(2),
    "attributes": lambda g: g["a"].attrs.update(unit="m"),
    "attributes of a group": lambda g: g["g"].attrs.update(unit="m"),
    "attributes removed": lambda g: g["g"].attrs.put({}),
    "attributes of the root": lambda g: g.attrs.update(title="x"),
    "new array": lambda g: g.create_array("z", data=np.arange(2)),
    "new array below": lambda g: g["g"].create_array("z/y/x", data=np.arange(2)),
    "new group": lambda g: g.create_group("g/k"),
    "replaced": lambda g: g.create_array("a", data=np.arange(8.0) + 0.5, chunks=2, overwrite=True),
    "replaced by a group": lambda g: g.create_group("a", overwrite=True),
    "a group replaced": lambda g: g.create_array("g", data=np.arange(2), overwrite=True),
    "deleted": lambda g: g.__delitem__("a"),
    "deleted below": lambda g: g["g"].__delitem__("h"),
    "a group deleted": lambda g: g.__delitem__("g"),
    "copied into it": lambda g: zarrdock.copy(zarrdock.open_group(g.store)["g"], g.store, dst_path="copy"),
}


@FORMATS
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(store: zarrdock.Store, zarr_format: Any, change: str) -> None:
    tree(store, zarr_format)
    root, other = zarrdock.open_group(store, "r+"), zarrdock.open_group(store, "r+")
    before = check(store, root, other)
    CHANGES[change](root)
    after = check(store, root, other)
    if change != "attributes of the root":
        assert after != before
    else:
        assert zarrdock.open_group(store).attrs["title"] == "x"
    if change == "replaced":
        assert zarrdock.open_group(store)["a"][:].tolist() == [n + 0.5 for n in range(8)]


@FORMATS
@pytest.mark.parametrize("change", ["append", "replaced", "deleted", "new array"])
def test_without_the_group(store: zarrdock.Store, zarr_format: Any, change: str) -> None:
    """By the path of the node in the store, as other processes may."""
    held = zarrdock.open_group(store) if tree(store, zarr_format) else None
    match change:
        case "append":
            zarrdock.open_array(store, "r+", path="g/b").append(np.arange(2.0))
        case "replaced":
            zarrdock.create_array(store, name="g/b", data=np.arange(3), overwrite=True, zarr_format=zarr_format)
        case "deleted":
            del zarrdock.open_group(store, "r+", path="g", use_consolidated=False)["b"]
        case "new array":
            zarrdock.create_array(store, name="g/n", data=np.arange(3), zarr_format=zarr_format)
    check(store, *([held] if held else []))


@pytest.fixture(
    params=["local", "memory URL", "zip", *(pytest.param(name, marks=pytest.mark.server) for name in SERVICES)]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], zarrdock.Store]]:
    """Opens a folder of one place as a store of its own, as often as it is called."""
    match request.param:
        case "local":
            yield lambda path: zarrdock.open_store(tmp_path / path)
        case "memory URL":
            fs = fsspec.filesystem("memory")
            yield lambda path: zarrdock.FsspecStore(fs, f"{tmp_path.name}/{path}", assume_single_writer=True)
        case "zip":
            with zarrdock.open_store(tmp_path / "x.zip") as archive:
                yield lambda path: zarrdock.PrefixStore(archive, path)
        case "S3":
            with StrictS3("b") as s3:
                yield lambda path: zarrdock.open_store(f"s3://b/{path}", storage_options=s3.storage_options)
        case "S3, obstore":
            with StrictS3("b") as s3:
                yield lambda path: _by_obstore(s3, path)
        case "GCS":
            with StrictGCS("b") as gcs:
                yield lambda path: zarrdock.open_store(f"gs://b/{path}", storage_options=gcs.storage_options)


def _by_obstore(s3: StrictS3, path: str) -> zarrdock.Store:
    store = pytest.importorskip("obstore.store")
    config = {"endpoint": s3.url, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    return zarrdock.ObstoreStore(store.S3Store("b", prefix=path, config=config, client_options={"allow_http": True}))


@FORMATS
@pytest.mark.parametrize("change", ["append", "replaced", "attributes", "deleted", "created"])
def test_below_the_root_of_the_store(opened: Callable[[str], zarrdock.Store], zarr_format: Any, change: str) -> None:
    """A folder opened by itself may be a member of a hierarchy that others open further up: they see its changes, at
    every level, and so does a group that was open meanwhile.
    """
    top = zarrdock.create_group(opened("top"), zarr_format=zarr_format)
    tree(opened("top/x"), zarr_format)
    top.consolidate()
    held = zarrdock.open_group(opened("top"))
    assert held.metadata.consolidated is not None
    assert held["x/g"]
    match change:
        case "append":
            zarrdock.open_array(opened("top/x/g/b"), "r+").append(np.arange(2.0))
        case "replaced":
            store = opened("top/x/g/b")
            zarrdock.create_array(store, data=np.arange(3), overwrite=True, zarr_format=zarr_format)
        case "attributes":
            zarrdock.open_group(opened("top/x/g"), "r+").attrs["k"] = 1
        case "deleted":
            del zarrdock.open_group(opened("top/x/g"), "r+")["b"]
        case "created":
            zarrdock.open_group(opened("top/x/g"), "r+").create_array("h/new", data=5)
    check(opened("top/x"))
    truth = described(zarrdock.open_group(opened("top"), use_consolidated=False))
    assert described(zarrdock.open_group(opened("top"))) == described(held) == truth


def test_below_a_folder_that_is_no_group(tmp_path: Path) -> None:
    """A copy in a folder higher up is another hierarchy's."""
    other = zarrdock.create_group(tmp_path)
    other.consolidate()
    before = (tmp_path / "zarr.json").read_bytes()
    zarrdock.create_array(tmp_path / "data" / "x.zarr", data=[1, 2]).append([3])
    assert (tmp_path / "zarr.json").read_bytes() == before


def test_wrappers_and_prefixes_look_above_their_stores(tmp_path: Path) -> None:
    store = zarrdock.LocalStore(tmp_path / "x")
    tree(store, 3)
    inner = zarrdock.PrefixStore(zarrdock.RecordingStore(store), "g")
    zarrdock.open_array(inner, "r+", path="b").append(np.arange(2.0))
    check(store)


def test_a_copy_above_that_cannot_be_changed_is_named(tmp_path: Path) -> None:
    class Refusing(WrapperStore):
        def update(self, key: str, change: Callable[[Buffer | None], Any], /) -> None:
            if key == "zarr.json":
                raise zarrdock.errors.AccessError("not yours", key=key, store=self)
            self.store.update(key, change)

    store = Refusing(zarrdock.MemoryStore())
    zarrdock.create_group(store.store).create_array("a", data=np.arange(4))
    zarrdock.consolidate_metadata(store.store)
    with pytest.warns(RuntimeWarning, match="could not be brought up to date: not yours"):
        zarrdock.open_array(zarrdock.PrefixStore(store, "a"), "r+").append([1])
    assert zarrdock.open_array(store, path="a").shape == (5,)


def test_what_else_the_documents_hold_stays() -> None:
    store = zarrdock.MemoryStore()
    tree(store, 3)

    def edit(old: Any) -> bytes:
        document = json.loads(bytes(old))
        document["somebodys"] = {"must_understand": False, "n": 1}
        document["consolidated_metadata"]["metadata"]["a"] |= {"odd": {"must_understand": False}}
        return json.dumps(document).encode()

    store.update("zarr.json", edit)
    zarrdock.open_group(store, "r+")["g/b"].append(np.arange(2.0))
    document = json.loads(bytes(store.get("zarr.json").data))  # type: ignore[union-attr]
    assert document["somebodys"]["n"] == 1
    assert "odd" in document["consolidated_metadata"]["metadata"]["a"]


@FORMATS
def test_many_processes_change_what_one_copy_holds(tmp_path: Path, zarr_format: Any) -> None:
    store = zarrdock.LocalStore(tmp_path / "x")
    root = zarrdock.create_group(store, zarr_format=zarr_format)
    for i in range(2):
        root.create_array(f"a{i}", shape=0, dtype="i4", chunks=4)
    root.consolidate()
    in_processes(_append_here_and_there, [(store, who) for who in range(4)])
    truth = described(zarrdock.open_group(store, use_consolidated=False))
    assert described(zarrdock.open_group(store)) == truth
    assert [truth[f"a{i}"][1] for i in range(2)] == [(40,), (40,)]
    assert len(truth) == 2 + 4


def _append_here_and_there(store: zarrdock.Store, who: int) -> None:
    group = zarrdock.open_group(store, "r+")
    for n in range(10):
        group[f"a{n % 2}"].append([who, n])
    group.create_array(f"new{who}", shape=1, dtype="u1")


@FORMATS
def test_threads_that_change_one_array(zarr_format: Any) -> None:
    """The last one to look leaves the copy right, in whatever order the documents and the copies are written."""
    store = zarrdock.MemoryStore()
    tree(store, zarr_format)

    def work(who: int) -> None:
        array = zarrdock.open_group(store, "r+")["g/b"]
        for n in range(10):
            array.attrs[f"{who}"] = n
            array.append([1.0])

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    truth = check(store)
    assert truth["g/b"][1] == (46,)
    assert truth["g/b"][3] == {str(who): 9 for who in range(4)}


def test_groups_opened_without_copies_go_by_the_documents() -> None:
    store = zarrdock.MemoryStore()
    tree(store, 3)
    group = zarrdock.open_group(store, "r+", use_consolidated=False)
    group.attrs["n"] = 1
    store.delete("a/zarr.json")  # by others
    assert "a" not in group
    assert "a" in zarrdock.open_group(store)


def test_an_unchanged_hierarchy_is_read_once() -> None:
    """No request beyond that of opening, as long as nothing is changed through the store."""
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    tree(store, 3)
    group = zarrdock.open_group(store, "r+", zarr_format=3)
    store.reset()
    assert [name for name, _ in group["g"].members()] == ["b", "h"]
    assert group["g/h/c"].shape == ()
    assert store.n_requests == 0
    group["a"].append([1])
    store.reset()
    assert group["a"].shape == (9,)
    assert group["g/b"].shape == (6,)
    assert store.n_requests == 1


@pytest.mark.peer
@FORMATS
def test_zarr_python_and_xarray_read_the_copies(tmp_path: Path, zarr_format: Any) -> None:
    zarr = pytest.importorskip("zarr")
    tree(zarrdock.LocalStore(tmp_path / "x"), zarr_format)
    for change in CHANGES.values():
        shutil.rmtree(tmp_path / "x")
        tree(zarrdock.LocalStore(tmp_path / "x"), zarr_format)
        change(zarrdock.open_group(tmp_path / "x", "r+"))
        ours = described(zarrdock.open_group(tmp_path / "x", use_consolidated=False))
        theirs = {
            path: getattr(node, "shape", None)
            for path, node in zarr.open_consolidated(str(tmp_path / "x")).members(max_depth=None)
        }
        assert theirs == {path: node[1] for path, node in ours.items()}


def opened_by_zarr_python(path: Path, zarr_format: Any) -> Any:
    """A consolidated group of two arrays, as zarr-python opens it through our store."""
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters import ZarrStore

    root = zarrdock.create_group(path, zarr_format=zarr_format)
    root.create_array("a", data=np.arange(10), chunks=5)
    root.create_group("s").create_array("b", data=np.arange(3))
    root.consolidate()
    return zarr.open_group(ZarrStore(path), mode="r+")


@pytest.mark.peer
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_changes_that_zarr_python_makes(tmp_path: Path, zarr_format: Any) -> None:
    """Its own copy, in memory, is out of date after its first change; the stored ones are not."""
    zarr = pytest.importorskip("zarr")
    theirs = opened_by_zarr_python(tmp_path, zarr_format)
    array = theirs["a"]
    array.resize((20,))
    with pytest.raises(ConflictError, match="use_consolidated=False"):
        theirs["a"].attrs["unit"] = "m"  # would make it short again
    array.attrs["unit"] = "m"
    theirs["s/b"].attrs["q"] = 1
    theirs.create_array("n", shape=(3,), dtype="i2", chunks=(3,))
    theirs["s"].attrs["g"] = 2
    mine, again = zarrdock.open_group(tmp_path), zarr.open_consolidated(str(tmp_path))
    for found in mine, again:
        assert sorted(found) == ["a", "n", "s"]
        assert found["a"].shape == (20,)
        assert dict(found["a"].attrs) == {"unit": "m"}
        assert dict(found["s/b"].attrs) == {"q": 1}
        assert dict(found["s"].attrs) == {"g": 2}
    del theirs["n"]
    assert sorted(zarr.open_consolidated(str(tmp_path))) == ["a", "s"]


@pytest.mark.peer
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_python_changes_an_array_that_another_process_made_longer(tmp_path: Path, zarr_format: Any) -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters import ZarrStore

    theirs = opened_by_zarr_python(tmp_path, zarr_format)
    zarrdock.open_array(tmp_path, "r+", path="a").append([10, 11])

    def rename() -> None:
        theirs["a"].attrs["unit"] = "m"

    for change in (rename, lambda: theirs["a"].resize((22,)), rename):
        with pytest.raises(ConflictError, match="use_consolidated=False"):
            change()
        assert zarrdock.open_array(tmp_path, path="a")[...].tolist() == list(range(12))
    zarr.open_group(ZarrStore(tmp_path), mode="r+", use_consolidated=False)["a"].attrs["unit"] = "m"
    assert zarrdock.open_group(tmp_path)["a"].attrs.asdict() == {"unit": "m"}
