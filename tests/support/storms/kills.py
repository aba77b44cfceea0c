"""Storm: a writer is killed, at random moments and at every system call. What it had finished is there, what it was at
is there as a whole or not at all, and what it left lying about is never seen.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from support.storms.base import Outcome, Say, Scale, Stopwatch
from support.storms.readers import CHUNK, N_SHARDS, SHARD, contents, version_of
from support.storms.syscalls import Trap, forked, trapped
from zarrdock.api import create_array, open_array
from zarrdock.array.array import Array
from zarrdock.errors import ZarrdockError
from zarrdock.stores.base import Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.zip_ import ZipStore

__all__ = ["NAME", "run"]

NAME = "kills"
N_KILLS = 1000
_EXIT = 9
_LONGEST_SECONDS = 0.04
STORES: Final[dict[str, Callable[[Path], Store]]] = {
    "local": lambda folder: LocalStore(folder / "store"),
    "zip": lambda folder: ZipStore(folder / "store.zip"),
}


class Victims:
    """Arrays that children write to until they are killed, and the numbers of their writes.

    The numbers live in memory that outlives a child: for each shard the version begun last and the version finished
    last, and the same for rows, which are numbered over all children.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._map = mmap.mmap(-1, 8 * (2 * (N_SHARDS + 1) + 1))
        numbers = np.frombuffer(self._map, np.int64)
        self.begun, self.done = numbers[: N_SHARDS + 1], numbers[N_SHARDS + 1 : -1]
        self.running = numbers[-1:]
        self.n_rows = self.last_row = 0
        self.n_interrupted = 0
        self.wrong: list[str] = []
        self.array = create_array(
            store, name="a", shape=N_SHARDS * SHARD, dtype="int64", chunks=CHUNK, shards=SHARD, fill_value=-1
        )
        self.rows = create_array(store, name="rows", shape=(0, 2), dtype="int64", chunks=(10, 2), shards=(50, 2))
        for shard in range(N_SHARDS):
            self.array[shard * SHARD : (shard + 1) * SHARD] = contents(0)

    def replace(self, shard: int, stop: int = SHARD) -> None:
        """Write the next version of a shard: as a whole, or all but its end, which is an update."""
        version = int(self.begun[shard]) + 1
        self.begun[shard] = version
        self.array[shard * SHARD : shard * SHARD + stop] = contents(version)[:stop]
        self.done[shard] = version

    def append(self) -> None:
        """Append the next row."""
        self.begun[-1] += 1
        self.rows.append(np.full((1, 2), self.begun[-1]))
        self.done[-1] = self.begun[-1]

    def write_for_ever(self, seed: int) -> None:
        """Write without end: the work of a child."""
        rng = random.Random(seed)
        self.running[0] = True
        while True:
            if rng.random() < 0.3:
                self.append()
            else:
                self.replace(rng.randrange(N_SHARDS), SHARD - rng.randrange(2))

    def start(self, seed: int) -> int:
        """A child that is at its writes: a large process takes longer to fork than the child may live."""
        self.running[0] = False
        pid = forked(partial(self.write_for_ever, seed))
        while not self.running[0] and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        return pid

    def check(self) -> None:
        """After a kill: hold what is stored against what is known."""
        self.n_interrupted += int((self.begun != self.done).any())
        try:
            array, rows = open_array(self.store, path="a"), open_array(self.store, path="rows", mode="r+")
            values, new = array[:], rows[self.n_rows :]
            keys = {entry.key for entry in self.store.list()}
        except ZarrdockError as error:
            self.wrong.append(f"unreadable: {error}")
            return
        for shard in range(N_SHARDS):
            version = version_of(values[shard * SHARD : (shard + 1) * SHARD - 1], 0)
            self.expect(version in (self.done[shard], self.begun[shard]), f"shard {shard}: version {version}")
            self.begun[shard] = self.done[shard] = self.done[shard] if version is None else version
        # A row that was claimed and not written is fill value: 0 in both columns.
        self.expect(bool((new[:, 0] == new[:, 1]).all()), "half a row")
        there = [n for n in new[:, 0].tolist() if n]
        finished = [*range(self.last_row + 1, int(self.done[-1]) + 1)]
        self.expect(there == finished or there == [*finished, self.begun[-1]], f"rows {there} instead of {finished}")
        self.expect(keys <= self._keys(rows), f"listed: {keys - self._keys(rows)}")
        self.n_rows, self.last_row = rows.shape[0], int(self.begun[-1])
        self.done[-1] = self.begun[-1]
        # As a process that was started anew would.
        self.array, self.rows = open_array(self.store, path="a", mode="r+"), rows

    def expect(self, good: bool, what: str) -> None:
        """Note what is not good."""
        if not good:
            self.wrong.append(what)

    def _keys(self, rows: Array) -> set[str]:
        shards = {f"a/c/{i}" for i in range(N_SHARDS)} | {f"rows/c/{i}/0" for i in range(rows.shape[0] // 50 + 1)}
        return {"a/zarr.json", "rows/zarr.json"} | shards


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """At random moments, and at every system call, on a folder and on a zip archive."""
    for name in ("local", "zip"):
        for outcome in (at_random(name, scale.of(N_KILLS, 20), scale.seed), at_every_call(name)):
            say(str(outcome))
            yield outcome


def at_random(name: str, n_kills: int, seed: int = 0) -> Outcome:
    """``n_kills`` children, each killed after a while that nobody knows before."""
    rng = random.Random(seed)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="zarrdock-storm-") as folder, STORES[name](Path(folder)) as store:
        victims = Victims(store)
        for n in range(n_kills):
            pid = victims.start(seed * n_kills + n)
            time.sleep(rng.uniform(0, _LONGEST_SECONDS))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            victims.check()
            if isinstance(store, ZipStore) and n % 100 == 99:
                store.compact()
        n_versions, n_rows = int(victims.done[:-1].sum()), victims.last_row
        left = leftovers(Path(folder), store)
    notes = {"kills within a write": victims.n_interrupted, "shards replaced": n_versions, "rows appended": n_rows}
    did = f"{n_kills:,} SIGKILLs at random moments"
    return Outcome(
        NAME, name, did, len(victims.wrong) + left, "objects unreadable, mixed or lost", notes, watch.seconds
    )


def at_every_call(name: str) -> Outcome:
    """A child for every system call of every kind of write, killed there; half of what it writes then is written."""
    watch = Stopwatch()
    n_kills = 0
    with tempfile.TemporaryDirectory(prefix="zarrdock-storm-") as folder, STORES[name](Path(folder)) as store:
        victims = Victims(store)
        works = (partial(victims.replace, 0), partial(victims.replace, 1, SHARD - 1), victims.append)
        for write in works:
            for n in range(1000):
                code = kill_at(n, write)
                if code != _EXIT:
                    victims.expect(code == 0, f"a child raised at call {n}")
                    break
                n_kills += 1
                victims.check()
            victims.check()
        left = leftovers(Path(folder), store)
    did = f"{n_kills} kills, one at every system call of 3 kinds of write"
    place = f"{name}, each call"
    return Outcome(
        NAME,
        place,
        did,
        len(victims.wrong) + left,
        "objects unreadable, mixed or lost",
        {},
        watch.seconds,
        (*victims.wrong[:9],),
    )


def kill_at(n: int, write: Callable[[], None]) -> int:
    """The exit code of a child that writes and is killed at its ``n``-th system call: 9, or 0 if it had not so many."""

    def child() -> None:
        with trapped(Trap(n, lambda _: os._exit(_EXIT))):
            write()

    _, status = os.waitpid(forked(child), 0)
    return os.waitstatus_to_exitcode(status)


def leftovers(folder: Path, store: Store) -> int:
    """Files that are no keys, once the next writer has been there and what is stale was cleaned away."""
    if isinstance(store, LocalStore):
        store.clean()
        store.clean()
        return sum(path.name.endswith(".__lock") for path in folder.rglob("*"))
    store.close()
    return sum(path.name != "store.zip" for path in folder.iterdir())
