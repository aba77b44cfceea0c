"""An array's chunks as they lie in the store: which levels of sharding can be read in part, and what the leaves are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.metadata.v3 import ArrayMetadata, Node, parse_node
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.codec import ChunkSpec, Codec
from zarrdock.codecs.compiled import Compiled
from zarrdock.codecs.sharding import BoundSharding, with_options
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions
from zarrdock.errors import MetadataError
from zarrdock.lru import BoundedLRU
from zarrdock.registry import Registry

__all__ = ["Irregular", "Layout", "Level", "layout_of", "parse", "parse_shared"]


IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """One level of sharding.

    Attributes:
        sharding: the bound codec of a shard at this level.
        leaves: how many leaf chunks an inner chunk of this level is long, along each axis (all 1 at the last level).
    """

    sharding: BoundSharding
    leaves: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Geometry and codecs of an array, bound once.

    Attributes:
        shape: of the array. chunk_shape: of one object in the store (a shard, or a chunk without sharding).
        chain: codecs of such an object.
        levels: levels of sharding that can be read in part, outermost first; none where codecs around a shard hide
            what is in it.
        leaf_shape, leaf: shape and codecs of the smallest chunk that can be read by itself.
        missing_is_error: reads of chunks that are not stored raise, instead of giving the fill value.
        irregular: where objects begin, if they differ in shape: then ``chunk_shape``, ``chain`` and ``leaf`` are those
            of the longest along every axis, and each object has a layout of its own, see :meth:`at`.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill_value: Any
    key_encoding: KeyEncoding
    prefix: str
    chain: BoundChain
    levels: tuple[Level, ...]
    leaf_shape: tuple[int, ...]
    leaf: BoundChain
    fill_is_zero: bool
    options: WriteOptions = DEFAULT_WRITE_OPTIONS
    irregular: Irregular | None = None
    missing_is_error: bool = False

    @cached_property
    def compiled(self) -> Compiled | None:
        """The codecs of a leaf for the compiled part; None where that does not know them, or was not built."""
        return Compiled.of(self.leaf)

    @property
    def fill_scalar(self) -> Any:
        """The fill value as an element of the array."""
        return np.asarray(self.fill_value, self.dtype)[()]

    @classmethod
    def bind(
        cls,
        shape: tuple[int, ...],
        chunk_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fill_value: Any,
        codecs: tuple[Codec, ...],
        key_encoding: KeyEncoding,
        prefix: str = "",
        options: WriteOptions = DEFAULT_WRITE_OPTIONS,
    ) -> Layout:
        """Bind an array's codecs, their shards to be written with ``options``.

        Raises:
            MetadataError: they can't work on such chunks.
        """
        try:
            chain = bind_chain(with_options(codecs, options), ChunkSpec(chunk_shape, dtype, fill_value))
        except MetadataError as error:
            raise error.below("/codecs") from error.__cause__
        outer = chain.serializer
        is_sharded = isinstance(outer, BoundSharding) and not chain.array_codecs and not chain.byte_codecs
        found = outer.nested() if is_sharded and isinstance(outer, BoundSharding) else ()
        leaf = found[-1].inner if found else chain
        leaf_shape = leaf.spec.shape
        levels = tuple(
            Level(s, tuple(n // m for n, m in zip(s.inner.spec.shape, leaf_shape, strict=True))) for s in found
        )
        # numpy's text of variable length begins as "", its objects as the number 0, which is no value of theirs.
        zero = not (fill_value if dtype.hasobject else np.asarray(fill_value, dtype).tobytes().strip(b"\0"))
        zero = zero and (dtype.kind == "T" or not dtype.hasobject)
        return cls(
            shape, chunk_shape, dtype, fill_value, key_encoding, prefix, chain, levels, leaf_shape, leaf, zero, options
        )

    @classmethod
    def of(
        cls,
        metadata: ArrayMetadata,
        prefix: str = "",
        options: WriteOptions = DEFAULT_WRITE_OPTIONS,
    ) -> Layout:
        """The layout of an array with this metadata.

        Args:
            prefix: of the keys. options: of the writer. Where v2 gives no fill value, missing chunks are undefined to
                other readers: chunks of zeros are stored there whatever the options say.
        Raises:
            MetadataError: the codecs cannot work on such chunks.
        """
        if metadata.fill_value_is_null:
            options = replace(options, write_empty_chunks=True)
        grid = metadata.grid
        layout = cls.bind(
            metadata.shape,
            grid.largest,
            metadata.dtype,
            metadata.fill_value,
            metadata.codecs,
            metadata.key_encoding,
            prefix,
            options,
        )
        if not isinstance(grid, RectilinearGrid):
            return layout
        irregular = Irregular(grid.bounds(), metadata.codecs)
        if layout.levels:
            irregular.check_divisible(layout.levels[0].sharding.inner.spec.shape)
        return replace(layout, irregular=irregular)

    def key(self, coords: tuple[int, ...]) -> str:
        """The key of the object that holds the chunk at ``coords``."""
        return self.prefix + self.key_encoding.key(coords)

    def grid_shape(self) -> tuple[int, ...]:
        """Objects along each axis."""
        return self.grid_of(self.shape)

    def grid_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Objects along each axis, if the array had this shape."""
        if self.irregular is not None:
            return tuple(c + 1 for c in self.irregular.owners(shape, self.chunk_shape, -1))
        return tuple(-(-n // c) if c else 0 for n, c in zip(shape, self.chunk_shape, strict=True))

    def at(self, coords: tuple[int, ...]) -> Layout:
        """The layout of the object at ``coords``: this one, where all objects are alike."""
        return self if self.irregular is None else self.irregular.layout_of(self, self.lengths(coords))

    def starts(self, coords: tuple[int, ...]) -> tuple[int, ...]:
        """Start of the object at ``coords``."""
        if self.irregular is None:
            return tuple(c * n for c, n in zip(coords, self.chunk_shape, strict=True))
        return self.irregular.starts(coords, self.chunk_shape)

    def lengths(self, coords: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the object at ``coords``, as if it lay within the array altogether."""
        if self.irregular is None:
            return self.chunk_shape
        stops = self.irregular.starts(tuple(c + 1 for c in coords), self.chunk_shape)
        return tuple(b - a for a, b in zip(self.starts(coords), stops, strict=True))

    def end_of(self, axis: int, position: int) -> int:
        """End along an axis of the object that holds ``position``."""
        bounds = None if self.irregular is None else self.irregular.bounds[axis]
        if bounds is None:
            return (position // self.chunk_shape[axis] + 1) * self.chunk_shape[axis]
        return int(bounds[np.searchsorted(bounds, position, "right")])

    @property
    def shardings(self) -> tuple[BoundSharding, ...]:
        """The bound codec of shards at each level, outermost first."""
        return tuple(level.sharding for level in self.levels)

    def first_inner(self, coords: tuple[int, ...]) -> tuple[int, ...]:
        """Coordinates of the first inner chunk of the shard at ``coords``, in the grid of all chunks of its level."""
        inner = self.levels[0].sharding.inner.spec.shape
        return tuple(n // step for n, step in zip(self.starts(coords), inner, strict=True))

    def first_leaf(self, coords: tuple[int, ...]) -> tuple[int, ...]:
        """Coordinates of the first leaf of the object at ``coords``, in the grid of all leaves."""
        if not self.levels:
            return coords
        return tuple(n // leaf for n, leaf in zip(self.starts(coords), self.leaf_shape, strict=True))

    def n_leaves(self) -> int:
        """Leaf chunks of the whole array."""
        if not self.levels:
            return prod(self.grid_shape())
        return prod(-(-n // leaf) if leaf else 0 for n, leaf in zip(self.shape, self.leaf_shape, strict=True))

    def n_leaves_in(self, coords: tuple[int, ...]) -> int:
        """Leaf chunks of an object that lie, at least in part, within the array."""
        if self.irregular is not None:
            lengths = self.lengths(coords)
            leaves = self.leaf_shape if self.levels else lengths
            return prod(
                -(-min(chunk, length - start) // leaf)
                for start, chunk, length, leaf in zip(self.starts(coords), lengths, self.shape, leaves, strict=True)
            )
        return prod(
            -(-min(chunk, length - c * chunk) // leaf)
            for c, chunk, length, leaf in zip(coords, self.chunk_shape, self.shape, self.leaf_shape, strict=True)
        )


# More shapes than this are bound again when they come again.
_MAX_KINDS = 1024


class Irregular:
    """Objects that differ in shape.

    Args:
        bounds: along each axis, where objects begin and the last one ends; None where all have the length of the
            layout's ``chunk_shape``.
    """

    def __init__(self, bounds: tuple[IntArray | None, ...], codecs: tuple[Codec, ...]) -> None:
        self.bounds = bounds
        self._codecs = codecs
        self._layouts: dict[tuple[int, ...], Layout] = {}

    def check_divisible(self, inner: tuple[int, ...]) -> None:
        """Make sure that inner chunks of that shape divide every shard.

        Raises:
            MetadataError: they don't.
        """
        for i, (bounds, length) in enumerate(zip(self.bounds, inner, strict=True)):
            if bounds is not None and (bounds % length).any():
                raise MetadataError(
                    "inner chunks must divide every shard evenly",
                    pointer=f"/chunk_grid/configuration/chunk_shapes/{i}",
                    expected=f"multiples of {length}",
                    found=int(np.diff(bounds)[np.flatnonzero(np.diff(bounds) % length)[0]]),
                )

    def layout_of(self, layout: Layout, lengths: tuple[int, ...]) -> Layout:
        """The layout of an array whose objects all have this shape."""
        found = self._layouts.get(lengths)
        if found is None:
            found = Layout.bind(
                layout.shape,
                lengths,
                layout.dtype,
                layout.fill_value,
                self._codecs,
                layout.key_encoding,
                layout.prefix,
                layout.options,
            )
            if len(self._layouts) >= _MAX_KINDS:
                self._layouts.clear()
            self._layouts[lengths] = found
        return found

    def starts(self, coords: tuple[int, ...], chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Starts of objects."""
        return tuple(
            c * n if bounds is None else int(bounds[c])
            for c, n, bounds in zip(coords, chunk_shape, self.bounds, strict=True)
        )

    def owners(self, positions: Sequence[int], chunk_shape: tuple[int, ...], shift: int = 0) -> tuple[int, ...]:
        """The object that holds each position, shifted, along its axis."""
        return tuple(
            (p + shift) // n if bounds is None else int(np.searchsorted(bounds, p + shift, "right")) - 1
            for p, n, bounds in zip(positions, chunk_shape, self.bounds, strict=True)
        )


# -- What was parsed and bound before, for arrays that are opened again. Opening is little else: a document that was
# seen before takes a third of the time.

# Documents, and layouts, that are remembered, and how long a document may be.
_MOST = 64
_MAX_NBYTES = 2**14

# Members beyond the standard ones that change nothing; zarr-python writes the second.
_PLAIN: tuple[dict[str, Any], ...] = ({}, {"storage_transformers": []})

_nodes: BoundedLRU[tuple[bytes, int], ArrayMetadata] = BoundedLRU(max_items=_MOST)
# By the identity of what they were made of, which the metadata kept with them keeps from being anybody else's.
_layouts: BoundedLRU[tuple[Any, ...], tuple[ArrayMetadata, Layout]] = BoundedLRU(max_items=_MOST)


def parse(document: bytes | bytearray | memoryview, key: str, *, lenient: bool) -> Node:
    """See :func:`zarrdock.array.metadata.v3.parse_node`. Attributes belong to the caller, ready to be changed."""
    node = parse_shared(document, key, lenient=lenient)
    if isinstance(node, ArrayMetadata):
        return node.replace(attributes=copy.deepcopy(dict(node.attributes)))
    return node


def parse_shared(document: bytes | bytearray | memoryview, key: str, *, lenient: bool) -> Node:
    """Parse a document as :func:`parse` does; the attributes may be shared, so the caller must not change them."""
    if len(document) > _MAX_NBYTES:
        return parse_node(document, key, lenient=lenient)
    seen = bytes(document), Registry.n_added  # a name may stand for another codec by now
    known = _nodes.get(seen)
    if known is None:
        node = parse_node(document, key, lenient=lenient)
        if not isinstance(node, ArrayMetadata) or node.unknown or node.dtype.kind not in "biufcmM":
            return node
        if node.extra not in _PLAIN:
            return node
        _nodes.put(seen, node)
        known = node
    return known


def layout_of(metadata: ArrayMetadata, prefix: str, options: WriteOptions) -> Layout:
    """See :meth:`Layout.of`: layouts of the default options are remembered."""
    if options != DEFAULT_WRITE_OPTIONS or metadata.fill_value_is_null:
        return Layout.of(metadata, prefix, options)
    parts = metadata.codecs, metadata.grid, metadata.data_type, metadata.fill_value, metadata.key_encoding
    seen = (*map(id, parts), metadata.shape, prefix)
    known = _layouts.get(seen)
    if known is None:
        layout = Layout.of(metadata, prefix)
        known = metadata, layout
        _layouts.put(seen, known)
    return known[1]
