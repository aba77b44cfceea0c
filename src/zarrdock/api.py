"""The functions users call: opening and creating nodes of a hierarchy, wherever it is."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

import numpy as np

from zarrdock.array.array import Array, Missing, check_missing
from zarrdock.array.consolidated_copies import refuse_arrays_above
from zarrdock.array.create import (
    ArrayParameters,
    ChunkKeyEncodingLike,
    ChunksLike,
    CodecLike,
    CodecsLike,
    DTypeLike,
    Shape,
    ShardsLike,
    check_parameters,
    make_array,
    make_metadata,
)
from zarrdock.array.group import Group, NodeOptions, wrap
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import ZarrFormat, join, load, new_node_path, node_path, require_group, save_new
from zarrdock.array.planning.chunk_cache import ChunkCache
from zarrdock.codecs.write_options import WriteOptionsLike, write_options
from zarrdock.errors import NodeExistsError, NodeNotFoundError, UnsupportedError
from zarrdock.json_ import as_json
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store
from zarrdock.stores.urls import parse_pipeline

__all__ = [
    "consolidate_metadata",
    "create_array",
    "create_group",
    "create_hierarchy",
    "open",
    "open_array",
    "open_group",
]

Mode: TypeAlias = Literal["r", "r+", "a", "w", "w-"]
StoreLike: TypeAlias = "str | os.PathLike[str] | Store | MutableMapping[str, Any] | Any"

_MODES = {
    "r": "read",
    "r+": "read and write",
    "a": "and create where nothing is",
    "w": "create anew",
    "w-": "create, fail if it exists",
}


def _open_store(store: StoreLike, storage_options: Mapping[str, Any] | None, mode: str) -> Store:
    if mode not in _MODES:
        raise UnsupportedError(f"mode {mode!r}: one of {', '.join(f'{m!r} ({word})' for m, word in _MODES.items())}")
    return open_store(store, storage_options=dict(storage_options) if storage_options else None, read_only=mode == "r")


def _format_of(store: StoreLike, given: ZarrFormat | None) -> ZarrFormat | None:
    """The version of the format that the caller, or a URL pipeline, names."""
    pipeline = parse_pipeline(store) if isinstance(store, str) else None
    named = pipeline.zarr_format if pipeline else None
    if named and given and named != given:
        raise UnsupportedError(f"zarr_format={given}, and the URL ends with |zarr{named}: leave one of both out")
    return given or named


def _node_options(
    mode: str, options: WriteOptionsLike, cache_bytes: int | None, missing: Missing = "fill"
) -> NodeOptions:
    cache = None if cache_bytes is None else ChunkCache(cache_bytes)
    return NodeOptions(mode == "r", write_options(options), cache, check_missing(missing))


def _check_creation(parameters: Mapping[str, Any], function: str, mode: str) -> None:
    check_parameters(parameters, function)
    if parameters and mode in ("r", "r+"):
        raise UnsupportedError(
            f"{next(iter(parameters))}= is for new arrays, and mode {mode!r} creates none: leave it out, "
            "or say mode='a'"
        )


def open(  # noqa: A001 - zarr-python's name
    store: StoreLike,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
    cache_bytes: int | None = None,
    missing: Missing = "fill",
    **parameters: Unpack[ArrayParameters],
) -> Array | Group:
    """Open the array or group at a place, or create one.

    One round of requests: one request where ``zarr_format`` is given, at most three otherwise.

    Args:
        store: anything :func:`zarrdock.open_store` takes: a path, a URL, a store, an fsspec filesystem, a mapping.
        mode: "r" read; "r+" read and write; "a" the same, and create a missing node; "w" create anew; "w-" create,
            fail if it exists. An array is created where ``parameters`` are given, else a group.
        path: of the node within the store.
        zarr_format: 2 or 3 if known, which saves requests; of a new node, 3 by default.
        storage_options: options of the fsspec filesystem that a URL leads to.
        options: how arrays are written, a :class:`zarrdock.WriteOptions` or a mapping of its fields.
        cache_bytes: keep decoded chunks, up to so many bytes, for all arrays that are opened through the result; 0:
            none; default: ``zarrdock.config.cache_bytes``, shared by all arrays. A chunk that was kept is used only
            once the store has confirmed that its object is still the same, so it is never stale; stores without
            versions keep nothing.
        missing: "fill": chunks that are not stored are read as the fill value; "error": reading one raises
            ChunkNotFoundError, for all arrays that are opened through the result. For arrays of which every chunk was
            written (with ``WriteOptions(write_empty_chunks=True)``, where some hold nothing but the fill value).
        parameters: of a new array, see :func:`create_array`.
    Raises:
        NodeNotFoundError: there is neither. NodeExistsError: mode "w-", and there is one. MetadataError, StoreError.
        TypeError: an unknown keyword.

    >>> store = zarrdock.MemoryStore()
    >>> zarrdock.open(store, "a", path="x", shape=(4,), dtype="int8").shape
    (4,)
    >>> zarrdock.open(store, path="x").read_only
    True
    """
    _check_creation(parameters, "open", mode)
    zarr_format = _format_of(store, zarr_format)
    opened, at = _open_store(store, storage_options, mode), node_path(path)
    chosen = _node_options(mode, options, cache_bytes, missing)

    def create() -> Array | Group:
        if parameters:
            return _create_array(opened, new_node_path(at), parameters, zarr_format, mode, chosen)
        return _create_group(opened, new_node_path(at), None, zarr_format, mode, chosen)

    return _open_or_create(
        mode, opened, at, lambda: wrap(opened, at, load(opened, at, None, zarr_format), chosen), create
    )


def open_array(
    store: StoreLike,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
    cache_bytes: int | None = None,
    missing: Missing = "fill",
    **parameters: Unpack[ArrayParameters],
) -> Array:
    """Open an array; with mode "a", "w" or "w-" create it. Arguments as for :func:`open`.

    One round of requests: one request where ``zarr_format=3`` is given, at most three otherwise.

    Raises:
        NodeNotFoundError: there is no array. NodeExistsError: mode "w-" and there is one. MetadataError, StoreError.
        TypeError: an unknown keyword.

    >>> store = zarrdock.MemoryStore()
    >>> zarrdock.open_array(store, "w", data=[1, 2, 3])[1:].tolist()
    [2, 3]
    """
    _check_creation(parameters, "open_array", mode)
    zarr_format = _format_of(store, zarr_format)
    opened, at = _open_store(store, storage_options, mode), node_path(path)
    chosen = _node_options(mode, options, cache_bytes, missing)

    def existing() -> Array:
        array = wrap(opened, at, load(opened, at, "array", zarr_format), chosen)
        assert isinstance(array, Array)
        return array

    def create() -> Array:
        return _create_array(opened, new_node_path(at), parameters, zarr_format, mode, chosen)

    # Without parameters nothing can be created: a missing array is the mistake to tell.
    return _open_or_create("r+" if mode == "a" and not parameters else mode, opened, at, existing, create)


def open_group(
    store: StoreLike,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    use_consolidated: bool = True,
    attributes: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
    cache_bytes: int | None = None,
    missing: Missing = "fill",
) -> Group:
    """Open a group; with mode "a", "w" or "w-" create it. Arguments as for :func:`open`.

    Args:
        use_consolidated: take members from consolidated metadata where the group has it.
        attributes: of a new group.
    Raises:
        NodeNotFoundError: there is no group. NodeExistsError: mode "w-" and there is one. MetadataError, StoreError.

    >>> group = zarrdock.open_group(zarrdock.MemoryStore(), "a", attributes={"unit": "mm"})
    >>> group.attrs["unit"]
    'mm'
    """
    zarr_format = _format_of(store, zarr_format)
    opened, at = _open_store(store, storage_options, mode), node_path(path)
    chosen = _node_options(mode, options, cache_bytes, missing)

    def existing() -> Group:
        node = load(opened, at, "group", zarr_format, consolidated=use_consolidated)
        assert isinstance(node, GroupMetadata)
        return Group(opened, at, node if use_consolidated else node.replace(consolidated=None), chosen)

    def create() -> Group:
        return _create_group(opened, new_node_path(at), attributes, zarr_format, mode, chosen)

    return _open_or_create(mode, opened, at, existing, create)


Node = TypeVar("Node", bound=Array | Group)


def _open_or_create(
    mode: str, store: Store, path: str, existing: Callable[[], Node], create: Callable[[], Node]
) -> Node:
    if mode in ("r", "r+", "a"):
        try:
            return existing()
        except NodeNotFoundError:
            if mode != "a":
                raise
    try:
        return create()
    except NodeExistsError:
        if mode != "a":
            raise
        refuse_arrays_above(store, path)
        return existing()  # another process made it in the meantime, or it is of the other kind, which is an error


def _create_array(
    store: Store, path: str, parameters: ArrayParameters, zarr_format: ZarrFormat | None, mode: str, chosen: NodeOptions
) -> Array:
    array = make_array(
        store,
        path,
        parameters,
        zarr_format=zarr_format or 3,
        overwrite=mode == "w",
        options=chosen.write,
        chunk_cache=chosen.chunk_cache,
    )
    if chosen.missing == "fill":
        return array
    opened = wrap(store, path, array.metadata, chosen)
    assert isinstance(opened, Array)
    return opened


def _create_group(
    store: Store,
    path: str,
    attributes: Mapping[str, Any] | None,
    zarr_format: ZarrFormat | None,
    mode: str,
    chosen: NodeOptions,
) -> Group:
    metadata = GroupMetadata(attributes=as_json(attributes or {}), zarr_format=zarr_format or 3)
    save_new(store, path, metadata, overwrite=mode == "w")
    return Group(store, path, metadata, chosen)


class _Rare(TypedDict, total=False):
    """Parameters of :func:`create_array` that few arrays need."""

    filters: CodecsLike
    serializer: CodecLike | Literal["auto"]
    order: Literal["C", "F"]
    chunk_key_encoding: ChunkKeyEncodingLike
    checksums: bool
    name: str | None


def create_array(
    store: StoreLike,
    *,
    path: str | None = None,
    data: Any = None,
    shape: Shape | None = None,
    dtype: DTypeLike | None = None,
    chunks: ChunksLike = "auto",
    shards: ShardsLike = None,
    compressors: CodecsLike = "auto",
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    dimension_names: Sequence[str | None] | None = None,
    zarr_format: ZarrFormat | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
    **rare: Unpack[_Rare],
) -> Array:
    """Create an array, and write ``data`` to it where it is given.

    Args:
        store: anything :func:`zarrdock.open_store` takes.
        path: of the array within it; "" or None for the root. ``name=``, zarr-python's word, is the same. Groups above
            it are not made: :meth:`zarrdock.Group.create_array` makes them.
        data: values; shape and dtype are taken from it where they are not given.
        shape, dtype: of the array.
        chunks: shape of a chunk: the smallest part that is read by itself. "auto": about 1 MiB.
        shards: shape of a shard, one object in the store that holds many chunks; a list of shapes, outermost first,
            for several levels; "auto"; None for one object per chunk. A mapping ``{"shape": ..., "index_location":
            "start"}`` puts the index first, better for viewers that can't ask for the end of an object.
        compressors: bytes-to-bytes codecs: objects (zarr-python's and numcodecs' too), v3 metadata, names, or numcodecs
            configurations. Default: zstd. None stores uncompressed.
        fill_value: read where nothing was written; default zero.
        attributes: a JSON object. dimension_names: one per dimension, or None.
        zarr_format: 3 or 2; default: that of the URL (``|zarr2:``), else 3.
        overwrite: replace the node that is there, with all nodes below it. Files that belong to no node stay, and a
            warning names them; where there are only such files it is refused.
        storage_options: options of the fsspec filesystem that a URL leads to.
        options: how the array is written, a :class:`zarrdock.WriteOptions` or a mapping of its fields.
        rare: ``filters`` (array-to-array codecs) and ``serializer`` (array-to-bytes codec), given like compressors;
            ``order="F"`` stores elements with the first axis fastest;
            ``chunk_key_encoding``: ``{"name": "default" or "v2", "separator": "/" or "."}``, or only the separator, or
            the metadata of any encoding, such as ``{"name": "fanout", "configuration": {"max_children": 1001}}``;
            ``checksums``: store a CRC-32C with every chunk (codec ``crc32c``, behind the compressors), so that reading
            a damaged one is an error.
    Returns:
        The array, open for reading and writing. One request (two with ``overwrite``, and in v2).
    Raises:
        NodeExistsError: there is a node already. MetadataError: the arguments don't fit each other. StoreError.
        TypeError: an unknown keyword.

    >>> array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(100, 100), dtype="float32", chunks=(10, 10))
    >>> array[:2, :2] = 1
    >>> float(array[...].sum())
    4.0
    """
    check_parameters(rare, "create_array", {**inspect.signature(create_array).parameters, **_Rare.__annotations__})
    given: dict[str, Any] = dict(rare)
    name = given.pop("name", None)
    if name is not None and path is not None:
        raise UnsupportedError(f"path={path!r} and name={name!r} mean the same: give one")
    if not isinstance(overwrite, (bool, np.bool_)):
        raise UnsupportedError(f"overwrite: True or False, not {overwrite!r}")
    return make_array(
        _open_store(store, storage_options, "a"),
        new_node_path(name if path is None else path),
        {
            "data": data,
            "shape": shape,
            "dtype": dtype,
            "chunks": chunks,
            "shards": shards,
            "compressors": compressors,
            "fill_value": fill_value,
            "attributes": attributes,
            "dimension_names": dimension_names,
            **given,  # type: ignore[typeddict-item]
        },
        zarr_format=_format_of(store, zarr_format) or 3,
        overwrite=bool(overwrite),
        options=write_options(options),
    )


def create_group(
    store: StoreLike,
    *,
    path: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Group:
    """Create a group.

    Args:
        overwrite: as for :func:`create_array`.
    Raises:
        NodeExistsError: there is a node already. StoreError.

    >>> zarrdock.create_group(zarrdock.MemoryStore(), path="a").name
    '/a'
    """
    mode: Mode = "w" if overwrite else "w-"
    opened = _open_store(store, storage_options, mode)
    zarr_format = _format_of(store, zarr_format)
    return _create_group(opened, new_node_path(path), attributes, zarr_format, mode, NodeOptions())


def create_hierarchy(
    store: StoreLike,
    nodes: Mapping[str, Mapping[str, Any]],
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
) -> Group:
    """Create many arrays and groups, all documents in one round of requests. Missing groups above them are made, too.

    Args:
        store: anything :func:`zarrdock.open_store` takes.
        nodes: path of each node -> its parameters: those of :func:`create_array` (but for ``data``) for an array;
            ``{}`` or ``{"attributes": ...}`` for a group.
        path: of the group that all of them are below.
    Returns:
        The group at ``path``, which is made if it is missing.
    Raises:
        NodeExistsError: one of the nodes is there already; others may have been made. MetadataError, StoreError.

    >>> group = zarrdock.create_hierarchy(
    ...     zarrdock.MemoryStore(), {"a": {"attributes": {"unit": "K"}}, "a/x": {"shape": (4,), "dtype": "int8"}}
    ... )
    >>> group["a/x"].shape
    (4,)
    """
    from concurrent.futures import ThreadPoolExecutor

    zarr_format = _format_of(store, zarr_format) or 3
    opened, root = _open_store(store, storage_options, "a"), node_path(path)
    chosen = _node_options("a", options, None)
    made: dict[str, ArrayMetadata | GroupMetadata] = {}
    for given, parameters in nodes.items():
        at = join(root, new_node_path(given)) if new_node_path(given) else root
        if "shape" in parameters or "dtype" in parameters:
            check_parameters(parameters, "create_hierarchy", {*ArrayParameters.__annotations__} - {"data"})
            made[at] = make_metadata(
                zarr_format=zarr_format, subchunk_write_order=chosen.write.subchunk_write_order, **parameters
            )
        else:
            check_parameters(parameters, "create_hierarchy", ["attributes"])
            made[at] = GroupMetadata(attributes=as_json(parameters.get("attributes") or {}), zarr_format=zarr_format)
    implicit = {root}
    for at in made:
        parts = at.split("/")
        implicit |= {"/".join(parts[:n]) for n in range(root.count("/") + 1 if root else 0, len(parts))}
    groups = {at: GroupMetadata(zarr_format=zarr_format) for at in sorted(implicit - set(made))}

    def save(at: str) -> None:
        try:
            save_new(opened, at, made.get(at) or groups[at], overwrite=False)
        except NodeExistsError:
            if at in made:
                raise
            require_group(opened, at, zarr_format)

    # Groups that contain others first, so that an interruption leaves nothing without a group above it.
    with ThreadPoolExecutor(opened.traits.n_concurrent if opened.traits.remote else 1) as pool:
        list(pool.map(save, [*groups, *made]))
    return open_group(opened, "r+", path=root, zarr_format=zarr_format, use_consolidated=False, options=options)


def consolidate_metadata(
    store: Any,
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    options: WriteOptionsLike = None,
) -> Group:
    """Write the metadata of all nodes below a group into one document; see :meth:`Group.consolidate`.

    >>> store = zarrdock.MemoryStore()
    >>> _ = zarrdock.create_group(store).create_array("a", shape=4, dtype="int8")
    >>> list(zarrdock.consolidate_metadata(store).metadata.consolidated)
    ['a']
    """
    return open_group(
        store,
        "r+",
        path=path,
        zarr_format=zarr_format,
        storage_options=storage_options,
        use_consolidated=False,
        options=options,
    ).consolidate()
