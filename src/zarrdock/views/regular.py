"""Arrays whose chunks differ in shape, shown with chunks of one shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.metadata.chunk_grids import RectilinearGrid, RegularGrid
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, Node, parse_node
from zarrdock.array.node_storage import join
from zarrdock.array.planning.chunk_cache import ChunkCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.overlap import Division, touched
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Entry, Listing, Read, Store
from zarrdock.stores.open import open_store
from zarrdock.views.array_lookup import Owners, v3_array
from zarrdock.views.view import Document, Part, Place, View

__all__ = ["RegularView", "regular"]

DOCUMENT: Final = "zarr.json"
# Decoded chunks that are kept, since each is wanted by several that are shown.
KEPT_BYTES: Final = 64 * 2**20


def regular(store: Any, *, storage_options: dict[str, Any] | None = None) -> RegularView:
    """A read-only view of a hierarchy in which every array has chunks of one shape, for readers that do not know
    rectilinear grids.

    Args:
        store: anything :func:`zarrdock.open_store` takes.

    Chunks of such an array are as long as the longest there are, and made when they are asked for: little-endian bytes,
    zstd-compressed. All other arrays are shown as they are, and so are those that can't be read or have elements of
    variable length.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=[[2, 6]])
    >>> zarrdock.open_array(zarrdock.views.regular(array.store)).chunks
    (6,)
    """
    return RegularView(open_store(store, storage_options=storage_options, read_only=True))


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Recipe to show an array: ``chain`` encodes its chunks, ``array`` reads what is in them."""

    node: ArrayMetadata
    shown: ArrayMetadata
    chain: BoundChain
    array: Array

    def boxes(self, coords: tuple[int, ...]) -> tuple[slice, ...] | None:
        """The elements of a chunk that is shown; None for one that lies outside."""
        shape, lengths = self.shown.shape, self.chain.spec.shape
        if any(c * n >= end for c, n, end in zip(coords, lengths, shape, strict=True)):
            return None
        return tuple(slice(c * n, min((c + 1) * n, end)) for c, n, end in zip(coords, lengths, shape, strict=True))


class RegularView(View):
    """See :func:`regular`."""

    name = "regular"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._owners = Owners(store, DOCUMENT, v3_array, lambda node: _shown(node) is not None)
        self._recipes: dict[str, _Recipe] = {}
        self._cache = ChunkCache(KEPT_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)

    # -- places --------------------------------------------------------------------------------------------------------

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        places: list[Place] = [Part(key) for key in keys]
        of_nodes = [i for i, key in enumerate(keys) if key.rpartition("/")[2] == DOCUMENT]
        for i, answer in zip(of_nodes, self.store.read([Read(keys[i]) for i in of_nodes]), strict=True):
            places[i] = self._document(keys[i], answer) if isinstance(answer, Blob) else None
        others = [i for i, key in enumerate(keys) if key.rpartition("/")[2] != DOCUMENT]
        for i, owner in zip(others, self._owners.find([keys[i] for i in others]), strict=True):
            if owner is not None:
                coords = owner[1].key_encoding.parse(keys[i][len(owner[0]) + 1 if owner[0] else 0 :], owner[1].ndim)
                if coords is not None:
                    places[i] = self._chunk(self._recipe(*owner), coords)
        return places

    def _document(self, key: str, answer: Blob) -> Place:
        self._owners.learn(key.rpartition("/")[0], answer.data)
        try:
            node = parse_node(answer.data, key, lenient=True)
        except MetadataError:
            return Part(key)
        new = _node(node)
        return Part(key) if new is node else Document(documents(new)[DOCUMENT], answer.version)

    def _recipe(self, path: str, node: ArrayMetadata) -> _Recipe:
        known = self._recipes.get(path)
        if known is None or known.node is not node:
            found = _shown(node)
            assert found is not None, "owners are arrays that have one"
            shown, chain = found
            array = Array(self.store, path, node, read_only=True, chunk_cache=self._cache)
            known = self._recipes[path] = _Recipe(node, shown, chain, array)
        return known

    def _chunk(self, recipe: _Recipe, coords: tuple[int, ...]) -> Document | None:
        box = recipe.boxes(coords)
        if box is None:
            return None
        spec = recipe.chain.spec
        value = np.full(spec.shape, spec.fill_value, spec.dtype)
        inside = value[tuple(slice(0, part.stop - part.start) for part in box)]
        recipe.array.read(box, out=inside)
        if not self._is_there(recipe, box):
            return None
        data = bytes(recipe.chain.encode(value))
        # Of the bytes: they come from several objects.
        return Document(data, hashlib.sha256(data).hexdigest() if self.traits.conditional_read else None)

    def _is_there(self, recipe: _Recipe, box: tuple[slice, ...]) -> bool:
        """True if any of the objects a chunk is made of exists."""
        layout = recipe.array._layout
        division = Division.of(recipe.node.grid, recipe.node.shape)
        corners = np.array([[part.start for part in box], [part.stop - 1 for part in box]], np.int64)
        low, high = division.owners(corners.reshape(2, len(box))).tolist()
        keys = [layout.key(at) for at in product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))]
        return any(isinstance(answer, Blob) for answer in self.store.read([Read(key, Span(0, 1)) for key in keys]))

    # -- listing -------------------------------------------------------------------------------------------------------

    def _entries(self, prefix: str) -> Iterator[Entry]:
        # Keys of chunks lie elsewhere below their array than those of what they are made of.
        inside = self._owners.find([join(prefix, "x")])[0] if prefix else None
        start = f"{prefix}/" if prefix else ""
        listed: set[str] = set()
        for entry in self.store.list(prefix if inside is None else inside[0]):
            owner = self._owners.find([entry.key])[0]
            if entry.key.rpartition("/")[2] == DOCUMENT:
                found: Iterable[Entry] = [replace(entry, size=None)]
            elif owner is None or _coords(entry.key, *owner) is None:
                found = [entry]
            elif owner[0] in listed:
                continue
            else:
                listed.add(owner[0])
                found = self._chunks(*owner)
            yield from (one for one in found if one.key.startswith(start))

    def _chunks(self, path: str, node: ArrayMetadata) -> Iterator[Entry]:
        recipe = self._recipe(path, node)
        objects, blocks = Division.of(node.grid, node.shape), Division.of(recipe.shown.grid, node.shape)
        stored = [coords for coords, _ in stored_objects(self.store, path, node.key_encoding, objects.grid)]
        prefix = f"{path}/" if path else ""
        coordinates = np.array(stored, np.int64).reshape(len(stored), node.ndim)
        for number in touched([coordinates], objects, blocks):
            yield Entry(prefix + node.key_encoding.key(blocks.coords(number)), None)

    def list_dir(self, prefix: str = "", /) -> Listing:
        owner = self._owners.find([join(prefix.removesuffix("/"), "x")])[0]
        return self.store.list_dir(prefix) if owner is None else super().list_dir(prefix)


def _coords(key: str, path: str, node: ArrayMetadata) -> tuple[int, ...] | None:
    return node.key_encoding.parse(key[len(path) + 1 if path else 0 :], node.ndim)


def _shown(node: ArrayMetadata) -> tuple[ArrayMetadata, BoundChain] | None:
    """The metadata of a rectilinear array with chunks of one shape, and their codecs; None for any other."""
    if not isinstance(node.grid, RectilinearGrid) or node.unknown:
        return None
    try:
        spec = Layout.of(node).chain.spec
        codecs = (Bytes("little").with_defaults(spec), Zstd(1))
        return node.replace(grid=RegularGrid(spec.shape), codecs=codecs), bind_chain(codecs, spec)
    except (MetadataError, UnsupportedError):
        return None


def _node(node: Node) -> Node:
    if isinstance(node, ArrayMetadata):
        found = _shown(node)
        return node if found is None else found[0]
    if not node.consolidated:
        return node
    return node.replace(consolidated={path: _node(inner) for path, inner in node.consolidated.items()})
