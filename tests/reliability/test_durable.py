"""What survives the loss of power, by the order of system calls; and what is promised of it."""

import os
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import StoreError
from zarrdock.stores.local import LocalStore
from zarrdock.stores.zip_ import ZipStore

CALLS = ("write", "writev", "pwrite", "pwritev", "fsync", "fdatasync", "rename", "link", "unlink")
STORES = {
    "local": lambda folder: LocalStore(folder / "store", durable=True),
    "zip": lambda folder: ZipStore(folder / "store.zip", durable=True),
}


class Disk:
    """What is on the disk for certain: bytes and names that were synced since they changed."""

    def __init__(self, monkeypatch) -> None:
        self.log: list[tuple[str, str]] = []
        self.unsynced: dict[str, str] = {}  # a file or folder -> what changed in it
        for name in CALLS:
            monkeypatch.setattr(os, name, self._logged(name, getattr(os, name)))

    def _logged(self, name, real):
        def call(*args, **kwargs):
            if name in ("fsync", "fdatasync"):
                path = str(Path(f"/proc/self/fd/{args[0]}").readlink())
                self.unsynced.pop(path, None)
                self.log.append((name, path))
            elif name in ("rename", "link"):
                # A name that leads to bytes that are not on the disk leads to nothing after the power was lost.
                assert os.path.realpath(args[0]) not in self.unsynced, "a name for bytes that are not synced"
                self.unsynced[os.path.realpath(Path(args[1]).parent)] = f"{name} {args[1]}"
                self.log.append((name, os.fspath(args[1])))
            elif name == "unlink":
                self.log.append((name, os.fspath(args[0])))
            else:
                path = str(Path(f"/proc/self/fd/{args[0]}").readlink())
                self.unsynced[path] = name
                self.log.append((name, path))
            return real(*args, **kwargs)

        return call

    def check(self) -> None:
        """Everything that was written is on the disk."""
        assert {p: w for p, w in self.unsynced.items() if not p.endswith((" (deleted)", ".__lock"))} == {}


@pytest.mark.parametrize("name", STORES)
def test_all_is_on_the_disk_when_a_write_returns(name, tmp_path, monkeypatch) -> None:
    with STORES[name](tmp_path) as store:
        disk = Disk(monkeypatch)
        array = zarrdock.create_array(store, name="g/a", data=np.arange(100), chunks=10, shards=50)
        disk.check()
        n = len(disk.log)
        for change in (
            lambda: array.write(slice(0, 50), 1),
            lambda: array.write(slice(3, 8), 2),
            lambda: array.append([1, 2, 3]),
            lambda: array.attrs.update(a=1),
            lambda: array.resize(40),
        ):
            change()
            disk.check()
            assert "fsync" in {call for call, _ in disk.log[n:]} or "fdatasync" in {call for call, _ in disk.log[n:]}
            n = len(disk.log)


def test_the_order_of_a_write(tmp_path, monkeypatch) -> None:
    array = zarrdock.create_array(LocalStore(tmp_path, durable=True), shape=8, dtype="i4", chunks=4, shards=8)
    array[:] = 1
    disk = Disk(monkeypatch)
    array[2:5] = 7
    folder = tmp_path / "c"
    assert [(call, Path(path)) for call, path in disk.log] == [
        ("writev", folder / "0.__lock"),
        ("fsync", folder / "0.__lock"),
        ("rename", folder / "0"),
        ("fsync", folder),
    ]


def test_nothing_is_synced_where_it_was_not_asked_for(tmp_path, monkeypatch) -> None:
    disk = Disk.__new__(Disk)
    disk.log, disk.unsynced = [], {}
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, disk._logged(name, getattr(os, name)))
    zarrdock.create_array(LocalStore(tmp_path / "a"), data=np.arange(9))
    assert disk.log == []


def test_a_full_disk_of_its_own(tmp_path) -> None:
    """A limit on the size of files stands for a quota: the kernel itself refuses half way through."""
    import resource

    from support.storms.syscalls import forked

    store = LocalStore(tmp_path)
    array = zarrdock.create_array(store, name="whole", data=np.arange(1000), chunks=1000, compressors=None)
    edge = zarrdock.create_array(store, name="edge", data=np.arange(100), chunks=3000, compressors=None)
    random = np.random.default_rng(0).integers(0, 2**60, 3000)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        array[:] = np.arange(1000) * 2  # as long as before
        big = zarrdock.create_array(store, name="big", shape=3000, dtype="i8", chunks=3000, compressors=None)
        for fail in (
            lambda: big.write(..., random),
            lambda: big.write(slice(5, 2000), 7),
            lambda: edge.append(random),
            lambda: edge.write(5, -1),
        ):
            with pytest.raises(StoreError):
                fail()
            assert [entry.key for entry in store.list("big/c")] == []

    assert os.waitpid(forked(work), 0)[1] == 0
    np.testing.assert_array_equal(zarrdock.open_array(store, path="whole")[:], np.arange(1000) * 2)
    np.testing.assert_array_equal(zarrdock.open_array(store, path="edge")[:], np.arange(100))
