"""Half the resolution: of numpy arrays, and of an array that is read piece by piece.

An axis of odd length keeps its last element: it stands for itself and for the neighbour that it lacks, so that a mean
is the mean of the elements that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil, prod
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.overlap import Division
from zarrdock.codecs.codec import AnyArray
from zarrdock.copying.blocks import IntArray, Region
from zarrdock.copying.sources import ZarrSource, stored_chunks
from zarrdock.errors import UnsupportedError
from zarrdock.stores.base import Store

__all__ = ["METHODS", "Halved", "Method", "check_method", "halve"]

Method: TypeAlias = Literal["mean", "nearest", "mode", "max"]
METHODS: tuple[Method, ...] = get_args(Method)

# Kinds of numpy's data types that each method is defined for.
_KINDS = {"mean": "iufc", "mode": "biufcmM", "max": "biufmM"}
_WIDE_FLOAT: dict[int, np.dtype[Any]] = {2: np.dtype("f4"), 4: np.dtype("f8")}


def check_method(method: Method | None, dtype: np.dtype[Any]) -> Method:
    """The method, chosen by the data type where it is not given.

    Raises:
        UnsupportedError: there is no such method, or not for this data type.
    """
    if method is None:
        return "mean" if dtype.kind in _KINDS["mean"] else "mode" if dtype.kind in _KINDS["mode"] else "nearest"
    if method not in METHODS:
        raise UnsupportedError(f"method={method!r}: expected {', '.join(METHODS)}")
    if dtype.kind not in _KINDS.get(method, dtype.kind):
        able = [one for one in METHODS if dtype.kind in _KINDS.get(one, dtype.kind)]
        raise UnsupportedError(f"there is no {method} of {dtype.name}: use method={' or '.join(map(repr, able))}")
    return method


def halve(values: AnyArray, axes: Sequence[int], method: Method, out: AnyArray) -> None:
    """Halve the lengths of some axes.

    Args:
        values: shape ``(a, b, ...)``, of even length along ``axes``, of a data type that the method is defined for.
        out: the result, half as long along ``axes``, of the same data type. Integer means are rounded to the nearest
            integer, halves to the even one. A NaN makes the mean and the maximum NaN; to the mode it is a value like
            any other. Of several modes it is the one whose first element comes first in C order.
    """
    if not axes:
        out[...] = values
    elif method == "nearest":
        out[...] = values[_strided(values.ndim, axes, (0,) * len(axes))]
    elif method == "mode":
        _mode(values, axes, out)
    elif method == "max":
        for axis in axes[:-1]:
            first, second = _pairs(values, axis)
            values = np.maximum(first, second)
        first, second = _pairs(values, axes[-1])
        np.maximum(first, second, out=out)
    elif values.dtype.kind in "iu":
        _mean_of_integers(values, axes, out)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            _mean_of_floats(values, axes, out)


def _strided(ndim: int, axes: Sequence[int], start: Sequence[int]) -> tuple[slice, ...]:
    where = [slice(None)] * ndim
    for axis, first in zip(axes, start, strict=True):
        where[axis] = slice(first, None, 2)
    return tuple(where)


def _pairs(values: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """The first of each two neighbours, and the second."""
    first, second = (values[_strided(values.ndim, [axis], [start])] for start in (0, 1))
    return first, second


def _corners(values: AnyArray, axes: Sequence[int]) -> Iterator[AnyArray]:
    """All elements that become one, in C order: arrays of the result's shape."""
    for start in product((0, 1), repeat=len(axes)):
        yield values[_strided(values.ndim, axes, start)]


def _mean_of_integers(values: AnyArray, axes: Sequence[int], out: AnyArray) -> None:
    n_bits = len(axes)
    if values.dtype.itemsize < 8:
        wide: np.dtype[Any] = np.dtype(f"{values.dtype.kind}{2 * values.dtype.itemsize}")
        for axis in axes:
            first, second = _pairs(values, axis)
            values = np.add(first, second, dtype=wide)
        # Shifts round down, also negative numbers. Halves go to the even neighbour: a mean of means has no bias then.
        odd = values >> n_bits
        odd &= 1
        values += odd
        values += (1 << (n_bits - 1)) - 1
        np.right_shift(values, n_bits, out=out, casting="unsafe")
        return
    # There is nothing wider: whole parts and rests are added apart, and neither overflows.
    whole = np.zeros(out.shape, out.dtype)
    rest = np.zeros(out.shape, np.uint8)
    below, half = (1 << n_bits) - 1, 1 << (n_bits - 1)
    for corner in _corners(values, axes):
        whole += corner >> n_bits
        rest += (corner & below).astype(np.uint8)
    whole += rest >> n_bits
    rest &= below
    out[...] = whole + ((rest > half) | ((rest == half) & ((whole & 1) == 1)))


def _mean_of_floats(values: AnyArray, axes: Sequence[int], out: AnyArray) -> None:
    is_complex = values.dtype.kind == "c"
    wide = _WIDE_FLOAT.get(values.dtype.itemsize // (1 + is_complex))
    if wide is None:  # halves first, since nothing is wider and a sum may overflow
        for axis in axes:
            first, second = _pairs(values, axis)
            values = first * 0.5
            values += second * 0.5
    else:
        dtype: np.dtype[Any] = np.result_type(wide, np.complex64) if is_complex else wide
        for axis in axes:
            first, second = _pairs(values, axis)
            values = np.add(first, second, dtype=dtype)
        values *= 0.5 ** len(axes)
    np.copyto(out, values, casting="same_kind")


def _mode(values: AnyArray, axes: Sequence[int], out: AnyArray) -> None:
    corners = [np.ascontiguousarray(corner) for corner in _corners(values, axes)]
    n = len(corners)
    out[...] = corners[0]
    most = np.zeros(out.shape, np.uint8)
    for i, one in enumerate(corners):
        # Earlier ones that are equal were counted when it was their turn, and have more votes.
        votes = np.zeros(out.shape, np.uint8)
        for other in corners[i:]:
            votes += _same(one, other)
        better = votes > most
        np.copyto(out, one, where=better)
        np.maximum(most, votes, out=most)
        if most.size == 0 or int(most.min()) >= n - i - 1:
            break


def _same(a: AnyArray, b: AnyArray) -> AnyArray:
    equal: AnyArray = a == b
    if a.dtype.kind in "fcmM":
        equal |= (a != a) & (b != b)
    return equal


class Halved:
    """An array at half the resolution, made as it is read.

    Args:
        store, path, metadata: the array. It need not be there yet.
        halved: of each axis, True if its length is halved.
        piece_bytes: about what is read at once.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        halved: Sequence[bool],
        method: Method,
        piece_bytes: int,
    ) -> None:
        self._store, self._path, self._metadata = store, path, metadata
        self._source = ZarrSource(store, path, metadata)
        self._factors = tuple(1 + half for half in halved)
        self._axes = tuple(axis for axis, half in enumerate(halved) if half)
        self._method = method
        self._piece_bytes = piece_bytes
        pairs = [*zip(metadata.shape, self._source.grain, self._factors, strict=True)]
        self.shape = tuple(ceil(n / factor) for n, _, factor in pairs)
        self.dtype = self._source.dtype
        self.grain = tuple(max(1, size // factor) for _, size, factor in pairs)

    def stored(self) -> tuple[Iterator[IntArray], Division] | None:
        """See :class:`zarrdock.copying.sources.Derived`."""
        metadata = self._metadata
        grid = metadata.grid
        if not isinstance(grid, RegularGrid) or any(
            n % factor for n, factor in zip(grid.chunk_shape, self._factors, strict=True)
        ):
            return None
        found = stored_chunks(self._store, self._path, metadata.key_encoding, grid.n_chunks(metadata.shape))
        if found is None:
            return None
        lengths = tuple(n // factor for n, factor in zip(grid.chunk_shape, self._factors, strict=True))
        return self._source.knowing(found), Division(self.shape, lengths, (None,) * len(lengths))

    def read(self, region: Region, out: AnyArray) -> None:
        """See :class:`zarrdock.copying.sources.Source`."""
        for piece in self._pieces(region):
            inside = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(piece, region, strict=True)
            )
            self._read(piece, out[inside])

    def _pieces(self, region: Region) -> Iterator[Region]:
        """Parts of a region, of whole chunks of the source, cut along the slowest axes."""
        lengths = [part.stop - part.start for part in region]
        nbytes = max(1, self.dtype.itemsize) * prod(self._factors)
        for axis, grain in enumerate(self.grain):
            while prod(lengths) * nbytes > self._piece_bytes and lengths[axis] > grain:
                lengths[axis] = ceil(lengths[axis] / 2 / grain) * grain
        starts = (range(part.start, part.stop, n) for part, n in zip(region, lengths, strict=True))
        for corner in product(*starts):
            yield tuple(
                slice(first, min(first + n, part.stop)) for first, n, part in zip(corner, lengths, region, strict=True)
            )

    def _read(self, region: Region, out: AnyArray) -> None:
        bounds = [
            (part.start * factor, min(part.stop * factor, n))
            for part, factor, n in zip(region, self._factors, self._metadata.shape, strict=True)
        ]
        if self._method == "nearest":
            steps = zip(bounds, self._factors, strict=True)
            self._source.read(tuple(slice(*bound, factor) for bound, factor in steps), out)
            return
        lengths = [(part.stop - part.start) * f for part, f in zip(region, self._factors, strict=True)]
        values: AnyArray = np.empty(lengths, self.dtype)
        there = tuple(slice(0, stop - start) for start, stop in bounds)
        self._source.read(tuple(slice(*bound) for bound in bounds), values[there])
        for axis in self._axes:
            if there[axis].stop < lengths[axis]:
                along = np.moveaxis(values, axis, 0)
                along[-1] = along[-2]
        halve(values, self._axes, self._method, out)
