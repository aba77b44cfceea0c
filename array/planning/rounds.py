"""Many tasks side by side: what they ask for at one time is one round."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

from zarrdock.array.planning.read_types import Asked, Steps
from zarrdock.errors import RangeError
from zarrdock.stores.base import Read, Result

__all__ = ["Round", "lockstep"]

Batch: TypeAlias = list[tuple[Steps, Asked]]


class Round(list[Read]):
    """The reads of one round.

    Attributes:
        parts: how many of them belong together, one number a part: their answers may be given part by part.
    """

    __slots__ = ("parts",)

    def __init__(self, reads: Iterable[Read], parts: list[int]) -> None:
        super().__init__(reads)
        self.parts = parts


def lockstep(
    steps: Iterable[Steps],
    *,
    round_bytes: int,
    n_together: int,
    counted: Callable[[Asked], None] | None = None,
    expected: Callable[[list[Read]], None] | None = None,
) -> Generator[list[Read], Sequence[Result], None]:
    """Run many tasks' steps together: what they ask for at one time is asked for in one round, as long as the answers
    fit ``round_bytes``. It is sent the answers in the order of the reads, as a sequence whose elements may come later
    than it does.

    Args:
        n_together: tasks begun at once; the next ones begin when these are done.
        counted: told of every step before its reads are yielded.
        expected: told, before a round is yielded, which reads will be the round after it (that very list, unless an
            object changes or an error ends it all), where that does not depend on the answers.
    """
    waiting = iter(steps)
    while group := list(islice(waiting, n_together)):
        active = [(task, asked) for task in group if (asked := next(task, None)) is not None]
        while active:
            following: list[tuple[Steps, Asked]] = []
            rounds = _rounds(active, round_bytes)
            for i, (batch, reads) in enumerate(rounds):
                if counted is not None:
                    for _, asked in batch:
                        counted(asked)
                if expected is not None and (upcoming := _upcoming(rounds, i)) is not None:
                    expected(upcoming)
                try:
                    results = yield reads
                    for task, mine in _shared_out(batch, results):
                        try:
                            following.append((task, task.send(mine)))
                        except StopIteration:
                            pass
                        del mine  # nothing of it is held while the next round is read
                    del results
                except RangeError as error:  # the task concerned knows what it means
                    for task, _ in batch if len(batch) == 1 else [b for b in batch if _concerns(b[1], error)]:
                        task.throw(error)
                    raise
            active = following


def _shared_out(batch: Batch, results: Sequence[Result]) -> Iterator[tuple[Steps, list[Result]]]:
    """Each task's own answers. Those of later tasks need not have come while the first are dealt with."""
    at = 0
    for task, asked in batch:
        yield task, list(results[at : at + len(asked.reads)])
        at += len(asked.reads)


def _rounds(active: Batch, round_bytes: int) -> list[tuple[Batch, list[Read]]]:
    """Steps that fit in one round together, and their reads."""
    rounds: list[tuple[Batch, list[Read]]] = []
    first = 0
    while first < len(active):
        last, nbytes = first, 0
        while last < len(active) and (last == first or nbytes + active[last][1].nbytes <= round_bytes):
            nbytes += active[last][1].nbytes
            last += 1
        batch = active[first:last]
        reads = _round_of(batch) if len(batch) > 1 else batch[0][1].reads
        rounds.append((batch, reads))
        first = last
    return rounds


# Answers are dealt with by parts of about this size.
PART_BYTES = 4 * 2**20


def _round_of(batch: Batch) -> Round:
    parts: list[int] = []
    n = nbytes = 0
    for _, asked in batch:
        n += len(asked.reads)
        nbytes += asked.nbytes
        if nbytes >= PART_BYTES:
            parts.append(n)
            n = nbytes = 0
    if n:
        parts.append(n)
    return Round((read for _, asked in batch for read in asked.reads), parts)


def _upcoming(rounds: list[tuple[Batch, list[Read]]], i: int) -> list[Read] | None:
    if i + 1 < len(rounds):
        return rounds[i + 1][1]
    batch = rounds[i][0]
    if len(rounds) == len(batch) == 1 and batch[0][1].following:  # one large shard
        return batch[0][1].following[0].reads
    return None


def _concerns(asked: Asked, error: RangeError) -> bool:
    """True if an error is about these reads. A store within another one names the keys of the outer one."""
    key = asked.reads[0].key
    return error.key == key or error.key.endswith("/" + key)
