"""Codecs given as zarr-python's and numcodecs' objects: the array is what those libraries would have made of them."""

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from zarr.codecs import (  # noqa: E402
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    VLenUTF8Codec,
    ZstdCodec,
)

import zarrdock  # noqa: E402
from zarrdock.codecs.given_codecs import codec_of  # noqa: E402
from zarrdock.errors import MetadataError, UnknownExtensionError  # noqa: E402

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")]

VALUES = np.arange(64, dtype="i4").reshape(8, 8)
BOTH: dict[str, dict[str, Any]] = {
    "blosc": {"compressors": BloscCodec()},
    "blosc with members": {"compressors": BloscCodec(cname="lz4", clevel=3, shuffle="shuffle", blocksize=64)},
    "gzip": {"compressors": GzipCodec(level=2)},
    "two": {"compressors": [ZstdCodec(level=3, checksum=True), Crc32cCodec()]},
    "transpose": {"filters": TransposeCodec(order=(1, 0)), "compressors": ZstdCodec()},
    "big endian": {"serializer": BytesCodec(endian="big"), "compressors": None},
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_what_zarr_python_makes_of_its_objects(kind: str, shards: Any) -> None:
    layout: dict[str, Any] = {"shape": VALUES.shape, "dtype": "i4", "chunks": (4, 4), "shards": shards}
    theirs: dict[str, Any] = {}
    zarr.create_array(theirs, **layout, **BOTH[kind])[:] = VALUES
    store = zarrdock.MemoryStore()
    array = zarrdock.create_array(store, **layout, **BOTH[kind])
    array[:] = VALUES
    expected = zarrdock.open_array(zarr.storage.MemoryStore(theirs)).metadata.codecs
    assert array.metadata.codecs == expected
    from zarrdock.adapters.zarr_python import ZarrStore

    np.testing.assert_array_equal(zarr.open_array(ZarrStore(store), mode="r")[...], VALUES)


def test_the_typesize_is_the_arrays_where_the_object_leaves_it_open() -> None:
    def made(codec: Any, dtype: str) -> Any:
        array = zarrdock.create_array({}, shape=(8,), dtype=dtype, compressors=codec)
        return array.compressors[0].to_json()["configuration"]

    assert (made(BloscCodec(), "f8")["typesize"], made(BloscCodec(), "f8")["shuffle"]) == (8, "shuffle")
    assert (made(BloscCodec(), "u1")["typesize"], made(BloscCodec(), "u1")["shuffle"]) == (1, "bitshuffle")
    assert made(BloscCodec(typesize=2), "f8")["typesize"] == 2
    assert made(numcodecs.Blosc("zstd", 4, numcodecs.Blosc.BITSHUFFLE), "f8") == {
        "cname": "zstd", "clevel": 4, "shuffle": "bitshuffle", "typesize": 8, "blocksize": 0,
    }  # fmt: skip


def test_a_shard_given_whole() -> None:
    inner = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec(), BloscCodec()], index_location="start")
    array = zarrdock.create_array({}, data=VALUES, chunks=(4, 4), serializer=inner, compressors=None)
    assert (array.shards, array.chunks) == ((4, 4), (2, 2))
    assert array.compressors[0].to_json()["configuration"]["typesize"] == 4
    np.testing.assert_array_equal(array[...], VALUES)


NUMCODECS: dict[str, dict[str, Any]] = {
    "blosc": {"compressors": numcodecs.Blosc()},
    "zstd": {"compressors": numcodecs.Zstd(5)},
    "a list": {"compressors": [numcodecs.GZip(3)]},
    "lzma": {"compressors": numcodecs.LZMA()},
    "delta": {"filters": numcodecs.Delta(dtype="i4"), "compressors": numcodecs.Zlib(1)},
    "scale": {"filters": [numcodecs.FixedScaleOffset(0, 2, "i4", "i4")], "compressors": None},
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", NUMCODECS)
def test_objects_of_numcodecs(kind: str, zarr_format: Any, tmp_path: Path) -> None:
    given = NUMCODECS[kind]
    array = zarrdock.create_array(tmp_path, data=VALUES, chunks=(4, 4), zarr_format=zarr_format, **given)
    np.testing.assert_array_equal(array[...], VALUES)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[...], VALUES)
    if zarr_format == 2:
        theirs = zarr.create_array({}, shape=(8, 8), dtype="i4", chunks=(4, 4), zarr_format=2, **given).metadata
        ours = zarr.open_array(tmp_path, mode="r").metadata
        assert (theirs.compressor, theirs.filters) == (ours.compressor, ours.filters)


def test_text_by_either_librarys_object(tmp_path: Path) -> None:
    words = np.array(["a", "bc", ""], dtype=np.dtypes.StringDType())
    for i, serializer in enumerate((VLenUTF8Codec(), numcodecs.VLenUTF8())):
        array = zarrdock.create_array(tmp_path / str(i), data=words, serializer=serializer)
        assert array[...].tolist() == ["a", "bc", ""]


def test_v2_takes_zarr_pythons_objects_too(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path, data=VALUES, chunks=(4, 4), zarr_format=2, compressors=ZstdCodec(level=3))
    assert zarr.open_array(tmp_path, mode="r").metadata.compressor == numcodecs.Zstd(3)


@pytest.mark.parametrize("given", [BloscCodec(cname="zlib"), numcodecs.Blosc("zlib"), {"id": "blosc", "cname": "zlib"}])
def test_copies_take_them(given: Any) -> None:
    source = zarrdock.create_array({}, data=VALUES, chunks=(4, 4))
    copied = zarrdock.copy(source, {}, compressors=given)
    assert isinstance(copied, zarrdock.Array)
    found = copied.compressors[0].to_json()["configuration"]
    assert (found["cname"], found["typesize"]) == ("zlib", 4)
    np.testing.assert_array_equal(copied[...], VALUES)


def test_what_is_no_codec() -> None:
    for wrong in (3, object(), [3.5], ("gzip", object())):
        with pytest.raises(MetadataError, match=r"^compressors="):
            zarrdock.create_array({}, data=VALUES, compressors=wrong)  # type: ignore[arg-type]
    for parameter, given, right in (
        (
            "compressors",
            numcodecs.Delta(dtype="i4"),
            "an array-to-array codec, not a bytes-to-bytes codec: .*filters=",
        ),
        ("compressors", "bytes", "an array-to-bytes codec, not a bytes-to-bytes codec: give it as serializer="),
        ("serializer", "gzip", "a bytes-to-bytes codec, not an array-to-bytes codec: give it as compressors="),
        ("filters", "crc32c", "a bytes-to-bytes codec, not an array-to-array codec: give it as compressors="),
    ):
        with pytest.raises(MetadataError, match=f"^{parameter}=.*is {right}"):
            zarrdock.create_array({}, data=VALUES, **{parameter: given})  # type: ignore[arg-type]
    with pytest.raises(UnknownExtensionError, match=r"of that name is 'numcodecs\.pcodec'"):
        zarrdock.create_array({}, data=VALUES, compressors="pcodec")
    with pytest.raises(UnknownExtensionError, match="did you mean 'zstd'"):
        zarrdock.create_array({}, data=VALUES, compressors="zst")

    class Unknown:
        def get_config(self) -> dict[str, Any]:
            return {"id": "test-unknown"}

    with pytest.raises(UnknownExtensionError, match="test-unknown"):
        codec_of(Unknown(), "/compressors")
