"""The ``transpose`` codec: another order of dimensions, as a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from zarrdock.codecs.codec import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.errors import MetadataError
from zarrdock.json_ import expect_integer, known_members

__all__ = ["BoundTranspose", "Transpose"]


@dataclass(frozen=True, slots=True)
class Transpose(ArrayArrayCodec):
    """Dimension i of the encoded chunk is dimension ``order[i]`` of the decoded one.

    Args:
        order: a permutation of the dimensions; "C" (as they are) and "F" (reversed) stand in early v3 metadata.
    Source: Zarr v3, "Transpose codec".

    >>> array = zarrdock.create_array({}, data=np.arange(6).reshape(2, 3), filters=[zarrdock.Transpose((1, 0))])
    >>> array[1].tolist()
    [3, 4, 5]
    """

    name: ClassVar[str] = "transpose"
    order: tuple[int, ...] | Literal["C", "F"]

    def __post_init__(self) -> None:
        order: object = self.order
        if order in ("C", "F"):
            return
        if isinstance(order, Sequence) and not isinstance(order, str):
            order = tuple(expect_integer(d, f"/order/{i}", 0, len(order) - 1) for i, d in enumerate(order))
            if len(set(order)) == len(order):
                object.__setattr__(self, "order", order)
                return
        raise MetadataError(pointer="/order", expected="a permutation of the dimensions 0, 1, ...", found=order)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Transpose:
        members = known_members(configuration, ("order",))
        if "order" not in members:
            raise MetadataError(pointer="/order", expected="a permutation of the dimensions", found=None)
        return cls(members["order"])

    def to_json(self) -> dict[str, Any]:
        order = self.order if isinstance(self.order, str) else list(self.order)
        return {"name": self.name, "configuration": {"order": order}}

    def with_defaults(self, spec: ChunkSpec) -> Transpose:
        """Write out the permutation in full."""
        return Transpose(self._permutation(len(spec.shape)))

    def bind(self, spec: ChunkSpec) -> BoundTranspose:
        return BoundTranspose(spec, self._permutation(len(spec.shape)))

    def _permutation(self, ndim: int) -> tuple[int, ...]:
        if isinstance(self.order, str):
            return tuple(range(ndim)) if self.order == "C" else tuple(reversed(range(ndim)))
        if len(self.order) != ndim:
            expected = f"a permutation of {ndim} dimensions"
            raise MetadataError(pointer="/configuration/order", expected=expected, found=list(self.order))
        return self.order


class BoundTranspose(BoundArrayArray):
    """Both directions are views.

    Attributes:
        order: dimension i of the encoded chunk is dimension ``order[i]`` of the decoded one.
        inverse: the other way round.
    """

    __slots__ = ("decoded", "encoded", "inverse", "order")

    def __init__(self, spec: ChunkSpec, order: tuple[int, ...]) -> None:
        self.order = order
        self.inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
        self.decoded = spec
        self.encoded = ChunkSpec(tuple(spec.shape[d] for d in order), spec.dtype, spec.fill_value)

    def encode(self, array: AnyArray) -> AnyArray:
        return array.transpose(self.order)

    def decode(self, array: AnyArray) -> AnyArray:
        return array.transpose(self.inverse)
