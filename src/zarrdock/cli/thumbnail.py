"""``zarrdock thumbnail``: a quick look without a browser."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.array.metadata import ArrayMetadata
from zarrdock.cli.app import click
from zarrdock.cli.nodes import find
from zarrdock.cli.options import node_options
from zarrdock.errors import NodeNotFoundError, UnsupportedError

__all__ = ["command"]


@click.command("thumbnail")
@node_options
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--size", default=512, show_default=True, type=click.IntRange(8, 8192), help="Longest side in pixels.")
@click.option(
    "--index", "indices", multiple=True, metavar="AXIS=I", help="Where to cut an axis; the middle by default."
)
def command(
    url: str, path: str, storage_options: dict[str, Any], out: Path, size: int, indices: tuple[str, ...]
) -> None:
    """Write a picture of the array at URL to OUT: its last two axes, the others cut in the middle.

    Of a plane that is larger than the picture only every n-th row and column is read, as far as chunks allow.
    """
    found = find(url, path, storage_options)
    if not isinstance(found.node, ArrayMetadata):
        raise NodeNotFoundError(f"{url} is a group: give --path of an array in it (zarrdock tree {url})")
    array = Array(found.store, found.path, found.node, read_only=True)
    plane = _plane(array, size, _cuts(array, indices))
    _save(plane, out)
    print(f"{out}: {plane.shape[1]} x {plane.shape[0]} pixels of {' x '.join(map(str, array.shape))}")


def _cuts(array: Array, indices: tuple[str, ...]) -> dict[int, int]:
    cuts: dict[int, int] = {}
    for item in indices:
        axis, equals, index = item.partition("=")
        if not equals or not axis.isdecimal() or not index.isdecimal():
            raise click.BadParameter(f"{item!r}: write AXIS=I, such as 0=17")
        if int(axis) >= max(0, array.ndim - 2) or int(index) >= array.shape[int(axis)]:
            raise click.BadParameter(f"{item!r}: no such place in an array of shape {array.shape} that could be cut")
        cuts[int(axis)] = int(index)
    return cuts


def _plane(array: Array, size: int, cuts: dict[int, int]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf" or 0 in array.shape or not array.ndim:
        raise UnsupportedError(f"an array of {array.dtype} and shape {array.shape} is nothing to look at")
    step = max(1, ceil(max(array.shape[-2:]) / size))
    selection = [cuts.get(axis, array.shape[axis] // 2) for axis in range(array.ndim - 2)]
    plane = array.read((*selection, *(slice(None, None, step) for _ in array.shape[-2:])))
    return plane if plane.ndim == 2 else plane[np.newaxis]


def _save(plane: npt.NDArray[Any], out: Path) -> None:
    from PIL import Image

    values = plane.astype(np.float64)
    seen = values[np.isfinite(values)]
    # A few extreme values must not leave the rest dark.
    low, high = (float(x) for x in np.percentile(seen, (0.5, 99.5))) if seen.size else (0.0, 1.0)
    if high <= low:
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / ((high - low) or 1.0), 0, 1)
    try:
        Image.fromarray((scaled * 255).round().astype(np.uint8)).save(out)
    except ValueError as error:  # Pillow's word for a name that says no format
        raise UnsupportedError(f"{out}: {error}: use a name that ends in .png") from error
