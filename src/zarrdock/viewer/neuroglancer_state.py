"""Neuroglancer's state for an array or an OME-Zarr image: axes, units, contrast, and limits of the viewer. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from zarrdock.array.array import Array
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.codecs.codec import Codec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import UnsupportedError
from zarrdock.viewer.multiscale import Axis, Picture

__all__ = [
    "PANEL_PIXELS",
    "SHADER",
    "SHOWN_AS",
    "axes_in_order",
    "check",
    "is_foreign",
    "limits",
    "link",
    "unit_of",
]

# What the viewer decodes, as of its release 2.41.
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")
# What it is shown in the place of others. 64-bit integers depend on the values: see :func:`_dtypes`.
SHOWN_AS = {"bool": "uint8", "float16": "float32", "float64": "float32"}
CODECS = ("bytes", "blosc", "crc32c", "gzip", "transpose", "zstd", "sharding_indexed")
V2_CODECS = ("bytes", "blosc", "gzip", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.blosc", "numcodecs.zstd", "zstd")
UNITS = {
    "angstrom": ("m", 1e-10),
    "foot": ("m", 0.3048),
    "inch": ("m", 0.0254),
    "mile": ("m", 1609.34),
    "yard": ("m", 0.9144),
    "minute": ("s", 60.0),
    "hour": ("s", 3600.0),
    "day": ("s", 86400.0),
}
PREFIXES = {
    "": 0, "yotta": 24, "zetta": 21, "exa": 18, "peta": 15, "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2,
    "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12, "femto": -15, "atto": -18,
    "zepto": -21, "yocto": -24,
}  # fmt: skip
PANEL_PIXELS = 400
VERSIONS = ("0.4", "0.5")

SHADER = """#uicontrol invlerp normalized(range={range})
void main() {{
  emitGrayscale(normalized());
}}
"""


# The page that its makers serve, for browsers without a viewer of their own.
PAGE = "https://neuroglancer-demo.appspot.com/"


def link(picture: Picture, url: str, low: float, high: float, *, is_segmentation: bool = False) -> str:
    """Address of Neuroglancer's public page with a picture in it.

    Args:
        url: of the picture's node over HTTP, ending in "/". low, high: values shown as black and white.
    Raises:
        UnsupportedError: a data type, codec or unit that the viewer does not know.
    """
    check(picture)
    axes = axes_in_order(picture)
    layer: dict[str, Any] = {
        "type": "segmentation" if is_segmentation else "image",
        "source": f"zarr{picture.levels[0].zarr_format}://{url}",
        "name": picture.path.rpartition("/")[2] or "data",
    }
    if not is_segmentation:
        layer["shader"] = SHADER.format(range=json.dumps(limits(picture.levels[0], low, high)))
    units = {axis.name: unit_of(axis) for axis in axes}
    lengths = dict(zip((axis.name for axis in picture.axes), picture.levels[0].shape, strict=True))
    extent = max(lengths[axis.name] * units[axis.name][1] for axis in axes[:3])
    state = {
        "dimensions": {name: [scale, unit] for name, (unit, scale) in units.items()},
        "crossSectionScale": extent / min(units[axis.name][1] for axis in axes[:3]) / PANEL_PIXELS,
        "layers": [layer],
        "layout": "4panel" if len(axes) > 2 else "xy",
    }
    return f"{PAGE}#!{quote(json.dumps(state, separators=(',', ':')))}"


def limits(array: Array, low: float, high: float) -> list[float]:
    if high <= low:
        high = low + 1
    if array.dtype.kind == "f":
        return [low, high]
    return [int(low), max(int(low) + 1, int(-(-high // 1)))]


def axes_in_order(picture: Picture) -> list[Axis]:
    """Axes that the whole viewer has, the first three those of space; channels belong to their layer."""
    axes = [axis for axis in picture.axes if axis.kind != "channel"]
    space = {axis.name: axis for axis in axes if axis.kind == "space"}
    if not {"x", "y", "z"} <= space.keys():
        return axes[::-1]
    first = [space[name] for name in "xyz"]
    return first + [axis for axis in axes[::-1] if axis not in first]


def unit_of(axis: Axis) -> tuple[str, float]:
    """Unit and scale as the viewer itself will have them.

    Raises:
        UnsupportedError: a unit that it does not know, and would show nothing for.
    """
    if not axis.unit:
        return "", axis.scale
    if axis.unit in UNITS:
        unit, factor = UNITS[axis.unit]
        return unit, axis.scale * factor
    for name, unit in (("meter", "m"), ("second", "s")):
        prefix = axis.unit.removesuffix(name)
        if axis.unit.endswith(name) and prefix in PREFIXES:
            return unit, axis.scale * 10.0 ** PREFIXES[prefix]
    raise UnsupportedError(f"the viewer does not know the unit {axis.unit!r} of axis {axis.name!r}")


def check(picture: Picture) -> None:
    array = picture.levels[0]
    if picture.version is not None and picture.version.removesuffix("-dev") not in VERSIONS:
        said = picture.version or "none"
        raise UnsupportedError(
            f"the viewer knows OME-Zarr {' and '.join(VERSIONS)}, not {said}: name one of the arrays, such as "
            f"--path {array.path}"
        )
    if 0 in array.shape or not axes_in_order(picture):
        raise UnsupportedError(f"an array of shape {array.shape} has no picture to show")
    name = array.dtype.name
    if name not in DTYPES:
        other = "one of the others" if name == "int64" else SHOWN_AS.get(name)
        way = "copy it to one of them" if other is None else f"--reencode (reencode=True) shows it as {other}"
        raise UnsupportedError(f"the viewer shows {', '.join(DTYPES)}, not {array.dtype}: {way}")
    known = CODECS if array.zarr_format == 3 else V2_CODECS
    for level in picture.levels:
        if isinstance(level.metadata.grid, RectilinearGrid):
            raise UnsupportedError(
                f"the viewer knows only chunks of one shape, and {level.path or '/'!r} has others: --reencode "
                "(reencode=True) makes such ones"
            )
        if not isinstance(level.key_encoding, SeparatedKeys):
            raise UnsupportedError(
                f"the viewer does not know the chunk key encoding {level.key_encoding.name!r} of "
                f"{level.path or '/'!r}: look at zarrdock.views.as_v2(store)"
            )
        for codec in _codecs(level.metadata.codecs):
            if codec.name not in known and not (level.zarr_format == 2 and codec.name == "transpose"):
                raise UnsupportedError(
                    f"the viewer cannot decode {codec.name!r} of {level.path or '/'!r}: --reencode (reencode=True) "
                    "decodes it here"
                )


def is_foreign(node: ArrayMetadata) -> bool:
    return any(codec.name not in CODECS for codec in _codecs(node.codecs))


def _codecs(codecs: tuple[Codec, ...]) -> Iterator[Codec]:
    for codec in codecs:
        yield codec
        if isinstance(codec, Sharding):
            yield from _codecs(codec.codecs)
