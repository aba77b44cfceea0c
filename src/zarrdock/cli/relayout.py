"""``zarrdock relayout``: shards written anew, with nothing decoded that need not be."""

from __future__ import annotations

import time
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import as_json, layout_options, memory_option, node_options
from zarrdock.cli.output import count, print_json, progress_bar, size_text
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.copying import CopyProgress, copy
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.relayout import Relaid, relayout

__all__ = ["command"]


@click.command("relayout")
@node_options
@click.option("--to", "target", metavar="DST", help="Write a new array or hierarchy there; URL stays as it is.")
@click.option("--to-path", default="", metavar="PATH", help="Node within DST.")
@click.option(
    "--order",
    type=click.Choice([str(order) for order in ORDERS]),
    help="Order of the chunks in a shard.  [default: as they lie; with --to lexicographic]",
)
@layout_options(
    chunks="With --to: shape of a chunk.  [default: keep]",
    shards="With --to: as `zarrdock copy` takes them.",
    compressors="With --to: compressors, as `zarrdock copy` takes them.",
    index_location="With --to: of a shard.",
    names=("--codecs", "--compressor"),
)
@click.option("--dry-run", is_flag=True, help="Only say how many shards would be rewritten.")
@memory_option()
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
@as_json
def command(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    target: str | None,
    to_path: str,
    order: Any,
    chunks: Any,
    shards: Any,
    compressors: Any,
    index_location: Any,
    dry_run: bool,
    memory: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rewrite the shards at URL: their chunks in another order, without the bytes that no chunk uses. Chunks are copied
    as they are encoded; each shard is replaced in one atomic update, so reading and writing may go on, and an
    interrupted run is completed by the same command.

    With --to a new array (or hierarchy) is written instead, which may have other chunks, shards and codecs. Where only
    shards and order differ, nothing is decoded.
    """
    started = time.perf_counter()
    wishes = {"chunks": chunks, "shards": shards, "compressors": compressors, "index_location": index_location}
    if target is None:
        named = {"compressors": "--codecs", "index_location": "--index-location"}
        asked = [named.get(name, f"--{name}") for name, value in wishes.items() if not _keeps(value)]
        if asked:
            raise UnsupportedError(
                f"{', '.join(asked)}: readers would find metadata and shards that don't belong together; write a new "
                "array with --to DST, and remove the old one then"
            )
        _in_place(url, path, storage_options, order, dry_run, memory, quiet, as_json, started)
        return
    if dry_run:
        raise UnsupportedError("--dry-run is for shards that are rewritten where they are; these would be new")
    last = CopyProgress()
    with progress_bar(quiet=quiet or as_json, unit_bytes=True) as bar:
        task = bar.add_task("copying", total=None)

        def progress(now: CopyProgress) -> None:
            nonlocal last
            last = now
            bar.update(task, description=f"copying /{now.path}", completed=now.n_bytes, total=now.n_bytes_total)

        copy(
            url,
            target,
            src_path=path or None,
            dst_path=to_path or None,
            src_storage_options=storage_options or None,
            resume=True,
            options={"subchunk_write_order": order or "lexicographic"},
            memory_bytes=memory,
            progress=progress,
            **wishes,
        )
    seconds = time.perf_counter() - started
    if as_json:
        facts = {"n_objects": last.n_objects, "n_bytes": last.n_bytes_written, "n_kept": last.n_kept}
        print_json({**facts, "seconds": round(seconds, 3)})
    else:
        kept = f", {count(last.n_kept, 'object')} kept from an earlier attempt" if last.n_kept else ""
        print(
            f"{count(last.n_objects, 'object')} of {size_text(last.n_bytes_written)} altogether{kept}, {seconds:.1f} s"
        )


def _keeps(value: Any) -> bool:
    return isinstance(value, str) and value == "keep"


def _in_place(
    url: str,
    path: str,
    storage_options: dict[str, Any],
    order: Any,
    dry_run: bool,
    memory: int,
    quiet: bool,
    as_json: bool,
    started: float,
) -> None:
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
            "n_bytes_before": done.n_bytes_before,
            "n_bytes_after": done.n_bytes_after,
            "n_bytes_saved": done.n_bytes_saved,
            "seconds": round(seconds, 3),
        }
    )


def _counts(now: Relaid, dry_run: bool) -> str:
    text = f"{now.n_rewritten:,} of {count(now.n_objects, 'shard')} {'to be ' if dry_run else ''}rewritten"
    return text if dry_run else f"{text}, {size_text(now.n_bytes_saved)} saved of {size_text(now.n_bytes_before)}"
