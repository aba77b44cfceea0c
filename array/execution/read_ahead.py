"""Reading ahead: while a round's answers are decoded, the next round is on its way.

A large read is many rounds, so that its memory is bounded. Which reads come next is mostly known before a round's
answers are; sent one round early, they cost no round trip of their own. The answers of one round are given out part by
part, too: what came first is decoded while the rest is on its way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar, overload

from zarrdock.array.planning.rounds import Round
from zarrdock.stores.base import Read, Result, Results, Store

__all__ = ["Ahead", "Future", "read_now", "submitter"]


class Future(Protocol):
    """The common interface of concurrent and asyncio futures."""

    def cancel(self) -> bool: ...

    def exception(self) -> BaseException | None: ...


F = TypeVar("F", bound=Future)


class Ahead(Generic[F]):
    """Sends rounds, at most one of them early.

    Args:
        submit: starts a batch of reads; None from it: they can only be waited for.
    """

    def __init__(self, submit: Callable[[list[Read]], F | None]) -> None:
        self._submit = submit
        self._upcoming: list[Read] | None = None
        self._early: tuple[list[Read], F] | None = None
        self._current: tuple[list[Read], F] | None = None

    def expect(self, reads: list[Read]) -> None:
        """``reads``, this very list, will be asked for after the round that is sent next."""
        self._upcoming = reads

    def send(self, reads: list[Read]) -> F | None:
        """The answers to ``reads``, begun now or earlier; what is expected next is begun too."""
        early, self._early = self._early, None
        upcoming, self._upcoming = self._upcoming, None
        if early is not None and early[0] is reads:
            future: F | None = early[1]
        else:  # something changed on the way
            _forget(early)
            future = self._submit(reads)
        if upcoming is not None and (begun := self._submit(upcoming)) is not None:
            self._early = upcoming, begun
        self._current = None if future is None else (reads, future)
        return future

    def close(self) -> None:
        """Forget reads sent early, and those of the last round that no caller waits for any more."""
        _forget(self._current)
        _forget(self._early)
        self._current = self._early = None


def _forget(early: tuple[list[Read], Any] | None) -> None:
    if early is not None and not early[1].cancel() and not early[1].cancelled():
        early[1].exception()  # looked at, so that nobody complains that it was not


def submitter(store: Store) -> Callable[[list[Read]], Any] | None:
    """How to start reads from this thread without waiting for them; None where that can't be, or would not pay."""
    submit: Callable[[list[Read]], Any] | None = getattr(store, "submit_read", None)
    if submit is None or not store.traits.remote:
        return None
    import asyncio  # a store that has such a method has imported it already

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return lambda reads: _submit_parts(submit, reads)
    return None  # it may be the very loop that would have to answer, and only a blocking read can tell


def _submit_parts(submit: Callable[[list[Read]], Any], reads: list[Read]) -> Any:
    if not isinstance(reads, Round) or len(reads.parts) < 2:
        return submit(reads)
    stops = list(accumulate(reads.parts))
    futures: list[Any] = []
    for start, stop in zip([0, *stops], stops, strict=False):
        future = submit(reads[start:stop])
        if future is None:
            return None  # said before anything is sent
        futures.append(future)
    return _Parts(futures, stops)


class _Parts(Sequence[Result]):
    """A round in parts that are all on their way: its own future, whose result is there at once and waits where it is
    looked at. Each answer is given out once, so that it is not kept longer than needed.
    """

    def __init__(self, futures: list[Any], stops: list[int]) -> None:
        self._futures = futures
        self._stops = stops
        self._parts: dict[int, Results] = {}

    def cancel(self) -> bool:
        for future in self._futures:
            _forget(([], future))
        return True

    def cancelled(self) -> bool:
        return True

    def exception(self) -> BaseException | None:
        return None

    def result(self) -> Sequence[Result]:
        return self

    def __len__(self) -> int:
        return self._stops[-1]

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Result | Results:
        if isinstance(index, slice):
            return [self._take(i) for i in range(*index.indices(len(self)))]
        return self._take(range(len(self))[index])

    def _take(self, i: int) -> Result:
        n = bisect_right(self._stops, i)
        start = self._stops[n - 1] if n else 0
        part = self._parts.get(n)
        if part is None:
            part = self._parts[n] = self._futures[n].result()
        found = part[i - start]
        part[i - start] = None
        return found


def read_now(store: Store, ahead: Ahead[Any] | None, reads: list[Read]) -> Sequence[Result]:
    """The answers to ``reads``, waited for."""
    if ahead is None:
        return store.read(reads)
    future = ahead.send(reads)
    if future is None:
        return store.read(reads)
    try:
        results: Sequence[Result] = future.result()
    except BaseException:
        future.cancel()
        raise
    return results
