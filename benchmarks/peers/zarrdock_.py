"""zarrdock as installed, but for the number of its threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Layout, Peer, Selection, Unavailable, load_library


class ZarrdockPeer(Peer):
    name = "zarrdock"

    def __init__(self, threads: int) -> None:
        zarrdock = load_library("zarrdock")
        if not hasattr(zarrdock, "create_array"):
            raise Unavailable("this zarrdock has no create_array: is it an incomplete installation?")
        load_library("zarrdock.config").config.threads = threads
        self._zarrdock = zarrdock
        self.version = getattr(zarrdock, "__version__", "unknown")

    def create(self, path: Path, layout: Layout) -> Any:
        return self._zarrdock.create_array(
            str(path), shape=layout.shape, dtype=layout.dtype, chunks=layout.chunks, shards=layout.shards,
            compressors=layout.codec_json() or None, fill_value=0, overwrite=True,
        )  # fmt: skip

    def open(self, path: Path, *, write: bool = False) -> Any:
        return self._zarrdock.open_array(str(path), mode="r+" if write else "r", zarr_format=3)

    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        return np.asarray(handle[selection])

    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(handle.vindex[tuple(points.T)])

    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None:
        handle[selection] = values

    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        handle.append(values, axis=0)
        return handle


class PureZarrdockPeer(ZarrdockPeer):
    """Without the compiled part."""

    name = "zarrdock pure"

    def active(self) -> AbstractContextManager[object]:
        changed: AbstractContextManager[object] = self._zarrdock.config.set(compiled=0)
        return changed
