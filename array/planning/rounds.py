"""Many tasks side by side: their requests of one moment go to the store as one round."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from zarrdock.errors import RangeError
from zarrdock.stores.base import Read, Result

__all__ = ["Round", "Rounds", "Steps", "lockstep"]

# Answers are dealt with by parts of about this size.
PART_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """Reads that go to the store together: of one task, or of many.

    Attributes:
        is_data: False for indexes, which a plan reads; of many tasks together ``members`` say so.
        nbytes: size of the answers, as far as known.
        then: the round that comes after this one whatever the answers are, this very object, unless an object changes
            or an error ends it all.
        members: the rounds of many tasks that this one is made of.
        lazy: the bytes may stay in their files until they are decoded.
    """

    reads: list[Read]
    is_data: bool
    nbytes: int
    then: Round | None = field(default=None, repr=False)
    members: Sequence[Round] = ()
    lazy: bool = False

    def parts(self) -> list[list[Read]]:
        """The reads in parts, each with those of whole members, whose answers may come apart."""
        found: list[list[Read]] = []
        nbytes = PART_BYTES
        for member in self.members or (self,):
            if nbytes >= PART_BYTES:
                found.append([])
                nbytes = 0
            found[-1] += member.reads
            nbytes += member.nbytes
        return found


#: One task: yields a round, is sent the answers to its reads.
Steps: TypeAlias = Generator[Round, list[Result], None]
#: Many tasks: the answers may come later than the iterable that gives them.
Rounds: TypeAlias = Generator[Round, Iterable[Result], None]


def lockstep(steps: Iterable[Steps], *, round_bytes: int, n_together: int) -> Rounds:
    """Run many tasks together: what they ask for at one time is one round, as long as the answers fit ``round_bytes``.

    Args:
        n_together: tasks begun at once; the next ones begin when these are done.
    """
    waiting = iter(steps)
    while group := list(islice(waiting, n_together)):
        active = [(task, asked) for task in group if (asked := next(task, None)) is not None]
        while active:
            following: list[tuple[Steps, Round]] = []
            for batch, together in _joined(active, round_bytes):
                try:
                    answers = iter((yield together))
                    for task, asked in batch:
                        mine = list(islice(answers, len(asked.reads)))
                        try:
                            following.append((task, task.send(mine)))
                        except StopIteration:
                            pass
                        del mine  # nothing of it is held while the next round is read
                    del answers
                except RangeError as error:  # the task concerned knows what it means
                    for task, _ in batch if len(batch) == 1 else [b for b in batch if _concerns(b[1], error)]:
                        task.throw(error)
                    raise
            active = following


def _joined(active: list[tuple[Steps, Round]], round_bytes: int) -> list[tuple[list[tuple[Steps, Round]], Round]]:
    """Tasks whose rounds fit in one round together, and that round."""
    batches: list[list[tuple[Steps, Round]]] = []
    first = 0
    while first < len(active):
        last, nbytes = first, 0
        while last < len(active) and (last == first or nbytes + active[last][1].nbytes <= round_bytes):
            nbytes += active[last][1].nbytes
            last += 1
        batches.append(active[first:last])
        first = last
    if len(active) == 1:
        return [(active, active[0][1])]
    found: list[tuple[list[tuple[Steps, Round]], Round]] = []
    then: Round | None = None
    for batch in reversed(batches):
        members = [asked for _, asked in batch]
        reads = [read for asked in members for read in asked.reads]
        nbytes = sum([asked.nbytes for asked in members])
        then = Round(reads, False, nbytes, then, members, all(asked.lazy for asked in members))
        found.append((batch, then))
    found.reverse()
    return found


def _concerns(asked: Round, error: RangeError) -> bool:
    """True if an error is about these reads. A store within another one names the keys of the outer one."""
    key = asked.reads[0].key
    return error.key == key or error.key.endswith("/" + key)
