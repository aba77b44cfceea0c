"""``pipeline``: the workloads of ``local`` through zarr-python, with each codec pipeline that it can be given."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import local
from benchmarks import options as opt
from benchmarks.peers.catalogue import PIPELINES


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("pipeline", help="zarr-python with each codec pipeline", description=__doc__)
    opt.add_common(parser)
    opt.add_peers(parser, PIPELINES)
    local.add_workloads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    return local.run(options, "zarr-python's interface, with each pipeline", "zarr")
