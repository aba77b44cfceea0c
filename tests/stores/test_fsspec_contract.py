"""The contract over fsspec filesystems: memory, local files, an asynchronous one, and mappings."""

import asyncio
import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem

from support.loopback import LoopbackServer
from zarrdock.stores.base import Store
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.mapping import MappingStore
from zarrdock.testing.contract import AsyncStoreContract, StoreContract
from zarrdock.testing.machine import store_machine

_serial = itertools.count()


class AsyncMemory(AsyncFileSystem):
    """An object store in memory, asynchronous, with folders only as far as keys imply them."""

    protocol = "asyncmemory"
    objects: ClassVar[dict[str, bytes]] = {}  # by path, for all instances: one made anew finds what was written

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        await asyncio.sleep(0)
        try:
            return self.objects[path][start:end]
        except KeyError:
            raise FileNotFoundError(path) from None

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        await asyncio.sleep(0)
        if mode == "create" and path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = bytes(value)

    async def _rm_file(self, path: str, **_: Any) -> None:
        if self.objects.pop(path, None) is None:
            raise FileNotFoundError(path)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        path = path.rstrip("/")
        if path in self.objects:
            return {"name": path, "size": len(self.objects[path]), "type": "file"}
        if any(key.startswith(path + "/") for key in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        start = path.rstrip("/") + "/"
        infos = {}
        for key, value in list(self.objects.items()):
            if key.startswith(start):
                name, slash, _rest = key[len(start) :].partition("/")
                kind = "directory" if slash else "file"
                infos[start + name, kind] = {"name": start + name, "size": 0 if slash else len(value), "type": kind}
        if not infos:
            raise FileNotFoundError(path)
        return [*infos.values()] if detail else [info["name"] for info in infos.values()]


def memory_store(**options: Any) -> FsspecStore:
    return FsspecStore(f"memory://contract{next(_serial)}", **options)


class TestMemoryFileSystem(StoreContract):
    def make_store(self) -> Store:
        return memory_store()


class TestMemoryFileSystemAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return memory_store()


class SingleWriter(StoreContract):
    updates = True


class TestMemoryFileSystemSingleWriter(SingleWriter):
    def make_store(self) -> Store:
        return memory_store(assume_single_writer=True)


class InFolders:
    """Stores in temporary folders that go when the test is over."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def new_folder(self) -> str:
        return tempfile.mkdtemp(dir=self.folder)


class TestLocalFileSystem(InFolders, SingleWriter):
    def make_store(self) -> Store:
        return FsspecStore(fsspec.filesystem("file"), self.new_folder(), assume_single_writer=True)


class TestLocalFileSystemByURL(InFolders, StoreContract):
    def make_store(self) -> Store:
        return FsspecStore(f"file://{self.new_folder()}/not/yet/there")


class TestWrappedLocalFileSystem(InFolders, AsyncStoreContract):
    def make_store(self) -> Store:
        wrapper = AsyncFileSystemWrapper(fsspec.filesystem("file"), asynchronous=False)
        return FsspecStore(DirFileSystem(self.new_folder(), wrapper), "sub")


class TestAsyncFileSystem(SingleWriter):
    def make_store(self) -> Store:
        return FsspecStore(AsyncMemory(), f"bucket{next(_serial)}/root", assume_single_writer=True)

    def test_fork(self) -> None:
        # What the child writes is in its own memory: it is the same contract otherwise.
        super().test_fork()


class TestAsyncFileSystemAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return FsspecStore(AsyncMemory(), f"bucket{next(_serial)}")


class TestAsynchronousInstance(AsyncStoreContract):
    """A filesystem made for somebody's own event loop."""

    def make_store(self) -> Store:
        async def make() -> AsyncMemory:
            return AsyncMemory(asynchronous=True)

        return FsspecStore(asyncio.run(make()), f"bucket{next(_serial)}")


class TestReadOnly(StoreContract):
    def make_store(self) -> Store:
        return memory_store(read_only=True)

    def fill(self, items: Mapping[str, bytes]) -> Store:
        writer = memory_store()
        for key, value in items.items():
            writer.write(key, value)
        return FsspecStore(writer.fs, writer.root, read_only=True)


class TestDict(StoreContract):
    def make_store(self) -> Store:
        return MappingStore({})


class TestDictAsync(AsyncStoreContract):
    def make_store(self) -> Store:
        return MappingStore({})


class FileServer(LoopbackServer):
    """A web server with strong ETags, over a dictionary."""

    def __init__(self, items: Mapping[str, bytes]) -> None:
        super().__init__()
        self.items = {f"/data/{key}": value for key, value in items.items()}

    async def handle(self, request: Any) -> Any:
        from aiohttp import web

        data = self.items.get(request.path)
        if data is None:
            return web.Response(status=404)
        headers = {"ETag": f'"{hash(data):x}"'}
        if request.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            return web.Response(status=412)
        wanted = request.headers.get("Range")
        if wanted is None:
            return web.Response(body=data, headers=headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        if start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return web.Response(status=206, body=data[start:stop], headers=headers)


class OverHTTP:
    """Read half: a server a store."""

    @pytest.fixture(autouse=True)
    def _servers(self) -> Any:
        self.servers: list[FileServer] = []
        yield
        for server in self.servers:
            server.__exit__()

    def make_store(self) -> Store:
        return self.fill({})

    def fill(self, items: Mapping[str, bytes]) -> Store:
        server = FileServer(items)
        self.servers.append(server)
        server.__enter__()
        return HTTPStore(f"{server.url}/data")


class TestHTTP(OverHTTP, StoreContract):
    pass


class TestHTTPAsync(OverHTTP, AsyncStoreContract):
    pass


TestMemoryMachine = store_machine(lambda: memory_store(assume_single_writer=True))
TestAsyncMachine = store_machine(
    lambda: FsspecStore(AsyncMemory(), f"bucket{next(_serial)}", assume_single_writer=True), n_examples=10
)
TestDictMachine = store_machine(lambda: MappingStore({}), n_examples=10)
