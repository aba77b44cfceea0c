"""Masks and lists of indices that are runs: what they mean, and that they cost what slices cost."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.planning import runs
from zarrdock.array.planning.runs import Runs, cut, put, take
from zarrdock.array.planning.selection import Axis

KINDS: list[dict[str, Any]] = [
    {"shape": (60,), "chunks": (7,)},
    {"shape": (60,), "chunks": (5,), "shards": (20,)},
    {"shape": (60,), "chunks": [[3, 20, 1, 30, 6]]},
    {"shape": (60,), "chunks": (60,), "compressors": None},
    {"shape": (24, 18), "chunks": (5, 4)},
    {"shape": (24, 18), "chunks": (3, 3), "shards": (12, 6), "compressors": None},
    {"shape": (24, 18), "chunks": (2, 3), "shards": [(12, 12), (6, 6)]},
    {"shape": (24, 18), "chunks": [[4, 20], [6, 6, 6]], "compressors": None},
    {"shape": (6, 8, 10), "chunks": (2, 3, 4)},
    {"shape": (6, 8, 10), "chunks": (2, 2, 5), "shards": (6, 8, 10), "compressors": None},
]


def indices_in_runs(rng: np.random.Generator, n: int) -> np.ndarray:
    """Runs of any length, in any order, some of them twice."""
    starts = rng.integers(0, n, rng.integers(1, 6))
    return np.concatenate([np.arange(start, rng.integers(start, n) + 1) for start in starts])


def mask_in_runs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    edges = rng.integers(0, size + 1, rng.integers(1, 12))
    flat = (np.searchsorted(np.sort(edges), np.arange(size), "right") % 2).astype(bool)
    if rng.random() < 0.4:  # a product of its axes
        return product(rng, shape)
    return flat.reshape(shape)


def product(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[np.ix_(*(np.unique(indices_in_runs(rng, n)) for n in shape))] = True
    return mask


def selections(rng: np.random.Generator, shape: tuple[int, ...]) -> list[tuple[str, Any, Any]]:
    """Name of the indexer, what it is given, and what numpy is."""
    mask = mask_in_runs(rng, shape)
    coords = np.nonzero(mask)
    at = int(rng.integers(len(shape)))
    lists = [indices_in_runs(rng, n) for n in shape]
    one = tuple(lists[i] if i == at else slice(int(rng.integers(n)), None) for i, n in enumerate(shape))
    axis_mask = np.isin(np.arange(shape[at]), lists[at])
    masked = tuple(axis_mask if i == at else slice(None) for i in range(len(shape)))
    return [
        ("", mask, mask),
        ("vindex", mask, mask),
        ("vindex", coords, coords),
        ("", one, one),
        ("", masked, masked),
        ("oindex", tuple(lists), np.ix_(*lists)),
        ("oindex", masked, masked),
    ]


@pytest.mark.parametrize("longest", [1, 4, 32])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_as_numpy_does_it(kind: dict[str, Any], longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LONG", longest)
    rng = np.random.default_rng(longest)
    model = rng.integers(1, 1000, kind["shape"]).astype("u2")
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=model, fill_value=3, **{**kind, "shape": None})
    for _ in range(6):
        for how, ours, numpys in selections(rng, model.shape):
            indexer = getattr(array, how) if how else array
            np.testing.assert_array_equal(indexer[ours], model[numpys], err_msg=f"{how} {ours}")
            value = rng.integers(1, 1000, model[numpys].shape).astype(rng.choice(["u2", "i4"]))
            indexer[ours] = value
            model[numpys] = value
            np.testing.assert_array_equal(array[...], model, err_msg=f"{how} {ours}")
    mask = mask_in_runs(rng, model.shape)
    array[mask] = 3
    model[mask] = 3
    np.testing.assert_array_equal(array[mask], model[mask])
    np.testing.assert_array_equal(array[...], model)


def test_rows_of_uncompressed_shards_in_another_order() -> None:
    values = np.arange(64, dtype="u2").reshape(8, 8)
    order = np.array([3, 1, 2, 0, 7, 5, 6, 4])
    array = zarrdock.create_array(
        zarrdock.MemoryStore(), shape=(8, 8), chunks=(2, 2), shards=(8, 8), dtype="u2", compressors=None
    )
    array.oindex[order] = values
    expected = np.empty_like(values)
    expected[order] = values
    np.testing.assert_array_equal(array[...], expected)


@pytest.mark.parametrize(
    "indices, form",
    [
        ([], (0, 1, 0)),
        ([4], (4, 1, 1)),
        ([4, 5, 6], (4, 1, 3)),
        ([4, 7, 10], (4, 3, 3)),
    ],
)
def test_lists_that_are_slices(indices: list[int], form: tuple[int, int, int]) -> None:
    assert Axis.of_indices(np.array(indices, np.int64)) == Axis(*form)


def test_cut() -> None:
    run, starts, lengths = cut(np.array([2, 17, 3]), np.array([9, 1, 2]), 4)
    assert (run.tolist(), starts.tolist(), lengths.tolist()) == (
        [0, 0, 0, 1, 2, 2],
        [2, 4, 8, 17, 3, 4],
        [2, 4, 3, 1, 1, 1],
    )
    run, starts, lengths = cut(np.array([2]), np.array([9]), 0, np.array([0, 3, 5, 30]))
    assert (run.tolist(), starts.tolist(), lengths.tolist()) == ([0, 0, 0], [2, 3, 5], [1, 2, 6])


@pytest.mark.parametrize("longest", [1, 100])
def test_of_places_written_twice_the_last_value_counts(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LONG", longest)
    index = Runs(np.array([[1, 0], [1, 1]]), np.array([3, 2]))
    array = np.zeros((2, 4), int)
    put(array, index, np.arange(1, 6))
    assert array[1].tolist() == [1, 4, 5, 0]
    assert take(array, index).tolist() == [1, 4, 5, 4, 5]


# -- what they cost ---------------------------------------------------------------------------------------------------

N = 2**22


def half(shape: tuple[int, ...]) -> np.ndarray:
    """A mask that is no product: a half plane, in long runs."""
    mask = np.zeros(shape, bool)
    if len(shape) == 1:
        mask[shape[0] // 4 : shape[0] // 2] = mask[-100:] = True
    else:
        mask[np.add.outer(*(np.arange(n) for n in shape)) < shape[0]] = True
    return mask


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("shape", [(N,), (2**11, 2**11)])
@pytest.mark.parametrize("how", ["mask", "vindex", "oindex"])
def test_long_runs_take_no_more_memory_than_what_they_select(how: str, shape: tuple[int, ...], shards: Any) -> None:
    chunks = tuple(n // 16 for n in shape)
    array = zarrdock.create_array(
        zarrdock.MemoryStore(),
        shape=shape,
        dtype="u1",
        chunks=chunks,
        shards=shards and tuple(2 * n for n in chunks),
        fill_value=7,
    )
    array[: shape[0] // 3] = 5
    mask = half(shape)
    rows = mask if len(shape) == 1 else mask[:, 0]
    coords = np.nonzero(mask)
    n = int(np.count_nonzero(rows) * shape[-1] if how == "oindex" and len(shape) > 1 else np.count_nonzero(mask))
    read = {
        "mask": lambda: array[mask],
        "vindex": lambda: array.vindex[coords],
        "oindex": lambda: array.oindex[rows],
    }[how]
    read()
    tracemalloc.start()
    try:
        found = read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.size == n
    assert peak < 2 * n + 2 * mask.size + 3 * 2**20
