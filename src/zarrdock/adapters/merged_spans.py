"""Many spans of one object in few requests, for readers who ask for them one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zarrdock.errors import VersionChangedError
from zarrdock.ranges import Span, merge
from zarrdock.stores.base import Blob, Read, Result, Store

__all__ = ["MergedSpans"]


class MergedSpans:
    """The reads for many spans of one value, and how the spans are taken out of the answers.

    Args:
        spans: (start, stop) of each, in bytes.
    """

    def __init__(self, store: Store, key: str, spans: Sequence[tuple[int, int]]) -> None:
        self._where = {"key": key, "store": store}
        starts, stops = np.array(spans, np.int64).reshape(-1, 2).T
        self._lengths = (stops - starts).tolist()
        traits = store.traits
        self._merged = merge(
            starts, stops - starts, gap_bytes=traits.merge_gap_bytes, max_bytes=traits.max_request_bytes
        )
        bounds = zip(self._merged.starts.tolist(), self._merged.stops.tolist(), strict=True)
        self.reads = [Read(key, Span(a, b)) for a, b in bounds]

    def take(self, results: Sequence[Result]) -> list[memoryview | None]:
        """The spans in the order they were given; None where there is no such key.

        Args:
            results: of the reads, first of all others of the same object.
        Raises:
            VersionChangedError: not all results are of one version.
        """
        if len({result.version for result in results if isinstance(result, Blob)}) > 1:
            raise VersionChangedError("replaced while parts of it were read", **self._where)  # type: ignore[arg-type]
        found: list[memoryview | None] = []
        places = zip(self._merged.request.tolist(), self._merged.offset.tolist(), self._lengths, strict=True)
        for request, offset, length in places:
            result = results[request]
            if isinstance(result, VersionChangedError):
                raise result
            found.append(memoryview(result.data)[offset : offset + length] if result is not None else None)
        return found
