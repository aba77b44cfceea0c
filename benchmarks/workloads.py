"""The workloads: what is timed, and what its result has to be."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench, whole
from benchmarks.peers.base import Layout, Peer, Selection

Sink = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A workload made ready for one peer and one round.

    Attributes:
        run: the timed part, which hands each array it reads to the sink it is given.
        expected: the arrays that reach the sink, in order; computed only when verified.
        check: a last look after `run`, at what was written; None where nothing was.
        clean: removes what was written.
    """

    run: Callable[[Sink], None]
    expected: Callable[[], list[NDArray[Any]]]
    check: Callable[[], bool] | None = None
    clean: Callable[[], None] = lambda: None


class Workload(ABC):
    """`key` is the short name (W2), `title` one line for the report."""

    key: str
    title: str

    @abstractmethod
    def prepare(self, bench: Bench, peer: Peer) -> Job: ...


@dataclass(frozen=True)
class Read(Workload):
    """Boxes of one data set, one call each. The array was opened before the clock started and has read nothing yet."""

    key: str
    title: str
    data: str
    select: Callable[[Bench], list[Selection]]

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        selections = self.select(bench)
        handle = peer.open(bench.stored(self.data, peer))

        def run(sink: Sink) -> None:
            for selection in selections:
                sink(peer.read(handle, selection))

        return Job(run, lambda: [np.asarray(bench.values(self.data)[selection]) for selection in selections])


@dataclass(frozen=True)
class ReadPoints(Workload):
    """The voxels of W5 in one vectorised call."""

    key: str
    title: str
    data: str

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        points = random_points(bench)
        handle = peer.open(bench.stored(self.data, peer))
        return Job(
            lambda sink: sink(peer.read_points(handle, points)),
            lambda: [bench.values(self.data)[tuple(points.T)]],
        )


@dataclass(frozen=True)
class Open(Workload):
    """Opening alone, many times. One voxel is read at the end, inside the clock, to show that it was opened."""

    key: str
    title: str
    data: str

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        path = bench.stored(self.data, peer)
        middle = (bench.sizes.n // 2,) * 3

        def run(sink: Sink) -> None:
            for _ in range(bench.sizes.n_opens):
                handle = peer.open(path)
            sink(peer.read(handle, middle))

        return Job(run, lambda: [np.asarray(bench.values(self.data)[middle])])


@dataclass(frozen=True)
class Write(Workload):
    """A whole data set into an array that was created, empty, before the clock started."""

    key: str
    title: str
    data: str

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        path = bench.folder(f"write-{peer.name}")
        values = bench.values(self.data)
        handle = peer.create(path, bench.layout(self.data))
        return Job(
            lambda sink: peer.write(handle, whole(), values),
            list,
            lambda: bench.holds(path, peer, values),
            lambda: remove(path),
        )


@dataclass(frozen=True)
class WriteChunk(Workload):
    """Four chunks, one call each, into an array of one shard that is full already."""

    key: str
    title: str

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        shard, chunk = bench.sizes.shard, bench.sizes.chunk
        before = np.ascontiguousarray(bench.volume[:shard, :shard, :shard])
        path = bench.folder(f"chunk-{peer.name}")
        handle = peer.create(path, Layout(before.shape, "uint16", (chunk,) * 3, before.shape, "zstd"))
        peer.write(handle, whole(), before)
        handle = peer.open(path, write=True)
        last = shard // chunk - 1
        places = [(0, 0, 0), (last, last, last), (last // 2, 0, last), (1, last // 2, 1)]
        boxes = [tuple(slice(i * chunk, (i + 1) * chunk) for i in place) for place in places]
        fresh = bench.volume[-chunk:, -chunk:, -chunk:] + np.uint16(1)

        def run(sink: Sink) -> None:
            for box in boxes:
                peer.write(handle, box, fresh)

        def check() -> bool:
            after = before.copy()
            for box in boxes:
                after[box] = fresh
            return bench.holds(path, peer, after)

        return Job(run, list, check, lambda: remove(path))


@dataclass(frozen=True)
class Append(Workload):
    """Seven slabs behind a first one.

    Sharded, a slab is half a shard thick: every second one lands in a shard that is there already.
    """

    key: str
    title: str
    sharded: bool

    def prepare(self, bench: Bench, peer: Peer) -> Job:
        slab = bench.sizes.n // 8
        values = np.ascontiguousarray(bench.volume[:, : 4 * slab, : 4 * slab])
        shards = (2 * slab,) * 3 if self.sharded else None
        chunk = bench.sizes.chunk if self.sharded else slab
        layout = Layout((slab, 4 * slab, 4 * slab), "uint16", (chunk,) * 3, shards, "zstd")
        path = bench.folder(f"append-{peer.name}")
        peer.write(peer.create(path, layout), whole(), values[:slab])

        def run(sink: Sink) -> None:
            handle = peer.open(path, write=True)
            for start in range(slab, len(values), slab):
                handle = peer.append(handle, values[start : start + slab])

        return Job(run, list, lambda: bench.holds(path, peer, values), lambda: remove(path))


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def everything(bench: Bench) -> list[Selection]:
    return [whole()]


def plane(axis: int) -> Callable[[Bench], list[Selection]]:
    """One plane across `axis`, not on a chunk's edge, a third of the way in."""

    def select(bench: Bench) -> list[Selection]:
        position = bench.sizes.n // 3
        return [tuple(position if a == axis else slice(None) for a in range(3))]

    return select


def random_boxes(bench: Bench) -> list[Selection]:
    random = np.random.default_rng(3)
    corners = random.integers(0, bench.sizes.n - bench.sizes.box + 1, (bench.sizes.n_boxes, 3))
    return [tuple(slice(int(c), int(c) + bench.sizes.box) for c in corner) for corner in corners]


def random_points(bench: Bench) -> NDArray[np.intp]:
    return np.random.default_rng(5).integers(0, bench.sizes.n, (bench.sizes.n_voxels, 3), dtype=np.intp)


def random_voxels(bench: Bench) -> list[Selection]:
    return [tuple(int(c) for c in point) for point in random_points(bench)]


WORKLOADS: tuple[Workload, ...] = (
    Write("W1", "write all, zstd", "zstd"),
    Write("W1b", "write all, blosc lz4 shuffle", "blosc"),
    Write("W1c", "write all, uncompressed", "none"),
    Read("W2", "read all, zstd", "zstd", everything),
    Read("W2b", "read all, blosc lz4 shuffle", "blosc", everything),
    Read("W2c", "read all, uncompressed", "none", everything),
    Read("W2f", "read all, float32 zstd", "float32", everything),
    Read("W3", "random boxes", "zstd", random_boxes),
    Read("W4x", "one plane across x", "zstd", plane(0)),
    Read("W4y", "one plane across y", "zstd", plane(1)),
    Read("W4z", "one plane across z", "zstd", plane(2)),
    Read("W5", "single voxels, one call each", "zstd", random_voxels),
    ReadPoints("W5v", "the same voxels, one vindex", "zstd"),
    Open("W6", "open", "zstd"),
    Read("W7r", "read all, unsharded", "unsharded", everything),
    Write("W7w", "write all, unsharded", "unsharded"),
    Read("W8a", "read all, chunks of 8^3", "chunks8", everything),
    Read("W8b", "read all, chunks of 16^3", "chunks16", everything),
    WriteChunk("W9", "one chunk into a full shard, four times"),
    Append("W10s", "append seven slabs, sharded", sharded=True),
    Append("W10u", "append seven slabs, unsharded", sharded=False),
)
