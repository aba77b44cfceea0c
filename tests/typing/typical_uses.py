"""Thirty typical uses of the public names, for type checkers: mypy and pyright read this file in strict mode.

The tests run it as well, so that the code a type checker accepts is code that works.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import zarrdock
from zarrdock.errors import MetadataError, NodeNotFoundError
from zarrdock.storage import Entry, Read, Span, Store
from zarrdock.tools import check, recompress, relayout

folder = Path(tempfile.mkdtemp())
data = np.random.default_rng(0).integers(0, 1000, (20, 40, 40), "uint16")

# 1-3: create
array = zarrdock.create_array(folder / "a.zarr", data=data, chunks=(8, 8, 8), shards=(16, 32, 32))
group = zarrdock.create_group(str(folder / "g.zarr"), attributes={"unit": "mm"})
empty = zarrdock.create_array(
    zarrdock.MemoryStore(),
    shape=(0, 4),
    dtype="float32",
    chunks=(2, 4),
    compressors=[zarrdock.Zstd(level=5), zarrdock.Crc32c()],
    fill_value=float("nan"),
    dimension_names=("t", "x"),
)

# 4-6: open
opened = zarrdock.open_array(folder / "a.zarr", "r+", cache_bytes=2**20)
either: zarrdock.Array | zarrdock.Group = zarrdock.open(folder / "g.zarr")
members = zarrdock.open_group(folder / "g.zarr", "a")

# 7-12: index
box: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = opened[1:3, ::2]
opened[0] = 7
columns = opened.oindex[[0, 2], :, [1, 3]]
points = opened.vindex[[0, 1], [2, 3], [4, 5]]
block = opened.blocks[0, 0, 0]
out = np.empty((4, 4), "float64")
opened.read((3, slice(4), slice(4)), out=out)

# 13-15: what an array is
shape: tuple[int, ...] = opened.shape
dtype: np.dtype[np.generic] = opened.dtype
shards: tuple[int, ...] | None = opened.shards

# 16-18: grow
empty.append(np.ones((3, 4), "float32"))
empty.resize((2, 4))
empty.attrs["unit"] = "K"

# 19: plan
plan = opened.plan((slice(4), slice(4), 0))
cost: tuple[int, int] = (plan.n_rounds, plan.n_requests)

# 20-22: groups
made = members.create_array("deep/er", shape=(4,), dtype="int8", options={"write_empty_chunks": True})
names: list[str] = list(members.keys())
member: zarrdock.Array | zarrdock.Group = members["deep"]

# 23: copy
copied = zarrdock.copy(folder / "a.zarr", folder / "b.zarr.zip", chunks=10, shards=20, compressors="gzip")

# 24-26: stores
recorder = zarrdock.RecordingStore(zarrdock.open_store(folder / "a.zarr", read_only=True))
(blob,) = recorder.read([Read("zarr.json", Span(0, 10))])
start: bytes = b"" if blob is None or isinstance(blob, Exception) else bytes(blob.data)
entries: Iterator[Entry] = recorder.list()

# 27-28: errors
try:
    zarrdock.open_array(folder / "nothing.zarr")
except NodeNotFoundError as error:
    message: str = str(error)
try:
    zarrdock.create_array(folder / "c.zarr", shape=(4,), dtype="int8", chunks=(3,), shards=(4,))
except MetadataError as error:
    pointer: str = error.pointer


# 29: a coroutine
async def later(array: zarrdock.Array) -> int:
    values = await array.read_async((0, 0, slice(2)))
    return int(values.sum())


total: int = asyncio.run(later(opened))


# 30: tools
def good(store: Store) -> bool:
    return check(store).is_good


assert good(zarrdock.LocalStore(folder / "a.zarr"))
assert relayout(folder / "a.zarr", order="morton").n_objects >= 0
assert callable(recompress)


# 31: lazy selections
lazy: zarrdock.LazySelection = opened.lazy[0].lazy[..., ::-1]
lazy_shape: tuple[int, ...] = lazy.shape
several = zarrdock.read_many([lazy, opened.lazy.oindex[[0], 0], opened])
n_lazy_rounds: int = lazy.plan().n_rounds

# 32: virtual arrays
both: zarrdock.VirtualArray = zarrdock.concatenate([opened, opened], axis=1)
both.save(folder / "both.json")
both_again: zarrdock.Array = zarrdock.open_virtual(folder / "both.json")

# 33: missing chunks
strict: zarrdock.Array = zarrdock.open_array(folder / "a.zarr", missing="error")
