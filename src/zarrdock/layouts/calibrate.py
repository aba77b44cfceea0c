"""How fast this machine decodes the chunks of an array: measured, since codecs differ by a factor of a hundred."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from zarrdock.array.array import Array
from zarrdock.codecs.codec import AnyArray
from zarrdock.layouts.shard_stats import Survey
from zarrdock.stores.base import Read, Results, Store, WrapperStore

__all__ = ["decode_speed"]

# Elements that are decoded to find out: enough for several threads, few enough to be fetched from anywhere.
_NBYTES = 8 * 2**20
_REPEATS = 3


class _Replay(WrapperStore):
    """Answers a request the second time from memory."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._answers: dict[Read, Results] = {}

    def read(self, requests: Sequence[Read], /) -> Results:
        missing = [request for request in requests if request not in self._answers]
        if missing:
            for request, result in zip(missing, self.store.read(missing), strict=True):
                self._answers[request] = [result]
        return [self._answers[request][0] for request in requests]

    def read_lazily(self, requests: Sequence[Read], /) -> Results | None:
        return None


def decode_speed(survey: Survey) -> float | None:
    """Decoded bytes a second, of chunks of one of the array's objects, with as many threads as reads have.

    About 8 MiB of elements, a chunk at least, are read once: a round for the index and one for the chunks.

    Returns:
        None where nothing is stored.

    >>> from zarrdock.layouts.calibrate import decode_speed
    >>> array = zarrdock.create_array({}, data=np.ones((8, 8)), chunks=(2, 2), shards=(4, 4))
    >>> decode_speed(zarrdock.tools.survey(array.store, "", array.metadata)) > 0
    True
    """
    layout = survey.layout
    there = np.argwhere(survey.lengths > 0) if survey.lengths.size else np.empty((0, 0), np.int64)
    if not len(there):
        return None
    itemsize = max(1, layout.dtype.itemsize)
    middle = there[len(there) // 2]
    if layout.levels:
        starts = [int(c) * n for c, n in zip(middle, layout.leaf_shape, strict=True)]
        lengths, limit = list(layout.leaf_shape), layout.levels[-1].sharding.decoded.shape
    else:
        own = layout.at(tuple(map(int, middle)))
        starts = list(layout.starts(tuple(map(int, middle))))
        lengths, limit = list(own.chunk_shape), own.chunk_shape
    # Grown to the end of its shard, the last axis first: chunks of one object lie together.
    for axis in reversed(range(len(lengths))):
        room = limit[axis] - starts[axis] % limit[axis]
        while 2 * int(np.prod(lengths)) * itemsize <= _NBYTES and 2 * lengths[axis] <= room:
            lengths[axis] *= 2
    box = tuple(
        slice(start, min(start + length, n)) for start, length, n in zip(starts, lengths, layout.shape, strict=True)
    )
    replay = _Replay(survey.store)
    array = Array(replay, survey.path, survey.metadata, read_only=True)
    out: AnyArray = array.read(box)
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        array.read(box, out=out)
        times.append(time.perf_counter() - started)
    return max(1, out.nbytes) / max(min(times), 1e-9)
