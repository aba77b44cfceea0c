"""Layouts of arrays whose objects differ in shape."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.checking import check
from zarrdock.cli.main import run
from zarrdock.json_ import serialise
from zarrdock.layouts import access_patterns
from zarrdock.layouts.predict import PLACES, Candidate, candidates, predict
from zarrdock.layouts.relayout import relayout
from zarrdock.layouts.shard_stats import survey
from zarrdock.repairing import repair
from zarrdock.stores.wrappers import RecordingStore

SHAPE = (20, 24)
VALUES = np.random.default_rng(0).integers(0, 60000, SHAPE).astype("u2")
VALUES[5:9, 8:] = 0
AXES: list[Any] = [[4, 12, 4], [8, 16]]
SHARDS = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": AXES}}
KINDS = ("chunks", "shards", "levels")


def make(kind: str, store: Any) -> zarrdock.Array:
    if kind == "chunks":
        return zarrdock.create_array(store, data=VALUES, chunks=AXES)  # type: ignore[arg-type]
    array = zarrdock.create_array(store, data=VALUES, chunks=(2, 2), shards=SHARDS)
    if kind == "levels":
        metadata = array.metadata.to_json()
        inner = metadata["codecs"][0]
        outer = {**inner["configuration"], "chunk_shape": [4, 8], "codecs": [inner]}
        metadata["codecs"] = [{"name": "sharding_indexed", "configuration": outer}]
        store.write("zarr.json", serialise(metadata))
        array = zarrdock.open_array(store, mode="r+")
        array[...] = VALUES
    return array


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["boxes", "planes"])
def test_what_is_predicted_of_the_layout_there_is_is_what_is_counted(kind: str, pattern: str) -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    array = make(kind, store)
    seen = survey(store, "", array.metadata)
    assert seen.is_complete
    assert len(seen.objects) == 6
    assert seen.usage.chunks + seen.usage.index == sum(one.nbytes for one in seen.objects.values())
    (first, *_) = access_patterns.boxes(SHAPE, (3, 5), 10) if pattern == "boxes" else access_patterns.planes(SHAPE, 5)
    prediction = predict(seen, [first], candidates(seen)[0], traits=store.traits, prices=PLACES["local"][1])
    reader = zarrdock.open_array(store)
    store.reset()
    for selection in first.selections:
        reader[selection]
    total = prediction.total
    assert (total.n_rounds, total.n_requests, total.nbytes) == (store.n_rounds, store.n_requests, store.nbytes)


@pytest.mark.parametrize("kind", ["shards", "levels"])
@pytest.mark.parametrize("order", ["colexicographic", "morton"])
def test_shards_in_another_order_cost_what_was_predicted(kind: str, order: Any) -> None:
    store = RecordingStore(zarrdock.MemoryStore())
    array = make(kind, store)
    seen = survey(store, "", array.metadata)
    now = candidates(seen)[0]
    (first, *_) = access_patterns.boxes(SHAPE, (5, 7), 20)
    candidate = Candidate(order, now.shards, now.chunks)
    predicted = predict(seen, [first], candidate, traits=store.traits, prices=PLACES["local"][1]).total
    before = {entry.key: entry.size for entry in store.list()}
    done = relayout(store, order=order)
    assert (done.n_objects, done.n_rewritten) == (6, 6)
    assert relayout(store, order=order).n_rewritten == 0
    assert {entry.key: entry.size for entry in store.list()} == before
    assert check(store).problems == ()
    reader = zarrdock.open_array(store)
    np.testing.assert_array_equal(reader[...], VALUES)
    reader = zarrdock.open_array(store)
    store.reset()
    for selection in first.selections:
        reader[selection]
    assert (predicted.n_rounds, predicted.n_requests, predicted.nbytes) == (
        store.n_rounds,
        store.n_requests,
        store.nbytes,
    )


@pytest.mark.parametrize("kind", ["shards", "levels"])
def test_indexes_are_repaired(kind: str) -> None:
    store = zarrdock.MemoryStore()
    make(kind, store)
    n_entries = {"c/0/0": 8, "c/1/1": 48} if kind == "shards" else {"c/0/0": 1, "c/1/1": 6}
    for key, n in n_entries.items():
        data = bytearray(store.get(key).data)  # type: ignore[union-attr]
        data[-4 - n * 16] ^= 1  # where the first chunk begins
        store.write(key, bytes(data))
    assert not check(store).is_good
    assert {one.key for one in repair(store)} == {"c/0/0", "c/1/1"}
    assert check(store).problems == ()
    np.testing.assert_array_equal(zarrdock.open_array(store)[...], VALUES)


def test_garbage_goes(tmp_path: Path) -> None:
    store = zarrdock.LocalStore(tmp_path)
    zarrdock.create_array(store, data=np.ones(SHAPE, "u2"), chunks=(4, 4), shards=SHARDS)
    array = zarrdock.open_array(store, mode="r+", options={"in_place": True})
    array[0:4, 0:4] = VALUES[0:4, 0:4]
    array[12:16, 20:24] = VALUES[12:16, 20:24]
    expected = array[...]
    seen = survey(store, "", array.metadata)
    assert seen.usage.garbage > 0
    done = relayout(store)
    assert done.nbytes_saved == seen.usage.garbage
    np.testing.assert_array_equal(zarrdock.open_array(store)[...], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_objects", [4096, 2])
def test_every_candidate_can_be_predicted(kind: str, max_objects: int) -> None:
    store = zarrdock.MemoryStore()
    array = make(kind, store)
    seen = survey(store, "", array.metadata, max_objects=max_objects)
    patterns = access_patterns.planes(SHAPE, 2)
    found = candidates(seen) + candidates(seen, chunks=[(5, 6)], shards=[None, (10, 12)])
    assert len(found) > 4
    for candidate in found:
        prediction = predict(seen, patterns, candidate, traits=store.traits, prices=PLACES["local"][1])
        assert prediction.total.nbytes > 0


def test_bytes_are_spread_over_chunks_of_another_shape() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=VALUES, chunks=AXES, compressors=None)
    seen = survey(store, "", array.metadata)
    (all_of_it,) = [access_patterns.Access("all", ((slice(None), slice(None)),))]
    candidate = Candidate(None, (), (5, 6))
    total = predict(seen, [all_of_it], candidate, traits=store.traits, prices=PLACES["local"][1]).total
    assert total.n_requests == 16
    assert total.nbytes == VALUES.nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_commands(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(kind, zarrdock.LocalStore(tmp_path / "a"))

    def said(*arguments: str) -> str:
        status = run(list(arguments))
        output = capsys.readouterr()
        assert (status == 0) == (output.err == "")
        return output.out + output.err

    at = str(tmp_path / "a")
    assert "6 objects" in said("layout", at, "--reads", "2", "--access", "planes", "--order", "morton")
    assert "good" in said("check", at)
    assert "good" in said("check", "--repair", at)
    assert "in 4 objects" in said("plan", at, "0:9")
    assert "up to 12 × 16" in said("info", at)
    assert "up to 12 × 16" in said("tree", at)
    assert "24 x 20 pixels" in said("thumbnail", at, str(tmp_path / "a.png"))
    assert said("copy", at, str(tmp_path / "b"), "--compressor", "gzip", "--order", "morton", "-q") == ""
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "b")[...], VALUES)
    answer = said("relayout", at, "--order", "morton", "-q")
    assert ("no array is sharded" if kind == "chunks" else "6 of 6 shards rewritten") in answer


def test_grids_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_array(tmp_path / "a", data=VALUES, chunks=(4, 6))

    def grid(*options: str) -> Any:
        assert run(["copy", str(tmp_path / "a"), str(tmp_path / "b"), "--overwrite", "-q", *options]) == 0
        array = zarrdock.open_array(tmp_path / "b")
        np.testing.assert_array_equal(array[...], VALUES)
        return array.write_chunk_sizes

    assert grid("--chunks", "[[4, 12, 4], 10]") == ((4, 12, 4), (10, 10, 4))
    assert grid("--chunks", "2,2", "--shards", json.dumps(SHARDS)) == ((4, 12, 4), (8, 16))
    assert grid("--chunks", "[10,12]") == ((10, 10), (12, 12))
    for wrong in ('[["a"]]', "[[2,", "[[1.5]]", "[[[2]]]"):
        assert run(["copy", str(tmp_path / "a"), str(tmp_path / "c"), "--chunks", wrong]) == 2
        assert "--chunks" in capsys.readouterr().err
