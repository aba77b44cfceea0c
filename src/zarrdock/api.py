"""The functions users call: opening and creating nodes of a hierarchy, wherever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.create import CodecLike, Codecs, Shape, check_for_shards, make_array, make_metadata
from zarrdock.array.group import Group, NodeOptions, wrap
from zarrdock.array.json_ import as_json
from zarrdock.array.metadata.v3 import GroupMetadata
from zarrdock.array.node_storage import ZarrFormat, load, new_node_path, node_path, save_new
from zarrdock.array.planning.caches import ChunkCache
from zarrdock.codecs.chunk_order import Order
from zarrdock.codecs.shard_index import IndexLocation
from zarrdock.codecs.sharding import ShardOptions
from zarrdock.errors import NodeExistsError, NodeNotFoundError, UnsupportedError
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store

__all__ = ["consolidate_metadata", "create_array", "create_group", "open", "open_array", "open_group"]

Mode: TypeAlias = Literal["r", "r+", "a", "w", "w-"]


def _open_store(store: Any, storage_options: Mapping[str, Any] | None, mode: str) -> Store:
    if mode not in ("r", "r+", "a", "w", "w-"):
        raise UnsupportedError(
            f"mode {mode!r}: one of 'r' (read), 'r+' (read and write), 'a' (and create), 'w' (create anew), "
            "'w-' (create, fail if it exists)"
        )
    return open_store(store, storage_options=dict(storage_options) if storage_options else None, read_only=mode == "r")


def _check_booleans(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, (bool, np.bool_)):
            raise UnsupportedError(f"{name}: True or False, not {value!r}")


def _options(
    mode: str,
    write_empty_chunks: bool,
    subchunk_write_order: Order,
    in_place: bool,
    unsafe: bool,
    cache_bytes: int | None,
) -> NodeOptions:
    _check_booleans(unsafe_concurrent_writes=unsafe)
    shards = ShardOptions(subchunk_write_order, write_empty_chunks, in_place)
    return NodeOptions(mode == "r", shards, unsafe, None if cache_bytes is None else ChunkCache(cache_bytes))


def open(  # noqa: A001 - zarr-python's name
    store: Any,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    use_consolidated: bool = True,
    write_empty_chunks: bool = False,
    subchunk_write_order: Order = "lexicographic",
    in_place: bool = False,
    unsafe_concurrent_writes: bool = False,
    cache_bytes: int | None = None,
) -> Array | Group:
    """Open the array or group at a place.

    Args:
        store: anything :func:`zarrdock.open_store` takes: a path, a URL, a store, an fsspec filesystem, a mapping.
        mode: "r" read; "r+" read and write. To create, see :func:`open_array`, :func:`open_group`,
            :func:`create_array`.
        path: of the node within the store.
        zarr_format: 2 or 3 if known, which saves requests.
        storage_options: options of the fsspec filesystem that a URL leads to.
        use_consolidated: take members from consolidated metadata where the group has it.
        write_empty_chunks, subchunk_write_order, in_place, unsafe_concurrent_writes: see :func:`create_array`.
        cache_bytes: keep decoded chunks, up to so many bytes, for all arrays that are opened through what is returned;
            0: none; default: ``zarrdock.config.cache_bytes``, shared by all arrays. A chunk that was kept is used only
            once the store has confirmed that its object is still the same, so it is never stale; stores without
            versions keep nothing.
    Raises:
        NodeNotFoundError: there is neither. MetadataError, StoreError.
    """
    opened = _open_store(store, storage_options, mode)
    at = node_path(path)
    if mode in ("w", "w-"):
        raise UnsupportedError("open() does not create: use create_array or create_group")
    options = _options(
        mode,
        write_empty_chunks,
        subchunk_write_order,
        in_place,
        unsafe_concurrent_writes,
        cache_bytes,
    )
    node = load(opened, at, None, zarr_format, consolidated=use_consolidated)
    if isinstance(node, GroupMetadata) and not use_consolidated:
        node = node.replace(consolidated=None)
    return wrap(opened, at, node, options)


def open_array(
    store: Any,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    write_empty_chunks: bool = False,
    subchunk_write_order: Order = "lexicographic",
    in_place: bool = False,
    unsafe_concurrent_writes: bool = False,
    cache_bytes: int | None = None,
    **creation: Any,
) -> Array:
    """Open an array; with mode "a", "w" or "w-" create it, ``creation`` being what :func:`create_array` takes.

    One round of requests: one request where ``zarr_format=3`` is given, at most three otherwise.

    Raises:
        NodeNotFoundError: there is no array. NodeExistsError: mode "w-" and there is one. MetadataError, StoreError.
    """
    opened = _open_store(store, storage_options, mode)
    at = node_path(path)
    options = _options(
        mode,
        write_empty_chunks,
        subchunk_write_order,
        in_place,
        unsafe_concurrent_writes,
        cache_bytes,
    )

    def existing() -> Array:
        array = wrap(opened, at, load(opened, at, "array", zarr_format), options)
        assert isinstance(array, Array)
        return array

    if mode in ("r", "r+", "a"):
        try:
            return existing()
        except NodeNotFoundError:
            if mode != "a" or not creation:
                raise
    try:
        return create_array(
            opened,
            name=at,
            zarr_format=zarr_format or 3,
            overwrite=mode == "w",
            write_empty_chunks=write_empty_chunks,
            subchunk_write_order=subchunk_write_order,
            in_place=in_place,
            unsafe_concurrent_writes=unsafe_concurrent_writes,
            **creation,
        )
    except NodeExistsError:
        if mode != "a":
            raise
        return existing()  # another process made it in the meantime, or it is a group, which is an error


def open_group(
    store: Any,
    mode: Mode = "r",
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
    use_consolidated: bool = True,
    attributes: Mapping[str, Any] | None = None,
    write_empty_chunks: bool = False,
    subchunk_write_order: Order = "lexicographic",
    in_place: bool = False,
    unsafe_concurrent_writes: bool = False,
    cache_bytes: int | None = None,
) -> Group:
    """Open a group; with mode "a", "w" or "w-" create it.

    Raises:
        NodeNotFoundError: there is no group. NodeExistsError: mode "w-" and there is one. MetadataError, StoreError.
    """
    opened = _open_store(store, storage_options, mode)
    at = node_path(path)
    options = _options(
        mode,
        write_empty_chunks,
        subchunk_write_order,
        in_place,
        unsafe_concurrent_writes,
        cache_bytes,
    )
    if mode in ("r", "r+", "a"):
        try:
            node = load(opened, at, "group", zarr_format, consolidated=use_consolidated)
            assert isinstance(node, GroupMetadata)
            return Group(opened, at, node if use_consolidated else node.replace(consolidated=None), options)
        except NodeNotFoundError:
            if mode != "a":
                raise
    metadata = GroupMetadata(attributes=as_json(attributes or {}), zarr_format=zarr_format or 3)
    try:
        save_new(opened, new_node_path(at), metadata, overwrite=mode == "w")
    except NodeExistsError:
        if mode != "a":
            raise
        # Another process made it in the meantime.
        return open_group(
            opened,
            "r+",
            path=at,
            zarr_format=zarr_format,
            write_empty_chunks=write_empty_chunks,
            subchunk_write_order=subchunk_write_order,
            in_place=in_place,
        )
    return Group(opened, at, metadata, options)


def create_array(
    store: Any,
    *,
    name: str | None = None,
    shape: Shape | None = None,
    dtype: Any = None,
    data: Any = None,
    chunks: Shape | Literal["auto"] = "auto",
    shards: Any = None,
    filters: Codecs = "auto",
    compressors: Codecs = "auto",
    serializer: CodecLike | Literal["auto"] = "auto",
    fill_value: Any = None,
    order: Literal["C", "F"] = "C",
    zarr_format: ZarrFormat = 3,
    attributes: Mapping[str, Any] | None = None,
    chunk_key_encoding: Any = None,
    dimension_names: Sequence[str | None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    write_empty_chunks: bool = False,
    index_location: IndexLocation = "end",
    subchunk_write_order: Order = "lexicographic",
    in_place: bool = False,
    checksums: bool = False,
    unsafe_concurrent_writes: bool = False,
) -> Array:
    """Create an array.

    Args:
        store: anything :func:`zarrdock.open_store` takes. name: path of the array within it; "" or None for the root.
        shape, dtype: of the array; taken from ``data`` where it is given, which is then written.
        chunks: shape of a chunk: the smallest part that is read by itself. "auto": about 1 MiB.
        shards: shape of a shard, one object in the store that holds many chunks; a list of shapes, outermost first,
            for several levels; "auto"; None
            for one object a chunk.
        filters, serializer, compressors: codecs (array to array, array to bytes, bytes to bytes): objects, v3
            metadata, names; in v2 also numcodecs
            configurations. Default: zstd. ``compressors=None`` stores uncompressed.
        fill_value: what is read where nothing was written; default zero.
        order: "F" stores elements with the first axis fastest.
        chunk_key_encoding: ``{"name": "default" or "v2", "separator": "/" or "."}``, or only the separator; or the
            metadata of any encoding, such as ``{"name": "fanout", "configuration": {"max_children": 1001}}``.
        overwrite: replace the node that is there, with all nodes below it. Files that belong to no node stay, and a
            warning names them; where there are only such files it is refused.
        write_empty_chunks: store chunks that hold nothing but the fill value.
        index_location: of shards: "end", or "start" (better for viewers that can't ask for the end of an object).
        subchunk_write_order: order of the chunks in a shard: "lexicographic", "colexicographic", "morton", "hilbert",
            "unordered", a permutation, a callable that makes one of the grid's shape, or a sequence of these, one a
            level of shards. A setting of the writer: it is not stored, and readers need not know it.
        in_place: change parts of shards without reading and writing the rest, in folders of the local file system: as
            atomic and as safe from crashes as without it. Chunks go over those they replace, where they fit, else
            behind all others; see ``docs/layout.md``. A setting of the writer too.
        checksums: store a CRC-32C with every chunk (codec ``crc32c``, behind the compressors), so that a damaged one is
            an error when it is read, and :func:`zarrdock.check` finds it. Indexes of shards have one anyway.
        unsafe_concurrent_writes: allow writing parts of chunks on stores without an atomic update; right only with a
            single writer.
    Returns:
        The array, open for reading and writing. One request (two with ``overwrite``, and in v2).
    Raises:
        NodeExistsError: there is a node already; with ``overwrite``, something is there that is no Zarr. MetadataError:
            the arguments don't fit each other. StoreError.
    """
    _check_booleans(overwrite=overwrite, checksums=checksums, unsafe_concurrent_writes=unsafe_concurrent_writes)
    opened = _open_store(store, storage_options, "a")
    if data is not None:
        data = np.asarray(data) if not hasattr(data, "shape") else data
        shape, dtype = data.shape if shape is None else shape, data.dtype if dtype is None else dtype
    if shape is None or dtype is None:
        raise UnsupportedError("create_array needs shape= and dtype=, or data=")
    metadata = make_metadata(
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        filters=filters,
        serializer=serializer,
        compressors=compressors,
        fill_value=fill_value,
        order=order,
        zarr_format=zarr_format,
        attributes=attributes,
        dimension_names=dimension_names,
        chunk_key_encoding=chunk_key_encoding,
        index_location=index_location,
        subchunk_write_order=subchunk_write_order,
        checksums=checksums,
    )
    options = ShardOptions(subchunk_write_order, write_empty_chunks, in_place)
    check_for_shards(metadata, in_place=in_place)
    return make_array(
        opened,
        new_node_path(name),
        metadata,
        overwrite=overwrite,
        options=options,
        unsafe=unsafe_concurrent_writes,
        data=data,
    )


def create_group(
    store: Any,
    *,
    path: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    zarr_format: ZarrFormat = 3,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Group:
    """Create a group.

    Args:
        overwrite: as for :func:`create_array`.
    Raises:
        NodeExistsError: there is a node already; with ``overwrite``, something is there that is no Zarr. StoreError.
    """
    opened = _open_store(store, storage_options, "a")
    at = new_node_path(path)
    metadata = GroupMetadata(attributes=as_json(attributes or {}), zarr_format=zarr_format)
    save_new(opened, at, metadata, overwrite=overwrite)
    return Group(opened, at, metadata)


def consolidate_metadata(
    store: Any,
    *,
    path: str | None = None,
    zarr_format: ZarrFormat | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Group:
    """Write the metadata of all nodes below a group into one document; see :meth:`Group.consolidate`."""
    return open_group(
        store, "r+", path=path, zarr_format=zarr_format, storage_options=storage_options, use_consolidated=False
    ).consolidate()
