"""Two folders change places in one step, where the system can do that."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["can_exchange", "exchange", "sync_file_system"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # <linux/fs.h>


def exchange(one: str, other: str) -> None:
    """Let two names change what they lead to, atomically.

    Raises:
        OSError: ENOSYS where there is no such call, EINVAL where the file system does not know it; nothing was done.
    Source: renameat2(2), RENAME_EXCHANGE.
    """
    _call("renameat2", _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE))


def can_exchange(folder: str) -> bool:
    """Whether :func:`exchange` works within a folder: tried with two empty ones, which are removed again."""
    names = [os.path.join(folder, f"try{i}") for i in range(2)]
    for name in names:
        os.makedirs(name, exist_ok=True)
    try:
        exchange(*names)
    except OSError:
        return False
    finally:
        for name in names:
            os.rmdir(name)
    return True


def sync_file_system(folder: str) -> None:
    """Have all that was written to the folder's file system on the disk. Source: syncfs(2)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _call("syncfs", fd)
    finally:
        os.close(fd)


def _call(name: str, *arguments: object) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if sys.platform == "linux" else None
    if function is None:
        raise OSError(38, f"this system has no {name}")  # ENOSYS of Linux
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
