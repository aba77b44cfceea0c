"""The claims of ``docs/reference/indexing.md``: indexing is numpy's to the letter, or on purpose not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import MetadataError, SelectionError

MODEL = np.arange(6 * 5 * 4).reshape(6, 5, 4)


@pytest.fixture
def array() -> zarrdock.Array:
    return zarrdock.create_array(zarrdock.MemoryStore(), data=MODEL, chunks=(2, 2, 2), shards=(4, 4, 4))


class Indices:
    """Something that is no array but gives one."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.values)


@pytest.mark.parametrize(
    "selection",
    [
        3,
        -1,
        np.int8(2),
        np.array(2),
        (1, 2, 3),
        slice(None, None, -2),
        (slice(4, 1, -1), ..., slice(100)),
        [5, 0, 0],
        [],
        ([], [], []),
        [True, False, True, False, False, True],
        np.array([[0, 1], [2, 3]]),
        (slice(None), [0, 1]),
        (0, slice(None), [1, 2]),
        ([1, 2], slice(None), 0),
        ([[1, 2]], 0, slice(1, 3)),
        ([0, 1], [1, 2], [3, -1]),
        ([[0], [1]], [1, 2], 3),
        (..., [1, 2]),
        MODEL % 7 == 0,
        (MODEL % 7 == 0).tolist(),
        Indices([1, 2]),
        Indices(MODEL > 50),
        (slice(None), slice(None), Indices([True, False, True, False])),
        (slice(2, 2), 3),
    ],
)
def test_as_numpy_does_it(array: zarrdock.Array, selection: Any) -> None:
    theirs = selection
    if isinstance(selection, Indices):
        theirs = np.asarray(selection)
    if isinstance(selection, tuple):
        theirs = tuple(np.asarray(item) if isinstance(item, Indices) else item for item in selection)
        theirs = tuple(np.asarray(item, int) if isinstance(item, list) and not item else item for item in theirs)
    found = array[selection]
    np.testing.assert_array_equal(found, MODEL[theirs])
    assert type(found) is type(MODEL[theirs])
    model = MODEL.copy()
    array[selection] = -5
    model[theirs] = -5
    np.testing.assert_array_equal(array[...], model)


@pytest.mark.parametrize(
    "selection, says",
    [
        (None, "newaxis"),
        ((slice(None), None), "newaxis"),
        (([0, 1], slice(None), [0, 1]), "oindex"),
        (([0, 1], [0, 1]), "oindex"),
        (True, "mask"),
        ((slice(None), False), "mask"),
        (np.ones((6, 5), bool), "mask"),
        ((0, np.ones((5, 4), bool)), "mask"),
    ],
)
def test_what_numpy_could_do_and_zarrdock_leaves_to_the_reader(
    array: zarrdock.Array, selection: Any, says: str
) -> None:
    assert MODEL[selection] is not None
    with pytest.raises(SelectionError, match=says):
        array[selection]
    with pytest.raises(SelectionError, match=says):
        array[selection] = 0


@pytest.mark.parametrize("item", [1.0, "x", [0.5], np.ones(4, bool), object(), 1j])
def test_what_is_no_index_beside_slices(array: zarrdock.Array, item: Any) -> None:
    for selection in ((item, slice(None), slice(None)), (slice(None), item), (0, slice(None), item, 0)):
        with pytest.raises(SelectionError):
            array[selection]
        with pytest.raises(SelectionError):
            array[selection] = 0


def test_orthogonal(array: zarrdock.Array) -> None:
    mask = np.array([True, False, True, False])
    np.testing.assert_array_equal(array.oindex[[5, 0], 1:3, mask], MODEL[np.ix_([5, 0], [1, 2], [0, 2])])
    np.testing.assert_array_equal(array.oindex[[5, 0], 2], MODEL[[5, 0], 2])
    np.testing.assert_array_equal(array.oindex[MODEL > 50], MODEL[MODEL > 50])
    array.oindex[[5, 0], :, mask] = [[[1, 2]]]
    assert array[0, 0].tolist() == [1, 1, 2, 3]
    for wrong in ([[[1, 2]]], (0, 0, 0, 0), ([0], np.ones((5, 4), bool)), (0.5,)):
        with pytest.raises(SelectionError):
            array.oindex[wrong]


def test_vectorised(array: zarrdock.Array) -> None:
    np.testing.assert_array_equal(array.vindex[[0, -1], [1, 1], [2, 0]], MODEL[[0, -1], [1, 1], [2, 0]])
    np.testing.assert_array_equal(array.vindex[[[0], [1]], 1, [2, 0]], MODEL[[[0], [1]], 1, [2, 0]])
    assert array.vindex[1, 2, 3] == MODEL[1, 2, 3]
    for wrong in (
        [0, 1],
        ([0, 1], [0, 1]),
        ([0, 1], slice(None), 0),
        (..., 0),
        ([0, 1], [0, 1, 2], 0),
        ([9], [0], [0]),
    ):
        with pytest.raises(SelectionError):
            array.vindex[wrong]


def test_blocks_count_shards_and_keep_every_axis(array: zarrdock.Array) -> None:
    np.testing.assert_array_equal(array.blocks[1, 0], MODEL[4:6, 0:4])
    np.testing.assert_array_equal(array.blocks[-1, 1:, ...], MODEL[4:6, 4:5])
    plain = zarrdock.create_array(zarrdock.MemoryStore(), data=MODEL, chunks=(2, 2, 2))
    np.testing.assert_array_equal(plain.blocks[1, 0], MODEL[2:4, 0:2])
    plain.blocks[0, 0, 0] = 9
    assert (plain[:2, :2, :2] == 9).all()
    assert (plain[2:] == MODEL[2:]).all()
    for wrong in (2, (0, 0, 0, 0), slice(None, None, 2), [0, 1], "x"):
        with pytest.raises(SelectionError):
            array.blocks[wrong]


def test_results_are_copies(array: zarrdock.Array) -> None:
    for read in (array.__getitem__, array.read):
        found = read(slice(0, 2))
        found[...] = -1
        np.testing.assert_array_equal(array[...], MODEL)


def test_read_gives_arrays_and_brackets_scalars(array: zarrdock.Array) -> None:
    assert isinstance(array[1, 2, 3], np.int64)
    assert isinstance(array.read((1, 2, 3)), np.ndarray)
    assert isinstance(array[1, 2, 3, ...], np.ndarray)


def test_of_repeated_indices_the_last_one_counts(array: zarrdock.Array) -> None:
    array.vindex[[0, 5, 0], [0, 0, 0], [0, 0, 0]] = [1, 2, 3]
    assert array[0, 0, 0] == 3
    array.oindex[[1, 1], 0, 0] = [7, 8]
    assert array[1, 0, 0] == 8


def test_values(array: zarrdock.Array) -> None:
    array[0] = 2.9  # cast as numpy's assignment casts
    assert (array[0] == 2).all()
    array[0, 0] = np.array([[[5]]])
    assert array[0, 0].tolist() == [5] * 4
    narrow = zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype="u1")
    narrow[...] = np.array([256, 257])
    assert narrow[...].tolist() == [0, 1]
    with pytest.raises(SelectionError, match="uint8"):
        narrow[...] = 256


def test_values_without_a_meaning_are_refused(array: zarrdock.Array) -> None:
    raw = zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype="V3")
    raw[0] = b"abc"
    raw[1] = np.bytes_(b"xyz")
    assert raw[...].tolist() == [b"abc", b"xyz"]
    for target in (array, raw):
        for value in (np.zeros((), [("a", "u1"), ("b", "u1")]), [[1], [2, 3]], object()):
            with pytest.raises(SelectionError):
                target[...] = value
    for target, values in ((array, np.zeros((), "V3")), (raw, np.zeros((), "u1")), (array, np.array("x"))):
        with pytest.raises(SelectionError):
            target[...] = values


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_of_no_length(zarr_format: Any) -> None:
    """zarr-python writes them for axes of no length."""
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, shape=(0, 3), chunks=(1, 2), dtype="u1", zarr_format=zarr_format)
    key = "zarr.json" if zarr_format == 3 else ".zarray"
    document = json.loads(bytes(store.get(key).data))  # type: ignore[union-attr]
    if zarr_format == 3:
        document["chunk_grid"]["configuration"]["chunk_shape"] = [0, 2]
    else:
        document["chunks"] = [0, 2]
    store.write(key, json.dumps(document).encode())
    array = zarrdock.open_array(store, "r+")
    assert (array.nchunks, array.cdata_shape) == (0, (0, 2))
    for read in (
        lambda: array[...],
        lambda: array.read(out=np.empty((0, 3))),
        lambda: array.oindex[[], [0, 1, 2]],
        lambda: array.blocks[...],
    ):
        assert read().shape == (0, 3)
    assert array.vindex[[], []].shape == array[np.zeros((0, 3), bool)].shape == (0,)
    assert array.plan().n_requests == 0
    array[...] = 1
    array.resize((0, 1))
    array.resize((0, 5))
    assert array[...].shape == (0, 5)
    with pytest.raises(MetadataError, match="at least 1"):
        array.resize((5, 5))
    with pytest.raises(MetadataError, match="at least 1"):
        array.append(np.ones((2, 5)))
    assert zarrdock.open_array(store).shape == (0, 5)


def test_selections_of_nothing_ask_for_nothing() -> None:
    store = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(store, data=MODEL)
    store.reset()
    assert array[3:3].shape == (0, 5, 4)
    assert array[[]].shape == (0, 5, 4)
    assert array[np.zeros(MODEL.shape, bool)].shape == (0,)
    array[3:3] = 1
    assert (store.n_rounds, store.n_writes, store.n_updates) == (0, 0, 0)
