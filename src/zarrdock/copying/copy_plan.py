"""The plan of a copy: every node of the source, and its metadata in the destination. This module writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import prod

from zarrdock.array.hierarchy import Hierarchy, walk
from zarrdock.array.metadata.consolidated import consolidate, to_consolidated_v2
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_storage import ZarrFormat
from zarrdock.array.same_place import Reading
from zarrdock.copying.progress import below
from zarrdock.copying.sources import Source, ZarrSource, load_root
from zarrdock.copying.target_metadata import Wishes, retarget, retarget_group
from zarrdock.errors import ZarrdockError
from zarrdock.json_ import serialise
from zarrdock.stores.base import Store

__all__ = ["ArrayPart", "Contents", "node_documents", "of_hierarchy"]


@dataclass(frozen=True, slots=True)
class ArrayPart:
    """An array to copy.

    Attributes:
        path: relative to the source node. metadata: of the copy.
        source: its elements; None where the objects are copied as they are, and only ``original`` counts.
        original: the source's metadata, where it is a Zarr array.
        at: where the source's array is, relative to the source node; None: as ``path`` says.
    """

    path: str
    metadata: ArrayMetadata
    source: Source | None
    original: ArrayMetadata | None
    at: str | None = None

    @property
    def source_path(self) -> str:
        """Path of the source's array, relative to the source node."""
        return self.path if self.at is None else self.at

    @property
    def nbytes(self) -> int:
        """Bytes of all elements; of an unknown data type as if they had one byte each."""
        return prod(self.metadata.shape) * max(1, self.metadata.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Contents:
    """Contents of a copy.

    Attributes:
        url: of the source.
        store, path: where the source is; None where it is no Zarr.
        groups: path, relative, to metadata in the copy. arrays: in the order in which they are copied.
        consolidated: groups that get consolidated metadata.
        reading: the stores and prefixes that are read; None where the source is in memory.
        files, folders: keys and prefixes, relative, of what lies in groups and is no Zarr, as far as a listing tells.
        left_out: what of the source has no form in Zarr, one line each.
    """

    url: str
    store: Store | None
    path: str
    arrays: list[ArrayPart] = field(default_factory=list)
    groups: dict[str, GroupMetadata] = field(default_factory=dict)
    consolidated: frozenset[str] = frozenset()
    reading: Reading | None = None
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def root(self) -> Node:
        """The metadata of the outermost node."""
        return self.groups[""] if "" in self.groups else self.arrays[0].metadata

    def group_documents(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Groups with their documents, inner ones first."""
        nodes: dict[str, Node] = {part.path: part.metadata for part in self.arrays}
        nodes |= self.groups
        for path in sorted(self.groups, key=lambda path: (-path.count("/"), not path, path)):
            group = self.groups[path]
            if path not in self.consolidated:
                yield path, node_documents(group)
                continue
            prefix = f"{path}/" if path else ""
            below = {name[len(prefix) :]: node for name, node in nodes.items() if name and name.startswith(prefix)}
            whole = consolidate(group, below)
            if group.zarr_format == 2:
                yield path, {".zmetadata": serialise(to_consolidated_v2(whole)), **node_documents(group)}
            else:
                yield path, node_documents(whole)


def node_documents(node: Node) -> dict[str, bytes]:
    """Documents to store for a node, in this order: the node exists once the last one is written."""
    found = documents(node)
    return {name: found[name] for name in reversed(found) if name != ".zattrs" or node.attributes}


def of_hierarchy(
    store: Store, path: str, wishes: Wishes, *, recode: bool, zarr_format: ZarrFormat | None = None
) -> Contents:
    """Look at a whole source hierarchy.

    Args:
        recode: elements are decoded and encoded even where chunks and codecs stay the same.
        zarr_format: of the source, where it is known.
    Raises:
        ZarrdockError: the first error in any node's metadata: nothing has been copied then.
    """
    # Where the store lists, nodes that consolidated metadata has forgotten are copied too.
    root = load_root(store, path, zarr_format)
    url = f"{store.url}/{path}" if path else store.url
    if isinstance(root, ArrayMetadata):
        reading = Reading(store, path, {"": root})
        return Contents(url, store, path, [_array(store, path, "", root, wishes, recode)], reading=reading)
    listed = store.traits.listable
    start = root.replace(consolidated=None) if listed else root
    consolidated: set[str] = {""} if root.consolidated is not None else set()
    contents = Contents(url, store, path, [], {"": retarget_group(root, wishes)})
    nodes: dict[str, Node] = {"": root.replace(consolidated=None)}
    hierarchy = Hierarchy(store)
    for relative, node in walk(store, path, start, hierarchy):
        if isinstance(node, ZarrdockError):
            raise node
        nodes[relative] = node.replace(consolidated=None) if isinstance(node, GroupMetadata) else node
        if isinstance(node, ArrayMetadata):
            own = wishes.for_ndim(node.ndim)
            contents.arrays.append(_array(store, below(path, relative), relative, node, own, recode))
            continue
        contents.groups[relative] = retarget_group(node, wishes)
        if listed and node.consolidated is not None and not _is_below(relative, consolidated):
            consolidated.add(relative)
    skip = len(path) + 1 if path else 0
    return replace(
        contents,
        consolidated=frozenset(consolidated),
        reading=Reading(store, path, nodes),
        files=tuple(key[skip:] for key in hierarchy.files),
        folders=tuple(folder[skip:] for folder in hierarchy.folders),
    )


def _is_below(path: str, groups: Iterable[str]) -> bool:
    return any(not group or path.startswith(f"{group}/") for group in groups)


def _array(store: Store, path: str, relative: str, metadata: ArrayMetadata, wishes: Wishes, recode: bool) -> ArrayPart:
    try:
        new, is_same = retarget(metadata, wishes)
    except ZarrdockError as error:
        if relative:
            error.add_note(f"array {relative!r}")
        raise
    if is_same and not (recode and not metadata.unknown):
        return ArrayPart(relative, new, None, metadata)
    return ArrayPart(relative, new, ZarrSource(store, path, metadata), metadata)
