"""Journal of a zip archive: a file next to it that lists the entries written since its directory.

The directory stands at the end of an archive, so that writing it anew for each entry would cost more and more. Instead
an entry is added behind the end of the archive and then, in one record, to the journal: that record makes it exist. A
record that a killed writer left half-written does not count, nor do the bytes it added to the archive. The earlier
contents of the archive are never written over.

The file: a head with the archive's length (``base``) and a digest of its last bytes, which exposes a journal left
behind by another archive; then records, each with length and checksum. It only ever grows.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zarrdock.stores import local_files
from zarrdock.stores.base import Buffer
from zarrdock.stores.local_files import MISSING, open_file, pread, pread_all, pwrite, sync_file
from zarrdock.stores.local_version import Handle
from zarrdock.stores.zip_format import CENTRAL, LOCAL, LOCAL_SIGNATURE, Entry, parse_record

__all__ = [
    "HEAD_BYTES",
    "SUFFIX",
    "Added",
    "Journal",
    "Part",
    "Removed",
    "added",
    "head",
    "pwritev_all",
    "removed",
    "unlink",
    "write_all",
]


# -- System calls for writing archives, made whole.

Part: TypeAlias = "bytes | bytearray | memoryview"

_MAX_PARTS: int = getattr(os, "IOV_MAX", 0) or 16


def pwritev_all(fd: int, parts: Sequence[Part], position: int) -> None:
    """Write buffers one after another from ``position`` on."""
    for first in range(0, len(parts), _MAX_PARTS):
        batch = [part for part in parts[first : first + _MAX_PARTS] if len(part)]
        n = os.pwritev(fd, batch, position) if batch and hasattr(os, "pwritev") else 0
        position += n
        for part in batch:
            skipped = min(n, len(part))
            n -= skipped
            view = memoryview(part)[skipped:]
            while view:
                written = pwrite(fd, view, position)
                position += written
                view = view[written:]


def write_all(fd: int, data: Part) -> int:
    """Write at the file's position; returns the number of bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def unlink(path: str) -> None:
    """Remove a file that need not exist."""
    try:
        local_files.unlink(path)
    except FileNotFoundError:
        pass


SUFFIX = ".__journal"

_MAGIC = b"zarrdock zip journal 1\n"
_HEAD = struct.Struct(f"<{len(_MAGIC)}sQ16sL")  # magic, base, digest, checksum of those
_RECORD = struct.Struct("<LL")  # length and checksum of what follows
_ADDED = struct.Struct("<cQQ")  # "A", length of the archive, offset of the data; then a record of a directory
HEAD_BYTES = _HEAD.size
_DIGEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Added:
    """An entry, where its bytes begin, how long the archive is with it, and its record for the directory."""

    name: str
    entry: Entry
    offset: int
    stop: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Removed:
    """Names that are no entries any more."""

    names: tuple[str, ...]


def added(new: Added) -> bytes:
    """A journal's record of an entry."""
    return _framed(_ADDED.pack(b"A", new.stop, new.offset) + new.record)


def removed(gone: Removed) -> bytes:
    """A journal's record of names that go, all at once."""
    return _framed(b"R" + "\0".join(gone.names).encode())


def _framed(payload: bytes) -> bytes:
    return _RECORD.pack(len(payload), zlib.crc32(payload)) + payload


@dataclass(slots=True)
class Journal:
    """An open journal.

    Attributes:
        file: the journal, kept open, so that no other can be taken for it.
        base: length of the archive without it. stop: length with everything in it that counts.
        is_ahead: it has records of entries that the archive does not have: it is of another, or the system crashed.
        position: behind the last record read. size: of the journal, when it was read; more than that is half a record.
    """

    file: Handle
    base: int
    stop: int
    is_ahead: bool = False
    position: int = HEAD_BYTES
    size: int = HEAD_BYTES

    @classmethod
    def open(cls, path: str, archive_fd: int, flags: int = os.O_RDONLY) -> tuple[Journal, list[Added | Removed]] | None:
        """The journal at ``path``, and all that is in it; None: there is none yet, or it is of another archive."""
        try:
            fd = open_file(path, flags)
        except OSError as error:
            if error.errno in MISSING:
                return None
            raise
        file = Handle(fd, os.fstat(fd))
        start = pread(fd, HEAD_BYTES, 0)
        if len(start) < HEAD_BYTES:
            return None
        magic, base, digest, checksum = _HEAD.unpack(start)
        if magic != _MAGIC or zlib.crc32(start[:-4]) != checksum:
            return None
        if os.fstat(archive_fd).st_size < base or _digest(archive_fd, base) != digest:
            return None
        journal = cls(file, base, base)
        records = journal.read_on(archive_fd)
        if not base and journal.is_ahead:
            return None
        entries = [record for record in records if isinstance(record, Added)]
        # An archive that was empty has no bytes of its own that would tell it from others.
        if not all(_is_there(archive_fd, record) for record in (*entries[:1], *entries[-1:])):
            return None
        return journal, records

    def again(self, archive_fd: int) -> list[Added | Removed]:
        """All records up to where this journal was read."""
        return Journal(self.file, self.base, self.base).read_on(archive_fd, self.position)

    def read_on(self, archive_fd: int, limit: int | None = None) -> list[Added | Removed]:
        """The records that came since the last time; those before byte ``limit`` of the journal where it is given."""
        size = os.fstat(self.file.fd).st_size if limit is None else limit
        self.size = size
        if size <= self.position:
            return []
        data = pread_all(self.file.fd, self.position, size)
        archive_size = os.fstat(archive_fd).st_size
        records: list[Added | Removed] = []
        at = 0
        while at + _RECORD.size <= len(data):
            length, checksum = _RECORD.unpack_from(data, at)
            stop = at + _RECORD.size + length
            payload = data[at + _RECORD.size : stop]
            if stop > len(data) or zlib.crc32(payload) != checksum:
                break
            record = _parse(payload)
            if record is None:
                break
            if isinstance(record, Added):
                if record.stop > archive_size:
                    self.is_ahead = True
                    break
                self.stop = record.stop
            records.append(record)
            at = stop
        self.position += at
        return records

    def append(self, data: bytes, *, durable: bool) -> None:
        """Write a record; the caller holds the lock file, and calls :meth:`follow` afterwards."""
        fd = self.file.fd
        if self.size != self.position:
            os.ftruncate(fd, self.position)  # half a record, of a writer that was killed
        try:
            pwritev_all(fd, [data], self.position)
        except BaseException:
            os.ftruncate(fd, self.position)
            raise
        if durable:
            sync_file(fd)

    def follow(self, data: bytes, record: Added | Removed) -> None:
        """Know a record without reading it."""
        self.position += len(data)
        self.size = self.position
        if isinstance(record, Added):
            self.stop = record.stop


def head(archive_fd: int, base: int) -> bytes:
    """The head of a new journal for an archive of ``base`` bytes."""
    fields = _HEAD.pack(_MAGIC, base, _digest(archive_fd, base), 0)[:-4]
    return fields + zlib.crc32(fields).to_bytes(4, "little")


def _digest(archive_fd: int, base: int) -> bytes:
    last = pread_all(archive_fd, max(0, base - _DIGEST_BYTES), base) if base else b""
    return hashlib.blake2b(last, digest_size=16).digest()


def _parse(payload: Buffer) -> Added | Removed | None:
    # Zeros, as a crash of the system leaves them, are a record of no bytes with the right checksum.
    if payload[:1] == b"R":
        try:
            return Removed(tuple(bytes(payload[1:]).decode().split("\0")))
        except UnicodeDecodeError:
            return None
    if payload[:1] != b"A" or len(payload) < _ADDED.size:
        return None
    _, stop, offset = _ADDED.unpack_from(payload)
    record = bytes(payload[_ADDED.size :])
    name, entry, _ = parse_record(record, 0, 0, "")
    return Added(name or "", entry, offset, stop, record)


def _is_there(archive_fd: int, record: Added) -> bool:
    """True where the archive has the entry's local header."""
    n_name = record.entry.name_length
    found = pread(archive_fd, LOCAL.size + n_name, record.entry.header)
    if len(found) < LOCAL.size + n_name:
        return False
    signature, *_, checksum, _, _, _, _ = LOCAL.unpack_from(found)
    name = record.record[CENTRAL.size : CENTRAL.size + n_name]
    return bool(signature == LOCAL_SIGNATURE and checksum == record.entry.crc and found[LOCAL.size :] == name)
