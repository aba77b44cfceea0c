"""Write fast, compress later: the ``conditional`` codecs of an array decided anew, chunk by chunk, in place.

Nothing but the bytes from that codec on is touched: elements are never decoded, and the metadata stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from zarrdock.array.array import Array
from zarrdock.array.execution.pool import run
from zarrdock.array.execution.read_write import update_key
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.shard_tree import Shard, rebuilt, walk_bytes
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.codec import Buffer
from zarrdock.codecs.conditional import BoundConditional, Decision, with_decision
from zarrdock.errors import CodecError, UnsupportedError

__all__ = ["Recompressed", "recompress"]


@dataclass(frozen=True, slots=True)
class Recompressed:
    """Result of recompressing an array.

    Attributes:
        n_objects: objects examined in the store; n_chunks: (inner) chunks in them.
        n_changed: chunks whose bytes have changed; objects without any were not written.
        nbytes_before, nbytes_after: of all objects together.

    >>> codec = zarrdock.Conditional((zarrdock.Zstd(),), decision="never")
    >>> array = zarrdock.create_array({}, data=np.arange(1000), compressors=codec)
    >>> done = zarrdock.recompress(array)
    >>> done.n_changed, done.nbytes_after < done.nbytes_before
    (1, True)
    """

    n_objects: int
    n_chunks: int
    n_changed: int
    nbytes_before: int
    nbytes_after: int


def recompress(array: Array, decision: Decision = "smaller") -> Recompressed:
    """Encode the chunks of an array anew by another decision of its ``conditional`` codecs.

    Each object is replaced atomically, so readers and writers may go on meanwhile, and a run that was stopped is
    finished by the next one.

    Args:
        array: open for writing.
        decision: see :class:`zarrdock.codecs.conditional.Conditional`.
    Raises:
        ReadOnlyError: the array is open for reading only.
        UnsupportedError: it has no ``conditional`` codec, or one in shards that another codec hides.
        CodecError: a damaged chunk, with its key. It is left as it is.

    >>> codec = zarrdock.Conditional((zarrdock.Zstd(),), decision="always")
    >>> noise = np.random.default_rng(0).integers(0, 256, 1000, dtype="u1")
    >>> array = zarrdock.create_array({}, data=noise, compressors=codec)
    >>> zarrdock.recompress(array).n_changed
    1
    """
    array._check_writable()
    if (check := array._start_check()) is not None:
        check()
    metadata = array.metadata
    layout = array._bind(metadata.replace(codecs=with_decision(metadata.codecs, decision)))
    if not any(isinstance(codec, BoundConditional) for codec in layout.leaf.byte_codecs):
        raise UnsupportedError(
            "the array's chunks have no 'conditional' codec that could be decided anew; zarrdock.copy writes an array "
            "with other codecs"
        )
    store = array.store
    n_objects = n_chunks = n_changed = before = after = 0
    found = stored_objects(store, array.path, layout.key_encoding, layout.grid_shape(), guess=True)
    for coords, _ in [*found]:  # the listing ends before anything is changed
        key = layout.key(coords)
        blob = store.get(key)
        if blob is None:
            continue
        work = _Work(layout, key, coords)
        parts = work.rewritten(blob.data)
        if work.n_changed:
            change = partial(_change, layout, key, coords, memoryview(blob.data), parts)
            update_key(store, key, change, single_writer=layout.options.single_writer)
            array._cache.drop(key)
        n_objects += 1
        n_chunks += work.n_chunks
        n_changed += work.n_changed
        before += len(blob.data)
        after += sum(map(len, parts))
    return Recompressed(n_objects, n_chunks, n_changed, before, after)


def _change(
    layout: Layout, key: str, coords: tuple[int, ...], seen: memoryview, parts: list[Buffer], old: Buffer | None
) -> list[Buffer] | None:
    if old is None:  # deleted meanwhile
        return None
    # Another writer may have replaced the chunk meanwhile: it is left as it is.
    return parts if memoryview(old) == seen else _Work(layout, key, coords).rewritten(old)


class _Work:
    """One object in the store."""

    def __init__(self, layout: Layout, key: str, coords: tuple[int, ...]) -> None:
        self.n_chunks = 0
        self.n_changed = 0
        self._layout = own = layout.at(coords)
        self._key = key
        codecs = own.leaf.byte_codecs
        first = next(i for i, codec in enumerate(codecs) if isinstance(codec, BoundConditional))
        self._codecs = codecs[first:]
        self._first_leaf = layout.first_leaf(coords)
        self._first = layout.first_inner(coords) if own.levels else ()

    def rewritten(self, old: Buffer) -> list[Buffer]:
        """The object's new bytes, in parts."""
        if not self._layout.levels:
            new = self._leaf(old, self._first_leaf, None)
            self.n_chunks, self.n_changed = 1, int(new is not None)
            return [old if new is None else new]
        levels = self._layout.shardings
        try:
            tree = walk_bytes(levels, old, self._first)
        except CodecError as error:
            raise error.at(key=self._key) from error.__cause__

        def change(shard: Shard, own: memoryview, changed: dict[int, Buffer | None]) -> list[Buffer] | None:
            if shard.depth + 1 == len(levels):
                self._leaves(shard, own, changed)
            return levels[shard.depth].assemble(own, changed) if changed else None

        parts = rebuilt(old, tree, change)
        return [old] if parts is None else parts

    def _leaves(self, shard: Shard, own: memoryview, changed: dict[int, Buffer | None]) -> None:
        sharding = self._layout.levels[-1].sharding

        def job(flat: int) -> None:
            inside = sharding.coords(flat)
            place = tuple(a + b for a, b in zip(shard.at, inside, strict=True))
            start = int(shard.index.offsets[flat])
            new = self._leaf(own[start : start + int(shard.index.lengths[flat])], place, inside)
            if new is not None:
                changed[flat] = new

        present = shard.present()
        run(partial(job, flat) for flat in present)
        self.n_chunks += len(present)
        self.n_changed += len(changed)

    def _leaf(self, old: Buffer, place: tuple[int, ...], chunk: tuple[int, ...] | None) -> Buffer | None:
        """A chunk's new bytes, None where they are the old ones."""
        try:
            data = old
            for codec in reversed(self._codecs):
                data = codec.decode(data)
            for codec in self._codecs:
                data = codec.encode_at(data, place)
        except CodecError as error:
            raise error.at(key=self._key, chunk=chunk) from error.__cause__
        return None if memoryview(data) == memoryview(old) else data
