"""What a store on an fsspec filesystem does itself for plain files, because fsspec writes in place."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import uuid
from pathlib import Path

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

__all__ = ["HIDDEN", "prune_empty_folders", "replace_file", "takes_mode"]

# The name LocalStore gives to files being written, so that neither lists the other's.
HIDDEN = ".__lock"


def replace_file(path: str, data: bytes, create_only: bool) -> None:
    """Write ``data`` beside ``path`` and give it that name in one step.

    Raises:
        FileExistsError: with ``create_only`` where the file exists.
    """
    for last in (False, True):
        try:
            _replace_file(path, data, create_only)
            return
        except FileNotFoundError:  # somebody pruned the folder, or cleaned up, in between
            if last:
                raise


def _replace_file(path: str, data: bytes, create_only: bool) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    # Short whatever the key, for the name to stay within the file system's limit.
    temporary = os.path.join(folder, f".{uuid.uuid4().hex}{HIDDEN}")
    try:
        with open(temporary, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        if not create_only:
            os.replace(temporary, path)
            return
        os.link(temporary, path)  # fails where the name is taken, in one step
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def prune_empty_folders(path: str, root: str) -> None:
    """Remove the folders above ``path`` that became empty, up to ``root``: object stores have no empty folders either."""
    for folder in Path(path).parents:
        if len(str(folder)) <= len(root.rstrip("/")) or not str(folder).startswith(root.rstrip("/") + "/"):
            return
        try:
            folder.rmdir()
        except OSError:
            return


@functools.lru_cache(maxsize=64)
def _class_takes_mode(cls: type[AbstractFileSystem]) -> bool:
    method = cls._pipe_file if issubclass(cls, AsyncFileSystem) else cls.pipe_file
    return "mode" in inspect.signature(method).parameters


def takes_mode(fs: AbstractFileSystem) -> bool:
    """True where ``pipe_file`` knows ``mode="create"``."""
    return _class_takes_mode(type(fs))
