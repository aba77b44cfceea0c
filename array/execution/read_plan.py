"""Plans: the predicted requests of a read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import numpy as np

from zarrdock.array.execution.decode import chunk_not_found, missing_chunk
from zarrdock.array.execution.drivers import drive
from zarrdock.array.execution.read_write import n_together, read_settings
from zarrdock.array.planning.chunk_cache import IndexCache, Indexes
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.read_types import Discard, IntArray, Sink
from zarrdock.array.planning.rounds import Round, Rounds, Steps, lockstep
from zarrdock.array.planning.selection import Points, Product, basic
from zarrdock.array.planning.shard_reader import read_task
from zarrdock.array.planning.tasks import Leaves, Task, tasks
from zarrdock.errors import RangeError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Read, Result, Store, Version

__all__ = ["Plan", "join_plans", "make_plan", "require_all"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Predicted cost of reading a selection. Prints well.

    Attributes:
        shape: of the result. n_objects: objects in the store that hold it; n_chunks: (inner) chunks.
        n_rounds: number of times the reader waits for the store; the requests of a round are in flight together.
        n_requests: requests over all rounds, including those for indexes.
        nbytes: bytes returned.
        n_missing: objects that do not exist: all fill value.
        rounds: requests and bytes of each round.
        reads_by_round: the reads of each round, with the versions of the objects when the plan was made; none in a
            round that asks for sizes.

    >>> array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(2, 2), shards=(4, 4))
    >>> plan = array.plan((0, 0))
    >>> plan.n_rounds, plan.n_requests
    (2, 2)
    """

    shape: tuple[int, ...]
    n_objects: int
    n_chunks: int
    n_missing: int
    rounds: tuple[tuple[int, int], ...]
    reads_by_round: tuple[tuple[Read, ...], ...]

    @property
    def reads(self) -> tuple[Read, ...]:
        """Every read, in order, with the versions of the objects when the plan was made."""
        return tuple(chain.from_iterable(self.reads_by_round))

    @property
    def n_rounds(self) -> int:
        """Rounds of requests."""
        return len(self.rounds)

    @property
    def n_requests(self) -> int:
        """Requests over all rounds."""
        return sum(n for n, _ in self.rounds)

    @property
    def nbytes(self) -> int:
        """Bytes that come back over all rounds."""
        return sum(nbytes for _, nbytes in self.rounds)

    def __str__(self) -> str:
        from zarrdock.facts import count  # for texts alone

        lines = [
            (
                f"{count(self.n_rounds, 'round')}, {count(self.n_requests, 'request')}, {_size(self.nbytes)}"
                f" for {count(self.n_chunks, 'chunk')} in {count(self.n_objects, 'object')}, result {self.shape}"
            )
        ]
        if self.n_missing:
            lines[0] += f" ({count(self.n_missing, 'object')} not stored: fill value)"
        shown = 5
        for i, ((n, nbytes), reads) in enumerate(zip(self.rounds, self.reads_by_round, strict=True), 1):
            of_sizes = "" if reads else " (sizes of objects)"
            lines.append(f"  round {i}: {count(n, 'request')}, {_size(nbytes)}{of_sizes}")
            lines += [f"    {_describe(read)}" for read in reads[:shown]]
            if len(reads) > shown:
                lines.append(f"    … and {len(reads) - shown:,} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape  # for notebooks alone

        head = str(self).partition("\n")[0]
        rows = "".join(
            f"<tr><td>{i}</td><td>{n:,}</td><td>{_size(nbytes)}</td></tr>"
            for i, (n, nbytes) in enumerate(self.rounds, 1)
        )
        table = f"<table><tr><th>round</th><th>requests</th><th>bytes</th></tr>{rows}</table>" if rows else ""
        return f"<div>{escape(head)}{table}</div>"


def _size(nbytes: int) -> str:
    if nbytes < 10_000:
        return f"{nbytes:,} B"
    return f"{nbytes / 2**10:,.1f} KiB" if nbytes < 10 * 2**20 else f"{nbytes / 2**20:,.1f} MiB"


def _describe(read: Read) -> str:
    match read.range:
        case None:
            return f"{read.key}: all"
        case Tail(n):
            return f"{read.key}: last {n:,} bytes"
        case From(start):
            return f"{read.key}: bytes {start:,} on"
        case Span(start, stop):
            return f"{read.key}: bytes {start:,} to {stop:,}"


class _Planner:
    """Runs the steps of a read: indexes are read, data is only counted."""

    def __init__(self, store: Store, layout: Layout, cache: IndexCache, sink: Sink | None = None) -> None:
        # Indexes read here are not kept, so that the plan does not change what it announces. What is known already
        # makes a read hot, and the plan too.
        self._cache = _Peek(cache)
        self._settings = read_settings(layout, store, self._cache)
        if sink is not None:  # which is told what the indexes say: no shard may be read as a whole
            self._settings = replace(self._settings, whole_fraction=np.inf)
        self._sink = Discard() if sink is None else sink
        self.absent: list[str] = []  # keys of objects that are no shards
        self._store = store
        self.reads: list[tuple[Read, ...]] = []  # of each round
        self.n_missing = 0
        self.n_chunks = 0
        self._rounds: list[tuple[int, int]] = []
        self._unsure: list[tuple[int, Read]] = []  # the number of the round, and the read

    def run(self, selection: Product | Points, layout: Layout) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Returns the number of objects, and requests and bytes of each round."""
        n = 0

        def steps() -> Iterator[Steps]:
            nonlocal n
            for task in tasks(selection, layout):
                n += 1
                self.n_chunks += task.pieces.n_leaves
                yield self._dry(task)

        settings = self._settings
        rounds = lockstep(steps(), round_bytes=settings.round_bytes, n_together=n_together(settings))
        drive(self._without_data(rounds), self._store)
        self._add_sizes()
        return n, tuple(self._rounds)

    def _dry(self, task: Task) -> Steps:
        """A task's steps up to its last request for data."""
        steps = read_task(task, self._settings, self._sink)
        asked = next(steps, None)
        while asked is not None:
            try:
                results = yield asked
            except RangeError as error:
                steps.throw(error)
                raise
            if asked.is_data:
                while asked.then is not None:
                    asked = asked.then
                    yield asked
                return
            try:
                asked = steps.send(results)
            except StopIteration:
                return

    def _without_data(self, rounds: Rounds) -> Rounds:
        """The same rounds with nothing but their indexes; data is counted, and answered with nothing."""
        asked = next(rounds, None)
        while asked is not None:
            members = asked.members or (asked,)
            real = [read for member in members if not member.is_data for read in member.reads]
            n_sizes = sum(isinstance(read.range, Tail) for read in asked.reads)
            if n_sizes and not self._settings.traits.one_request_tails:
                self._rounds.append((n_sizes, 0))
                self.reads.append(())
            try:
                answers = iter((yield Round(real, False, 0)) if real else ())
            except RangeError as error:  # as in a read, the task concerned knows what it means
                rounds.throw(error)
                raise
            nbytes = 0
            results: list[Result] = []
            for member in members:
                for read in member.reads:
                    answer = None if member.is_data else next(answers)
                    results.append(answer)
                    if not member.is_data:
                        self.n_missing += answer is None
                        nbytes += len(getattr(answer, "data", b""))
                    elif self._may_be_missing(read):
                        self._unsure.append((len(self._rounds), read))
                    elif isinstance(read.range, Span):
                        nbytes += read.range.stop - read.range.start
            self.reads.append(tuple(asked.reads))
            self._rounds.append((len(asked.reads), nbytes))
            try:
                asked = rounds.send(results)
            except StopIteration:
                return

    def _may_be_missing(self, read: Read) -> bool:
        """True if only the store can tell if a read of data finds something. The chunks in an index exist; a chunk read
        whole, or in part without an index, may not.
        """
        is_part = isinstance(read.range, Span)
        return not is_part or (not self._settings.layout.levels and read.version is None)

    def _add_sizes(self) -> None:
        """Ask for all sizes at one time. No step of a read waits for them."""
        sizes = self._store.sizes([read.key for _, read in self._unsure]) if self._unsure else ()
        for (i, read), size in zip(self._unsure, sizes, strict=True):
            if size is None:
                self.n_missing += 1
                self.absent.append(read.key)
                continue
            n, nbytes = self._rounds[i]
            self._rounds[i] = n, nbytes + (read.range.stop - read.range.start if isinstance(read.range, Span) else size)


class _Peek(IndexCache):
    """A cache that reads from another one, and keeps nothing."""

    def __init__(self, cache: IndexCache) -> None:
        super().__init__(0)
        self._cache = cache
        self.are_versionless = cache.are_versionless
        self.chunks = cache.chunks
        self._dropped: set[str] = set()

    def get(self, key: str) -> tuple[Version, Indexes] | None:
        """The other cache's entry, unless the plan has found it useless."""
        return None if key in self._dropped else self._cache.get(key)

    def drop(self, key: str) -> None:
        """Forget an object for the rest of the plan."""
        self._dropped.add(key)


def make_plan(store: Store, layout: Layout, selection: Product | Points, cache: IndexCache) -> Plan:
    """Plan a read. Reads the shard indexes that a cold read would, and no data; sizes of whole objects are asked of
    the store.
    """
    planner = _Planner(store, layout, cache)
    n_objects, rounds = planner.run(selection, layout)
    return Plan(selection.shape, n_objects, planner.n_chunks, planner.n_missing, rounds, tuple(planner.reads))


class _Absent(Discard):
    """A sink that remembers the first leaf that is not stored."""

    found: tuple[str, tuple[int, ...]] | None = None

    def fill(self, task: Task, leaves: Leaves, numbers: IntArray | None) -> None:
        """Leaves that are not stored."""
        if self.found is None:
            self.found = task.key, missing_chunk(task, leaves, numbers)


def require_all(store: Store, layout: Layout) -> None:
    """Make sure that every chunk of an array is stored. Reads shard indexes, and asks for sizes of other objects.

    Raises:
        ChunkNotFoundError: one is not.
    """
    sink = _Absent()
    planner = _Planner(store, layout, IndexCache(0), sink)
    planner.run(basic(..., layout.shape), layout)
    if sink.found is not None:
        raise chunk_not_found(*sink.found, store)
    for key in planner.absent:
        at = layout.key_encoding.parse(key[len(layout.prefix) :], len(layout.shape))
        raise chunk_not_found(key, at or (), store)


def join_plans(plans: Sequence[Plan], shape: tuple[int, ...]) -> Plan:
    """The plan of several reads that are done together."""
    reads = [plan.reads_by_round for plan in plans]
    each = zip_longest(*(plan.rounds for plan in plans), fillvalue=(0, 0))
    return Plan(
        shape,
        sum(plan.n_objects for plan in plans),
        sum(plan.n_chunks for plan in plans),
        sum(plan.n_missing for plan in plans),
        tuple((sum(n for n, _ in parts), sum(nbytes for _, nbytes in parts)) for parts in each),
        tuple(tuple(chain.from_iterable(parts)) for parts in zip_longest(*reads, fillvalue=())),
    )
