"""``interpreter``: the interpreter's lock. The same reads and writes alone and beside a Python thread that computes
without pause, and reads of chunks that cost nothing to decode, by 1 to 64 threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from statistics import median
from typing import Any

from benchmarks import options as opt
from benchmarks import remote
from benchmarks.bench import Bench
from benchmarks.nginx import serve
from benchmarks.peers.base import Unavailable, load_peers
from benchmarks.peers.catalogue import INTERPRETER, REFERENCE
from benchmarks.report import machine, table, three
from benchmarks.run import Beside, Row, measure
from benchmarks.workloads import WORKLOADS, Read, everything

KEYS = ("W1", "W2", "W2b", "W2c", "W3", "W5v", "W8a", "W8b")
PARTS = ("local", "remote", "free")
REMOTE_PEERS = ("zarrdock", "zarrdock pure", "zarrdock obstore", "tensorstore", "zarr s3fs", "zarr obstore", "zarrista")
DELAYS_MS = (0, 10)
N_BOXES = 10
N_THREADS = (1, 2)
N_FREE_THREADS = (1, 2, 4, 16, 32, 64)
FREE = Read("free", "read all, uncompressed chunks of 32 KiB", "free", everything)

Column = Mapping[str, list[float]]  # seconds of each round, by implementation


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("interpreter", help="beside a busy Python thread", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--quick", action="store_true", help="an eighth of the data, and fewer repeats")
    parser.add_argument("--peers", type=opt.names(INTERPRETER), default=INTERPRETER, metavar="A,B", help="of `local`")
    parser.add_argument("--parts", type=opt.names(list(PARTS)), default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument(
        "--only", type=opt.names(list(KEYS)), default=list(KEYS), metavar="W2,W3", help=f"some of {','.join(KEYS)}"
    )
    parser.add_argument("--rounds", type=int, help="timed runs of each (default: 5, with --quick 2)")
    parser.set_defaults(run=run)


@contextmanager
def busy_thread(limit: float) -> Iterator[None]:
    """A thread that computes in Python, for ``limit`` seconds at most: what takes longer ends undisturbed."""
    stop = threading.Event()

    def compute() -> None:
        end = time.perf_counter() + limit
        while not stop.is_set() and time.perf_counter() < end:
            sum(i * i for i in range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run(options: argparse.Namespace) -> int:
    n_rounds = options.rounds or (2 if options.quick else 5)
    limit = 1.5 if options.quick else 30.0
    beside = partial(busy_thread, limit)
    report = Report(limit)
    first, _ = load_peers(options.peers, 1)
    with opt.bench(options, first) as (bench, source):
        report.source = source
        if "local" in options.parts:
            for threads in N_THREADS:
                use(bench, options.peers, threads, report)
                for workload in WORKLOADS:
                    if workload.key in options.only:
                        say(f"{workload.key} by {threads} ...")
                        report.add(str(threads), workload.key, "alone", measure(bench, workload, n_rounds))
                        row = measure(bench, workload, n_rounds, beside=beside, limit=limit)
                        report.add(str(threads), workload.key, "beside", row)
        if "free" in options.parts:
            for threads in N_FREE_THREADS:
                use(bench, options.peers, threads, report)
                say(f"free decoding by {threads} ...")
                row = measure(bench, FREE, n_rounds, limit=limit)
                n_chunks = bench.volume.nbytes // 2**15
                report.add("free", f"{threads}", "alone", row, 1e6 / n_chunks)
        if "remote" in options.parts:
            remotely(bench, options, n_rounds, beside, limit, report)
    text = report.markdown()
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(report.document(), indent=1) + "\n", encoding="utf-8")
    print(text)
    return int(bool(report.failures))


def say(text: str) -> None:
    print(text, file=sys.stderr)


def use(bench: Bench, names: Sequence[str], threads: int, report: Report) -> None:
    """Give the run peers with so many threads each."""
    bench.peers, missing = load_peers(names, threads)
    report.missing |= missing
    report.versions |= {peer.name: peer.version for peer in bench.peers}


def remotely(
    bench: Bench, options: argparse.Namespace, n_rounds: int, beside: Beside, limit: float, report: Report
) -> None:
    bench.peers, _ = load_peers(["tensorstore", "zarrdock"], 2)
    volume = remote.cut(bench)
    stored = remote.store(bench, volume)
    try:
        with serve(bench.scratch, bench.scratch / "nginx", DELAYS_MS) as server:
            peers = remote.usable(REMOTE_PEERS, server.url, 2, report.missing)
            report.versions |= {f"{peer.name} (remote)": peer.version for peer in peers}
            for delay_ms in DELAYS_MS:
                path = f"{server.prefix(delay_ms)}/{stored.name}"
                work = next(work for work in remote.works(volume.shape, delay_ms, 1, path) if work.key == "boxes")
                assert isinstance(work, remote.Work)
                ten = remote.Work("boxes", "boxes", {state: boxes[:N_BOXES] for state, boxes in work.parts.items()})
                for name, around in (("alone", nullcontext), ("beside", beside)):
                    say(f"remote boxes, {delay_ms} ms, {name} ...")
                    cells = remote.measure(
                        server,
                        peers,
                        ten,
                        path,
                        volume,
                        n_rounds,
                        beside=around,
                        limit=limit,  # type: ignore[arg-type]
                    )
                    for state in ten.parts:
                        found = {peer: cell.states[state].wall for peer, cell in cells.items()}
                        report.columns[("remote", f"{delay_ms} ms, {state}", name)] = found
                    report.failures += [f"remote {peer}: {cell.error}" for peer, cell in cells.items() if cell.error]
    except Unavailable as error:
        report.missing["remote"] = str(error)


class Report:
    """Collects seconds by (table, row, alone or beside)."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.source = ""
        self.columns: dict[tuple[str, str, str], Column] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.failures: list[str] = []

    def add(self, name: str, key: str, state: str, row: Row, scale: float = 1.0) -> None:
        self.columns[name, key, state] = {
            peer: [scale * wall for wall in cell.wall]
            for peer, cell in row.cells.items()
            if cell.state != "unsupported"
        }
        self.failures += [
            f"{key} {peer}: {cell.state}: {cell.note}"
            for peer, cell in row.cells.items()
            if cell.state in ("wrong", "error")
        ]

    def markdown(self) -> str:
        about = machine()
        lines = ["# The interpreter's lock", "", f"- data: {self.source}"]
        lines += [
            "- implementations: " + ", ".join(f"{name} {v}" for name, v in self.versions.items() if "(r" not in name)
        ]
        lines += [f"- left out: {name} ({reason})" for name, reason in self.missing.items()]
        lines += [
            f"- machine: {about['cores']} cores, {about['architecture']}, {about['system']}, Python {about['python']}",
            f"- the busy thread computes for {self.limit:g} s at most: `>` marks times that are longer beside it",
        ]
        for name in ("1", "2"):
            lines += self._tables(name, f"Local, {name} thread{'s'[: name != '1']}", "workload")
        lines += self._tables("remote", f"Remote: {N_BOXES} boxes of 64^3, one after the other, 2 threads", "latency")
        free = {key: column for (table_, key, _), column in self.columns.items() if table_ == "free"}
        if free:
            names = list(next(iter(free.values())))
            lines += ["", "## Free decoding: microseconds a chunk", "", FREE.title + ", from the page cache.", ""]
            body = [
                [key, "", *(three(median(column[n])) if column.get(n) else "" for n in names)]
                for key, column in free.items()
            ]
            lines += table(["threads", "", *names], body)
        if self.failures:
            lines += ["", "## Not timed", "", *(f"- {line}" for line in self.failures)]
        return "\n".join(lines) + "\n"

    def _tables(self, name: str, title: str, first: str) -> list[str]:
        keys = list(dict.fromkeys(key for table_, key, _ in self.columns if table_ == name))
        if not keys:
            return []
        peers = list(self.columns[name, keys[0], "alone"])
        times, ratios = [], []
        for key in keys:
            alone, beside = (self.columns[name, key, state] for state in ("alone", "beside"))
            times.append([key, "alone / beside", *(self._pair(alone.get(peer), beside.get(peer)) for peer in peers)])
            for state, column in (("alone", alone), ("beside", beside)):
                ratios.append([key, state, *(self._ratio(column, peer) for peer in peers)])
        lines = ["", f"## {title}: seconds alone / beside a busy thread", "", *table([first, "", *peers], times)]
        lines += ["", f"### {title}: ratio to {REFERENCE}, medians of rounds", ""]
        return [*lines, *table([first, "", *peers], ratios)]

    def _mark(self, walls: list[float]) -> str:
        return "> " if median(walls) > self.limit else ""

    def _pair(self, alone: list[float] | None, beside: list[float] | None) -> str:
        if not alone or not beside:
            return ""
        return f"{three(median(alone))} / {self._mark(beside)}{three(median(beside))}"

    def _ratio(self, column: Column, peer: str) -> str:
        mine, other = column.get(peer), column.get(REFERENCE)
        if not mine or not other:
            return ""
        return f"{self._mark(mine)}{median(a / b for a, b in zip(mine, other, strict=False)):.2f}"

    def document(self) -> dict[str, Any]:
        rows = [
            {"table": name, "row": key, "state": state, "seconds": dict(column)}
            for (name, key, state), column in self.columns.items()
        ]
        return {
            "machine": machine(), "data": self.source, "versions": self.versions, "missing": self.missing,
            "limit": self.limit, "rows": rows, "failures": self.failures,
        }  # fmt: skip
