"""``zarrdock cost``."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.cli.app import click
from zarrdock.cli.open_nodes import find
from zarrdock.cli.options import as_json, layout_options, memory_option, node_options
from zarrdock.cli.output import print_json, shape_text, size_text
from zarrdock.copying.target_metadata import Wishes, retarget
from zarrdock.errors import NodeNotFoundError
from zarrdock.layouts.cost import whole_costs
from zarrdock.layouts.predict import EGRESS_PER_GB, PLACES

__all__ = ["command"]


@click.command("cost")
@node_options
@layout_options(
    chunks="Shape of a chunk of the copy, auto, or keep.  [default: keep]",
    shards="Shape of a shard of the copy, auto, none, or keep.",
    compressors="Compressors of the copy.",
    index_location="Where a shard of the copy has its index.",
)
@click.option("--on", "place", type=click.Choice([*PLACES]), help="Kind of store.  [default: that of URL, or s3]")
@click.option("--workers", default=1, type=click.IntRange(1), show_default=True, help="Machines that copy.")
@click.option(
    "--ratio",
    default=0.5,
    type=click.FloatRange(0, min_open=True),
    show_default=True,
    help="Encoded bytes to decoded ones.",
)
@click.option(
    "--stored", default=1.0, type=click.FloatRange(0, 1), show_default=True, help="Share of objects that are there."
)
@click.option("--mb-per-s", type=click.FloatRange(0, min_open=True), help="10^6 bytes a second, of each machine.")
@click.option(
    "--decode-mb-per-s", type=click.FloatRange(0, min_open=True), help="10^6 bytes decoded a second, of each machine."
)
@click.option("--egress", is_flag=True, help="The copy leaves the service's region: add the list price of egress.")
@memory_option(", by each machine")
@as_json
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    place: str | None,
    workers: int,
    ratio: float,
    stored: float,
    mb_per_s: float | None,
    decode_mb_per_s: float | None,
    egress: bool,
    memory: int,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Say what it takes to open, list, plan and copy the array at URL, however large: objects, requests, bytes, hours,
    dollars. Only its metadata is read.
    """
    found = find(url, path, storage_options)
    if not isinstance(found.node, ArrayMetadata):
        raise NodeNotFoundError(f"at {found.path or '/'!r} in {found.store} there is a group: name an array")
    metadata = found.node
    kind = place or "s3"
    traits, prices = PLACES[kind]
    if egress:
        prices = replace(prices, egress_per_gb=EGRESS_PER_GB[kind])
    if mb_per_s is not None:
        prices = replace(prices, bytes_per_s=mb_per_s * 1e6)
    if decode_mb_per_s is not None:
        prices = replace(prices, decode_bytes_per_s=decode_mb_per_s * 1e6)
    to, is_same = retarget(metadata, Wishes(**wishes))
    costs = whole_costs(
        metadata,
        traits=traits,
        prices=prices,
        to=None if is_same else to,
        ratio=ratio,
        stored=stored,
        workers=workers,
        memory_bytes=memory,
    )
    if as_json:
        print_json({"on": kind, "workers": workers, "prices": asdict(prices), "costs": [asdict(one) for one in costs]})
        return
    print(f"{shape_text(metadata.shape)} {metadata.dtype}, on {kind}, {workers:,} at work")
    rows = [["", "reads", "writes", "lists", "read", "written", "hours", prices.currency]]
    for one in costs:
        counts = [f"{n:,}" for n in (one.n_reads, one.n_writes, one.n_lists)]
        sizes = [size_text(n) for n in (one.nbytes_read, one.nbytes_written)]
        rows.append([one.name, *counts, *sizes, f"{one.seconds / 3600:,.3g}", f"{one.price:,.2f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
