"""What a store on an fsspec filesystem does itself for plain files, because fsspec writes in place."""

from __future__ import annotations

import contextlib
import inspect
import uuid
from pathlib import Path

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

__all__ = ["HIDDEN", "prune_empty_folders", "replace_file", "takes_mode"]

# The name LocalStore gives to files being written, so that neither store lists the other's.
HIDDEN = ".__lock"


def replace_file(path: str, data: bytes, create_only: bool) -> None:
    """Write ``data`` beside ``path`` and give it that name in one step.

    Raises:
        FileExistsError: with ``create_only`` where the file exists.
    """
    for last in (False, True):
        try:
            _replace_file(Path(path), data, create_only)
            return
        except FileNotFoundError:  # somebody pruned the folder, or cleaned up, in between
            if last:
                raise


def _replace_file(path: Path, data: bytes, create_only: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short whatever the key, to stay within the file system's limit on names.
    temporary = path.parent / f".{uuid.uuid4().hex}{HIDDEN}"
    try:
        with open(temporary, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        if create_only:
            path.hardlink_to(temporary)  # fails where the name is taken, in one step
        else:
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def prune_empty_folders(path: str, root: str) -> None:
    """Remove the folders above ``path`` and below ``root`` that became empty: object stores have no empty folders."""
    top = root.rstrip("/") + "/"
    for folder in Path(path).parents:
        if not str(folder).startswith(top):
            return
        try:
            folder.rmdir()
        except OSError:
            return


def takes_mode(fs: AbstractFileSystem) -> bool:
    """True where ``pipe_file`` knows ``mode="create"``."""
    method = fs._pipe_file if isinstance(fs, AsyncFileSystem) else fs.pipe_file
    return "mode" in inspect.signature(method).parameters
