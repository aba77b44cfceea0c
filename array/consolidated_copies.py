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
from typing import Any, Final, TypeAlias

from zarrdock.array.execution.drivers import send
from zarrdock.array.execution.read_write import update_key
from zarrdock.array.metadata.v3 import inline_to_json
from zarrdock.errors import ConflictError, MetadataError, NodeExistsError, ZarrdockError
from zarrdock.json_ import JSON, loads, loads_lax, serialise
from zarrdock.stores.base import Blob, Buffer, Read, Store, attempts

__all__ = ["Copies", "is_in_copies", "n_changes", "note_change", "place_of", "refuse_arrays_above", "take_from_copies"]

_ATTEMPTS: Final = 100
_V2_NAMES: Final = (".zarray", ".zgroup", ".zattrs")

Members: TypeAlias = "dict[str, Any]"

_MOST_PLACES: Final = 10_000
# Changes of metadata made in this process are numbered; the number of the last one at a place or below it. Under "",
# that of the last one of all, and under None the last one that was forgotten.
_changes: dict[str | None, int] = {"": 0, None: 0}
_numbers = itertools.count(1)


def place_of(store: Store, path: str) -> str:
    """The name of a group's place, for :func:`n_changes`: the same through whatever store object it was opened."""
    place = store.identity.below(path)
    return "/".join(part.strip("/") for part in (place.service, place.path, place.inside) if part)


def n_changes(place: str = "") -> int:
    """The number of the last change of metadata made in this process at a place or below it, "" for any."""
    return max(_changes.get(place, 0), _changes[None])


def note_change(store: Store, path: str) -> None:
    """Metadata of the node at ``path`` was changed, or that of a node below it."""
    number = next(_numbers)
    if len(_changes) > _MOST_PLACES:
        _changes.clear()
        _changes[None] = number
    place = place_of(store, path)
    while place:
        _changes[place] = number
        place = place.rpartition("/")[0]
    _changes[""] = number


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
        new: they are being made, which is an error below an array.
    """

    def __init__(
        self, store: Store, paths: Sequence[str], zarr_format: int, *, own: bool = False, new: bool = False
    ) -> None:
        self._store = store
        self._paths = paths
        self._zarr_format = zarr_format
        self._is_new = new
        self._holders = list(_holders(store, paths, zarr_format, own=own))
        self._reads = [Read(holder.key) for holder in self._holders]
        if new and zarr_format == 2:
            self._reads += [Read(f"{holder.path}/.zarray".lstrip("/")) for holder in self._holders]
        self._found = send(store, self._reads) if self._reads else None
        self._above = _Above(store, zarr_format)

    def refresh(self) -> None:
        """Make them say what the nodes' own documents say.

        Where one of the groups above holds a copy: a round for the documents of the nodes, an update of each copy that
        is out of date, and the round again.

        Raises:
            ConflictError: other writers kept changing the nodes meanwhile.
            NodeExistsError: new nodes are below an array.
        """
        try:
            self._refresh_all()
        finally:
            for path in self._paths:
                note_change(self._store, path)

    def _refresh_all(self) -> None:
        results = self._store.read(self._reads) if self._found is None else self._found.result()
        documents = [_parse(result) for result in results]
        n = len(self._holders)
        if self._is_new:
            for holder, document in zip(self._holders, documents[-n:], strict=True):
                _refuse_array(document, holder.path, self._store)
        found = zip(self._holders, documents[:n], strict=True)
        holders = [
            holder
            for holder, document in found
            if document is not None and _copy_in(document, self._zarr_format) is not None
        ]
        holders += self._above.holders()
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


def refuse_arrays_above(store: Store, path: str) -> None:
    """Make sure that a new node would not be below an array, of either format: a round.

    Raises:
        NodeExistsError: it would.
    """
    folders = [holder.path for holder in _holders(store, [path], 3)]
    reads = [Read(f"{folder}/{name}".lstrip("/")) for folder in folders for name in ("zarr.json", ".zarray")]
    for read, result in zip(reads, store.read(reads) if reads else (), strict=True):
        _refuse_array(_parse(result), read.key.rpartition("/")[0], store)


def _refuse_array(document: Members | None, folder: str, store: Store) -> None:
    if document is not None and document.get("node_type", "array") == "array" and "shape" in document:
        raise NodeExistsError(
            f"there is an array at {folder or '/'!r} in {store}, and an array has no members: choose another path"
        )


def take_from_copies(store: Store, path: str) -> None:
    """Take a node and all nodes below it out of the consolidated copies: it is about to be removed."""
    above = [_Above(store, zarr_format) for zarr_format in (2, 3)]
    holders = [holder for zarr_format in (2, 3) for holder in _holders(store, [path], zarr_format)]
    holders += [holder for folders in above for holder in folders.holders()]
    try:
        for holder, copy in zip(holders, _read(holders), strict=True):
            if copy is not None and _take(holder, copy, path=path):
                _change(holder, partial(_take, holder, path=path))
    finally:
        note_change(store, path)


def is_in_copies(store: Store, path: str, zarr_format: int) -> bool:
    """True where a consolidated copy holds the array at ``path``: one request for all groups above it."""
    holders = [*_holders(store, [path], zarr_format, own=True), *_Above(store, zarr_format).holders()]
    suffix = "" if zarr_format == 3 else ".zarray"
    return any(
        copy is not None and "/".join(filter(None, (holder.member(path), suffix))) in copy
        for holder, copy in zip(holders, _read(holders), strict=True)
    )


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


class _Above:
    """Groups above the root of a store that hold copies: what was opened may be a member of a hierarchy that others
    open by its root. As long as the folder above is a group, it is looked at. On a remote store the first look begins
    at once, and is answered while the change is made.
    """

    def __init__(self, store: Store, zarr_format: int) -> None:
        self._zarr_format = zarr_format
        self._names = ("zarr.json",) if zarr_format == 3 else (".zmetadata", ".zgroup")
        self._reads = [Read(name) for name in self._names]
        self._first = store.above()
        self._sent = None if self._first is None else send(self._first[0], self._reads)

    def holders(self) -> list[_Holder]:
        """Groups that hold a copy, the lowest first."""
        found: list[_Holder] = []
        start, step, sent = "", self._first, self._sent
        while step is not None:
            store, name = step
            start = f"{name}/{start}"
            try:
                results = store.read(self._reads) if sent is None else sent.result()
            except ZarrdockError:  # what lies above may well be somebody else's
                break
            documents = [_parse(result) for result in results]
            if not any(map(_is_group, documents)):
                break
            if documents[0] is not None and _copy_in(documents[0], self._zarr_format) is not None:
                found.append(_Holder(store, "", self._zarr_format, start, is_above=True))
            step, sent = store.above(), None
        return found


def _is_group(document: Members | None) -> bool:
    """True for a document that only a group has."""
    return document is not None and ("zarr_format" not in document or document.get("node_type", "group") == "group")


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
