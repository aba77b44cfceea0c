"""Stores of zarr-python's interface as stores of zarrdock: the contract, and what each kind promises."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_own_stores import own_store  # noqa: E402
from zarrdock.adapters.zarr_python import ForeignStore, ZarrStore  # noqa: E402
from zarrdock.errors import RangeError, ReadOnlyError, StoreError, UnsupportedError  # noqa: E402
from zarrdock.ranges import From, Span, Tail  # noqa: E402
from zarrdock.stores.base import Listing, Read, Store  # noqa: E402
from zarrdock.testing.contract import AsyncStoreContract, StoreContract  # noqa: E402

pytestmark = pytest.mark.peer


class TestMemory(StoreContract):
    n_updates = 10

    def make_store(self) -> Store:
        return ForeignStore(MemoryStore())


class TestMemoryAwaited(AsyncStoreContract):
    n_updates = 10

    def make_store(self) -> Store:
        return ForeignStore(MemoryStore())


class TestLocal(StoreContract):
    n_keys = 60

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder, self.n = tmp_path, 0

    def make_store(self) -> Store:
        self.n += 1
        return ForeignStore(WrapperStore(LocalStore(self.folder / str(self.n))))

    def test_prefixes_go_with_their_keys(self) -> None:
        """Listings know no empty prefixes; but zarr-python leaves empty folders, in whose place no key can be."""
        store = self.filled({"a/b/c": b"1", "a/d": b"2"})
        store.delete("a/b/c")
        assert store.list_dir("a") == Listing(("d",))
        store.delete("a/d")
        assert store.list_dir() == Listing()


class TestOwnMemory(StoreContract):
    """zarrdock's own store over zarr-python's dictionary."""

    n_updates = 10

    def make_store(self) -> Store:
        return own_store(MemoryStore())


# -- what each kind promises ---------------------------------------------------------------------


def test_a_wrapper_promises_little() -> None:
    inner = MemoryStore()
    store = zarrdock.open_store(WrapperStore(inner))
    assert isinstance(store, ForeignStore)
    traits = store.traits
    assert (traits.writable, traits.listable, traits.atomic_update, traits.conditional_read) == (
        True,
        True,
        False,
        False,
    )
    with pytest.raises(UnsupportedError, match="no atomic updates"):
        store.update("a", lambda _: b"1")
    array = zarrdock.create_array(store, name="a", data=np.arange(100).reshape(10, 10), chunks=(5, 5))
    np.testing.assert_array_equal(array[2:7, 3:9], np.arange(100).reshape(10, 10)[2:7, 3:9])
    np.testing.assert_array_equal(zarr.open_array(inner, path="a")[...], array[...])
    with pytest.raises(UnsupportedError):
        array[0, 0] = 5
    copy = pickle.loads(pickle.dumps(store))
    assert bytes(copy.get("a/c/0/0").data) == bytes(store.get("a/c/0/0").data)


def test_stores_that_mean_a_place_are_zarrdocks_own(tmp_path: Path) -> None:
    assert isinstance(zarrdock.open_store(LocalStore(tmp_path / "a")), zarrdock.LocalStore)
    assert zarrdock.open_store(ZarrStore(tmp_path / "a")).url == zarrdock.open_store(tmp_path / "a").url
    below = zarrdock.open_store(StorePath(LocalStore(tmp_path / "a"), "b/c"))
    below.write("key", b"1")
    assert (tmp_path / "a/b/c/key").read_bytes() == b"1"
    assert zarrdock.open_store(LocalStore(tmp_path / "a", read_only=True)).read_only
    assert zarrdock.open_store(MemoryStore(), read_only=True).read_only
    with pytest.raises(ReadOnlyError):
        zarrdock.create_group(LocalStore(tmp_path / "a", read_only=True))


def test_copies_go_from_and_to_stores_of_zarr_python(tmp_path: Path) -> None:
    source = MemoryStore()
    zarr.open_group(source).create_array("x/y", data=np.arange(6), chunks=(4,))
    zarrdock.copy(WrapperStore(source), LocalStore(tmp_path / "b"))
    zarrdock.copy(LocalStore(tmp_path / "b"), WrapperStore(target := MemoryStore()))
    assert zarr.open_group(target)["x/y"][:].tolist() == list(range(6))
    assert ".zarrdock-copy.json" not in target._store_dict


class Careless(WrapperStore):  # type: ignore[misc]
    """Answers as some stores do: with everything, with too little, with nothing of what it can."""

    answer: Any = None

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        found = await self._store.get(key, prototype, None if self.answer == "all" else byte_range)
        return found[: len(found) // 2] if self.answer == "half" and byte_range is not None else found

    async def exists(self, key: str) -> bool:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> Any:
        raise NotImplementedError


def test_answers_are_held_to_what_was_asked() -> None:
    inner = MemoryStore()
    store = ForeignStore(careless := Careless(inner))
    store.write("a/b", bytes(range(100)))
    store.write("c", b"")
    ranges = [Span(5, 15), Span(95, 200), From(90), Tail(7), Tail(700)]
    for careless.answer in (None, "all"):
        found = [bytes(blob.data) for blob in store.read([Read("a/b", r) for r in ranges])]
        assert found == [bytes(range(*span)) for span in ((5, 15), (95, 100), (90, 100), (93, 100), (0, 100))]
        for beyond in (Span(100, 101), From(100), From(7000)):
            with pytest.raises(RangeError):
                store.read([Read("a/b", beyond)])
        assert bytes(store.get("c", Tail(3)).data) == b""
    careless.answer = "half"
    for short in (Span(5, 15), Tail(8)):
        with pytest.raises(StoreError, match="expected"):
            store.read([Read("a/b", short)])
    assert sorted(entry.key for entry in store.list()) == ["a/b", "c"]
    assert store.list_dir() == Listing(("c",), ("a",))
    assert (store.size("a/b"), store.size("none")) == (100, None)


def test_reads_of_a_batch_are_sent_together() -> None:
    class Slow(WrapperStore):  # type: ignore[misc]
        most = now = 0

        async def get(self, *arguments: Any, **more: Any) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return await self._store.get(*arguments, **more)

    slow = Slow(MemoryStore())
    store = ForeignStore(slow)
    assert store.read([Read(f"k{i}") for i in range(30)]) == [None] * 30
    assert 5 < slow.most <= store.traits.n_concurrent
    store.write("k3", b"3")
    futures = store.submit_read([[Read("k3")], [Read("k4"), Read("k3")]])
    assert futures is not None
    found = [[blob and bytes(blob.data) for blob in future.result(20)] for future in futures]  # type: ignore[union-attr]
    assert found == [[b"3"], [None, b"3"]]


async def test_it_is_usable_within_another_event_loop() -> None:
    store = ForeignStore(MemoryStore())
    store.write("a", b"1")
    assert await zarrdock.AsyncStore(store).size("a") == 1


def test_what_is_no_store() -> None:
    with pytest.raises(UnsupportedError, match="no store of zarr-python"):
        ForeignStore(object())


def test_references_of_virtualizarr_are_read(tmp_path: Path) -> None:
    virtual = pytest.importorskip("virtualizarr")
    h5py = pytest.importorskip("h5py")
    registries = pytest.importorskip("obspec_utils.registry")
    local = pytest.importorskip("obstore.store").LocalStore
    values = np.arange(600, dtype="f4").reshape(20, 30)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/v", data=values, chunks=(10, 10))
    url = f"file://{tmp_path}/a.h5"
    manifests = virtual.parsers.HDFParser(group="g")(url, registries.ObjectStoreRegistry({"file://": local()}))
    store = zarrdock.open_store(manifests)
    assert isinstance(store, ForeignStore)
    assert not store.traits.writable
    assert not store.traits.conditional_read
    np.testing.assert_array_equal(zarrdock.open_group(store)["v"][3:17, 5:25], values[3:17, 5:25])
    zarrdock.copy(manifests, target := zarrdock.MemoryStore())
    np.testing.assert_array_equal(zarrdock.open_array(target, path="v")[...], values)
    with pytest.raises(ReadOnlyError):
        zarrdock.create_group(manifests, path="new")


def test_zarr_pythons_cache_is_read_through() -> None:
    caches = pytest.importorskip("zarr.experimental.cache_store")
    inner = MemoryStore()
    zarr.create_array(inner, name="a", data=np.arange(100).reshape(10, 10), chunks=(4, 4), shards=(8, 8))
    cache = MemoryStore()
    array = zarrdock.open_array(caches.CacheStore(inner, cache_store=cache), path="a")
    for _ in range(2):
        np.testing.assert_array_equal(array[2:9, 3:7], np.arange(100).reshape(10, 10)[2:9, 3:7])
    assert not ForeignStore(caches.CacheStore(inner, cache_store=cache)).traits.atomic_update
