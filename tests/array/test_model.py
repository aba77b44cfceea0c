"""Arrays of every kind against a numpy array that is told the same things: reads, writes and selections at random."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, note, settings

import zarrdock
from support.stores import remote as far
from zarrdock.errors import SelectionError

DTYPES = ["bool", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16"]
COMPRESSORS: list[Any] = [None, "auto", "gzip", [{"name": "blosc"}], ["crc32c"], ["zstd", "crc32c"]]
COMPRESSORS_V2: list[Any] = [None, "auto", {"id": "zlib", "level": 1}]


@dataclass(frozen=True)
class Kind:
    """What an array is made of."""

    shape: tuple[int, ...]
    dtype: str
    arguments: dict[str, Any]

    def create(self) -> tuple[zarrdock.Array, np.ndarray]:
        array = zarrdock.create_array(zarrdock.MemoryStore(), shape=self.shape, dtype=self.dtype, **self.arguments)
        fill = self.arguments["fill_value"]
        return array, np.full(self.shape, 0 if fill is None else fill, self.dtype)


def fills(dtype: str) -> st.SearchStrategy[Any]:
    return st.none() | hnp.from_dtype(np.dtype(dtype).newbyteorder("="), allow_nan=False).map(lambda x: x.item())


@st.composite
def kinds(draw: st.DrawFn, min_ndim: int = 0) -> Kind:
    ndim = draw(st.integers(min_ndim, 4))
    longest = [0, 40, 14, 8, 5][ndim]
    shape = tuple(draw(st.lists(st.integers(0, longest), min_size=ndim, max_size=ndim)))
    chunks = tuple(draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
    zarr_format = draw(st.sampled_from([3, 3, 3, 2]))
    dtype = draw(st.sampled_from(DTYPES))
    if zarr_format == 2 and np.dtype(dtype).itemsize > 1:
        dtype = draw(st.sampled_from("<>")) + dtype
    arguments: dict[str, Any] = {
        "chunks": chunks,
        "zarr_format": zarr_format,
        "order": draw(st.sampled_from("CF")),
        "fill_value": draw(fills(dtype)),
        "compressors": draw(st.sampled_from(COMPRESSORS if zarr_format == 3 else COMPRESSORS_V2)),
        "options": {"write_empty_chunks": draw(st.booleans())},
    }
    if zarr_format == 3:
        levels = []
        for _ in range(draw(st.integers(0, 3))):
            ratios = draw(st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim))
            chunks = tuple(c * r for c, r in zip(chunks, ratios, strict=True))
            levels.insert(0, chunks)
        if levels and (ndim or len(levels) == 1):
            shapes = levels if len(levels) > 1 else levels[0]
            arguments["shards"] = {"shape": shapes, "index_location": draw(st.sampled_from(["start", "end"]))}
            arguments["options"]["subchunk_write_order"] = draw(
                st.sampled_from(["lexicographic", "colexicographic", "morton", "hilbert", "unordered"])
            )
        if draw(st.booleans()):
            arguments["filters"] = [
                {"name": "transpose", "configuration": {"order": list(draw(st.permutations(range(ndim))))}}
            ]
    return Kind(shape, dtype, arguments)


# -- selections: (how, what to ask of us, what to ask of numpy) --------------------------------------------------------


def slices(n: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-n - 2, n + 2)
    return st.builds(slice, bound, bound, st.none() | st.integers(-n - 2, n + 2).filter(bool))


def indices(n: int, shape: Any = None) -> st.SearchStrategy[np.ndarray]:
    if n == 0:
        return st.just(np.empty((0, *shape[1:]) if shape else 0, np.int64))
    kind = st.sampled_from(["i8", "i2", "u1", "u8"])
    shapes = st.tuples(st.integers(0, 7)) if shape is None else st.just(shape)
    anywhere = kind.flatmap(lambda k: hnp.arrays(k, shapes, elements=st.integers(0 if k[0] == "u" else -n, n - 1)))
    if shape is not None:
        return anywhere
    run = st.tuples(st.integers(0, n - 1), st.integers(1, n)).map(lambda r: np.arange(r[0], min(n, sum(r))))
    return anywhere | st.lists(run, min_size=1, max_size=4).map(np.concatenate)


def masks(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Masks of any elements, or of a few runs in C order."""
    size = prod(shape)
    edges = st.lists(st.integers(0, size), max_size=6).map(sorted)
    in_runs = edges.map(lambda at: (np.searchsorted(at, np.arange(size), "right") % 2 == 1).reshape(shape))
    return hnp.arrays(bool, shape) | in_runs


@st.composite
def basic_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    items: list[Any] = [
        draw(st.integers(-n, n - 1) | slices(n) if n else slices(n)) for n in shape[: draw(st.integers(0, len(shape)))]
    ]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(items)))
        kept = draw(st.integers(0, len(items) - at))
        rest = items[at + kept :] if len(items) == len(shape) else []
        items = [*items[:at], ..., *rest]
    if len(items) == 1 and draw(st.booleans()):
        return items[0]
    return tuple(items)


@st.composite
def mixed_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Integers, slices and one array of any shape in one pair of brackets."""
    at = draw(st.integers(0, len(shape) - 1))
    items: list[Any] = [draw(st.integers(-n, n - 1) | slices(n) if n else slices(n)) for n in shape]
    if draw(st.booleans()):
        items[at] = draw(masks((shape[at],)))
    else:
        items[at] = draw(indices(shape[at], draw(hnp.array_shapes(min_dims=1, max_dims=2, max_side=3))))
    return tuple(items)


@st.composite
def orthogonal_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, Any]:
    items: list[Any] = []
    meshed: list[Any] = []
    dropped = []
    for i, n in enumerate(shape):
        options = [slices(n), indices(n), masks((n,)), indices(n).map(lambda a: a.tolist())]
        if n:
            options.append(st.integers(-n, n - 1))
        item = draw(st.one_of(options))
        items.append(item)
        if isinstance(item, int):
            dropped.append(i)
            meshed.append(np.array([item]))
        elif isinstance(item, slice):
            meshed.append(np.arange(n)[item])
        else:
            array = np.asarray(item)
            meshed.append(np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64))
    if not shape:
        return (), ()
    return tuple(items), (np.ix_(*meshed), tuple(dropped))


@st.composite
def point_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    if draw(st.booleans()) or not shape:
        return (draw(masks(shape)),)
    n_dims = draw(st.integers(0, 2))
    to = tuple(draw(st.lists(st.integers(0, 4), min_size=n_dims, max_size=n_dims)))
    if 0 in shape:
        to = (0,)
    pieces = []
    for n in shape:
        mine = tuple(draw(st.sampled_from([m, 1])) if m else m for m in to)
        pieces.append(draw(indices(n, mine[draw(st.integers(0, len(mine))) if 0 not in to else 0 :])))
    return tuple(pieces)


@dataclass(frozen=True)
class Selection:
    how: str
    ours: Any
    numpys: Any

    def read(self, array: zarrdock.Array) -> Any:
        return array[self.ours] if self.how == "basic" else getattr(array, self.how)[self.ours]

    def expected(self, model: np.ndarray) -> np.ndarray:
        if self.how == "oindex" and model.ndim:
            mesh, dropped = self.numpys
            return model[mesh].squeeze(axis=dropped)
        return model[self.numpys]

    def write(self, array: zarrdock.Array, model: np.ndarray, value: Any) -> None:
        if self.how == "basic":
            array[self.ours] = value
        else:
            getattr(array, self.how)[self.ours] = value
        if self.how == "oindex" and model.ndim:
            mesh, dropped = self.numpys
            full = np.asarray(value)
            shape = self.expected(model).shape
            full = np.broadcast_to(full, shape)
            model[mesh] = np.expand_dims(full, dropped)
        else:
            model[self.numpys] = value


@st.composite
def selections(draw: st.DrawFn, array: zarrdock.Array) -> Selection:
    shape = array.shape
    hows = ["basic", "basic", "oindex", "vindex", "blocks"] + (["mixed"] if shape else [])
    match draw(st.sampled_from(hows)):
        case "basic":
            what = draw(basic_selections(shape))
            return Selection("basic", what, what)
        case "mixed":
            what = draw(mixed_selections(shape))
            return Selection("basic", what, what)
        case "oindex":
            return Selection("oindex", *draw(orthogonal_selections(shape)))
        case "vindex":
            what = draw(point_selections(shape))
            ours = what if len(what) > 1 or what[0].dtype != bool else what[0]
            return Selection(draw(st.sampled_from(["vindex", "basic"])), ours, what)
        case _:
            unit = array.shards or array.chunks
            grid = [-(-n // c) for n, c in zip(shape, unit, strict=True)]
            items = [draw(st.integers(0, n - 1) | st.just(slice(None)) if n else st.just(slice(None))) for n in grid]
            numpys = tuple(
                slice(i * c, (i + 1) * c) if isinstance(i, int) else i for i, c in zip(items, unit, strict=True)
            )
            return Selection("blocks", tuple(items), numpys)


def values(draw: st.DrawFn, shape: tuple[int, ...], dtype: str, fill: Any = None) -> Any:
    """A scalar, or an array that broadcasts to ``shape``; some of the fill value, for chunks that vanish."""
    native = np.dtype(dtype).newbyteorder("=")
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    highest = 2 if native.kind == "b" else 100
    match draw(st.sampled_from(["scalar", "broadcast", "full", "full", "other", "fill"])):
        case "scalar":
            return native.type(rng.integers(0, highest))
        case "fill":
            return native.type(0 if fill is None else fill)
        case "broadcast":
            shape = tuple(n if rng.random() < 0.5 else 1 for n in shape)[rng.integers(0, len(shape) + 1) :]
        case "other":  # another dtype, another memory layout
            return np.array(rng.integers(0, highest, shape), "u1", order="F")
    return np.array(rng.integers(0, highest, shape), native)


def same(found: Any, expected: Any, dtype: Any = None) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if found.ndim or dtype is not None:  # numpy's scalars are of native byte order
        assert found.dtype == (expected.dtype if dtype is None else dtype)
    np.testing.assert_array_equal(found, expected)


def written(data: st.DataObject, kind: Kind, n_writes: int = 3) -> tuple[zarrdock.Array, np.ndarray]:
    """An array some parts of which were written, and its model."""
    array, model = kind.create()
    for _ in range(data.draw(st.integers(0, n_writes), label="writes")):
        selection = data.draw(selections(array), label="written")
        value = values(data.draw, selection.expected(model).shape, kind.dtype, kind.arguments["fill_value"])
        note(f"value {value!r}")
        selection.write(array, model, value)
    return array, model


@given(kinds(), st.data())
def test_reads_and_writes_are_numpys(kind: Kind, data: st.DataObject) -> None:
    array, model = written(data, kind)
    for _ in range(2):
        selection = data.draw(selections(array), label="read")
        same(selection.read(array), selection.expected(model))
    same(array.read(), model)
    again = zarrdock.open_array(array.store)
    same(again[...], model)
    if kind.arguments["zarr_format"] == 3:  # v2 metadata remembers the form it was read in
        assert again.metadata == array.metadata


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in many rounds and many jobs, with three threads: what only large reads do otherwise."""
    for name, value in {
        "threads": 3,
        "inline_bytes": 0,
        "job_bytes": 32,
        "round_bytes": 200,
        "remote_round_bytes": 500,
        "whole_fraction": 0.7,
        "write_bytes": 500,
        "index_cache_bytes": 1000,
    }.items():
        monkeypatch.setattr(zarrdock.config, name, value)


@pytest.mark.usefixtures("small_windows")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kinds(), st.booleans(), st.data())
def test_reads_in_many_rounds_and_threads(kind: Kind, remote: bool, data: st.DataObject) -> None:
    array, model = written(data, kind)
    store = far(array.store, merge_gap_bytes=20, max_request_bytes=300) if remote else array.store
    array = zarrdock.open_array(store, "r+")
    for _ in range(2):
        selection = data.draw(selections(array), label="read")
        same(selection.read(array), selection.expected(model))
    selection = data.draw(selections(array), label="written")
    value = values(data.draw, selection.expected(model).shape, kind.dtype, kind.arguments["fill_value"])
    selection.write(array, model, value)
    same(array.read(), model)
    out = np.ones(model.shape, model.dtype)
    same(array.read(out=out), model)


@given(kinds(), st.data())
def test_scalars_are_scalars_and_arrays_arrays(kind: Kind, data: st.DataObject) -> None:
    array, model = written(data, kind, 1)
    what = data.draw(basic_selections(kind.shape))
    assert type(array[what]) is type(model[what])


@st.composite
def outs(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Arrays to read into: of the dtype or a wider one, contiguous or not, filled with something else before."""
    wider = {"b": "i2", "i": "i8", "u": "f8", "f": "f8", "c": "c16"}[dtype.kind]
    of = np.dtype(draw(st.sampled_from([dtype, np.dtype(wider)])))
    match draw(st.sampled_from(["C", "F", "strided", "reversed", "part"])):
        case "strided":
            out = np.empty(tuple(2 * n for n in shape), of)[(slice(None, None, 2),) * len(shape) + (...,)]
        case "reversed":
            out = np.empty(shape, of)[(slice(None, None, -1),) * len(shape) + (...,)]
        case "part":
            out = np.empty(tuple(n + 2 for n in shape), of)[(slice(1, -1),) * len(shape) + (...,)]
        case order:
            out = np.empty(shape, of, order=order)  # type: ignore[call-overload]
    out[...] = 1
    return out


@given(kinds(), st.data())
def test_reading_into_an_array(kind: Kind, data: st.DataObject) -> None:
    array, model = written(data, kind, 2)
    what = data.draw((mixed_selections if kind.shape and data.draw(st.booleans()) else basic_selections)(kind.shape))
    expected = model[what]
    out = data.draw(outs(np.shape(expected), model.dtype))
    assert array.read(what, out) is out
    same(out, expected, out.dtype)


@st.composite
def wrong_selections(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    items: list[Any] = [slice(None)] * len(shape)
    at = draw(st.integers(0, len(shape) - 1))
    n = shape[at]
    wrong = [
        st.integers(n, n + 5),
        st.integers(-n - 6, -n - 1),
        st.just(np.array([0, n])),
        st.just(np.array([-n - 1])),
        st.just(np.zeros(n + 1, bool)),
        st.just(np.array([2**63], np.uint64)),
        st.just(1.0),
        st.just("a"),
        st.just(np.array([0.5])),
        st.just(slice(None, None, 0)),
        st.just(slice(0.5, None)),
        st.just([[0], [0, 0]]),
        st.just(10**30),
    ]
    items[at] = draw(st.one_of(wrong))
    extra = draw(st.integers(0, 5))
    if extra == 0:
        return (*[slice(None)] * len(shape), 0)
    if extra == 1:
        return (..., ...)
    return tuple(items)


@given(kinds(min_ndim=1), st.data())
def test_what_numpy_refuses_is_a_selection_error(kind: Kind, data: st.DataObject) -> None:
    array, model = kind.create()
    what = data.draw(wrong_selections(kind.shape))
    # A warning: numpy before 2.4, of arrays without elements.
    with pytest.raises((IndexError, TypeError, ValueError, DeprecationWarning)):
        model[what]
    for read in (array.__getitem__, array.oindex.__getitem__, array.read, array.plan):
        with pytest.raises(SelectionError):
            read(what)
    with pytest.raises(SelectionError):
        array[what] = 0
    same(array[...], model)


@given(kinds(min_ndim=1), st.data())
@example(Kind((3,), "u2", {"fill_value": None, "chunks": (2,)}), None)
def test_values_that_do_not_broadcast_are_refused(kind: Kind, data: st.DataObject | None) -> None:
    array, model = kind.create()
    for value in (np.zeros((*kind.shape, 7)), np.zeros(tuple(n + 2 for n in kind.shape))):
        with pytest.raises(ValueError, match="broadcast"):
            model[...] = value
        with pytest.raises(SelectionError, match="does not fit"):
            array[...] = value
    assert prod(kind.shape) == array.size


@pytest.mark.parametrize("value", [300, -1, [1, 300], 10**30, float("nan"), "x", object()])
def test_python_numbers_that_do_not_fit_the_dtype_are_refused_as_by_numpy(value: Any) -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=2, dtype="u1")
    with pytest.raises((OverflowError, ValueError, TypeError)):
        np.zeros(2, "u1")[...] = value
    with pytest.raises(SelectionError):
        array[...] = value


@pytest.mark.parametrize(
    "out, message",
    [
        (np.empty(3), "shape"),
        (np.empty((2, 3), "i4"), "does not go into"),
        (np.broadcast_to(np.zeros(3), (2, 3)), "read-only"),
        ([[0.0] * 3] * 2, "list"),
    ],
)
def test_out_that_does_not_fit_is_refused(out: Any, message: str) -> None:
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(2, 3), dtype="f8")
    with pytest.raises(SelectionError, match=message):
        array.read(out=out)
