"""A zip archive as something to read from: a directory, and spans of bytes. Here, one inside another store."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarrdock.errors import RangeError, StoreError
from zarrdock.ranges import Span, Tail, merge
from zarrdock.stores.base import Blob, Buffer, Read, Store, Traits, Version, check_key
from zarrdock.stores.zip_directory import (
    CENTRAL_SIGNATURE,
    MAX_DIRECTORY_BYTES,
    Directory,
    End,
    Entry,
    find_end,
    parse_directory,
)

__all__ = ["TAIL_BYTES", "Archive", "ChangedError", "Snapshot", "StoreArchive"]

# The longest end record with its comment is 65,633 bytes; the rest holds the directory of a thousand entries, in less
# time than another round takes.
TAIL_BYTES = 128 * 2**10

# Neighbouring entries are fetched in one request up to this size; above, requests side by side are faster.
_MAX_MERGED_BYTES = 8 * 2**20


class ChangedError(Exception):
    """The archive is not what its directory says, any more or at all."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A directory, and what tells the archive it belongs to from others (None: nothing does)."""

    directory: Directory
    generation: Hashable | None

    def version(self, entry: Entry) -> Version | None:
        """The version of an entry. Its bytes stay where they are as long as the archive is this one."""
        return None if self.generation is None else (self.generation, entry.header)


class Archive(ABC):
    """Where the bytes of an archive come from.

    Attributes:
        traits: those of a zip store on this archive. url: of the archive.
    """

    traits: Traits
    url: str

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The directory as it is known to be now. Raises StoreError: no archive, or a damaged one."""

    @abstractmethod
    def fetch(self, snapshot: Snapshot, spans: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Bytes ``start`` to ``stop`` of the archive, for each span. Raises ChangedError: it is not that archive."""

    @abstractmethod
    def origins(self, path: str) -> Iterator[tuple[Store, str]]:
        """The store that the archive is a file of, and a path in the archive behind the key of that file."""

    @abstractmethod
    def forget(self, snapshot: Snapshot) -> None:
        """Read the directory anew at the next occasion, if that is still this one."""


class StoreArchive(Archive):
    """An archive that is a key of another store: read there, not written.

    The directory is read once and taken to be right until a read finds the archive replaced.
    """

    def __init__(self, store: Store, key: str) -> None:
        self.store = store
        self.key = check_key(key, store)
        self.url = f"{store.url.rstrip('/')}/{key}"
        self.traits = replace(store.traits, writable=False, atomic_update=False, listable=True, max_versions=None)
        self._snapshot: Snapshot | None = None
        self._doubtful = False
        self._lock = threading.Lock()

    def origins(self, path: str) -> Iterator[tuple[Store, str]]:
        return self.store.origins(f"{self.key}/{path}".rstrip("/"))

    def snapshot(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            with self._lock:
                snapshot = self._snapshot
                if snapshot is None:
                    snapshot = self._snapshot = self._load()
        return snapshot

    def forget(self, snapshot: Snapshot) -> None:
        with self._lock:
            if self._snapshot is snapshot:
                self._snapshot = None
                self._doubtful = True

    def fetch(self, snapshot: Snapshot, spans: Sequence[tuple[int, int]]) -> list[Buffer]:
        table = np.array(spans, np.int64).reshape(-1, 2)
        merged = merge(
            table[:, 0],
            table[:, 1] - table[:, 0],
            gap_bytes=self.traits.merge_gap_bytes,
            max_bytes=min(self.traits.max_request_bytes, _MAX_MERGED_BYTES),
        )
        ranges = [Span(int(a), int(b)) for a, b in zip(merged.starts, merged.stops, strict=True)]
        buffers = self._read(ranges, snapshot.generation)
        found: list[Buffer] = []
        for (start, stop), request, offset in zip(spans, merged.request.tolist(), merged.offset.tolist(), strict=True):
            buffer = buffers[request]
            n = stop - start
            found.append(buffer if n == len(buffer) else memoryview(buffer)[offset : offset + n])
        return found

    def _read(self, ranges: Sequence[Span], version: Version | None) -> list[Buffer]:
        try:
            results = self.store.read([Read(self.key, range_, version) for range_ in ranges])
        except RangeError as error:
            raise ChangedError("the archive is shorter than its directory says") from error
        buffers: list[Buffer] = []
        for range_, result in zip(ranges, results, strict=True):
            if result is None:
                raise ChangedError("the archive is gone")
            if not isinstance(result, Blob):
                raise ChangedError("the archive was replaced") from result
            if len(result.data) != range_.stop - range_.start:
                raise ChangedError("the archive is shorter than its directory says")
            buffers.append(result.data)
        return buffers

    # -- the directory -------------------------------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        for _ in range(3):
            try:
                return self._load_once()
            except ChangedError as error:
                last = error
        raise StoreError(f"{last}, again and again", key=self.key, store=self.store) from last

    def _load_once(self) -> Snapshot:
        blob = self.store.get(self.key, Tail(TAIL_BYTES))
        if blob is None:
            raise StoreError("there is no such archive", key=self.key, store=self.store)
        tail = bytes(blob.data)
        start = 0 if len(tail) < TAIL_BYTES else None
        end = find_end(tail, start)
        if start is None and (end is None or self._doubtful):
            # Something follows the archive; or something stands before it that its offsets don't count.
            start = self._start(tail)
            end = find_end(tail, start)
        if end is None:
            message = "not a zip archive, or one that was cut short: it has no end record"
            raise StoreError(message, key=self.key, store=self.store)
        if start is not None and start + end.begin - end.size < end.offset:
            raise StoreError("the archive is damaged: no directory where it should be", key=self.key, store=self.store)
        raw, first = self._directory(tail, start, end, blob.version)
        directory = parse_directory(raw, end, start=first, shift=first - end.offset, store=self)
        return Snapshot(directory, blob.version)

    def _start(self, tail: bytes) -> int:
        """Where in the archive its tail begins: one more request, for archives that are not as most are."""
        size = self.store.size(self.key)
        if size is None or size < len(tail):
            raise ChangedError("the archive was replaced while its directory was read")
        return size - len(tail)

    def _directory(self, tail: bytes, start: int | None, end: End, version: Version | None) -> tuple[Buffer, int]:
        """The bytes of the directory, and where it begins."""
        if end.size > MAX_DIRECTORY_BYTES:
            raise StoreError(f"a directory of {end.size} bytes is not read", key=self.key, store=self.store)
        first = end.begin - end.size
        if first >= 0:
            return tail[first : end.begin], end.offset if start is None else start + first
        begin = end.offset if start is None else start + first
        try:
            return self._joined(begin, -first, tail[: end.begin], version), begin
        except (ChangedError, StoreError):
            if start is not None:
                raise
        begin = self._start(tail) + first
        return self._joined(begin, -first, tail[: end.begin], version), begin

    def _joined(self, begin: int, n: int, rest: bytes, version: Version | None) -> bytes:
        """A directory of which the last bytes are there."""
        if begin >= 0:
            (head,) = self._read([Span(begin, begin + n)], version)
            if bytes(head[:4]) == CENTRAL_SIGNATURE:
                return b"".join((head, rest))
        raise StoreError("the archive is damaged: no directory where it should be", key=self.key, store=self.store)

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_snapshot": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
