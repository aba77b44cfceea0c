"""TensorStore, limited to the same number of threads and without fsync."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, load_library


class TensorStorePeer(Peer):
    """``file_io_sync`` is off because none of the others syncs: with it appends take about twice as long."""

    name = "tensorstore"

    def __init__(self, threads: int) -> None:
        self._ts = load_library("tensorstore")
        self.version = version("tensorstore")
        limit = {"limit": threads}
        self._context = self._ts.Context(
            {"data_copy_concurrency": limit, "file_io_concurrency": limit, "file_io_sync": False}
        )

    def _spec(self, path: Path) -> dict[str, Any]:
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}

    def create(self, path: Path, layout: Layout) -> Any:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        inner = [little, *layout.codec_json()]
        codecs = inner
        if layout.shards is not None:
            sharding = {
                "chunk_shape": layout.chunks,
                "codecs": inner,
                "index_codecs": [little, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        grid = {"name": "regular", "configuration": {"chunk_shape": layout.shards or layout.chunks}}
        metadata = {
            "shape": layout.shape,
            "data_type": layout.dtype,
            "chunk_grid": grid,
            "codecs": codecs,
            "fill_value": 0,
        }
        spec = {**self._spec(path), "metadata": metadata}
        return self._ts.open(spec, create=True, delete_existing=True, context=self._context).result()

    def open(self, path: Path, *, write: bool = False) -> Any:
        return self._ts.open(self._spec(path), open=True, read=True, write=write, context=self._context).result()

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection].read().result())

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(handle.vindex[tuple(points.T)].read().result())

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        handle[selection].write(values).result()

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        start = handle.shape[0]
        longer = handle.resize(exclusive_max=[start + len(values), *handle.shape[1:]]).result()
        longer[start:].write(values).result()
        return longer
