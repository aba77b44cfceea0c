"""The codecs of the extension registry that work on elements: bitround, packbits, reshape, scale_offset, cast_value."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zarrdock.codecs.bitround import BitRound
from zarrdock.codecs.builtin import parse_codec, parse_codecs
from zarrdock.codecs.cast_value import CastValue
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.packbits import PackBits
from zarrdock.codecs.reshape import Reshape
from zarrdock.codecs.scale_offset import ScaleOffset
from zarrdock.errors import CodecError, MetadataError, UnknownExtensionError

PAIR = np.dtype([("real", ml_dtypes.bfloat16), ("imag", ml_dtypes.bfloat16)])
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def bind(codec: Any, array: np.ndarray[Any, Any], fill: Any = None) -> Any:
    fill = np.zeros((), array.dtype)[()] if fill is None else fill
    return codec.bind(ChunkSpec(array.shape, array.dtype, fill))


def spec(dtype: Any, shape: tuple[int, ...] = (4,), fill: Any = None) -> ChunkSpec:
    dtype = np.dtype(dtype)
    return ChunkSpec(shape, dtype, np.zeros((), dtype)[()] if fill is None else fill)


# -- bitround ---------------------------------------------------------------------------------------------------------

# The sample arrays that the registry documents for the codec (bitround/sample_data), keepbits 3.
FLOATS = [0.0, 0.1, 1.2, 12.3, 123.4, 1234.5, np.nan, np.inf, -np.inf]
FLOATS_ROUNDED = [0.0, 0.1015625, 1.25, 12.0, 120.0, 1280.0, np.nan, np.inf, -np.inf]
BYTES = [0, 1, 10, 11, 100, 123, 200, 208, 209, 255]
BYTES_ROUNDED = [0, 1, 10, 12, 96, 128, 192, 192, 224, 224]


@pytest.mark.parametrize(
    ("dtype", "original", "rounded"), [("float32", FLOATS, FLOATS_ROUNDED), ("uint8", BYTES, BYTES_ROUNDED)]
)
def test_bitround_gives_what_the_registry_documents(dtype: str, original: list[Any], rounded: list[Any]) -> None:
    array = np.array(original, dtype)
    encoded = bind(BitRound(3), array).encode(array)
    assert encoded.tobytes() == np.array(rounded, dtype).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@given(data=st.data(), keepbits=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_bitround_of_floats_is_numcodecs(dtype: str, data: st.DataObject, keepbits: int) -> None:
    import numcodecs

    keepbits = min(keepbits, np.finfo(dtype).nmant)
    elements = st.floats(width=8 * np.dtype(dtype).itemsize, allow_nan=False)
    array = data.draw(hnp.arrays(dtype, (7,), elements=elements))
    theirs = numcodecs.BitRound(keepbits).encode(array).view(dtype)
    for given_array in (array, array.astype(array.dtype.newbyteorder(">"))):
        assert bind(BitRound(keepbits), given_array).encode(given_array).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", INTEGERS)
@given(data=st.data(), keepbits=st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_bitround_of_integers(dtype: str, data: st.DataObject, keepbits: int) -> None:
    array = data.draw(hnp.arrays(dtype, (5,)))
    info = np.iinfo(dtype)
    expected = []
    for x in array.tolist():
        magnitude, drop = abs(x), max(0, abs(x).bit_length() - keepbits)
        unit = 1 << drop
        low = magnitude // unit * unit
        rest = magnitude - low
        up = rest * 2 > unit or (rest * 2 == unit and low // unit % 2 == 1)
        high = (low + unit) * (1 if x >= 0 else -1)
        value = high if up and info.min <= high <= info.max else low * (1 if x >= 0 else -1)
        expected.append(value)
    assert bind(BitRound(keepbits), array).encode(array).tolist() == expected


def test_bitround_of_small_complex_and_times() -> None:
    values = np.array([1.2, 123.4, np.nan, np.inf])
    small = values.astype(ml_dtypes.bfloat16)
    assert bind(BitRound(3), small).encode(small).astype(float).tolist()[:2] == [1.25, 120.0]
    both = values.astype("c8") + 12.3j
    rounded = bind(BitRound(3), both).encode(both)
    assert rounded[0] == 1.25 + 12j
    pair = np.zeros(2, PAIR)
    pair["imag"] = 1.2
    assert bind(BitRound(3), pair).encode(pair)["imag"].astype(float).tolist() == [1.25, 1.25]
    times = np.array([1001, "NaT", -1001], "M8[s]")
    assert bind(BitRound(3), times).encode(times).view("i8").tolist()[::2] == [1024, -1024]
    assert np.isnat(bind(BitRound(3), times).encode(times)[1])
    # The whole mantissa, or more: nothing to do.
    assert bind(BitRound(60), values).encode(values).tobytes() == values.tobytes()
    # Every NaN stays one, whatever its other bits.
    odd = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(bind(BitRound(3), odd).encode(odd)).all()


# -- packbits ---------------------------------------------------------------------------------------------------------


def test_packbits_layout() -> None:
    bits = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 1], bool)
    assert bytes(bind(PackBits(), bits).encode(bits)) == bytes([0b00011001, 0b11])
    assert bytes(bind(PackBits("first_byte"), bits).encode(bits)) == bytes([6, 0b00011001, 0b11])
    assert bytes(bind(PackBits("last_byte"), bits).encode(bits)) == bytes([0b00011001, 0b11, 6])
    nibbles = np.array([1, -2, 7], ml_dtypes.int4)
    assert bytes(bind(PackBits(), nibbles).encode(nibbles)) == bytes([0xE1, 0x07])
    six = np.arange(4, dtype=np.uint8).view(ml_dtypes.float6_e2m3fn)
    # 000000 100000 010000 110000, the lowest bit first
    assert bytes(bind(PackBits(), six).encode(six)) == bytes([0b01000000, 0b00100000, 0b00001100])
    pair = np.array([1 + 2j], "c8")
    assert bytes(bind(PackBits(), pair).encode(pair)) == pair.tobytes()
    # Bits 4 to 11 of each.
    words = np.array([0x1AB2, 0x0CD3], ">u2")
    assert bytes(bind(PackBits(first_bit=4, last_bit=11), words).encode(words)) == bytes([0xAB, 0xCD])


SMALL = [
    np.dtype(getattr(ml_dtypes, name))
    for name in (
        "int2 uint2 int4 uint4 bfloat16 float8_e4m3fn float8_e5m2 float6_e2m3fn float6_e3m2fn float4_e2m1fn"
    ).split()
]
PACKED = [*(np.dtype(n) for n in [*INTEGERS, "bool", "float16", "float32", "float64", "complex64"]), *SMALL, PAIR]


@pytest.mark.parametrize("dtype", PACKED, ids=str)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_packbits_there_and_back(dtype: np.dtype[Any], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 40))
    raw = data.draw(st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize))
    padding: Any = data.draw(st.sampled_from(["none", "first_byte", "last_byte"]))
    stored = np.frombuffer(raw, np.uint8)
    if dtype.kind == "b":
        stored = stored & 1
    elif dtype in SMALL:
        bits = {2: 3, 4: 15, 6: 63}.get(next((b for b in (2, 4, 6) if str(b) in dtype.name[:7]), 8), 255)
        stored = stored & np.uint8(bits) if dtype.itemsize == 1 else stored
    array = stored.view(dtype)
    bound = bind(PackBits(padding), array)
    encoded = bytes(bound.encode(array))
    assert len(encoded) == bound.encoded.exact
    decoded = bound.decode(encoded)
    assert decoded.dtype == dtype
    assert decoded.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", INTEGERS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_packbits_of_some_bits(dtype: str, data: st.DataObject) -> None:
    n_bits = 8 * np.dtype(dtype).itemsize
    first = data.draw(st.integers(0, n_bits - 1))
    last = data.draw(st.integers(first, n_bits - 1))
    array = data.draw(hnp.arrays(dtype, data.draw(st.sampled_from([(3,), (5, 5), (9000,)]))))
    bound = bind(PackBits(first_bit=first, last_bit=last), array)
    encoded = bytes(bound.encode(array))
    assert len(encoded) == -(-array.size * (last - first + 1) // 8)
    kept = []
    for x in array.reshape(-1).tolist()[:50]:
        value = (x >> first) % (1 << (last - first + 1))
        if np.dtype(dtype).kind == "i" and value >> (last - first):
            value -= 1 << (last - first + 1)
        kept.append(value << first)
    assert bound.decode(encoded).reshape(-1).tolist()[:50] == kept
    assert bytes(bound.encode(bound.decode(encoded))) == encoded


# Written by zarrs 0.23 (the wheel zarrs 0.2.3): configuration, dtype, bytes, values.
ZARRS = [
    (
        {"padding_encoding": "first_byte"},
        "bool",
        "0772d23400",
        "0 1 0 0 1 1 1 0 0 1 0 0 1 0 1 1 0 0 1 0 1 1 0 0 0",
    ),
    (
        {"first_bit": 1, "last_bit": 11},
        "int16",
        "0cb801891ff1ea40fca5d92171310e4ea1ee8ce4a0f518963435448f8de648221e6f00",
        "24 110 -952 286 -674 258 766 -614 578 -932 112 334 -556 562 114 -166 -976 -732 424 -188 432 922 292 482 222",
    ),
    (
        {"padding_encoding": "last_byte", "last_bit": 12},
        "uint32",
        "2c210994097b80077c8498500c75027cd88bcd31043081596812b70257280e44b00a70c22958169b0103",
        "300 73 613 246 120 574 610 394 629 992 758 923 67 152 358 589 695 696 906 136 171 312 167 715 411",
    ),
]


@pytest.mark.parametrize(("configuration", "dtype", "data", "values"), ZARRS, ids=str)
def test_packbits_as_another_implementation_writes_it(configuration: Any, dtype: str, data: str, values: str) -> None:
    array = np.array(values.split(), int).astype(dtype).reshape(5, 5)
    bound = bind(parse_codec({"name": "packbits", "configuration": configuration}), array)
    assert bytes(bound.encode(array)).hex() == data
    assert np.array_equal(bound.decode(bytes.fromhex(data)), array)


def test_packbits_of_damaged_bytes() -> None:
    bits = np.ones(10, bool)
    for padding in ("none", "first_byte", "last_byte"):
        bound = bind(PackBits(padding), bits)  # type: ignore[arg-type]
        encoded = bytes(bound.encode(bits))
        for broken in (encoded[:-1], encoded + b"\0", b""):
            with pytest.raises(CodecError, match="bytes"):
                bound.decode(broken)
    with pytest.raises(CodecError, match="padding"):
        bind(PackBits("first_byte"), bits).decode(b"\x05\xff\x03")


# -- reshape ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        ((100, 50, 64, 3), [[0, 1], [2], 3], (5000, 64, 3)),
        ((4, 6), [-1], (24,)),
        ((4, 6), [2, -1, [1]], (2, 2, 6)),
        ((4, 6), [[0], 2, 3], (4, 2, 3)),
        ((), [1, 1], (1, 1)),
        ((1,), [], ()),
        ((4, 6), [[], [0, 1]], (1, 24)),
    ],
)
def test_reshape(before: tuple[int, ...], shape: list[Any], after: tuple[int, ...]) -> None:
    array = np.arange(np.prod(before, dtype=int), dtype="i4").reshape(before)
    bound = bind(parse_codec({"name": "reshape", "configuration": {"shape": shape}}), array)
    assert bound.encoded.shape == after
    for given_array in (array, np.asfortranarray(array)):
        encoded = bound.encode(given_array)
        assert encoded.shape == after
        assert encoded.reshape(-1).tolist() == array.reshape(-1).tolist()
    assert np.shares_memory(bound.encode(array), array)
    assert np.array_equal(bound.decode(bound.encode(array)), array)


@pytest.mark.parametrize(
    "shape",
    [None, "ab", [0], [-1, -1], [-2], [True], [[1], [0]], [[1, 0], 10], [[0], [0]], [1.5], [[0.5]], {"a": 1}],
    ids=str,
)
def test_reshape_wrong_metadata(shape: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec({"name": "reshape", "configuration": {"shape": shape}}, "/codecs/0")
    assert caught.value.pointer.startswith("/codecs/0/configuration/shape")


@pytest.mark.parametrize("shape", [[5, -1], [7], [[0, 2]], [6, [0]], [[0, 1], 2], [[0], -1, 4, 4], [[1], 4]], ids=str)
def test_reshape_that_does_not_fit(shape: Any) -> None:
    with pytest.raises(MetadataError) as caught:
        Reshape(shape).bind(spec("i4", (4, 6)))
    assert caught.value.pointer.startswith("/configuration/shape")


# -- scale_offset -----------------------------------------------------------------------------------------------------


def test_scale_offset_of_floats() -> None:
    array = np.array([5, 15, np.nan, np.inf], "f4")
    bound = bind(ScaleOffset(5, 0.1), array, np.float32(15))
    encoded = bound.encode(array)
    assert encoded.dtype == np.float32
    assert encoded.tolist()[:2] == [0, 1]
    assert bound.encoded.fill_value == 1
    assert np.allclose(bound.decode(encoded), array, equal_nan=True)
    small = array.astype(ml_dtypes.bfloat16)
    assert bind(ScaleOffset(5, 2), small).encode(small).astype(float).tolist()[:2] == [0, 20]
    # The arithmetic is that of the array's type.
    tenth = np.array([0.3], "f4")
    assert bind(ScaleOffset(0.1, 3), tenth).encode(tenth)[0] == (np.float32(0.3) - np.float32(0.1)) * np.float32(3)


@pytest.mark.parametrize("dtype", [*INTEGERS, ml_dtypes.int4, ml_dtypes.uint2])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_scale_offset_of_integers_is_exact_or_an_error(dtype: Any, data: st.DataObject) -> None:
    dtype = np.dtype(dtype)
    info: Any = np.iinfo(dtype) if dtype.kind in "iu" else ml_dtypes.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    values = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=4))
    offset = data.draw(st.integers(low, high))
    scale = data.draw(st.sampled_from([n for n in (1, 2, 3, -1, -2, high) if low <= n <= high]))
    array = np.array(values, dtype)
    bound = bind(ScaleOffset(offset, scale), array, array[0]) if low <= (values[0] - offset) * scale <= high else None
    if bound is None:
        with pytest.raises(MetadataError, match="fill value"):
            bind(ScaleOffset(offset, scale), array, array[0])
        return
    expected = [(v - offset) * scale for v in values]
    if all(low <= v <= high for v in expected):
        encoded = bound.encode(array)
        assert encoded.dtype == dtype
        assert [int(v) for v in encoded] == expected
        assert [int(v) for v in bound.decode(encoded)] == values
    else:
        with pytest.raises(CodecError, match="range"):
            bound.encode(array)


def test_scale_offset_of_what_cannot_be_decoded() -> None:
    array = np.array([2, 4], "i2")
    bound = bind(ScaleOffset(0, 2), array)
    with pytest.raises(CodecError, match="no multiples of the scale"):
        bound.decode(np.array([3], "i2"))
    with pytest.raises(CodecError, match="range"):
        bind(ScaleOffset(30000), array, np.int16(30000)).decode(np.array([30000], "i2"))


# -- cast_value -------------------------------------------------------------------------------------------------------


def cast(array: Any, data_type: Any, **configuration: Any) -> Any:
    array = np.asarray(array)
    bound = bind(CastValue(data_type, **configuration), array)
    return bound.encode(array)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("nearest-even", [2, 2, 4, -2, -2, 0]),
        ("nearest-away", [2, 3, 4, -2, -3, 0]),
        ("towards-zero", [1, 2, 3, -1, -2, 0]),
        ("towards-positive", [2, 3, 4, -1, -2, 1]),
        ("towards-negative", [1, 2, 3, -2, -3, 0]),
    ],
)
def test_cast_rounding(rounding: Any, expected: list[int]) -> None:
    values = [1.5, 2.5, 3.5, -1.5, -2.5, np.nextafter(0.5, 0)]
    assert cast(values, "int8", rounding=rounding).tolist() == expected


def test_cast_out_of_range() -> None:
    values = [300.0, -1.0, 1e20, -2.5, np.inf, -np.inf]
    with pytest.raises(CodecError, match="beyond the range of uint8"):
        cast(values, "uint8")
    assert cast(values, "uint8", out_of_range="clamp").tolist() == [255, 0, 255, 0, 255, 0]
    assert cast(values[:4], "uint8", out_of_range="wrap").tolist() == [44, 255, 0, 254]
    with pytest.raises(CodecError, match="infinity"):
        cast(values, "uint8", out_of_range="wrap")
    for mode in ("error", "clamp", "wrap"):
        with pytest.raises(CodecError, match="NaN"):
            cast([np.nan], "int16", out_of_range=mode)
    big = np.array([2**63, 0, 2**64 - 1], np.uint64)
    assert cast(big, "int64", out_of_range="wrap").tolist() == [-(2**63), 0, -1]
    assert cast(big, "int64", out_of_range="clamp").tolist() == [2**63 - 1, 0, 2**63 - 1]
    assert cast(np.array([-5, 200], "i2"), "uint8", out_of_range="clamp").tolist() == [0, 200]
    assert cast([1e300, -1e300, 2.0**63], "int64", out_of_range="clamp").tolist() == [2**63 - 1, -(2**63), 2**63 - 1]
    with pytest.raises(CodecError):
        cast([2.0**63], "int64")
    assert cast([-(2.0**63)], "int64").tolist() == [-(2**63)]


def test_cast_to_small_types() -> None:
    assert cast([1.0, -8.0, 7.4], "int4").astype(int).tolist() == [1, -8, 7]
    assert cast([9.0, -9.0], "int4", out_of_range="wrap").astype(int).tolist() == [-7, 7]
    assert cast(np.array([9, -9], "i8"), "int4", out_of_range="wrap").astype(int).tolist() == [-7, 7]
    assert cast(np.array([9, -9], "i8"), "uint2", out_of_range="clamp").astype(int).tolist() == [3, 0]
    assert cast([1.0, 500.0], "float8_e4m3fn", out_of_range="clamp").astype(float).tolist() == [1.0, 448.0]
    assert cast([7.0, -7.0, 6.2], "float4_e2m1fn", out_of_range="clamp").astype(float).tolist() == [6.0, -6.0, 6.0]
    with pytest.raises(CodecError, match="beyond"):
        cast([7.0], "float4_e2m1fn")
    with pytest.raises(CodecError, match="NaN"):
        cast([np.nan], "float6_e2m3fn")
    nibbles = np.array([-8, 7], ml_dtypes.int4)
    assert cast(nibbles, "uint2", out_of_range="wrap").astype(int).tolist() == [0, 3]
    assert cast(nibbles, "float16").tolist() == [-8, 7]
    assert cast(nibbles, "int32").tolist() == [-8, 7]


def test_cast_between_floats() -> None:
    assert cast([0.1], "float32") == np.float32(0.1)
    up, down = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(0))
    for rounding, sign, expected in [
        ("towards-positive", 1, up),
        ("towards-negative", 1, down),
        ("towards-zero", 1, down),
        ("towards-zero", -1, -down),
        ("towards-positive", -1, -down),
        ("nearest-away", 1, up),
    ]:
        assert cast([sign * 0.1], "float32", rounding=rounding)[0] == expected
    half = 1 + 2.0**-11  # between two float16, the lower one even
    assert cast([half, -half], "float16", rounding="nearest-away").tolist() == [1 + 2.0**-10, -1 - 2.0**-10]
    assert cast([half], "float16").tolist() == [1.0]
    with pytest.raises(CodecError, match="beyond"):
        cast([1e300], "float32")
    assert cast([1e300, -1e300], "float32", out_of_range="clamp").tolist() == [np.inf, -np.inf]
    assert np.isnan(cast([np.nan], "float32"))[0]
    assert cast([np.inf], "bfloat16").astype(float).tolist() == [np.inf]
    exact = np.array([2**53 + 1, 2**63 - 1], "i8")
    assert cast(exact, "float64", rounding="towards-positive").tolist() == [2.0**53 + 2, 2.0**63]
    assert cast(exact, "float64", rounding="towards-zero").tolist() == [2.0**53, 2.0**63 - 1024]


def test_cast_scalar_map() -> None:
    array = np.array([np.nan, 1.0, -1.0])
    codec = CastValue("uint8", scalar_map={"encode": [["NaN", 255], [-1, 7]], "decode": [[255, "NaN"]]})
    bound = bind(codec, array)
    assert bound.encode(array).tolist() == [255, 1, 7]
    assert np.array_equal(bound.decode(np.array([255, 1, 7], "u1")), [np.nan, 1, 7], equal_nan=True)
    assert parse_codec(codec.to_json()) == codec
    with pytest.raises(MetadataError) as caught:
        bind(CastValue("uint8", scalar_map={"encode": [["NaN", 256]]}), array)
    assert caught.value.pointer == "/configuration/scalar_map/encode/0/1"


@given(
    array=hnp.arrays("f8", (5,), elements=st.floats(-1e6, 1e6)),
    target=st.sampled_from(["int8", "int32", "int64", "uint16", "float32", "float16"]),
    rounding=st.sampled_from(["nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away"]),
)
@settings(max_examples=150, deadline=None)
def test_cast_is_the_neighbour_on_the_right_side(array: Any, target: str, rounding: Any) -> None:
    dtype = np.dtype(target)
    limits: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    array = np.clip(array, float(limits.min), min(float(limits.max), 1e6))
    result = cast(array, target, rounding=rounding)
    assert result.dtype == dtype
    back = result.astype("f8")
    if rounding == "towards-positive":
        assert (back >= array).all()
    elif rounding == "towards-negative":
        assert (back <= array).all()
    elif rounding == "towards-zero":
        assert (np.abs(back) <= np.abs(array)).all()
    else:
        assert (np.abs(back - array) <= np.abs(array.astype(dtype).astype("f8") - array)).all() or dtype.kind in "iu"
    again = cast(back, target, rounding=rounding)
    assert again.tobytes() == result.tobytes()


def test_a_chain_of_them_through_the_fill_value() -> None:
    """What the registry gives as the successor of numcodecs.fixedscaleoffset."""
    codecs = parse_codecs(
        [
            {"name": "scale_offset", "configuration": {"offset": 10, "scale": 0.1}},
            {"name": "cast_value", "configuration": {"data_type": "uint8", "out_of_range": "wrap"}},
            {"name": "reshape", "configuration": {"shape": [[0, 1]]}},
            {"name": "packbits", "configuration": {"last_bit": 5}},
        ]
    )
    chain = bind_chain(codecs, ChunkSpec((4, 4), np.dtype("f4"), np.float32(110)))
    array = np.arange(16, dtype="f4").reshape(4, 4) * 10 + 10
    encoded = chain.encode(array)
    assert len(encoded) == 16 * 6 // 8
    assert np.allclose(chain.decode(encoded), array)
    assert chain.array_codecs[-1].encoded.fill_value == 10


def test_cast_of_a_fill_value_that_has_no_place() -> None:
    with pytest.raises(MetadataError, match="fill value"):
        CastValue("uint8").bind(spec("f4", fill=np.float32(np.nan)))


@pytest.mark.parametrize(
    ("metadata", "pointer"),
    [
        ({"name": "bitround"}, "/keepbits"),
        ({"name": "bitround", "configuration": {"keepbits": 0}}, "/keepbits"),
        ({"name": "bitround", "configuration": {"keepbits": 3, "mode": 1}}, "/mode"),
        ({"name": "packbits", "configuration": {"padding_encoding": "start_byte"}}, "/padding_encoding"),
        ({"name": "packbits", "configuration": {"first_bit": 5, "last_bit": 4}}, "/last_bit"),
        ({"name": "scale_offset", "configuration": {"offset": True}}, "/offset"),
        ({"name": "scale_offset", "configuration": {"astype": "u1"}}, "/astype"),
        ({"name": "cast_value"}, "/data_type"),
        ({"name": "cast_value", "configuration": {"data_type": "uint8", "rounding": "up"}}, "/rounding"),
        ({"name": "cast_value", "configuration": {"data_type": "uint8", "out_of_range": "saturate"}}, "/out_of_range"),
        ({"name": "cast_value", "configuration": {"data_type": "uint8", "scalar_map": {"both": []}}}, "/scalar_map"),
        (
            {"name": "cast_value", "configuration": {"data_type": "uint8", "scalar_map": {"encode": [[1]]}}},
            "/scalar_map/encode/0",
        ),
    ],
    ids=str,
)
def test_wrong_metadata(metadata: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec(metadata, "/codecs/0")
    assert caught.value.pointer == "/codecs/0/configuration" + pointer


@pytest.mark.parametrize(
    ("codec", "chunk"),
    [
        (BitRound(3), spec("bool")),
        (BitRound(3), spec("S4")),
        (BitRound(3), spec(ml_dtypes.int4)),
        (PackBits(), spec("S4")),
        (PackBits(last_bit=8), spec("u1")),
        (PackBits(first_bit=8), spec("u1")),
        (ScaleOffset(), spec("bool")),
        (ScaleOffset(), spec("c8")),
        (ScaleOffset(0.5), spec("i4")),
        (ScaleOffset(300), spec("u1")),
        (ScaleOffset("0x00"), spec("f4")),
        (ScaleOffset(1, 0), spec("f4")),
        (CastValue("uint8"), spec("c8")),
        (CastValue("float32", out_of_range="wrap"), spec("f8")),
    ],
    ids=repr,
)
def test_what_cannot_work_is_said_when_binding(codec: Any, chunk: ChunkSpec) -> None:
    with pytest.raises(MetadataError):
        codec.bind(chunk)


def test_a_data_type_nobody_can_cast_to_is_named() -> None:
    with pytest.raises(UnknownExtensionError, match="float128") as caught:
        parse_codec({"name": "cast_value", "configuration": {"data_type": "float128"}}, "/codecs/0")
    assert caught.value.pointer == "/codecs/0/configuration/data_type"


@pytest.mark.parametrize(
    "codec",
    [
        BitRound(3),
        PackBits(),
        PackBits("last_byte", 2, 5),
        Reshape((2, (0, 1), -1)),
        ScaleOffset("NaN", 2),
        CastValue("int4", "towards-zero", "clamp"),
        CastValue({"name": "int8"}),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_metadata_there_and_back(codec: Any) -> None:
    assert parse_codec(codec.to_json()) == codec
    assert hash(parse_codec(codec.to_json())) == hash(codec)
