"""A zip archive that is a local file: its directory, and the journal of what was written since. Read without locks."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from zarrdock.after_fork import reset_after_fork
from zarrdock.errors import ArchiveNotFoundError, StoreError
from zarrdock.stores.base import Buffer, Store, Traits, attempts
from zarrdock.stores.identity import Identity
from zarrdock.stores.local import LocalStore
from zarrdock.stores.local_files import (
    MISSING,
    failure,
    file_url,
    local_path,
    open_file,
    pread,
    pread_all,
    slashes,
    url_of_path,
)
from zarrdock.stores.local_version import Handle
from zarrdock.stores.zip_format import (
    END,
    END_SIGNATURE,
    LOCAL_SIGNATURE,
    MAX_DIRECTORY_BYTES,
    ZIP64_LOCATOR,
    Directory,
    find_end,
    parse_directory,
)
from zarrdock.stores.zip_journal import SUFFIX, Added, Journal, Removed
from zarrdock.stores.zip_read import TAIL_BYTES, Archive, ChangedError, Snapshot

__all__ = ["LocalArchive", "LocalSnapshot", "State"]

_TRAITS = Traits(atomic_update=True, conditional_read=True, merge_gap_bytes=32768)
# Without it, opening a named pipe would wait for a writer.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_WINDOW_BYTES = 2**20
# Directories tried in an archive that a crash of the system left without an end.
_MAX_CANDIDATES = 64
_MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class LocalSnapshot(Snapshot):
    """A directory and its open file (None: the archive does not exist yet). Its bytes stay, whatever is written."""

    file: Handle | None


@dataclass(slots=True)
class State:
    """This process's knowledge of the archive.

    Attributes:
        snapshot: its directory, which follows the journal.
        stamp: size and time of the file, which show if another program changed an archive that has no journal.
        stop: length of the archive including all that counts.
        ignored: inode, size and time of a journal that is not one of this archive.
    """

    snapshot: LocalSnapshot
    stamp: tuple[int, int]
    stop: int
    journal: Journal | None = None
    ignored: tuple[int, int, int] | None = None

    def bring_in(self, records: Iterable[Added | Removed]) -> None:
        """Follow the journal."""
        directory = self.snapshot.directory
        for record in records:
            if isinstance(record, Added):
                directory.add(record.name, record.entry, record.offset)
            else:
                for name in record.names:
                    directory.remove(name)
        if self.journal is not None:
            self.stop = self.journal.stop


class LocalArchive(Archive):
    """An archive in a local file.

    Args:
        path: of the file; symbolic links are followed.
        must_exist: raise where it does not, instead of taking it for empty.
        flags: with which files are opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, must_exist: bool, flags: int = os.O_RDONLY) -> None:
        self.path = slashes(os.path.realpath(local_path(path)))
        self.journal_path = self.path + SUFFIX
        self.must_exist = must_exist
        self.flags = flags
        self.url = url_of_path(self.path)
        self.traits = _TRAITS
        self._renew()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self.known: State | None = None

    def sub_urls(self) -> tuple[str, ...]:
        return (file_url(self.path),)

    @property
    def identity(self) -> Identity:
        return Identity("file", self.path)

    def guard(self) -> AbstractContextManager[Any]:
        """The lock of the known state of the archive. It is held for looking, never for reading or writing data."""
        return self._lock

    def origins(self, path: str) -> Iterator[tuple[Store, str]]:
        folder, name = os.path.split(self.path)
        yield LocalStore(folder), f"{name}/{path}".rstrip("/")

    def snapshot(self) -> LocalSnapshot:
        with self.guard():
            return self.fresh().snapshot

    def forget(self, snapshot: Snapshot) -> None:
        with self.guard():
            if self.known is not None and self.known.snapshot is snapshot:
                self.known = None

    def fetch(self, snapshot: Snapshot, spans: Sequence[tuple[int, int]]) -> list[Buffer]:
        assert isinstance(snapshot, LocalSnapshot)
        file = snapshot.file
        if file is None:
            raise ChangedError("the archive is gone")
        found: list[Buffer] = []
        for start, stop in spans:
            try:
                data = pread_all(file.fd, start, stop)
            except OSError as error:
                raise failure(error, doing="read", path=self.path, key="", store=self) from error
            if len(data) != stop - start:
                raise ChangedError("the archive is shorter than its directory says")
            found.append(data)
        return found

    def drop(self) -> None:
        """Let go of the open files."""
        with self.guard():
            self.known = None

    # -- known state ---------------------------------------------------------------------------------------------------

    def fresh(self) -> State:
        """The state, brought up to date. Call it under the guard."""
        try:
            state = self.known
            if state is None or not self._is_current(state):
                self.known = None
                state = self.known = self._load()
            return state
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise failure(error, doing="read", path=self.path, key="", store=self) from error

    def _is_current(self, state: State) -> bool:
        """True where the archive is the one known, after following its journal."""
        file, journal = state.snapshot.file, state.journal
        there = _status(self.path)
        if there is None or file is None:
            return there is None and file is None and not self.must_exist
        if (there.st_dev, there.st_ino) != file.identity[:2]:
            return False
        status = _status(self.journal_path)
        if journal is not None:
            if status is None or (status.st_dev, status.st_ino) != journal.file.identity[:2]:
                return False
            if status.st_size < journal.position:
                return False
            if status.st_size > journal.position:
                state.bring_in(journal.read_on(file.fd))
            return True
        if status is not None and _id(status) != state.ignored:
            found = Journal.open(self.journal_path, file.fd, self.flags)
            if found is not None:
                if found[0].base != state.stop:
                    return False
                state.journal = found[0]
                state.bring_in(found[1])
                return True
            state.ignored = _id(status)
        return (there.st_size, there.st_mtime_ns) == state.stamp

    def _load(self) -> State:
        message = "other writers kept replacing the archive while it was read: try again"
        for _ in attempts(_MAX_ATTEMPTS, lambda: StoreError(message, store=self)):
            state = self._try_load()
            if state is not None:
                return state
        raise AssertionError

    def _try_load(self) -> State | None:
        """Read the directory and the journal; None where another process changed the one between the other."""
        try:
            fd = open_file(self.path, self.flags | _NONBLOCK)
        except OSError as error:
            if error.errno not in MISSING:
                raise
            if self.must_exist:
                raise ArchiveNotFoundError("there is no such archive", store=self) from error
            return State(LocalSnapshot(Directory(), os.urandom(12), None), (0, 0), 0)
        file = Handle(fd, os.fstat(fd))
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StoreError("not a zip archive: not a file", store=self)
        ignored = self._journal_id()  # before the look at it: what comes later is to be noticed
        found = Journal.open(self.journal_path, fd, self.flags)
        if found is not None:
            journal, records = found
            directory, _ = self._read_directory(fd, journal.base)
            state = State(LocalSnapshot(directory, os.urandom(12), file), (0, 0), journal.base, journal)
            state.bring_in(records)
            return state
        now = os.fstat(fd)  # after the look for a journal: without one, the file ends where the archive does
        try:
            directory, stop = self._read_directory(fd, now.st_size)
        except StoreError:
            if self._journal_id() != ignored or os.fstat(fd).st_size != now.st_size or self._is_other(now):
                return None
            recovered = self._last_directory(fd, now.st_size)
            if recovered is None:
                raise
            directory, stop = recovered
        if self._journal_id() != ignored:
            return None
        stamp = now.st_size, now.st_mtime_ns
        return State(LocalSnapshot(directory, os.urandom(12), file), stamp, stop, None, ignored)

    def _journal_id(self) -> tuple[int, int, int] | None:
        status = _status(self.journal_path)
        return None if status is None else _id(status)

    def _is_other(self, status: os.stat_result) -> bool:
        there = _status(self.path)
        return there is None or (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino)

    # -- the directory -------------------------------------------------------------------------------------------------

    def _read_directory(self, fd: int, size: int) -> tuple[Directory, int]:
        """The directory of the archive that is the first ``size`` bytes of the file, and where that archive stops."""
        if size == 0:
            return Directory(), 0
        start = max(0, size - TAIL_BYTES)
        tail = bytes(pread_all(fd, start, size))
        end = find_end(tail, start)
        if end is None:
            raise StoreError("not a zip archive, or one that was cut short: it has no end record", store=self)
        first = start + end.begin - end.size
        if first < end.offset:
            raise StoreError("the archive is damaged: no directory where it should be", store=self)
        if end.size > MAX_DIRECTORY_BYTES:
            raise StoreError(f"the directory of the archive has {end.size} bytes, which is too large", store=self)
        raw = tail[first - start : end.begin] if first >= start else pread_all(fd, first, first + end.size)
        directory = parse_directory(raw, end, start=first, shift=first - end.offset, store=self)
        return directory, start + end.stop

    def _last_directory(self, fd: int, size: int) -> tuple[Directory, int] | None:
        """The last complete directory in a file that does not end with one.

        Entries may be archives themselves: only a directory with offsets of this file counts.
        """
        if pread(fd, 4, 0) not in (LOCAL_SIGNATURE, END_SIGNATURE):
            return None  # no archive at all: not worth a search
        n_tried = 0
        stop = size
        while stop > 0:
            start = max(0, stop - _WINDOW_BYTES)
            window = bytes(pread_all(fd, start, min(stop + len(END_SIGNATURE) - 1, size)))
            at = len(window)
            while (at := window.rfind(END_SIGNATURE, 0, at)) >= 0:
                archive_stop = _stop_of(fd, start + at)
                if archive_stop is None or archive_stop > size:
                    continue
                n_tried += 1
                if n_tried > _MAX_CANDIDATES:
                    return None
                try:
                    directory, found_stop = self._read_directory(fd, archive_stop)
                except StoreError:
                    continue
                if directory.shift == 0 and found_stop == archive_stop:
                    return directory, found_stop
            stop = start
        return None

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "known")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._renew()
        reset_after_fork(self._renew)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in MISSING:
            return None
        raise


def _id(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _stop_of(fd: int, position: int) -> int | None:
    """End of an archive whose end record is at ``position``; None if that cannot be the end record of this file."""
    before = min(position, ZIP64_LOCATOR.size)
    record = pread(fd, before + END.size, position - before)
    if len(record) < before + END.size:
        return None
    *_, size, offset, n_comment = END.unpack_from(record, before)
    if offset + size != position and not record.startswith(b"PK\6\7"):
        return None
    return position + END.size + int(n_comment)
