"""open_store: from what a user types, or has, to a store."""

import re
import subprocess
import sys
import zipfile
from collections import UserDict
from pathlib import Path
from typing import Any

import fsspec.core
import numpy as np
import pytest
from fsspec.asyn import AsyncFileSystem
from upath import UPath

import zarrdock
from support.servers import StrictS3
from zarrdock.errors import ReadOnlyError, StoreError, UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Store
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.mapping import MappingStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.open import open_store, protocols
from zarrdock.stores.wrappers import PrefixStore


def holds(store: Store, key: str = "k") -> bytes | None:
    blob = store.get(key)
    return None if blob is None else bytes(blob.data)


def test_local_paths_in_all_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "d.zarr" / "k").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    local = fsspec.filesystem("file")
    for obj in (
        str(tmp_path / "d.zarr"),
        tmp_path / "d.zarr",
        f"file://{tmp_path}/d.zarr",
        f"local://{tmp_path}/d.zarr/",
        "d.zarr",
        "./d.zarr",
        local.get_mapper(str(tmp_path / "d.zarr")),
        UPath(tmp_path / "d.zarr"),
        UPath(f"file://{tmp_path}/d.zarr"),
    ):
        store = open_store(obj)
        assert isinstance(store, LocalStore), obj
        assert holds(store) == b"1", obj
    assert holds(open_store(local, path=str(tmp_path / "d.zarr"))) == b"1"
    assert open_store(tmp_path, durable=True).durable  # type: ignore[attr-defined]
    assert open_store(str(tmp_path), read_only=True).read_only


def test_memory() -> None:
    assert isinstance(open_store(), MemoryStore)
    open_store().write("k", b"1")
    assert open_store().get("k") is None, "each is new"
    open_store("memory://open/a").write("k", b"1")
    assert fsspec.filesystem("memory").cat_file("/open/a/k") == b"1"
    fs = fsspec.filesystem("memory")
    for store in (
        open_store("memory://open/a"),
        open_store(fs, path="/open/a"),
        open_store(fsspec.get_mapper("memory://open/a")),
        open_store(UPath("memory://open/a")),
        open_store("dir://a::memory://open"),
    ):
        assert isinstance(store, FsspecStore)
        assert holds(store) == b"1"


def test_a_store_is_handed_back() -> None:
    store = MemoryStore()
    assert open_store(store) is store
    guarded = open_store(store, read_only=True)
    with pytest.raises(ReadOnlyError):
        guarded.write("k", b"")
    assert open_store(guarded, read_only=True) is guarded


def test_mappings() -> None:
    mapping: dict[str, bytes] = {"k": b"1"}
    store = open_store(mapping)
    assert isinstance(store, MappingStore)
    store.write("a/b", b"2")
    store.update("k", lambda old: bytes(old or b"") + b"+")
    assert mapping == {"k": b"1+", "a/b": b"2"}
    other = open_store(UserDict(mapping))
    assert holds(other) == b"1+"
    with pytest.raises(UnsupportedError, match="single_writer"):
        other.update("k", lambda old: old)
    strange: Any = {"k": 5, 7: b"", "../x": b"", "good": bytearray(b"1")}
    assert [entry.key for entry in open_store(strange).list()] == ["k", "good"]
    assert holds(open_store(strange), "good") == b"1"
    with pytest.raises(UnsupportedError, match="int, not bytes"):
        open_store(strange).get("k")

    class Broken(UserDict[str, bytes]):
        def __getitem__(self, key: str) -> bytes:
            raise ConnectionResetError("gone")

    with pytest.raises(StoreError, match="the connection failed"):
        open_store(Broken()).get("k")


def test_zip_archives(tmp_path: Path) -> None:
    archive = tmp_path / "x.zarr.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("root/k", b"1")
    fsspec.filesystem("memory").pipe_file("/open-zip/x.OZX", archive.read_bytes())
    for obj in (
        str(archive),
        archive,
        f"file://{archive}",
        "memory://open-zip/x.OZX",
        UPath("memory://open-zip/x.OZX"),
    ):
        store = open_store(obj, read_only=True)
        assert type(store).__name__ == "ZipStore", obj
        assert holds(store, "root/k") == b"1"
    for obj in (f"zip://root::{archive}", f"zip://root::file://{archive}", "zip://root::memory://open-zip/x.OZX"):
        assert holds(open_store(obj), "k") == b"1"
    durable = open_store(archive, durable=True)
    durable.write("root/new", b"2")
    assert holds(durable, "root/new") == b"2"
    (tmp_path / "folder.zip").mkdir()
    assert isinstance(open_store(tmp_path / "folder.zip"), LocalStore)


def test_web_addresses() -> None:
    store = open_store("https://example.invalid/data.zarr/")
    assert isinstance(store, HTTPStore)
    assert store.url == "https://example.invalid/data.zarr"


def test_object_storage() -> None:
    s3 = open_store("s3://bucket/x.zarr", storage_options={"anon": True, "endpoint_url": "http://127.0.0.1:1"})
    assert (type(s3).__name__, s3.url) == ("S3Store", "s3://bucket/x.zarr")
    gcs = open_store("gs://bucket/x.zarr", storage_options={"token": "anon", "endpoint_url": "http://127.0.0.1:1"})
    assert type(gcs).__name__ == "GCSStore"
    fs = fsspec.filesystem("s3", anon=True, endpoint_url="http://127.0.0.1:1")
    assert type(open_store(fs, path="bucket/x.zarr")) is type(s3)
    assert type(open_store(fs.get_mapper("bucket/x.zarr"))) is type(s3)


@pytest.mark.parametrize("module,url,extra", [("s3fs", "s3://b/x", "s3"), ("aiohttp", "http://h/x", "http")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, module: str, url: str, extra: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module or name.startswith("zarrdock.stores.")]:
        if name in ("zarrdock.stores.s3", "zarrdock.stores.s3_fs", "zarrdock.stores.http_") or module in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.setattr(protocols, "_loaded", {})
    with pytest.raises(UnsupportedError, match=rf'pip install "zarrdock\[{extra}\]"'):
        open_store(url)


def test_protocols_of_third_parties() -> None:
    seen: dict[str, Any] = {}

    def opener(url: str, **options: Any) -> Store:
        seen.update(options, url=url)
        return MemoryStore()

    protocols.add("mine", opener)
    try:
        assert isinstance(open_store("mine://x/y", storage_options={"a": 1}, read_only=True), MemoryStore)
    finally:
        protocols._loaded.pop("mine")
    assert seen == {"url": "mine://x/y", "storage_options": {"a": 1}, "read_only": True}


@pytest.mark.parametrize(
    "obj,options",
    [
        ("", {}),
        (b"bytes", {}),
        ("a\0b", {}),
        (5, {}),
        (object(), {}),
        (["a"], {}),
        ("nosuch://x", {}),
        ("nosuch::memory://x", {}),
        ("path", {"storage_options": {"anon": True}}),
        ("path", {"path": "sub"}),
        (MemoryStore(), {"storage_options": {"anon": True}}),
        ({}, {"storage_options": {"anon": True}}),
    ],
)
def test_nonsense_is_one_typed_line(obj: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        open_store(obj, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.server
def test_the_filesystem_of_obstore() -> None:
    from obstore.fsspec import FsspecStore as ObstoreFilesystem

    with StrictS3("bucket") as server:
        options = server.storage_options
        array = zarrdock.create_array(
            "s3://bucket/x/y", shape=(64,), dtype="i4", chunks=(2,), shards=(32,), storage_options=options
        )
        array[:] = np.arange(64)
        settings = {"endpoint": server.url, "access_key_id": "t", "secret_access_key": "t", "region": "us-east-1"}
        fs = ObstoreFilesystem("s3", **settings, client_options={"allow_http": True})
        store = open_store(fs, path="bucket/x/y")
        assert isinstance(store, ObstoreStore)
        assert store.identity == array.store.identity
        assert zarrdock.open_array(store)[5:9].tolist() == [5, 6, 7, 8]
        zarrdock.open_array(store, "r+")[5:7] = 0
        assert array[4:8].tolist() == [4, 0, 0, 7]
        web = ObstoreFilesystem("http", client_options={"allow_http": True})
        store = open_store(web, path=f"{server.url}/bucket/x/y")
        assert zarrdock.open_array(store)[6:8].tolist() == [0, 7]


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_the_filesystem_of_obstore_on_this_machine(protocol: str, tmp_path: Path) -> None:
    from obstore.fsspec import FsspecStore as ObstoreFilesystem

    fs = ObstoreFilesystem(protocol)
    place = str(tmp_path / "a") if protocol == "file" else "a"
    zarrdock.create_array(open_store(fs, path=place), data=np.arange(8), chunks=(2,), shards=(4,))
    assert zarrdock.open_array(open_store(fs, path=place))[3:5].tolist() == [3, 4]
    assert isinstance(open_store(fs, path=place), LocalStore if protocol == "file" else PrefixStore)


@pytest.mark.server
def test_a_protocol_that_another_library_has_taken() -> None:
    code = """
import obstore.fsspec, sys, zarrdock
obstore.fsspec.register("s3")
store = zarrdock.open_store("s3://bucket/x", storage_options=eval(sys.argv[1]))
store.write("k", b"1")
print(type(store).__name__, store.get("k").data)
"""
    with StrictS3("bucket") as server:
        command = [sys.executable, "-c", code, repr(server.storage_options)]
        assert subprocess.run(command, capture_output=True, text=True).stdout == "S3Store b'1'\n"


class Strange(AsyncFileSystem):
    """A filesystem of somebody's that calls itself s3."""

    protocol = "s3"
    cachable = False

    async def _cat_file(self, path: str, start: object = None, end: object = None, **_: object) -> bytes:
        if path != "bucket/k":
            raise FileNotFoundError(path)
        return b"0123456789"[start:end]  # type: ignore[misc]

    async def _info(self, path: str, **_: object) -> dict[str, object]:
        if path != "bucket/k":
            raise FileNotFoundError(path)
        return {"name": path, "size": 10, "type": "file"}


def test_a_filesystem_of_a_protocol_that_is_not_the_usual_one() -> None:
    store = open_store(Strange(), path="bucket")
    assert type(store) is FsspecStore
    assert bytes(store.get("k", Span(2, 4)).data) == b"23"  # type: ignore[union-attr]
    assert store.get("missing") is None


@pytest.mark.parametrize("url", ["s3://bucket/x.zarr", "gs://b/x", "http://h/x", "file:///tmp/x", "s3:/bucket/x.zarr"])
def test_urls_are_no_folders(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (
        LocalStore,
        lambda url: LocalStore(Path(url)),
        lambda url: open_store(Path(url)),
        lambda url: zarrdock.ZipStore(Path(f"{url}.zip")),
        lambda url: zarrdock.CachingStore(MemoryStore(), max_bytes=100, folder=url),
    ):
        with pytest.raises(UnsupportedError, match="is a URL and no path of a local folder"):
            make(url)
    assert list(tmp_path.iterdir()) == []


def test_paths_that_look_like_urls_a_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    for name in ("s3:/x", "r::12.zarr", "run 1: first.zarr", "a:b/c"):
        zarrdock.create_array(name, data=np.arange(3))
        assert zarrdock.open_array(tmp_path / name)[:].tolist() == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a:b", "r::12.zarr", "run 1: first.zarr", "s3:"]
    for chain in ("zip::r::12.zarr", "simplcache::s3://bucket/x"):
        with pytest.raises((UnsupportedError, StoreError)):
            zarrdock.open_array(chain)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "url,extra",
    [("sftp://host/a", "sftp"), ("webdav://a", "webdav"), ("simplecache::s3://bucket/a", "s3"), ("az://c/a", "azure")],
)
def test_a_missing_library_is_named_by_its_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str, *_: object) -> type:
        raise ImportError(f"a library for {protocol} is not here")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing)
    for name in ("sshfs", "paramiko", "webdav4", "webdav4.fsspec", "s3fs", "adlfs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match=re.escape(f'pip install "zarrdock[{extra}]"')):
        zarrdock.open_store(url)
