"""Damaged chunks put right from another copy of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.execution.encode_objects import Edit
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import load, node_path
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.selection import basic
from zarrdock.array.planning.tasks import tasks
from zarrdock.checking import Problem, check
from zarrdock.copying.progress import below
from zarrdock.errors import UnsupportedError, ZarrdockError
from zarrdock.repairing import Repair
from zarrdock.stores.base import Buffer, Store, Value, value_parts
from zarrdock.stores.open import open_store

__all__ = ["restore"]

_N_COMPARED = 3


def restore(
    store: Any,
    source: Any,
    *,
    path: str | None = None,
    source_path: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[Repair]:
    """Replace the chunks below a node that cannot be decoded by those of another copy, and nothing else.

    The copy may have other chunks, shards and codecs. Each object is changed in one atomic update; chunks beside a
    damaged one in its shard stay the bytes they are. One that was replaced since it was looked at is left alone.

    Args:
        store: anything :func:`zarrdock.open_store` takes. path: of the node within it.
        source, source_path: the same of the copy.
        storage_options: options of the fsspec filesystem that a URL leads to.
    Returns:
        What was repaired. What could not be is still there for :func:`zarrdock.checking.check` to find.
    Raises:
        NodeNotFoundError: there is no node. UnsupportedError: an array of the copy differs in shape, data type or in
            chunks that are intact, so that it is no copy; the store has no atomic update. ReadOnlyError, StoreError.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=4)
    >>> backup = zarrdock.copy(array, {})
    >>> array.store.write("c/1", b"damaged")
    >>> [one.key for one in zarrdock.tools.restore(array.store, backup.store)]
    ['c/1']
    >>> array[...]
    array([0, 1, 2, 3, 4, 5, 6, 7])
    """
    options = dict(storage_options) if storage_options else None
    opened = open_store(store, storage_options=options)
    other = open_store(source, read_only=True)
    at, from_at = node_path(path), node_path(source_path)
    damaged: dict[str, list[Problem]] = {}
    for problem in check(opened, path=at).problems:
        if problem.severity == "error" and problem.key:
            damaged.setdefault(problem.path, []).append(problem)
    done: list[Repair] = []
    for where, problems in damaged.items():
        relative = where[len(at) + 1 :] if at else where
        done += _restore_array(opened, where, other, below(from_at, relative), problems)
    return done


def _restore_array(store: Store, path: str, other: Store, from_path: str, problems: list[Problem]) -> list[Repair]:
    metadata, from_metadata = (load(s, p, "array", None) for s, p in ((store, path), (other, from_path)))
    assert isinstance(metadata, ArrayMetadata)
    assert isinstance(from_metadata, ArrayMetadata)
    source = Array(other, from_path, from_metadata, read_only=True)
    target = Array(store, path, metadata, read_only=True)
    if source.shape != target.shape or source.dtype != target.dtype:
        raise UnsupportedError(
            f"{source!r} is no copy of {target!r}: {source.shape} {source.dtype}, not {target.shape} {target.dtype}"
        )
    layout = Layout.of(metadata, f"{path}/" if path else "")
    chunks: dict[tuple[str, tuple[int, ...]], list[tuple[int, ...] | None]] = {}
    skip = len(path) + 1 if path else 0
    for problem in problems:
        coords = metadata.key_encoding.parse(problem.key[skip:], metadata.ndim)
        if coords is not None:
            inner = problem.chunk if layout.levels else None
            chunks.setdefault((problem.key, coords), []).append(inner)
    _compare(target, source, {coords for _, coords in chunks})
    done: list[Repair] = []
    for (key, coords), damaged in chunks.items():
        change = _Change(layout, coords, source, None if None in damaged else [c for c in damaged if c is not None])
        blob = store.get(key)
        change.seen = None if blob is None else bytes(blob.data)
        store.update(key, change)
        if change.is_done:
            done.append(Repair(path, key, f"{change.what} taken from {source.store}"))
    return done


def _compare(target: Array, source: Array, damaged: set[tuple[int, ...]]) -> None:
    """Make sure that chunks which are intact are the same in both."""
    n_left = _N_COMPARED
    layout = target._layout
    for coords in np.ndindex(*layout.grid_shape()):
        if coords in damaged:
            continue
        start, shape = layout.starts(coords), layout.at(coords).chunk_shape
        region = tuple(slice(a, min(a + n, m)) for a, n, m in zip(start, shape, target.shape, strict=True))
        try:
            mine, theirs = target[region], source[region]
        except ZarrdockError:
            continue
        same = np.array_equal(mine, theirs, equal_nan=mine.dtype.kind in "fc")
        if not same:
            raise UnsupportedError(f"{source!r} is no copy of {target!r}: they differ in {region}")
        n_left -= 1
        if not n_left:
            return


class _Change:
    """The change of one object: chunks of it, or all of it, read from the source.

    Attributes:
        seen: the object as it was looked at; one that is another by now stays.
        is_done: it was changed.
    """

    seen: bytes | None
    is_done = False

    def __init__(
        self, layout: Layout, coords: tuple[int, ...], source: Array, chunks: list[tuple[int, ...]] | None
    ) -> None:
        own = layout.at(coords)
        self._start = layout.starts(coords)
        # The object as an array of its own, whose chunks are all whole: none is decoded to be completed.
        self._layout = replace(own, shape=own.chunk_shape)
        self._source = source
        first = layout.first_leaf(coords) if layout.levels else ()
        places = None if chunks is None else [[a - b for a, b in zip(one, first, strict=True)] for one in chunks]
        leaf = own.leaf_shape
        self._regions = (
            [tuple(slice(0, n) for n in own.chunk_shape)]
            if places is None
            else [tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, leaf, strict=True)) for place in places]
        )
        self._is_whole = places is None
        n = len(self._regions)
        self.what = "all of it was" if self._is_whole else f"{n} of its chunks {'was' if n == 1 else 'were'}"
        self._edits = [self._edit(region) for region in self._regions]

    def _edit(self, region: tuple[slice, ...]) -> tuple[Edit, Any]:
        shape = tuple(part.stop - part.start for part in region)
        value: Any = np.empty(shape, self._layout.dtype)
        value[...] = self._layout.fill_value
        there = tuple(
            slice(start + part.start, max(start + part.start, min(start + part.stop, n)))
            for start, part, n in zip(self._start, region, self._source.shape, strict=True)
        )
        value[tuple(slice(0, part.stop - part.start) for part in there)] = self._source[there]
        (task,) = tasks(basic(region, self._layout.shape), self._layout)
        return Edit(self._layout, value), task

    def __call__(self, old: Buffer | None) -> Value | None:
        self.is_done = False
        if old is None or self.seen is None or bytes(old) != self.seen:
            return old
        self.is_done = True
        if self._is_whole:
            edit, task = self._edits[0]
            return edit.build(task)
        new: Buffer = old
        for edit, task in self._edits:
            parts = edit.apply([edit.prepare(task)], new, task)
            if parts is None:
                return None
            new = b"".join(bytes(part) for part in value_parts(parts))
        return new
