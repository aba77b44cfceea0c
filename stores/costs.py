"""A store with other costs of bytes and requests than its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from zarrdock.stores.base import Store
from zarrdock.stores.wrap import WrapperStore

__all__ = ["CostedStore"]


class CostedStore(WrapperStore):
    """See :meth:`Store.with_costs`."""

    def __init__(
        self, store: Store, *, merge_gap_bytes: int | None = None, max_request_bytes: int | None = None
    ) -> None:
        super().__init__(store)
        own = store.traits
        gap = own.merge_gap_bytes if merge_gap_bytes is None else merge_gap_bytes
        most = own.max_request_bytes if max_request_bytes is None else max_request_bytes
        if gap < 0 or most < 1:
            raise ValueError(f"not sizes of a gap and of a request in bytes: {gap}, {most}")
        self.traits = replace(own, merge_gap_bytes=gap, max_request_bytes=most)

    @property
    def aread(self) -> Callable[..., Any] | None:
        """``read`` as a coroutine, where the store inside has it."""
        return getattr(self.store, "aread", None)

    @property
    def submit_read(self) -> Callable[..., Any] | None:
        """``read`` as a job on the IO loop, where the store inside has it."""
        return getattr(self.store, "submit_read", None)
