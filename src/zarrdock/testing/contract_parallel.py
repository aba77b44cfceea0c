"""The contract of parallel use: no update lost, no reader torn, one creator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from zarrdock.errors import KeyExistsError, VersionChangedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.base import Blob, Buffer, Read, Store
from zarrdock.testing.contract_base import ContractBase, text
from zarrdock.testing.contract_read import whole

__all__ = ["ParallelContract"]


def together(n: int, work: Callable[[int], object]) -> list[object]:
    """Run ``work(0) ... work(n - 1)`` in threads that begin at the same moment; raises what any of them raises."""
    barrier = threading.Barrier(n)

    def start(i: int) -> object:
        barrier.wait(30)
        return work(i)

    with ThreadPoolExecutor(n) as pool:
        return [future.result() for future in [pool.submit(start, i) for i in range(n)]]


def value_of(i: int) -> bytes:
    """A value that shows where it is torn: one letter, and a length that goes with it."""
    return b"%c" % (97 + i % 26) * (1000 + 3000 * (i % 7))


class ParallelContract(ContractBase):
    """Several threads on one store, or on copies of it."""

    def copies(self, store: Store) -> list[Store]:
        """The store each thread uses. By default all share the one."""
        return [store] * self.n_threads

    def test_no_update_is_lost(self) -> None:
        store = self.filled()
        if self.can_update(store):
            stores = self.copies(store)

            def count(i: int) -> None:
                for _ in range(self.n_updates):
                    stores[i].update("a/n", lambda old: b"%d" % (int(text(old) or 0) + 1))

            together(self.n_threads, count)
            assert whole(store, "a/n") == b"%d" % (self.n_threads * self.n_updates)

    def test_updates_writes_and_deletions_of_several_keys(self) -> None:
        store = self.filled()
        if self.can_update(store):
            n_each = max(2, self.n_updates // 5)

            def work(i: int) -> None:
                for j in range(n_each):
                    store.update("log", lambda old, i=i, j=j: f"{text(old)}{i},{j};".encode())  # type: ignore[misc]
                    store.write(f"mine/{i}", b"%d" % j)
                    store.delete(f"mine/{(i + 1) % self.n_threads}")

            together(self.n_threads, work)
            lines = text(b"" if (value := whole(store, "log")) is None else value).split(";")[:-1]
            assert sorted(lines) == sorted(f"{i},{j}" for i in range(self.n_threads) for j in range(n_each))
            # And each thread's own entries are in the order in which it made them.
            for i in range(self.n_threads):
                assert [line for line in lines if line.startswith(f"{i},")] == [f"{i},{j}" for j in range(n_each)]

    def test_one_creator_wins(self) -> None:
        store = self.filled()
        if not self.can_write(store) or not store.traits.atomic_update:
            return

        def create(i: int) -> bool:
            try:
                store.write("a/new", b"%d" % i, create_only=True)
            except KeyExistsError:
                return False
            return True

        won = together(self.n_threads, create)
        assert won.count(True) == 1
        assert whole(store, "a/new") == b"%d" % won.index(True)

    def test_no_reader_sees_a_mixture(self) -> None:
        store = self.filled({"k": value_of(0)})
        if self.can_write(store):
            self._check_readers(store, lambda i: store.write("k", value_of(i)))

    def test_no_reader_sees_a_mixture_of_updates(self) -> None:
        store = self.filled({"k": value_of(0)})
        if self.can_update(store):
            self._check_readers(store, lambda i: store.update("k", lambda _: value_of(i)))

    def _check_readers(self, store: Store, write: Callable[[int], object]) -> None:
        good = {value_of(i) for i in range(26 * 7)}

        def read() -> None:
            assert whole(store, "k") in good
            tail = store.get("k", Tail(100))
            assert tail is not None
            assert len({*bytes(tail.data)}) == 1

        self._race(read, write)

    def test_second_round_is_of_the_first_rounds_object(self) -> None:
        # As a sharded read: something at the end says where the rest is, and the two must be of one object.
        store = self.filled({"k": value_of(0)})
        if not store.traits.conditional_read or not self.can_write(store):
            return

        def read() -> None:
            first = store.get("k", Tail(1))
            assert first is not None
            second = store.read([Read("k", Span(0, 500), first.version)])[0]
            if isinstance(second, Blob):
                assert {*bytes(second.data)} == {*bytes(first.data)}
            else:
                assert isinstance(second, VersionChangedError)

        self._race(read, lambda i: store.write("k", value_of(i)))

    def _race(self, read: Callable[[], None], write: Callable[[int], object]) -> None:
        """Two threads read while this one writes, until it wrote and they read often enough to have met."""
        done = threading.Event()
        n_reads = [0, 0]

        def reader(i: int) -> None:
            while not done.is_set():
                read()
                n_reads[i] += 1

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(reader, i) for i in range(2)]
            try:
                n = 0
                while n < self.n_updates or (min(n_reads) < 20 and not any(r.done() for r in readers)):
                    write(n)
                    n += 1
            finally:
                done.set()
            for future in readers:
                future.result(60)

    @pytest.mark.parametrize("verb", ["write", "delete", "delete_prefix"])
    def test_a_slow_update_is_not_overtaken(self, verb: str) -> None:
        # What falls between the reading and the writing of an update comes before both, or after both.
        store = self.filled({"a/k": b"0"})
        if self.can_update(store):
            verbs: dict[str, tuple[Callable[[], object], bytes | None]] = {
                "write": (lambda: store.write("a/k", b"w"), b"w"),
                "delete": (lambda: store.delete("a/k"), None),
                "delete_prefix": (lambda: store.delete_prefix("a"), None),
            }
            other, after = verbs[verb]
            begun = threading.Event()
            seen: list[bytes] = []

            def change(old: Buffer | None) -> bytes:
                seen.append(b"" if old is None else bytes(old))
                begun.set()
                threading.Event().wait(0.05)
                return seen[-1] + b"+"

            with ThreadPoolExecutor(1) as pool:
                update = pool.submit(store.update, "a/k", change)
                assert begun.wait(30)
                other()
                update.result(60)
            # Done while the change ran: it waited for the update, or the update began again with what it left.
            assert (whole(store, "a/k"), seen[-1]) in ((after, b"0"), ((after or b"") + b"+", after or b""))
