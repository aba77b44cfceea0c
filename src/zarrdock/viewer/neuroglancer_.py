"""Neuroglancer on an array or an OME-Zarr image, from any store: the data goes through a server of our own, and the
viewer's client comes out of its Python package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from zarrdock.errors import UnsupportedError
from zarrdock.serve.server import Server
from zarrdock.stores.base import Store
from zarrdock.viewer.multiscale import Picture, open_picture
from zarrdock.viewer.neuroglancer_state import (
    PANEL_PIXELS,
    SHADER,
    SHOWN_AS,
    axes_in_order,
    check,
    is_foreign,
    limits,
    unit_of,
)
from zarrdock.viewer.pictures import value_range
from zarrdock.views.formats import as_v3
from zarrdock.views.reencoded import ReencodedView
from zarrdock.views.regular import RegularView
from zarrdock.views.unsharded import unshard

__all__ = ["Viewing"]


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
        check(picture)
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
            shader = SHADER.format(range=json.dumps(limits(picture.levels[0], low, high)))
            state.layers[name] = library.ImageLayer(source=source, shader=shader)
        # The first three are shown to the right, down and into the screen.
        axes = axes_in_order(picture)
        units = [unit_of(axis) for axis in axes]
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


def _decodable(store: Store, dtypes: Mapping[str, str]) -> Store:
    return ReencodedView(RegularView(unshard(as_v3(store))), is_foreign, dtypes)


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
