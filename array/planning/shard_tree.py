"""The shards of an object, at every level: the one walk over their indexes, without I/O.

The walk yields rounds of index reads, one a level, as the steps of a read do; :func:`walk_bytes` runs it on an object
in memory. Reads of elements alone go by a way of their own (``shard_reader.py``), which stops where nothing is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zarrdock.array.planning.rounds import Round
from zarrdock.codecs.codec import Buffer
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.errors import RangeError, ShardIndexError, VersionChangedError
from zarrdock.ranges import Span, resolve
from zarrdock.stores.base import Blob, Read, Result, Version

__all__ = ["Place", "Shard", "Tree", "rebuilt", "walk_bytes", "walk_shards"]

Coords: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a shard in an object.

    Attributes:
        depth: its level, 0 for the object itself. start, nbytes: its bytes within the object; ``nbytes`` is None for
            an object whose size was not given.
        at: coordinates of its first inner chunk, in the grid of all inner chunks of this level.
        parent: number of the shard it lies in, in :attr:`Tree.shards`; flat: its number there. -1 and 0 for the object.
    """

    depth: int
    start: int
    nbytes: int | None
    at: Coords
    parent: int
    flat: int


@dataclass(frozen=True, slots=True)
class Shard(Place):
    """A shard and its index, whose offsets count from the start of the shard."""

    index: ShardIndex

    def present(self) -> list[int]:
        """Flat numbers of the inner chunks that are there."""
        found: list[int] = np.flatnonzero(self.index.offsets >= 0).tolist()
        return found

    def span(self, flat: int) -> tuple[int, int]:
        """First byte and length, within the object, of an inner chunk that is there."""
        return self.start + int(self.index.offsets[flat]), int(self.index.lengths[flat])


@dataclass(frozen=True, slots=True)
class Tree:
    """Shards of one object: each after the one it lies in, level by level.

    Attributes:
        version: of the object that all indexes come from.
    """

    version: Version | None
    shards: list[Shard]

    def innermost(self, depth: int) -> list[Shard]:
        """The shards of the last level, which hold leaf chunks; ``depth``: how many levels there are."""
        return [shard for shard in self.shards if shard.depth == depth - 1]

    def indexes(self) -> dict[tuple[int, int], ShardIndex]:
        """Indexes by level and first byte."""
        return {(shard.depth, shard.start): shard.index for shard in self.shards}


def walk_shards(
    levels: Sequence[BoundSharding],
    key: str,
    first: Coords | None = None,
    *,
    nbytes: int | None = None,
    known: tuple[Version | None, Mapping[tuple[int, int], ShardIndex]] | None = None,
    wanted: Callable[[Shard], Iterable[int]] = Shard.present,
    broken: Callable[[Place, ShardIndexError], ShardIndex | None] | None = None,
) -> Generator[Round, list[Result], Tree | None]:
    """Read the indexes of an object's shards, one round a level.

    Args:
        levels: of shards, outermost first. key: of the object; first: see :attr:`Place.at`, of the object.
        nbytes: size of the object, if the chunks are to be checked to lie within it.
        known: a version of the object, and indexes of it that need not be read again.
        wanted: the inner chunks of a shard to go on to; of shards within, only those that are there are entered.
        broken: what to do with a damaged index: an index to go on with, or None to leave the shard out; by default the
            error is raised.
    Returns:
        The shards; None where there is no such object.
    Raises:
        ShardIndexError: an index is damaged. VersionChangedError: the object was replaced on the way.
    """
    version, indexes = known if known is not None else (None, {})
    shards: list[Shard] = []
    places = [Place(0, 0, nbytes, (0,) * len(levels[0].grid) if first is None else first, -1, 0)]
    while places:
        depth = places[0].depth
        layout = levels[depth].layout
        found: dict[int, ShardIndex | None] = {}
        reads: list[Read] = []
        asked: list[int] = []
        for i, place in enumerate(places):
            if (depth, place.start) in indexes:
                found[i] = indexes[depth, place.start]
                continue
            try:
                span = layout.range if place.nbytes is None else Span(*layout.span_within(place.start, place.nbytes))
            except ShardIndexError as error:
                found[i] = _mended(place, error, key, broken)
                continue
            # Of an object the index itself tells the version, and its end is asked for as its end.
            reads.append(Read(key, layout.range if depth == 0 else span, version))
            asked.append(i)
        if reads:
            try:
                answers = yield Round(reads, False, layout.nbytes * len(reads))
            except RangeError as error:
                raise ShardIndexError(
                    "the shard is too short for its index", codec="sharding_indexed", key=key
                ) from error
            for i, answer in zip(asked, answers, strict=True):
                if answer is None and depth == 0 and version is None:
                    return None
                if not isinstance(answer, Blob):
                    raise answer or VersionChangedError("the object was deleted", key=key)
                if depth == 0:
                    version = answer.version
                try:
                    found[i] = layout.parse(answer.data, places[i].nbytes)
                except ShardIndexError as error:
                    found[i] = _mended(places[i], error, key, broken)
            del answers, answer  # memory of the indexes as they came
        below: list[Place] = []
        for i, place in enumerate(places):
            index = found[i]
            if index is None:
                continue
            number = len(shards)
            shard = Shard(depth, place.start, place.nbytes, place.at, place.parent, place.flat, index)
            shards.append(shard)
            if depth + 1 < len(levels):
                below += _within(shard, number, levels, wanted)
        places = below
    return Tree(version, shards)


def _within(
    shard: Shard, number: int, levels: Sequence[BoundSharding], wanted: Callable[[Shard], Iterable[int]]
) -> Iterable[Place]:
    grid, below = levels[shard.depth].grid, levels[shard.depth + 1].grid
    for flat in wanted(shard):
        if shard.index.offsets[flat] < 0:
            continue
        inside = np.unravel_index(flat, grid) if grid else ()
        at = tuple((a + int(b)) * n for a, b, n in zip(shard.at, inside, below, strict=True))
        yield Place(shard.depth + 1, *shard.span(flat), at, number, flat)


def _mended(
    place: Place,
    error: ShardIndexError,
    key: str,
    broken: Callable[[Place, ShardIndexError], ShardIndex | None] | None,
) -> ShardIndex | None:
    if broken is None:
        raise (error.at(key=key) if key else error) from error.__cause__
    return broken(place, error)


def walk_bytes(
    levels: Sequence[BoundSharding],
    data: Buffer,
    first: Coords | None = None,
    *,
    broken: Callable[[Place, ShardIndexError], ShardIndex | None] | None = None,
) -> Tree:
    """:func:`walk_shards` over an object that is in memory.

    Raises:
        ShardIndexError: an index is damaged.
    """
    view = memoryview(data)
    steps = walk_shards(levels, "", first, nbytes=len(view), broken=broken)
    try:
        asked = next(steps)
        while True:
            spans = [resolve(read.range, len(view)) or (0, 0) for read in asked.reads]
            asked = steps.send([Blob(view[start:stop]) for start, stop in spans])
    except StopIteration as done:
        tree: Tree = done.value
        return tree


def rebuilt(
    data: Buffer,
    tree: Tree,
    change: Callable[[Shard, memoryview, dict[int, Buffer | None]], list[Buffer] | None],
) -> list[Buffer] | None:
    """An object put together anew, from the innermost shards outward.

    Args:
        tree: all shards of ``data``.
        change: is given each shard, its bytes, and its inner shards that are others now (None for those that hold
            nothing any more); it returns the shard in parts, none of them where no chunk is left, or None where it
            stays as it is.
    Returns:
        As ``change`` of the outermost shard.
    """
    view = memoryview(data)
    changed: dict[int, dict[int, Buffer | None]] = {}
    parts: list[Buffer] | None = None
    for number in range(len(tree.shards) - 1, -1, -1):
        shard = tree.shards[number]
        assert shard.nbytes is not None
        parts = change(shard, view[shard.start : shard.start + shard.nbytes], changed.pop(number, {}))
        if parts is not None and shard.parent >= 0:
            changed.setdefault(shard.parent, {})[shard.flat] = b"".join(parts) if parts else None
    return parts
