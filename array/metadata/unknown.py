"""Stand-ins for what nobody here understands, so that the rest of an array's metadata can still be shown and copied.

They come only from lenient parsing, and ``ArrayMetadata.require_known`` turns them into the error that strict parsing
would have raised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrdock.array.dtypes.dtype import DataType
from zarrdock.array.json_ import JSON
from zarrdock.array.metadata.grid import ChunkGrid
from zarrdock.array.metadata.keys import KeyEncoding
from zarrdock.codecs.base import Codec, Configuration
from zarrdock.errors import MetadataError, UnknownExtensionError

__all__ = ["UnknownCodec", "UnknownDataType", "UnknownGrid", "UnknownKeyEncoding"]


@dataclass(frozen=True, slots=True)
class UnknownCodec(Codec):
    """A codec's metadata, as found.

    Attributes:
        text: the metadata as JSON text, which can be compared and hashed.
        extension: the name that is not known.
        hint, pointer: of the error.
    """

    name: ClassVar[str] = "unknown"

    text: str
    extension: str
    hint: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownCodec:
        """What caused ``error``."""
        return cls(json.dumps(value), error.name, error.hint, error.pointer)

    @classmethod
    def from_json(cls, configuration: Configuration) -> Codec:
        raise MetadataError(
            "no codec is called 'unknown'", expected="a codec that can be decoded", found=dict(configuration)
        )

    def to_json(self) -> JSON:
        return json.loads(self.text)

    def error(self) -> UnknownExtensionError:
        """What strict parsing says."""
        return UnknownExtensionError("codec", self.extension, hint=self.hint, pointer=self.pointer)


@dataclass(frozen=True, slots=True)
class UnknownGrid(ChunkGrid):
    """A chunk grid's metadata, as found. How it divides the array is not known: ``largest`` is all of it."""

    text: str
    extension: str
    shape: tuple[int, ...]
    hint: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, value: JSON, shape: tuple[int, ...], error: UnknownExtensionError) -> UnknownGrid:
        """What caused ``error``."""
        return cls(json.dumps(value), error.name, shape, error.hint, error.pointer)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        raise self.error()

    @property
    def largest(self) -> tuple[int, ...]:
        return self.shape

    def to_json(self) -> JSON:
        return json.loads(self.text)

    def check(self, shape: tuple[int, ...], pointer: str) -> None:
        return None

    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        raise self.error()

    def lengths(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        raise self.error()

    def error(self) -> UnknownExtensionError:
        """What strict parsing says."""
        return UnknownExtensionError("chunk grid", self.extension, hint=self.hint, pointer=self.pointer)


@dataclass(frozen=True, slots=True)
class UnknownKeyEncoding(KeyEncoding):
    """A chunk key encoding's metadata, as found."""

    text: str = "null"
    hint: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownKeyEncoding:
        """What caused ``error``."""
        return cls(error.name, "/", json.dumps(value), error.hint, error.pointer)  # type: ignore[arg-type]

    def to_json(self) -> JSON:
        return json.loads(self.text)

    def key(self, coords: Sequence[int]) -> str:
        raise self.error()

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        raise self.error()

    def parse(self, key: str, ndim: int | None = None) -> tuple[int, ...] | None:
        return None

    def error(self) -> UnknownExtensionError:
        """What strict parsing says."""
        return UnknownExtensionError("chunk key encoding", self.name, hint=self.hint, pointer=self.pointer)


@dataclass(frozen=True, slots=True)
class UnknownDataType(DataType):
    """A data type's metadata, as found. Its fill values are JSON values as they stand; its numpy dtype has no size."""

    text: str = "null"
    hint: str = ""
    pointer: str = ""

    @classmethod
    def of(cls, value: JSON, error: UnknownExtensionError) -> UnknownDataType:
        """What caused ``error``."""
        return cls(error.name, np.dtype("V0"), json.dumps(value), error.hint, error.pointer)

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        raise UnknownExtensionError("data type", name)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        raise UnknownExtensionError("data type", str(dtype))

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        return value

    def fill_to_json(self, value: Any) -> JSON:
        return value

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return value

    def fill_to_json_v2(self, value: Any) -> JSON:
        return value

    def cast_fill(self, value: Any) -> Any:
        return value

    def default_fill(self) -> Any:
        return None

    def to_json(self) -> JSON:
        return json.loads(self.text)

    def to_json_v2(self) -> JSON:
        return json.loads(self.text)

    def error(self) -> UnknownExtensionError:
        """What strict parsing says."""
        return UnknownExtensionError("data type", self.name, hint=self.hint, pointer=self.pointer)
