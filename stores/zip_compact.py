"""A local zip archive written anew, without the bytes that nobody can reach any more."""

from __future__ import annotations

import os
import stat

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores.local_io import pread_all, sync_folder
from zarrdock.stores.zip_directory import LOCAL, Entry, data_offset, parse_record
from zarrdock.stores.zip_io import write_all
from zarrdock.stores.zip_records import end_records, local_header, relocated
from zarrdock.stores.zip_write import Writing

__all__ = ["compact"]

_COPY_BYTES = 2**20
_ENCRYPTED = 0x1


def compact(writing: Writing) -> int:
    """Write the archive anew and put it in the old one's place; readers of the old one keep it until they look again.

    Returns:
        How many bytes fewer it has.
    """
    file = writing.snapshot.file
    if file is None:
        return 0
    archive = writing.archive
    try:
        before = os.fstat(file.fd)
        writing.finish()  # no journal outlives the archive that it is of
        n_bytes = _write_anew(writing, stat.S_IMODE(before.st_mode))
        with archive.guard():
            # The lock goes with the name of its file: from here on others may write.
            writing.held.rename_to(archive.path)
            archive.known = None
        if archive.durable:
            sync_folder(os.path.dirname(archive.path))
    except OSError as error:
        raise writing.failed(error, "") from error
    return before.st_size - n_bytes


def _write_anew(writing: Writing, mode: int) -> int:
    """Write what there is into the lock file; returns its length in bytes."""
    out = writing.held.fd
    os.fchmod(out, mode)
    position = 0
    moved = []
    for name, entry, record in _in_order(writing):
        new = relocated(record, position)
        start = _data_offset(writing, name, entry)
        position += write_all(out, local_header(new))
        position += _copy(writing, start, start + entry.compressed)
        moved.append(new)
    size = sum(map(len, moved))
    end = end_records(len(moved), size, position, writing.directory.comment)
    write_all(out, b"".join(moved))
    write_all(out, end)
    if writing.archive.durable:
        os.fsync(out)
    return position + size + len(end)


def _in_order(writing: Writing) -> list[tuple[str | None, Entry, bytes]]:
    """Name, entry and record of all entries, in the order of their bytes."""
    entries = []
    for record in writing.records():
        # Offsets fall short only in archives that were never written to here.
        name, entry, _ = parse_record(record, 0, writing.directory.shift, writing.archive)
        if entry.flags & _ENCRYPTED:
            raise UnsupportedError(f"{writing.archive}: entry {name!r} is encrypted, and can't be moved")
        entries.append((name, entry, record))
    return sorted(entries, key=lambda item: item[1].header)


def _data_offset(writing: Writing, name: str | None, entry: Entry) -> int:
    known = writing.directory.data_offsets.get(entry.header)
    if known is None:
        found = pread_all(writing.fd(), entry.header, entry.header + LOCAL.size + entry.name_length)
        known = data_offset(found, name, entry, writing.directory)
    if known is None:
        message = "the archive is damaged: the entry is not where its directory says"
        raise StoreError(message, key=name or "", store=writing.archive)
    return known


def _copy(writing: Writing, start: int, stop: int) -> int:
    for position in range(start, stop, _COPY_BYTES):
        n = min(_COPY_BYTES, stop - position)
        data = pread_all(writing.fd(), position, position + n)
        if len(data) != n:
            raise StoreError("the archive was cut short by another program", store=writing.archive)
        write_all(writing.held.fd, data)
    return stop - start
