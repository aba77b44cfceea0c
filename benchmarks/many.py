"""``many``: twelve boxes of four sharded arrays on S3, asked for together, as a viewer asks for the levels of an image.

Cold: nothing but the arrays' metadata is known. Hot: other boxes of the same shards, whose indexes are known by then to
those who keep them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zarrdock
from benchmarks import options as opt
from benchmarks.data import cache_folder
from benchmarks.nginx import Nginx, Wire, serve
from benchmarks.peers.base import Selection, Unavailable, load_library
from benchmarks.peers.remote import REMOTE, RemotePeer
from benchmarks.report import machine, table

DELAYS_MS = (0, 10, 20)
STATES = ("cold", "hot")
SHAPES = (256, 128, 128, 64)
Boxes = list[tuple[int, Selection]]  # the number of the array, and the box
Read = Callable[[list[Any], Boxes], Sequence[Any]]


def together(handles: list[Any], boxes: Boxes) -> Sequence[Any]:
    return zarrdock.read_many([handles[i].lazy[box] for i, box in boxes])


def one_by_one(handles: list[Any], boxes: Boxes) -> Sequence[Any]:
    return [handles[i][box] for i, box in boxes]


def futures(handles: list[Any], boxes: Boxes) -> Sequence[Any]:
    return [future.result() for future in [handles[i][box].read() for i, box in boxes]]


def coroutines(handles: list[Any], boxes: Boxes) -> Sequence[Any]:
    async def gather() -> Sequence[Any]:
        return await asyncio.gather(*(handles[i].async_array.getitem(box) for i, box in boxes))

    return load_library("zarr.core.sync").sync(gather())  # type: ignore[no-any-return]


def graphs(handles: list[Any], boxes: Boxes) -> Sequence[Any]:
    dask, array = load_library("dask"), load_library("dask.array")
    lazy = [h.to_dask() if isinstance(h, zarrdock.Array) else array.from_zarr(h) for h in handles]
    return dask.compute(*(lazy[i][box] for i, box in boxes), scheduler="threads", num_workers=16)  # type: ignore[no-any-return]


# Name in the table, the peer that opens the arrays, and how the boxes are asked for at once.
WAYS: dict[str, tuple[str, Read]] = {
    "zarrdock, read_many": ("zarrdock", together),
    "zarrdock over obstore, read_many": ("zarrdock obstore", together),
    "zarrdock, one by one": ("zarrdock", one_by_one),
    "TensorStore, all futures at once": ("tensorstore", futures),
    "TensorStore with 8 MiB of cache": ("tensorstore 8 MiB", futures),
    "zarr-python over s3fs, gather": ("zarr s3fs", coroutines),
    "zarr-python over obstore, gather": ("zarr obstore", coroutines),
    "dask over zarr-python (obstore), 16 threads": ("zarr obstore", graphs),
    "dask over zarrdock, 16 threads": ("zarrdock", graphs),
}


@dataclass
class Times:
    """What was measured in one state, one item a run."""

    seconds: list[float] = field(default_factory=list)
    wire: list[Wire] = field(default_factory=list)


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("many", help="many boxes of several arrays as one read", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each, interleaved")
    parser.add_argument("--threads", type=int, default=2, help="threads that each implementation may decode with")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    rng = np.random.default_rng(5)
    values = [rng.poisson(200, (n,) * 3).astype("uint16") for n in SHAPES]
    text: list[str] = []
    found: dict[str, dict[str, Times]] = {}
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache_folder()) as scratch:
        folder = Path(scratch, "objects")
        for i, level in enumerate(values):
            zarrdock.create_array(folder / str(i), data=level, chunks=(16,) * 3, shards=(64,) * 3)
        try:
            with serve(folder, Path(scratch, "nginx"), DELAYS_MS) as server:
                peers = dict(usable(server.url, options.threads))
                for ms in DELAYS_MS:
                    print(f"{ms} ms ...", file=sys.stderr)
                    here = measure(server, peers, ms, values, options.rounds)
                    found |= {f"{ms} ms, {name}": states for name, states in here.items()}
                    text += [f"### {ms} ms", "", *rows(here), ""]
                    print("\n".join(text[-len(here) - 5 :]), flush=True)
        except Unavailable as error:
            print(f"left out: many ({error})", file=sys.stderr)
            return 0
    if options.markdown:
        options.markdown.write_text("\n".join(text), encoding="utf-8")
    if options.json:
        document = {name: {s: vars(t)["seconds"] for s, t in states.items()} for name, states in found.items()}
        options.json.write_text(json.dumps({"machine": machine(), "seconds": document}, indent=1) + "\n")
    return 0


def usable(url: str, threads: int) -> Sequence[tuple[str, RemotePeer]]:
    peers = []
    for name in {peer for peer, _ in WAYS.values()}:
        try:
            peers.append((name, REMOTE[name](url, threads)))
        except Unavailable as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return peers


def boxes(rng: np.random.Generator) -> Boxes:
    """Three boxes of each array."""
    found: Boxes = []
    for i, n in enumerate(SHAPES):
        for corner in rng.integers(0, n - 32 + 1, (3, 3)).tolist():
            found.append((i, tuple(slice(a, a + 32) for a in corner)))
    return found


def beside(box: Selection, rng: np.random.Generator) -> Selection:
    """Another box of the shard that the first corner of the box lies in."""
    corners = [part.start // 64 * 64 + a for part, a in zip(box, rng.integers(0, 32, 3).tolist(), strict=True)]  # type: ignore[union-attr]
    return tuple(slice(a, a + 32) for a in corners)


def measure(
    server: Nginx, peers: dict[str, RemotePeer], ms: int, values: list[NDArray[np.uint16]], n_rounds: int
) -> dict[str, dict[str, Times]]:
    """Every way in each round, in another order each time; every result is compared. The first round is not counted."""
    ways = {name: (peers[peer], read) for name, (peer, read) in WAYS.items() if peer in peers}
    times = {name: {state: Times() for state in STATES} for name in ways}
    for number in range(n_rounds + 1):
        rng = np.random.default_rng(number)
        cold = boxes(rng)
        hot = [(i, beside(box, rng)) for i, box in cold]
        order = list(ways)
        random.Random(number).shuffle(order)
        for name in order:
            peer, read = ways[name]
            handles = [peer.open(f"{server.prefix(ms)}/{i}") for i in range(len(SHAPES))]
            for state, some in (("cold", cold), ("hot", hot)):
                gc.collect()
                server.wire()
                begin = time.perf_counter()
                results = read(handles, some)
                seconds = time.perf_counter() - begin
                wire = server.wire()
                for (i, box), result in zip(some, results, strict=True):
                    if not np.array_equal(np.asarray(result), values[i][box]):
                        raise SystemExit(f"{name} read something else")
                if number:
                    times[name][state].seconds.append(seconds)
                    times[name][state].wire.append(wire)
    return times


def rows(found: dict[str, dict[str, Times]]) -> list[str]:
    head = ["way"]
    for state in STATES:
        head += [f"{state} ms", "rounds", "requests", "MB"]
    lines = []
    for name, states in found.items():
        line = [name]
        for state in STATES:
            times = states[state]
            line += [
                f"{median(times.seconds) * 1e3:.1f}",
                f"{median(wire.n_rounds for wire in times.wire):g}",
                f"{median(wire.n_requests for wire in times.wire):g}",
                f"{median(wire.nbytes for wire in times.wire) / 1e6:.2f}",
            ]
        lines.append(line)
    return table(head, lines)
