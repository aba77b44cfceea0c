"""Stores and verbs: ``python -m tools.store_table docs/reference/stores.md`` writes the table into the page."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support.store_verbs import SIGNS, STORES, VERBS, Outcome, is_here, places

__all__ = ["HEAD", "main", "row"]

#: The head of the table, by which it is found in the page.
HEAD: Final = f"| | {' | '.join(VERBS)} |"


def row(store: str, outcomes: dict[str, Outcome]) -> str:
    """The line of one store."""
    return f"| {store} | " + " | ".join(SIGNS[outcomes[verb]] for verb in VERBS) + " |"


def main(arguments: Sequence[str]) -> int:
    """Try all stores, and put the table into the page given. Rows of services that are not here stay as they are."""
    page = Path(arguments[0])
    text = page.read_text("utf-8")
    start = text.index(HEAD) if HEAD in text else text.index("<!-- stores and verbs -->")
    end = text.index("\n\n", start)
    known = {line.split(" | ")[0]: line for line in text[start:end].splitlines()}
    lines = [HEAD, "|---" * (len(VERBS) + 1) + "|"]
    for store in STORES:
        if not is_here(store):
            lines += [known[f"| {store}"]] if f"| {store}" in known else []
            continue
        with tempfile.TemporaryDirectory() as folder, places(store, Path(folder)) as found:
            lines.append(row(store, found))
        print(lines[-1], flush=True)
    page.write_text(text[:start] + "\n".join(lines) + text[end:], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
