"""The table in ``docs/reliability.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zarrdock.errors import UnsupportedError
from zarrdock.testing.storms.base import Outcome

__all__ = ["BEGIN", "END", "into_document", "table"]

BEGIN = "<!-- storms: begin -->"
END = "<!-- storms: end -->"


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
