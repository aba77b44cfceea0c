"""Copies of files that cost as little as the file system allows."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence

from zarrdock.errors import StoreError
from zarrdock.stores.local_io import pread_all

if sys.platform == "linux":
    import fcntl

__all__ = ["OldFile", "clone", "write_pieces"]

# _IOW(0x94, 9, int) of <linux/fs.h>: the two files share their blocks until one of them is written to.
_FICLONE = 0x40049409

_CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY)
_BLOCK = 2**20


class OldFile:
    """A value in an open file."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def read(self, start: int, stop: int) -> bytes | bytearray:
        """Bytes of it."""
        data = pread_all(self.fd, start, stop)
        if len(data) != stop - start:
            raise StoreError("the file was cut short in place while it was read")
        return data


def clone(source: int, target: int, size: int) -> None:
    """Make the empty file ``target`` begin with the first ``size`` bytes of ``source``.

    Where the file system can (btrfs, XFS, bcachefs) they share these bytes, and nothing is copied; else the kernel
    copies them, or at worst this process, block by block. Holes stay holes.

    Raises:
        OSError: no space, or a broken disk.
    """
    if _reflink(source, target):
        os.ftruncate(target, size)
        return
    for start, stop in _data(source, size):
        _copy(source, target, start, stop)
    os.ftruncate(target, size)


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """What is no hole among the first ``size`` bytes of a file: spans, in their order."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) != errno.ENXIO:  # it can't tell
                yield at, size
            elif os.fstat(fd).st_size < size:
                raise StoreError("the file was cut short in place while it was copied") from error
            return
        if start < stop:
            yield start, stop
        at = stop


def _copy(source: int, target: int, done: int, stop: int) -> None:
    try:
        while done < stop and hasattr(os, "copy_file_range"):
            n = os.copy_file_range(source, target, stop - done, done, done)
            if not n:
                break
            done += n
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    while done < stop:
        block = os.pread(source, min(_BLOCK, stop - done), done)
        if not block:
            raise StoreError("the file was cut short in place while it was copied")
        write_pieces(target, [(done, block)])
        done += len(block)


def _reflink(source: int, target: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def write_pieces(fd: int, pieces: Sequence[tuple[int, bytes | bytearray | memoryview]]) -> None:
    """Write each piece where it belongs."""
    for at, piece in pieces:
        view = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
        while view:
            n = os.pwrite(fd, view, at)
            view, at = view[n:], at + n
