"""A store in a zip archive: a local file, or an object of any other store."""

from __future__ import annotations

import atexit
import os
import re
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from zarrdock.after_fork import reset_after_fork
from zarrdock.errors import KeyExistsError, RangeError, ReadOnlyError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import is_empty, resolve
from zarrdock.stores.base import (
    Blob,
    Buffer,
    Change,
    Entry,
    Listing,
    Read,
    Results,
    Store,
    Value,
    Version,
    check_key,
    check_prefix,
)
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.identity import Identity
from zarrdock.stores.local import unlink_quietly
from zarrdock.stores.local_lock import SUFFIX as LOCK_SUFFIX
from zarrdock.stores.urls import encoded, path_of_file_url
from zarrdock.stores.windows_files import replace
from zarrdock.stores.zip_format import Entry as ZipEntry
from zarrdock.stores.zip_local import LocalArchive
from zarrdock.stores.zip_read import Archive, ChangedError, Snapshot, StoreArchive, Wanted, read_wanted
from zarrdock.stores.zip_write import WritableArchive, Writing, compact

__all__ = ["ZipStore", "missing_archive", "open_zip"]

# How often a read begins anew with the directory of an archive that was replaced under it.
_MAX_RELOADS = 3
# An update is tried this often without holding back the other writers while the change is worked out.
_MAX_OPTIMISTIC = 3
_EXIT_SECONDS = 2.0
# Behind the name of an archive: the one that will replace it.
_NEW = ".__new"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

# By path: archives that this process wrote to, and whose directory is still to be written.
_unfinished: dict[str, WritableArchive] = {}


class ZipStore(Store):
    """Entries of a zip archive, one a key.

    Reading takes one or two rounds for the directory, and then one request for an entry; see ``docs/reference/zip.md``.

    A local archive can be written. A write is there for every reader and writer that uses this class as soon as it
    returns, and survives the process. Other programs see it when the directory has been written: by :meth:`flush`, by
    :meth:`close`, or at the end of the process. Until then a journal lies next to the archive
    (``<archive>.__journal``). Writers take turns, over threads and processes. Replaced and deleted entries keep their
    room until :meth:`compact`.

    Args:
        source: path of a local archive; or a store and the key of an archive in it; or a URL, as for :func:`open_zip`.
        read_only: refuse every mutating operation; None: where the archive can't be written. A local archive that is
            opened for writing need not exist: the first write makes it.
        prefix: use only the entries below this path in the archive.
        durable: return from writing only when everything is on the disk.
        compressed: deflate values; by default they are stored as they are, since chunks are compressed already.
    Raises:
        UnsupportedError: no store can be made of ``source``. StoreError: later, when the archive is first looked at:
            there is none, or it is damaged.

    >>> with zarrdock.ZipStore("archive.zip") as store:
    ...     _ = store.write("key", b"value")
    >>> import zipfile
    >>> zipfile.ZipFile("archive.zip").namelist()
    ['key']
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | tuple[Store, str],
        *,
        read_only: bool | None = None,
        prefix: str = "",
        durable: bool = False,
        compressed: bool = False,
    ) -> None:
        if isinstance(source, str) and ("::" in source or _URL.match(source)):
            source, inner = _resolve(source, {})
            prefix = f"{inner}/{prefix}".strip("/") if inner else prefix
        if isinstance(source, tuple):
            store, key = source
            if read_only is False:
                raise ReadOnlyError("an archive inside another store can't be written", key=key, store=store)
            self._archive: Archive = StoreArchive(store, key)
            self.read_only = True
        else:
            self.read_only = _is_read_only(source) if read_only is None else read_only
            if self.read_only:
                self._archive = LocalArchive(source, must_exist=True)
            else:
                self._archive = WritableArchive(source, durable=durable, compressed=compressed)
                weakref.finalize(self, _finish, self._archive).atexit = False
        self.traits = self._archive.traits
        self.prefix = check_prefix(prefix, self._archive.url)
        self._before = f"{self.prefix}/" if self.prefix else ""
        self._key_locks = KeyLocks()

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        for request in requests:
            check_key(request.key, self)
        for _ in range(_MAX_RELOADS):
            snapshot = self._archive.snapshot()
            try:
                return self._read(snapshot, requests)
            except ChangedError as error:
                self._archive.forget(snapshot)
                last = error
        raise StoreError(f"the archive is damaged, or was replaced meanwhile: {last}", store=self) from last

    def _read(self, snapshot: Snapshot, requests: Sequence[Read]) -> Results:
        entries = snapshot.directory.entries
        results: Results = [None] * len(requests)
        wanted: list[Wanted] = []
        places: list[int] = []
        for i, request in enumerate(requests):
            if is_empty(request.range):
                results[i] = Blob(b"")
                continue
            name = self._before + request.key
            entry = entries.get(name)
            if entry is None:
                continue
            version = snapshot.version(entry)
            if request.version is not None and request.version != version:
                results[i] = VersionChangedError("the entry was replaced", key=request.key, store=self)
                continue
            span = resolve(request.range, entry.size)
            if span is None:
                message = f"{request.range} starts at or beyond the end, at {entry.size} bytes"
                raise RangeError(message, key=request.key, store=self)
            if span[0] == span[1]:
                results[i] = Blob(b"", version)
                continue
            wanted.append(Wanted(name, entry, *span))
            places.append(i)
        if wanted:
            buffers = read_wanted(self._archive, snapshot, wanted)
            for i, want, data in zip(places, wanted, buffers, strict=True):
                results[i] = Blob(data, snapshot.version(want.entry))
        return results

    def size(self, key: str, /) -> int | None:
        entry = self._archive.snapshot().directory.entries.get(self._name(key))
        return None if entry is None else entry.size

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        directory = self._archive.snapshot().directory
        for name in directory.names_below(self._inside(prefix)):
            entry = directory.entries.get(name)
            if entry is not None:
                yield Entry(name[len(self._before) :], entry.size)

    def list_dir(self, prefix: str = "", /) -> Listing:
        return self._archive.snapshot().directory.level(self._inside(prefix))

    @property
    def is_single_file(self) -> bool:
        """True for single-file OME-Zarr: a local archive whose name ends in ``.ozx``, all of it."""
        return not self.prefix and isinstance(self._archive, WritableArchive) and self._archive.single_file

    def refresh(self) -> None:
        """Look at the archive anew.

        Local archives are looked at with every call. Of one in another store the directory is taken to be right until
        a read of data finds the archive replaced.
        """
        self._archive.forget(self._archive.snapshot())

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        name = self._name(key)
        archive = self._writable(key)
        prepared = archive.prepare(name, value)
        with archive.writing() as writing:
            if create_only and name in writing.directory.entries:
                raise KeyExistsError("the key exists already", key=key, store=self)
            return writing.put(prepared)

    def update(self, key: str, change: Change, /) -> None:
        name = self._name(key)
        archive = self._writable(key)
        with self._key_locks(key):
            for _ in range(_MAX_OPTIMISTIC):
                snapshot = archive.snapshot()
                entry = snapshot.directory.entries.get(name)
                try:
                    old = self._value(snapshot, name, entry)
                except ChangedError:
                    archive.forget(snapshot)
                    continue
                new = change(old)
                if new is old:
                    return
                prepared = None if new is None else archive.prepare(name, new)
                with archive.writing() as writing:
                    now = writing.snapshot
                    if now.generation == snapshot.generation and now.directory.entries.get(name) == entry:
                        writing.remove([name]) if prepared is None else writing.put(prepared)
                        return
            with archive.writing() as writing:
                self._update_alone(writing, name, change)

    def _update_alone(self, writing: Writing, name: str, change: Change) -> None:
        """An update while every other writer waits."""
        snapshot = writing.snapshot
        try:
            old = self._value(snapshot, name, snapshot.directory.entries.get(name))
        except ChangedError as error:
            raise StoreError(f"the archive is damaged: {error}", key=name, store=self) from error
        new = change(old)
        if new is None:
            writing.remove([name])
        elif new is not old:
            writing.put(writing.archive.prepare(name, new))

    def _value(self, snapshot: Snapshot, name: str, entry: ZipEntry | None) -> Buffer | None:
        if entry is None:
            return None
        return read_wanted(self._archive, snapshot, [Wanted(name, entry, 0, entry.size)])[0] if entry.size else b""

    def delete(self, key: str, /) -> None:
        name = self._name(key)
        archive = self._writable(key)
        if name in archive.snapshot().directory.entries:
            with archive.writing() as writing:
                writing.remove([name])

    def delete_many(self, keys: Sequence[str], /) -> None:
        names = [self._name(key) for key in keys]
        archive = self._writable(keys[0] if keys else "")
        if any(name in archive.snapshot().directory.entries for name in names):
            with archive.writing() as writing:
                writing.remove([name for name in names if name in writing.directory.entries])

    def delete_prefix(self, prefix: str, /) -> None:
        before = self._inside(prefix)
        archive = self._writable(prefix)
        if archive.snapshot().directory.names_below(before):
            with archive.writing() as writing:
                writing.remove(writing.directory.names_below(before))

    def flush(self) -> None:
        """Write the directory of a local archive and remove the journal, so that every program can read it.

        Takes time and room for the whole directory: once after many writes, not after each.
        """
        if isinstance(self._archive, WritableArchive):
            self._archive.flush()
            _unfinished.pop(self._archive.path, None)

    def compact(self) -> int:
        """Write a local archive anew, without replaced and deleted entries; it takes the old one's place at once.

        Returns:
            How many bytes fewer it has.
        Raises:
            ReadOnlyError, StoreError. UnsupportedError: an entry is encrypted.
        """
        archive = self._writable("")
        with archive.writing() as writing:
            nbytes = compact(writing)
        _unfinished.pop(archive.path, None)
        return nbytes

    @contextmanager
    def replacing(self) -> Iterator[ZipStore]:
        """A new, empty archive, which takes the place of this one when the block is left; until then, and where the
        block raises, this one stays as it is.

        >>> with zarrdock.ZipStore("archive.zip") as store:
        ...     _ = store.write("old", b"1")
        ...     with store.replacing() as new:
        ...         _ = new.write("new", b"2")
        ...     [entry.key for entry in store.list()]
        ['new']
        """
        archive = self._writable("")
        new = ZipStore(archive.path + _NEW, durable=archive.durable, compressed=archive.compressed)
        assert isinstance(new._archive, WritableArchive)
        new._archive.single_file = archive.single_file
        _remove(new._archive)
        try:
            yield new
            new.close()
            with archive.writing() as writing:
                writing.finish()  # no journal outlives the archive that it is of
                if new._archive.snapshot().file is not None:
                    new._archive.drop()
                    replace(new._archive.path, archive.path)
                archive.known = None
            _unfinished.pop(archive.path, None)
        finally:
            new._archive.drop()
            _remove(new._archive)

    def close(self) -> None:
        """Finish :meth:`flush`, and close open files. The store can be used again."""
        self.flush()
        if isinstance(self._archive, LocalArchive):
            self._archive.drop()

    def _writable(self, key: str) -> WritableArchive:
        self._check_writable(key)
        archive = self._archive
        if not isinstance(archive, WritableArchive):
            raise ReadOnlyError("the store is read-only", key=key, store=self)
        _unfinished.setdefault(archive.path, archive)
        return archive

    # -- names ---------------------------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        return self._before + check_key(key, self)

    def _inside(self, prefix: str) -> str:
        prefix = check_prefix(prefix, self)
        return f"{self._before}{prefix}/" if prefix else self._before

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        return self._archive.origins(self._inside(prefix).rstrip("/"))

    @property
    def identity(self) -> Identity:
        """The archive's file, and the prefix inside."""
        return self._archive.identity.as_file(self.prefix)

    @property
    def url(self) -> str:
        """``zip://``, the prefix, ``::`` and the URL of the archive."""
        return self.url_of("")

    def url_of(self, path: str) -> str:
        """The URL of a folder in the archive."""
        return f"zip://{f'{self._before}{path}'.strip('/')}::{self._archive.url}"

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return (*self._archive.sub_urls(), f"zip:{encoded(f'{self._before}{path}'.strip('/'))}")


def _remove(archive: WritableArchive) -> None:
    """Remove an archive that nobody else knows, with all that belongs to it."""
    _unfinished.pop(archive.path, None)
    for path in (archive.path, archive.journal_path, archive.path + LOCK_SUFFIX):
        unlink_quietly(path)
    archive.known = None


# -- work that is left at the end --------------------------------------------------------------------------------------


def _finish(archive: WritableArchive) -> None:
    """Flush, where a store was dropped without being closed. It never waits: it may run in the middle of anything."""
    if _unfinished.get(archive.path) is not archive:
        return
    try:
        if archive.flush(wait=False):
            _unfinished.pop(archive.path, None)
    except (StoreError, UnsupportedError):
        pass  # no caller is left to tell, and the journal keeps everything


def _finish_all() -> None:
    deadline = time.monotonic() + _EXIT_SECONDS
    while _unfinished:
        for archive in [*_unfinished.values()]:
            _finish(archive)
        if not _unfinished or time.monotonic() > deadline:
            return
        time.sleep(0.01)


atexit.register(_finish_all)
reset_after_fork(_unfinished.clear)  # that is for the parent to do


# -- URLs --------------------------------------------------------------------------------------------------------------


def open_zip(
    url: str,
    *,
    storage_options: dict[str, Any] | None = None,
    read_only: bool = False,
    durable: bool = False,
) -> ZipStore:
    """The zip archive a URL leads to.

    Args:
        url: a path or URL of an archive; or, as fsspec writes it, ``zip://path/in/archive::`` and that.
        storage_options: options of the filesystem the archive is on; or, by protocol, of each in a chain.
        read_only: refuse every mutating operation.
        durable: local archives: return from writing only when everything is on the disk.
    Raises:
        UnsupportedError: no store can be made of it. AccessError, StoreError.
    """
    source, prefix = _resolve(url, storage_options or {})
    return ZipStore(source, prefix=prefix, read_only=True if read_only else None, durable=durable)


def _resolve(url: str, options: dict[str, Any]) -> tuple[str | tuple[Store, str], str]:
    """A local path, or a store and a key, of the archive; and the path in it."""
    from zarrdock.stores.open import open_store  # it opens zips by way of this module

    prefix = ""
    first, chained, rest = url.partition("::")
    if chained and (first == "zip" or first.startswith("zip://")):
        prefix = first.removeprefix("zip").removeprefix("://").strip("/")
        url = rest
        options = {name: value for name, value in options.items() if name != "zip"}
    else:
        url = url.removeprefix("zip://")
    given, url = url, url.rstrip("/")
    if not url or url.endswith(":"):
        raise UnsupportedError(f"not the path or URL of a zip archive: {given!r}")
    protocol = url.split("::")[0].partition("://")[0] if "://" in url else ""
    if "::" not in url and isinstance(options.get(protocol), dict):
        options = options[protocol]
    if protocol in ("", "file", "local") and "::" not in url:
        if options:
            raise UnsupportedError(f"local files have no storage_options: {', '.join(sorted(options))}")
        return _local_path(url), prefix
    folder, key = _parent(url, protocol)
    return (open_store(folder, storage_options=options or None, read_only=True), key), prefix


def _local_path(url: str) -> str:
    named = path_of_file_url(url)
    if named is not None or (os.name == "posix" and "://" not in url):
        return os.path.expanduser(url) if named is None else named
    from fsspec.implementations.local import LocalFileSystem

    return str(LocalFileSystem._strip_protocol(url))


def _parent(url: str, protocol: str) -> tuple[str, str]:
    """URL of the folder, and name of the archive in it."""
    if protocol in ("http", "https"):
        parts = urlsplit(url)
        path, _, name = parts.path.rpartition("/")
        return urlunsplit(parts._replace(path=path, fragment="")), unquote(name)
    folder, _, name = url.rpartition("/")
    if not name or not folder:
        raise UnsupportedError(f"not the URL of a zip archive: {url!r}")
    return (folder + "/" if folder.endswith("/") else folder), name


def missing_archive(store: ZipStore) -> str | None:
    """Path of the archive that the first write makes; None where it is there."""
    archive = store._archive
    return archive.path if isinstance(archive, WritableArchive) and not os.path.lexists(archive.path) else None


def _is_read_only(path: str | os.PathLike[str]) -> bool:
    """True for an archive that exists and can't be written: the lock and the journal need its folder, too."""
    real = os.path.realpath(os.fsdecode(path))
    return os.path.exists(real) and not (os.access(real, os.W_OK) and os.access(os.path.dirname(real), os.W_OK))
