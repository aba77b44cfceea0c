"""Entries of an archive, read in as few requests as can be.

Where the bytes of an entry begin is said only by its local header, right before them. So the first read of an entry
asks for header and data together, with room for what a header may be longer than the directory lets on; after that the
place is known.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import deflate

from zarrdock.errors import StoreError
from zarrdock.stores.base import Buffer
from zarrdock.stores.zip_archive import Archive, ChangedError, Snapshot
from zarrdock.stores.zip_directory import DEFLATED, LOCAL, Entry, check_entry, data_offset

__all__ = ["Wanted", "crc_of", "read_wanted"]

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
