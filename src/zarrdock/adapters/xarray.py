"""The xarray engine "zarrdock": ``xarray.open_dataset("s3://bucket/a.zarr", engine="zarrdock")``.

Groups of Zarr v2 and v3, consolidated or not, lazily, decoded by xarray as it decodes its own. Writing goes through
zarr-python: ``dataset.to_zarr(ZarrStore(...))``.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import os
import struct
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Dataset, DataTree, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.core import indexing

import zarrdock
from zarrdock.array.array import Array, Missing
from zarrdock.array.group import Group, wrap
from zarrdock.array.hierarchy import Hierarchy, walk
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.nodes import LazyNodes, Node
from zarrdock.array.metadata.v2 import to_v2_documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import join
from zarrdock.codecs.codec import ArrayBytesCodec
from zarrdock.errors import MetadataError, NodeNotFoundError, UnsupportedError, ZarrdockError

if TYPE_CHECKING:
    from xarray.backends.common import T_PathFileOrDataStore

__all__ = ["LazyArray", "XarrayBackend"]

_DIMENSIONS = "_ARRAY_DIMENSIONS"
_PAUSES_SECONDS = (0.02, 0.1, 0.4)


class LazyArray(BackendArray):
    """An array that xarray reads when it needs values."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, indexing.VectorizedIndexer) and all(isinstance(k, np.ndarray) for k in key.tuple):
            return indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.VECTORIZED, lambda points: self._array.vindex[points]
            )
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    async def async_getitem(self, key: Any) -> Any:
        """Index without blocking the event loop."""
        return await asyncio.to_thread(self.__getitem__, key)

    def _outer(self, key: tuple[Any, ...]) -> Any:
        return self._array.oindex[key]


class GroupStore(AbstractDataStore):
    """The arrays of a group as xarray's variables.

    Args:
        fill_value_is_mask: take Zarr's fill value for netCDF's ``_FillValue``, as has always been done in v2.
        left_out: names of arrays that are not looked at.
        same_lengths: refuse arrays that are of different lengths along one dimension.
    """

    def __init__(
        self, group: Group, fill_value_is_mask: bool, left_out: Iterable[str] = (), *, same_lengths: bool = True
    ) -> None:
        self._same_lengths = same_lengths
        self._group = group
        self._mask = fill_value_is_mask
        self._left_out = frozenset(left_out)

    def get_variables(self) -> dict[str, Variable]:
        """Name to lazy variable. Arrays whose metadata cannot be used are variables that raise when they are read.

        Raises:
            MetadataError: arrays of different lengths along one dimension.
        """
        for pause in _PAUSES_SECONDS:  # a writer that appends at this moment makes one longer after the other
            try:
                return self._read_variables()
            except _LengthsError:
                time.sleep(pause)
        return self._read_variables()

    def _read_variables(self) -> dict[str, Variable]:
        arrays: dict[str, Array] = {}
        broken: dict[str, tuple[ZarrdockError, ArrayMetadata | None]] = {}
        for name, node in _members(self._group, self._left_out):
            if isinstance(node, GroupMetadata):
                continue
            if isinstance(node, MetadataError):
                broken[name] = node, None
                continue
            try:
                array = wrap(self._group.store, join(self._group.path, name), node, self._group._options)
            except (MetadataError, UnsupportedError) as error:
                broken[name] = error, node
                continue
            assert isinstance(array, Array)
            arrays[name] = array
        dims = _all_named({name: (_dimensions(array), array.shape) for name, array in arrays.items()})
        if self._same_lengths:
            _check_lengths(dims, arrays)
        variables = {name: self._variable(array, dims[name]) for name, array in arrays.items()}
        sizes = {dim: n for name, names in dims.items() for dim, n in zip(names, arrays[name].shape, strict=True)}
        for name, (why, metadata) in broken.items():
            why.add_note(f"drop_variables=[{name!r}] opens the dataset without this array")
            if name in sizes or (metadata is not None and name in (metadata.dims or ())):
                # xarray reads such variables at once, to make an index of them.
                text = f"the coordinate {name!r} cannot be read and is left out: {why}"
                warnings.warn(text, UserWarning, stacklevel=2)
            else:
                variables[name] = _unreadable(why, metadata, sizes)
        return variables

    def get_attrs(self) -> dict[str, Any]:
        """The group's attributes, but those of NCZarr."""
        return _without_nczarr(self._group.attrs)

    def get_encoding(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Do nothing: the store may be in use elsewhere."""

    def _variable(self, array: Array, dims: tuple[str, ...]) -> Variable:
        attributes = _without_nczarr(array.attrs)
        attributes.pop(_DIMENSIONS, None)
        objects = _object_sizes(array)
        is_sharded = bool(array._layout.levels)
        encoding: dict[str, Any] = {
            "chunks": array.chunks if is_sharded else objects,
            "shards": objects if is_sharded else None,
            "preferred_chunks": dict(zip(dims, objects, strict=True)),
        } | _codecs(array)
        if self._mask:
            if not array.metadata.fill_value_is_null:
                attributes["_FillValue"] = array.fill_value
        else:
            if array.zarr_format == 3:
                encoding["fill_value"] = array.fill_value
            if "_FillValue" in attributes:
                attributes["_FillValue"] = _decode_fill(attributes["_FillValue"], array.dtype)
        return Variable(dims, indexing.LazilyIndexedArray(LazyArray(array)), attributes, encoding)


class _LengthsError(MetadataError):
    """Arrays of different lengths along one dimension."""


def _check_lengths(dims: dict[str, tuple[str, ...]], arrays: dict[str, Array]) -> None:
    lengths: dict[str, dict[int, list[str]]] = {}
    for name, names in dims.items():
        for dim, n in zip(names, arrays[name].shape, strict=True):
            lengths.setdefault(dim, {}).setdefault(n, []).append(name)
    for dim, found in lengths.items():
        if len(found) > 1:
            raise _LengthsError(
                f"arrays are of different lengths along {dim!r}: an append was interrupted, or two ran at once with "
                "to_zarr(append_dim=): use zarrdock.append() for that. Inspect the last rows and resize() "
                "the arrays to one length; drop_variables= opens the others",
                expected="one length",
                found={n: sorted(names) for n, names in sorted(found.items())},
            )


class UnreadableArray(BackendArray):
    """An array whose metadata cannot be used: reading it raises the error that says why."""

    def __init__(self, error: ZarrdockError, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._error = error
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, key: Any) -> Any:
        raise self._error


def _unreadable(error: ZarrdockError, metadata: ArrayMetadata | None, sizes: dict[str, int]) -> Variable:
    """A variable for an array that can't be read, of its shape where that is known and fits the others' ``sizes``."""
    names: tuple[str | None, ...] = ()
    shape: tuple[int, ...] = ()
    # Of objects xarray looks at one, to see what they are.
    dtype: np.dtype[Any] = np.dtype("V1")
    if metadata is not None and metadata.dims is not None and None not in metadata.dims:
        fits = all(sizes.get(str(d), n) == n for d, n in zip(metadata.dims, metadata.shape, strict=True))
        names, shape = (metadata.dims, metadata.shape) if fits else (names, shape)
        if metadata.dtype.itemsize and not metadata.dtype.hasobject:
            dtype = metadata.dtype
    array = indexing.LazilyIndexedArray(UnreadableArray(error, shape, dtype))
    # The array's own attributes would have xarray decode, and so read, some of it.
    return Variable(names, array, {"error": str(error)})


class XarrayBackend(BackendEntrypoint):
    """xarray's engine "zarrdock"."""

    description = "Open Zarr v2 and v3, sharded or not, from any store of zarrdock"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: T_PathFileOrDataStore) -> bool:
        """True for what ends in .zarr, .zarr.zip or .ozx; zarr-python goes first where it is installed."""
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        return os.fspath(filename_or_obj).rstrip("/").endswith((".zarr", ".zarr.zip", ".ozx"))

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        mask_and_scale: bool = True,
        decode_times: Any = True,
        concat_characters: bool = True,
        decode_coords: bool = True,
        use_cftime: bool | None = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: Any = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        missing: Missing = "fill",
    ) -> Dataset:
        """Open one group.

        Args:
            filename_or_obj: anything :func:`zarrdock.open_store` takes.
            drop_variables: names of arrays to leave out, also of those that cannot be opened.
            group: path within it; the root by default.
            consolidated: True: there must be consolidated metadata; False: it is not used; None: used if there.
            use_zarr_fill_value_as_mask: whether elements with Zarr's fill value are missing values; by default in v2.
            missing: "fill": chunks that are not stored are read as the fill value; "error": reading one raises
                ChunkNotFoundError.
        """
        opened = _open(filename_or_obj, group, consolidated, storage_options, zarr_format, missing)
        return self._decode(
            opened,
            use_zarr_fill_value_as_mask,
            drop_variables=drop_variables,
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
        )

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        consolidated: bool | None = None,
        storage_options: dict[str, Any] | None = None,
        zarr_format: Any = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        missing: Missing = "fill",
        **decoding: Any,
    ) -> dict[str, Dataset]:
        """A group and all groups below it, by path relative to it ("/" is the group itself)."""
        root = _with_members(_open(filename_or_obj, group, consolidated, storage_options, zarr_format, missing))
        return {
            path: self._decode(opened, use_zarr_fill_value_as_mask, **decoding) for path, opened in _groups(root, "/")
        }

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> DataTree:
        """The same as a tree."""
        return DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))

    @staticmethod
    def _decode(group: Group, fill_value_is_mask: bool | None, **decoding: Any) -> Dataset:
        mask = group.zarr_format == 2 if fill_value_is_mask is None else fill_value_is_mask
        dropped = decoding.get("drop_variables") or ()
        store = GroupStore(group, mask, [dropped] if isinstance(dropped, str) else dropped)
        return StoreBackendEntrypoint().open_dataset(store, **decoding)


# What xarray finds out by itself of engines that are installed, and not of one that is given as a class.
XarrayBackend.open_dataset_parameters = tuple(inspect.signature(XarrayBackend.open_dataset).parameters)[2:]


def _open(
    obj: Any, group: str | None, consolidated: bool | None, options: Any, zarr_format: Any, missing: Missing
) -> Group:
    opened = zarrdock.open_store(obj, storage_options=options, read_only=True)
    path = (group or "").strip("/")
    try:
        # The root first: it may have consolidated metadata of everything below.
        root = zarrdock.open_group(
            opened, zarr_format=zarr_format, use_consolidated=consolidated is not False, missing=missing
        )
    except NodeNotFoundError:
        if not path:
            raise
        root, path = zarrdock.open_group(opened, path=path, zarr_format=zarr_format, missing=missing), ""
    if consolidated and root.metadata.consolidated is None:
        raise NodeNotFoundError(f"there is no consolidated metadata in {opened}: leave consolidated out")
    found = root[path] if path else root
    if isinstance(found, Array):
        raise NodeNotFoundError(f"{group!r} in {opened} is an array: a dataset is a group")
    return found


def _with_members(group: Group) -> Group:
    """The group with the metadata of all nodes below it, read in a few rounds a level."""
    if group.metadata.consolidated is not None:
        return group
    nodes = {}
    for path, node in walk(group.store, group.path, group.metadata):
        if isinstance(node, ZarrdockError) and not isinstance(node, MetadataError):
            raise node
        nodes[path] = node
    whole = group.metadata.replace(consolidated=LazyNodes(nodes, _as_it_is, ""))
    return Group(group.store, group.path, whole, group._options)


def _as_it_is(path: str, node: Node | MetadataError) -> Node:
    if isinstance(node, MetadataError):
        raise node
    return node


def _groups(group: Group, path: str) -> Iterator[tuple[str, Group]]:
    yield path, group
    for name, node in _members(group):
        if isinstance(node, GroupMetadata):
            member = Group(group.store, join(group.path, name), node, group._options)
            yield from _groups(member, f"{path.rstrip('/')}/{name}")


def _members(group: Group, left_out: frozenset[str] = frozenset()) -> Iterator[tuple[str, Node | MetadataError]]:
    """Names and metadata of the members of a group, or the error of each.

    Raises:
        StoreError: the store could not be read, which says nothing of the metadata.
    """
    for name, node in Hierarchy(group.store).members(group.path, group.metadata):
        if name in left_out:
            continue
        if isinstance(node, ZarrdockError) and not isinstance(node, MetadataError):
            raise node
        yield name, node


def _without_nczarr(attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.lower().startswith("_nc")}


def _dimensions(array: Array) -> tuple[str | None, ...]:
    names: Any = array.dimension_names or ()
    if len(names) != array.ndim or (None in names and array.zarr_format == 2):
        where = "dimension_names" if array.zarr_format == 3 else _DIMENSIONS
        raise MetadataError(
            f"{array.name!r} does not name its dimensions ({where}), which xarray needs: use zarrdock.open_array",
            expected=f"{array.ndim} names",
            found=list(names),
        )
    return tuple(names)


def _all_named(dims: dict[str, tuple[tuple[str | None, ...], tuple[int, ...]]]) -> dict[str, tuple[str, ...]]:
    """A name for every dimension. Those without get one as netCDF's readers give it: axes of one length share a name,
    but for those of one array.

    Args:
        dims: of each variable the names, as far as there are any, and the shape.
    """
    taken = {name for names, _ in dims.values() for name in names}
    free = (name for name in map("phony_dim_{}".format, itertools.count()) if name not in taken)
    phony: dict[tuple[int, int], str] = {}
    named: dict[str, tuple[str, ...]] = {}
    for variable, (names, shape) in dims.items():
        found: list[str] = []
        seen: Counter[int] = Counter()
        for name, length in zip(names, shape, strict=True):
            if name is None:
                which = (length, seen[length])
                seen[length] += 1
                name = phony.get(which) or phony.setdefault(which, next(free))
            found.append(name)
        named[variable] = tuple(found)
    return named


def _object_sizes(array: Array) -> tuple[int | tuple[int, ...], ...]:
    """Lengths of the objects in the store, as xarray writes them: one number for an axis where all are alike."""
    grid = array.metadata.grid
    if isinstance(grid, RegularGrid):
        return grid.chunk_shape
    sizes = array.write_chunk_sizes
    alike = (len(set(axis[:-1])) <= 1 and axis[-1:] <= axis[:1] for axis in sizes)
    return tuple((axis[0] if axis else 1) if same else axis for axis, same in zip(sizes, alike, strict=True))


def _codecs(array: Array) -> dict[str, Any]:
    """The codecs needed to write the variable again, in a form that zarr-python accepts."""
    try:
        if array.zarr_format == 2:
            return _codecs_v2(array)
        serializer = [codec for codec in array._leaf_codecs if isinstance(codec, ArrayBytesCodec)]
        return {
            "compressors": tuple(codec.to_json() for codec in array.compressors) or None,
            "filters": tuple(codec.to_json() for codec in array.filters) or None,
            "serializer": serializer[0].to_json(),
        }
    except UnsupportedError:
        return {}


def _codecs_v2(array: Array) -> dict[str, Any]:
    """zarr-python takes the codecs of v2 as numcodecs' objects alone."""
    from numcodecs.registry import get_codec

    document = to_v2_documents(array.metadata)[".zarray"]
    try:
        compressors = tuple(get_codec(dict(item)) for item in (document["compressor"],) if item is not None)
        filters = tuple(get_codec(dict(item)) for item in document["filters"] or ())
    except ValueError as error:  # one that numcodecs does not know, or not here
        raise UnsupportedError(str(error)) from error
    return {"compressors": compressors, "filters": filters or None}


def _decode_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """``_FillValue`` as xarray writes it into the JSON of Zarr: floats and bytes in base64."""
    if dtype.kind == "f" and isinstance(value, (str, bytes)):
        return struct.unpack("<d", base64.standard_b64decode(value))[0]
    if dtype.kind == "c" and isinstance(value, (list, tuple)):
        real, imag = (struct.unpack("<d", base64.standard_b64decode(part))[0] for part in value)
        return complex(real, imag)
    if dtype.kind == "S" and isinstance(value, (str, bytes)):
        return base64.standard_b64decode(value)
    return value
