"""Properties of an array: shape, chunks, codecs, sizes, and what notebooks show. Reads no chunk."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node import Placed
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.codec import ArrayArrayCodec, BytesBytesCodec, Codec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import UnsupportedError
from zarrdock.registry import Registry
from zarrdock.stores.base import sized_entries

if TYPE_CHECKING:
    from zarrdock.facts import Facts

__all__ = ["ArrayProperties", "Shaped"]


class Shaped:
    """Sizes that follow from a shape and a data type, as numpy names them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        raise NotImplementedError

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, uncompressed."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"len() of a 0-dimensional {type(self).__name__}")
        return self.shape[0]


# Other forms of an array: named here, imported when asked for, since the array layer knows nothing of its peers.
_forms: Registry[Callable[..., Any]] = Registry("zarrdock.forms", {"dask": "zarrdock.adapters.dask:to_dask"})


class ArrayProperties(Shaped, Placed):
    """Properties of an array that its metadata gives, under the names that numpy and zarr-python have for them."""

    _read_only: bool
    _state: tuple[ArrayMetadata, Layout]

    @property
    def metadata(self) -> ArrayMetadata:
        """All metadata, as last read or written by this object."""
        return self._state[0]

    @property
    def _layout(self) -> Layout:
        return self._state[1]

    @property
    def read_only(self) -> bool:
        """True where writing is refused."""
        return self._read_only

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements along each dimension."""
        return self.metadata.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements; in v2 with the byte order they are stored in."""
        return self.metadata.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk; with sharding, of the smallest chunk that can be read by itself.

        Raises:
            UnsupportedError: chunks differ in shape: see :attr:`read_chunk_sizes`.
        """
        if self._layout.irregular is not None and not self._layout.levels:
            raise UnsupportedError("the chunks of a rectilinear grid have no one shape: see read_chunk_sizes")
        return self._layout.leaf_shape

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard, which is one object in the store; None without sharding.

        Raises:
            UnsupportedError: shards differ in shape: see :attr:`write_chunk_sizes`.
        """
        if not self._layout.levels:
            return None
        if self._layout.irregular is not None:
            raise UnsupportedError("the shards of a rectilinear grid have no one shape: see write_chunk_sizes")
        return self._layout.chunk_shape

    @property
    def read_chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the chunks along each axis, as far as they lie within the array; with sharding, of the inner
        ones.
        """
        if self._layout.levels:
            return RegularGrid(self._layout.leaf_shape).lengths(self.shape)
        return self.metadata.grid.lengths(self.shape)

    @property
    def write_chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of the objects in the store (shards, or chunks) along each axis, as far as they lie in the array."""
        return self.metadata.grid.lengths(self.shape)

    @property
    def fill_value(self) -> Any:
        """Value of elements that were never written."""
        return self.metadata.fill_value

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self.metadata.zarr_format

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions (v3's ``dimension_names``, or xarray's attribute in v2)."""
        return self.metadata.dims

    @property
    def key_encoding(self) -> KeyEncoding:
        """Encoding of chunk coordinates as keys."""
        return self.metadata.key_encoding

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Codecs of one object in the store: of a shard, or of a chunk without sharding."""
        return self.metadata.codecs

    @property
    def _leaf_codecs(self) -> tuple[Codec, ...]:
        codecs = self.metadata.codecs
        for _ in self._layout.levels:
            codecs = next(codec.codecs for codec in codecs if isinstance(codec, Sharding))
        return codecs

    @property
    def filters(self) -> tuple[Codec, ...]:
        """Array-to-array codecs of a chunk."""
        return tuple(codec for codec in self._leaf_codecs if isinstance(codec, ArrayArrayCodec))

    @property
    def compressors(self) -> tuple[Codec, ...]:
        """Bytes-to-bytes codecs of a chunk."""
        return tuple(codec for codec in self._leaf_codecs if isinstance(codec, BytesBytesCodec))

    @property
    def cdata_shape(self) -> tuple[int, ...]:
        """Chunks along each dimension."""
        layout = self._layout
        if layout.irregular is not None and not layout.levels:
            return layout.grid_shape()
        return tuple(-(-n // c) if c else 0 for n, c in zip(self.shape, layout.leaf_shape, strict=True))

    @property
    def nchunks(self) -> int:
        """Number of chunks, stored or not."""
        return prod(self.cdata_shape)

    @property
    def nchunks_initialized(self) -> int:
        """Number of chunks in objects that are stored; of a shard all count. Lists the store.

        >>> array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(6,), dtype="int8", chunks=(2,))
        >>> array[:3] = 1
        >>> array.nchunks_initialized, array.nchunks
        (2, 3)
        """
        layout = self._layout
        grid, start = layout.grid_shape(), len(layout.prefix)
        keys = (entry.key[start:] for entry in self._store.list(layout.prefix.rstrip("/")))
        stored = (layout.key_encoding.parse(key, len(grid)) for key in keys)
        inside = (one for one in stored if one is not None and all(c < n for c, n in zip(one, grid, strict=True)))
        return sum(map(layout.n_leaves_in, inside))

    def nbytes_stored(self) -> int:
        """Bytes in the store below this array's path, metadata included. Lists the store, and asks it for the sizes
        that the list does not tell.

        >>> array = zarrdock.create_array({}, data=np.zeros(1000) + 1)
        >>> array.nbytes_stored() < array.nbytes
        True
        """
        return sum(entry.size or 0 for entry in sized_entries(self._store, self._path))

    def to_dask(self, chunks: Any = None, *, inline_array: bool = False) -> Any:
        """This array as a lazy dask array.

        Args:
            chunks: as dask takes them; by default blocks are shards (chunks, where there are no shards), so that every
                object in the store is read by one task; "auto": multiples of these.
            inline_array: put this object into every task instead of into one that all depend on.
        Raises:
            UnsupportedError: dask is not installed.
        """
        form = _forms.get("dask")
        assert form is not None
        return form(self, chunks, inline_array=inline_array)

    def __dask_tokenize__(self) -> Any:
        # The token names the array, not its contents: as with any file, a name says nothing of when it was read.
        # Its documents rather than its hash, which is another one in every process.
        return type(self).__name__, str(self._store.identity), self._path, sorted(documents(self.metadata).items())

    def __repr__(self) -> str:
        chunks, shards = self._shapes()
        which = f"chunks={chunks}" + (f" shards={shards}" if shards else "")
        return f"<zarrdock.{type(self).__name__} {self.name!r} {self.shape} {self.dtype} {which} in {self._store}>"

    def _shapes(self) -> tuple[str, str]:
        """Shapes of chunks and shards as text; the second is empty without sharding."""
        layout = self._layout
        if layout.irregular is None:
            return str(layout.leaf_shape), str(layout.chunk_shape) if layout.levels else ""
        return (str(layout.leaf_shape), "rectilinear") if layout.levels else ("rectilinear", "")

    @property
    def info(self) -> Facts:
        """Facts of the array from its metadata: a dictionary that prints as a table, also in notebooks.

        >>> array = zarrdock.create_array(zarrdock.MemoryStore(), shape=(100, 60), dtype="int16", chunks=(10, 20))
        >>> array.info["Chunks"]
        '10 × 20'
        """
        from zarrdock.facts import Facts, count, size_text

        chunks, shards = self._shapes()
        facts = Facts({"Array": self.name, "Store": str(self._store)})
        facts["Shape"] = " × ".join(map(str, self.shape)) or "0-dimensional"
        if self.dimension_names is not None:
            facts["Dimensions"] = ", ".join(name or "—" for name in self.dimension_names)
        facts["Data type"] = str(self.dtype)
        facts["Chunks"] = _times(chunks)
        if self._layout.levels:
            facts["Shards"] = _times(shards)
        facts["Codecs"] = ", ".join(codec.name for codec in self._leaf_codecs)
        facts["Fill value"] = str(self.fill_value)
        facts["Size"] = f"{size_text(self.nbytes)} in {count(self.nchunks, 'chunk')}"
        facts["Format"] = f"Zarr v{self.zarr_format}"
        return facts

    def _repr_html_(self) -> str:
        from zarrdock.facts import facts_table, grid_svg

        layout = self._layout
        facts = list(self.info.items())
        if layout.irregular is not None:  # the picture is of a regular grid
            return facts_table(facts, grid_svg(self.shape, layout.leaf_shape if layout.levels else self.shape, None))
        return facts_table(
            facts, grid_svg(self.shape, layout.leaf_shape, layout.chunk_shape if layout.levels else None)
        )


def _times(shape: str) -> str:
    return shape.strip("(),").replace(", ", " × ")
