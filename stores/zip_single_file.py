"""Single-file OME-Zarr (``.ozx``): the archive's comment, and the order of its entries.

Source: RFC-9 of OME-NGFF, with the comment's ``jsonFirst`` as its later versions have it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zarrdock.errors import MetadataError
from zarrdock.json_ import loads

__all__ = ["ROOT", "document_order", "has_documents_first", "is_single_file", "single_file_comment"]

ROOT = "zarr.json"


def is_single_file(path: str) -> bool:
    """True for a path that ends in ``.ozx``."""
    return path.lower().endswith(".ozx")


def document_order(name: str | None) -> tuple[bool, int]:
    """Key to sort entries by: ``zarr.json`` files first, those of outer nodes before those of inner ones."""
    is_document = name is not None and (name == ROOT or name.endswith(f"/{ROOT}"))
    return not is_document, name.count("/") if name is not None and is_document else 0


def has_documents_first(names: Sequence[str | None]) -> bool:
    """True where entries of these names, in this order, begin with all ``zarr.json`` files, breadth first."""
    order = [*map(document_order, names)]
    return bool(names) and names[0] == ROOT and order == sorted(order)


def single_file_comment(root: bytes | None, old: bytes, *, json_first: bool) -> bytes:
    """The comment of an archive.

    Args:
        root: the document of the root, if there is one.
        old: the comment there is; other programs' words in it are kept.
        json_first: all documents stand first, in the file and in its directory.

    >>> single_file_comment(b'{"attributes": {"ome": {"version": "0.5"}}}', b"", json_first=True).decode()
    '{"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": true}}}}'
    """
    told = _object(old)
    version = _version(root)
    if version is None:
        if "ome" not in told:
            return old
        del told["ome"]
        return json.dumps(told, ensure_ascii=False).encode() if told else b""
    ome: dict[str, Any] = told["ome"] if isinstance(told.get("ome"), dict) else {}
    ome.pop("zipFile", None)
    ome["version"] = version
    if json_first:
        ome["zipFile"] = {"centralDirectory": {"jsonFirst": True}}
    return json.dumps({**told, "ome": ome}, ensure_ascii=False).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data.rstrip(b"\0") or b"{}")  # early versions ended it with a null
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _version(root: bytes | None) -> str | None:
    found: Any = None
    if root is not None:
        try:
            found = loads(root)
        except MetadataError:
            return None
    for name in ("attributes", "ome", "version"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None
