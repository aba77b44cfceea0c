"""Reads and writes of zarr-python's arrays, done by zarrdock.

zarr-python hands a pipeline a list of chunks with the parts of them that are wanted. Here the list is turned back into
the selection it came from, and that is read or written as zarrdock does it: indexes of all shards in one round and
data in another, indexes kept between reads, chunks decoded in batches, and parts of chunks changed by the store's
atomic update.

Arrays whose place zarrdock has no store of its own for, and arrays that it does not know how to read, are left to
zarr-python's own pipeline.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from zarr.abc.codec import Codec
from zarr.abc.codec import CodecPipeline as ZarrPipeline
from zarr.codecs import ShardingCodec
from zarr.core import codec_pipeline as zarr_codec_pipeline
from zarr.core.array import AsyncArray, create_codec_pipeline
from zarr.core.config import config as zarr_config
from zarr.storage import LocalStore, StorePath

from zarrdock.adapters.zarr_metadata import StandsBackError, metadata_of, write_order
from zarrdock.adapters.zarr_own_stores import check_place, own_store
from zarrdock.adapters.zarr_selection import NotASelectionError, selection_of
from zarrdock.adapters.zarr_store import ZarrStore
from zarrdock.array.execution import read_write
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.chunk_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.overlap import Division
from zarrdock.array.planning.selection import Points, Product
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.config import config
from zarrdock.errors import InvalidKeyError
from zarrdock.stores.base import Store, Version, check_key

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrPythonStore
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = ["CodecPipeline", "why"]

Batch: TypeAlias = "Sequence[tuple[Any, ArraySpec, Any, Any, bool]]"


class CodecPipeline(ZarrPipeline):
    """zarrdock's reads and writes under zarr-python's arrays, where it has a store of its own for their place.

    Args:
        metadata: the array's, of zarr-python.
        store: the store of the array's hierarchy.

    >>> import zarr
    >>> from zarrdock.adapters import ZarrStore
    >>> with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
    ...     array = zarr.create_array(ZarrStore(zarrdock.MemoryStore()), shape=(4,), dtype="int8")
    ...     array[:] = 3
    >>> array[:].tolist()
    [3, 3, 3, 3]
    """

    def __init__(self, metadata: Any, store: ZarrPythonStore) -> None:
        self._metadata = metadata
        self._store = store
        self._cache = IndexCache(config.index_cache_bytes)
        self._layouts: dict[bool, Layout] = {}
        self._place: Store | None = None

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: ZarrPythonStore) -> Any:
        """The pipeline of an array: zarr-python's own where zarrdock has no store for the place.

        Raises:
            TypeError, ValueError: the array's codecs can't follow each other so; as zarr-python's own pipelines do,
                before anything of the array is stored.
        """
        try:
            check_place(store)
        except StandsBackError:
            raise NotImplementedError from None  # zarr-python then makes its own
        _check_order(_codecs(array_metadata))
        return cls(array_metadata, store)

    @classmethod
    def from_codecs(cls, codecs: Iterable[Codec]) -> Any:
        """zarr-python's own pipeline: what it makes without a store, for the inside of shards, is not read by parts."""
        return _default_pipeline().from_codecs(codecs)

    # Both when they are first asked for: many arrays are opened and never read.

    @cached_property
    def _own(self) -> Any:
        """The codec pipeline zarr-python uses for such an array on any other store."""
        return create_codec_pipeline(self._metadata)

    @cached_property
    def _ours(self) -> ArrayMetadata | None:
        try:
            return metadata_of(self._metadata)
        except StandsBackError:
            return None

    def _own_store(self, store: ZarrPythonStore) -> Store | None:
        """zarrdock's store for the place; None where that is not certain."""
        # Where a relative path leads may change between two reads.
        if self._place is None or type(store) is LocalStore:
            try:
                self._place = own_store(store)
            except StandsBackError:
                return None
        return self._place

    def __eq__(self, other: object) -> bool:
        # Arrays of zarr-python are equal where all they consist of is.
        if not isinstance(other, CodecPipeline):
            return NotImplemented
        return bool(self._store == other._store and self._metadata == other._metadata)

    def __hash__(self) -> int:
        return hash((type(self), self._metadata.shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._metadata, self._store)

    # -- what zarr-python asks of the codecs: its own pipeline answers ------------------------------------------------

    def __iter__(self) -> Iterator[Codec]:
        yield from self._own

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> CodecPipeline:
        """This pipeline: it knows the array already."""
        return self

    @property
    def supports_partial_decode(self) -> bool:
        """The answer of zarr-python's own pipeline; :meth:`read` is asked for parts either way."""
        return bool(self._own.supports_partial_decode)

    @property
    def supports_partial_encode(self) -> bool:
        """The answer of zarr-python's own pipeline."""
        return bool(self._own.supports_partial_encode)

    def validate(self, **arguments: Any) -> None:
        """Raises what zarr-python's codecs raise."""
        self._own.validate(**arguments)

    def compute_encoded_size(self, byte_length: int, array_spec: ArraySpec) -> int:
        """Size in bytes of an encoded chunk, where it is fixed."""
        return int(self._own.compute_encoded_size(byte_length, array_spec))

    async def decode(self, chunk_bytes_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]) -> Any:
        """Whole chunks, decoded by zarr-python."""
        return await self._own.decode(chunk_bytes_and_specs)

    async def encode(self, chunk_arrays_and_specs: Iterable[tuple[NDBuffer | None, ArraySpec]]) -> Any:
        """Whole chunks, encoded by zarr-python."""
        return await self._own.encode(chunk_arrays_and_specs)

    # -- reading and writing -------------------------------------------------------------------------------------------

    async def read(self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()) -> Any:
        """Read parts of chunks into ``out``, all shards side by side."""
        batch = list(batch_info)
        array: Any = out.as_ndarray_like()
        wanted = self._wanted(batch, array, drop_axes)
        if wanted is None or not isinstance(array, np.ndarray) or wanted[2].shape != array.shape:
            return await self._own.read(batch, out, drop_axes)
        store, layout, selection = wanted
        tells = store.traits.conditional_read  # without versions it cannot be said afterwards what was missing
        if not tells and not getattr(batch[0][1].config, "read_missing_chunks", True):
            return await self._own.read(batch, out, drop_axes)
        seen: dict[str, Version | None] = {}
        # In a thread: zarr-python has one event loop for all arrays, which decoding would hold up.
        await asyncio.to_thread(read_write.read, store, layout, selection, self._cache, array, seen)
        return tuple(
            {"status": "missing" if tells and seen.get(chunk[0].path) is None else "present"} for chunk in batch
        )

    async def write(self, batch_info: Iterable[Any], value: NDBuffer, drop_axes: tuple[int, ...] = ()) -> None:
        """Write parts of chunks; those that are not covered wholly are changed by atomic updates.

        Raises:
            ValueError: the values have not the shape of the selection, and numpy would not stretch them to it.
            NodeChangedError, NodeNotFoundError: the array was replaced or deleted since its document was read through
                its ``ZarrStore``.
        """
        batch = list(batch_info)
        array = value.as_ndarray_like()
        wanted = self._wanted(batch, array, drop_axes)
        if wanted is None:
            await self._own.write(batch, value, drop_axes)
            return
        store, layout, selection = wanted
        batch[0][0].store._check_writable()
        if store.read_only or not store.traits.writable:
            await self._own.write(batch, value, drop_axes)
            return
        try:
            values = np.broadcast_to(array, selection.shape)
        except ValueError:
            raise ValueError(
                f"values of shape {array.shape} cannot be broadcast to a selection of shape {selection.shape}"
            ) from None
        place = batch[0][0]
        if isinstance(place.store, ZarrStore):
            await place.store._look_again(place.path)
        await asyncio.to_thread(read_write.write, store, layout, selection, values, self._cache)

    def _wanted(
        self, batch: Batch, array: Any, drop_axes: tuple[int, ...]
    ) -> tuple[Store, Layout, Product | Points] | None:
        """Store, layout and selection of a batch; None if zarr-python has to process it itself."""
        if not batch or self._ours is None:
            return None
        place, spec = batch[0][0], batch[0][1]
        if not isinstance(place, StorePath):
            return None
        store = self._own_store(place.store)
        if store is None or not _is_key(place.path):
            return None
        if not isinstance(array, np.ndarray) or _native(array.dtype) != _native(self._ours.dtype):
            return None  # fields of a struct, or a data type that the two have different forms of
        parse, ndim = self._ours.key_encoding.parse, self._ours.ndim
        # Of the ways to end the path of the array, the last one that leaves the key of a chunk.
        ends = [0, *(i + 1 for i, letter in enumerate(place.path) if letter == "/")]
        start = next((i for i in reversed(ends) if parse(place.path[i:], ndim) is not None), None)
        if start is None:
            return None

        def coords(i: int) -> tuple[int, ...]:
            found = parse(batch[i][0].path[start:], ndim)
            if found is None:
                raise NotASelectionError(f"{batch[i][0].path!r} is no chunk")
            return found

        layout = self._layout(spec.config.write_empty_chunks)
        if layout.irregular is not None and not self._knows(batch, coords):
            return None
        try:
            selection, end = selection_of(batch, coords, self._chunks, drop_axes)
        except NotASelectionError:
            return None
        # The array may have been resized since: its shape here only has to hold what is asked for.
        shape = tuple(
            n if n >= stop else layout.end_of(axis, stop - 1)
            for axis, (n, stop) in enumerate(zip(layout.shape, end, strict=True))
        )
        layout = dataclasses.replace(layout, prefix=place.path[:start], shape=shape)
        return store, layout, selection

    @cached_property
    def _chunks(self) -> Division:
        assert self._ours is not None
        return Division.of(self._ours.grid, self._ours.shape)

    def _knows(self, batch: Batch, coords: Callable[[int], tuple[int, ...]]) -> bool:
        """True if chunks of differing shapes are where they were: the array may have been resized since."""
        try:
            return all(
                tuple(chunk[1].shape) == tuple(self._chunks.extent(axis, c)[1] for axis, c in enumerate(coords(i)))
                for i, chunk in enumerate(batch)
            )
        except (IndexError, NotASelectionError):
            return False

    def _layout(self, write_empty_chunks: bool) -> Layout:
        layout = self._layouts.get(write_empty_chunks)
        if layout is None:
            assert self._ours is not None
            metadata = self._ours
            options = WriteOptions(
                write_empty_chunks=write_empty_chunks,
                subchunk_write_order=write_order(_codecs(self._metadata)),
                # Where a plain place has no atomic updates, zarr-python's own pipeline could do no better.
                single_writer=not isinstance(self._store, ZarrStore),
            )
            layout = self._layouts[write_empty_chunks] = Layout.of(metadata, options=options)
        return layout


def why(array: Any) -> str:
    """The reason why zarr-python's own pipeline reads and writes an array, "" where zarrdock's does.

    Args:
        array: an array of zarr-python (``Array`` or ``AsyncArray``), such as one of those that xarray or dask read
            from, opened by itself.

    Raises:
        TypeError: it is something else.

    Single requests may be handed back too: fields of structured arrays, and what is not in main memory's numpy.

    >>> import zarr
    >>> with zarr.config.set({"codec_pipeline.path": "zarrdock.adapters.zarr_python.CodecPipeline"}):
    ...     array = zarr.create_array({}, shape=(4,), dtype="i4")
    ...     why(array)
    ''
    """
    inner = getattr(array, "_async_array", array)
    if not isinstance(inner, AsyncArray):
        raise TypeError(
            f"an array of zarr-python is needed, such as zarr.open_array(url, path='name'), not {type(array)}"
        )
    pipeline, store = inner.codec_pipeline, inner.store_path.store
    try:
        own_store(store)
        metadata_of(inner.metadata)
    except StandsBackError as error:
        return str(error)
    if not isinstance(pipeline, CodecPipeline):
        kind = f"{type(pipeline).__module__}.{type(pipeline).__qualname__}"
        return f"it was opened with another codec pipeline, {kind}: set zarr.config's 'codec_pipeline.path' before"
    if not _is_key(inner.store_path.path or "a"):
        return f"zarrdock's stores cannot hold the path {inner.store_path.path!r}"
    return ""


def _is_key(path: str) -> bool:
    try:
        check_key(path)
    except InvalidKeyError:
        return False
    return True


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def _codecs(metadata: Any) -> tuple[Any, ...]:
    """The codecs of a v3 array; in v2 there is no order that could be wrong, and no shards."""
    return tuple(metadata.codecs) if metadata.zarr_format == 3 else ()


def _check_order(codecs: tuple[Any, ...]) -> None:
    """Raise what zarr-python raises for codecs in an impossible order, inside shards too."""
    if codecs:
        _split(codecs)
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            _split(codec.index_codecs)
            _check_order(codec.codecs)


def _split(codecs: Iterable[Any]) -> None:
    # Without warnings, where there is such a function: what they advise against is no matter here.
    quiet = getattr(zarr_codec_pipeline, "codecs_from_list_unchecked", None)
    (quiet or _default_pipeline().from_codecs)(codecs)


def _default_pipeline() -> Any:
    """The class that zarr-python uses by itself."""
    path = next(d["codec_pipeline"]["path"] for d in zarr_config.defaults if "codec_pipeline" in d)
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
