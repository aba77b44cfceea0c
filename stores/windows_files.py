"""Local files on Windows: opened so that others may replace and remove them, read at a position, locked, renamed.

Python's own ``os.open`` shares a file for reading and writing, but not for deletion: a file that is kept open for its
version (see :mod:`zarrdock.stores.local_version`) could then not be replaced. There is no ``pread`` either. Both are a
call of the system away. Antivirus and indexing services open new files for a moment, without sharing: what they hold
up is tried again for :data:`PATIENCE_SECONDS`.

The module can be imported everywhere; its functions work on Windows only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import time
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = [
    "IS_WINDOWS", "lock", "name_fault", "open_file", "patiently", "pread", "pwrite", "rename_open", "replace", "unlink",
    "unlock",
]  # fmt: skip

IS_WINDOWS = os.name == "nt"

# Longest time to wait for a program that holds a file open without sharing it.
PATIENCE_SECONDS = 5.0

_MAX_BYTES = 2**30  # in one call
_INVALID_HANDLE = ctypes.c_void_p(-1).value

_GENERIC_READ, _GENERIC_WRITE, _DELETE = 0x80000000, 0x40000000, 0x10000
_SHARE_ALL = 0x1 | 0x2 | 0x4  # reading, writing, deletion
_CREATE_NEW, _OPEN_EXISTING, _OPEN_ALWAYS = 1, 3, 4
_NORMAL, _OPEN_REPARSE_POINT = 0x80, 0x200000
_ERROR_INVALID_FUNCTION, _ERROR_NOT_SUPPORTED, _ERROR_INVALID_PARAMETER = 1, 50, 87
_ERROR_LOCK_VIOLATION, _ERROR_HANDLE_EOF, _ERROR_IO_PENDING = 33, 38, 997
_LOCK_EXCLUSIVE, _LOCK_FAIL_IMMEDIATELY = 2, 1
_RENAME_INFO, _RENAME_INFO_EX = 3, 22
_REPLACE_IF_EXISTS, _POSIX_SEMANTICS = 1, 2


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("internal_high", ctypes.c_size_t),
        ("offset", ctypes.c_uint32),
        ("offset_high", ctypes.c_uint32),
        ("event", ctypes.c_void_p),
    )


class _RenameInfo(ctypes.Structure):
    """``FILE_RENAME_INFO`` before the name; a structure, so that the compiler's alignment is kept."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("root", ctypes.c_void_p),
        ("nbytes", ctypes.c_uint32),
        ("name", ctypes.c_uint16 * 1),
    )


if IS_WINDOWS:
    import msvcrt as _msvcrt

    _system: Any = ctypes
    _crt: Any = _msvcrt
    _kernel: Any = _system.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateFileW.restype = ctypes.c_void_p
    _kernel.CreateFileW.argtypes = [
        ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32,
        ctypes.c_void_p,
    ]  # fmt: skip
    _kernel.CloseHandle.argtypes = [ctypes.c_void_p]
    for _transfer in (_kernel.ReadFile, _kernel.WriteFile):
        _transfer.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
    _kernel.LockFileEx.argtypes = [ctypes.c_void_p, *[ctypes.c_uint32] * 4, ctypes.c_void_p]
    _kernel.UnlockFileEx.argtypes = [ctypes.c_void_p, *[ctypes.c_uint32] * 3, ctypes.c_void_p]
    _kernel.SetFileInformationByHandle.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32]


def _check(done: Any, path: str = "") -> None:
    if not done:
        raise _error(_system.get_last_error(), path)


def _error(code: int, path: str = "") -> OSError:
    error: OSError = _system.WinError(code)
    if path:
        error.filename = path
    return error


T = TypeVar("T")


def patiently(action: Callable[[], T]) -> T:
    """Result of ``action``, called again while another program holds a file open; then its PermissionError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = 0.001
    while True:
        try:
            return action()
        except PermissionError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


# -- opening -----------------------------------------------------------------------------------------------------------


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """``os.open`` of a file that others may replace and remove meanwhile. ``mode`` is without meaning here."""
    return patiently(lambda: _open(path, flags))


def _open(path: str, flags: int) -> int:
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    access = (_GENERIC_READ | _GENERIC_WRITE | _DELETE) if writes else _GENERIC_READ
    how = _OPEN_EXISTING
    if flags & os.O_CREAT:
        how = _CREATE_NEW if flags & os.O_EXCL else _OPEN_ALWAYS
    # What is written to is a file of our own, never what a link leads to.
    attributes = _NORMAL | (_OPEN_REPARSE_POINT if writes else 0)
    handle = _kernel.CreateFileW(path, access, _SHARE_ALL, None, how, attributes, None)
    if handle == _INVALID_HANDLE:
        error = _error(_system.get_last_error(), path)
        if isinstance(error, PermissionError) and os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise error
    try:
        fd: int = _crt.open_osfhandle(handle, (os.O_RDWR if writes else os.O_RDONLY) | getattr(os, "O_BINARY", 0))
    except BaseException:
        _kernel.CloseHandle(handle)
        raise
    return fd


# -- reading and writing at a position ---------------------------------------------------------------------------------


def _at(position: int) -> _Overlapped:
    return _Overlapped(offset=position & 0xFFFFFFFF, offset_high=position >> 32)


def pread(fd: int, n: int, position: int) -> bytes:
    """``os.pread``: safe for threads that share the descriptor."""
    n = min(n, _MAX_BYTES)
    buffer = ctypes.create_string_buffer(n)
    got = ctypes.c_uint32()
    where = _at(position)
    if not _kernel.ReadFile(_crt.get_osfhandle(fd), buffer, n, ctypes.byref(got), ctypes.byref(where)):
        code = _system.get_last_error()
        if code != _ERROR_HANDLE_EOF:
            raise _error(code)
    return ctypes.string_at(buffer, got.value)


def pwrite(fd: int, data: bytes | bytearray | memoryview, position: int) -> int:
    """``os.pwrite``."""
    with memoryview(data) as whole, whole[:_MAX_BYTES] as view:
        chars: Any = bytes(view) if view.readonly else (ctypes.c_char * len(view)).from_buffer(view)
        written = ctypes.c_uint32()
        where = _at(position)
        try:
            _check(
                _kernel.WriteFile(_crt.get_osfhandle(fd), chars, len(view), ctypes.byref(written), ctypes.byref(where))
            )
        finally:
            del chars  # it exports the view's buffer
        return written.value


# -- locks -------------------------------------------------------------------------------------------------------------

# Locks are mandatory: readers of a locked range get an error. This byte lies behind the end of every file, yet in the
# range of a lock of the whole file.
_LOCKED_BYTE = 2**63 - 2


def lock(fd: int, *, wait: bool) -> None:
    """Lock an open file for its descriptor alone.

    Raises:
        OSError: EAGAIN: another has it, and ``wait`` is False; anything else: the file system has no locks.
    """
    pause = 0.0005
    # Not by a call that waits: Ctrl-C would not be seen.
    while True:
        where = _at(_LOCKED_BYTE)
        flags = _LOCK_EXCLUSIVE | _LOCK_FAIL_IMMEDIATELY
        if _kernel.LockFileEx(_crt.get_osfhandle(fd), flags, 0, 1, 0, ctypes.byref(where)):
            return
        code = _system.get_last_error()
        if code not in (_ERROR_LOCK_VIOLATION, _ERROR_IO_PENDING):
            if code in (_ERROR_INVALID_FUNCTION, _ERROR_NOT_SUPPORTED):
                raise OSError(errno.ENOTSUP, "the file system has no file locks")
            raise _error(code)
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock")
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def unlock(fd: int) -> None:
    """Give a lock back."""
    where = _at(_LOCKED_BYTE)
    _check(_kernel.UnlockFileEx(_crt.get_osfhandle(fd), 0, 1, 0, ctypes.byref(where)))


# -- names -------------------------------------------------------------------------------------------------------------


def rename_open(fd: int, path: str, *, replaces: bool = True) -> None:
    """Give an open file the name ``path``, also where readers hold the file open that has it now.

    Raises:
        FileExistsError: the name is taken, and ``replaces`` is False. IsADirectoryError: a folder has it.
        PermissionError: another program holds that file open, and does not share it.
    """

    def rename() -> None:
        try:
            _rename(fd, path, _RENAME_INFO_EX, _POSIX_SEMANTICS | (_REPLACE_IF_EXISTS if replaces else 0))
        except OSError as error:
            code = getattr(error, "winerror", 0)
            if code not in (_ERROR_INVALID_FUNCTION, _ERROR_NOT_SUPPORTED, _ERROR_INVALID_PARAMETER):
                raise
            _rename(fd, path, _RENAME_INFO, int(replaces))  # FAT, network drives, Windows before 10

    try:
        patiently(lambda: _unless_folder(rename, path))
    except FileExistsError:
        if replaces and os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise


def _unless_folder(action: Callable[[], None], path: str) -> None:
    try:
        action()
    except PermissionError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise


def _rename(fd: int, path: str, kind: int, flags: int) -> None:
    name = path.replace("/", "\\").encode("utf-16-le")
    start = _RenameInfo.name.offset
    # The system wants room for a terminating NUL.
    buffer = ctypes.create_string_buffer(max(ctypes.sizeof(_RenameInfo), start + len(name) + 2))
    info = _RenameInfo.from_buffer(buffer)
    info.flags, info.root, info.nbytes = flags, None, len(name)
    ctypes.memmove(ctypes.addressof(buffer) + start, name, len(name))
    _check(_kernel.SetFileInformationByHandle(_crt.get_osfhandle(fd), kind, buffer, len(buffer)), path)


def replace(source: str, target: str) -> None:
    """``os.replace``, with patience."""
    patiently(lambda: _unless_folder(lambda: os.replace(source, target), target))


def unlink(path: str) -> None:
    """``os.unlink``, with patience, also of files that are read-only."""

    def remove() -> None:
        try:
            os.unlink(path)
        except PermissionError:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IWUSR:
                os.chmod(path, stat.S_IWRITE)
            raise

    patiently(remove)


_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?")
_MAX_PATH, _MAX_FOLDER = 259, 247


def name_fault(key: str, path: str) -> str:
    """The reason why Windows can have no file for a key, or would have another one; "" where there is none.

    Args:
        path: the longest path that is to be made for it.

    >>> name_fault("a/aux.txt", "C:/a/aux.txt")
    "'aux.txt' is the name of a device on Windows"
    >>> name_fault("a:b", "C:/a:b")
    "on Windows names cannot have the character ':'"
    """
    for name in key.split("/"):
        if found := _FORBIDDEN.search(name):
            return f"on Windows names cannot have the character {found[0]!r}"
        if name.endswith((".", " ")):
            return f"on Windows the name {name!r} would lose the dot or space at its end"
        if _RESERVED.fullmatch(name):
            return f"{name!r} is the name of a device on Windows"
    if (len(path) > _MAX_PATH or len(os.path.dirname(path)) > _MAX_FOLDER) and not _long_paths():
        return (
            f"the path {path} has {len(path)} characters, and Windows allows {_MAX_PATH}: "
            "use a shorter folder, or enable long paths (LongPathsEnabled in the registry)"
        )
    return ""


def _long_paths() -> bool:
    try:
        return bool(_system.WinDLL("ntdll").RtlAreLongPathsEnabled() & 0xFF)
    except (AttributeError, OSError, NameError):
        return False
