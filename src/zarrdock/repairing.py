"""Repair of damaged shards, as far as their original contents are certain.

Two kinds of damage are repaired: an index that is damaged while the chunks are not, and space that no chunk uses. A
new index is accepted only with proof: its checksum is the stored one; or, if the checksum itself is damaged, the
entries as they stand cover the shard without a gap and every chunk has a checksum that agrees.
Everything else stays as it is, byte by byte: a user who knows more may save more of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.hierarchy import arrays_below
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import node_path
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.shard_tree import Place, walk_bytes
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.chunk_order import ORDERS, permutation
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.shard_index import EMPTY, ShardIndex, usage_of
from zarrdock.codecs.sharding import BoundSharding, Sharding
from zarrdock.copying.sources import load_root
from zarrdock.errors import CodecError, ShardIndexError, ZarrdockError
from zarrdock.stores.base import Buffer, Store, Value
from zarrdock.stores.open import open_store

__all__ = ["Repair", "repair", "repair_shard"]

_CRC_BYTES = 4
# Entries that are wrong at the same time where chunks lie in no known order; ways to put entries right that are tried,
# each of which costs a checksum; and sets of entries that are tried, of those that may be wrong.
_MAX_WRONG = 4
_MAX_TRIES = 20_000
_MAX_SUBSETS = 100
_FEW_TRIES = 20
_MAX_TRIED_BYTES = 64 * 2**20

Pairs = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair.

    Attributes:
        path: of the array. key: of the object. message: one line.
        nbytes: bytes by which the object became smaller.

    >>> array = zarrdock.create_array(zarrdock.MemoryStore(), data=np.ones((8, 8)), chunks=(2, 2), shards=(8, 8))
    >>> zarrdock.tools.repair(array.store)  # all is well
    []
    """

    path: str
    key: str
    message: str
    nbytes: int = 0


def repair(store: Any, *, path: str | None = None, storage_options: Mapping[str, Any] | None = None) -> list[Repair]:
    """Mend the shards of every array below a node, each in an atomic update of the store.

    Args:
        store: anything :func:`zarrdock.open_store` takes. path: of the node within it.
        storage_options: options of the fsspec filesystem that a URL leads to.
    Raises:
        NodeNotFoundError: there is no node. UnsupportedError: the store has no atomic update.
        ReadOnlyError, StoreError.

    >>> array = zarrdock.create_array(zarrdock.MemoryStore(), data=np.ones((8, 8)), chunks=(2, 2), shards=(8, 8))
    >>> zarrdock.tools.repair(array.store)  # all is well
    []
    """
    opened = open_store(store, storage_options=dict(storage_options) if storage_options else None)
    at = node_path(path)
    done: list[Repair] = []
    for where, metadata in arrays_below(opened, at, load_root(opened, at), skip_errors=True):
        done += _repair_array(opened, where, metadata)
    return done


def _repair_array(store: Store, path: str, metadata: ArrayMetadata) -> Iterator[Repair]:
    codec = metadata.codecs[0] if len(metadata.codecs) == 1 else None
    if metadata.unknown or not isinstance(codec, Sharding):
        return
    prefix = f"{path}/" if path else ""
    try:
        layout = Layout.of(metadata, prefix)
    except ZarrdockError:
        return  # check says so
    has_checksums = _has_checksums(codec)
    found = stored_objects(store, path, layout.key_encoding, layout.grid_shape())
    for coords, entry in [*found]:  # the listing ends before anything is changed
        sharding = layout.at(coords).levels[0].sharding
        message, nbytes = "", 0

        def change(old: Buffer | None, sharding: BoundSharding = sharding) -> Value | None:
            nonlocal message, nbytes
            message = ""
            if old is None:
                return None
            mended = repair_shard(sharding, old, has_checksums=has_checksums)
            if mended is None:
                return old
            parts, message = mended
            nbytes = len(old) - sum(map(len, parts))
            return parts

        store.update(entry.key, change)
        if message:
            yield Repair(path, entry.key, message, nbytes)


def _has_checksums(sharding: Sharding) -> bool:
    """True if a checksum covers every byte of an inner chunk."""
    last = sharding.codecs[-1]
    if isinstance(last, Sharding):
        return len(sharding.codecs) == 1 and isinstance(last.index_codecs[-1], Crc32c) and _has_checksums(last)
    return isinstance(last, Crc32c)


def repair_shard(sharding: BoundSharding, data: Buffer, *, has_checksums: bool) -> tuple[Sequence[Buffer], str] | None:
    """The parts of a shard put right, and what was done; None where nothing is to be done, or nothing can be.

    Args:
        has_checksums: every chunk has a checksum of its own.
    """
    levels = sharding.nested()
    view = memoryview(data)
    patches: list[tuple[int, bytes]] = []
    n_within = 0

    def mend(place: Place, error: ShardIndexError) -> ShardIndex | None:
        """A new index, where there is proof. It has as many bytes as before, so nothing moves."""
        nonlocal n_within
        assert place.nbytes is not None
        damaged = levels[place.depth]
        new = _rebuild(damaged, view[place.start : place.start + place.nbytes], has_checksums)
        if new is None:
            return None
        patches.append((place.start + _index_start(damaged, place.nbytes), new))
        n_within += place.depth > 0
        return damaged.layout.parse(new, place.nbytes)

    tree = walk_bytes(levels, data, broken=mend)
    if not tree.shards:
        return None
    if patches:
        done = ["its index was damaged and is whole again"] if len(patches) > n_within else []
        if n_within:
            done.append(f"indexes of shards within it were damaged and are whole again: {n_within}")
        return [_patched(data, patches)], "; ".join(done)
    index = tree.shards[0].index
    used = usage_of(sharding.layout, index, len(data))
    if not used.garbage or used.chunks != int(index.lengths.sum()):
        return None  # nothing to remove, or chunks that share bytes
    compacted = sharding.assemble(data, {})
    unused = len(data) - sum(map(len, compacted)) if compacted is not None else 0
    return (compacted, f"{unused} bytes that no chunk uses were removed") if compacted and unused > 0 else None


def _patched(data: Buffer, patches: Sequence[tuple[int, bytes]]) -> bytes:
    whole = bytearray(data)
    for start, patch in patches:
        whole[start : start + len(patch)] = patch
    return bytes(whole)


def _index_start(sharding: BoundSharding, nbytes: int) -> int:
    return nbytes - sharding.layout.nbytes if sharding.layout.location == "end" else 0


def _data_area(sharding: BoundSharding, nbytes: int) -> tuple[int, int]:
    n = sharding.layout.nbytes
    return (0, nbytes - n) if sharding.layout.location == "end" else (n, nbytes)


def _gaps(spans: Sequence[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """Gaps (start, stop) between ``first`` and ``last`` that no sorted span (start, length) covers."""
    found = []
    for start, length in spans:
        if start > first:
            found.append((first, start))
        first = max(first, start + length)
    return [*found, (first, last)] if first < last else found


# -- indexes ----------------------------------------------------------------------------------------------------------


def _rebuild(sharding: BoundSharding, data: Buffer, has_checksums: bool) -> bytes | None:
    """The encoded index that the shard had, where there is proof."""
    n = sharding.layout.nbytes
    first, last = _data_area(sharding, len(data))
    if last < first or n != 16 * sharding.layout.n_chunks + _CRC_BYTES:
        return None  # cut short, or an index without a checksum, of which nothing can be proved
    view = memoryview(data)
    stored = bytes(view[last:] if sharding.layout.location == "end" else view[:first])
    pairs: Pairs = np.frombuffer(stored[:-_CRC_BYTES], "<u8").reshape(-1, 2)
    wrong = [i for i in range(len(pairs)) if not _is_good(sharding, view, pairs[i], first, last)]
    good = sorted(set(range(len(pairs))).difference(wrong))
    if not wrong and has_checksums and not _gaps(_spans(pairs, good), first, last):
        encoded = _encoded(sharding, pairs)
        return encoded if encoded is not None and encoded[:-_CRC_BYTES] == stored[:-_CRC_BYTES] else None
    most = min(_MAX_TRIES, _MAX_TRIED_BYTES // n)
    for suspects in _suspects(pairs, wrong, first, last):
        n_tries = most if suspects is wrong else max(most // _MAX_SUBSETS, _FEW_TRIES)
        for candidate in islice(_candidates(sharding, pairs, suspects, first, last, n_tries), n_tries):
            encoded = _encoded(sharding, candidate)
            if encoded is not None and encoded[-_CRC_BYTES:] == stored[-_CRC_BYTES:]:
                return encoded
    return None


def _suspects(pairs: Pairs, wrong: Sequence[int], first: int, last: int) -> Iterator[Sequence[int]]:
    """Entries that may be the damaged ones, likely ones first."""
    if not wrong:  # none can be seen to be: it may be any one of them
        yield from ([i] for i in range(len(pairs)))
        return
    # Those that lead to a chunk that is damaged itself may be right; those that lead out of the shard are not.
    certain = [i for i in wrong if not first <= int(pairs[i, 0]) <= int(pairs[i].sum(dtype=object)) <= last]
    doubtful = sorted(set(wrong).difference(certain))
    for n in range(3):
        if certain or n:
            yield from ([*certain, *some] for some in islice(combinations(doubtful, n), _MAX_SUBSETS))
    yield wrong


def _is_good(sharding: BoundSharding, view: memoryview, pair: Pairs, first: int, last: int) -> bool:
    """True if an entry is empty, or leads to a chunk that decodes."""
    offset, length = int(pair[0]), int(pair[1])
    if offset == length == EMPTY:
        return True
    if offset < first or offset + length > last:
        return False
    try:
        sharding.inner.decode(view[offset : offset + length])
    except CodecError:
        return False
    return True


def _spans(pairs: Pairs, numbers: Sequence[int]) -> list[tuple[int, int]]:
    rows = [(int(pairs[i, 0]), int(pairs[i, 1])) for i in numbers]
    return sorted(row for row in rows if row != (EMPTY, EMPTY))


def _candidates(
    sharding: BoundSharding, pairs: Pairs, suspects: Sequence[int], first: int, last: int, n_tries: int
) -> Iterator[Pairs]:
    """Indexes with other entries for the suspects: what the rest leaves uncovered, or nothing."""
    others = sorted(set(range(len(pairs))).difference(suspects))
    pieces = [(start, stop - start) for start, stop in _gaps(_spans(pairs, others), first, last)]
    if size := sharding.inner.encoded.exact:  # not compressed: neighbours can be told apart
        pieces = [(at, size) for start, length in pieces for at in range(start, start + length - size + 1, size)]
    guesses = _in_order(sharding, suspects, pieces, max(1, n_tries // (2 * len(ORDERS))))
    if len(suspects) <= _MAX_WRONG:  # in any order at all
        choices = [*pieces, *[(EMPTY, EMPTY)] * len(suspects)]
        ways = permutations(choices, len(suspects))
        guesses = chain(guesses, (list(zip(suspects, chosen, strict=True)) for chosen in ways))
    for guess in guesses:
        candidate = pairs.copy()
        for i, entry in guess:
            candidate[i] = entry
        yield candidate


def _in_order(
    sharding: BoundSharding, suspects: Sequence[int], pieces: Sequence[tuple[int, int]], n_tries: int
) -> Iterator[list[tuple[int, tuple[int, int]]]]:
    """Entries for the suspects as a writer that keeps to one of the known orders lays chunks down; some of them empty,
    where there are fewer pieces: so many of the ways that are possible, for each order.
    """
    concerned = set(suspects)
    for order in ORDERS:
        sequence = [i for i in permutation(order, sharding.grid).tolist() if i in concerned]
        for there in islice(combinations(sequence, len(pieces)), n_tries):
            nothing = [(i, (EMPTY, EMPTY)) for i in concerned.difference(there)]
            yield [*zip(there, pieces, strict=True), *nothing]


def _encoded(sharding: BoundSharding, pairs: Pairs) -> bytes | None:
    """The index as it is stored, checksum and all."""
    signed = pairs.astype(np.uint64).view(np.int64)
    offsets, lengths = signed[:, 0].copy(), signed[:, 1].copy()
    empty = (offsets == -1) & (lengths == -1)
    if ((offsets < 0) | (lengths < 0))[~empty].any():
        return None
    lengths[empty] = 0
    return bytes(sharding.layout.serialise(ShardIndex(offsets, lengths)))
