"""Run storms, and write the table of ``docs/explanation/reliability.md``.

``python -m tools.storm_table`` runs them in full, ``--quick`` in the short form of the tests, ``--only NAME`` one of
them, ``--markdown docs/explanation/reliability.md`` writes the table of that document anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from support.storms.base import PLACES, Outcome, Scale
from zarrdock.errors import UnsupportedError

__all__ = ["BEGIN", "END", "STORMS", "into_document", "main", "table"]

BEGIN = "<!-- storms: begin -->"
END = "<!-- storms: end -->"
STORMS = ("writers", "readers", "appends", "kills", "faults", "fuzz")
QUICK = 0.02


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; 1 where anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tools.storm_table", description=__doc__)
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
        for outcome in import_module(f"support.storms.{name}").run(scale, say):
            outcomes.append(outcome)
            if given.results:
                keep(given.results, outcome)
    if given.markdown:
        kept = [Outcome(**item) for item in load(given.results)] if given.results else outcomes
        given.markdown.write_text(into_document(given.markdown.read_text(), kept, STORMS))
    return int(any(outcome.n_bad for outcome in outcomes))


def table(outcomes: Iterable[Outcome], order: Sequence[str]) -> str:
    """The outcomes in Markdown."""
    rows = ["| storm | where | what was done | must be 0 | also counted | seconds |", "|---|---|---|---|---|---|"]
    for outcome in sorted(outcomes, key=lambda o: order.index(o.storm)):
        notes = ", ".join(f"{n:,} {name}" for name, n in outcome.notes.items())
        rows.append(
            f"| {outcome.storm} | {outcome.place} | {outcome.did} | {outcome.n_bad} {outcome.bad} | {notes} "
            f"| {outcome.seconds:,.0f} |"
        )
    return "\n".join(rows) + "\n"


def into_document(text: str, outcomes: Iterable[Outcome], order: Sequence[str]) -> str:
    """The document with its table written anew.

    Raises:
        UnsupportedError: it has no place for one.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UnsupportedError(f"the document has no lines {BEGIN!r} and {END!r} to write the table between")
    return f"{before}{begin}\n\n{table(outcomes, order)}\n{end}{after}"


def load(path: Path) -> list[dict[str, Any]]:
    """Outcomes kept in a file."""
    return list(json.loads(path.read_text())) if path.exists() else []


def keep(path: Path, outcome: Outcome) -> None:
    """Add an outcome to a file, in place of an earlier one of the same storm and place."""
    others = [item for item in load(path) if (item["storm"], item["place"]) != (outcome.storm, outcome.place)]
    path.write_text(json.dumps([*others, asdict(outcome)], indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
