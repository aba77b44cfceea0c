"""The shard indexes of an array, all of them: where every chunk lies, without any chunk being read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from zarrdock.array.execution.drivers import drive
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.rounds import Steps, lockstep
from zarrdock.array.planning.shard_tree import Shard, walk_shards
from zarrdock.array.stored_objects import stored_objects
from zarrdock.codecs.shard_index import ShardUsage, usage_of
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions
from zarrdock.config import config
from zarrdock.errors import ConflictError, RangeError, ShardIndexError, VersionChangedError
from zarrdock.stores.base import Store, attempts

__all__ = ["ObjectIndexes", "layout_of", "listed_objects", "read_indexes"]

_Listed: TypeAlias = "tuple[tuple[int, ...], int | None]"  # coordinates and size of an object

# Objects whose indexes are asked for together.
_BATCH = 256
_MAX_CHANGES = 5


@dataclass(frozen=True, slots=True)
class ObjectIndexes:
    """One object in the store.

    Attributes:
        coords: of the object in the grid of objects. key: in the store. nbytes: its size.
        shards: every shard in it, outermost first; none where it is a chunk by itself.
    """

    coords: tuple[int, ...]
    key: str
    nbytes: int
    shards: Sequence[Shard] = ()

    def usage(self, layout: Layout) -> ShardUsage:
        """Count the uses of its bytes. A shard inside is a chunk of the outer, with indexes and garbage of its own."""
        if not self.shards:
            return ShardUsage(chunks=self.nbytes)
        levels = layout.at(self.coords).levels
        total = ShardUsage()
        for shard in {(shard.depth, shard.start): shard for shard in self.shards}.values():
            assert shard.nbytes is not None
            own = usage_of(levels[shard.depth].sharding.layout, shard.index, shard.nbytes)
            total += own if shard.depth == len(levels) - 1 else replace(own, chunks=0)
        return total


def layout_of(metadata: ArrayMetadata, path: str, options: WriteOptions = DEFAULT_WRITE_OPTIONS) -> Layout:
    """An array's geometry and codecs, its shards to be written with ``options``.

    Raises:
        UnknownExtensionError, MetadataError: the array can't be understood.
    """
    metadata.require_known()
    return Layout.of(metadata, f"{path}/" if path else "", options)


def listed_objects(store: Store, path: str, metadata: ArrayMetadata) -> list[_Listed]:
    """Coordinates and sizes of the objects that an array has, in C order.

    Raises:
        UnsupportedError: the store cannot be listed.
    """
    found = stored_objects(store, path, metadata.key_encoding, metadata.grid.n_chunks(metadata.shape))
    return sorted((coords, entry.size) for coords, entry in found)


def read_indexes(
    store: Store, layout: Layout, objects: Iterable[tuple[tuple[int, ...], int | None]]
) -> Iterator[ObjectIndexes]:
    """Read the indexes of objects, one round a level for many objects; those that are gone are left out.

    Raises:
        ShardIndexError: one is damaged. ConflictError: an object kept changing.
    """
    waiting = iter(objects)
    while batch := list(islice(waiting, _BATCH)):
        left: list[_Listed] = batch
        kept_changing = lambda: ConflictError(  # noqa: E731
            "other writers kept changing the shard: try again",
            key=layout.key(left[0][0]),  # noqa: B023
        )
        for _ in attempts(_MAX_CHANGES, kept_changing):
            found, left = _read_batch(store, layout, left)
            yield from found
            if not left:
                break


def _read_batch(store: Store, layout: Layout, objects: list[_Listed]) -> tuple[list[ObjectIndexes], list[_Listed]]:
    """Returns the indexes known now, and the objects that changed meanwhile."""
    unsure = [layout.key(coords) for coords, size in objects if size is None]
    asked = dict(zip(unsure, store.sizes(unsure) if unsure else (), strict=True))
    bare = []
    for coords, size in objects:
        key = layout.key(coords)
        nbytes = asked.get(key) if size is None else size
        if nbytes is not None:
            bare.append(ObjectIndexes(coords, key, nbytes))
    if not layout.levels:
        return bare, []
    found: dict[str, ObjectIndexes] = {}
    changed: list[_Listed] = []
    damaged: dict[str, ShardIndexError] = {}

    def task(one: ObjectIndexes) -> Steps:
        own = layout.at(one.coords)
        try:
            tree = yield from walk_shards(own.shardings, one.key, layout.first_inner(one.coords), nbytes=one.nbytes)
        except VersionChangedError:
            changed.append((one.coords, None))
        except ShardIndexError as error:
            if isinstance(error.__cause__, RangeError):
                raise
            damaged[one.key] = error
        else:
            if tree is not None:
                found[one.key] = replace(one, shards=tree.shards)

    round_bytes = config.remote_round_bytes if store.traits.remote else config.round_bytes
    drive(lockstep(map(task, bare), round_bytes=round_bytes, n_together=_BATCH), store)
    sizes = store.sizes([*damaged]) if damaged else ()
    for (key, error), size in zip(damaged.items(), sizes, strict=True):
        one = next(one for one in bare if one.key == key)
        if size == one.nbytes:
            raise error
        changed.append((one.coords, None))  # the size was that of an older object
    return [found[one.key] for one in bare if one.key in found], changed
