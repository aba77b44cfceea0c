"""Storm: readers beside writers that replace shards. Whatever is read of one shard must be of one version."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from support.storms.base import Outcome, Say, Scale, place
from support.storms.workers import in_copies, in_processes
from zarrdock.api import create_array
from zarrdock.array.array import Array
from zarrdock.errors import ConflictError

__all__ = ["NAME", "contents", "run", "version_of"]

NAME = "readers"
N_WRITERS = 4
N_READERS = 4
N_REPLACED = 5000
N_SHARDS = 2
SHARD = 2048
CHUNK = 128
_PERIOD = 7


def contents(version: int) -> npt.NDArray[np.int64]:
    """Contents of a shard in a version. They compress differently, and so the starts of chunks differ, from version to
    version.
    """
    noise = np.arange(SHARD, dtype=np.int64) * 2654435761 * (version + 1)
    return (np.int64(version) << 24) + (noise & ((1 << 3 * (version % _PERIOD)) - 1))


def version_of(values: npt.NDArray[np.int64], first: int) -> int | None:
    """The version that values, from element ``first`` of a shard on, are of; None where they are of no single one."""
    version = int(values[0]) >> 24
    return version if np.array_equal(values, contents(version)[first : first + len(values)]) else None


def replace_shards(array: Array, who: int, n_writers: int, n: int) -> int:
    """Replace shards ``n`` times: as a whole, or all but one element of it, which is an update."""
    rng = np.random.default_rng(who)
    for i in range(n):
        version = 1 + who + i * n_writers
        shard = int(rng.integers(N_SHARDS)) * SHARD
        if rng.integers(2):
            array[shard : shard + SHARD] = contents(version)
        else:
            array[shard : shard + SHARD - 1] = contents(version)[:-1]
    return n


def read_shards(array: Array, who: int, done: Array) -> tuple[int, int, int]:
    """Read in several ways until every writer has said that it is done.

    Returns:
        Reads, of which torn, and how many versions were seen.
    """
    rng = np.random.default_rng(1000 + who)
    n_reads = n_torn = 0
    versions = set()
    checked = time.monotonic()
    while True:
        shard = int(rng.integers(N_SHARDS)) * SHARD
        first = int(rng.integers(SHARD - 1))
        stop = int(rng.integers(first + 1, SHARD)) if rng.integers(3) else SHARD - 1
        values = array.read(slice(shard + first, shard + stop), consistent=False)
        version = version_of(values, first)
        n_reads += 1
        n_torn += version is None
        versions.add(version)
        if time.monotonic() - checked > 0.2:
            checked = time.monotonic()
            if done[:].all():
                return n_reads, n_torn, len(versions)


def write_and_tell(array: Array, who: int, done: Array, n: int) -> tuple[int, int, int]:
    """:func:`replace_shards`, and a mark when it is done."""
    try:
        return replace_shards(array, who, N_WRITERS, n), 0, 0
    finally:
        done[who] = 1


def part(role: str, array: Array, who: int, done: Array, n: int) -> tuple[int, int, int]:
    """The work of one process."""
    return write_and_tell(array, who, done, n) if role == "writer" else read_shards(array, who, done)


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """One outcome for each place."""
    for name in scale.over("local", "S3", "GCS", "Azure"):
        outcome = storm(name, scale.of(N_REPLACED, 40))
        say(str(outcome))
        yield outcome


def storm(name: str, n_replaced: int, *, copies: bool = False) -> Outcome:
    """Writers and readers side by side until shards were replaced ``n_replaced`` times; ``copies`` as for the
    writers.
    """
    with place(name) as store:
        array = create_array(store, name="a", shape=N_SHARDS * SHARD, dtype="int64", chunks=CHUNK, shards=SHARD)
        done = create_array(store, name="done", shape=N_WRITERS, dtype="int8", chunks=1)
        for shard in range(0, N_SHARDS * SHARD, SHARD):
            array[shard : shard + SHARD] = contents(0)
        roles = [("writer", array, who, done, n_replaced // N_WRITERS) for who in range(N_WRITERS)]
        roles += [("reader", array, who, done, 0) for who in range(N_READERS)]
        results, seconds = (in_copies if copies else in_processes)(part, roles)
    writers, readers = results[:N_WRITERS], results[N_WRITERS:]
    did = f"{N_READERS} readers beside {N_WRITERS} writers that replace shards {sum(w[0] for w in writers):,} times"
    notes = {"reads": sum(r[0] for r in readers), "versions seen": sum(r[2] for r in readers)}
    return Outcome(NAME, name, did, sum(r[1] for r in readers), "torn reads", notes, seconds)


def ordered(array: Array, n: int) -> int:
    """Write versions 1 to ``n`` into the first shard and then the second, in this order."""
    for version in range(1, n + 1):
        for shard in range(N_SHARDS):
            array[shard * SHARD : (shard + 1) * SHARD] = contents(version)
    return n


def read_consistently(array: Array, n: int) -> tuple[int, int, int]:
    """Read both shards at one moment until the last version is seen: the second is the same version, or the one before.

    Returns:
        Reads, those of no moment, and reads given up because the shards kept changing.
    """
    n_reads = n_bad = n_given_up = 0
    while True:
        try:
            values = array.read(consistent=True)
        except ConflictError:
            n_given_up += 1
            continue
        n_reads += 1
        first, second = version_of(values[:SHARD], 0), version_of(values[SHARD:], 0)
        n_bad += first is None or second is None or not second <= first <= second + 1
        if first == second == n:
            return n_reads, n_bad, n_given_up
