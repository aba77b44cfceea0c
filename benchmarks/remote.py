"""``remote``: reading from S3, with the first byte of every answer delayed by 0, 10 and 50 ms.

Each workload is run twice on one open array: cold, when nothing but its metadata is known, and hot, at other places of
the same shards, whose indexes are known by then to those who keep them.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import options as opt
from benchmarks.bench import Bench
from benchmarks.nginx import Nginx, serve
from benchmarks.peers.base import Layout, Selection, Unavailable, load_peers
from benchmarks.peers.remote import PIPELINES, REMOTE, RemotePeer
from benchmarks.remote_report import markdown
from benchmarks.report import machine
from benchmarks.run import Beside

DELAYS_MS = (0, 10, 50)
BOX = 64
N_BOXES = {0: 100, 10: 20, 50: 10}
N_VOXELS = {0: 200, 10: 50, 50: 20}
N_THREADS = 16
STATES = ("cold", "hot")
ALL = [name for name in REMOTE if name not in ("zarrdock pure", *PIPELINES)]


@dataclass
class Times:
    """What was measured in one state, one item a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: median(values) for name, values in asdict(self).items() if values}


@dataclass
class Cell:
    """One implementation on one workload."""

    error: str = ""
    states: dict[str, Times] = field(default_factory=lambda: {state: Times() for state in STATES})


@dataclass(frozen=True, slots=True)
class Work:
    """One workload: the selections of each state, read one after another or by several threads at a time."""

    key: str
    title: str
    parts: dict[str, list[Selection]]
    n_threads: int = 1

    def run(self, peer: RemotePeer, handle: Any, state: str) -> list[NDArray[Any]]:
        parts = self.parts[state]
        if self.n_threads == 1:
            return [peer.read(handle, selection) for selection in parts]
        with ThreadPoolExecutor(self.n_threads) as pool:
            return list(pool.map(partial(peer.read, handle), parts))


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Opening the array, whose format is known, over a client that is there."""

    key: str
    title: str
    path: str
    parts: dict[str, list[Selection]]

    def run(self, peer: RemotePeer, handle: Any, state: str) -> list[NDArray[Any]]:
        return [np.asarray(peer.open(self.path).shape)]


def works(shape: tuple[int, ...], delay_ms: int, share: float, path: str) -> list[Work | OpenWork]:
    rng = np.random.default_rng(3)
    n_boxes, n_voxels = (max(4, int(n[delay_ms] * share)) for n in (N_BOXES, N_VOXELS))

    def boxes() -> list[Selection]:
        corners = rng.integers(0, [n - BOX + 1 for n in shape], (n_boxes, len(shape)))
        return [tuple(slice(a, a + BOX) for a in corner) for corner in corners.tolist()]

    def voxels() -> list[Selection]:
        return [tuple(place) for place in rng.integers(0, shape, (n_voxels, len(shape))).tolist()]

    def plane(axis: int, at: int) -> list[Selection]:
        return [tuple(at if i == axis else slice(None) for i in range(len(shape)))]

    two = {"cold": boxes(), "hot": boxes()}
    found: list[Work | OpenWork] = [
        OpenWork("open", "open the array", path, {"cold": []}),
        Work("all", "read all", {"cold": [(slice(None),) * len(shape)]}),
    ]
    for axis, name in enumerate("xyz"):
        at = shape[axis] // 2
        # In the same shards, but not in the same chunks.
        found.append(Work(f"plane {name}", "one plane", {"cold": plane(axis, at + 5), "hot": plane(axis, at + 40)}))
    found += [
        Work("boxes", f"{n_boxes} boxes of {BOX}^3, one call each", two),
        Work(f"boxes/{N_THREADS}", f"the same from {N_THREADS} threads", two, N_THREADS),
        Work("voxels", f"{n_voxels} voxels, one call each", {"cold": voxels(), "hot": voxels()}),
    ]
    return found


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("remote", help="read from S3 with latency", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--quick", action="store_true", help="an eighth of the data, and fewer repeats")
    parser.add_argument(
        "--peers", type=opt.names(list(REMOTE)), default=ALL, metavar="A,B", help=f"some of {','.join(REMOTE)}"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads that each implementation may decode with")
    parser.add_argument("--rounds", type=int, help="timed runs of each (default: 5, with --quick 3)")
    delays = [str(ms) for ms in DELAYS_MS]
    parser.add_argument("--delays", type=opt.names(delays), default=delays, metavar="0,50", help="some of 0,10,50 ms")
    parser.add_argument("--only", default="", metavar="all,boxes", help="some of the workloads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    n_rounds = options.rounds or (3 if options.quick else 5)
    only = [key.strip() for key in options.only.split(",") if key.strip()]
    writers, _ = load_peers(["tensorstore", "zarr", "zarrdock"], options.threads)
    missing: dict[str, str] = {}
    tables: dict[int, dict[str, dict[str, Cell]]] = {}
    titles: dict[int, dict[str, str]] = {}
    with opt.bench(options, writers) as (bench, source):
        volume = cut(bench)
        stored = store(bench, volume)
        try:
            with serve(bench.scratch, bench.scratch / "nginx", DELAYS_MS) as server:
                peers = usable(options.peers, server.url, options.threads, missing)
                for delay_ms in map(int, options.delays):
                    path = f"{server.prefix(delay_ms)}/{stored.name}"
                    tables[delay_ms], titles[delay_ms] = {}, {}
                    for work in works(volume.shape, delay_ms, 0.3 if options.quick else 1, path):
                        if not only or work.key in only:
                            print(f"{delay_ms} ms: {work.key} ...", file=sys.stderr)
                            titles[delay_ms][work.key] = work.title
                            tables[delay_ms][work.key] = measure(server, peers, work, path, volume, n_rounds)
                            keep(options.json, tables)  # a run takes long, and may be ended
        except Unavailable as error:
            print(f"left out: remote ({error})", file=sys.stderr)
            return 0
    settings = {
        "data": f"{source}, of it {volume.shape}, shards {bench.sizes.shard}^3, chunks {bench.sizes.chunk}^3, zstd 3",
        "server": "nginx on this machine, anonymous, the first byte delayed",
        "rounds": f"{n_rounds}, interleaved in one process, every result verified before",
        "threads": options.threads,
    }
    versions = {peer.name: peer.version for peer in peers}
    text = markdown(settings, versions, missing, titles, tables)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(document(settings, versions, missing, tables), indent=1) + "\n")
    print(text)
    return int(any(cell.error for rows in tables.values() for cells in rows.values() for cell in cells.values()))


def keep(path: Path | None, tables: dict[int, dict[str, dict[str, Cell]]]) -> None:
    if path is not None:
        path.write_text(json.dumps(document({}, {}, {}, tables), indent=1) + "\n", encoding="utf-8")


def document(
    settings: dict[str, Any], versions: dict[str, str], missing: dict[str, str], tables: dict[int, Any]
) -> dict[str, Any]:
    found = {
        f"{ms} ms": {key: {name: asdict(cell) for name, cell in cells.items()} for key, cells in rows.items()}
        for ms, rows in tables.items()
    }
    return {"machine": machine(), "settings": settings, "versions": versions, "missing": missing, "tables": found}


def cut(bench: Bench) -> NDArray[np.uint16]:
    """The middle half of the volume: two shards along two axes, one along the first."""
    n = bench.sizes.n
    return np.ascontiguousarray(bench.volume[n // 4 : n // 4 + n // 2])


def store(bench: Bench, volume: NDArray[np.uint16]) -> Path:
    writer = bench.checker
    if writer is None:
        raise SystemExit("one of tensorstore, zarr and zarrdock has to be there: it writes what all read")
    s = bench.sizes
    path = bench.folder("volume")
    with writer.active():
        handle = writer.create(path, Layout(volume.shape, "uint16", (s.chunk,) * 3, (s.shard,) * 3, "zstd"))
        writer.write(handle, (slice(None),) * 3, volume)
    return path


def usable(names: Sequence[str], url: str, threads: int, missing: dict[str, str]) -> list[RemotePeer]:
    peers = []
    for name in names:
        try:
            peers.append(REMOTE[name](url, threads))
        except Unavailable as error:
            missing[name] = str(error)
            print(f"left out: {name} ({error})", file=sys.stderr)
    return peers


def measure(
    server: Nginx,
    peers: Sequence[RemotePeer],
    work: Work | OpenWork,
    path: str,
    volume: NDArray[np.uint16],
    n_rounds: int,
    *,
    beside: Beside = nullcontext,
    limit: float = float("inf"),
) -> dict[str, Cell]:
    """Verify every peer, then time those that passed, in rounds.

    Args:
        beside: a context within which each run is timed. limit: one that took more seconds is not timed again.
    """
    cells = {peer.name: Cell(verify(peer, work, path, volume)) for peer in peers}
    passed = [peer for peer in peers if not cells[peer.name].error]
    for number in range(n_rounds):
        order = passed.copy()
        random.Random(number).shuffle(order)
        for peer in order:
            handle = peer.open(path)
            for state in work.parts:
                times = cells[peer.name].states[state]
                timed(server, times, partial(work.run, peer, handle, state), beside)
                if times.wall[-1] > limit and peer in passed:
                    passed.remove(peer)
    return cells


def timed(server: Nginx, times: Times, call: Callable[[], object], beside: Beside) -> None:
    gc.collect()
    server.wire()
    with beside():
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        times.wall.append(time.perf_counter() - wall)
        times.cpu.append(time.process_time() - cpu)
    del result
    wire = server.wire()
    times.requests.append(wire.n_requests)
    times.bytes.append(wire.nbytes)
    times.rounds.append(wire.n_rounds)


def verify(peer: RemotePeer, work: Work | OpenWork, path: str, volume: NDArray[np.uint16]) -> str:
    """Why the peer is not to be timed; "" where every result is right."""
    try:
        handle = peer.open(path)
        for state, parts in work.parts.items():
            found = work.run(peer, handle, state)
            expected = [volume[part] for part in parts] if isinstance(work, Work) else [np.asarray(volume.shape)]
            if len(found) != len(expected) or not all(map(np.array_equal, found, expected)):
                return "wrong result"
    except Exception as error:  # whatever a peer raises is a result to report
        return f"{type(error).__name__}: {error}"[:300]
    return ""
