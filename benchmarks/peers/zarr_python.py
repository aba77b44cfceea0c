"""zarr-python with each of the codec pipelines it can be given."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, Unavailable, load_library


class ZarrPeer(Peer):
    """zarr-python as installed, but for the size of its thread pools."""

    name = "zarr"
    pipeline = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def __init__(self, threads: int) -> None:
        self._zarr = load_library("zarr")
        self.version = version("zarr")
        self._settings = {
            "codec_pipeline.path": self.pipeline,
            "threading.max_workers": threads,
            "codec_pipeline.max_workers": threads,
        }
        module, _, name = self.pipeline.rpartition(".")
        if not hasattr(load_library(module), name):
            raise Unavailable(f"zarr {self.version} has no {name} (3.4 or later has, on Python 3.12 or later)")

    def active(self) -> AbstractContextManager[object]:
        # Sharding looks its pipeline up when it decodes, not when the array is opened: so during the work as well.
        settings: AbstractContextManager[object] = self._zarr.config.set(self._settings)
        return settings

    def place(self, path: Path) -> Any:
        """What zarr-python is told to open."""
        return str(path)

    def create(self, path: Path, layout: Layout) -> Any:
        return self._zarr.create_array(
            self.place(path), shape=layout.shape, dtype=layout.dtype, chunks=layout.chunks, shards=layout.shards,
            compressors=layout.codec_json() or None, fill_value=0, overwrite=True,
        )  # fmt: skip

    def open(self, path: Path, *, write: bool = False) -> Any:
        return self._zarr.open_array(self.place(path), mode="r+" if write else "r", zarr_format=3)

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection])

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(handle.vindex[tuple(points.T)])

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        handle[selection] = values

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        handle.append(values, axis=0)
        return handle


class FusedPeer(ZarrPeer):
    """zarr-python's synchronous pipeline, which has to be asked for."""

    name = "zarr-fused"
    pipeline = "zarr.core.codec_pipeline.FusedCodecPipeline"


class ZarrsPeer(ZarrPeer):
    """zarr-python with the pipeline in Rust."""

    name = "zarrs"
    pipeline = "zarrs.ZarrsCodecPipeline"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.version = f"{version('zarrs')} (zarr {self.version})"


class ZarrdockPipelinePeer(ZarrPeer):
    """zarr-python with zarrdock's pipeline: all that changes for its user is one line of configuration."""

    name = "zarr+zarrdock"
    pipeline = "zarrdock.adapters.zarr_python.CodecPipeline"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        load_library("zarrdock.adapters.zarr_python")
        zarrdock = load_library("zarrdock")
        zarrdock.config.threads = threads
        self.version = f"{zarrdock.__version__} (zarr {self.version})"
