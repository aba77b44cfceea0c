"""The nodes of consolidated metadata, parsed when asked for: opening a group of ten thousand arrays is quick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from zarrdock.json_ import in_document

if TYPE_CHECKING:
    from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata

__all__ = ["LazyNodes", "below"]

# Only a name for type checkers, as the import would go round in a circle: the real one is in metadata.py.
Node: TypeAlias = "ArrayMetadata | GroupMetadata"


class LazyNodes(Mapping[str, Node]):
    """Path, relative to the consolidated group, to metadata; groups among the nodes know those below them.

    Arrays are parsed leniently, since one unknown data type must not hide its neighbours: call their ``require_known``
    before use. Looking a node up raises MetadataError where its part of the document is wrong.
    """

    __slots__ = ("_documents", "_key", "_nodes", "_parse", "_paths", "_root", "_start", "_stop")

    def __init__(self, documents: Mapping[str, Any], parse: Callable[[str, Any], Node], key: str) -> None:
        """
        Args:
            documents: by path, whatever ``parse`` takes.
            parse: a function at module level (these objects pickle), which gives pointers into the whole document.
            key: of the document, for errors.
        """
        self._documents = documents
        self._parse = parse
        self._key = key
        # Sorted, so that the nodes below a path are a range: "a/" <= path < "a0", as "0" follows "/".
        self._paths = sorted(documents)
        self._nodes: dict[str, Node] = {}
        self._root = ""
        self._start, self._stop = 0, len(self._paths)

    def __getitem__(self, path: str) -> Node:
        full = self._root + path
        node = self._nodes.get(full)
        if node is None:
            with in_document(self._key):
                node = self._parse(full, self._documents[full])
            if hasattr(node, "consolidated") and path:
                node = replace(node, consolidated=self.below(path))  # type: ignore[arg-type]
            self._nodes[full] = node
        return node

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._root + path in self._documents

    def __iter__(self) -> Iterator[str]:
        skip = len(self._root)
        return (path[skip:] for path in self._paths[self._start : self._stop])

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return f"<{len(self)} nodes of consolidated metadata>"

    def document(self, path: str) -> Any:
        """The raw JSON document of the node at ``path``."""
        return self._documents[self._root + path]

    def below(self, path: str) -> LazyNodes:
        """The nodes below ``path``, their paths relative to it."""
        view = object.__new__(LazyNodes)
        view._documents, view._parse, view._key = self._documents, self._parse, self._key
        view._paths, view._nodes = self._paths, self._nodes
        stem = self._root + path
        view._root = stem + "/"
        view._start = bisect_left(self._paths, stem + "/")
        view._stop = bisect_left(self._paths, stem + "0")
        return view


def below(nodes: Mapping[str, Node], path: str) -> Mapping[str, Node]:
    """The nodes below ``path``, their paths relative to it."""
    if isinstance(nodes, LazyNodes):
        return nodes.below(path)
    stem = path + "/"
    return {name[len(stem) :]: node for name, node in nodes.items() if name.startswith(stem)}
