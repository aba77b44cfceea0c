"""Updates of one key by several threads, made together: one read and one write for all that wait.

Whoever gets the key's lock first takes the changes of all who wait for it, applies them one after another to one
value, and
answers for all. Under contention the cost of n updates falls from n rewrites to about two: the one under way, and the
    next.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from zarrdock.stores.base import Buffer, Change, Value, join_value

__all__ = ["Combiner", "apply_all"]

# One write must not wait for ever more changes to be applied.
MAX_TOGETHER = 256


class Ticket:
    """A change that waits, and what became of it."""

    __slots__ = ("change", "done", "error")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.done = False
        self.error: Exception | None = None


def apply_all(tickets: Sequence[Ticket], old: Buffer | None) -> Buffer | None:
    """The value after all changes; ``old`` itself where none made a difference.

    A change that raises is left out, and its ticket keeps the error. May be called again with another value.
    """
    value = old
    for ticket in tickets:
        ticket.error = None
        try:
            new: Value | None = ticket.change(value)
            if new is not value:
                value = None if new is None else bytes(join_value(new))
        except Exception as error:
            ticket.error = error
    return value


def _twin(error: Exception) -> Exception:
    """The same error for another thread, which will write its own traceback into it."""
    try:
        twin = copy.copy(error)
    except Exception:  # not every exception can be copied
        return error
    twin.__cause__ = error.__cause__
    return twin


class Combiner:
    """The changes that wait, by key. A forked child and a copy made by ``pickle`` begin with none."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._waiting: dict[str, list[Ticket]] = {}

    def __reduce__(self) -> tuple[type[Combiner], tuple[()]]:
        return Combiner, ()

    def update(
        self,
        key: str,
        change: Change,
        lock: AbstractContextManager[None],
        make: Callable[[Sequence[Ticket]], None],
    ) -> None:
        """Have ``change`` made, by this thread or by another that waits for the same key.

        Args:
            lock: of the key, for all threads of this process.
            make: makes the changes of all tickets (see :func:`apply_all`) in one update of the store.
        Raises:
            Whatever the change raises, or ``make``.
        """
        if self._pid != os.getpid():  # what waited in the parent is the parent's
            self._reset()
        ticket = Ticket(change)
        with self._guard:
            self._waiting.setdefault(key, []).append(ticket)
        with lock:
            if not ticket.done:
                self._make(key, ticket, make)
        if ticket.error is not None:
            raise ticket.error

    def _make(self, key: str, mine: Ticket, make: Callable[[Sequence[Ticket]], None]) -> None:
        with self._guard:
            waiting = self._waiting.pop(key, [])
            tickets = [mine, *(ticket for ticket in waiting if ticket is not mine)]
            if rest := tickets[MAX_TOGETHER:]:
                self._waiting[key] = rest
                del tickets[MAX_TOGETHER:]
        try:
            make(tickets)
        except Exception as error:
            for ticket in tickets:
                if ticket.error is None:
                    ticket.error = error if ticket is mine else _twin(error)
        except BaseException:  # this thread is to end, the others go on by themselves
            with self._guard:
                self._waiting.setdefault(key, []).extend(tickets[1:])
            raise
        for ticket in tickets:
            ticket.done = True
