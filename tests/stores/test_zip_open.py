"""From a URL to the archive it leads to, wherever that is."""

import io
import itertools
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest
from aiohttp import web

import zarrdock
from support.loopback import LoopbackServer
from support.servers import Endpoint
from zarrdock.errors import NodeNotFoundError, ReadOnlyError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import Tail
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.open import open_store
from zarrdock.stores.s3 import S3Store
from zarrdock.stores.wrappers import RecordingStore
from zarrdock.stores.zip_ import ZipStore, open_zip
from zarrdock.testing.contract import StoreContract

ITEMS = {"zarr.json": b"{}", "sub/zarr.json": b"{ }", "sub/c/0": bytes(range(256)) * 2000}
_numbers = itertools.count()


def zipped(items: Mapping[str, bytes] = ITEMS) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in items.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "x.zarr.zip"
    path.write_bytes(zipped())
    return path


def check(store: Store, *, prefix: str = "") -> None:
    assert isinstance(store, ZipStore)
    expected = {key[len(prefix) :]: value for key, value in ITEMS.items() if key.startswith(prefix)}
    assert {entry.key for entry in store.list()} == expected.keys()
    for key, value in expected.items():
        blob = store.get(key)
        assert blob is not None
        assert bytes(blob.data) == value


def test_local(path):
    check(open_store(path))
    check(open_store(str(path)))
    check(open_store(f"{path}/"))
    check(open_store(f"file://{path}"))
    check(open_store(f"zip://{path}"))
    check(open_store(f"zip::file://{path}"))
    check(open_store(f"zip://::{path}"))
    for url in (f"zip://sub::file://{path}", f"zip:///sub/::{path}"):
        check(open_store(url), prefix="sub/")
        check(ZipStore(url), prefix="sub/")
    check(ZipStore(f"file://{path}", prefix="sub"), prefix="sub/")
    check(open_store(path.rename(path.with_name("y.ozx"))))


def test_relative_path(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    store = open_store("x.zarr.zip")
    monkeypatch.chdir("/")
    check(store)


def test_url_opens_it_again(path):
    for store in (ZipStore(path), ZipStore(path, prefix="sub"), ZipStore((LocalStore(path.parent), path.name))):
        assert str(path) in store.url
        check(open_store(store.url), prefix="sub/" if store.prefix else "")


def test_folder_with_such_a_name_is_a_folder(tmp_path):
    (tmp_path / "x.zip").mkdir()
    assert isinstance(open_store(tmp_path / "x.zip"), LocalStore)


def test_writing(tmp_path):
    with open_store(tmp_path / "new.zip") as store:
        store.write("k", b"1")
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        assert archive.read("k") == b"1"
    with pytest.raises(ReadOnlyError):
        open_store(tmp_path / "new.zip", read_only=True).write("k", b"2")


def test_in_an_fsspec_filesystem():
    fs = fsspec.filesystem("memory")
    fs.pipe("/folder/x.zip", zipped())
    try:
        check(open_store("memory://folder/x.zip"))
        check(open_store("zip://sub::memory://folder/x.zip"), prefix="sub/")
        fs.pipe("/x.zip", zipped())
        check(open_store("memory://x.zip"))
        store = open_store("memory://folder/x.zip")
        assert store.read_only
        with pytest.raises(ReadOnlyError):
            store.write("k", b"1")
        with pytest.raises(StoreError, match="no such archive"):
            open_store("memory://folder/y.zip").get("k")
    finally:
        fs.rm("/folder", recursive=True)
        fs.rm("/x.zip")


def test_through_a_chain(path, tmp_path):
    options = {"simplecache": {"cache_storage": str(tmp_path / "cache")}}
    check(open_zip(f"simplecache::file://{path}", storage_options=options))
    check(open_store(f"zip://sub::simplecache::file://{path}", storage_options=options), prefix="sub/")
    assert any((tmp_path / "cache").iterdir())


def test_an_archive_in_an_archive(path):
    outer = path.with_name("outer.zip")
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(path, "inner.zip")
    store = ZipStore((ZipStore(outer, read_only=True), "inner.zip"), prefix="sub")
    check(store, prefix="sub/")


@pytest.mark.parametrize("url", ["zip://", "zip://::", "zip://a::s3://"])
def test_no_archive_at_all(url):
    with pytest.raises(UnsupportedError):
        open_store(url)


def test_options_that_are_none(path):
    with pytest.raises(UnsupportedError):
        open_store(path, storage_options={"anon": True})
    with pytest.raises(ReadOnlyError):
        ZipStore((LocalStore(path.parent), path.name), read_only=False)


# -- on servers --------------------------------------------------------------------------------------------------------


@dataclass
class FileServer(LoopbackServer):
    """A folder with ranges and ETags, and a log of what was asked."""

    folder: Path
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        LoopbackServer.__init__(self)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.log.append(f"{request.method} {request.headers.get('Range', '')}")
        path = self.folder / request.path.lstrip("/")
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)


@pytest.fixture
def server(path) -> Iterator[FileServer]:
    with FileServer(path.parent) as server:
        yield server


@pytest.mark.server
def test_on_a_web_server(server, path):
    store = open_store(f"{server.url}/x.zarr.zip?token=1")
    assert store.size("zarr.json") == 2
    assert [entry.key for entry in store.list("sub")] == ["sub/c/0", "sub/zarr.json"]
    assert server.log == ["GET bytes=-131072"]
    assert bytes(store.get("sub/c/0").data) == ITEMS["sub/c/0"]
    assert len(server.log) == 2
    assert bytes(store.get("sub/c/0", Tail(10)).data) == ITEMS["sub/c/0"][-10:]
    assert len(server.log) == 3
    old = store.get("zarr.json")
    path.write_bytes(zipped({"zarr.json": b"new"}))
    assert bytes(store.get("zarr.json").data) == b"new"
    assert store.get("zarr.json").version != old.version
    path.rename(path.with_name("sp ace%.zip"))
    assert open_store(f"{server.url}/sp%20ace%25.zip").size("zarr.json") == 3


@pytest.mark.server
@pytest.mark.parametrize("server", ["strict_s3", "moto", "strict_gcs", "gcs_emulator"])
def test_on_a_service(request: pytest.FixtureRequest, server: str, prefix: str):
    endpoint: Endpoint = request.getfixturevalue(server)
    cls, scheme = (GCSStore, "gs") if "gcs" in server else (S3Store, "s3")
    url = f"{scheme}://{endpoint.bucket}/{prefix}"
    with cls(url, storage_options=endpoint.storage_options) as outer:
        outer.write("x.zip", zipped())
        recorded = RecordingStore(outer)
        store = ZipStore((recorded, "x.zip"))
        store.list_dir()
        assert (recorded.n_rounds, recorded.n_requests) == (1, 1)
        old, *_ = store.read([Read(key) for key in ITEMS])
        assert recorded.n_rounds == 2
        outer.write("x.zip", zipped({**ITEMS, "more": b"1"}))
        assert store.get("zarr.json") is not None
        assert store.size("more") == 1
        assert isinstance(old, Blob)
        with pytest.raises(VersionChangedError):
            store.get("zarr.json", version=old.version)
    with open_store(f"zip://sub::{url}/x.zip", storage_options=endpoint.storage_options) as opened:
        check(opened, prefix="sub/")
    with open_store(f"zip://sub::{url}/x.zip", storage_options={scheme: endpoint.storage_options}) as opened:
        check(opened, prefix="sub/")


@pytest.mark.server
class TestZipOnS3(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, strict_s3: Endpoint) -> None:
        self.endpoint = strict_s3

    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        url = f"s3://{self.endpoint.bucket}/zips/{next(_numbers)}"
        outer = S3Store(url, storage_options=self.endpoint.storage_options)
        outer.write("x.zip", zipped(items))
        return ZipStore((outer, "x.zip"))


@pytest.mark.parametrize("remote", [False, True])
def test_nodes_of_an_archive_that_is_not_there_are_not_found(tmp_path: Path, remote: bool) -> None:
    place = f"memory://{tmp_path.name}/none.zip" if remote else tmp_path / "none.zip"
    for opened in (zarrdock.open, zarrdock.open_array, zarrdock.open_group):
        with pytest.raises(NodeNotFoundError, match="no such archive"):
            opened(place)
