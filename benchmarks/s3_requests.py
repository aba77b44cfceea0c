"""``requests``: CPU time and wall time of a ranged GET from S3, by each way zarrdock can send it.

Sequential reads show what one request costs from the caller's thread and back; batches of 64 what it costs where many
are in flight, which is what a plan sends.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from benchmarks import options as opt
from benchmarks.data import cache_folder
from benchmarks.nginx import BUCKET, Nginx, serve
from benchmarks.peers.base import Unavailable
from benchmarks.report import machine, table

N_BYTES = 13_000
OBJECT_BYTES = 64 * 2**20


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("requests", help="cost of one S3 request", description=__doc__)
    opt.add_common(parser)
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.set_defaults(run=run)


def ways(url: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Stores over the bucket, each opened when it is its turn."""
    from zarrdock.stores.s3 import S3Store

    def over_s3fs(options: dict[str, Any], direct: bool) -> Any:
        return S3Store(
            f"s3://{BUCKET}/{Nginx.prefix(0)}",
            storage_options={**options, "endpoint_url": url, "skip_instance_cache": True},
            direct_reads=direct,
        )

    who: dict[str, dict[str, Any]] = {"anonymous": {"anon": True}, "signed": {"key": "key", "secret": "secret"}}
    for label, options in who.items():
        for direct in (False, True):
            yield f"{'direct reads' if direct else 's3fs'}, {label}", partial(over_s3fs, options, direct)
    try:
        from obstore.store import S3Store as ObstoreS3

        from zarrdock.stores.obstore_ import ObstoreStore  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    bucket = ObstoreS3(
        BUCKET, config=cast(Any, obstore_options(url)), client_options={"allow_http": True}, prefix=Nginx.prefix(0)
    )
    yield "obstore, anonymous", lambda: ObstoreStore(bucket)


def obstore_options(url: str) -> dict[str, Any]:
    """How obstore reads from nginx."""
    return {"endpoint": url, "region": "us-east-1", "skip_signature": True, "virtual_hosted_style_request": False}


def run(options: argparse.Namespace) -> int:
    n_rounds, n_requests = (3, 128) if options.quick else (7, 512)
    rows = []
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache_folder()) as scratch:
        folder = Path(scratch, "objects")
        folder.mkdir()
        folder.joinpath("object").write_bytes(bytes(2**16) * (OBJECT_BYTES // 2**16))
        try:
            with serve(folder, Path(scratch, "nginx"), (0,)) as server:
                opened = [(name, make()) for name, make in ways(server.url)]
                found: dict[str, list[list[float]]] = {name: [] for name, _ in opened}
                for number in range(n_rounds + 1):
                    for name, store in opened:
                        times = measure(store, n_requests)
                        if number:  # the first one warms up
                            found[name].append(times)
        except Unavailable as error:
            print(f"left out: {error}")
            return 0
    for name, rounds in found.items():
        rows.append((name, *(median(column) for column in zip(*rounds, strict=True))))
    names = ["one at a time: CPU", "wall", "64 at a time: CPU", "wall"]
    about = f"Milliseconds a request of {N_BYTES} bytes, from nginx on this machine, medians."
    lines = ["# S3 requests", "", about, ""]
    lines += table(["", *names], [[row[0], *(f"{1000 * value:.2f}" for value in row[1:])] for row in rows])
    text = "\n".join(lines) + "\n"
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        document = {"machine": machine(), "seconds": {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


def measure(store: Any, n_requests: int) -> list[float]:
    """Seconds a request: CPU and wall one at a time, CPU and wall in batches."""
    from zarrdock.ranges import Span
    from zarrdock.stores.base import Read

    version = store.get("object", Span(0, 1)).version
    reads = [
        Read("object", Span(i * 50_000, i * 50_000 + N_BYTES), version if isinstance(version, str) else None)
        for i in range(n_requests)
    ]
    found = []
    for n_together in (1, 64):
        batches = [reads[i : i + n_together] for i in range(0, n_requests, n_together)]
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in batches:
            results = store.read(batch)
        found += [(time.process_time() - cpu) / n_requests, (time.perf_counter() - wall) / n_requests]
        if any(len(result.data) != N_BYTES for result in results):
            raise AssertionError("not the bytes that were asked for")
    return found
