"""``zarrdock relayout``: rewrite shards where they are, with nothing decoded."""

from __future__ import annotations

import time
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import as_json, memory_option, node_options
from zarrdock.cli.output import print_json, progress_bar, size_text
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.facts import count
from zarrdock.layouts.relayout import Relaid, relayout

__all__ = ["command"]


@click.command("relayout")
@node_options
@click.option(
    "--order",
    type=click.Choice([str(order) for order in ORDERS]),
    help="Order of the chunks in a shard.  [default: as they lie]",
)
@click.option("--dry-run", is_flag=True, help="Only say how many shards would be rewritten.")
@memory_option()
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@as_json
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    order: Any,
    dry_run: bool,
    memory: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rewrite the shards at URL: their chunks in another order, without the bytes that no chunk uses. Chunks are copied
    as they are encoded; each shard is replaced in one atomic update, so reading and writing may go on, and an
    interrupted run is completed by the same command.

    Other shards, chunks or codecs make a new array: see `zarrdock copy`.
    """
    started = time.perf_counter()
    with progress_bar(quiet=quiet or as_json, unit_bytes=False) as bar:
        task = bar.add_task("rewriting", total=None, counts="")

        def progress(now: Relaid) -> None:
            bar.update(task, description=f"rewriting /{now.path}", counts=_counts(now, dry_run))

        done = relayout(
            url,
            path=path or None,
            order=order,
            dry_run=dry_run,
            storage_options=storage_options or None,
            memory_bytes=memory,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    if not as_json:
        print(f"{_counts(done, dry_run)}, {seconds:.1f} s")
        return
    print_json(
        {
            "n_objects": done.n_objects,
            "n_rewritten": done.n_rewritten,
            "nbytes_before": done.nbytes_before,
            "nbytes_after": done.nbytes_after,
            "nbytes_saved": done.nbytes_saved,
            "seconds": round(seconds, 3),
        }
    )


def _counts(now: Relaid, dry_run: bool) -> str:
    text = f"{now.n_rewritten:,} of {count(now.n_objects, 'shard')} {'to be ' if dry_run else ''}rewritten"
    return text if dry_run else f"{text}, {size_text(now.nbytes_saved)} saved of {size_text(now.nbytes_before)}"
