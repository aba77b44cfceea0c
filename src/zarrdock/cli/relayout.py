"""``zarrdock relayout``: shards written anew, with nothing decoded that need not be."""

from __future__ import annotations

import time
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import as_json, layout_options, memory_option, node_options
from zarrdock.cli.output import count, print_json, progress_bar, size_text
from zarrdock.codecs.order import ORDERS
from zarrdock.copying import CopyProgress, copy
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.relayout import Relaid, relayout
from zarrdock.layouts.replacing import replace_layout

__all__ = ["command"]


@click.command("relayout")
@node_options
@click.option("--to", "target", metavar="DST", help="Write a new array or hierarchy there; URL stays as it is.")
@click.option(
    "--replace",
    is_flag=True,
    help="Write a new array beside the old one, then put it in its place: in local folders, while nobody has it open.",
)
@click.option("--to-path", default="", metavar="PATH", help="Node within DST.")
@click.option(
    "--order",
    type=click.Choice([str(order) for order in ORDERS]),
    help="Order of the chunks in a shard.  [default: as they lie; with --to or --replace lexicographic]",
)
@click.option("--align", default=1, type=click.IntRange(1), metavar="BYTES", help="Chunks begin at multiples of this.")
@click.option(
    "--fixed-slots", is_flag=True, help="Every chunk has a place of its own, with room for the longest it could become."
)
@layout_options(
    chunks="With --to or --replace: shape of a chunk.  [default: keep]",
    shards="With --to or --replace: as `zarrdock copy` takes them.",
    compressors="With --to or --replace: compressors, as `zarrdock copy` takes them.",
    index_location="With --to or --replace: of a shard.",
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
    replace: bool,
    to_path: str,
    order: Any,
    align: int,
    fixed_slots: bool,
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
    shards and order differ, nothing is decoded. With --replace it takes the place of the old one when it is done.
    """
    started = time.perf_counter()
    wishes = {"chunks": chunks, "shards": shards, "compressors": compressors, "index_location": index_location}
    if target is not None and replace:
        raise UnsupportedError("--to writes elsewhere, --replace in the same place: give one of them")
    if target is None and not replace:
        named = {"compressors": "--codecs", "index_location": "--index-location"}
        asked = [named.get(name, f"--{name}") for name, value in wishes.items() if not _keeps(value)]
        if asked:
            raise UnsupportedError(
                f"{', '.join(asked)}: readers would find metadata and shards that don't belong together; write a new "
                "array with --to DST, and remove the old one then; or, where it is a local folder and nobody has it "
                "open, --replace it"
            )
        _in_place(url, path, storage_options, order, align, fixed_slots, dry_run, memory, quiet, as_json, started)
        return
    if dry_run:
        raise UnsupportedError("--dry-run is for shards that are rewritten where they are; these would be new")
    if fixed_slots:
        raise UnsupportedError("--fixed-slots is for shards that are rewritten where they are: do so once they are new")
    last = CopyProgress()
    with progress_bar(quiet=quiet or as_json, unit_bytes=True) as bar:
        task = bar.add_task("copying", total=None)

        def progress(now: CopyProgress) -> None:
            nonlocal last
            last = now
            bar.update(task, description=f"copying /{now.path}", completed=now.n_bytes, total=now.n_bytes_total)

        common = {
            "subchunk_write_order": order or "lexicographic",
            "chunk_alignment": align,
            "memory_bytes": memory,
            "progress": progress,
            **wishes,
        }
        if target is None:
            replace_layout(url, path=path or None, storage_options=storage_options or None, **common)
        else:
            copy(
                url,
                target,
                src_path=path or None,
                dst_path=to_path or None,
                src_storage_options=storage_options or None,
                resume=True,
                **common,
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
    align: int,
    fixed_slots: bool,
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
            chunk_alignment=align,
            fixed_slots=fixed_slots,
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
    if dry_run:
        return text
    saved = now.n_bytes_saved
    return f"{text}, {size_text(abs(saved))} {'saved' if saved >= 0 else 'more'} of {size_text(now.n_bytes_before)}"
