"""The records of a zip archive that is written: local headers, directory, end. Pure: values in, bytes out.

Sizes and checksum are known before anything is written, so there are no data descriptors; zip64 fields stand where a
number needs them, and nowhere else. Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import time

from zarrdock.errors import InvalidKeyError
from zarrdock.stores.base import Buffer
from zarrdock.stores.zip_directory import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    END,
    END_SIGNATURE,
    LOCAL,
    LOCAL_SIGNATURE,
    ZIP64_END,
    ZIP64_LOCATOR,
    Entry,
    zip64_sizes,
)

__all__ = ["end_records", "local_header", "new_record", "placed", "relocated"]

_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF
_HAS_DESCRIPTOR, _IS_UTF8 = 0x8, 0x800
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
    """What :func:`new_record` gave, with the local header at ``header``."""
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


def end_records(n_entries: int, size: int, offset: int, comment: bytes) -> bytes:
    """What follows a directory of ``size`` bytes at ``offset``."""
    zip64 = b""
    if n_entries >= _MAX_16 or size >= _MAX_32 or offset >= _MAX_32:
        zip64 = ZIP64_END.pack(
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
    return zip64 + end + comment


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
