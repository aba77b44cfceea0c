"""Any fsspec filesystem as a store, and the base of the stores that speak a service's own language through fsspec.

The logic is written once, as coroutines. On an asynchronous filesystem they run on fsspec's IO loop, many at a time; on a synchronous one in the
calling thread (or a few threads, where it is remote).
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import fsspec
import fsspec.core
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from zarrdock.errors import (
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.ranges import From, Range, Span, Tail, is_empty, resolve
from zarrdock.stores import fsspec_files as files
from zarrdock.stores.base import (
    Blob,
    Change,
    Entry,
    Listing,
    Read,
    Result,
    Results,
    Store,
    Traits,
    Value,
    Version,
    check_key,
    check_prefix,
)
from zarrdock.stores.bridge import Bridge, Live, key_lock
from zarrdock.stores.retry import RetryPolicy, is_slow_down
from zarrdock.stores.translate import TruncatedError, cause_of, redact, translate

__all__ = ["FsspecStore", "as_bytes"]

T = TypeVar("T")

_ON_THIS_MACHINE = {"file", "local", "memory", "zip", "tar", "libarchive", "data", "git"}
_READ_ONLY = {"http", "https", "github", "gist", "git", "reference", "data", "tar", "libarchive", "jupyter"}


def as_bytes(value: Value) -> bytes:
    """A value, in one part or several, as bytes that nobody else can change."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (list, tuple)):
        return b"".join(value)
    return bytes(memoryview(value))  # type: ignore[arg-type]


def protocol_of(fs: AbstractFileSystem) -> str:
    """The first name of the filesystem's protocol."""
    return str(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0])


def _unwrap(fs: AbstractFileSystem, path: str) -> tuple[AbstractFileSystem, str]:
    """Look through wrappers that add nothing a store does not do itself, and hide what their inner filesystem can."""
    while True:
        if type(fs) is DirFileSystem:
            path = fs._join(path) if path else fs.path
            fs = fs.fs
        elif isinstance(fs, AsyncFileSystemWrapper):
            fs = fs.sync_fs
        else:
            return fs, path


class FsspecStore(Store):
    """A store on an fsspec filesystem.

    Args:
        fs: a filesystem, or a URL (chained ones too, ``simplecache::s3://...``).
        path: folder within the filesystem that is the root; only with a filesystem.
        storage_options: options of the filesystem; only with a URL.
        read_only: refuse every mutating verb.
        assume_single_writer: make ``update`` a plain read and write under a lock of this process, where the filesystem has nothing atomic. Whoever sets it
            promises that no other process writes the same keys.
        retry: when to try again.
        n_concurrent: requests in flight at most, over all users of this store object.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request.

    Generic filesystems have no versions and no conditional requests: blobs carry no version, and ``create_only`` and ``update`` are
    safe against this process only. On local files, values are written beside the key and renamed over it.
    """

    default_concurrency = 32
    default_gap_bytes = 32 * 1024

    def __init__(
        self,
        fs: AbstractFileSystem | str | os.PathLike[str],
        path: str = "",
        *,
        storage_options: dict[str, Any] | None = None,
        read_only: bool = False,
        assume_single_writer: bool = False,
        retry: RetryPolicy | None = None,
        n_concurrent: int | None = None,
        merge_gap_bytes: int | None = None,
    ) -> None:
        if not isinstance(fs, AbstractFileSystem):
            if path:
                raise UnsupportedError("give either a URL, or a filesystem and a path")
            fs, path = self._from_url(os.fspath(fs), dict(storage_options or {}))
        elif storage_options:
            raise UnsupportedError("storage_options go with a URL; a filesystem has its options already")
        fs, path = _unwrap(fs, path)
        self._protocol = protocol_of(fs)
        self._root = str(fs._strip_protocol(path)).rstrip("/") if path else ""
        self._is_local = isinstance(fs, LocalFileSystem)
        if self._is_local and not path:
            self._root = str(fs._strip_protocol(""))
        self._url = redact(fs.unstrip_protocol(self._root)) if self._root else f"{self._protocol}://"
        self.read_only = read_only
        self.assume_single_writer = assume_single_writer
        self.retry = retry or RetryPolicy()
        remote = self._protocol not in _ON_THIS_MACHINE
        n = n_concurrent or (self.default_concurrency if remote else 1)
        gap = merge_gap_bytes if merge_gap_bytes is not None else (self.default_gap_bytes if remote else 4096)
        self._bridge = Bridge(fs, remote=remote, n_concurrent=n)
        if not self._bridge.is_async:
            n = min(n, 8)  # threads
        self.traits = self._make_traits(Traits(remote=remote, merge_gap_bytes=gap, n_concurrent=n))

    def _from_url(self, url: str, storage_options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
        try:
            fs, path = fsspec.core.url_to_fs(url, **storage_options)
        except Exception as error:
            raise translate(error, store=redact(url)) from cause_of(error)
        return fs, path

    def _make_traits(self, traits: Traits) -> Traits:
        """The traits of this kind of store; ``traits`` has what the constructor was given."""
        return replace(traits, writable=self._protocol not in _READ_ONLY)

    # -- what other rooms use ----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return self._url

    @property
    def fs(self) -> AbstractFileSystem:
        """The filesystem, usable in this process."""
        return self._bridge.live().fs

    @property
    def root(self) -> str:
        """The folder within the filesystem."""
        return self._root

    def submit_read(self, requests: Sequence[Read], /) -> concurrent.futures.Future[Results] | None:
        """Start a read on the IO loop and return its future; None where the filesystem is not asynchronous. Errors as :meth:`read`."""
        wanted = self._checked(requests)
        if not self._bridge.is_async:
            return None
        return self._bridge.submit(lambda live: self._read_batch(live, wanted))

    # -- the contract ------------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        wanted = self._checked(requests)
        if not wanted:
            return []
        return self._bridge.run(lambda live: self._read_batch(live, wanted))

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        self._check_key(key)
        self._check_writable(key)
        data = as_bytes(value)
        return self._bridge.run(lambda live: self._write(live, key, data, create_only))

    def update(self, key: str, change: Change, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        if not self.assume_single_writer:
            raise UnsupportedError(
                f"{self.url} cannot replace a value atomically, so concurrent writers of {key!r} would lose each other's changes; write whole "
                "shards or chunks, or promise a single writer with unsafe_concurrent_writes=True on the array "
                "(FsspecStore(..., assume_single_writer=True) on the store)"
            )
        with key_lock(self._lock_name(key)):
            blob = self.get(key)
            old = None if blob is None else blob.data
            new = change(old)
            if new is None:
                if old is not None:
                    self._run_unlocked(lambda live: self._delete_one(live, key))
            elif new is not old:
                data = as_bytes(new)
                self._run_unlocked(lambda live: self._put(live, key, data, False))

    def delete(self, key: str, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        self._bridge.run(lambda live: self._delete_one(live, key))

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        self._bridge.run(lambda live: self._delete_below(live, prefix))

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = check_prefix(prefix, self)
        return iter(self._bridge.run(lambda live: self._find(live, prefix)))

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        return self._bridge.run(lambda live: self._list_level(live, prefix))

    def size(self, key: str, /) -> int | None:
        self._check_key(key)
        return self._bridge.run(lambda live: self._size(live, key))

    # -- hooks: coroutines a store for one service overrides ---------------------------------------------------------------

    async def _read_one(self, live: Live, read: Read) -> Result:
        """Answer one read whose key is good and whose range is not empty."""

        async def request() -> Result:
            data = await self._cat(live, read.key, read.range)
            if data is None:
                return None
            if read.version is not None:
                return VersionChangedError("this store has no versions", key=read.key, store=self)
            return Blob(data)

        return await self._request(live, read.key, request, n_bytes=_n_bytes(read.range))

    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        """Write a whole value; with ``create_only`` raise KeyExistsError where there is one. Called under the key's lock of this process."""
        path = self._path(key)

        async def request() -> None:
            if self._is_local:
                files.replace_file(path, data, create_only)
                return
            if create_only and await self._size_once(live, key) is not None:
                raise FileExistsError(path)
            options = {"mode": "create"} if create_only and files.takes_mode(live.fs) else {}
            await live.call("pipe_file", path, data, **options)

        try:
            await self._request(live, key, request, n_bytes=len(data))
        except FileExistsError as error:
            if isinstance(error, ZarrdockError) or not create_only:
                raise
            raise KeyExistsError("the key exists already", key=key, store=self) from error
        return None

    async def _delete_one(self, live: Live, key: str) -> None:
        """Remove one key; it need not exist."""
        path = self._path(key)

        async def request() -> None:
            try:
                await live.call("rm_file", path)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return
            if self._is_local:
                files.prune_empty_folders(path, self._root)

        await self._request(live, key, request)

    async def _delete_below(self, live: Live, prefix: str) -> None:
        """Remove all keys below a prefix. Key by key: recursive removal by path expands wildcards and takes the prefix itself along."""
        keys = [entry.key for entry in await self._find(live, prefix)]
        await live.gather(lambda key: self._delete_one(live, key), keys)

    async def _find(self, live: Live, prefix: str) -> list[Entry]:  # type: ignore[valid-type]
        """All entries below a prefix."""
        path = self._path(prefix)

        async def request() -> dict[str, dict[str, Any]]:
            live.fs.invalidate_cache()
            try:
                found: dict[str, dict[str, Any]] = await live.call("find", path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
            return found

        infos = await self._request(live, prefix, request)
        entries = []
        for name, info in infos.items():
            key = self._key(name)
            if info.get("type") != "directory" and self._is_listed(key, prefix):
                entries.append(Entry(key, _size_of(info)))
        return entries

    async def _list_level(self, live: Live, prefix: str) -> Listing:
        """One level below a prefix."""
        path = self._path(prefix)

        async def request() -> Sequence[dict[str, Any]]:
            live.fs.invalidate_cache()
            try:
                infos: Sequence[dict[str, Any]] = await live.call("ls", path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return infos

        keys, prefixes = set(), set()
        for info in await self._request(live, prefix, request):
            key = self._key(str(info["name"]).rstrip("/"))
            if not self._is_listed(key, prefix):
                continue
            name = key[len(prefix) + 1 :] if prefix else key
            if "/" in name:
                continue
            if info.get("type") == "directory":
                prefixes.add(name)
            elif not str(info["name"]).endswith("/"):
                keys.add(name)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    async def _size(self, live: Live, key: str) -> int | None:
        """Size of a key, None where it does not exist."""
        return await self._request(live, key, lambda: self._size_once(live, key))

    # -- for the hooks -----------------------------------------------------------------------------------------------------

    async def _request(
        self, live: Live, key: str, request: Callable[[], Awaitable[T]], *, n_bytes: int = 0
    ) -> T:
        """Send one request: inside the store's limits, tried again as the policy says, with errors of our own kind.

        FileExistsError is passed on as it is.
        """

        async def attempt(seconds: float) -> T:
            return await live.attempt(request, seconds, n_bytes, is_slow_down)

        try:
            return await self.retry.call(attempt, sleep=live.sleep)
        except (ZarrdockError, FileExistsError):
            raise
        except Exception as error:
            raise translate(error, key=key, store=self) from cause_of(error)

    def _path(self, key: str) -> str:
        """Where a key is in the filesystem; the root for ""."""
        if not key:
            return self._root
        return f"{self._root.rstrip('/')}/{key}" if self._root else key

    def _key(self, name: str) -> str:
        """The key of a name the filesystem lists, "" for what is not below the root."""
        name, root = name.lstrip("/"), self._root.strip("/")
        if not root:
            return name
        return name[len(root) + 1 :] if name.startswith(root + "/") else ""

    def _is_listed(self, key: str, prefix: str) -> bool:
        if not key or key.endswith("/") or (prefix and not key.startswith(prefix + "/")):
            return False
        return not (self._is_local and key.endswith(files.HIDDEN))

    def _check_key(self, key: str) -> None:
        check_key(key, self)
        if self._is_local and key.endswith(files.HIDDEN):
            raise InvalidKeyError(f"names that end in {files.HIDDEN} are kept for files being written", key=key, store=self)

    def _checked(self, requests: Sequence[Read]) -> Sequence[Read]:
        for read in requests:
            self._check_key(read.key)
        return requests

    def _lock_name(self, key: str) -> str:
        return f"{self._protocol}:{self._path(key)}"

    def _run_unlocked(self, job: Callable[[Live], Coroutine[Any, Any, Any]]) -> None:
        self._bridge.run(job)

    async def _read_batch(self, live: Live, requests: Sequence[Read]) -> Results:
        results: Results = [Blob(b"") if is_empty(read.range) else None for read in requests]
        wanted = [i for i, read in enumerate(requests) if not is_empty(read.range)]
        if wanted:
            answers = await live.gather(lambda i: self._read_one(live, requests[i]), wanted)
            for i, answer in zip(wanted, answers, strict=True):
                results[i] = answer
        return results

    async def _write(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        return await self._put(live, key, data, create_only)

    async def _size_once(self, live: Live, key: str) -> int | None:
        live.fs.invalidate_cache()
        try:
            info = await live.call("info", self._path(key))
        except (FileNotFoundError, NotADirectoryError, KeyError):
            return None
        if info.get("type") == "directory":
            return None
        size = _size_of(info)
        if size is None:  # some servers don't tell
            size = len(await live.call("cat_file", self._path(key)))
        return size

    async def _cat(self, live: Live, key: str, range_: Range) -> bytes | None:
        """The bytes of a range, checked against its length: generic filesystems send too little or too much without a word."""
        path = self._path(key)
        size: int | None = None
        if isinstance(range_, Tail):  # a negative start is not safe beyond the beginning in every filesystem
            size = await self._size_once(live, key)
            if size is None or size == 0:
                return None if size is None else b""
            range_ = Span(max(0, size - range_.n), size)
        try:
            match range_:
                case None:
                    return bytes(await live.call("cat_file", path))
                case Span(start, stop):
                    data = bytes(await live.call("cat_file", path, start=start, end=stop))
                    if len(data) == stop - start:
                        return data
                case From(start):
                    data = bytes(await live.call("cat_file", path, start=start, end=None))
        except (IsADirectoryError, NotADirectoryError, FileNotFoundError, KeyError):
            return None
        except OSError as error:
            data = await self._beyond_end(live, key, range_, error)
        # Fewer bytes than asked for are right at the end of the object only, and more never: its size decides.
        size = await self._size_once(live, key)
        if size is None:
            return None
        span = resolve(range_, size)
        if span is None:
            raise RangeError(f"the range starts at or beyond the end of an object of {size} bytes", key=key, store=self)
        n = span[1] - span[0]
        if len(data) == n:
            return data
        if len(data) == size:  # the range was ignored
            return data[span[0] : span[1]]
        if len(data) < n:
            raise TruncatedError(f"{len(data)} bytes came instead of {n}")
        raise StoreError(f"{len(data)} bytes came instead of the {n} asked for", key=key, store=self)

    async def _beyond_end(self, live: Live, key: str, range_: Range, error: OSError) -> bytes:
        """Some filesystems raise for a range beyond the end: no data then, if that is what it was."""
        if isinstance(range_, (Span, From)) and not isinstance(error, PermissionError):
            size = await self._size_once(live, key)
            if size is not None and range_.start >= size:
                return b""
        raise error


def _size_of(info: dict[str, Any]) -> int | None:
    size = info.get("size")
    return None if size is None else int(size)


def _n_bytes(range_: Range) -> int:
    """Bytes a read may bring, as far as it says; a guess of one megabyte otherwise."""
    match range_:
        case Span(start, stop):
            return stop - start
        case Tail(n):
            return n
        case _:
            return 2**20
