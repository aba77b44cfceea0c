"""Storm: many writers, each of other parts of the same shards. Every value must be there afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from support.storms.base import Outcome, Say, Scale, place
from support.storms.workers import in_copies, in_processes, in_threads
from zarrdock.api import create_array
from zarrdock.array.array import Array

__all__ = ["NAME", "run"]

NAME = "writers"
N_WRITERS = 16
N_WRITES = 500
N_SHARDS = 4
RUN = 3  # elements a write covers: no divisor of a chunk, so that most of them share a chunk with others
CHUNK = 50


def write_runs(array: Array, starts: npt.NDArray[np.int64]) -> int:
    """Write ``i + 1`` at each ``i`` of short runs, each by itself; the number of writes."""
    for start in starts.tolist():
        array[start : start + RUN] = np.arange(start + 1, start + RUN + 1)
    return len(starts)


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """One outcome for each place."""
    for name in scale.over(
        "local", "local threads", "memory threads", "S3", "GCS", "Azure", "S3 (moto)", "Azure (Azurite)"
    ):
        outcome = storm(name, N_WRITERS, scale.of(N_WRITES // (10 if "(" in name else 1)), seed=scale.seed)
        say(str(outcome))
        yield outcome


def storm(name: str, n_writers: int, n_writes: int, *, seed: int = 0, copies: bool = False) -> Outcome:
    """``n_writers`` at once, ``n_writes`` each.

    Args:
        copies: threads that share no store, instead of processes, which take seconds to start.
    """
    n = RUN * n_writers * n_writes
    shard = -(-n // N_SHARDS // CHUNK) * CHUNK
    starts = np.random.default_rng(seed).permutation(np.arange(0, n, RUN))
    with place(name) as store:
        array = create_array(store, shape=n, dtype="int64", chunks=CHUNK, shards=shard)
        many = in_copies if copies else in_threads if "threads" in name else in_processes
        done, seconds = many(write_runs, [(array, starts[i::n_writers]) for i in range(n_writers)])
        n_lost = int((array[:] != np.arange(1, n + 1)).sum())
    who = "threads" if many is not in_processes else "processes"
    did = f"{n_writers} {who} x {n_writes} partial writes into {N_SHARDS} shards"
    return Outcome(NAME, name, did, n_lost, "values lost", {"writes": sum(done), "values": n}, seconds)
