"""Arrays with checksums: no damage of what is stored goes unnoticed, and it is told where it is."""

import json
import random
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.checking import check
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import CodecError, MetadataError

VALUES = np.arange(1, 16 * 16 + 1, dtype="i4").reshape(16, 16)
KINDS = {
    "sharded": {"chunks": (4, 4), "shards": (8, 16)},
    "index at the start": {"chunks": (4, 4), "shards": {"shape": (8, 16), "index_location": "start"}},
    "nested": {"chunks": (4, 4), "shards": [(16, 16), (8, 8)]},
    "not compressed": {"chunks": (4, 4), "shards": (8, 16), "compressors": None},
    "gzip": {"chunks": (4, 4), "shards": (8, 16), "compressors": "gzip"},
    "not sharded": {"chunks": (8, 8)},
}


def make(kind: str) -> zarrdock.Array:
    array = zarrdock.create_array(zarrdock.MemoryStore(), data=VALUES, checksums=True, **KINDS[kind])
    assert check(array.store).is_good
    return array


def damaged(array: zarrdock.Array, rng: random.Random):
    """Objects with a bit turned in every fourth byte or so, one after the other: key, byte."""
    for key in [entry.key for entry in array.store.list("c")]:
        good = bytes(array.store.get(key).data)
        for at in sorted(rng.sample(range(len(good)), len(good) // 4)):
            broken = bytearray(good)
            broken[at] ^= 1 << rng.randrange(8)
            array.store.write(key, broken)
            yield key, at
        array.store.write(key, good)


@pytest.mark.parametrize("kind", KINDS)
def test_every_turned_bit_is_found(kind: str) -> None:
    array = make(kind)
    n = 0
    n_chunks = 0
    for key, at in damaged(array, random.Random(kind)):
        n += 1
        problems = check(array.store).problems
        assert problems, f"{key}, byte {at}"
        assert {problem.key for problem in problems} == {key}
        n_chunks += all(problem.chunk is not None for problem in problems)
        with pytest.raises(CodecError) as caught:
            array[...]
        assert caught.value.key == key
    assert n > 100
    assert n_chunks > (0.5 * n if kind != "nested" else 0.3 * n)  # the others are those of indexes


def test_the_chunk_is_told() -> None:
    array = make("not compressed")
    blob = bytearray(array.store.get("c/1/0").data)
    blob[4 * 16 * 5 + 5 * 4] ^= 4  # a number in the sixth chunk of the second shard, each with a checksum of 4 bytes
    array.store.write("c/1/0", blob)
    (problem,) = check(array.store).problems
    assert (problem.key, problem.chunk) == ("c/1/0", (3, 1))
    with pytest.raises(CodecError) as caught:
        array[12, 4]
    assert (caught.value.key, caught.value.chunk) == ("c/1/0", (1, 1))
    np.testing.assert_array_equal(array[:8], VALUES[:8])  # the rest can be read


def test_metadata() -> None:
    def codecs(**options):
        return zarrdock.create_array(zarrdock.MemoryStore(), shape=64, dtype="i4", chunks=8, **options).metadata.codecs

    assert Crc32c() not in codecs()
    assert codecs(checksums=True)[-1] == Crc32c()
    assert [c.name for c in codecs(checksums=True, compressors=["zstd", "crc32c"])] == ["bytes", "zstd", "crc32c"]
    (sharding,) = codecs(checksums=True, shards=32)
    assert isinstance(sharding, Sharding)
    assert sharding.codecs[-1] == Crc32c()
    with pytest.raises(MetadataError, match="checksums="):
        codecs(checksums=True, zarr_format=2)


@pytest.mark.parametrize(
    ("given", "checksum"),
    [
        ("auto", True),
        ("zstd", True),
        (["zstd"], True),
        ({"name": "zstd"}, True),
        ({"name": "zstd", "configuration": {"level": 3}}, True),
        ({"name": "zstd", "configuration": {"level": 3, "checksum": False}}, False),
        (zarrdock.Zstd(3), False),
        ({"id": "zstd", "level": 3}, False),
    ],
)
def test_zstd_by_its_name(given: Any, checksum: bool) -> None:
    """Who does not say otherwise gets the checksum, in Zarr v3; copies are made alike."""
    array = zarrdock.create_array({}, data=np.arange(10), compressors=given)
    assert [codec.checksum for codec in array.compressors if isinstance(codec, zarrdock.Zstd)] == [checksum]
    assert zarrdock.copy(array, None, compressors=given).compressors == array.compressors
    old = zarrdock.create_array({}, data=np.arange(10), compressors=given, zarr_format=2)
    assert "checksum" not in json.loads(old.store.get(".zarray").data)["compressor"]
    assert zarrdock.copy(array, None, compressors=given, zarr_format=2).compressors == old.compressors
