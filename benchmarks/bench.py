"""What the workloads share: sizes, the volume, and arrays written beforehand for the readers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import Codec, Layout, Peer


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths in voxels, and counts. `small` is the side of the cube for the workloads with many tiny chunks."""

    n: int
    shard: int
    small: int
    n_boxes: int
    n_voxels: int
    n_opens: int
    box: int = 64
    chunk: int = 32
    large_chunk: int = 64
    small_shard: int = 128


FULL = Sizes(n=512, shard=256, small=256, n_boxes=200, n_voxels=1000, n_opens=100)
QUICK = Sizes(n=256, shard=128, small=128, n_boxes=50, n_voxels=200, n_opens=20)


def whole(ndim: int = 3) -> tuple[slice, ...]:
    return (slice(None),) * ndim


@dataclass
class Bench:
    """One run: where it works, on what, and the peers that take part.

    Attributes:
        checker: reads what the others wrote. TensorStore where it is there, since zarrdock must not judge itself.
    """

    sizes: Sizes
    volume: NDArray[np.uint16]
    scratch: Path
    peers: list[Peer]
    _written: dict[tuple[str, str], Path] = field(default_factory=dict)
    _values: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def checker(self) -> Peer | None:
        candidates = [peer for name in ("tensorstore", "zarr", "zarrdock") for peer in self.peers if peer.name == name]
        return candidates[0] if candidates else None

    def layout(self, data: str) -> Layout:
        """How the data set of this name is stored; `DATA_SETS` lists the names."""
        s = self.sizes
        shape, dtype, chunk, codec = self._shape(data), "uint16", s.chunk, "zstd"
        shard: int | None = s.shard
        if data in ("blosc", "none"):
            codec = data
        elif data == "free":
            codec = "none"
        elif data == "float32":
            dtype = "float32"
        elif data == "unsharded":
            chunk, shard = s.large_chunk, None
        elif data.startswith("chunks"):
            chunk, shard = int(data.removeprefix("chunks")), s.small_shard
        shards = None if shard is None else (shard,) * 3
        chunks = (chunk // 2, chunk, chunk) if data == "free" else (chunk,) * 3
        known: Codec = "blosc" if codec == "blosc" else "none" if codec == "none" else "zstd"
        return Layout(shape, dtype, chunks, shards, known)

    def _shape(self, data: str) -> tuple[int, int, int]:
        s = self.sizes
        if data == "float32":
            return (s.n // 2, s.n, s.n)  # as many bytes as the uint16 volume
        if data.startswith("chunks"):
            return (s.small,) * 3
        return (s.n,) * 3

    def values(self, data: str) -> NDArray[Any]:
        """What the data set holds, in memory."""
        if data not in self._values:
            shape = self._shape(data)
            # Cut from the middle, where the head is.
            cut = tuple(slice((self.sizes.n - length) // 2, (self.sizes.n + length) // 2) for length in shape)
            values: NDArray[Any] = self.volume[cut]
            if data == "float32":
                values = values.astype(np.float32) / np.float32(4)
            self._values[data] = np.ascontiguousarray(values)
        return self._values[data]

    def stored(self, data: str, peer: Peer) -> Path:
        """Folder of the data set, written now if it was not yet.

        All Zarr readers read the same files, written by `checker`; a peer with a format of its own reads its own.
        """
        writer = self.checker if peer.writes_zarr else peer
        if writer is None:
            raise LookupError("no implementation that can write Zarr takes part")
        place = (writer.name, data)
        if place not in self._written:
            path = self.folder(f"{writer.name}-{data}")
            with writer.active():
                handle = writer.create(path, self.layout(data))
                writer.write(handle, whole(), self.values(data))
            self._written[place] = path
        return self._written[place]

    def folder(self, name: str) -> Path:
        """A path below the scratch folder at which there is nothing."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def holds(self, path: Path, writer: Peer, expected: NDArray[Any]) -> bool:
        """Whether the array at `path` equals `expected` in shape, dtype and values.

        It is read by `checker`, or by its writer where it is not Zarr.
        """
        reader = self.checker if writer.writes_zarr else writer
        if reader is None:
            raise LookupError("no implementation that can read Zarr takes part")
        with reader.active():
            found = reader.read(reader.open(path), whole())
        return found.dtype == expected.dtype and np.array_equal(found, expected)
