"""The ``Array`` class: indexing, reading, writing, resizing, appending."""

from __future__ import annotations

import itertools
import operator
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.coerce import shape_of, values_of
from zarrdock.array.consolidated_copies import is_in_copies
from zarrdock.array.execution import read_write
from zarrdock.array.execution.drivers import send
from zarrdock.array.execution.element import ELSEWHERE, read_element
from zarrdock.array.execution.read_plan import Plan, make_plan
from zarrdock.array.execution.read_together import Begun
from zarrdock.array.execution.read_write import read_consistent
from zarrdock.array.lazy_selection import LazyIndex, LazySelection
from zarrdock.array.metadata.other_separator import likely_other
from zarrdock.array.metadata.same_storage import store_alike
from zarrdock.array.metadata.v2 import parse_array_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, Node
from zarrdock.array.node import Attributes
from zarrdock.array.node_storage import join, load, update_metadata
from zarrdock.array.planning.chunk_cache import ChunkCache, IndexCache, chunks_of, configured_cache
from zarrdock.array.planning.compose import Composed
from zarrdock.array.planning.layout import Layout, layout_of, parse_shared
from zarrdock.array.planning.selection import (
    Points,
    Product,
    basic,
    blocks,
    element,
    end_of,
    keeps_zero_dimensions,
    orthogonal,
    vectorised,
)
from zarrdock.array.properties import ArrayProperties
from zarrdock.array.removal import n_removals
from zarrdock.array.resize import clear_outside, clear_rows, new_shape_of, shrinks, with_length
from zarrdock.codecs.codec import AnyArray
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions
from zarrdock.config import config
from zarrdock.errors import (
    ConflictError,
    NodeChangedError,
    NodeNotFoundError,
    ReadOnlyError,
    SelectionError,
    StoreError,
    UnsupportedError,
)
from zarrdock.json_ import in_document
from zarrdock.stores.base import Blob, Read, Result, Results, Store, attempts
from zarrdock.stores.group_commit import KeyLocks

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zarrdock.array.stream import Stream

__all__ = [
    "Array",
    "BlockIndex",
    "Missing",
    "OrthogonalIndex",
    "VectorIndex",
    "check_missing",
]


# -- ``array.oindex``, ``array.vindex`` and ``array.blocks``: the same reads and writes with another meaning between
# the brackets.


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

    def _selection(self, selection: Any) -> Product | Points:
        return vectorised(selection, self._array.shape)


class BlockIndex(_Index):
    """Integers and slices count chunks (shards, if there are shards), the units that are cheap to write."""

    def _selection(self, selection: Any) -> Product:
        layout = self._array._layout
        bounds = None if layout.irregular is None else layout.irregular.bounds
        return blocks(selection, layout.shape, layout.chunk_shape, bounds)


Missing: TypeAlias = Literal["fill", "error"]


def check_missing(missing: Any) -> Missing:
    """The given way to read chunks that are not stored, checked.

    Raises:
        UnsupportedError: neither of both.
    """
    if missing not in ("fill", "error"):
        raise UnsupportedError(f"missing: 'fill' or 'error', not {missing!r}")
    return "error" if missing == "error" else "fill"


_ATTEMPTS = 100
_SEARCH_BYTES = 2**26

# On remote stores whole chunks don't wait for the look at a document that was read or written so short a time ago:
# it is sent beside them. No look can do better than about a round trip, since it cannot be part of the write.
_FRESH_SECONDS = 0.1
# Where a read finds nothing stored in a remote store, the document is asked for again if that was not done for so long.
_TRUSTED_SECONDS = 2.0


class _Look:
    """A look at the document of an array, on its way while something is written. Called, it waits for the answer.

    Attributes:
        future: of the answer. is_beside: whole chunks need not wait for it.
    """

    __slots__ = ("_compare", "future", "is_beside")

    def __init__(self, future: Future[Results], compare: Callable[[Result], None], *, is_beside: bool) -> None:
        self.future, self._compare, self.is_beside = future, compare, is_beside

    def __call__(self) -> None:
        self._compare(self.future.result()[0])

    def confirm(self) -> None:
        """Wait for the answer after the write.

        Raises:
            NodeChangedError, NodeNotFoundError: as the look does, and says that whole chunks may have been written.
        """
        try:
            self()
        except (NodeChangedError, NodeNotFoundError) as error:
            error.add_note(
                "It was replaced or deleted a moment before this write, or during it: whole chunks of the write may "
                "lie in its place now. Write them anew in the array that is there."
            )
            raise


class Array(ArrayProperties):
    """A chunked, perhaps sharded array in a store.

    Indexing is numpy's: integers, slices of any step, ``...``, arrays of integers and masks where numpy's result is a
    product or a list of points;
    ``oindex``, ``vindex`` and ``blocks`` say which one is meant. One object may be used from many threads at once,
    and pickles.

    Args:
        store: where the hierarchy is. path: of the array within it.
        metadata: as parsed from the store.
        read_only: refuse to write.
        options: how chunks are written; what the store or the codecs can't do raises UnsupportedError, unless nothing
            can be written anyway.
        chunk_cache: where decoded chunks are kept; None: where ``config.cache_bytes`` says.
        missing: "fill": chunks that are not stored are read as the fill value; "error": reading one raises
            ChunkNotFoundError.

    >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    >>> array[1, ::2].tolist()
    [4, 6]
    >>> array[:, 0] = -1
    >>> array[...].sum().item()
    51
    """

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: ArrayMetadata,
        *,
        read_only: bool = False,
        options: WriteOptions = DEFAULT_WRITE_OPTIONS,
        chunk_cache: ChunkCache | None = None,
        missing: Missing = "fill",
    ) -> None:
        self._store = store
        self._missing = check_missing(missing)
        self._path = path
        self._read_only = read_only or store.read_only
        options = DEFAULT_WRITE_OPTIONS if self._read_only else options  # which may ask what only a writer needs
        if options.in_place and not store.traits.partial_update:
            raise UnsupportedError(
                f"in_place=True: {store} can only replace whole objects, which in_place=False does; it is for "
                "folders of the local file system"
            )
        most = store.traits.max_versions
        self._cache = IndexCache(config.index_cache_bytes, None if most is None else max(1, most // 2))
        self._chunk_cache = chunk_cache
        self._locks = KeyLocks()
        self._numbers = itertools.count(1)
        self._number = 0  # of the change of metadata that `_state` comes from
        # The document as it was when it was last found to be in force, and its shape.
        self._confirmed: tuple[bytes | None, tuple[int, ...]] = None, metadata.shape
        self._looking: tuple[int, Future[Results]] | None = None  # of the process of that number
        self._trust()
        self._cache.other_keys = likely_other(metadata)
        known = metadata.require_known(self._document(metadata))
        self._state = known, self._bind(known, options)
        self._key = self._document(known)

    def _document(self, metadata: ArrayMetadata) -> str:
        return join(self._path, "zarr.json" if metadata.zarr_format == 3 else ".zarray")

    def _bind(self, metadata: ArrayMetadata, options: WriteOptions | None = None) -> Layout:
        self._cache.chunks = chunks_of(self._chunk_cache or configured_cache(), self._store, metadata)
        with in_document(self._document(metadata)):
            prefix = f"{self._path}/" if self._path else ""
            try:
                layout = layout_of(metadata, prefix, self._layout.options if options is None else options)
                return layout if self._missing == "fill" else replace(layout, missing_is_error=True)
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

    def __contains__(self, value: object) -> bool:
        """True where an element equals ``value``, as numpy's ``in``: everything is read, some rows at a time."""
        if not self.shape or not self.size:
            return bool(np.any(self.read() == value))
        row_nbytes = max(1, self.nbytes // len(self))
        chunk = max(1, self.metadata.grid.largest[0])
        step = chunk * max(1, _SEARCH_BYTES // (chunk * row_nbytes))
        return any(bool(np.any(self.read(slice(i, i + step)) == value)) for i in range(0, len(self), step))

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self)):
            yield self[i]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("an array in a store cannot become a numpy array without a copy: leave copy=False out")
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __float__(self) -> float:
        return float(self._only())

    def __int__(self) -> int:
        return int(self._only())

    def __complex__(self) -> complex:
        return complex(self._only())

    def __index__(self) -> int:
        return operator.index(self._only())

    def __bool__(self) -> bool:
        return bool(self.shape[0]) if self.shape else bool(self._only())

    def _only(self) -> Any:
        if self.ndim:
            raise TypeError(f"an array of shape {self.shape} cannot become a number: index one element")
        return self[()]

    # -- reading ------------------------------------------------------------------------------------------------------

    def __getitem__(self, selection: Any) -> Any:
        coords = element(selection, self.shape)
        if coords is not None:
            value = read_element(self._store, self._layout, coords, self._cache, self._found_nothing)
            if value is not ELSEWHERE:
                return value
        product = basic(selection, self.shape)
        array = self._read(product)
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

        >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
        >>> array.read((slice(0, 2), 1)).tolist()
        [1, 5]
        >>> array.read(out=np.empty((3, 4), "float64"))[2].tolist()
        [8.0, 9.0, 10.0, 11.0]
        """
        product = basic(selection, self.shape)
        if consistent:
            self._check_out(product, out)
            return read_consistent(self._store, self._layout, product, self._cache, out, nothing=self._found_nothing)
        return self._read(product, out)

    def _read(self, selection: Product | Points, out: AnyArray | None = None) -> AnyArray:
        self._check_out(selection, out)
        return read_write.read(self._store, self._layout, selection, self._cache, out, nothing=self._found_nothing)

    async def read_async(self, selection: Any = ..., out: AnyArray | None = None) -> AnyArray:
        """:meth:`read` as a coroutine, on any event loop.

        >>> import asyncio
        >>> array = zarrdock.create_array({}, data=np.arange(6))
        >>> asyncio.run(array.read_async(slice(2, 4))).tolist()
        [2, 3]
        """
        from zarrdock.stores.async_store import AsyncStore

        product = basic(selection, self.shape)
        self._check_out(product, out)
        return await read_write.read_async(
            AsyncStore(self._store), self._layout, product, self._cache, out, nothing=self._found_nothing
        )

    def _begin(self, selection: Product | Points, out: AnyArray | None) -> Begun:
        reading = read_write.Reading(self._store, self._layout, selection, self._cache, out, None)

        def finish() -> AnyArray:
            result = reading.result()
            reading.look_again(self._found_nothing)
            return result

        return [reading], finish

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
        """Predict the cost of reading ``selection`` now: rounds, requests, bytes. Reads at most shard indexes, never
        data. Where none of the chunks turns out to be stored, a remote store is asked for the array's document, too.

        >>> array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(4, 4), compressors=None)
        >>> print(array.plan(slice(0, 4)))
        1 round, 2 requests, 256 B for 2 chunks in 2 objects, result (4, 8)
          round 1: 2 requests, 256 B
            c/0/0: all
            c/0/1: all
        """
        return self._plan(basic(selection, self.shape))

    def _plan(self, selection: Product | Points) -> Plan:
        return make_plan(self._store, self._layout, selection, self._cache)

    @property
    def lazy(self) -> LazyIndex:
        """Selections that read nothing yet: ``array.lazy[...]`` is a :class:`zarrdock.LazySelection`.

        >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
        >>> part = array.lazy[1:].lazy[:, ::2]
        >>> part.shape, part.read().tolist()
        ((2, 2), [[4, 6], [8, 10]])
        """
        return LazyIndex(LazySelection(self, Composed.all_of(self.shape)))

    @property
    def oindex(self) -> OrthogonalIndex:
        """Orthogonal indexing: each axis has its own integers, slice, array or mask.

        >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4))
        >>> array.oindex[[0, 2], [1, 3]].tolist()
        [[1, 3], [9, 11]]
        """
        return OrthogonalIndex(self)

    @property
    def vindex(self) -> VectorIndex:
        """Vectorised indexing: arrays of coordinates, broadcast against each other, or a mask.

        >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4))
        >>> array.vindex[[0, 2], [1, 3]].tolist()
        [1, 11]
        """
        return VectorIndex(self)

    @property
    def blocks(self) -> BlockIndex:
        """Indexing by chunk: integers and slices count chunks, or shards where there are shards.

        >>> array = zarrdock.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
        >>> array.blocks[0, 1].tolist()
        [[2, 3], [6, 7]]
        """
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

        >>> array = zarrdock.create_array({}, shape=(2, 3), dtype="int16")
        >>> array.write((0, slice(1, None)), [7, 8])
        >>> array[...].tolist()
        [[0, 7, 8], [0, 0, 0]]
        """
        self._write(basic(selection, self.shape), value)

    async def write_async(self, selection: Any, value: Any) -> None:
        """:meth:`write` as a coroutine: the work is done in a thread.

        >>> import asyncio
        >>> array = zarrdock.create_array({}, shape=3, dtype="int16")
        >>> asyncio.run(array.write_async(slice(0, 2), 5))
        >>> array[...].tolist()
        [5, 5, 0]
        """
        import asyncio

        await asyncio.to_thread(self.write, selection, value)

    def _write(self, selection: Product | Points, value: Any) -> None:
        self._check_writable()
        array = self._value(selection.shape, value)
        if 0 not in selection.shape:
            look = self._start_check(selection)
            self._write_values(self._layout, selection, array, look)
            if look is not None and look.is_beside:
                look.confirm()

    def _write_values(
        self, layout: Layout, selection: Product | Points, array: AnyArray, look: _Look | None = None
    ) -> None:
        whole = None if look is None or look.is_beside else look
        read_write.write(self._store, layout, selection, array, self._cache, check=look, check_whole=whole)

    # -- is it still the same array? ----------------------------------------------------------------------------------

    def _trust(self) -> None:
        """The document was read, or written, just now."""
        self._n_removals = n_removals()
        self._fresh_until = time.monotonic() + _FRESH_SECONDS

    def _distrust(self) -> None:
        """Note that the metadata comes from a consolidated copy of the document."""
        self._fresh_until = 0.0

    def _found_nothing(self) -> None:
        """Make sure that an array of which a read found nothing stored is there: fill value is no answer of one that
        was deleted.

        Raises:
            NodeNotFoundError, NodeChangedError: it was deleted, or another one is in its place.
        """
        may_have_none = self._fresh_until == 0.0  # where the metadata came from a copy, that may be all there is
        try:
            self._look_at_document()
        except NodeNotFoundError:
            if not (may_have_none and is_in_copies(self._store, self._path, self.metadata.zarr_format)):
                raise

    def _look_at_document(self) -> None:
        if not self._store.traits.remote:
            # A look at a file or into a dictionary, past all wrappers: no request, so it is none of the plan's.
            name = self._key.rpartition("/")[2]
            origins = [(store, key) for store, key in self._store.origins(self._key) if key.endswith(name)]
            looks = (store.read([Read(key)])[0] for store, key in origins)
            found: Result = next((look for look in looks if isinstance(look, Blob)), None)
            if found is None:  # the origin of an archive's entry, or of a dataset in a file, is that file
                found = self._store.read([Read(self._key)])[0]
            self._compare(found)
            return
        seen = self._fresh_until - _FRESH_SECONDS
        if self._n_removals != n_removals() or time.monotonic() >= seen + _TRUSTED_SECONDS:
            look = self._start_check()
            if look is not None:
                look()

    def _start_check(self, selection: Product | Points | None = None) -> _Look | None:
        """Begin to make sure that the array was not replaced by another one since its document was read: chunks
        written as the old document says would damage the new array. Threads share a look that is on its way.

        Args:
            selection: to be written: it has to lie within the array as it is now.
        Returns:
            The look, which can be waited for; None where there is nothing to wait for.
        Raises:
            NodeChangedError, NodeNotFoundError: it was.
        """
        compare = partial(self._compare, selection=selection)
        is_fresh = self._n_removals == n_removals() and time.monotonic() < self._fresh_until
        pid, future = self._looking or (0, None)
        if future is None or future.done() or pid != os.getpid() or not is_fresh:
            read = [Read(self._key)]
            future = send(self._store, read)
            if future is None:
                compare(self._store.read(read)[0], is_new=True)
                return None
            self._looking = os.getpid(), future
        return _Look(future, compare, is_beside=is_fresh)

    def _compare(self, found: Result, selection: Product | Points | None = None, *, is_new: bool = False) -> None:
        if not isinstance(found, Blob):
            raise NodeNotFoundError(f"the array {self.name!r} in {self._store} was deleted since it was opened")
        data, shape = self._confirmed
        if found.data != data:
            key, data = self._key, bytes(found.data)
            is_v3 = key.endswith("zarr.json")
            stored = parse_shared(data, key, lenient=True) if is_v3 else parse_array_v2(data, None, key)
            shape = self._check_same(stored).shape
            self._confirmed = data, shape
        if selection is not None and shrinks(self.shape, shape):
            self._check_within(shape, selection, is_new=is_new)
        self._trust()

    def _check_within(self, shape: tuple[int, ...], selection: Product | Points, *, is_new: bool) -> None:
        if all(stop <= n for stop, n in zip(end_of(selection), shape, strict=True)):
            return
        if not is_new:  # a look that others had begun may be older than a change of our own
            self._compare(self._store.read([Read(self._key)])[0], selection, is_new=True)
            return
        raise NodeChangedError(
            f"the array was made smaller since it was opened, {shape}, and nothing was written beyond its end: open it "
            "again, or refresh() it",
            key=self._path,
            store=self._store,
        )

    def _check_same(self, stored: Node) -> ArrayMetadata:
        if isinstance(stored, ArrayMetadata) and store_alike(self.metadata, stored):
            return stored
        raise NodeChangedError(
            "the array was replaced by another one since it was opened: open it again, or refresh() it",
            key=self._path,
            store=self._store,
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
        """Attributes, as a mutable mapping; every change is an atomic update of what is stored.

        >>> array = zarrdock.create_array({}, shape=3, dtype="int16", attributes={"unit": "mm"})
        >>> array.attrs["origin"] = [0, 4]
        >>> dict(array.attrs)
        {'unit': 'mm', 'origin': [0, 4]}
        """
        return Attributes(lambda: self.metadata.attributes, self._change_attributes)

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_writable()
        self._update(lambda stored: stored.replace(attributes=change(dict(stored.attributes))), attributes=True)

    def _update(
        self, change: Callable[[ArrayMetadata], ArrayMetadata], *, attributes: bool, copies: bool = True
    ) -> Layout:
        number = 0

        def numbered(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal number
            self._check_same(stored)
            number = next(self._numbers)
            return change(stored)

        new = update_metadata(
            self._store,
            self._path,
            self.metadata,
            numbered,
            attributes=attributes,
            single_writer=self._layout.options.single_writer,
            copies=copies,
        )
        assert isinstance(new, ArrayMetadata)
        self._trust()
        return self._adopt(new, number)

    def refresh(self) -> None:
        """Read the metadata again: another writer may have resized the array or changed its attributes.

        >>> store = zarrdock.MemoryStore()
        >>> writer = zarrdock.create_array(store, shape=3, dtype="int16")
        >>> reader = zarrdock.open_array(store)
        >>> writer.resize(5)
        >>> reader.refresh()
        >>> reader.shape
        (5,)
        """
        number = next(self._numbers)
        new = load(self._store, self._path, "array", 2 if self.zarr_format == 2 else 3)
        assert isinstance(new, ArrayMetadata)
        self._adopt(new.require_known(self._document(new)), number)
        self._trust()

    def resize(self, new_shape: int | tuple[int, ...]) -> None:
        """Change the shape. What is cut off becomes fill value first, and its chunks are deleted; then the shape
        changes. So rows that others append once the array is smaller are never taken for what was cut off.

        Where it fails half way the shape is the old one, and some of what was to go may be gone.

        Raises:
            SelectionError: the wrong number of dimensions, or a negative length.
            ConflictError: other writers kept appending meanwhile.

        >>> array = zarrdock.create_array({}, data=[1, 2, 3])
        >>> array.resize(2)
        >>> array.resize(4)
        >>> array[...].tolist()
        [1, 2, 0, 0]
        """
        self._check_writable()
        shape = new_shape_of(new_shape, self.shape)
        cleared = self.shape
        if shrinks(cleared, shape):
            if (check := self._start_check()) is not None:
                check()
            clear_outside(self._store, replace(self._layout, shape=shape), cleared, self._cache)
        message = "other writers kept appending while the array was made smaller: try again when they are done"
        for _ in attempts(_ATTEMPTS, lambda: ConflictError(message, key=self._path, store=self._store)):
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
            clear_outside(self._store, replace(layout, shape=shape), cleared, self._cache)

    def append(self, data: Any, axis: int = 0) -> tuple[int, ...]:
        """Grow the array along ``axis`` and write ``data`` there. Several processes may append at once: each gets
        rows of its own.

        Where writing fails the rows are given back, and the array is as it was; where that can't be done, the error
        has a note that says which rows they are. So they are after a kill: fill value, or part of the data.

        Returns:
            The shape it made.
        Raises:
            SelectionError: ``data`` does not fit along the other axes.

        >>> array = zarrdock.create_array({}, data=[[1, 2], [3, 4]])
        >>> array.append([[5, 6]])
        (3, 2)
        >>> array[2].tolist()
        [5, 6]
        """
        return self._append(data, axis)

    def _append(self, data: Any, axis: int, *, store_empty: bool = False) -> tuple[int, ...]:
        """:meth:`append`.

        Args:
            store_empty: store objects of nothing but fill value, too.
        """
        self._check_writable()
        given = shape_of(data, self.metadata.data_type)
        if not -self.ndim <= axis < self.ndim or len(given) != self.ndim:
            raise SelectionError(
                f"cannot append {len(given)}-dimensional data to axis {axis} of an array with {self.ndim} dimensions"
            )
        axis %= self.ndim
        value = self._value(given, data)  # what can't be written is refused before anything is changed
        n, start, found = given[axis], 0, False

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            nonlocal start, found
            others = [(a, b) for i, (a, b) in enumerate(zip(stored.shape, given, strict=True)) if i != axis]
            if any(a != b for a, b in others):
                raise SelectionError(
                    f"cannot append data of shape {given} along axis {axis} of an array of shape {stored.shape}"
                )
            start, found = stored.shape[axis], True
            return stored.resized(with_length(stored.shape, axis, start + n))

        # First the rows are claimed, in one atomic update, then they are written: no writer can be given the same.
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
            if store_empty:
                shape, options = layout.shape, replace(layout.options, write_empty_chunks=True)
                layout = replace(self._bind(self.metadata, options), shape=shape)
            self._write_values(layout, basic(where, layout.shape), value)
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

    def stream(self, axis: int = 0, *, memory_bytes: int | None = None) -> Stream:
        """Append frames that come one after another: they are collected until whole shards (or chunks) can be written
        once, in the background. See :class:`zarrdock.Stream`.

        Args:
            axis: to append along.
            memory_bytes: of frames that are collected; ``write`` waits where they are all taken. Two rows of shards
                across the array at least; by default that, or ``config.write_bytes`` where it is more.
        Raises:
            SelectionError: there is no such axis. ReadOnlyError.
            UnsupportedError: too little memory; or a store without an atomic update.

        >>> array = zarrdock.create_array({}, shape=(0, 3), dtype="int16", chunks=(1, 3), shards=(2, 3))
        >>> with array.stream() as out:
        ...     for i in range(5):
        ...         out.write([i, i, i])
        >>> array.shape
        (5, 3)
        """
        from zarrdock.array.stream import Stream

        return Stream(self, axis, memory_bytes)

    def _give_back(self, layout: Layout, axis: int, start: int) -> None:
        """Make claimed rows fill value, then the array shorter, if no rows were appended after them."""
        clear_rows(self._store, layout, axis, start, self._cache)

        def change(stored: ArrayMetadata) -> ArrayMetadata:
            if stored.shape != layout.shape:
                raise ConflictError("other writers have appended since", key=self._path, store=self._store)
            return stored.replace(shape=with_length(stored.shape, axis, start))

        self._update(change, attributes=False)

    # -- copies -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {
            "store": self._store,
            "path": self._path,
            "metadata": self.metadata,
            "read_only": self._read_only,
            "options": self._layout.options,
            "chunk_cache": self._chunk_cache,
            "missing": self._missing,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("store"), state.pop("path"), state.pop("metadata"), **state)  # type: ignore[misc]
        self._distrust()
