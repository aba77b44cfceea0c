"""Arrays of local folders laid out anew in ways that metadata knows of: a new folder is written beside the old one, and
the two change places in one step.

Whoever opens the array finds the old one or the new one. Whoever has it open goes on with the metadata it knows, and
would read chunks of the other: no file system can help that, since metadata and chunks are looked up one by one. So it
is for arrays that nobody uses meanwhile.

Beside the folder there is, until all is done, another one with a journal and the new array in it; its name is one that
stores don't list. After an interruption the journal tells the next run what is there:

- the folder is the old one, and unchanged: copying goes on, or the two change places;
- the folder was changed, or something else is wanted now: it begins anew;
- the old folder lies beside, so they have changed places: unless somebody wrote to it until then, it is removed, which
  is all that was left to do. It has another name once that has been looked at, since what is half removed looks as
  though somebody had written to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zarrdock.array.group import walk
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_io import node_path
from zarrdock.copying import CopyProgress, copy
from zarrdock.copying.sources import load_root
from zarrdock.copying.state import MARK
from zarrdock.errors import ConflictError, MetadataError, UnsupportedError, ZarrdockError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.local_io import failure, sync_folder
from zarrdock.stores.local_lock import SUFFIX
from zarrdock.stores.local_swap import can_exchange, exchange, sync_file_system
from zarrdock.stores.open import open_store
from zarrdock.stores.wrap import PrefixStore, WrapperStore

if sys.platform == "linux":
    import fcntl

__all__ = ["replace_layout"]

_DOCUMENTS = {2: (".zarray", ".zgroup", ".zattrs", ".zmetadata"), 3: ("zarr.json",)}
_JOURNAL = "journal.json"


def replace_layout(
    store: Any,
    *,
    path: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: Callable[[CopyProgress], None] | None = None,
    **settings: Any,
) -> bool:
    """Lay out an array, or all below a group, anew, as :func:`zarrdock.copy` would, in the place where it is.

    Nobody may have it open meanwhile: not for writing, since what is written during the copy would be lost (it is
    noticed, and nothing is replaced then), and not for reading, since the chunks would no longer be those of the
    metadata that is known.

    Args:
        store: anything :func:`zarrdock.open_store` takes that leads to a local folder. path: of the node within it.
        storage_options: options of the fsspec filesystem that a URL leads to.
        progress: as for ``copy``; it is not called where only an earlier run had to be finished.
        settings: of ``copy``: chunks, shards, compressors, index_location, subchunk_write_order, chunk_alignment,
            memory_bytes.
    Returns:
        False where an earlier, interrupted run had replaced it already.
    Raises:
        UnsupportedError: not a local folder, one whose file system can't let folders change places, one with files that
            are not Zarr's, or a member of a group with consolidated metadata. ConflictError: it was written to
            meanwhile. NodeNotFoundError, CodecError, StoreError.
    """
    opened = open_store(store, storage_options=dict(storage_options) if storage_options else None)
    folder = _folder_of(opened, node_path(path))
    load_root(LocalStore(folder, read_only=True), "")
    with _typed("lay out anew", folder):
        beside = _beside(folder)
    new = beside / "new"
    wanted = repr(sorted((name, value) for name, value in settings.items() if name != "memory_bytes"))
    with _alone(beside.parent):
        with _typed("finish what was begun in", folder):
            journal = _read_journal(beside)
            if _is_replaced(folder, beside, journal):
                _remove(beside)
                if journal is not None and journal.get("wanted") == wanted:
                    return False
        with _typed("lay out anew", folder):
            _check_members(folder)
            content = _content(folder)
            now = {"inode": folder.stat().st_ino, "wanted": wanted, "content": content}
            if journal != now:
                _discard(beside)
                _begin(beside, folder, now)
        if not _is_finished(new):
            try:
                copy(LocalStore(folder, read_only=True), LocalStore(new), resume=True, progress=progress, **settings)
            except (MetadataError, UnsupportedError, TypeError):  # nothing to go on with: settings that can't be
                with _typed("lay out anew", folder):
                    _discard(beside)
                raise
        with _typed("lay out anew", folder):
            _exchange(folder, new, content)
        with _typed("remove the old files of", folder):
            _release(beside)
            _remove(beside)
    return True


def _folder_of(store: Store, path: str) -> Path:
    while isinstance(store, WrapperStore):
        path = f"{store.prefix}/{path}" if isinstance(store, PrefixStore) else path
        store = store.store
    if not isinstance(store, LocalStore):
        raise UnsupportedError(
            f"{store} cannot let two arrays change places in one step; write a new array with --to DST, and remove the "
            "old one then"
        )
    store._check_writable(path)
    return Path(store.root, path.strip("/")).resolve()


def _beside(folder: Path) -> Path:
    """Where the new array is made: outside of the hierarchy, so that nobody takes it for a member."""
    top = folder
    while top.parent != top and _is_node(top.parent):
        top = top.parent
        if _is_consolidated(top):
            raise UnsupportedError(
                f"the group in {top} has consolidated metadata, which would go on describing the old layout; name that "
                "group, or write a new array with --to DST"
            )
    if top.is_mount() or not os.access(top.parent, os.R_OK | os.W_OK | os.X_OK):
        raise UnsupportedError(f"no folder can be made beside {top}; write a new array with --to DST")
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return top.parent / f".{digest}.relayout{SUFFIX}"


def _is_node(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _is_consolidated(folder: Path) -> bool:
    if (folder / ".zmetadata").is_file():
        return True
    root = load_root(LocalStore(folder, read_only=True), "")
    return isinstance(root, GroupMetadata) and root.consolidated is not None


@contextmanager
def _typed(doing: str, folder: Path) -> Iterator[None]:
    """Say what could not be done where a system call failed, and at which path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (ZarrdockError, BlockingIOError)):
            raise
        path = str(folder) if error.filename in (None, str(folder)) else f"{folder} ({error.filename})"
        raise failure(error, doing=doing, path=path, key="", store="") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from doing the same below a folder."""
    if sys.platform != "linux":
        raise UnsupportedError("only on Linux can two folders change places; write a new array with --to DST")
    with _typed("lock", folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            with _typed("lock", folder):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"somebody else lays out an array in {folder} anew: wait until that is done") from None
        yield
    finally:
        os.close(fd)


def _check_members(folder: Path) -> None:
    """A copy has nodes and chunks; other files would be gone.

    Raises:
        UnsupportedError: there are others.
    """
    store = LocalStore(folder, read_only=True)
    root = load_root(store, "")
    nodes: dict[str, Node] = {"": root}
    if isinstance(root, GroupMetadata):
        for relative, node in walk(store, "", root.replace(consolidated=None)):
            if isinstance(node, ZarrdockError):
                raise node
            nodes[relative] = node
    arrays = {place: node for place, node in nodes.items() if isinstance(node, ArrayMetadata)}
    for entry in store.list():
        parts = entry.key.split("/")
        described = nodes.get("/".join(parts[:-1]))
        if described is not None and parts[-1] in _DOCUMENTS[described.zarr_format]:
            continue
        owners = (n for n in range(len(parts) - 1, -1, -1) if "/".join(parts[:n]) in arrays)
        n = next(owners, None)
        metadata = None if n is None else arrays["/".join(parts[:n])]
        if metadata is None or metadata.key_encoding.parse("/".join(parts[n:]), metadata.ndim) is None:
            raise UnsupportedError(
                f"{entry.key!r} in {store} belongs to no array, and would be lost: move it elsewhere, or write a new "
                "array with --to DST"
            )


def _content(folder: Path) -> str:
    """A digest of names, identities, sizes and times of all files: what any change would change."""
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for path in [Path(parent, name) for name in sorted([*folders, *names])]:
            if path.is_symlink():
                raise UnsupportedError(f"{path} is a link, which a copy does not keep; write a new array with --to DST")
            try:
                status = path.stat()
            except FileNotFoundError:
                digest.update(b"gone")
                continue
            if stat.S_ISREG(status.st_mode) and not path.name.endswith(SUFFIX):
                place = path.relative_to(folder).as_posix()
                digest.update(repr((place, status.st_ino, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()


def _read_journal(beside: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((beside / _JOURNAL).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _begin(beside: Path, folder: Path, journal: dict[str, Any]) -> None:
    beside.mkdir(mode=0o700)  # a copy of what others perhaps may not read
    if beside.stat().st_dev != folder.stat().st_dev or not can_exchange(str(beside)):
        beside.rmdir()
        raise UnsupportedError(
            f"the file system of {folder} cannot let two folders change places in one step; write a new array with "
            "--to DST, and remove the old one then"
        )
    draft = beside / "draft"
    draft.write_text(json.dumps(journal), "utf-8")
    draft.rename(beside / _JOURNAL)


def _is_finished(new: Path) -> bool:
    return _is_node(new) and not (new / MARK).exists()


def _exchange(folder: Path, new: Path, content: str) -> None:
    new.chmod(stat.S_IMODE(folder.stat().st_mode))
    sync_file_system(str(new))  # what takes the old one's place has to survive a crash of the machine
    message = f"{folder} was written to meanwhile: nothing was replaced; run it again when nobody writes"
    if _content(folder) != content:
        raise ConflictError(message)
    exchange(str(folder), str(new))
    if _content(new) != content:
        exchange(str(folder), str(new))
        raise ConflictError(message)
    for parent in (folder.parent, new.parent):
        sync_folder(str(parent))


def _release(beside: Path) -> None:
    """Say, so that it survives a crash, that what lies beside is the old array, as it was copied."""
    (beside / "new").rename(beside / "old")
    sync_folder(str(beside))


def _is_replaced(folder: Path, beside: Path, journal: dict[str, Any] | None) -> bool:
    """Whether an earlier run has replaced it, and the old folder can go.

    Raises:
        ConflictError: it was written to before the two changed places.
    """
    if journal is None:
        return False
    new = beside / "new"
    if new.is_dir() and new.stat().st_ino == journal.get("inode"):
        if _content(new) != journal.get("content"):
            raise ConflictError(
                f"{folder} was written to in the moment in which it was replaced; as it was before, with what was "
                f"written, it lies in {new}: move it elsewhere, or remove {beside} if it is not needed"
            )
        _release(beside)
    return (beside / "old").is_dir()


def _discard(beside: Path) -> None:
    """Remove a copy that is not wanted. The journal first: a copy of which part is gone may look like a whole one, and
    a run that wants what the journal says would let it take the array's place.
    """
    (beside / _JOURNAL).unlink(missing_ok=True)
    _remove(beside)


def _remove(beside: Path) -> None:
    """What is left once all is done. The journal last: as long as it is there, the next run knows that it is done."""
    for path in (beside / "new", beside / "old", beside):
        if path.exists():
            shutil.rmtree(path)
