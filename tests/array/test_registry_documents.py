"""What the Zarr extension registry documents: every metadata document in it that is text.

Each is parsed, written again and parsed once more. Documented values and bytes are in ``test_registry_values.py``, the
keys that chunk key encodings document in ``test_key_extensions.py``.

Not here, since they exist as binary files only: the chunks of the sample arrays ``bitround_float32.zarr`` and
``bitround_uint8.zarr`` (their documented values are), ``array_optional.zarr`` and ``array_optional_nested.zarr`` (a
codec and a data type that zarrdock does not have), the chunk of n5_default's ``zstd_array`` (its metadata is), and the
TIFF headers that ``offset`` and ``pad`` are shown with.

Three examples contradict the registry's own text, and are refused: ``numcodecs.shuffle`` stands before ``bytes`` though
it works on bytes, ``numcodecs.packbits`` is given a ``keepbits`` that it does not have, and ``numcodecs.bz2`` is called
``bz2``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.metadata.chunk_grids import parse_chunk_grid
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.codecs.builtin import parse_codec
from zarrdock.errors import MetadataError, UnknownExtensionError

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def document(codecs: Any, *, data_type: Any = "float32", shape: Any = (4,), fill_value: Any = 0) -> dict[str, Any]:
    """The rest of what an example leaves out."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": fill_value,
        "codecs": codecs,
    }


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


# -- codecs: examples of their metadata -------------------------------------------------------------------------------

EXAMPLES: dict[str, dict[str, Any]] = {
    "bitround": document([codec("bitround", keepbits=10), LITTLE]),
    "bitround, sample data": document([codec("bitround", keepbits=3), LITTLE]),
    "cast_value": document(
        [codec("cast_value", data_type="uint8", rounding="towards-zero", out_of_range="clamp"), "bytes"]
    ),
    "scale_offset": document([codec("scale_offset", offset=5, scale=0.1), LITTLE]),
    "scale_offset, converted": document(
        [
            codec("scale_offset", scale=0.1, offset=10),
            codec("cast_value", data_type="uint8", out_of_range="wrap"),
            "bytes",
        ]
    ),
    "numcodecs.fixedscaleoffset, to convert": document(
        [codec("numcodecs.fixedscaleoffset", astype="uint8", dtype="float32", scale=0.1, offset=10), "bytes"]
    ),
    "reshape": document([codec("reshape", shape=[[0, 1], [2], 3]), LITTLE], shape=(100, 50, 64, 3)),
    "zstd": document([LITTLE, codec("zstd", level=1, checksum=True)]),
    "vlen-utf8": document([codec("vlen-utf8")], data_type="string", fill_value=""),
    "vlen-bytes": document([codec("vlen-bytes")], data_type="bytes", fill_value=""),
    "sharding_indexed": document(
        [
            codec(
                "sharding_indexed",
                chunk_shape=[32, 32],
                codecs=[LITTLE, codec("gzip", level=1)],
                index_codecs=[LITTLE, {"name": "crc32c"}],
                index_location="end",
            )
        ],
        shape=(64, 64),
    ),
    "zfp": document([codec("zfp", mode="fixed_accuracy", tolerance=0.05)]),
    "zfp, expert": document([codec("zfp", mode="expert", minbits=1, maxbits=13, maxprec=19, minexp=-2)]),
    "zfp, fixed_precision": document([codec("zfp", mode="fixed_precision", precision=19)]),
    "zfp, fixed_rate": document([codec("zfp", mode="fixed_rate", rate=10.5)]),
    "zfp, reversible": document([codec("zfp", mode="reversible")]),
    "numcodecs.adler32": document([LITTLE, codec("numcodecs.adler32", location="end")]),
    "numcodecs.astype": document([codec("numcodecs.astype", encode_dtype="float32"), LITTLE], data_type="float64"),
    "numcodecs.bitround": document([codec("numcodecs.bitround", keepbits=5), LITTLE]),
    "numcodecs.blosc": document([LITTLE, codec("numcodecs.blosc", cname="zstd", clevel=5, shuffle=1, blocksize=0)]),
    "numcodecs.crc32c": document([LITTLE, codec("numcodecs.crc32c", location="end")]),
    "numcodecs.delta": document([codec("numcodecs.delta", dtype="uint8"), "bytes"], data_type="uint8"),
    "numcodecs.fixedscaleoffset": document(
        [codec("numcodecs.fixedscaleoffset", offset=5, scale=10, dtype="int32"), LITTLE], data_type="int32"
    ),
    "numcodecs.fletcher32": document([LITTLE, codec("numcodecs.fletcher32")]),
    "numcodecs.gzip": document([LITTLE, codec("numcodecs.gzip", level=1)]),
    "numcodecs.jenkins_lookup3": document([LITTLE, codec("numcodecs.jenkins_lookup3", initval=0)]),
    "numcodecs.lz4": document([LITTLE, codec("numcodecs.lz4", acceleration=1)]),
    "numcodecs.lzma": document([LITTLE, codec("numcodecs.lzma", preset=5)]),
    "numcodecs.pcodec": document(
        [
            codec(
                "numcodecs.pcodec",
                level=5,
                mode_spec="auto",
                delta_spec="auto",
                paging_spec="equal_pages_up_to",
                delta_encoding_order=None,
                equal_pages_up_to=262144,
            )
        ]
    ),
    "numcodecs.quantize": document(
        [codec("numcodecs.quantize", digits=5, dtype="float64"), LITTLE], data_type="float64"
    ),
    "numcodecs.zfpy": document([codec("numcodecs.zfpy", mode=4)]),
    "numcodecs.zlib": document([LITTLE, codec("numcodecs.zlib", level=5)]),
    "numcodecs.zstd": document([LITTLE, codec("numcodecs.zstd", level=5, checksum=True)]),
    "n5_default, zstd_array": document(
        [
            codec(
                "n5_default",
                codecs=[
                    codec("transpose", order=[1, 0]),
                    codec("bytes", endian="big"),
                    codec("zstd", level=0, checksum=False),
                ],
            )
        ],
        shape=(256, 128),
    )
    | {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}},
    "string": document([codec("vlen-utf8")], data_type="string", fill_value=""),
    "bytes": document([codec("vlen-bytes")], data_type="bytes", fill_value=""),
    "fixed_length_utf32": document([LITTLE], data_type=codec("fixed_length_utf32", length_bytes=48), fill_value=""),
    "fixed_length_utf32, one character": document(
        [LITTLE], data_type=codec("fixed_length_utf32", length_bytes=4), fill_value=""
    ),
    "null_terminated_bytes": document(
        [{"name": "bytes"}], data_type=codec("null_terminated_bytes", length_bytes=10), fill_value=""
    ),
    "numpy.datetime64": document(
        [LITTLE], data_type=codec("numpy.datetime64", unit="us", scale_factor=10), fill_value="NaT"
    ),
    "numpy.timedelta64": document(
        [LITTLE], data_type=codec("numpy.timedelta64", unit="us", scale_factor=10), fill_value="NaT"
    ),
    "struct": document(
        [LITTLE],
        shape=(100,),
        data_type=codec(
            "struct", fields=[{"name": "x", "data_type": "float32"}, {"name": "y", "data_type": "float32"}]
        ),
        fill_value={"x": 0.0, "y": 0.0},
    ),
    "structured": document(
        [LITTLE],
        shape=(100,),
        data_type=codec("structured", fields=[["x", "float32"], ["y", "float32"]]),
        fill_value={"x": 0.0, "y": 0.0},
    ),
    "regular grid as a rectilinear one": document([LITTLE], shape=(6, 6, 6, 6, 6))
    | {
        "chunk_grid": {
            "name": "rectilinear",
            "configuration": {
                "kind": "inline",
                "chunk_shapes": [4, [1, 2, 3], [[4, 2]], [[1, 3], 3], [4, 4, 4]],
            },
        }
    },
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_metadata(name: str) -> None:
    example = EXAMPLES[name]
    metadata = ArrayMetadata.from_json(example)
    written = metadata.to_json()
    assert ArrayMetadata.from_json(written) == metadata
    for member in ("shape", "chunk_grid"):
        assert parsed(written[member]) == parsed(example[member])
    for ours, theirs in zip(written["codecs"], example["codecs"], strict=True):
        if isinstance(theirs, dict) and "configuration" in theirs:
            assert ours["name"] == theirs["name"]
            for member, value in theirs["configuration"].items():
                assert member == "codecs" or ours["configuration"][member] == value


def parsed(value: Any) -> Any:
    return parse_chunk_grid(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "zfp" not in name or "reversible" in name])
def test_arrays_with_the_metadata_of_the_examples(name: str) -> None:
    """They can be written to and read from; what loses bits does so as documented elsewhere."""
    example = EXAMPLES[name]
    store = zarrdock.MemoryStore()
    store.write("zarr.json", json.dumps(example).encode())
    array = zarrdock.open_array(store, mode="r+")
    if array.dtype.kind not in "fui" or array.ndim > 2:
        array[(0,) * array.ndim] = array[(0,) * array.ndim]
        return
    values = np.resize(np.array([10, 20, 30, 60], array.dtype), array.shape)
    array[...] = values
    np.testing.assert_allclose(zarrdock.open_array(store)[...], values, rtol=0.05)


@pytest.mark.parametrize(
    ("codecs", "name"),
    [
        ([codec("zarrs.zfp", mode="reversible")], "zarrs.zfp"),
        ([codec("zarrs.zfp", mode="fixed_accuracy", tolerance=0.05)], "zarrs.zfp"),
        ([codec("singleton_dim", operations=[{"insert": 0}, {"remove": 3}]), LITTLE], "singleton_dim"),
        ([{"name": "bz2"}], "bz2"),
    ],
)
def test_what_is_not_known_is_named_and_kept(codecs: Any, name: str) -> None:
    example = document(codecs)
    with pytest.raises(UnknownExtensionError) as caught:
        ArrayMetadata.from_json(example)
    assert caught.value.name == name
    assert ArrayMetadata.from_json(example, lenient=True).to_json()["codecs"][0] == codecs[0]


@pytest.mark.parametrize(
    "codecs",
    [
        [codec("numcodecs.shuffle", elementsize=4), LITTLE],
        [codec("numcodecs.packbits", keepbits=5), {"name": "bytes"}],
    ],
)
def test_examples_that_contradict_the_text(codecs: Any) -> None:
    store = zarrdock.MemoryStore()
    store.write("zarr.json", json.dumps(document(codecs, data_type="bool", fill_value=False)).encode())
    with pytest.raises(MetadataError):
        zarrdock.open_array(store)[...]


def test_every_codec_of_the_examples_is_in_the_table_of_names() -> None:
    for example in EXAMPLES.values():
        for one in example["codecs"]:
            assert parse_codec(one, "/codecs").name
