"""Byte ranges and their merging."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from zarrdock.ranges import From, Span, Tail, is_empty, merge, resolve

DATA = bytes(range(100))


@given(st.integers(0, 100), st.integers(0, 120), st.integers(0, 120))
def test_resolving_is_slicing(size: int, a: int, b: int) -> None:
    data = DATA[:size]
    assert resolve(None, size) == (0, size)
    assert data[slice(*resolve(Tail(a), size))] == (data[-a:] if a else b"")  # type: ignore[misc]
    start, stop = min(a, b), max(a, b)
    for wanted, bytes_ in ((Span(start, stop), data[start:stop]), (From(start), data[start:])):
        found = resolve(wanted, size)
        if found is None:
            assert start >= size
            assert not is_empty(wanted)
        else:
            assert 0 <= found[0] <= found[1] <= size
            assert data[slice(*found)] == bytes_


def test_what_is_no_range_is_refused() -> None:
    for wrong in (lambda: Span(-1, 3), lambda: Span(3, 2), lambda: From(-1), lambda: Tail(-1)):
        with pytest.raises(ValueError, match="not a"):
            wrong()


def test_empty_ranges() -> None:
    assert [is_empty(r) for r in (Span(3, 3), Tail(0), Span(3, 4), Tail(1), From(0), None)] == [
        *(True, True),
        *(False, False, False, False),
    ]
    assert resolve(Span(7, 7), 3) == (3, 3)


SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=30)


@given(SPANS, st.integers(0, 60), st.none() | st.integers(1, 200))
def test_every_span_is_in_its_request(spans: Any, gap: int, max_bytes: int | None) -> None:
    starts = np.array([s for s, _ in spans], np.int64)
    lengths = np.array([n for _, n in spans], np.int64)
    merged = merge(starts, lengths, gap_bytes=gap, max_bytes=max_bytes)
    assert len(merged.request) == len(merged.offset) == len(spans)
    for (start, length), request, offset in zip(spans, merged.request, merged.offset, strict=True):
        assert merged.starts[request] + offset == start
        assert start + length <= merged.stops[request]
    assert (merged.starts[1:] >= merged.stops[:-1]).all()  # ascending, disjoint
    assert merged.nbytes == sum(merged.stops - merged.starts)
    # No byte is asked for that is neither wanted nor in a gap that was allowed.
    wanted = np.zeros(400, bool)
    for start, length in spans:
        wanted[start : start + length] = True
    empty = {start for start, length in spans if not length}  # neighbours like any other: gaps are counted from them
    for start, stop in zip(merged.starts.tolist(), merged.stops.tolist(), strict=True):
        run = 0
        for byte in range(start, stop):
            run = 0 if wanted[byte] else (0 if byte in empty else run) + 1
            assert run <= gap
    if max_bytes is None:  # neighbours that could have been merged were
        assert (merged.starts[1:] > merged.stops[:-1] + gap).all()
    else:
        longest = max((n for _, n in spans), default=0)
        for request, (start, stop) in enumerate(zip(merged.starts, merged.stops, strict=True)):
            mine = [(s, s + n) for (s, n), r in zip(spans, merged.request, strict=True) if r == request]
            assert stop - start <= max(max_bytes, longest) or overlapping(mine)


def overlapping(spans: list[tuple[int, int]]) -> bool:
    spans = sorted(spans)
    return any(b[0] < a[1] for a, b in pairwise(spans))


def test_merging_by_example() -> None:
    merged = merge(np.array([100, 0, 12, 100]), np.array([5, 10, 10, 7]), gap_bytes=2)
    assert merged.starts.tolist() == [0, 100]
    assert merged.stops.tolist() == [22, 107]
    assert merged.request.tolist() == [1, 0, 0, 1]
    assert merged.offset.tolist() == [0, 0, 12, 0]
    split = merge(np.arange(0, 100, 10), np.full(10, 10), max_bytes=25)
    assert (split.stops - split.starts).tolist() == [20] * 5
    assert len(merge(np.empty(0, np.int64), np.empty(0, np.int64)).starts) == 0
