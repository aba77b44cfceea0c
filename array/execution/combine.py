"""Group commit: writers of one process that change the same object at the same time share one update.

A shard is rewritten as a whole, so N threads that each write one of its chunks would rewrite it N times, one after the
other. Here the first one to come works alone; those that come meanwhile queue up, and the next of them does the work of
all. What is promised to each is the same as without: its write returns when its change is stored, and raises what its
own change raised.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from zarrdock.after_fork import reset_after_fork
from zarrdock.errors import StoreError
from zarrdock.stores.base import Store

__all__ = ["Combiner", "combiner_of"]

T = TypeVar("T")


class _Entry(Generic[T]):
    """A writer in a queue: its change, and once it is woken either the batch it has to do, or how its change
    ended.
    """

    __slots__ = ("batch", "change", "done", "error", "woken")

    def __init__(self, change: T) -> None:
        self.change = change
        self.woken = threading.Event()
        self.batch: list[_Entry[T]] | None = None
        self.done = False
        self.error: BaseException | None = None


class Combiner(Generic[T]):
    """Queues of changes, one a key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, list[_Entry[T]]] = {}  # a key is here while a writer works on it

    def submit(self, key: str, change: T, apply: Callable[[Sequence[T]], None]) -> None:
        """Have ``change`` applied to ``key``, perhaps together with others; returns when it is.

        Args:
            apply: applies changes in their order, all or none.
        """
        entry = _Entry(change)
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = []
                entry.batch = [entry]
            else:
                queue.append(entry)
        if entry.batch is None:
            try:
                entry.woken.wait()
            except BaseException:  # an interrupt (Ctrl-C)
                self._withdraw(key, entry, apply)
                raise
        if entry.batch is not None:
            self._lead(key, entry.batch, apply)
        if entry.error is not None:
            raise entry.error

    def _withdraw(self, key: str, entry: _Entry[T], apply: Callable[[Sequence[T]], None]) -> None:
        """An interrupted writer's change is not made, unless it is under way. If it is this writer's turn to
        lead, the others who rely on it are served first.
        """
        with self._lock:
            queue = self._queues.get(key)
            if queue is not None and entry in queue:
                queue.remove(entry)
                return
        entry.woken.wait()
        if entry.batch is not None:
            self._lead(key, entry.batch, apply)

    def _lead(self, key: str, batch: list[_Entry[T]], apply: Callable[[Sequence[T]], None]) -> None:
        try:
            try:
                apply([entry.change for entry in batch])
            except StoreError as error:
                # The store refused, not one of the changes: asking again for each would multiply the waiting.
                batch[0].error = error
                for entry in batch[1:]:
                    entry.error = copy.copy(error)
            except Exception as error:
                if len(batch) == 1:
                    batch[0].error = error
                else:
                    # One bad change must not fail its neighbours: each alone, to find out whose it is.
                    for entry in batch:
                        self._alone(entry, apply)
            for entry in batch:
                entry.done = True
        finally:
            with self._lock:
                waiting = self._queues[key]
                # An interrupt (Ctrl-C) in the leader leaves the others' work undone: they queue again, in front.
                waiting[:0] = [entry for entry in batch[1:] if not entry.done]
                if waiting:
                    self._queues[key] = []
                    waiting[0].batch = waiting
                else:
                    del self._queues[key]
            if waiting:
                waiting[0].woken.set()
            for entry in batch:
                if entry.done:
                    entry.woken.set()

    @staticmethod
    def _alone(entry: _Entry[T], apply: Callable[[Sequence[T]], None]) -> None:
        try:
            apply([entry.change])
        except Exception as error:
            entry.error = error


_combiners: WeakKeyDictionary[Store, Combiner[object]] = WeakKeyDictionary()
_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # Whoever was at work in the parent is not here: who queued behind it would wait for ever.
    global _combiners, _lock
    _combiners, _lock = WeakKeyDictionary(), threading.Lock()


reset_after_fork(_after_fork_in_child)


def combiner_of(store: Store) -> Combiner[object]:
    """The queues of a store; arrays that share the store object share them."""
    with _lock:
        found = _combiners.get(store)
        if found is None:
            found = _combiners[store] = Combiner()
        return found
