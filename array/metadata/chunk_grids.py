"""Chunk grids: how an array's space is divided into chunks."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import gcd
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError
from zarrdock.json_ import JSON, expect_integer, expect_integers, known_members, named, pointer_to

__all__ = ["MAX_LENGTH", "ChunkGrid", "RectilinearGrid", "RegularGrid", "parse_chunk_grid", "rectilinear_of"]

_HINT: Final = (
    "zarrdock knows regular and rectilinear; known extensions: https://github.com/zarr-developers/zarr-extensions"
)
#: Of an axis or a chunk: with it, positions can be computed in 64 bits.
MAX_LENGTH: Final = 2**62
# Chunks along one axis whose lengths are listed: what can be held in memory without a thought.
MAX_LISTED: Final = 2**24

IntArray: TypeAlias = npt.NDArray[np.int64]
#: Lengths along one axis: runs of chunks of one length, (length, how many); or one length for as many as it takes.
Lengths: TypeAlias = "tuple[tuple[int, int], ...] | int"


class ChunkGrid(ABC):
    """A division of an array into chunks."""

    __slots__ = ()

    @property
    @abstractmethod
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of every chunk.

        Raises:
            UnsupportedError: chunks differ.
        """

    @property
    @abstractmethod
    def largest(self) -> tuple[int, ...]:
        """The greatest length of a chunk along each dimension."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The metadata's ``chunk_grid``."""

    @abstractmethod
    def check(self, shape: tuple[int, ...], pointer: str) -> None:
        """Make sure that the grid divides an array of this shape; ``pointer`` is that of the grid's configuration.

        Raises:
            MetadataError: it does not.
        """

    @abstractmethod
    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of chunks along each dimension of an array of this shape."""

    @abstractmethod
    def lengths(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Lengths of the chunks along each dimension, as far as they lie within an array of this shape."""

    def resized(self, shape: tuple[int, ...], unit: tuple[int, ...]) -> ChunkGrid:
        """The grid of the same array with another shape; new chunks are multiples of ``unit``."""
        return self


@dataclass(frozen=True, slots=True)
class RegularGrid(ChunkGrid):
    """Chunks of one shape, the first at the origin; those at the far edges hang over.

    Attributes:
        chunk_shape: elements along each dimension, at least 1. A length of 0 is kept where it was read, because some
            versions of zarr-python write it for dimensions of length 0; such a dimension has no chunks.

    Source: Zarr v3, chunk grids, "regular".
    """

    chunk_shape: tuple[int, ...]

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> RegularGrid:
        """Parse the metadata's ``chunk_grid``.

        Raises:
            MetadataError: it is no such grid.
        """
        _, configuration = named(value, pointer, what="chunk grid")
        place = pointer_to(pointer, "configuration")
        known_members(configuration, ("chunk_shape",), place)
        if "chunk_shape" not in configuration:
            raise MetadataError(pointer=place, expected="a member 'chunk_shape'", found=configuration)
        return cls(expect_integers(configuration["chunk_shape"], pointer_to(place, "chunk_shape")))

    @property
    def largest(self) -> tuple[int, ...]:
        return self.chunk_shape

    def to_json(self) -> dict[str, Any]:
        return {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}}

    def check(self, shape: tuple[int, ...], pointer: str) -> None:
        _check_ndim(len(self.chunk_shape), shape, pointer, list(self.chunk_shape))
        for i, (chunk, length) in enumerate(zip(self.chunk_shape, shape, strict=True)):
            if chunk < 1 and length:
                expected = "a chunk length of at least 1"
                raise MetadataError(pointer=pointer_to(pointer, i), expected=expected, found=chunk)
            _check_length(chunk, pointer, i)

    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-(-length // chunk) if chunk else 0 for length, chunk in zip(shape, self.chunk_shape, strict=True))

    def lengths(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(_repeated(chunk, n) for chunk, n in zip(self.chunk_shape, shape, strict=True))


@dataclass(frozen=True, slots=True)
class RectilinearGrid(ChunkGrid):
    """Chunks whose lengths differ along an axis, and are the same all across it.

    Attributes:
        axes: lengths along each axis, in normal form: neighbouring runs differ. They may reach beyond the array, as
            they do once it was made smaller.

    Source: Zarr extensions, chunk grid "rectilinear".
    """

    axes: tuple[Lengths, ...]

    @classmethod
    def of(cls, axes: Sequence[int | Sequence[int]], pointer: str = "") -> RectilinearGrid:
        """Make a grid from a length, or a list of lengths, for each axis.

        Raises:
            MetadataError: an invalid length.
        """
        found: list[Lengths] = []
        for i, axis in enumerate(axes):
            place = pointer_to(pointer, i)
            if isinstance(axis, (int, np.integer)):
                found.append(_length(int(axis), place))
            else:
                lengths = [_length(int(n), pointer_to(place, k)) for k, n in enumerate(axis)]
                found.append(_runs([(n, 1) for n in lengths], place))
        return cls(tuple(found))

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> RectilinearGrid:
        """Parse the metadata's ``chunk_grid``.

        Raises:
            MetadataError: it is no such grid.
        """
        _, configuration = named(value, pointer, what="chunk grid")
        place = pointer_to(pointer, "configuration")
        known_members(configuration, ("kind", "chunk_shapes"), place)
        if configuration.get("kind") != "inline":
            found = configuration.get("kind")
            raise MetadataError(pointer=pointer_to(place, "kind"), expected="'inline'", found=found)
        axes = configuration.get("chunk_shapes")
        place = pointer_to(place, "chunk_shapes")
        if not isinstance(axes, list):
            raise MetadataError(pointer=place, expected="an array with the lengths along each axis", found=axes)
        return cls(tuple(_axis_from_json(axis, pointer_to(place, i)) for i, axis in enumerate(axes)))

    def to_json(self) -> dict[str, Any]:
        shapes = [
            axis if isinstance(axis, int) else [length if n == 1 else [length, n] for length, n in axis]
            for axis in self.axes
        ]
        return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": shapes}}

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        raise UnsupportedError("the chunks of a rectilinear grid have no one shape, and this needs one")

    @property
    def largest(self) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else max((n for n, _ in axis), default=1) for axis in self.axes)

    def divisors(self) -> tuple[int, ...]:
        """The greatest length along each axis that divides all of that axis."""
        return tuple(axis if isinstance(axis, int) else max(1, gcd(*(n for n, _ in axis))) for axis in self.axes)

    def check(self, shape: tuple[int, ...], pointer: str) -> None:
        _check_ndim(len(self.axes), shape, pointer, self.to_json()["configuration"]["chunk_shapes"])
        for i, (axis, length) in enumerate(zip(self.axes, shape, strict=True)):
            if isinstance(axis, int):
                continue
            covered = sum(n * count for n, count in axis)
            if covered < length:
                expected = f"chunks that cover the axis, which is {length} long"
                raise MetadataError(pointer=pointer_to(pointer, i), expected=expected, found=f"{covered} in all")
            _check_length(covered, pointer, i)

    def n_chunks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(
            -(-length // axis) if isinstance(axis, int) else int(np.searchsorted(bounds_of(axis)[:-1], length))
            for axis, length in zip(self.axes, shape, strict=True)
        )

    def lengths(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        found = []
        for axis, length in zip(self.axes, shape, strict=True):
            if isinstance(axis, int):
                found.append(_repeated(axis, length))
                continue
            bounds = np.unique(np.minimum(bounds_of(axis), length))
            found.append(tuple(np.diff(bounds).tolist()))
        return tuple(found)

    def bounds(self) -> tuple[IntArray | None, ...]:
        """Starts of the chunks along each axis, and the end of the last one; None for an axis with one length."""
        return tuple(None if isinstance(axis, int) else bounds_of(axis) for axis in self.axes)

    def resized(self, shape: tuple[int, ...], unit: tuple[int, ...]) -> ChunkGrid:
        """Chunks stay where they are. What is new becomes one chunk, or several no longer than the longest there is."""
        axes = [
            axis if isinstance(axis, int) else _grown(axis, length, longest, step)
            for axis, length, longest, step in zip(self.axes, shape, self.largest, unit, strict=True)
        ]
        return RectilinearGrid(tuple(axes))


@functools.lru_cache(256)
def bounds_of(runs: tuple[tuple[int, int], ...]) -> IntArray:
    """Starts of the chunks, and the end of the last one: one more than there are chunks. Must not be written to."""
    lengths = np.repeat([n for n, _ in runs], [count for _, count in runs]).astype(np.int64)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    bounds.flags.writeable = False
    return bounds


def parse_chunk_grid(value: JSON, pointer: str = "") -> ChunkGrid:
    """The grid that the metadata's ``chunk_grid`` describes.

    Raises:
        UnknownExtensionError: the grid is not known here. MetadataError: not a grid.
    """
    name, _ = named(value, pointer, what="chunk grid")
    if name == "regular":
        return RegularGrid.from_json(value, pointer)
    if name == "rectilinear":
        return RectilinearGrid.from_json(value, pointer)
    raise UnknownExtensionError("chunk grid", name, hint=_HINT, pointer=pointer)


def rectilinear_of(chunks: Any, shards: Any, shape: tuple[int, ...]) -> RectilinearGrid | None:
    """The grid that a user asks for by lengths along each axis, as in ``chunks=[[2, 3, 3], 4]``; None for other wishes.

    Shards are given as a grid, or as its metadata: a list of lists is a list of levels there.

    Raises:
        MetadataError: it does not divide an array of this shape.
    """
    pointer, given = ("/chunks", chunks) if shards is None else ("/shards", shards)
    if isinstance(given, Mapping):
        grid = parse_chunk_grid(dict(given), pointer)
        if isinstance(grid, RegularGrid):
            grid = RectilinearGrid.of(grid.chunk_shape, pointer)
    elif isinstance(given, RectilinearGrid):
        grid = given
    elif shards is None and _is_nested(given):
        grid = RectilinearGrid.of(given, pointer)
    else:
        return None
    assert isinstance(grid, RectilinearGrid)
    grid.check(shape, pointer)
    return grid


def _is_nested(given: Any) -> bool:
    return not isinstance(given, str) and isinstance(given, Iterable) and any(np.ndim(item) for item in given)


def _axis_from_json(axis: JSON, pointer: str) -> Lengths:
    if not isinstance(axis, list):
        return _length(axis, pointer)
    runs: list[tuple[int, int]] = []
    for k, item in enumerate(axis):
        place = pointer_to(pointer, k)
        if isinstance(item, list):
            if len(item) != 2:
                raise MetadataError(pointer=place, expected="a length, or a length and how many", found=item)
            runs.append((_length(item[0], pointer_to(place, 0)), _length(item[1], pointer_to(place, 1))))
        else:
            runs.append((_length(item, place), 1))
    return _runs(runs, pointer)


def _length(value: object, pointer: str) -> int:
    return expect_integer(value, pointer, 1, MAX_LENGTH)


def _runs(runs: list[tuple[int, int]], pointer: str) -> tuple[tuple[int, int], ...]:
    n = sum(count for _, count in runs)
    if n > MAX_LISTED:
        raise MetadataError(pointer=pointer, expected=f"at most {MAX_LISTED} chunks along an axis", found=n)
    return tuple((length, sum(count for _, count in group)) for length, group in groupby(runs, key=lambda run: run[0]))


def _grown(axis: tuple[tuple[int, int], ...], length: int, longest: int, unit: int) -> tuple[tuple[int, int], ...]:
    missing = length - sum(n * count for n, count in axis)
    if missing <= 0:
        return axis
    missing = -(-missing // unit) * unit
    longest = max(longest // unit, 1) * unit
    more = [(longest, missing // longest), (missing % longest, 1)]
    return _runs([*axis, *((n, count) for n, count in more if n and count)], "")


def _repeated(chunk: int, length: int) -> tuple[int, ...]:
    if not chunk or not length:
        return ()
    rest = length % chunk
    return (chunk,) * (length // chunk) + ((rest,) if rest else ())


def _check_ndim(n: int, shape: tuple[int, ...], pointer: str, found: object) -> None:
    if n != len(shape):
        raise MetadataError(pointer=pointer, expected=f"{len(shape)} lengths, one a dimension", found=found)


def _check_length(length: int, pointer: str, axis: int) -> None:
    if length > MAX_LENGTH:
        expected = f"a length of at most {MAX_LENGTH}, with which positions can be computed in 64 bits"
        raise MetadataError(pointer=pointer_to(pointer, axis), expected=expected, found=length)
