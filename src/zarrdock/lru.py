"""The bounded LRU that every cache of the package is made of."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar, overload

from zarrdock.after_fork import reset_after_fork

__all__ = ["BoundedLRU"]

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Default = TypeVar("Default")


class BoundedLRU(Generic[Key, Item]):
    """Items by key, bounded in bytes, in number, or both: the item used longest ago goes first. For many threads.

    A copy made by ``pickle`` begins empty. A forked child keeps the items.

    Args:
        max_bytes: bytes that the items may have together, by ``weigh``; None: any.
        weigh: bytes of an item.
        max_items: how many there may be; None: any.
    Attributes:
        lock: held during every call. Callers that do several things in one step hold it, too; a thread may take it
            several times.

    >>> cache = BoundedLRU(10, len)
    >>> cache.put("a", b"12345"), cache.put("b", b"12345")
    ([], [])
    >>> cache.get("a")
    b'12345'
    >>> cache.put("c", b"123")
    [('b', b'12345')]
    >>> cache.nbytes
    8
    """

    def __init__(
        self,
        max_bytes: int | None = None,
        weigh: Callable[[Item], int] | None = None,
        *,
        max_items: int | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_items = max_items
        self._weigh = weigh
        self._nbytes = 0
        # An OrderedDict drops its first item at once; a plain dict that is always full looks at all keys that were
        # removed before (17 us with 20,000 items, 60 us with 700,000). It may not be touched without the lock: without
        # the global lock of the interpreter that ends the process. The lock is reentrant, since a collection of
        # garbage within a call may run a __del__ that removes an item.
        self._items: OrderedDict[Key, tuple[Item, int]] = OrderedDict()
        # What was found last, which needs no lock and no move; None once anything else was done.
        self._last: tuple[Key, Item] | None = None
        self.lock = threading.RLock()
        reset_after_fork(self._renew)

    def _renew(self) -> None:
        # A thread of the parent may have been within a call.
        self._last = None
        self.lock = threading.RLock()
        self._nbytes = sum(nbytes for _, nbytes in self._items.values())

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self), self.max_bytes, self._weigh, self.max_items)

    def __len__(self) -> int:
        with self.lock:
            return len(self._items)

    def __bool__(self) -> bool:
        return True  # `cache or other` is about whether there is one

    def __contains__(self, key: Key) -> bool:
        with self.lock:
            return key in self._items

    def __iter__(self) -> Iterator[Key]:
        """The keys that there are now, the one used longest ago first."""
        with self.lock:
            return iter([*self._items])

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        with self.lock:
            return self._nbytes

    @overload
    def get(self, key: Key) -> Item | None: ...

    @overload
    def get(self, key: Key, default: Default) -> Item | Default: ...

    def get(self, key: Key, default: Any = None) -> Any:
        """The item, which now was used last; ``default`` if there is none."""
        last = self._last
        if last is not None and last[0] == key:
            return last[1]
        with self.lock:
            found = self._items.get(key)
            if found is None:
                return default
            try:
                self._items.move_to_end(key)
            except KeyError:  # removed by a __del__ just now
                return found[0]
            self._last = key, found[0]
        return found[0]

    def get_many(self, keys: Iterable[Key]) -> list[Item | None]:
        """Get the values of many keys, as :meth:`get` does for one."""
        items: list[Item | None] = []
        with self.lock:
            self._last = None
            for key in keys:
                found = self._items.get(key)
                if found is not None:
                    self._items.move_to_end(key)
                items.append(None if found is None else found[0])
        return items

    def put(self, key: Key, item: Item) -> list[tuple[Key, Item]]:
        """Keep an item, in the place of the one there is. One that is larger than ``max_bytes`` is not kept.

        Returns:
            The items that had to go for it, the one used longest ago first.
        """
        nbytes = self._weigh(item) if self._weigh is not None else 0
        with self.lock:
            self._last = None
            # Held until the lock is let go: what is freed with an item may take its time.
            old = self._items.pop(key, None)
            if old is not None:
                self._nbytes -= old[1]
            if self.max_bytes is not None and nbytes > self.max_bytes:
                return []
            self._items[key] = item, nbytes
            self._nbytes += nbytes
            is_full = (self.max_items is not None and len(self._items) > self.max_items) or (
                self.max_bytes is not None and self._nbytes > self.max_bytes
            )
            return self._shrink() if is_full else []

    def resize(self, *, max_bytes: int | None = None, max_items: int | None = None) -> list[tuple[Key, Item]]:
        """Set bounds. Returns the items that had to go."""
        with self.lock:
            self._last = None
            self.max_bytes, self.max_items = max_bytes, max_items
            return self._shrink()

    def _shrink(self) -> list[tuple[Key, Item]]:
        gone: list[tuple[Key, Item]] = []
        while (self.max_bytes is not None and self._nbytes > self.max_bytes) or (
            self.max_items is not None and len(self._items) > self.max_items
        ):
            key, (item, nbytes) = self._items.popitem(last=False)
            self._nbytes -= nbytes
            gone.append((key, item))
        return gone

    def pop(self, key: Key) -> Item | None:
        """Remove an item, and return it; None if there is none."""
        with self.lock:
            self._last = None
            old = self._items.pop(key, None)
            if old is None:
                return None
            self._nbytes -= old[1]
        return old[0]

    def clear(self) -> list[tuple[Key, Item]]:
        """Remove all items, and return them."""
        with self.lock:
            self._last = None
            items, self._items = self._items, OrderedDict()
            self._nbytes = 0
        return [(key, item) for key, (item, _) in items.items()]


def _empty(
    kind: type[BoundedLRU[Any, Any]], max_bytes: int | None, weigh: Callable[[Any], int] | None, max_items: int | None
) -> BoundedLRU[Any, Any]:
    return kind(max_bytes, weigh, max_items=max_items)
