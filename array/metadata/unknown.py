"""Stand-ins for unknown extensions, so that the rest of an array's metadata can still be shown and copied.

They come only from lenient parsing, and ``ArrayMetadata.require_known`` turns them into the error that strict parsing
would have raised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from zarrdock.array.dtypes.dtype import AsItIs, DataType
from zarrdock.array.metadata.chunk_grids import ChunkGrid
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.codecs.codec import Codec, Configuration
from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON

__all__ = ["UnknownCodec", "UnknownDataType", "UnknownGrid", "UnknownKeyEncoding"]


@dataclass(frozen=True, slots=True)
class Found:
    """Metadata of an unknown extension, which strict parsing refuses.

    Attributes:
        text: the metadata as JSON text, which can be compared and hashed.
        kind, name, hint, pointer: of the error.
    """

    text: str
    kind: str
    name: str
    hint: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> Found:
        """Keep the metadata that caused ``error``."""
        return cls(json.dumps(value), error.kind, error.name, error.hint, error.pointer)


class _StandIn:
    """Base of all stand-ins: they are written as they were found."""

    __slots__ = ()

    found: Found

    def to_json(self) -> JSON:
        return json.loads(self.found.text)

    def error(self) -> UnknownExtensionError:
        """The error that strict parsing raises."""
        found = self.found
        return UnknownExtensionError(found.kind, found.name, hint=found.hint, pointer=found.pointer)


@dataclass(frozen=True, slots=True)
class UnknownCodec(_StandIn, Codec):
    """A codec's metadata, as found."""

    name: ClassVar[str] = "unknown"

    found: Found

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownCodec:
        """Keep the metadata that caused ``error``."""
        return cls(Found.of(value, error))

    @classmethod
    def from_json(cls, configuration: Configuration) -> Codec:
        raise MetadataError(
            "no codec is called 'unknown'", expected="a codec that can be decoded", found=dict(configuration)
        )

    @property
    def extension(self) -> str:
        """The name that is not known."""
        return self.found.name


@dataclass(frozen=True, slots=True)
class UnknownGrid(_StandIn, ChunkGrid):
    """A chunk grid's metadata, as found. How it divides the array is not known: ``largest`` is all of it."""

    found: Found
    shape: tuple[int, ...]

    @classmethod
    def of(cls, value: JSON, shape: tuple[int, ...], error: UnknownExtensionError) -> UnknownGrid:
        """Keep the metadata that caused ``error``."""
        return cls(Found.of(value, error), shape)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        raise self.error()

    @property
    def largest(self) -> tuple[int, ...]:
        return self.shape

    def check(self, shape: tuple[int, ...], pointer: str) -> None:
        return None

    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        raise self.error()

    def lengths(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        raise self.error()


@dataclass(frozen=True, slots=True)
class UnknownKeyEncoding(_StandIn, KeyEncoding):
    """A chunk key encoding's metadata, as found."""

    found: Found

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownKeyEncoding:
        """Keep the metadata that caused ``error``."""
        return cls(Found.of(value, error))

    @property
    def name(self) -> str:
        return self.found.name

    def key(self, coords: Sequence[int]) -> str:
        raise self.error()

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        return None

    def check(self, ndim: int, pointer: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class UnknownDataType(_StandIn, AsItIs):
    """A data type's metadata, as found. Its fill values are JSON values as they stand; its numpy dtype has no size."""

    found: Found = Found("null", "data type", "")

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownDataType:
        """Keep the metadata that caused ``error``."""
        return cls(error.name, np.dtype("V0"), Found.of(value, error))

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        raise UnknownExtensionError("data type", name)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        raise UnknownExtensionError("data type", str(dtype))

    def cast_fill(self, value: Any) -> Any:
        return value

    def default_fill(self) -> Any:
        return None

    def to_json_v2(self) -> JSON:
        return self.to_json()
