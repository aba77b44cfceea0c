"""Reads under way: threads that want the same bytes at the same time ask for them once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from zarrdock.stores.base import Read

__all__ = ["Flights"]


class Flights:
    """Who reads what at the moment. A thread lands what it began before it waits for others, so none waits in a
    circle.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Read, threading.Event] = {}

    def begin(self, reads: Iterable[Read]) -> dict[Read, threading.Event]:
        """Begin those that nobody has begun.

        Returns:
            Those that another thread has, each with the event of its end.
        """
        others: dict[Read, threading.Event] = {}
        begun: set[Read] = set()
        with self._lock:
            for read in reads:
                event = self._under_way.get(read)
                if event is None:
                    self._under_way[read] = threading.Event()
                    begun.add(read)
                elif read not in begun:  # twice in one batch
                    others[read] = event
        return others

    def land(self, reads: Iterable[Read]) -> None:
        """They are over, well or not."""
        with self._lock:
            events = [self._under_way.pop(read, None) for read in reads]
        for event in events:
            if event is not None:
                event.set()
