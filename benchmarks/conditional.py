"""``conditional``: sizes and times with each chunk decided by itself, on data that compresses and data that can't."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zarrdock
from benchmarks import options as opt
from benchmarks.bench import QUICK
from benchmarks.data import cache_folder, load_volume
from benchmarks.report import machine, table, three
from zarrdock.codecs.conditional import Conditional, Decision
from zarrdock.codecs.numcodecs_ import Shuffle

NESTED = (Shuffle(elementsize=2), zarrdock.Zstd(3))
SHARD = 128


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("conditional", help="sizes with the conditional codec", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--repeats", type=int, default=5, help="timings of which the median counts")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    volume = load_volume(QUICK.n, cache_folder())
    text: list[str] = []
    document: dict[str, Any] = {"machine": machine(), "data": volume.source, "chunks": {}}
    wrong = 0
    for chunk in (32, 8):
        rows = []
        for name, values in kinds(volume.values, chunk).items():
            for label, codecs in chains().items():
                row, right = measure(values, chunk, codecs, options.repeats)
                rows.append([name, label, *row])
                wrong += not right
            rows.append([name, "never, then recompress", *later(values, chunk)])
        head = ["data", "codecs", "MB", "of raw", "write s", "read s", "chunks with: none, shuffle, zstd, both"]
        text += [f"Chunks of {chunk}^3 uint16 ({2 * chunk**3 / 1024:g} KiB), {values.nbytes / 1e6:.1f} MB raw:", ""]
        text += [*table(head, rows), ""]
        document["chunks"][chunk] = [dict(zip(head, row, strict=True)) for row in rows]
    print("\n".join(text))
    if options.markdown:
        options.markdown.write_text("\n".join(text), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(wrong > 0)


def kinds(volume: NDArray[np.uint16], chunk: int) -> dict[str, NDArray[np.uint16]]:
    """The volume; noise; and the volume with noise in every second chunk."""
    noise = np.random.default_rng(0).integers(0, 2**16, volume.shape, np.uint16)
    odd = (np.indices([n // chunk for n in volume.shape]).sum(0) % 2).astype(bool)
    mixed = volume.copy()
    where = np.repeat(np.repeat(np.repeat(odd, chunk, 0), chunk, 1), chunk, 2)
    mixed[where] = noise[where]
    return {"compressible": volume, "mixed": mixed, "incompressible": noise}


def chains() -> dict[str, Any]:
    return {
        "none": None,
        "zstd": [zarrdock.Zstd(3)],
        "shuffle, zstd": list(NESTED),
        "conditional, smaller": [conditional("smaller")],
        "conditional, a function": [conditional(quick)],
    }


def conditional(decision: Decision) -> Conditional:
    return Conditional(NESTED, decision=decision)


def quick(trial: Any) -> int:
    """One trial instead of three: all codecs, or none if they save less than an eighth."""
    return 3 if trial.nbytes(3) < 0.875 * trial.nbytes(0) else 0


def create(values: NDArray[np.uint16], chunk: int, codecs: Any) -> tuple[dict[str, Any], Any]:
    store: dict[str, Any] = {}
    array = zarrdock.create_array(
        store,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk,) * 3,
        shards=(SHARD,) * 3,
        compressors=codecs,
        options={"write_empty_chunks": True},
    )
    return store, array


def measure(values: NDArray[np.uint16], chunk: int, codecs: Any, repeats: int) -> tuple[list[str], bool]:
    store, array = create(values, chunk, codecs)
    writing = timed(lambda: array.__setitem__(..., values), max(1, repeats // 2))
    out = np.empty_like(values)
    reading = timed(lambda: array.read(out=out), repeats)
    nbytes = stored(store)
    row = [f"{nbytes / 1e6:.3f}", f"{nbytes / values.nbytes:.4f}", three(writing), three(reading), masks(array)]
    return row, bool(np.array_equal(out, values))


def later(values: NDArray[np.uint16], chunk: int) -> list[str]:
    """Written fast, compressed afterwards: the seconds to write, and those to recompress."""
    store, array = create(values, chunk, [conditional("never")])
    writing = timed(lambda: array.__setitem__(..., values), 1)
    start = time.perf_counter()
    zarrdock.recompress(array)
    seconds = time.perf_counter() - start
    nbytes = stored(store)
    times = [f"{three(writing)} + {three(seconds)}", ""]
    return [f"{nbytes / 1e6:.3f}", f"{nbytes / values.nbytes:.4f}", *times, masks(array)]


def stored(store: dict[str, Any]) -> int:
    return sum(len(value) for key, value in store.items() if key != "zarr.json")


def masks(array: Any) -> str:
    """How many chunks have which mask, in percent."""
    levels = array._layout.levels
    codecs = array._layout.leaf.byte_codecs
    if not codecs or not hasattr(codecs[0], "mask_of"):
        return ""
    counts = [0, 0, 0, 0]
    for key in array.store.list(""):
        if key.key == "zarr.json":
            continue
        data = memoryview(array.store.get(key.key).data)
        index = levels[0].sharding.split(data)
        for start, length in zip(index.offsets.tolist(), index.lengths.tolist(), strict=True):
            counts[codecs[0].mask_of(data[start : start + length])] += 1
    return " / ".join(f"{100 * n / sum(counts):.0f}%" for n in counts)


def timed(work: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds)
