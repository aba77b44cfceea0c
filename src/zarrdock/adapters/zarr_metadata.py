"""zarrdock's metadata of an array of zarr-python, and the reasons why there may be none.

zarr-python's registries can give any name an implementation of the user's. An array is taken over only where zarrdock
would do with every name what zarr-python does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

from zarr.codecs import ShardingCodec

from zarrdock.array.metadata.v2 import parse_array_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, parse_node
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.builtin import CODECS
from zarrdock.codecs.chunk_order import Order
from zarrdock.codecs.numcodecs_foreign import ForeignCompressor
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.stores.identity import class_name

__all__ = ["StandsBackError", "metadata_of", "write_order"]


class StandsBackError(Exception):
    """An array, or a place, that is left to zarr-python; the text says why."""


def metadata_of(metadata: Any) -> ArrayMetadata:
    """The metadata of an array, parsed and bound by zarrdock.

    Args:
        metadata: ArrayV2Metadata or ArrayV3Metadata of zarr-python.
    Raises:
        StandsBackError: zarrdock cannot read such an array, or would read it with other code than the user's.
    """
    # Not to_buffer_dict: it refuses what may not be stored now, but was when the array was opened.
    document = metadata.to_dict()
    try:
        if metadata.zarr_format == 3:
            node = parse_node(json.dumps(document).encode())
        else:
            attributes = document.pop("attributes", None) or {}
            node = parse_array_v2(json.dumps(document).encode(), json.dumps(attributes).encode())
        if not isinstance(node, ArrayMetadata) or not prod(node.grid.largest):
            raise StandsBackError("its chunks hold no elements")
        # Bound here, so that what cannot be bound is known now.
        Layout.of(node)
    except (MetadataError, UnsupportedError) as error:
        raise StandsBackError(f"zarrdock cannot read it: {error}") from error
    if metadata.zarr_format == 3:
        _check_v3(metadata)
    else:
        _check_v2(metadata, node)
    return node


def write_order(codecs: Iterable[Any]) -> Order:
    """The order of the chunks in shards that zarr-python's codecs ask for, level by level."""
    # Releases of zarr-python before 3.4 have no such setting.
    orders = [getattr(codec, "subchunk_write_order", "lexicographic") for codec in _shardings(codecs)]
    return tuple(orders) or "lexicographic"


def _shardings(codecs: Iterable[Any]) -> Iterator[ShardingCodec]:
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            yield codec
            yield from _shardings(codec.codecs)


def _check_v3(metadata: Any) -> None:
    for codec in _all(metadata.codecs):
        name = codec.to_dict()["name"]
        # Of a codec that zarrdock takes from zarr-python's registry, the class that it took.
        taken = getattr(CODECS.get(name), "implementation", None)
        if not (_is_of(codec, "zarr", "numcodecs") if taken is None else taken is type(codec)):
            raise StandsBackError(f"its codec {name!r} is {class_name(codec)}, not zarr-python's")
    encoding = metadata.chunk_key_encoding
    if not _is_of(encoding, "zarr"):
        raise StandsBackError(f"its chunk keys are made by {class_name(encoding)}, not by zarr-python")


def _all(codecs: Iterable[Any]) -> Iterator[Any]:
    """Codecs, and those inside shards."""
    for codec in codecs:
        yield codec
        if isinstance(codec, ShardingCodec):
            yield from _all((*codec.codecs, *codec.index_codecs))


def _check_v2(metadata: Any, node: ArrayMetadata) -> None:
    from numcodecs.registry import codec_registry

    # Of other packages' codecs, numcodecs' object does the work here too.
    foreign = {codec.numcodecs_id for codec in node.codecs if isinstance(codec, ForeignCompressor)}
    for codec in (*(metadata.filters or ()), metadata.compressor):
        if codec is None or _is_of(codec, "zarr", "numcodecs"):
            continue
        if codec.codec_id not in foreign or codec_registry.get(codec.codec_id) is not type(codec):
            raise StandsBackError(f"its codec {codec.codec_id!r} is {class_name(codec)}, not numcodecs'")


def _is_of(obj: Any, *packages: str) -> bool:
    return type(obj).__module__.partition(".")[0] in packages
