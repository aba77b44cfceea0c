"""Options and output that the subcommands share."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import FULL, QUICK, Bench, Sizes
from benchmarks.data import cache_folder, load_volume
from benchmarks.peers.base import Peer, load_peers
from benchmarks.peers.catalogue import FACTORIES, LOCAL
from benchmarks.report import Report, markdown, write_json


def names(known: list[str]) -> type[list[str]]:
    """An argparse type: a comma-separated list of some of `known`."""

    class Names(list[str]):
        def __init__(self, text: str) -> None:
            chosen = [name.strip() for name in text.split(",") if name.strip()]
            unknown = [name for name in chosen if name not in known]
            if unknown or not chosen:
                raise argparse.ArgumentTypeError(
                    f"not known: {', '.join(unknown) or text!r}; choose from {','.join(known)}"
                )
            super().__init__(chosen)

    return Names


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")


def add_peers(parser: argparse.ArgumentParser, default: list[str] = LOCAL) -> None:
    known = list(FACTORIES)
    parser.add_argument(
        "--quick", action="store_true", help="a volume of 256^3 with shards of 128^3, and fewer repeats"
    )
    parser.add_argument("--peers", type=names(known), default=default, metavar="A,B", help=f"some of {','.join(known)}")
    parser.add_argument("--threads", type=int, default=2, help="threads that each implementation may use (default: 2)")


def sizes(options: argparse.Namespace) -> Sizes:
    return QUICK if options.quick else FULL


def usable_peers(options: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """The peers asked for that can be used, and why the others can't; says the latter at once.

    Raises:
        SystemExit: there is none that writes Zarr.
    """
    peers, missing = load_peers(options.peers, options.threads)
    for name, reason in missing.items():
        print(f"left out: {name} ({reason})", file=sys.stderr)
    if not any(peer.name in ("tensorstore", "zarr", "zarrdock") for peer in peers):
        sys.exit("one of tensorstore, zarr and zarrdock has to take part: it writes what the others read")
    return peers, missing


@contextmanager
def bench(options: argparse.Namespace, peers: list[Peer]) -> Iterator[tuple[Bench, str]]:
    """A run's volume and a scratch folder that is removed at the end, and the words on the volume's source."""
    folder = cache_folder()
    print("preparing the volume ...", file=sys.stderr)
    volume = load_volume(sizes(options).n, folder)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=folder) as scratch:
        yield Bench(sizes(options), volume.values, Path(scratch), peers), volume.source


def finish(report: Report, options: argparse.Namespace) -> int:
    """Write and print the report; 1 when something failed, else 0."""
    text = markdown(report)
    if options.json:
        write_json(report, options.json)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    print(text)
    return 1 if report.failures() else 0
