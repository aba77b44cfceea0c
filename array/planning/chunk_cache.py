"""Caches of arrays: ``IndexCache`` keeps the indexes of shards, ``ChunkCache`` decoded chunks where asked for.

A chunk is known by the object it lies in, that object's version, and its place there. It is handed out only when the
version was confirmed by a request of the same read: one byte is asked for, of that version, where nothing else is read
of the object. So what is handed out is never older than the read, and what a writer replaced is never found again.
Objects of stores without versions are not kept.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.codecs.codec import AnyArray
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.config import config
from zarrdock.lru import BoundedLRU
from zarrdock.stores.base import Store, Version
from zarrdock.stores.local import LocalStore
from zarrdock.stores.wrappers import ReadOnlyStore

__all__ = ["ROOT", "ChunkCache", "Chunks", "IndexCache", "Indexes", "chunks_of", "configured_cache"]


# -- Parsed shard indexes, kept between reads, that cannot be stale.
#
# An entry is tied to the version of the object it came from, and every data read that relies on it asks for that very
# version: a changed shard is answered with "changed", its entry dropped, and the shard read again from its index.
# Objects without versions are not kept.

Indexes = dict[tuple[int, int], ShardIndex]

# The outermost shard among the indexes of an object. The level is part of the name: the first inner shard of every
# level may begin at byte 0.
ROOT = (0, 0)


class IndexCache:
    """``key -> (version, {(level, start in the object) of a shard: its index})``, bounded in bytes; for many threads.

    Attributes:
        chunks: where decoded chunks are kept, if they are.
        are_versionless: an object came without a version, though the store knows such: a server that does not tell
            ETags, say.
        other_keys: keys that chunks may have against the metadata; None once a chunk was found, or looked for there.
    """

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        self.chunks: Chunks | None = None
        self.are_versionless = False
        self.other_keys: SeparatedKeys | None = None
        self._known: BoundedLRU[str, tuple[Version, Indexes]] = BoundedLRU(
            max_bytes, _index_nbytes, max_items=max_entries
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return IndexCache, (self._known.max_bytes, self._known.max_items)  # a copy in another process begins empty

    def get(self, key: str) -> tuple[Version, Indexes] | None:
        """The version and the indexes known of an object."""
        return self._known.get(key)

    def put(self, key: str, version: Version | None, indexes: Indexes) -> None:
        """Remember the indexes of one version of an object."""
        if version is not None:
            self._known.put(key, (version, indexes))

    def drop(self, key: str) -> None:
        """Forget an object."""
        self._known.pop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def _index_nbytes(known: tuple[Version, Indexes]) -> int:
    return 200 + sum(index.nbytes for index in known[1].values())


# Beside its elements, a chunk costs an array object, a key and an entry.
_OVERHEAD = 400

_Key: TypeAlias = "tuple[Hashable, str, Version, int]"


class ChunkCache:
    """Decoded chunks, bounded in bytes; for many arrays and threads.

    Attributes:
        n_hits, n_misses: chunks asked for since it was made.
    """

    def __init__(self, max_bytes: int) -> None:
        self.n_hits = 0
        self.n_misses = 0
        self._kept: BoundedLRU[_Key, AnyArray] = BoundedLRU(max_bytes, _chunk_nbytes)

    @property
    def max_bytes(self) -> int:
        """Bytes that the chunks may have together."""
        assert self._kept.max_bytes is not None
        return self._kept.max_bytes

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._kept.nbytes

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, place: tuple[Hashable, str, Version], offsets: Iterable[int]) -> list[AnyArray | None]:
        """The chunks of one version of an object that begin at ``offsets``; None for those that are not here."""
        with self._kept.lock:
            found = self._kept.get_many([(*place, offset) for offset in offsets])
            n_misses = sum([chunk is None for chunk in found])
            self.n_hits += len(found) - n_misses
            self.n_misses += n_misses
        return found

    def put(self, place: tuple[Hashable, str, Version], chunks: Sequence[tuple[int, AnyArray]]) -> None:
        """Keep chunks by the offset they begin at. No other code may write to them."""
        for offset, chunk in chunks:
            self._kept.put((*place, offset), chunk)

    def resize(self, max_bytes: int) -> None:
        """Set the bound."""
        self._kept.resize(max_bytes=max_bytes)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __reduce__(self) -> tuple[type[ChunkCache], tuple[int]]:
        return ChunkCache, (self.max_bytes,)  # another process begins with an empty one


def _chunk_nbytes(chunk: AnyArray) -> int:
    return chunk.nbytes + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Chunks:
    """A cache as one array sees it.

    Attributes:
        scope: what tells the array's chunks from those that other arrays make of the same bytes.
    """

    cache: ChunkCache
    scope: Hashable

    def get(self, key: str, version: Version, offsets: Iterable[int]) -> list[AnyArray | None]:
        """See :meth:`ChunkCache.get`."""
        return self.cache.get((self.scope, key, version), offsets)

    def put(self, key: str, version: Version, chunks: Sequence[tuple[int, AnyArray]]) -> None:
        """Keep decoded chunks; a chunk that is a view of a larger buffer is copied."""
        kept = []
        for offset, chunk in chunks:
            base: object = chunk.base
            if not (type(base) is bytes and len(base) == chunk.nbytes):  # then nobody can write to it, nor is it larger
                chunk = np.array(chunk)
                chunk.setflags(write=False)
            kept.append((offset, chunk))
        self.cache.put((self.scope, key, version), kept)


_tokens: weakref.WeakKeyDictionary[Store, object] = weakref.WeakKeyDictionary()


def chunks_of(cache: ChunkCache | None, store: Store, metadata: ArrayMetadata) -> Chunks | None:
    """An array's view of a cache; None if it cannot use one."""
    if cache is None or not cache.max_bytes or not store.traits.conditional_read or metadata.dtype.hasobject:
        return None  # the size of objects is not known
    # All that the bytes' meaning depends on.
    decoding = json.dumps(
        [metadata.dtype.str, metadata.grid.to_json(), [codec.to_json() for codec in metadata.codecs]],
        sort_keys=True,
        default=str,
    )
    return Chunks(cache, (_place_of(store), decoding))


def _place_of(store: Store) -> Hashable:
    """A value that is equal for two stores if a version of a key means the same to both."""
    while isinstance(store, ReadOnlyStore):
        store = store.store
    if isinstance(store, LocalStore):  # versions are the files themselves
        return LocalStore, store.root
    # Others may give the same version to different objects: a number, say.
    return _tokens.setdefault(store, object())


_shared: ChunkCache | None = None


def configured_cache() -> ChunkCache | None:
    """The cache of all arrays that were opened without one of their own: ``config.cache_bytes``, none if that is 0."""
    global _shared
    if not config.cache_bytes:
        return None
    if _shared is None:
        _shared = ChunkCache(config.cache_bytes)
    if _shared.max_bytes != config.cache_bytes:
        _shared.resize(config.cache_bytes)
    return _shared
