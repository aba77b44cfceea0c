"""Reference documents (kerchunk's): keys whose values are inline, or byte ranges of other files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.stores.base import Entry, Store, check_key
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.open import open_store
from zarrdock.views.base import Document, Part, Place, View

__all__ = ["ReferenceView", "open_reference", "references"]


def references(
    document: Any,
    *,
    storage_options: dict[str, Any] | None = None,
    target_options: dict[str, Any] | None = None,
    remote_protocol: str | None = None,
) -> ReferenceView:
    """A read-only store of the keys in a reference document. Ranges of one file that lie close together are read in
    one request.

    Args:
        document: a dictionary, or the path or URL of a JSON file; version 0 or 1, with templates of plain names.
        storage_options: for the files that are referred to. target_options: for the document.
        remote_protocol: of the files that are referred to by a path alone; local files by default.
    Raises:
        MetadataError: it is no such document.
        UnsupportedError: it generates keys, or refers to files on several services. The URL ``reference://`` reads
            those by fsspec's own filesystem, range by range.
    """
    if not isinstance(document, Mapping):
        with fsspec.open(document, "rb", **(target_options or {})) as file:
            try:
                document = json.load(file)
            except ValueError as error:
                raise MetadataError(f"not JSON: {error}") from error
    if not isinstance(document, Mapping):
        raise MetadataError(expected="an object, a reference document", found=document)
    if document.get("gen"):
        raise UnsupportedError("the document generates keys ('gen'): use the URL reference:// instead")
    is_one = "version" in document
    members = document.get("refs") if is_one else document
    if not isinstance(members, Mapping):
        raise MetadataError(pointer="/refs", expected="an object", found=members)
    templates = document.get("templates", {}) if is_one else {}
    roots: set[str] = set()
    places: dict[str, Place] = {}
    for key, value in members.items():
        if value is not None:
            places[check_key(key)] = _place(key, value, templates, roots, remote_protocol)
    if len(roots) > 1:
        raise UnsupportedError(f"files on several services ({', '.join(sorted(roots))}): use the URL reference://")
    return ReferenceView(open_store(roots.pop() if roots else None, storage_options=storage_options or None), places)


def open_reference(
    url: str, *, storage_options: dict[str, Any] | None = None, read_only: bool = False, **tuning: Any
) -> Store:
    """What the URLs ``reference://`` and ``reference::URL`` open: this view, or fsspec's filesystem where the document
    is one that the view refuses.

    Args:
        storage_options: those of fsspec's filesystem: ``fo``, the document, where the URL does not name it;
            ``target_options`` to reach it; ``remote_protocol`` and ``remote_options`` for the files referred to.
    """
    options = dict(storage_options or {})
    named = url.removeprefix("reference://").removeprefix("reference::")
    document = options.setdefault("fo", named)
    if not document:
        raise UnsupportedError("which document? storage_options={'fo': ...}, or reference::URL")
    if options.keys() <= {"fo", "target_options", "target_protocol", "remote_options", "remote_protocol"}:
        try:
            return references(
                _located(document, options.get("target_protocol")),
                storage_options=options.get("remote_options"),
                target_options=options.get("target_options"),
                remote_protocol=options.get("remote_protocol"),
            )
        except UnsupportedError:
            pass
        except (IsADirectoryError, UnicodeDecodeError):  # tables instead of JSON
            pass
    return FsspecStore(fsspec.filesystem("reference", **options), "", read_only=read_only, **tuning)


def _located(document: Any, protocol: str | None) -> Any:
    if not protocol or not isinstance(document, str) or "://" in document:
        return document
    return f"{protocol}://{document}"


class ReferenceView(View):
    """See :func:`references`. ``store`` is the service that the files are on."""

    name = "references"

    def __init__(self, store: Store, places: dict[str, Place]) -> None:
        super().__init__(store)
        self._places = places

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        return [self._places.get(key) for key in keys]

    def _entries(self, prefix: str) -> Iterator[Entry]:
        start = f"{prefix}/" if prefix else ""
        for key, place in self._places.items():
            if key.startswith(start):
                yield Entry(key, len(place.data) if isinstance(place, Document) else place.length if place else None)


def _place(key: str, value: Any, templates: Mapping[str, Any], roots: set[str], protocol: str | None) -> Place:
    if isinstance(value, str):
        if value.startswith("base64:"):
            return Document(base64.b64decode(value[len("base64:") :]))
        return Document(value.encode())
    if isinstance(value, Mapping):  # a document written as what it is
        return Document(json.dumps(value).encode())
    good = isinstance(value, list) and len(value) in (1, 3) and isinstance(value[0], str)
    if not good or not all(type(n) is int and n >= 0 for n in value[1:]):
        raise MetadataError(f"key {key!r}", expected="text, [url], or [url, offset, length]", found=value)
    url = value[0]
    for name, text in templates.items():
        url = url.replace("{{" + name + "}}", text).replace("{{ " + name + " }}", text)
    if "{{" in url:
        raise UnsupportedError(f"key {key!r} uses a template with arguments: use the URL reference:// instead")
    if protocol and "://" not in url:
        url = f"{protocol}://{url}"
    parts = urlsplit(url)
    if parts.scheme in ("", "file", "local"):
        roots.add("/")
        path = parts.path
    else:
        roots.add(f"{parts.scheme}://{parts.netloc}")
        path = unquote(parts.path) if parts.scheme in ("http", "https") else url.partition(parts.netloc)[2]
    inside = path.lstrip("/")
    return Part(inside, *value[1:]) if len(value) == 3 else Part(inside)
