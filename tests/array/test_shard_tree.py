"""The walk over the shards of an object: what it finds, what it asks, and what it does with damage and change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.execution.drivers import result_of
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.shard_tree import Place, Shard, Tree, rebuilt, walk_bytes, walk_shards
from zarrdock.checking import check
from zarrdock.codecs.shard_index import ShardIndex
from zarrdock.errors import ConflictError, ShardIndexError, VersionChangedError
from zarrdock.stores.base import attempts

VALUES = np.random.default_rng(5).integers(1, 1000, (24, 32)).astype("u2")
KEY = "c/0/0"


@pytest.fixture(params=["start", "end"])
def array(request: pytest.FixtureRequest) -> zarrdock.Array:
    """One object of 2 x 2 shards of 3 x 2 shards of 2 x 4 chunks; one chunk and one shard are missing."""
    store = zarrdock.RecordingStore(zarrdock.MemoryStore(), n_events=50)
    array = zarrdock.create_array(
        store,
        data=VALUES,
        chunks=(2, 2),
        shards={"shape": [(24, 32), (12, 16), (4, 8)], "index_location": request.param},
    )
    array[12:24, :16] = 0
    array[:2, :2] = 0
    store.reset()
    return array


def layout_of(array: zarrdock.Array) -> Layout:
    return Layout.of(array.metadata)


def walked(array: zarrdock.Array, **options: Any) -> Tree | None:
    return result_of(walk_shards(layout_of(array).shardings, KEY, (0, 0), **options), array.store)


def whole(array: zarrdock.Array) -> bytes:
    blob = array.store.get(KEY)
    assert blob is not None
    return bytes(blob.data)


def store_of(array: zarrdock.Array) -> zarrdock.RecordingStore:
    assert isinstance(array.store, zarrdock.RecordingStore)
    return array.store


def test_every_chunk_is_found_in_one_round_a_level(array: zarrdock.Array) -> None:
    tree = walked(array)
    assert store_of(array).n_rounds == 3
    assert tree is not None
    assert [sum(shard.depth == depth for shard in tree.shards) for depth in range(3)] == [1, 3, 18]
    data, layout = whole(array), layout_of(array)
    found = np.zeros_like(VALUES)
    for shard in tree.innermost(3):
        for flat in shard.present():
            start, nbytes = shard.span(flat)
            at = [(a + c) * 2 for a, c in zip(shard.at, layout.shardings[-1].coords(flat), strict=True)]
            found[at[0] : at[0] + 2, at[1] : at[1] + 2] = layout.leaf.decode(data[start : start + nbytes])
    np.testing.assert_array_equal(found, array[...])
    for shard in tree.shards[1:]:
        assert tree.shards[shard.parent].span(shard.flat) == (shard.start, shard.nbytes)


def test_in_memory_it_is_the_same(array: zarrdock.Array) -> None:
    tree = walked(array, nbytes=len(whole(array)))
    inside = walk_bytes(layout_of(array).shardings, whole(array), (0, 0))
    assert tree is not None
    assert [repr(shard) for shard in inside.shards] == [repr(shard) for shard in tree.shards]


def test_only_what_is_wanted_and_not_known_is_read(array: zarrdock.Array) -> None:
    tree = walked(array)
    assert tree is not None
    store_of(array).reset()
    again = walked(array, known=(tree.version, tree.indexes()))
    assert again is not None
    assert again.indexes().keys() == tree.indexes().keys()
    assert store_of(array).n_requests == 0
    known = {place: index for place, index in tree.indexes().items() if place[0] < 2}
    some = walked(array, known=(tree.version, known), wanted=lambda shard: shard.present()[:1])
    assert some is not None
    assert [shard.depth for shard in some.shards] == [0, 1, 2]
    assert store_of(array).n_requests == 1


def test_an_object_that_is_not_there(array: zarrdock.Array) -> None:
    assert result_of(walk_shards(layout_of(array).shardings, "c/9/9"), array.store) is None


def test_a_change_on_the_way_is_said(array: zarrdock.Array) -> None:
    old = walked(array)
    assert old is not None
    array[0, 5] = 77
    with pytest.raises(VersionChangedError):
        walked(array, known=(old.version, {(0, 0): old.shards[0].index}))
    array.store.delete(KEY)
    with pytest.raises(VersionChangedError):
        walked(array, known=(old.version, {(0, 0): old.shards[0].index}))


def damaged(array: zarrdock.Array, depth: int) -> Shard:
    """Spoil the index of a shard of that level; returns the shard."""
    data = bytearray(whole(array))
    shard = next(s for s in walk_bytes(layout_of(array).shardings, data, (0, 0)).shards if s.depth == depth)
    assert shard.nbytes is not None
    start, stop = layout_of(array).shardings[depth].layout.span_within(shard.start, shard.nbytes)
    data[stop - 1] ^= 1
    data[start] ^= 1
    array.store.write(KEY, data)
    return shard


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_damage(array: zarrdock.Array, depth: int) -> None:
    before = walked(array)
    assert before is not None
    bad = damaged(array, depth)
    with pytest.raises(ShardIndexError, match=KEY):
        walked(array)
    noted: list[Place] = []
    left = walked(array, broken=lambda place, error: noted.append(place))
    assert left is not None
    assert [(place.depth, place.start, place.at) for place in noted] == [(depth, bad.start, bad.at)]
    assert len(left.shards) == len(before.shards) - {0: 22, 1: 7, 2: 1}[depth]

    def mend(place: Place, error: ShardIndexError) -> ShardIndex:
        return bad.index

    mended = walked(array, broken=mend)
    assert mended is not None
    assert len(mended.shards) == len(before.shards)


def test_an_object_too_short_for_its_index(array: zarrdock.Array) -> None:
    array.store.write(KEY, b"")
    for nbytes in (None, 0):
        with pytest.raises(ShardIndexError):
            walked(array, nbytes=nbytes)


def test_rebuilt_from_the_innermost_shards_outward(array: zarrdock.Array) -> None:
    data, levels = whole(array), layout_of(array).shardings
    tree = walk_bytes(levels, data)
    assert rebuilt(data, tree, lambda shard, own, changed: None) is None
    seen: list[int] = []

    def without_first(shard: Shard, own: memoryview, changed: dict[int, Any]) -> Any:
        seen.append(shard.depth)
        if shard.depth == 2:
            changed = {shard.present()[0]: None}
        return levels[shard.depth].assemble(own, changed)

    parts = rebuilt(data, tree, without_first)
    assert seen == sorted(seen, reverse=True)
    assert parts is not None
    array.store.write(KEY, parts)
    n_chunks = [sum(len(s.present()) for s in t.innermost(3)) for t in (tree, walk_bytes(levels, b"".join(parts)))]
    assert n_chunks[1] == n_chunks[0] - 18
    assert check(array.store).is_good


def test_a_check_reads_indexes_one_round_a_level(array: zarrdock.Array) -> None:
    assert check(array.store).is_good
    spans = [e for e in store_of(array).log if e.verb == "read" and e.key == KEY]
    assert [len(event.requests) for event in spans] == [1, 3, 18, 1]  # the last: all chunks


def test_attempts() -> None:
    tried = []
    for number in attempts(3, lambda: ConflictError("no")):
        tried.append(number)
        if number == 1:
            break
    assert tried == [0, 1]
    with pytest.raises(ConflictError, match="it kept changing"):
        for _ in attempts(3, lambda: ConflictError("it kept changing")):
            pass
