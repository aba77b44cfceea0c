"""Copying objects as the bytes they are, where source and destination have the same chunks and codecs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from itertools import product
from math import prod

from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.copying.parallel import Workers, in_parallel
from zarrdock.copying.progress import below
from zarrdock.copying.sources import Stored
from zarrdock.copying.transfer import N_LOCAL, N_REMOTE, Outcome
from zarrdock.stores.base import Blob, Read, Store

__all__ = ["copy_objects"]

_BATCH_KEYS = 256
_BATCH_BYTES = 16 * 2**20


def copy_objects(
    store: Store,
    path: str,
    metadata: ArrayMetadata,
    to_store: Store,
    to_path: str,
    to_metadata: ArrayMetadata,
    *,
    stored: Stored | None,
    done: Collection[str],
    memory_bytes: int,
    workers: Workers | None = None,
) -> Iterator[Outcome]:
    """Copy the objects of an array; keys may be encoded in another way.

    Args:
        stored: the objects that exist; None where that is not known: then all are asked for.
        done: keys in the destination that are finished.
    """
    shape, chunk = metadata.shape, metadata.grid.largest
    lengths = None if isinstance(metadata.grid, RegularGrid) else metadata.grid.lengths(shape)

    def n_elements(coords: tuple[int, ...]) -> int:
        if lengths is not None:
            return prod(axis[i] for axis, i in zip(lengths, coords, strict=True))
        return prod(min(c, n - i * c) for i, c, n in zip(coords, chunk, shape, strict=True))

    def move(pairs: list[tuple[str, str]], elements: int) -> Outcome:
        wanted = [(old, new) for old, new in pairs if new not in done]
        n_written = nbytes = 0
        for (_, new), result in zip(wanted, store.read([Read(old) for old, _ in wanted]), strict=True):
            if isinstance(result, Blob):
                to_store.write(new, result.data)
                n_written += 1
                nbytes += len(result.data)
        return Outcome(elements, n_written, nbytes, len(pairs) - len(wanted))

    def batches() -> Iterator[tuple[int, partial[Outcome]]]:
        # Unknown sizes are taken for those of uncompressed chunks.
        unknown = prod(chunk) * max(1, metadata.dtype.itemsize)
        pairs: list[tuple[str, str]] = []
        nbytes = elements = 0
        for coords, size in stored if stored is not None else _all(metadata):
            size = unknown if size is None else size
            if pairs and (nbytes + size > _BATCH_BYTES or len(pairs) >= _BATCH_KEYS):
                yield nbytes, partial(move, pairs, elements)
                pairs, nbytes, elements = [], 0, 0
            old, new = metadata.key_encoding.key(coords), to_metadata.key_encoding.key(coords)
            pairs.append((below(path, old), below(to_path, new)))
            nbytes += size
            elements += n_elements(coords)
        if pairs:
            yield nbytes, partial(move, pairs, elements)

    left = prod(shape)
    is_remote = store.traits.remote or to_store.traits.remote
    n = N_REMOTE if is_remote else N_LOCAL
    for outcome in in_parallel(batches(), n=n, budget=memory_bytes, workers=workers):
        left -= outcome.n_elements
        yield outcome
    yield Outcome(n_elements=left)


def _all(metadata: ArrayMetadata) -> Iterator[tuple[tuple[int, ...], None]]:
    for coords in product(*map(range, metadata.grid.n_chunks(metadata.shape))):
        yield coords, None
