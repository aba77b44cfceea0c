"""``zarrdock view``: Neuroglancer on an array or an OME-Zarr image."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import address_options, node_options
from zarrdock.cli.output import log_request
from zarrdock.viewer.neuroglancer_ import Viewing

__all__ = ["command"]


@click.command("view")
@node_options
@click.option("--segmentation", "is_segmentation", is_flag=True, help="Show numbers as segments, each with its colour.")
@click.option("--reencode", is_flag=True, help="Show codecs and data types that the viewer does not know as others.")
@address_options("Port of the data; a free one by default.")
@click.option("--no-browser", is_flag=True, help="Print the page's address and leave opening it to you.")
@click.option("--verbose", "-v", "is_verbose", is_flag=True, help="Write a line a request for data.")
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    is_segmentation: bool,
    reencode: bool,
    host: str,
    port: int,
    no_browser: bool,
    is_verbose: bool,
) -> None:
    """Look at the array or OME-Zarr image at URL in Neuroglancer, until interrupted.

    The data is read from where it is, sharded or not, and only the parts that are looked at.
    """
    viewing = Viewing(
        url,
        path=path,
        storage_options=storage_options or None,
        host=host,
        port=port,
        is_segmentation=is_segmentation,
        reencode=reencode,
        log=log_request if is_verbose else None,
    )
    with _interrupted() as wait, viewing:
        print(f"viewing {viewing.picture.store} at {viewing.url}", flush=True)
        if not no_browser and not (_has_screen() and webbrowser.open(viewing.url)):
            print("no browser was found here: open that address in one", file=sys.stderr)
        wait()


def _has_screen() -> bool:
    """True if a screen is there; without one a text browser would start in this terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@contextmanager
def _interrupted() -> Iterator[Callable[[], object]]:
    """Yield a function that waits until this process is asked to stop."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
