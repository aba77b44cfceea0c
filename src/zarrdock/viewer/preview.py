"""A look at an array for a page: a picture, a curve or values, for a bounded number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.errors import UnsupportedError
from zarrdock.facts import count, size_text
from zarrdock.viewer.multiscale import Picture
from zarrdock.viewer.pictures import contrast, to_image

__all__ = ["Bounds", "Preview", "is_labels", "preview", "shows_colours"]

SIDE = 384
POINTS = 600
ROWS, COLUMNS = 12, 8
LABELS = ("label", "segment", "mask", "class", "category")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a look may cost: objects touched, bytes read, bytes decoded."""

    n_objects: int = 64
    nbytes: int = 8 * 2**20
    nbytes_decoded: int = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at an array.

    Attributes:
        said: the part of the array it shows, and its cost.
        image: address of a PNG, with the data in it. svg: a drawing. values: rows of texts.
        width, height: of the image in pixels. low, high: values shown as black and white, as texts.
    """

    said: str
    image: str = ""
    svg: str = ""
    values: tuple[tuple[str, ...], ...] = ()
    width: int = 0
    height: int = 0
    low: str = ""
    high: str = ""


def is_labels(array: Array) -> bool:
    """True for integers that stand for classes, by their attributes and names."""
    if array.dtype.kind not in "iu":
        return False
    attributes = array.metadata.attributes
    return "flag_values" in attributes or any(word in array.path.lower() for word in LABELS)


def preview(picture: Picture, cuts: Mapping[int, int], bounds: Bounds, *, labels: bool | None = None) -> Preview:
    """Look at an array or at the coarsest fitting level of an image.

    Args:
        cuts: where to cut axes, in elements of the finest level; by default in the middle, time and channels at 0.
        labels: show integers as colours; by default where names or attributes say that they are classes.
    Raises:
        UnsupportedError: nothing to show, or every look would cost more than the bounds. StoreError, ChunkError: the
            data cannot be read.
    """
    finest = picture.levels[0]
    if 0 in finest.shape:
        raise UnsupportedError("the array is empty")
    is_number = finest.dtype.kind in "biufc"
    if not is_number or not finest.ndim:
        return _values(finest, bounds)
    if finest.ndim == 1:
        return _curve(finest, bounds)
    as_labels = is_labels(finest) if labels is None else labels and finest.dtype.kind in "iu"
    is_rgb = shows_colours(picture)
    tries = [(level, *one) for level in _levels(picture) for one in _selections(picture, level, cuts, is_rgb)]
    # All of a coarser level rather than a window of a finer one.
    for level, selection, step, is_whole in sorted(tries, key=lambda one: not one[3]):
        if not _fits(level, selection, bounds):
            continue
        plan = level.plan(selection)
        if plan.nbytes > bounds.nbytes:
            continue
        plane = level.read(selection)
        where = _where(picture, level, selection, step, is_whole)
        cost = f"{size_text(plan.nbytes)} read in {count(plan.n_requests, 'request')}"
        return _drawn(plane, f"{where}: {cost}", is_rgb=is_rgb, as_labels=as_labels)
    raise UnsupportedError(
        f"a look would read more than {size_text(bounds.nbytes)}, decode more than "
        f"{size_text(bounds.nbytes_decoded)} or touch more than {bounds.n_objects} objects"
    )


def _levels(picture: Picture) -> Iterator[Array]:
    """Levels worth a try: the coarsest that fills the picture, then the coarser ones."""
    wanted = min(SIDE, max(picture.levels[0].shape[-2:]))
    first = next((i for i, one in reversed(list(enumerate(picture.levels))) if max(one.shape[-2:]) >= wanted), 0)
    yield from picture.levels[first:]


def shows_colours(picture: Picture) -> bool:
    """True for colours in the last axis, as cameras and scanners store them."""
    array = picture.levels[0]
    return array.ndim >= 3 and array.dtype == np.uint8 and array.shape[-1] in (3, 4) and min(array.shape[-3:-1]) > 4


def _selections(
    picture: Picture, level: Array, cuts: Mapping[int, int], is_rgb: bool
) -> Iterator[tuple[tuple[Any, ...], int, bool]]:
    """Selections of a plane, the step, and whether all of the plane is in it: first all, then windows in its middle."""
    n_plane = 3 if is_rgb else 2
    finest = picture.levels[0]
    at = []
    for i, (axis, length, whole) in enumerate(zip(picture.axes, level.shape, finest.shape, strict=True)):
        if i >= level.ndim - n_plane:
            break
        cut = cuts.get(i, 0 if axis.kind in ("time", "channel") else whole // 2)
        at.append(min(min(max(cut, 0), whole - 1) * length // whole, length - 1))
    rest = (slice(None),) if is_rgb else ()
    sides = level.shape[len(at) : len(at) + 2]
    step = max(1, ceil(max(sides) / SIDE))
    yield (*at, *(slice(None, None, step) for _ in sides), *rest), step, True
    for window in (4 * SIDE, SIDE, *(() if _irregular(level) else (0,))):
        spans = []
        for length, chunk in zip(sides, level.chunks[len(at) : len(at) + 2] if not window else sides, strict=True):
            size = window or min(chunk, length)
            start = max(0, (length - size) // 2) if window else (length // 2) // chunk * chunk
            spans.append((start, min(start + size, length)))
        step = max(1, ceil(max(stop - start for start, stop in spans) / SIDE))
        yield (*at, *(slice(start, stop, step) for start, stop in spans), *rest), step, False


def _irregular(array: Array) -> bool:
    try:
        return not array.chunks
    except Exception:  # chunks that differ in shape have no one shape
        return True


def _fits(array: Array, selection: tuple[Any, ...], bounds: Bounds) -> bool:
    """Weigh objects and decoded bytes before anything is asked for: planning itself reads the indexes of shards."""
    largest = array.metadata.grid.largest
    leaf = largest if _irregular(array) else array.chunks

    def touched(unit: tuple[int, ...]) -> int:
        n = 1
        for one, length, side in zip(selection, array.shape, unit, strict=True):
            if isinstance(one, slice):
                start, stop, step = one.indices(length)
                n *= min((stop - 1) // side - start // side + 1, len(range(start, stop, step)))
        return n

    decoded = touched(leaf) * prod(leaf) * array.dtype.itemsize
    return touched(largest) <= bounds.n_objects and decoded <= bounds.nbytes_decoded


def _where(picture: Picture, level: Array, selection: tuple[Any, ...], step: int, is_whole: bool) -> str:
    parts = [f"{axis.name} = {at}" for axis, at in zip(picture.axes, selection, strict=False) if isinstance(at, int)]
    if not is_whole:
        parts.append("the middle")
    if step > 1:
        parts.append(f"every {_ordinal(step)} element")
    if len(picture.levels) > 1:
        parts.append(f"level {picture.levels.index(level)} of {len(picture.levels)}")
    return ", ".join(parts) or "all of it"


def _ordinal(n: int) -> str:
    """``2nd``, ``11th``, ``23rd``."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def _drawn(plane: npt.NDArray[Any], said: str, *, is_rgb: bool, as_labels: bool) -> Preview:
    low = high = ""
    if is_rgb:
        import PIL.Image

        image = PIL.Image.fromarray(np.ascontiguousarray(plane))
    elif as_labels:
        import PIL.Image

        image = PIL.Image.fromarray(_colours(plane))
    else:
        if plane.dtype.kind == "c":
            plane, said = np.abs(plane), f"{said}; magnitude"
        image = to_image(plane)
        low, high = (f"{value:.6g}" for value in contrast(plane.astype(np.float64)))
    buffer = io.BytesIO()
    image.save(buffer, "png")
    data = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Preview(said, image=data, width=image.width, height=image.height, low=low, high=high)


def _colours(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """A colour for each number, the same on every page; 0 is black."""
    bits = labels.astype(np.uint64, copy=False) * np.uint64(0x9E3779B97F4A7C15)
    channels = [(bits >> np.uint64(shift)) & np.uint64(0xFF) for shift in (56, 48, 40)]
    colours = np.stack(channels, axis=-1).astype(np.uint16) * 176 // 255 + 64
    colours[labels == 0] = 0
    return colours.astype(np.uint8)


def _curve(array: Array, bounds: Bounds) -> Preview:
    """A curve through every n-th element; of a long array that would cost too much, through those at its beginning."""
    n = array.shape[0]
    for stop in (n, min(n, 100 * POINTS), min(n, POINTS)):
        step = max(1, ceil(stop / POINTS))
        selection = (slice(0, stop, step),)
        if not _fits(array, selection, bounds):
            continue
        plan = array.plan(selection)
        if plan.nbytes > bounds.nbytes:
            continue
        values = array.read(selection)
        of = "" if stop == n else f" of the first {stop:,}"
        said = f"{'all elements' if step == 1 else f'every {_ordinal(step)} element'}{of}"
        said += f": {size_text(plan.nbytes)} read"
        shown = np.abs(values) if values.dtype.kind == "c" else values
        if values.dtype.kind == "c":
            said += "; magnitude"
        return Preview(said, svg=_curve_svg(shown.astype(np.float64)), values=_rows(values[:COLUMNS]))
    raise UnsupportedError(f"a look would read more than {size_text(bounds.nbytes)}")


def _curve_svg(values: npt.NDArray[np.float64]) -> str:
    width, height = 600.0, 160.0
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, high = float(finite.min()), float(finite.max())
    ys = height - (values - low) / ((high - low) or 1.0) * height
    xs = np.linspace(0, width, len(values)) if len(values) > 1 else np.array([width / 2])
    runs: list[list[str]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if np.isfinite(y):
            runs[-1].append(f"{x:.1f},{y:.1f}")
        elif runs[-1]:
            runs.append([])
    lines = "".join(
        f"<polyline class='curve' fill='none' stroke='#1f5fa8' stroke-width='1.5' points='{' '.join(run)}'/>"
        if len(run) > 1
        else f"<circle class='dot' r='2' fill='#1f5fa8' cx='{run[0].split(',')[0]}' cy='{run[0].split(',')[1]}'/>"
        for run in runs
        if run
    )
    texts = "".join(
        f"<text class='scale' x='0' y='{y}' font-size='12' fill='#7a8ba0'>{escape(f'{value:.6g}')}</text>"
        for y, value in ((-6, high), (height + 16, low))
    )
    return f"<svg role='img' viewBox='-4 -20 {width + 8:.0f} {height + 42:.0f}'>{lines}{texts}</svg>"


def _values(array: Array, bounds: Bounds) -> Preview:
    """The first values of the first rows; of further axes the first."""
    n = array.ndim
    selection = tuple(slice(0, ROWS if i == n - 2 or n == 1 else COLUMNS if i == n - 1 else 1) for i in range(n))
    if not _fits(array, selection, replace(bounds, n_objects=max(bounds.n_objects, 1))):
        raise UnsupportedError(f"a look would decode more than {size_text(bounds.nbytes_decoded)}")
    plan = array.plan(selection)
    if plan.nbytes > bounds.nbytes:
        raise UnsupportedError(f"a look would read more than {size_text(bounds.nbytes)}")
    found = np.asarray(array.read(selection))
    if n > 1:
        found = found.reshape(found.shape[-2:])
    elif n == 1:
        found = found[:, np.newaxis]
    said = "the value" if not n else "the first values"
    return Preview(f"{said}: {size_text(plan.nbytes)} read", values=_rows(found))


def _rows(values: npt.NDArray[Any]) -> tuple[tuple[str, ...], ...]:
    at_least_2d = values.reshape(1, -1) if values.ndim < 2 else values
    return tuple(tuple(_short(value) for value in row) for row in at_least_2d)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
