"""``local``: reading and writing local files, every implementation on every workload."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import options as opt
from benchmarks.peers.catalogue import REFERENCE
from benchmarks.report import Report, plot
from benchmarks.run import measure
from benchmarks.workloads import WORKLOADS


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("local", help="read and write local files", description=__doc__)
    opt.add_common(parser)
    opt.add_peers(parser)
    add_workloads(parser)
    parser.set_defaults(run=run)


def add_workloads(parser: argparse.ArgumentParser) -> None:
    """Which workloads, how often, and a picture."""
    keys = [workload.key for workload in WORKLOADS]
    parser.add_argument("--only", type=opt.names(keys), default=keys, metavar="W2,W3", help=f"some of {','.join(keys)}")
    parser.add_argument("--rounds", type=int, help="timed runs of each (default: 7, with --quick 3)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as a PNG (needs matplotlib)")


def run(options: argparse.Namespace, title: str = "Local files", reference: str = REFERENCE) -> int:
    """Measure, and report ratios to ``reference``."""
    n_rounds = options.rounds or (3 if options.quick else 7)
    peers, missing = opt.usable_peers(options)
    rows = []
    with opt.bench(options, peers) as (bench, source):
        for workload in WORKLOADS:
            if workload.key in options.only:
                print(f"{workload.key} {workload.title} ...", file=sys.stderr)
                rows.append(measure(bench, workload, n_rounds))
    s = opt.sizes(options)
    settings = {
        "data": source,
        "arrays": f"shards {s.shard}^3, chunks {s.chunk}^3, zstd level 3 if not said otherwise; in the page cache",
        "unsharded": f"chunks {s.large_chunk}^3",
        "small chunks": f"a cube of {s.small}^3 in shards of {s.small_shard}^3",
        "counts": f"{s.n_boxes} boxes of {s.box}^3, {s.n_voxels} voxels, {s.n_opens} opens",
        "threads": options.threads,
        "rounds": f"{n_rounds} and more, interleaved in one process, each result verified before",
    }
    versions = {peer.name: peer.version for peer in peers}
    report = Report(title, settings, versions, missing, rows, reference)
    code = opt.finish(report, options)
    if options.plot:  # last: without matplotlib nothing that was measured is lost
        plot(report, options.plot)
    return code
