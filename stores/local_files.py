"""System calls on local files, made whole: short reads, short writes, folders that come and go.

Paths are strings and functions those of ``os``: a Path object costs more than the read of a small chunk.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import quote

from zarrdock.errors import AccessError, InvalidKeyError, ReadOnlyError, StoreError, UnsupportedError
from zarrdock.stores import windows_files
from zarrdock.stores.base import LazyParts
from zarrdock.stores.windows_files import IS_WINDOWS

__all__ = [
    "MAX_ATTEMPTS",
    "MISSING",
    "READ_FLAGS",
    "Part",
    "failure",
    "file_url",
    "is_missing",
    "local_path",
    "make_folders",
    "name_fault",
    "open_file",
    "other_spelling",
    "pread",
    "pread_all",
    "prune",
    "pwrite",
    "slashes",
    "sync_file",
    "sync_folder",
    "unlink",
    "url_of_path",
    "writev_all",
]

Part: TypeAlias = "bytes | bytearray | memoryview"

# A path through a file ("a" is a file, "a/b" is asked for) names nothing, as a path through nothing does.
MISSING = (errno.ENOENT, errno.ENOTDIR)

# Without O_NONBLOCK, opening a named pipe would wait for a writer.
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

# Only a folder that others remove again and again makes anything fail that often.
MAX_ATTEMPTS = 1000

_MAX_PARTS: int = getattr(os, "IOV_MAX", 0) or (os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16)


# Parts that are made together: they should still be in the processor's cache when they are written.
_LAZY_NBYTES = 512 * 2**10


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")


def local_path(path: str | os.PathLike[str]) -> str:
    """The absolute path of a local file or folder.

    Raises:
        UnsupportedError: it is a URL, or one of which pathlib has left one slash; it would become a folder ``s3:``.
    """
    text = os.fsdecode(path)
    found = _URL.match(text)
    if found and (found[2] or not os.path.lexists(f"{found[1]}:")):
        raise UnsupportedError(
            f"{text!r} is a URL and no path of a local folder: give it as text to zarrdock.open_store, or to what opens"
            " or creates nodes"
        )
    return slashes(os.path.abspath(text))


def slashes(path: str) -> str:
    """A path with ``/`` between its parts on Windows, too, which takes both."""
    return path.replace(os.sep, "/")


def url_of_path(path: str) -> str:
    """``file://`` and an absolute path with slashes: ``file:///C:/data`` for a drive, ``file:////server/share`` for a
    share.

    >>> url_of_path("C:/data"), url_of_path("/data/100%")
    ('file:///C:/data', 'file:///data/100%25')
    """
    # The rest stays readable: it means itself.
    path = path.replace("%", "%25").replace("|", "%7C")
    return f"file:///{path}" if re.match("[A-Za-z]:", path) else f"file://{path}"


def file_url(path: str) -> str:
    """The same with all percent-encoded that a URL cannot hold."""
    return quote(os.fsencode(url_of_path(path)), safe="%/!$&'()*+,;=:@")


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """``os.open``; on Windows so that others may replace and remove the file while it is open."""
    return windows_files.open_file(path, flags) if IS_WINDOWS else os.open(path, flags, mode)


def unlink(path: str) -> None:
    """``os.unlink``; on Windows with patience for programs that hold the file open."""
    (windows_files.unlink if IS_WINDOWS else os.unlink)(path)


def pread(fd: int, n: int, position: int) -> bytes:
    """``os.pread``, which Windows has not."""
    return windows_files.pread(fd, n, position) if IS_WINDOWS else os.pread(fd, n, position)


def pwrite(fd: int, data: Part, position: int) -> int:
    """``os.pwrite``, which Windows has not."""
    return windows_files.pwrite(fd, data, position) if IS_WINDOWS else os.pwrite(fd, data, position)


def pread_all(fd: int, start: int, stop: int) -> bytes | bytearray:
    """Bytes ``start`` to ``stop`` of an open file, fewer only where the file ends before."""
    data = pread(fd, stop - start, start)
    if len(data) == stop - start or not data:
        return data
    # The system stops at 2 GiB, and network file systems where they like.
    whole = bytearray(stop - start)
    n = len(data)
    whole[:n] = data
    with memoryview(whole) as view:
        n = _fill(fd, view, start, n)
    if n < len(whole):
        del whole[n:]
    return whole


def _fill(fd: int, view: memoryview, start: int, n: int) -> int:
    """Read more bytes into ``view`` after its first ``n``; returns how many it has then."""
    while n < len(view):
        if IS_WINDOWS:
            data = pread(fd, len(view) - n, start + n)
            got = len(data)
            view[n : n + got] = data
        else:
            got = os.preadv(fd, [view[n:]], start + n)
        if not got:
            break
        n += got
    return n


def writev_all(fd: int, parts: Sequence[Part]) -> None:
    """Write buffers one after another at the position of a file, in as few calls as the system allows. Lazy parts are
    made as they are written.
    """
    if not isinstance(parts, LazyParts):
        _writev(fd, parts)
        return
    batch: list[Part] = []
    nbytes = 0
    for part in parts:
        batch.append(part)
        nbytes += len(part)
        if nbytes >= _LAZY_NBYTES:
            _writev(fd, batch)
            batch, nbytes = [], 0
    _writev(fd, batch)


def _writev(fd: int, parts: Sequence[Part]) -> None:
    first = 0
    while first < len(parts):
        batch = parts[first : first + _MAX_PARTS]
        first += len(batch)
        n = 0 if IS_WINDOWS else os.writev(fd, batch)
        if n < sum(map(len, batch)):
            _write_rest(fd, batch, n)


def _write_rest(fd: int, parts: Sequence[Part], n_written: int) -> None:
    for part in parts:
        view = memoryview(part)[n_written:]
        n_written = max(0, n_written - len(part))
        while view:
            view = view[os.write(fd, view) :]


def make_folders(folder: str, *, durable: bool) -> None:
    """Make ``folder`` and missing folders above it; with ``durable``, each is on the disk before this returns."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return _make_synced(folder) if durable else os.makedirs(folder, exist_ok=True)
        except FileNotFoundError:  # the folder above was empty, and removed since
            if IS_WINDOWS and _is_below_file(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
        except FileExistsError:
            if os.path.lexists(folder) and not os.path.isdir(folder):
                raise
    raise OSError(errno.ENOENT, "other processes keep removing the folder while it is created: stop them and try again")


def _is_below_file(path: str) -> bool:
    """True where a file stands on the way to ``path``. Windows says "not found" for that."""
    while os.path.dirname(path) != path:
        path = os.path.dirname(path)
        if os.path.lexists(path):
            return not os.path.isdir(path)
    return False


def _make_synced(folder: str) -> None:
    missing = []
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        os.makedirs(path, exist_ok=True)
        sync_folder(os.path.dirname(path))


def sync_file(fd: int) -> None:
    """Have the bytes of an open file on the disk. macOS leaves them in the disk's own cache unless told otherwise."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:  # a file system that does not know it
            pass
        else:
            return
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """Have the names in ``folder`` on the disk. NTFS writes them to its journal by itself; no folder opens."""
    if IS_WINDOWS:
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync names by themselves say so
            raise
    finally:
        os.close(fd)


def is_missing(path: str, root: str, known: set[str], *, was_there: bool, key: str, store: object) -> bool:
    """True where a file that was not found does not exist. It may be behind a symbolic link that leads nowhere: a file
    of git-annex or DVC whose content was not fetched, a disk that is not mounted.

    Args:
        path: of the file, in or below the folder ``root``.
        known: folders without such a link on the way to them, for the questions of one batch; they are added to.
        was_there: files were read below ``root`` before.
    Returns:
        False: the file was made meanwhile, or a link leads to it now.
    Raises:
        AccessError: there is such a link, at ``path`` or on the way to it from ``root``.
        StoreError: ``root`` was there and is gone.
    """
    folder = os.path.dirname(path)
    # Without an exception, which would cost more than the system call.
    if not os.access(path, os.F_OK, follow_symlinks=False) and (folder in known or os.path.isdir(folder)):
        known.add(folder)
        return True
    link = path
    while len(link) >= len(root):
        if os.path.islink(link) and not os.path.exists(link):
            target = os.readlink(link)
            hint = "; git annex get fetches the content" if "annex/objects" in target else ""
            text = f"{link} is a symbolic link that leads nowhere (to {target}), and no missing file{hint}"
            raise AccessError(text, key=key, store=store)
        if os.path.lexists(link):
            break
        link = os.path.dirname(link)
    if link == path:
        return False
    if was_there and len(link) < len(root):
        text = f"the folder {root} was there and is gone: deleted, not mounted any more, or not on this machine"
        raise StoreError(text, key=key, store=store)
    known.add(folder)
    return True


def prune(folder: str, root: str) -> None:
    """Remove ``folder`` and the folders above it that are empty, below ``root`` only."""
    while len(folder) > len(root):
        try:
            os.rmdir(folder)
        except FileNotFoundError:  # another process removed it: the one above may be empty now
            pass
        except OSError:
            return
        folder = os.path.dirname(folder)


# File systems that take "A" and "a", or two ways to write one accented letter, for one name.
_MAY_BE_INSENSITIVE = IS_WINDOWS or sys.platform == "darwin"


def name_fault(key: str, path: str) -> str:
    """The reason why this system can have no file for a key; "" where there is none."""
    return windows_files.name_fault(key, path) if IS_WINDOWS else ""


def other_spelling(path: str, root: str, known: set[str], *, may_be_insensitive: bool = _MAY_BE_INSENSITIVE) -> str:
    """The name of a file or folder below ``root`` that the file system takes for ``path``, or for a folder on the
    way to it, though it is spelled otherwise; "" where there is none.

    Args:
        known: paths that were looked at and are spelled as given; they are added to.
    """
    if not may_be_insensitive:
        return ""
    while len(path) > len(root) and path not in known:
        folder, name = os.path.split(path)
        if name.upper() != name.lower() and not _CHUNK.fullmatch(name) and os.path.lexists(path):
            names = os.listdir(folder)
            if not any(_same(name, other) for other in names):
                return next((other for other in names if other.casefold() == name.casefold()), name)
            if len(known) > _MAX_KNOWN:
                known.clear()
            # The neighbours, too: a folder is listed once, not once for each of its files.
            known.update(f"{folder}/{other}" for other in names)
            known.add(path)
        path = folder
    return ""


_MAX_KNOWN = 100_000
_CHUNK = re.compile(r"c(\.\d+)+")  # of which there may be many in a folder


def _same(name: str, other: str) -> bool:
    return name == other or unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)


_ACTIONS = {
    errno.EISDIR: "a folder stands where the file should be",
    errno.ENOTEMPTY: "a folder stands where the file should be",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EEXIST: "a file stands where a folder should be",
    errno.ENOSPC: "no space left on the device; the value that was there is as it was",
    getattr(errno, "EDQUOT", -1): "the disk quota is used up; the value that was there is as it was",
    errno.EMFILE: "this process has too many files open; raise its limit (ulimit -n)",
    errno.ENOLCK: "the file system gives no lock at the moment; try again. On NFS that never gives one, the lock "
    "service (rpc.statd) does not run: start it, or mount with local_lock=all where only this machine writes",
    errno.ELOOP: "too many symbolic links",
}


def failure(error: OSError, *, doing: str, path: str, key: str, store: object) -> StoreError:
    """The error to raise for a failed system call."""
    if IS_WINDOWS and isinstance(error, PermissionError):
        error.strerror = f"{error.strerror} (another program may hold the file open: close it and try again)"
    words = _ACTIONS.get(error.errno or 0) or error.strerror or str(error)
    message = f"cannot {doing} {path}: {words}"
    kind: type[StoreError] = StoreError
    if isinstance(error, PermissionError):
        kind = AccessError
    elif error.errno == errno.EROFS:
        kind = ReadOnlyError
    elif error.errno == errno.ENAMETOOLONG:
        kind = InvalidKeyError
    return kind(message, key=key, store=store)
