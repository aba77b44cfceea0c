"""``python -m benchmarks interop``: the full volume in shards, written by each implementation and read by every other
one.

512^3 uint16 in shards of 256^3 and chunks of 32^3, zstd. Not a benchmark but a check, at the size that matters:
values must be equal, and the files
of zarrdock and TensorStore, whose order of chunks is the same, are compared as well.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import cache_folder, load_volume

ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("interop", help="write with each implementation, read with every other one")
    parser.add_argument("--quick", action="store_true", help="256^3 in shards of 128^3")
    parser.set_defaults(run=run)


def metadata(shape: tuple[int, ...], shard: int) -> dict[str, Any]:
    """The v3 document all of them are given, in the form TensorStore takes."""
    bytes_ = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = {
        "chunk_shape": [32, 32, 32],
        "codecs": [bytes_, ZSTD],
        "index_codecs": [bytes_, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "shape": list(shape),
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard] * 3}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "fill_value": 0,
    }


Write = Callable[[Path, NDArray[np.uint16], int], None]
Read = Callable[[Path], NDArray[np.uint16]]


def implementations() -> dict[str, tuple[Write, Read]]:
    """Name -> how to write and how to read; those that are not installed are left out."""
    import zarrdock

    def write_ours(path: Path, volume: NDArray[np.uint16], shard: int) -> None:
        zarrdock.create_array(path, data=volume, chunks=(32,) * 3, shards=(shard,) * 3, compressors=[ZSTD])

    found: dict[str, tuple[Write, Read]] = {"zarrdock": (write_ours, lambda path: zarrdock.open_array(path)[...])}
    try:
        import tensorstore as ts
    except ImportError:
        print("tensorstore is not installed: left out")
    else:

        def spec(path: Path) -> dict[str, Any]:
            return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}

        def write_ts(path: Path, volume: NDArray[np.uint16], shard: int) -> None:
            array = ts.open({**spec(path), "metadata": metadata(volume.shape, shard)}, create=True).result()
            array[...].write(volume).result()

        found["tensorstore"] = (write_ts, lambda path: ts.open(spec(path)).result()[...].read().result())
    try:
        import zarr
    except ImportError:
        print("zarr is not installed: left out")
    else:
        from zarr.codecs import ZstdCodec

        def write_zarr(path: Path, volume: NDArray[np.uint16], shard: int) -> None:
            shapes: dict[str, Any] = {"chunks": (32,) * 3, "shards": (shard,) * 3}
            compressors = [ZstdCodec(level=3, checksum=False)]
            array = zarr.create_array(path, shape=volume.shape, dtype=volume.dtype, compressors=compressors, **shapes)
            array[...] = volume

        found["zarr-python"] = (write_zarr, lambda path: np.asarray(zarr.open_array(path, mode="r")[...]))
    return found


def run(options: argparse.Namespace) -> int:
    n, shard = (256, 128) if options.quick else (512, 256)
    loaded = load_volume(n, cache_folder())
    volume, source = loaded.values, loaded.source
    print(f"{n}^3 uint16, shards {shard}^3, chunks 32^3, zstd; {source}")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, Path] = {}
        for name, (write, _) in implementations().items():
            paths[name] = Path(folder) / name
            write(paths[name], volume, shard)
        for writer, path in paths.items():
            for reader, (_, read) in implementations().items():
                equal = np.array_equal(read(path), volume)
                wrong += not equal
                print(f"written by {writer}, read by {reader}: {'equal' if equal else 'DIFFERENT'}")
        if "tensorstore" in paths:
            ours, theirs = paths["zarrdock"], paths["tensorstore"]
            names = sorted(str(p.relative_to(ours)) for p in ours.rglob("c/*/*/*"))
            same = sum((ours / name).read_bytes() == (theirs / name).read_bytes() for name in names)
            print(f"shards of zarrdock and tensorstore with the same bytes: {same} of {len(names)}")
    return 1 if wrong else 0
