"""Tools for testing stores, and code that uses them.

- :class:`~zarrdock.testing.contract.StoreContract`: the tests every store passes; see
  ``docs/reference/store-contract.md``.
- :func:`~zarrdock.testing.machine.store_machine`: random sequences of operations, compared with a dictionary.
- :class:`RecordingStore`, :class:`FaultyStore`, :class:`LatencyStore`: stores around a store, to count, break, delay.

What needs pytest or hypothesis is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from zarrdock.errors import UnsupportedError
from zarrdock.stores.wrappers import Event, RecordingStore
from zarrdock.testing.faults import FaultyStore, LatencyStore, StoreFault

if TYPE_CHECKING:
    from zarrdock.testing.contract import AsyncStoreContract, StoreContract
    from zarrdock.testing.machine import store_machine

__all__ = [
    "AsyncStoreContract",
    "Event",
    "FaultyStore",
    "LatencyStore",
    "RecordingStore",
    "StoreContract",
    "StoreFault",
    "store_machine",
]

_LAZY = {
    "AsyncStoreContract": "zarrdock.testing.contract",
    "StoreContract": "zarrdock.testing.contract",
    "store_machine": "zarrdock.testing.machine",
}

if "pytest" in sys.modules:
    # Failures then show the values compared, as they do in a test's own module.
    sys.modules["pytest"].register_assert_rewrite(
        *(f"zarrdock.testing.contract{part}" for part in ("", "_base", "_read", "_list", "_write", "_parallel"))
    )


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return getattr(importlib.import_module(_LAZY[name]), name)
        except ModuleNotFoundError as error:
            if error.name not in ("pytest", "hypothesis"):
                raise
            raise UnsupportedError(f"{__name__}.{name} needs {error.name}: pip install {error.name}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
