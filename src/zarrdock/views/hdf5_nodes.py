"""Objects of an HDF5 file as Zarr v3 metadata, and where the chunks of a dataset are. Works on h5py's objects.

Source: HDF5 File Format Specification 3.0, and the registered filters' own descriptions of their parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.dtypes.dtype import DataType, data_type_of
from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import SeparatedKeys
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.codecs.blosc_ import Blosc
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.codec import BytesBytesCodec, ChunkSpec, Codec
from zarrdock.codecs.conditional import Conditional
from zarrdock.codecs.gzip_ import Zlib
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError
from zarrdock.views.netcdf import attributes_of, dimensions_of, dtype_of

__all__ = ["Chunks", "Dataset", "ReadAt", "dataset_of", "has_raw_edges"]


# -- What h5py does not tell of a dataset, out of its object header.
#
# Source: HDF5 File Format Specification 3.0, IV.A (object headers), IV.A.2.i (data layout message, versions 4 and
# later).

# Bytes of the file: from where, how many.
ReadAt: TypeAlias = Callable[[int, int], bytes]

_LAYOUT, _CONTINUATION = 0x08, 0x10
_CHUNKED = 2
_RAW_EDGES = 0x01
# Of messages, in one header: a damaged one must not lead around in circles.
_MOST_BLOCKS = 1000


def has_raw_edges(read: ReadAt, address: int, base: int, sizes: tuple[int, int]) -> bool:
    """True if partial chunks at the end of a chunked dataset are stored without filters
    (``H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS``).

    Args:
        address: of the object header. base: where addresses count from. sizes: bytes of an address and of a length.
    """
    for kind, body in _messages(read, address, base, sizes):
        if kind == _LAYOUT:
            return len(body) > 2 and body[0] >= 4 and body[1] == _CHUNKED and bool(body[2] & _RAW_EDGES)
    return False


def _messages(read: ReadAt, address: int, base: int, sizes: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
    prefix = read(base + address, 40)
    is_new = prefix[:4] == b"OHDR"
    has_order = False
    if is_new:
        flags = prefix[5]
        at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        has_order = bool(flags & 0x04)
        blocks = [(address + at + width, _number(prefix[at : at + width]))]
    else:
        blocks = [(address + 16, _number(prefix[8:12]))]
    for n_read in range(_MOST_BLOCKS):
        if n_read == len(blocks):
            return
        start, length = blocks[n_read]
        for kind, body in _split(read(base + start, length), is_new, has_order):
            if kind == _CONTINUATION:
                more, nbytes = _number(body[: sizes[0]]), _number(body[sizes[0] : sum(sizes)])
                # A signature in front and a checksum behind.
                blocks.append((more + 4, nbytes - 8) if is_new else (more, nbytes))
            else:
                yield kind, body


def _split(block: bytes, is_new: bool, has_order: bool) -> Iterator[tuple[int, bytes]]:
    head = 8 if not is_new else 6 if has_order else 4
    at = 0
    while at + head <= len(block):
        if is_new:
            kind, nbytes = block[at], _number(block[at + 1 : at + 3])
        else:
            kind, nbytes = _number(block[at : at + 2]), _number(block[at + 2 : at + 4])
        yield kind, block[at + head : at + head + nbytes]
        at += head + nbytes


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


# A contiguous dataset is shown as chunks of about this size, in bytes.
PIECE_BYTES = 4 * 2**20

_FILTERS = {
    2: "shuffle", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf", 32004: "lz4", 32008: "bitshuffle",
    32026: "blosc2",
}  # fmt: skip
_CNAMES = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


@dataclass(frozen=True, slots=True)
class Chunks:
    """Places of chunks in the file.

    Attributes:
        numbers: of the stored chunks, in C order of the grid, sorted.
        starts, lengths: their bytes in the file. masks: bit i set: filter i was skipped.
    """

    numbers: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    masks: npt.NDArray[np.int64]

    def find(self, number: int) -> int | None:
        """The row of a chunk."""
        row = int(np.searchsorted(self.numbers, number))
        return row if row < len(self.numbers) and self.numbers[row] == number else None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as an array.

    Attributes:
        metadata: of the array; with an unknown codec or data type if its chunks cannot be shown.
        chunks: where they are; None where they have to be made of what h5py reads.
        filters: as codecs. heads: bytes in front of each chunk that say which of them were applied; 0 where all were.
    """

    metadata: ArrayMetadata
    chunks: Chunks | None
    filters: tuple[BytesBytesCodec, ...] = ()
    heads: int = 0

    def head(self, mask: int) -> bytes:
        """First bytes of a chunk whose filters in this mask were skipped."""
        return (~mask & ((1 << len(self.filters)) - 1)).to_bytes(self.heads, "little") if self.heads else b""


def dataset_of(dataset: Any, read: ReadAt, *, reencode: bool, conditional: bool) -> Dataset:
    """An h5py dataset as an array.

    Args:
        read: bytes of its file.
        reencode: what has no form as byte ranges is shown decoded.
        conditional: chunks with skipped filters are told apart by the codec of that name; otherwise all chunks are
            declared to have all filters, and the caller has to apply the skipped ones.
    """
    import h5py

    plist = dataset.id.get_create_plist()
    layout = plist.get_layout()
    data_type = _data_type(dataset)
    filters, unknown = _filters(plist)
    is_elsewhere = bool(plist.get_external_count())
    if layout == h5py.h5d.VIRTUAL or is_elsewhere:
        unknown = "hdf5.external" if is_elsewhere else "hdf5.virtual"
    if layout == h5py.h5d.VIRTUAL:
        # h5py reads fill values where it does not find the file.
        is_elsewhere = any(source.file_name != "." for source in dataset.virtual_sources())
    if dataset.shape is None:
        unknown = "hdf5.null"
    shape = dataset.shape or ()
    order: Literal["little", "big"] | None = None
    if not isinstance(data_type, UnknownDataType):
        order = _byte_order(dataset, data_type, reencode)
        unknown = unknown or (f"hdf5.{_class_of(dataset)}" if order is None else None)
    if order is None or unknown is not None:
        is_readable = dataset.shape is not None and not is_elsewhere and not _missing_filters(plist)
        if reencode and is_readable and (decoded := _decoded(dataset, data_type)) is not None:
            return decoded
        codecs: tuple[Codec, ...] = (Bytes(None),)
        if unknown is not None:
            error = UnknownExtensionError("codec", unknown, hint=_HINT)
            codecs += (UnknownCodec.of({"name": unknown}, error),)
        return Dataset(_array(dataset, data_type, dataset.chunks or _ones(shape), codecs), None)
    spec = ChunkSpec(dataset.chunks or shape, data_type.numpy)
    serializer = Bytes(order).with_defaults(spec)
    if layout == h5py.h5d.CHUNKED:
        chunks = _with_raw_edges(dataset, read, _chunk_table(dataset), len(filters))
        if not conditional or not filters or not chunks.masks.any():
            return Dataset(_array(dataset, data_type, dataset.chunks, (serializer, *filters)), chunks, filters)
        codec = Conditional(filters)
        assert codec.header_bits is not None
        metadata = _array(dataset, data_type, dataset.chunks, (serializer, codec))
        return Dataset(metadata, chunks, filters, codec.header_bits // 8)
    if layout == h5py.h5d.COMPACT:
        return Dataset(_array(dataset, data_type, _ones(shape, shape), (serializer,)), None)
    pieces = _pieces(shape, dataset.dtype.itemsize)
    return Dataset(_array(dataset, data_type, pieces, (serializer,)), _in_a_row(dataset, pieces))


_HINT = "HDF5 has this by a form of its own: open the file with reencode=True to have it decoded"


def _decoded(dataset: Any, data_type: DataType) -> Dataset | None:
    if isinstance(data_type, UnknownDataType):
        try:
            kept = getattr(dtype_of(dataset), "metadata", None) or {}
            data_type = data_type_of("string" if kept.get("vlen") in (str, bytes) else "")
        except (UnknownExtensionError, MetadataError):
            return None
    codecs: tuple[Codec, ...] = (parse_codec(data_type.serializer, new=True),)
    if data_type.serializer == Bytes.name:
        codecs = (Bytes("little").with_defaults(ChunkSpec((), data_type.numpy)),)
    shape = dataset.shape
    chunks = dataset.chunks or _pieces(shape, max(1, data_type.numpy.itemsize))
    return Dataset(_array(dataset, data_type, chunks, (*codecs, Zstd(1))), None)


def _array(dataset: Any, data_type: DataType, chunks: tuple[int, ...], codecs: tuple[Codec, ...]) -> ArrayMetadata:
    fill: Any = None
    if not isinstance(data_type, UnknownDataType):
        fill = data_type.default_fill()
        if data_type.serializer == Bytes.name:
            fill = data_type.cast_fill(dataset.fillvalue)
    return ArrayMetadata(
        shape=dataset.shape or (),
        data_type=data_type,
        grid=RegularGrid(tuple(chunks)),
        key_encoding=SeparatedKeys(),
        fill_value=fill,
        codecs=codecs,
        attributes=attributes_of(dataset)[0],
        dimension_names=dimensions_of(dataset),
    )


def _data_type(dataset: Any) -> DataType:
    dtype = dtype_of(dataset)
    if dtype is None:
        return _unknown_type(f"hdf5.{_class_of(dataset)}")
    if dtype.hasobject:
        kind = "vlen" if dtype.metadata and "vlen" in dtype.metadata else "O" if dtype.names else "reference"
        return _unknown_type(f"hdf5.{kind}")
    try:
        # h5py notes in a dtype what HDF5 knows of it (names of an enumeration); elements are the same without.
        found = data_type_of(np.dtype(dtype.str) if dtype.names is None and dtype.subdtype is None else dtype)
        found.to_json()
        return found
    except (UnknownExtensionError, MetadataError, UnsupportedError):
        return _unknown_type(f"hdf5.{dtype.kind}")


# HDF5's classes of data types, by number.
_CLASSES = dict(
    enumerate(("integer", "float", "time", "string", "bitfield", "opaque", "compound", "reference", "enum"))
)


def _class_of(dataset: Any) -> str:
    return _CLASSES.get(dataset.id.get_type().get_class(), "type")


def _byte_order(dataset: Any, data_type: DataType, reencode: bool) -> Literal["little", "big"] | None:
    """Byte order of the elements in the file; None where h5py converts them into what numpy knows: integers of fewer
    bits than their bytes have, other floats, booleans of several bytes, structures with gaps or of two byte orders.

    Args:
        reencode: what stands behind the end of a text in its bytes, spaces for instance, is not part of it.
    """
    from h5py import h5t

    stored, dtype = dataset.id.get_type(), dataset.dtype
    kind = stored.get_class()
    if kind == h5t.STRING:
        is_alike = not reencode or stored.get_strpad() == h5t.STR_NULLPAD
    elif kind == h5t.BITFIELD:
        order = "BE" if dtype.byteorder == ">" else "LE"
        is_alike = bool(stored.equal(getattr(h5t, f"STD_B{8 * dtype.itemsize}{order}")))
    else:
        is_alike = kind == h5t.OPAQUE or bool(stored.equal(h5t.py_create(dtype, logical=True)))
    if not is_alike or not stored.get_size() == dtype.itemsize == data_type.numpy.itemsize:
        return None
    return "little" if dtype == dtype.newbyteorder("<") else "big" if dtype == dtype.newbyteorder(">") else None


def _unknown_type(name: str) -> UnknownDataType:
    return UnknownDataType.of({"name": name}, UnknownExtensionError("data type", name, hint=_HINT))


def _filters(plist: Any) -> tuple[tuple[BytesBytesCodec, ...], str | None]:
    """The filters as codecs, in their order, or the name of one that is none."""
    codecs: list[BytesBytesCodec] = []
    beyond: int | None = 0  # bytes that filters so far have added to whole elements; None: any number
    for i in range(plist.get_nfilters()):
        number, _, values, name = plist.get_filter(i)
        codec = _codec(number, values)
        # HDF5's shuffle leaves alone what is no whole element at the end; the codec of that name refuses it.
        is_whole = number != 2 or (beyond is not None and beyond % values[0] == 0)
        beyond = beyond if number == 2 or beyond is None else beyond + 4 if number == 3 else None
        if codec is None or not is_whole:
            said = _FILTERS.get(number) or name.decode("utf-8", "replace").strip("\0") or str(number)
            return (), f"hdf5.{said}"
        codecs.append(codec)
    return tuple(codecs), None


def _missing_filters(plist: Any) -> list[int]:
    """Numbers of the filters that HDF5 cannot undo here."""
    import h5py

    numbers = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    return [number for number in numbers if not h5py.h5z.filter_avail(number)]


def _codec(number: int, values: tuple[int, ...]) -> BytesBytesCodec | None:
    found: Codec | None = None
    if number == 1:
        found = Zlib(values[0] if values else 6)
    elif number == 2:
        found = parse_codec({"name": "numcodecs.shuffle", "configuration": {"elementsize": values[0]}})
    elif number == 3:
        found = parse_codec({"name": "numcodecs.fletcher32"})
    elif number == 307:
        found = parse_codec({"name": "numcodecs.bz2", "configuration": {"level": values[0] if values else 9}})
    elif number == 32015:
        found = Zstd(values[0] if values else 3)
    elif number == 32001 and len(values) > 2:
        # Revisions, then bytes of an element and of a chunk; level, shuffle and compressor only where they were given.
        level = values[4] if len(values) > 4 else 5
        shuffle = _SHUFFLES[values[5]] if len(values) > 5 and values[5] < 3 else "shuffle"
        cname = _CNAMES[values[6]] if len(values) > 6 and values[6] < 6 else "blosclz"
        found = Blosc(cname, level, shuffle, values[2])  # type: ignore[arg-type]
    assert found is None or isinstance(found, BytesBytesCodec)
    return found


def _chunk_table(dataset: Any) -> Chunks:
    rows: list[tuple[int, ...]] = []
    append = rows.append
    grid = [-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]
    chunks = dataset.chunks

    def take(info: Any) -> None:
        number = 0
        for offset, chunk, n in zip(info.chunk_offset, chunks, grid, strict=True):
            if offset >= n * chunk:
                return  # left from before the dataset was made smaller
            number = number * n + offset // chunk
        append((number, info.byte_offset, info.size, info.filter_mask))

    dataset.id.chunk_iter(take)
    table = np.array(rows, np.int64).reshape(-1, 4)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Chunks(*(np.ascontiguousarray(table[:, i]) for i in range(4)))


def _with_raw_edges(dataset: Any, read: ReadAt, chunks: Chunks, n_filters: int) -> Chunks:
    """The same, with chunks cut off by the end told to have skipped all filters, where they are stored without: HDF5
    has an option for that, which it notes with the dataset and not in the masks.
    """
    if not n_filters:
        return chunks
    shape, shapes = dataset.shape, dataset.chunks
    grid = tuple(-(-n // c) for n, c in zip(shape, shapes, strict=True))
    coords = np.unravel_index(chunks.numbers, grid)
    is_cut = np.zeros(len(chunks.numbers), bool)
    for at, n, c in zip(coords, shape, shapes, strict=True):
        is_cut |= (at + 1) * c > n
    nbytes = math.prod(shapes) * dataset.dtype.itemsize
    # Their length gives most datasets away, without a look at the header.
    if not is_cut.any() or (chunks.lengths[is_cut] != nbytes).any():
        return chunks
    import h5py

    file = dataset.file
    sizes = file.id.get_create_plist().get_sizes()
    if not has_raw_edges(read, h5py.h5o.get_info(dataset.id).addr, file.userblock_size, sizes):
        return chunks
    return replace(chunks, masks=np.where(is_cut, (1 << n_filters) - 1, chunks.masks))


def _pieces(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of a contiguous dataset: whole rows, as many as divide its length, so that none is cut off."""
    pieces = list(shape)
    for axis, length in enumerate(shape):
        row = math.prod(shape[axis + 1 :]) * itemsize
        most = max(1, PIECE_BYTES // max(1, row))
        if most >= length:
            break
        pieces[axis] = next(n for n in range(most, 0, -1) if length % n == 0)
        if pieces[axis] > 1 or row <= PIECE_BYTES:
            break
    return tuple(max(1, n) for n in pieces)


def _in_a_row(dataset: Any, pieces: tuple[int, ...]) -> Chunks:
    empty = np.zeros(0, np.int64)
    # The offset of what has no space is nonsense where the file begins with a block of the user's.
    if not dataset.id.get_storage_size() or not dataset.size:
        return Chunks(empty, empty, empty, empty)
    nbytes = math.prod(pieces) * dataset.dtype.itemsize
    numbers = np.arange(math.prod(dataset.shape) // math.prod(pieces))
    starts = dataset.id.get_offset() + numbers * nbytes
    return Chunks(numbers, starts, np.full_like(numbers, nbytes), np.zeros_like(numbers))


def _ones(shape: tuple[int, ...], chunks: tuple[int, ...] | None = None) -> tuple[int, ...]:
    return tuple(max(1, n) for n in (chunks or shape))
