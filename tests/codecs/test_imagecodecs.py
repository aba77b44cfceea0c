"""The codecs of imagecodecs, as it registers them: in v3 with zarr-python, in v2 with numcodecs.

Its packages for either are made for Python 3.12 and later: on 3.11 there is nothing to test.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarrdock.errors import CodecError, MetadataError, UnknownExtensionError

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="imagecodecs-zarr and imagecodecs-numcodecs need Python 3.12 or later"
)

# A photograph, more or less: smooth, with a little noise.
IMAGE = (np.add.outer(np.arange(96) // 2, np.arange(128)) + np.random.default_rng(4).integers(0, 4, (96, 128))).astype(
    "u1"
)
FLOATS = IMAGE.astype("f4") / 7

BYTES = ["imagecodecs_zstd", "imagecodecs_lz4f", "imagecodecs_deflate", "imagecodecs_brotli", "imagecodecs_snappy"]
IMAGES: dict[str, dict[str, Any]] = {
    "imagecodecs_jpegxl": {"lossless": True},
    "imagecodecs_jpegls": {},
    "imagecodecs_png": {},
    "imagecodecs_jpeg2k": {"reversible": True},
}


def v3(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


@pytest.mark.peer
def test_their_kinds() -> None:
    assert isinstance(parse_codec("imagecodecs_zstd"), BytesBytesCodec)
    assert isinstance(parse_codec("imagecodecs_jpegxl"), ArrayBytesCodec)
    assert isinstance(parse_codec("imagecodecs_delta"), ArrayArrayCodec)
    with pytest.raises(UnknownExtensionError, match="imagecodecs_unheard"):
        parse_codec("imagecodecs_unheard")


@pytest.mark.peer
@pytest.mark.parametrize("shards", [None, (64, 128)])
@pytest.mark.parametrize("name", BYTES)
def test_compressors_in_v3(name: str, shards: Any) -> None:
    store: dict[str, Any] = {}
    array = zarrdock.create_array(store, data=FLOATS, chunks=(32, 64), shards=shards, compressors=[name])
    expected = FLOATS.copy()
    array[30:40, 5] = expected[30:40, 5] = 1
    assert np.array_equal(zarrdock.open_array(store)[...], expected)
    assert np.array_equal(theirs(store)[...], expected)
    assert sum(len(bytes(value)) for key, value in store.items() if key.startswith("c/")) < FLOATS.nbytes


@pytest.mark.peer
def test_filters_in_v3() -> None:
    store: dict[str, Any] = {}
    zarrdock.create_array(
        store, data=IMAGE, chunks=(32, 64), filters=["imagecodecs_delta"], compressors=["imagecodecs_zstd"]
    )
    plain: dict[str, Any] = {}
    zarrdock.create_array(plain, data=IMAGE, chunks=(32, 64), compressors=["imagecodecs_zstd"])
    assert len(bytes(store["c/0/0"])) < len(bytes(plain["c/0/0"]))
    assert np.array_equal(zarrdock.open_array(store)[...], IMAGE)
    assert np.array_equal(theirs(store)[...], IMAGE)


@pytest.mark.peer
@pytest.mark.parametrize("name", IMAGES)
def test_images_in_v3(name: str) -> None:
    store: dict[str, Any] = {}
    array = zarrdock.create_array(
        store,
        data=IMAGE,
        chunks=(32, 64),
        shards=(96, 128),
        serializer=v3(name, **IMAGES[name]),
        compressors=None,
    )
    expected = IMAGE.copy()
    array[30:40, 5] = expected[30:40, 5] = 1
    assert np.array_equal(zarrdock.open_array(store)[...], expected)
    assert np.array_equal(theirs(store)[...], expected)


@pytest.mark.peer
def test_what_zarr_python_wrote() -> None:
    import zarr

    store = zarr.storage.MemoryStore()
    codec = zarr.registry.get_codec_class("imagecodecs_jpegxl")
    array = zarr.create_array(
        store, shape=IMAGE.shape, chunks=(32, 64), dtype="u1", serializer=codec(lossless=True), compressors=None
    )
    array[...] = IMAGE
    found = zarrdock.open_array({key: value.to_bytes() for key, value in store._store_dict.items()})
    assert np.array_equal(found[...], IMAGE)


@pytest.mark.parametrize("name", [*BYTES, *IMAGES])
def test_compressors_in_v2(name: str) -> None:
    store: dict[str, Any] = {}
    data = FLOATS if name in BYTES else IMAGE
    configuration = {"id": name, **IMAGES.get(name, {})}
    array = zarrdock.create_array(store, data=data, chunks=(32, 64), zarr_format=2, compressors=configuration)
    expected = data.copy()
    array[30:40, 5] = expected[30:40, 5] = 1
    assert np.array_equal(zarrdock.open_array(store)[...], expected)
    assert np.array_equal(theirs(store)[...], expected)


def test_errors() -> None:
    store: dict[str, Any] = {}
    zarrdock.create_array(store, data=IMAGE, chunks=(96, 128), serializer="imagecodecs_jpegls", compressors=None)
    store["c/0/0"] = bytes(store["c/0/0"])[:50]
    with pytest.raises(CodecError, match="imagecodecs_jpegls"):
        zarrdock.open_array(store).read()
    with pytest.raises(MetadataError, match="imagecodecs_zstd"):
        parse_codec({"name": "imagecodecs_zstd", "configuration": {"lock": 7}})


def theirs(store: dict[str, Any]) -> Any:
    """The same array, opened by zarr-python."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    documents = {key: buffer.from_bytes(bytes(value)) for key, value in store.items()}
    return zarr.open_array(zarr.storage.MemoryStore(documents), mode="r")
