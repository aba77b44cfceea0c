"""What make_zarr3.py writes with: the archive, and one call that creates, fills and records an array."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr
from archive import Archive, partial
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

# What it warns of (unstable specifications, codecs around sharding) is what these arrays are for.
warnings.simplefilter("ignore")

OUT = Archive("zarr3", f"zarr-python {zarr.__version__}")
LITTLE, BIG = BytesCodec(endian="little"), BytesCodec(endian="big")
LITTLE_CRC = [LITTLE, Crc32cCodec()]


def write(
    path: str,
    data: np.ndarray,
    chunks: tuple[int, ...] | str,
    features: Iterable[str],
    *,
    only: Iterable[tuple[slice, ...]] | None = None,
    dtype: Any = None,
    **options: Any,
) -> None:
    """Create the array, write ``data`` (or only some regions of it) and record what a reader must find."""
    array = zarr.create_array(
        str(OUT.root / path), shape=data.shape, dtype=data.dtype if dtype is None else dtype, chunks=chunks, **options
    )
    if only is None:
        array[...] = data
        expected = data
    else:
        for region in only:
            array[region] = data[region]
        expected = partial(data, array.fill_value, only)
    zarr_format = options.get("zarr_format", 3)
    name = "zarr.json" if zarr_format == 3 else ".zarray"
    metadata = json.loads((OUT.root / path / name).read_text())
    data_type = metadata["data_type" if zarr_format == 3 else "dtype"]
    names = options.get("dimension_names")
    OUT.add_array(path, zarr_format, expected, data_type, features, options.get("attributes"), names)


def sharded(
    path: str, data: np.ndarray, shard: tuple[int, ...], codec: ShardingCodec, features: list[str], **more: Any
) -> None:
    options: dict[str, Any] = {"filters": [], "compressors": []} | more
    write(path, data, shard, ["sharding", f"index_{codec.index_location}", *features], serializer=codec, **options)
