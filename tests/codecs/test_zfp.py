"""The registry's zfp against zfp's own library, in all modes, and damaged streams."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zfpy

from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.zfp_ import Zfp
from zarrdock.errors import CodecError, MetadataError

SHAPES = [(), (100,), (30, 20), (9, 10, 11), (3, 4, 5, 6)]
MODES: list[tuple[str, dict[str, Any]]] = [
    ("reversible", {}),
    ("fixed_accuracy", {"tolerance": 0.05}),
    ("fixed_accuracy", {"tolerance": 1e-300}),
    ("fixed_rate", {"rate": 10}),
    ("fixed_rate", {"rate": 7.3}),
    ("fixed_precision", {"precision": 19}),
]
EXPERT = {"minbits": 1, "maxbits": 99, "maxprec": 30, "minexp": -40}


def bind(codec: Zfp, array: np.ndarray[Any, Any]) -> Any:
    return codec.bind(ChunkSpec(array.shape, array.dtype, np.zeros((), array.dtype)[()]))


def values(dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.asarray(np.random.default_rng(0).normal(0, 1000, shape)).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize(("mode", "arguments"), MODES, ids=str)
def test_streams_are_the_librarys(mode: Any, arguments: dict[str, Any], dtype: str, shape: tuple[int, ...]) -> None:
    array = values(dtype, shape)
    codec = Zfp(mode, **arguments)
    assert parse_codec(codec.to_json()) == codec
    if mode == "fixed_accuracy" and dtype.startswith("i"):
        with pytest.raises(MetadataError, match="floats only"):
            bind(codec, array)
        return
    bound = bind(codec, array)
    plain = array.reshape(shape or (1,))
    encoded = bound.encode(np.asfortranarray(array))
    assert encoded == zfpy.compress_numpy(plain, write_header=False, **arguments)
    assert len(encoded) <= bound.encoded.limit
    expected = zfpy.decompress_numpy(zfpy.compress_numpy(plain, write_header=True, **arguments)).reshape(shape)
    decoded = bound.decode(memoryview(encoded))
    assert decoded.shape == shape
    assert decoded.tobytes() == expected.tobytes()
    if mode == "reversible":
        assert decoded.tobytes() == array.tobytes()
    big = array.astype(array.dtype.newbyteorder(">"))
    assert bound.encode(big) == encoded


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_expert_mode_is_read(dtype: str, shape: tuple[int, ...]) -> None:
    """The library for Python cannot write it, but what a precision means can be said in the expert's words."""
    array = values(dtype, shape)
    maxbits = min(16658, 8 * (2 * array.itemsize + 16) * 4 ** len(shape))
    expert = Zfp("expert", minbits=1, maxbits=maxbits, maxprec=17, minexp=-1074)
    precise = bind(Zfp("fixed_precision", precision=17), array)
    encoded = precise.encode(array)
    assert bind(expert, array).decode(encoded).tobytes() == precise.decode(encoded).tobytes()
    with pytest.raises(CodecError, match="cannot write"):
        bind(expert, array).encode(array)


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "uint8",
        "int16",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "M8[s]",
        "m8[ms]",
        *"bfloat16 int4 uint2".split(),
    ],
)
def test_types_that_are_stored_as_larger_ones(dtype: str) -> None:
    kind: Any = np.dtype(getattr(ml_dtypes, dtype, dtype))
    array = np.arange(40).astype("i4").reshape(5, 8)
    array = (array % 4).astype(np.int8).astype(kind) if dtype in ("int4", "uint2") else array.astype("i8").astype(kind)
    bound = bind(Zfp(), array)
    decoded = bound.decode(bound.encode(array))
    assert decoded.dtype == kind
    assert decoded.tobytes() == array.tobytes()


def test_small_integers_lie_where_the_registry_puts_them() -> None:
    unsigned = np.array([0, 128, 255], np.uint8)
    as_signed = ((unsigned.astype(np.int32) - 128) << 23).astype(np.int32)
    assert bind(Zfp(), unsigned).encode(unsigned) == zfpy.compress_numpy(as_signed, write_header=False)
    assert bind(Zfp(), np.array([-5], "i2")).encode(np.array([-5], "i2")) == zfpy.compress_numpy(
        np.array([-5 << 15], np.int32), write_header=False
    )


def test_unsigned_integers_without_room() -> None:
    array = np.array([2**31], np.uint32)
    with pytest.raises(CodecError, match="beyond"):
        bind(Zfp(), array).encode(array)


@pytest.mark.parametrize(
    ("configuration", "pointer"),
    [
        ({}, "/mode"),
        ({"mode": 4, "tolerance": 0.1}, "/mode"),
        ({"mode": "fixed_accuracy"}, "/tolerance"),
        ({"mode": "fixed_accuracy", "tolerance": -1}, "/tolerance"),
        ({"mode": "fixed_accuracy", "tolerance": float("inf")}, "/tolerance"),
        ({"mode": "fixed_rate", "rate": "8"}, "/rate"),
        ({"mode": "fixed_precision", "precision": 0}, "/precision"),
        ({"mode": "reversible", "precision": 3}, "/precision"),
        ({"mode": "expert", "minbits": 1, "maxbits": 13, "maxprec": 19}, "/minexp"),
    ],
    ids=str,
)
def test_wrong_metadata(configuration: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec({"name": "zfp", "configuration": configuration})
    assert caught.value.pointer == "/configuration" + pointer


def test_the_registrys_example_of_expert_mode() -> None:
    """codecs/zfp/examples/expert.json"""
    document = {"minbits": 1, "maxbits": 13, "maxprec": 19, "minexp": -2}
    codec: Any = parse_codec({"name": "zfp", "configuration": {"mode": "expert", **document}})
    assert codec.to_json()["configuration"] == {"mode": "expert", **document}
    # 13 bits for each block of 4, and no more.
    bound = codec.bind(ChunkSpec((8,), np.dtype("f4"), np.float32(0)))
    assert bound.decode(bytes(8)).shape == (8,)


@pytest.mark.parametrize(
    ("codec", "shape", "dtype"),
    [
        (Zfp(), (2, 2, 2, 2, 2), "f4"),
        (Zfp(), (0, 3), "f4"),
        (Zfp(), (2,), "bool"),
        (Zfp(), (2,), "c8"),
        (Zfp(), (2,), "S4"),
        (Zfp(), (2**16 + 1, 1, 1), "f4"),
        (Zfp("fixed_rate", rate=1000), (2,), "f4"),
        (Zfp("expert", minbits=1, maxbits=2**15, maxprec=1, minexp=0), (2,), "f4"),
        (Zfp("expert", minbits=9, maxbits=8, maxprec=1, minexp=0), (2,), "f4"),
    ],
    ids=str,
)
def test_what_cannot_work_is_said_when_binding(codec: Zfp, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(MetadataError):
        codec.bind(ChunkSpec(shape, np.dtype(dtype), np.zeros((), dtype)[()]))


@pytest.mark.parametrize(
    ("mode", "arguments"), [*MODES, ("expert", {"minbits": 1, "maxbits": 99, "maxprec": 30, "minexp": -40})], ids=str
)
def test_damage(mode: Any, arguments: dict[str, Any]) -> None:
    rng = random.Random(0)
    array = values("f4", (7, 9))
    bound = bind(Zfp(mode, **arguments), array)
    good = bytes(zfpy.compress_numpy(array, write_header=False))
    for _ in range(300):
        broken = bytearray(good)
        for _ in range(rng.randrange(1, 9)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        cut = rng.randrange(1, len(broken) + 1)
        try:
            assert bound.decode(bytes(broken[:cut])).shape == (7, 9)
        except CodecError:
            pass
    for data in (b"", bytes(bound.encoded.limit + 1)):
        with pytest.raises(CodecError):
            bound.decode(data)
