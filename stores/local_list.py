"""What is in a folder: keys, levels, and what writers left behind."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator

from zarrdock.stores.base import Listing
from zarrdock.stores.local_io import MISSING, failure
from zarrdock.stores.local_lock import SUFFIX, NoLocksError, try_acquire

__all__ = ["level", "prune_below", "stale", "unlink_quietly", "walk"]

_DAY_SECONDS = 86400


def unlink_quietly(path: str) -> None:
    """Remove a file, or find that it is gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _is_name(name: str) -> bool:
    """True for what can be a segment of a key: not a lock file, and no name that keys can't have."""
    if name.endswith(SUFFIX) or "\\" in name:
        return False
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8
        return False
    return True


def _scan(folder: str, store: object) -> list[os.DirEntry[str]]:
    # Read to the end at once: the caller may change the folder, or not finish.
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError as error:
        if error.errno in MISSING:
            return []
        raise failure(error, doing="list", path=folder, key="", store=store) from error


def walk(
    folder: str, store: object, *, on_link: Callable[[str], None] | None = None
) -> Iterator[tuple[str, int | None]]:
    """Every file below ``folder`` that a key can name, as (path relative to it, size in bytes).

    Args:
        on_link: given the path of each symbolic link to a folder, which then is not followed. Without it links are
            followed, though never in a circle.
    """
    folder = folder.rstrip("/")
    todo: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while todo:
        below, followed = todo.pop()
        for entry in _scan(f"{folder}/{below}", store):
            if not _is_name(entry.name):
                continue
            try:
                if entry.is_dir():
                    name = f"{below}{entry.name}/"
                    if not entry.is_symlink():
                        todo.append((name, followed))
                    elif on_link is not None:
                        on_link(entry.path)
                    elif (target := os.path.realpath(entry.path)) not in followed and not _holds(target, entry.path):
                        todo.append((name, (*followed, target)))
                elif entry.is_file():
                    yield below + entry.name, entry.stat().st_size
            except OSError as error:
                _check_gone(error, entry.path, store)


def _check_gone(error: OSError, path: str, store: object) -> None:
    """Raise what is not the sign of a name that leads nowhere: gone since the folder was read, or a link to itself."""
    if error.errno not in (*MISSING, errno.ELOOP):
        raise failure(error, doing="look at", path=path, key="", store=store) from error


def _holds(folder: str, path: str) -> bool:
    """True where ``path``, itself a link, stands in ``folder`` or somewhere below it."""
    here = os.path.realpath(os.path.dirname(path))
    return here == folder or here.startswith(folder.rstrip("/") + "/")


def level(folder: str, store: object) -> Listing:
    """The files and folders right in ``folder``."""
    keys, prefixes = [], []
    for entry in _scan(folder, store):
        if _is_name(entry.name):
            try:
                if entry.is_dir():
                    prefixes.append(entry.name)
                elif entry.is_file():
                    keys.append(entry.name)
            except OSError as error:
                _check_gone(error, entry.path, store)
    return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))


def stale(folder: str, root: str, *, remove: bool) -> Iterator[str]:
    """Lock files and the like below ``folder`` that nobody holds, as paths relative to ``root``."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(SUFFIX):
                path = os.path.join(parent, name)
                if _release_stale(path, remove=remove):
                    yield os.path.relpath(path, root)


def _release_stale(path: str, *, remove: bool) -> bool:
    # The second file of an exclusive create is guarded by the lock file it is named after.
    second = path.endswith(SUFFIX + SUFFIX)
    guard = path.removesuffix(SUFFIX) if second else path
    was_there = os.path.lexists(guard)
    try:
        held = try_acquire(guard, create=second)
    except NoLocksError:
        return _is_old(path, remove=remove)
    except OSError as error:
        if error.errno != errno.ENOLCK:
            raise
        return False  # nobody can tell at the moment
    if held is None:
        return False
    if was_there and not remove:
        held.let_go()
        return True
    with held:  # leaving removes the file that is held
        if second and remove:
            unlink_quietly(path)
    return True


def _is_old(path: str, *, remove: bool) -> bool:
    try:
        if time.time() - os.stat(path).st_mtime < _DAY_SECONDS:
            return False
        if remove:
            os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def prune_below(folder: str) -> None:
    """Remove the empty folders below ``folder``, deepest first."""
    for parent, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            try:
                os.rmdir(os.path.join(parent, name))
            except OSError:  # not empty, or gone, or a link
                pass
