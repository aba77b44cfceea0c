"""Files in a hierarchy that are no Zarr, such as OME's ``METADATA.ome.xml``: copied as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from math import ceil
from typing import TypeAlias

from zarrdock.codecs.codec import Buffer
from zarrdock.copying.parallel import Workers, in_parallel
from zarrdock.copying.progress import below
from zarrdock.copying.transfer import N_LOCAL, N_REMOTE, Outcome
from zarrdock.errors import VersionChangedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, LazyParts, Read, Store, Version
from zarrdock.stores.local import LocalStore, unnamed

__all__ = ["File", "copy_files", "files_below", "unnamed_below"]

_PIECE_BYTES = 16 * 2**20


# Key relative to the source node, and bytes where they are known.
File: TypeAlias = tuple[str, int | None]


def files_below(store: Store, path: str, files: Iterable[str], folders: Iterable[str]) -> Iterator[File]:
    """The files of a hierarchy that lie in its groups.

    Args:
        files: keys below ``path``. folders: all that lies below these is foreign.
    """
    for name in files:
        yield name, None
    skip = len(path) + 1 if path else 0
    for folder in folders:
        for entry in store.list(below(path, folder)):
            yield entry.key[skip:], entry.size


def unnamed_below(store: Store, path: str) -> Iterator[str]:
    """Files and folders of a local hierarchy that no key can name, and so no listing has: one line each."""
    for origin, prefix in store.origins(path):
        if isinstance(origin, LocalStore):
            for name in unnamed(f"{origin.root.rstrip('/')}/{prefix}".rstrip("/"), origin):
                shown = os.fsencode(name).decode("utf-8", "backslashreplace")
                yield f"{shown}: no key has such a name (it is not UTF-8, or has a backslash)"


def copy_files(
    files: Iterable[File],
    store: Store,
    path: str,
    to_store: Store,
    to_path: str,
    *,
    memory_bytes: int,
    workers: Workers | None = None,
) -> Iterator[Outcome]:
    """Copy files byte by byte, large ones piece by piece.

    Args:
        files: keys relative to ``path`` and to ``to_path``.
    """

    def move(name: str) -> Outcome:
        key, to_key = below(path, name), below(to_path, name)
        size = store.size(key) or 0
        if size > _PIECE_BYTES:
            to_store.write(to_key, _Pieces(store, key, size))
            return Outcome(0, 1, size)
        blob = store.get(key)
        if blob is None:  # deleted meanwhile
            return Outcome()
        to_store.write(to_key, blob.data)
        return Outcome(0, 1, len(blob.data))

    def jobs() -> Iterator[tuple[int, partial[Outcome]]]:
        for name, size in files:
            yield min(_PIECE_BYTES, size or _PIECE_BYTES), partial(move, name)

    n = N_REMOTE if store.traits.remote or to_store.traits.remote else N_LOCAL
    yield from in_parallel(jobs(), n=n, budget=memory_bytes, workers=workers)


class _Pieces(LazyParts):
    """A large file in pieces that are read when they are written, all of one version."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store, self._key, self._size = store, key, size
        self._version: Version | None = None

    def __len__(self) -> int:
        return ceil(self._size / _PIECE_BYTES)

    @property
    def nbytes(self) -> int:
        return self._size

    def part(self, i: int) -> Buffer:
        span = Span(i * _PIECE_BYTES, min((i + 1) * _PIECE_BYTES, self._size))
        (found,) = self._store.read([Read(self._key, span, self._version)])
        if not isinstance(found, Blob) or len(found.data) != span.stop - span.start:
            raise VersionChangedError("changed while it was copied", key=self._key, store=self._store)
        self._version = found.version
        return found.data
