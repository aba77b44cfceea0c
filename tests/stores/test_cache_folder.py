"""The folder of a cache: shared, restarted, damaged, killed."""

import multiprocessing
import os
import random
import signal
import time
import warnings
from pathlib import Path

import pytest

from zarrdock.ranges import Span, Tail
from zarrdock.stores import cache_folder
from zarrdock.stores.base import Blob, Read
from zarrdock.stores.cache import CachingStore
from zarrdock.stores.identity import Identity
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import RecordingStore

DATA = bytes(range(256)) * 40


class Named(MemoryStore):
    """A memory store that says where it is, as those on servers do, and whose versions are of the bytes."""

    def __init__(self, name: str = "one") -> None:
        super().__init__()
        self.name = name

    @property
    def url(self) -> str:
        return f"named://{self.name}"

    @property
    def identity(self) -> Identity:
        return Identity("named", self.name)

    def __reduce__(self):
        return rebuilt, (self.name, dict(self._blobs))


def rebuilt(name, blobs):
    store = Named(name)
    store._blobs.update(blobs)
    return store


def caching(inner, folder, **options) -> tuple[CachingStore, RecordingStore]:
    outer = RecordingStore(inner, n_events=100)
    return CachingStore(outer, **{"max_bytes": 10**6, "folder": folder, **options}), outer


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def segments(folder: Path) -> list[Path]:
    return [path for path in files(folder) if "objects" in path.parts]


@pytest.fixture
def inner() -> Named:
    store = Named()
    store.write("k", DATA)
    store.write("c/0", DATA[::-1])
    return store


def test_survives_the_process(inner, tmp_path):
    first, _ = caching(inner, tmp_path)
    for key in ("k", "c/0"):
        first.get(key)
    first.get("k", Tail(10))
    second, outer = caching(inner, tmp_path)
    for key, value in (("k", DATA), ("c/0", DATA[::-1])):
        assert bytes(second.get(key, Span(10, 5000)).data) == value[10:5000]
    assert [request.range for event in outer.log for request in event.requests] == [Tail(1), Tail(1)]
    assert second.n_hits == 2
    inner.write("k", b"new")
    assert bytes(second.get("k").data) == b"new"
    third, outer = caching(inner, tmp_path, immutable=True)
    assert bytes(third.get("k").data) == b"new"
    assert outer.n_rounds == 0


def test_what_another_process_adds_is_found(inner, tmp_path):
    one, _ = caching(inner, tmp_path, ttl=1000)
    two, outer = caching(inner, tmp_path, ttl=1000)
    one.get("k", Span(0, 10))
    assert two.get("k", Span(0, 10)) is not None
    one.get("k", Span(100, 200))
    outer.reset()
    assert bytes(two.get("k", Span(120, 130)).data) == DATA[120:130]
    assert outer.nbytes <= 1


def test_stores_that_share_a_folder_are_kept_apart(tmp_path):
    one, two = Named("one"), Named("two")
    for store in (one, two):
        store.write("k", store.name.encode())
    stores = [caching(store, tmp_path, immutable=True)[0] for store in (one, two)]
    for _ in range(2):
        assert [bytes(store.get("k").data) for store in stores] == [b"one", b"two"]
    stores[0].clear()
    one.write("k", b"new")
    assert [bytes(store.get("k").data) for store in stores] == [b"new", b"two"]
    assert stores[1].n_misses == 1


def test_old_versions_give_way(inner, tmp_path):
    store, _ = caching(inner, tmp_path)
    for i in range(5):
        inner.write("k", b"%d" % i * 1000)
        store.get("k")
    assert len(segments(tmp_path)) == 1


@pytest.mark.parametrize("how", ["bytes", "cut", "longer", "empty", "gone", "folder gone"])
def test_damaged_segments_are_read_again(inner, tmp_path, how):
    store, _ = caching(inner, tmp_path)
    store.get("k")
    (segment,) = segments(tmp_path)
    data = segment.read_bytes()
    if how == "bytes":
        segment.write_bytes(data[:100] + b"\xff\x01\xff" + data[103:])
    elif how == "gone":
        segment.unlink()
    elif how == "folder gone":
        segment.unlink()
        segment.parent.rmdir()
    else:
        segment.write_bytes({"cut": data[:-10], "longer": data + b"x", "empty": b""}[how])
    for reader in (caching(inner, tmp_path)[0], store):
        assert bytes(reader.get("k").data) == DATA
        assert bytes(reader.get("k", Span(90, 110)).data) == DATA[90:110]
    assert len(segments(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "open(1)"}', '{"version": "b\'no such\'"}', "\xff"])
def test_damaged_names_of_versions(inner, tmp_path, text):
    store, _ = caching(inner, tmp_path)
    store.get("k")
    (pointer,) = [path for path in files(tmp_path) if "keys" in path.parts]
    pointer.write_text(text, encoding="latin-1")
    again, _ = caching(inner, tmp_path)
    for _ in range(2):
        assert bytes(again.get("k").data) == DATA
    assert again.n_hits >= 1


def test_files_that_are_not_of_the_cache_are_left_alone(inner, tmp_path):
    store, _ = caching(inner, tmp_path)
    store.get("k", Span(0, 10))
    (segment,) = segments(tmp_path)
    (segment.parent / "README").write_text("what is this?")
    again, _ = caching(inner, tmp_path)
    assert bytes(again.get("k").data) == DATA


def test_folder_that_can_not_be_written(inner, tmp_path):
    (tmp_path / "cache").write_text("a file")
    store, _ = caching(inner, tmp_path / "cache")
    with pytest.warns(RuntimeWarning, match="nothing is cached"):
        assert bytes(store.get("k").data) == DATA
    assert bytes(store.get("k").data) == DATA  # and no second warning


def test_what_dead_writers_left_goes_with_time(inner, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "_STALE_SECONDS", 100.0)
    store, _ = caching(inner, tmp_path, max_bytes=25_000)
    store.get("k")
    old, new = tmp_path / "new" / "old", tmp_path / "new" / "new"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 200, time.time() - 200))
    new.write_bytes(b"x")
    for i in range(10):
        inner.write(f"k{i}", DATA)
        store.get(f"k{i}")
    assert [path for path in (old, new) if path.exists()] == [new]
    assert store.cached_bytes <= 25_000
    # Names of versions and folders go with what they stood for.
    assert len([path for path in files(tmp_path) if "keys" in path.parts]) <= 5
    assert len([path for path in tmp_path.rglob("*") if path.is_dir()]) < 30


def read_at_random(inner: Named, folder: Path, seed: int, seconds: float) -> None:
    rng = random.Random(seed)
    store = CachingStore(inner, max_bytes=40_000, folder=folder)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        i = rng.randrange(12)
        start = rng.randrange(4000)
        stop = start + rng.randrange(1, 4000)
        results = store.read([Read(f"k{i}", Span(start, stop)), Read(f"k{rng.randrange(12)}")])
        assert isinstance(results[0], Blob)
        assert {*bytes(results[0].data)} == {i}
        assert len(results[0].data) == min(stop, 5000) - start
        if rng.random() < 0.05:
            store.write(f"k{i}", bytes([i]) * 5000)
        if rng.random() < 0.01:
            store.clear()


def test_several_processes(tmp_path):
    inner = Named()
    for i in range(12):
        inner.write(f"k{i}", bytes([i]) * 5000)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        processes = [context.Process(target=read_at_random, args=(inner, tmp_path, i, 0.8)) for i in range(3)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    store, _ = caching(inner, tmp_path, max_bytes=40_000)
    assert store.cached_bytes <= 40_000 * 1.3
    assert not list(tmp_path.glob("new/*"))


def test_killed_at_any_moment(tmp_path):
    inner = Named()
    for i in range(12):
        inner.write(f"k{i}", bytes([i]) * 5000)
    rng = random.Random(3)
    for seed in range(12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            read_at_random(inner, tmp_path, seed, 10)
            os._exit(0)
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        store, _ = caching(inner, tmp_path)
        for i in range(12):
            assert bytes(store.get(f"k{i}").data) == bytes([i]) * 5000
    assert len(list(tmp_path.glob("new/*"))) <= 12
