"""New arrays: from what a user says to metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from zarrdock.array.array import Array
from zarrdock.array.dtypes.dtype import DataType, data_type_of
from zarrdock.array.dtypes.v2_dtypes import object_type_of
from zarrdock.array.execution.read_write import write_new
from zarrdock.array.metadata.chunk_grids import RegularGrid, rectilinear_of
from zarrdock.array.metadata.key_encodings import KeyEncoding, SeparatedKeys, parse_key_encoding
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import ZarrFormat, save_new, withdraw
from zarrdock.array.planning.chunk_cache import ChunkCache
from zarrdock.codecs.builtin import parse_codec, with_defaults
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chunk_order import Order, for_level, frozen, permutation
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.given_codecs import CodecLike, codec_of, compressors_of, of_kind, several, v2_configuration
from zarrdock.codecs.shard_index import IndexLocation
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.v2_codecs import from_v2
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.errors import MetadataError, SelectionError, UnsupportedError
from zarrdock.json_ import as_json, in_parameters
from zarrdock.stores.base import Store

__all__ = [
    "ArrayParameters",
    "ChunkKeyEncodingLike",
    "ChunksLike",
    "CodecLike",
    "CodecsLike",
    "DTypeLike",
    "Shape",
    "ShardsLike",
    "check_parameters",
    "make_array",
    "make_metadata",
    "resolved_shape",
]

Shape: TypeAlias = int | Sequence[int]
#: A length for every axis, or one per axis.
DTypeLike: TypeAlias = "npt.DTypeLike | DataType | Mapping[str, Any]"
#: Lengths; "auto"; or, for a rectilinear grid, the lengths of all chunks along each axis.
ChunksLike: TypeAlias = "Shape | Sequence[int | Sequence[int]] | Mapping[str, Any] | Literal['auto']"
#: As for chunks; several shapes, outermost first, for several levels; a mapping with "shape" and "index_location".
ShardsLike: TypeAlias = "ChunksLike | Sequence[Shape] | None"
CodecsLike: TypeAlias = "Literal['auto'] | CodecLike | Iterable[CodecLike] | None"
ChunkKeyEncodingLike: TypeAlias = "KeyEncoding | Mapping[str, Any] | str | None"

# A chunk is what the smallest read costs, a shard what a writer must hold in memory.
AUTO_CHUNK_BYTES = 2**20
AUTO_SHARD_BYTES = 128 * 2**20


class ArrayParameters(TypedDict, total=False):
    """Parameters of a new array that every function that makes one takes; see :func:`zarrdock.create_array`."""

    shape: Shape
    dtype: DTypeLike
    data: Any
    chunks: ChunksLike
    shards: ShardsLike
    filters: CodecsLike
    serializer: CodecLike | Literal["auto"]
    compressors: CodecsLike
    fill_value: Any
    order: Literal["C", "F"]
    attributes: Mapping[str, Any] | None
    dimension_names: Sequence[str | None] | None
    chunk_key_encoding: ChunkKeyEncodingLike
    checksums: bool


def check_parameters(given: Mapping[str, Any], function: str, known: Iterable[str] | None = None) -> None:
    """Refuse keywords that are no parameter of a new array.

    Raises:
        TypeError: there is one; the message has the nearest name.
    """
    names = list(ArrayParameters.__annotations__ if known is None else known)
    for name in given:
        if name not in names:
            import difflib

            moved = _MOVED.get(name)
            near = difflib.get_close_matches(name, names, 1)
            hint = moved or (f"did you mean {near[0]}=?" if near else f"it takes {', '.join(names)}")
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}; {hint}")


@in_parameters()
def resolved_shape(parameters: ArrayParameters) -> tuple[int, ...] | None:
    """The shape that parameters of a new array ask for: its own, or that of the data; None where they have neither."""
    shape: Any = parameters.get("shape")
    if shape is None:
        data = parameters.get("data")
        return None if data is None else tuple(np.shape(data))
    return _shape(shape, "/shape")


_MOVED = {
    **{
        name: f"it is a field of options=zarrdock.WriteOptions({name}=...)"
        for name in ("write_empty_chunks", "subchunk_write_order", "in_place", "single_writer")
    },
    "unsafe_concurrent_writes": "say options=zarrdock.WriteOptions(single_writer=True)",
    "index_location": "say shards={'shape': ..., 'index_location': ...}",
    "compressor": "say compressors=",
    "codecs": "say filters=, serializer= and compressors=",
    "dimension_separator": "say chunk_key_encoding=",
    "chunk_shape": "say chunks=",
}


def make_array(
    store: Store,
    path: str,
    parameters: ArrayParameters,
    *,
    zarr_format: ZarrFormat,
    overwrite: bool,
    options: WriteOptions,
    chunk_cache: ChunkCache | None = None,
    prepare: Callable[[], None] | None = None,
) -> Array:
    """Store a new array's metadata, and the values where the parameters have some.

    The array is its creator's until this returns: where the values can't be written, it is removed again.

    Args:
        prepare: called when all is known to fit, before anything is stored.
    Raises:
        UnsupportedError: shape or data type are missing. SelectionError: the values don't fit; nothing is stored then.
    """
    given: dict[str, Any] = dict(parameters)
    data = given.pop("data", None)
    if data is not None:
        if not hasattr(data, "shape"):
            try:
                data = np.asarray(data)
            except ValueError as error:  # lists of different lengths
                raise SelectionError(f"data= is no array: {error}") from error
        for name in ("shape", "dtype"):
            if given.get(name) is None:
                given[name] = getattr(data, name)
    if given.get("shape") is None or given.get("dtype") is None:
        raise UnsupportedError("a new array needs shape= and dtype=, or data=")
    metadata = make_metadata(zarr_format=zarr_format, subchunk_write_order=options.subchunk_write_order, **given)
    array = Array(store, path, metadata, options=options, chunk_cache=chunk_cache)
    value = None if data is None else array._value(array.shape, data)
    if prepare is not None:
        prepare()
    save_new(store, path, metadata, overwrite=overwrite)
    if value is not None:
        try:
            write_new(store, array._layout, value, array._cache)
        except BaseException as error:
            withdraw(store, path, metadata, error)
            raise
    return array


@in_parameters()
def make_metadata(
    *,
    shape: Shape,
    dtype: Any,
    chunks: Shape | Literal["auto"] = "auto",
    shards: Any = None,
    filters: CodecsLike = "auto",
    serializer: CodecLike | Literal["auto"] = "auto",
    compressors: CodecsLike = "auto",
    fill_value: Any = None,
    order: Literal["C", "F"] = "C",
    zarr_format: ZarrFormat = 3,
    attributes: Mapping[str, Any] | None = None,
    dimension_names: Sequence[str | None] | None = None,
    chunk_key_encoding: Any = None,
    subchunk_write_order: Order = "lexicographic",
    checksums: bool = False,
) -> ArrayMetadata:
    """Metadata of a new array; see :func:`zarrdock.create_array` for the arguments.

    Raises:
        MetadataError: the parts don't fit each other; the pointer says which.
    """
    if not isinstance(checksums, (bool, np.bool_)):
        raise UnsupportedError(f"checksums: True or False, not {checksums!r}")
    if zarr_format not in (2, 3):
        raise MetadataError(pointer="/zarr_format", expected="2 or 3", found=zarr_format)
    full_shape = _shape(shape, "/shape")
    data_type = _data_type(dtype, filters, zarr_format)
    fill = data_type.default_fill() if fill_value is None else data_type.cast_fill(fill_value)
    shards, index_location = _shards(shards)
    rectilinear = rectilinear_of(chunks, shards, full_shape)
    if rectilinear is None:
        levels = _levels(shards, full_shape, data_type, chunks)
        chunk_shape = _chunks(chunks, levels[-1] if levels else full_shape, data_type, AUTO_CHUNK_BYTES, bool(levels))
    else:
        levels = [] if shards is None else [rectilinear.largest]
        within = rectilinear.divisors()
        chunk_shape = _chunks(chunks, within, data_type, AUTO_CHUNK_BYTES, True) if levels else rectilinear.largest
    outer = levels[0] if levels else chunk_shape
    common: dict[str, Any] = {
        "shape": full_shape,
        "data_type": data_type,
        "grid": RegularGrid(outer) if rectilinear is None else rectilinear,
        "key_encoding": _key_encoding(chunk_key_encoding, zarr_format),
        "fill_value": fill,
        "attributes": as_json(attributes or {}),
    }
    if zarr_format == 2:
        if rectilinear is not None:
            raise MetadataError(
                "Zarr v2 has chunks of one shape only",
                pointer="/chunks",
                expected="a shape, or zarr_format=3",
                found=chunks,
            )
        if levels:
            raise MetadataError(
                "Zarr v2 has no sharding", pointer="/shards", expected="shards=None, or zarr_format=3", found=shards
            )
        if checksums:
            raise MetadataError(
                "Zarr v2 has no checksum behind the compressor",
                pointer="/checksums",
                expected="checksums=False, or zarr_format=3",
                found=checksums,
            )
        if dimension_names is not None:
            common["attributes"].setdefault("_ARRAY_DIMENSIONS", list(dimension_names))
        codecs = _codecs_v2(data_type, filters, compressors, order, len(full_shape))
        return ArrayMetadata(
            **common, zarr_format=2, codecs=with_defaults(codecs, ChunkSpec(outer, data_type.numpy, fill))
        )
    codecs = _codecs_v3(data_type, filters, serializer, compressors, order, len(full_shape))
    if checksums and not isinstance(codecs[-1], Crc32c):
        codecs = (*codecs, Crc32c())
    for i in range(len(levels) - 1, -1, -1):
        inner = levels[i + 1] if i + 1 < len(levels) else chunk_shape
        codecs = with_defaults(codecs, ChunkSpec(inner, data_type.numpy, fill))
        grid = _grid(levels[i], inner)
        # A wrong order is refused before anything is stored.
        permutation(for_level(frozen(subchunk_write_order), i), grid)
        codecs = (Sharding(inner, codecs, index_location=index_location),)
    names = None if dimension_names is None else tuple(dimension_names)
    return ArrayMetadata(
        **common, codecs=with_defaults(codecs, ChunkSpec(outer, data_type.numpy, fill)), dimension_names=names
    )


def _data_type(dtype: Any, filters: CodecsLike, zarr_format: int) -> DataType:
    """The data type; in v2 that of Python objects follows from the filters."""
    if zarr_format == 2 and not isinstance(dtype, (DataType, Mapping)) and (dtype is object or dtype in ("O", "|O")):
        given = [] if filters is None or filters == "auto" else several(filters)
        return object_type_of([f.get_config() if hasattr(f, "get_config") else f for f in given], "/dtype")
    return data_type_of(dtype, zarr_format=zarr_format)


def _shape(shape: Any, pointer: str) -> tuple[int, ...]:
    try:
        items = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    except TypeError:
        raise MetadataError(pointer=pointer, expected="an integer, or a list of them", found=shape) from None
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in items):
        raise MetadataError(pointer=pointer, expected="non-negative integers", found=shape)
    return tuple(int(n) for n in items)


def _shards(given: Any) -> tuple[Any, IndexLocation]:
    """Shapes of shards, and where their index is: a mapping may say both, as in zarr-python."""
    if not isinstance(given, Mapping) or "shape" not in given:
        return given, "end"
    for name in given:
        if name not in ("shape", "index_location"):
            raise MetadataError(pointer=f"/shards/{name}", expected="shape and index_location only", found=name)
    location = given.get("index_location", "end")
    if location not in ("start", "end"):
        raise MetadataError(pointer="/shards/index_location", expected="'start' or 'end'", found=location)
    return given["shape"], location


def _levels(shards: Any, shape: tuple[int, ...], data_type: DataType, chunks: Any) -> list[tuple[int, ...]]:
    """Shapes of shards, outermost first: none, one, or a list of several."""
    if shards is None:
        return []
    if isinstance(shards, str):
        if shards != "auto":
            raise MetadataError(pointer="/shards", expected="a shape, a list of shapes, 'auto' or None", found=shards)
        return [_shard_of(_chunks(chunks, shape, data_type, AUTO_CHUNK_BYTES, False), shape, data_type)]
    # One length is for every axis, as it is for chunks.
    items = [shards] * len(shape) if isinstance(shards, (int, np.integer)) else list(shards)
    nested = bool(items) and not isinstance(items[0], (int, np.integer))
    found = [_shape(item, "/shards") for item in items] if nested else [_shape(items, "/shards")]
    for level in found:
        if len(level) != len(shape) or 0 in level:
            raise MetadataError(pointer="/shards", expected=f"{len(shape)} positive lengths", found=list(level))
    return found


def _shard_of(chunk: tuple[int, ...], shape: tuple[int, ...], data_type: DataType) -> tuple[int, ...]:
    """A shard of many such chunks: doubled along its shortest axis until it is large enough, or holds the array."""
    shard = list(chunk)
    while 2 * prod(shard) * data_type.numpy.itemsize <= AUTO_SHARD_BYTES:
        options = [i for i, n in enumerate(shape) if shard[i] < n]
        if not options:
            break
        shortest = min(options, key=lambda i: shard[i])
        shard[shortest] *= 2
    return tuple(shard)


def _smallest_factor(n: int) -> int:
    return next((factor for factor in range(2, min(n, 64)) if n % factor == 0), n)


def _grid(outer: tuple[int, ...], inner: tuple[int, ...]) -> tuple[int, ...]:
    if len(outer) != len(inner) or any(a % b for a, b in zip(outer, inner, strict=True)):
        raise MetadataError(
            "chunks must divide shards evenly",
            pointer="/shards",
            expected=f"a multiple of {list(inner)}",
            found=list(outer),
        )
    return tuple(a // b for a, b in zip(outer, inner, strict=True))


def _chunks(chunks: Any, within: tuple[int, ...], data_type: DataType, target: int, divide: bool) -> tuple[int, ...]:
    """The shape of a chunk: as given, or made shorter along the longest axis until it is small enough.

    Args:
        within: shape of the array, or of the shard that the chunk has to divide.
    """
    if not isinstance(chunks, str):
        given = _shape(chunks, "/chunks")
        if isinstance(chunks, (int, np.integer)):
            given = given * len(within)
        if len(given) != len(within) or any(c == 0 and n for c, n in zip(given, within, strict=True)):
            raise MetadataError(pointer="/chunks", expected=f"{len(within)} positive lengths", found=list(given))
        return tuple(max(c, 1) for c in given)
    if chunks != "auto":
        raise MetadataError(pointer="/chunks", expected="a shape, or 'auto'", found=chunks)
    shape = [max(n, 1) for n in within]
    growing = [i for i, n in enumerate(within) if n == 0]
    while prod(shape) * data_type.numpy.itemsize > target and any(n > 1 for n in shape):
        longest = max(range(len(shape)), key=lambda i: shape[i])
        n = shape[longest]
        shape[longest] = n // _smallest_factor(n) if divide else -(-n // 2)
    if growing:  # an axis without any length yet is there to be appended to: its chunks take what room is left
        room = target // max(1, prod(shape) * data_type.numpy.itemsize)
        side = max(1, int(room ** (1 / len(growing))))
        shape = [side if i in growing else n for i, n in enumerate(shape)]
    return tuple(shape)


def _key_encoding(given: Any, zarr_format: int) -> KeyEncoding:
    if given is None:
        return SeparatedKeys("default", "/") if zarr_format == 3 else SeparatedKeys("v2", ".")
    if isinstance(given, KeyEncoding):
        return given
    if isinstance(given, str) and given in (".", "/"):
        return SeparatedKeys("default" if zarr_format == 3 else "v2", given)  # type: ignore[arg-type]
    if isinstance(given, Mapping) and "separator" in given:
        given = {"name": given["name"], "configuration": {"separator": given["separator"]}}
    return parse_key_encoding(dict(given) if isinstance(given, Mapping) else given, "/chunk_key_encoding")


def _codecs_v3(
    data_type: DataType,
    filters: Any,
    serializer: Any,
    compressors: Any,
    order: Any,
    ndim: int,
    zarr_format: int = 3,
) -> tuple[Codec, ...]:
    before = (
        []
        if filters is None or filters == "auto"
        else [of_kind(codec_of(f, "/filters", new=True), ArrayArrayCodec, "/filters") for f in several(filters)]
    )
    if order == "F" and ndim > 1:
        before.insert(0, Transpose(tuple(reversed(range(ndim)))))
    elif order not in ("C", "F"):
        raise MetadataError(pointer="/order", expected="'C' or 'F'", found=order)
    if isinstance(serializer, str) and serializer == "auto":
        middle: Codec = Bytes() if data_type.serializer == Bytes.name else parse_codec(data_type.serializer)
    else:
        middle = of_kind(codec_of(serializer, "/serializer", new=True), ArrayBytesCodec, "/serializer")
    return (*before, middle, *compressors_of(compressors, zarr_format))


def _codecs_v2(data_type: DataType, filters: Any, compressors: Any, order: Any, ndim: int) -> tuple[Codec, ...]:
    """v2 takes codecs in its own form (``{"id": ...}``, or numcodecs objects), and those of v3 that it has a form
    for.
    """
    given_filters = [] if filters is None or filters == "auto" else several(filters)
    if isinstance(compressors, str) and compressors == "auto":
        given_compressors: list[Any] = [{"id": "zstd", "level": 0}]
    else:
        given_compressors = [] if compressors is None else several(compressors)
    found = [v2_configuration(c) for c in (*given_filters, *given_compressors)]
    configs = [config for config in found if config is not None]
    is_named = len(configs) == len(found)
    if data_type.object_codec and is_named and all(c["id"] != data_type.object_codec for c in configs):
        given_filters.insert(0, {"id": data_type.object_codec})  # objects become bytes before all else
        configs.insert(0, given_filters[0])
    if order not in ("C", "F"):
        raise MetadataError(pointer="/order", expected="'C' or 'F'", found=order)
    if is_named:
        if len(given_compressors) > 1:
            raise MetadataError(
                pointer="/compressor",
                expected="one compressor (others are filters in v2)",
                found=len(given_compressors),
            )
        n = len(given_filters)
        compressor = dict(configs[n]) if len(configs) > n else None
        return from_v2(
            compressor, [dict(c) for c in configs[:n]] or None, dtype=data_type.stored_v2, order=order, ndim=ndim
        )
    is_big = data_type.serializer == Bytes.name and data_type.stored_v2.str[0] == ">"
    return _codecs_v3(data_type, filters, Bytes("big") if is_big else "auto", compressors, order, ndim, 2)
