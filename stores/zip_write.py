"""Writing into a local zip archive: one writer at a time, and nothing that was there is ever written over.

An entry goes behind the end of the archive, then its record into the journal, under the lock file next to the archive
(the one a LocalStore that replaced the archive as a whole would take). ``flush`` writes the directory and removes the
journal. A writer killed at any moment leaves an archive with what every finished write left in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import deflate

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores import local_files
from zarrdock.stores.base import Buffer, Value, Version, value_parts
from zarrdock.stores.local_files import failure, make_folders, open_file, pread_all, pwrite, sync_file, sync_folder
from zarrdock.stores.local_lock import SUFFIX as LOCK_SUFFIX
from zarrdock.stores.local_lock import Held, NoLocksError, acquire, try_acquire
from zarrdock.stores.zip_format import (
    DEFLATED,
    LOCAL,
    STORED,
    Directory,
    Entry,
    data_offset,
    end_records,
    is_key,
    local_header,
    new_record,
    parse_record,
    placed,
    relocated,
)
from zarrdock.stores.zip_journal import (
    HEAD_BYTES,
    Added,
    Journal,
    Part,
    Removed,
    added,
    head,
    pwritev_all,
    removed,
    unlink,
    write_all,
)
from zarrdock.stores.zip_local import LocalArchive, LocalSnapshot, State
from zarrdock.stores.zip_read import Wanted, crc_of, read_wanted
from zarrdock.stores.zip_single_file import (
    ROOT,
    document_order,
    has_documents_first,
    is_single_file,
    single_file_comment,
)

__all__ = ["Prepared", "WritableArchive", "Writing", "compact"]


_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry that only has to be written: its record for the directory, and its bytes, local header first."""

    name: str
    entry: Entry
    record: bytes
    parts: list[Part]


class WritableArchive(LocalArchive):
    """A local archive that is written to.

    Args:
        durable: return from writing only when everything is on the disk.
        compressed: deflate values.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool, compressed: bool) -> None:
        super().__init__(path, must_exist=False, flags=os.O_RDWR)
        self.durable = durable
        self.compressed = compressed
        self.single_file = is_single_file(self.path)

    def prepare(self, name: str, value: Value) -> Prepared:
        """Compress and checksum an entry: all work on it that needs no lock."""
        parts = value_parts(value)
        size = sum(map(len, parts))
        crc = 0
        for part in parts:
            crc = crc_of(part, crc)
        method = STORED
        if self.compressed and size:
            smaller = deflate.deflate_compress(b"".join(parts), _LEVEL)
            if len(smaller) < size:
                parts, method = [smaller], DEFLATED
        n = sum(map(len, parts))
        record, entry = new_record(name, size=size, compressed=n, crc=crc, method=method, store=self)
        header = local_header(record)
        return Prepared(name, entry, record, [header, *parts])

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """The only writer of the archive, over threads and processes; it knows what all others wrote before."""
        held = self._hold(wait=True)
        assert held is not None
        with held:
            yield Writing(self, self._known(), held)

    def _hold(self, *, wait: bool) -> Held | None:
        try:
            if wait:
                return acquire(self.path, partial(make_folders, durable=self.durable))
            return try_acquire(self.path + LOCK_SUFFIX, create=True)
        except NoLocksError as error:
            message = f"{self}: the file system has no file locks; write the zip elsewhere and copy it here"
            raise UnsupportedError(message) from error
        except OSError as error:
            raise failure(error, doing="lock", path=self.path, key="", store=self) from error

    def _known(self) -> State:
        with self.guard():
            return self.fresh()

    def flush(self, *, wait: bool = True) -> bool:
        """Write the directory, if anything was written since it was: then every program can read the archive.

        Args:
            wait: for another writer; otherwise leave it all as it is where there is one.
        Returns:
            False where it was left.
        """
        if not os.path.lexists(self.journal_path):
            return True
        held = self._hold(wait=wait)
        if held is None:
            return False
        with held:
            Writing(self, self._known(), held).finish()
        return True


class Writing:
    """Operations of the one writer that holds an archive."""

    def __init__(self, archive: WritableArchive, state: State, held: Held) -> None:
        self.archive = archive
        self.state = state
        self.held = held

    @property
    def snapshot(self) -> LocalSnapshot:
        """The archive as it is now: no other writer changes it."""
        return self.state.snapshot

    @property
    def directory(self) -> Directory:
        return self.state.snapshot.directory

    # -- adding and removing -------------------------------------------------------------------------------------------

    def put(self, prepared: Prepared) -> Version | None:
        """Add an entry, instead of one of that name."""
        try:
            self._begin()
            header = self.state.stop
            offset = header + len(prepared.parts[0])
            stop = offset + prepared.entry.compressed
            entry = prepared.entry._replace(header=header)
            new = Added(prepared.name, entry, offset, stop, placed(prepared.record, header))
            self._append(prepared.parts, header)
            self._note(added(new), new)
        except OSError as error:
            raise self.failed(error, prepared.name) from error
        return self.snapshot.version(entry)

    def remove(self, names: Sequence[str]) -> None:
        """Remove entries, all at once."""
        names = [name for name in names if name in self.directory.entries]
        if not names:
            return
        try:
            self._begin()
            gone = Removed(tuple(names))
            self._note(removed(gone), gone)
        except OSError as error:
            raise self.failed(error, names[0]) from error

    def failed(self, error: OSError, name: str) -> StoreError:
        if isinstance(error, StoreError):
            return error
        return failure(error, doing="write to", path=self.archive.path, key=name, store=self.archive)

    def _begin(self) -> None:
        """Have an archive and a journal."""
        archive = self.archive
        if self.state.snapshot.file is None:
            os.close(open_file(archive.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            with archive.guard():
                self.state = archive.fresh()
        if self.state.journal is not None:
            return
        if self.directory.shift:
            raise UnsupportedError(
                f"{archive}: something stands before the archive that its offsets don't count; compact() makes a plain "
                "zip of it that can be written to"
            )
        unlink(archive.journal_path)  # one that was left behind by another archive of this name
        start = head(self.fd(), self.state.stop)
        fd = open_file(archive.journal_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            pwrite(fd, start, 0)
            if archive.durable:
                sync_file(fd)
                sync_folder(os.path.dirname(archive.path))
        except BaseException:
            unlink(archive.journal_path)
            raise
        finally:
            os.close(fd)
        with archive.guard():
            found = Journal.open(archive.journal_path, self.fd(), archive.flags)
            if found is None:
                raise StoreError("the archive is being changed by another program", store=archive)
            self.state.journal = found[0]

    def _append(self, parts: Sequence[Part], position: int) -> None:
        fd = self.fd()
        try:
            pwritev_all(fd, parts, position)
            if self.archive.durable:
                (os.fdatasync if hasattr(os, "fdatasync") else sync_file)(fd)
        except BaseException:
            if os.fstat(fd).st_size > position:
                os.ftruncate(fd, position)  # the room for what nobody will look for
            raise

    def _note(self, data: bytes, record: Added | Removed) -> None:
        journal = self.state.journal
        assert journal is not None
        position = journal.position
        journal.append(data, durable=self.archive.durable)
        with self.archive.guard():
            if journal.position == position:  # else another thread looked at the archive, and followed it
                journal.follow(data, record)
                self.state.bring_in([record])

    def fd(self) -> int:
        file = self.snapshot.file
        assert file is not None
        return file.fd

    # -- the directory -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write the directory, and let the journal go."""
        state, archive = self.state, self.archive
        if state.snapshot.file is None or state.journal is None:
            unlink(archive.journal_path)  # left behind by another archive of this name
            return
        try:
            fd = self.fd()
            if state.journal.position == HEAD_BYTES and state.journal.base:
                with archive.guard():  # nothing came of it: the archive is as it was
                    os.ftruncate(fd, state.stop)
                    self._let_journal_go()
                return
            records = self.records()
            size = sum(map(len, records))
            end = self.end(records, size, state.stop)
            stop = state.stop + size + len(end)
            pwritev_all(fd, [b"".join(records), end], state.stop)
            if os.fstat(fd).st_size != stop:
                os.ftruncate(fd, stop)
            if archive.durable:
                sync_file(fd)
            with archive.guard():
                self._let_journal_go()
                self.directory.start, self.directory.size = state.stop, size
                state.stop = stop
            if archive.durable:
                sync_folder(os.path.dirname(archive.path))
        except OSError as error:
            raise self.failed(error, "") from error

    def end(self, records: Sequence[Buffer], size: int, offset: int) -> bytes:
        """End records behind a directory of these records at ``offset``."""
        comment, single = self.directory.comment, self.archive.single_file
        if single:
            parsed = [parse_record(record, 0, self.directory.shift, self.archive) for record in records]
            names = [name for name, _, _ in parsed]
            headers = [entry.header for _, entry, _ in parsed]
            first = has_documents_first(names) and headers == sorted(headers)
            entry = self.directory.entries.get(ROOT)
            root = None
            if entry is not None:
                root = bytes(read_wanted(self.archive, self.snapshot, [Wanted(ROOT, entry, 0, entry.size)])[0])
            comment = single_file_comment(root, comment, json_first=first)
            self.directory.comment = comment
        return end_records(len(records), size, offset, comment, zip64=single)

    def _let_journal_go(self) -> None:
        local_files.unlink(self.archive.journal_path)
        now = os.fstat(self.fd())
        self.state.journal = None
        self.state.stamp = now.st_size, now.st_mtime_ns

    def records(self) -> list[bytes]:
        """The directory's records of all entries there are now, those of other writers as they wrote them.

        Entries that are no keys stay too: their writer may still want them.
        """
        directory = self.directory
        live = {entry.header: name for name, entry in directory.entries.items()}
        raw = pread_all(self.fd(), directory.start, directory.start + directory.size)
        records = []
        position = 0
        while position < len(raw):
            name, entry, stop = parse_record(raw, position, directory.shift, self.archive)
            if name is None or live.get(entry.header) == name or not is_key(name):
                records.append(bytes(raw[position:stop]))
            position = stop
        if self.state.journal is not None:
            news = [record for record in self.state.journal.again(self.fd()) if isinstance(record, Added)]
            records += [new.record for new in news if live.get(new.entry.header) == new.name]
        return records


# -- A local zip archive written anew, without the bytes that no entry refers to any more.

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
        nbytes = _write_anew(writing, stat.S_IMODE(before.st_mode))
        with archive.guard():
            # The lock goes with the name of its file: from here on others may write.
            writing.held.rename_to(archive.path)
            archive.known = None
        if archive.durable:
            sync_folder(os.path.dirname(archive.path))
    except OSError as error:
        raise writing.failed(error, "") from error
    return before.st_size - nbytes


def _write_anew(writing: Writing, mode: int) -> int:
    """Write what there is into the lock file; returns its length in bytes."""
    out = writing.held.fd
    if hasattr(os, "fchmod"):
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
    end = writing.end(moved, size, position)
    write_all(out, b"".join(moved))
    write_all(out, end)
    if writing.archive.durable:
        sync_file(out)
    return position + size + len(end)


def _in_order(writing: Writing) -> list[tuple[str | None, Entry, bytes]]:
    """Name, entry and record of all entries, in the order of their bytes; in single-file OME-Zarr documents first."""
    entries = []
    for record in writing.records():
        # Offsets fall short only in archives that were never written to here.
        name, entry, _ = parse_record(record, 0, writing.directory.shift, writing.archive)
        if entry.flags & _ENCRYPTED:
            raise UnsupportedError(f"{writing.archive}: entry {name!r} is encrypted, and can't be moved")
        entries.append((name, entry, record))
    if writing.archive.single_file:
        return sorted(entries, key=lambda item: (*document_order(item[0]), item[1].header))
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
