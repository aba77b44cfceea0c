"""Storm: broken inputs. Only our own errors may come of them, soon, and within a bounded memory."""

from __future__ import annotations

import faulthandler
import mmap
import os
import random
import resource
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.storms.base import Outcome, Say, Scale, Stopwatch
from support.storms.mutate import mutated
from support.storms.targets import TARGETS, Target
from support.storms.workers import in_processes
from zarrdock.errors import ZarrdockError

__all__ = ["NAME", "make_input", "replay", "run"]

NAME = "fuzz"
SECONDS_AN_INPUT = 10
# No input declares a chunk of more than some kilobytes; a library's own tables are the rest.
MEMORY_BYTES = 192 * 2**20
_BLOCK = 500


class HungError(Exception):
    """An input took too long."""


def make_input(seeds: Sequence[bytes], number: int, seed: int) -> bytes:
    """The input of a number: always the same."""
    rng = random.Random(f"{seed}/{number}")
    return mutated(rng.choice(seeds), seeds, rng)


def _hang(*_: object) -> None:
    raise HungError(f"more than {SECONDS_AN_INPUT} s")


def feed(target: Target, data: bytes, number: int) -> str | None:
    """Give a target an input: None, or what was wrong with what came of it."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS_AN_INPUT)
    try:
        target.feed(data, number)
    except ZarrdockError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def feed_many(
    name: str, first: int, n: int, seed: int, progress: str, corpus: Sequence[bytes]
) -> tuple[int, list[str], int]:
    """Inputs ``first`` to ``first + n``, in a process of their own.

    Args:
        progress: a file that holds the number of the input at hand, for whoever finds this process dead.
    Returns:
        Inputs, what was wrong, and by how many bytes the peak of the process's memory rose.
    """
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _hang)
    target = TARGETS[name][0]()
    seeds = [*target.seeds(), *corpus]
    for number, data in enumerate(seeds):  # what is imported or built once is not counted
        feed(target, data, number)
    soft = _size_bytes() + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    before = _peak_bytes()
    wrong: list[str] = []
    with Path(progress).open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        for number in range(first, first + n):
            at[:] = number.to_bytes(8, "little")
            if number % _BLOCK == 0:
                faulthandler.dump_traceback_later(SECONDS_AN_INPUT * 6, exit=True)
            found = feed(target, make_input(seeds, number, seed), number)
            if found is not None:
                wrong.append(f"input {number} of {name}: {found}")
    faulthandler.cancel_dump_traceback_later()
    return n, wrong, _peak_bytes() - before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _size_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def replay(name: str, data: bytes, number: int = 0) -> None:
    """Give a target an input again; what comes of it is raised."""
    try:
        TARGETS[name][0]().feed(data, number)
    except ZarrdockError:
        pass


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """One outcome for each target."""
    for name in TARGETS:
        outcome = storm(name, scale.of(TARGETS[name][1]), seed=scale.seed)
        say(str(outcome))
        yield outcome


def storm(name: str, n_inputs: int, *, seed: int = 0, corpus: Sequence[bytes] = ()) -> Outcome:
    """``n_inputs`` for one target, in two processes."""
    watch = Stopwatch()
    half = -(-n_inputs // 2)
    with tempfile.TemporaryDirectory(prefix="zarrdock-storm-") as folder:
        arguments: list[tuple[Any, ...]] = []
        for part in range(2):
            progress = Path(folder) / str(part)
            progress.write_bytes(bytes(8))
            arguments.append((name, part * half, half, seed, str(progress), corpus))
        try:
            results, _ = in_processes(feed_many, arguments)
        except RuntimeError as error:
            at = [int.from_bytes(Path(a[4]).read_bytes(), "little") for a in arguments]
            results = [(0, [f"{error}; the inputs at hand were {at} of {name}, seed {seed}"], 0)]
    wrong = [item for _, found, _ in results for item in found]
    rise = max(rise for *_, rise in results)
    if rise > MEMORY_BYTES:
        wrong.append(f"the peak of memory rose by {rise:,} bytes")
    n = sum(n for n, *_ in results)
    notes = {"MiB more at the peak": rise >> 20}
    bad = "crashes, hangs, foreign errors"
    return Outcome(NAME, name, f"{n:,} broken inputs", len(wrong), bad, notes, watch.seconds, (*wrong[:9],))
