"""Removing nodes: the documents, chunks and members of a hierarchy, and nothing else that lies in the same folder.

A folder that holds a Zarr node may hold other files beside it, and a folder that holds none must never be emptied. So
all keys below a path are listed, the documents among them say which keys are chunks, and what is neither stays.
"""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zarrdock.array.metadata.key_encodings import KeyEncoding, parse_key_encoding
from zarrdock.array.metadata.unknown import UnknownKeyEncoding
from zarrdock.array.metadata.v2 import parse_array_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, Node, parse_node
from zarrdock.errors import NodeExistsError, ZarrdockError
from zarrdock.stores.base import Blob, Read, Store, WrapperStore
from zarrdock.stores.wrappers import PrefixStore

if TYPE_CHECKING:
    from zarrdock.stores.local import LocalStore

__all__ = ["COPY_MARK", "DOCUMENTS", "Inventory", "Keys", "describe_keys", "n_removals", "remove", "survey"]

#: Name of the mark of an unfinished copy, which says what the chunks of arrays without a document yet are called.
COPY_MARK: Final = ".zarrdock-copy.json"

_MAIN: Final = frozenset({"zarr.json", ".zarray", ".zgroup", COPY_MARK})
#: Names of the documents of nodes. Those of NCZarr before 4.9 lie beside the documents of Zarr.
DOCUMENTS: Final = _MAIN | {".zattrs", ".zmetadata", ".nczarr", ".nczgroup", ".nczarray", ".nczattr", ".nczvar"}
# Chunks of an array whose document can't be read: keys as nearly every writer makes them.
_LIKELY_CHUNK: Final = re.compile(r"c(?:[./]\d+)*|\d+(?:[./]\d+)*", re.ASCII)
_PAGE: Final = 1000  # documents read in one round
_N_NAMED: Final = 3

_numbers = itertools.count(1)
_n_removals = 0


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the chunks of one array: ``encoding`` is None if it is unknown."""

    encoding: KeyEncoding | None
    ndim: int

    @classmethod
    def of(cls, metadata: ArrayMetadata) -> Keys:
        """The names of the chunks of an array with this metadata."""
        known = not isinstance(metadata.key_encoding, UnknownKeyEncoding)
        return cls(metadata.key_encoding if known else None, metadata.ndim)

    def match(self, key: str) -> bool:
        """True where ``key``, relative to the array, is that of a chunk (inside the array's shape or not: an array
        that was made smaller may have left it).
        """
        if self.encoding is None:
            return _LIKELY_CHUNK.fullmatch(key) is not None
        return self.encoding.parse(key, self.ndim) is not None


_UNKNOWN: Final = Keys(None, 0)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Contents of a store below a path.

    Attributes:
        path: what was looked at.
        is_node: there is a node at the path itself.
        nodes: paths of all nodes, the path's own included.
        keys: what belongs to them. foreign: everything else.
    """

    path: str
    is_node: bool
    nodes: frozenset[str]
    keys: tuple[str, ...]
    foreign: tuple[str, ...]

    def check_replaceable(self, store: Store, new: Node | None = None) -> None:
        """Make sure that a node may replace the stored one.

        Args:
            new: the node.
        Raises:
            NodeExistsError: something is there that is no Zarr, or would be taken for a chunk of the new array.
        """
        where = f"{self.path or '/'!r} in {store}"
        if self.foreign and not self.is_node:
            raise NodeExistsError(
                f"there is something at {where} that is no Zarr ({_named(self.foreign)}), and only Zarr nodes are ever "
                "replaced: choose an empty place, or remove it yourself"
            )
        if isinstance(new, ArrayMetadata):
            keys, skip = Keys.of(new), len(self.path) + 1 if self.path else 0
            clash = [key for key in self.foreign if keys.match(key[skip:])]
            if clash:
                raise NodeExistsError(
                    f"there are files at {where} that do not belong to the node there, and would be taken for chunks "
                    f"of the new array ({_named(clash)}): remove them yourself, or choose another place"
                )

    def warn(self, store: Store) -> None:
        """Name the files that stay."""
        warnings.warn(
            f"files at {self.path or '/'!r} in {store} that belong to no Zarr node stay there: {_named(self.foreign)}",
            UserWarning,
            stacklevel=5,
        )


def survey(store: Store, path: str) -> Inventory:
    """Look at all that is stored below ``path``: a listing, and a round for each thousand documents.

    Raises:
        StoreError, UnsupportedError: the store can't be listed.
    """
    found = [entry.key for entry in store.list(path)]
    arrays: dict[str, list[Keys]] = {}
    nodes: set[str] = set()
    for folder, name, data in _documents(store, found):
        if name != COPY_MARK or folder == path:
            nodes.add(folder)
        for where, keys in _arrays(folder, name, data):
            arrays.setdefault(where, []).append(keys)
    mine: list[str] = []
    foreign: list[str] = []
    for key in found:
        belongs = key.rpartition("/")[2] in DOCUMENTS or _is_chunk(key, arrays)
        (mine if belongs else foreign).append(key)
    return Inventory(path, path in nodes, frozenset(nodes), tuple(mine), tuple(foreign))


def remove(store: Store, path: str, *, new: Node | None = None, found: Inventory | None = None) -> None:
    """Remove the node at ``path`` and all nodes below it. Files that belong to none of them stay, and a warning names
    them.

    Args:
        new: what will take its place.
        found: what :func:`survey` has just found there.
    Raises:
        NodeExistsError: see :meth:`Inventory.check_replaceable`; nothing was removed.
    """
    store._check_writable(path)
    inventory = survey(store, path) if found is None else found
    if not inventory.keys and not inventory.foreign:
        return
    inventory.check_replaceable(store, new)
    if inventory.foreign:  # said before anything goes: where warnings are errors, nothing has
        inventory.warn(store)
    global _n_removals
    _n_removals = next(_numbers)
    _delete(store, inventory)


def n_removals() -> int:
    """A number that is another one after this process removed a node, from any store."""
    return _n_removals


def describe_keys(arrays: Sequence[tuple[str, ArrayMetadata]]) -> list[dict[str, Any]]:
    """JSON for the mark of a copy, by which the chunks of its arrays are known before their documents are there."""
    return [
        {"path": path, "ndim": metadata.ndim, "chunk_key_encoding": metadata.key_encoding.to_json()}
        for path, metadata in arrays
    ]


def _named(keys: Sequence[str]) -> str:
    names = ", ".join(map(repr, keys[:_N_NAMED]))
    return names if len(keys) <= _N_NAMED else f"{names} and {len(keys) - _N_NAMED} more"


def _documents(store: Store, keys: Sequence[str]) -> Iterator[tuple[str, str, bytes | None]]:
    """Folder, name and contents of the documents that make nodes; None for contents that need not, or can't, be
    read.
    """
    wanted: list[str] = []
    for key in keys:
        folder, _, name = key.rpartition("/")
        if name == ".zgroup":
            yield folder, name, None
        elif name in _MAIN:
            wanted.append(key)
    for first in range(0, len(wanted), _PAGE):
        page = wanted[first : first + _PAGE]
        for key, result in zip(page, store.read([Read(key) for key in page]), strict=True):
            folder, _, name = key.rpartition("/")
            yield folder, name, bytes(result.data) if isinstance(result, Blob) else None


def _arrays(folder: str, name: str, data: bytes | None) -> Iterator[tuple[str, Keys]]:
    """Paths of the arrays that a document tells of, and how their chunks are named."""
    if name == ".zgroup":
        return
    try:
        if name == COPY_MARK:
            for item in json.loads(data or b"")["arrays"]:
                where = "/".join(part for part in (folder, item["path"]) if part)
                yield where, Keys(parse_key_encoding(item["chunk_key_encoding"]), item["ndim"])
            return
        parse = parse_node if name == "zarr.json" else partial(parse_array_v2, zattrs=None)
        node = parse(data or b"", lenient=True)
    except (ZarrdockError, ValueError, KeyError, TypeError):
        yield folder, _UNKNOWN
        return
    if isinstance(node, ArrayMetadata):
        yield folder, Keys.of(node)


def _is_chunk(key: str, arrays: dict[str, list[Keys]]) -> bool:
    folder = key
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in arrays:
            relative = key[len(folder) + 1 :] if folder else key
            if any(keys.match(relative) for keys in arrays[folder]):
                return True
    return False


# -- deleting ---------------------------------------------------------------------------------------------------------


def _delete(store: Store, inventory: Inventory) -> None:
    """Delete what belongs to the nodes. Documents go last, the deepest first, so that the rest of a removal that was
    stopped is still known for what it is.
    """
    keys = inventory.keys
    local = _local(store, inventory.path)
    if local is not None:
        for link in _links(*local, inventory):
            # What a link leads to is not in this hierarchy: the link goes, and nothing else.
            store.delete_prefix(link)
            keys = tuple(key for key in keys if not key.startswith(f"{link}/"))
    documents = [key for key in keys if key.rpartition("/")[2] in DOCUMENTS]
    last = set(documents)
    store.delete_many([key for key in keys if key not in last])
    by_depth: dict[int, list[str]] = {}
    for key in documents:
        by_depth.setdefault(key.count("/"), []).append(key)
    for depth in sorted(by_depth, reverse=True):
        store.delete_many(by_depth[depth])
    if local is not None:
        local[0].clean(local[1])


def _local(store: Store, path: str) -> tuple[LocalStore, str] | None:
    """The local store inside all wrappers, and the path there."""
    from zarrdock.stores.local import LocalStore

    while isinstance(store, WrapperStore):
        if isinstance(store, PrefixStore):
            path = "/".join(part for part in (store.prefix, path) if part)
        store = store.store
    return (store, path) if isinstance(store, LocalStore) else None


def _links(local: LocalStore, path: str, inventory: Inventory) -> set[str]:
    """Folders that are symbolic links, the outermost ones, and hold nodes or chunks; in terms of the inventory."""
    folders: dict[str, bool] = {}
    before = len(path) - len(inventory.path)

    def is_link(folder: str) -> bool:
        if len(folder) < len(inventory.path) or not folder:
            return False
        known = folders.get(folder)
        if known is None:
            above = is_link(folder.rpartition("/")[0])
            known = folders[folder] = above or Path(local.root, path[:before] + folder).is_symlink()
        return known

    for key in inventory.keys:
        is_link(key.rpartition("/")[0])
    return {folder for folder, known in folders.items() if known and not folders.get(folder.rpartition("/")[0], False)}
