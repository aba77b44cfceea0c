"""Only on Windows, and where it is simulated: see test_windows.py."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import AccessError, InvalidKeyError, KeyExistsError
from zarrdock.ranges import Span
from zarrdock.storage import Patch
from zarrdock.stores import local_files, windows_files
from zarrdock.stores.base import Read
from zarrdock.stores.local import LocalStore

pytestmark = pytest.mark.skipif(not windows_files.IS_WINDOWS, reason="calls of Windows")


def _hold(path: Path) -> AbstractContextManager[object]:
    """Another program has the file open and does not share its deletion."""
    simulation = sys.modules.get("support.simulated_windows")
    return path.open("rb") if simulation is None else simulation.hold(str(path))  # type: ignore[no-any-return]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_files, "PATIENCE_SECONDS", 0.1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "folder")


@pytest.mark.parametrize("how", ["write", "update", "patch", "delete"])
@pytest.mark.usefixtures("impatient")
def test_a_file_that_another_program_holds_keeps_its_value(store: LocalStore, how: str) -> None:
    store.write("a/k", b"old")
    changes = {
        "write": lambda: store.write("a/k", b"new"),
        "update": lambda: store.update("a/k", lambda _: b"new"),
        "patch": lambda: store.patch("a/k", lambda _: Patch(3, [(0, b"new")])),
        "delete": lambda: store.delete("a/k"),
    }
    with _hold(Path(store.root, "a", "k")):
        with pytest.raises(AccessError, match=r"a/k.*another program may hold the file open"):
            changes[how]()
        blob = store.get("a/k")
        assert blob is not None
        assert blob.data == b"old"
    changes[how]()
    blob = store.get("a/k")
    assert (None if blob is None else blob.data) == (None if how == "delete" else b"new")
    assert [entry.key for entry in store.list()] == ([] if how == "delete" else ["a/k"])
    assert not [*store.stale_files()]


def test_a_file_held_for_a_moment_is_replaced(store: LocalStore) -> None:
    store.write("k", b"old")
    held = _hold(Path(store.root, "k"))
    held.__enter__()
    timer = threading.Timer(0.2, lambda: held.__exit__(None, None, None))
    timer.start()
    store.write("k", b"new")
    timer.join()
    blob = store.get("k")
    assert blob is not None
    assert blob.data == b"new"


def test_a_version_does_not_hold_up_writers(store: LocalStore) -> None:
    store.write("k", b"old")
    blob = store.get("k")
    assert blob is not None
    store.write("k", b"new")
    (answer,) = store.read([Read("k", Span(0, 3), blob.version)])
    assert isinstance(answer, zarrdock.errors.VersionChangedError)


@pytest.mark.skipif("support.simulated_windows" not in sys.modules, reason="what a real file system does is not chosen")
def test_a_file_system_without_posix_renames(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_files._kernel, "has_posix_rename", False)
    store.write("k", b"1")
    store.write("k", b"2")
    with pytest.raises(KeyExistsError):
        store.write("k", b"3", create_only=True)
    store.write("other", b"4", create_only=True)
    assert [(entry.key, entry.size) for entry in sorted(store.list(), key=lambda entry: entry.key)] == [
        ("k", 1),
        ("other", 1),
    ]


@pytest.mark.parametrize(
    "key",
    [
        *'aux a/NUL.txt com1/zarr.json lpt9.gz a:b a/k:stream a? a* a" a<b a|b a. a/COM² conin$'.split(),
        "a /k",
        "a\tb",
    ],
)
def test_keys_that_windows_has_no_file_for_are_refused(store: LocalStore, key: str) -> None:
    for action in (
        lambda: store.write(key, b"1"),
        lambda: store.get(key),
        lambda: store.update(key, lambda _: b"1"),
        lambda: store.delete(key),
        lambda: store.size(key),
        lambda: store.delete_prefix(key),
    ):
        with pytest.raises(InvalidKeyError, match="Windows") as caught:
            action()
        assert caught.value.key == key
    assert not Path(store.root).exists()


@pytest.mark.parametrize(
    "key", ["auxiliary", "a.aux", "com", "com10", "lpt", "console/k", ".zarray", "c/0/1", "naïve", "a b"]
)
def test_names_that_only_look_like_those_of_devices(store: LocalStore, key: str) -> None:
    store.write(key, b"1")
    assert [entry.key for entry in store.list()] == [key]


def test_a_path_that_is_too_long_is_refused_not_missing(store: LocalStore) -> None:
    if windows_files._long_paths():
        pytest.skip("long paths are enabled here")
    key = "/".join(["x" * 60] * 5)
    for action in (lambda: store.write(key, b"1"), lambda: store.get(key)):
        with pytest.raises(InvalidKeyError, match="LongPathsEnabled"):
            action()


def test_threads_share_a_descriptor(store: LocalStore) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    store.write("k", data)
    fd = local_files.open_file(f"{store.root}/k", os.O_RDONLY)
    try:
        with ThreadPoolExecutor(8) as pool:
            starts = [*range(0, 100_000, 97)]
            found = pool.map(lambda start: bytes(local_files.pread_all(fd, start, start + 97)), starts)
            assert [*found] == [data[start : start + 97] for start in starts]
        assert local_files.pread(fd, 10, 200_000) == b""
    finally:
        os.close(fd)


def _count(root: str) -> None:
    for _ in range(25):
        LocalStore(root).update("n", lambda old: str(int(old or b"0") + 1).encode())


def test_processes_and_threads_lose_no_update(store: LocalStore) -> None:
    with ProcessPoolExecutor(2) as processes, ThreadPoolExecutor(3) as threads:
        for work in [
            processes.submit(_count, store.root),
            processes.submit(_count, store.root),
            *[threads.submit(_count, store.root) for _ in range(3)],
        ]:
            work.result(60)
    blob = store.get("n")
    assert blob is not None
    assert blob.data == b"125"


def test_an_archive_is_written_read_and_packed(tmp_path: Path) -> None:
    path = str(tmp_path / "a.zarr.zip")
    data = np.arange(100).reshape(10, 10)
    array = zarrdock.create_array(path, data=data, chunks=(3, 3))
    array[2:5] = 7
    array.append(np.ones((3, 10), int))
    data[2:5] = 7
    store = zarrdock.ZipStore(path)
    store.compact()
    np.testing.assert_array_equal(zarrdock.open_array(path)[:10], data)


def test_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        done = subprocess.run(
            [sys.executable, "-m", "zarrdock", *arguments],
            capture_output=True,
            env=environment,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode("cp1252")

    source = str(tmp_path / "naïve-雪")
    zarrdock.create_array(source, data=np.arange(10), chunks=(3,))
    run("copy", source, str(tmp_path / "b.zarr"))
    assert "int64" in run("info", str(tmp_path / "b.zarr"))
    run("check", str(tmp_path / "b.zarr"))
    run("tree", source)
