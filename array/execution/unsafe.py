"""Read, change, write back on stores that cannot do it in one step: for callers who vouch for being the only writer."""

from __future__ import annotations

import os
import threading

from zarrdock.stores.base import Change, Store

__all__ = ["unsafe_update"]

_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # Whoever held it in the parent is not here to let go.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def unsafe_update(store: Store, key: str, change: Change) -> None:
    """What ``Store.update`` does, without its promise: nobody else may write ``key`` meanwhile. The threads of this
    process take turns, whatever they write.
    """
    with _lock:
        blob = store.get(key)
        new = change(None if blob is None else blob.data)
        if new is None:
            store.delete(key)
        else:
            store.write(key, new)
