"""The command line.

A subcommand is a module with ``add_to(subparsers)``, which sets ``run`` to a function from the options to an exit code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks import (
    codec_calls,
    conditional,
    everything,
    interop,
    interpreter,
    local,
    many,
    memory,
    pipeline,
    remote,
    s3_requests,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Benchmarks of zarrdock beside its peers."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (
        local, memory, pipeline, interpreter, remote, many, s3_requests, codec_calls, conditional, interop, everything,
    ):  # fmt: skip
        module.add_to(subparsers)
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)
