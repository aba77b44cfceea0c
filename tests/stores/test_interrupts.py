"""An interrupt (Ctrl-C) while one thread writes for several: what is applied counts once, and nobody waits for ever."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from support.servers import StrictAzure, StrictGCS, StrictS3
from zarrdock.errors import ConflictError
from zarrdock.stores import remote
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.remote import RemoteStore
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=["s3", "gcs", "azure"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[], RemoteStore]]:
    cls, fake, url = {
        "s3": (S3Store, StrictS3, "s3://b/x"),
        "gcs": (GCSStore, StrictGCS, "gs://b/x"),
        "azure": (AzureStore, StrictAzure, "az://b/x"),
    }[request.param]
    with fake("b") as server:
        # Asked once in a process, by writes of its own: not what is interrupted here.
        cls(url, storage_options=server.storage_options).conditions()
        yield lambda: cls(url, storage_options=server.storage_options)


class Scene:
    """The main thread writes for itself and for ``n`` others, and is interrupted when its write was applied and the
    reply is on its way.
    """

    def __init__(
        self, store: RemoteStore, monkeypatch: pytest.MonkeyPatch, *, reply_seconds: float, n_interrupts: int = 1
    ) -> None:
        self.store = store
        self.outcomes: list[BaseException | None] = []
        self.n_sent = self.n_interrupted = 0
        send, exclusive = store._send_put, store._exclusive

        async def send_put(*args):
            self.n_sent += 1
            first = self.n_sent == 1
            try:
                return await send(*args)
            finally:
                if first:
                    for i in range(n_interrupts):
                        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                        while self.n_interrupted <= i:  # noqa: ASYNC110 - signal handlers set no asyncio.Event
                            await asyncio.sleep(0.01)
                        await asyncio.sleep(0.05)
                    await asyncio.sleep(reply_seconds)

        @contextlib.contextmanager
        def exclusive_with_others(key: str):
            with exclusive(key):
                if threading.current_thread() is threading.main_thread():
                    for thread in self.threads:
                        thread.start()
                    while len(store._combiner._queue.waiting[key]) < 1 + len(self.threads):
                        time.sleep(0.001)
                yield

        def interrupt(*args) -> None:
            self.n_interrupted += 1
            signal.default_int_handler(*args)

        self.handler = interrupt
        monkeypatch.setattr(store, "_send_put", send_put)
        monkeypatch.setattr(store, "_exclusive", exclusive_with_others)

    def one_more(self) -> None:
        self.store.update("n", lambda old: b"%d" % (int(bytes(old)) + 1))

    def follow(self) -> None:
        try:
            self.one_more()
        except Exception as error:
            self.outcomes.append(error)
        else:
            self.outcomes.append(None)

    def play(self, n_others: int) -> int:
        """How the counter stands in the end."""
        self.threads = [threading.Thread(target=self.follow) for _ in range(n_others)]
        usual = signal.signal(signal.SIGINT, self.handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                self.one_more()
        finally:
            signal.signal(signal.SIGINT, usual)
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.store._combiner._queue.waiting == {}
        return int(bytes(self.store.get("n").data))


def test_what_was_applied_is_not_made_again(make, monkeypatch) -> None:
    store = make()
    store.write("n", b"0")
    scene = Scene(store, monkeypatch, reply_seconds=0.3)
    assert scene.play(3) == 4
    assert scene.outcomes == [None] * 3
    assert scene.n_sent == 1


@pytest.mark.parametrize("n_interrupts", [1, 2], ids=["no reply in time", "a second interrupt"])
def test_what_stays_in_doubt_is_an_error(make, monkeypatch, n_interrupts: int) -> None:
    monkeypatch.setattr(remote, "_FINISH_SECONDS", 0.2 if n_interrupts == 1 else 60)
    store = make()
    store.write("n", b"0")
    began = time.monotonic()
    scene = Scene(store, monkeypatch, reply_seconds=60, n_interrupts=n_interrupts)
    assert scene.play(3) == 4
    assert time.monotonic() - began < 20
    assert [type(error) for error in scene.outcomes] == [ConflictError] * 3
    assert "interrupted" in str(scene.outcomes[0])
    assert len({id(error) for error in scene.outcomes}) == 3
    assert scene.n_sent == 1


def test_what_was_refused_is_made_by_the_others(make, monkeypatch) -> None:
    store, other = make(), make()
    store.write("n", b"0")
    scene = Scene(store, monkeypatch, reply_seconds=0.3)
    counting, is_first = store._fetch, [True]

    async def fetch(*args):
        answer = await counting(*args)
        if is_first:  # another process is faster
            is_first.clear()
            await other._put(other._bridge.live(), "n", b"100", False)
        return answer

    monkeypatch.setattr(store, "_fetch", fetch)
    assert scene.play(3) == 103
    assert scene.outcomes == [None] * 3
