"""zarr-python's own store test suite, over the adapter, on every kind of store."""

import asyncio
import pickle
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest

zarr = pytest.importorskip("zarr")

import numpy as np  # noqa: E402
from zarr.abc.store import (  # noqa: E402
    OffsetByteRequest,
    RangeByteRequest,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype  # noqa: E402
from zarr.testing.store import StoreTests  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402
from zarrdock.stores.base import Read, Results  # noqa: E402

pytestmark = pytest.mark.peer

PROTOTYPE = default_buffer_prototype()


class Suite(StoreTests[ZarrStore, cpu.Buffer]):
    """What differs between stores is only how one is made."""

    store_cls = ZarrStore
    buffer_cls = cpu.Buffer
    kind: str

    @pytest.fixture
    def store_kwargs(self, place: Any) -> dict[str, Any]:
        kwargs: dict[str, Any] = place(self.kind)
        return kwargs

    async def set(self, store: ZarrStore, key: str, value: Buffer) -> None:
        store.store.write(key, value.to_bytes())

    async def get(self, store: ZarrStore, key: str) -> Buffer:
        blob = store.store.get(key)
        assert blob is not None
        return self.buffer_cls.from_bytes(bytes(blob.data))

    def test_store_repr(self, store: ZarrStore) -> None:
        assert repr(store) == f"ZarrStore({store.store!r})"
        assert str(store) == store.store.url

    def test_store_supports_writes(self, store: ZarrStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: ZarrStore) -> None:
        assert store.supports_listing

    # What the suite says nothing about.

    def test_without_an_event_loop(self, store: ZarrStore) -> None:
        value = self.buffer_cls.from_bytes(b"12345")
        store.set_sync("k", value)
        found = store.get_sync("k", prototype=PROTOTYPE, byte_range=RangeByteRequest(1, 3))
        assert found is not None
        assert found.to_bytes() == b"23"
        store.delete_sync("k")
        assert store.get_sync("k", prototype=PROTOTYPE) is None
        for name in ("SupportsGetSync", "SupportsSetSync", "SupportsDeleteSync"):
            protocol = getattr(zarr.abc.store, name, ZarrStore)  # from 3.1.6 on
            assert isinstance(store, protocol)

    async def test_ranges(self, store: ZarrStore) -> None:
        data = bytes(range(200))
        store.store.write("k", data)
        wanted: list[Any] = [
            RangeByteRequest(150, 160),
            None,
            RangeByteRequest(3, 9),
            SuffixByteRequest(4),
            RangeByteRequest(5, 20),
            OffsetByteRequest(190),
            RangeByteRequest(7, 7),
            RangeByteRequest(195, 300),
        ]
        expected = [data[150:160], data, data[3:9], data[-4:], data[5:20], data[190:], b"", data[195:]]
        batches = [batch async for batch in store.get_ranges("k", wanted, prototype=PROTOTYPE)]
        for found in (
            [item for batch in batches for item in batch],
            store.get_ranges_sync("k", wanted, prototype=PROTOTYPE),
        ):
            assert {i: buffer.to_bytes() for i, buffer in found if buffer is not None} == dict(enumerate(expected))
        assert [batch async for batch in store.get_ranges("k", [], prototype=PROTOTYPE)] == []

    async def test_ranges_of_nothing_are_what_zarr_python_takes_for_a_missing_shard(self, store: ZarrStore) -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            store.get_ranges_sync("no", [RangeByteRequest(0, 2)], prototype=PROTOTYPE)
        assert caught.group_contains(FileNotFoundError)
        with pytest.raises(BaseExceptionGroup) as caught:
            [_ async for _ in store.get_ranges("no", [RangeByteRequest(0, 2)], prototype=PROTOTYPE)]
        assert caught.group_contains(FileNotFoundError)

    async def test_one_of_many_creators_wins(self, store: ZarrStore) -> None:
        import asyncio

        values = [self.buffer_cls.from_bytes(b"%d" % i) for i in range(4)]
        await asyncio.gather(*(store.set_if_not_exists("k", value) for value in values))
        first = await self.get(store, "k")
        await store.set_if_not_exists("k", self.buffer_cls.from_bytes(b"late"))
        assert (await self.get(store, "k")).to_bytes() == first.to_bytes() in {v.to_bytes() for v in values}


class TestMemory(Suite):
    kind = "memory"

    async def test_serializable_store(self, store: ZarrStore) -> None:
        """A copy of memory is another memory: equal to nothing, with the same content."""
        store.store.write("a", b"1")
        copy = pickle.loads(pickle.dumps(store))
        assert copy != store
        assert copy.store.get("a").data == b"1"


class TestLocal(Suite):
    kind = "local"


class TestZip(Suite):
    kind = "zip"


@pytest.mark.server
class TestS3(Suite):
    kind = "s3"


@pytest.mark.server
class TestGCS(Suite):
    kind = "gcs"


@pytest.mark.server
class TestAzure(Suite):
    kind = "azure"


@pytest.mark.parametrize("shards", [None, (32, 32)])
def test_arrays_of_zarr_python(tmp_path: Any, shards: Any) -> None:
    """An array written by zarr-python through the adapter is the one zarrdock reads, and the other way round."""
    values = np.arange(64 * 48, dtype="f4").reshape(64, 48)
    store = ZarrStore(tmp_path / "a.zarr")
    array = zarr.create_array(store, shape=values.shape, dtype=values.dtype, chunks=(16, 16), shards=shards)
    array[...] = values
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "a.zarr")[...], values)
    ours = zarrdock.create_array(tmp_path / "b.zarr", data=values, chunks=(16, 16), shards=shards)
    theirs = zarr.open_array(ZarrStore(ours.store))
    np.testing.assert_array_equal(theirs[5:40, ::3], values[5:40, ::3])


def test_one_request_for_a_missing_key_and_none_but_missing_is_none() -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore())
    with pytest.raises(FileNotFoundError):
        zarr.open_array(ZarrStore(record), zarr_format=3, mode="r")
    assert record.n_requests == 1


def test_near_ranges_are_one_request() -> None:
    memory = zarrdock.MemoryStore()
    memory.write("k", bytes(100_000))
    record = zarrdock.RecordingStore(memory.with_costs(merge_gap_bytes=1000))
    wanted = [RangeByteRequest(0, 10), RangeByteRequest(900, 910), RangeByteRequest(50_000, 50_010)]
    ZarrStore(record).get_ranges_sync("k", wanted, prototype=PROTOTYPE)
    assert (record.n_rounds, record.n_requests) == (1, 2)


class Replaced(zarrdock.MemoryStore):
    """Answers each read of a batch from another version of the object."""

    def read(self, requests: Any, /) -> Results:
        found: Results = []
        for request in requests:
            found += super().read([Read(request.key, request.range)])
            self.write(request.key, bytes(100_000))
        return found


async def test_ranges_of_two_versions_are_no_answer() -> None:
    store = Replaced()
    store.write("k", bytes(range(100)) * 1000)
    wanted = [RangeByteRequest(0, 10), RangeByteRequest(90_000, 90_010)]
    with pytest.raises(zarrdock.errors.VersionChangedError, match="parts"):
        ZarrStore(store).get_ranges_sync("k", wanted, prototype=PROTOTYPE)
    with pytest.raises(zarrdock.errors.VersionChangedError, match="parts"):
        [_ async for _ in ZarrStore(store).get_ranges("k", wanted, prototype=PROTOTYPE)]


async def test_sizes_that_a_list_does_not_tell() -> None:
    values = UserDict({"a/b": b"123", "a/c": b"45", "d": b"6"})
    assert {entry.size for entry in zarrdock.open_store(values).list()} == {None}
    assert await ZarrStore(values).getsize_prefix("a") == 5


def test_a_copy_that_may_write_shares_the_store(tmp_path: Any) -> None:
    locked = ZarrStore(tmp_path, read_only=True)
    free = locked.with_read_only(False)
    assert (locked.read_only, free.read_only) == (True, False)
    assert free.store is locked.store
    with pytest.raises(zarrdock.errors.ReadOnlyError):
        zarrdock.open_store(tmp_path, read_only=True).write("a", b"1")
    # What was opened for reading only stays so: zarr-python can't open it for writing behind its owner's back.
    guarded = ZarrStore(zarrdock.open_store(tmp_path, read_only=True))
    assert guarded.with_read_only(False).read_only


def test_clearing_a_member_takes_it_out_of_the_copies_above(tmp_path: Path) -> None:
    root = zarrdock.create_group(tmp_path)
    for name in ("x", "y"):
        root.create_group(name).create_array("a", data=[1, 2])
    root.consolidate()
    store = ZarrStore(tmp_path / "x")
    asyncio.run(store.delete_dir("a"))
    assert sorted(zarrdock.open_group(tmp_path).metadata.consolidated or ()) == ["x", "y", "y/a"]
    asyncio.run(store.clear())
    assert asyncio.run(store.is_empty(""))
    assert sorted(zarrdock.open_group(tmp_path).metadata.consolidated or ()) == ["y", "y/a"]
