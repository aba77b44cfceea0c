"""One element of an array, without a plan: what single-element reads cost is Python, so they have a path of their own.

The same rules hold as for every read: a cached index is used only with the version it came from, and whatever is out of
the ordinary (several levels of shards, a version that changed, a damaged shard) is left to the steps, which know what
to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from zarrdock.array.planning.chunk_cache import ROOT, IndexCache
from zarrdock.array.planning.chunk_parts import decode_block, element_of, pays
from zarrdock.array.planning.layout import Layout
from zarrdock.config import config
from zarrdock.errors import CodecError, RangeError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Store, Version

__all__ = ["ELSEWHERE", "read_element"]

#: Returned where the steps have to do it.
ELSEWHERE: Final = object()


def read_element(
    store: Store, layout: Layout, coords: tuple[int, ...], cache: IndexCache, nothing: Callable[[], None]
) -> Any:
    """The element at ``coords`` (within the array, not negative) as a numpy scalar, or ``ELSEWHERE``. ``nothing`` is
    called where its object is not stored.
    """
    if len(layout.levels) > 1 or layout.irregular is not None:
        return ELSEWHERE
    chunks = cache.chunks
    place = tuple([c // n for c, n in zip(coords, layout.chunk_shape, strict=True)])
    key = layout.key(place)
    leaf = layout.leaf_shape
    block = None
    if chunks is None:
        local = tuple([c % n for c, n in zip(coords, leaf, strict=True)])
        block = element_of(local, layout.leaf, store.traits.merge_gap_bytes)
        if layout.leaf.framed is not None and pays(layout.leaf, layout.dtype.itemsize, store.traits):
            return ELSEWHERE
    if not layout.levels:
        if chunks is not None:
            return ELSEWHERE
        try:
            result = store.read([Read(key, None if block is None else block.span)])[0]
        except RangeError:
            return ELSEWHERE
    else:
        cached = cache.get(key)
        sharding = layout.levels[0].sharding
        if cached is None:
            if store.traits.remote and config.whole_fraction * layout.n_leaves_in(place) <= 1:
                return ELSEWHERE  # the one chunk of its shard: better read whole
            try:
                (found,) = store.read([Read(key, sharding.layout.range)])
            except RangeError:
                return ELSEWHERE
            if found is None:
                return _fill(layout, nothing)
            if not isinstance(found, Blob):
                return ELSEWHERE
            try:
                index = sharding.layout.parse(found.data)
            except CodecError as error:
                raise error.at(key=key) from error.__cause__
            version = found.version
            cache.put(key, version, {ROOT: index})
        else:
            version = cached[0]
            index = cached[1][ROOT]
        flat = 0
        for c, n, grid in zip(coords, leaf, sharding.grid, strict=True):
            flat = flat * grid + c // n % grid
        start = int(index.offsets[flat])
        if start < 0:
            # An old index can't vouch for an empty chunk: no data read would confirm its version.
            return layout.fill_scalar if cached is None and not layout.missing_is_error else ELSEWHERE
        if chunks is not None and (kept := chunks.get(key, version, (start,))[0]) is not None:
            if cached is not None and not _is_still(store, key, version):
                cache.drop(key)
                return ELSEWHERE
            return kept[tuple([c % n for c, n in zip(coords, leaf, strict=True)])]
        stop = start + int(index.lengths[flat])
        if block is not None:
            if stop - start != layout.leaf.spec.nbytes:
                return ELSEWHERE
            start, stop = start + block.span.start, start + block.span.stop
        try:
            result = store.read([Read(key, Span(start, stop), version)])[0]
        except RangeError:
            return ELSEWHERE
        if not isinstance(result, Blob) or len(result.data) != stop - start:
            cache.drop(key)
            return ELSEWHERE
    if result is None:
        return _fill(layout, nothing) if cache.other_keys is None else ELSEWHERE
    if not isinstance(result, Blob):
        return ELSEWHERE
    try:
        if block is not None:
            if len(result.data) != layout.dtype.itemsize:
                return ELSEWHERE
            return decode_block(layout.leaf, block.shape, result.data).reshape(-1)[0]
        chunk = layout.leaf.decode(result.data)
        if chunks is not None:
            chunks.put(key, result.version, [(start, chunk)])
        return chunk[tuple([c % n for c, n in zip(coords, leaf, strict=True)])]
    except CodecError as error:
        inner = (
            tuple(c // n % g for c, n, g in zip(coords, leaf, layout.levels[0].sharding.grid, strict=True))
            if layout.levels
            else None
        )
        raise error.at(key=key, chunk=inner) from error


def _fill(layout: Layout, nothing: Callable[[], None]) -> Any:
    if layout.missing_is_error:
        return ELSEWHERE
    nothing()
    return layout.fill_scalar


def _is_still(store: Store, key: str, version: Version | None) -> bool:
    """True if an object still has that version; asks for one byte."""
    try:
        return isinstance(store.read([Read(key, Span(0, 1), version)])[0], Blob)
    except RangeError:  # empty now
        return False
