"""``memory``: peak memory beyond the output (reading) or the input (writing), each in a process of its own; and that of
copying a sparse array of 100 GB to other chunks, for zarrdock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import options as opt
from benchmarks.bench import Bench
from benchmarks.data import volume_file
from benchmarks.peers.base import Peer
from benchmarks.report import machine, table

# Data sets of benchmarks.bench, by workload.
READS = {"W2": "zstd", "W2b": "blosc", "W2c": "none", "W7r": "unsharded"}
WRITES = {"W1": "zstd", "W1b": "blosc", "W1c": "none", "W7w": "unsharded"}
COPY = "copy"


def add_to(subparsers: Any) -> None:
    keys = [*WRITES, *READS, COPY]
    parser = subparsers.add_parser("memory", help="peak memory in fresh processes", description=__doc__)
    opt.add_common(parser)
    opt.add_peers(parser)
    parser.add_argument(
        "--only", type=opt.names(keys), default=["W1", "W2", COPY], metavar="W1,W2", help=f"some of {','.join(keys)}"
    )
    parser.add_argument("--rounds", type=int, help="processes of each (default: 3, with --quick 1)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    n_rounds = options.rounds or (1 if options.quick else 3)
    peers, missing = opt.usable_peers(options)
    results: dict[str, dict[str, list[int] | str]] = {}
    with opt.bench(options, peers) as (bench, source):
        volume, _ = volume_file(bench.sizes.n, bench.scratch.parent)
        for key in options.only:
            print(f"{key} ...", file=sys.stderr)
            results[key] = {peer.name: probe(bench, peer, key, volume, options, n_rounds) for peer in peers}
    names = [peer.name for peer in peers]
    lines = [
        "# Peak memory",
        "",
        f"- data: {source}",
        f"- threads: {options.threads}",
        f"- processes of each: {n_rounds}",
    ]
    lines += [f"- left out: {name} ({reason})" for name, reason in missing.items()]
    lines += ["", "MiB beyond the output (reads) or the input (writes), median of the processes.", ""]
    titles = {key: title(key) for key in results}
    lines += table(
        ["", "workload", *names],
        [[key, titles[key], *(cell(row[name]) for name in names)] for key, row in results.items()],
    )
    text = "\n".join(lines) + "\n"
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        document = {
            "machine": machine(),
            "data": source,
            "sizes": asdict(bench.sizes),
            "missing": missing,
            "bytes": results,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(text)
    return int(
        any(isinstance(value, str) and value != "unsupported" for row in results.values() for value in row.values())
    )


def probe(
    bench: Bench, peer: Peer, key: str, volume: Path, options: argparse.Namespace, n_rounds: int
) -> list[int] | str:
    """Bytes of each process; a word where it can't do that or failed."""
    if (peer.name == "floor" and key != "W2") or (peer.name != "zarrdock" and key == COPY):
        return "unsupported"
    data = (READS | WRITES).get(key, "")
    found = []
    for _ in range(n_rounds):
        path = bench.stored(data, peer) if key in READS else bench.folder(f"memory-{peer.name}")
        verb = COPY if key == COPY else "read" if key in READS else "write"
        done = child([verb, peer.name, str(options.threads), str(path), data, str(volume), str(int(options.quick))])
        if done.returncode != 0:
            return f"error: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
        found.append(int(done.stdout))
    return found


def title(key: str) -> str:
    if key == COPY:
        return "copy a sparse array of 100 GB to other chunks"
    return f"{'write' if key in WRITES else 'read'} all, {(WRITES | READS)[key]}"


def child(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "benchmarks.memory_probe", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def cell(value: list[int] | str) -> str:
    if isinstance(value, str):
        return "" if value == "unsupported" else value
    return f"{median(value) / 2**20:.0f}"
