"""Requests for boxes and planes of the MNI152 volume under each order of the chunks in a shard.

    python -m benchmarks.layout [--size 512] [--write]

Requests are counted by :mod:`zarrdock.layouts.predict`; at one gap all reads are made as well, of arrays whose shards
were rewritten in each order, and the two counts have to agree. ``--write`` puts the tables into
docs/explanation/layout.md and the picture into docs/img/layout-orders.svg.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import zarrdock
from benchmarks.data import cache_folder, load_volume
from zarrdock.layouts.access_patterns import Access, boxes, planes
from zarrdock.layouts.plot import bars
from zarrdock.layouts.predict import PLACES, Candidate, Prediction, predict
from zarrdock.layouts.relayout import relayout
from zarrdock.layouts.shard_stats import Survey, survey
from zarrdock.stores.base import Store, Traits, WrapperStore

ORDERS = ("lexicographic", "colexicographic", "morton", "hilbert")
GAPS = (0, 32 * 2**10, 128 * 2**10, 2**20)
CHECKED_GAP = 0
N_BOXES, N_PLANES = 200, 20
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class _As(WrapperStore):
    """A store of other traits."""

    def __init__(self, store: Store, traits: Traits) -> None:
        super().__init__(store)
        self.traits = traits


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layout", description="Requests under each order.")
    parser.add_argument("--size", type=int, default=512, help="voxels a side")
    parser.add_argument("--write", action="store_true", help="into docs/explanation and docs/img")
    given = parser.parse_args(arguments)
    volume = load_volume(given.size, cache_folder())
    chunk, shard = (given.size // 16,) * 3, (given.size // 2,) * 3
    store = zarrdock.MemoryStore()
    started = time.perf_counter()
    array = zarrdock.create_array(
        store,
        data=volume.values,
        chunks=chunk,
        shards=shard,
        compressors={"name": "zstd", "configuration": {"level": 3}},
    )
    print(f"{volume.source}; written in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    seen = survey(store, "", array.metadata)
    box = (given.size // 8,) * 3
    patterns = [*boxes(array.shape, box, N_BOXES), *planes(array.shape, N_PLANES, names=("x", "y", "z"))]
    traits = PLACES["s3"][0]
    found = {
        (order, gap): predict(
            seen, patterns, Candidate(order, (shard,), chunk, gap), traits=traits, prices=PLACES["s3"][1]
        )
        for order in ORDERS
        for gap in GAPS
    }
    for order in ORDERS:
        relayout(store, order=order)
        real = _counted(store, array, patterns, replace(traits, merge_gap_bytes=CHECKED_GAP), volume.values)
        told = [(c.n_rounds, c.n_requests, c.nbytes) for c in found[order, CHECKED_GAP].costs]
        if real != told:
            raise SystemExit(f"{order}: foretold {told}, counted {real}")
        print(f"{order}: as counted", file=sys.stderr)
    text = _report(volume.source, seen, patterns, found)
    print(text)
    if given.write:
        docs = Path(__file__).parent.parent / "docs"
        place = docs / "explanation" / "layout.md"
        page = place.read_text("utf-8")
        before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
        place.write_text(f"{before}\n\n{text}\n\n{after}", "utf-8")
        names = [f"{order}, gap {_size(gap)}" for order in ORDERS for gap in (0, 128 * 2**10)]
        panels = [
            (
                f"{pattern.name}: requests for {len(pattern.selections)}",
                [found[order, gap].costs[i].n_requests for order in ORDERS for gap in (0, 128 * 2**10)],
            )
            for i, pattern in enumerate(patterns)
        ]
        picture = bars(f"{volume.source.partition(':')[0].partition(',')[0]}", names, panels)
        (docs / "img" / "layout-orders.svg").write_text(picture, "utf-8")
    return 0


def _counted(
    store: Store, array: zarrdock.Array, patterns: list[Access], traits: Traits, values: np.ndarray
) -> list[tuple[int, int, int]]:
    """Rounds, requests and bytes of every pattern, as they happen, by a reader that begins without indexes."""
    recorder = zarrdock.RecordingStore(_As(store, traits))
    found = []
    for pattern in patterns:
        reader = zarrdock.Array(recorder, "", array.metadata)
        recorder.reset()
        for selection in pattern.selections:
            if not np.array_equal(reader.read(selection), values[selection]):
                raise SystemExit(f"{pattern.name}: {selection} is not what was written")
        found.append((recorder.n_rounds, recorder.n_requests, recorder.nbytes))
    return found


def _size(nbytes: int) -> str:
    return "0" if not nbytes else f"{nbytes // 2**10} KiB" if nbytes < 2**20 else f"{nbytes // 2**20} MiB"


def _report(source: str, seen: Survey, patterns: list[Access], found: dict[tuple[str, int], Prediction]) -> str:
    shape = "×".join(map(str, seen.layout.chunk_shape)), "×".join(map(str, seen.layout.leaf_shape))
    there = seen.lengths[seen.lengths > 0]
    about = (
        f"{source}; shards {shape[0]}, chunks {shape[1]} of {np.mean(there) / 2**10:.1f} KiB on average, zstd level 3. "
        f"{N_BOXES} random {patterns[0].name}, {N_PLANES} random planes across each axis; the reader knows no index at "
        "first. Requests / 10^6 bytes, indexes included:"
    )
    lines = [about]
    for gap in GAPS:
        header = f"| gap {_size(gap)} | " + " | ".join(pattern.name for pattern in patterns) + " |"
        lines += ["", header, "|---" * (len(patterns) + 1) + "|"]
        least = [min(found[order, gap].costs[i].n_requests for order in ORDERS) for i in range(len(patterns))]
        for order in ORDERS:
            cells = []
            for i, cost in enumerate(found[order, gap].costs):
                text = f"{cost.n_requests:,}"
                cells.append(f"{f'**{text}**' if cost.n_requests == least[i] else text} / {cost.nbytes / 1e6:.0f}")
            lines.append(f"| {order} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
