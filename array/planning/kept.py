"""Chunks that were kept decoded: found again, and their object's version confirmed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from zarrdock.array.planning.index_cache import Indexes
from zarrdock.array.planning.pieces import Leaves, Task
from zarrdock.array.planning.reading import Asked, ReadSettings
from zarrdock.array.planning.sink import Found, IntArray, Sink
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Result, Version

__all__ = ["Keep", "Wanted", "confirm", "kept_whole", "split_kept"]

# The leaves of one innermost shard, which of them are wanted, where in the object those begin, how long they are.
Wanted: TypeAlias = tuple[Leaves, IntArray, IntArray, IntArray]


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of an object that was read whole: the version of it, and the indexes found in it."""

    version: Version
    indexes: Indexes = field(default_factory=dict)


def kept_whole(task: Task, settings: ReadSettings, sink: Sink) -> Generator[Asked, list[Result], bool]:
    """An object that is one chunk, if it was kept decoded and is still the same."""
    known = settings.cache.get(task.key)
    if known is None or settings.chunks is None:
        return False
    (chunk,) = settings.chunks.get(task.key, known[0], (0,))
    if chunk is None or not (yield from confirm(task, known[0])):
        settings.cache.drop(task.key)
        return False
    settings.note(task.key, known[0])
    zero = np.zeros(1, np.int64)
    leaves = task.pieces.leaves((1,) * len(task.layout.shape))
    sink.data(Found(task, leaves, zero, [], zero, zero, zero, [chunk]))
    return True


def confirm(task: Task, version: Version | None) -> Generator[Asked, list[Result], bool]:
    """Whether an object is still of a version that all that is kept of it comes from: one byte is asked for."""
    (answer,) = yield Asked([Read(task.key, Span(0, 1), version)], True, 1)
    return isinstance(answer, Blob)


def split_kept(
    task: Task, wanted: list[Wanted], version: Version, settings: ReadSettings
) -> tuple[list[Wanted], list[Found]]:
    """What has to be read of the leaves wanted, and those that were kept decoded."""
    assert settings.chunks is not None
    missing: list[Wanted] = []
    kept: list[Found] = []
    for leaves, numbers, starts, lengths in wanted:
        chunks = settings.chunks.get(task.key, version, starts.tolist())
        here = np.fromiter((chunk is not None for chunk in chunks), bool, len(chunks))
        if here.any():
            zeros = np.zeros(int(here.sum()), np.int64)
            decoded = [chunk for chunk in chunks if chunk is not None]
            kept.append(Found(task, leaves, numbers[here], [], zeros, zeros, zeros, decoded))
        if not here.all():
            missing.append((leaves, numbers[~here], starts[~here], lengths[~here]))
    return missing, kept
