"""``zarrdock plan``: what a read would ask of the store."""

from __future__ import annotations

from typing import Any

from zarrdock.array.array import Array
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import find
from zarrdock.cli.options import as_json, node_options
from zarrdock.cli.output import print_json
from zarrdock.cli.parse import parse_selection
from zarrdock.errors import NodeNotFoundError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Read

__all__ = ["command"]


# A selection may begin with a minus.
@click.command("plan", context_settings={"ignore_unknown_options": True})
@node_options
@click.argument("selection", callback=lambda _ctx, _param, value: parse_selection(value))
@as_json
def command(url: str, path: str, storage_options: dict[str, Any], selection: Any, as_json: bool) -> None:
    """Show what reading SELECTION of the array at URL would cost: rounds, requests, bytes. SELECTION is written as in
    numpy's brackets, for instance "0:64, 3, ...". Shard indexes are read for this, but no data.
    """
    found = find(url, path, storage_options)
    if not isinstance(found.node, ArrayMetadata):
        raise NodeNotFoundError(f"at {found.path or '/'!r} in {found.store} there is a group: a plan is for an array")
    plan = Array(found.store, found.path, found.node, read_only=True).plan(selection)
    if not as_json:
        print(plan)
        return
    print_json(
        {
            "shape": list(plan.shape),
            "n_rounds": plan.n_rounds,
            "n_requests": plan.n_requests,
            "nbytes": plan.nbytes,
            "n_objects": plan.n_objects,
            "n_chunks": plan.n_chunks,
            "n_missing": plan.n_missing,
            "rounds": [{"n_requests": n, "nbytes": nbytes} for n, nbytes in plan.rounds],
            "reads": [{"key": read.key, "range": _range(read)} for read in plan.reads],
        }
    )


def _range(read: Read) -> Any:
    match read.range:
        case Span(start, stop):
            return {"start": start, "stop": stop}
        case From(start):
            return {"start": start}
        case Tail(n):
            return {"last": n}
        case _:
            return None
