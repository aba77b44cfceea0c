"""Consolidated metadata: the metadata of a whole hierarchy in one document.

v3: the member ``consolidated_metadata`` of the root group's ``zarr.json``; v2: ``.zmetadata``. Neither is part of the
specifications: both are as zarr-python writes them. They are copies, and can be out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zarrdock.array.metadata.nodes import LazyNodes, below
from zarrdock.array.metadata.v2 import array_v2_from_json, group_v2_from_json, to_v2_documents
from zarrdock.array.metadata.v3 import GroupMetadata, Node, inline_to_json, parse_inline
from zarrdock.errors import MetadataError
from zarrdock.json_ import JSON, expect_object, in_document, loads, pointer_to

__all__ = ["below", "consolidate", "inline_to_json", "parse_consolidated_v2", "parse_inline", "to_consolidated_v2"]

_NAMES = (".zarray", ".zgroup", ".zattrs")


def consolidate(root: GroupMetadata, nodes: Mapping[str, Node]) -> GroupMetadata:
    """The root group, with the metadata of the nodes below it.

    Groups that ``nodes`` implies but does not have are added, empty: zarr-python can't open a hierarchy that has gaps.

    Args:
        nodes: path relative to the root ("a/b") to metadata, all of the root's format.
    Raises:
        MetadataError: a node below an array, or of the other format.
    """
    complete: dict[str, Node] = {}
    for path, node in nodes.items():
        if node.zarr_format != root.zarr_format:
            raise MetadataError(f"node {path!r}", expected=f"zarr_format {root.zarr_format}", found=node.zarr_format)
        complete[path] = node.replace(consolidated=None) if isinstance(node, GroupMetadata) else node
    for path in nodes:
        parts = path.split("/")
        for n in range(1, len(parts)):
            parent = "/".join(parts[:n])
            node = complete.setdefault(parent, GroupMetadata(zarr_format=root.zarr_format))
            if not isinstance(node, GroupMetadata):
                raise MetadataError(f"node {path!r}", expected=f"a group at {parent!r}", found="an array")
    return root.replace(consolidated=complete)


def parse_consolidated_v2(document: bytes | bytearray | memoryview, key: str = ".zmetadata") -> Node:
    """The root of a ``.zmetadata`` document: a group with all nodes below it in ``consolidated``, or an array.

    Raises:
        MetadataError: it is wrong as a whole, or where it describes the root. Another wrong node is reported when it is
            looked up.

    Source: zarr-python, ``zarr_consolidated_format`` 1.
    """
    with in_document(key):
        members = expect_object(loads(document), expected="an object, the consolidated metadata of a hierarchy")
        found = members.get("zarr_consolidated_format")
        if type(found) is not int or found != 1:
            raise MetadataError(pointer="/zarr_consolidated_format", expected="1", found=found)
        metadata = expect_object(members.get("metadata"), "/metadata")
        nodes: dict[str, dict[str, JSON]] = {}
        for path, value in metadata.items():
            folder, _, name = path.rpartition("/")
            if name in _NAMES:
                nodes.setdefault(folder, {})[name] = value
        root = nodes.pop("", {})
        if ".zarray" not in root and ".zgroup" not in root:
            raise MetadataError(pointer="/metadata", expected="a member '.zgroup' or '.zarray'", found=sorted(metadata))
        node = _v2_node("", root)
    # Attributes of no node: left by writers that delete a node and forget them.
    kept = {path: parts for path, parts in nodes.items() if ".zarray" in parts or ".zgroup" in parts}
    return node.replace(consolidated=LazyNodes(kept, _v2_node, key)) if isinstance(node, GroupMetadata) else node


def to_consolidated_v2(root: GroupMetadata) -> dict[str, Any]:
    """The document ``.zmetadata`` of a group with ``consolidated`` nodes; nodes by depth, then by name."""
    metadata: dict[str, Any] = dict(to_v2_documents(root))
    nodes = root.consolidated or {}
    for path in sorted(nodes, key=lambda path: (path.count("/"), path)):
        stored = nodes.document(path) if isinstance(nodes, LazyNodes) else to_v2_documents(nodes[path])
        for name, document in stored.items():
            metadata[f"{path}/{name}"] = document
    return {"zarr_consolidated_format": 1, "metadata": metadata}


def _v2_node(path: str, stored: dict[str, JSON]) -> Node:
    name = ".zarray" if ".zarray" in stored else ".zgroup"
    place = f"{path}/" if path else ""
    at = pointer_to("/metadata", place + ".zattrs")
    attributes = expect_object(stored.get(".zattrs", {}), at, "an object, the attributes")
    try:
        if name == ".zarray":
            return array_v2_from_json(stored[name], attributes, lenient=True)
        return group_v2_from_json(stored[name], attributes)
    except MetadataError as error:
        raise error.below(pointer_to("/metadata", place + name)) from error.__cause__
