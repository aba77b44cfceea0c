"""A user's first steps on every store: the README's quick start, and each verb by itself.

The tests hold the table in the documentation to it; ``python -m tools.store_table`` prints it.
``python -m support.store_verbs FOLDER`` tries local stores in a process of its own, as on simulated Windows.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

import zarrdock
from support.servers import azurite_server, gcs_server, is_azurite_here, moto_server, sftp_server, webdav_server
from zarrdock.cli.main import run
from zarrdock.errors import ReadOnlyError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.zip_ import ZipStore

__all__ = ["SIGNS", "STORES", "VERBS", "Place", "outcomes", "places"]

ROOT: Final = Path(__file__).resolve().parents[2]
Outcome: TypeAlias = Literal["yes", "alone", "no"]
Options: TypeAlias = dict[str, Any]

#: "alone": with ``options={"single_writer": True}``.
SIGNS: Final[dict[Outcome, str]] = {"yes": "●", "alone": "○", "no": ""}

DATA: Final = np.arange(10 * 7, dtype="i2").reshape(10, 7) + 1
LAYOUT: Final[dict[str, Any]] = {"chunks": (2, 3), "shards": (4, 6)}  # none of which ends where the array does


@dataclass
class Place:
    """Places for as many stores as are wanted, on one service.

    Attributes:
        at: a path, URL or store for a name. options: the storage options that go with a URL.
        filler: where arrays are made that are only read here; None: at the place itself.
    """

    at: Callable[[str], Any]
    options: dict[str, Any] = field(default_factory=dict)
    filler: Callable[[str], Any] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def open(self, name: str) -> Store:
        """A store that knows nothing yet."""
        return zarrdock.open_store(self.at(name), storage_options=self.options or None)

    def new(self, suffix: str = "") -> str:
        """A name that was not used."""
        return f"v{next(self._numbers)}{suffix}"

    def filled(self) -> str:
        """A name of a store that has an array."""
        name = self.new()
        if self.filler is None:
            zarrdock.create_array(self.open(name), data=DATA, **LAYOUT)
        else:
            zarrdock.create_array(self.filler(name), data=DATA, **LAYOUT)
        return name

    def command(self, name: str, *arguments: str) -> str:
        """Run a command of the command line; for places that have no URL, nothing.

        Raises:
            AssertionError: it failed.
        """
        target = self.at(name)
        if isinstance(target, Store) or not isinstance(target, (str, os.PathLike)):
            return ""
        options = [f"--storage-option={key}={_text(value)}" for key, value in self.options.items()]
        told, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors):
            status = run([arguments[0], os.fspath(target), *arguments[1:], *options])
        assert status == 0, (arguments, errors.getvalue())
        return told.getvalue()


def _text(value: Any) -> str:
    return value if isinstance(value, str) and not value.isdigit() else json.dumps(value)


# -- the verbs. Each makes what it needs, and raises where something is wrong.


def _quick_start(place: Place, options: Options) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    source = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    for name in ("brain", "shared", "volume"):
        source = source.replace(f'"{name}.zarr"', f'open_place("{name}")')
    if options:
        source = source.replace('mode="r+"', 'mode="r+", options={"single_writer": True}')
        source = source.replace('dtype="int32", ', 'dtype="int32", options={"single_writer": True}, ')
    assert source.count("open_place(") >= 4
    if not place.open(place.new()).traits.conditional_read:
        # Without versions an index is read again: nothing would say that it is still the shard's.
        source = source.replace("== (1, 1)", "== (plan.n_rounds, plan.n_requests)")
    names = {name: place.new(name) for name in ("brain", "shared", "volume")}
    before = Path.cwd()
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            os.chdir(folder)
            exec(compile(source, "README.md", "exec"), {"open_place": lambda name: place.open(names[name])})
    finally:
        os.chdir(before)


def _create(place: Place, options: Options) -> None:
    name = place.new()
    zarrdock.create_array(place.open(name), data=DATA, **LAYOUT)
    np.testing.assert_array_equal(zarrdock.open_array(place.open(name))[...], DATA)


def _read(place: Place, options: Options) -> None:
    array = zarrdock.open_array(place.open(place.filled()))
    np.testing.assert_array_equal(array[3:8, ::2], DATA[3:8, ::2])
    np.testing.assert_array_equal(array.oindex[[1, 9], :], DATA[[1, 9]])


def _write(place: Place, options: Options) -> None:
    name = place.filled()
    array = zarrdock.open_array(place.open(name), "r+", options=options)
    array[3:8, 1:] = 0
    expected = DATA.copy()
    expected[3:8, 1:] = 0
    np.testing.assert_array_equal(zarrdock.open_array(place.open(name))[...], expected)


def _append(place: Place, options: Options) -> None:
    name = place.filled()
    zarrdock.open_array(place.open(name), "r+", options=options).append(DATA[:3])
    np.testing.assert_array_equal(zarrdock.open_array(place.open(name))[...], np.concatenate([DATA, DATA[:3]]))


def _delete(place: Place, options: Options) -> None:
    name = place.new()
    group = zarrdock.open_group(place.open(name), "w", options=options)
    group.create_array("a", data=DATA, **LAYOUT)
    group.create_array("b", data=DATA, **LAYOUT)
    del group["a"]
    assert list(zarrdock.open_group(place.open(name))) == ["b"]


def _list(place: Place, options: Options) -> None:
    store = place.open(place.filled())
    assert {entry.key for entry in store.list()} == {
        "zarr.json", *(f"c/{i}/{j}" for i in range(3) for j in range(2))
    }  # fmt: skip


def _copy_to(place: Place, options: Options) -> None:
    source = zarrdock.MemoryStore()
    group = zarrdock.create_group(source, attributes={"a": 1})
    group.create_array("x", data=DATA, **LAYOUT)
    name = place.new()
    zarrdock.copy(source, place.open(name), chunks=(3, 3), shards=None)
    np.testing.assert_array_equal(zarrdock.open_array(place.open(name), path="x")[...], DATA)


def _copy_from(place: Place, options: Options) -> None:
    target = zarrdock.MemoryStore()
    zarrdock.copy(place.open(place.filled()), target, chunks=(3, 3), shards=None)
    np.testing.assert_array_equal(zarrdock.open_array(target)[...], DATA)


def _zip(place: Place, options: Options) -> None:
    name = place.new()
    with tempfile.TemporaryDirectory() as folder:
        with zarrdock.open_store(f"{folder}/a.zip") as archive:
            zarrdock.create_array(archive, data=DATA, **LAYOUT)
        store = place.open(name) if place.filler is None else zarrdock.open_store(place.filler(name))
        store.write("a.zip", Path(folder, "a.zip").read_bytes())
    np.testing.assert_array_equal(zarrdock.open_array(ZipStore((place.open(name), "a.zip")))[...], DATA)


def _check(place: Place, options: Options) -> None:
    name = place.filled()
    assert not zarrdock.tools.check(place.open(name)).problems
    place.command(name, "check")


def _info(place: Place, options: Options) -> None:
    name = place.filled()
    assert "10 × 7" in str(zarrdock.open_array(place.open(name)).info)
    told = place.command(name, "info")
    assert not told or "10" in told


def _serve(place: Place, options: Options) -> None:
    with zarrdock.tools.Server(place.open(place.filled())) as server:
        with urllib.request.urlopen(f"{server.url}/zarr.json", timeout=30) as answer:
            assert json.load(answer)["shape"] == [10, 7]
        np.testing.assert_array_equal(zarrdock.open_array(server.url)[...], DATA)


VERBS: Final[dict[str, Callable[[Place, Options], None]]] = {
    "quick start": _quick_start,
    "create with data": _create,
    "read": _read,
    "write a part": _write,
    "append": _append,
    "delete": _delete,
    "list": _list,
    "copy to": _copy_to,
    "copy from": _copy_from,
    "a zip on it": _zip,
    "check": _check,
    "info": _info,
    "serve": _serve,
}


def outcomes(place: Place) -> dict[str, Outcome]:
    """Outcomes of all verbs.

    Raises:
        Exception: something else than a refusal.
    """
    with warnings.catch_warnings():
        # Of the libraries of services, about their own ends.
        warnings.simplefilter("ignore", ResourceWarning)
        return {verb: _outcome(place, act) for verb, act in VERBS.items()}


def _outcome(place: Place, act: Callable[[Place, Options], None]) -> Outcome:
    try:
        act(place, {})
        return "yes"
    except ReadOnlyError:
        return "no"
    except UnsupportedError as error:
        if "single_writer" not in str(error):
            return "no"
    act(place, {"single_writer": True})
    return "alone"


# -- the places


@contextlib.contextmanager
def _local(folder: Path) -> Iterator[Place]:
    yield Place(lambda name: str(folder / name))


@contextlib.contextmanager
def _zips(folder: Path) -> Iterator[Place]:
    yield Place(lambda name: str(folder / f"{name}.zip"))


@contextlib.contextmanager
def _kept(make: Callable[[str], Any]) -> Iterator[Place]:
    kept: dict[str, Any] = {}
    yield Place(lambda name: kept[name] if name in kept else kept.setdefault(name, make(name)))


@contextlib.contextmanager
def _s3(_: Path) -> Iterator[Place]:
    with moto_server() as endpoint:
        yield Place(lambda name: f"s3://{endpoint.bucket}/{name}", dict(endpoint.storage_options))


@contextlib.contextmanager
def _gcs(_: Path) -> Iterator[Place]:
    with gcs_server() as endpoint:
        yield Place(lambda name: f"gs://{endpoint.bucket}/{name}", dict(endpoint.storage_options))


@contextlib.contextmanager
def _azure(_: Path) -> Iterator[Place]:
    with azurite_server() as endpoint:
        yield Place(lambda name: f"az://{endpoint.bucket}/{name}", dict(endpoint.storage_options))


@contextlib.contextmanager
def _sftp(folder: Path) -> Iterator[Place]:
    with sftp_server(folder) as endpoint:
        options = {name: value for name, value in endpoint.storage_options.items() if name != "host"}
        yield Place(lambda name: f"sftp://127.0.0.1/{name}", {**options, "known_hosts": None})


@contextlib.contextmanager
def _webdav(folder: Path) -> Iterator[Place]:
    with webdav_server(folder) as endpoint:
        yield Place(lambda name: f"webdav://{name}", dict(endpoint.storage_options))


@contextlib.contextmanager
def _http(_: Path) -> Iterator[Place]:
    inside = zarrdock.MemoryStore()
    with zarrdock.tools.Server(inside) as server:
        yield Place(lambda name: f"{server.url}/{name}", filler=lambda name: zarrdock.PrefixStore(inside, name))


def _obstore(_: str) -> Any:
    from obstore.store import MemoryStore

    return MemoryStore()


def _windows(kind: str) -> Callable[[Path], Any]:
    """Outcomes on simulated Windows, of a process of its own."""

    @contextlib.contextmanager
    def ran(folder: Path) -> Iterator[dict[str, Outcome]]:
        here = ROOT / "tests"
        paths = [str(here / "support" / "windows_site"), str(here), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", "support.store_verbs", kind, str(folder)],
            cwd=here,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        yield json.loads(done.stdout)

    return ran


#: Names of the stores, as the table shows them, and what opens places there, given an empty folder.
STORES: Final[dict[str, Callable[[Path], Any]]] = {
    "memory: `MemoryStore()`": lambda _: _kept(lambda name: zarrdock.MemoryStore()),
    "a dictionary": lambda _: _kept(lambda name: {}),
    "local files": _local,
    "local files, simulated Windows": _windows("local"),
    "zip archive": _zips,
    "zip archive, simulated Windows": _windows("zip"),
    "`memory://`": lambda folder: contextlib.nullcontext(Place(lambda name: f"memory://{folder.name}/{name}")),
    "S3 (moto)": _s3,
    "Google Cloud Storage (emulator)": _gcs,
    "Azure (Azurite)": _azure,
    "obstore's memory": lambda _: _kept(_obstore),
    "SFTP (asyncssh, by sshfs)": _sftp,
    "WebDAV (WsgiDAV)": _webdav,
    "HTTP (`zarrdock serve`)": _http,
}


@contextlib.contextmanager
def places(store: str, folder: Path) -> Iterator[dict[str, Outcome]]:
    """The outcomes of all verbs on one of ``STORES``."""
    with STORES[store](folder) as found:
        yield outcomes(found) if isinstance(found, Place) else found


def is_here(store: str) -> bool:
    """True where the server of a store can be started."""
    return not store.startswith("Azure") or is_azurite_here()


if __name__ == "__main__":
    with {"local": _local, "zip": _zips}[sys.argv[1]](Path(sys.argv[2])) as here:
        print(json.dumps(outcomes(here)))
