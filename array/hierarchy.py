"""The nodes below a group, read level by level.

Without consolidated metadata the members of a group are found in a round for their names and one for all their
documents (in v2 a second one for those that are no arrays). A hierarchy costs that once for each of its levels, not for
each of its groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from zarrdock.array.metadata.consolidated import below
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_storage import join, load, load_many
from zarrdock.array.removal import DOCUMENTS
from zarrdock.errors import MetadataError, ZarrdockError
from zarrdock.stores.base import Listing, Store

__all__ = ["Hierarchy", "Member", "arrays_below", "consolidated_node", "nodes_below", "walk"]

# Name, and metadata or the error that it is.
Member: TypeAlias = "tuple[str, Node | ZarrdockError]"

_MANY = 1000  # groups listed in one round


class Hierarchy:
    """Members of groups. With those of one group, those of all groups that are known beside it are read.

    Args:
        store: of the hierarchy.
        lenient: arrays with unknown extensions are metadata, not errors.
    Attributes:
        files: keys of files right in the groups read so far that are no documents of Zarr.
        folders: folders in them that are no nodes.
    """

    def __init__(self, store: Store, *, lenient: bool = True) -> None:
        self._store = store
        self._lenient = lenient
        # Groups whose members were not asked for yet, in the order in which a walk comes to them.
        self._waiting: dict[str, GroupMetadata] = {}
        self._found: dict[str, list[Member]] = {}
        self.files: list[str] = []
        self.folders: list[str] = []

    def members(self, path: str, group: GroupMetadata) -> Iterator[Member]:
        """The nodes right below a group, in the order of their names, as they are read."""
        if group.consolidated is not None:
            return _below_consolidated(self._store, path, group)
        found = self._found.pop(path, None)
        return self._read(path, group) if found is None else iter(found)

    def _read(self, path: str, group: GroupMetadata) -> Iterator[Member]:
        self._waiting.pop(path, None)
        depth = path.count("/")
        beside = [other for other in self._waiting if other.count("/") == depth][: _MANY - 1]
        listings = self._list({path: group} | {other: self._waiting.pop(other) for other in beside})
        self.files += [join(at, name) for at, one in listings.items() for name in one.keys if name not in DOCUMENTS]
        places = [(at, name) for at, listing in listings.items() for name in listing.prefixes]
        self._found |= {at: [] for at in listings if at != path}
        paths = [join(at, name) for at, name in places]
        nodes = load_many(self._store, paths, group.zarr_format, lenient=self._lenient)
        for (at, name), node in zip(places, nodes, strict=True):
            if node is None:
                self.folders.append(join(at, name))
                continue
            if isinstance(node, GroupMetadata) and node.consolidated is None:
                self._waiting[join(at, name)] = node
            if at == path:
                yield name, node
            else:
                self._found[at].append((name, node))

    def _list(self, groups: dict[str, GroupMetadata]) -> dict[str, Listing]:
        try:
            return dict(zip(groups, self._store.list_dirs(list(groups)), strict=True))
        except ZarrdockError:
            if len(groups) == 1:
                raise
            # One that can't be listed hides no other: each is asked for alone when a walk comes to it.
            return {first: self._store.list_dir(first) for first in [next(iter(groups))]}


def walk(
    store: Store, path: str, group: GroupMetadata, hierarchy: Hierarchy | None = None
) -> Iterator[tuple[str, Node | ZarrdockError]]:
    """Every node below a group, depth first in the order of names: its path relative to the group, and its metadata
    (arrays leniently parsed), or the error that its metadata is.

    Args:
        hierarchy: what reads it, for callers that want to know what else lies there.
    """
    return _walk(Hierarchy(store) if hierarchy is None else hierarchy, path, group, "")


def nodes_below(store: Store, path: str, root: Node) -> Iterator[tuple[str, Node | ZarrdockError]]:
    """A node and every node below it, with their paths in the store; as :func:`walk` gives them.

    Nodes are found by listing, so that those are seen too that consolidated metadata has forgotten; by consolidated
    metadata where the store does not list.
    """
    yield path, root
    if isinstance(root, GroupMetadata):
        start = root.replace(consolidated=None) if store.traits.listable else root
        for relative, node in walk(store, path, start):
            yield join(path, relative), node


def arrays_below(
    store: Store, path: str, root: Node, *, skip_errors: bool = False
) -> Iterator[tuple[str, ArrayMetadata]]:
    """Every array at a node and below it, with its path in the store.

    Args:
        skip_errors: leave out nodes whose metadata is an error; by default it is raised.
    """
    for at, node in nodes_below(store, path, root):
        if isinstance(node, ZarrdockError) and not skip_errors:
            raise node
        if isinstance(node, ArrayMetadata):
            yield at, node


def _walk(hierarchy: Hierarchy, path: str, group: GroupMetadata, prefix: str) -> Iterator[Member]:
    members = hierarchy.members(path, group)
    rest: Iterator[Member] | None = None
    while (member := next(members if rest is None else rest, None)) is not None:
        name, node = member
        yield prefix + name, node
        if isinstance(node, GroupMetadata):
            if rest is None:
                rest = iter(list(members))  # all groups of this level are known before one goes below it
            yield from _walk(hierarchy, join(path, name), node, f"{prefix}{name}/")


def consolidated_node(store: Store, path: str, group: GroupMetadata, member: str) -> Node:
    """A node that consolidated metadata has; by its own documents where it is wrong there, and they are not."""
    assert group.consolidated is not None
    try:
        return group.consolidated[member]
    except MetadataError:
        try:
            return load(store, join(path, member), None, group.zarr_format, consolidated=False, lenient=True)
        except ZarrdockError:
            pass
        raise


def _below_consolidated(store: Store, path: str, group: GroupMetadata) -> Iterator[Member]:
    """The members that consolidated metadata has; groups above its nodes that it leaves out included."""
    nodes = group.consolidated
    assert nodes is not None
    for name in sorted({member.partition("/")[0] for member in nodes}):
        try:
            node = (
                consolidated_node(store, path, group, name)
                if name in nodes
                else GroupMetadata(zarr_format=group.zarr_format, consolidated=below(nodes, name))
            )
        except ZarrdockError as error:
            yield name, error
            continue
        yield name, node
