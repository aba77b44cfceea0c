"""Replacing and deleting nodes removes what is Zarr, and never anything else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.servers import StrictS3
from zarrdock.cli.main import run
from zarrdock.errors import NodeExistsError, StoreError
from zarrdock.testing import FaultyStore, StoreFault

FOREIGN = {"letter.txt": b"a letter", "pics/p.jpg": b"a picture", "pics/2019/7": b"named like a chunk"}
SMALL: dict[str, Any] = {"shape": (4, 4), "dtype": "u1", "chunks": (2, 2)}


@pytest.fixture(params=["memory", "local", "prefix", "zip", "mapping", pytest.param("S3", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[zarrdock.Store]:
    match request.param:
        case "memory":
            yield zarrdock.MemoryStore()
        case "local":
            yield zarrdock.LocalStore(tmp_path / "x")
        case "prefix":
            yield zarrdock.PrefixStore(zarrdock.LocalStore(tmp_path), "in/x")
        case "zip":
            with zarrdock.open_store(tmp_path / "x.zip") as archive:
                yield archive
        case "mapping":
            yield zarrdock.open_store({})
        case "S3":
            with StrictS3("b") as s3:  # the root of a bucket
                yield zarrdock.open_store("s3://b", storage_options=s3.storage_options)


def keys(store: zarrdock.Store, path: str = "") -> set[str]:
    return {entry.key for entry in store.list(path)}


def put(store: zarrdock.Store, path: str = "") -> set[str]:
    """Lay foreign files at a path."""
    names = {f"{path}/{name}" if path else name: data for name, data in FOREIGN.items()}
    for name, data in names.items():
        store.write(name, data)
    return set(names)


def _from_dask(place: Any) -> Any:
    da = pytest.importorskip("dask.array")
    return zarrdock.from_dask(da.ones((4,), chunks=2), place, overwrite=True)


ROADS: dict[str, Callable[[Any], Any]] = {
    "create_array": lambda place: zarrdock.create_array(place, overwrite=True, **SMALL),
    "create_array, v2": lambda place: zarrdock.create_array(place, overwrite=True, zarr_format=2, **SMALL),
    "create_group": lambda place: zarrdock.create_group(place, overwrite=True),
    "open_array": lambda place: zarrdock.open_array(place, mode="w", **SMALL),
    "open_group": lambda place: zarrdock.open_group(place, mode="w"),
    "copy": lambda place: zarrdock.copy(np.ones((4, 4)), place, overwrite=True),
    "from_dask": _from_dask,
}


@pytest.mark.parametrize("road", ROADS)
def test_a_place_without_a_node_is_refused(store: zarrdock.Store, road: str) -> None:
    there = put(store)
    with pytest.raises(NodeExistsError, match=r"no Zarr \('letter.txt'"):
        ROADS[road](store)
    assert keys(store) == there


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("road", ROADS)
def test_files_beside_a_node_stay_and_are_named(store: zarrdock.Store, road: str, zarr_format: Any) -> None:
    root = zarrdock.create_group(store, zarr_format=zarr_format, attributes={"old": 1})
    root.create_array("a", data=np.arange(1, 17).reshape(4, 4), chunks=(2, 2))
    root.create_group("g").create_array("b", data=5)
    root.consolidate()
    there = put(store) | put(store, "g")
    with pytest.warns(UserWarning, match="stay there: .*letter.txt"):
        ROADS[road](store)
    found = keys(store)
    assert there <= found
    left = found - there
    assert not [key for key in left if key.startswith(("a", "g"))]
    assert "old" not in zarrdock.open(store).attrs
    for name, data in FOREIGN.items():
        blob = store.get(name)
        assert blob is not None
        assert bytes(blob.data) == data


def test_a_folder_under_a_childs_name(store: zarrdock.Store) -> None:
    root = zarrdock.create_group(store)
    there = put(store, "notes")
    for attempt in (
        lambda: root.create_group("notes", overwrite=True),
        lambda: root.create_array("notes", overwrite=True, **SMALL),
        lambda: zarrdock.create_array(store, name="notes", overwrite=True, **SMALL),
    ):
        with pytest.raises(NodeExistsError, match=r"'notes' in .* no Zarr"):
            attempt()
    with pytest.raises(KeyError):
        del root["notes"]
    assert there <= keys(store)


def test_deleting_a_member_leaves_other_files(store: zarrdock.Store) -> None:
    root = zarrdock.create_group(store)
    root.create_group("g").create_array("a", data=np.arange(9), chunks=2)
    there = put(store, "g")
    with pytest.warns(UserWarning, match=r"'g/letter.txt'"):
        del root["g"]
    assert keys(store) == there | {"zarr.json"}


def test_the_copy_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_array(tmp_path / "src", data=np.arange(4))
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "thesis.tex").write_text("x")
    assert run(["copy", str(tmp_path / "src"), str(tmp_path / "dst"), "--overwrite"]) == 1
    assert "thesis.tex" in capfd.readouterr().err
    zarrdock.create_array(tmp_path / "dst", data=np.arange(9), chunks=2)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["copy", str(tmp_path / "src"), str(tmp_path / "dst"), "--overwrite"]) == 0
    assert "warning: files at '/'" in capfd.readouterr().err
    assert zarrdock.open_array(tmp_path / "dst")[:].tolist() == [0, 1, 2, 3]
    assert keys(zarrdock.LocalStore(tmp_path / "dst")) == {"c/0", "zarr.json", "thesis.tex"}


ENCODINGS: dict[str, Any] = {
    "default": {"name": "default", "separator": "/"},
    "dots": {"name": "default", "separator": "."},
    "v2": {"name": "v2", "separator": "."},
    "v2, nested": {"name": "v2", "separator": "/"},
    "fanout": {"name": "fanout", "configuration": {"max_children": 4}},
    "suffix": {"name": "suffix", "configuration": {"suffix": ".bin", "base_encoding": {"name": "default"}}},
    "template": {"name": "template", "configuration": {"format": "images/{0}/{1:04}.jpeg"}},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_chunks_are_known_by_their_arrays_keys(encoding: str) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(
        store, name="a", data=np.arange(1, 65).reshape(8, 8), chunks=(1, 2), chunk_key_encoding=ENCODINGS[encoding]
    )
    # Others that make an array smaller leave the chunks outside: they are the array's all the same.
    document = json.loads(bytes(store.get("a/zarr.json").data))  # type: ignore[union-attr]
    store.write("a/zarr.json", json.dumps({**document, "shape": [2, 2]}).encode())
    store.write("a/images/0/holiday.jpeg", b"x")
    with pytest.warns(UserWarning, match="holiday"):
        zarrdock.create_group(store, path="a", overwrite=True)
    assert keys(store) == {"a/zarr.json", "a/images/0/holiday.jpeg"}
    assert array.shape == (8, 8)


def test_a_file_that_would_become_a_chunk_is_refused() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.arange(1, 5), chunks=2, zarr_format=2)
    store.write("c/0/1", b"no chunk of this array")
    before = keys(store)
    with pytest.raises(NodeExistsError, match=r"taken for chunks of the new array \('c/0/1'\)"):
        zarrdock.create_array(store, overwrite=True, **SMALL)
    assert keys(store) == before
    with pytest.warns(UserWarning, match="c/0/1"):
        zarrdock.create_array(store, shape=4, dtype="u1", overwrite=True)


@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
@pytest.mark.parametrize("document", [b"", b"{", b'{"zarr_format": 9}'])
def test_an_array_whose_document_is_broken(name: str, document: bytes) -> None:
    store = zarrdock.MemoryStore()
    for key in (name, "c/0/1", "0.1", "3"):
        store.write(key, document)
    zarrdock.create_array(store, overwrite=True, **SMALL)
    assert keys(store) == {"zarr.json"}


def test_an_unknown_key_encoding() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.arange(1, 5), chunks=2)
    document = json.loads(bytes(store.get("zarr.json").data))  # type: ignore[union-attr]
    store.write("zarr.json", json.dumps({**document, "chunk_key_encoding": {"name": "of-the-future"}}).encode())
    zarrdock.create_group(store, overwrite=True)
    assert keys(store) == {"zarr.json"}


def test_groups_without_a_document() -> None:
    """A folder with nothing but nodes in it is a group to everybody, and is replaced as one."""
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, name="a/b/c", data=np.arange(4))
    zarrdock.create_array(store, name="a/d", data=np.arange(4), zarr_format=2)
    zarrdock.create_array(store, name="a", overwrite=True, **SMALL)
    assert keys(store) == {"a/zarr.json"}


def test_both_formats_in_one_place() -> None:
    store = zarrdock.MemoryStore()
    for zarr_format in (2, 3):
        zarrdock.create_array(store, data=np.arange(1, 9), chunks=2, zarr_format=zarr_format, attributes={"n": 1})  # type: ignore[arg-type]
    zarrdock.create_group(store, overwrite=True)
    assert keys(store) == {"zarr.json"}


def test_an_unfinished_copy_is_replaced(tmp_path: Path) -> None:
    """Its chunks are there before its documents: the mark says which keys are chunks."""
    source = zarrdock.create_group(tmp_path / "src")
    for name in ("a", "b"):
        source.create_array(name, data=np.arange(1, 33), chunks=2, chunk_key_encoding=ENCODINGS["suffix"])

    def stop(progress: Any) -> None:
        if progress.path == "b":
            raise KeyboardInterrupt

    for road in ROADS:
        place = tmp_path / road
        with pytest.raises(KeyboardInterrupt):
            zarrdock.copy(source, place, progress=stop)
        assert "b/c/0.bin" in keys(zarrdock.LocalStore(place))
        (place / "notes.txt").write_text("x")
        with pytest.warns(UserWarning, match=r"stay there: 'notes.txt'"):
            ROADS[road](place)
        assert not [key for key in keys(zarrdock.LocalStore(place)) if key.startswith(("a", "b"))]


def failing_deletions(store: zarrdock.Store, n: int) -> FaultyStore:
    """A store that fails after ``n`` deletions."""
    return FaultyStore(store, [StoreFault("delete", error=StoreError("no more"), after=n, count=None)])


@pytest.mark.parametrize("beside", [False, True])
def test_a_removal_that_failed_can_be_done_again(beside: bool) -> None:
    """Wherever it stops: what is left is still known for what it is."""
    for n in range(20):
        store = zarrdock.MemoryStore()
        root = zarrdock.create_group(store)
        for name in ("a", "g/b"):
            root.create_array(name, data=np.arange(1, 9), chunks=2)
        there = put(store) | put(store, "g") if beside else set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                zarrdock.create_group(failing_deletions(store, n), overwrite=True)
            except StoreError:
                assert there <= keys(store)
                zarrdock.create_group(store, overwrite=True)
            else:
                break
        assert keys(store) == there | {"zarr.json"}
    assert n > 10


def test_links_go_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "archive" / "a", data=np.arange(4))
    (tmp_path / "archive" / "a" / "thesis.tex").write_text("x")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "p.jpg").write_text("x")
    before = keys(zarrdock.LocalStore(tmp_path))
    root = zarrdock.create_group(tmp_path / "x")
    root.create_array("b", data=np.arange(4))
    (tmp_path / "x" / "a").symlink_to(tmp_path / "archive" / "a")
    (tmp_path / "x" / "pics").symlink_to(tmp_path / "pictures")
    with pytest.warns(UserWarning, match="pics/p.jpg"):
        zarrdock.create_group(tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "pics").is_symlink()
    assert not (tmp_path / "x" / "a").exists()
    assert {key for key in keys(zarrdock.LocalStore(tmp_path)) if not key.startswith("x/")} == before


def test_where_warnings_are_errors_nothing_is_removed() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, data=np.arange(4))
    store.write("notes.txt", b"x")
    before = keys(store)
    with pytest.raises(UserWarning, match="'notes"):
        zarrdock.create_array(store, overwrite=True, **SMALL)
    assert keys(store) == before


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized:UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_python_and_xarray_through_the_adapter(store: zarrdock.Store, zarr_format: Any) -> None:
    zarr = pytest.importorskip("zarr")
    xr = pytest.importorskip("xarray")
    from zarrdock.adapters.zarr_python import ZarrStore

    there = put(store)
    dataset = xr.Dataset({"a": ("x", np.arange(4))})
    roads: tuple[Callable[[], Any], ...] = (
        lambda: dataset.to_zarr(ZarrStore(store), mode="w", zarr_format=zarr_format, consolidated=False),
        lambda: zarr.create_array(ZarrStore(store), overwrite=True, zarr_format=zarr_format, **SMALL),
        lambda: zarr.open_group(ZarrStore(store), mode="w", zarr_format=zarr_format),
    )
    zarrdock.create_group(store, zarr_format=zarr_format).create_array("old", data=np.arange(9), chunks=2)
    for road in roads:
        with pytest.warns(UserWarning, match="stay there: .*letter.txt"):
            road()
        assert there <= keys(store)
        assert not [key for key in keys(store) if key.startswith("old")]


@pytest.mark.peer
def test_zarr_python_leaves_a_folder_of_other_files_alone(store: zarrdock.Store) -> None:
    zarr = pytest.importorskip("zarr")
    from zarrdock.adapters.zarr_python import ZarrStore

    there = put(store)
    zarrdock.create_array(store, path="deep/x.zarr", data=np.arange(3))
    with pytest.warns(UserWarning, match="stay there: .*letter.txt"):
        zarr.create_array(ZarrStore(store), overwrite=True, **SMALL)
    assert there <= keys(store)
    assert zarrdock.open_array(store, path="deep/x.zarr")[:].tolist() == [0, 1, 2]
