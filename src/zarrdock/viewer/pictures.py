"""Pictures of planes, and the range of values that a picture should show. Only the chunks they need are read."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.errors import SelectionError, UnsupportedError
from zarrdock.viewer.multiscale import Picture, open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["contrast", "plane_of", "plot", "to_image", "value_range"]

SAMPLE_BYTES = 16 * 2**20
CHUNKS_AN_AXIS = 3


def plot(
    target: Any,
    *,
    path: str = "",
    size: int = 512,
    index: Mapping[int | str, int] | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Image:
    """A quick look: the last two axes as a grey picture, the others cut.

    Args:
        target: an array, a group that is an OME-Zarr image, or anything :func:`zarrdock.open_store` takes.
        path: of the node in it.
        size: longest side of the picture in pixels, at most.
        index: where to cut, by number or name of the axis, in elements of the finest level; by default in the middle,
            and time and channels at the first.
    Returns:
        A Pillow image, which notebooks show by themselves.
    Raises:
        UnsupportedError: nothing to look at, or Pillow is missing. SelectionError: no such place.

    Of an image in several resolutions the coarsest that is as large as the picture is read, and of that, or of a single
    array, every n-th row and column; chunks between them are left alone.

    >>> image = zarrdock.plot(zarrdock.create_array({}, data=np.eye(64)), size=32)
    >>> image.size
    (32, 32)
    """
    picture = open_picture(target, path=path, storage_options=storage_options)
    return to_image(plane_of(picture, size, index or {}))


def plane_of(picture: Picture, size: int, index: Mapping[int | str, int]) -> npt.NDArray[Any]:
    """Shape (height, width), each at most ``size``."""
    finest = picture.levels[0]
    if finest.dtype.kind not in "biuf" or 0 in finest.shape or not finest.ndim:
        raise UnsupportedError(f"an array of {finest.dtype} and shape {finest.shape} cannot be drawn")
    cuts = _cuts(picture, index)
    level = next(
        (level for level in reversed(picture.levels) if max(level.shape[-2:]) >= min(size, max(finest.shape[-2:]))),
        finest,
    )
    step = max(1, ceil(max(level.shape[-2:]) / size))
    at = [
        min(cut * length // whole, length - 1)
        for cut, length, whole in zip(cuts, level.shape[:-2], finest.shape[:-2], strict=True)
    ]
    plane = level.read((*at, *(slice(None, None, step) for _ in level.shape[-2:])))
    return plane if plane.ndim == 2 else plane[np.newaxis]


def _cuts(picture: Picture, index: Mapping[int | str, int]) -> list[int]:
    shape = picture.levels[0].shape[:-2]
    cuts = [
        0 if axis.kind in ("time", "channel") else length // 2
        for axis, length in zip(picture.axes, shape, strict=False)
    ]
    names = [axis.name for axis in picture.axes]
    for name, value in index.items():
        axis = names.index(name) if isinstance(name, str) and name in names else name
        if not isinstance(axis, int) or not 0 <= axis < len(shape) or not 0 <= value < shape[axis]:
            raise SelectionError(
                f"no such place: {name}={value}; axes {dict(zip(names, shape, strict=False))} can be cut"
            )
        cuts[axis] = value
    return cuts


def to_image(plane: npt.NDArray[Any]) -> Image:
    """Grey levels of a plane, its extreme values cut off."""
    try:
        import PIL.Image
    except ImportError as error:
        raise UnsupportedError(f'a picture needs Pillow: pip install "zarrdock[cli]" ({error})') from error
    values = plane.astype(np.float64)
    low, high = contrast(values)
    scaled = np.clip((np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0), 0, 1)
    return PIL.Image.fromarray((scaled * 255).round().astype(np.uint8))


def value_range(picture: Picture) -> tuple[float, float]:
    """The values that should be shown as black and as white, from the coarsest level, or a few chunks of it."""
    return contrast(_sample(picture.levels[-1]).astype(np.float64))


def contrast(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The values that should be shown as black and as white."""
    seen = values[np.isfinite(values)]
    if not seen.size:
        return 0.0, 1.0
    # A few extreme values must not leave the rest dark.
    low, high = (float(x) for x in np.percentile(seen, (0.5, 99.5)))
    return (low, high) if high > low else (float(seen.min()), float(seen.max()))


def _sample(array: Array) -> npt.NDArray[Any]:
    """Sample of an array: all of a small one, a few chunks spread over a large one, in one read."""
    if array.nbytes <= SAMPLE_BYTES:
        return array.read()
    chunks = array.chunks
    grid = [-(-length // chunk) for length, chunk in zip(array.shape, chunks, strict=True)]
    n_axis = CHUNKS_AN_AXIS
    while n_axis > 1 and prod(min(n_axis, n) * c for n, c in zip(grid, chunks, strict=True)) > _elements(array):
        n_axis -= 1
    positions = [np.unique(np.linspace(0, n - 1, n_axis + 2)[1:-1].round().astype(int)) for n in grid]
    # Chunks that are larger than that cost what they cost, but need not all be held.
    n_kept = prod(len(at) * chunk for at, chunk in zip(positions, chunks, strict=True))
    step = max(1, ceil((n_kept / _elements(array)) ** (1 / array.ndim)))
    picked = [
        np.concatenate([np.arange(i * chunk, min((i + 1) * chunk, length), step) for i in at])
        for at, chunk, length in zip(positions, chunks, array.shape, strict=True)
    ]
    sample: npt.NDArray[Any] = array.oindex[tuple(picked)]
    return sample


def _elements(array: Array) -> int:
    return SAMPLE_BYTES // array.dtype.itemsize
