"""The ``scale_offset`` codec: subtract, then multiply, in the arithmetic of the array's own data type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zarrdock.codecs.codec import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.codecs.element_bits import Element, element_of
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import known_members

__all__ = ["BoundScaleOffset", "ScaleOffset"]


@dataclass(frozen=True, slots=True)
class ScaleOffset(ArrayArrayCodec):
    """Encodes ``(x - offset) * scale``, decodes ``x / scale + offset``.

    Results that the data type cannot hold are errors: an integer that is too large, and one that does not divide.

    Args:
        offset, scale: in the form of fill values: numbers, or "NaN", "Infinity", "-Infinity" and "0x..." for floats.
    Source: Zarr extensions, codec ``scale_offset``.

    >>> array = zarrdock.create_array({}, data=[20.0, 20.5], filters=[zarrdock.ScaleOffset(offset=20, scale=2)])
    >>> array[...].tolist()
    [20.0, 20.5]
    """

    name: ClassVar[str] = "scale_offset"
    offset: int | float | str = 0
    scale: int | float | str = 1

    def __post_init__(self) -> None:
        for name in ("offset", "scale"):
            value = getattr(self, name)
            if isinstance(value, np.generic):
                value = value.item()
                object.__setattr__(self, name, value)
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise MetadataError(pointer=f"/{name}", expected="a number", found=value)

    @classmethod
    def from_json(cls, configuration: Configuration) -> ScaleOffset:
        # Both are required, but writers leave out an offset of 0 and a scale of 1.
        return cls(**known_members(configuration, ("offset", "scale")))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"offset": self.offset, "scale": self.scale}}

    def bind(self, spec: ChunkSpec) -> BoundScaleOffset:
        element = element_of(spec.dtype)
        if element is None or element.kind == "b" or element.n_components != 1:
            raise MetadataError(f"scale_offset works on integers and floats, not {spec.dtype}")
        offset = element.scalar(self.offset, "/configuration/offset")
        scale = element.scalar(self.scale, "/configuration/scale")
        if scale == 0:
            raise MetadataError(pointer="/configuration/scale", expected="anything but 0", found=self.scale)
        return BoundScaleOffset(spec, element, offset, scale)


class BoundScaleOffset(BoundArrayArray):
    """Chunks of the same shape and dtype on both sides."""

    __slots__ = ("_element", "_offset", "_scale", "_work", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, element: Element, offset: Any, scale: Any) -> None:
        self.decoded = spec
        self._element = element
        # Integers of less than a byte know no remainders.
        self._work = np.dtype(np.int8) if element.kind != "f" and element.bits < 8 else element.native
        self._offset = self._work.type(offset)
        self._scale = self._work.type(scale)
        try:
            fill = self.encode(np.full((1,), spec.fill_value, spec.dtype))[0]
        except CodecError as error:
            message = f"the fill value cannot be encoded: {error.reason}"
            raise MetadataError(message, pointer="/configuration") from error
        self.encoded = ChunkSpec(spec.shape, element.native, fill)

    def encode(self, array: AnyArray) -> AnyArray:
        array = array.astype(self._work, copy=False)
        if self._element.kind != "f":
            offset, scale = int(self._offset), int(self._scale)
            self._check([(x - offset) * scale for x in _extremes(array)], "encode")
        # Integers may wrap around on the way: the result was found to fit.
        with np.errstate(all="ignore"):
            return np.asarray((array - self._offset) * self._scale).astype(self._element.native, copy=False)

    def decode(self, array: AnyArray) -> AnyArray:
        array = array.astype(self._work, copy=False)
        if self._element.kind == "f":
            with np.errstate(all="ignore"):
                return np.asarray(array / self._scale + self._offset)
        offset, scale = int(self._offset), int(self._scale)
        self._check([x // scale + offset for x in _extremes(array)], "decode")
        with np.errstate(all="ignore"):
            if scale != 1 and (array % self._scale).any():
                raise CodecError(f"integers that are no multiples of the scale {scale}", codec=ScaleOffset.name)
            return np.asarray(array // self._scale + self._offset).astype(self._element.native, copy=False)

    def _check(self, values: list[int], direction: str) -> None:
        low, high = self._element.limits()
        for value in values:
            if not low <= value <= high:
                message = f"{value} is not within {low} to {high}, the range of {self._element.native}"
                raise CodecError(message, codec=ScaleOffset.name, direction=direction)


def _extremes(array: AnyArray) -> list[int]:
    """Both steps are monotonic, so what holds for these holds for all elements."""
    return [int(array.min()), int(array.max())] if array.size else []
