"""Blosc2's NDArray (b2nd): a format of its own with the same two levels of partition.

A chunk of b2nd stands for a shard, a block for a chunk.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, load_library


class Blosc2Peer(Peer):
    name = "blosc2"
    writes_zarr = False

    def __init__(self, threads: int) -> None:
        self._blosc2 = load_library("blosc2")
        self.version = self._blosc2.__version__
        self._threads = threads

    def create(self, path: Path, layout: Layout) -> Any:
        b2 = self._blosc2
        codec, level, filter_ = {
            "zstd": (b2.Codec.ZSTD, 3, b2.Filter.NOFILTER),
            "blosc": (b2.Codec.LZ4, 5, b2.Filter.SHUFFLE),
            "none": (b2.Codec.LZ4, 0, b2.Filter.NOFILTER),
        }[layout.codec]
        if path.exists():
            shutil.rmtree(path)
        compression = b2.CParams(
            codec=codec, clevel=level, filters=[filter_], typesize=layout.item_bytes, nthreads=self._threads
        )
        return b2.zeros(
            layout.shape,
            dtype=np.dtype(layout.dtype),
            chunks=layout.shards or layout.chunks,
            blocks=layout.chunks,
            cparams=compression,
            dparams=b2.DParams(nthreads=self._threads),
            urlpath=str(path),
            contiguous=False,
            mode="w",
        )

    def open(self, path: Path, *, write: bool = False) -> Any:
        settings = self._blosc2.DParams(nthreads=self._threads)
        return self._blosc2.open(str(path), mode="a" if write else "r", dparams=settings)

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection])

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(handle[tuple(points.T)])

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        handle[selection] = values

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        start = handle.shape[0]
        handle.resize((start + len(values), *handle.shape[1:]))
        handle[start:] = values
        return handle
