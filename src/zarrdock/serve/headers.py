"""HTTP headers for ranges, tags and listings. Pure functions, no I/O."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from urllib.parse import quote

from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Listing

__all__ = ["CORS", "listing_html", "listing_json", "multipart", "parse_ranges", "tag_matches"]

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-Match, If-None-Match, If-Range",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag",
    "Access-Control-Max-Age": "86400",
}

MAX_RANGES = 256
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


def parse_ranges(header: str | None) -> list[Range] | None:
    """The ranges of a Range header; None where there is none, or one that is to be ignored.

    Source: RFC 9110, 14.1 and 14.2.
    """
    unit, _, text = (header or "").partition("=")
    if unit.strip().lower() != "bytes":
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found: list[Range] = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or match[0] == "-":
            return None
        first, last = match.groups()
        if not first:
            found.append(Tail(int(last)))
        elif not last:
            found.append(From(int(first)))
        elif int(last) < int(first):
            return None
        else:
            found.append(Span(int(first), int(last) + 1))
    return found if 0 < len(found) <= MAX_RANGES else None


def tag_matches(header: str, tag: str | None, *, weak: bool) -> bool:
    """True if an If-Match (``weak=False``) or If-None-Match header names a tag.

    Source: RFC 9110, 8.8.3.2.
    """
    names = [name.strip() for name in header.split(",")]
    if "*" in names:
        return True
    if weak:
        names = [name.removeprefix("W/") for name in names]
    return tag is not None and tag in names


def multipart(parts: Sequence[tuple[int, bytes]], size: int, boundary: str, content_type: str) -> bytes:
    """The body of an answer to several ranges: (start, bytes) of each."""
    pieces: list[bytes] = []
    for start, data in parts:
        head = (
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: bytes {start}-{start + len(data) - 1}/{size}\r\n\r\n"
        )
        pieces += [head.encode(), data]
    return b"".join(pieces) + f"\r\n--{boundary}--\r\n".encode()


def listing_json(listing: Listing) -> str:
    """Names right below a folder."""
    return json.dumps({"keys": listing.keys, "prefixes": listing.prefixes})


def listing_html(prefix: str, listing: Listing) -> str:
    """The same as links, for people and for clients that look for them."""
    names = [f"{name}/" for name in listing.prefixes] + list(listing.keys)
    up = ['<li><a href="../">../</a></li>'] if prefix else []
    # Without "./", which fsspec takes for part of a name. A colon is quoted: the name would be taken for a URL.
    links = "\n".join(up + [f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names])
    title = html.escape(f"/{prefix}")
    return f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{links}\n</ul>\n'
