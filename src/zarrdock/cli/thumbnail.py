"""``zarrdock thumbnail``: a quick look without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarrdock.cli.app import click
from zarrdock.cli.options import node_options
from zarrdock.errors import UnsupportedError
from zarrdock.viewer.multiscale import open_picture
from zarrdock.viewer.pictures import plane_of, to_image

__all__ = ["command"]


@click.command("thumbnail")
@node_options
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--size", default=512, show_default=True, type=click.IntRange(8, 8192), help="Longest side in pixels.")
@click.option(
    "--index",
    "indices",
    multiple=True,
    metavar="AXIS=I",
    help="Where to cut an axis, by its number or name; by default the middle, of time and channels the first.",
)
def command(
    url: str, path: str, storage_options: dict[str, Any], out: Path, size: int, indices: tuple[str, ...]
) -> None:
    """Write a picture of the array or OME-Zarr image at URL to OUT: its last two axes, the others cut.

    Of an image in several resolutions the coarsest is read that is as large as the picture. Of a plane that is larger
    than the picture only every n-th row and column is read, as far as chunks allow.
    """
    index = dict(_cut(item) for item in indices)
    picture = open_picture(url, path=path, storage_options=storage_options or None)
    plane = plane_of(picture, size, index)
    try:
        to_image(plane).save(out)
    except ValueError as error:  # Pillow's word for a name that says no format
        raise UnsupportedError(f"{out}: {error}: use a name that ends in .png") from error
    shape = picture.levels[0].shape
    print(f"{out}: {plane.shape[1]} x {plane.shape[0]} pixels of {' x '.join(map(str, shape))}")


def _cut(item: str) -> tuple[int | str, int]:
    axis, equals, index = item.partition("=")
    if not equals or not axis or not index.isdecimal():
        raise click.BadParameter(f"{item!r}: write AXIS=I, such as 0=17 or z=17")
    return int(axis) if axis.isdecimal() else axis, int(index)
