"""An array's chunks as they lie in the store: which levels of sharding can be read in part, and what the leaves are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from zarrdock.array.keys import KeyEncoding
from zarrdock.codecs.base import ChunkSpec, Codec
from zarrdock.codecs.chain import BoundChain, bind_chain
from zarrdock.codecs.sharding import BoundSharding
from zarrdock.errors import MetadataError

__all__ = ["Layout", "Level"]


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
        shape: of the array. chunk_shape: of what is one object in the store (a shard, where there are shards).
        chain: codecs of such an object.
        levels: levels of sharding that can be read in part, outermost first; none where codecs around a shard hide
            what is in it.
        leaf_shape, leaf: shape and codecs of the smallest chunk that can be read by itself.
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
    ) -> Layout:
        """Bind an array's codecs.

        Raises:
            MetadataError: they can't work on such chunks.
        """
        try:
            chain = bind_chain(codecs, ChunkSpec(chunk_shape, dtype, fill_value))
        except MetadataError as error:
            raise error.below("/codecs") from error.__cause__
        found: list[BoundSharding] = []
        leaf = chain
        while isinstance(leaf.serializer, BoundSharding) and not leaf.array_codecs and not leaf.byte_codecs:
            found.append(leaf.serializer)
            leaf = leaf.serializer.inner
        leaf_shape = leaf.spec.shape
        levels = tuple(
            Level(s, tuple(n // m for n, m in zip(s.inner.spec.shape, leaf_shape, strict=True))) for s in found
        )
        # numpy's text of variable length begins as "", its objects as the number 0, which is no value of theirs.
        zero = not (fill_value if dtype.hasobject else np.asarray(fill_value, dtype).tobytes().strip(b"\0"))
        zero = zero and (dtype.kind == "T" or not dtype.hasobject)
        return cls(shape, chunk_shape, dtype, fill_value, key_encoding, prefix, chain, levels, leaf_shape, leaf, zero)

    def key(self, coords: tuple[int, ...]) -> str:
        """The key of the object that holds the chunk at ``coords``."""
        return self.prefix + self.key_encoding.key(coords)

    def grid_shape(self) -> tuple[int, ...]:
        """Objects along each axis."""
        return tuple(-(-n // c) if c else 0 for n, c in zip(self.shape, self.chunk_shape, strict=True))

    def n_leaves_in(self, coords: tuple[int, ...]) -> int:
        """Leaf chunks of an object that lie, at least in part, within the array."""
        return prod(
            -(-min(chunk, length - c * chunk) // leaf)
            for c, chunk, length, leaf in zip(coords, self.chunk_shape, self.shape, self.leaf_shape, strict=True)
        )
