"""Writing into a local zip archive: one writer at a time, and nothing that was there is ever written over.

An entry goes behind the end of the archive, then its record into the journal, under the lock file next to the archive
(the one a LocalStore that replaced the archive as a whole would take). ``flush`` writes the directory and removes the
journal. A writer killed at any moment leaves an archive with what every finished write left in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import deflate

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.stores.base import Value, Version, value_parts
from zarrdock.stores.local_io import failure, make_folders, pread_all, sync_folder
from zarrdock.stores.local_lock import SUFFIX as LOCK_SUFFIX
from zarrdock.stores.local_lock import Held, NoLocksError, acquire, try_acquire
from zarrdock.stores.zip_directory import DEFLATED, STORED, Directory, Entry, is_key, parse_record
from zarrdock.stores.zip_io import Part, pwritev_all, unlink
from zarrdock.stores.zip_journal import HEAD_BYTES, Added, Journal, Removed, added, head, removed
from zarrdock.stores.zip_local import LocalArchive, LocalSnapshot, State
from zarrdock.stores.zip_read import crc_of
from zarrdock.stores.zip_records import end_records, local_header, new_record, placed

__all__ = ["Prepared", "WritableArchive", "Writing"]

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
        compressed: deflate what is written.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool, compressed: bool) -> None:
        super().__init__(path, must_exist=False, flags=os.O_RDWR)
        self.durable = durable
        self.compressed = compressed

    def prepare(self, name: str, value: Value) -> Prepared:
        """Everything about writing an entry that needs no lock."""
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
                return acquire(self.path, self._make_folder)
            return try_acquire(self.path + LOCK_SUFFIX, create=True)
        except NoLocksError as error:
            message = f"{self}: the file system has no file locks; write the zip elsewhere and copy it here"
            raise UnsupportedError(message) from error
        except OSError as error:
            raise failure(error, doing="lock", path=self.path, key="", store=self) from error

    def _known(self) -> State:
        with self.guard():
            return self.fresh()

    def _make_folder(self, folder: str) -> None:
        make_folders(folder, durable=self.durable)

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
    """What the only writer of an archive can do."""

    def __init__(self, archive: WritableArchive, state: State, held: Held) -> None:
        self.archive = archive
        self.state = state
        self.held = held

    @property
    def snapshot(self) -> LocalSnapshot:
        """The archive as it is now: nobody else changes it."""
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
            os.close(os.open(archive.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
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
        fd = os.open(archive.journal_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.pwrite(fd, start, 0)
            if archive.durable:
                os.fsync(fd)
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
                os.fdatasync(fd)
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
            end = end_records(len(records), size, state.stop, self.directory.comment)
            stop = state.stop + size + len(end)
            pwritev_all(fd, [b"".join(records), end], state.stop)
            if os.fstat(fd).st_size != stop:
                os.ftruncate(fd, stop)
            if archive.durable:
                os.fsync(fd)
            with archive.guard():
                self._let_journal_go()
                self.directory.start, self.directory.size = state.stop, size
                state.stop = stop
            if archive.durable:
                sync_folder(os.path.dirname(archive.path))
        except OSError as error:
            raise self.failed(error, "") from error

    def _let_journal_go(self) -> None:
        os.unlink(self.archive.journal_path)
        now = os.fstat(self.fd())
        self.state.journal = None
        self.state.stamp = now.st_size, now.st_mtime_ns

    def records(self) -> list[bytes]:
        """The directory's records of all entries there are now, those of other writers as they wrote them.

        Entries that are no keys stay too: whoever made them can still want them.
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
