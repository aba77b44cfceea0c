"""What reads and writes may cost: rounds, requests, bytes, decoded chunks. ``plan`` says it beforehand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import zarrdock
from support.stores import HookedStore, WithTraits, remote
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration
from zarrdock.codecs.sharding import BoundSharding

STORES: dict[str, Callable[[Path], zarrdock.Store]] = {
    "memory": lambda path: zarrdock.MemoryStore(),
    "local": lambda path: zarrdock.LocalStore(path),
    "remote": lambda path: remote(zarrdock.MemoryStore()),
    "remote_gap": lambda path: remote(zarrdock.MemoryStore(), merge_gap_bytes=100),
    "unversioned": lambda path: WithTraits(zarrdock.MemoryStore(), conditional_read=False),
}


@dataclass(frozen=True)
class Counting(BytesBytesCodec):
    """A codec that does nothing but count."""

    name: ClassVar[str] = "counting"
    calls: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Counting:
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def bind(self, spec: ByteSpec) -> BoundCounting:
        return BoundCounting(self.calls, spec)


class BoundCounting(BoundBytesBytes):
    def __init__(self, calls: list[str], spec: ByteSpec) -> None:
        self.calls, self.decoded, self.encoded = calls, spec, spec

    def encode(self, data: Buffer) -> Buffer:
        self.calls.append("encode")
        return data

    def decode(self, data: Buffer) -> Buffer:
        self.calls.append("decode")
        return data


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> zarrdock.RecordingStore:
    return zarrdock.RecordingStore(STORES[request.param](tmp_path), n_events=100)


@pytest.fixture
def versioned(store: zarrdock.RecordingStore) -> zarrdock.RecordingStore:
    if not store.traits.conditional_read:
        store.store = zarrdock.MemoryStore()
        store.traits = store.store.traits
    return store


def create(store: zarrdock.Store, shape: tuple[int, ...] = (32, 32), **arguments: Any) -> zarrdock.Array:
    arguments = {"chunks": (4, 4), "shards": (16, 16), "dtype": "u2", "compressors": None, **arguments}
    array = zarrdock.create_array(store, shape=shape, **arguments)
    array[...] = np.arange(1, array.size + 1, dtype="u2").reshape(shape)
    if isinstance(store, zarrdock.RecordingStore):
        store.reset()
    return zarrdock.Array(store, "", array.metadata)


def rounds(store: zarrdock.RecordingStore, act: Callable[[], Any]) -> tuple[int, int]:
    store.reset()
    act()
    return store.n_rounds, store.n_requests


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_box_in_one_shard(versioned: zarrdock.RecordingStore) -> None:
    array = create(versioned)
    assert rounds(versioned, lambda: array[5:7, 5:7]) == (2, 2)
    assert rounds(versioned, lambda: array[5:7, 5:7]) == (1, 1)
    assert rounds(versioned, lambda: array[0, 0]) == (1, 1)
    assert rounds(versioned, lambda: array[3:6, 3:6])[0] == 1


def test_a_box_over_eight_shards(versioned: zarrdock.RecordingStore) -> None:
    array = create(versioned, (16, 16, 16), chunks=(4, 4, 4), shards=(8, 8, 8))
    assert rounds(versioned, lambda: array[7:9, 7:9, 7:9]) == (2, 16)
    assert rounds(versioned, lambda: array[7:9, 7:9, 7:9]) == (1, 8)


def test_two_levels(versioned: zarrdock.RecordingStore) -> None:
    array = create(versioned, (64, 64), chunks=(4, 4), shards=[(32, 32), (16, 16)])
    assert rounds(versioned, lambda: array[5:7, 5:7]) == (3, 3)
    assert rounds(versioned, lambda: array[5:7, 5:7]) == (1, 1)
    assert rounds(versioned, lambda: array[20, 20]) == (2, 2)  # another inner shard: its index is new
    assert rounds(versioned, lambda: array[20, 20]) == (1, 1)


def test_one_element(versioned: zarrdock.RecordingStore) -> None:
    array = create(versioned)
    assert rounds(versioned, lambda: array[5, 5]) == (2, 2)
    assert rounds(versioned, lambda: array[5, 6]) == (1, 1)


def test_a_missing_shard_is_one_request(store: zarrdock.RecordingStore) -> None:
    array = create(store)
    store.delete("c/0/0")
    assert rounds(store, lambda: array[5:7, 5:7]) == (1, 1)
    assert rounds(store, lambda: array[5, 5]) == (1, 1)


def test_a_whole_shard_from_a_remote_store_is_one_request() -> None:
    store = zarrdock.RecordingStore(remote(zarrdock.MemoryStore()))
    array = create(store)
    assert rounds(store, lambda: array[:16, :16]) == (1, 1)
    assert rounds(store, lambda: array[:, :]) == (1, 4)
    nested = create(zarrdock.RecordingStore(store.store), shards=[(32, 32), (16, 16)], overwrite=True)
    recorder = nested.store
    assert isinstance(recorder, zarrdock.RecordingStore)
    assert rounds(recorder, lambda: nested[...]) == (1, 1)


def test_unsharded_chunks_are_one_round(store: zarrdock.RecordingStore) -> None:
    array = create(store, shards=None)
    assert rounds(store, lambda: array[3:5, 3:5]) == (1, 4)
    assert rounds(store, lambda: array[...]) == (1, 64)


def test_opening_is_one_round(store: zarrdock.RecordingStore) -> None:
    create(store)
    assert rounds(store, lambda: zarrdock.open_array(store, zarr_format=3)) == (1, 1)
    n_rounds, n_requests = rounds(store, lambda: zarrdock.open_array(store))
    assert n_rounds == 1
    assert n_requests <= 3
    assert rounds(store, lambda: zarrdock.open(store))[0] == 1
    store.delete("zarr.json")
    zarrdock.create_array(store, name="v2", shape=4, dtype="u1", zarr_format=2)
    zarrdock.create_group(store, path="g")
    store.reset()
    assert rounds(store, lambda: zarrdock.open_array(store, path="v2"))[0] == 1
    assert rounds(store, lambda: zarrdock.open_array(store, path="v2", zarr_format=2)) == (1, 2)
    assert rounds(store, lambda: zarrdock.open_group(store, path="g", zarr_format=3)) == (1, 1)
    assert not [event for event in store.log if event.verb != "read"]


@pytest.mark.parametrize("shards", [None, (16, 16), [(32, 32), (16, 16)]])
def test_only_the_chunks_concerned_are_decoded(store: zarrdock.RecordingStore, shards: Any) -> None:
    counting = Counting()
    array = create(store, shards=shards, compressors=counting)
    for selection, n in (((5, 5), 1), ((slice(4, 8), slice(4, 8)), 1), ((slice(3, 5), 0), 2), (([1, 30], [1, 30]), 2)):
        counting.calls.clear()
        array[selection]
        assert counting.calls == ["decode"] * n
    counting.calls.clear()
    array.oindex[[1, 2, 30], [2, 9]]
    assert counting.calls == ["decode"] * 4


KINDS = {
    "unsharded": {"shards": None},
    "sharded": {"shards": (12, 8)},
    "start": {"shards": {"shape": (12, 8), "index_location": "start"}},
    "one": {"shards": (4, 4)},
    "nested": {"shards": [(24, 16), (12, 8)]},
    "morton": {"shards": [(24, 16)], "options": {"subchunk_write_order": "morton"}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", STORES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    selections=st.lists(hnp.basic_indices((30, 22), allow_newaxis=False), min_size=1, max_size=3),
    holes=st.lists(hnp.basic_indices((30, 22), allow_newaxis=False), max_size=2),
)
def test_a_plan_is_what_happens(
    kind: str, where: str, selections: list[Any], holes: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_plans(STORES[where](tmp_path_factory.mktemp("plan")), kind, selections, holes)


@pytest.mark.parametrize("where", ["memory", "remote", "unversioned"])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    selections=st.lists(hnp.basic_indices((30, 22), allow_newaxis=False), min_size=1, max_size=3),
)
def test_a_plan_is_what_happens_in_many_rounds(
    where: str, kind: str, selections: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"round_bytes": 150, "remote_round_bytes": 150, "index_cache_bytes": 700}.items():
        monkeypatch.setattr(zarrdock.config, name, value)
    check_plans(STORES[where](tmp_path), kind, selections, [])


def test_a_plan_lists_reads_below_their_rounds() -> None:
    array = zarrdock.create_array({}, data=np.ones((8, 8), "u1"), chunks=2, shards=4, compressors=None)
    lines = str(array.plan((slice(0, 2), slice(0, 2)))).splitlines()
    assert [line.strip().split()[0] for line in lines[1:]] == ["round", "c/0/0:", "round", "c/0/0:"]
    assert lines[2].endswith("last 68 bytes")
    assert lines[4].endswith("bytes 0 to 4")
    joined = zarrdock.concatenate([array, array]).plan()
    assert [len(reads) for reads in joined.reads_by_round] == [n for n, _ in joined.rounds]
    assert joined.reads == tuple(read for reads in joined.reads_by_round for read in reads)
    whole = zarrdock.create_array({}, data=np.ones((20, 2)), chunks=(1, 2)).plan()
    assert str(whole).splitlines()[-1] == "    … and 15 more"


def check_plans(inside: zarrdock.Store, kind: str, selections: list[Any], holes: list[Any]) -> None:
    store = zarrdock.RecordingStore(inside, n_events=1000)
    array = create(store, (30, 22), **KINDS[kind])
    for hole in holes:
        array[hole] = 0
    for read in (array.__getitem__, array.read):
        array = zarrdock.Array(store, "", array.metadata)
        for selection in selections:  # the first one cold, the others with what the first one left behind
            again = zarrdock.Array(store, "", array.metadata)
            again._cache = array._cache
            plan = again.plan(selection)
            store.reset()
            (array.read if read.__name__ == "read" else array.__getitem__)(selection)
            found = [event for event in store.log if event.verb == "read"]
            assert [(len(event.requests), event.nbytes) for event in found] == list(plan.rounds)
            asked = [(r.key, r.range) for event in found for r in event.requests]
            assert asked == [(r.key, r.range) for r in plan.reads]
            assert (plan.n_rounds, plan.n_requests, plan.nbytes) == (store.n_rounds, store.n_requests, store.nbytes)
            assert str(plan).startswith(f"{plan.n_rounds} round")


@pytest.mark.parametrize(
    "selection, most",
    [
        (..., 1),  # whole objects: their sizes
        (slice(5, 7), 2),  # a few chunks of each shard: their indexes
        ((slice(0, 40), slice(0, 100)), 2),  # both
    ],
)
def test_a_plan_asks_all_at_one_time(store: zarrdock.RecordingStore, selection: Any, most: int) -> None:
    array = create(store, (160, 160), chunks=(8, 8), shards=(32, 32))
    waited: list[str] = []
    counting = HookedStore(WithTraits(store, remote=True), lambda event: waited.append(event.verb))
    array = zarrdock.Array(counting, "", array.metadata)
    array.plan(selection)
    assert set(waited) <= {"read", "size", "sizes"}
    assert 0 < len(waited) <= most
    plain = zarrdock.create_array(zarrdock.PrefixStore(counting, "plain"), shape=(200,), chunks=(1,), dtype="u1")
    waited.clear()
    assert plain.plan().n_missing == 200
    assert len(waited) == 1


def test_sizes_of_a_store_that_only_knows_one_are_asked_side_by_side() -> None:
    class Slow(zarrdock.MemoryStore):
        traits = replace(zarrdock.MemoryStore.traits, remote=True, n_concurrent=8)
        barrier = threading.Barrier(8)

        def size(self, key: str, /) -> int | None:
            self.barrier.wait(10)
            return super().size(key)

    store = Slow()
    store.write("k7", b"1234567")
    assert [*store.sizes([f"k{i}" for i in range(16)])] == [7 if i == 7 else None for i in range(16)]


def test_a_plan_changes_nothing(versioned: zarrdock.RecordingStore) -> None:
    array = create(versioned)
    first = array.plan((slice(5, 7), slice(5, 7)))
    assert first.n_rounds == 2
    assert array.plan((slice(5, 7), slice(5, 7))) == first
    assert rounds(versioned, lambda: array[5:7, 5:7]) == (2, 2)
    assert array.plan((slice(5, 7), slice(5, 7))).n_rounds == 1


# -- writing ----------------------------------------------------------------------------------------------------------


def verbs(store: zarrdock.RecordingStore, act: Callable[[], Any]) -> list[tuple[str, str]]:
    store.reset()
    act()
    return [(event.verb, event.key) for event in store.log]


# The look at the document before a write; on a remote store it travels beside the write.
DOCUMENT_CHECK = [("read", "zarr.json")]


@pytest.mark.parametrize("shards", [(16, 16), [(16, 16), (8, 8)]])
def test_a_partial_write_is_one_update(store: zarrdock.RecordingStore, shards: Any) -> None:
    array = create(store, shards=shards)
    array[0, 0]
    for act in (
        lambda: array.write((3, 3), 1),
        lambda: array.write((slice(2, 9), slice(2, 9)), 1),
        lambda: array.write((slice(0, 4), slice(0, 4)), 1),
        lambda: array.vindex.__setitem__(([1, 9, 15], [1, 9, 15]), 2),
    ):
        assert verbs(store, act) == [*DOCUMENT_CHECK, ("update", "c/0/0")]


@pytest.mark.parametrize("shards", [None, (16, 16), [(16, 16), (8, 8)]])
def test_whole_objects_are_written_without_a_look_at_them(store: zarrdock.RecordingStore, shards: Any) -> None:
    array = create(store, shards=shards)
    n = 4 if shards is None else 16
    assert verbs(store, lambda: array.write((slice(0, n), slice(0, n)), 1)) == [*DOCUMENT_CHECK, ("write", "c/0/0")]
    assert verbs(store, lambda: array.write((slice(0, n), slice(0, n)), 0)) == [*DOCUMENT_CHECK, ("delete", "c/0/0")]
    written = verbs(store, lambda: array.write(..., 3))
    assert written[: len(DOCUMENT_CHECK)] == DOCUMENT_CHECK  # one for all objects
    assert {verb for verb, _ in written[len(DOCUMENT_CHECK) :]} == {"write"}
    assert len(written) == (32 // n) ** 2 + len(DOCUMENT_CHECK)


def test_a_document_that_was_not_seen_for_a_while_is_looked_at_beside_the_write(store: zarrdock.RecordingStore) -> None:
    array = create(store)
    array._distrust()
    assert verbs(store, lambda: array.write((3, 3), 1)) == [*DOCUMENT_CHECK, ("update", "c/0/0")]
    array._distrust()
    assert verbs(store, lambda: array.write((slice(0, 16), slice(0, 16)), 1)) == [*DOCUMENT_CHECK, ("write", "c/0/0")]


def test_creating_is_one_request(store: zarrdock.RecordingStore) -> None:
    """At the root of the store; further down one more for each group above, which may hold consolidated metadata."""
    at_root = lambda: zarrdock.create_array(store, shape=4, dtype="u1")  # noqa: E731
    assert verbs(store, at_root) == [("write", "zarr.json")]
    store.delete("zarr.json")
    act = lambda: zarrdock.create_array(store, name="x", shape=4, dtype="u1")  # noqa: E731
    assert verbs(store, act) == [("write", "x/zarr.json"), ("read", "zarr.json")]
    again = lambda: zarrdock.create_array(store, name="x", shape=4, dtype="u1", overwrite=True)  # noqa: E731
    # What is Zarr is told by the documents among the keys listed, and nothing else goes.
    old = [("list", "x"), ("read", "x/zarr.json"), ("read", ".zmetadata"), ("delete", "x/zarr.json")]
    assert verbs(store, again) == [*old, ("write", "x/zarr.json"), ("read", "zarr.json")]
    new = lambda: zarrdock.create_group(store, path="g")  # noqa: E731
    assert verbs(store, new) == [("write", "g/zarr.json"), ("read", "zarr.json")]


def test_attributes_and_resizing_are_one_update_of_the_document(store: zarrdock.RecordingStore) -> None:
    array = create(store)
    assert verbs(store, lambda: array.attrs.update(a=1, b=2)) == [("update", "zarr.json")]
    assert verbs(store, lambda: array.resize((40, 40))) == [("update", "zarr.json")]


def encoded_chunks(array: zarrdock.Array, key: str) -> dict[int, bytes]:
    codec = array.metadata.codecs[0].bind(Layout.of(array.metadata).chain.spec)  # type: ignore[attr-defined]
    assert isinstance(codec, BoundSharding)
    blob = array.store.get(key)
    assert blob is not None
    index = codec.split(blob.data)
    return {
        flat: bytes(blob.data[index.offsets[flat] : index.offsets[flat] + index.lengths[flat]])
        for flat in np.flatnonzero(index.offsets >= 0).tolist()
    }


@pytest.mark.parametrize("order", ["lexicographic", "morton", "hilbert", "unordered"])
def test_a_partial_write_leaves_the_other_chunks_bytes_alone(store: zarrdock.RecordingStore, order: Any) -> None:
    counting = Counting()
    array = create(store, compressors=["zstd", counting], options={"subchunk_write_order": order})
    before = encoded_chunks(array, "c/0/0")
    counting.calls.clear()
    array[5:7, 5:11] = 0  # chunks (1, 1) and (1, 2), in part
    assert sorted(counting.calls) == ["decode", "decode", "encode", "encode"]
    after = encoded_chunks(array, "c/0/0")
    assert {flat for flat in before if before[flat] != after[flat]} == {5, 6}
    counting.calls.clear()
    array[4:8, 4:8] = 1
    array[8:12, 8:12] = 0
    assert counting.calls == ["encode"]  # nothing decoded; what is empty is not even encoded
    assert set(encoded_chunks(array, "c/0/0")) == set(range(16)) - {10}


# -- parts of chunks --------------------------------------------------------------------------------------------------

PARTS: dict[str, tuple[Any, int]] = {
    "element": (np.s_[3, 40, 7], 4),
    "rows": (np.s_[5, 10:20, 3], 10 * 64 * 4),
    "slab": (np.s_[2:4], 2 * 64 * 64 * 4),
    "strided": (np.s_[9, 63:2:-5, ::7], 61 * 64 * 4),
    "line": (np.s_[9, 8, 5:50:3], 43 * 4),
    "points": (([3, 3], [5, 9], [60, 2]), 5 * 64 * 4),
    "all": (np.s_[...], 16 * 64 * 64 * 4),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("shards", [None, (16, 64, 128)], ids=["chunk", "shard"])
@pytest.mark.parametrize("dtype", ["<u4", ">i4"])
def test_parts_of_plain_chunks(store: zarrdock.RecordingStore, name: str, shards: Any, dtype: str) -> None:
    """One request for the bytes from the first element wanted to the last, as far as they lie together."""
    selection, nbytes = PARTS[name]
    shape = (16, 64, 64) if shards is None else (16, 64, 128)
    values = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    zarrdock.create_array(store, data=values, chunks=(16, 64, 64), shards=shards, compressors=None, fill_value=0)
    array = zarrdock.open_array(store)
    if shards is not None:
        array[0, 0, 0]  # the index
        within = {"slab": np.s_[2:4, :, :64], "strided": np.s_[9, 63:2:-5, :64:7], "all": np.s_[:, :, :64]}
        selection = within.get(name, selection)  # one chunk of the two
    plan = array.plan(selection)
    store.reset()
    found = array[selection]
    assert np.array_equal(found, values[selection])
    assert store.nbytes == plan.nbytes
    if store.traits.conditional_read or shards is None:
        assert (store.n_requests, store.nbytes) == (1, nbytes)
