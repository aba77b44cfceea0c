"""Structures of a zip archive: end record, central directory, local headers. Pure: bytes in, values out.

Every claim of an archive is checked against its bytes before use: a damaged or hostile archive raises ``StoreError``,
and no claim causes an allocation. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import time
import zlib
from array import array
from bisect import bisect_left, bisect_right
from builtins import list as list_
from typing import NamedTuple

from zarrdock.errors import InvalidKeyError, StoreError, UnsupportedError
from zarrdock.stores.base import Buffer, Listing, check_key

__all__ = [
    "CENTRAL",
    "CENTRAL_SIGNATURE",
    "DEFLATED",
    "END",
    "END_SIGNATURE",
    "LOCAL",
    "LOCAL_SIGNATURE",
    "MAX_DIRECTORY_BYTES",
    "STORED",
    "ZIP64_END",
    "ZIP64_LOCATOR",
    "Directory",
    "End",
    "Entry",
    "check_entry",
    "data_offset",
    "end_records",
    "find_end",
    "is_key",
    "local_header",
    "new_record",
    "parse_directory",
    "parse_record",
    "placed",
    "relocated",
    "zip64_sizes",
]


LOCAL_SIGNATURE = b"PK\3\4"
CENTRAL_SIGNATURE = b"PK\1\2"
END_SIGNATURE = b"PK\5\6"
_ZIP64_END_SIGNATURE = b"PK\6\6"
_ZIP64_LOCATOR_SIGNATURE = b"PK\6\7"

# signature, version needed, flags, method, time, date, crc, compressed, size, name length, extra length
LOCAL = struct.Struct("<4sHHHHHLLLHH")
# signature, made by, needed, flags, method, time, date, crc, compressed, size, lengths of name, extra and comment,
# disk, internal attributes, external attributes, offset of the local header
CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
# signature, disk, disk of the directory, entries here, entries, size and offset of the directory, comment length
END = struct.Struct("<4sHHHHLLH")
# signature, size of the rest, made by, needed, disk, disk of the directory, entries here, entries, size, offset
ZIP64_END = struct.Struct("<4sQHHLLQQQQ")
# signature, disk of the zip64 end record, its offset, number of disks
ZIP64_LOCATOR = struct.Struct("<4sLQL")

STORED, DEFLATED = 0, 8
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd", 99: "AES"}
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_IS_UTF8 = 0x800
# Of our own, beyond the 16 bits of the format: the name is that of a field beside the name.
_RENAMED = 0x10000
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF

# A directory is held in memory: this is more than five million entries.
MAX_DIRECTORY_BYTES = 512 * 2**20
# Deflate can't do better than 258 bytes in two bits.
_MAX_DEFLATE_RATIO = 1032


class Entry(NamedTuple):
    """One file in an archive (a tuple, for there may be millions).

    Attributes:
        header: offset of the local header in the archive. compressed, size: bytes as stored, and as they were.
        crc: CRC-32 of the bytes as they were. name_length: bytes of the name.
    """

    header: int
    compressed: int
    size: int
    crc: int
    method: int
    flags: int
    name_length: int


class End(NamedTuple):
    """The end record.

    Attributes:
        begin: where in the bytes looked at it begins, and the directory stops. stop: where it stops, comment included.
        n_entries, size, offset: of the directory, as claimed; offset in the archive.
    """

    begin: int
    stop: int
    n_entries: int
    size: int
    offset: int
    comment: bytes


class Directory:
    """The entries of an archive by name, good names only, and where things are.

    Attributes:
        entries: by name. data_offsets: by local header, where the bytes of an entry begin, as far as known.
        start, size: of the central directory in the archive, in bytes. shift: what offsets in it fall short of.
        comment: of the archive.
    """

    def __init__(self, *, start: int = 0, size: int = 0, shift: int = 0, comment: bytes = b"") -> None:
        self.entries: dict[str, Entry] = {}
        self.data_offsets: dict[int, int] = {}
        self.headers: array[int] = array("Q")
        self.start = start
        self.size = size
        self.shift = shift
        self.comment = comment
        self._sorted: tuple[int, list_[str]] = (-1, [])
        self._n_changes = 0

    def limit(self, header: int) -> int:
        """The first byte behind a local header that belongs to another entry, or to the directory."""
        i = bisect_right(self.headers, header)
        return self.headers[i] if i < len(self.headers) else self.start

    def add(self, name: str, entry: Entry, offset: int) -> None:
        """Set an entry whose data is known to begin at ``offset``."""
        self.data_offsets[entry.header] = offset
        self.entries[name] = entry
        self._n_changes += 1

    def remove(self, name: str) -> None:
        """Forget an entry."""
        self.entries.pop(name, None)  # where its data begins stays known: a thread may be about to read it
        self._n_changes += 1

    def names_below(self, before: str) -> list_[str]:
        """Names that begin with ``before`` ("" or a path with a "/" at its end), sorted."""
        names = self._names()
        if not before:
            return names
        # "0" comes right after "/".
        return names[bisect_left(names, before) : bisect_left(names, before[:-1] + "0")]

    def level(self, before: str) -> Listing:
        """Names right below ``before``, found in steps of whole branches."""
        names = self._names()
        i = bisect_left(names, before)
        keys, prefixes = [], []
        while i < len(names) and names[i].startswith(before):
            name, slash, _ = names[i][len(before) :].partition("/")
            if slash:
                prefixes.append(name)
                i = bisect_left(names, f"{before}{name}0", i)
            else:
                keys.append(name)
                i += 1
        return Listing(tuple(keys), tuple(sorted({*prefixes})))

    def _names(self) -> list_[str]:
        n_changes, names = self._sorted
        if n_changes != self._n_changes:
            n_changes = self._n_changes
            names = sorted([*self.entries])
            self._sorted = n_changes, names
        return names


def find_end(tail: bytes, start: int | None) -> End | None:
    """Find the end record in the last bytes of an archive.

    Args:
        tail: the last bytes, or all of them.
        start: where in the archive ``tail`` begins, where known.
    Returns:
        The record whose comment reaches to the very end; or else, if ``start`` is known, the last one whose offsets are
        those of this archive, so that one of an archive inside this archive is not taken for it. None: there is none.
    """
    for to_the_end in (True, False) if start is not None else (True,):
        position = len(tail)
        while (position := tail.rfind(END_SIGNATURE, 0, position)) >= 0:
            end = _end_at(tail, position)
            if end is None or (to_the_end and end.stop != len(tail)):
                continue
            if not to_the_end and (start is None or start + end.begin - end.size != end.offset):
                continue
            first = end.begin - end.size
            if first < 0 or not end.size or tail.startswith(CENTRAL_SIGNATURE, first):
                return end
    return None


def _end_at(tail: bytes, position: int) -> End | None:
    if position + END.size > len(tail):
        return None
    _, disk, first_disk, _, n_entries, size, offset, n_comment = END.unpack_from(tail, position)
    stop = position + END.size + n_comment
    if stop > len(tail):
        return None
    begin = position
    zip64 = _zip64_end(tail, position)
    # Some writers add it where nothing needs it; then it has to say the same.
    if zip64 is not None and all(
        short in (long, most)
        for short, long, most in zip((n_entries, size, offset), zip64[8:], (_MAX_16, _MAX_32, _MAX_32), strict=True)
    ):
        begin, _, _, _, _, disk, first_disk, _, n_entries, size, offset = zip64
    if disk not in (0, _MAX_16, _MAX_32) or first_disk not in (0, _MAX_16, _MAX_32):
        return None  # in several parts
    if (n_entries == 0) != (size == 0) or size < n_entries * CENTRAL.size:
        return None
    return End(begin, stop, n_entries, size, offset, tail[stop - n_comment : stop])


def _zip64_end(tail: bytes, position: int) -> tuple[int, ...] | None:
    """Place of the zip64 end record before the end record at ``position``, then its fields after the signature."""
    locator = position - ZIP64_LOCATOR.size
    if locator < ZIP64_END.size or not tail.startswith(_ZIP64_LOCATOR_SIGNATURE, locator):
        return None
    at = locator - ZIP64_END.size
    if not tail.startswith(_ZIP64_END_SIGNATURE, at):  # it may carry more than the fixed fields
        at = tail.rfind(_ZIP64_END_SIGNATURE, 0, at)
    if at < 0:
        return None
    fields = ZIP64_END.unpack_from(tail, at)
    return (at, *fields) if at + 12 + fields[1] == locator else None


def parse_directory(data: Buffer, end: End, *, start: int, shift: int, store: object) -> Directory:
    """Parse a central directory.

    Args:
        data: its bytes, ``end.size`` of them.
        start: where in the archive it begins. shift: number to add to every offset in it.
    Raises:
        StoreError: it is damaged.
    """
    directory = Directory(start=start, size=end.size, shift=shift, comment=end.comment)
    entries, headers = directory.entries, directory.headers
    position = n = 0
    while position < len(data):
        name, entry, position = parse_record(data, position, shift, store)
        n += 1
        if not 0 <= entry.header < start:
            raise StoreError(f"the archive is damaged: entry {name!r} would begin outside of it", store=store)
        headers.append(entry.header)
        if name is not None and is_key(name):
            entries[name] = entry  # of several the last counts
    # Writers that knew no zip64 counted modulo 2**16.
    if n != end.n_entries and n % 2**16 != end.n_entries:
        raise StoreError(f"the archive is damaged: {n} entries where {end.n_entries} are announced", store=store)
    directory.headers = array("Q", sorted(headers))
    return directory


def is_key(name: str) -> bool:
    """False for folders, and for names that would lead out of the hierarchy: those are no keys."""
    if name.endswith("/"):
        return False
    try:
        check_key(name)
    except InvalidKeyError:
        return False
    return True


def parse_record(data: Buffer, position: int, shift: int, store: object) -> tuple[str | None, Entry, int]:
    """Parse one record of a central directory.

    Returns:
        The name (None: not decodable), the entry, and the position of the next record.
    Raises:
        StoreError: it is damaged.
    """
    if position + CENTRAL.size > len(data):
        raise StoreError("the archive is damaged: its directory is cut short", store=store)
    fields = CENTRAL.unpack_from(data, position)
    (signature, _, _, flags, method, _, _, crc, compressed, size, n_name, n_extra, n_comment, _, _, _, header) = fields
    name_start = position + CENTRAL.size
    extra_start = name_start + n_name
    stop = extra_start + n_extra + n_comment
    if signature != CENTRAL_SIGNATURE or stop > len(data):
        raise StoreError("the archive is damaged: its directory is not one", store=store)
    if size == _MAX_32 or compressed == _MAX_32 or header == _MAX_32:
        extra = bytes(data[extra_start : extra_start + n_extra])
        size, compressed, header = zip64_sizes(extra, size, compressed, header)
    raw = bytes(data[name_start:extra_start])
    name: str | None
    try:
        name = raw.decode() if flags & _IS_UTF8 else raw.decode("cp437")
        if n_extra and not flags & _IS_UTF8 and not raw.isascii():
            unicode_name = _unicode_path(bytes(data[extra_start : extra_start + n_extra]), raw)
            if unicode_name is not None:
                name, flags = unicode_name.decode(), flags | _RENAMED
    except UnicodeDecodeError:
        name = None
    return name, Entry(header + shift, compressed, size, crc, method, flags, n_name), stop


def zip64_sizes(extra: bytes, *values: int) -> list_[int]:
    """The values of 32 bits, those that say "look into the zip64 field" replaced by what stands there."""
    position = 0
    while position + 4 <= len(extra):
        kind, n = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + n]
            large = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            return [next(large, value) if value == _MAX_32 else value for value in values]
        position += 4 + n
    return [*values]


def _unicode_path(extra: bytes, raw: bytes) -> bytes | None:
    """The name in UTF-8 that a field for it has, if it is a name for ``raw``. Source: APPNOTE, section 4.6.9."""
    position = 0
    while position + 4 <= len(extra):
        kind, n = struct.unpack_from("<HH", extra, position)
        field = extra[position + 4 : position + 4 + n]
        if kind == 0x7075 and len(field) > 5 and struct.unpack_from("<BL", field) == (1, zlib.crc32(raw)):
            return field[5:]
        position += 4 + n
    return None


def check_entry(name: str, entry: Entry, directory: Directory, store: object) -> None:
    """Look whether an entry can be read at all, and whether what it claims can be.

    Raises:
        UnsupportedError: encrypted, or compressed in a way that is not known here. StoreError: damaged.
    """
    if entry.flags & _ENCRYPTED:
        raise UnsupportedError(f"{store}: entry {name!r} is encrypted; write the archive without a password")
    if entry.method not in (STORED, DEFLATED):
        method = f"{_METHODS.get(entry.method, 'an unknown method')} (number {entry.method})"
        raise UnsupportedError(f"{store}: entry {name!r} is compressed with {method}; only stored and deflate are read")
    if entry.header in directory.data_offsets:
        return
    if entry.header + LOCAL.size + entry.name_length + entry.compressed > directory.limit(entry.header):
        raise StoreError("the archive is damaged: the entry overlaps with the next", key=name, store=store)
    if entry.method == STORED and entry.compressed != entry.size:
        raise StoreError("the archive is damaged: a stored entry has two sizes", key=name, store=store)
    if entry.size > entry.compressed * _MAX_DEFLATE_RATIO:
        raise StoreError(
            "the archive is damaged: no entry can be compressed so much",
            key=name,
            store=store,
        )


def data_offset(header: Buffer, name: str | None, entry: Entry, directory: Directory) -> int | None:
    """Find where in the archive the bytes of an entry begin, and remember it.

    Args:
        header: the local header, name included. name: None if it is not decodable.
    Returns:
        None if that is not the header of this entry, or the archive ends too early for its bytes.
    """
    if len(header) < LOCAL.size + entry.name_length:
        return None
    signature, _, _, method, _, _, _, _, _, n_name, n_extra = LOCAL.unpack_from(header)
    if signature != LOCAL_SIGNATURE or method != entry.method or n_name != entry.name_length:
        return None
    raw = bytes(header[LOCAL.size : LOCAL.size + n_name])
    if (
        name is not None
        and not entry.flags & _RENAMED
        and raw.decode("utf-8" if entry.flags & _IS_UTF8 else "cp437", "replace") != name
    ):
        return None
    offset = entry.header + LOCAL.size + n_name + n_extra
    if offset + entry.compressed > directory.limit(entry.header):
        return None
    directory.data_offsets[entry.header] = offset
    return int(offset)


# -- The records of a zip archive that is written: local headers, directory, end. Pure: values in, bytes out.
#
# Sizes and checksum are known before anything is written, so there are no data descriptors; zip64 fields stand where
# a number needs them, and nowhere else. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.

_HAS_DESCRIPTOR = 0x8
_HEADER_AT = CENTRAL.size - 4
_VERSION, _VERSION_ZIP64 = 20, 45
_UNIX = 3 << 8
_MODE = 0o100644 << 16  # a plain file, readable by all, where it is unpacked


def new_record(name: str, *, size: int, compressed: int, crc: int, method: int, store: object) -> tuple[bytes, Entry]:
    """The directory's record of a new entry, and the entry, with the offset 0: see :func:`placed`."""
    raw = name.encode()
    if len(raw) > _MAX_16:
        raise InvalidKeyError("a name in a zip has at most 65535 bytes", key=name[:200], store=store)
    now = time.localtime()
    year = min(max(now.tm_year, 1980), 2107)
    date = (year - 1980) << 9 | now.tm_mon << 5 | now.tm_mday
    clock = now.tm_hour << 11 | now.tm_min << 5 | min(now.tm_sec, 59) // 2
    flags = 0 if raw.isascii() else _IS_UTF8
    extra = _zip64_extra(*(value for value in (size, compressed) if value >= _MAX_32))
    fixed = CENTRAL.pack(
        CENTRAL_SIGNATURE,
        _UNIX | _VERSION_ZIP64,
        _VERSION_ZIP64 if extra else _VERSION,
        flags,
        method,
        clock,
        date,
        crc,
        min(compressed, _MAX_32),
        min(size, _MAX_32),
        len(raw),
        len(extra),
        0,
        0,
        0,
        _MODE,
        0,
    )
    return fixed + raw + extra, Entry(0, compressed, size, crc, method, flags, len(raw))


def relocated(record: Buffer, header: int) -> bytes:
    """A directory's record for the same entry, with a local header at ``header`` as :func:`local_header` writes it."""
    fields = [*CENTRAL.unpack_from(record)]
    name_stop = CENTRAL.size + fields[10]
    extra_stop = name_stop + fields[11]
    old_extra = bytes(record[name_stop:extra_stop])
    size, compressed, _ = zip64_sizes(old_extra, fields[9], fields[8], fields[16])
    extra = _zip64_extra(*(v for v in (size, compressed, header) if v >= _MAX_32)) + _without_zip64(old_extra)
    if header >= _MAX_32:
        fields[2] = max(fields[2], _VERSION_ZIP64)
    fields[3] &= ~_HAS_DESCRIPTOR
    fields[8], fields[9], fields[16] = min(compressed, _MAX_32), min(size, _MAX_32), min(header, _MAX_32)
    fields[11] = len(extra)
    rest = bytes(record[extra_stop : extra_stop + fields[12]])
    return CENTRAL.pack(*fields) + bytes(record[CENTRAL.size : name_stop]) + extra + rest


def placed(record: bytes, header: int) -> bytes:
    """The record from :func:`new_record`, with the local header at ``header``."""
    if header >= _MAX_32:
        return relocated(record, header)
    return b"".join((record[:_HEADER_AT], header.to_bytes(4, "little"), record[CENTRAL.size :]))


def local_header(record: Buffer) -> bytes:
    """The header that stands before the data of the entry a directory's record describes."""
    (_, _, needed, flags, method, clock, date, crc, compressed, size, n_name, n_extra, *_) = CENTRAL.unpack_from(record)
    name_stop = CENTRAL.size + n_name
    name = bytes(record[CENTRAL.size : name_stop])
    extra = b""
    if size == _MAX_32 or compressed == _MAX_32:
        # Here, unlike in the directory, both sizes stand in the field.
        extra = _zip64_extra(*zip64_sizes(bytes(record[name_stop : name_stop + n_extra]), size, compressed))
        size = compressed = _MAX_32
        needed = max(needed, _VERSION_ZIP64)
    fixed = LOCAL.pack(
        LOCAL_SIGNATURE,
        needed,
        flags & ~_HAS_DESCRIPTOR,
        method,
        clock,
        date,
        crc,
        compressed,
        size,
        n_name,
        len(extra),
    )
    return fixed + name + extra


def end_records(n_entries: int, size: int, offset: int, comment: bytes, *, zip64: bool = False) -> bytes:
    """End records behind a directory of ``size`` bytes at ``offset``; of zip64 where needed or wanted."""
    large = b""
    if zip64 or n_entries >= _MAX_16 or size >= _MAX_32 or offset >= _MAX_32:
        large = ZIP64_END.pack(
            b"PK\6\6",
            ZIP64_END.size - 12,
            _UNIX | _VERSION_ZIP64,
            _VERSION_ZIP64,
            0,
            0,
            n_entries,
            n_entries,
            size,
            offset,
        ) + ZIP64_LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
    n = min(n_entries, _MAX_16)
    end = END.pack(END_SIGNATURE, 0, 0, n, n, min(size, _MAX_32), min(offset, _MAX_32), len(comment))
    return large + end + comment


def _zip64_extra(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _without_zip64(extra: bytes) -> bytes:
    kept = []
    position = 0
    while position + 4 <= len(extra):
        kind, n = struct.unpack_from("<HH", extra, position)
        if kind != 1:
            kept.append(extra[position : position + 4 + n])
        position += 4 + n
    return b"".join(kept)
