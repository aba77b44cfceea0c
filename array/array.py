"""The face of an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array import execute
from zarrdock.array.attributes import Attributes
from zarrdock.array.consistent import read_consistent
from zarrdock.array.described import Described
from zarrdock.array.element import ELSEWHERE, read_element
from zarrdock.array.index_cache import IndexCache
from zarrdock.array.indexers import BlockIndex, OrthogonalIndex, VectorIndex
from zarrdock.array.layout import Layout
from zarrdock.array.metadata import ArrayMetadata
from zarrdock.array.node_io import join, update_metadata
from zarrdock.array.plan import Plan, make_plan
from zarrdock.array.reshape import drop_outside
from zarrdock.array.selection import Points, Product, basic
from zarrdock.codecs.base import AnyArray
from zarrdock.codecs.sharding import ShardOptions, with_options
from zarrdock.config import config
from zarrdock.errors import ReadOnlyError, SelectionError
from zarrdock.stores.base import Store
from zarrdock.stores.facade import AsyncStore

__all__ = ["Array"]


class Array(Described):
    """A chunked, perhaps sharded array in a store.

    Indexing is numpy's: integers, slices of any step, ``...``, arrays of integers and masks where numpy's result is a
    product or a list of points;
    ``oindex``, ``vindex`` and ``blocks`` say which one is meant. One object may be used from many threads at once,
    and pickles.

    Args:
        store: where the hierarchy is. path: of the array within it.
        metadata: as parsed from the store.
        read_only: refuse to write.
        options: how shards are written.
        unsafe_concurrent_writes: on stores without an atomic update, change parts of chunks all the same; the caller
            vouches that nobody else writes there.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        *,
        read_only: bool = False,
        options: ShardOptions = ShardOptions(),  # noqa: B008 - frozen
        unsafe_concurrent_writes: bool = False,
    ) -> None:
        self._store = store
        self._path = path
        self._options = options
        self._read_only = read_only or store.read_only
        self._unsafe = unsafe_concurrent_writes
        self._cache = IndexCache(config.index_cache_bytes)
        self._set(metadata.require_known(join(path, "zarr.json" if metadata.zarr_format == 3 else ".zarray")))

    def _set(self, metadata: ArrayMetadata) -> None:
        prefix = f"{self._path}/" if self._path else ""
        codecs = with_options(metadata.codecs, self._options)
        layout = Layout.bind(
            metadata.shape,
            metadata.grid.chunk_shape,
            metadata.dtype,
            metadata.fill_value,
            codecs,
            metadata.key_encoding,
            prefix,
        )
        # One assignment: a reader in another thread sees the old pair or the new one.
        self._state = (metadata, layout)

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self)):
            yield self[i]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("an array in a store cannot be had as a numpy array without a copy")
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)

    # -- reading ------------------------------------------------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        coords = _element(selection, self.shape)
        if coords is not None:
            element = read_element(self._store, self._layout, coords, self._cache)
            if element is not ELSEWHERE:
                return element
        product = basic(selection, self.shape)
        array = execute.read(self._store, self._layout, product, self._cache)
        return array[()] if array.ndim == 0 and not _keeps_zero_dimensions(selection) else array

    def read(self, selection: Any = ..., out: AnyArray | None = None, *, consistent: bool = False) -> AnyArray:
        """Read a selection, as indexing does, always into an array.

        Args:
            consistent: all chunks as they were at one moment. Without it, each shard read is of one version, but
                another writer may replace one shard before and another one after it was read. Costs one more round.
            out: a writable array of the selection's shape to read into; any dtype that numpy would cast the array's
                to without losing its kind.
        Returns:
            ``out``, or a new array.
        Raises:
            SelectionError: the selection does not fit the array, or ``out`` not the selection.
            CodecError, StoreError.
        """
        product = basic(selection, self.shape)
        if consistent:
            self._check_out(product, out)
            return read_consistent(self._store, self._layout, product, self._cache, out)
        return self._read(product, out)

    def _read(self, selection: Product | Points, out: AnyArray | None = None) -> AnyArray:
        self._check_out(selection, out)
        return execute.read(self._store, self._layout, selection, self._cache, out)

    async def read_async(self, selection: Any = ..., out: AnyArray | None = None) -> AnyArray:
        """:meth:`read` as a coroutine, on any event loop."""
        product = basic(selection, self.shape)
        self._check_out(product, out)
        return await execute.read_async(AsyncStore(self._store), self._layout, product, self._cache, out)

    def _check_out(self, selection: Product | Points, out: AnyArray | None) -> None:
        if out is None:
            return
        if not isinstance(out, np.ndarray) or out.shape != selection.shape:
            raise SelectionError(
                f"out: an array of shape {selection.shape} is needed, not {getattr(out, 'shape', type(out).__name__)}"
            )
        if not out.flags.writeable:
            raise SelectionError("out: the array is read-only")
        if not np.can_cast(self.dtype, out.dtype, "same_kind"):
            raise SelectionError(f"out: {self.dtype} does not go into {out.dtype}")

    def plan(self, selection: Any = ...) -> Plan:
        """What reading ``selection`` would ask of the store now: rounds, requests, bytes. Reads shard indexes at
        most, never data.
        """
        return make_plan(self._store, self._layout, basic(selection, self.shape), self._cache)

    @property
    def oindex(self) -> OrthogonalIndex:
        """Orthogonal indexing: each axis has its own integers, slice, array or mask."""
        return OrthogonalIndex(self)

    @property
    def vindex(self) -> VectorIndex:
        """Vectorised indexing: arrays of coordinates, broadcast against each other, or a mask."""
        return VectorIndex(self)

    @property
    def blocks(self) -> BlockIndex:
        """Indexing by chunk: integers and slices count chunks, or shards where there are shards."""
        return BlockIndex(self)

    # -- writing ------------------------------------------------------------------------------------------------------

    def __setitem__(self, selection: Any, value: Any) -> None:
        self._write(basic(selection, self.shape), value)

    def write(self, selection: Any, value: Any) -> None:
        """Write a selection, as ``array[selection] = value`` does; ``value`` is broadcast.

        Chunks that the selection covers only in part are changed by an atomic update of the store, so that writers of
        other parts lose nothing.

        Raises:
            SelectionError: the selection does not fit the array, or the value not the selection. ReadOnlyError.
            UnsupportedError: part of a chunk, on a store without an atomic update.
        """
        self._write(basic(selection, self.shape), value)

    async def write_async(self, selection: Any, value: Any) -> None:
        """:meth:`write` as a coroutine: the work is done in a thread."""
        import asyncio

        await asyncio.to_thread(self.write, selection, value)

    def _write(self, selection: Product | Points, value: Any) -> None:
        self._check_writable()
        execute.write(
            self._store, self._layout, selection, self._value(selection.shape, value), self._cache, unsafe=self._unsafe
        )

    def _value(self, shape: tuple[int, ...], value: Any) -> AnyArray:
        try:
            # What has no dtype of its own becomes the array's: a Python number that does not fit is an error then.
            array = np.asarray(value, None if hasattr(value, "dtype") else self.dtype)
            if array.dtype.kind in "OUS" and self.dtype.kind not in "OUS":
                array = np.asarray(value, self.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise SelectionError(f"the value is not something that fits an array of {self.dtype}: {error}") from error
        while array.ndim > len(shape) and array.shape[0] == 1:  # as numpy's assignment has it
            array = array[0]
        try:
            return np.broadcast_to(array, shape)
        except ValueError:
            raise SelectionError(f"a value of shape {array.shape} does not fit a selection of shape {shape}") from None

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(
                "the array was opened for reading only: open it with mode='r+'", key=self._path, store=self._store
            )

    # -- metadata -----------------------------------------------------------------------------------------------------

    @property
    def attrs(self) -> Attributes:
        """Attributes, as a mutable mapping; every change is an atomic update of what is stored."""
        return Attributes(lambda: self.metadata.attributes, self._change_attributes)

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_writable()
        self._update(lambda stored: stored.replace(attributes=change(dict(stored.attributes))), attributes=True)

    def _update(self, change: Callable[[ArrayMetadata], ArrayMetadata], *, attributes: bool) -> None:
        new = update_metadata(
            self._store, self._path, self.metadata, change, attributes=attributes, unsafe=self._unsafe
        )
        assert isinstance(new, ArrayMetadata)
        self._set(new)

    def refresh(self) -> None:
        """Read the metadata again: another writer may have resized the array or changed its attributes."""
        from zarrdock.array.node_io import load

        new = load(self._store, self._path, "array", 2 if self.zarr_format == 2 else 3)
        assert isinstance(new, ArrayMetadata)
        self._set(new.require_known(self._path))

    def resize(self, new_shape: int | tuple[int, ...]) -> None:
        """Change the shape. Chunks that fall outside are deleted, and what is cut off of those at the edge becomes
        fill value.

        Raises:
            SelectionError: the wrong number of dimensions, or a negative length.
        """
        self._check_writable()
        shape = (new_shape,) if isinstance(new_shape, int) else tuple(int(n) for n in new_shape)
        if len(shape) != self.ndim or any(n < 0 for n in shape):
            raise SelectionError(
                f"cannot resize an array of shape {self.shape} to {new_shape}: give {self.ndim} non-negative lengths"
            )
        old = self._layout
        before = old.shape

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal before
            before = stored.shape
            return stored.replace(shape=shape)

        self._update(change, attributes=False)
        drop_outside(self._store, self._layout, before, self._cache, unsafe=self._unsafe)

    def append(self, data: Any, axis: int = 0) -> tuple[int, ...]:
        """Grow the array along ``axis`` and write ``data`` there. Several processes may append at once: each gets
        rows of its own.

        Returns:
            The new shape.
        Raises:
            SelectionError: ``data`` does not fit along the other axes.
        """
        self._check_writable()
        array = np.asarray(data)
        if not -self.ndim <= axis < self.ndim or array.ndim != self.ndim:
            raise SelectionError(
                f"cannot append {array.ndim}-dimensional data to axis {axis} of an array with {self.ndim} dimensions"
            )
        axis %= self.ndim
        start = 0

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal start
            others = [(a, b) for i, (a, b) in enumerate(zip(stored.shape, array.shape, strict=True)) if i != axis]
            if any(a != b for a, b in others):
                raise SelectionError(
                    f"cannot append data of shape {array.shape} along axis {axis} of an array of shape {stored.shape}"
                )
            start = stored.shape[axis]
            return stored.replace(
                shape=tuple(n + array.shape[axis] if i == axis else n for i, n in enumerate(stored.shape))
            )

        # First the rows are claimed, in one atomic update, then they are written: nobody else can be given the same.
        self._update(change, attributes=False)
        where = tuple(slice(start, start + array.shape[axis]) if i == axis else slice(None) for i in range(self.ndim))
        self[where] = array
        return self.shape

    # -- copies -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "store": self._store,
            "path": self._path,
            "metadata": self.metadata,
            "read_only": self._read_only,
            "options": self._options,
            "unsafe_concurrent_writes": self._unsafe,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("store"), state.pop("path"), state.pop("metadata"), **state)  # type: ignore[misc]


def _element(selection: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Coordinates, where the selection is plain integers within the array."""
    if type(selection) is int:
        selection = (selection,)
    elif type(selection) is not tuple:
        return None
    if len(selection) != len(shape) or not shape:
        return None
    coords = []
    for index, length in zip(selection, shape, strict=True):
        if type(index) is not int:
            if not isinstance(index, np.integer):
                return None
            index = int(index)
        if not -length <= index < length:
            return None
        coords.append(index if index >= 0 else index + length)
    return tuple(coords)


def _keeps_zero_dimensions(selection: Any) -> bool:
    """numpy gives a 0-d array, not a scalar, where the selection has an ellipsis."""
    return selection is Ellipsis or (isinstance(selection, tuple) and any(item is Ellipsis for item in selection))
