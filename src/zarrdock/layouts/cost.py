"""Cost of opening, listing, planning and copying a whole array, however large, from its metadata alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from zarrdock.array.metadata.chunk_grids import RegularGrid
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.planning.layout import Layout
from zarrdock.config import config
from zarrdock.copying.blocks import choose_blocks
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.predict import Prices
from zarrdock.stores.base import Traits

__all__ = ["PAGE", "WholeCost", "whole_costs"]

#: Keys that object stores list in one request.
PAGE = 1000
# Documents that are looked for where the version of Zarr is not known.
_N_DOCUMENTS = 3
# Beside a copy's objects: all documents that may be at either end, and a mark, are looked for; the mark is written and
# removed, and the document written; the destination is listed.
_READS_AROUND, _WRITES_AROUND, _LISTS_AROUND = 11, 3, 1


@dataclass(frozen=True, slots=True)
class WholeCost:
    """Cost of one operation on a whole array.

    Attributes:
        name: of the operation. n_reads, n_writes, n_lists: requests. nbytes_read, nbytes_written: encoded.
        seconds: of all workers side by side, and of the one that lists for them.
        price: of requests and bytes.
    """

    name: str
    n_reads: int
    n_writes: int
    n_lists: int
    nbytes_read: int
    nbytes_written: int
    seconds: float
    price: float

    @property
    def n_requests(self) -> int:
        """Requests of all kinds."""
        return self.n_reads + self.n_writes + self.n_lists


def whole_costs(
    metadata: ArrayMetadata,
    *,
    traits: Traits,
    prices: Prices,
    to: ArrayMetadata | None = None,
    ratio: float = 1.0,
    stored: float = 1.0,
    workers: int = 1,
    memory_bytes: int = 512 * 2**20,
) -> list[WholeCost]:
    """Costs of an array's operations: opening it, listing its objects, reading all shard indexes, copying its objects
    as they are, and copying it to other chunks.

    Args:
        metadata: of the array. to: of a copy with other chunks, shards or codecs.
        traits, prices: of the store, both ends. Lists are charged as writes.
        ratio: encoded bytes to decoded ones. stored: share of the objects that are there.
        workers: machines that copy; each has ``memory_bytes``, and the bandwidth and decoding speed in ``prices``.
    Raises:
        UnsupportedError: objects that differ in shape.

    >>> from zarrdock.layouts.predict import PLACES
    >>> from zarrdock.layouts.cost import whole_costs
    >>> array = zarrdock.create_array({}, shape=(100_000,) * 3, dtype="u1", chunks=(64,) * 3, shards=(1024,) * 3)
    >>> traits, prices = PLACES["s3"]
    >>> costs = {cost.name: cost for cost in whole_costs(array.metadata, traits=traits, prices=prices)}
    >>> costs["list"].n_requests
    942
    """
    for one in (metadata, to):
        if one is not None and not isinstance(one.grid, RegularGrid):
            raise UnsupportedError("the objects of the array differ in shape: there is no estimate for such arrays")
    layout = Layout.of(metadata)
    itemsize = max(1, metadata.dtype.itemsize)
    nbytes = int(prod(metadata.shape) * itemsize * ratio * stored)
    n_objects = _count(layout.shape, layout.chunk_shape, stored)
    pages = ceil((n_objects + 1) / PAGE)

    def cost(name: str, reads: int, writes: int, lists: int, read: int, written: int, decoded: int = 0) -> WholeCost:
        side_by_side = workers * max(1, traits.n_concurrent)
        waiting = ceil((reads + writes) / side_by_side) * prices.rtt_s + lists * prices.rtt_s
        work = (reads + writes) * prices.request_s / workers + lists * prices.request_s
        moving = (read + written) / prices.bytes_per_s / workers + decoded / prices.decode_bytes_per_s / workers
        price = prices.price(reads, read) + (writes + lists) * prices.writes_per_million / 1e6
        return WholeCost(name, reads, writes, lists, read, written, waiting + work + moving, price)

    found = [cost("open", _N_DOCUMENTS, 0, 0, 0, 0), cost("list", 0, 0, pages, 0, 0)]
    if layout.levels:
        n_indexes = index_bytes = 0
        for level in layout.levels:
            n = _count(layout.shape, level.sharding.decoded.shape, stored)
            n_indexes += n
            index_bytes += n * (level.sharding.layout.n_chunks * 16 + 4)
        found.append(cost("read all indexes", n_indexes, 0, pages, index_bytes, 0))
    reads, writes, lists = n_objects + _READS_AROUND, n_objects + _WRITES_AROUND, pages + _LISTS_AROUND
    found.append(cost("copy as it is", reads, writes, lists, nbytes, nbytes))
    if to is not None:
        target = Layout.of(to)
        reads = _reads(layout, target, itemsize, stored, memory_bytes) + _READS_AROUND
        writes = _count(target.shape, target.chunk_shape, stored) + _WRITES_AROUND
        # Elements are decoded, and encoded, which takes about as long or longer.
        elements = int(prod(metadata.shape) * itemsize * stored)
        found.append(cost("copy to other chunks", reads, writes, lists, nbytes, nbytes, 2 * elements))
    return found


def _count(shape: tuple[int, ...], part: tuple[int, ...], stored: float) -> int:
    return ceil(prod(ceil(n / size) for n, size in zip(shape, part, strict=True)) * stored)


def _reads(layout: Layout, target: Layout, itemsize: int, stored: float, memory_bytes: int) -> int:
    """Requests for the blocks of a copy: of every object that a block touches, the whole, or its index and a part."""
    blocks = choose_blocks(
        target.shape, target.chunk_shape, target.leaf_shape, layout.leaf_shape, itemsize, memory_bytes // 4
    )
    pairs = 1
    for n, slab, own in zip(layout.shape, blocks.slab, layout.chunk_shape, strict=True):
        starts = np.arange(0, n, slab)
        stops = np.minimum(starts + slab, n)
        pairs *= int(((stops - 1) // own - starts // own + 1).sum())
    is_whole = all(
        slab % own == 0 or slab >= n for n, slab, own in zip(layout.shape, blocks.slab, layout.chunk_shape, strict=True)
    )
    if layout.levels and not (is_whole and layout.chain.spec.nbytes <= 4 * config.remote_round_bytes):
        pairs += prod(layout.grid_shape())  # indexes: each once, by one worker
    return ceil(pairs * stored)
