"""Copies of files that cost as little as the file system allows."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from zarrdock.errors import StoreError
from zarrdock.stores.local_files import pread, pread_all, pwrite
from zarrdock.stores.windows_files import IS_WINDOWS

if sys.platform == "linux" and not IS_WINDOWS:
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
            raise StoreError("another program truncated the file while it was read")
        return data


def clone(source: int, target: int, size: int) -> None:
    """Make the empty file ``target`` begin with the first ``size`` bytes of ``source``.

    Where the file system can (btrfs, XFS, bcachefs) they share these bytes, and nothing is copied; else the kernel
    copies them, or at worst this process, block by block.

    Raises:
        OSError: no space, or a broken disk.
    """
    if _reflink(source, target):
        os.ftruncate(target, size)
    else:
        _copy(source, target, size)


def _copy(source: int, target: int, size: int) -> None:
    done = 0
    try:
        while done < size and hasattr(os, "copy_file_range"):
            n = os.copy_file_range(source, target, size - done, done, done)
            if not n:
                break
            done += n
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    while done < size:
        block = pread(source, min(_BLOCK, size - done), done)
        if not block:
            raise StoreError("another program truncated the file while it was copied")
        write_pieces(target, [(done, block)])
        done += len(block)


def _reflink(source: int, target: int) -> bool:
    if sys.platform != "linux" or IS_WINDOWS:
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
            n = pwrite(fd, view, at)
            view, at = view[n:], at + n
