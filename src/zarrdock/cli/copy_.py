"""``zarrdock copy``."""

from __future__ import annotations

from typing import Any

from zarrdock.array.array import Array
from zarrdock.cli.app import click
from zarrdock.cli.complete import complete_nodes, complete_urls
from zarrdock.cli.copy_job import copy_job, options_of
from zarrdock.cli.options import (
    as_json,
    debug_option,
    layout_options,
    memory_option,
    patience_options,
    storage_option,
)
from zarrdock.cli.output import print_json, shape_text
from zarrdock.codecs.chunk_order import ORDERS
from zarrdock.copying import copy

__all__ = ["command"]


@click.command("copy")
@click.argument("src", shell_complete=complete_urls)
@click.argument("dst", shell_complete=complete_urls)
@layout_options(
    chunks="Shape of a chunk: 32,32,32, one length for all dimensions, the lengths along each as [[2,6,2],4], auto, or "
    "keep.  [default: keep]",
    shards="Shape of a shard, auto, none, or keep; again for shards in shards, outermost first.",
    compressors="zstd:3, gzip:5, blosc:lz4:5:shuffle, none, auto, keep, or JSON as in metadata; again for several.",
    index_location="Where a shard has its index.",
)
@click.option("--checksums", is_flag=True, help="Give every chunk a checksum, where its codecs have none.")
@click.option("--order", type=click.Choice([str(order) for order in ORDERS]), help="Order of the chunks in a shard.")
@click.option("--zarr-format", type=click.Choice(["2", "3"]), help="Convert to this version of Zarr.")
@click.option("--write-empty-chunks", is_flag=True, help="Store chunks of nothing but the fill value, too.")
@click.option(
    "--other-files/--no-other-files",
    default=True,
    help="Copy files in the hierarchy that are no Zarr, too.  [default: other-files]",
)
@click.option("--overwrite", is_flag=True, help="Replace the node that is at DST, with all below it.")
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Complete an unfinished copy of the same source, where there is one.  [default: resume]",
)
@click.option(
    "--src-path",
    default="",
    metavar="PATH",
    shell_complete=complete_nodes,
    help="Node within SRC, for instance in a zip.",
)
@click.option("--dst-path", default="", metavar="PATH", shell_complete=complete_nodes, help="Node within DST.")
@storage_option("Option of the file system behind SRC and DST, those that are not local files; again for more.")
@storage_option("The same for SRC alone.", "--src-storage-option", "src_options")
@storage_option("The same for DST alone.", "--dst-storage-option", "dst_options")
@patience_options
@memory_option(", here or by each worker")
@click.option("--dask", metavar="ADDRESS", help="Let the workers of this dask cluster do it: tcp://host:8786.")
@click.option(
    "--missing",
    type=click.Choice(["fill", "error"]),
    default="fill",
    help="What chunks are that SRC lacks: its fill value, or an error before anything is copied.  [default: fill]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no summary.")
@as_json
@debug_option
def command(
    src: str,
    dst: str,
    order: Any,
    write_empty_chunks: bool,
    zarr_format: str | None,
    storage_options: dict[str, Any],
    src_options: dict[str, Any],
    dst_options: dict[str, Any],
    memory: int,
    dask: str | None,
    quiet: bool,
    as_json: bool,
    overwrite: bool,
    resume: bool,
    **settings: Any,
) -> int:
    """Copy the array, group or file (HDF5, netCDF, TIFF, numpy's) at SRC to DST as Zarr, with other chunks, shards,
    compressors or version if asked for. An interrupted copy is completed by the same command.

    Exit status 3 if the copy is there, but without something of the source, which is named.
    """  # fmt: skip
    with copy_job("copying", "copying /{}", dask=dask, quiet=quiet or as_json) as job:
        node = copy(
            src,
            dst,
            options=_write_options(order, write_empty_chunks=write_empty_chunks),
            zarr_format=None if zarr_format is None else 2 if zarr_format == "2" else 3,
            src_storage_options=options_of(src, storage_options, src_options),
            dst_storage_options=options_of(dst, storage_options, dst_options),
            overwrite=overwrite,
            resume=resume and not overwrite,
            memory_bytes=memory,
            progress=job.progress,
            workers=job.workers,
            **settings,
        )
    if as_json:
        print_json({"url": node.store.url, "path": node.path, **job.facts()})
    elif not quiet:
        shape = f"{shape_text(node.shape)} {node.dtype}, " if isinstance(node, Array) else ""
        print(f"{shape}{job.summary()}")
    return job.status()


def _write_options(order: Any, *, write_empty_chunks: bool) -> dict[str, Any] | None:
    """Options of the writer, where any was given: without one, chunks may be copied as they lie."""
    given: dict[str, Any] = {} if order is None else {"subchunk_write_order": order}
    if write_empty_chunks:
        given["write_empty_chunks"] = True
    return given or None
