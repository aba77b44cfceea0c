"""Storm: several processes append rows to one array. Every row must be there once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from support.storms.base import Outcome, Say, Scale, place
from support.storms.workers import in_copies, in_processes, in_threads
from zarrdock.api import create_array
from zarrdock.array.array import Array

__all__ = ["NAME", "run"]

NAME = "appends"
N_WRITERS = 8
N_ROWS = 1000


def append_rows(array: Array, who: int, n_rows: int, n_at_once: int) -> int:
    """Append rows ``(who, number, who ^ number)``; the number of appends."""
    for first in range(0, n_rows, n_at_once):
        numbers = np.arange(first, min(first + n_at_once, n_rows))
        array.append(np.stack([np.full_like(numbers, who), numbers, who ^ numbers], axis=1))
    return -(-n_rows // n_at_once)


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """One outcome for each place."""
    for name in scale.over("local", "memory threads", "S3", "GCS", "Azure"):
        outcome = storm(name, N_WRITERS, scale.of(N_ROWS, 20), 1 if name in ("local", "memory threads") else 10)
        say(str(outcome))
        yield outcome


def storm(name: str, n_writers: int, n_rows: int, n_at_once: int, *, copies: bool = False) -> Outcome:
    """``n_writers`` at once append ``n_rows`` each, ``n_at_once`` at a time; ``copies`` as for the writers."""
    with place(name) as store:
        array = create_array(store, shape=(0, 3), dtype="int64", chunks=(25, 3), shards=(200, 3), fill_value=-1)
        many = in_copies if copies else in_threads if "threads" in name else in_processes
        done, seconds = many(append_rows, [(array, who, n_rows, n_at_once) for who in range(n_writers)])
        array.refresh()
        rows = array[:]
    n_bad = count_bad(rows, n_writers, n_rows)
    who = "threads" if many is not in_processes else "processes"
    did = f"{n_writers} {who} append {n_rows} rows each, {n_at_once} at a time"
    return Outcome(
        NAME, name, did, n_bad, "rows lost, torn or twice", {"appends": sum(done), "rows": len(rows)}, seconds
    )


def count_bad(rows: np.ndarray[tuple[int, int], np.dtype[np.int64]], n_writers: int, n_rows: int) -> int:
    """Rows that are missing, there twice, or not what any writer wrote."""
    found: dict[tuple[int, int], int] = {}
    n_bad = 0
    for who, number, check in rows.tolist():
        if check != who ^ number or not (0 <= who < n_writers and 0 <= number < n_rows):
            n_bad += 1
        else:
            found[who, number] = found.get((who, number), 0) + 1
    return n_bad + (n_writers * n_rows - len(found)) + sum(n - 1 for n in found.values())
