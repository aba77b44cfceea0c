"""The face of an array."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrdock.array.attributes import Attributes
from zarrdock.array.described import Described
from zarrdock.array.execution import execute
from zarrdock.array.execution.consistent import read_consistent
from zarrdock.array.execution.element import ELSEWHERE, read_element
from zarrdock.array.execution.plan import Plan, make_plan
from zarrdock.array.indexers import BlockIndex, OrthogonalIndex, VectorIndex
from zarrdock.array.json_ import in_document
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_io import join, update_metadata
from zarrdock.array.planning.axes import Points, Product
from zarrdock.array.planning.chunk_cache import ChunkCache, chunks_of, configured_cache
from zarrdock.array.planning.index_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.remembered import layout_of
from zarrdock.array.planning.selection import basic, element, keeps_zero_dimensions
from zarrdock.array.reshape import clear_outside, clear_rows, new_shape_of, shrinks
from zarrdock.array.values import values_of
from zarrdock.codecs.base import AnyArray
from zarrdock.codecs.sharding import ShardOptions
from zarrdock.config import config
from zarrdock.errors import ConflictError, ReadOnlyError, SelectionError, StoreError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.key_locks import KeyLocks
from zarrdock.stores.patch import patch_of

__all__ = ["Array"]

_ATTEMPTS = 100


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
        options: how shards are written; what the store or the codecs can't do raises UnsupportedError, unless nothing
            can be written anyway.
        unsafe_concurrent_writes: on stores without an atomic update, change parts of chunks all the same; the caller
            vouches that nobody else writes there.
        chunk_cache: where decoded chunks are kept; None: where ``config.cache_bytes`` says.
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
        chunk_cache: ChunkCache | None = None,
    ) -> None:
        self._store = store
        self._path = path
        self._read_only = read_only or store.read_only
        self._options = ShardOptions() if self._read_only else options  # which may ask what only a writer needs
        if self._options.in_place and patch_of(store) is None:
            raise UnsupportedError(
                f"in_place=True: {store} can only replace whole objects, which in_place=False does; it is for "
                "folders of the local file system"
            )
        self._unsafe = unsafe_concurrent_writes
        most = store.traits.max_versions
        self._cache = IndexCache(config.index_cache_bytes, None if most is None else max(1, most // 2))
        self._chunk_cache = chunk_cache
        self._locks = KeyLocks()
        self._numbers = itertools.count(1)
        self._number = 0  # of the change of metadata that `_state` comes from
        known = metadata.require_known(self._document(metadata))
        self._state = known, self._bind(known)

    def _document(self, metadata: ArrayMetadata) -> str:
        return join(self._path, "zarr.json" if metadata.zarr_format == 3 else ".zarray")

    def _bind(self, metadata: ArrayMetadata) -> Layout:
        self._cache.chunks = chunks_of(self._chunk_cache or configured_cache(), self._store, metadata)
        with in_document(self._document(metadata)):
            prefix = f"{self._path}/" if self._path else ""
            try:
                return layout_of(metadata, prefix, self._options)
            except UnsupportedError as error:
                raise UnsupportedError(f"{self.name}: {error}") from error.__cause__

    def _adopt(self, metadata: ArrayMetadata, number: int) -> Layout:
        """Take metadata for what is stored, unless a later change is known by now: threads may come here in another
        order than their changes were made in.
        """
        known, layout = self._state
        # Layouts with one chain of codecs are changed together (see the combiner), so it is kept where it can be.
        same = known.grid == metadata.grid and (
            known.replace(shape=metadata.shape, attributes=metadata.attributes) == metadata
        )
        layout = replace(layout, shape=metadata.shape) if same else self._bind(metadata)
        with self._locks(""):
            if number > self._number:
                # One assignment: a reader in another thread sees the old pair or the new one.
                self._number, self._state = number, (metadata, layout)
        return layout

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
        coords = element(selection, self.shape)
        if coords is not None:
            value = read_element(self._store, self._layout, coords, self._cache)
            if value is not ELSEWHERE:
                return value
        product = basic(selection, self.shape)
        array = execute.read(self._store, self._layout, product, self._cache)
        return array[()] if array.ndim == 0 and not keeps_zero_dimensions(selection) else array

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
        from zarrdock.stores.facade import AsyncStore

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
        array = self._value(selection.shape, value)
        execute.write(
            self._store, self._layout, selection, array, self._cache, unsafe=self._unsafe, options=self._options
        )

    def _value(self, shape: tuple[int, ...], value: Any) -> AnyArray:
        return values_of(value, shape, self.metadata.data_type)

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

    def _update(self, change: Callable[[ArrayMetadata], ArrayMetadata], *, attributes: bool) -> Layout:
        number = 0

        def numbered(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal number
            number = next(self._numbers)
            return change(stored)

        new = update_metadata(
            self._store, self._path, self.metadata, numbered, attributes=attributes, unsafe=self._unsafe
        )
        assert isinstance(new, ArrayMetadata)
        return self._adopt(new, number)

    def refresh(self) -> None:
        """Read the metadata again: another writer may have resized the array or changed its attributes."""
        from zarrdock.array.node_io import load

        number = next(self._numbers)
        new = load(self._store, self._path, "array", 2 if self.zarr_format == 2 else 3)
        assert isinstance(new, ArrayMetadata)
        self._adopt(new.require_known(self._document(new)), number)

    def resize(self, new_shape: int | tuple[int, ...]) -> None:
        """Change the shape. What is cut off becomes fill value first, and its chunks are deleted; then the shape
        changes. So rows that others append once the array is smaller are never taken for what was cut off.

        Where it fails half way the shape is the old one, and some of what was to go may be gone.

        Raises:
            SelectionError: the wrong number of dimensions, or a negative length.
            ConflictError: the array grew as often as it was to become smaller.
        """
        self._check_writable()
        shape = new_shape_of(new_shape, self.shape)
        cleared = self.shape
        if shrinks(cleared, shape):
            clear_outside(self._store, replace(self._layout, shape=shape), cleared, self._cache, unsafe=self._unsafe)
        for _ in range(_ATTEMPTS):
            found = cleared

            def change(stored: ArrayMetadata) -> ArrayMetadata:
                nonlocal found
                found = stored.shape
                # Larger than we knew: there is more to clear first.
                keep = shrinks(found, shape) and shrinks(found, cleared)  # noqa: B023 - called before the next turn
                return stored if keep else stored.resized(shape)

            layout = self._update(change, attributes=False)
            if layout.shape == shape:
                return
            cleared = found
            clear_outside(self._store, replace(layout, shape=shape), cleared, self._cache, unsafe=self._unsafe)
        raise ConflictError("the array grew as often as it was to be made smaller", key=self._path, store=self._store)

    def append(self, data: Any, axis: int = 0) -> tuple[int, ...]:
        """Grow the array along ``axis`` and write ``data`` there. Several processes may append at once: each gets
        rows of its own.

        Where writing fails the rows are given back, and the array is as it was; where that can't be done, the error
        has a note that says which rows they are. So they are after a kill: fill value, or part of the data.

        Returns:
            The shape it made.
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
        value = self._value(array.shape, data)  # what can't be written is refused before anything is changed
        n, start, found = array.shape[axis], 0, False

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal start, found
            others = [(a, b) for i, (a, b) in enumerate(zip(stored.shape, array.shape, strict=True)) if i != axis]
            if any(a != b for a, b in others):
                raise SelectionError(
                    f"cannot append data of shape {array.shape} along axis {axis} of an array of shape {stored.shape}"
                )
            start, found = stored.shape[axis], True
            return stored.resized(_with(stored.shape, axis, start + n))

        # First the rows are claimed, in one atomic update, then they are written: nobody else can be given the same.
        try:
            layout = self._update(change, attributes=False)
        except StoreError as error:
            if found:
                error.add_note(
                    f"if the new shape was stored all the same, {start} to {start + n} along axis {axis} hold fill "
                    "value: look at the shape"
                )
            raise
        where = tuple(slice(start, start + n) if i == axis else slice(None) for i in range(self.ndim))
        try:
            execute.write(self._store, layout, basic(where, layout.shape), value, self._cache, unsafe=self._unsafe)
        except Exception as error:
            try:
                self._give_back(layout, axis, start)
            except Exception as again:
                error.add_note(
                    f"{start} to {start + n} along axis {axis} stay part of the array, with fill value or some of the "
                    f"data in them, since they could not be given back: {again}"
                )
            raise
        return layout.shape

    def _give_back(self, layout: Layout, axis: int, start: int) -> None:
        """Make claimed rows fill value while they are still ours, then the array shorter, if nothing came behind."""
        clear_rows(self._store, layout, axis, start, self._cache, unsafe=self._unsafe)

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            if stored.shape != layout.shape:
                raise ConflictError("others have appended since", key=self._path, store=self._store)
            return stored.replace(shape=_with(stored.shape, axis, start))

        self._update(change, attributes=False)

    # -- copies -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "store": self._store,
            "path": self._path,
            "metadata": self.metadata,
            "read_only": self._read_only,
            "options": self._options,
            "unsafe_concurrent_writes": self._unsafe,
            "chunk_cache": self._chunk_cache,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("store"), state.pop("path"), state.pop("metadata"), **state)  # type: ignore[misc]


def _with(shape: tuple[int, ...], axis: int, n: int) -> tuple[int, ...]:
    return (*shape[:axis], n, *shape[axis + 1 :])
