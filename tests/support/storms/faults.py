"""Storm: something fails in the middle of a partial write or an append. Either it is done all the same, or there is an
error, and what was there is intact.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from support.fault_matrix import FAULTS
from support.fault_proxy import Fault, FaultProxy
from support.servers import Endpoint
from support.storms.base import Outcome, Say, Scale, Stopwatch
from support.storms.syscalls import Trap, trapped
from support.strict_azure import StrictAzure
from support.strict_gcs import StrictGCS
from support.strict_s3 import StrictS3
from zarrdock.api import create_array, open_array
from zarrdock.array.array import Array
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import ZarrdockError
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.base import Store
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store
from zarrdock.stores.wrappers import PrefixStore
from zarrdock.stores.zip_ import ZipStore

__all__ = ["NAME", "run"]

NAME = "faults"
OLD: Final = np.arange(60, dtype="int64").reshape(20, 3) + 1
NEW_ROWS: Final = -np.arange(1, 61, dtype="int64").reshape(20, 3)  # from within one shard into the one after the next
SHARD_ROWS = 15
# Short enough for a fault that never ends, and long enough for a busy machine.
POLICY: Final = RetryPolicy(attempts=3, deadline_seconds=10.0, attempt_seconds=2.5, initial=0.01, max=0.05)
ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES)

Server: TypeAlias = StrictS3 | StrictGCS | StrictAzure
Verdict: TypeAlias = str  # "done", "refused", or what is wrong


@dataclass(frozen=True, slots=True)
class Operation:
    """A write, and the rows that the array holds after it."""

    name: str
    do: Callable[[Array], object]
    after: AnyArray


def _patched() -> AnyArray:
    after = OLD.copy()
    after[2:9, 1] = -7
    return after


def _replaced() -> AnyArray:
    after = OLD.copy()
    after[:SHARD_ROWS] = -5
    return after


OPERATIONS: Final = (
    Operation("partial write", lambda array: array.write((slice(2, 9), 1), -7), _patched()),
    Operation("whole shard", lambda array: array.write(slice(0, SHARD_ROWS), -5), _replaced()),
    Operation("append", lambda array: array.append(NEW_ROWS), np.concatenate([OLD, NEW_ROWS])),
    Operation("attributes", lambda array: array.attrs.update(x=1), OLD),
)


def make(store: Store) -> Array:
    """The array as it is before."""
    return create_array(store, data=OLD, chunks=(5, 3), shards=(SHARD_ROWS, 3), overwrite=True)


def judge(store: Store, operation: Operation, error: Exception | None) -> Verdict:
    """Judge the state of the array, seen through a store without faults."""
    if error is not None and not isinstance(error, ZarrdockError):
        return f"{type(error).__name__}: {error}"
    try:
        array = open_array(store)
        rows, shown = array[:], array.attrs.get("x")
    except ZarrdockError as unreadable:
        return f"unreadable: {unreadable}"
    done = operation.name != "attributes" or shown == 1
    if np.array_equal(rows, operation.after) and done:
        return "done" if error is None else "done, though reported as failed"
    if error is None:
        return f"reported as done, but is not: {rows.tolist()}"
    if np.array_equal(rows, OLD) and (shown is None or operation.name == "attributes"):
        return "refused, nothing changed"
    notes = " ".join(getattr(error, "__notes__", []))
    if operation.name == "append" and "20 to 40" in notes and np.array_equal(rows[: len(OLD)], OLD):
        there, wanted = rows[len(OLD) :], operation.after[len(OLD) :]
        if ((there == wanted) | (there == 0)).all():
            return "rows claimed and not given back, as the error says"
    return f"after {type(error).__name__}: {rows.tolist()}"


_GOOD: Final = (
    "done",
    "done, though reported as failed",
    "refused, nothing changed",
    "rows claimed and not given back, as the error says",
)


def attempt(operation: Operation, array: Array) -> Exception | None:
    """Do it; the error, if there was one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a server that ignores ranges
            operation.do(array)
    except Exception as error:
        return error
    return None


# -- the file system --------------------------------------------------------------------------------------------------

STORES: Final[dict[str, Callable[[Path], Store]]] = {
    "local": lambda folder: LocalStore(folder / "store"),
    "local, durable": lambda folder: LocalStore(folder / "store", durable=True),
    "zip": lambda folder: ZipStore(folder / "store.zip"),
    "zip, durable": lambda folder: ZipStore(folder / "store.zip", durable=True),
}


def on_files(name: str, errnos: Sequence[int] = ERRNOS) -> Outcome:
    """Each system call of each operation fails once, with each error; then it is done again, without."""
    watch, verdicts, wrong = Stopwatch(), Counter[str](), list[str]()
    for operation, code in itertools.product(OPERATIONS, errnos):
        for n in range(1000):
            with tempfile.TemporaryDirectory(prefix="zarrdock-storm-") as folder:
                where = f"{operation.name}, {errno.errorcode[code]} at call {n}"
                with STORES[name](Path(folder)) as store:
                    array = make(store)
                    with trapped(Trap(n, partial(_fail, code))) as trap:
                        error = attempt(operation, array)
                    verdict = judge(store, operation, error)
                    if verdict in _GOOD and verdict.startswith("refused"):
                        # What failed leaves nothing behind that would stop the next.
                        again = judge(store, operation, attempt(operation, open_array(store, mode="r+")))
                        verdict = verdict if again == "done" else f"the second time: {again}"
            if not trap.sprung:
                break
            _count(verdicts, wrong, verdict, f"{where} ({trap.sprung})")
    did = f"each system call of {len(OPERATIONS)} operations fails, with each of {len(errnos)} errors"
    return _outcome(name, did, verdicts, wrong, watch.seconds)


def _fail(code: int, call: str) -> None:
    raise OSError(code, f"{os.strerror(code)} (injected into {call})")


# -- services ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of fault, in the requests of one kind to the metadata or to the chunks, once or for ever."""

    operation: Operation
    kind: Any
    method: str
    path: str
    times: int | None

    def __str__(self) -> str:
        how_often = "once" if self.times else "for ever"
        return f"{self.operation.name}, {self.kind.name}, {self.method} of {self.path}, {how_often}"


def cells(put: str) -> list[Cell]:
    """All that mean something, for a service that writes with that method."""
    found = []
    for operation, kind, method, times in itertools.product(OPERATIONS, FAULTS, ("GET", put), (1, None)):
        if kind.fault in ("ignore_range", "short_206") or (kind.status == 409 and method == "GET"):
            continue  # whole objects are read here, and a conflict is an answer to writes
        paths = {"append": ("zarr.json", "c/"), "attributes": ("zarr.json",)}.get(operation.name, ("c/",))
        # Deleting what is empty is done with DELETE only where rows are given back: it fails along with the writes.
        found += [Cell(operation, kind, method, path, times) for path in paths]
    return found


def on_service(name: str, share: float, seed: int = 0) -> Outcome:
    """Every fault of the fault matrix, behind a proxy."""
    watch, verdicts, wrong = Stopwatch(), Counter[str](), list[str]()
    wanted = cells("POST" if name == "GCS" else "PUT")
    wanted = random.Random(seed).sample(wanted, max(1, round(len(wanted) * share)))
    server = {"S3": StrictS3, "GCS": StrictGCS, "Azure": StrictAzure}[name]("bucket")
    with server, ThreadPoolExecutor(4) as pool:
        for cell, verdict in pool.map(partial(_run, server), enumerate(wanted)):
            _count(verdicts, wrong, verdict, str(cell))
    did = f"{len(wanted)} combinations of fault, operation and request"
    return _outcome(name, did, verdicts, wrong, watch.seconds)


def _run(server: Server, numbered: tuple[int, Cell]) -> tuple[Cell, Verdict]:
    number, cell = numbered
    is_gcs = isinstance(server, StrictGCS)
    endpoint = Endpoint(server.url, server.storage_options, "bucket")
    dialect: Literal["s3", "gcs", "azure"] = "azure" if isinstance(server, StrictAzure) else "gcs" if is_gcs else "s3"
    with (
        FaultProxy(server.url, dialect) as proxy,
        _store(dialect, endpoint.through(proxy), POLICY) as broken,
        _store(dialect, server.storage_options, RetryPolicy()) as direct,
    ):
        below = f"n{number}"
        array = make(PrefixStore(direct, below))
        array = Array(PrefixStore(broken, below), "", array.metadata)
        # An upload to GCS has its name in the body.
        path = cell.path if not is_gcs or cell.method == "GET" else ""
        skip = 1 if path == "" and cell.path == "c/" and cell.operation.name == "append" else 0
        proxy.inject(
            Fault(
                cell.kind.fault,
                status=cell.kind.status,
                seconds=cell.kind.seconds,
                method=cell.method,
                path=path,
                times=cell.times,
                skip=skip,
            )
        )
        error = attempt(cell.operation, array)
        proxy.clear()
        return cell, judge(PrefixStore(direct, below), cell.operation, error)


def _store(dialect: str, options: dict[str, Any], retry: RetryPolicy) -> Store:
    match dialect:
        case "s3":
            return S3Store("s3://bucket", storage_options=options, retry=retry)
        case "gcs":
            return GCSStore("gs://bucket", storage_options=options, retry=retry)
    return AzureStore("az://bucket", storage_options=options, retry=retry)


# -- outcomes ---------------------------------------------------------------------------------------------------------


def _count(verdicts: Counter[str], wrong: list[str], verdict: Verdict, where: str) -> None:
    if verdict in _GOOD:
        verdicts[verdict] += 1
    else:
        wrong.append(f"{where}: {verdict}")


def _outcome(place: str, did: str, verdicts: Counter[str], wrong: list[str], seconds: float) -> Outcome:
    notes = {name: verdicts[name] for name in _GOOD if verdicts[name]}
    return Outcome(NAME, place, did, len(wrong), "lost, doubled or mixed", notes, seconds, (*wrong[:9],))


def run(scale: Scale, say: Say) -> Iterator[Outcome]:
    """Files and services."""
    errnos = ERRNOS if scale.share >= 1 else ERRNOS[:1]
    for name in STORES:
        outcome = on_files(name, errnos)
        say(str(outcome))
        yield outcome
    for name in scale.over("S3", "GCS", "Azure"):
        outcome = on_service(name, scale.share, scale.seed)
        say(str(outcome))
        yield outcome
