"""The floor of a whole read: decode and scatter on plain threads, with no framework around it.

It knows nothing of planning, missing chunks, errors, checksums or other codecs. It is what a framework's overhead is
measured against.
"""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, Unsupported, load_library


class FloorPeer(Peer):
    name = "floor"
    version = "-"

    def __init__(self, threads: int) -> None:
        self._zstandard = load_library("zstandard")
        self._local = threading.local()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def open(self, path: Path, *, write: bool = False) -> Any:
        metadata = json.loads((path / "zarr.json").read_bytes())
        codec = metadata["codecs"][0]
        if codec["name"] != "sharding_indexed" or codec["configuration"]["codecs"][-1]["name"] != "zstd":
            raise Unsupported("the floor reads shards of zstd chunks only")
        return path, metadata

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        if selection != (slice(None),) * len(selection):
            raise Unsupported("the floor reads whole arrays only")
        path, metadata = handle
        shape = tuple(metadata["shape"])
        shards = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        chunks = tuple(metadata["codecs"][0]["configuration"]["chunk_shape"])
        dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
        out = np.empty(shape, dtype)
        inside = [s // c for s, c in zip(shards, chunks, strict=True)]
        origins = [[i * c for i, c in zip(cell, chunks, strict=True)] for cell in np.ndindex(*inside)]
        for shard in itertools.product(*(range(n // s) for n, s in zip(shape, shards, strict=True))):
            data = path.joinpath("c", *map(str, shard)).read_bytes()
            view = out[tuple(slice(i * s, (i + 1) * s) for i, s in zip(shard, shards, strict=True))]
            index = np.frombuffer(data, "<u8", 2 * len(origins), len(data) - 4 - 16 * len(origins))
            table = index.reshape(-1, 2).tolist()
            work = [
                (data, table[i :: self._threads], origins[i :: self._threads], view, chunks)
                for i in range(self._threads)
            ]
            list(self._pool.map(self._decode, work))
        return out

    def _decode(self, work: tuple[bytes, list[list[int]], list[list[int]], NDArray[Any], tuple[int, ...]]) -> None:
        data, table, origins, view, chunks = work
        decoder = getattr(self._local, "decoder", None)
        if decoder is None:
            decoder = self._local.decoder = self._zstandard.ZstdDecompressor()
        whole = memoryview(data)
        limit = int(np.prod(chunks)) * view.itemsize
        for (offset, length), origin in zip(table, origins, strict=True):
            raw = decoder.decompress(whole[offset : offset + length], max_output_size=limit)
            place = tuple(slice(o, o + c) for o, c in zip(origin, chunks, strict=True))
            view[place] = np.frombuffer(raw, view.dtype).reshape(chunks)

    def create(self, path: Path, layout: Layout) -> Any:
        raise Unsupported("the floor only reads")

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        raise Unsupported("the floor only reads whole arrays")

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        raise Unsupported("the floor only reads")

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        raise Unsupported("the floor only reads")
