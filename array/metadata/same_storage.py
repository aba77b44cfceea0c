"""Comparison of two descriptions of an array: do they store chunks alike, by what their documents say?"""

from __future__ import annotations

import json

import numpy as np

from zarrdock.array.metadata.chunk_grids import ChunkGrid, RectilinearGrid
from zarrdock.array.metadata.v2 import to_v2_documents
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.json_ import JSON

__all__ = ["store_alike"]


def store_alike(one: ArrayMetadata, other: ArrayMetadata) -> bool:
    """True where chunks are stored alike: those of either array mean the same in the other one, as far as both reach.
    Shapes and attributes may differ.
    """
    if one.zarr_format != other.zarr_format or not _same_chunks(one.grid, other.grid):
        return False
    same = (one.data_type, one.key_encoding, one.codecs) == (other.data_type, other.key_encoding, other.codecs)
    if same and one.fill_value is other.fill_value:
        return True
    # What is used here need not be what a document can say of it.
    return _told(one) == _told(other)


def _told(metadata: ArrayMetadata) -> dict[str, JSON]:
    """Members of documents that describe the storage of chunks."""
    document = metadata.to_json() if metadata.zarr_format == 3 else to_v2_documents(metadata)[".zarray"]
    apart = ("shape", "chunks", "chunk_grid", "attributes", "dimension_names", *metadata.extra)
    told = {name: value for name, value in document.items() if name not in apart}
    return told | {"fill_value": json.dumps(told["fill_value"])}  # 0.0 is not -0.0


def _same_chunks(one: ChunkGrid, other: ChunkGrid) -> bool:
    """True where chunks of either grid are at the same places, as many as both have: a grid may have grown."""
    if one == other:
        return True
    if not (isinstance(one, RectilinearGrid) and isinstance(other, RectilinearGrid)) or len(one.axes) != len(
        other.axes
    ):
        return False
    axes = zip(one.axes, other.axes, one.bounds(), other.bounds(), strict=True)
    for mine, theirs, a, b in axes:
        if a is None or b is None:
            if mine != theirs:
                return False
            continue
        n = min(len(a), len(b))
        if not np.array_equal(a[:n], b[:n]):
            return False
    return True
