"""Faults of remote stores and their outcomes: ``python -m tools.fault_table docs/measurements/fault-matrix.md``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support.fault_matrix import FAULTS, OPERATIONS, POLICY, SERVICES, Cell, Kind, Services, run_all

__all__ = ["document", "main", "table"]


def table(outcomes: dict[Cell, str]) -> str:
    """The matrix in Markdown: for each service and operation what came of the fault once, and for ever."""
    parts = []
    for service in SERVICES:
        operations = [op for op in OPERATIONS if any(c.service == service and c.operation == op for c in outcomes)]
        rows = [f"| {service} | " + " | ".join(operations) + " |", "|---" * (len(operations) + 1) + "|"]
        for kind in FAULTS:
            row = [_cell_text(outcomes, service, operation, kind) for operation in operations]
            rows.append(f"| {kind.name} | " + " | ".join(row) + " |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _cell_text(outcomes: dict[Cell, str], service: str, operation: str, kind: Kind) -> str:
    once, ever = (outcomes.get(Cell(service, operation, kind, for_ever), "") for for_ever in (False, True))
    return once if once == ever else f"{once} / {ever}"


HEADING: Final = """# Fault matrix

Each remote store stands behind a proxy that injects one kind of fault into the requests of one operation. A cell says
what the caller got when the fault came once / when it came every time; one word where both are alike. `ok` was the
right bytes, or the change made exactly once; an error is the exception raised, with the change made once or not
at all. All within the deadline. Empty: the fault does not exist for that operation.

Made by `python -m tools.fault_table docs/measurements/fault-matrix.md` against in-process fakes of the services (they
honour every condition, which the emulators do not), with a policy of {attempts} attempts, {attempt:g} s an attempt,
{deadline:g} s in all. The tests run the same cells and hold this file to what they find.

"""


def document(outcomes: dict[Cell, str]) -> str:
    """The whole document."""
    heading = HEADING.format(attempts=POLICY.attempts, attempt=POLICY.attempt_seconds, deadline=POLICY.deadline_seconds)
    return heading + table(outcomes)


def main(arguments: Sequence[str]) -> None:
    """Run everything, and write the document to the path given."""
    with Services() as services:
        outcomes = {cell: result[0] for cell, result in run_all(services).items()}
    Path(arguments[0]).write_text(document(outcomes))


if __name__ == "__main__":
    main(sys.argv[1:])
