"""Arrays divided into objects or blocks, and what of one division overlaps what of another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.metadata.chunk_grids import ChunkGrid, RectilinearGrid

__all__ = ["MAX_TABLE", "Division", "touched"]

IntArray: TypeAlias = npt.NDArray[np.int64]

# A table of one byte a block up to here, a set of numbers beyond.
MAX_TABLE = 2**27


@dataclass(frozen=True, slots=True)
class Division:
    """An array divided into blocks or objects.

    Attributes:
        shape: of the array.
        length: of each part along each axis.
        bounds: where the parts begin along each axis and the last one ends, where they differ in length; else None.
    """

    shape: tuple[int, ...]
    length: tuple[int, ...]
    bounds: tuple[IntArray | None, ...]

    @classmethod
    def of(cls, grid: ChunkGrid, shape: tuple[int, ...]) -> Division:
        """Divide an array into its objects."""
        bounds = grid.bounds() if isinstance(grid, RectilinearGrid) else (None,) * len(shape)
        return cls(shape, grid.largest, bounds)

    @property
    def grid(self) -> tuple[int, ...]:
        """Parts along each axis."""
        return tuple(
            ceil(n / size) if bounds is None else int(np.searchsorted(bounds[:-1], n))
            for n, size, bounds in zip(self.shape, self.length, self.bounds, strict=True)
        )

    def coords(self, number: int) -> tuple[int, ...]:
        """Coordinates of the part with this flat number in C order."""
        grid = self.grid
        return tuple(int(c) for c in np.unravel_index(number, grid)) if grid else ()

    def starts(self, coords: IntArray) -> IntArray:
        """Starts of parts; ``coords`` has shape (n, ndim)."""
        found = coords * np.asarray(self.length, np.int64)
        for axis, bounds in enumerate(self.bounds):
            if bounds is not None:
                found[:, axis] = bounds[coords[:, axis]]
        return found

    def extent(self, axis: int, number: int) -> tuple[int, int]:
        """Start of a part along an axis, and its length."""
        bounds = self.bounds[axis]
        if bounds is None:
            return number * self.length[axis], self.length[axis]
        return int(bounds[number]), int(bounds[number + 1] - bounds[number])

    def owners(self, positions: IntArray) -> IntArray:
        """The part that holds each position; shape (n, ndim)."""
        found = positions // np.asarray(self.length, np.int64)
        for axis, bounds in enumerate(self.bounds):
            if bounds is not None:
                found[:, axis] = np.searchsorted(bounds, positions[:, axis], "right") - 1
        return found


def touched(chunks: Iterable[IntArray], objects: Division, blocks: Division) -> Iterable[int]:
    """Flat numbers, ascending, of the blocks that overlap any of the chunks.

    Args:
        chunks: arrays of shape (n, ndim): coordinates of parts of ``objects``, which divides the same array.
    """
    grid = blocks.grid
    n_blocks = prod(grid)
    table = np.zeros(n_blocks, bool) if n_blocks <= MAX_TABLE else None
    numbers: set[int] = set()
    shape = np.asarray(blocks.shape, np.int64)
    for coords in chunks:
        low = blocks.owners(objects.starts(coords))
        high = blocks.owners(np.minimum(objects.starts(coords + 1), shape) - 1)
        widest = (high - low).max(axis=0, initial=0).tolist()
        for offset in product(*(range(n + 1) for n in widest)):
            at = low + np.asarray(offset, np.int64)
            at = at[(at <= high).all(axis=1)]
            flat = np.ravel_multi_index(tuple(at.T), grid) if grid else np.zeros(len(at), np.int64)
            if table is not None:
                table[flat] = True
            else:
                numbers.update(flat.tolist())
    return sorted(numbers) if table is None else _true_places(table)


def _true_places(table: npt.NDArray[np.bool_]) -> list[int]:
    places: list[int] = np.flatnonzero(table).tolist()
    return places
