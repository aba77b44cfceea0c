"""``zarrdock serve``: a store or a view of it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import address_options, node_options
from zarrdock.cli.output import log_request
from zarrdock.copying.sources import load_root
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError
from zarrdock.serve.server import Server
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store
from zarrdock.stores.wrappers import PrefixStore
from zarrdock.views import as_v2, as_v3, unshard

__all__ = ["command"]


@click.command("serve")
@node_options
@click.option("--unshard", "is_unsharded", is_flag=True, help="Show sharded arrays as plain chunks.")
@click.option("--as-v2", "is_v2", is_flag=True, help="Show everything as Zarr v2, shards as plain chunks.")
@click.option("--as-v3", "is_v3", is_flag=True, help="Show everything as Zarr v3.")
@click.option(
    "--reencode", is_flag=True, help="With --as-v2: decode chunks that v2 has no form for, and encode them anew."
)
@address_options("Port; a free one by default.")
@click.option("--quiet", "is_quiet", is_flag=True, help="Do not write a line a request.")
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    is_unsharded: bool,
    is_v2: bool,
    is_v3: bool,
    reencode: bool,
    host: str,
    port: int,
    is_quiet: bool,
) -> None:
    """Serve URL over HTTP, read-only, until interrupted.

    GET and HEAD with byte ranges, conditional requests, CORS for every origin, listings; a browser finds a page for
    each node.
    """
    if is_unsharded + is_v2 + is_v3 > 1:
        raise UnsupportedError("one of --unshard, --as-v2 and --as-v3 at a time (--as-v2 shows no shards anyway)")
    if reencode and not is_v2:
        raise UnsupportedError("--reencode goes with --as-v2: the other views change no codecs")
    store = open_store(url, storage_options=storage_options or None, read_only=True)
    if path:
        store = PrefixStore(store, path)
    _check_there(store)
    view = (
        unshard(store)
        if is_unsharded
        else as_v2(store, reencode=reencode)
        if is_v2
        else as_v3(store)
        if is_v3
        else store
    )
    server = Server(view, host=host, port=port, log=None if is_quiet else log_request)
    asyncio.run(_serve(server))


def _check_there(store: Store) -> None:
    """Refuse a place where nothing is, before anybody looks for it in a browser.

    Raises:
        NodeNotFoundError: there is no node, and no file either; StoreError: the store cannot be read.
    """
    try:
        load_root(store, "")
    except NodeNotFoundError:
        if not store.traits.listable:
            print(f"note: no node at {store}, which cannot be listed: nodes below it can be served", file=sys.stderr)
            return
        listing = store.list_dir("")
        if not listing.keys and not listing.prefixes:
            raise
    except MetadataError:
        pass  # what is wrong with it is to be seen on its page


async def _serve(server: Server) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows' loops have no handlers of signals: there Ctrl-C ends asyncio.run, which closes the server.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, server.stop)
    await server.run(lambda: print(f"serving {server.store} at {server.url}/", flush=True))
