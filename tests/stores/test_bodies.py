"""Long bodies read together: one after the other where they come as fast as they can be read, else together."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from zarrdock.stores import s3_direct
from zarrdock.stores.s3_direct import _read_body

N = 2 * 2**20
PART = 2**16


class Response:
    """Gives ``N`` bytes in parts; each has to be waited for."""

    def __init__(self, name: str, events: list[str], wait: Callable[[], Any]) -> None:
        self.name = name
        self.events = events
        self.wait = wait
        self.left = N
        self.content = self

    async def readany(self) -> bytes:
        await self.wait()
        n = min(PART, self.left)
        self.left -= n
        self.events.append(self.name)
        return self.name.encode() * n

    async def read(self) -> bytes:
        self.events.append("whole")
        return b"short"


def at_once() -> Any:
    return asyncio.sleep(0)


def slowly() -> Any:
    return asyncio.sleep(0.003)


@pytest.fixture(autouse=True)
def _generous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_direct, "_BUSY_SECONDS", 0.5)  # a busy machine is not taken for a slow network


async def test_short_bodies_and_those_of_unknown_length_are_read_as_they_are() -> None:
    events: list[str] = []
    assert await _read_body(Response("a", events, at_once), 5) == b"short"
    assert await _read_body(Response("a", events, at_once), None) == b"short"
    assert events == ["whole", "whole"]


async def test_one_after_the_other() -> None:
    events: list[str] = []
    found = await asyncio.gather(*(_read_body(Response(name, events, at_once), N) for name in "abc"))
    assert found == [b"a" * N, b"b" * N, b"c" * N]
    # Nobody is known to be fast before its first part.
    last = {name: len(events) - events[::-1].index(name) for name in "abc"}
    assert events[: last["a"]].count("b") <= 2
    assert events[: last["b"]].count("c") <= 3
    assert not s3_direct._bodies


async def test_nobody_waits_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_direct, "_BUSY_SECONDS", 1e-9)
    events: list[str] = []
    await asyncio.gather(_read_body(Response("a", events, slowly), N), _read_body(Response("b", events, at_once), N))
    assert events[:33].count("b") >= 30


async def test_one_that_is_given_up_holds_nobody_up() -> None:
    events: list[str] = []

    async def for_ever() -> None:
        await asyncio.sleep(0 if not events else 3600)

    first = asyncio.ensure_future(_read_body(Response("a", events, for_ever), N))
    second = asyncio.ensure_future(_read_body(Response("b", events, at_once), N))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 10) == b"b" * N
    assert not s3_direct._bodies
