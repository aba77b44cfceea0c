"""FsspecStore beyond the contract: misbehaving filesystems, wrappers, chains, loops, processes."""

import asyncio
import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import fsspec.asyn
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

import zarrdock
from zarrdock.errors import (
    AccessError,
    InvalidKeyError,
    KeyExistsError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.async_store import AsyncStore
from zarrdock.stores.base import Blob, Buffer, Entry, Listing, Read, Store
from zarrdock.stores.diagnose import HttpStatusError
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.io_loop import Bridge, Limiter, Live, drive, remake
from zarrdock.stores.retry import RetryPolicy

DATA = bytes(range(200))
QUICK = RetryPolicy(attempts=4, deadline_seconds=5, attempt_seconds=2, initial=0.001, max=0.01)
KEY = "a/k"
PATH = "bucket/a/k"


class Remote(AsyncFileSystem):
    """An asynchronous filesystem in memory; ``answer`` may change what a read returns, or raise."""

    protocol = "remote"
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {PATH: DATA}
    answer: Callable[[bytes, int | None, int | None], bytes] | None = None

    def __init__(self, secret: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.reads: list[tuple[int | None, int | None]] = []
        self.n_now = self.n_most = 0

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self.reads.append((start, end))
        self.n_now += 1
        self.n_most = max(self.n_most, self.n_now)
        await asyncio.sleep(0.001)
        self.n_now -= 1
        if path not in self.objects:
            raise FileNotFoundError(path)
        data = self.objects[path]
        return data[start:end] if self.answer is None else self.answer(data, start, end)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}


def remote_store(answer: Callable[..., bytes] | None = None, **options: Any) -> tuple[FsspecStore, Remote]:
    fs = Remote()
    fs.answer = answer
    return FsspecStore(fs, "bucket", retry=QUICK, **options), fs


def data_of(store: FsspecStore, range_: Range = None, key: str = KEY) -> bytes | None:
    blob = store.get(key, range_)
    return None if blob is None else bytes(blob.data)


# -- filesystems that misbehave ---------------------------------------------------------------------------------

RANGES: list[tuple[Range, bytes]] = [
    (Span(5, 50), DATA[5:50]),
    (Span(150, 500), DATA[150:]),
    (From(150), DATA[150:]),
    (Tail(20), DATA[-20:]),
    (Tail(500), DATA),
]


@pytest.mark.parametrize("range_,expected", RANGES)
def test_ignored_ranges_are_cut(range_: Range, expected: bytes) -> None:
    store, _ = remote_store(lambda data, start, end: data)
    assert data_of(store, range_) == expected


@pytest.mark.parametrize("range_,expected", RANGES)
def test_short_answers_are_asked_for_again(range_: Range, expected: bytes) -> None:
    n_short = [2]

    def answer(data: bytes, start: int | None, end: int | None) -> bytes:
        n_short[0] -= 1
        return data[start:end][: -3 if n_short[0] >= 0 else None]

    store, _ = remote_store(answer)
    assert data_of(store, range_) == expected


@pytest.mark.parametrize("range_", [Span(5, 50), From(150), Tail(20)])
def test_what_stays_short_is_no_data(range_: Range) -> None:
    store, _ = remote_store(lambda data, start, end: data[start:end][:-3])
    with pytest.raises(StoreError, match="cut short") as caught:
        store.get(KEY, range_)
    assert caught.value.key == KEY


def test_what_is_too_long_is_no_data() -> None:
    store, _ = remote_store(lambda data, start, end: data[start : end + 5 if end else None])
    with pytest.raises(StoreError, match="50 bytes came"):
        store.get(KEY, Span(5, 50))


@pytest.mark.parametrize("range_", [Span(200, 201), Span(10**6, 10**7), From(200)])
def test_beyond_the_end_with_and_without_an_error(range_: Range) -> None:
    def strict(data: bytes, start: int | None, end: int | None) -> bytes:
        if start is not None and start >= len(data):
            raise OSError(22, "invalid range")
        return data[start:end]

    for answer in (None, strict, lambda data, start, end: data):
        store, _ = remote_store(answer)
        with pytest.raises(RangeError):
            store.get(KEY, range_)


def test_other_errors_are_not_mistaken_for_the_end() -> None:
    def broken(data: bytes, start: int | None, end: int | None) -> bytes:
        raise OSError(5, "broken disk")

    store, _ = remote_store(broken)
    with pytest.raises(StoreError, match="broken disk"):
        store.get(KEY, Span(5, 50))

    def denied(data: bytes, start: int | None, end: int | None) -> bytes:
        raise PermissionError("not you")

    store, _ = remote_store(denied)
    for range_ in (None, Span(5, 50), Span(900, 901), Tail(3)):
        with pytest.raises(AccessError, match="not you"):
            store.get(KEY, range_)


def test_a_tail_is_of_one_object() -> None:
    # The object is replaced between asking for its size and reading: at first by a longer one, then by a shorter.
    fs = Remote()
    sizes = iter([300, 100])
    Remote.objects = {**Remote.objects, "bucket/moving": DATA}

    def answer(data: bytes, start: int | None, end: int | None) -> bytes:
        size = next(sizes, None)
        if size is not None:
            fs.objects["bucket/moving"] = bytes([size % 256]) * size
            return fs.objects["bucket/moving"][start:end]
        return data[start:end]

    fs.answer = answer
    store = FsspecStore(fs, "bucket", retry=QUICK)
    assert data_of(store, Tail(20), "moving") == bytes([100]) * 20


def test_transient_errors_are_tried_again_and_then_named() -> None:
    errors: list[Exception] = [ConnectionResetError(), HttpStatusError(503), TimeoutError()]

    def answer(data: bytes, start: int | None, end: int | None) -> bytes:
        if errors:
            raise errors.pop()
        return data[start:end]

    store, fs = remote_store(answer)
    assert data_of(store) == DATA
    assert len(fs.reads) == 4
    assert fs.n_now == 0
    errors.extend(HttpStatusError(500) for _ in range(99))
    with pytest.raises(StoreError, match="the service failed"):
        store.get(KEY)
    assert len(fs.reads) == 8


# -- requests ---------------------------------------------------------------------------------------------------


def test_whole_missing_and_inner_ranges_take_one_request() -> None:
    store, fs = remote_store()
    store.read([Read(KEY), Read("missing"), Read(KEY, Span(5, 50)), Read(KEY, Span(7, 7)), Read(KEY, Tail(0))])
    assert sorted(fs.reads, key=str) == [(5, 50), (None, None), (None, None)]


def test_batches_run_together_up_to_the_limit() -> None:
    store, fs = remote_store(n_concurrent=7)
    results = store.read([Read(KEY, Span(i, i + 1)) for i in range(100)])
    assert [bytes(r.data) for r in results if isinstance(r, Blob)] == [DATA[i : i + 1] for i in range(100)]
    assert fs.n_most == 7


def test_the_limit_is_the_stores_not_the_calls() -> None:
    store, fs = remote_store(n_concurrent=5)
    reads = [Read(KEY, Span(i, i + 1)) for i in range(30)]
    threads = [threading.Thread(target=store.read, args=(reads,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fs.n_most == 5
    assert len(fs.reads) == 120


def test_limiter_bounds_bytes_and_adapts() -> None:
    async def use() -> None:
        limiter = Limiter(8, max_bytes=100)
        await limiter.acquire(60)
        waiting = [asyncio.ensure_future(limiter.acquire(n)) for n in (60, 500, 1)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False] * 3, "first come, first served"
        waiting[1].cancel()
        await asyncio.sleep(0)
        limiter.release(60)
        await asyncio.sleep(0)
        assert waiting[0].done()
        assert waiting[2].done()
        assert (limiter.n_in_flight, limiter.bytes_in_flight) == (2, 61)
        limiter.release(60)
        limiter.release(1)
        await limiter.acquire(500)  # more than the budget: it goes alone, instead of never
        assert limiter.bytes_in_flight == 500
        limiter.release(500)
        began = limiter._halved_at + 1 if limiter._halved_at > 0 else 0.0
        limiter.slow_down(began)
        limiter.slow_down(began)
        assert limiter.limit == 4, "answers to requests of before the halving don't halve again"
        for _ in range(100):
            limiter.succeeded()
        assert limiter.limit == 8

    asyncio.run(use())


# -- wrappers, chains, names ------------------------------------------------------------------------------------


def test_looks_through_folders_of_filesystems(tmp_path: Path) -> None:
    local = fsspec.filesystem("file")
    store = FsspecStore(DirFileSystem(str(tmp_path / "x"), DirFileSystem(str(tmp_path), local)), "y")
    store.write("k", b"1")
    # The outer folder is within the inner one.
    assert [path.read_bytes() for path in tmp_path.rglob("k")] == [b"1"]
    assert store.url.startswith("file://")


@pytest.mark.parametrize("protocol", ["simplecache", "filecache"])
def test_a_key_deleted_through_a_cache_is_gone(protocol: str, tmp_path: Path) -> None:
    store = zarrdock.open_store(f"{protocol}::memory://deleted-through-{protocol}")
    for value in (b"one", b"two"):
        store.write("a/k", value)
        assert bytes(store.get("a/k").data) == value  # type: ignore[union-attr]
    store.delete("a/k")
    assert store.get("a/k") is None
    folders = zarrdock.open_store(f"{protocol}::file://{tmp_path}/not/there")
    zarrdock.create_array(folders, data=[1, 2, 3], chunks=2)
    assert zarrdock.open_array(folders)[...].tolist() == [1, 2, 3]


@pytest.mark.parametrize("protocol", ["simplecache", "filecache"])
def test_chained_caches(tmp_path: Path, protocol: str) -> None:
    inner = FsspecStore(f"memory://chained-{protocol}")
    inner.write("a/k", DATA)
    options = {protocol: {"cache_storage": str(tmp_path)}}
    store = FsspecStore(f"{protocol}::memory://chained-{protocol}", storage_options=options)
    assert store.traits.remote
    assert store.url == f"{protocol}::memory://chained-{protocol}"
    for _ in range(2):
        blobs = store.read([Read("a/k"), Read("a/k", Span(3, 9)), Read("a/k", Tail(4)), Read("nope")])
        assert (
            [None if b is None else bytes(b.data) for b in blobs]
            == [  # type: ignore[union-attr]
                DATA,
                DATA[3:9],
                DATA[-4:],
                None,
            ]
        )
    assert list(store.list()) == [Entry("a/k", len(DATA))]


def test_reference_filesystem(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    references = {"a/0": [f"file://{tmp_path}/data", 10, 50], "zarr.json": "{}"}
    store = FsspecStore("reference://", storage_options={"fo": references})
    assert data_of(store, key="a/0") == DATA[10:60]
    assert data_of(store, Span(5, 9), "a/0") == DATA[15:19]
    assert data_of(store, Tail(3), "a/0") == DATA[57:60]
    assert data_of(store, key="zarr.json") == b"{}"
    assert store.get("missing") is None
    assert store.list_dir() == Listing(("zarr.json",), ("a",))
    with pytest.raises(ReadOnlyError):
        store.write("k", b"")


def test_zip_filesystem(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("root/a/k", DATA)
    store = FsspecStore(f"zip://root::file://{tmp_path}/x.zip")
    assert data_of(store) == DATA
    assert data_of(store, Tail(5)) == DATA[-5:]
    assert [entry.key for entry in store.list()] == ["a/k"]
    assert store.get("missing") is None


class OwnMemory(MemoryFileSystem):
    """Independent of all others, as those of fsspec are that are made with ``global_store=False``."""

    cachable = False

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.store = {} if content is None else content  # an empty one may be about to be filled
        self.pseudo_dirs = [""]

    def __reduce__(self) -> tuple[type["OwnMemory"], tuple[dict[str, Any]]]:
        return OwnMemory, (self.store,)


def test_independent_memory_filesystem_keeps_its_content() -> None:
    store = FsspecStore(OwnMemory())
    store.write("k", b"1")
    assert data_of(pickle.loads(pickle.dumps(store)), key="k") == b"1"
    assert data_of(FsspecStore(MemoryFileSystem()), key="k") is None


def test_credentials_are_not_shown() -> None:
    store = FsspecStore(Remote(secret="hush"), "bucket")
    assert "hush" not in repr(store) + store.url
    url = "ftp://user:pa55@127.0.0.1:1/x"
    with pytest.raises(StoreError) as caught:
        FsspecStore(url)
    assert "pa55" not in str(caught.value)


def test_wrong_arguments() -> None:
    for make in (
        lambda: FsspecStore("nosuchprotocol://x"),
        lambda: FsspecStore("memory://x", "path"),
        lambda: FsspecStore(Remote(), "x", storage_options={"a": 1}),
    ):
        with pytest.raises(UnsupportedError):
            make()


# -- plain files ------------------------------------------------------------------------------------------------


def test_files_being_written_are_hidden_and_go(tmp_path: Path) -> None:
    store = FsspecStore(f"file://{tmp_path}")
    store.write("a/k", b"old")
    (tmp_path / "a" / ".x.__lock").write_bytes(b"half")
    assert [entry.key for entry in store.list()] == ["a/k"]
    assert store.list_dir("a") == Listing(("k",))
    for verb in (store.get, store.size, store.delete, lambda key: store.write(key, b"")):
        with pytest.raises(InvalidKeyError):
            verb("a/k.__lock")
    (tmp_path / "a").chmod(0o500)
    try:
        if os.geteuid() != 0:
            with pytest.raises(AccessError):
                store.write("a/k", b"new")
    finally:
        (tmp_path / "a").chmod(0o700)
    (tmp_path / "a" / "folder").mkdir()
    with pytest.raises(StoreError):
        store.write("a/folder", b"new")
    with pytest.raises(StoreError):
        store.write("a/k/below", b"new")
    assert data_of(store) == b"old"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".x.__lock", "folder", "k"]


def test_root_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"1")
    store = FsspecStore(fsspec.filesystem("file"), "/")
    assert data_of(store, key=f"{str(tmp_path)[1:]}/k") == b"1"


# -- updates ----------------------------------------------------------------------------------------------------


def test_update_is_refused_with_a_way_out() -> None:
    store = FsspecStore(Remote())
    with pytest.raises(UnsupportedError, match="single_writer"):
        store.update("k", lambda _: b"1")
    assert not store.traits.atomic_update


def test_in_memory_stores_over_any_folder_of_a_filesystem_exclude_each_other() -> None:
    fs = fsspec.filesystem("memory")
    stores = [
        (FsspecStore("memory://turns"), "a/n"),
        (FsspecStore("memory://turns/a"), "n"),
        (FsspecStore(fs), "turns/a/n"),
        (FsspecStore(DirFileSystem("/turns", fs), "a"), "n"),
        (zarrdock.open_store("dir://turns::memory://"), "a/n"),
    ]
    assert all(store.traits.atomic_update for store, _ in stores)

    def count(store: Store, key: str) -> None:
        for _ in range(50):
            store.update(key, lambda old: b"%d" % (int(bytes(old or b"0")) + 1))

    threads = [threading.Thread(target=count, args=pair) for pair in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert data_of(stores[0][0], key="a/n") == b"250"


def test_two_stores_of_one_process_share_the_locks() -> None:
    stores = [FsspecStore("memory://shared-locks", assume_single_writer=True) for _ in range(2)]

    def count(store: FsspecStore) -> None:
        for _ in range(50):
            store.update("n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))

    threads = [threading.Thread(target=count, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert data_of(stores[0], key="n") == b"200"


def test_create_only_has_one_winner_in_this_process() -> None:
    stores = [FsspecStore("memory://create-only") for _ in range(2)]
    won: list[int] = []

    def create(i: int) -> None:
        try:
            stores[i % 2].write("k", b"%d" % i, create_only=True)
            won.append(i)
        except KeyExistsError:
            pass

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert data_of(stores[0], key="k") == b"%d" % won[0]


def test_versions_are_refused_not_ignored() -> None:
    store = FsspecStore("memory://versions")
    store.write("k", b"1")
    present, missing = store.read([Read("k", None, "a version"), Read("no", None, "a version")])
    assert isinstance(present, VersionChangedError)
    assert missing is None


# -- loops, threads, processes ----------------------------------------------------------------------------------


def test_one_loop_after_another_and_within_one() -> None:
    store, _ = remote_store()

    async def use() -> None:
        assert data_of(store) == DATA, "a blocking call, as in a notebook"
        blobs = await asyncio.gather(*(AsyncStore(store).get(KEY, Span(i, i + 1)) for i in range(5)))
        assert [bytes(blob.data) for blob in blobs if blob] == [DATA[i : i + 1] for i in range(5)]

    for _ in range(3):
        asyncio.run(use())
        assert data_of(store) == DATA


def test_the_io_loop_itself_is_refused_instead_of_a_deadlock() -> None:
    store, _ = remote_store()

    async def misuse() -> None:
        store.get(KEY)

    future = asyncio.run_coroutine_threadsafe(misuse(), fsspec.asyn.get_loop())
    with pytest.raises(StoreError, match="IO loop"):
        future.result(10)


def test_a_closed_loop_is_replaced() -> None:
    store, fs = remote_store()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    mine = Remote(loop=loop)
    other = FsspecStore(mine, "bucket")
    assert data_of(other) == DATA
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert data_of(other) == DATA
    assert other.fs is not mine
    assert store.fs is fs


def test_asynchronous_instances_are_made_anew_with_their_inner_ones() -> None:
    async def make() -> Remote:
        return Remote("hush", asynchronous=True)

    theirs = asyncio.run(make())
    mine = remake(theirs)
    assert not mine.asynchronous
    assert mine.storage_args == ("hush",)
    chain = remake(DirFileSystem("bucket", theirs, asynchronous=True))
    assert not chain.fs.asynchronous
    assert data_of(FsspecStore(theirs, "bucket")) == DATA


def test_cancelling_an_await_cancels_the_requests() -> None:
    store, fs = remote_store()

    async def use() -> None:
        task = asyncio.ensure_future(AsyncStore(store).read([Read(KEY, Span(i, i + 1)) for i in range(150)] * 20))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    limiter = store._bridge.live().limiter
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), fsspec.asyn.get_loop()).result()
    assert len(fs.reads) < 2900
    assert (limiter.n_in_flight, limiter.bytes_in_flight) == (0, 0)
    assert data_of(store) == DATA


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda store: pickle.loads(pickle.dumps(store))])
def test_copies(clone: Callable[[FsspecStore], FsspecStore]) -> None:
    store = FsspecStore("memory://copies", assume_single_writer=True, retry=QUICK)
    store.write(KEY, DATA)
    twin = clone(store)
    assert data_of(twin) == DATA
    assert (twin.url, twin.traits, twin.retry, twin.assume_single_writer) == (store.url, store.traits, QUICK, True)


def _child(store: FsspecStore, key: str, pipe: Any) -> None:
    blob = store.get(key)
    pipe.send(None if blob is None else bytes(blob.data))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_another_process(tmp_path: Path, method: str) -> None:
    store = FsspecStore(f"file://{tmp_path}")
    store.write(KEY, DATA)
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    if method == "spawn":
        # By a function every child can import, whatever this file is called there.
        child = context.Process(target=AsyncStore(store).store.write, args=("child", b"was here"))
    else:
        child = context.Process(target=_child, args=(store, KEY, there))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    if method == "spawn":
        assert data_of(store, key="child") == b"was here"
    else:
        assert here.recv() == DATA


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_requests_are_in_flight() -> None:
    store, _ = remote_store()
    reads = [Read(KEY, Span(i, i + 1)) for i in range(150)] * 10
    busy = [threading.Thread(target=store.read, args=(reads,)) for _ in range(3)]
    for thread in busy:
        thread.start()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    children = [context.Process(target=_child, args=(store, KEY, there)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 4
    assert [here.recv() for _ in children] == [DATA] * 4
    for thread in busy:
        thread.join()
    assert data_of(store) == DATA


def test_synchronous_remote_filesystems_read_in_threads() -> None:
    class SyncRemote(MemoryFileSystem):
        protocol = "syncremote"
        together = threading.Barrier(4)

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
            self.together.wait(10)
            data: bytes = super().cat_file(path, start=start, end=end, **options)
            return data

    fs = SyncRemote(global_store=False, skip_instance_cache=True)
    store = FsspecStore(fs, "/x", n_concurrent=4)
    store.write("k", DATA)
    blobs = store.read([Read("k", Span(i, i + 1)) for i in range(8)])
    assert [bytes(blob.data) for blob in blobs if isinstance(blob, Blob)] == [DATA[i : i + 1] for i in range(8)]


def test_drive_refuses_to_wait() -> None:
    async def waits() -> None:
        await asyncio.sleep(1)

    async def does_not(value: Buffer) -> Buffer:
        return value

    assert drive(does_not(b"1")) == b"1"
    with pytest.raises(RuntimeError):
        drive(waits())


def test_the_first_error_of_a_batch_stops_the_rest() -> None:
    n = [0]

    async def one(i: int) -> int:
        n[0] += 1
        await asyncio.sleep(0.001)
        if i == 3:
            raise PermissionError(i)
        return i

    fs: AbstractFileSystem = Remote()
    bridge = Bridge(fs, remote=True, n_concurrent=4)

    def job(live: Live) -> Any:
        return live.gather(one, range(1000))

    with pytest.raises(PermissionError):
        bridge.run(job)
    assert n[0] < 20
