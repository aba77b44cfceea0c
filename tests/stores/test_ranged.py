import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.errors import RangeError
from zarrdock.ranges import From, Range, Span, Tail, resolve
from zarrdock.stores.diagnose import TruncatedError
from zarrdock.stores.http_ranges import range_header, size_of_content_range, take

DATA = bytes(range(20))
ranges = st.one_of(
    st.none(),
    st.builds(lambda a, n: Span(a, a + n), st.integers(0, 25), st.integers(1, 30)),
    st.builds(From, st.integers(0, 25)),
    st.builds(Tail, st.integers(1, 30)),
)


def serve(data: bytes, header: str | None) -> tuple[bytes, int, str | None]:
    """What a server that follows the standard answers; status 416 has no body."""
    if header is None:
        return data, 200, None
    first, _, last = header.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= stop:
        return b"", 416, f"bytes */{len(data)}"
    return data[start:stop], 206, f"bytes {start}-{stop - 1}/{len(data)}"


@given(range_=ranges, ignored=st.booleans())
def test_right_bytes_from_a_good_server_and_from_one_that_ignores_ranges(range_: Range, ignored: bool) -> None:
    body, status, content_range = serve(DATA, None if ignored else range_header(range_))
    span = resolve(range_, len(DATA))
    if status == 416:
        assert span is None
        return
    if span is None:
        with pytest.raises(RangeError):
            take(body, range_, status=status, content_range=content_range, length=len(body))
    else:
        got = take(body, range_, status=status, content_range=content_range, length=len(body))
        assert got == DATA[span[0] : span[1]]


@given(range_=ranges, cut=st.integers(1, 20), honest=st.booleans())
def test_less_than_asked_for_is_never_handed_on(range_: Range, cut: int, honest: bool) -> None:
    body, status, content_range = serve(DATA, range_header(range_))
    if status == 416:
        return
    short = body[: max(0, len(body) - cut)]
    if honest and short and content_range:  # the header says what came, which is less than what was asked for
        start = int(content_range.split()[1].split("-")[0])
        content_range = f"bytes {start}-{start + len(short) - 1}/20"
        length = len(short)
    else:
        length = len(body)
    if not short and isinstance(range_, Tail):
        length = len(body)
    with pytest.raises(TruncatedError):
        take(short, range_, status=status, content_range=content_range, length=length)


def test_more_than_asked_for_is_cut() -> None:
    got = take(DATA[2:10], Span(4, 6), status=206, content_range="bytes 2-9/20", length=8)
    assert got == DATA[4:6]


def test_a_part_from_elsewhere_is_refused() -> None:
    with pytest.raises(TruncatedError):
        take(DATA[8:10], Span(4, 6), status=206, content_range="bytes 8-9/20", length=2)


@pytest.mark.parametrize("content_range", [None, "", "bytes", "bytes 0--1/0", "bytes x-y/z"])
def test_a_part_that_does_not_say_which_is_refused(content_range: str | None) -> None:
    with pytest.raises(TruncatedError):
        take(b"ab", Span(4, 6), status=206, content_range=content_range, length=2)


def test_a_part_of_an_object_of_unknown_size() -> None:
    assert take(b"ab", Span(4, 6), status=206, content_range="bytes 4-5/*", length=2) == b"ab"
    with pytest.raises(TruncatedError):
        take(b"a", Span(4, 6), status=206, content_range="bytes 4-4/*", length=1)


def test_tail_of_an_empty_object() -> None:
    assert take(b"", Tail(3), status=206, content_range="bytes 0--1/0", length=0) == b""
    assert take(b"", Tail(3), status=200, content_range=None, length=0) == b""


@pytest.mark.parametrize(
    ("text", "size"), [("bytes 1-2/30", 30), ("bytes */7", 7), ("bytes 1-2/*", None), (None, None)]
)
def test_size_from_content_range(text: str | None, size: int | None) -> None:
    assert size_of_content_range(text) == size
