"""zarr-python's own store test suite, over the adapter."""

import pytest

zarr = pytest.importorskip("zarr")

from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from zarr.core.buffer import Buffer, cpu  # noqa: E402
from zarr.testing.store import StoreTests  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402

pytestmark = pytest.mark.peer


class Suite(StoreTests[ZarrStore, cpu.Buffer]):
    """What differs between stores is only how one is made."""

    store_cls = ZarrStore
    buffer_cls = cpu.Buffer

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


class TestLocal(Suite):
    @pytest.fixture
    def store_kwargs(self, tmp_path: Any) -> dict[str, Any]:
        return {"store": str(tmp_path)}


class TestMemory(Suite):
    @pytest.fixture
    def store_kwargs(self) -> dict[str, Any]:
        return {"store": zarrdock.MemoryStore()}

    async def test_serializable_store(self, store: ZarrStore) -> None:
        """A copy of memory is another memory: equal to nothing, with the same content."""
        import pickle

        store.store.write("a", b"1")
        copy = pickle.loads(pickle.dumps(store))
        assert copy != store
        assert copy.store.get("a").data == b"1"


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


def test_one_request_for_a_missing_key_and_none_but_missing_is_none(tmp_path: Any) -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore())
    with pytest.raises(FileNotFoundError):
        zarr.open_array(ZarrStore(record), zarr_format=3, mode="r")
    assert record.n_requests == 1
