"""Metadata of a copy: the source's, except for the requested differences. Pure functions, no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zarrdock.array.create import make_metadata
from zarrdock.array.dtypes.dtype import DataType, data_type_of
from zarrdock.array.metadata.chunk_grids import ChunkGrid, RectilinearGrid, rectilinear_of
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.codecs.builtin import with_defaults
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.checksums import has_checksum
from zarrdock.codecs.codec import BytesBytesCodec, ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.given_codecs import compressors_of
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.v2_codecs import to_v3
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.json_ import in_parameters

__all__ = ["Parts", "Wishes", "new_metadata", "retarget", "retarget_group"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """Requested differences of a copy; "keep" leaves a property as it is. See :func:`zarrdock.copy`."""

    chunks: Any = "keep"
    shards: Any = "keep"
    compressors: Any = "keep"
    index_location: Literal["keep", "start", "end"] = "keep"
    zarr_format: Literal[2, 3] | None = None
    checksums: bool = False

    @in_parameters()
    def __post_init__(self) -> None:
        if self.index_location not in ("keep", "start", "end"):
            raise MetadataError(
                pointer="/index_location", expected="'start', 'end' or 'keep'", found=self.index_location
            )
        if self.zarr_format not in (None, 2, 3):
            raise MetadataError(pointer="/zarr_format", expected="2 or 3", found=self.zarr_format)

    def for_ndim(self, ndim: int) -> Wishes:
        """Within a hierarchy: chunks and shards apply to the arrays of as many dimensions, the others keep theirs."""

        def fits(shape: Any) -> bool:
            if isinstance(shape, RectilinearGrid):
                return len(shape.axes) == ndim
            return isinstance(shape, str) or not isinstance(shape, Sequence) or len(shape) == ndim

        levels = self.shards
        several = isinstance(levels, Sequence) and levels and isinstance(levels[0], Sequence)
        if fits(self.chunks) and (all(map(fits, levels)) if several and not isinstance(levels, str) else fits(levels)):
            return self
        return dataclasses.replace(self, chunks="keep", shards="keep")


@dataclass(frozen=True, slots=True)
class Parts:
    """Codecs taken apart: the levels of shards, outermost first, and the codecs of the chunks in the innermost.

    Where objects differ in shape, ``grid`` says how; the shape of the outermost level is that of the largest.
    """

    grid: ChunkGrid
    levels: tuple[tuple[tuple[int, ...], Sharding], ...]
    chunk_shape: tuple[int, ...]
    codecs: tuple[Codec, ...]

    @classmethod
    def of(cls, metadata: ArrayMetadata) -> Parts:
        levels: list[tuple[tuple[int, ...], Sharding]] = []
        shape, codecs = metadata.grid.largest, metadata.codecs
        while len(codecs) == 1 and isinstance(codecs[0], Sharding):
            levels.append((shape, codecs[0]))
            shape, codecs = codecs[0].chunk_shape, codecs[0].codecs
        return cls(metadata.grid, tuple(levels), shape, codecs)


def retarget_group(metadata: GroupMetadata, wishes: Wishes) -> GroupMetadata:
    """The group's metadata in the copy, without what it knows of other nodes."""
    if wishes.zarr_format in (None, metadata.zarr_format):
        extra = {name: value for name, value in metadata.extra.items() if name != "consolidated_metadata"}
        return metadata.replace(consolidated=None, extra=extra, leniencies=())
    return GroupMetadata(attributes=metadata.attributes, zarr_format=wishes.zarr_format or 3)


def retarget(metadata: ArrayMetadata, wishes: Wishes) -> tuple[ArrayMetadata, bool]:
    """The array's metadata in the copy, and whether its objects hold the same bytes.

    Raises:
        UnknownExtensionError: an unknown extension that would have to be understood.
        MetadataError: the wishes don't fit the array, or each other.
    """
    zarr_format = wishes.zarr_format or metadata.zarr_format
    changes_format = zarr_format != metadata.zarr_format
    if not changes_format and wishes == Wishes(zarr_format=wishes.zarr_format):
        return metadata.replace(leniencies=()) if metadata.leniencies else metadata, True
    metadata.require_known()
    old = Parts.of(metadata)
    data_type = _data_type(metadata, zarr_format)
    grid, levels, chunk_shape = _shapes(metadata, old, wishes, zarr_format)
    kept = old.codecs
    if changes_format and zarr_format == 3:
        # Filters say in which byte order they see elements, which in Zarr v3 is always the machine's.
        kept = to_v3(kept, dtype=metadata.data_type.stored_v2, chunk_shape=chunk_shape)
    codecs = _compressed(kept, wishes.compressors, zarr_format)
    if wishes.checksums and not has_checksum(codecs):
        if zarr_format == 2:
            raise MetadataError(
                "Zarr v2 has no place for a checksum behind the compressor",
                pointer="/checksums",
                expected="checksums=False, or zarr_format=3",
                found=True,
            )
        codecs = (*codecs, Crc32c())
    index = wishes.index_location
    for i in range(len(levels) - 1, -1, -1):
        template = old.levels[i][1] if i < len(old.levels) else old.levels[-1][1] if old.levels else Sharding((), ())
        inner = levels[i + 1] if i + 1 < len(levels) else chunk_shape
        location = template.index_location if index == "keep" else index
        codecs = (dataclasses.replace(template, chunk_shape=inner, codecs=codecs, index_location=location),)
    is_same = grid == metadata.grid and codecs == metadata.codecs
    if not is_same or changes_format:
        codecs = with_defaults(codecs, ChunkSpec(grid.largest, data_type.numpy, metadata.fill_value))
    if not changes_format:
        return metadata.replace(grid=grid, codecs=codecs, leniencies=()), is_same
    attributes = dict(metadata.attributes)
    names = metadata.dims
    if zarr_format == 3:
        if names is not None:  # it was read from there
            attributes.pop("_ARRAY_DIMENSIONS", None)
    elif names is not None:
        attributes.setdefault("_ARRAY_DIMENSIONS", list(names))
    new = ArrayMetadata(
        shape=metadata.shape,
        data_type=data_type,
        grid=grid,
        key_encoding=SeparatedKeys("default", "/") if zarr_format == 3 else SeparatedKeys("v2", "."),
        fill_value=metadata.fill_value,
        codecs=codecs,
        attributes=attributes,
        dimension_names=names if zarr_format == 3 else None,
        zarr_format=zarr_format,
    )
    return new, is_same


def _data_type(metadata: ArrayMetadata, zarr_format: int) -> DataType:
    """The same elements in the other format: v2 has the byte order in the data type, v3 in the codecs."""
    data_type = metadata.data_type
    if zarr_format == metadata.zarr_format or data_type.serializer != Bytes.name:
        return data_type
    if zarr_format == 3:
        return data_type_of(data_type.numpy.newbyteorder("="), zarr_format=3)
    serializer = next((codec for codec in Parts.of(metadata).codecs if isinstance(codec, Bytes)), None)
    order: Literal["<", ">"] = ">" if serializer is not None and serializer.endian == "big" else "<"
    return data_type_of(data_type.numpy.newbyteorder(order), zarr_format=2)


@in_parameters()
def _shapes(
    metadata: ArrayMetadata, old: Parts, wishes: Wishes, zarr_format: int
) -> tuple[ChunkGrid, list[tuple[int, ...]], tuple[int, ...]]:
    """The grid, and the shapes of the shards, outermost first, and of the chunks."""
    kept = [shape for shape, _ in old.levels]
    shards = (kept or None) if isinstance(wishes.shards, str) and wishes.shards == "keep" else wishes.shards
    if zarr_format == 2 and shards is kept:
        shards = None
    chunks: Any = old.chunk_shape if isinstance(wishes.chunks, str) and wishes.chunks == "keep" else wishes.chunks
    if isinstance(metadata.grid, RectilinearGrid):
        if chunks is old.chunk_shape and not old.levels:
            if zarr_format == 2 or shards is not None:
                what = "Zarr v2" if zarr_format == 2 else "a shard"
                raise UnsupportedError(f"{what} cannot hold chunks that differ in shape: give chunks=... too")
            return metadata.grid, [], chunks
        if shards is kept:
            inner = _parts_of(metadata.shape, metadata.dtype, chunks, kept[1:] or metadata.grid, zarr_format)
            return metadata.grid, kept, inner.chunk_shape
    if chunks is old.chunk_shape and shards is not None and shards is not kept and not _divides(shards, chunks):
        raise MetadataError(
            "the source's chunks do not divide these shards: give chunks=... too",
            pointer="/shards",
            expected=f"a multiple of {list(chunks)}",
            found=shards,
        )
    made = _parts_of(metadata.shape, metadata.dtype, chunks, shards, zarr_format)
    return made.grid, [shape for shape, _ in made.levels], made.chunk_shape


def _divides(shards: Any, chunks: tuple[int, ...]) -> bool:
    if isinstance(shards, int):
        shards = (shards,) * len(chunks)
    if isinstance(shards, str) or not isinstance(shards, Sequence) or not shards:
        return True  # "auto", or an error that `make_metadata` raises
    inner = shards[-1] if isinstance(shards[-1], Sequence) else shards
    return len(inner) != len(chunks) or all(a % b == 0 for a, b in zip(inner, chunks, strict=True) if b)


def _parts_of(shape: tuple[int, ...], dtype: np.dtype[Any], chunks: Any, shards: Any, zarr_format: int) -> Parts:
    """Let the creation of arrays resolve "auto", and check that chunks divide shards."""
    if isinstance(shards, int):  # as chunks may be: one length for all dimensions
        shards = (shards,) * len(shape)
    plain = np.dtype(f"V{max(1, dtype.itemsize)}")  # only its size matters here
    given = make_metadata(
        shape=shape,
        dtype=plain,
        chunks=chunks,
        shards=shards,
        compressors=None,
        zarr_format=zarr_format,  # type: ignore[arg-type]
    )
    return Parts.of(given)


def _compressed(codecs: tuple[Codec, ...], compressors: Any, zarr_format: int) -> tuple[Codec, ...]:
    """The codecs of a chunk with other compressors."""
    if isinstance(compressors, str) and compressors == "keep":
        return codecs
    if any(isinstance(codec, Sharding) for codec in codecs):
        raise UnsupportedError("the array has codecs around its shards: leave compressors= out")
    kept = tuple(codec for codec in codecs if not isinstance(codec, BytesBytesCodec))
    with in_parameters():
        return kept + compressors_of(compressors, zarr_format)


def new_metadata(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    wishes: Wishes,
    *,
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    dimension_names: Sequence[str | None] | None = None,
) -> ArrayMetadata:
    """The metadata of a copy of something that is no Zarr array: chunks and shards are chosen unless given."""
    zarr_format = wishes.zarr_format or 3
    chunks = "auto" if isinstance(wishes.chunks, str) and wishes.chunks == "keep" else wishes.chunks
    chosen = isinstance(wishes.shards, str) and wishes.shards == "keep"
    if chosen and rectilinear_of(chunks, None, shape) is not None:
        wishes, chosen = dataclasses.replace(wishes, shards=None), False
    shards = wishes.shards if not chosen else "auto" if zarr_format == 3 else None
    parts = _parts_of(shape, dtype, chunks, shards, zarr_format)
    if chosen and parts.levels and parts.levels[0][0] == parts.chunk_shape:  # one chunk is all there is
        parts = _parts_of(shape, dtype, chunks, None, zarr_format)
    own_chunks: Any = parts.chunk_shape
    own_shards: Any = [level for level, _ in parts.levels] or None
    if isinstance(parts.grid, RectilinearGrid):
        own_chunks, own_shards = (parts.chunk_shape, parts.grid) if parts.levels else (parts.grid, None)
    location = "end" if wishes.index_location == "keep" else wishes.index_location
    compressors = "auto" if isinstance(wishes.compressors, str) and wishes.compressors == "keep" else wishes.compressors
    return make_metadata(
        shape=shape,
        dtype=dtype,
        chunks=own_chunks,
        shards=None if own_shards is None else {"shape": own_shards, "index_location": location},
        compressors=compressors,
        checksums=wishes.checksums and not (isinstance(compressors, str) and compressors == "auto"),
        fill_value=fill_value,
        zarr_format=zarr_format,
        attributes=attributes,
        dimension_names=dimension_names,
    )
