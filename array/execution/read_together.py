"""Several reads as one: of one store, all indexes in one round and all data in the next; several stores at one time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np

from zarrdock.array.execution.drivers import drive, drive_async
from zarrdock.array.execution.read_write import Reading, n_together
from zarrdock.array.planning.rounds import Round, Rounds, lockstep
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import RangeError
from zarrdock.ranges import Span, merge
from zarrdock.stores.base import Blob, Read, Result, Traits

__all__ = ["Begun", "read_together", "read_together_async"]

#: Reads to be done, and a function that gives the result once they are.
Begun: TypeAlias = tuple[Sequence[Reading], Callable[[], AnyArray]]

# Stores that are waited for at one time.
_MAX_THREADS = 32


def _by_store(readings: Iterable[Reading]) -> list[list[Reading]]:
    found: dict[int, list[Reading]] = {}
    for reading in readings:
        found.setdefault(id(reading.store), []).append(reading)
    return list(found.values())


def _rounds(readings: Sequence[Reading]) -> Rounds:
    """The rounds of several reads of one store."""
    if len(readings) == 1:
        return readings[0].rounds
    settings = readings[0].settings
    steps = chain.from_iterable(reading.steps for reading in readings)
    rounds = lockstep(steps, round_bytes=settings.round_bytes, n_together=n_together(settings))
    return _without_repeats(rounds, settings.traits)


def read_together(begun: Sequence[Begun]) -> list[AnyArray]:
    """Do reads, and return their results in order."""
    from concurrent.futures import ThreadPoolExecutor

    readings = [reading for some, _ in begun for reading in some]
    groups = _by_store(readings)
    try:
        remote = [group for group in groups if group[0].store.traits.remote]
        if len(groups) > 1 and remote:
            with ThreadPoolExecutor(min(len(remote), _MAX_THREADS), "zarrdock-read") as pool:
                futures = [pool.submit(drive, _rounds(group), group[0].store) for group in remote]
                try:
                    for group in groups:
                        if group not in remote:
                            drive(_rounds(group), group[0].store)
                    for future in futures:
                        future.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        else:
            for group in groups:
                drive(_rounds(group), group[0].store)
        results = [finish() for _, finish in begun]
    except BaseException:
        for reading in readings:
            reading.scatter.abandon()
        raise
    for reading in readings:
        reading.look_elsewhere()
    return results


async def read_together_async(begun: Sequence[Begun]) -> list[AnyArray]:
    """:func:`read_together` as a coroutine, on any event loop."""
    import asyncio

    from zarrdock.stores.async_store import AsyncStore

    readings = [reading for some, _ in begun for reading in some]
    drives = [
        asyncio.ensure_future(drive_async(_rounds(group), AsyncStore(group[0].store))) for group in _by_store(readings)
    ]

    def finish() -> list[AnyArray]:
        results = [finish_one() for _, finish_one in begun]
        for reading in readings:
            reading.look_elsewhere()
        return results

    try:
        await asyncio.gather(*drives)
        return await asyncio.to_thread(finish)
    except BaseException:
        for one in drives:
            one.cancel()
        await asyncio.gather(*drives, return_exceptions=True)
        for reading in readings:
            await asyncio.to_thread(reading.scatter.abandon)
        raise


# -- Selections of one array often share shards and chunks: what several of them ask for is asked for once.


def _without_repeats(rounds: Rounds, traits: Traits) -> Rounds:
    answers: Iterable[Result] | None = None
    while True:
        try:
            asked = next(rounds) if answers is None else rounds.send(answers)
        except StopIteration:
            return
        shared = _shared(asked, traits)
        try:
            answers = yield asked if shared is None else shared[0]
        except RangeError as error:
            rounds.throw(error)
            raise
        if shared is not None:
            answers = shared[1](list(answers))


def _shared(asked: Round, traits: Traits) -> tuple[Round, Callable[[list[Result]], list[Result]]] | None:
    """A round with each byte once, and how its answers become those of ``asked``; None where no two members of it ask
    for the same object.
    """
    firsts = [{read.key for read in member.reads} for member in asked.members]
    if sum(map(len, firsts)) == len(set().union(*firsts)):
        return None
    reads: list[Read] = []
    numbers: dict[Read, int] = {}
    places: dict[int, tuple[int, int, int]] = {}  # of a read of ``asked``: which read has it, from where, how long
    spans: dict[tuple[str, object], list[int]] = {}
    for i, read in enumerate(asked.reads):
        if isinstance(read.range, Span):
            spans.setdefault((read.key, read.version), []).append(i)
        elif read not in numbers:
            numbers[read] = len(reads)
            reads.append(read)
    for group in spans.values():
        wanted = [asked.reads[i] for i in group]
        bounds = [(read.range.start, read.range.stop) for read in wanted if isinstance(read.range, Span)]
        starts = np.array([start for start, _ in bounds], np.int64)
        lengths = np.array([stop - start for start, stop in bounds], np.int64)
        merged = merge(starts, lengths, gap_bytes=traits.merge_gap_bytes, max_bytes=traits.max_request_bytes)
        for i, number, offset, length in zip(group, merged.request, merged.offset, lengths, strict=True):
            places[i] = len(reads) + int(number), int(offset), int(length)
        for start, stop in zip(merged.starts.tolist(), merged.stops.tolist(), strict=True):
            reads.append(Read(wanted[0].key, Span(start, stop), wanted[0].version))

    def answer(results: list[Result]) -> list[Result]:
        found: list[Result] = []
        for i, read in enumerate(asked.reads):
            if i not in places:
                found.append(results[numbers[read]])
                continue
            number, offset, length = places[i]
            result = results[number]
            if isinstance(result, Blob):
                result = Blob(memoryview(result.data)[offset : offset + length], result.version)
            found.append(result)
        return found

    return Round(reads, asked.is_data, asked.nbytes), answer
