"""``zarrdock demo``: a real volume through local files, memory and S3, with what was announced beside what happened."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.table import Table

from zarrdock import __version__
from zarrdock.api import create_array, open_array
from zarrdock.array.array import Array
from zarrdock.cli.app import click
from zarrdock.cli.options import debug_option, storage_option
from zarrdock.cli.output import console, size_text
from zarrdock.copying import copy
from zarrdock.errors import UnsupportedError, ZarrdockError
from zarrdock.facts import count
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.open import open_store
from zarrdock.stores.wrappers import RecordingStore

__all__ = ["command", "load_volume"]

Volume = npt.NDArray[np.uint16]

# Other programs' work shows in the times: the shortest of a few reads counts.
_REPEATS = 3

CHUNKS, SHARDS = (16, 16, 16), (48, 48, 48)

# A point near the middle of the brain, where all three slices show something.
X, Y, Z = 48, 60, 40

SELECTIONS: tuple[tuple[str, str, Any], ...] = (
    ("a box inside one shard", "0:32, 48:80, 48:80", np.s_[0:32, 48:80, 48:80]),
    ("a box over 8 shards", "32:64, 32:64, 32:64", np.s_[32:64, 32:64, 32:64]),
    ("a sagittal plane", f"{X}", np.s_[X]),
    ("one voxel", f"{X}, {Y}, {Z}", np.s_[X, Y, Z]),
)


class DemoFailedError(ZarrdockError):
    """The values read differ from those written, or a read cost something else than its plan said."""


@click.command("demo")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), help="Where to write the PNG.  [default: in FOLDER]")
@click.option("--s3/--no-s3", default=True, help="Also read from an S3 server in this process, if moto is installed.")
@click.option("--at", "url", metavar="URL", help="Also write to this empty place, of any store, and read from it.")
@storage_option("Option of the file system behind --at, such as anon=true; again for more.")
@debug_option
def command(
    folder: Path | None, picture: Path | None, s3: bool, url: str | None, storage_options: dict[str, Any]
) -> None:
    """Write a brain into shards, read parts of it back, and compare the plan of every read with what happened.

    FOLDER is where the array and a picture are left; a temporary folder by default.
    """
    where = Path(tempfile.mkdtemp(prefix="zarrdock-demo-")) if folder is None else folder
    volume = load_volume()
    print(f"zarrdock {__version__}. The volume: an MNI152 brain, 2 mm, {volume.shape} {volume.dtype}, ", end="")
    print(f"{size_text(volume.nbytes)} (zarrdock/demo_data/NOTICE.md).")
    target = where / "brain.zarr"
    memory = MemoryStore()
    _write(volume, memory)
    started = time.perf_counter()
    array = copy(memory, target, overwrite=True)
    seconds = time.perf_counter() - started
    if not isinstance(array, Array):
        raise DemoFailedError("the copy of an array is an array")
    n_objects = sum(1 for _ in array.store.list()) - 1
    print(f"Copied into {count(n_objects, 'shard')} of {SHARDS}, chunks of {CHUNKS}, ", end="")
    print(f"{size_text(array.nbytes_stored())} in {seconds:.2f} s: {target}")
    print()
    good = _compare("local files", LocalStore(target), volume)
    good &= _compare("memory", memory, volume)
    path = where / "brain.png" if picture is None else picture
    _draw(target, path)
    print(f"Three slices, read from the local shards: {path}")
    print()
    if url is not None:
        store = open_store(url, storage_options=storage_options or None)
        _write(volume, store)
        good &= _compare(str(store), store, volume)
    elif storage_options:
        raise UnsupportedError("storage options go with --at")
    if s3:
        good &= _over_s3(target, volume)
    if not good:
        raise DemoFailedError("values read differ from those written, or requests from those planned: see the table")
    print("All that was read equals the volume, and every read cost what its plan had said.")


def load_volume() -> Volume:
    """The volume that comes with the package: shape (96, 112, 96), axes x, y, z, each growing to right, front, top."""
    with files("zarrdock").joinpath("demo_data/mni152_small.npz").open("rb") as file, np.load(file) as arrays:
        volume: Volume = arrays["volume"]
    return volume


def _write(volume: Volume, store: Store) -> Array:
    return create_array(
        store,
        data=volume,
        chunks=CHUNKS,
        shards=SHARDS,
        options={"subchunk_write_order": "hilbert"},
        dimension_names=("x", "y", "z"),
        attributes={"what": "MNI152 (ICBM 2009a) T1 template", "voxel_mm": [2, 2, 2], "orientation": "RAS+"},
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    n_rounds: int
    n_requests: int
    nbytes: int

    def __str__(self) -> str:
        return f"{self.n_rounds} / {self.n_requests} / {size_text(self.nbytes)}"


@dataclass(frozen=True, slots=True)
class _Found:
    """One read: what was announced, what happened, what a server saw of it, and whether the values are right."""

    planned: _Cost
    happened: _Cost
    seen: int | None
    milliseconds: float
    is_equal: bool


def _read(
    array: Array, selection: Any, recorder: RecordingStore, volume: Volume, requests: Callable[[], int] | None
) -> _Found:
    plan = array.plan(selection)
    recorder.reset()
    before = requests() if requests is not None else 0
    started = time.perf_counter()
    values = array[selection]
    milliseconds = (time.perf_counter() - started) * 1000
    return _Found(
        _Cost(plan.n_rounds, plan.n_requests, plan.nbytes),
        _Cost(recorder.n_rounds, recorder.n_requests, recorder.nbytes),
        requests() - before if requests is not None else None,
        milliseconds,
        bool(np.array_equal(values, volume[selection])),
    )


def _compare(name: str, store: Store, volume: Volume, requests: Callable[[], int] | None = None) -> bool:
    """Read each selection cold and hot, a few times, and print the plan beside the record, with the shortest time.

    Args:
        requests: counts the requests a server has seen so far.
    """
    table = Table(
        title=f"{name}: rounds / requests / bytes",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=0,
        show_edge=False,
    )
    for heading in ("selection", "", "planned", "happened"):
        table.add_column(heading, no_wrap=True)
    if requests is not None:
        table.add_column("seen", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("same", no_wrap=True)
    recorder = RecordingStore(store)
    good = True
    for label, text, selection in SELECTIONS:
        arrays = [open_array(recorder, zarr_format=3) for _ in range(_REPEATS)]  # an array opened anew knows no index
        for state in ("cold", "hot"):
            tries = [_read(array, selection, recorder, volume, requests) for array in arrays]
            fits = all(found.is_equal and found.planned == found.happened for found in tries)
            good &= fits and all(found.seen in (None, found.planned.n_requests) for found in tries)
            one = tries[0]
            cells = [
                label if state == "cold" else f"[dim]  \\[{text}][/]",
                state,
                str(one.planned),
                str(one.happened),
            ]
            cells += [] if one.seen is None else [str(one.seen)]
            fastest = min(found.milliseconds for found in tries)
            table.add_row(*cells, f"{fastest:.1f}", "yes" if fits else "[red]NO[/]")
    console().print(table)
    print()
    return good


def _draw(target: Path, path: Path) -> None:
    from zarrdock.cli.picture import Panel, draw

    recorder = RecordingStore(LocalStore(target))
    array = open_array(recorder, zarr_format=3)
    recorder.reset()
    sizes = CHUNKS[0], SHARDS[0]
    panels = [
        Panel(f"sagittal, x = {2 * X - 95.5:+.1f} mm", array[X], ("P", "A", "I", "S"), *sizes),
        Panel(f"coronal, y = {2 * Y - 127.5:+.1f} mm", array[:, Y], ("L", "R", "I", "S"), *sizes),
        Panel(f"axial, z = {2 * Z - 71.5:+.1f} mm", array[:, :, Z], ("L", "R", "P", "A"), *sizes),
    ]
    cost = f"{recorder.n_rounds} rounds, {count(recorder.n_requests, 'read')}, {size_text(recorder.nbytes)}"
    draw(
        panels,
        "MNI152 brain, three slices out of a sharded Zarr array",
        f"uint16 {array.shape}, chunks {CHUNKS}, shards {SHARDS}; {cost}. Lines: borders of shards, and of chunks.",
        path,
        white=1900,
    )


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, dict[str, Any], Callable[[], int]]]:
    """An S3 server: a URL to write to, options for it, and how many requests it has seen."""
    try:
        import s3fs
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server
    except ImportError as error:
        raise UnsupportedError(f'{error.name} is not installed; pip install "zarrdock[s3]" "moto[server]"') from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    app = DomainDispatcherApplication(create_backend_app)
    seen: list[str] = []

    def counted(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append(environ["PATH_INFO"])
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="moto")
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        options = {"key": "demo", "secret": "demo", "endpoint_url": url}
        s3fs.S3FileSystem(**options).mkdir("zarrdock-demo")
        yield "s3://zarrdock-demo/brain.zarr", options, lambda: len(seen)
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def _over_s3(target: Path, volume: Volume) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            url, options, requests = stack.enter_context(_server())
            store = open_store(url, storage_options=options)
        except UnsupportedError as error:
            print(f"S3 is left out: {error}")
            print()
            return True
        stack.callback(store.close)
        copy(target, store)
        return _compare("S3, served by moto in this process", store, volume, requests)
