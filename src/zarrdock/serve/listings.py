"""Headers for other origins, and listings as JSON and HTML. Pure functions, no I/O."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

from zarrdock.stores.base import Listing

__all__ = ["CORS", "listing_html", "listing_json"]

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-Match, If-None-Match, If-Range",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Encoding, Content-Length, Content-Range, ETag",
    "Access-Control-Max-Age": "86400",
}


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
