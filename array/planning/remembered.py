"""What was parsed and bound before, for arrays that are opened again. Opening is little else: a document that was seen
before takes a third of the time.
"""

from __future__ import annotations

import copy
from typing import Any

from zarrdock.array.metadata.v3 import ArrayMetadata, Node, parse_node
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.sharding import ShardOptions, with_options
from zarrdock.registry import Registry

__all__ = ["layout_of", "parse"]

# Documents, and layouts, that are remembered, and how long a document may be.
_MOST = 64
_MAX_NBYTES = 2**14

_DEFAULT = ShardOptions()

_nodes: dict[tuple[bytes, int], ArrayMetadata] = {}
# By the identity of what they were made of, which the metadata kept with them keeps from being anybody else's.
_layouts: dict[tuple[Any, ...], tuple[ArrayMetadata, Layout]] = {}


def parse(document: bytes | bytearray | memoryview, key: str, *, lenient: bool) -> Node:
    """See :func:`zarrdock.array.metadata.v3.parse_node`. Attributes are nobody else's, ready to be changed."""
    if len(document) > _MAX_NBYTES:
        return parse_node(document, key, lenient=lenient)
    seen = bytes(document), Registry.n_added  # a name may stand for another codec by now
    known = _nodes.get(seen)
    if known is None:
        node = parse_node(document, key, lenient=lenient)
        if not isinstance(node, ArrayMetadata) or node.unknown or node.extra or node.dtype.kind not in "biufcmM":
            return node
        if len(_nodes) >= _MOST:
            _nodes.clear()
        known = _nodes[seen] = node
    return known.replace(attributes=copy.deepcopy(dict(known.attributes)))


def layout_of(metadata: ArrayMetadata, prefix: str, options: ShardOptions) -> Layout:
    """See :meth:`Layout.of`."""
    if options != _DEFAULT:
        return Layout.of(metadata, prefix, with_options(metadata.codecs, options))
    parts = metadata.codecs, metadata.grid, metadata.data_type, metadata.fill_value, metadata.key_encoding
    seen = (*map(id, parts), metadata.shape, prefix)
    known = _layouts.get(seen)
    if known is None:
        layout = Layout.of(metadata, prefix, with_options(metadata.codecs, options))
        if len(_layouts) >= _MOST:
            _layouts.clear()
        known = _layouts[seen] = metadata, layout
    return known[1]
