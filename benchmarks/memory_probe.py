"""One measurement of peak memory, in the fresh process that this module is the program of. Prints a number of bytes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import FULL, QUICK, Bench, whole
from benchmarks.peers.base import load_peers

LINUX = sys.platform.startswith("linux")


def resident_bytes() -> int:
    """Memory that the process holds now."""
    if LINUX:
        return status("VmRSS")
    psutil: Any = import_module("psutil")
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most it ever held.

    On Linux from /proc, not from getrusage: the latter's maximum is inherited from the process that started this one.
    """
    if LINUX:
        return status("VmHWM")
    resource: Any = import_module("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS, which is what is left


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")


def main(verb: str, name: str, threads: str, path: str, data: str, volume: str, quick: str) -> int:
    (peer,), _ = load_peers([name], int(threads))
    values = np.load(volume) if verb == "write" else None  # `data` of a write is the whole volume, as it is in the file
    with peer.active():
        if values is None:
            handle = peer.open(Path(path))
            before = resident_bytes()
            out = peer.read(handle, whole())
            return peak_bytes() - before - out.nbytes
        bench = Bench(QUICK if int(quick) else FULL, values, Path(path).parent, [peer])
        handle = peer.create(Path(path), bench.layout(data))
        before = resident_bytes()
        peer.write(handle, whole(), values)
        return peak_bytes() - before


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
