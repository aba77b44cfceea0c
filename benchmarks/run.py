"""Verify each implementation, then time them all in interleaved rounds."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import geometric_mean, median
from typing import Any, Literal

import numpy as np

from benchmarks.bench import Bench
from benchmarks.peers.base import Peer, Unsupported
from benchmarks.workloads import Workload

State = Literal["ok", "unsupported", "wrong", "error"]

_MORE = 5
_SECONDS = 10.0


@dataclass
class Cell:
    """One implementation on one workload: seconds of wall clock and of CPU (all threads), one of each a round."""

    state: State = "ok"
    note: str = ""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Row:
    """One workload; the cells are by the name of the implementation."""

    key: str
    title: str
    cells: dict[str, Cell]

    def ratio(self, name: str, reference: str) -> float | None:
        """Median over the rounds of `name`'s wall time over `reference`'s in the same round.

        None where one of them has no times. One that was too slow has fewer rounds: the first ones.
        """
        mine, other = self.cells.get(name), self.cells.get(reference)
        if mine is None or other is None or not mine.wall or not other.wall:
            return None
        return median(a / b for a, b in zip(mine.wall, other.wall, strict=False))


def mean_ratio(rows: Sequence[Row], name: str, reference: str) -> tuple[float, int] | None:
    """Geometric mean of the ratios of `name`, and how many workloads went into it; None where there is none."""
    ratios = [ratio for row in rows if (ratio := row.ratio(name, reference)) is not None]
    return (geometric_mean(ratios), len(ratios)) if ratios else None


Beside = Callable[[], AbstractContextManager[object]]


def measure(
    bench: Bench, workload: Workload, n_rounds: int, *, beside: Beside = nullcontext, limit: float = float("inf")
) -> Row:
    """Verify every peer of `bench` on `workload`, then time those that passed.

    The peers of one round run one after the other, in an order shuffled anew each round, so that noise of the machine
    falls on all alike. Short workloads get more rounds: up to five times as many, in ten seconds.

    Args:
        beside: a context within which each run is timed. limit: one that took more seconds is not timed again.
    """
    cells = {peer.name: verify(bench, workload, peer) for peer in bench.peers}
    passed = [peer for peer in bench.peers if cells[peer.name].state == "ok"]
    begun = time.perf_counter()
    for number in range(_MORE * n_rounds):
        # What is over in a moment is what noise falls on most.
        if number >= n_rounds and time.perf_counter() - begun > _SECONDS:
            break
        order = passed.copy()
        random.Random(number).shuffle(order)
        for peer in order:
            wall, cpu = timed(bench, workload, peer, beside)
            cells[peer.name].wall.append(wall)
            cells[peer.name].cpu.append(cpu)
            if wall > limit:
                passed.remove(peer)
    return Row(workload.key, workload.title, cells)


def verify(bench: Bench, workload: Workload, peer: Peer) -> Cell:
    """Run once without a clock and compare every value: a result that is wrong, or none, is never timed."""
    try:
        with peer.active():
            job = workload.prepare(bench, peer)
            try:
                found: list[Any] = []
                job.run(found.append)
            except BaseException:
                job.clean()
                raise
        try:
            expected = job.expected()
            same = len(found) == len(expected) and all(map(equal, found, expected))
            if same and job.check is not None:
                same = job.check()
        finally:
            job.clean()
    except Unsupported as reason:
        return Cell("unsupported", str(reason))
    except Exception as error:  # whatever a peer raises is a result to report
        return Cell("error", f"{type(error).__name__}: {error}"[:300])
    return Cell() if same else Cell("wrong", "the result differs from what it has to be")


def equal(found: Any, expected: Any) -> bool:
    """Same shape, dtype and values."""
    found = np.asarray(found)
    return found.dtype == expected.dtype and np.array_equal(found, expected)


def timed(bench: Bench, workload: Workload, peer: Peer, beside: Beside = nullcontext) -> tuple[float, float]:
    """Seconds of wall clock and of CPU that one run takes, without preparation and without freeing the last result."""
    with peer.active():
        job = workload.prepare(bench, peer)
        last: list[Any] = [None]

        def keep(value: Any) -> None:
            last[0] = value

        gc.collect()
        with beside():
            cpu = time.process_time()
            wall = time.perf_counter()
            job.run(keep)
            elapsed = time.perf_counter() - wall, time.process_time() - cpu
    job.clean()
    return elapsed
