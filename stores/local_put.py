"""How a value takes its name in a folder: written beside it, so that a reader sees the old value or the new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from zarrdock.stores import local_list
from zarrdock.stores.local_io import Part, sync_folder, writev_all
from zarrdock.stores.local_lock import SUFFIX, Held

__all__ = ["NoExclusiveCreateError", "TakenError", "create_value", "put_value"]

# No link, or none to this file: then the name is taken by renaming.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class TakenError(Exception):
    """There is something of that name."""


class NoExclusiveCreateError(Exception):
    """The file system has neither locks nor links."""


def put_value(path: str, parts: Sequence[Part], held: Held, *, durable: bool) -> None:
    """Write a value into the lock file, which then takes the value's name."""
    writev_all(held.fd, parts)
    if durable:
        os.fsync(held.fd)
    held.rename_to(path)
    if durable:
        sync_folder(os.path.dirname(path))


def create_value(path: str, parts: Sequence[Part], held: Held, *, durable: bool, has_locks: bool) -> None:
    """Write a value whose name must be free.

    Raises:
        TakenError: it is not. NoExclusiveCreateError: nobody can tell, here.
    """
    # A link is never made over another name, so that a program that takes no lock is noticed too. It is made of a
    # second file: the lock file is written to by whoever holds it next, also where we die before its name is gone.
    if os.path.lexists(path):
        raise TakenError
    temp_path = held.path + SUFFIX
    local_list.unlink_quietly(temp_path)
    with Held(os.open(temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), temp_path, locked=False) as temp:
        writev_all(temp.fd, parts)
        if durable:
            os.fsync(temp.fd)
        try:
            os.link(temp_path, path)
        except FileExistsError:
            raise TakenError from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not has_locks:
                raise NoExclusiveCreateError from error
            temp.rename_to(path)
    if durable:
        sync_folder(os.path.dirname(path))
