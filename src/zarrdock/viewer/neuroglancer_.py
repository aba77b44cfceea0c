"""Neuroglancer on an array or an OME-Zarr image, from any store: the data goes through a server of our own, and the
viewer's client comes out of its Python package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.metadata.grid import RectilinearGrid
from zarrdock.array.metadata.keys import SeparatedKeys
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.codecs.codec import Codec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import UnsupportedError
from zarrdock.serve.server import Server
from zarrdock.stores.base import Store
from zarrdock.viewer.multiscale import Axis, Picture, open_picture
from zarrdock.viewer.pictures import value_range
from zarrdock.views.formats import as_v3
from zarrdock.views.reencoded import ReencodedView
from zarrdock.views.regular import RegularView
from zarrdock.views.unsharded import unshard

__all__ = ["Viewing"]

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


class Viewing:
    """A viewer and a server of what it shows: ``with Viewing("s3://bucket/brain.zarr") as viewing: viewing.url``.

    Args:
        target: an array, a group that is an OME-Zarr image, or anything :func:`zarrdock.open_store` takes.
        path: of the node in it.
        host: address that both servers listen on, and the browser finds them at. port: of the data; 0 takes a free one.
        is_segmentation: show numbers as segments, each in a colour of its own.
        reencode: show chunks that the viewer cannot decode re-encoded on the fly, and data types that it does not know
            as others: float64 and float16 as float32, bool as uint8, int64 as int32 or uint32 (as uint64, where they
            are segments). Values beyond the end of the smaller type are shown as its last.
        log: told of every request for data: method, path, status, bytes sent.

    Attributes:
        url: of the page, once entered. viewer: Neuroglancer's own object, whose state can be changed.
        server: of the data.

    Raises:
        UnsupportedError: a data type or codec that the viewer does not know, or its package is missing; values to be
            shown that neither int32 nor uint32 has.
    """

    def __init__(
        self,
        target: Any,
        *,
        path: str = "",
        storage_options: dict[str, Any] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        is_segmentation: bool = False,
        reencode: bool = False,
        log: Callable[[str, str, int, int], None] | None = None,
    ) -> None:
        if host in ("", "0.0.0.0", "::"):
            raise UnsupportedError(
                "give the address at which the browser reaches this machine, since it requests the data there"
            )
        picture = open_picture(target, path=path, storage_options=storage_options)
        if reencode:
            dtypes = _dtypes(picture, is_segmentation)
            picture = open_picture(_decodable(picture.store, dtypes), path=picture.path)
        _check(picture)
        self.picture = picture
        self.host = host
        self.is_segmentation = is_segmentation
        self.server = Server(picture.store, host=host, port=port, log=log)
        self.url = ""
        self.viewer: Any = None

    def __enter__(self) -> Self:
        try:
            import neuroglancer
        except ImportError as error:
            raise UnsupportedError(f'looking needs Neuroglancer: pip install "zarrdock[view]" ({error})') from error
        low, high = (0.0, 0.0) if self.is_segmentation else value_range(self.picture)
        self.server.__enter__()
        try:
            neuroglancer.set_server_bind_address(self.host, 0)
            self.viewer = neuroglancer.Viewer()
            with self.viewer.txn() as state:
                self._fill(neuroglancer, state, low, high)
            self.url = str(self.viewer.get_viewer_url())
        except BaseException:
            self.server.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        import neuroglancer

        self.viewer = None
        neuroglancer.stop()
        self.server.__exit__(*error)

    def _fill(self, library: Any, state: Any, low: float, high: float) -> None:
        picture = self.picture
        source = f"zarr{picture.levels[0].zarr_format}://{self.server.url}/{quote(_folder(picture.path))}"
        name = picture.path.rpartition("/")[2] or "data"
        if self.is_segmentation:
            state.layers[name] = library.SegmentationLayer(source=source)
        else:
            shader = SHADER.format(range=json.dumps(_limits(picture.levels[0], low, high)))
            state.layers[name] = library.ImageLayer(source=source, shader=shader)
        # The first three are shown to the right, down and into the screen.
        axes = _in_order(picture)
        units = [_unit(axis) for axis in axes]
        state.dimensions = library.CoordinateSpace(
            names=[axis.name for axis in axes], units=[unit for unit, _ in units], scales=[scale for _, scale in units]
        )
        state.layout = "4panel" if len(axes) > 2 else "xy"
        # All of it is to be seen at first; left alone the viewer shows a voxel a pixel, however large the volume is.
        lengths = dict(zip((axis.name for axis in picture.axes), picture.levels[0].shape, strict=True))
        extent = max(lengths[axis.name] * scale for axis, (_, scale) in zip(axes[:3], units, strict=False))
        smallest = min(scale for _, scale in units[:3])
        state.cross_section_scale = extent / smallest / PANEL_PIXELS
        state.projection_scale = 1.5 * extent / smallest


def _folder(path: str) -> str:
    return f"{path}/" if path else ""


def _limits(array: Array, low: float, high: float) -> list[float]:
    if high <= low:
        high = low + 1
    if array.dtype.kind == "f":
        return [low, high]
    return [int(low), max(int(low) + 1, int(-(-high // 1)))]


def _in_order(picture: Picture) -> list[Axis]:
    """Axes that the whole viewer has, the first three those of space; channels belong to their layer."""
    axes = [axis for axis in picture.axes if axis.kind != "channel"]
    space = {axis.name: axis for axis in axes if axis.kind == "space"}
    if not {"x", "y", "z"} <= space.keys():
        return axes[::-1]
    first = [space[name] for name in "xyz"]
    return first + [axis for axis in axes[::-1] if axis not in first]


def _unit(axis: Axis) -> tuple[str, float]:
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


def _check(picture: Picture) -> None:
    array = picture.levels[0]
    if picture.version is not None and picture.version.removesuffix("-dev") not in VERSIONS:
        said = picture.version or "none"
        raise UnsupportedError(
            f"the viewer knows OME-Zarr {' and '.join(VERSIONS)}, not {said}: name one of the arrays, such as "
            f"--path {array.path}"
        )
    if 0 in array.shape or not _in_order(picture):
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


def _decodable(store: Store, dtypes: Mapping[str, str]) -> Store:
    return ReencodedView(RegularView(unshard(as_v3(store))), _is_foreign, dtypes)


def _dtypes(picture: Picture, is_segmentation: bool) -> dict[str, str]:
    """Data types, and those they are shown as.

    Raises:
        UnsupportedError: 64-bit integers, and the range of values to be shown is in no type of 32 bits.
    """
    shown = dict(SHOWN_AS)
    if picture.levels[0].dtype.name == "int64" and 0 not in picture.levels[0].shape:
        if is_segmentation:
            shown["int64"] = "uint64"  # each number remains one of its own
            return shown
        low, high = value_range(picture)
        fitting = [name for name in ("int32", "uint32") if np.iinfo(name).min <= low and high <= np.iinfo(name).max]
        if not fitting:
            raise UnsupportedError(
                f"values from {low:.0f} to {high:.0f} are to be shown, which neither int32 nor uint32 has, and the "
                "viewer does not know int64: copy it to float32, or look at it as a segmentation"
            )
        shown["int64"] = fitting[0]
    return shown


def _is_foreign(node: ArrayMetadata) -> bool:
    return any(codec.name not in CODECS for codec in _codecs(node.codecs))


def _codecs(codecs: tuple[Codec, ...]) -> Iterator[Codec]:
    for codec in codecs:
        yield codec
        if isinstance(codec, Sharding):
            yield from _codecs(codec.codecs)
