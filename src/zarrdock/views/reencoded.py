"""Arrays with codecs or data types that a reader does not know, shown with others: the one view that decodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, Node, parse_node
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.codec import ChunkSpec, Codec
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import CodecError, MetadataError, UnsupportedError
from zarrdock.lru import BoundedLRU
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Entry, Listing, Read, Store, Version
from zarrdock.stores.identity import Identity
from zarrdock.views.array_lookup import Owners, v3_array
from zarrdock.views.view import Document, Part, Place, View

__all__ = ["ReencodedView"]

DOCUMENT = "zarr.json"
KEPT_BYTES = 64 * 2**20

# Whether the reader needs an array to be shown otherwise.
Needs: TypeAlias = Callable[[ArrayMetadata], bool]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Recipe to show the chunks of an array."""

    node: ArrayMetadata
    shown: ArrayMetadata
    inside: BoundChain
    outside: BoundChain


class ReencodedView(View):
    """A read-only view of a Zarr v3 hierarchy in which some arrays have the codecs ``bytes`` (little-endian) and
    ``zstd``, their chunks being decoded and encoded when they are asked for. The others are shown as they are.

    Args:
        store: the store inside.
        needs: says of an array's metadata whether its chunks are to be re-encoded. At module level, so that the view
            pickles.
        dtypes: names of data types, and those that arrays of them are shown as. Integers that have no place in a
            smaller type are shown as the nearest that have, floats as infinity.

    Chunks made lately are kept (64 MiB), each with the version of the object it was made of, and only used while the
    store says that it is still of that version.
    """

    name = "reencoded"

    def __init__(self, store: Store, needs: Needs, dtypes: Mapping[str, str] | None = None) -> None:
        super().__init__(store)
        self._needs = needs
        self._dtypes = dict(dtypes or {})
        self._owners = Owners(store, DOCUMENT, v3_array, lambda node: self._recipe(node) is not None)
        self._recipes: dict[str, _Recipe] = {}
        self._kept: BoundedLRU[str, tuple[Version, bytes]] = BoundedLRU(KEPT_BYTES, _nbytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self._needs, self._dtypes)

    @property
    def identity(self) -> Identity:
        """Identity of the store inside, seen re-encoded."""
        needs = getattr(self._needs, "__qualname__", repr(self._needs))
        return self.store.identity.seen_as(f"{self.name}({needs}, {sorted(self._dtypes.items())})")

    # -- metadata ------------------------------------------------------------------------------------------------------

    def _recipe(self, node: ArrayMetadata) -> _Recipe | None:
        """Recipe of an array; None if it is shown as it is, because it may be, or because it cannot be re-encoded."""
        if node.unknown or not (node.data_type.name in self._dtypes or self._needs(node)):
            return None
        try:
            inside = _bind(node)
            shown = node
            spec = inside.spec
            if (name := self._dtypes.get(node.data_type.name)) is not None:
                data_type = data_type_of(name)
                fill = _converted(np.asarray(node.fill_value, node.dtype), data_type.numpy)[()]
                shown = node.replace(data_type=data_type, fill_value=data_type.cast_fill(fill))
                spec = ChunkSpec(spec.shape, data_type.numpy, fill)
            codecs: tuple[Codec, ...] = (Bytes("little").with_defaults(spec), Zstd(1))
            return _Recipe(node, shown.replace(codecs=codecs), inside, bind_chain(codecs, spec))
        except (MetadataError, UnsupportedError):
            return None

    def _shown(self, node: Node) -> Node:
        if isinstance(node, ArrayMetadata):
            recipe = self._recipe(node)
            return node if recipe is None else recipe.shown
        if not node.consolidated:
            return node
        return node.replace(consolidated={path: self._shown(inner) for path, inner in node.consolidated.items()})

    def _document(self, key: str, answer: Blob) -> Document:
        path = key.rpartition("/")[0]
        self._owners.learn(path, answer.data)
        data = bytes(answer.data)
        try:
            node = parse_node(answer.data, key, lenient=True)
        except MetadataError:
            return Document(data, answer.version)
        shown = self._shown(node)
        return Document(data if shown is node else documents(shown)[DOCUMENT], answer.version)

    # -- places --------------------------------------------------------------------------------------------------------

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        places: list[Place] = [Part(key) for key in keys]
        of_nodes = [i for i, key in enumerate(keys) if key.rpartition("/")[2] == DOCUMENT]
        for i, answer in zip(of_nodes, self.store.read([Read(keys[i]) for i in of_nodes]), strict=True):
            places[i] = self._document(keys[i], answer) if isinstance(answer, Blob) else None
        others = [i for i, key in enumerate(keys) if key.rpartition("/")[2] != DOCUMENT]
        chunks: dict[int, _Recipe] = {}
        for i, owner in zip(others, self._owners.find([keys[i] for i in others]), strict=True):
            if owner is not None and _is_chunk(keys[i], *owner):
                chunks[i] = self._recipe_at(*owner)
        for i, place in self._chunks(keys, chunks).items():
            places[i] = place
        return places

    def _recipe_at(self, path: str, node: ArrayMetadata) -> _Recipe:
        known = self._recipes.get(path)
        if known is None or known.node is not node:
            found = self._recipe(node)
            assert found is not None, "owners are arrays that have one"
            known = self._recipes[path] = found
        return known

    def _chunks(self, keys: Sequence[str], recipes: dict[int, _Recipe]) -> dict[int, Place]:
        """Chunks that are kept and still good, and the others made anew."""
        found: dict[int, Place] = {}
        kept = {i: entry for i in recipes if (entry := self._kept.get(keys[i])) is not None}
        checks = [Read(keys[i], Span(0, 1), version) for i, (version, _) in kept.items()]
        for (i, (version, data)), answer in zip(kept.items(), self.store.read(checks) if checks else [], strict=True):
            if isinstance(answer, Blob):
                found[i] = Document(data, version)
        wanted = [i for i in recipes if i not in found]
        for i, answer in zip(wanted, self.store.read([Read(keys[i]) for i in wanted]) if wanted else [], strict=True):
            found[i] = self._made(keys[i], recipes[i], answer) if isinstance(answer, Blob) else None
        return found

    def _made(self, key: str, recipe: _Recipe, blob: Blob) -> Document:
        try:
            values = _converted(recipe.inside.decode(blob.data), recipe.outside.spec.dtype)
            data = bytes(recipe.outside.encode(values))
        except CodecError as error:
            raise error.at(key=key) from error.__cause__
        if blob.version is not None:
            self._kept.put(key, (blob.version, data))
        return Document(data, blob.version)

    # -- listing -------------------------------------------------------------------------------------------------------

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for entry in self.store.list(prefix):
            owner = self._owners.find([entry.key])[0]
            is_made = entry.key.rpartition("/")[2] == DOCUMENT or (owner is not None and _is_chunk(entry.key, *owner))
            yield replace(entry, size=None) if is_made else entry

    def list_dir(self, prefix: str = "", /) -> Listing:
        return self.store.list_dir(prefix)


def _nbytes(kept: tuple[Version, bytes]) -> int:
    return len(kept[1])


def _converted(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if values.dtype.newbyteorder("=") == dtype:
        return values
    if dtype.kind in "iu" and dtype.itemsize < values.dtype.itemsize:
        limits = np.iinfo(dtype)
        values = np.clip(values, limits.min, limits.max)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _is_chunk(key: str, path: str, array: ArrayMetadata) -> bool:
    encoding: KeyEncoding = array.key_encoding
    return encoding.parse(key[len(path) + 1 if path else 0 :], array.ndim) is not None


def _bind(node: ArrayMetadata) -> BoundChain:
    return Layout.bind(
        node.shape, node.grid.chunk_shape, node.dtype, node.fill_value, node.codecs, node.key_encoding
    ).chain
