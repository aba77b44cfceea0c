"""Reading ahead: while a round's answers are decoded, the next round is on its way.

A large read is many rounds, so that its memory is bounded. Which reads come next is mostly known before a round's
answers are; sent one round early, they cost no round trip of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from zarrdock.stores.base import Read, Results, Store

__all__ = ["Ahead", "Future", "read_now", "submitter"]


class Future(Protocol):
    """What a concurrent and an asyncio future have in common."""

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
        return future

    def close(self) -> None:
        """Forget what was sent early."""
        _forget(self._early)
        self._early = None


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
        return submit
    return None  # it may be the very loop that would have to answer, and only a blocking read can tell


def read_now(store: Store, ahead: Ahead[Any] | None, reads: list[Read]) -> Results:
    """The answers to ``reads``, waited for."""
    if ahead is None:
        return store.read(reads)
    future = ahead.send(reads)
    if future is None:
        return store.read(reads)
    try:
        results: Results = future.result()
    except BaseException:
        future.cancel()
        raise
    return results
