"""The metadata of an OME-Zarr 0.5 image. Pure functions, no I/O.

Source: OME-Zarr 0.5, "axes", "coordinateTransformations" and "multiscales" metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from zarrdock.errors import UnsupportedError
from zarrdock.pyramids.downsample import Method
from zarrdock.viewer.multiscale import Axis

__all__ = ["VERSION", "AxesLike", "document", "image_axes", "steps"]

VERSION = "0.5"

#: Axes as a user gives them: "zyx", a list of names, or of objects with "name", "type" and "unit".
AxesLike: TypeAlias = "str | Sequence[str | Mapping[str, Any]]"

_KINDS = {
    "t": "time", "time": "time", "c": "channel", "channel": "channel", "z": "space", "y": "space", "x": "space",
}  # fmt: skip
_ORDER = {"time": 0, "space": 2}  # anything else is between them
_BY_NDIM = {2: "yx", 3: "zyx", 5: "tczyx"}
_PREFIXES = {"p": "pico", "n": "nano", "u": "micro", "\u00b5": "micro", "\u03bc": "micro", "m": "milli", "c": "centi"}
_BASES = {"m": "meter", "s": "second"}
_SHORT = _BASES | {
    f"{prefix}{unit}": f"{word}{name}" for prefix, word in _PREFIXES.items() for unit, name in _BASES.items()
}

# Two levels differ by a factor of two: an axis whose voxel is longer than this, as a multiple of the shortest, waits.
_MUCH_LONGER = math.sqrt(2)
# Elements along an axis that need not be fewer, however small the chunks are.
_SMALL = 64


def image_axes(
    shape: tuple[int, ...],
    names: Sequence[str | None] | None,
    *,
    axes: AxesLike | None = None,
    scale: Sequence[float] | Mapping[str, float] | None = None,
    units: str | Mapping[str, str] | None = None,
    known: Sequence[Axis] | None = None,
) -> tuple[Axis, ...]:
    """The axes of an image, in the order of the array's dimensions.

    Args:
        names: of the array's dimensions.
        axes: given by a user; else they are those of ``known``, or follow from the names, or from the number of
            dimensions.
        scale: length of an element, one number an axis or by name. units: by name, or one for the spatial axes.
        known: axes of the image that the array is a level of.
    Raises:
        UnsupportedError: OME-Zarr has no form for such axes, or they don't fit the array.
    """
    ndim = len(shape)
    if not 2 <= ndim <= 5:
        raise UnsupportedError(f"an OME-Zarr image has 2 to 5 dimensions, and the array has {ndim}")
    if axes is not None:
        found = _given(axes, ndim)
    elif known is not None:
        found = tuple(known)
    else:
        found = tuple(_axis(name) for name in _names(names, ndim))
    if len(found) != ndim:
        raise UnsupportedError(f"axes={axes!r}: expected {ndim}, one per dimension of the array, found {len(found)}")
    _check(found)
    found = _scaled(found, scale)
    return _with_units(found, units)


def _names(names: Sequence[str | None] | None, ndim: int) -> Sequence[str]:
    if names is not None and any(name is not None for name in names):
        if any(name is None for name in names):
            raise UnsupportedError(f"some dimensions have no name ({list(names)}): name the axes, as in axes='zyx'")
        return [str(name) for name in names]
    if ndim not in _BY_NDIM:
        raise UnsupportedError(
            f"the array has {ndim} dimensions without names: name the axes, as in axes='czyx' or axes='tzyx'"
        )
    return _BY_NDIM[ndim]


def _given(axes: AxesLike, ndim: int) -> tuple[Axis, ...]:
    if isinstance(axes, str):
        is_letters = len(axes) == ndim or (axes.lower() not in _KINDS and all(one in _KINDS for one in axes.lower()))
        axes = [name.strip() for name in axes.split(",")] if "," in axes or not is_letters else list(axes)
    found: list[Axis] = []
    for one in axes:
        if isinstance(one, str):
            found.append(_axis(one))
        elif isinstance(one, Mapping) and isinstance(one.get("name"), str):
            kind = one.get("type")
            axis = _axis(one["name"]) if kind is None else Axis(one["name"], str(kind))
            found.append(replace(axis, unit=_unit(str(one.get("unit") or ""))))
        else:
            raise UnsupportedError(f"axes={axes!r}: expected names, or objects with a name, found {one!r}")
    return tuple(found)


def _axis(name: str) -> Axis:
    kind = _KINDS.get(name.lower())
    if kind is None:
        known = ", ".join(_KINDS)
        raise UnsupportedError(
            f"the axis {name!r} may be space, time or channel, which the names {known} tell: give axes=..., with such "
            f"names or as objects like {{'name': {name!r}, 'type': 'space'}}"
        )
    return Axis(name, kind)


def _check(axes: Sequence[Axis]) -> None:
    names = [axis.name for axis in axes]
    said = ", ".join(f"{axis.name} ({axis.kind})" for axis in axes)
    if len(set(names)) < len(names):
        raise UnsupportedError(f"two axes have one name: {said}")
    kinds = [axis.kind for axis in axes]
    n_space, n_time = kinds.count("space"), kinds.count("time")
    if n_space == 0:
        raise UnsupportedError(
            f"no axis is one of space, so that there is nothing to halve: {said}; axes=... names them"
        )
    if n_space not in (2, 3) or n_time > 1 or len(axes) - n_space - n_time > 1:
        raise UnsupportedError(
            f"an OME-Zarr image has 2 or 3 spatial axes, at most one of time, and at most one more: {said}"
        )
    order = [_ORDER.get(kind, 1) for kind in kinds]
    if order != sorted(order):
        raise UnsupportedError(
            f"the axes of an OME-Zarr image are ordered: time, channel, then space, and these are {said}: "
            "write the array with its dimensions in that order"
        )


def _scaled(axes: tuple[Axis, ...], scale: Sequence[float] | Mapping[str, float] | None) -> tuple[Axis, ...]:
    if scale is None:
        return axes
    names = [axis.name for axis in axes]
    if isinstance(scale, Mapping):
        unknown = [name for name in scale if name not in names]
        given = {name: scale[name] for name in names if name in scale}
    else:
        unknown = [] if len(scale) == len(axes) else [f"{len(scale)} numbers"]
        given = dict(zip(names, scale, strict=False))
    for name, length in given.items():
        if unknown or not isinstance(length, int | float) or not 0 < length < math.inf:
            unknown.append(f"{name}: {length!r}")
    if unknown:
        raise UnsupportedError(
            f"scale={scale!r}: expected a positive number an axis ({', '.join(names)}), found {', '.join(unknown)}"
        )
    return tuple(replace(axis, scale=float(given.get(axis.name, axis.scale))) for axis in axes)


def _with_units(axes: tuple[Axis, ...], units: str | Mapping[str, str] | None) -> tuple[Axis, ...]:
    if units is None:
        return axes
    if isinstance(units, str):
        units = {axis.name: units for axis in axes if axis.kind == "space"}
    names = [axis.name for axis in axes]
    for name in units:
        if name not in names:
            raise UnsupportedError(f"units={units!r}: there is no axis {name!r} ({', '.join(names)})")
    return tuple(replace(axis, unit=_unit(units.get(axis.name, axis.unit))) for axis in axes)


def _unit(unit: str) -> str:
    """The unit's name as OME-Zarr wants it: "um" is "micrometer"."""
    return _SHORT.get(unit, unit)


def steps(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    axes: Sequence[Axis],
    levels: int | None,
    *,
    isotropic: bool = False,
) -> list[tuple[bool, ...]]:
    """Axes that are halved from each level to the next; one tuple less than there are levels.

    Args:
        chunks: shape of a chunk: without ``levels`` there are as many as it takes to bring every spatial axis down to
            one of them, or to 64 elements.
        levels: number of levels, the finest included.
        isotropic: leave axes alone whose elements are longer than those of others, until the others have caught up.
    Raises:
        UnsupportedError: the array is too small for so many levels.
    """
    if levels is not None and levels < 1:
        raise UnsupportedError(f"levels={levels}: expected 1, for the finest alone, or more")
    if 0 in shape:
        raise UnsupportedError(f"the array has no elements: its shape is {shape}")
    found: list[tuple[bool, ...]] = []
    lengths, sizes = list(shape), [axis.scale for axis in axes]
    while levels is None or len(found) + 1 < levels:
        space = [i for i, axis in enumerate(axes) if axis.kind == "space"]
        if levels is None and all(lengths[i] <= max(chunks[i], _SMALL) for i in space):
            break
        able = [i for i in space if lengths[i] > 1]
        if isotropic and able:
            least = min(sizes[i] for i in able)
            able = [i for i in able if sizes[i] < least * _MUCH_LONGER]
        if not able:
            if levels is None:
                break
            raise UnsupportedError(
                f"levels={levels}: an array of shape {shape} can be halved {len(found)} times, which makes "
                f"{len(found) + 1} levels"
            )
        found.append(tuple(i in able for i in range(len(axes))))
        for i in able:
            lengths[i] = -(-lengths[i] // 2)
            sizes[i] *= 2
    return found


def document(
    name: str, axes: Sequence[Axis], paths: Sequence[str], halved: Sequence[Sequence[bool]], method: Method
) -> dict[str, Any]:
    """The attribute ``ome`` of a group that is an image.

    Args:
        paths: of the levels, the finest first. halved: axes that are halved from each to the next.
    """
    datasets = []
    factors = [1] * len(axes)
    for number, path in enumerate(paths):
        if number:
            factors = [factor * (1 + half) for factor, half in zip(factors, halved[number - 1], strict=True)]
        scale = [axis.scale * factor for axis, factor in zip(axes, factors, strict=True)]
        # An element is in the middle of those that it was made of; the nearest one stays where it was.
        middle = [0.0 if method == "nearest" else (factor - 1) / 2 for factor in factors]
        translation = [axis.translation + axis.scale * shift for axis, shift in zip(axes, middle, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(translation):
            steps.append({"type": "translation", "translation": translation})
        datasets.append({"path": path, "coordinateTransformations": steps})
    image = {
        "name": name,
        "axes": [_json(axis) for axis in axes],
        "datasets": datasets,
        "type": method,
        "metadata": {
            "description": f"each level is the {method} of the elements of the one before, two along an axis",
            "method": "zarrdock.pyramid",
        },
    }
    return {"version": VERSION, "multiscales": [image]}


def _json(axis: Axis) -> dict[str, str]:
    return {"name": axis.name, "type": axis.kind} | ({"unit": axis.unit} if axis.unit else {})
