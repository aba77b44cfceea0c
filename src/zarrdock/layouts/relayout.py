"""Shards written anew where they are, with their chunks in another order and without what no chunk uses.

Nothing is decoded: chunks are copied as the bytes they are. Each shard is changed in one atomic update of the store, so
that readers and writers may go on meanwhile, and what an interrupted run has done is done: the next one sees by the
indexes alone which shards are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.hierarchy import arrays_below
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import node_path
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.shard_tree import Shard, rebuilt, walk_bytes
from zarrdock.codecs.chunk_order import Order
from zarrdock.codecs.codec import Buffer
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.copying.parallel import in_parallel
from zarrdock.copying.sources import load_root
from zarrdock.copying.transfer import N_LOCAL, N_REMOTE
from zarrdock.errors import ReadOnlyError, ShardIndexError, UnsupportedError
from zarrdock.layouts.indexes import ObjectIndexes, layout_of, listed_objects, read_indexes
from zarrdock.stores.base import Store, Value
from zarrdock.stores.open import open_store

__all__ = ["Relaid", "relayout", "relayout_shard"]


@dataclass(frozen=True, slots=True)
class Relaid:
    """Progress or result of a rewriting.

    Attributes:
        path: of the array at work.
        n_objects: shards looked at. n_rewritten: those that were written anew; the others were as they should be.
        nbytes_before, nbytes_after: bytes of all shards looked at.

    >>> array = zarrdock.create_array(zarrdock.MemoryStore(), data=np.ones((8, 8)), chunks=(2, 2), shards=(8, 8))
    >>> zarrdock.tools.relayout(array.store, order="hilbert").n_rewritten
    1
    """

    path: str = ""
    n_objects: int = 0
    n_rewritten: int = 0
    nbytes_before: int = 0
    nbytes_after: int = 0

    @property
    def nbytes_saved(self) -> int:
        """Bytes by which the shards became smaller."""
        return self.nbytes_before - self.nbytes_after


def relayout(
    store: Any,
    *,
    path: str | None = None,
    order: Order | None = None,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    memory_bytes: int = 512 * 2**20,
    progress: Callable[[Relaid], None] | None = None,
) -> Relaid:
    """Rewrite the shards of every array below a node: chunks in another order, and no unused bytes.

    To change shards, chunks or codecs as well a new array is needed: :func:`zarrdock.copy` makes it, without decoding
    where only the shards differ.

    Args:
        store: an array, or anything :func:`zarrdock.open_store` takes. path: of the node within it.
        order: as ``subchunk_write_order`` of :class:`zarrdock.WriteOptions`; None keeps the order there is.
        dry_run: only look: the result says which shards would be rewritten, not what their size would be.
        storage_options: options of the fsspec filesystem that a URL leads to.
        memory_bytes: about what may be held at one time; at least one shard.
        progress: called in the caller's thread after every shard.
    Raises:
        NodeNotFoundError: there is no node. UnsupportedError: nothing is sharded; the store can't be listed, or has no
        atomic update. ShardIndexError: a shard is damaged, and left as it is. ReadOnlyError, StoreError.

    >>> array = zarrdock.create_array(zarrdock.MemoryStore(), data=np.ones((8, 8)), chunks=(2, 2), shards=(8, 8))
    >>> zarrdock.tools.relayout(array.store, order="hilbert").n_rewritten
    1
    """
    options = WriteOptions(subchunk_write_order="unordered" if order is None else order)
    nodes: Iterable[tuple[str, ArrayMetadata]]
    if isinstance(store, Array):
        opened, at = store.store, store.path
        nodes = [(at, store.metadata)]
    else:
        opened = open_store(
            store, storage_options=dict(storage_options) if storage_options else None, read_only=dry_run
        )
        at = node_path(path)
        below = arrays_below(opened, at, load_root(opened, at))
        nodes = ((where, metadata) for where, metadata in below if not metadata.unknown or where == at)
    if not dry_run and (opened.read_only or not opened.traits.writable):
        raise ReadOnlyError("the store is read-only", key=at, store=opened)
    arrays = [(where, metadata, layout_of(metadata, where, options)) for where, metadata in nodes]
    sharded = [found for found in arrays if found[2].levels]
    if not sharded:
        raise UnsupportedError(f"at {at or '/'!r} in {opened} no array is sharded: only shards have an order of chunks")
    done = Relaid()
    for where, metadata, layout in sharded:
        for outcome in _relayout_array(opened, where, metadata, layout, dry_run, memory_bytes):
            done = Relaid(
                where,
                done.n_objects + outcome.n_objects,
                done.n_rewritten + outcome.n_rewritten,
                done.nbytes_before + outcome.nbytes_before,
                done.nbytes_after + outcome.nbytes_after,
            )
            if progress is not None:
                progress(done)
    return replace(done, path=at)


def _relayout_array(
    store: Store, path: str, metadata: ArrayMetadata, layout: Layout, dry_run: bool, memory_bytes: int
) -> Iterator[Relaid]:
    def jobs() -> Iterator[tuple[int, partial[Relaid]]]:
        for found in read_indexes(store, layout, listed_objects(store, path, metadata)):
            if _is_done(layout, found):
                yield 0, partial(Relaid, path, 1, 0, found.nbytes, found.nbytes)
            elif dry_run:
                yield 0, partial(Relaid, path, 1, 1, found.nbytes, found.nbytes)
            else:
                yield found.nbytes, partial(_rewrite, store, path, layout.at(found.coords), found.key)

    yield from in_parallel(jobs(), n=N_REMOTE if store.traits.remote else N_LOCAL, budget=memory_bytes)


def _is_done(layout: Layout, found: ObjectIndexes) -> bool:
    """True where a shard is as it should be at every level, by its indexes."""
    levels = layout.at(found.coords).levels
    return all(
        levels[shard.depth].sharding.is_arranged(shard.index, shard.nbytes)
        for shard in found.shards
        if shard.nbytes is not None
    )


def _rewrite(store: Store, path: str, layout: Layout, key: str) -> Relaid:
    sharding = layout.levels[0].sharding
    before = after = n_rewritten = 0

    def change(old: Buffer | None) -> Value | None:
        nonlocal before, after, n_rewritten
        before = after = 0 if old is None else len(old)
        n_rewritten = 0
        if old is None:
            return None
        try:
            new = relayout_shard(sharding, old)
        except ShardIndexError as error:
            raise error.at(key=key) from error.__cause__
        if new is None:
            return old
        after, n_rewritten = sum(map(len, new)), 1
        return new or None

    store.update(key, change)
    return Relaid(path, 1, n_rewritten, before, after)


def relayout_shard(sharding: BoundSharding, data: Buffer) -> list[Buffer] | None:
    """A shard as the options of ``sharding`` want it, in parts; none where it holds no chunk at all.

    Returns:
        None where the shard is to stay as it is: it is as it should be, or chunks in it share bytes, which a rewriting
        would make two of.
    Raises:
        ShardIndexError: the shard, or one in it, is damaged.
    """
    levels = sharding.nested()

    def change(shard: Shard, own: memoryview, changed: dict[int, Buffer | None]) -> list[Buffer] | None:
        bound, index = levels[shard.depth], shard.index
        present = np.flatnonzero(index.offsets >= 0)
        order = present[np.argsort(index.offsets[present], kind="stable")]
        if (index.offsets[order][1:] < (index.offsets + index.lengths)[order][:-1]).any():
            return None
        if not changed and bound.is_arranged(index, len(own)):
            return None
        return bound.assemble(own, changed) or []

    return rebuilt(data, walk_bytes(levels, data), change)
