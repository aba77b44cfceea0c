"""The one retry policy: exponential backoff with full jitter, a number of attempts and a deadline.

The dependencies' own retries are turned down by the stores, so that attempts don't multiply.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from zarrdock.stores.diagnose import Kind, diagnose

__all__ = ["RetryPolicy", "is_slow_down", "is_transient"]

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """True for 408, 429, 500, 502, 503, 504, conflicts of conditional writes, resets, truncation and timeouts."""
    return diagnose(error).is_transient


def is_slow_down(error: BaseException) -> bool:
    """True where the service asks for fewer requests (429, 503)."""
    return diagnose(error).kind is Kind.SLOW_DOWN


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to keep trying.

    Attributes:
        attempts: tries at most, the first included; 1 for none but the first.
        deadline_seconds: no new try begins after this time, and none goes on where it can be cut short.
        attempt_seconds: a single try is given up after this time.
        initial: upper bound of the first pause in seconds; it doubles with each try. The pause itself is random,
            between 0 and the bound.
        max: the bound's bound in seconds.

    >>> from zarrdock.storage import RetryPolicy
    >>> store = zarrdock.open_store("https://example.org/data.zarr", retry=RetryPolicy(attempts=3, deadline_seconds=10))
    """

    attempts: int = 8
    deadline_seconds: float = 120.0
    attempt_seconds: float = 60.0
    initial: float = 0.1
    max: float = 10.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.deadline_seconds, self.attempt_seconds, self.initial, self.max) < 0:
            raise ValueError(f"not a retry policy: {self}")

    def pause(self, n_failed: int, retry_after: float | None = None) -> float:
        """Seconds to wait after the ``n_failed``-th failure in a row; what the service asked for is a lower bound."""
        bound = min(self.max, self.initial * 2 ** min(n_failed - 1, 30))
        jittered = random.uniform(0, bound)
        return jittered if retry_after is None else max(jittered, min(retry_after, self.max))

    async def call(
        self,
        attempt: Callable[[float], Awaitable[T]],
        *,
        sleep: Callable[[float], Awaitable[None]],
        retryable: Callable[[BaseException], bool] = is_transient,
    ) -> T:
        """``await attempt(seconds)`` until it succeeds, fails for good, or time is up; the last error is raised.

        Args:
            attempt: is told how many seconds this try may take.
            sleep: waits between tries, in whatever way suits the caller's thread or loop.
            retryable: says which errors are worth another try.
        """
        began = time.monotonic()
        seconds = min(self.attempt_seconds, self.deadline_seconds)
        n_failed = 0
        while True:
            try:
                return await attempt(seconds)
            except Exception as error:
                n_failed += 1
                if n_failed >= self.attempts or not retryable(error):
                    raise
                pause = self.pause(n_failed, diagnose(error).retry_after)
                if time.monotonic() - began + pause >= self.deadline_seconds:
                    raise
            await sleep(pause)
            left = self.deadline_seconds - (time.monotonic() - began)
            seconds = min(self.attempt_seconds, max(left, 0.05))
