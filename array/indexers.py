"""``array.oindex``, ``array.vindex`` and ``array.blocks``: the same reads and writes with another meaning between the
brackets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarrdock.array.planning.axes import Points, Product
from zarrdock.array.planning.selection import blocks, orthogonal, vectorised

if TYPE_CHECKING:
    from zarrdock.array.array import Array

__all__ = ["BlockIndex", "OrthogonalIndex", "VectorIndex"]


class _Index:
    def __init__(self, array: Array) -> None:
        self._array = array

    def _selection(self, selection: Any) -> Product | Points:
        raise AssertionError

    def __getitem__(self, selection: Any) -> Any:
        array = self._array._read(self._selection(selection))
        return array[()] if array.ndim == 0 else array

    def __setitem__(self, selection: Any, value: Any) -> None:
        self._array._write(self._selection(selection), value)


class OrthogonalIndex(_Index):
    """Each axis has its own integer, slice, array of integers or mask; the result is their product."""

    def _selection(self, selection: Any) -> Product | Points:
        return orthogonal(selection, self._array.shape)


class VectorIndex(_Index):
    """One array of coordinates an axis, broadcast against each other, or one mask of the array's shape."""

    def _selection(self, selection: Any) -> Points:
        return vectorised(selection, self._array.shape)


class BlockIndex(_Index):
    """Integers and slices count chunks (shards, where there are shards), which is what is cheap to write."""

    def _selection(self, selection: Any) -> Product:
        layout = self._array._layout
        bounds = None if layout.irregular is None else layout.irregular.bounds
        return blocks(selection, layout.shape, layout.chunk_shape, bounds)
