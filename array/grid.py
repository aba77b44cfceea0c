"""Chunk grids: how an array's space is divided into chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zarrdock.array.json_ import JSON, expect_integers, named, pointer_to, reject_members
from zarrdock.errors import MetadataError, UnknownExtensionError

__all__ = ["RegularGrid", "parse_chunk_grid"]


@dataclass(frozen=True, slots=True)
class RegularGrid:
    """Chunks of one shape, the first at the origin; those at the far edges hang over.

    Attributes:
        chunk_shape: elements along each dimension, at least 1. A length of 0 is kept where it was read, because some
            versions of zarr-python write it for dimensions of length 0; such a dimension has no chunks.

    Source: Zarr v3, chunk grids, "regular".
    """

    chunk_shape: tuple[int, ...]

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> RegularGrid:
        """Of the metadata's ``chunk_grid``.

        Raises:
            UnknownExtensionError: another grid. MetadataError: not a grid.
        """
        name, configuration = named(value, pointer, what="chunk grid")
        if name != "regular":
            raise UnknownExtensionError("chunk grid", name, pointer=pointer)
        place = pointer_to(pointer, "configuration")
        reject_members(configuration, {"chunk_shape"}, place)
        if "chunk_shape" not in configuration:
            raise MetadataError(pointer=place, expected="a member 'chunk_shape'", found=configuration)
        return cls(expect_integers(configuration["chunk_shape"], pointer_to(place, "chunk_shape")))

    def to_json(self) -> dict[str, Any]:
        """The metadata's ``chunk_grid``."""
        return {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}}

    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of chunks along each dimension of an array of this shape."""
        return tuple(-(-length // chunk) if chunk else 0 for length, chunk in zip(shape, self.chunk_shape, strict=True))


def parse_chunk_grid(value: JSON, pointer: str = "") -> RegularGrid:
    """The grid that the metadata's ``chunk_grid`` describes.

    Raises:
        UnknownExtensionError: a grid that nobody here knows. MetadataError: not a grid.
    """
    return RegularGrid.from_json(value, pointer)
