"""One place under two names: a source that a change of the destination would change, too.

Paths lead to one folder by symbolic links, a server shows a folder under a URL of its own, two clients see one bucket.
Local places are compared by the folders they really are. Where names alone cannot tell, a mark is written to the
destination and looked for in the source.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from zarrdock.array.group import walk
from zarrdock.array.metadata.v3 import GroupMetadata, Node
from zarrdock.array.node_storage import join, load
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError, ZarrdockError
from zarrdock.stores.base import Blob, Read, Store
from zarrdock.stores.identity import Identity
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore

__all__ = ["Reading", "refuse_aliases"]

_READS = 1000
_OF_OBJECTS = {"s3", "gs"}
_REMEDY = "Nothing was changed: write to an empty place, and remove the old one when that is done"


@dataclass(frozen=True, slots=True)
class Reading:
    """A node that is read while the destination is written.

    Attributes:
        store, path: of the node.
        nodes: metadata of the node ("") and of those below it, by relative path, as far as it is known.
    """

    store: Store
    path: str = ""
    nodes: Mapping[str, Node] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """The place of the node."""
        return self.store.identity.below(self.path)

    @property
    def url(self) -> str:
        """Store and path, for messages."""
        return self.store.url_of(self.path)


def refuse_aliases(sources: Iterable[Reading], store: Store, path: str, *, is_cleared: bool) -> None:
    """Refuse a destination that is a source, or lies in one, or holds one, whatever it is called there.

    Args:
        sources: the nodes that will be read.
        store, path: the destination.
        is_cleared: the destination is deleted before all has been read. Then links within local sources are
            followed, too, and stores that cannot be compared by name are compared by a mark.
    Raises:
        UnsupportedError: source and destination overlap; nothing was changed.
    """
    doubtful: list[tuple[Reading, Store, str]] = []
    (target, to), *_ = store.origins(path)
    for source in sources:
        for inner, at in source.store.origins(source.path):
            overlaps = _overlap(inner, at, target, to)
            if overlaps is None:
                doubtful.append((source, inner, at))
            elif overlaps or (is_cleared and _is_linked(inner, at, target, to)):
                raise _error(source, store, path)
    if is_cleared and doubtful:
        _refuse_marked(doubtful, store, path)


def _error(source: Reading, store: Store, path: str) -> UnsupportedError:
    place = store.url_of(path)
    named = (
        f"{place} is both" if place == source.url else f"{source.url} and {place} are one place, or one in the other"
    )
    return UnsupportedError(f"source and destination overlap: {named}. {_REMEDY}")


# -- by name ----------------------------------------------------------------------------------------------------------


def _overlap(a: Store, at: str, b: Store, to: str) -> bool | None:
    """True where one place lies in the other; None where names cannot tell."""
    if a is b:
        return _nested(at, to)
    if isinstance(a, LocalStore) and isinstance(b, LocalStore):
        return _files_nested(_file(a, at), _file(b, to))
    one, other = a.identity.below(at), b.identity.below(to)
    if one.overlaps(other):
        return True
    told_apart = isinstance(a, MemoryStore | LocalStore) and isinstance(b, MemoryStore | LocalStore)
    # A service of objects has one name for each.
    told_apart |= one.service == other.service and one.service.partition(" ")[0] in _OF_OBJECTS
    return False if told_apart or (one.in_process and other.in_process) else None


def _nested(a: str, b: str) -> bool:
    a, b = f"{a.strip('/')}/", f"{b.strip('/')}/"
    return "/" in (a, b) or a.startswith(b) or b.startswith(a)


# -- local files ------------------------------------------------------------------------------------------------------


def _file(store: LocalStore, path: str) -> Path:
    return Path(store.root, path).resolve()


def _files_nested(a: Path, b: Path) -> bool:
    """True where one path is the other or leads through it; a folder that is mounted twice is one folder."""
    if a.is_relative_to(b) or b.is_relative_to(a):
        return True
    first, second = [_inode(path) for path in (a, *a.parents)], [_inode(path) for path in (b, *b.parents)]
    return any(one is not None and one in chain for one, chain in ((first[0], second), (second[0], first)))


def _inode(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None


def _is_linked(a: Store, at: str, b: Store, to: str) -> bool:
    """True where symbolic links within a local source lead into a local destination."""
    if not (isinstance(a, LocalStore) and isinstance(b, LocalStore)):
        return False
    target = _file(b, to)
    seen: set[Path] = set()
    elsewhere: set[Path] = set()
    todo = [_file(a, at)]
    while todo:
        folder = todo.pop()
        if folder in seen:
            continue
        seen.add(folder)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    real = Path(entry.path).resolve()
                    place = real if real.is_dir() else real.parent
                    if place not in elsewhere and _files_nested(real, target):
                        return True
                    elsewhere.add(place)
                    if place is real:
                        todo.append(real)
                elif entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
    return False


# -- by a mark --------------------------------------------------------------------------------------------------------


def _refuse_marked(doubtful: list[tuple[Reading, Store, str]], store: Store, path: str) -> None:
    """Write marks where the destination may hold a source, look for them in the sources, and take them away."""
    nodes = _nodes(store, path)
    roots = [source.nodes[""] for source, _, _ in doubtful if "" in source.nodes]
    # Documents are compared first: a node is only looked for beside one that reads the same.
    marked = {path} | {join(path, name) if path else name for name, node in nodes.items() if name and node in roots}
    mark = f".zarrdock-{secrets.token_hex(8)}"
    written: list[str] = []
    try:
        for place in sorted(marked):
            key = join(place, mark)
            written.append(key)
            store.write(key, b"a mark by zarrdock, to see whether two places are one: it may be removed\n")
        for source, inner, at in doubtful:
            if _sees(source, inner, at, mark, nodes.get("")):
                raise _error(source, store, path)
    finally:
        for key in written:
            store.delete(key)


def _nodes(store: Store, path: str) -> dict[str, Node]:
    """The nodes at the destination that can be parsed, by relative path."""
    try:
        root = load(store, path, None, None, consolidated=False, lenient=True)
    except (NodeNotFoundError, MetadataError):
        return {}
    if not isinstance(root, GroupMetadata):
        return {"": root}
    root = root.replace(consolidated=None)
    nodes: dict[str, Node] = {"": root}
    for name, node in walk(store, path, root) if store.traits.listable else ():
        if not isinstance(node, ZarrdockError):
            nodes[name] = node.replace(consolidated=None) if isinstance(node, GroupMetadata) else node
    return nodes


def _sees(source: Reading, store: Store, path: str, mark: str, target: Node | None) -> bool:
    """True where the mark shows in the source, in a node of it that reads as the destination, or above it."""
    places = {path, *(path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)), ""}
    if path == source.path or store is not source.store:
        places |= {join(path, name) for name, node in source.nodes.items() if name and node == target}
    keys = iter(sorted(join(place, mark) for place in places))
    while page := list(islice(keys, _READS)):
        for key in page:
            # Where absence is denied, presence would not be.
            with suppress(ZarrdockError):
                if isinstance(store.read([Read(key)])[0], Blob):
                    return True
    return False
