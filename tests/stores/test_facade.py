"""AsyncStore: what the contract suite, run through it, does not show."""

import asyncio
import pickle
import threading
from collections.abc import Iterator

import pytest

from support.stores import HookedStore
from zarrdock.errors import InvalidKeyError, KeyExistsError, ReadOnlyError, VersionChangedError
from zarrdock.ranges import Span
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import Entry, Listing
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.memory import MemoryStore


async def test_every_verb() -> None:
    async with AsyncStore(MemoryStore()) as store:
        await store.write("a/b", b"12345")
        with pytest.raises(KeyExistsError):
            await store.write("a/b", b"", create_only=True)
        await store.update("a/n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        blob = await store.get("a/b", Span(1, 3))
        assert blob is not None
        assert bytes(blob.data) == b"23"
        assert await store.size("a/b") == 5
        assert await store.exists("a/n")
        assert not await store.exists("a/m")
        assert sorted([entry.key async for entry in store.list()]) == ["a/b", "a/n"]
        assert await store.list_dir("a") == Listing(("b", "n"))
        await store.delete("a/b")
        await store.delete_prefix("a")
        assert [entry async for entry in store.list()] == []
        assert store.traits.atomic_update
        assert not store.read_only
        assert "MemoryStore" in repr(store)


async def test_errors_are_those_of_the_store() -> None:
    store = AsyncStore(MemoryStore())
    await store.write("k", b"1")
    blob = await store.get("k")
    assert blob is not None
    await store.write("k", b"2")
    with pytest.raises(VersionChangedError):
        await store.get("k", version=blob.version)
    with pytest.raises(InvalidKeyError):
        await store.get("../k")
    with pytest.raises(ReadOnlyError):
        await AsyncStore(FsspecStore("memory://facade", read_only=True)).write("k", b"")


async def test_blocking_stores_do_not_block_the_loop() -> None:
    gate = threading.Event()

    waiting = asyncio.ensure_future(AsyncStore(HookedStore(MemoryStore(), lambda _: gate.wait(10))).get("k"))
    await asyncio.sleep(0.01)  # the loop is free to do this
    gate.set()
    assert await waiting is None


async def test_long_listings_come_page_by_page() -> None:
    made: list[int] = []

    class Long(MemoryStore):
        def list(self, prefix: str = "", /) -> Iterator[Entry]:
            for i in range(10_000):
                made.append(i)
                yield Entry(str(i))

    async for entry in AsyncStore(Long()).list():
        if entry.key == "5":
            break
    assert len(made) == 1000


def test_one_object_for_many_loops_at_once_and_through_pickle() -> None:
    inner = FsspecStore("memory://facade-loops")
    inner.write("k", b"1")
    store = pickle.loads(pickle.dumps(AsyncStore(inner)))
    seen: list[bytes] = []

    async def use() -> None:
        for _ in range(10):
            blob = await store.get("k")
            seen.append(bytes(blob.data))

    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [b"1"] * 40
