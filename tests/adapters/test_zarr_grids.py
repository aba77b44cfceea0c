"""zarr-python's arrays whose chunks differ in shape, read and written by zarrdock's codec pipeline."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

zarr = pytest.importorskip("zarr")

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import CodecPipeline, ZarrStore  # noqa: E402
from zarrdock.adapters.zarr_selection import selection_of  # noqa: E402
from zarrdock.array.metadata.chunk_grids import RectilinearGrid  # noqa: E402
from zarrdock.array.planning.overlap import Division  # noqa: E402
from zarrdock.array.planning.selection import Points  # noqa: E402

pytestmark = pytest.mark.peer

AXES: list[Any] = [[4, 12, 8], [8, 16]]
LAYOUTS: list[dict[str, Any]] = [
    {"chunks": AXES},
    {"chunks": [[4, 12, 8], 5]},
    {"chunks": (2, 2), "shards": {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": AXES}}},
]
SHAPE = (20, 24)
some_axis = st.integers(1, 9) | st.lists(st.integers(1, 6), min_size=1, max_size=5)


def grid_of(data: st.DataObject) -> Division:
    axes = [data.draw(some_axis) for _ in range(2)]
    shape = tuple(data.draw(st.integers(1, 13 if isinstance(axis, int) else sum(axis))) for axis in axes)
    return Division.of(RectilinearGrid.of(axes), shape)


def positions_of(selection: Any) -> list[list[int]]:
    return [
        (axis.start + axis.step * np.arange(axis.n) if axis.indices is None else axis.indices).tolist()
        for axis in selection.axes
    ]


@given(st.data())
def test_slices_are_found_again(data: st.DataObject) -> None:
    """The list of chunks as zarr-python makes it of slices and integers."""
    grid = grid_of(data)
    wanted: list[Any] = []
    for length in grid.shape:
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        wanted.append(data.draw(st.sampled_from([start, slice(start, stop, data.draw(st.integers(1, 4)))])))
    parts = []  # an axis: chunk, selection within it, within the result
    for axis, item in enumerate(wanted):
        positions = np.arange(grid.shape[axis])[item].reshape(-1)
        own = []
        for number in range(grid.grid[axis]):
            origin, length = grid.extent(axis, number)
            inside = np.flatnonzero((positions >= origin) & (positions < origin + length))
            if inside.size:
                first = int(positions[inside[0]]) - origin
                last = min(origin + length, item.stop) - origin if isinstance(item, slice) else 0
                inner: Any = slice(first, last, item.step) if isinstance(item, slice) else first
                own.append((number, inner, slice(int(inside[0]), int(inside[-1]) + 1)))
        parts.append(own)
    chunks = list(product(*parts))
    kept = [axis for axis, item in enumerate(wanted) if isinstance(item, slice)]
    batch = [(None, None, tuple(p[1] for p in c), tuple(c[axis][2] for axis in kept), False) for c in chunks]
    selection, end = selection_of(batch, lambda i: tuple(p[0] for p in chunks[i]), grid, ())
    assert selection.shape == np.empty(grid.shape)[tuple(wanted)].shape
    expected = [np.arange(n)[item].reshape(-1).tolist() for n, item in zip(grid.shape, wanted, strict=True)]
    assert positions_of(selection) == expected
    assert end == tuple(positions[-1] + 1 for positions in expected)


@given(st.data())
def test_points_are_found_again(data: st.DataObject) -> None:
    grid = grid_of(data)
    points = np.array([[data.draw(st.integers(0, n - 1)) for n in grid.shape] for _ in range(5)], np.int64)
    owners = grid.owners(points)
    batch, coords = [], []
    for owner in np.unique(owners, axis=0):
        places = np.flatnonzero((owners == owner).all(axis=1))
        local = points[places] - grid.starts(owner[np.newaxis])
        batch.append((None, None, tuple(local.T), places, False))
        coords.append(tuple(owner.tolist()))
    selection, _ = selection_of(batch, coords.__getitem__, grid, ())
    assert isinstance(selection, Points)
    assert selection.shape == (5,)
    np.testing.assert_array_equal(selection.coords, points)


@pytest.mark.skipif(
    zarr.config.get("array.rectilinear_chunks", None) is None, reason="this zarr-python has only regular grids"
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays(layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    handed_back: list[bool] = []
    wanted = CodecPipeline._wanted

    def watched(self: CodecPipeline, *arguments: Any) -> Any:
        found = wanted(self, *arguments)
        handed_back.append(found is None)
        return found

    monkeypatch.setattr(CodecPipeline, "_wanted", watched)
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, shape=SHAPE, dtype="u2", **layout)
    settings = {
        "array.rectilinear_chunks": True,
        "codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline",
    }
    model = np.random.default_rng(0).integers(0, 60000, SHAPE).astype("u2")
    with zarr.config.set(settings):
        array = zarr.open_array(ZarrStore(store), mode="r+")
        array[...] = model
        for selection in (np.s_[3:17:3, 5:20], np.s_[2, 3], np.s_[:, 7], np.s_[4:16, 8:], np.s_[::11, ::9]):
            model[selection] += 1
            array[selection] = model[selection]
            np.testing.assert_array_equal(array[selection], model[selection])
        rows, columns = [1, 5, 19], [0, 9, 23]
        array.oindex[rows, columns] = model[np.ix_(rows, columns)] = 11
        array.vindex[rows, columns] = model[rows, columns] = 12
        np.testing.assert_array_equal(array.oindex[rows, columns], model[np.ix_(rows, columns)])
        np.testing.assert_array_equal(array.vindex[rows, columns], model[rows, columns])
        mask = model > 30000
        np.testing.assert_array_equal(array.get_mask_selection(mask), model[mask])
        np.testing.assert_array_equal(zarrdock.open_array(store)[...], model)
        assert not any(handed_back)
        # Chunks that came since are zarr-python's to read and write.
        for shape in ((30, 24), (16, 24), (34, 40)):
            array.resize(shape)
            old, model = model, np.zeros(shape, "u2")
            both = tuple(slice(0, min(pair)) for pair in zip(shape, old.shape, strict=True))
            model[both] = old[both]
            np.testing.assert_array_equal(array[...], model)
            array[-3:, -3:] = model[-3:, -3:] = 5
            np.testing.assert_array_equal(zarrdock.open_array(store)[...], model)
