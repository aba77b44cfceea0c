"""Keeping consolidated metadata true: a change to a node changes the copies of its metadata that groups above it hold.

A copy is part of another document, and no store changes two documents in one step. So the order of the steps does it:
a node appears in the copies after it was written, and is taken out of them before it is removed. A changed node is
written first; then every copy is made to say what the node's own documents say *now*, and these are looked at once
more, until nothing changed in between: of several processes that change one node the last to look leaves the copies
right. See ``docs/design/metadata-copies.md``.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from zarrdock.array.execution.drivers import send
from zarrdock.array.execution.read_write import update_key
from zarrdock.array.metadata.v3 import inline_to_json
from zarrdock.errors import ConflictError, MetadataError, ZarrdockError
from zarrdock.json_ import JSON, loads, loads_lax, serialise
from zarrdock.stores.base import Blob, Buffer, Read, Store, WrapperStore, attempts
from zarrdock.stores.wrappers import PrefixStore

__all__ = ["Copies", "n_changes", "note_change", "take_from_copies"]

_ATTEMPTS: Final = 100
_V2_NAMES: Final = (".zarray", ".zgroup", ".zattrs")

Members: TypeAlias = "dict[str, Any]"

_numbers = itertools.count(1)


def _inside(store: Store) -> Store:
    while isinstance(store, WrapperStore):
        store = store.store
    return store


def n_changes(store: Store) -> int:
    """A number that is another one after metadata was changed through this store object, or a wrapper of it."""
    return _inside(store).metadata_change


def note_change(store: Store) -> None:
    """Metadata in the store was changed."""
    _inside(store).metadata_change = next(_numbers)


@dataclass(frozen=True, slots=True)
class _Holder:
    """A group that may hold a copy: ``path`` is that of the group in ``store``, ``start`` what the paths of nodes begin
    with in the copy, and ``n_skipped`` what is cut off them first.
    """

    store: Store
    path: str
    zarr_format: int
    start: str = ""
    n_skipped: int = 0
    is_above: bool = False

    @property
    def key(self) -> str:
        """Key of the document that holds the copy."""
        name = "zarr.json" if self.zarr_format == 3 else ".zmetadata"
        return f"{self.path}/{name}" if self.path else name

    def member(self, path: str) -> str:
        """A node's path in the copy; "" for the group itself."""
        return (self.start + path[self.n_skipped :]).rstrip("/")


class Copies:
    """The consolidated copies that hold some nodes. Looking for them begins at once, beside what is done to the nodes.

    Args:
        paths: of nodes that are made, changed or removed.
        own: they are groups that may hold copies themselves: in v2 these repeat the group's own documents.
    """

    def __init__(self, store: Store, paths: Sequence[str], zarr_format: int, *, own: bool = False) -> None:
        self._store = store
        self._paths = paths
        self._zarr_format = zarr_format
        self._holders = list(_holders(store, paths, zarr_format, own=own))
        # On a remote store all holders are in this store.
        self._found = send(store, [Read(holder.key) for holder in self._holders]) if self._holders else None

    def refresh(self) -> None:
        """Make them say what the nodes' own documents say.

        Where one of the groups above holds a copy: a round for the documents of the nodes, an update of each copy that
        is out of date, and the round again.

        Raises:
            ConflictError: other writers kept changing the nodes meanwhile.
        """
        note_change(self._store)
        if not self._holders:
            return
        if self._found is None:
            found = _read(self._holders)
        else:
            found = [_copy_of(result, self._zarr_format) for result in self._found.result()]
        holders = [holder for holder, copy in zip(self._holders, found, strict=True) if copy is not None]
        if holders:
            _refresh(self._store, self._paths, self._zarr_format, holders)


def _refresh(store: Store, paths: Sequence[str], zarr_format: int, holders: Sequence[_Holder]) -> None:
    names = ("zarr.json",) if zarr_format == 3 else _V2_NAMES

    def kept_changing() -> ConflictError:
        return ConflictError(
            "other writers kept changing the metadata while its consolidated copies were updated: "
            "call zarrdock.consolidate_metadata when they are done",
            key=paths[0],
            store=store,
        )

    for _ in attempts(_ATTEMPTS, kept_changing):
        reads = [Read(f"{path}/{name}" if path else name) for path in paths for name in names]
        stored = iter([_parse(result) for result in store.read(reads)])
        nodes = {path: {name: next(stored) for name in names} for path in paths}
        stale = False
        for holder, copy in zip(holders, _read(holders), strict=True):
            if copy is None or not _put(holder, copy, nodes=nodes):
                continue
            stale = True
            if not _change(holder, partial(_put, holder, nodes=nodes)):
                holders = [other for other in holders if other is not holder]
        if not stale:
            return


def take_from_copies(store: Store, path: str) -> None:
    """Take a node and all nodes below it out of the consolidated copies: it is about to be removed."""
    note_change(store)
    holders = [holder for zarr_format in (2, 3) for holder in _holders(store, [path], zarr_format)]
    for holder, copy in zip(holders, _read(holders), strict=True):
        if copy is not None and _take(holder, copy, path=path):
            _change(holder, partial(_take, holder, path=path))


def _change(holder: _Holder, change: Callable[[Members], bool]) -> bool:
    """Change a copy where it is stored. Returns False for one above the store's root that can't be changed."""

    def rewrite(old: Buffer | None) -> Buffer | None:
        document = _loads(old)
        copy = None if document is None else _copy_in(document, holder.zarr_format)
        return serialise(document) if document is not None and copy is not None and change(copy) else old

    try:
        update_key(holder.store, holder.key, rewrite, single_writer=True)
    except ZarrdockError as error:
        if not holder.is_above:
            raise
        # A folder above the one that was opened may well be somebody else's.
        warnings.warn(
            f"the consolidated metadata in {holder.store} could not be brought up to date: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


# -- which groups there are above a node ------------------------------------------------------------------------------


def _holders(store: Store, paths: Sequence[str], zarr_format: int, *, own: bool = False) -> Iterator[_Holder]:
    """Groups above any of the nodes, and with ``own`` these too."""
    above: dict[str, None] = {}
    for path in paths:
        parts = path.split("/") if path else []
        for n in range(len(parts) + (own and zarr_format == 2)):
            above["/".join(parts[:n])] = None
    for folder in above:
        yield _Holder(store, folder, zarr_format, n_skipped=len(folder) + 1 if folder else 0)
    if not store.traits.remote:
        yield from _above(store, zarr_format)


def _above(store: Store, zarr_format: int) -> Iterator[_Holder]:
    """Groups above the root of a store, where looking for them costs no request: what was opened may be a member of a
    hierarchy that others open by its root.
    """
    from zarrdock.stores.local import LocalStore

    start = ""
    while isinstance(store, WrapperStore):
        if isinstance(store, PrefixStore) and store.prefix:
            parts = store.prefix.split("/")
            for n in reversed(range(len(parts))):
                rest = "/".join(parts[n:])
                yield _Holder(store.store, "/".join(parts[:n]), zarr_format, f"{rest}/{start}", is_above=True)
            start = f"{store.prefix}/{start}"
        store = store.store
    if not isinstance(store, LocalStore):
        return
    folder = Path(store.root)
    documents = ("zarr.json",) if zarr_format == 3 else (".zgroup", ".zmetadata")
    while folder.parent != folder:
        start = f"{folder.name}/{start}"
        folder = folder.parent
        try:
            if not any((folder / name).is_file() for name in documents):
                return
        except OSError:
            return
        yield _Holder(LocalStore(str(folder), durable=store.durable), "", zarr_format, start, is_above=True)


def _read(holders: Sequence[_Holder]) -> list[Members | None]:
    """The copies that the holders have; a round for each store among them."""
    copies: dict[int, Members | None] = {}
    for is_above in (False, True):
        some = [i for i, holder in enumerate(holders) if holder.is_above is is_above]
        by_store: dict[Store, list[int]] = {}
        for i in some:
            by_store.setdefault(holders[i].store, []).append(i)
        for store, numbers in by_store.items():
            try:
                results = store.read([Read(holders[i].key) for i in numbers])
            except ZarrdockError:
                if not is_above:
                    raise
                continue
            for i, result in zip(numbers, results, strict=True):
                copies[i] = _copy_of(result, holders[i].zarr_format)
    return [copies.get(i) for i in range(len(holders))]


def _copy_of(result: object, zarr_format: int) -> Members | None:
    document = _parse(result)
    return None if document is None else _copy_in(document, zarr_format)


def _parse(result: object) -> Members | None:
    return _loads(result.data) if isinstance(result, Blob) else None


def _loads(data: Buffer | None) -> Members | None:
    """A document, None where there is none, or it is no object."""
    if data is None:
        return None
    try:
        document = loads(data)
    except MetadataError:
        lax = loads_lax(data)
        document = None if lax is None else lax.value
    return document if isinstance(document, dict) else None


def _copy_in(document: Members, zarr_format: int) -> Members | None:
    """The part of a document that is a copy, None where it has none: path to metadata in v3, key to document in v2."""
    if zarr_format == 3:
        inline = document.get("consolidated_metadata")
        if not isinstance(inline, dict) or inline.get("kind") != "inline":
            return None
        document = inline
    copy = document.get("metadata")
    return copy if isinstance(copy, dict) else None


# -- changes to copies ------------------------------------------------------------------------------------------------


def _put(holder: _Holder, copy: Members, *, nodes: Mapping[str, Mapping[str, JSON]]) -> bool:
    """Make a copy say what the nodes' documents say. Returns whether it did not."""
    changed = False
    for path, documents in nodes.items():
        member = holder.member(path)
        if not _is_below(holder, path):
            continue
        if all(document is None for name, document in documents.items() if name != ".zattrs"):
            changed |= bool(member) and _take(holder, copy, path=path)
            continue
        if holder.zarr_format == 3:
            document = documents["zarr.json"]
            if isinstance(document, dict) and document.get("node_type") == "group":
                document = {**document, "consolidated_metadata": inline_to_json({})}
            if copy.get(member) != document:
                copy[member] = document
                changed = True
            continue
        for name, document in documents.items():
            key = f"{member}/{name}" if member else name
            if document is not None and copy.get(key) != document:
                copy[key] = document
                changed = True
            elif document is None and copy.get(key, {}) != {}:
                del copy[key]
                changed = True
    return changed


def _is_below(holder: _Holder, path: str) -> bool:
    """True where the copy is one that holds the node."""
    if holder.is_above or not holder.path or path.startswith(f"{holder.path}/"):
        return holder.zarr_format == 2 or bool(holder.member(path))
    return holder.zarr_format == 2 and path == holder.path


def _take(holder: _Holder, copy: Members, *, path: str) -> bool:
    """Take a node, and all below it, out of a copy. Returns whether there was anything."""
    member = holder.member(path)
    gone = [key for key in copy if key.startswith(f"{member}/") or (holder.zarr_format == 3 and key == member)]
    for key in gone:
        del copy[key]
    return bool(gone)
