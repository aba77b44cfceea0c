"""``codecs``: microseconds a call of the codec libraries, on one thread, on pieces of the volume."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import options as opt
from benchmarks.bench import QUICK
from benchmarks.codec_libraries import LIBRARIES, Calls
from benchmarks.data import cache_folder, load_volume
from benchmarks.report import machine, table, three

# Shapes of uint16 pieces.
PIECES = {"4 KiB": (8, 16, 16), "64 KiB": (32, 32, 32), "1 MiB": (64, 64, 128)}


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("codecs", help="microseconds a codec call", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    volume = load_volume(QUICK.n, cache_folder())
    pieces = {label: middle(volume.values, shape) for label, shape in PIECES.items()}
    calls: list[Calls] = []
    missing: dict[str, str] = {}
    for name, library in LIBRARIES.items():
        try:
            calls += library()
        except ImportError as error:
            missing[name] = str(error)
    order = list(dict.fromkeys(one.codec for one in calls))
    calls.sort(key=lambda one: order.index(one.codec))
    rows = [measure(one, pieces, 0.02 if options.quick else 0.1) for one in calls]
    text = markdown(rows, missing, volume.source)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        document = {"machine": machine(), "data": volume.source, "missing": missing, "rows": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(text)
    return int(any(label not in row for row in rows for label in PIECES))


def middle(volume: NDArray[np.uint16], shape: tuple[int, ...]) -> bytes:
    """The box of this shape in the middle of the volume, in C order."""
    cut = tuple(slice((n - length) // 2, (n + length) // 2) for n, length in zip(volume.shape, shape, strict=True))
    return volume[cut].tobytes()


def measure(calls: Calls, pieces: dict[str, bytes], seconds: float) -> dict[str, Any]:
    """A row of the report; a piece that does not come back as it was has no times."""
    row: dict[str, Any] = {"codec": calls.codec, "library": calls.library}
    for label, piece in pieces.items():
        encoded = bytes(calls.encode(piece))
        if bytes(calls.decode(encoded, len(piece))) == piece:
            row[label] = {
                "encode_us": microseconds(partial(calls.encode, piece), seconds),
                "decode_us": microseconds(partial(calls.decode, encoded, len(piece)), seconds),
                "ratio": len(piece) / len(encoded),
            }
    return row


def microseconds(call: Callable[[], Any], seconds: float) -> float:
    """Median over five batches of the mean time of a call; a batch takes about `seconds`."""
    call()
    start = time.perf_counter()
    call()
    n_calls = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    batches = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(n_calls):
            call()
        batches.append((time.perf_counter() - start) / n_calls)
    return median(batches) * 1e6


def markdown(rows: list[dict[str, Any]], missing: dict[str, str], source: str) -> str:
    about = machine()
    lines = ["# Codec calls", "", f"- data: {source}"]
    lines += [f"- left out: {name} ({reason})" for name, reason in missing.items()]
    system = f"{about['cores']} cores, {about['architecture']}, {about['system']}, Python {about['python']}"
    lines += [f"- machine: {system}", "", "Microseconds a call, encode / decode, one thread.", ""]
    body = []
    for row in rows:
        times = [times_text(row[label]) if label in row else "wrong" for label in PIECES]
        body.append([row["codec"], row["library"], *times, f"{row['64 KiB']['ratio']:.2f}" if "64 KiB" in row else ""])
    lines += table(["codec", "library", *PIECES, "packs 64 KiB"], body)
    return "\n".join(lines) + "\n"


def times_text(times: dict[str, float]) -> str:
    return f"{three(times['encode_us'])} / {three(times['decode_us'])}"
