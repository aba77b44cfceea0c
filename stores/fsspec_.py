"""Any fsspec filesystem as a store.

The logic is written once, as coroutines. On an asynchronous filesystem they run on fsspec's IO loop, many at a time; on
a synchronous one in the calling thread, or in a few threads where it is remote.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import re
import sys
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import fsspec.core
from fsspec.asyn import AsyncFileSystem
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
from zarrdock.ranges import From, Range, Span, Tail, resolve
from zarrdock.stores.base import Blob, Entry, Listing, Read, Result, Traits, Version, attempts
from zarrdock.stores.diagnose import TruncatedError, cause_of, diagnose, redact, translate
from zarrdock.stores.identity import Identity, identity_of_filesystem
from zarrdock.stores.io_loop import Live, is_async
from zarrdock.stores.local_files import is_missing
from zarrdock.stores.remote import Entries, RemoteStore, as_bytes, key_locks, nbytes_of
from zarrdock.stores.retry import RetryPolicy

__all__ = [
    "HIDDEN",
    "FsspecStore",
    "as_bytes",
    "from_url",
    "install_hint",
    "place_of",
    "protocol_of",
    "prune_empty_folders",
    "replace_file",
    "takes_mode",
    "unwrap",
]


# -- What a store on an fsspec filesystem does itself for plain files, because fsspec writes in place.

# The name LocalStore gives to files being written, so that neither store lists the other's.
HIDDEN = ".__lock"


def replace_file(path: str, data: bytes, create_only: bool) -> None:
    """Write ``data`` beside ``path`` and give it that name in one step.

    Raises:
        FileExistsError: with ``create_only`` where the file exists.
    """
    for last in (False, True):
        try:
            _replace_file(Path(path), data, create_only)
            return
        except FileNotFoundError:  # another process removed the folder, or the file, in between
            if last:
                raise


def _replace_file(path: Path, data: bytes, create_only: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short whatever the key, to stay within the file system's limit on names.
    temporary = path.parent / f".{uuid.uuid4().hex}{HIDDEN}"
    try:
        with open(temporary, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        if create_only:
            path.hardlink_to(temporary)  # fails where the name is taken, in one step
        else:
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def prune_empty_folders(path: str, root: str) -> None:
    """Remove the folders above ``path`` and below ``root`` that became empty: object stores have no empty folders."""
    top = root.rstrip("/") + "/"
    for folder in Path(path).parents:
        if not str(folder).startswith(top):
            return
        try:
            folder.rmdir()
        except OSError:
            return


def takes_mode(fs: AbstractFileSystem) -> bool:
    """True where ``pipe_file`` knows ``mode="create"``."""
    method = fs._pipe_file if isinstance(fs, AsyncFileSystem) else fs.pipe_file
    return "mode" in inspect.signature(method).parameters


_ON_THIS_MACHINE = {"file", "local", "memory", "zip", "tar", "libarchive", "data", "git"}
_READ_ONLY = {"http", "https", "github", "gist", "git", "reference", "data", "tar", "libarchive", "jupyter"}

# Filesystems of which it is known that removing a file removes no folder: WebDAV's takes all that is in it along.
_REMOVE_FILES_ONLY = {"file", "local", "memory", "sftp", "ssh", "ftp", "smb"}

# Their libraries (paramiko, ftplib) have one connection, on which threads take each other's answers and wait for ever.
_ONE_AT_A_TIME = {"sftp", "ssh", "ftp"}
_NAMES_ARE_URLS = {"webdav", "dav"}
_NO_NAMES = frozenset("%?#")

_NATIVE_TAILS = {"file", "local", "memory"}
# Filesystems that write in place, so that a reader could see half a value and a kill leave one, but rename a file over
# another in one step.
_RENAME_OVER = {"sftp", "ssh"}

# What a filesystem raises where there is nothing to read at a path. KeyError: those that wrap a mapping.
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, KeyError)


def protocol_of(fs: AbstractFileSystem) -> str:
    """The first name of the filesystem's protocol."""
    name = str(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0])
    # The filesystem of sshfs has none before fsspec has made one from a URL.
    return "ssh" if name == "abstract" and type(fs).__module__.startswith("sshfs") else name


def unwrap(fs: AbstractFileSystem, path: str) -> tuple[AbstractFileSystem, str]:
    """Look through wrappers that add nothing a store does not do itself, and hide what their inner filesystem can."""
    while True:
        if type(fs) is DirFileSystem:
            path = fs._join(path) if path else fs.path
            fs = fs.fs
        elif isinstance(fs, AsyncFileSystemWrapper):
            fs = fs.sync_fs
        else:
            return fs, path


class Located(NamedTuple):
    """A folder of a filesystem, and its URL without secrets."""

    fs: AbstractFileSystem
    root: str
    url: str


def place_of(
    fs: AbstractFileSystem | str | os.PathLike[str],
    path: str,
    storage_options: Mapping[str, Any] | None,
    from_url: Callable[[str, dict[str, Any]], tuple[AbstractFileSystem, str]],
) -> Located:
    """The folder that a URL with its options names, or a path on a filesystem."""
    given = ""
    if not isinstance(fs, AbstractFileSystem):
        given = os.fspath(fs)
        if path:
            raise UnsupportedError("give either a URL, or a filesystem and a path")
        fs, path = from_url(given, dict(storage_options or {}))
    elif storage_options:
        raise UnsupportedError("storage_options go with a URL; a filesystem has its options already")
    fs, path = unwrap(fs, path)
    root = _root_of(fs, path, keep_slash=isinstance(fs, LocalFileSystem))
    host = fs.storage_options.get("host")
    url = redact(fs.unstrip_protocol(root)) if root else f"{protocol_of(fs)}://"
    if isinstance(host, str) and not url.partition("://")[2].startswith(host):  # not part of paths on it
        url = redact(f"{protocol_of(fs)}://{host}/{root.lstrip('/')}")
    return Located(fs, root, redact(given) if "::" in given else url)


_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    **dict.fromkeys(("http", "https"), "http"),
    **dict.fromkeys(("sftp", "ssh"), "sftp"),
    **dict.fromkeys(("webdav", "dav"), "webdav"),
    "obstore": "obstore",
}


# Python's words for options that a filesystem needs.
_LACKING = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")


def install_hint(url: str) -> str:
    """The end of an error's sentence that says what to install for a URL, a chain of them, or a protocol."""
    wanted = {_EXTRAS.get(part.partition("://")[0].lower()) for part in url.split("::")} - {None}
    return f'; pip install "zarrdock[{",".join(sorted(map(str, wanted)))}]"' if wanted else ""


def from_url(url: str, storage_options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL, chained ones too, and the path on it."""
    try:
        fs, path = fsspec.core.url_to_fs(url, **storage_options)
    except (ImportError, ValueError, TypeError) as error:  # unknown protocol, its library missing, wrong options
        problem, hint = redact(error), install_hint(url) if isinstance(error, ImportError) else ""
        lacking = _LACKING.search(problem) if isinstance(error, TypeError) else None
        if lacking is not None:
            problem = f"storage_options lack {lacking[1]}"
        elif problem.startswith("Protocol not known"):
            scheme = url.partition(":")[0]
            near = difflib.get_close_matches(scheme.lower(), {*fsspec.available_protocols(), *_EXTRAS}, n=1)
            hint = f"; did you mean {near[0]}://?" if near else ""
        raise UnsupportedError(f"cannot open {redact(url)}: {problem}{hint}") from cause_of(error)
    except Exception as error:
        raise translate(error, store=redact(url)) from cause_of(error)
    return fs, path


class FsspecStore(RemoteStore):
    """A store on an fsspec filesystem.

    Args:
        fs: a filesystem, or a URL (chained ones too, ``simplecache::s3://...``).
        path: folder within the filesystem that is the root; only with a filesystem.
        storage_options: options of the filesystem; only with a URL.
        read_only: refuse every mutating verb.
        assume_single_writer: make ``update`` a plain read and write under a lock of this process, where the filesystem
            has nothing atomic. The caller promises that no other process writes the same keys.
        retry: when to try again.
        n_concurrent: requests in flight at most, over all users of this store object. Over FTP, and SFTP by paramiko,
            there is one at a time: ``sshfs``, where it is installed, has many.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request.
        missing_statuses: HTTP statuses that are taken for "no such key" in reads, beside 404 and 410: 403 where listing
            is not allowed. An answer that names the credentials as the reason is never taken so.

    Raises:
        UnsupportedError: no such protocol, or the library for it is not installed. StoreError: wrong options.

    Generic filesystems have no versions and no conditional requests: blobs carry no version, ``update`` is refused, and
    ``create_only`` is safe against this process only. On a filesystem in memory, which only this process can reach,
    both are atomic by a lock of this process; a write past zarrdock does not wait for it. On local files values are
    written beside the key and renamed over it.

    >>> store = zarrdock.FsspecStore("memory://folder")
    >>> _ = store.write("key", b"value")
    >>> bytes(store.get("key").data)
    b'value'
    """

    default_concurrency = 32
    _can_rename = True  # until a server is found that lacks the request for it

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
        missing_statuses: Collection[int] = (),
    ) -> None:
        place = place_of(fs, path, storage_options, from_url)
        self._protocol = protocol_of(place.fs)
        if self._protocol in _ONE_AT_A_TIME and not is_async(place.fs):
            n_concurrent = 1
        self._is_local = isinstance(place.fs, LocalFileSystem)
        self._is_in_process = self._protocol == "memory" and isinstance(getattr(place.fs, "store", None), dict)
        super().__init__(
            place.fs,
            place.root,
            place.url,
            remote=self._protocol not in _ON_THIS_MACHINE,
            read_only=read_only,
            assume_single_writer=assume_single_writer,
            retry=retry,
            n_concurrent=n_concurrent,
            merge_gap_bytes=merge_gap_bytes,
            missing_statuses=missing_statuses,
        )

    def _make_traits(self, traits: Traits) -> Traits:
        """The traits of this kind of store; ``traits`` has what the constructor was given."""
        one_request_tails = self._protocol in _NATIVE_TAILS
        return replace(
            traits,
            writable=self._protocol not in _READ_ONLY,
            atomic_update=self._is_in_process,
            one_request_tails=one_request_tails,
        )

    @property
    def _hides(self) -> bool:
        """True where values are written to files of other names first, which are no keys."""
        return self._is_local or self._protocol in _RENAME_OVER

    @property
    def identity(self) -> Identity:
        """The filesystem by its class and options, without credentials, and the folder on it."""
        fs = self._bridge.fs
        if self._is_local:
            return Identity("file", os.path.realpath(self._root))
        return identity_of_filesystem(fs, self._protocol).below(self._root.lstrip("/"))

    # -- hooks --------------------------------------------------------------------------------------------------

    async def _read_one(self, live: Live, read: Read) -> Result:
        async def request() -> Result:
            data = await self._cat(live, read.key, read.range)
            if data is None:
                return None
            if read.version is not None:
                return VersionChangedError("this store has no versions", key=read.key, store=self)
            return Blob(data)

        return await self._request(live, read.key, request, nbytes=nbytes_of(read.range))

    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        path = self._path(key)

        async def request() -> None:
            if self._is_local:
                replace_file(path, data, create_only)
                return
            if create_only and await self._size_once(live, key) is not None:
                raise FileExistsError(path)
            if self._protocol == "memory" and live.fs.isdir(path):  # it would take both, and then find only one
                raise IsADirectoryError(f"a folder stands at {path}")
            options = {"mode": "create"} if create_only and takes_mode(live.fs) else {}
            if create_only or not await self._rename_over(live, path, data):
                await self._pipe(live, path, data, **options)

        try:
            await self._request(live, key, request, nbytes=len(data))
        except FileExistsError as error:
            if isinstance(error, ZarrdockError):
                raise
            if create_only and await self._size(live, key) is not None:
                raise KeyExistsError("the key exists already", key=key, store=self) from error
            # A file stands where a folder would have to be.
            raise StoreError(f"cannot be written: {redact(error)}", key=key, store=self) from cause_of(error)
        return None

    async def _rename_over(self, live: Live, path: str, data: bytes) -> bool:
        """Write a file beside ``path`` and give it that name in one step; False where the filesystem can't."""
        if self._protocol not in _RENAME_OVER or not self._can_rename:
            return False
        temporary = f"{path.rpartition('/')[0]}/.{uuid.uuid4().hex}{HIDDEN}"
        await self._pipe(live, temporary, data)
        try:
            await live.call("mv", temporary, path)
        except Exception:
            with contextlib.suppress(Exception):
                await live.call("rm_file", temporary)
            await live.call("info", path.rpartition("/")[0])  # raises where the connection is the reason
            self._can_rename = False
            return False
        return True

    async def _pipe(self, live: Live, path: str, data: bytes, **options: Any) -> None:
        try:
            await live.call("pipe_file", path, data, **options)
        except FileNotFoundError:  # of the folder, where the filesystem makes none by itself
            await live.call("makedirs", path.rpartition("/")[0], exist_ok=True)
            await live.call("pipe_file", path, data, **options)

    async def _delete_one(self, live: Live, key: str) -> None:
        path = self._path(key)

        async def request() -> None:
            if self._protocol not in _REMOVE_FILES_ONLY and await self._size_once(live, key) is None:
                return
            try:
                await live.call("rm_file", path)
            except Exception as error:
                if isinstance(error, _MISSING) or await self._is_folder(live, path):
                    return
                raise
            finally:
                _forget(live.fs, path)
            if self._is_local:
                prune_empty_folders(path, self._root)
            elif self._protocol in _RENAME_OVER:
                await self._prune(live, key)

        await self._request(live, key, request)

    async def _prune(self, live: Live, key: str) -> None:
        """Remove the folders above a key that became empty. SFTP refuses it of any other."""
        while "/" in key:
            key = key.rpartition("/")[0]
            try:
                await live.call("rmdir", self._path(key))
            except Exception:
                return

    async def _is_folder(self, live: Live, path: str) -> bool:
        """True for a folder; False for anything else, and where it can't be found out."""
        with contextlib.suppress(Exception):
            return bool((await live.call("info", path)).get("type") == "directory")
        return False

    async def _find(self, live: Live, prefix: str) -> Entries:
        path = self._path(prefix)

        async def request() -> dict[str, dict[str, Any]]:
            live.fs.invalidate_cache()
            try:
                found: dict[str, dict[str, Any]] = await live.call("find", path, detail=True)
            except _MISSING:
                return {}
            return found

        entries = []
        for name, info in (await self._request(live, prefix, request)).items():
            key = self._key(name)
            if info.get("type") != "directory" and self._is_listed(key, prefix):
                entries.append(Entry(key, _size_of(info)))
        return entries

    async def _list_level(self, live: Live, prefix: str) -> Listing:
        path = self._path(prefix)

        async def request() -> Sequence[dict[str, Any]]:
            live.fs.invalidate_cache()
            try:
                found: Sequence[dict[str, Any]] = await live.call("ls", path, detail=True)
            except _MISSING:
                return []
            return found

        keys, prefixes = set(), set()
        for info in await self._request(live, prefix, request):
            listed = str(info["name"])
            key = self._key(listed.rstrip("/"))
            name = key[len(prefix) + 1 :] if prefix else key
            if "/" in name or not self._is_listed(key, prefix):
                continue
            if info.get("type") == "directory":
                prefixes.add(name)
            elif not listed.endswith("/"):  # a marker that object stores keep for a folder
                keys.add(name)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    async def _size(self, live: Live, key: str) -> int | None:
        return await self._request(live, key, lambda: self._size_once(live, key))

    # -- single requests ----------------------------------------------------------------------------------------

    async def _size_once(self, live: Live, key: str) -> int | None:
        live.fs.invalidate_cache()
        try:
            info = await live.call("info", self._path(key))
            if info.get("type") == "directory":
                return None
            if info.get("islink"):
                self._check_links(key)
            size = _size_of(info)
            if size is None:  # some servers don't tell
                size = len(await live.call("cat_file", self._path(key)))
        except Exception as error:
            if not self._is_absent(error):
                raise
            self._check_links(key)
            return None
        return size

    def _is_absent(self, error: Exception) -> bool:
        if isinstance(error, _MISSING):
            return True
        return bool(self.missing_statuses) and self.traits.remote and self._is_missing(diagnose(error))

    def _check_links(self, key: str) -> None:
        """Raise an error for a key that is a link to a missing file, which is not the same as a missing key."""
        if self._is_local and os.name == "posix":
            is_missing(self._path(key), self._root, set(), was_there=False, key=key, store=self)

    async def _cat(self, live: Live, key: str, range_: Range) -> bytes | None:
        """The bytes of a range, None where the key is missing.

        Generic filesystems send too little or too much without a word, so the length is checked.
        """
        path = self._path(key)
        try:
            match range_:
                case None:
                    return bytes(await live.call("cat_file", path))
                case Tail(n):
                    return await self._tail(live, key, n)
                case Span(start, stop):
                    data = bytes(await live.call("cat_file", path, start=start, end=stop))
                    if len(data) == stop - start:
                        return data
                case From(start):
                    data = bytes(await live.call("cat_file", path, start=start, end=None))
        except Exception as error:
            if self._is_absent(error):
                self._check_links(key)
                return None
            if not self._is_local and await self._is_folder(live, path):
                return None
            if not isinstance(error, OSError):
                raise
            data = await self._beyond_end(live, key, range_, error)
        return await self._fitted(live, key, range_, data)

    async def _tail(self, live: Live, key: str, n: int) -> bytes | None:
        path = self._path(key)
        if self._protocol in _NATIVE_TAILS:
            return bytes(await live.call("cat_file", path, start=-n, end=None))
        # Elsewhere a negative start may mean anything, once it reaches beyond the beginning.
        message = "other writers kept changing the object while its end was read"
        for _ in attempts(3, lambda: TruncatedError(message)):
            size = await self._size_once(live, key)
            if not size:
                return None if size is None else b""
            start = max(0, size - n)
            # One byte more than there should be: if it comes, or another is missing, the object is not of that size
            # any more, and what came is not its tail. Before fsspec 2026.9 references are read beyond their ends.
            end = size if self._protocol == "reference" else size + 1
            data = bytes(await live.call("cat_file", path, start=start, end=end))
            if len(data) == size - start:
                return data
            if len(data) == size:  # the range was ignored
                return data[start:]
        raise AssertionError

    async def _fitted(self, live: Live, key: str, range_: Range, data: bytes) -> bytes | None:
        """``data`` is right where the object ends, and can be cut where the range was ignored: its size decides."""
        size = await self._size_once(live, key)
        if size is None:
            return None
        span = resolve(range_, size)
        if span is None and len(data) in (0, size):
            raise RangeError(f"the range begins beyond the end of an object of {size} bytes", key=key, store=self)
        start, stop = span or (0, 0)
        if len(data) == stop - start:
            return data
        if len(data) == size:
            return data[start:stop]
        if span is None or len(data) < stop - start:  # or the object was replaced in between
            raise TruncatedError(f"{len(data)} bytes came for {range_} of an object of {size} bytes")
        raise StoreError(f"{len(data)} bytes came for {range_} of an object of {size}", key=key, store=self)

    async def _beyond_end(self, live: Live, key: str, range_: Range, error: OSError) -> bytes:
        """No data for a range beyond the end, for which some filesystems raise; else the error again."""
        if isinstance(range_, (Span, From)) and not isinstance(error, PermissionError):
            size = await self._size_once(live, key)
            if size is not None and range_.start >= size:
                return b""
        raise error

    # -- names --------------------------------------------------------------------------------------------------

    def _exclusive(self, key: str) -> AbstractContextManager[None]:
        # By the path, whatever folder of it a store has for its root. Two filesystems with such a path wait for each
        # other needlessly.
        return key_locks(f"{self._protocol}\0{self._path(key).lstrip('/')}")

    def _is_listed(self, key: str, prefix: str) -> bool:
        if not key or key.endswith("/") or (prefix and not key.startswith(prefix + "/")):
            return False
        return not (self._hides and key.endswith(HIDDEN))

    def _check_key(self, key: str) -> None:
        super()._check_key(key)
        if self._protocol in _NAMES_ARE_URLS and not _NO_NAMES.isdisjoint(key):
            raise InvalidKeyError(
                "the library for WebDAV takes %, ? and # in names for parts of a URL", key=key, store=self
            )
        if self._hides and key.endswith(HIDDEN):
            raise InvalidKeyError(f"names that end in {HIDDEN} are reserved for temporary files", key=key, store=self)


def _forget(fs: Any, path: str) -> None:
    """Take the copy of a file that was deleted away from a filesystem of fsspec that keeps copies: it looks at the
    original no more.
    """
    caching = sys.modules.get("fsspec.implementations.cached")
    if caching is None or not isinstance(fs, caching.CachingFileSystem):
        return
    with contextlib.suppress(OSError, KeyError, PermissionError):
        fs.pop_from_cache(path)
    kept = fs._check_file(fs._strip_protocol(path))  # simplecache knows no more than the name of the copy
    if isinstance(kept, str):
        with contextlib.suppress(OSError):
            os.remove(kept)


def _root_of(fs: AbstractFileSystem, path: str, *, keep_slash: bool) -> str:
    if not path and not keep_slash:
        return ""
    root = str(fs._strip_protocol(path))
    return root.rstrip("/") or ("/" if keep_slash else "")


def _size_of(info: dict[str, Any]) -> int | None:
    size = info.get("size")
    return None if size is None else int(size)
