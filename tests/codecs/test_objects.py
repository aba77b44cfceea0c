"""Elements of variable length, and Zarr v2's objects, against numcodecs' own encoders and decoders."""

from __future__ import annotations

import random
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrdock.codecs.builtin import parse_codec, parse_codecs
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.object_codecs import Categorize, Pickle
from zarrdock.codecs.v2_codecs import from_v2
from zarrdock.codecs.vlen import VlenBytes, VlenUtf8
from zarrdock.config import config
from zarrdock.errors import CodecError, MetadataError, UnsupportedError

TEXT = np.dtypes.StringDType()
OBJECTS = np.dtype(object)


def objects(items: list[Any], shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any]:
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array if shape is None else array.reshape(shape)


def chain(filters: list[dict[str, Any]], shape: tuple[int, ...], dtype: Any = OBJECTS, **arguments: Any) -> Any:
    given_dtype = np.dtype(dtype) if isinstance(dtype, str) else dtype
    codecs = from_v2(
        arguments.pop("compressor", None),
        filters,
        dtype=given_dtype,
        order=arguments.pop("order", "C"),
        ndim=len(shape),
    )
    return bind_chain(codecs, ChunkSpec(shape, given_dtype, arguments.pop("fill", None)))


@pytest.mark.parametrize("dtype", [OBJECTS, TEXT], ids=str)
@given(items=st.lists(st.text(max_size=20), max_size=8))
@settings(max_examples=60, deadline=None)
def test_vlen_utf8(dtype: Any, items: list[str]) -> None:
    array = objects(items).astype(dtype)
    bound = VlenUtf8().bind(ChunkSpec(array.shape, dtype, ""))
    encoded = bytes(bound.encode(array))
    assert encoded == b"".join(
        n.to_bytes(4, "little") + data
        for n, data in [(len(items), b""), *((len(s.encode()), s.encode()) for s in items)]
    )
    assert encoded == bytes(numcodecs.VLenUTF8().encode(objects(items)))
    decoded = bound.decode(memoryview(encoded))
    assert decoded.dtype == dtype
    assert decoded.tolist() == items


@given(items=st.lists(st.binary(max_size=20), max_size=8))
@settings(max_examples=40, deadline=None)
def test_vlen_bytes(items: list[bytes]) -> None:
    bound = VlenBytes().bind(ChunkSpec((len(items),), OBJECTS, b""))
    encoded = bytes(bound.encode(objects(items)))
    assert encoded == bytes(numcodecs.VLenBytes().encode(objects(items)))
    assert bound.decode(encoded).tolist() == items


@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (0, 3)], ids=str)
def test_vlen_of_any_shape_and_memory(shape: tuple[int, ...]) -> None:
    array = objects([f"é{i}" * i for i in range(int(np.prod(shape)))], shape)
    bound = VlenUtf8().bind(ChunkSpec(shape, TEXT, ""))
    for given_array in (array, np.asfortranarray(array), array.astype(TEXT)):
        encoded = bound.encode(given_array)
        decoded = bound.decode(encoded)
        assert decoded.shape == shape
        assert decoded.tolist() == array.tolist()


def test_what_v2_arrays_are_filled_with() -> None:
    assert VlenUtf8().bind(ChunkSpec((2,), OBJECTS)).encode(objects([None, 0])) == b"\2\0\0\0" + bytes(8)
    assert VlenBytes().bind(ChunkSpec((2,), OBJECTS)).encode(objects([None, 0])) == b"\2\0\0\0" + bytes(8)


def test_vlen_of_what_it_does_not_store() -> None:
    for codec, item in ((VlenUtf8(), b"x"), (VlenUtf8(), 3.5), (VlenUtf8(), "\ud800"), (VlenBytes(), "x")):
        with pytest.raises(CodecError) as caught:
            codec.bind(ChunkSpec((1,), OBJECTS)).encode(objects([item]))
        assert caught.value.direction == "encode"
    for codec, dtype in ((VlenUtf8(), "U4"), (VlenUtf8(), "i4"), (VlenBytes(), "S4"), (VlenBytes(), TEXT)):
        with pytest.raises(MetadataError):
            codec.bind(ChunkSpec((1,), np.dtype(dtype)))


OBJECT_FILTERS: list[tuple[dict[str, Any], list[Any]]] = [
    ({"id": "vlen-utf8"}, ["a", "", "déjà", "x" * 300, "b", "c"]),
    ({"id": "vlen-bytes"}, [b"a", b"", b"\0\xff", b"x" * 300, b"b", b"c"]),
    ({"id": "vlen-array", "dtype": "<i2"}, [np.arange(n, dtype="<i2") for n in (0, 3, 1, 200, 2, 5)]),
    ({"id": "json2"}, [1, "two", None, [3, [4]], {"five": 6.5}, True]),
    ({"id": "json2", "encoding": "utf-16", "indent": 1}, ["a", [], [[]], [1], [2, 3], "b"]),
    ({"id": "msgpack2"}, [1, "two", None, [3, [4]], {"five": 6.5}, b"\0"]),
    ({"id": "msgpack2", "use_single_float": True}, [0.5, 1, 2, 3, 4, 5]),
    ({"id": "pickle"}, [1, "two", None, {3}, (4, 5), 6j]),
    ({"id": "categorize", "labels": ["low", "high"], "dtype": "|O"}, ["low", "high", "", "low", "low", "high"]),
]


@pytest.mark.parametrize(("filter_", "items"), OBJECT_FILTERS, ids=lambda v: v["id"] if isinstance(v, dict) else "")
@pytest.mark.parametrize("shape", [(6,), (2, 3)], ids=str)
@pytest.mark.parametrize("compressor", [None, {"id": "zstd"}, {"id": "blosc"}, {"id": "zlib"}], ids=str)
def test_object_filters_agree_with_numcodecs(
    filter_: dict[str, Any], items: list[Any], shape: tuple[int, ...], compressor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "allow_pickle", 1)
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    array = objects(items, shape)
    ours = chain([filter_], shape, compressor=compressor)
    encoded = bytes(ours.encode(array))

    theirs = numcodecs.get_codec(dict(filter_))
    packer = numcodecs.get_codec(dict(compressor)) if compressor else None
    by_them = bytes(numcodecs.compat.ensure_bytes(theirs.encode(array)))
    stored = bytes(packer.encode(by_them)) if packer else by_them

    unpacked = packer.decode(encoded) if packer else encoded
    for decoded in (theirs.decode(unpacked), ours.decode(stored), ours.decode(encoded)):
        found = decoded.reshape(-1).tolist()
        assert len(found) == len(items)
        for a, b in zip(found, items, strict=True):
            assert np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b
    assert ours.decode(stored).shape == shape


def test_nested_lists_are_elements_not_dimensions() -> None:
    items = [[1, 2], [3, 4]]
    for name in ("json2", "msgpack2"):
        ours = chain([{"id": name}], (2,))
        assert ours.decode(ours.encode(objects(items))).tolist() == items
    zero = chain([{"id": "json2"}], ())
    assert zero.decode(zero.encode(objects([[5]]).reshape(()))).item() == [5]
    numbers = chain([{"id": "json2"}], (2, 2), "<i4")
    assert numbers.decode(numbers.encode(np.array(items, "<i4"))).tolist() == items


def test_order_f_of_text() -> None:
    array = objects([f"{i}" for i in range(6)], (2, 3))
    ours = chain([{"id": "vlen-utf8"}], (2, 3), order="F")
    assert bytes(ours.encode(array)) == bytes(numcodecs.VLenUTF8().encode(np.asfortranarray(array)))
    assert ours.decode(ours.encode(array)).tolist() == array.tolist()


def test_categories() -> None:
    filters = [
        {"id": "categorize", "labels": ["a", "b", "a"], "dtype": "<U3", "astype": "<u2"},
        {"id": "delta", "dtype": "<u2"},
    ]
    ours = chain(filters, (4,), "<U3", fill="b")
    array = np.array(["a", "b", "c", "a"], "<U3")
    theirs = numcodecs.get_codec(dict(filters[0])).encode(array)
    assert bytes(ours.encode(array)) == numcodecs.get_codec(dict(filters[1])).encode(theirs).tobytes()
    assert ours.decode(ours.encode(array)).tolist() == ["a", "b", "", "a"]
    assert ours.array_codecs[0].encoded.fill_value == 2
    # Numbers without a label are no label.
    bound = Categorize(labels=["x"], dtype="|O", astype="|i1").bind(ChunkSpec((3,), TEXT, ""))
    assert bound.decode(np.array([-1, 1, 2], "i1")).tolist() == ["", "x", ""]
    for configuration in ({"labels": ["a"], "dtype": "<i4"}, {"labels": ["a"], "dtype": "|O", "astype": "<f4"}, {}):
        with pytest.raises(MetadataError):
            Categorize(**configuration).bind(ChunkSpec((3,), OBJECTS, ""))
    with pytest.raises(MetadataError, match="text"):
        Categorize(labels=["a"], dtype="|O").bind(ChunkSpec((3,), np.dtype("i4"), 0))


def test_pickles_are_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="ZARRDOCK_ALLOW_PICKLE"):
        chain([{"id": "pickle"}], (2,))
    with pytest.raises(UnsupportedError, match="allow_pickle"):
        Pickle().bind(ChunkSpec((2,), OBJECTS))
    monkeypatch.setattr(config, "allow_pickle", 1)
    ours = chain([{"id": "pickle"}], (2,))
    assert ours.decode(ours.encode(objects([{1}, None]))).tolist() == [{1}, None]


LISTS: list[tuple[str, Any]] = [
    ("not a list", {"a": 1}),
    ("no shape", [1, 2]),
    ("a shape of another size", [1, 2, 3, "|O", [3]]),
    ("a shape that is huge", [1, 2, "|O", [10**12]]),
    ("rows that are none", [1, 2, "|O", [2, 1]]),
    ("rows of two lengths", [[1], [2, 3], "|O", [2, 1]]),
    ("a shape of text", [1, 2, "|O", ["2"]]),
    ("nothing", []),
]


@pytest.mark.parametrize(("what", "document"), LISTS, ids=[what for what, _ in LISTS])
def test_lists_that_do_not_fit(what: str, document: Any) -> None:
    import json

    import msgpack

    for name, data in (("json2", json.dumps(document).encode()), ("msgpack2", msgpack.packb(document))):
        with pytest.raises(CodecError):
            chain([{"id": name}], (2,)).decode(data)


@pytest.mark.parametrize(("filter_", "items"), OBJECT_FILTERS[:7], ids=lambda v: v["id"] if isinstance(v, dict) else "")
def test_damage(filter_: dict[str, Any], items: list[Any]) -> None:
    rng = random.Random(1)
    ours = chain([filter_], (6,))
    good = bytes(ours.encode(objects(items)))
    for _ in range(400):
        broken = bytearray(good)
        if rng.random() < 0.3:
            del broken[rng.randrange(len(broken)) :]
        for _ in range(rng.randrange(3)):
            if broken:
                broken[rng.randrange(min(len(broken), 40))] = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            assert ours.decode(bytes(broken)).shape == (6,)
        except CodecError:
            pass


@pytest.mark.parametrize("name", ["vlen-utf8", "vlen-bytes"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\0\0",
        b"\3\0\0\0" + bytes(12),
        b"\xff\xff\xff\xff" + bytes(12),
        b"\2\0\0\0" + bytes(4),
        b"\2\0\0\0" + b"\xff\xff\xff\xff" + bytes(4),
        b"\2\0\0\0" + b"\xff\xff\xff\x7f" + bytes(4),
        b"\2\0\0\0" + b"\x04\0\0\0" + bytes(4),
    ],
    ids=bytes.hex,
)
def test_vlen_lengths_that_lie(name: str, data: bytes) -> None:
    bound: Any = parse_codec(name).bind(ChunkSpec((2,), OBJECTS, ""))  # type: ignore[attr-defined]
    with pytest.raises(CodecError):
        bound.decode(data)


def test_text_that_is_no_utf8() -> None:
    with pytest.raises(CodecError, match="utf-8"):
        VlenUtf8().bind(ChunkSpec((1,), TEXT, "")).decode(b"\1\0\0\0\1\0\0\0\xff")


def test_compressed_text_of_unknown_length() -> None:
    codecs = parse_codecs(["vlen-utf8", {"name": "zstd", "configuration": {}}, "crc32c"])
    bound = bind_chain(codecs, ChunkSpec((1000,), TEXT, ""))
    array = objects(["x" * (i % 77) for i in range(1000)]).astype(TEXT)
    assert bound.decode(bound.encode(array)).tolist() == array.tolist()
    with pytest.raises(CodecError):
        bound.decode(bytes(bound.encode(array))[:-9])
