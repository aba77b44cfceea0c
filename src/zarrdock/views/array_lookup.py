"""Lookup of the array that a key belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from zarrdock.array.metadata.v3 import ArrayMetadata, parse_node
from zarrdock.array.node_storage import join
from zarrdock.errors import MetadataError
from zarrdock.stores.base import Blob, Buffer, Read, Store

__all__ = ["Owners", "v3_array"]

# The metadata of an array out of its document; None where it is none.
Parse: TypeAlias = Callable[[Buffer, str], ArrayMetadata | None]


class Owners:
    """Arrays by path, loaded when a key below them is asked for. Kept: a view takes the layout of an array as given
    for as long as its document is not read again.

    Args:
        name: of an array's document, ``zarr.json`` or ``.zarray``.
        matters: says which arrays are owners; the others' documents need not be read again and again either.
    """

    def __init__(
        self, store: Store, name: str, parse: Parse, matters: Callable[[ArrayMetadata], bool] = lambda _: True
    ) -> None:
        self._store = store
        self._name = name
        self._parse = parse
        self._matters = matters
        self._known: dict[str, ArrayMetadata | None] = {}  # None: an array that does not matter

    def find(self, keys: Sequence[str]) -> list[tuple[str, ArrayMetadata] | None]:
        """Find the array above each key, and its path. At most one round of requests."""
        ancestors = [_ancestors(key) for key in keys]
        self.load({path for paths in ancestors for path in self._unknown(paths)})
        return [self._first(paths) for paths in ancestors]

    def load(self, paths: Iterable[str]) -> None:
        """Read the documents at these paths."""
        wanted = sorted(paths)
        if not wanted:
            return
        answers = self._store.read([Read(join(path, self._name)) for path in wanted])
        for path, answer in zip(wanted, answers, strict=True):
            self.learn(path, answer.data if isinstance(answer, Blob) else None)

    def learn(self, path: str, document: Buffer | None) -> None:
        """Take note of a document that was read."""
        node = None if document is None else self._parse(document, join(path, self._name))
        # "Nothing there" is not kept: an array may come.
        if node is None:
            self._known.pop(path, None)
        else:
            self._known[path] = node if self._matters(node) else None

    def _unknown(self, paths: list[str]) -> list[str]:
        # Below an array there is no other one.
        return [] if any(path in self._known for path in paths) else paths

    def _first(self, paths: list[str]) -> tuple[str, ArrayMetadata] | None:
        for path in paths:
            node = self._known.get(path)
            if node is not None:
                return path, node
        return None


def _ancestors(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts))]


def v3_array(document: Buffer, key: str) -> ArrayMetadata | None:
    """The array in a ``zarr.json``."""
    try:
        node = parse_node(document, key, lenient=True)
    except MetadataError:
        return None
    return node if isinstance(node, ArrayMetadata) else None
