"""The matrix of compatibility as a page: ``python -m tools.compatibility_page docs/measurements/compatibility.md``."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from support.compatibility import Result, installed, run
from support.compatibility_cases import CODECS_V2, CODECS_V3, DATA_TYPES, LAYOUTS, cases

__all__ = ["cell", "document", "main"]

_LETTERS: Final = {"zarr": "Z", "tensorstore": "T", "numcodecs": "N"}
_NAMES: Final = {"zarr": "zarr-python", "tensorstore": "TensorStore", "numcodecs": "numcodecs"}

_HEAD = """\
# Compatibility

Every codec with every data type in every layout, beside other implementations. Made by

    python -m tools.compatibility_page docs/measurements/compatibility.md

with {peers}. {n} arrays of 5 x 6 elements in chunks of 2 x 3, one of which is never written.
Each is written by zarrdock and read by itself and by each peer; then each peer writes the same values under the same
metadata, and zarrdock reads them. Compared bit by bit. {refused} more combinations make no sense and are refused with
an error ({dash} below).

{ok} zarrdock reads back what it wrote. Peers that read what zarrdock wrote, and write what it reads: {letters}.
In lower case: some of the data types or layouts of the cell, or one direction only. With `!`: other values and no
error. Not named: refused. Peers are asked whether they understand what is valid; what they refuse they need not
support.
"""


def document(results: Sequence[Result], peers: Mapping[str, str]) -> str:
    """The page.

    Args:
        peers: names and versions.
    """
    tried = [result for result in results if result.ours != "refused"]
    text = _HEAD.format(
        peers=", ".join(f"{_NAMES[name]} {number}" for name, number in peers.items()),
        n=f"{len(tried):,}",
        refused=f"{len(results) - len(tried):,}",
        ok="●",
        dash="–",
        letters=", ".join(f"{_LETTERS[name]} {_NAMES[name]}" for name in peers),
    )
    families = tuple(DATA_TYPES)
    v3 = [result for result in results if result.case.layout != "v2"]
    v2 = [result for result in results if result.case.layout == "v2"]
    text += "\n## Zarr v3: plain, sharded and nested shards together\n\n"
    text += _table("codec", CODECS_V3, families, v3, lambda r: r.case.codec, lambda r: r.case.family)
    text += "\n## Zarr v2\n\n"
    text += _table("codec", CODECS_V2, families, v2, lambda r: r.case.codec, lambda r: r.case.family)
    text += "\n## Data types one by one, with zstd\n\n"
    zstd = [result for result in results if result.case.codec == "zstd"]
    labels = list(dict.fromkeys(_dtype(result) for result in zstd))
    text += _table("data type", labels, tuple(LAYOUTS), zstd, _dtype, lambda r: r.case.layout)
    return text + _differences(tried, peers)


def cell(results: Iterable[Result]) -> str:
    """The outcomes of several cases, in a few letters."""
    given = [result for result in results if result.ours != "refused"]
    if not given:
        return "–"
    if any(result.ours == "other" for result in given):
        return "**✗**"
    marks = ["●"]
    for name, letter in _LETTERS.items():
        outcomes = [side[name] for result in given for side in (result.reads, result.writes) if name in side]
        if "good" in outcomes or "other" in outcomes:
            mark = letter if set(outcomes) == {"good"} else letter.lower()
            marks.append(mark + ("!" if "other" in outcomes else ""))
    return " ".join(marks)


def _dtype(result: Result) -> str:
    dtype = result.case.dtype
    if isinstance(dtype, str):
        return dtype
    return "struct" if getattr(dtype, "names", None) and "x" in dtype.names else "struct, nested"


def _table(
    corner: str,
    rows: Iterable[str],
    columns: Sequence[str],
    results: Sequence[Result],
    row_of: Callable[[Result], str],
    column_of: Callable[[Result], str],
) -> str:
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((row_of(result), column_of(result)), []).append(result)
    lines = ["| " + " | ".join([corner, *columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join([f"`{row}`", *(cell(found.get((row, c), ())) for c in columns)]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _differences(results: Sequence[Result], peers: Mapping[str, str]) -> str:
    text = ""
    ours = [result for result in results if result.ours == "other"]
    if ours:
        text += "\n## Failures of zarrdock\n\n" + "".join(
            f"- {result.case.name}: {_short(result.notes.get(('zarrdock', 'reads'), 'other values'))}\n"
            for result in ours
        )
    for name, number in peers.items():
        silent: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for result in results:
            for verb, side in (("reads", result.reads), ("writes", result.writes)):
                outcome = side.get(name)
                if outcome == "other":
                    where = f"{verb} otherwise: {result.case.codec}, {_dtype(result)}"
                    note = result.notes.get((name, verb))
                    silent[where + (f" ({_short(note)})" if note else "")] += 1
                elif outcome == "refused":
                    refused[_short(result.notes[name, verb])] += 1
        text += f"\n## {_NAMES[name]} {number}\n\n"
        if silent:
            text += "Without an error, but not what the metadata says (failures of this version):\n\n"
            text += "".join(f"- {what} ({_times(n)})\n" for what, n in sorted(silent.items())) + "\n"
        text += "Refused:\n\n" if refused else "Nothing refused.\n"
        text += "".join(f"- {what} ({_times(n)})\n" for what, n in refused.most_common())
    return text


def _times(n: int) -> str:
    return f"{n:,} time{'' if n == 1 else 's'}"


_NOISE: Final[tuple[tuple[str, str], ...]] = (
    (r" \[(?:tensorstore_spec|source locations).*", ""),
    (r"(?:FAILED_PRECONDITION|INVALID_ARGUMENT|NOT_FOUND|DATA_LOSS): ", ""),
    (r'Error (?:opening|reading) (?:"\w+" driver|local file "[^"]*"): ', ""),
    (r'(?:Error parsing (?:object member "[^"]*"|value at position \d+): )+', ""),
    (r"matches .*", "matches …"),
    (r"\S+ data type is not one of .*", "… is not one of the supported data types"),
    (r"Unsupported zarr dtype: .*", "Unsupported zarr dtype: …"),
    (r'"numcodecs\.\w+"', '"numcodecs.…"'),
    (r"dtype '.' in a buffer", "dtype … in a buffer"),
    (r"/\S*?zarrdock-\S+", "…"),
    (r"0x[0-9a-f]{6,}", "0x…"),
    (r"\d+ bytes", "n bytes"),
)


def _short(note: Any) -> str:
    """An error without what differs from array to array."""
    text = str(note)
    for pattern, instead in _NOISE:
        text = re.sub(pattern, instead, text)
    text = text.replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= 150 else text[:149] + "…"


def main(arguments: list[str] | None = None) -> int:
    """Write the page; progress goes to the standard error."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        sys.stderr.write("usage: python -m tools.compatibility_page PAGE\n")
        return 2
    chosen = list(cases())
    peers = installed()

    def told(number: int) -> None:
        if number % 200 == 0:
            sys.stderr.write(f"{number} of {len(chosen)}\n")

    Path(given[0]).write_text(document(run(chosen, peers, told=told), peers))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
