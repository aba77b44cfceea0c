"""Arrays to and from dask. dask is imported when it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

import zarrdock
from zarrdock.adapters.dask_workers import check_reach
from zarrdock.adapters.lazy_reads import readings, refuse_own_reads
from zarrdock.array.array import Array
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.node_storage import node_path
from zarrdock.array.same_place import refuse_aliases
from zarrdock.errors import SelectionError, UnsupportedError
from zarrdock.stores.open import open_store

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["from_dask", "to_dask"]


def to_dask(array: Array, chunks: Any = None, *, inline_array: bool = False) -> da.Array:
    """``array`` as a lazy dask array; see :meth:`zarrdock.Array.to_dask`.

    >>> array = zarrdock.create_array({}, data=np.ones((4, 4)), chunks=(2, 2))
    >>> array.to_dask().sum().compute().item()
    16.0
    """
    dask_array = _dask()
    from dask.base import tokenize

    if chunks is None or (isinstance(chunks, str) and chunks == "auto"):
        if not isinstance(array.metadata.grid, RegularGrid):
            chunks = array.write_chunk_sizes
        else:
            chunks = array.metadata.grid.chunk_shape if chunks is None else _multiple(array)
    chunks = dask_array.core.normalize_chunks(chunks, array.shape, dtype=array.dtype)
    lazy: da.Array = dask_array.from_array(
        array if isinstance(array.metadata.grid, RegularGrid) else _Elements(array),
        chunks=chunks,
        name=f"zarrdock-{tokenize(array, chunks)}",
        lock=False,
        inline_array=inline_array,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    return lazy


class _Elements:
    """An array without the attribute ``chunks``, which dask looks at and which chunks that differ do not have."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, selection: Any) -> Any:
        return self._array[selection]


def _multiple(array: Array) -> tuple[int, ...]:
    """Grow blocks by whole objects of the store, the last axis first, to the size dask wants."""
    import dask
    from dask.utils import parse_bytes

    shape = array.shards or array.chunks
    nbytes = prod(shape) * array.dtype.itemsize
    n_left = max(1, parse_bytes(dask.config.get("array.chunk-size")) // max(1, nbytes))
    blocks = list(shape)
    for axis in reversed(range(array.ndim)):
        n = max(1, min(n_left, -(-array.shape[axis] // shape[axis])))
        blocks[axis] *= n
        n_left //= n
    return tuple(blocks)


def from_dask(
    x: Any,
    store: Any,
    *,
    path: str | None = None,
    region: tuple[slice, ...] | None = None,
    rechunk: bool | None = None,
    compute: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    **creation: Any,
) -> Any:
    """Write a dask array, every block as soon as it is computed, from as many threads, processes or machines as dask
    has.

    Args:
        x: the dask array.
        store: an :class:`Array` that is open for writing, or where to create one: anything
            :func:`zarrdock.open_store` takes. path: of the new array within it.
        region: part of an existing array to write to, one slice of step 1 an axis.
        rechunk: bring the blocks to the edges of what is one object in the store (a shard, where there are shards)
            before writing. False: blocks are written as they are; where they share an object they take turns, in atomic
            updates, and nothing is lost. None: True only where the store has no atomic updates.
        compute: False: return what dask has to compute instead of computing it.
        creation: of the new array, see :func:`zarrdock.create_array`. By default the blocks of a regularly chunked
            ``x`` become shards (chunks in Zarr v2).
    Returns:
        The array; with ``compute=False``, the array and the dask collection that writes it.
    Raises:
        SelectionError: ``x`` does not fit the region. StoreError.
        UnsupportedError: dask is missing; or computing ``x`` reads what would be deleted or changed before it is read:
            an array that is overwritten, or one that is written to block by block while other blocks still need it.

    >>> import dask.array
    >>> store = zarrdock.MemoryStore()
    >>> _ = zarrdock.from_dask(dask.array.ones((4, 4), chunks=2), store)
    >>> zarrdock.open_array(store)[...].sum().item()
    16.0
    """
    dask_array = _dask()
    if any(np.isnan(n) for n in x.shape):
        raise SelectionError("a dask array of unknown shape: call its compute_chunk_sizes() first")
    if isinstance(store, Array):
        if path is not None or creation or storage_options is not None:
            raise UnsupportedError(
                "path=, storage_options= and parameters of a new array cannot be given with an existing array: "
                "leave them out"
            )
        array = store
        if region is None:
            _refuse_entangled(x, array)
    else:
        if region is not None:
            raise UnsupportedError("region= needs an existing array: open it and pass it as store")
        opened = open_store(store, storage_options=dict(storage_options) if storage_options else None)
        if creation.get("overwrite"):
            refuse_own_reads(x, opened, node_path(path))
        array = zarrdock.create_array(
            opened,
            name=path,
            shape=x.shape,
            dtype=x.dtype,
            **_like_blocks(x, creation),
            **creation,
        )
    _check_reach(array)
    starts = _starts(array, region, x.shape)
    if rechunk or (rechunk is None and not array.store.traits.atomic_update):
        sizes = array.write_chunk_sizes
        x = x.rechunk(tuple(_aligned(n, start, axis) for n, start, axis in zip(x.shape, starts, sizes, strict=True)))
    where = tuple(slice(start, start + n) for start, n in zip(starts, x.shape, strict=True))
    stored = dask_array.store(x, array, lock=False, regions=where, compute=compute)
    return array if compute else (array, stored)


def _refuse_entangled(x: Any, array: Array) -> None:
    """Refuse to write an array from itself, but where every block needs only what it replaces."""
    try:
        refuse_aliases(readings(x), array.store, array.path, is_cleared=False)
    except UnsupportedError as error:
        if not _is_blockwise(x):
            raise UnsupportedError(
                f"{array!r} would be written while other blocks are still computed from it: write to another array, or "
                "compute first"
            ) from error


def _is_blockwise(x: Any) -> bool:
    """True where block k of ``x`` is made of the blocks k of its sources alone."""
    from dask.blockwise import Blockwise
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    graph = x.__dask_graph__()
    if not isinstance(graph, HighLevelGraph):
        return False
    for name, layer in graph.layers.items():
        if isinstance(layer, Blockwise):
            indices = [tuple(index) for _, index in layer.indices if index is not None]
            if layer.new_axes or any(index != tuple(layer.output_indices) for index in indices):
                return False
        elif not (isinstance(layer, MaterializedLayer) and list(layer) == [name]):  # an array as one thing
            return False
    return True


def _like_blocks(x: Any, creation: Mapping[str, Any]) -> dict[str, Any]:
    """Shards (chunks, in v2) as large as the blocks, where these are regular and nothing else was asked for."""
    regular = all(len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] for sizes in x.chunks)
    if not regular or {"chunks", "shards"} & creation.keys() or 0 in x.shape or not x.shape:
        return {}
    if creation.get("zarr_format", 3) == 2:
        return {"chunks": x.chunksize}
    return {"shards": x.chunksize}


def _starts(array: Array, region: tuple[slice, ...] | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    if region is None:
        if shape != array.shape:
            raise SelectionError(f"blocks of shape {shape} for an array of shape {array.shape}: give a region")
        return (0,) * len(shape)
    if len(region) != array.ndim:
        raise SelectionError(f"a region of {len(region)} slices for {array.ndim} dimensions")
    found = [item.indices(length) for item, length in zip(region, array.shape, strict=True)]
    if any(step != 1 for _, _, step in found) or tuple(max(0, b - a) for a, b, _ in found) != shape:
        raise SelectionError(f"a dask array of shape {shape} does not fit the region {region}")
    return tuple(start for start, _, _ in found)


def _check_reach(array: Array) -> None:
    import dask.base

    base: Any = dask.base
    get = base.get_scheduler()
    here = get is None or getattr(get, "__module__", "") in ("dask.threaded", "dask.local")
    if not here:
        check_reach(array.store)


def _aligned(n: int, start: int, objects: Sequence[int]) -> Sequence[int]:
    """Lengths of blocks of an axis of ``n`` elements that begins at ``start``, cut where objects of the store end.

    Args:
        objects: their lengths along the axis.
    """
    edges = [0, *(stop - start for stop in accumulate(objects) if 0 < stop - start < n), n]
    return tuple(b - a for a, b in pairwise(edges)) if n else (0,)


def _dask() -> Any:
    try:
        import dask.array
    except ImportError as error:
        raise UnsupportedError(f'dask is needed: pip install "zarrdock[dask]" ({error})') from error
    return dask.array
