"""A bounded cache of parts of objects, in a folder that several processes may share.

Below a folder for each store, ``objects/<hash of key and version>/<segment>`` holds bytes and their checksum, and
``keys/<hash of key>`` says which version of a key is kept. Every file is written under another name and renamed, and
never changed: a process sees all of it or nothing, and what it finds it may use. A file that was removed is simply not
found.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
import warnings
from typing import Any

import deflate

from zarrdock.after_fork import reset_after_fork
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import Range
from zarrdock.stores import windows_files
from zarrdock.stores.base import Buffer, Version
from zarrdock.stores.cache_memory import TAIL, UNKNOWN, Cache, Known, _Unknown
from zarrdock.stores.local_files import local_path, make_folders, open_file, pread_all, unlink, writev_all

__all__ = ["FolderCache"]

_CRC_BYTES = 4
# Names of segments kept in memory for so many objects.
_MAX_OBJECTS = 20_000
# Left in the way of a writer that died.
_STALE_SECONDS = 3600.0
_SEGMENT = re.compile(r"(?:(\d+)-(\d+)|tail-(\d+))(?:-of-(\d+))?")


class _Object:
    """This process's knowledge of an object's folder."""

    __slots__ = ("known", "names", "path", "stamp", "verified")

    def __init__(self, path: str) -> None:
        self.path = path
        self.known = Known()
        self.names: dict[int, str] = {}
        self.stamp = 0
        self.verified: set[int] = set()


class FolderCache(Cache):
    """Cache in a folder, for any number of processes. The least recently used entries go first.

    Processes count what they write, and look at the whole folder each time that was a tenth of ``max_bytes``: it may
    grow beyond its bound by a tenth for each process that writes at the same time.

    Args:
        folder: is made where it is missing; use it for nothing else.
        max_bytes: room for the bytes of objects.
        namespace: name of the store, which tells those that share the folder apart.

    >>> store = zarrdock.CachingStore(zarrdock.MemoryStore(), max_bytes=10**9, folder="cache")
    >>> store.get("key") is None
    True
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int, namespace: str) -> None:
        self.folder = local_path(folder)
        self.max_bytes = max_bytes
        self.namespace = namespace
        self._here = f"{self.folder}/{_hash(namespace)[:16]}"
        self._renew()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()  # of all below, and of the facts known of each object
        self._objects: BoundedLRU[str, _Object] = BoundedLRU(max_items=_MAX_OBJECTS)
        self._versions: BoundedLRU[str, tuple[Version | _Unknown | None]] = BoundedLRU(max_items=_MAX_OBJECTS)
        self._until_look = 0  # bytes that may be written before the folder is looked at
        self._warned = False

    # -- looking up ----------------------------------------------------------------------------------------------------

    def version(self, key: str) -> Version | _Unknown | None:
        known = self._versions.get(key)
        if known is None:
            known = (self._version_there(key),)
            self._versions.put(key, known)
        return known[0]

    def _version_there(self, key: str) -> Version | _Unknown | None:
        words = _words(self._key_path(key))
        try:
            version: Version | None = ast.literal_eval(str(words["version"])) if words else UNKNOWN
        except (ValueError, KeyError, SyntaxError):
            return UNKNOWN
        return version

    def find(self, key: str, version: Version | None, range_: Range) -> Buffer | None:
        path = self._object_path(key, version)
        if path is None:
            return None
        with self._lock:
            found = self._objects.get(path)
            place = None if found is None else found.known.locate(range_)
            if place is None or found is None:
                found = self._looked_at(path)
                place = found.known.locate(range_)
            if place is None:
                return None
            if place.n == 0:
                return b""
            name = found.names.get(place.segment)
            is_verified = place.segment in found.verified
        data = None if name is None else _read(f"{path}/{name}", place.offset, place.n, whole=not is_verified)
        with self._lock:
            if data is None:
                found.known.remove(place.segment)
                found.names.pop(place.segment, None)
                found.verified.discard(place.segment)
            else:
                found.verified.add(place.segment)
        return data

    def _looked_at(self, path: str) -> _Object:
        """An object with the segments there are now, other processes' included."""
        found = self._objects.get(path)
        if found is None:
            found = _Object(path)
            self._objects.put(path, found)
        try:
            stamp = os.stat(path).st_mtime_ns
            if stamp == found.stamp:
                return found
            names = os.listdir(path)
        except OSError:
            return found
        # The clock is coarse: a folder that changed just now may change again without showing it.
        found.stamp = stamp if time.time_ns() - stamp > 10**9 else 0
        for name in names:
            match = _SEGMENT.fullmatch(name)
            if match is None:
                continue
            if match[4] is not None:
                found.known.size = int(match[4])
            segment, n = (TAIL, int(match[3])) if match[1] is None else (int(match[1]), int(match[2]) - int(match[1]))
            if found.known.add(segment, n) is not None:
                found.names[segment] = name
        return found

    # -- keeping -------------------------------------------------------------------------------------------------------

    def put(self, key: str, version: Version | None, range_: Range, data: Buffer) -> None:
        path = self._object_path(key, version)
        n = memoryview(data).nbytes
        if path is None or n == 0 or n > self.max_bytes:
            return
        with self._lock:
            found = self._looked_at(path)
            segment = found.known.learn(range_, n)
            superfluous = found.known.add(segment, n)
            size = found.known.size
            old = [found.names.pop(start) for start in superfluous or () if start in found.names]
            found.verified.difference_update(superfluous or ())
        try:
            if superfluous is not None:
                name = f"tail-{n}" if segment == TAIL else f"{segment}-{segment + n}"
                name = name if size is None else f"{name}-of-{size}"
                crc = deflate.crc32(data).to_bytes(_CRC_BYTES, "little")
                self._write(f"{path}/{name}", [data, crc])
                with self._lock:
                    found.names[segment] = name
                for other in old:
                    if other != name:
                        _unlink(f"{path}/{other}")
            if self.version(key) != version:
                words = {"key": key, "version": repr(version), "object": path}
                self._write(self._key_path(key), [json.dumps(words).encode()])
                self._versions.put(key, (version,))
            self._make_room(n if superfluous is not None else 0)
        except OSError as error:
            with self._lock:
                found.known.remove(segment)
            if not isinstance(error, FileNotFoundError):  # that is a folder another process keeps removing
                self._warn(error)

    def _write(self, path: str, parts: list[Buffer]) -> None:
        temp = f"{self.folder}/new/{secrets.token_hex(12)}"
        for attempt in range(3):
            try:
                fd = open_file(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                break
            except FileNotFoundError:
                if attempt == 2:
                    raise
                make_folders(f"{self.folder}/new", durable=False)
        try:
            try:
                writev_all(fd, parts)
            finally:
                os.close(fd)
            for attempt in range(3):
                try:
                    (windows_files.replace if windows_files.IS_WINDOWS else os.rename)(temp, path)
                    return
                except FileNotFoundError:  # no folder yet, or it was just removed because it was empty
                    if attempt == 2:
                        raise
                    make_folders(os.path.dirname(path), durable=False)
        except BaseException:
            _unlink(temp)
            raise

    def _warn(self, error: OSError) -> None:
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(f"nothing is cached: {self.folder} cannot be written: {error}", RuntimeWarning, 5)

    # -- making room ---------------------------------------------------------------------------------------------------

    def _make_room(self, n: int) -> None:
        with self._lock:
            self._until_look -= n
            if self._until_look > 0:
                return
            self._until_look = self.max_bytes // 10
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        if used > self.max_bytes:
            for _, size, path in files:
                if "/objects/" in path.removeprefix(self.folder):
                    _unlink(path)
                    used -= size
                if used <= self.max_bytes * 0.9:
                    break
            self._sweep()
        with self._lock:
            self._until_look = max(1, min(self.max_bytes // 10, self.max_bytes - used))

    def _files(self) -> list[tuple[int, int, str]]:
        """The files of all stores; not those that are just being written."""
        new = f"{self.folder}/new/"
        return [file for file in _files(self.folder) if not file[2].startswith(new)]

    def _sweep(self) -> None:
        """Remove empty folders, names of versions of which nothing is kept, and what writers that died left."""
        for path, folders, names in os.walk(self.folder, topdown=False):
            if not folders and not names and path != self.folder:
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        for _, _, path in self._files():
            if "/keys/" in path.removeprefix(self.folder):
                words = _words(path)
                if words is not None and not os.path.isdir(str(words.get("object"))):
                    _unlink(path)
        now = time.time()
        for modified, _, path in _files(f"{self.folder}/new"):
            if now - modified / 1e9 > _STALE_SECONDS:
                _unlink(path)

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def drop(self, key: str) -> None:
        versions = [self.version(key), self._version_there(key)]  # another process may have kept a later one
        _unlink(self._key_path(key))
        self._versions.put(key, (UNKNOWN,))
        for version in versions:
            path = None if isinstance(version, _Unknown) else self._object_path(key, version)
            if path is not None:
                self._objects.pop(path)
                shutil.rmtree(path, ignore_errors=True)

    def drop_below(self, prefix: str) -> None:
        if not prefix:
            shutil.rmtree(self._here, ignore_errors=True)
            self._objects.clear()
            self._versions.clear()
            return
        keys = {key for key in self._versions if key.startswith(f"{prefix}/")}
        for _, _, path in _files(f"{self._here}/keys"):
            key = str((_words(path) or {}).get("key"))
            if key.startswith(f"{prefix}/"):
                keys.add(key)
        for key in keys:
            self.drop(key)

    def nbytes(self) -> int:
        return sum(size for _, size, _ in self._files())

    # -- names ---------------------------------------------------------------------------------------------------------

    def _key_path(self, key: str) -> str:
        name = _hash(key)
        return f"{self._here}/keys/{name[:2]}/{name[2:]}"

    def _object_path(self, key: str, version: Version | None) -> str | None:
        if not _lasts(version):
            return None
        name = _hash(key, repr(version))
        return f"{self._here}/objects/{name[:2]}/{name[2:]}"

    def __reduce__(self) -> Any:
        return FolderCache, (self.folder, self.max_bytes, self.namespace)


def _lasts(version: object) -> bool:
    """True for versions that mean the same in every process."""
    if isinstance(version, tuple):
        return all(map(_lasts, version))
    return version is None or type(version) in (str, int, bytes)


def _hash(*words: str) -> str:
    return hashlib.blake2b("\0".join(words).encode(), digest_size=20).hexdigest()


def _read(path: str, offset: int, n: int, *, whole: bool) -> Buffer | None:
    """Bytes of a segment; with ``whole`` its checksum is looked at. None: it is gone, or damaged and gone now."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        os.utime(fd)  # used last
        if not whole:
            data: Buffer = pread_all(fd, offset, offset + n)
            return data if len(data) == n else None
        data = pread_all(fd, 0, os.fstat(fd).st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
    view = memoryview(data)
    content, crc = view[:-_CRC_BYTES], view[-_CRC_BYTES:]
    if len(content) < offset + n or deflate.crc32(content) != int.from_bytes(crc, "little"):
        _unlink(path)
        return None
    return content[offset : offset + n]


def _words(path: str) -> dict[str, object] | None:
    """Contents of a file in ``keys``; None if it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            words = json.load(file)
    except (OSError, ValueError):
        return None
    return words if isinstance(words, dict) else None


def _files(folder: str) -> list[tuple[int, int, str]]:
    """Time of last use in nanoseconds, size and path of every file below a folder."""
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(f"{path}/{name}")
                found.append((status.st_mtime_ns, status.st_size, f"{path}/{name}"))
    return found


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        unlink(path)
