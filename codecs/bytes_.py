"""The ``bytes`` codec: elements in C order, in a stated byte order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from zarrdock.codecs.base import (
    AnyArray,
    ArrayBytesCodec,
    BoundArrayBytes,
    Buffer,
    ByteSpec,
    ChunkSpec,
    Configuration,
    as_bytes,
)
from zarrdock.codecs.fields import known_members, one_of
from zarrdock.errors import CodecError, MetadataError

__all__ = ["BoundBytes", "Bytes", "has_byte_order"]


def has_byte_order(dtype: np.dtype[Any]) -> bool:
    """Whether elements depend on the byte order: not for single bytes and raw bits, for structs if their fields do."""
    return dtype.newbyteorder("<") != dtype.newbyteorder(">")


@dataclass(frozen=True, slots=True)
class Bytes(ArrayBytesCodec):
    """Elements one after the other, in C order.

    Args:
        endian: "little" or "big"; None only where an element is a single byte, or raw bits.
    Source: Zarr v3, "Bytes codec".
    """

    name: ClassVar[str] = "bytes"
    endian: Literal["little", "big"] | None = "little"

    def __post_init__(self) -> None:
        if self.endian is not None:
            one_of("endian", self.endian, ("little", "big"))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Bytes:
        return cls(**{"endian": None, **known_members(configuration, ("endian",))})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **({"configuration": {"endian": self.endian}} if self.endian else {})}

    def with_defaults(self, spec: ChunkSpec) -> Bytes:
        """As metadata should have it: without a byte order where none applies."""
        return self if has_byte_order(spec.dtype) else Bytes(None)

    def bind(self, spec: ChunkSpec) -> BoundBytes:
        if not has_byte_order(spec.dtype):
            return BoundBytes(spec, spec.dtype)
        if self.endian is None:
            message = f"{spec.dtype} has a byte order"
            raise MetadataError(message, pointer="/configuration/endian", expected='"little" or "big"', found=None)
        return BoundBytes(spec, spec.dtype.newbyteorder("<" if self.endian == "little" else ">"))


class BoundBytes(BoundArrayBytes):
    """Elements of ``stored`` dtype, which is the chunk's up to byte order."""

    __slots__ = ("_bool", "_nbytes", "_shape", "_stored", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, stored: np.dtype[Any]) -> None:
        if stored.hasobject or stored.kind == "T" or stored.itemsize == 0:
            raise MetadataError(f"the bytes codec stores elements of one fixed size; {stored} needs another codec")
        self.decoded = spec
        self.encoded = ByteSpec(spec.nbytes, spec.nbytes, stored.itemsize)
        self._nbytes = spec.nbytes
        self._shape = spec.shape
        self._stored = stored
        self._bool = stored.kind == "b"

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype of the elements as they are stored."""
        return self._stored

    def encode(self, array: AnyArray) -> Buffer:
        if array.dtype != self._stored:
            array = array.astype(self._stored)
        # A view, not a copy, wherever the array is contiguous already.
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

    def decode(self, data: Buffer) -> AnyArray:
        if len(data) != self._nbytes:
            data = self._checked(data)
        array: AnyArray = np.ndarray(self._shape, self._stored, data)
        if self._bool:
            # numpy's behaviour is undefined for booleans that are neither 0 nor 1.
            raw = array.view(np.uint8)
            if raw.max(initial=0) > 1:
                array = np.not_equal(raw, 0)
        return array

    def _checked(self, data: Buffer) -> Buffer:
        flat = as_bytes(data)
        if len(flat) != self._nbytes:
            what = f"a chunk of shape {self._shape} and dtype {self._stored}"
            raise CodecError(f"{len(flat)} bytes where {what} has {self._nbytes}", codec=Bytes.name)
        return flat
