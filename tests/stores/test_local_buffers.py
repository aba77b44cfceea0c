"""Memory that reads use again: never while anybody can see it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zarrdock.ranges import Span
from zarrdock.stores import local_buffers
from zarrdock.stores.base import Read
from zarrdock.stores.local import LocalStore
from zarrdock.stores.local_buffers import Buffers, Slab

SIZE = 100_000


def test_used_again_when_nobody_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.take(SIZE)
    assert first is not None
    assert len(first) == SIZE
    where = id(first.obj)  # the object itself would be a reference
    second = buffers.take(SIZE)
    assert second is not None
    assert id(second.obj) != where
    del first
    again = buffers.take(SIZE + 1)  # of the same power of two
    assert again is not None
    assert id(again.obj) == where


KEEP: dict[str, Callable[[memoryview], Any]] = {
    "slice": lambda view: view[:4],
    "array": lambda view: np.frombuffer(view, "u1")[:4],
    "bytes of an array": lambda view: np.frombuffer(view, "u1").data[:4],
    "cast": lambda view: view[:4].cast("c"),
}


@pytest.mark.parametrize("keep", KEEP)
def test_not_while_a_view_of_it_is_kept(keep: str) -> None:
    buffers = Buffers()
    view = buffers.take(SIZE)
    assert view is not None
    view[:4] = b"kept"
    kept = KEEP[keep](view)
    del view
    for _ in range(3):
        other = buffers.take(SIZE)
        assert other is not None
        other[:4] = b"over"
    assert bytes(kept) == b"kept"


def test_bounded() -> None:
    buffers = Buffers(300_000)
    taken = [buffers.take(SIZE) for _ in range(3)]
    assert [view is None for view in taken] == [False, False, True]
    assert buffers.take(1000) is None  # the allocator does that well
    assert buffers.take(2**30) is None


def test_idle_buffers_of_other_sizes_make_room() -> None:
    buffers = Buffers(300_000)
    small = buffers.take(SIZE)
    assert buffers.take(SIZE) is not None
    large = buffers.take(SIZE + 50_000)  # 256 KiB, where two of 128 KiB are: one idle, which is not enough
    assert large is None
    assert [len(buffers._held[size]) for size in sorted(buffers._held) if buffers._held[size]] == [2]
    del small
    large = buffers.take(SIZE + 50_000)
    assert large is not None
    large[:] = bytes(len(large))
    assert buffers.take(SIZE) is None


def test_small_reads_of_a_batch_lie_side_by_side() -> None:
    buffers = Buffers(2 << 20)
    slab = Slab(buffers)
    assert [slab.take(1000) for _ in range(3)] == [None] * 3  # a few are not worth a buffer
    parts = [slab.take(n) for n in (1000, 100_000, 200_000, 300_000, 200_000, 1)]
    assert [part is not None and len(part) for part in parts] == [1000, 100_000, 200_000, 300_000, 200_000, 1]
    owners = [id(part.obj) for part in parts if part is not None]
    assert [owners.index(owner) for owner in owners] == [0, 0, 0, 3, 0, 0]
    for i, part in enumerate(parts):
        assert part is not None
        part[:] = bytes([i]) * len(part)
    assert all(set(bytes(part)) == {i} for i, part in enumerate(parts) if part is not None)
    del part
    first = parts.pop(0)  # one small part keeps all of its buffer
    parts.clear()
    assert first is not None
    for _ in range(3):
        slab = Slab(buffers)
        assert [slab.take(1) for _ in range(3)] == [None] * 3
        for other in (slab.take(200_000), buffers.take(500_000)):
            assert other is not None
            other[:] = b"x" * len(other)
    assert set(bytes(first)) == {0}
    assert Slab(buffers).take(0) is None


def test_reads_keep_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_buffers, "buffers", Buffers(500_000))
    store = LocalStore(tmp_path)
    rng = np.random.default_rng(0)
    data = rng.bytes(3_000_000)
    store.write("k", data)
    kept: list[tuple[int, int, object]] = []
    wrong: list[int] = []

    def work(seed: int) -> None:
        mine = np.random.default_rng(seed)
        for i in range(60):
            a = int(mine.integers(0, 2_000_000))
            n = int(mine.integers(60_000, 500_000))
            wanted = [(a, n)] if i % 2 else [(a, n), *((int(b), n // 20) for b in mine.integers(0, 2_000_000, 9))]
            for (a, n), blob in zip(wanted, store.read([Read("k", Span(a, a + n)) for a, n in wanted]), strict=True):
                assert blob is not None
                if i % 5 == 0:
                    kept.append((a, n, blob.data))  # type: ignore[union-attr]
                if blob.data != data[a : a + n]:  # type: ignore[union-attr]
                    wrong.append(a)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(found == data[a : a + n] for a, n, found in kept)


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("k", bytes(200_000))
    assert store.read([Read("k", Span(0, 150_000))])[0].data == bytes(150_000)  # type: ignore[union-attr]
    assert store.get("k").data == bytes(200_000)  # type: ignore[union-attr]
