"""URLs of local files (RFC 8089), and URLs of places within places: ``s3://bucket/a.zip|zip:inner|zarr3:``.

Sources: RFC 8089; ZEP 8, "URL syntax", and the drafts that grew out of it. Each part of a pipeline is a URL
by itself, in which what no URL may hold is percent-encoded; ``|`` is none of a URL's characters.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn
from urllib.parse import quote, unquote_to_bytes

from zarrdock.errors import UnsupportedError
from zarrdock.stores.windows_files import IS_WINDOWS

__all__ = ["Pipeline", "below", "encoded", "parse_pipeline", "path_of_file_url", "pipeline_url", "sub_url"]

# The last ones name a format, not a place.
_PLACES = ("zip", "icechunk", "..")
_FORMATS: dict[str, Literal[2, 3] | None] = {"zarr2": 2, "zarr3": 3, "zarr": None}

_SUB_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*|\.\.)(?P<path>:.*)?", re.DOTALL)
_BASE = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]+:(?://[^/?]*)?|)(?P<path>[^?]*)(?:\?.*)?", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters at least: "C:\\data" is a path
_FILE = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>.*)", re.IGNORECASE | re.DOTALL)
# fsspec takes these for the beginning of a path; no host is called so.
_NO_HOSTS = {".", "..", "~"}
# All that a path may hold in a URL besides letters and digits (RFC 3986, pchar).
_SAFE = "/!$&'()*+,;=:@"


def encoded(path: str) -> str:
    """A path with all percent-encoded that a URL's path cannot hold.

    >>> encoded("a b/100%")
    'a%20b/100%25'
    """
    return quote(os.fsencode(path), safe=_SAFE)


def _decoded(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))


def path_of_file_url(text: str) -> str | None:
    """Local path that a ``file:`` URL names; None for all else.

    ``file:///data/a``, ``file:/data/a`` and ``file://localhost/data/a`` are ``/data/a``; ``file:a``, which the RFC
    leaves out, is relative to the folder of the process, as fsspec has it. On Windows a host is the server of a share.

    Raises:
        UnsupportedError: the file is on another host.

    >>> path_of_file_url("file:///data/a%20b"), path_of_file_url("file:rel"), path_of_file_url("s3://bucket")
    ('/data/a b', 'rel', None)
    """
    found = _FILE.fullmatch(text)
    if found is None:
        return None
    host, path = found["host"] or "", _decoded(found["path"])
    if host in _NO_HOSTS:
        path = os.path.expanduser(f"{host}{path}")
    elif IS_WINDOWS and re.fullmatch("[A-Za-z]:", host):
        path = f"{host}{path}"
    elif host.lower() not in ("", "localhost"):
        if not IS_WINDOWS:
            raise UnsupportedError(
                f"{text}: {host!r} stands where a URL has the host, and files of other hosts cannot be opened; "
                f"write file:{host}{found['path']} for a path from here, or three slashes before one from the root"
            )
        path = f"//{host}{path}"
    if IS_WINDOWS and re.match("/[A-Za-z]:", path):
        path = path[1:]
    if not path or "\0" in path:
        raise UnsupportedError(f"not a path or URL: {text!r}")
    return path


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A URL pipeline, taken apart, with every ``..:`` resolved.

    Attributes:
        base: URL or path of the outermost place, as :func:`zarrdock.open_store` takes it.
        adapters: scheme and decoded path of each further part, the outer ones first.
    """

    base: str
    adapters: tuple[tuple[str, str], ...]

    @property
    def zarr_format(self) -> Literal[2, 3] | None:
        """Version of the format that the pipeline names."""
        return _FORMATS.get(self.adapters[-1][0]) if self.adapters else None


def parse_pipeline(text: str) -> Pipeline | None:
    """The parts of a URL pipeline; None for text that is none: a path with ``|`` in it, a single URL.

    Raises:
        UnsupportedError: an unknown scheme, ``..:`` that leads out of the pipeline, a format that is not at the end.

    >>> parse_pipeline("s3://bucket/a.zip|zip:in%20it|zarr3:")
    Pipeline(base='s3://bucket/a.zip', adapters=(('zip', 'in it'), ('zarr3', '')))
    """
    base, *rest = text.split("|")
    found = [_SUB_URL.fullmatch(sub_url) for sub_url in rest]
    if not rest or not base or None in found:
        return None
    subs = [(match["scheme"].lower(), match["path"]) for match in found if match is not None]
    is_url = _SCHEME.match(base) is not None
    strange = next(((scheme, path) for scheme, path in subs if scheme not in (*_PLACES, *_FORMATS)), None)
    if not is_url and os.path.lexists(text):
        return None
    if strange is not None:
        # A local file may be called so: not one in a file, or in what only looks like the beginning of its name.
        if strange[1] is None or not (is_url or os.path.lexists(base)):
            return None
        known = (*_PLACES, *_FORMATS)
        close = difflib.get_close_matches(strange[0], known, n=1)
        hint = f"did you mean {close[0]}:?" if close else f"known are {', '.join(f'{name}:' for name in known)}"
        _refuse(text, f"{strange[0]}: is no scheme of a place within a place; {hint}")
    adapters: list[tuple[str, str]] = []
    for scheme, raw in subs:
        path = (raw or ":")[1:]
        if "?" in path or "#" in path:
            _refuse(text, f"{scheme}: takes neither query nor fragment; of a name write %3F for ? and %23 for #")
        if scheme != "..":
            adapters.append((scheme, path))
            continue
        if not adapters:
            _refuse(text, "..: leads out of the pipeline")
        adapters.pop()
        if adapters:
            adapters[-1] = (adapters[-1][0], _resolved(adapters[-1][1], path))
        else:
            base = _resolved_base(base, path)
    if any(scheme in _FORMATS for scheme, _ in adapters[:-1]):
        _refuse(text, "nothing can follow the format of the node")
    return Pipeline(_base_of(base, text), tuple((scheme, _decoded(path)) for scheme, path in adapters))


def pipeline_url(sub_urls: Sequence[str], zarr_format: int | None) -> str:
    """The pipeline of these sub-URLs, with the format of a node at its end."""
    if zarr_format is not None:
        return "|".join((*sub_urls, f"zarr{zarr_format}:"))
    base = sub_urls[0]
    if len(sub_urls) == 1 and _base_of(base, base) != base:
        # Alone it would be read as fsspec reads it, percent signs and all.
        return f"{base}|zarr:"
    return "|".join(sub_urls)


def below(url: str, path: str) -> str:
    """The URL of ``path`` in the folder at a URL.

    >>> below("memory://", "a"), below("s3://bucket/", "a")
    ('memory:///a', 's3://bucket/a')
    """
    if not path:
        return url
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rstrip('/')}/{path}"


def sub_url(url: str, path: str) -> str:
    """The outermost part of a pipeline for a folder below an fsspec URL, whose path is as it is.

    >>> sub_url("s3://bucket/a b", "c")
    's3://bucket/a%20b/c'
    """
    joined = below(url, path)
    scheme, mark, rest = joined.partition("://")
    if not mark or "::" in joined:
        if "|" in joined:
            raise UnsupportedError(f"{joined}: no URL can be written for a name with | in it here")
        return joined
    return f"{scheme}://{encoded(rest)}"


def _refuse(text: str, message: str) -> NoReturn:
    from zarrdock.stores.diagnose import redact  # it loads asyncio

    raise UnsupportedError(f"{redact(text)}: {message}")


def _resolved(path: str, relative: str) -> str:
    """A relative reference, seen from a path (RFC 3986, 5.2)."""
    if not relative:
        return path
    joined = relative if relative.startswith("/") else posixpath.join(posixpath.dirname(path), relative)
    # It cannot climb above the root.
    normal = posixpath.normpath(f"/{joined}").lstrip("/")
    return f"/{normal}" if joined.startswith("/") else normal


def _resolved_base(base: str, relative: str) -> str:
    match = _BASE.fullmatch(base)
    assert match is not None
    path = match["path"]
    if not match["before"]:
        return _resolved(path, _decoded(relative))  # a path, in which nothing is encoded
    return match["before"] + _resolved(path, relative)


def _base_of(base: str, text: str) -> str:
    """The base as open_store takes it: URLs of fsspec have their paths as they are."""
    scheme, colon, rest = base.partition(":")
    if "::" in base or not colon or not _SCHEME.match(base):
        return base
    scheme = scheme.lower()
    if scheme in ("file", "http", "https"):
        return base
    if not rest.startswith("//"):
        if scheme != "memory":
            _refuse(text, f"a URL of {scheme} begins with {scheme}://")
        rest = f"//{rest}"
    return f"{scheme}:{_decoded(rest)}"
