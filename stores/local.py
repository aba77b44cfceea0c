"""A store in a folder of a local file system."""

from __future__ import annotations

import errno
import os
import stat
import time
from builtins import list as list_  # inside Store, `list` is a method
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

from zarrdock.errors import (
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import Range, Span, is_empty, resolve
from zarrdock.stores import local_version
from zarrdock.stores.base import (
    Blob,
    Change,
    Entry,
    FileBytes,
    LazyParts,
    Listing,
    Patch,
    PatchChange,
    Read,
    Result,
    Results,
    Store,
    Traits,
    Value,
    check_key,
    check_prefix,
    value_parts,
)
from zarrdock.stores.identity import Identity as PlaceIdentity
from zarrdock.stores.local_files import (
    MISSING,
    READ_FLAGS,
    Part,
    failure,
    file_url,
    is_missing,
    local_path,
    make_folders,
    name_fault,
    open_file,
    other_spelling,
    pread_all,
    prune,
    slashes,
    sync_file,
    sync_folder,
    unlink,
    url_of_path,
    writev_all,
)
from zarrdock.stores.local_lock import SUFFIX, Held, NoLocksError, acquire, try_acquire, unlocked
from zarrdock.stores.local_patch import OldFile, clone, write_pieces
from zarrdock.stores.local_version import Handle, Identity, LocalVersion, identity_of
from zarrdock.stores.windows_files import IS_WINDOWS

__all__ = [
    "LocalStore",
    "NoExclusiveCreateError",
    "TakenError",
    "create_value",
    "level",
    "prune_below",
    "put_value",
    "stale",
    "unlink_quietly",
    "unnamed",
    "walk",
]


# -- What is in a folder: keys, levels, and what writers left behind.

_DAY_SECONDS = 86400


def unlink_quietly(path: str) -> None:
    """Remove a file, or find that it is gone."""
    try:
        unlink(path)
    except FileNotFoundError:
        pass


def _is_name(name: str) -> bool:
    """True for what can be a segment of a key: not a lock file, and no name that keys can't have."""
    if name.endswith(SUFFIX) or "\\" in name:
        return False
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return False
    return True


def unnamed(folder: str, store: object) -> Iterator[str]:
    """Paths of files and folders below ``folder`` that no key can name, relative to it."""
    todo = [""]
    while todo:
        below = todo.pop()
        for entry in _scan(f"{folder}/{below}", store):
            if not _is_name(entry.name):
                if not entry.name.endswith(SUFFIX):
                    yield below + entry.name
            elif entry.is_dir(follow_symlinks=False):
                todo.append(f"{below}{entry.name}/")


def _scan(folder: str, store: object) -> list[os.DirEntry[str]]:
    # Read to the end at once: the caller may change the folder, or not finish.
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError as error:
        if error.errno in MISSING:
            return []
        raise failure(error, doing="list", path=folder, key="", store=store) from error


def walk(
    folder: str, store: object, *, on_link: Callable[[str], None] | None = None
) -> Iterator[tuple[str, int | None]]:
    """Every file below ``folder`` that a key can name, as (path relative to it, size in bytes); symbolic links that
    lead nowhere are among them, without a size: their content may only be elsewhere.

    Args:
        on_link: given the path of each symbolic link to a folder, which then is not followed. Without it links are
            followed, though never in a circle.
    """
    folder = folder.rstrip("/")
    todo: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while todo:
        below, followed = todo.pop()
        for entry in _scan(f"{folder}/{below}", store):
            if not _is_name(entry.name):
                continue
            try:
                if entry.is_dir():
                    name = f"{below}{entry.name}/"
                    if not entry.is_symlink():
                        todo.append((name, followed))
                    elif on_link is not None:
                        on_link(entry.path)
                    elif (target := os.path.realpath(entry.path)) not in followed and not _holds(target, entry.path):
                        todo.append((name, (*followed, target)))
                elif entry.is_file():
                    yield below + entry.name, entry.stat().st_size
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    yield below + entry.name, None
            except OSError as error:
                _check_gone(error, entry.path, store)


def _check_gone(error: OSError, path: str, store: object) -> None:
    """Raise what is not the sign of a name that leads nowhere: gone since the folder was read, or a link to itself."""
    if error.errno not in (*MISSING, errno.ELOOP):
        raise failure(error, doing="look at", path=path, key="", store=store) from error


def _holds(folder: str, path: str) -> bool:
    """True where ``path``, itself a link, stands in ``folder`` or somewhere below it."""
    here = os.path.realpath(os.path.dirname(path))
    return here == folder or here.startswith(folder.rstrip(os.sep) + os.sep)


def level(folder: str, store: object) -> Listing:
    """The files and folders right in ``folder``."""
    keys, prefixes = [], []
    for entry in _scan(folder, store):
        if _is_name(entry.name):
            try:
                if entry.is_dir():
                    prefixes.append(entry.name)
                elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                    keys.append(entry.name)
            except OSError as error:
                _check_gone(error, entry.path, store)
    return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))


def stale(folder: str, root: str, *, remove: bool) -> Iterator[str]:
    """Unheld lock files and the like below ``folder``, as paths relative to ``root``."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(SUFFIX):
                path = os.path.join(parent, name)
                if _release_stale(path, remove=remove):
                    yield slashes(os.path.relpath(path, root))


def _release_stale(path: str, *, remove: bool) -> bool:
    # The second file of an exclusive create is guarded by the lock file it is named after.
    second = path.endswith(SUFFIX + SUFFIX)
    guard = path.removesuffix(SUFFIX) if second else path
    was_there = os.path.lexists(guard)
    try:
        held = try_acquire(guard, create=second)
    except NoLocksError:
        return _is_old(path, remove=remove)
    except OSError as error:
        if error.errno != errno.ENOLCK:
            raise
        return False  # it cannot be known at the moment
    if held is None:
        return False
    if was_there and not remove:
        held.let_go()
        return True
    with held:  # leaving removes the file that is held
        if second and remove:
            unlink_quietly(path)
    return True


def _is_old(path: str, *, remove: bool) -> bool:
    try:
        if time.time() - os.stat(path).st_mtime < _DAY_SECONDS:
            return False
        if remove:
            unlink(path)
    except FileNotFoundError:
        return False
    return True


def prune_below(folder: str) -> None:
    """Remove the empty folders below ``folder``, deepest first."""
    for parent, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            try:
                os.rmdir(os.path.join(parent, name))
            except OSError:  # not empty, or gone, or a link
                pass


# -- How a value takes its name in a folder: written beside it, so that a reader sees the old value or the new one.

# No link, or none to this file: then the name is taken by renaming.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class TakenError(Exception):
    """The name is taken."""


class NoExclusiveCreateError(Exception):
    """The file system has neither locks nor links."""


def keep_permissions(fd: int, path: str) -> None:
    """Give a new file the mode and the group of the file whose place it will take, and its owner where that is allowed.

    Done before anything is written, so that no user can read it who could not read the old one.
    """
    if IS_WINDOWS:  # where a new file takes what the folder gives
        return
    try:
        old = os.stat(path)
    except OSError:
        return
    new = os.fstat(fd)
    if not stat.S_ISREG(old.st_mode) or (old.st_mode, old.st_uid, old.st_gid) == (new.st_mode, new.st_uid, new.st_gid):
        return
    mode = stat.S_IMODE(old.st_mode)
    for owner in (old.st_uid, -1):  # only the superuser gives files away
        try:
            if (owner, old.st_gid) != (-1, new.st_gid):
                os.fchown(fd, owner, old.st_gid)
            break
        except OSError:
            continue
    else:
        # Another group gets what all others may do, and no more.
        mode = (mode & ~stat.S_IRWXG) | (mode & (mode & stat.S_IRWXO) << 3)
    try:
        os.fchmod(fd, mode)
    except OSError:  # a file system without modes
        pass


def put_value(path: str, parts: Sequence[Part], held: Held, *, durable: bool) -> None:
    """Write a value into the lock file, which then takes the value's name."""
    keep_permissions(held.fd, path)
    writev_all(held.fd, parts)
    if durable:
        sync_file(held.fd)
    held.rename_to(path)
    if durable:
        sync_folder(os.path.dirname(path))


def create_value(path: str, parts: Sequence[Part], held: Held, *, durable: bool, has_locks: bool) -> None:
    """Write a value whose name must be free.

    Raises:
        TakenError: it is not. NoExclusiveCreateError: this filesystem cannot tell.
    """
    # A link is never made over another name, so that a program that takes no lock is noticed too. It is made of a
    # second file: the lock file is written to by whoever holds it next, also where we die before its name is gone.
    if os.path.lexists(path):
        raise TakenError
    if IS_WINDOWS:
        _take_name(path, parts, held, durable=durable)
        return
    temp_path = held.path + SUFFIX
    unlink_quietly(temp_path)
    with Held(open_file(temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), temp_path, locked=False) as temp:
        writev_all(temp.fd, parts)
        if durable:
            sync_file(temp.fd)
        try:
            os.link(temp_path, path)
        except FileExistsError:
            raise TakenError from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not has_locks:
                raise NoExclusiveCreateError from error
            temp.rename_to(path)
    if durable:
        sync_folder(os.path.dirname(path))


def _take_name(path: str, parts: Sequence[Part], held: Held, *, durable: bool) -> None:
    # A rename on Windows can fail where the name is taken; nothing else is needed.
    writev_all(held.fd, parts)
    if durable:
        sync_file(held.fd)
    try:
        held.take_free(path)
    except FileExistsError:
        raise TakenError from None


# The gap from measurement in the page cache: one more read costs as much as 25 to 45 KB more in the one before.
_TRAITS = Traits(atomic_update=True, partial_update=True, conditional_read=True, merge_gap_bytes=32768)


def _traits() -> Traits:
    return replace(_TRAITS, max_versions=local_version.get_limit())


_Opened = dict[str, "tuple[LocalVersion, Handle] | None"]
_Pread: TypeAlias = "Callable[[Handle, Range, str], Part]"


class LocalStore(Store):
    """Files in a folder, one a key.

    A value is written into a file of its own, which then takes the key's name: readers need no lock. Every writer of
    a key first takes the lock file next to it (``<file>.__lock``, the protocol of TensorStore's file driver), among
    threads, processes and TensorStore alike; other programs that write into the folder are not held back. What a
    writer that died leaves behind is never listed or read, is taken over by the next writer of that key, and is removed
    by :meth:`clean`.

    The version of a file keeps that file open (see :mod:`zarrdock.stores.local_version`), so that it can't be mistaken
    for a later file; a change in place that another program makes is noticed by size and time only. Symbolic links
    are followed in reading and replaced in writing; a read through one that leads nowhere is an AccessError.

    On Windows and macOS, where file systems take "A" and "a" for one name, a key is not written where a file or folder
    stands that is spelled otherwise; Windows has no files for some keys (``aux``, ``a:b``, ``a.``), which are refused.

    Args:
        root: the folder; it is made by the first write.
        durable: return from writing only when the bytes and the names are on the disk.
        read_only: refuse every mutating operation.
    Raises:
        UnsupportedError: ``root`` is a URL.

    >>> store = zarrdock.LocalStore("folder")
    >>> _ = store.write("a/key", b"value")
    >>> [entry.key for entry in store.list()]
    ['a/key']
    """

    traits = _TRAITS

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = False, read_only: bool = False) -> None:
        self.root = local_path(root)
        self.durable = durable
        self.read_only = read_only
        self._below_root = self.root.rstrip("/") + "/"
        self.traits = _traits()
        self._has_locks = True  # until the file system says otherwise
        self._spelled: set[str] = set()
        self._was_there = False  # a file was read here, by this object or, through pickle, elsewhere

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        return self._read_all(requests, self._pread)

    def read_lazily(self, requests: Sequence[Read], /) -> Results:
        return self._read_all(requests, self._locate)

    def _read_all(self, requests: Sequence[Read], pread: _Pread) -> Results:
        by_key: dict[str, list_[int]] = {}
        for i, request in enumerate(requests):
            by_key.setdefault(self._check_key(request.key), []).append(i)
        results: Results = [None] * len(requests)
        opened: _Opened = {}
        current: dict[str, Identity | None] = {}
        folders: set[str] = set()
        for mine in by_key.values():
            version, handle = None, None
            for i in mine:
                request = requests[i]
                if handle is not None and request.version is version and not is_empty(request.range):
                    # Many spans of one file: it was looked at for the first of them.
                    results[i] = Blob(pread(handle, request.range, request.key), version)
                    continue
                results[i] = found = self._read_one(request, opened, current, folders, pread)
                if isinstance(request.version, LocalVersion) and isinstance(found, Blob):
                    identity = current.get(request.key)
                    version = request.version
                    handle = None if identity is None else version.handle_for(identity)
            opened.clear()  # a batch of many keys holds one file open, beside those kept for versions
        return results

    def _read_one(
        self, request: Read, opened: _Opened, current: dict[str, Identity | None], folders: set[str], pread: _Pread
    ) -> Result:
        if is_empty(request.range):
            return Blob(b"")
        key = request.key
        version = request.version
        if version is None:
            found = opened[key] if key in opened else opened.setdefault(key, self._open(key, folders))
            if found is None:
                return None
            return Blob(pread(found[1], request.range, key), found[0])
        identity = current[key] if key in current else current.setdefault(key, self._identity(key, folders))
        if identity is None:
            return None
        handle = version.handle_for(identity) if isinstance(version, LocalVersion) else None
        if handle is None:
            return VersionChangedError("the file was replaced", key=key, store=self)
        return Blob(pread(handle, request.range, key), version)

    def _pread(self, handle: Handle, range_: Range, key: str) -> Part:
        return self._bytes_of(handle, key, *self._span(handle, range_, key))

    def _locate(self, handle: Handle, range_: Range, key: str) -> Part:
        """The bytes of a range, left in the file."""
        start, stop = self._span(handle, range_, key)
        # It is no buffer: those who ask for it know.
        return cast(Part, FileBytes(handle.fd, start, stop - start, partial(self._bytes_of, handle, key)))

    def _span(self, handle: Handle, range_: Range, key: str) -> tuple[int, int]:
        size = handle.size
        if type(range_) is Span and range_.stop <= size:  # nearly all reads of chunks
            return range_.start, range_.stop
        span = resolve(range_, size)
        if span is None:
            raise RangeError(f"{range_} starts at or beyond the end, at {size} bytes", key=key, store=self)
        return span

    def _bytes_of(self, handle: Handle, key: str, start: int, stop: int) -> Part:
        try:
            data = pread_all(handle.fd, start, stop)
        except OSError as error:
            raise failure(error, doing="read", path=self._below_root + key, key=key, store=self) from error
        if len(data) != stop - start:
            raise StoreError("another program truncated the file while it was read", key=key, store=self)
        return data

    def _open(self, key: str, folders: set[str]) -> tuple[LocalVersion, Handle] | None:
        """The file of a key; None where there is none.

        Args:
            folders: without a link on the way to them that leads nowhere, as seen in this batch; they are added to.
        """
        path = self._below_root + key
        try:
            try:
                fd = open_file(path, READ_FLAGS)
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                local_version.drop_all()
                fd = open_file(path, READ_FLAGS)
        except OSError as error:
            if error.errno == errno.EISDIR:
                return None
            if error.errno in MISSING:
                missing = is_missing(path, self.root, folders, was_there=self._was_there, key=key, store=self)
                return None if missing else self._open(key, folders)
            raise failure(error, doing="open", path=path, key=key, store=self) from error
        try:
            status = os.fstat(fd)
        except OSError as error:  # a network file system that lost the file in between
            os.close(fd)
            raise failure(error, doing="look at", path=path, key=key, store=self) from error
        handle = Handle(fd, status)
        self._was_there = True
        return (LocalVersion(handle), handle) if stat.S_ISREG(status.st_mode) else None

    def _status(self, key: str, folders: set[str]) -> os.stat_result | None:
        path = self._below_root + key
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno in MISSING:
                missing = is_missing(path, self.root, folders, was_there=self._was_there, key=key, store=self)
                return None if missing else self._status(key, folders)
            raise failure(error, doing="look at", path=path, key=key, store=self) from error
        return status if stat.S_ISREG(status.st_mode) else None

    def _identity(self, key: str, folders: set[str]) -> Identity | None:
        status = self._status(key, folders)
        return None if status is None else identity_of(status)

    def size(self, key: str, /) -> int | None:
        self._check_key(key)
        status = self._status(key, set())
        return None if status is None else status.st_size

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = self._check_prefix(prefix)
        for name, size in walk(self._below_root + prefix, self):
            yield Entry(f"{prefix}/{name}" if prefix else name, size)

    def list_dir(self, prefix: str = "", /) -> Listing:
        return level(self._below_root + self._check_prefix(prefix), self)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> None:
        parts = value if isinstance(value, LazyParts) else value_parts(value)
        path = self._writable_path(key)
        try:
            with self._hold(path) as held:
                if create_only:
                    self._create(key, path, parts, held)
                else:
                    self._put(path, parts, held, key)
        except StoreError:
            raise
        except OSError as error:
            prune(os.path.dirname(path), self.root)
            raise failure(error, doing="write", path=path, key=key, store=self) from error

    def update(self, key: str, change: Change, /) -> None:
        def changed(held: Held, path: str) -> bool:
            blob = self.get(key)
            old = None if blob is None else blob.data
            new = change(old)
            return new is not old and self._settle(key, path, held, old, new)

        self._update(key, changed)

    def _update(self, key: str, changed: Callable[[Held, str], bool]) -> None:
        """Call ``changed`` under the key's lock; it returns whether the lock file has become the value."""
        path = self._writable_path(key)
        kept = self.root
        while not os.path.isdir(kept):
            kept = os.path.dirname(kept)
        try:
            held = self._hold(path)
        except OSError as error:
            raise failure(error, doing="lock", path=path, key=key, store=self) from error
        written = False
        try:
            with held:
                if not self._has_locks:
                    raise UnsupportedError(
                        f"{self}: key {key!r}: no atomic update here: the file system has no file locks; "
                        "keep to one writer a key and write whole values"
                    )
                written = changed(held, path)
        finally:
            if not written:  # the lock file may have been all there was
                prune(os.path.dirname(path), kept)

    def _settle(self, key: str, path: str, held: Held, old: object, new: Value | None) -> bool:
        if new is not None:
            self._put(path, value_parts(new), held, key)
            return True
        if old is not None:
            self._remove(path, key)
        return False

    def patch(self, key: str, change: PatchChange, /) -> None:
        """:meth:`update` of parts of a value, which is never read as a whole. The new
        file shares with the old one what stays the same, where the file system can do that, else the kernel copies it.
        """

        def changed(held: Held, path: str) -> bool:
            opened = self._open(key, set())
            handle = None if opened is None else opened[1]
            new = change(None if handle is None else OldFile(handle.fd, handle.size))
            if not isinstance(new, Patch):
                return self._settle(key, path, held, handle, new)
            try:
                keep_permissions(held.fd, path)
                if handle is not None:
                    clone(handle.fd, held.fd, min(handle.size, new.size))
                os.ftruncate(held.fd, new.size)
                write_pieces(held.fd, new.pieces)
                if self.durable:
                    sync_file(held.fd)
                held.rename_to(path)
                if self.durable:
                    sync_folder(os.path.dirname(path))
            except OSError as error:
                raise failure(error, doing="write", path=path, key=key, store=self) from error
            return True

        self._update(key, changed)

    def delete(self, key: str, /) -> None:
        path = self._writable_path(key)
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(path)):
                return
            with self._hold(path):
                self._remove(path, key)
        except StoreError:
            raise
        except OSError as error:
            if error.errno in MISSING:
                return
            raise failure(error, doing="delete", path=path, key=key, store=self) from error
        prune(os.path.dirname(path), self.root)

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = self._check_prefix(prefix)
        self._check_writable(prefix)
        folder = self._below_root + prefix
        self._check_spelling(folder.rstrip("/"), prefix)
        if prefix and os.path.islink(folder):
            if os.path.isdir(folder):  # the link goes, what it leads to is not ours
                self._remove(folder, prefix)
            return
        for name, _ in walk(folder, self, on_link=lambda link: self._remove(link, prefix)):
            self.delete(f"{prefix}/{name}" if prefix else name)
        self.clean(prefix)
        prune_below(folder)
        prune(folder.rstrip("/"), self.root)

    # -- for writing ---------------------------------------------------------------------------------------------------

    def _hold(self, path: str) -> Held:
        make_folder = partial(make_folders, durable=self.durable)
        if self._has_locks:
            try:
                try:
                    return acquire(path, make_folder)
                except OSError as error:
                    if error.errno != errno.EMFILE:
                        raise
                    local_version.drop_all()
                    return acquire(path, make_folder)
            except NoLocksError:
                self._has_locks = False
        return unlocked(path, make_folder)

    def _put(self, path: str, parts: Sequence[Part], held: Held, key: str) -> None:
        try:
            put_value(path, parts, held, durable=self.durable)
        except OSError as error:
            raise failure(error, doing="write", path=path, key=key, store=self) from error

    def _create(self, key: str, path: str, parts: Sequence[Part], held: Held) -> None:
        try:
            create_value(path, parts, held, durable=self.durable, has_locks=self._has_locks)
        except TakenError:
            if os.path.isdir(path):
                raise failure(OSError(errno.EISDIR, ""), doing="write", path=path, key=key, store=self) from None
            raise KeyExistsError("the key exists already", key=key, store=self) from None
        except NoExclusiveCreateError as error:
            message = f"{self}: key {key!r}: no exclusive create: the file system has neither locks nor links"
            raise UnsupportedError(message) from error

    def _remove(self, path: str, key: str) -> None:
        try:
            unlink_quietly(path)
            if self.durable:
                sync_folder(os.path.dirname(path))
        except OSError as error:
            raise failure(error, doing="delete", path=path, key=key, store=self) from error

    # -- what writers that died left behind --------------------------------------------------------------------------

    def stale_files(self, prefix: str = "") -> Iterator[str]:
        """Files that a writer left behind and no process holds, as paths relative to the root.

        A file system without locks cannot tell; there the files not touched for a day are taken.
        """
        return stale(self._below_root + self._check_prefix(prefix), self.root, remove=False)

    def clean(self, prefix: str = "") -> list_[str]:
        """Remove the :meth:`stale_files`, and return which."""
        prefix = self._check_prefix(prefix)
        self._check_writable(prefix)
        return [*stale(self._below_root + prefix, self.root, remove=True)]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _writable_path(self, key: str) -> str:
        self._check_key(key)
        self._check_writable(key)
        path = self._below_root + key
        self._check_spelling(path, key)
        return path

    def _check_spelling(self, path: str, key: str) -> None:
        other = other_spelling(path, self.root, self._spelled)
        if other:
            text = f"it would be written to {other!r}, which this file system cannot tell from it: choose another name"
            raise InvalidKeyError(text, key=key, store=self)

    def _check_key(self, key: str) -> str:
        check_key(key, self)
        if SUFFIX in key and any(segment.endswith(SUFFIX) for segment in key.split("/")):
            raise InvalidKeyError(f"names that end in {SUFFIX!r} are those of lock files", key=key, store=self)
        fault = name_fault(key, self._below_root + key + SUFFIX) if IS_WINDOWS else ""
        if fault:
            raise InvalidKeyError(fault, key=key, store=self)
        return key

    def _check_prefix(self, prefix: str) -> str:
        prefix = check_prefix(prefix, self)
        return self._check_key(prefix) if prefix else ""

    def above(self) -> tuple[Store, str] | None:
        folder, name = os.path.split(self.root)
        return (LocalStore(folder, durable=self.durable), name) if name else None

    @property
    def identity(self) -> PlaceIdentity:
        """The real path of the folder, all symbolic links followed."""
        return PlaceIdentity("file", os.path.realpath(self.root))

    @property
    def url(self) -> str:
        """``file://`` and the path of the folder."""
        return url_of_path(self.root)

    def _sub_urls(self, path: str) -> tuple[str, ...]:
        return (file_url(f"{self.root}/{path}" if path else self.root),)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_has_locks": True, "_spelled": set()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, traits=_traits())  # the limit is that of a process
