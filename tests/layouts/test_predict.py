"""Predictions beside what is counted when an array has been laid out so."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from support.stores import WithTraits
from zarrdock.array.planning.layout import Layout
from zarrdock.errors import MetadataError, SelectionError, UnsupportedError
from zarrdock.layouts import access_patterns as accesses
from zarrdock.layouts.access_patterns import Access, read_log
from zarrdock.layouts.calibrate import decode_speed
from zarrdock.layouts.predict import PLACES, Candidate, Cost, Prediction, Prices, candidates, predict, recommend, work
from zarrdock.layouts.relayout import relayout
from zarrdock.layouts.shard_stats import resampled, survey

RANDOM = np.random.default_rng(8)
# Chunks of differing lengths, and some that are not there.
VALUES = (RANDOM.integers(0, 2**16, (50, 70, 30)) >> (np.arange(50)[:, None, None] // 4)).astype("u2")
VALUES[16:30, 20:40] = 0
PATTERNS = [
    *accesses.boxes(VALUES.shape, (12, 12, 12), 15),
    *accesses.planes(VALUES.shape, 4),
    *accesses.lines(VALUES.shape, 4),
    Access("odd", (np.s_[::7, 3, ::2], ([1, 30], slice(None), 4), np.s_[17:29, 24:39], ...)),
]
LOCAL, REMOTE = PLACES["local"][0], replace(PLACES["s3"][0], merge_gap_bytes=300)


def counted(store: zarrdock.Store, array: zarrdock.Array, traits: Any) -> list[tuple[int, int, int]]:
    """Rounds, requests and bytes of each pattern, by a reader that begins without indexes."""
    recorder = zarrdock.RecordingStore(WithTraits(store, **asdict(traits)))
    found = []
    for pattern in PATTERNS:
        reader = zarrdock.Array(recorder, "", array.metadata)
        recorder.reset()
        for selection in pattern.selections:
            reader.read(selection)
        found.append((recorder.n_rounds, recorder.n_requests, recorder.nbytes))
    return found


def foretold(prediction: Prediction) -> list[tuple[int, int, int]]:
    return [(cost.n_rounds, cost.n_requests, cost.nbytes) for cost in prediction.costs]


KINDS: dict[str, dict[str, Any]] = {
    "unsharded": {"shards": None},
    "end": {"shards": (32, 32, 16)},
    "start": {"shards": {"shape": (32, 32, 16), "index_location": "start"}},
    "nested": {"shards": [(64, 32, 32), (16, 16, 16)]},
}


def create(store: Any, kind: str, **arguments: Any) -> zarrdock.Array:
    return zarrdock.create_array(store, data=VALUES, chunks=(8, 8, 8), **{**KINDS[kind], **arguments})


@pytest.mark.parametrize("traits", [LOCAL, REMOTE], ids=["local", "remote"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored(kind: str, traits: Any) -> None:
    store = zarrdock.MemoryStore()
    array = create(store, kind, options={"subchunk_write_order": "unordered"})
    array[20:40, 30:50] = 7  # the chunks of shards lie in no order of any name now
    seen = survey(store, "", array.metadata)
    assert seen.is_complete
    shards = tuple(level.sharding.decoded.shape for level in Layout.of(array.metadata).levels)
    prediction = predict(seen, PATTERNS, Candidate(None, shards, (8, 8, 8)), traits=traits, prices=Prices())
    assert prediction.is_exact
    assert foretold(prediction) == counted(store, array, traits)


@pytest.mark.parametrize("traits", [LOCAL, REMOTE], ids=["local", "remote"])
@pytest.mark.parametrize("order", ["lexicographic", "colexicographic", "morton", "hilbert"])
@pytest.mark.parametrize("kind", ["end", "start", "nested"])
def test_other_orders(kind: str, order: Any, traits: Any) -> None:
    store = zarrdock.MemoryStore()
    array = create(store, kind)
    seen = survey(store, "", array.metadata)
    shards = tuple(level.sharding.decoded.shape for level in Layout.of(array.metadata).levels)
    prediction = predict(seen, PATTERNS, Candidate(order, shards, (8, 8, 8)), traits=traits, prices=Prices())
    relayout(store, order=order)
    assert foretold(prediction) == counted(store, array, traits)


@pytest.mark.parametrize("shards", [None, (64, 96, 32), [(64, 64, 64), (16, 32, 16)]])
@pytest.mark.parametrize("kind", ["unsharded", "end", "nested"])
def test_other_shards(kind: str, shards: Any) -> None:
    store = zarrdock.MemoryStore()
    array = create(store, kind)
    seen = survey(store, "", array.metadata)
    levels = () if shards is None else tuple(shards) if isinstance(shards, list) else (shards,)
    order = None if shards is None else "hilbert"
    prediction = predict(seen, PATTERNS, Candidate(order, levels, (8, 8, 8)), traits=REMOTE, prices=Prices())
    assert prediction.is_exact
    target = zarrdock.MemoryStore()
    copied = zarrdock.copy(
        store, target, shards=shards, options=None if order is None else {"subchunk_write_order": order}
    )
    assert isinstance(copied, zarrdock.Array)
    assert foretold(prediction) == counted(target, copied, REMOTE)


def test_other_chunks_without_compression_are_exact() -> None:
    store = zarrdock.MemoryStore()
    array = create(store, "end", compressors=None)
    seen = survey(store, "", array.metadata)
    candidate = Candidate("morton", ((32, 32, 32),), (16, 8, 4), 100)
    prediction = predict(seen, PATTERNS, candidate, traits=REMOTE, prices=Prices())
    target = zarrdock.MemoryStore()
    # A chunk is taken for stored where the chunks there are overlap it.
    copied = zarrdock.copy(
        store,
        target,
        chunks=(16, 8, 4),
        shards=(32, 32, 32),
        options={"subchunk_write_order": "morton", "write_empty_chunks": True},
    )
    assert isinstance(copied, zarrdock.Array)
    real = counted(target, copied, replace(REMOTE, merge_gap_bytes=100))
    for told, found in zip(foretold(prediction), real, strict=True):
        assert told[0] == found[0]
        assert told[1] == pytest.approx(found[1], rel=0.15, abs=2)
        assert told[2] == pytest.approx(found[2], rel=0.15)


def test_other_chunks_of_compressed_data_are_estimated() -> None:
    store = zarrdock.MemoryStore()
    array = create(store, "end")
    seen = survey(store, "", array.metadata)
    candidate = Candidate("hilbert", ((32, 32, 32),), (16, 16, 16))
    prediction = predict(seen, PATTERNS, candidate, traits=REMOTE, prices=Prices())
    assert not prediction.is_exact
    target = zarrdock.MemoryStore()
    copied = zarrdock.copy(
        store,
        target,
        chunks=(16, 16, 16),
        shards=(32, 32, 32),
        options={"subchunk_write_order": "hilbert"},
    )
    assert isinstance(copied, zarrdock.Array)
    told, found = prediction.total, [sum(column) for column in zip(*counted(target, copied, REMOTE), strict=True)]
    assert told.n_rounds == pytest.approx(found[0], rel=0.05)
    assert told.n_requests == pytest.approx(found[1], rel=0.1)
    assert told.nbytes == pytest.approx(found[2], rel=0.25)


# -- surveys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_chunks(kind: str) -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = create(store, kind)
    store.reset()
    seen = survey(store, "", array.metadata)
    assert store.n_rounds == len(Layout.of(array.metadata).levels)
    assert seen.lengths.shape == (7, 9, 4)
    for at in np.ndindex(7, 9, 4):
        box = tuple(slice(8 * c, 8 * c + 8) for c in at)
        leaf = np.zeros((8, 8, 8), "u2")
        inside = VALUES[box]
        leaf[tuple(slice(0, n) for n in inside.shape)] = inside
        assert seen.lengths[at] == (len(Layout.of(array.metadata).leaf.encode(leaf)) if leaf.any() else -1)
    assert seen.usage.chunks == seen.lengths[seen.lengths > 0].sum()
    assert seen.usage.total == sum(entry.size or 0 for entry in store.list("c"))


def test_not_all_of_many_objects_are_looked_at() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = create(store, "end")
    full = survey(store, "", array.metadata)
    store.reset()
    seen = survey(store, "", array.metadata, max_objects=4)
    assert store.n_requests == len(seen.objects) <= 4
    assert not seen.is_complete
    assert seen.n_objects == full.n_objects
    assert (seen.lengths > 0).sum() >= (full.lengths > 0).sum()
    candidate = Candidate(None, ((32, 32, 16),), (8, 8, 8))
    assert not predict(seen, PATTERNS, candidate, traits=REMOTE, prices=Prices()).is_exact


@settings(max_examples=40)
@given(
    shape=st.lists(st.integers(1, 30), min_size=1, max_size=3).map(tuple),
    data=st.data(),
)
def test_resampling_keeps_the_sum_and_the_place(shape: tuple[int, ...], data: st.DataObject) -> None:
    one = st.tuples(*(st.integers(1, 12) for _ in shape))
    old, new = data.draw(one), data.draw(one)
    grid = [-(-n // c) for n, c in zip(shape, old, strict=True)]
    lengths = data.draw(st.integers(0, 9)) + np.arange(np.prod(grid)).reshape(grid) * 1000
    lengths[lengths == 0] = -1
    found = resampled(lengths, shape, old, new)
    assert found.shape == tuple(-(-n // c) for n, c in zip(shape, new, strict=True))
    kept = found[found > 0].sum()
    assert kept == pytest.approx(lengths[lengths > 0].sum(), abs=found.size)
    assert np.array_equal(resampled(lengths, shape, old, old), lengths)
    assert set(resampled(lengths, shape, old, new, exact=7).ravel().tolist()) <= {7, -1}


# -- candidates and choice --------------------------------------------------------------------------------------------


def test_candidates() -> None:
    store = zarrdock.MemoryStore()
    seen = survey(store, "", create(store, "end").metadata)
    found = candidates(seen)
    assert found[0] == Candidate(None, ((32, 32, 16),), (8, 8, 8))
    assert {c.shards for c in found} == {((32, 32, 16),), ((16, 16, 8),), ((64, 64, 32),)}
    assert {c.chunks for c in found} == {(8, 8, 8), (4, 4, 4), (16, 16, 16)}
    given = candidates(
        seen, orders=["morton"], shards=[None, [(32, 32, 32)]], chunks=[(8, 8, 8), (3, 3, 3)], gaps=[0, 9]
    )
    assert given[:2] == [Candidate(None, ((32, 32, 16),), (8, 8, 8), gap) for gap in (0, 9)]
    assert Candidate(None, (), (3, 3, 3), 9) in given
    assert Candidate("morton", ((32, 32, 32),), (8, 8, 8), 0) in given
    assert not any(c.shards and c.chunks == (3, 3, 3) for c in given)  # does not divide
    store = zarrdock.MemoryStore()
    v2 = zarrdock.create_array(store, data=VALUES, chunks=(10, 10, 10), zarr_format=2)
    seen = survey(store, "", v2.metadata)
    sharded = candidates(seen, orders=["hilbert"], shards=[[(50, 50, 50)]])
    assert predict(seen, PATTERNS, sharded[-1], traits=REMOTE, prices=Prices()).total.n_requests > 0


def test_the_least_work_of_those_that_are_good_enough() -> None:
    store = zarrdock.MemoryStore()
    seen = survey(store, "", create(store, "end").metadata)
    shards = ((32, 32, 16),)
    layouts = [
        Candidate(None, shards, (8, 8, 8)),
        Candidate("hilbert", shards, (8, 8, 8)),
        Candidate("hilbert", ((64, 64, 64),), (8, 8, 8)),
        Candidate("hilbert", shards, (16, 16, 16)),
    ]
    assert [work(seen, one) for one in layouts] == [0, 1, 2, 3]

    def best(*seconds: float, by: str = "seconds") -> int:
        costs = [Cost(1, int(10 * s), 1, s, 0.0) for s in seconds]
        found = [Prediction(one, (cost,), True) for one, cost in zip(layouts, costs, strict=True)]
        return found.index(recommend(seen, found, by))

    assert best(1.04, 1.03, 1.0, 1.0) == 0
    assert best(1.2, 1.04, 1.0, 1.0) == 1
    assert best(1.2, 1.1, 1.0, 0.99) == 2
    assert best(1.2, 1.1, 1.06, 1.0, by="n_requests") == 2
    assert best(9, 9, 9, 1) == 3
    with pytest.raises(UnsupportedError, match="'beauty'"):
        best(1, 1, 1, 1, by="beauty")


def test_prices() -> None:
    prices = Prices(rtt_s=0.05, request_s=0.001, bytes_per_s=1e6, per_million=2.0, per_gb=3.0)
    assert prices.seconds([(1, 1000), (10, 10**6)], 4) == pytest.approx(0.05 + 0.001 + 0.001 + 0.15 + 0.01 + 1.0)
    store = zarrdock.MemoryStore()
    array = create(store, "end")
    seen = survey(store, "", array.metadata)
    total = predict(seen, PATTERNS, candidates(seen)[0], traits=REMOTE, prices=prices).total
    assert total.price == pytest.approx(total.n_requests * 2e-6 + total.nbytes * 3e-9)
    assert total.seconds > total.n_rounds * 0.05


def test_layouts_that_can_not_be() -> None:
    store = zarrdock.MemoryStore()
    seen = survey(store, "", create(store, "end").metadata)
    with pytest.raises(MetadataError):
        predict(seen, PATTERNS, Candidate("hilbert", ((30, 30, 30),), (8, 8, 8)), traits=LOCAL, prices=Prices())
    wrong: Any = "zigzag"
    with pytest.raises(UnsupportedError, match="zigzag"):
        predict(seen, PATTERNS, Candidate(wrong, ((32, 32, 32),), (8, 8, 8)), traits=LOCAL, prices=Prices())
    with pytest.raises(SelectionError):
        predict(seen, [Access("outside", (99,))], candidates(seen)[0], traits=LOCAL, prices=Prices())


# -- access -----------------------------------------------------------------------------------------------------------


def test_patterns() -> None:
    (found,) = accesses.boxes((10, 5), (4, 8), 20, seed=1)
    assert found.name == "boxes 4×5"
    assert len(found.selections) == 20
    assert all((s.start >= 0, s.stop - s.start, s.stop <= 10) == (True, 4, True) for s, _ in found.selections)
    assert accesses.boxes((10, 5), (4, 8), 20, seed=1) == [found] != accesses.boxes((10, 5), (4, 8), 20, seed=2)
    assert accesses.boxes((0, 5), (4, 8), 20) == []
    across = accesses.planes((10, 1, 5), 3, names=("z", None, None))
    assert [p.name for p in across] == ["planes at z", "planes at axis 2"]
    along = accesses.lines((10, 1, 5), 3)
    assert [p.name for p in along] == ["lines along axis 0", "lines along axis 2"]
    array = np.zeros((10, 1, 5))
    assert {array[s].shape for p in across for s in p.selections} == {(1, 5), (10, 1)}
    assert {array[s].shape for p in along for s in p.selections} == {(10,), (5,)}


def test_logs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("# a comment\n\n0:4, 3\n  ..., 1 \n")
    assert list(read_log(log)) == [(3, "0:4, 3"), (4, "..., 1")]


# -- decoding, and chunks for planes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_are_decoded_are_foretold(kind: str, counting: Any) -> None:
    """Each chunk that a read touches is decoded whole, however little of it is wanted: that is where the time goes."""
    store = zarrdock.MemoryStore()
    array = create(store, kind, compressors=counting)
    seen = survey(store, "", array.metadata)
    prediction = predict(seen, PATTERNS, candidates(seen)[0], traits=LOCAL, prices=Prices(decode_bytes_per_s=1e6))
    for pattern, cost in zip(PATTERNS, prediction.costs, strict=True):
        counting.calls.clear()
        reader = zarrdock.open_array(store)
        for selection in pattern.selections:
            reader.read(selection)
        assert cost.n_chunks == len(counting.calls)
        assert cost.decoded_nbytes == len(counting.calls) * 8**3 * 2
        assert cost.seconds >= cost.decoded_nbytes / 1e6


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_measured_with_the_chunks_there_are(kind: str) -> None:
    store = zarrdock.MemoryStore()
    array = create(store, kind)
    recorder = zarrdock.RecordingStore(store)
    seen = survey(recorder, "", array.metadata)
    recorder.reset()
    speed = decode_speed(seen)
    assert speed is not None
    assert 1e4 < speed < 1e12
    assert recorder.n_rounds <= 3  # the repetitions come from memory
    empty = zarrdock.create_array(
        None, shape=(8, 8), dtype="u1", chunks=(4, 4), **({"shards": (8, 8)} if kind != "unsharded" else {})
    )
    assert decode_speed(survey(empty.store, "", empty.metadata)) is None


def test_flat_chunks_are_proposed_for_planes() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=np.ones((64, 64, 64), "u2"), chunks=(8, 8, 8), shards=(32, 32, 32))
    seen = survey(store, "", array.metadata)

    def flat(*patterns: Access) -> set[tuple[int, ...]]:
        return {one.chunks for one in candidates(seen, accesses=patterns) if 1 in one.chunks}

    planes = accesses.planes(array.shape, 3)
    assert flat(planes[0]) == {(1, 16, 32)}
    assert flat(*planes) == {(1, 16, 32), (16, 1, 32), (16, 32, 1)}
    assert flat(Access("a log", (np.s_[3], np.s_[7, ...], (5, slice(None), slice(None))))) == {(1, 16, 32)}
    assert flat(Access("of two kinds", (np.s_[3], np.s_[..., 3]))) == set()
    assert flat(*accesses.boxes(array.shape, (8, 8, 8), 3), *accesses.lines(array.shape, 3)) == set()
    predictions = [
        predict(seen, planes[:1], one, traits=LOCAL, prices=Prices()) for one in candidates(seen, accesses=planes[:1])
    ]
    assert recommend(seen, predictions).candidate.chunks == (1, 16, 32)


def test_egress_is_a_price_of_bytes() -> None:
    prices = Prices(per_million=1.0, per_gb=0.5, egress_per_gb=1.5)
    assert prices.price(2_000_000, 3 * 10**9) == 2 + 3 * 2
