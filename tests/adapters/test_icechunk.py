"""Icechunk's sessions as stores: copies into them, what they promise, commits and conflicts."""

import os
import pickle
import signal
import threading
from typing import Any

import numpy as np
import pytest

icechunk = pytest.importorskip("icechunk")
zarr = pytest.importorskip("zarr")

import zarrdock  # noqa: E402
from zarrdock.adapters.zarr_python import ForeignStore, why  # noqa: E402
from zarrdock.checking import check  # noqa: E402
from zarrdock.errors import (  # noqa: E402
    ConflictError,
    InvalidKeyError,
    RangeError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import From, Span, Tail  # noqa: E402
from zarrdock.stores.base import Read  # noqa: E402

pytestmark = pytest.mark.peer

VALUES = np.arange(64 * 48, dtype="f4").reshape(64, 48)


@pytest.fixture
def repository() -> Any:
    return icechunk.Repository.create(icechunk.in_memory_storage())


@pytest.fixture
def source() -> zarrdock.MemoryStore:
    store = zarrdock.MemoryStore()
    group = zarrdock.create_group(store, attributes={"title": "a test"})
    group.create_array("x/plain", data=VALUES, chunks=(16, 16))
    group.create_array("x/sharded", data=VALUES, chunks=(8, 8), shards=(32, 16))
    group.create_array("x/partly", shape=(100, 100), chunks=(10, 10), dtype="u1")[:10, :10] = 1
    group.create_array("scalar", data=np.float64(3.5))
    return store


def filled(repository: Any, source: zarrdock.MemoryStore) -> Any:
    session = repository.writable_session("main")
    zarrdock.copy(source, session)
    ForeignStore(session).commit("filled")
    return repository.readonly_session("main")


def test_a_copy_into_a_session_is_read_by_both(repository: Any, source: zarrdock.MemoryStore) -> None:
    session = repository.writable_session("main")
    zarrdock.copy(source, session.store)
    np.testing.assert_array_equal(zarrdock.open_array(session, path="x/sharded")[3:40, 5:9], VALUES[3:40, 5:9])
    store = zarrdock.open_store(session)
    assert isinstance(store, ForeignStore)
    snapshot = store.commit("copied", metadata={"by": "a test"})
    assert snapshot == repository.readonly_session("main").snapshot_id
    committed = repository.readonly_session("main")
    theirs = zarr.open_group(committed.store, mode="r")
    ours = zarrdock.open_group(committed)
    for group in (theirs, ours):
        np.testing.assert_array_equal(group["x/plain"][...], VALUES)
        np.testing.assert_array_equal(group["x/sharded"][...], VALUES)
        np.testing.assert_array_equal(group["x/partly"][5:15, 5:15], np.pad(np.ones((5, 5)), (0, 5)))
        assert group["scalar"][()] == 3.5
        assert dict(group.attrs) == {"title": "a test"}
    assert sorted(ours) == ["scalar", "x"]
    assert not check(committed).problems
    assert zarr.open_array(committed.store, path="x/partly", mode="r").nchunks_initialized == 1


def test_a_copy_out_of_a_session(repository: Any, source: zarrdock.MemoryStore, tmp_path: Any) -> None:
    zarrdock.copy(filled(repository, source), tmp_path / "a.zarr", chunks=(32, 32), shards=None)
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "a.zarr", path="x/sharded")[...], VALUES)


def test_what_a_session_promises(repository: Any, source: zarrdock.MemoryStore) -> None:
    traits = zarrdock.open_store(repository.writable_session("main")).traits
    assert (traits.writable, traits.listable, traits.atomic_update, traits.conditional_read, traits.any_key) == (
        (True, True, True, False, False)
    )
    session = filled(repository, source)
    store = zarrdock.open_store(session)
    assert (store.traits.writable, store.traits.conditional_read) == (False, True)
    blob = store.get("zarr.json")
    assert blob is not None
    assert blob.version == session.snapshot_id
    later = repository.writable_session("main")
    zarrdock.open_group(later, "r+").attrs["title"] = "another"
    ForeignStore(later).commit("later")
    (changed,) = zarrdock.open_store(repository.readonly_session("main")).read([Read("zarr.json", None, blob.version)])
    assert isinstance(changed, VersionChangedError)
    # The session shows what it showed.
    again = store.get("zarr.json", version=blob.version)
    assert again is not None
    assert bytes(again.data) == bytes(blob.data)


def test_indexes_of_shards_are_kept_where_nothing_changes(repository: Any, source: zarrdock.MemoryStore) -> None:
    record = zarrdock.RecordingStore(zarrdock.open_store(filled(repository, source)))
    array = zarrdock.open_array(record, path="x/sharded")
    np.testing.assert_array_equal(array[3:9, 5:9], VALUES[3:9, 5:9])
    record.reset()
    np.testing.assert_array_equal(array[9:16, 5:9], VALUES[9:16, 5:9])
    assert record.n_rounds == 1


def test_a_session_is_written_to_as_any_store(repository: Any) -> None:
    session = repository.writable_session("main")
    group = zarrdock.create_group(session)
    array = group.create_array("a", data=VALUES, chunks=(8, 8), shards=(32, 16))
    array[3, 4] = -1
    array.append(VALUES[:5])
    array.resize((60, 48))
    array.attrs["units"] = "K"
    group.create_array("gone", data=VALUES)
    del group["gone"]
    group.consolidate()
    expected = VALUES[:60].copy()
    expected[3, 4] = -1
    ForeignStore(session).commit("written")
    found = zarr.open_array(repository.readonly_session("main").store, path="a", mode="r")
    np.testing.assert_array_equal(found[...], expected)
    assert found.attrs["units"] == "K"
    with pytest.raises(ReadOnlyError, match="session"):
        array[0, 0] = 1


def test_eight_writers_of_one_shard_in_a_session(repository: Any) -> None:
    session = repository.writable_session("main")
    zarrdock.create_array(session, name="a", shape=(64, 8), chunks=(8, 8), shards=(64, 8), dtype="i4")
    # Each through a store of its own: Icechunk hands out another object each time.
    arrays = [zarrdock.open_array(session.store, "r+", path="a") for _ in range(8)]
    threads = [
        threading.Thread(target=array.__setitem__, args=(slice(i * 8, i * 8 + 8), i + 1))
        for i, array in enumerate(arrays)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.count_nonzero(zarrdock.open_array(session, path="a")[:, 0]) == 64


def test_a_conflict_is_ours_and_nothing_is_lost(repository: Any, source: zarrdock.MemoryStore) -> None:
    filled(repository, source)
    first, second = repository.writable_session("main"), repository.writable_session("main")
    zarrdock.open_array(first, "r+", path="x/plain")[0, 0] = 100
    zarrdock.open_array(second, "r+", path="x/plain")[0, 1] = 200
    one, two = zarrdock.open_store(first), zarrdock.open_store(second)
    assert isinstance(one, ForeignStore)
    assert isinstance(two, ForeignStore)
    one.commit("one")
    with pytest.raises(ConflictError, match="others committed changes"):
        two.commit("two")
    with pytest.raises(ConflictError, match="x/plain"):
        two.commit("two", rebase_with=icechunk.ConflictDetector())
    assert second.has_uncommitted_changes
    assert zarrdock.open_array(second, path="x/plain")[0, 1] == 200
    found = zarrdock.open_array(repository.readonly_session("main"), path="x/plain")
    assert (found[0, 0], found[0, 1]) == (100, 1)


def test_changes_of_other_chunks_are_rebased(repository: Any, source: zarrdock.MemoryStore) -> None:
    filled(repository, source)
    first, second = repository.writable_session("main"), repository.writable_session("main")
    zarrdock.open_array(first, "r+", path="x/plain")[0, 0] = 100
    zarrdock.open_array(second, "r+", path="x/plain")[60, 40] = 200
    for session, message in ((first, "one"), (second, "two")):
        store = zarrdock.open_store(session)
        assert isinstance(store, ForeignStore)
        store.commit(message, rebase_with=icechunk.ConflictDetector())
    found = zarrdock.open_array(repository.readonly_session("main"), path="x/plain")
    assert (found[0, 0], found[60, 40]) == (100, 200)


def test_overwriting_and_its_own_source(repository: Any, source: zarrdock.MemoryStore) -> None:
    filled(repository, source)
    session = repository.writable_session("main")
    with pytest.raises(zarrdock.errors.NodeExistsError):
        zarrdock.copy(source, session)
    with pytest.raises(UnsupportedError, match="overlap"):
        zarrdock.copy(session, session.store, src_path="x", dst_path="x", overwrite=True)
    zarrdock.copy(source, session, src_path="x/plain", dst_path="x", overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(session, path="x")[...], VALUES)
    # A snapshot does not change with the session.
    zarrdock.copy(repository.readonly_session("main"), session, src_path="x", dst_path="x", overwrite=True)
    np.testing.assert_array_equal(zarrdock.open_array(session, path="x/plain")[...], VALUES)


def test_keys_and_ranges_that_icechunk_does_not_take(repository: Any, source: zarrdock.MemoryStore) -> None:
    session = repository.writable_session("main")
    zarrdock.copy(source, session)
    store = zarrdock.open_store(session)
    assert store.read([Read("a/file.txt"), Read(".zgroup"), Read("x"), Read("x/plain/c/9/9")]) == [None] * 4
    assert [*store.sizes(["a/file.txt", "x/plain/c/9/9", "x/plain/zarr.json"])][:2] == [None, None]
    assert store.size("zarr.json") == len(store.get("zarr.json").data)  # type: ignore[union-attr]
    store.delete("a/file.txt")
    store.delete("x/plain/c/9/9")
    with pytest.raises(InvalidKeyError):
        store.write("a/file.txt", b"")
    with pytest.raises(UnsupportedError, match="zarr_format=3"):
        zarrdock.create_group(session, path="v2", zarr_format=2)
    key = "x/plain/c/0/0"
    whole = bytes(store.get(key).data)  # type: ignore[union-attr]
    wanted = [Span(3, 9), Span(3, 10**6), From(5), Tail(4), Tail(10**6)]
    found = [bytes(blob.data) for blob in store.read([Read(key, r) for r in wanted])]  # type: ignore[union-attr]
    assert found == [whole[3:9], whole[3:], whole[5:], whole[-4:], whole]
    for beyond in (From(len(whole)), From(3000), Span(len(whole), 10**6)):
        with pytest.raises(RangeError):
            store.get(key, beyond)
    assert {entry.key for entry in store.list("x/plain/c/1")} == {f"x/plain/c/1/{i}" for i in range(3)}
    store.delete_prefix("x/plain/c/1")
    assert not list(store.list("x/plain/c/1"))
    assert store.exists("x/plain/zarr.json")


def test_snapshots_pickle_and_sessions_that_write_do_not(source: zarrdock.MemoryStore, tmp_path: Any) -> None:
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    store = zarrdock.open_store(filled(repository, source))
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(zarrdock.open_array(copy, path="x/plain")[...], VALUES)
    with pytest.raises(ValueError, match="fork"):
        pickle.dumps(zarrdock.open_store(repository.writable_session("main")))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_an_error_instead_of_waiting_for_ever(
    repository: Any, source: zarrdock.MemoryStore
) -> None:
    store = zarrdock.open_store(filled(repository, source))
    assert store.exists("zarr.json")
    pid = os.fork()
    if pid == 0:  # in the child: nothing of the test runner's may run
        try:
            signal.alarm(20)
            store.get("zarr.json")
        except StoreError as error:
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


class Sessional(zarr.storage.WrapperStore):  # type: ignore[misc]
    """A store with a session that is none of Icechunk's."""

    session = object()


def test_other_sessions_are_none() -> None:
    assert ForeignStore(Sessional(zarr.storage.MemoryStore())).traits.any_key


def test_only_sessions_are_committed() -> None:
    with pytest.raises(UnsupportedError, match="commit"):
        ForeignStore(zarr.storage.MemoryStore()).commit("nothing")


def test_zarr_pythons_arrays_in_sessions_are_left_to_it(repository: Any) -> None:
    with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
        array = zarr.create_array(repository.writable_session("main").store, shape=(4,), dtype="i4")
        array[:] = 5
        assert "IcechunkStore" in why(array)
        assert array[:].tolist() == [5] * 4


def test_files_that_are_no_zarr_are_named(repository: Any, source: zarrdock.MemoryStore) -> None:
    source.write("x/notes.txt", b"of a hierarchy")
    source.write("x/plain/table.parquet", b"of an array")
    session = repository.writable_session("main")
    with pytest.warns(UserWarning, match="not copied") as warned:
        zarrdock.copy(source, session)
    assert all(name in str(warned[0].message) for name in ("x/notes.txt", "x/plain/table.parquet"))
    np.testing.assert_array_equal(zarrdock.open_array(session, path="x/plain")[...], VALUES)


def test_xarray_reads_a_session(repository: Any) -> None:
    xr = pytest.importorskip("xarray")
    from zarrdock.adapters.xarray import XarrayBackend

    session = repository.writable_session("main")
    dataset = xr.Dataset({"v": (("y", "x"), VALUES)}, coords={"x": np.arange(48) * 0.5})
    dataset.to_zarr(session.store, zarr_format=3, consolidated=False)
    ForeignStore(session).commit("a dataset")
    committed = repository.readonly_session("main")
    for place in (committed, committed.store):
        xr.testing.assert_identical(xr.open_dataset(place, engine=XarrayBackend).load(), dataset)
    assert list(xr.open_datatree(committed.store, engine=XarrayBackend).data_vars) == ["v"]


def test_dask_writes_into_a_session(repository: Any) -> None:
    dask, da = pytest.importorskip("dask"), pytest.importorskip("dask.array")
    session = repository.writable_session("main")
    blocks = da.from_array(VALUES, chunks=(20, 20))  # not those of the shards
    with dask.config.set(scheduler="threads"):
        zarrdock.from_dask(blocks, session, path="d", chunks=(8, 8), shards=(32, 32))
    np.testing.assert_array_equal(zarrdock.open_array(session, path="d")[...], VALUES)
