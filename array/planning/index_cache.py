"""Parsed shard indexes, kept between reads, that cannot be stale.

An entry is tied to the version of the object it came from, and every data read that relies on it asks for that very
version: a changed shard is
answered with "changed", its entry dropped, and the shard read again from its index. Objects without versions are not
kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from zarrdock.array.planning.chunk_cache import Chunks
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.stores.base import Version

__all__ = ["ROOT", "IndexCache", "Indexes"]

Indexes = dict[tuple[int, int], ShardIndex]

# The outermost shard among the indexes of an object. The level is part of the name: the first inner shard of every
# level may begin at byte 0.
ROOT = (0, 0)


class IndexCache:
    """An LRU of ``key -> (version, {(level, start in the object) of a shard: its index})``, bounded in bytes. For many
    threads.

    Attributes:
        chunks: where decoded chunks are kept, if they are.
        are_versionless: an object came without a version, though the store knows such: a server that does not tell
            ETags, say.
    """

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.chunks: Chunks | None = None
        self.are_versionless = False
        self._entries: OrderedDict[str, tuple[Version, Indexes, int]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return IndexCache, (self.max_bytes, self.max_entries)  # a copy in another process begins empty

    def get(self, key: str) -> tuple[Version, Indexes] | None:
        """The version and the indexes known of an object."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            self._entries.move_to_end(key)
        except KeyError:  # dropped by another thread in between: what was found is still good
            pass
        return entry[0], entry[1]

    def put(self, key: str, version: Version | None, indexes: Indexes) -> None:
        """Remember the indexes of one version of an object."""
        if version is None or not self.max_bytes:
            return
        nbytes = 200 + sum(index.nbytes for index in indexes.values())
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._nbytes -= old[2]
            self._entries[key] = (version, indexes, nbytes)
            self._nbytes += nbytes
            most = self.max_entries
            while self._entries and (self._nbytes > self.max_bytes or (most is not None and len(self._entries) > most)):
                self._nbytes -= self._entries.popitem(last=False)[1][2]

    def drop(self, key: str) -> None:
        """Forget an object."""
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._nbytes -= old[2]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0
