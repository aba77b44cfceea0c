"""Exclusive writers on local files: one lock file a key, which also becomes the new value.

The protocol is that of TensorStore's file driver, so that its writers and ours exclude each other: open
``<path>.__lock``, lock it, look whether the path still names the locked file, write the value into it, rename it over
the key. The lock belongs to the open file description (Linux), so that threads exclude each other as processes do, and
it goes with the process that held it.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable

from zarrdock.after_fork import reset_after_fork
from zarrdock.stores import windows_files
from zarrdock.stores.local_files import MAX_ATTEMPTS, open_file, unlink
from zarrdock.stores.windows_files import IS_WINDOWS

try:
    import fcntl
except ImportError:  # Windows: LockFileEx
    pass

__all__ = ["SUFFIX", "Held", "NoLocksError", "acquire", "try_acquire", "unlocked"]

SUFFIX = ".__lock"

# For good. ENOLCK is not among them: a full lock table passes, and whoever wrote without locks from then on would do so
# between another process's read and its rename.
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# Descriptors of locks held now. A forked child closes its copies: a lock lives as long as any copy of its descriptor
# does, and must not outlive its holder.
_held: set[int] = set()


def _after_fork_in_child() -> None:
    while _held:
        os.close(_held.pop())


reset_after_fork(_after_fork_in_child)


class NoLocksError(OSError):
    """The file system has no file locks."""


if IS_WINDOWS:
    _lock = windows_files.lock
    _unlock = windows_files.unlock

elif sys.platform == "linux":
    # struct flock with a 64-bit off_t: type, whence, start, length (0: to the end), pid (must be 0).
    _LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    _UNLOCK = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)

    def _lock(fd: int, *, wait: bool) -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, _LOCK)

    def _unlock(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _UNLOCK)

else:

    def _lock(fd: int, *, wait: bool) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class Held:
    """A file next to the key, written by its holder only, that takes the key's place or goes away.

    Attributes:
        fd: its descriptor, open for reading and writing; empty at first.
        path: its path while it is there.
    """

    __slots__ = ("_locked", "_there", "fd", "path")

    def __init__(self, fd: int, path: str, *, locked: bool) -> None:
        self.fd = fd
        self.path = path
        self._locked = locked
        self._there = True
        if locked:
            _held.add(fd)

    def rename_to(self, path: str) -> None:
        """Take the place of ``path``, whatever stands there."""
        if IS_WINDOWS:
            windows_files.rename_open(self.fd, path)
        else:
            os.rename(self.path, path)
        self._there = False

    def take_free(self, path: str) -> None:
        """Take the name ``path``; FileExistsError where it is taken. Windows only."""
        windows_files.rename_open(self.fd, path, replaces=False)
        self._there = False

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        if self._locked and self.fd not in _held:
            return  # a child forked by the code under the lock: the lock is the parent's
        try:
            if self._there:
                unlink(self.path)  # while it is locked: after that it may be another's
        except OSError:  # what is left is taken over by the next writer, and must not hide why this one gave up
            pass
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Unlock, leaving the file where it is."""
        if self._locked:
            _held.discard(self.fd)
            _release(self.fd)
        else:
            os.close(self.fd)


def _release(fd: int) -> None:
    try:
        _unlock(fd)  # said aloud: closing would not do it where a child was forked meanwhile and still has a copy
    finally:
        os.close(fd)


def acquire(path: str, make_folder: Callable[[str], None]) -> Held:
    """Wait for the lock of the key at ``path``, and hold it.

    Args:
        make_folder: called with the folder where that is missing.
    Raises:
        NoLocksError: the file system has none. OSError: anything else, such as ENOLCK: there are no more.
    """
    lock_path = path + SUFFIX
    for _ in range(MAX_ATTEMPTS):
        try:
            fd = open_file(lock_path, _FLAGS | os.O_CREAT, 0o666)
        except FileNotFoundError:
            make_folder(os.path.dirname(path))
            continue
        held = _hold(fd, lock_path, wait=True)
        if held is not None:
            return held
    raise OSError(errno.ENOENT, "other processes keep removing the folder while it is created: stop them and try again")


def try_acquire(lock_path: str, *, create: bool = False) -> Held | None:
    """Hold a lock file; None where it is not there, or another holds it. Its bytes stay. Raises as :func:`acquire`."""
    try:
        fd = open_file(lock_path, _FLAGS | os.O_CREAT if create else _FLAGS, 0o666)
    except FileNotFoundError:
        return None
    return _hold(fd, lock_path, wait=False)


def _hold(fd: int, lock_path: str, *, wait: bool) -> Held | None:
    try:
        _lock(fd, wait=wait)
    except BaseException as error:
        os.close(fd)
        if not isinstance(error, OSError):
            raise
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        if error.errno not in _NO_LOCKS:
            raise
        if wait:
            unlink(lock_path)  # no process can hold it
        raise NoLocksError(error.errno, error.strerror) from error
    try:
        mine = os.fstat(fd)
        try:
            there = os.stat(lock_path, follow_symlinks=False)
        except (
            FileNotFoundError,
            PermissionError,
        ):  # the latter on Windows: removed, but open elsewhere
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            # What was locked is the value of the key by now, or gone: its holder was done with it.
            _release(fd)
            return None
        if wait and mine.st_size:
            os.ftruncate(fd, 0)  # left behind by a writer that died
    except BaseException:
        _release(fd)
        raise
    return Held(fd, lock_path, locked=True)


def unlocked(path: str, make_folder: Callable[[str], None]) -> Held:
    """A file of a name of its own next to ``path``, for file systems without locks."""
    temp_path = f"{path}.{os.urandom(4).hex()}{SUFFIX}"
    for _ in range(MAX_ATTEMPTS):
        try:
            return Held(open_file(temp_path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666), temp_path, locked=False)
        except FileNotFoundError:
            make_folder(os.path.dirname(path))
    raise OSError(errno.ENOENT, "other processes keep removing the folder while it is created: stop them and try again")
