"""The shard indexes of an array, all of them: where every chunk lies, without any chunk being read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.caches import ROOT, Indexes
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.shard_index import ShardUsage, usage_of
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions
from zarrdock.copying.sources import stored_chunks
from zarrdock.errors import ConflictError, RangeError, ShardIndexError, UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Result, Store

__all__ = ["ObjectIndexes", "layout_of", "read_indexes", "stored_objects"]

# Objects whose indexes are asked for together.
_BATCH = 256
_MAX_CHANGES = 5


@dataclass(frozen=True, slots=True)
class ObjectIndexes:
    """One object in the store.

    Attributes:
        coords: of the object in the grid of objects. key: in the store. nbytes: its size.
        indexes: of every shard in it, by level and first byte; empty where it is a chunk by itself.
        extents: first byte and length of every shard in it, by level and first byte.
    """

    coords: tuple[int, ...]
    key: str
    nbytes: int
    indexes: Indexes = field(default_factory=dict)
    extents: dict[tuple[int, int], int] = field(default_factory=dict)

    def usage(self, layout: Layout) -> ShardUsage:
        """Count the uses of its bytes. A shard inside is a chunk of the outer, with indexes and garbage of its own."""
        if not self.indexes:
            return ShardUsage(chunks=self.nbytes)
        levels = layout.at(self.coords).levels
        total = ShardUsage()
        for (depth, start), index in self.indexes.items():
            own = usage_of(levels[depth].sharding.layout, index, self.extents[depth, start])
            total += own if depth == len(levels) - 1 else replace(own, chunks=0)
        return total


def layout_of(metadata: ArrayMetadata, path: str, options: WriteOptions = DEFAULT_WRITE_OPTIONS) -> Layout:
    """An array's geometry and codecs, its shards to be written with ``options``.

    Raises:
        UnknownExtensionError, MetadataError: the array can't be understood.
    """
    metadata.require_known()
    return Layout.of(metadata, f"{path}/" if path else "", options)


def stored_objects(store: Store, path: str, metadata: ArrayMetadata) -> list[tuple[tuple[int, ...], int | None]]:
    """Coordinates and sizes of the objects that an array has, in C order.

    Raises:
        UnsupportedError: the store can't be listed.
    """
    found = stored_chunks(store, path, metadata.key_encoding, metadata.grid.n_chunks(metadata.shape))
    if found is None:
        raise UnsupportedError(f"{store} cannot be listed, so its shards are unknown")
    return sorted(found)


def read_indexes(
    store: Store, layout: Layout, objects: Iterable[tuple[tuple[int, ...], int | None]]
) -> Iterator[ObjectIndexes]:
    """Read the indexes of objects, one round a level for many objects; those that are gone are left out.

    Raises:
        ShardIndexError: one is damaged. ConflictError: an object kept changing.
    """
    waiting = iter(objects)
    while batch := list(islice(waiting, _BATCH)):
        left = batch
        for _ in range(_MAX_CHANGES):
            found, left = _read_batch(store, layout, left)
            yield from found
            if not left:
                break
        else:
            raise ConflictError("the object kept changing", key=layout.key(left[0][0]))


class _Open:
    """An object of which not all indexes are known yet."""

    def __init__(self, at: ObjectIndexes, version: object) -> None:
        self.at = at
        self.version = version
        self.wanted: list[tuple[int, int]] = []  # shards of the level at work: first byte, length


def _read_batch(
    store: Store, layout: Layout, objects: list[tuple[tuple[int, ...], int | None]]
) -> tuple[list[ObjectIndexes], list[tuple[tuple[int, ...], int | None]]]:
    """Returns what is known now, and the objects that changed meanwhile."""
    keys = [layout.key(coords) for coords, _ in objects]
    unsure = [key for key, (_, size) in zip(keys, objects, strict=True) if size is None]
    asked = dict(zip(unsure, store.sizes(unsure) if unsure else (), strict=True))
    sizes = [asked.get(key) if size is None else size for key, (_, size) in zip(keys, objects, strict=True)]
    bare = [
        ObjectIndexes(coords, key, size)
        for (coords, _), key, size in zip(objects, keys, sizes, strict=True)
        if size is not None
    ]
    if not layout.levels or not bare:
        return bare, []
    # Where objects differ in shape, so do their indexes.
    own = {one.coords: layout.at(one.coords) for one in bare}
    answers = _ask(store, [Read(one.key, own[one.coords].levels[0].sharding.layout.range) for one in bare])
    opened: list[_Open] = []
    changed: list[tuple[tuple[int, ...], int | None]] = []
    for one, answer in zip(bare, answers, strict=True):
        if isinstance(answer, Blob):
            state = _Open(one, answer.version)
            try:
                _take(state, own[one.coords], 0, 0, one.nbytes, answer)
            except ShardIndexError:
                # The size may be that of an older object.
                if store.size(one.key) == one.nbytes:
                    raise
                changed.append((one.coords, None))
                continue
            opened.append(state)
    for depth in range(1, len(layout.levels)):
        reads, owners = [], []
        for state in opened:
            level = own[state.at.coords].levels[depth].sharding.layout
            wanted, state.wanted = state.wanted, []
            for start, length in wanted:
                reads.append(Read(state.at.key, Span(*level.span_within(start, length)), state.version))
                owners.append((state, start, length))
        failed: set[int] = set()
        for (state, start, length), answer in zip(owners, _ask(store, reads), strict=True):
            if isinstance(answer, Blob):
                _take(state, own[state.at.coords], depth, start, length, answer)
            else:
                failed.add(id(state))
        changed += [(state.at.coords, None) for state in opened if id(state) in failed]
        opened = [state for state in opened if id(state) not in failed]
    return [state.at for state in opened], changed


def _ask(store: Store, reads: list[Read]) -> list[Result]:
    try:
        return store.read(reads) if reads else []
    except RangeError as error:
        raise ShardIndexError(
            "the shard is too short for its index", codec="sharding_indexed", key=error.key
        ) from error


def _take(state: _Open, layout: Layout, depth: int, start: int, length: int, answer: Blob) -> None:
    try:
        index = layout.levels[depth].sharding.layout.parse(answer.data, length)
    except ShardIndexError as error:
        raise error.at(key=state.at.key) from error.__cause__
    name = ROOT if depth == 0 else (depth, start)
    state.at.indexes[name] = index
    state.at.extents[name] = length
    if depth + 1 < len(layout.levels):
        there = np.flatnonzero(index.offsets >= 0)
        state.wanted += zip((index.offsets[there] + start).tolist(), index.lengths[there].tolist(), strict=True)
