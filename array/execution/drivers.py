"""Rounds of reads against a store: one driver for ordinary calls, one for coroutines.

A large read is many rounds, so that its memory is bounded. Which reads come next is mostly known before a round's
answers are: on a remote store they are sent one round early and cost no round trip of their own. The answers of one
round are given out part by part, too: what came first is decoded while the rest is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from zarrdock.array.planning.rounds import Round, Rounds, Steps, lockstep
from zarrdock.errors import RangeError
from zarrdock.stores.base import Read, Result, Results, Store
from zarrdock.switch_interval import short_turns

if TYPE_CHECKING:
    import concurrent.futures

    from zarrdock.stores.async_store import AsyncStore

__all__ = ["Ahead", "drive", "drive_async", "result_of", "send"]


class Future(Protocol):
    """The methods that a concurrent and an asyncio future have in common."""

    def cancel(self) -> bool: ...

    def cancelled(self) -> bool: ...

    def exception(self) -> BaseException | None: ...


F = TypeVar("F", bound=Future)
T = TypeVar("T")


class Ahead(Generic[F]):
    """Sends rounds, at most one of them early.

    Args:
        submit: starts a round, a future for each part of it; None from it: the store can only be waited for.
    """

    def __init__(self, submit: Callable[[Round], Sequence[F] | None]) -> None:
        self._submit = submit
        self._early: tuple[Round, Sequence[F]] | None = None
        self._current: Sequence[F] = ()

    def send(self, asked: Round) -> Sequence[F] | None:
        """The answers to a round, begun now or earlier; the round that follows it is begun too."""
        early, self._early = self._early, None
        if early is not None and early[0] is asked:
            sent: Sequence[F] | None = early[1]
        else:
            if early is not None:  # something changed on the way
                _forget(early[1])
            sent = self._submit(asked)
        if sent is not None and asked.then is not None and (begun := self._submit(asked.then)) is not None:
            self._early = asked.then, begun
        self._current = sent or ()
        return sent

    def close(self) -> None:
        """Forget the round that was sent early, and the part of the last one that no caller waits for any more."""
        _forget(self._current)
        _forget(self._early[1] if self._early is not None else ())
        self._current, self._early = (), None


def _forget(futures: Sequence[Future]) -> None:
    for future in futures:
        if not future.cancel() and not future.cancelled():
            future.exception()  # retrieved, so that the loop does not warn of it


def send(store: Store, reads: Sequence[Read]) -> concurrent.futures.Future[Results] | None:
    """Reads that are on their way while something else is done; None where the store can only be waited for, or waiting
    costs nothing.
    """
    if not store.traits.remote or _in_event_loop():
        return None
    futures = store.submit_read([reads])
    return None if futures is None else futures[0]


def drive(rounds: Rounds, store: Store) -> None:
    """Read round after round until there is none."""
    with short_turns:
        _drive(rounds, store)


def _drive(rounds: Rounds, store: Store) -> None:
    may_submit = store.traits.remote and not _in_event_loop()
    ahead = Ahead(lambda asked: store.submit_read(asked.parts())) if may_submit else None
    answers: Iterable[Result] | None = None
    try:
        while (asked := _advance(rounds, answers)) is not None:
            answers = None  # not held while the next ones are read
            try:
                sent = None if ahead is None else ahead.send(asked)
                if sent is not None:
                    answers = _arriving(sent)
                else:
                    lazy = store.read_lazily(asked.reads) if asked.lazy else None
                    answers = store.read(asked.reads) if lazy is None else lazy
                    del lazy
            except RangeError as error:
                rounds.throw(error)
                raise
    finally:
        if ahead is not None:
            ahead.close()


def result_of(steps: Generator[Round, list[Result], T], store: Store) -> T:
    """Drive one task to its end, and return its result."""
    found: list[T] = []

    def task() -> Steps:
        found.append((yield from steps))

    drive(lockstep([task()], round_bytes=1, n_together=1), store)
    return found[0]


def _in_event_loop() -> bool:
    # It may be the very loop that would have to answer, and only a blocking read can tell.
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _arriving(futures: Sequence[Any]) -> Iterator[Result]:
    """The answers of all parts, each waited for when it is looked at, and not held once it was given out."""
    for future in futures:
        results: Results = future.result()
        results.reverse()
        while results:
            yield results.pop()


async def drive_async(rounds: Rounds, store: AsyncStore) -> None:
    """Drive a read from a coroutine, on any event loop: rounds are awaited, decoding happens in threads."""
    import asyncio

    async def fetch(asked: Round) -> Results:
        return await store.read(asked.reads)

    ahead = Ahead(lambda asked: [asyncio.ensure_future(fetch(asked))]) if store.traits.remote else None
    answers: Results | None = None
    try:
        with short_turns:
            # Planning and handing over may decode a little: not on the loop's own thread.
            while (asked := await asyncio.to_thread(_advance, rounds, answers)) is not None:
                answers = None
                try:
                    sent = None if ahead is None else ahead.send(asked)
                    answers = await (fetch(asked) if sent is None else sent[0])
                except RangeError as error:
                    rounds.throw(error)
                    raise
    finally:
        if ahead is not None:
            ahead.close()


def _advance(rounds: Rounds, answers: Iterable[Result] | None) -> Round | None:
    try:
        return next(rounds) if answers is None else rounds.send(answers)
    except StopIteration:
        return None
