"""Run storms; see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from zarrdock.testing.storms.base import PLACES, Outcome, Scale
from zarrdock.testing.storms.report import into_document

STORMS = ("writers", "readers", "appends", "kills", "faults", "fuzz")
QUICK = 0.02


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 1 where anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m zarrdock.testing.storms", description=__doc__)
    parser.add_argument("--only", action="append", choices=STORMS, help="one storm; may be given again")
    parser.add_argument("--place", action="append", choices=PLACES, help="one place; may be given again")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} of the full size")
    parser.add_argument("--share", type=float, default=1.0, help="of the full size, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="keep outcomes in this file, with those of earlier runs")
    parser.add_argument("--markdown", type=Path, help="write the table into this document")
    given = parser.parse_args(arguments)
    scale = Scale(QUICK if given.quick else given.share, tuple(given.place or PLACES), given.seed)
    outcomes: list[Outcome] = []

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    for name in given.only or STORMS:
        for outcome in import_module(f"zarrdock.testing.storms.{name}").run(scale, say):
            outcomes.append(outcome)
            if given.results:
                keep(given.results, outcome)
    if given.markdown:
        kept = [Outcome(**item) for item in load(given.results)] if given.results else outcomes
        given.markdown.write_text(into_document(given.markdown.read_text(), kept, STORMS))
    return int(any(outcome.n_bad for outcome in outcomes))


def load(path: Path) -> list[dict[str, Any]]:
    """Outcomes kept in a file."""
    return list(json.loads(path.read_text())) if path.exists() else []


def keep(path: Path, outcome: Outcome) -> None:
    """Add an outcome to a file, in place of an earlier one of the same storm and place."""
    others = [item for item in load(path) if (item["storm"], item["place"]) != (outcome.storm, outcome.place)]
    path.write_text(json.dumps([*others, asdict(outcome)], indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
