"""The retry policy: what is tried again, how long, and how long apart."""

import asyncio
import statistics
import time
from collections.abc import Callable

import pytest

from zarrdock.stores.diagnose import HttpStatusError
from zarrdock.stores.io_loop import drive
from zarrdock.stores.retry import RetryPolicy, is_slow_down, is_transient


class Flaky:
    """Fails so many times, then answers; remembers how long each try was allowed to take, and each pause."""

    def __init__(self, n_failures: int, error: Callable[[], Exception] = lambda: ConnectionResetError()) -> None:
        self.n_failures = n_failures
        self.error = error
        self.allowed: list[float] = []
        self.pauses: list[float] = []

    async def __call__(self, seconds: float) -> str:
        self.allowed.append(seconds)
        if len(self.allowed) <= self.n_failures:
            raise self.error()
        return "answer"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def test_success_needs_no_second_try() -> None:
    flaky = Flaky(0)
    assert drive(RetryPolicy().call(flaky, sleep=flaky.sleep)) == "answer"
    assert (len(flaky.allowed), flaky.pauses) == (1, [])


@pytest.mark.parametrize("n_failures", [1, 2, 5])
def test_transient_errors_are_tried_again(n_failures: int) -> None:
    flaky = Flaky(n_failures)
    assert drive(RetryPolicy(attempts=6).call(flaky, sleep=flaky.sleep)) == "answer"
    assert len(flaky.allowed) == n_failures + 1
    assert len(flaky.pauses) == n_failures


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_attempts_are_counted_and_the_last_error_is_raised(attempts: int) -> None:
    flaky = Flaky(99, lambda: HttpStatusError(503, f"try {len(flaky.allowed)}"))
    with pytest.raises(HttpStatusError, match=f"try {attempts}"):
        drive(RetryPolicy(attempts=attempts).call(flaky, sleep=flaky.sleep))
    assert len(flaky.allowed) == attempts


def test_lasting_errors_are_raised_at_once() -> None:
    for error in (PermissionError(), FileNotFoundError(), HttpStatusError(412), ValueError()):
        flaky = Flaky(99, lambda error=error: error)  # type: ignore[misc]
        with pytest.raises(type(error)):
            drive(RetryPolicy().call(flaky, sleep=flaky.sleep))
        assert len(flaky.allowed) == 1


def test_a_lasting_error_after_a_transient_one_ends_it() -> None:
    flaky = Flaky(99, lambda: TimeoutError() if len(flaky.allowed) < 3 else PermissionError())
    with pytest.raises(PermissionError):
        drive(RetryPolicy().call(flaky, sleep=flaky.sleep))
    assert len(flaky.allowed) == 3


def test_full_jitter() -> None:
    policy = RetryPolicy(initial=0.1, max=2.0)
    for n_failed, bound in ((1, 0.1), (2, 0.2), (4, 0.8), (9, 2.0), (5000, 2.0)):
        pauses = [policy.pause(n_failed) for _ in range(400)]
        assert 0 <= min(pauses) < bound * 0.1
        assert bound * 0.9 < max(pauses) <= bound
        assert statistics.mean(pauses) == pytest.approx(bound / 2, rel=0.25)


def test_the_service_may_ask_for_a_longer_pause() -> None:
    flaky = Flaky(2, lambda: HttpStatusError(429, retry_after=3.0))
    drive(RetryPolicy(initial=0.001).call(flaky, sleep=flaky.sleep))
    assert flaky.pauses == [3.0, 3.0]
    assert RetryPolicy(max=2.0).pause(1, retry_after=3600) == 2.0


def test_deadline() -> None:
    flaky = Flaky(10**6)
    began = time.monotonic()
    with pytest.raises(ConnectionResetError):
        asyncio.run(
            RetryPolicy(attempts=10**6, deadline_seconds=0.3, initial=0.02, max=0.05).call(flaky, sleep=asyncio.sleep)
        )
    assert 0.15 < time.monotonic() - began < 1.0
    assert max(flaky.allowed) <= 0.3
    assert min(flaky.allowed) < 0.15, "a late try gets only the time that is left"


def test_no_pause_is_begun_that_would_last_beyond_the_deadline() -> None:
    flaky = Flaky(99, lambda: HttpStatusError(503, retry_after=5.0))
    with pytest.raises(HttpStatusError):
        drive(RetryPolicy(deadline_seconds=4.0).call(flaky, sleep=flaky.sleep))
    assert (len(flaky.allowed), flaky.pauses) == (1, [])


def test_classification() -> None:
    assert all(is_transient(HttpStatusError(status)) for status in (408, 429, 500, 502, 503, 504))
    assert not any(is_transient(HttpStatusError(status)) for status in (400, 401, 403, 404, 409, 412, 416, 501))
    assert [status for status in (408, 429, 500, 503) if is_slow_down(HttpStatusError(status))] == [429, 503]


def test_nonsense_is_refused() -> None:
    for options in ({"attempts": 0}, {"deadline_seconds": -1}, {"initial": -0.1}):
        with pytest.raises(ValueError, match="not a retry policy"):
            RetryPolicy(**options)  # type: ignore[arg-type]
