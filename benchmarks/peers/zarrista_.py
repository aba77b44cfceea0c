"""zarrista: the Rust crate zarrs, with an interface of its own."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, Unsupported, load_library


class ZarristaPeer(Peer):
    """Its pool of threads is as large as the machine; ``concurrent_target`` says how many of them a call uses."""

    name = "zarrista"

    def __init__(self, threads: int) -> None:
        self._zarrista = load_library("zarrista")
        self._store = load_library("zarrista.store")
        self.version = version("zarrista")
        self._options = {"concurrent_target": threads, "chunk_concurrent_minimum": 1}

    def create(self, path: Path, layout: Layout) -> Any:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        codecs = [little, *layout.codec_json()]
        if layout.shards is not None:
            sharding = {
                "chunk_shape": layout.chunks,
                "codecs": codecs,
                "index_codecs": [little, {"name": "crc32c"}],
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": layout.shape,
            "data_type": layout.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layout.shards or layout.chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": codecs,
            "fill_value": 0,
            "attributes": {},
        }
        path.mkdir(parents=True, exist_ok=True)
        array = self._zarrista.Array.from_metadata(metadata, self._store.FilesystemStore(path))
        array.store_metadata()
        return array

    def open(self, path: Path, *, write: bool = False) -> Any:
        return self._zarrista.Array.open(self._store.FilesystemStore(path))

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        found = handle.retrieve_array_subset(selection, **self._options).to_numpy()
        dropped = tuple(0 if isinstance(part, int) else slice(None) for part in selection)
        return np.asarray(found[dropped])

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        raise Unsupported("boxes only")

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        handle.store_array_subset(selection, values, **self._options)

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        raise Unsupported("an array keeps its shape")
