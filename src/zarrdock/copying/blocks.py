"""Blocks in which an array is copied: geometry only, no I/O.

A block is one object of the destination or several. Reading a block reads every source chunk it touches, also those
that the next block touches again; blocks therefore grow, within what memory allows, along the axes on which source
chunks would otherwise be read many times. An object too large for memory is filled slab by slab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, gcd, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.planning.overlap import Division

__all__ = ["Blocks", "Region", "choose_blocks"]

IntArray: TypeAlias = npt.NDArray[np.int64]
Region: TypeAlias = tuple[slice, ...]

# Smaller blocks than this cost more in bookkeeping than they save in memory.
TARGET_BYTES = 16 * 2**20
# Chunks of either end in a block: more cost memory for their names, and where only some of them are stored, the others
# are asked for.
MAX_CHUNKS = 4096


@dataclass(frozen=True, slots=True)
class Blocks:
    """A division of an array into blocks of one shape.

    Attributes:
        shape: of the array.
        block: elements of a block along each axis, a multiple of the destination's objects.
        slab: elements that are read at once: a block, or a part of one where a single object is too large.
        itemsize: bytes of an element.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    slab: tuple[int, ...]
    itemsize: int

    @property
    def division(self) -> Division:
        """The blocks alone."""
        return Division(self.shape, self.block, (None,) * len(self.shape))

    @property
    def grid(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(ceil(n / b) for n, b in zip(self.shape, self.block, strict=True))

    @property
    def is_slabbed(self) -> bool:
        """True where a block is read in several parts."""
        return self.slab != self.block

    @property
    def slab_nbytes(self) -> int:
        """Bytes of one slab."""
        return prod(self.slab) * self.itemsize

    def region(self, number: int) -> Region:
        """The elements of a block, given by its flat number in C order."""
        coords = np.unravel_index(number, self.grid) if self.grid else ()
        return tuple(
            slice(int(c) * b, min((int(c) + 1) * b, n)) for c, b, n in zip(coords, self.block, self.shape, strict=True)
        )

    def slabs(self, region: Region) -> Iterator[Region]:
        """The parts of a block that are read one after another."""
        starts = (range(part.start, part.stop, step) for part, step in zip(region, self.slab, strict=True))
        for corner in product(*starts):
            yield tuple(
                slice(start, min(start + step, part.stop))
                for start, step, part in zip(corner, self.slab, region, strict=True)
            )


def choose_blocks(
    shape: tuple[int, ...],
    objects: tuple[int, ...],
    leaves: tuple[int, ...],
    grain: tuple[int, ...],
    itemsize: int,
    budget: int,
) -> Blocks:
    """Divide an array.

    Args:
        shape: of the array. objects: shape of an object in the destination; leaves: of the chunks in it.
        grain: shape of what the source reads as a whole.
        itemsize: bytes of an element.
        budget: bytes that a slab may have.
    """
    itemsize = max(1, itemsize)
    covering = tuple(ceil(n / c) * c for n, c in zip(shape, objects, strict=True))
    if prod(objects) * itemsize <= budget:
        block = _grow(objects, covering, shape, grain, itemsize, budget)
        return Blocks(shape, block, block, itemsize)
    return Blocks(shape, objects, _grow(leaves, objects, shape, grain, itemsize, budget), itemsize)


def _grow(
    unit: tuple[int, ...],
    limit: tuple[int, ...],
    shape: tuple[int, ...],
    grain: tuple[int, ...],
    itemsize: int,
    budget: int,
) -> tuple[int, ...]:
    lengths = list(unit)
    open_axes = [i for i, (a, b) in enumerate(zip(unit, limit, strict=True)) if a < b]
    while open_axes and _n_chunks(lengths, unit, grain) < MAX_CHUNKS:
        nbytes = prod(lengths) * itemsize
        doubled = {i: min(2 * lengths[i], limit[i]) for i in open_axes}
        gain = {i: _rereads(lengths[i], grain[i], shape[i]) / _rereads(doubled[i], grain[i], shape[i]) for i in doubled}
        axis = max(open_axes, key=lambda i: (gain[i], i))
        if gain[axis] <= 1.0 and nbytes >= min(TARGET_BYTES, budget):
            break
        if nbytes // lengths[axis] * doubled[axis] > budget:
            open_axes.remove(axis)
            continue
        lengths[axis] = doubled[axis]
        if lengths[axis] >= limit[axis]:
            open_axes.remove(axis)
    return tuple(lengths)


def _n_chunks(lengths: list[int], unit: tuple[int, ...], grain: tuple[int, ...]) -> int:
    """Chunks in a block, of the source or of the destination, whatever are more. One element is no chunk: the source is
    read by the element then.
    """
    grains = prod(ceil(n / g) for n, g in zip(lengths, grain, strict=True)) if prod(grain) > 1 else 1
    return max(prod(n // u for n, u in zip(lengths, unit, strict=True)), grains)


def _rereads(length: int, grain: int, extent: int) -> float:
    """Average number of times that blocks of ``length`` read a source chunk of ``grain`` elements."""
    if length >= extent or grain <= 1:
        return 1.0
    return (length + grain - gcd(length, grain)) / length
