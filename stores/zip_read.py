"""Entries of an archive, read in as few requests as can be.

Where the bytes of an entry begin is said only by its local header, right before them. So the first read of an entry
asks for header and data together, with room for what a header may be longer than the directory lets on; after that the
place is known.
"""

from __future__ import annotations

import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import deflate
import numpy as np

from zarrdock.errors import ArchiveNotFoundError, RangeError, StoreError
from zarrdock.ranges import Span, Tail, merge
from zarrdock.stores.base import Blob, Buffer, Read, Store, Traits, Version, check_key
from zarrdock.stores.identity import Identity
from zarrdock.stores.zip_format import (
    CENTRAL_SIGNATURE,
    DEFLATED,
    LOCAL,
    MAX_DIRECTORY_BYTES,
    Directory,
    End,
    Entry,
    check_entry,
    data_offset,
    find_end,
    parse_directory,
)

__all__ = ["TAIL_BYTES", "Archive", "ChangedError", "Snapshot", "StoreArchive", "Wanted", "crc_of", "read_wanted"]


# -- A zip archive as something to read from: a directory, and spans of bytes. Here, one inside another store.

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
    """Source of the bytes of an archive.

    Attributes:
        traits: traits of a zip store on this archive. url, identity: of the archive.
    """

    traits: Traits
    url: str

    @property
    @abstractmethod
    def identity(self) -> Identity: ...

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
    def sub_urls(self) -> tuple[str, ...]:
        """The parts of the URL pipeline of the archive's file."""

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

    def sub_urls(self) -> tuple[str, ...]:
        return self.store._sub_urls(self.key)

    @property
    def identity(self) -> Identity:
        return self.store.identity.below(self.key)

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
        raise StoreError(
            f"the archive kept changing: try again ({last})",
            key=self.key,
            store=self.store,
        ) from last

    def _load_once(self) -> Snapshot:
        blob = self.store.get(self.key, Tail(TAIL_BYTES))
        if blob is None:
            raise ArchiveNotFoundError("there is no such archive", key=self.key, store=self.store)
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
        """Start of the tail in the archive: one more request, for unusual archives only."""
        size = self.store.size(self.key)
        if size is None or size < len(tail):
            raise ChangedError("the archive was replaced while its directory was read")
        return size - len(tail)

    def _directory(self, tail: bytes, start: int | None, end: End, version: Version | None) -> tuple[Buffer, int]:
        """The bytes of the directory, and where it begins."""
        if end.size > MAX_DIRECTORY_BYTES:
            raise StoreError(
                f"the directory of the archive has {end.size} bytes, which is too large", key=self.key, store=self.store
            )
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


# Extra fields of local headers are longer than this in no archive seen (alignment to pages takes up to 4096).
_MAX_SLACK = 4096
# Up to here one request from the header on is better than two.
_NEAR = 32 * 2**10


# Tuples, for there is one or two of them for every chunk.


class Wanted(NamedTuple):
    """Bytes ``start`` to ``stop`` of an entry, as it was before it was compressed; never none."""

    name: str
    entry: Entry
    start: int
    stop: int


class _Piece(NamedTuple):
    """Bytes ``start`` to ``stop`` of an entry as stored.

    Span number ``data`` of a batch begins ``at`` in the archive and holds them, span number ``header`` the local header
    (None: it is not needed any more).
    """

    name: str
    entry: Entry
    start: int
    stop: int
    header: int | None
    data: int
    at: int


def read_wanted(archive: Archive, snapshot: Snapshot, wanted: Sequence[Wanted]) -> list[Buffer]:
    """Read parts of entries, in one round, and a second one only for what a long header pushed out of the first.

    Raises:
        ChangedError: the archive is not what its directory says. StoreError: an entry is damaged.
        UnsupportedError: an entry can't be read here.
    """
    spans: dict[tuple[int, int], int] = {}
    pieces = []
    for want in wanted:
        check_entry(want.name, want.entry, snapshot.directory, archive)
        whole = want.entry.method == DEFLATED
        start, stop = (0, want.entry.compressed) if whole else (want.start, want.stop)
        pieces.append(_plan(want.name, want.entry, start, stop, snapshot, spans))
    buffers = archive.fetch(snapshot, [*spans])
    data = [_cut(piece, buffers, snapshot) for piece in pieces]
    late = [i for i, found in enumerate(data) if found is None]
    if late:
        spans = {}
        again = [_plan(p.name, p.entry, p.start, p.stop, snapshot, spans) for p in (pieces[i] for i in late)]
        buffers = archive.fetch(snapshot, [*spans])
        for i, piece in zip(late, again, strict=True):
            data[i] = _cut(piece, buffers, snapshot)
    inflated: dict[int, Buffer] = {}
    return [_finish(want, found, archive, inflated) for want, found in zip(wanted, data, strict=True)]


def _plan(
    name: str, entry: Entry, start: int, stop: int, snapshot: Snapshot, spans: dict[tuple[int, int], int]
) -> _Piece:
    """Add to ``spans`` what brings bytes ``start`` to ``stop`` of an entry."""

    def number(first: int, last: int) -> int:
        return spans.setdefault((first, last), len(spans))

    directory = snapshot.directory
    known = directory.data_offsets.get(entry.header)
    if known is not None:
        return _Piece(name, entry, start, stop, None, number(known + start, known + stop), known + start)
    header = entry.header
    least = header + LOCAL.size + entry.name_length
    limit = directory.limit(header)
    slack = min(limit - least - entry.compressed, _MAX_SLACK)
    if start <= _NEAR:
        n = number(header, least + slack + stop)
        return _Piece(name, entry, start, stop, n, n, header)
    at = least + start
    return _Piece(name, entry, start, stop, number(header, least), number(at, at + slack + stop - start), at)


def _cut(piece: _Piece, buffers: Sequence[Buffer], snapshot: Snapshot) -> Buffer | None:
    """The bytes of a piece; None where they are not all in the span that was read."""
    offset = snapshot.directory.data_offsets.get(piece.entry.header)
    if piece.header is not None:
        # Looked at even where the place is known by now, from another piece or in another thread: it costs nothing.
        offset = data_offset(buffers[piece.header], piece.name, piece.entry, snapshot.directory)
    if offset is None:
        raise ChangedError(f"entry {piece.name!r} is not where the directory says")
    buffer = buffers[piece.data]
    first = offset + piece.start - piece.at
    last = first + piece.stop - piece.start
    if last > len(buffer):
        return None
    return buffer if (first, last) == (0, len(buffer)) else memoryview(buffer)[first:last]


def _finish(want: Wanted, data: Buffer | None, archive: Archive, inflated: dict[int, Buffer]) -> Buffer:
    entry = want.entry
    if data is None:
        raise ChangedError(f"entry {want.name!r} is not where the directory says")
    if entry.method == DEFLATED:
        whole = inflated.get(entry.header)
        if whole is None:
            whole = inflated[entry.header] = _inflate(data, want, archive)
        n = want.stop - want.start
        return whole if n == entry.size else memoryview(whole)[want.start : want.stop]
    if len(data) == entry.size and crc_of(data) != entry.crc:
        raise StoreError("the entry is damaged: its checksum is wrong", key=want.name, store=archive)
    return data


def _inflate(data: Buffer, want: Wanted, archive: Archive) -> Buffer:
    """The bytes of a deflated entry: as many as announced, with the checksum announced, or an error."""
    size = want.entry.size
    try:
        inflated: Buffer = deflate.deflate_decompress(data, size)
    except deflate.DeflateError as error:
        message = f"the entry is damaged: it does not inflate to the {size} bytes announced"
        raise StoreError(message, key=want.name, store=archive) from error
    if len(inflated) != size or crc_of(inflated) != want.entry.crc:
        raise StoreError("the entry is damaged: its checksum is wrong", key=want.name, store=archive)
    return inflated


def crc_of(data: Buffer, crc: int = 0) -> int:
    """CRC-32, as in zip archives."""
    # libdeflate's is eight times as fast as zlib's; empty buffers are not worth a question of what it makes of them.
    result: int = deflate.crc32(data, crc) if len(data) else zlib.crc32(data, crc)
    return result
