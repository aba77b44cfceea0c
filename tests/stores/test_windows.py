"""Windows: names and paths, which are looked at everywhere, and whole suites where the system is imitated."""

import ntpath
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from zarrdock.errors import InvalidKeyError
from zarrdock.stores import local, local_files
from zarrdock.stores.local import LocalStore


@pytest.fixture
def environment(repository: Path) -> dict[str, str]:
    """Of processes on simulated Windows."""
    if sys.platform != "linux":
        pytest.skip("the simulation is made of Linux's file locks")
    here = repository / "tests"
    paths = [str(here / "support" / "windows_site"), str(here), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _run(repository: Path, environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=repository / "tests",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


_PYTEST = (
    "-m",
    "pytest",
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-p",
    "no:rerunfailures",
    "-c",
    "../pyproject.toml",
)


@pytest.mark.parametrize(
    "suite",
    [
        ["stores/test_windows_files.py"],
        ["stores/test_contract_local.py", "-k", "TestLocalStore and not Many"],
        ["stores/test_zip_contract.py", "-k", "TestLocalZip and not Async"],
        ["test_api.py"],
    ],
    ids=["files", "local", "zip", "api"],
)
def test_suites_pass_where_windows_is_simulated(
    repository: Path, environment: dict[str, str], suite: list[str]
) -> None:
    _run(repository, environment, *_PYTEST, *suite)


def test_every_module_is_imported_without_posix(repository: Path, environment: dict[str, str]) -> None:
    code = """
import importlib, pkgutil, zarrdock
import zarrdock.stores.local as local
assert local.IS_WINDOWS and not hasattr(local.os, "pread") and not hasattr(local.os, "fork")
n = 0
for module in pkgutil.walk_packages(zarrdock.__path__, "zarrdock."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        n += 1
assert n > 100, n
"""
    _run(repository, environment, "-c", code)


def test_the_demo_runs_where_windows_is_simulated(repository: Path, environment: dict[str, str]) -> None:
    _run(repository, environment, "-m", "zarrdock", "demo")


def test_serve_without_handlers_of_signals(repository: Path, environment: dict[str, str], tmp_path: Path) -> None:
    LocalStore(tmp_path).write("k", b"value")
    command = [sys.executable, "-m", "zarrdock", "serve", str(tmp_path), "--quiet"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}k", timeout=30) as answer:
            assert answer.read() == b"value"
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 130
    assert errors.split() == ["interrupted"]


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (r"C:\data\a.zarr", "file:///C:/data/a.zarr"),
        ("C:/data", "file:///C:/data"),
        (r"\\server\share\a", "file:////server/share/a"),
        ("/data", "file:///data"),
    ],
)
def test_urls_of_drives_and_shares(path: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files.os, "sep", "\\")
    assert local_files.url_of_path(local_files.slashes(path)) == url


@pytest.mark.parametrize("path", [r"C:\data\a.zarr", "C:/data", r"\\server\share\a.zarr", "//server/share/a.zarr"])
def test_drives_and_shares_are_paths_and_no_urls(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files.os, "path", ntpath)
    monkeypatch.setattr(local_files.os, "sep", "\\")
    assert local_files.local_path(path) == path.replace("\\", "/")


# -- names that differ by case -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
@pytest.mark.parametrize("key", ["group", "group/x"])
def test_a_name_that_the_file_system_takes_for_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    store = LocalStore(tmp_path)
    store.write("Group/zarr.json", b"1")
    # The file system answers for "group" as for "Group", and lists the latter only.
    (tmp_path / "group").symlink_to("Group")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [name for name in listed(folder) if name != "group"])
    monkeypatch.setattr(
        local, "other_spelling", lambda *given: local_files.other_spelling(*given, may_be_insensitive=True)
    )
    changes = {
        "write": lambda: store.write(key, b"2"),
        "update": lambda: store.update(key, lambda _: b"2"),
        "delete": lambda: store.delete(key),
        "delete_prefix": lambda: store.delete_prefix(key),
    }
    for change in changes.values():
        with pytest.raises(InvalidKeyError, match="'Group'") as caught:
            change()
        assert caught.value.key == key
    store.write("Group/zarr.json", b"3")
    store.write("Group/other", b"3")
    assert (tmp_path / "Group" / "zarr.json").read_bytes() == b"3"


def test_a_folder_is_listed_once_not_once_for_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [listed.append(folder), *listdir(folder)][1:])
    monkeypatch.setattr(
        local, "other_spelling", lambda *given: local_files.other_spelling(*given, may_be_insensitive=True)
    )
    for i in range(30):
        store.write(f"a/c.0.{i}", b"1")
        store.write(f"a/name{i}", b"1")
    listed.clear()
    for i in range(30):
        store.write(f"a/c.0.{i}", b"2")
        store.write(f"a/name{i}", b"2")
    assert len(listed) <= 2


@pytest.mark.skipif(sys.platform == "linux", reason="the file systems of Windows and macOS")
def test_the_file_system_itself_takes_two_spellings_for_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("Group/zarr.json", b"1")
    if not (tmp_path / "group").exists():
        pytest.skip("this file system tells upper and lower case apart")
    with pytest.raises(InvalidKeyError, match="'Group'"):
        store.write("group/zarr.json", b"2")
    assert (tmp_path / "Group" / "zarr.json").read_bytes() == b"1"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_composed_and_decomposed_names_are_one_name(tmp_path: Path) -> None:
    (tmp_path / "e\u0301").mkdir()
    known: set[str] = set()
    # HFS+ lists the decomposed form of a name that was given composed.
    (tmp_path / "\u00e9").symlink_to("e\u0301")
    assert local_files.other_spelling(str(tmp_path / "\u00e9"), str(tmp_path), known, may_be_insensitive=True) == ""
