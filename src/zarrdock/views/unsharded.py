"""Sharded arrays shown as plain chunks: each key of a chunk is a range of bytes of its shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from zarrdock.array.execution.drivers import drive
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node
from zarrdock.array.node_storage import join
from zarrdock.array.planning.chunk_cache import IndexCache, Indexes
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.rounds import Steps, lockstep
from zarrdock.array.planning.shard_tree import Shard, walk_shards
from zarrdock.codecs.sharding import Sharding
from zarrdock.config import config
from zarrdock.errors import ConflictError, MetadataError, UnsupportedError, VersionChangedError
from zarrdock.stores.base import Blob, Entry, Listing, Read, Store, Version, attempts
from zarrdock.stores.open import open_store
from zarrdock.views.array_lookup import Owners, v3_array
from zarrdock.views.view import ATTEMPTS, Document, Part, Place, View

__all__ = ["UnshardedView", "unshard"]

DOCUMENT = "zarr.json"
SHARDS_AT_ONCE = 64


def unshard(store: Any, *, storage_options: dict[str, Any] | None = None) -> UnshardedView:
    """A read-only view that shows every sharded array as an array of plain chunks, whatever the levels of sharding.

    Args:
        store: anything :func:`zarrdock.open_store` takes.

    Chunks are handed out as the bytes they are in their shards, never decoded; many of one shard are read in merged
    ranges. Indexes are remembered, and every read that relies on one names the version of its shard, so that a shard
    that is replaced meanwhile is noticed. Arrays whose shards are wrapped in another codec are shown as they are.

    >>> array = zarrdock.create_array({}, data=np.arange(8) + 1, chunks=2, shards=4)
    >>> view = zarrdock.views.unshard(array.store)
    >>> sorted(entry.key for entry in view.list())
    ['c/0', 'c/1', 'c/2', 'c/3', 'zarr.json']
    """
    return UnshardedView(open_store(store, storage_options=storage_options, read_only=True))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A chunk: its number among those asked for, the shard it is in with its layout, and its coordinates there."""

    number: int
    layout: Layout
    shard: str
    local: tuple[int, ...]


class UnshardedView(View):
    """See :func:`unshard`."""

    name = "unshard"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._owners = Owners(store, DOCUMENT, v3_array, _is_sharded)
        self._indexes = IndexCache(config.index_cache_bytes)
        self._layouts: dict[str, tuple[ArrayMetadata, Layout]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)

    def _forget(self, place: Part) -> None:
        self._indexes.drop(place.key)

    # -- places --------------------------------------------------------------------------------------------------------

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        places: list[Place] = [Part(key) for key in keys]
        metadata = [i for i, key in enumerate(keys) if key.rpartition("/")[2] == DOCUMENT]
        for i, answer in zip(metadata, self.store.read([Read(keys[i]) for i in metadata]), strict=True):
            places[i] = self._document(keys[i], answer) if isinstance(answer, Blob) else None
        others = [i for i, key in enumerate(keys) if key.rpartition("/")[2] != DOCUMENT]
        wanted: list[_Wanted] = []
        for i, owner in zip(others, self._owners.find([keys[i] for i in others]), strict=True):
            if owner is None:
                continue
            path, array = owner
            coords = array.key_encoding.parse(keys[i][len(path) + 1 if path else 0 :], array.ndim)
            if coords is None:
                continue
            layout = self._layout(path, array)
            at = _shard_of(layout, coords)
            if at is not None:
                local = tuple(c - first for c, first in zip(coords, layout.first_leaf(at), strict=True))
                wanted.append(_Wanted(i, layout.at(at), layout.key(at), local))
        for number, place in self._in_shards(wanted, fresh).items():
            places[number] = place
        return places

    def _layout(self, path: str, array: ArrayMetadata) -> Layout:
        known = self._layouts.get(path)
        if known is None or known[0] is not array:
            known = self._layouts[path] = array, Layout.of(array, f"{path}/" if path else "")
        return known[1]

    def _document(self, key: str, answer: Blob) -> Document:
        path = key.rpartition("/")[0]
        self._owners.learn(path, answer.data)
        try:
            node = parse_node(answer.data, key, lenient=True)
            shown = _plain(node)
        except MetadataError:
            shown = None
        data = bytes(answer.data) if shown is None else documents(shown)[DOCUMENT]
        return Document(data, answer.version)

    def _in_shards(self, wanted: list[_Wanted], fresh: bool) -> dict[int, Place]:
        found: dict[int, Place] = {}
        kept_changing = lambda: ConflictError(  # noqa: E731
            "other writers kept changing the shard: try again", key=wanted[0].shard, store=self
        )
        for _ in attempts(ATTEMPTS, kept_changing):
            wanted = self._descend(wanted, fresh, found)
            if not wanted:
                break
            fresh = True
        return found

    def _descend(self, wanted: list[_Wanted], fresh: bool, found: dict[int, Place]) -> list[_Wanted]:
        """Follow the indexes down to the chunks; returns those to be done again: their shard changed, or an old index
        is all that says that they are not there.
        """
        shards: dict[str, list[_Wanted]] = {}
        for item in wanted:
            shards.setdefault(item.shard, []).append(item)
        again: list[_Wanted] = []

        def task(shard: str, items: list[_Wanted]) -> Steps:
            known = None if fresh else self._indexes.get(shard)
            levels = items[0].layout.levels
            local = np.array([item.local for item in items], np.int64).reshape(len(items), -1)

            def concerned(at: Shard) -> Iterable[int]:
                if not at.at:
                    return [0]
                grid = np.array(levels[at.depth].sharding.grid, np.int64)
                inside = local // np.array(levels[at.depth].leaves, np.int64) - np.array(at.at, np.int64)
                inside = inside[((inside >= 0) & (inside < grid)).all(axis=1)]
                flat: list[int] = np.unique(np.ravel_multi_index(tuple(inside.T), tuple(grid))).tolist()
                return flat

            try:
                tree = yield from walk_shards(items[0].layout.shardings, shard, known=known, wanted=concerned)
            except VersionChangedError:
                again.extend(items)
                return
            if tree is None:
                found.update({item.number: None for item in items})
                return
            indexes = tree.indexes()
            self._indexes.put(shard, tree.version, {**(known[1] if known else {}), **indexes})
            for item in items:
                place = _part(item, tree.version, indexes)
                if place is None and known is not None:
                    again.append(item)
                else:
                    found[item.number] = place

        round_bytes = config.remote_round_bytes if self.store.traits.remote else config.round_bytes
        tasks = (task(shard, shards[shard]) for shard in sorted(shards))
        drive(lockstep(tasks, round_bytes=round_bytes, n_together=len(shards) or 1), self.store)
        return again

    # -- listing -------------------------------------------------------------------------------------------------------

    def _entries(self, prefix: str) -> Iterator[Entry]:
        inside = self._owners.find([join(prefix, "x")])[0] if prefix else None
        # Keys of chunks lie elsewhere below their array than those of their shards.
        entries = self.store.list(inside[0] if inside is not None else prefix)
        start = f"{prefix}/" if prefix else ""
        while page := [*islice(entries, SHARDS_AT_ONCE)]:
            yield from (entry for entry in self._shown(page) if entry.key.startswith(start))

    def _shown(self, page: Sequence[Entry]) -> Iterable[Entry]:
        owners = self._owners.find([entry.key for entry in page])
        shards: list[tuple[str, ArrayMetadata, tuple[int, ...], str]] = []
        for entry, owner in zip(page, owners, strict=True):
            name = entry.key.rpartition("/")[2]
            if owner is not None and name != DOCUMENT:
                path, array = owner
                coords = array.key_encoding.parse(entry.key[len(path) + 1 if path else 0 :], array.ndim)
                if coords is not None:
                    shards.append((path, array, coords, entry.key))
                    continue
            yield Entry(entry.key, None if name == DOCUMENT else entry.size)
        yield from self._chunks_in(shards)

    def _chunks_in(self, shards: list[tuple[str, ArrayMetadata, tuple[int, ...], str]]) -> Iterator[Entry]:
        for path, array, at, _ in shards:
            layout = self._layout(path, array)
            if layout.irregular is not None and any(c >= n for c, n in zip(at, layout.grid_shape(), strict=True)):
                continue  # left from a larger array: its shape is unknown
            lengths = layout.at(at).chunk_shape
            ratio = [outer // leaf for outer, leaf in zip(lengths, layout.leaf_shape, strict=True)]
            every = np.stack(np.unravel_index(np.arange(int(np.prod(ratio))), ratio), -1) if ratio else np.zeros((1, 0))
            coords = every.astype(np.int64) + np.asarray(layout.first_leaf(at), np.int64)
            keys = [layout.prefix + key for key in array.key_encoding.keys(coords)]
            for key, place in zip(keys, self._locate(keys), strict=True):
                if isinstance(place, Part):
                    yield Entry(key, place.length)

    def list_dir(self, prefix: str = "", /) -> Listing:
        listing = self.store.list_dir(prefix)
        owner = self._owners.find([join(prefix.removesuffix("/"), "x")])[0]
        # Above arrays nothing is different, and right below one there is "c", which not every index is read for.
        if owner is None or (owner[0] == prefix.removesuffix("/") and owner[1].key_encoding == SeparatedKeys()):
            return listing
        return super().list_dir(prefix)


def _shard_of(layout: Layout, coords: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shard that holds the chunk at ``coords``; None beyond the last one, where shards differ."""
    positions = [c * n for c, n in zip(coords, layout.leaf_shape, strict=True)]
    if layout.irregular is None:
        return tuple(p // n for p, n in zip(positions, layout.chunk_shape, strict=True))
    found = layout.irregular.owners(positions, layout.chunk_shape)
    return found if all(c < n for c, n in zip(found, layout.grid_shape(), strict=True)) else None


def _is_sharded(node: ArrayMetadata) -> bool:
    """True if the array has shards that can be read in part."""
    try:
        return not node.unknown and bool(Layout.of(node).levels)
    except (MetadataError, UnsupportedError):
        return False


def _plain(node: Node) -> Node | None:
    """A node as the view shows it; None where it is shown as it is."""
    if isinstance(node, GroupMetadata):
        if not node.consolidated:
            return None
        return node.replace(consolidated={path: _plain(inner) or inner for path, inner in node.consolidated.items()})
    if node.unknown or node.zarr_format != 3:
        return None
    layout = Layout.of(node)
    if not layout.levels:
        return None
    codecs = node.codecs
    for _ in layout.levels:
        codecs = next(codec.codecs for codec in codecs if isinstance(codec, Sharding))
    return node.replace(grid=RegularGrid(layout.leaf_shape), codecs=codecs)


def _part(item: _Wanted, version: Version | None, indexes: Indexes) -> Part | None:
    """The bytes of a chunk; None where it is not there."""
    start = length = 0
    local = item.local
    for depth, level in enumerate(item.layout.levels):
        index = indexes[depth, start]
        child = tuple(c // n for c, n in zip(local, level.leaves, strict=True))
        flat = int(np.ravel_multi_index(child, level.sharding.grid)) if child else 0
        if index.offsets[flat] < 0:
            return None
        start, length = start + int(index.offsets[flat]), int(index.lengths[flat])
        local = tuple(c % n for c, n in zip(local, level.leaves, strict=True))
    return Part(item.shard, start, length, version)
