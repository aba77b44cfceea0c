"""The ``reshape`` codec: the same elements in the same order, in another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, TypeAlias

from zarrdock.codecs.codec import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.errors import MetadataError
from zarrdock.json_ import expect_integer, known_members

__all__ = ["BoundReshape", "Reshape"]

Dimension: TypeAlias = "int | tuple[int, ...]"


@dataclass(frozen=True, slots=True)
class Reshape(ArrayArrayCodec):
    """Change the shape, as a view if the chunk's memory allows.

    Args:
        shape: for each dimension of the encoded chunk its length; or the numbers of the dimensions of the decoded
            chunk that it joins, in their order; or, once, -1 for what is left.
    Source: Zarr extensions, codec ``reshape``.

    >>> codecs = [zarrdock.Reshape((6,))]
    >>> array = zarrdock.create_array({}, data=np.arange(6).reshape(2, 3), filters=codecs)
    >>> array[1].tolist()
    [3, 4, 5]
    """

    name: ClassVar[str] = "reshape"
    shape: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        shape: object = self.shape
        expected = "a list of lengths, lists of dimensions, and at most one -1"
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise MetadataError(pointer="/shape", expected=expected, found=shape)
        parsed: list[Dimension] = []
        joined: list[int] = []
        for i, item in enumerate(shape):
            if isinstance(item, Sequence) and not isinstance(item, str):
                dims = tuple(expect_integer(d, f"/shape/{i}/{j}", 0, 2**31) for j, d in enumerate(item))
                joined.extend(dims)
                parsed.append(dims)
            elif item == -1 and type(item) is int and -1 not in parsed:
                parsed.append(-1)
            else:
                parsed.append(expect_integer(item, f"/shape/{i}", 1, 2**63 - 1))
        if joined != sorted(set(joined)):
            message = "reshape never transposes: the dimensions it names must be in increasing order"
            raise MetadataError(message, pointer="/shape", expected="each once, increasing", found=shape)
        object.__setattr__(self, "shape", tuple(parsed))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Reshape:
        return cls(**{"shape": None, **known_members(configuration, ("shape",))})

    def to_json(self) -> dict[str, Any]:
        shape = [list(item) if isinstance(item, tuple) else item for item in self.shape]
        return {"name": self.name, "configuration": {"shape": shape}}

    def bind(self, spec: ChunkSpec) -> BoundReshape:
        return BoundReshape(spec, self._encoded_shape(spec.shape))

    def _encoded_shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        pointer = "/configuration/shape"
        shape: list[int] = []
        for i, item in enumerate(self.shape):
            if isinstance(item, tuple):
                if item and item[-1] >= len(before):
                    expected = f"a dimension of a chunk that has {len(before)}"
                    raise MetadataError(pointer=f"{pointer}/{i}", expected=expected, found=item[-1])
                shape.append(prod(before[d] for d in item))
            else:
                shape.append(item)
        size = prod(before)
        if -1 in shape:
            known = prod(n for n in shape if n != -1)
            shape[shape.index(-1)] = size // known if known else 0
        if prod(shape) != size:
            expected = f"a shape with the {size} elements of {list(before)}"
            raise MetadataError(pointer=pointer, expected=expected, found=list(self.shape))
        for i, item in enumerate(self.shape):
            if isinstance(item, tuple) and item:
                # Consecutive by now: if they were not, one of the two products would differ.
                in_front, behind = prod(before[: item[0]]), prod(before[item[-1] + 1 :])
                if prod(shape[:i]) != in_front or prod(shape[i + 1 :]) != behind:
                    expected = f"{in_front} elements in front of the dimensions {list(item)} and {behind} behind them"
                    raise MetadataError(pointer=f"{pointer}/{i}", expected=expected, found=list(self.shape))
        return tuple(shape)


class BoundReshape(BoundArrayArray):
    """Decoding is a view; so is encoding, of an array in C order."""

    __slots__ = ("decoded", "encoded")

    def __init__(self, spec: ChunkSpec, shape: tuple[int, ...]) -> None:
        self.decoded = spec
        self.encoded = ChunkSpec(shape, spec.dtype, spec.fill_value)

    def encode(self, array: AnyArray) -> AnyArray:
        return array.reshape(self.encoded.shape)

    def decode(self, array: AnyArray) -> AnyArray:
        return array.reshape(self.decoded.shape)
