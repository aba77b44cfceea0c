"""Small chunks are decoded and put in place many at a time: the results are those of one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrdock
from support.stores import WithTraits
from zarrdock.array.execution.decode import blocks
from zarrdock.array.planning.selection import Axis
from zarrdock.array.planning.tasks import ProductLeaves
from zarrdock.errors import CodecError

COMPRESSORS: list[dict[str, Any]] = [
    {},
    {"compressors": []},
    {"compressors": [{"name": "gzip", "configuration": {"level": 1}}]},
    {"compressors": [{"name": "zstd", "configuration": {"level": 1, "checksum": True}}, {"name": "crc32c"}]},
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[slice, ...]]:
    ndim = draw(st.integers(1, 3))
    chunks = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    shards = tuple(c * draw(st.integers(1, 6)) for c in chunks)
    shape = tuple(draw(st.integers(1, 30)) for _ in range(ndim))
    selection = []
    for n in shape:
        a, b = sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        step = draw(st.sampled_from([1, 1, 1, 2, -1, 5]))
        selection.append(slice(a, b, step) if step > 0 else slice(b, None if a == 0 else a - 1, step))
    return shape, chunks, shards, tuple(selection)


@given(
    case=cases(),
    options=st.sampled_from(COMPRESSORS),
    order=st.sampled_from(["lexicographic", "morton", "hilbert"]),
    sparse=st.booleans(),
    dtype=st.sampled_from(["<u2", "bool", "S3", "<f8"]),
    gap=st.sampled_from([0, 2**20]),
)
def test_any_selection_of_small_chunks(
    case: Any, options: dict[str, Any], order: str, sparse: bool, dtype: str, gap: int
) -> None:
    shape, chunks, shards, selection = case
    rng = np.random.default_rng(1)
    data = rng.integers(1, 200, shape).astype(dtype)
    if sparse:
        data[rng.random(shape) < 0.97] = np.zeros((), dtype)
    store = WithTraits(zarrdock.MemoryStore(), merge_gap_bytes=gap)
    array = zarrdock.create_array(
        store,
        shape=shape,
        dtype=data.dtype,
        chunks=chunks,
        shards=shards,
        options={"subchunk_write_order": order},
        **options,
    )
    array[...] = data
    assert (array[...] == data).all()
    np.testing.assert_array_equal(array[selection], data[selection])
    out = np.full_like(data, 7 if dtype != "S3" else b"7")
    array.read(out=out)
    np.testing.assert_array_equal(out, data)


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(1, 20), st.sampled_from([1, 1, 2])),
        min_size=1,
        max_size=3,
    ),
    st.data(),
)
def test_blocks_say_what_leaves_say(axes: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    """Every leaf is in one block, with the very indices it has alone."""
    pieces = tuple(Axis(start, step, n).pieces(chunk) for chunk, start, n, step in axes)
    grid = tuple(40 for _ in axes)
    leaves = ProductLeaves(pieces, tuple((0, len(p.chunks)) for p in pieces), grid, True)
    n = len(leaves.flat)
    first = data.draw(st.integers(0, n - 1))
    numbers = np.arange(first, data.draw(st.integers(first + 1, n)))
    left_out = data.draw(st.sets(st.sampled_from(numbers.tolist()), max_size=2))
    numbers = np.array([i for i in numbers.tolist() if i not in left_out], np.int64)
    found = blocks(leaves, numbers)
    if found is None:
        return
    seen: dict[int, Any] = {}
    for block in found:
        mine = numbers[block.some].reshape(block.extents)[block.picks]
        lengths = [len(range(*s.indices(c))) for s, (c, *_) in zip(block.inner, axes, strict=True)]
        for at in np.ndindex(*mine.shape):
            outer = tuple(
                slice(o.start + i * length, o.start + (i + 1) * length)
                for o, i, length in zip(block.outer, at, lengths, strict=True)
            )
            assert int(mine[at]) not in seen
            seen[int(mine[at])] = (block.inner, outer)
    expected = dict(zip(numbers.tolist(), leaves.indices(numbers), strict=True))
    assert {k: _normal(v, axes) for k, v in seen.items()} == {k: _normal(v, axes) for k, v in expected.items()}


def _normal(index: Any, axes: list[tuple[int, int, int, int]]) -> Any:
    inner, outer = index
    return [list(range(*s.indices(c))) for s, (c, *_) in zip(inner, axes, strict=True)], [
        (s.start, s.stop) for s in outer
    ]


def test_a_damaged_chunk_among_many_is_named() -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=(64, 64), dtype="u1", chunks=(4, 4), shards=(64, 64))
    data = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    array[...] = data
    whole = bytearray(store.get("c/0/0").data)
    at = whole.index(b"\x28\xb5\x2f\xfd", 2000)  # some frame's magic number
    whole[at : at + 2] = b"XX"
    store.write("c/0/0", bytes(whole))
    with pytest.raises(CodecError, match="c/0/0") as caught:
        array[...]
    assert caught.value.chunk is not None
    i, j = caught.value.chunk
    # The chunks before it, and after it, are still read.
    np.testing.assert_array_equal(array[: 4 * i], data[: 4 * i])
    np.testing.assert_array_equal(array[4 * i : 4 * i + 4, : 4 * j], data[4 * i : 4 * i + 4, : 4 * j])
    np.testing.assert_array_equal(array[4 * i + 4 :], data[4 * i + 4 :])
