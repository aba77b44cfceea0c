"""Blocks of N5: as TensorStore's N5 driver writes and reads them, of other shapes than the chunk's, and damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ChunkSpec
from zarrdock.codecs.n5_default import N5Default
from zarrdock.errors import CodecError, MetadataError

TRANSPOSE = {"name": "transpose", "configuration": {"order": [1, 0]}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


def codec(*compressors: Any) -> dict[str, Any]:
    return {"name": "n5_default", "configuration": {"codecs": [TRANSPOSE, BIG, *compressors]}}


def bind(shape: tuple[int, int] = (3, 2), dtype: Any = "i2", fill: Any = None, *compressors: Any) -> Any:
    dtype = np.dtype(dtype)
    return parse_codec(codec(*compressors)).bind(  # type: ignore[attr-defined]
        ChunkSpec(shape, dtype, np.zeros((), dtype)[()] if fill is None else fill)
    )


def block(array: Any) -> bytes:
    """A block of the format's own words: mode, dimensions, elements with the first axis fastest, big-endian."""
    array = np.asarray(array)
    header = struct.pack(f">HH{array.ndim}I", 0, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes(order="F")


def test_the_format() -> None:
    array = np.arange(6, dtype="i2").reshape(3, 2)
    bound = bind()
    assert bytes(bound.encode(array)) == block(array)
    for data in (block(array), memoryview(block(array))):
        assert np.array_equal(bound.decode(data), array)
    assert np.array_equal(bind((3, 2), ">i2").decode(block(array)), array)


@pytest.mark.parametrize("shape", [(3, 1), (1, 1), (2, 2), (5, 2), (4, 5), (2, 7), (0, 2)], ids=str)
def test_blocks_of_other_shapes(shape: tuple[int, int]) -> None:
    array = np.arange(1, 1 + shape[0] * shape[1], dtype="f4").reshape(shape)
    for compressors in ((), ({"name": "gzip", "configuration": {"level": 1}},)):
        written = parse_codec(codec(*compressors)).bind(ChunkSpec(shape, np.dtype("f4"), np.float32(0)))  # type: ignore[attr-defined]
        bound = bind((3, 2), "f4", np.float32(-1), *compressors)
        decoded = bound.decode(bytes(written.encode(array)))
        expected = np.full((3, 2), -1, "f4")
        both = (slice(min(3, shape[0])), slice(min(2, shape[1])))
        expected[both] = array[both]
        assert decoded.astype("f4").tobytes() == expected.tobytes()


def test_damage() -> None:
    bound = bind()
    good = block(np.arange(6, dtype="i2").reshape(3, 2))
    for data, what in [
        (good[:11], "header"),
        (b"", "header"),
        (b"\0\1" + good[2:], "varlength"),
        (b"\0\2" + good[2:], "object"),
        (b"\0\0\0\3" + good[4:], "3 dimensions"),
        (good[:-1], "bytes"),
        (good + b"\0", "bytes"),
        (struct.pack(">HH2I", 0, 2, 2**32 - 1, 2**32 - 1) + good[12:], "at most"),
        (struct.pack(">HH2I", 0, 2, 4000, 4000) + good[12:], "bytes"),
    ]:
        with pytest.raises(CodecError, match=what):
            bound.decode(data)


@pytest.mark.parametrize(
    ("codecs", "pointer"),
    [
        (None, "/codecs"),
        ([], "/codecs"),
        ([BIG], "/codecs"),
        ([TRANSPOSE, BIG, "crc32c", "crc32c"], "/codecs"),
        ([TRANSPOSE, "vlen-utf8"], "/codecs"),
        ([{"name": "transpose", "configuration": {"order": [0, 0]}}, BIG], "/codecs/0/configuration/order"),
    ],
    ids=str,
)
def test_wrong_metadata(codecs: Any, pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        parse_codec({"name": "n5_default", "configuration": {"codecs": codecs}})
    assert caught.value.pointer == "/configuration" + pointer


@pytest.mark.parametrize(
    ("codecs", "dtype", "what"),
    [
        ([{"name": "transpose", "configuration": {"order": [0, 1]}}, BIG], "i2", "reversed"),
        ([TRANSPOSE, {"name": "bytes", "configuration": {"endian": "little"}}], "i2", '"big"'),
        ([TRANSPOSE, BIG], "bool", "N5 has integers"),
        ([TRANSPOSE, BIG], "f2", "N5 has integers"),
    ],
    ids=str,
)
def test_what_n5_does_not_have(codecs: Any, dtype: str, what: str) -> None:
    with pytest.raises(MetadataError, match=what):
        N5Default(codecs).bind(ChunkSpec((2, 2), np.dtype(dtype), np.zeros((), dtype)[()]))


def test_the_registrys_example() -> None:
    """codecs/n5_default/examples/zstd_array/zarr.json"""
    zstd = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
    parsed = parse_codec(codec(zstd))
    assert parsed.to_json() == codec(zstd)
    assert hash(parsed) == hash(parse_codec(codec(zstd)))


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize(
    ("compression", "compressors"),
    [
        ({"type": "raw"}, []),
        ({"type": "gzip", "level": 3}, [{"name": "gzip", "configuration": {"level": 3}}]),
        ({"type": "zstd", "level": 3}, [{"name": "zstd", "configuration": {"level": 3}}]),
        (
            {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
            [{"name": "blosc", "configuration": {"cname": "lz4", "shuffle": "shuffle"}}],
        ),
    ],
    ids=str,
)
def test_folders_that_are_both(tmp_path: Path, dtype: str, compression: Any, compressors: Any) -> None:
    """One folder with both kinds of metadata: TensorStore writes N5, zarrdock reads Zarr; and the other way round."""
    import tensorstore as ts

    values = np.arange(1, 71).reshape(10, 7).astype(dtype)
    n5: Any = {"dimensions": [10, 7], "blockSize": [4, 3], "dataType": dtype, "compression": compression}
    theirs = ts.open(
        {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/theirs/"}, "metadata": n5}, create=True
    ).result()
    theirs.write(values).result()
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [10, 7],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 3]}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [codec(*compressors)],
    }
    if compression["type"] == "blosc":
        document["codecs"][0]["configuration"]["codecs"][2]["configuration"]["typesize"] = values.itemsize  # type: ignore[index]
    (tmp_path / "theirs" / "zarr.json").write_text(json.dumps(document))
    array = zarrdock.open_array(tmp_path / "theirs", mode="r+")
    assert np.array_equal(array[...], values)

    array[3:5, 2:4] = 9
    (tmp_path / "theirs" / "zarr.json").unlink()
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/theirs/"}}
    values[3:5, 2:4] = 9
    assert np.array_equal(ts.open(spec, open=True).result().read().result(), values)
