"""Windows, as far as zarrdock calls it, on a POSIX system: ``install()`` before zarrdock is imported.

POSIX calls are gone from ``os``, POSIX modules can't be imported, ``kernel32`` and ``msvcrt`` are imitated and take the
structures that the real ones take. A file that another program opened without sharing its deletion (:func:`hold`: as
antivirus, zarr-python or a memory map do) can be neither replaced nor removed. Paths stay POSIX.
"""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures.process
import ctypes
import errno
import fcntl
import multiprocessing
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import fsspec.implementations.local
import numcodecs
import numpy as np

# Loaded before: what other libraries need of POSIX, they have.
_ = concurrent.futures.process, fsspec.implementations.local, numcodecs, np, pathlib, shutil, subprocess, tempfile

__all__ = ["POSIX_CALLS", "POSIX_MODULES", "hold", "install"]

POSIX_MODULES = ("fcntl", "grp", "posix", "pwd", "readline", "resource", "syslog", "termios", "tty")
POSIX_CALLS = frozenset(
    """O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK chown copy_file_range fdatasync fchmod fchown fork forkpty
    getegid geteuid getgid getpgid getuid lchown memfd_create mkfifo posix_fadvise posix_fallocate pread preadv pwrite
    pwritev readv register_at_fork sched_getaffinity sendfile setsid statvfs sysconf uname writev""".split()
)

_os = os
_HANDLES = 0x10000  # a handle is a descriptor and this
_last = 0
# Files that another program has open without sharing deletion, with the time when it lets go.
_held: dict[tuple[int, int], float] = {}
_paths: dict[int, str] = {}

_ERRNO = {code: getattr(errno, name) for code, name in {
    2: "ENOENT", 3: "ENOENT", 4: "EMFILE", 5: "EACCES", 32: "EACCES", 33: "EACCES", 50: "EINVAL", 80: "EEXIST",
    87: "EINVAL", 112: "ENOSPC", 183: "EEXIST",
}.items()}  # fmt: skip
_CODES = {getattr(errno, name): code for name, code in {
    "ENOENT": 2, "ENOTDIR": 3, "EMFILE": 4, "EACCES": 5, "EISDIR": 5, "EAGAIN": 33, "EEXIST": 80, "EINVAL": 87,
    "ENOSPC": 112,
}.items()}  # fmt: skip


def _win_error(code: int) -> OSError:
    error = OSError(_ERRNO.get(code, errno.EINVAL), f"[WinError {code}]")
    error.winerror = code  # type: ignore[attr-defined]
    return error


def _fail(code: int) -> int:
    global _last
    _last = code
    return 0


def _is_held(path: str) -> bool:
    try:
        status = _os.lstat(path)
    except OSError:
        return False
    return time.monotonic() < _held.get((status.st_dev, status.st_ino), 0.0)


@contextmanager
def hold(path: str, seconds: float = 3600.0) -> Iterator[None]:
    """Another program has the file open and does not share its deletion, for so long."""
    status = _os.stat(path)
    key = status.st_dev, status.st_ino
    _held[key] = time.monotonic() + seconds
    try:
        yield
    finally:
        _held.pop(key, None)


class Kernel32:
    """The functions of ``kernel32`` that zarrdock calls."""

    # False: a file system that knows no renaming as POSIX does it (FAT, network drives).
    has_posix_rename = True

    def __init__(self) -> None:
        self.CreateFileW = _Function(self._CreateFileW)
        self.CloseHandle = _Function(self._CloseHandle)
        self.ReadFile = _Function(self._ReadFile)
        self.WriteFile = _Function(self._WriteFile)
        self.LockFileEx = _Function(self._LockFileEx)
        self.UnlockFileEx = _Function(self._UnlockFileEx)
        self.SetFileInformationByHandle = _Function(self._SetFileInformationByHandle)

    def _CreateFileW(self, path: str, access: int, share: int, _s: None, how: int, attributes: int, _t: None) -> int:
        assert share == 7
        flags = _os.O_RDWR if access & 0x40000000 else _os.O_RDONLY
        if flags == _os.O_RDWR:
            assert access & 0x10000  # needed for renaming
        flags |= {1: _os.O_CREAT | _os.O_EXCL, 3: 0, 4: _os.O_CREAT}[how]
        if attributes & 0x200000:
            flags |= _os.O_NOFOLLOW
        try:
            if _os.path.isdir(path):
                raise PermissionError(errno.EACCES, path)
            fd = _os.open(path, flags | _os.O_NONBLOCK, 0o666)
        except OSError as error:
            _fail(_CODES[error.errno or 0])
            return ctypes.c_void_p(-1).value or 0
        _paths[fd] = _os.path.abspath(path)
        return fd + _HANDLES

    def _CloseHandle(self, handle: int) -> int:
        _os.close(handle - _HANDLES)
        return 1

    def _ReadFile(self, handle: int, buffer: Any, n: int, got: Any, overlapped: Any) -> int:
        data = _os.pread(handle - _HANDLES, n, _position(overlapped))
        if n and not data:
            return _fail(38)
        ctypes.memmove(buffer, data, len(data))
        got._obj.value = len(data)
        return 1

    def _WriteFile(self, handle: int, data: Any, n: int, written: Any, overlapped: Any) -> int:
        raw = data if isinstance(data, bytes) else ctypes.string_at(data, n)
        written._obj.value = _os.pwrite(handle - _HANDLES, raw[:n], _position(overlapped))
        return 1

    def _lock(self, handle: int, kind: int, low: int, high: int, overlapped: Any) -> int:
        length = low | high << 32
        start = _position(overlapped)
        assert start + length <= 2**63
        record = struct.pack("hhqqi4x", kind, _os.SEEK_SET, start, length, 0)
        try:
            fcntl.fcntl(handle - _HANDLES, fcntl.F_OFD_SETLK, record)
        except BlockingIOError:
            return _fail(33)
        return 1

    def _LockFileEx(self, handle: int, flags: int, reserved: int, low: int, high: int, overlapped: Any) -> int:
        assert (flags, reserved) == (3, 0)  # exclusive, at once
        return self._lock(handle, fcntl.F_WRLCK, low, high, overlapped)

    def _UnlockFileEx(self, handle: int, reserved: int, low: int, high: int, overlapped: Any) -> int:
        assert reserved == 0
        return self._lock(handle, fcntl.F_UNLCK, low, high, overlapped)

    def _SetFileInformationByHandle(self, handle: int, kind: int, buffer: Any, size: int) -> int:
        raw = bytes(buffer)
        assert len(raw) == size
        flags, root, nbytes = struct.unpack_from("<I4xQI", raw)  # FILE_RENAME_INFO on 64-bit Windows: the name is at 20
        assert root == 0
        target = raw[20 : 20 + nbytes].decode("utf-16-le").replace("\\", "/")
        assert _os.path.isabs(target)
        if kind == 22 and not self.has_posix_rename:
            return _fail(87)
        assert kind in (3, 22)
        fd = handle - _HANDLES
        source = _paths[fd]
        if _os.path.isdir(target):
            return _fail(5 if flags & 1 else 183)
        if _os.path.lexists(target):
            if not flags & 1:
                return _fail(183)
            if _is_held(target):
                return _fail(5)
        try:
            if flags & 1:
                _os.rename(source, target)
            else:
                _os.link(source, target)
                _os.unlink(source)
        except OSError as error:
            return _fail(_CODES[error.errno or 0])
        _paths[fd] = target
        return 1


class _Function:
    """A foreign function: ``argtypes`` and ``restype`` can be set."""

    def __init__(self, function: Callable[..., int]) -> None:
        self._function = function
        self.argtypes: list[Any] = []
        self.restype: Any = None

    def __call__(self, *args: Any) -> int:
        assert not self.argtypes or len(args) == len(self.argtypes)
        return self._function(*args)


def _position(overlapped: Any) -> int:
    raw = bytes(overlapped._obj)
    assert len(raw) == 32  # OVERLAPPED on 64-bit Windows
    low, high = struct.unpack_from("<II", raw, 16)
    return int(low | high << 32)


def _guarded(function: Callable[..., Any], *, code: int, position: int = 0) -> Callable[..., Any]:
    def call(*args: Any, **keywords: Any) -> Any:
        path = args[position]
        if isinstance(path, (str, os.PathLike)) and _is_held(os.fspath(path)):
            raise _win_error(code)
        return function(*args, **keywords)

    return call


def _rename(source: str, target: str) -> None:
    if os.path.lexists(target):
        raise _win_error(183)
    _os.rename(source, target)


def _open(path: Any, flags: int, mode: int = 0o777, **keywords: Any) -> int:
    assert not keywords  # no dir_fd
    if isinstance(path, str) and os.path.isdir(path):  # noqa: PTH112
        raise _win_error(5)
    return _os.open(path, flags, mode)


def install() -> None:
    """Be Windows for all that is imported from now on, in this process."""
    msvcrt = ModuleType("msvcrt")
    msvcrt.get_osfhandle = lambda fd: fd + _HANDLES  # type: ignore[attr-defined]
    msvcrt.open_osfhandle = lambda handle, flags: handle - _HANDLES  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = msvcrt
    windows: Any = ctypes
    libraries = {"kernel32": Kernel32(), "ntdll": SimpleNamespace(RtlAreLongPathsEnabled=lambda: 0)}
    windows.WinDLL = lambda name, **_: libraries[name]
    windows.WinError = _win_error
    windows.get_last_error = lambda: _last
    multiprocessing.set_start_method("spawn", force=True)
    before = os.name
    os.name = "nt"
    try:
        import zarrdock.stores.windows_files
    finally:
        os.name = before
    _take_away(zarrdock.stores.windows_files)


def _take_away(windows_files: ModuleType) -> None:
    """Give the modules of zarrdock an ``os`` of Windows; those of others keep theirs."""
    assert windows_files.IS_WINDOWS
    fake = ModuleType("os")
    fake.__dict__.update({name: value for name, value in os.__dict__.items() if name not in POSIX_CALLS | {"link"}})
    fake.__dict__.update(
        name="nt",
        supports_dir_fd=set(),
        supports_fd=set(),
        O_BINARY=0,
        open=_open,
        rename=_rename,
        replace=_guarded(os.replace, code=5, position=1),
        remove=_guarded(os.remove, code=32),
        unlink=_guarded(os.unlink, code=32),
    )
    # What was loaded to get here comes again, but for the imitated system.
    windows_files.__dict__["os"] = fake
    for name in [name for name in sys.modules if name.split(".")[0] == "zarrdock"]:
        del sys.modules[name]
    sys.modules[windows_files.__name__] = windows_files
    real_import = builtins.__import__

    def import_(name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if not level and (globals_ or {}).get("__name__", "").split(".")[0] == "zarrdock":
            if name == "os":
                return fake
            if name.split(".")[0] in POSIX_MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, globals_, locals_, fromlist, level)

    builtins.__import__ = import_  # type: ignore[assignment]

    def no_handlers(*_: Any, **__: Any) -> None:
        raise NotImplementedError

    asyncio.SelectorEventLoop.add_signal_handler = no_handlers  # type: ignore[method-assign,assignment]
