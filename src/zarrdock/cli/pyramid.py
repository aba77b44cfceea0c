"""``zarrdock pyramid``."""

from __future__ import annotations

from typing import Any

from zarrdock.array.array import Array
from zarrdock.cli.app import click
from zarrdock.cli.complete import complete_urls
from zarrdock.cli.copy_job import copy_job, options_of
from zarrdock.cli.options import (
    as_json,
    debug_option,
    layout_options,
    memory_option,
    patience_options,
    storage_option,
)
from zarrdock.cli.output import print_json, shape_text, table
from zarrdock.pyramids.downsample import METHODS
from zarrdock.pyramids.pyramid import pyramid
from zarrdock.viewer.multiscale import open_picture

__all__ = ["command"]


def _numbers(_: click.Context, __: click.Parameter, given: str | None) -> list[float] | None:
    if given is None:
        return None
    try:
        return [float(text) for text in given.split(",")]
    except ValueError:
        raise click.BadParameter(f"{given!r}: write a number an axis, such as 2,0.5,0.5") from None


@click.command("pyramid")
@click.argument("src", shell_complete=complete_urls)
@click.argument("dst", required=False, shell_complete=complete_urls)
@click.option("--levels", type=int, help="Resolutions, SRC included.  [default: down to one chunk, or 64 elements]")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How several elements become one; mode is for labels.  [default: mean, of bool mode]",
)
@click.option("--axes", metavar="NAMES", help="Names of the dimensions: zyx, or t,c,z,y,x.  [default: those of SRC]")
@click.option("--scale", metavar="NUMBERS", callback=_numbers, help="Length of an element along each axis: 2,0.5,0.5.")
@click.option("--unit", "units", metavar="UNIT", help="Unit of the axes of space: micrometer, um, nm, ...")
@click.option("--isotropic", is_flag=True, help="Halve an axis only once its elements are no longer than the others'.")
@click.option("--name", help="Name of the image.  [default: that of the destination]")
@layout_options(
    chunks="Shape of a chunk of the new arrays: 64,64,64, one length for all dimensions, auto, or keep.  "
    "[default: keep]",
    shards="Shape of a shard of the new arrays, auto, none, or keep.",
    compressors="zstd:3, gzip:5, blosc:lz4:5:shuffle, none, auto, keep, or JSON as in metadata; again for several.",
    index_location="Where a shard has its index.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is at DST; without DST, the levels that there are.")
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Complete an image that an earlier call with the same arguments left unfinished.  [default: resume]",
)
@click.option("--src-path", default=None, metavar="PATH", help="Node within SRC.")
@click.option("--dst-path", default=None, metavar="PATH", help="Node within DST.")
@storage_option("Option of the file system behind SRC and DST, those that are not local files; again for more.")
@storage_option("The same for SRC alone.", "--src-storage-option", "src_options")
@storage_option("The same for DST alone.", "--dst-storage-option", "dst_options")
@patience_options
@memory_option(", here or by each worker")
@click.option("--dask", metavar="ADDRESS", help="Let the workers of this dask cluster do it: tcp://host:8786.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, no summary.")
@as_json
@debug_option
def command(
    src: str,
    dst: str | None,
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
    """Make an OME-Zarr 0.5 image at DST of SRC: a copy of it, and levels of half the resolution each along z, y and x.
    Without DST the levels go beside SRC, an array in a group. SRC may be anything that `zarrdock copy` takes: an array,
    an image, a folder of TIFF files. An interrupted call is completed by the same command.
    """  # fmt: skip
    with copy_job("level 0", "level {}", dask=dask, quiet=quiet or as_json) as job:
        image = pyramid(
            src,
            dst,
            src_storage_options=options_of(src, storage_options, src_options),
            dst_storage_options=None if dst is None else options_of(dst, storage_options, dst_options),
            overwrite=overwrite,
            resume=resume and not overwrite,
            memory_bytes=memory,
            progress=job.progress,
            workers=job.workers,
            **settings,
        )
    picture = open_picture(image)
    datasets = image.attrs["ome"]["multiscales"][0]["datasets"]
    if as_json:
        print_json(
            {
                "url": image.store.url,
                "path": image.path,
                "axes": image.attrs["ome"]["multiscales"][0]["axes"],
                "levels": [
                    {"path": one["path"], "shape": list(level.shape), **_places(one)}
                    for one, level in zip(datasets, picture.levels, strict=True)
                ],
                **job.facts(),
            }
        )
    elif not quiet:
        table([(one["path"], _level(level, _places(one))) for one, level in zip(datasets, picture.levels, strict=True)])
        print(job.summary())
    return job.status()


def _places(dataset: dict[str, Any]) -> dict[str, Any]:
    steps = dataset["coordinateTransformations"]
    return {step["type"]: step[step["type"]] for step in steps}


def _level(array: Array, places: dict[str, Any]) -> str:
    shards = f", shards {shape_text(array.shards)}" if array.shards else ""
    scale = " × ".join(f"{length:g}" for length in places["scale"])
    return f"{shape_text(array.shape)} {array.dtype}, chunks {shape_text(array.chunks)}{shards}, scale {scale}"
