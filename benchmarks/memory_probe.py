"""One measurement of peak memory, in the fresh process that this module is the program of. Prints a number of bytes."""

from __future__ import annotations

import subprocess
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
    if verb == "copy":
        return copy_sparse(Path(path), int(threads))
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


def copy_sparse(folder: Path, threads: int) -> int:
    """Copy an array of 4096 x 4096 x 3072 uint16, in which four cubes of 256^3 have data, to other chunks."""
    zarrdock: Any = import_module("zarrdock")
    zarrdock.config.threads = threads
    source, target = folder / "source", folder / "target"
    array = zarrdock.create_array(
        str(source), shape=(4096, 4096, 3072), dtype="uint16", chunks=(64,) * 3, shards=(512,) * 3, fill_value=0
    )
    data = np.random.default_rng(0).integers(1, 5000, (256,) * 3, np.uint16)
    for corner in ((0, 0, 0), (1000, 2000, 100), (3840, 3840, 2816), (2500, 700, 1900)):
        array[tuple(slice(n, n + 256) for n in corner)] = data
    script = (
        "import sys, zarrdock; from benchmarks.memory_probe import peak_bytes, resident_bytes; "
        f"zarrdock.config.threads = {threads}; before = resident_bytes(); "
        "zarrdock.copy(sys.argv[1], sys.argv[2], chunks=(128,) * 3, shards=(256,) * 3); print(peak_bytes() - before)"
    )
    command = [sys.executable, "-c", script, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
