"""Group commit: what is promised to a writer in a queue, also to one that is interrupted."""

import threading
from collections.abc import Sequence

import pytest

from zarrdock.array.execution import combine
from zarrdock.array.execution.combine import Combiner
from zarrdock.errors import StoreError


class Interrupted(threading.Event):
    """An event whose first wait is a Ctrl-C, once ``ready`` says so."""

    ready = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "interrupted" and not getattr(self, "hit", False):
            self.hit = True
            self.ready.wait(10)
            raise KeyboardInterrupt
        return super().wait(timeout)


@pytest.mark.parametrize("taken", [False, True], ids=["still waiting", "its turn to lead"])
def test_an_interrupted_writer_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    Interrupted.ready = threading.Event()
    monkeypatch.setattr(combine.threading, "Event", Interrupted)
    queue: Combiner[int] = Combiner()
    applied: list[int] = []
    working, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def apply(changes: Sequence[int]) -> None:
        working.release()
        go_on.acquire()
        applied.extend(changes)

    def write(change: int) -> None:
        try:
            queue.submit("k", change, apply)
        except KeyboardInterrupt:
            outcomes.append(change)

    outcomes: list[int] = []
    leader = threading.Thread(target=write, args=(1,))
    victim = threading.Thread(target=write, args=(2,), name="interrupted")
    third = threading.Thread(target=write, args=(3,))
    leader.start()
    assert working.acquire(timeout=10)
    victim.start()
    while len(queue._queues["k"]) < 1:
        pass
    third.start()
    while len(queue._queues["k"]) < 2:
        pass
    if not taken:
        Interrupted.ready.set()
        victim.join(10)
    go_on.release()
    if taken:
        leader.join(10)  # the victim has been handed the batch of both
        Interrupted.ready.set()
    go_on.release()
    for thread in (leader, victim, third):
        thread.join(10)
        assert not thread.is_alive()
    assert outcomes == [2]
    assert applied == ([1, 2, 3] if taken else [1, 3])
    go_on.release()
    write(4)
    assert applied[-1] == 4


def test_a_store_that_refuses_is_asked_once_for_all() -> None:
    queue: Combiner[int] = Combiner()
    calls: list[list[int]] = []
    entered, go_on = threading.Event(), threading.Event()

    def apply(changes: Sequence[int]) -> None:
        calls.append(list(changes))
        if changes == [0]:
            entered.set()
            go_on.wait(10)
            return
        raise StoreError("the service is down", key="k")

    errors: list[str] = []

    def write(change: int) -> None:
        try:
            queue.submit("k", change, apply)
        except StoreError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=write, args=(0,))]
    threads[0].start()
    assert entered.wait(10)
    for n in range(1, 6):
        threads.append(threading.Thread(target=write, args=(n,)))
        threads[-1].start()
    while len(queue._queues["k"]) < 5:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 2
    assert errors == ["the service is down (key 'k')"] * 5
