"""Updates that wait for one key are made together, each once, each with its own outcome."""

import contextlib
import copy
import pickle
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.servers import Fault, FaultProxy, StrictGCS, StrictS3
from zarrdock.errors import AccessError, StoreError
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.group_commit import MAX_TOGETHER, Combiner, Ticket, apply_all
from zarrdock.stores.s3 import S3Store
from zarrdock.testing.contract_read import in_fork


class Shelf:
    """A value with a slow write, and how often it was written."""

    def __init__(self, value: bytes | None = b"") -> None:
        self.value = value
        self.batches: list[int] = []
        self.combiner = Combiner()
        self.lock = threading.Lock()
        self.failure: Exception | None = None

    def make(self, tickets: Sequence[Ticket]) -> None:
        new = apply_all(tickets, self.value)
        time.sleep(0.02)
        if self.failure is not None:
            raise copy.copy(self.failure)
        self.value = new
        self.batches.append(len(tickets))

    def update(self, change) -> None:
        self.combiner.update("k", change, self.lock, self.make)


def together(n: int, work) -> list[BaseException | None]:
    """Run ``work(i)`` in n threads; what each raised."""
    raised: list[BaseException | None] = [None] * n

    def run(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            raised[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


def test_every_change_once_in_few_writes() -> None:
    shelf = Shelf()
    raised = together(40, lambda i: shelf.update(lambda old: old + b"%02d," % i))
    assert raised == [None] * 40
    assert sorted(shelf.value.split(b",")[:-1]) == [b"%02d" % i for i in range(40)]
    assert sum(shelf.batches) == 40
    assert len(shelf.batches) < 20


def test_a_change_that_raises_is_its_own_affair() -> None:
    shelf = Shelf()

    def change(i: int):
        def work(old: bytes) -> bytes:
            if i % 3 == 0:
                raise KeyError(i)
            return old + b"x"

        return work

    raised = together(12, lambda i: shelf.update(change(i)))
    assert shelf.value == b"x" * 8
    for i, error in enumerate(raised):
        assert (type(error), error.args) == (KeyError, (i,)) if i % 3 == 0 else error is None


def test_a_write_that_fails_is_everybodys_affair() -> None:
    shelf = Shelf()
    shelf.failure = AccessError("denied", key="k")
    raised = together(6, lambda i: shelf.update(lambda old: old + b"x"))
    assert [type(error) for error in raised] == [AccessError] * 6
    assert len({id(error) for error in raised}) == 6  # a traceback each
    assert {str(error) for error in raised} == {str(shelf.failure)}
    shelf.failure = None
    shelf.update(lambda old: old + b"y")
    assert shelf.value == b"y"


def test_a_thread_that_is_interrupted_leaves_the_others_to_go_on() -> None:
    shelf = Shelf()
    first = threading.Event()

    def interrupt(old: bytes) -> bytes:
        first.set()
        time.sleep(0.05)
        raise KeyboardInterrupt

    def work(i: int) -> None:
        if i == 0:
            shelf.update(interrupt)
        else:
            first.wait(10)
            shelf.update(lambda old: old + b"x")

    raised = together(5, work)
    assert [type(error) for error in raised] == [KeyboardInterrupt] + [type(None)] * 4
    assert shelf.value == b"xxxx"


class Interrupted:
    """A key's lock whose waiter is interrupted, after ``meanwhile``."""

    def __init__(self, meanwhile) -> None:
        self.meanwhile = meanwhile

    def __enter__(self) -> None:
        self.meanwhile()
        raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it was never held")


def test_a_change_whose_thread_was_interrupted_while_it_waited_is_not_made_later() -> None:
    shelf = Shelf(b"old")
    with pytest.raises(KeyboardInterrupt):
        shelf.combiner.update("k", lambda old: b"cancelled", Interrupted(lambda: None), shelf.make)
    assert shelf.combiner._queue.waiting == {}
    shelf.value = b"newer"
    shelf.update(lambda old: old + b"+")
    assert shelf.value == b"newer+"
    assert shelf.batches == [1]


@pytest.mark.parametrize("leader_ends", [False, True])
def test_an_interrupted_thread_waits_for_who_is_making_its_change(leader_ends: bool) -> None:
    shelf = Shelf()
    taken, leave = threading.Event(), threading.Event()

    def make(tickets: Sequence[Ticket]) -> None:
        taken.set()
        assert leave.wait(30)
        if leader_ends:
            raise KeyboardInterrupt
        shelf.make(tickets)

    threads: list[threading.Thread] = []
    raised: list[BaseException | None] = []

    def leader() -> None:
        try:
            shelf.combiner.update("k", lambda old: old + b"leader", shelf.lock, make)
        except KeyboardInterrupt as error:
            raised.append(error)

    def meanwhile() -> None:  # another thread takes our ticket along, and is at it when we are interrupted
        threads.append(threading.Thread(target=leader))
        threads[0].start()
        assert taken.wait(30)
        threading.Timer(0.1, leave.set).start()

    with pytest.raises(KeyboardInterrupt):
        shelf.combiner.update("k", lambda old: old + b",mine", Interrupted(meanwhile), shelf.make)
    assert leave.is_set()  # it did not go before that end
    threads[0].join(30)
    assert len(raised) == leader_ends
    assert shelf.value == (b"" if leader_ends else b"leader,mine")
    shelf.update(lambda old: b"newer")
    assert shelf.value == b"newer"
    assert shelf.batches[-1] == 1


def test_not_too_many_at_once() -> None:
    shelf = Shelf()
    n = MAX_TOGETHER + 50
    assert together(n, lambda i: shelf.update(lambda old: old + b"x")) == [None] * n
    assert shelf.value == b"x" * n
    assert max(shelf.batches) <= MAX_TOGETHER


@given(
    old=st.one_of(st.none(), st.binary(max_size=3)),
    steps=st.lists(st.sampled_from(["append", "keep", "delete", "fail", "parts"]), max_size=8),
)
def test_applied_as_one_after_another(old: bytes | None, steps: list[str]) -> None:
    changes = {
        "append": lambda value: (value or b"") + b"+",
        "keep": lambda value: value,
        "delete": lambda value: None,
        "fail": lambda value: 1 // 0,
        "parts": lambda value: [value or b"", bytearray(b"-"), memoryview(b".")],
    }
    expected = old
    for step in steps:
        with contextlib.suppress(ZeroDivisionError):
            new = changes[step](expected)
            expected = b"".join(new) if isinstance(new, list) else new
    tickets = [Ticket(changes[step]) for step in steps]
    result = apply_all(tickets, old)
    assert result == expected
    assert [ticket.error is not None for ticket in tickets] == [step == "fail" for step in steps]
    if not set(steps) - {"keep", "fail"}:
        assert result is old


def test_a_child_does_not_make_its_parents_changes() -> None:
    combiner = pickle.loads(pickle.dumps(Combiner()))
    combiner._queue.add("k", Ticket(lambda old: b"parent's"))

    def check() -> bool:
        made: list[int] = []
        combiner.update("k", lambda old: old, threading.Lock(), lambda tickets: made.append(len(tickets)))
        return made == [1]

    assert in_fork(check)
    assert len(combiner._queue.waiting["k"]) == 1


def test_a_child_begins_anew_before_it_has_threads() -> None:
    combiner = Combiner()
    queue = combiner._queue
    with queue.guard:  # by a thread that the child will not have
        assert in_fork(lambda: combiner._queue is not queue and not combiner._queue.guard._is_owned())
    assert combiner._queue is queue


@pytest.mark.server
@pytest.mark.parametrize("service", ["s3", "gcs"])
def test_many_threads_few_requests(service: str) -> None:
    fake, cls, url = (StrictS3, S3Store, "s3://bucket/x") if service == "s3" else (StrictGCS, GCSStore, "gs://bucket/x")
    with fake("bucket") as server, FaultProxy(server.url) as proxy:
        store = cls(url, storage_options={**server.storage_options, "endpoint_url": proxy.url})
        store.write("n", b"0")
        proxy.clear()
        # A service that takes its time: all threads have come before the first update is through.
        proxy.inject(Fault("delay", seconds=0.1, times=None))
        raised = together(64, lambda _: store.update("n", lambda old: b"%d" % (int(bytes(old)) + 1)))
        assert raised == [None] * 64
        n_requests = len(proxy.log)
        assert store.get("n").data == b"64"
        assert n_requests < 40  # one by one it would be 128


@pytest.mark.server
def test_an_error_of_the_service_reaches_all() -> None:
    with StrictS3("bucket") as server:
        store = S3Store("s3://no-bucket/x", storage_options=server.storage_options)
        raised = together(4, lambda _: store.update("n", lambda old: b"1"))
        assert [type(error) for error in raised] == [StoreError] * 4
