"""Arrays of every data type: written, changed in part, read, sharded and not, in both formats, beside a numpy array."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

import zarrdock
from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.checking import check
from zarrdock.errors import CodecError, MetadataError, SelectionError, UnsupportedError

POINT = np.dtype([("x", "f4"), ("p", [("n", "i1"), ("t", "M8[s]")]), ("s", "S3")])
SUBARRAYS = np.dtype([("v", "<i2", (2, 2)), ("x", ">f8"), ("u", ">U2")])
SMALL = ["bfloat16", "int4", "uint2", "float8_e4m3fn", "float6_e3m2fn", "float4_e2m1fn", "float8_e8m0fnu"]
V3: list[Any] = [
    *("U5", "S7", "M8[ns]", "m8[10s]", "M8", "m8", POINT, *SMALL),
    *("complex_float16", "complex_bfloat16", "complex_float8_e5m2", "complex_float64", "r24"),
]
V2: list[Any] = ["<U5", ">U5", "S7", ">M8[ns]", "<m8[10s]", ">M8", "<M8", ">m8", SUBARRAYS, "bfloat16", "int4"]


def random_values(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Elements of any bits that mean something."""
    random = np.random.default_rng(seed)
    if dtype.kind in "US":
        letters = np.array(list("aböß測🦓")) if dtype.kind == "U" else np.array(list("abcd"))
        n = dtype.itemsize // (4 if dtype.kind == "U" else 1)
        words = ["".join(random.choice(letters, random.integers(0, n + 1))) for _ in range(int(np.prod(shape)))]
        return np.array(words, dtype.newbyteorder("=")).astype(dtype).reshape(shape)
    if dtype.names is not None:
        array = np.zeros(shape, dtype)
        for i, name in enumerate(dtype.names):
            base, extra = dtype[name].subdtype or (dtype[name], ())
            array[name] = random_values(base, (*shape, *extra), seed + i)
        return array
    raw = random.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    if dtype.kind == "b":
        raw &= 1
    if dtype.kind == "V" and dtype.type is not np.void:
        bits = (ml_dtypes.iinfo if "int" in dtype.name else ml_dtypes.finfo)(dtype).bits  # type: ignore[no-untyped-call]
        raw &= 255 >> max(0, 8 - bits)
    return raw.view(dtype).reshape(shape)


def same(found: Any, expected: Any) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()


def fill_of(array: zarrdock.Array) -> np.ndarray:
    return np.full(array.shape, array.fill_value, array.dtype)


@pytest.mark.parametrize("shards", [None, (4, 6), [(8, 6), (4, 6)]], ids=["plain", "sharded", "nested"])
@pytest.mark.parametrize("dtype", V3, ids=str)
def test_arrays_of_v3(dtype: Any, shards: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=(9, 7), dtype=dtype, chunks=(2, 3), shards=shards)
    model = fill_of(array)
    same(array[...], model)
    for number, where in enumerate([np.s_[...], np.s_[1:5, 2:4], np.s_[8, ::2], np.s_[3, 3]]):
        value = random_values(array.dtype, model[where].shape, number)
        array[where] = value
        model[where] = value
        same(array[...], model)
    again = zarrdock.open_array(store)
    assert again.metadata.data_type == array.metadata.data_type
    same(again[2:, ::-2], model[2:, ::-2])
    same(again[3, 3], model[3, 3])
    same(again.vindex[[1, 8], [0, 6]], model[[1, 8], [0, 6]])
    out = np.empty((9, 7), array.dtype)
    again.read(out=out)
    same(out, model)
    assert check(store).is_good
    zarrdock.copy(store, target := zarrdock.MemoryStore(), chunks=(3, 3), shards=None)
    same(zarrdock.open_array(target)[...], model)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", V2, ids=str)
def test_arrays_of_v2(dtype: Any, order: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=(9, 7), dtype=dtype, chunks=(2, 3), zarr_format=2, order=order)
    assert array.dtype == data_type_of(dtype, zarr_format=2).numpy
    model = fill_of(array)
    for number, where in enumerate([np.s_[...], np.s_[1:5, 2:4], np.s_[3, 3]]):
        value = random_values(array.dtype, model[where].shape, number)
        array[where] = value
        model[where] = value
    again = zarrdock.open_array(store)
    assert again.metadata.data_type == array.metadata.data_type
    same(again[...], model)
    same(again[3, 3], model[3, 3])
    assert check(store).is_good


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", ["U5", "M8[ns]", "M8", "m8", POINT, "bfloat16", "complex_bfloat16"], ids=str)
def test_byte_orders(dtype: Any, endian: str) -> None:
    store = zarrdock.MemoryStore()
    serializer = {"name": "bytes", "configuration": {"endian": endian}}
    array = zarrdock.create_array(store, shape=4, dtype=dtype, chunks=4, serializer=serializer, compressors=None)
    array[...] = model = random_values(array.dtype, (4,), 1)
    same(array[...], model)
    stored = bytes(store.get("c/0").data)  # type: ignore[union-attr]
    if model.dtype.kind in "mM":
        model = model.view("i8")  # numpy would not swap the bytes of times without a unit
    assert stored == model.astype(model.dtype.newbyteorder("<" if endian == "little" else ">")).tobytes()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["M8", "m8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_times_without_a_unit_keep_their_counts_in_any_byte_order(zarr_format: Any, kind: str, order: str) -> None:
    counts = np.array([0, 1, -2, 100, 2**62], f"{order}i8")
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, data=counts.view(order + kind), chunks=2, zarr_format=zarr_format)
    assert array[...].view("i8").tolist() == counts.tolist()
    array[1:4] = counts.view(order + kind)[::-1][1:4]
    array.append(counts.view(order + kind)[:1])
    assert array[...].view("i8").tolist() == [0, 100, -2, 1, 2**62, 0]
    again = zarrdock.open_array(store)
    assert again[...].view("i8").tolist() == [0, 100, -2, 1, 2**62, 0]
    out = np.zeros(6, f"{order}i8").view(order + kind)
    assert again.read(out=out).view(f"{order}i8").tolist() == [0, 100, -2, 1, 2**62, 0]
    if zarr_format == 2:
        assert json.loads(bytes(store.get(".zarray").data))["dtype"] == order + kind  # type: ignore[union-attr]
    copied = zarrdock.copy(store, zarrdock.MemoryStore(), zarr_format=5 - zarr_format)
    assert copied[...].view("i8").tolist() == [0, 100, -2, 1, 2**62, 0]


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("U5", "fill"),
        ("S7", b"fill"),
        ("M8[ns]", np.datetime64(7, "ns")),
        (POINT, (1.5, (3, np.datetime64(4, "s")), b"abc")),
        ("bfloat16", 1.5),
        ("int4", -3),
        ("float8_e4m3fn", "NaN"),
        ("complex_float16", 1 + 2j),
        ("complex_float6_e2m3fn", [1, -0.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("shards", [None, 4])
def test_chunks_of_fill_value_are_not_stored(dtype: Any, fill: Any, shards: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=8, dtype=dtype, chunks=2, shards=shards, fill_value=fill)
    full = fill_of(array)
    array[...] = full
    assert [entry.key for entry in store.list()] == ["zarr.json"]
    array[5] = np.zeros((), array.dtype)
    full[5] = np.zeros((), array.dtype)
    same(zarrdock.open_array(store)[...], full)
    assert len(list(store.list())) == 2
    array[5] = array.fill_value
    assert [entry.key for entry in store.list()] == ["zarr.json"]


@pytest.mark.parametrize(
    ("dtype", "stored", "bits"),
    [("int4", b"\xf8\x07\x48", b"\x08\x07\x08"), ("complex_float6_e2m3fn", b"\xc1\x3f", b"\x01\x3f")],
)
def test_bits_that_do_not_count(dtype: str, stored: bytes, bits: bytes) -> None:
    store = zarrdock.MemoryStore()
    n = len(stored) // data_type_of(dtype).numpy.itemsize
    array = zarrdock.create_array(store, shape=n, dtype=dtype, chunks=n, compressors=None)
    store.write("c/0", stored)
    assert array[...].tobytes() == bits
    if dtype == "int4":
        assert array[...].astype(int).tolist() == [-8, 7, -8]


def test_what_is_no_character_is_refused() -> None:
    store = zarrdock.MemoryStore()
    text = zarrdock.create_array(store, shape=1, dtype="U1", chunks=1, compressors=None)
    store.write("c/0", b"\x00\x00\x11\x00")
    with pytest.raises(CodecError, match="0x110000"):
        text[...]
    store = zarrdock.MemoryStore()  # chunks that are decoded together: the error says which it is
    text = zarrdock.create_array(store, data=np.full(64, "a"), chunks=1, shards=64, compressors=None)
    found = store.get("c/0")
    assert found is not None
    shard = bytearray(found.data)
    shard[4 * 40 : 4 * 41] = b"\x00\x00\x11\x00"
    store.write("c/0", shard)
    with pytest.raises(CodecError, match=r"'c/0', chunk \(40,\): 0x110000"):
        text[...]


def test_structures_without_a_byte_order_are_little_endian() -> None:
    store = zarrdock.MemoryStore()
    zarrdock.create_array(store, shape=1, dtype=[("a", "u2")], chunks=1, compressors=None)
    document = bytes(store.get("zarr.json").data)  # type: ignore[union-attr]
    assert b'"endian": "little"' in document
    start = document.index(b'{\n      "name": "bytes"')
    store.write("zarr.json", document[:start] + b'"bytes"\n  ],\n' + document[document.index(b'"attributes"') :])
    store.write("c/0", b"\x01\x02")
    assert zarrdock.open_array(store)[0]["a"] == 0x201


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("U3", "four"),
        ("U3", ["a", "four"]),
        ("U3", np.array(["a", "four"])),
        ("U3", 5),
        ("U3", None),
        ("S3", b"four"),
        ("S3", "ä"),
        ("M8[s]", 1.5),
        ("M8[s]", "no time"),
        ("M8[ns]", np.array(["9999-01-01", "NaT"], "M8[D]")),
        (">M8[ns]", np.array("9999", "M8[Y]")),
        ("m8[ns]", np.array([1, 2**40], "m8[D]")),
        ("m8[ns]", np.array([1, 2], "m8[M]")),
        ("i4", "x"),
        ("f4", np.zeros(2, POINT)),
        (POINT, 1.5),
        ("r24", np.zeros(2, "i4")),
        ("r16", np.zeros(2, "bfloat16")),
        ("int4", "x"),
    ],
    ids=str,
)
def test_values_that_do_not_fit(dtype: Any, value: Any) -> None:
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=2, dtype=dtype, chunks=2)
    with pytest.raises(SelectionError):
        array[...] = value
    assert len(list(store.list())) == 1


def test_values_of_other_kinds() -> None:
    store = zarrdock.MemoryStore()

    def written(dtype: Any, value: Any) -> Any:
        array = zarrdock.create_array(store, shape=2, dtype=dtype, chunks=2, overwrite=True)
        array[...] = value
        return array[...].tolist()

    assert written("U3", np.array(["a", "b"], np.dtypes.StringDType())) == ["a", "b"]
    assert written("U3", np.array(["abc", "x"], "U50")) == ["abc", "x"]
    assert written("U3", np.array(["abc", "x"], object)) == ["abc", "x"]
    assert written("U3", b"abc") == ["abc", "abc"]
    assert written("S3", ["abc", "x"]) == [b"abc", b"x"]
    assert written("M8[s]", ["2026-11-22", "NaT"]) == np.array(["2026-11-22", "NaT"], "M8[s]").tolist()
    assert written("M8[s]", np.array([1, 2])) == np.array([1, 2], "M8[s]").tolist()
    assert written("bfloat16", [1.5, 2]) == [1.5, 2]
    assert written("f4", np.array([1.5, 2], "bfloat16")) == [1.5, 2]
    assert written("i4", ["1", "2"]) == [1, 2]
    assert written([("a", "i4"), ("b", "f8")], [(1, 2.5), (3, 4.5)]) == [(1, 2.5), (3, 4.5)]


@pytest.mark.parametrize("dtype", ["i4", "u1", "bool"])
def test_missing_values_of_pandas_are_refused_where_numpy_refuses_them(dtype: str) -> None:
    pd = pytest.importorskip("pandas")
    array = zarrdock.create_array({}, shape=3, dtype=dtype, chunks=2)
    kind = "boolean" if dtype == "bool" else "Int64"
    for value in (pd.array([1, None, 0], dtype=kind), pd.Series([1, None, 0], dtype=kind)):
        with pytest.raises((TypeError, ValueError)):
            np.zeros(3, dtype)[:] = value
        with pytest.raises(SelectionError):
            array[...] = value
    array[...] = pd.array([1, 1, 0], dtype=kind)
    assert array[...].tolist() == [1, 1, 0]
    floats = zarrdock.create_array({}, shape=3, dtype="f8", chunks=2)
    floats[...] = pd.Series([1.5, None, 3], dtype="Float64")
    assert np.array_equal(floats[...], [1.5, np.nan, 3], equal_nan=True)
    texts = zarrdock.create_array({}, shape=2, dtype=str, chunks=2)
    texts[...] = pd.array(["a", "b"], dtype="string")
    assert texts[...].tolist() == ["a", "b"]
    with pytest.raises(SelectionError):
        texts[...] = pd.array(["a", None], dtype="string")


@pytest.mark.parametrize("shards", [None, ()])
def test_an_array_without_dimensions_is_a_number(shards: Any) -> None:
    number = zarrdock.create_array({}, data=np.float64(4.5), shards=shards)
    assert (float(number), int(number), complex(number), bool(number)) == (4.5, 4, 4.5 + 0j, True)
    with pytest.raises(TypeError):
        range(number)  # type: ignore[call-overload]
    count = zarrdock.create_array({}, data=np.int8(3), shards=shards)
    assert list(range(count)) == [0, 1, 2]  # type: ignore[call-overload]
    assert not zarrdock.create_array({}, shape=(), dtype="i4", shards=shards)
    one = zarrdock.create_array({}, data=np.ones(1))
    for make in (float, int, complex):
        with pytest.raises(TypeError, match=r"shape \(1,\)"):
            make(one)
    assert one
    assert not zarrdock.create_array({}, shape=0, dtype="i4")


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("ndim", [32, 33, 63, 64])
def test_as_many_dimensions_as_numpy_has(ndim: int, sharded: bool) -> None:
    shape = (2, 2, 2) + (1,) * (ndim - 3)
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, shape=shape, dtype="i2", chunks=(1,) * ndim, shards=shape if sharded else None)
    model = np.arange(8, dtype="i2").reshape(shape)
    array[...] = model
    array[0, :, 1:] = model[0, :, 1:] = 5
    assert np.array_equal(zarrdock.open_array(store)[::-1, 0], model[::-1, 0])
    array.append(model[:1])
    assert np.array_equal(array[...], np.concatenate([model, model[:1]]))
    assert check(store).is_good
    with pytest.raises(MetadataError, match="64 dimensions"):
        zarrdock.create_array({}, shape=(1,) * 65, dtype="i2")


def test_what_v3_has_no_form_for_is_refused_before_anything_is_stored() -> None:
    store = zarrdock.MemoryStore()
    with pytest.raises(UnsupportedError, match="arrays"):
        zarrdock.create_array(store, shape=2, dtype=SUBARRAYS, chunks=2)
    assert not list(store.list())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_structure(data: st.DataObject) -> None:
    simple = st.sampled_from(["i1", "u2", "f8", "c8", "?", "M8[us]", "m8[h]", "U2", "S3", "V5", "bfloat16"])

    def struct(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(children, min_size=1, max_size=4).map(lambda kinds: [(f"f{i}", k) for i, k in enumerate(kinds)])

    dtype = np.dtype(data.draw(struct(simple | struct(simple))))
    array = zarrdock.create_array(zarrdock.MemoryStore(), shape=5, dtype=dtype, chunks=2, shards=4)
    model = random_values(dtype, (5,), data.draw(st.integers(0, 99)))
    array[...] = model
    same(array[...], model)
    same(zarrdock.open_array(array.store)[1:4], model[1:4])


def test_casts_that_could_not_be_read_again_are_refused() -> None:
    store = zarrdock.MemoryStore()
    cast = {"name": "cast_value", "configuration": {"data_type": "int16"}}
    with pytest.raises(MetadataError, match="fill value"):  # 2**-127 becomes 0, which the type has not
        zarrdock.create_array(store, shape=3, dtype="float8_e8m0fnu", chunks=2, filters=[cast])
    assert not list(store.list())
    array = zarrdock.create_array(store, shape=3, dtype="float8_e8m0fnu", chunks=2, filters=[cast], fill_value=1)
    array[...] = [1, 2, 4]
    assert array[...].astype(float).tolist() == [1, 2, 4]
