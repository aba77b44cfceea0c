"""File servers by fsspec: SFTP by two libraries, WebDAV."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint, sftp_server, webdav_server
from zarrdock.stores.base import Store
from zarrdock.stores.fsspec_ import HIDDEN, FsspecStore
from zarrdock.testing.contract import StoreContract

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def sftp(folder: Path) -> Iterator[Endpoint]:
    pytest.importorskip("asyncssh")
    with sftp_server(folder) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def webdav(folder: Path) -> Iterator[Endpoint]:
    pytest.importorskip("wsgidav")
    with webdav_server(folder) as endpoint:
        yield endpoint


def by_sshfs(endpoint: Endpoint, path: str) -> Any:
    sshfs = pytest.importorskip("sshfs")
    return sshfs.SSHFileSystem(**endpoint.storage_options, known_hosts=None), path


def by_paramiko(endpoint: Endpoint, path: str) -> Any:
    pytest.importorskip("paramiko")
    from fsspec.implementations.sftp import SFTPFileSystem

    return SFTPFileSystem(**endpoint.storage_options), path


def by_webdav4(endpoint: Endpoint, path: str) -> Any:
    found = pytest.importorskip("webdav4.fsspec")
    return found.WebdavFileSystem(**endpoint.storage_options), path


class OnServer(StoreContract):
    """The promise of a single writer; the server's folder is the store's."""

    updates = True
    make: ClassVar[Any]
    server: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _server(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self.endpoint = request.getfixturevalue(self.server)
        self.folder = folder

    def make_store(self) -> Store:
        name = Path(tempfile.mkdtemp(dir=self.folder)).name
        fs, path = type(self).make(self.endpoint, f"/{name}")
        return FsspecStore(fs, path, assume_single_writer=True)


class TestSFTPBySshfs(OnServer):
    make = staticmethod(by_sshfs)
    server = "sftp"


@pytest.mark.slow
class TestSFTPByParamiko(OnServer):
    make = staticmethod(by_paramiko)
    server = "sftp"

    @pytest.mark.skip("minutes: one small packet after another")
    def test_no_reader_sees_a_mixture(self) -> None: ...

    @pytest.mark.skip("minutes: one small packet after another")
    def test_no_reader_sees_a_mixture_of_updates(self) -> None: ...


class TestWebDAV(OnServer):
    make = staticmethod(by_webdav4)
    server = "webdav"

    @staticmethod
    def cannot_name(key: str) -> bool:
        return any(letter in key for letter in "%?#")

    @pytest.mark.skip("an empty folder stays")
    def test_update_to_nothing_deletes(self) -> None: ...

    @pytest.mark.skip("WebDAV removes a folder with all that is in it, also what was put there just now: it stays")
    def test_prefixes_go_with_their_keys(self) -> None: ...

    @pytest.mark.skip("the server writes in place")
    def test_no_reader_sees_a_mixture(self) -> None: ...

    @pytest.mark.skip("the server writes in place")
    def test_no_reader_sees_a_mixture_of_updates(self) -> None: ...


# -- beyond the contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make,server", [(by_paramiko, "sftp"), (by_sshfs, "sftp"), (by_webdav4, "webdav")])
def test_several_stores_over_one_filesystem_read_from_threads(
    make: Any, server: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    """paramiko's connection gives one thread's answer to another, which then waits for ever."""
    fs, path = make(request.getfixturevalue(server), f"/{Path(tempfile.mkdtemp(dir=folder)).name}")
    stores = [FsspecStore(fs, path) for _ in range(3)]
    data = np.arange(64 * 64, dtype="i4").reshape(64, 64)
    zarrdock.create_array(stores[0], data=data, chunks=(10, 10))
    found = []

    def read(store: Store) -> None:
        found.append(zarrdock.open_array(store)[...])

    threads = [threading.Thread(target=read, args=(store,), daemon=True) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 3
    for each in found:
        np.testing.assert_array_equal(each, data)


@pytest.mark.parametrize("make,server", [(by_paramiko, "sftp"), (by_sshfs, "sftp"), (by_webdav4, "webdav")])
def test_deleting_a_key_leaves_the_keys_below_it(
    make: Any, server: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    fs, path = make(request.getfixturevalue(server), f"/{Path(tempfile.mkdtemp(dir=folder)).name}")
    store = FsspecStore(fs, path)
    store.write("a/b/c", b"1")
    store.delete("a")
    store.delete_many(["a/b", "x"])
    assert [entry.key for entry in store.list()] == ["a/b/c"]


def test_a_server_without_posix_rename_is_written_to_in_place(sftp: Endpoint, folder: Path, monkeypatch: Any) -> None:
    fs, path = by_sshfs(sftp, f"/{Path(tempfile.mkdtemp(dir=folder)).name}")
    store = FsspecStore(fs, path)

    async def refuse(*_: Any, **__: Any) -> None:
        raise OSError("unsupported")

    monkeypatch.setattr(fs, "_mv", refuse)
    for value in (b"one", b"two"):
        store.write("k", value)
        assert bytes(store.get("k").data) == value  # type: ignore[union-attr]
    assert [name for name in (folder / path[1:]).iterdir() if name.name.endswith(HIDDEN)] == []


def test_stores_name_their_server(sftp: Endpoint) -> None:
    options = {name: value for name, value in sftp.storage_options.items() if name != "host"}
    store = zarrdock.open_store("sftp://127.0.0.1/folder/a.zarr", storage_options={**options, "known_hosts": None})
    assert store.url in ("sftp://127.0.0.1/folder/a.zarr", "ssh://127.0.0.1/folder/a.zarr")
