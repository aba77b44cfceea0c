"""Uncompressed shards, gathered as they are written: byte for byte what the codec makes of the whole shard."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.array.execution.encode_objects import PlainShard
from zarrdock.stores import local_files
from zarrdock.stores.base import join_value

SHAPE, SHARDS, CHUNKS = (12, 16, 18), (6, 8, 9), (3, 2, 3)


def values(dtype: str, *, empty: bool) -> Any:
    data = np.random.default_rng(0).integers(1, 100, SHAPE).astype(dtype)
    if empty:
        nothing = np.zeros((), dtype)
        data[:, 2:4] = nothing
        data[:6, :8, :9] = nothing  # a whole shard
        data[6:9, 8:10, 9:12] = nothing
        data[7, 9, 11] = 1  # beside the elements that are looked at first
    return data


@pytest.mark.parametrize("dtype", ["<u2", ">f8", "bool", "S3"])
@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("options", [{}, {"subchunk_write_order": "hilbert"}, {"write_empty_chunks": True}])
def test_as_the_codec_encodes_it(
    tmp_path: Path, dtype: str, location: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "_LAZY_NBYTES", 100)  # many calls a shard
    data = values(dtype, empty=True)
    endian = {"configuration": {"endian": "big"}} if dtype[0] in "<>" else {}
    kept = {}
    for name, store in {"local": zarrdock.LocalStore(tmp_path), "memory": zarrdock.MemoryStore()}.items():
        array = zarrdock.create_array(
            store,
            shape=SHAPE,
            dtype=data.dtype.newbyteorder("="),
            chunks=CHUNKS,
            shards={"shape": SHARDS, "index_location": location},
            compressors=[],
            serializer={"name": "bytes", **endian},
            options=options,
        )
        array[...] = data
        np.testing.assert_array_equal(array[...], data)
        kept[name] = {entry.key: bytes(store.get(entry.key).data) for entry in store.list("c")}
    assert kept["local"] == kept["memory"]
    assert len(kept["local"]) == (8 if "write_empty_chunks" in options else 7)
    if "write_empty_chunks" in options:
        return
    bound = array._layout.levels[0].sharding
    for key, found in kept["local"].items():
        i, j, k = (int(number) for number in key.split("/")[1:])
        shard = data[6 * i : 6 * i + 6, 8 * j : 8 * j + 8, 9 * k : 9 * k + 9]
        assert found == bytes(bound.encode(shard.astype(array.dtype)))


def test_parts_are_made_when_asked_for() -> None:
    data = values("<u2", empty=False)
    seen: list[Any] = []

    class Watching(zarrdock.MemoryStore):
        def write(self, key: str, value: Any, /, *, create_only: bool = False) -> None:
            seen.append(value)
            super().write(key, value, create_only=create_only)

    array = zarrdock.create_array(
        Watching(), shape=SHAPE, dtype="u2", chunks=CHUNKS, shards=SHARDS, compressors=[], fill_value=0
    )
    array[...] = data
    shards = [value for value in seen if isinstance(value, PlainShard)]
    assert len(shards) == 8
    assert len(shards[0]) == 2 * 4 * 3 + 1
    assert join_value(shards[0]) == b"".join(shards[0]) == b"".join(shards[0][:])
    assert shards[0][-1] is shards[0][24]  # the index
    with pytest.raises(IndexError):
        shards[0][25]
