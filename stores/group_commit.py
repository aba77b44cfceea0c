"""Group commit: updates of one key by several threads, made together, with one read and one write for all that wait.

The first thread to get the key's lock takes the changes of all threads that wait for it, applies them one after
another to one value, and answers for all. Under contention the cost of n updates falls from n rewrites to about two:
the one under way, and the next. Arrays use it for parts of chunks and shards in any
store, remote stores for all their updates.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

from zarrdock.after_fork import reset_after_fork
from zarrdock.stores.base import Buffer, Change, Value, join_value

__all__ = ["Combiner", "Doubt", "KeyLocks", "Ticket", "apply_all"]

T = TypeVar("T")

# -- Locks by key, for the threads of one process.


class KeyLocks:
    """One lock per key, made when first wanted and dropped when no thread wants it any more.

    ``with locks(key): ...`` excludes the other threads that ask for the same key, and no others. Not reentrant. A
    forked child starts with no lock held: the threads that held them exist in the parent only. A copy made by
    ``pickle`` is a new, independent set.
    """

    __slots__ = ("__weakref__", "_guard", "_locks")

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self._reset)

    def _reset(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, list[int]]] = {}

    def __reduce__(self) -> tuple[type[KeyLocks], tuple[()]]:
        return KeyLocks, ()

    @contextmanager
    def __call__(self, key: str) -> Iterator[None]:
        locks, guard = self._locks, self._guard
        with guard:
            lock, n_users = locks.setdefault(key, (threading.Lock(), [0]))
            n_users[0] += 1
        try:
            with lock:
                yield
        finally:
            with guard:
                n_users[0] -= 1
                if not n_users[0]:
                    del locks[key]


# One write must not wait for ever more changes to be applied.
MAX_TOGETHER = 256


class Ticket(Generic[T]):
    """A change that waits, and what became of it.

    Attributes:
        change: in the form that ``make`` (see :meth:`Combiner.update`) understands.
        done: made, or failed with ``error``.
        is_taken: a thread is about making it, this ticket's own or another.
        is_withdrawn: its thread was interrupted, and the change must not be made later.
    """

    __slots__ = ("change", "done", "error", "is_taken", "is_withdrawn")

    def __init__(self, change: T) -> None:
        self.change = change
        self.done = False
        self.is_taken = False
        self.is_withdrawn = False
        self.error: Exception | None = None


def apply_all(tickets: Sequence[Ticket[Change]], old: Buffer | None) -> Buffer | None:
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


class Doubt:
    """Between the sending of a write and its outcome: it is unknown if the changes in it were made.

    The sending thread may be interrupted (Ctrl-C) at any moment, and the others must neither make their changes a
    second time nor take them for made. So the changes count as concluded, with an error, from here on; their outcome is
    set right on leaving the ``with`` block, in whichever thread that happens. Interrupts reach the main thread only: a
    block that runs in another one always gets to its end.

    Args:
        tickets: after :func:`apply_all`.
        error: what those get whose changes stay in doubt.
        unmade: an exception that says that nothing was written.
    """

    def __init__(self, tickets: Sequence[Ticket[Any]], error: Exception, unmade: type[Exception]) -> None:
        self._tickets = [ticket for ticket in tickets if ticket.error is None]  # the others' own changes failed
        self._unmade = unmade
        for ticket in self._tickets:
            ticket.error = _twin(error)
            ticket.done = True

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            return  # cancelled: it stays in doubt
        for ticket in self._tickets:
            ticket.done = not isinstance(error, self._unmade)
            ticket.error = _twin(error) if error is not None and ticket.done else None


class Combiner:
    """The changes that wait, by key. A forked child and a copy made by ``pickle`` begin with none."""

    def __init__(self) -> None:
        self._queue = _Queue()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        self._queue.guard = threading.Condition(threading.Lock())  # a thread of the parent may have held it
        self._queue = _Queue()  # what waited in the parent is the parent's

    def __reduce__(self) -> tuple[type[Combiner], tuple[()]]:
        return Combiner, ()

    def update(
        self,
        key: str,
        change: T,
        lock: AbstractContextManager[None],
        make: Callable[[Sequence[Ticket[T]]], None],
    ) -> None:
        """Have ``change`` made, by this thread or by another that waits for the same key.

        Args:
            lock: of the key, for all threads of this process.
            make: makes the changes of all tickets (see :func:`apply_all`) in one update of the store. It may set the
                error of a ticket whose change failed by itself; what it raises is every other ticket's error.
        Raises:
            Whatever the change raises, or ``make``.
        """
        queue = self._queue  # a child forked by the change finishes with its parent's, and begins with its own
        ticket = Ticket(change)
        try:
            queue.add(key, ticket)
            with lock:
                if not ticket.done:
                    _make(queue, key, ticket, make)
        except BaseException:  # an interrupt (Ctrl-C) while waiting, or in the change
            queue.withdraw(key, ticket)
            raise
        if ticket.error is not None:
            raise ticket.error


def _make(queue: _Queue, key: str, mine: Ticket[T], make: Callable[[Sequence[Ticket[T]]], None]) -> None:
    tickets: list[Ticket[T]] = []
    try:
        queue.take(key, mine, tickets)
        try:
            make(tickets)
        except Exception as error:
            for ticket in tickets:
                if ticket.error is None:
                    ticket.error = error if ticket is mine else _twin(error)
        queue.conclude(tickets)
    except BaseException:  # this thread is to end, the others go on by themselves
        queue.give_back(key, tickets)
        raise


class _Queue:
    """The tickets that wait, by key. ``guard`` tells those who were interrupted what became of their tickets."""

    def __init__(self) -> None:
        self.guard = threading.Condition(threading.Lock())
        self.waiting: dict[str, list[Ticket[Any]]] = {}

    def add(self, key: str, ticket: Ticket[Any]) -> None:
        with self.guard:
            self.waiting.setdefault(key, []).append(ticket)

    def take(self, key: str, mine: Ticket[Any], into: list[Ticket[Any]]) -> None:
        """``mine`` and others that wait for the key; in ``into`` at once, so that an interrupt loses none."""
        with self.guard:
            waiting = [ticket for ticket in self.waiting.get(key, ()) if ticket is not mine]
            into += [mine, *waiting[: MAX_TOGETHER - 1]]
            for ticket in into:
                ticket.is_taken = True
            if rest := waiting[MAX_TOGETHER - 1 :]:
                self.waiting[key] = rest
            else:
                self.waiting.pop(key, None)

    def give_back(self, key: str, tickets: Sequence[Ticket[Any]]) -> None:
        """Return tickets whose changes were not made: all but the first, whose thread ends, wait again."""
        with self.guard:
            waiting = self.waiting.pop(key, [])
            for i, ticket in enumerate(tickets):
                ticket.is_taken = False
                if i and not (ticket.done or ticket.is_withdrawn or ticket in waiting):
                    waiting.append(ticket)
            if waiting:
                self.waiting[key] = waiting
            self.guard.notify_all()

    def conclude(self, tickets: Sequence[Ticket[Any]]) -> None:
        """Mark tickets as done: their changes were made, or failed."""
        with self.guard:
            for ticket in tickets:
                ticket.done = True
                ticket.is_taken = False
            if len(tickets) > 1:  # a single one is this thread's own: no other waits for it
                self.guard.notify_all()

    def withdraw(self, key: str, ticket: Ticket[Any]) -> None:
        """Withdraw a change: it is not made any more. Waits for a thread that is making it at this moment."""
        with self.guard:
            ticket.is_withdrawn = True
            waiting = self.waiting.get(key, [])
            if ticket in waiting:
                waiting.remove(ticket)
                if not waiting:
                    del self.waiting[key]
            while ticket.is_taken:
                self.guard.wait()
