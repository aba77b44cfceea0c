"""Predict the cost of reads if an array were laid out in another way.

There is no model: the reader itself plans its requests, against objects that have only sizes and indexes. For the
existing chunks a prediction equals the later count; for chunks of another shape their lengths are estimated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from zarrdock.array.execution.drivers import drive
from zarrdock.array.execution.read_write import read_settings, reads_of
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.planning.chunk_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.read_types import Discard, Found, IntArray
from zarrdock.array.planning.selection import basic
from zarrdock.codecs.chunk_order import Order
from zarrdock.codecs.write_options import WriteOptions
from zarrdock.config import config
from zarrdock.copying.target_metadata import Wishes, retarget
from zarrdock.errors import UnsupportedError
from zarrdock.layouts.access_patterns import Access
from zarrdock.layouts.indexes import layout_of
from zarrdock.layouts.shard_stats import Survey, resampled
from zarrdock.layouts.simulated_store import GhostStore, as_stored, predicted
from zarrdock.stores.base import Traits

__all__ = [
    "CRITERIA",
    "EGRESS_PER_GB",
    "PLACES",
    "Candidate",
    "Cost",
    "Prediction",
    "Prices",
    "candidates",
    "predict",
    "recommend",
    "work",
]


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a store's service, and of the reader's machine: time, and money.

    Attributes:
        rtt_s: seconds from a round's first request to its first byte. request_s: seconds of work a request.
        bytes_per_s: of data. decode_bytes_per_s: of decoded elements, see
            :func:`zarrdock.layouts.calibrate.decode_speed`.
        per_million: price of a million reads. writes_per_million: of a million writes, or lists.
        per_gb: of 10^9 bytes read. egress_per_gb: of 10^9 bytes that leave the service's region or network.
        currency: of all prices.
    """

    rtt_s: float = 0.0
    request_s: float = 12e-6
    bytes_per_s: float = 2e9
    per_million: float = 0.0
    per_gb: float = 0.0
    egress_per_gb: float = 0.0
    decode_bytes_per_s: float = 1e9
    currency: str = "USD"
    writes_per_million: float = 0.0

    def price(self, n_requests: int, nbytes: int) -> float:
        """Price of reads."""
        return n_requests * self.per_million / 1e6 + nbytes * (self.per_gb + self.egress_per_gb) / 1e9

    def seconds(self, rounds: Sequence[tuple[int, int]], n_concurrent: int) -> float:
        """Time of rounds of requests, ``n_concurrent`` of which are in flight together."""
        return sum(
            ceil(n / max(1, n_concurrent)) * self.rtt_s + n * self.request_s + nbytes / self.bytes_per_s
            for n, nbytes in rounds
        )


#: Kinds of stores: how readers treat them, and about what they take. Prices are list prices in US dollars, reads within
#: a region: change them to what you pay. Egress: to the internet, see :data:`EGRESS_PER_GB`.
PLACES: dict[str, tuple[Traits, Prices]] = {
    "local": (Traits(conditional_read=True, merge_gap_bytes=32768), Prices()),
    "s3": (
        Traits(conditional_read=True, remote=True, merge_gap_bytes=131072, n_concurrent=64),
        Prices(0.03, 0.6e-3, 100e6, per_million=0.40, writes_per_million=5.0),
    ),
    "gcs": (
        Traits(conditional_read=True, remote=True, merge_gap_bytes=65536, n_concurrent=64),
        Prices(0.04, 0.6e-3, 100e6, per_million=0.40, writes_per_million=5.0),
    ),
    "http": (
        Traits(conditional_read=True, remote=True, merge_gap_bytes=32768, n_concurrent=64),
        Prices(0.03, 0.5e-3, 50e6),
    ),
}


#: List prices in US dollars of 10^9 bytes read over the internet, the first ten terabytes of a month.
EGRESS_PER_GB = {"local": 0.0, "s3": 0.09, "gcs": 0.12, "http": 0.0}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout.

    Attributes:
        order: of the chunks in a shard; None: as they are stored now.
        shards: shapes, outermost first, none for chunks by themselves. chunks: shape of a chunk.
        gap_bytes: of the reader; None: that of the store.
    """

    order: Order | None
    shards: tuple[tuple[int, ...], ...]
    chunks: tuple[int, ...]
    gap_bytes: int | None = None

    @property
    def order_name(self) -> str:
        """Name of the order, for people."""
        if not self.shards:
            return "-"
        return "as stored" if self.order is None else self.order if isinstance(self.order, str) else "given"


@dataclass(frozen=True, slots=True)
class Cost:
    """Total cost of the reads of one pattern. One reader makes them one after another and keeps the shard indexes it
    has seen.

    Attributes:
        n_rounds, n_requests, nbytes: over all of the reads.
        seconds, price: by the prices that were given. Seconds are those of the network and of decoding, one after the
            other: an upper bound where a reader decodes while it waits.
        n_chunks: chunks that are decoded, and decoded_nbytes: their elements, wanted or not.
    """

    n_rounds: int
    n_requests: int
    nbytes: int
    seconds: float
    price: float
    n_chunks: int = 0
    decoded_nbytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*(a + b for a, b in zip(mine, others, strict=True)))


@dataclass(frozen=True, slots=True)
class Prediction:
    """A layout and its costs.

    Attributes:
        costs: one a pattern. is_exact: chunks are those there are, so that nothing had to be estimated.
    """

    candidate: Candidate
    costs: tuple[Cost, ...]
    is_exact: bool

    @property
    def total(self) -> Cost:
        """Cost of all patterns together."""
        return sum(self.costs[1:], self.costs[0])


def candidates(
    survey: Survey,
    *,
    orders: Sequence[Order] = ("lexicographic", "colexicographic", "morton", "hilbert"),
    shards: Sequence[Any] | None = None,
    chunks: Sequence[Any] | None = None,
    gaps: Sequence[int | None] = (None,),
    accesses: Sequence[Access] = (),
) -> list[Candidate]:
    """Candidate layouts: the present one, and every combination of the given shapes and orders.

    Args:
        shards, chunks: shapes; None for the shape there is, half of it and twice it, one changed at a time. Where
            objects differ in shape, the shape of the largest stands for all of them.
        accesses: patterns of reads: for planes, chunks as large as those there are, but flat, are candidates, too,
            unless shapes are given.
    """
    levels, leaf = _shapes(survey.layout)
    found = [Candidate(None, levels, leaf, gap) for gap in gaps]
    if shards is None and chunks is None:
        pairs = [(levels, leaf)]
        if levels:
            pairs += [(tuple(scaled), leaf) for scaled in _scaled(levels, survey.layout.shape)]
        pairs += [(levels, scaled[0]) for scaled in _scaled((leaf,), survey.layout.shape)]
        limit = levels[-1] if levels else survey.layout.shape
        pairs += [(levels, _flat(leaf, axis, limit)) for axis in _plane_axes(accesses, len(leaf))]
    else:
        pairs = [(_levels(s), tuple(c)) for s in shards or [levels] for c in chunks or [leaf]]
    for some_levels, some_leaf in pairs:
        grid = survey.metadata.grid
        stays = levels and some_levels == levels
        outer = (grid.divisors(),) if stays and isinstance(grid, RectilinearGrid) else ()
        if not (_fits(some_levels, some_leaf) and _fits(outer, some_leaf)):
            continue
        if not some_levels:
            found += [Candidate(None, (), some_leaf, gap) for gap in gaps if some_leaf != leaf or levels]
            continue
        found += [Candidate(order, some_levels, some_leaf, gap) for order in orders for gap in gaps]
    return list(dict.fromkeys(found))


def _shapes(layout: Layout) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    return tuple(level.sharding.decoded.shape for level in layout.levels), layout.leaf_shape


def _levels(given: Any) -> tuple[tuple[int, ...], ...]:
    if given is None or not given:
        return ()
    return tuple(map(tuple, given)) if isinstance(given[0], Sequence) else (tuple(given),)


def _scaled(shapes: tuple[tuple[int, ...], ...], full: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """The outermost shape halved, and doubled where the array is longer than it."""
    first = shapes[0]
    halved = tuple(n // 2 if n % 2 == 0 else n for n in first)
    doubled = tuple(2 * n if n < length else n for n, length in zip(first, full, strict=True))
    for changed in (halved, doubled):
        if changed != first:
            yield [changed, *shapes[1:]]


def _plane_axes(accesses: Sequence[Access], ndim: int) -> list[int]:
    """Axes that some pattern always fixes at one index, while it takes all of the others."""
    found: list[int] = []
    for access in accesses:
        fixed = {_fixed_axis(selection, ndim) for selection in access.selections}
        found += [axis for axis in fixed if axis is not None and len(fixed) == 1]
    return list(dict.fromkeys(found))


def _fixed_axis(selection: Any, ndim: int) -> int | None:
    items = selection if isinstance(selection, tuple) else (selection,)
    where = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    items = (*items[:where], *(slice(None),) * (ndim - len(items) + (where < len(items))), *items[where + 1 :])
    fixed = [axis for axis, item in enumerate(items) if not (isinstance(item, slice) and item == slice(None))]
    return fixed[0] if len(fixed) == 1 and isinstance(items[fixed[0]], int) else None


def _flat(leaf: tuple[int, ...], axis: int, limit: Sequence[int]) -> tuple[int, ...]:
    """A chunk one element thick along an axis, with about as many elements: doubled along the others in turn, as long
    as they divide ``limit``.
    """
    lengths, left = list(leaf), leaf[axis]
    lengths[axis] = 1
    grown = True
    while left > 1 and grown:
        grown = False
        for other in sorted(range(len(leaf)), key=lambda i: (lengths[i], -i)):
            if other != axis and left > 1 and limit[other] % (2 * lengths[other]) == 0:
                lengths[other] *= 2
                left //= 2
                grown = True
                break
    return tuple(lengths)


def _fits(levels: tuple[tuple[int, ...], ...], leaf: tuple[int, ...]) -> bool:
    chain = [*levels, leaf]
    return all(a % b == 0 for outer, inner in pairwise(chain) for a, b in zip(outer, inner, strict=True))


def predict(
    survey: Survey, accesses: Sequence[Access], candidate: Candidate, *, traits: Traits, prices: Prices
) -> Prediction:
    """Count what the reads of some patterns would ask of an array with such a layout.

    Each pattern begins with no index known.

    Args:
        traits: of the store it would be read from.
    Raises:
        MetadataError: the layout does not fit the array. UnsupportedError: an order that is none.
        SelectionError: a selection does not fit the array.

    >>> from zarrdock.layouts.access_patterns import Access
    >>> from zarrdock.layouts.predict import PLACES, Candidate
    >>> array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(2, 2), shards=(4, 4))
    >>> found = zarrdock.tools.survey(array.store, "", array.metadata)
    >>> traits, prices = PLACES["s3"]
    >>> larger = Candidate("hilbert", ((8, 8),), (2, 2))
    >>> corner = [Access("corner", (np.s_[:2, :2],))]
    >>> zarrdock.tools.predict(found, corner, larger, traits=traits, prices=prices).total.n_rounds
    2
    """
    if candidate.gap_bytes is not None:
        traits = dataclasses.replace(traits, merge_gap_bytes=candidate.gap_bytes)
    _, leaf = _shapes(survey.layout)
    layout = _layout(survey, candidate)
    if layout is survey.layout:
        make = as_stored(layout, survey.objects)
    else:
        lengths = survey.lengths
        if layout.leaf_shape != leaf:
            exact = layout.leaf.encoded.exact
            lengths = resampled(lengths, layout.shape, _borders(survey.layout), layout.leaf_shape, exact=exact)
        make = predicted(layout, lengths)
    costs = []
    for access in accesses:
        store = GhostStore(make, traits)
        cache = IndexCache(config.index_cache_bytes)
        total = Cost(0, 0, 0, 0.0, 0.0)
        for selection in access.selections:
            store.rounds.clear()
            chunks = _walk(store, layout, selection, cache)
            n, nbytes = sum(r[0] for r in store.rounds), sum(r[1] for r in store.rounds)
            seconds = prices.seconds(store.rounds, traits.n_concurrent) + chunks.nbytes / prices.decode_bytes_per_s
            total += Cost(
                len(store.rounds), n, nbytes, seconds, prices.price(n, nbytes), chunks.n_chunks, chunks.nbytes
            )
        costs.append(total)
    return Prediction(candidate, tuple(costs), layout.leaf_shape == leaf and survey.is_complete)


def _borders(layout: Layout) -> list[int | IntArray]:
    """Length of the smallest chunks along each axis, or their starts if the lengths differ."""
    if layout.levels or layout.irregular is None:
        return list(layout.leaf_shape)
    pairs = zip(layout.irregular.bounds, layout.leaf_shape, strict=True)
    return [length if bounds is None else bounds for bounds, length in pairs]


def _layout(survey: Survey, candidate: Candidate) -> Layout:
    """The layout that there is, where the candidate is it."""
    levels, leaf = _shapes(survey.layout)
    if (levels, leaf) == (candidate.shards, candidate.chunks):
        if candidate.order is None and survey.is_complete:
            return survey.layout
        metadata = survey.metadata
    else:
        stays = survey.layout.irregular is not None and candidate.shards == levels
        wishes = Wishes(
            chunks=candidate.chunks,
            shards="keep" if stays and levels else list(candidate.shards) or None,
            zarr_format=3 if candidate.shards else None,
        )
        metadata, _ = retarget(survey.metadata, wishes)
    order = "lexicographic" if candidate.order is None else candidate.order
    return layout_of(metadata, survey.path, WriteOptions(subchunk_write_order=order))


class _Chunks(Discard):
    """Counts the chunks that would be decoded, and the bytes of their elements."""

    def __init__(self) -> None:
        self.n_chunks = self.nbytes = 0

    def data(self, found: Found) -> None:
        self.n_chunks += len(found.numbers)
        self.nbytes += len(found.numbers) * found.task.layout.leaf.spec.nbytes


def _walk(store: GhostStore, layout: Layout, selection: Any, cache: IndexCache) -> _Chunks:
    """Ask for everything that a read asks for."""
    # Ghosts of compressed chunks have no headers.
    settings = dataclasses.replace(read_settings(layout, store, cache), in_blocks=False)
    chunks = _Chunks()
    drive(reads_of(basic(selection, layout.shape), layout, settings, chunks), store)
    return chunks


#: What a layout may be chosen by.
CRITERIA = ("seconds", "n_requests", "nbytes", "n_rounds", "price")

# A gain of less than this is not worth a change that costs more.
_WORTH = 0.05


def recommend(survey: Survey, predictions: Sequence[Prediction], by: str = "seconds") -> Prediction:
    """The layout with the least cost; of those that are nearly as good the one that is least work to get: what there
    is, another order (shards are rewritten in place), other shards (chunks are copied), other chunks (encoded anew).

    Args:
        by: one of :data:`CRITERIA`.
    Raises:
        UnsupportedError: no predictions, or nothing to choose by.
    """
    if by not in CRITERIA or not predictions:
        raise UnsupportedError(f"a layout is chosen from predictions by one of {', '.join(CRITERIA)}, not by {by!r}")
    costs = [getattr(prediction.total, by) for prediction in predictions]
    enough = min(costs) * (1 + _WORTH)
    good = [(work(survey, p.candidate), cost, i) for i, (p, cost) in enumerate(zip(predictions, costs, strict=True))]
    return predictions[min(item for item in good if item[1] <= enough)[2]]


def work(survey: Survey, candidate: Candidate) -> int:
    """Amount of work needed to get a layout: 0 nothing, 1 shards in another order, 2 other shards, 3 other chunks."""
    levels, leaf = _shapes(survey.layout)
    if candidate.chunks != leaf:
        return 3
    if candidate.shards != levels:
        return 2
    return 0 if candidate.order is None else 1
