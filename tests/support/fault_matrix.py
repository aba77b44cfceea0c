"""Every fault on every operation of every remote store: the right bytes, or the right error, within a deadline.

``python -m tools.fault_table docs/measurements/fault-matrix.md`` runs it and writes the table; the tests run the same
cells. The services are the strict in-process fakes, each behind a :class:`FaultProxy`, because they honour every
condition.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from support.fault_proxy import Fault, FaultKind, FaultProxy
from support.servers import Endpoint
from support.strict_azure import StrictAzure
from support.strict_gcs import StrictGCS
from support.strict_s3 import StrictS3
from zarrdock.errors import ZarrdockError
from zarrdock.ranges import Span
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.base import Buffer, Store
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

__all__ = [
    "DEADLINE_SECONDS",
    "FAULTS",
    "OPERATIONS",
    "SERVICES",
    "Cell",
    "Services",
    "cells",
    "run",
    "run_all",
]

# Short, so that a fault that never ends does not take long to be given up.
POLICY: Final = RetryPolicy(attempts=3, deadline_seconds=5.0, attempt_seconds=0.8, initial=0.01, max=0.05)
# The last try may begin just before it, and an update is a few requests.
DEADLINE_SECONDS: Final = 3 * POLICY.deadline_seconds
OLD: Final = bytes(range(200))
NEW: Final = b"new" * 100

SERVICES: Final = ("S3", "GCS", "Azure", "HTTP", "S3 by obstore")
OPERATIONS: Final = ("read all", "read a range", "write", "create", "update: GET", "update: PUT", "delete")


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    fault: FaultKind
    status: int = 0
    seconds: float = 0.0

    def make(self, method: str, times: int | None) -> Fault:
        return Fault(self.fault, status=self.status, seconds=self.seconds, method=method, times=times)


FAULTS: Final = (
    Kind("500 internal error", "status", 500),
    Kind("503 slow down", "status", 503),
    Kind("429 too many requests", "status", 429),
    Kind("409 conflict", "status", 409),
    Kind("403 denied", "status", 403),
    Kind("slow answer (0.2 s)", "delay", seconds=0.2),
    Kind("stalls half way (3 s)", "stall", seconds=3.0),
    Kind("body cut short", "truncate"),
    Kind("connection reset", "reset"),
    Kind("applied, reply lost", "lost_reply"),
    Kind("range ignored", "ignore_range"),
    Kind("less than the range", "short_206"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault on one operation of one service: once, or for ever."""

    service: str
    operation: str
    kind: Kind
    for_ever: bool

    def __str__(self) -> str:
        return f"{self.service}, {self.operation}, {self.kind.name}, {'for ever' if self.for_ever else 'once'}"


def cells() -> Iterator[Cell]:
    """All cells that mean something."""
    for service, operation, kind, for_ever in itertools.product(SERVICES, OPERATIONS, FAULTS, (False, True)):
        if service == "HTTP" and not operation.startswith("read"):
            continue
        if kind.fault in ("ignore_range", "short_206") and operation != "read a range":
            continue
        if kind.status == 409 and (operation.startswith("read") or operation == "update: GET"):
            continue  # an answer to writes only
        if kind.status == 409 and service == "Azure":
            continue  # there it means that the key exists
        yield Cell(service, operation, kind, for_ever)


class Services:
    """The fakes and their proxies, running; a context manager.

    Args:
        azure: another server of Azure, in the fake's place.
    """

    def __init__(self, azure: Endpoint | None = None) -> None:
        self._azure = azure
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Services:
        self.s3 = self._stack.enter_context(StrictS3("bucket"))
        self.gcs = self._stack.enter_context(StrictGCS("bucket"))
        azure = self._azure
        if azure is None:
            fake = self._stack.enter_context(StrictAzure("bucket"))
            azure = Endpoint(fake.url, fake.storage_options, "bucket")
        self.proxies = {
            "S3": self._stack.enter_context(FaultProxy(self.s3.url, "s3")),
            "GCS": self._stack.enter_context(FaultProxy(self.gcs.url, "gcs")),
            "Azure": self._stack.enter_context(FaultProxy(azure.url, "azure")),
            "HTTP": self._stack.enter_context(FaultProxy(self.s3.url, "http")),
            "S3 by obstore": self._stack.enter_context(FaultProxy(self.s3.url, "s3")),
        }
        s3, gcs = self.proxies["S3"].url, self.proxies["GCS"].url
        self._stores: dict[str, Store] = {
            "S3": S3Store("s3://bucket", storage_options={**self.s3.storage_options, "endpoint_url": s3}, retry=POLICY),
            "GCS": GCSStore(
                "gs://bucket", storage_options={**self.gcs.storage_options, "endpoint_url": gcs}, retry=POLICY
            ),
            "Azure": AzureStore(
                f"az://{azure.bucket}/faults", storage_options=azure.through(self.proxies["Azure"]), retry=POLICY
            ),
            "HTTP": HTTPStore(self.proxies["HTTP"].url + "/bucket", retry=POLICY),
            "S3 by obstore": ObstoreStore(self._obstore(self.proxies["S3 by obstore"].url), retry=POLICY),
        }
        # What the HTTP store reads is written past the proxies: their faults are meant for others.
        self._direct = S3Store("s3://bucket", storage_options=self.s3.storage_options, retry=POLICY)
        return self

    @staticmethod
    def _obstore(url: str) -> object:
        from obstore.store import S3Store as ObstoreS3

        return ObstoreS3(
            "bucket",
            endpoint=url,
            access_key_id="test",
            secret_access_key="test",
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def __exit__(self, *_: object) -> None:
        for store in (*self._stores.values(), self._direct):
            store.close()
        self._stack.close()

    def store(self, service: str) -> tuple[Store, FaultProxy, str]:
        """A store, the proxy before it, and a key that holds ``OLD`` and that nobody else uses."""
        key = f"k{next(self._numbers)}"
        (self._direct if service == "HTTP" else self._stores[service]).write(key, OLD)
        return self._stores[service], self.proxies[service], key


def run(services: Services, cell: Cell) -> tuple[str, float]:
    """Run a cell.

    Returns:
        "ok", or the name of the error that was raised; and the seconds it took.
    Raises:
        AssertionError: wrong bytes, a change made twice or lost, or an error that is not one of ours.
    """
    store, proxy, key = services.store(cell.service)
    if cell.operation == "create":
        store.delete(key)
    put = {"GCS": "POST", "HTTP": "-"}.get(cell.service, "PUT")
    # obstore deletes one key by the call for many.
    delete = "POST" if cell.service == "S3 by obstore" else "DELETE"
    methods = {"write": put, "create": put, "update: PUT": put, "delete": delete}
    operations: dict[str, Callable[[], object]] = {
        "read all": lambda: _check_equal(store.get(key), OLD),
        "read a range": lambda: _check_equal(store.get(key, Span(50, 150)), OLD[50:150]),
        "write": lambda: store.write(key, NEW),
        "create": lambda: store.write(key, NEW, create_only=True),
        "update: GET": lambda: store.update(key, _append),
        "update: PUT": lambda: store.update(key, _append),
        "delete": lambda: store.delete(key),
    }
    proxy.inject(cell.kind.make(methods.get(cell.operation, "GET"), None if cell.for_ever else 1))
    began, outcome = time.monotonic(), "ok"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a server that ignores ranges
            operations[cell.operation]()
    except ZarrdockError as error:
        outcome = type(error).__name__
    finally:
        seconds = time.monotonic() - began
        proxy.clear()
    if not cell.operation.startswith("read"):
        _check_state(store, key, cell, outcome)
    return outcome, seconds


def run_all(services: Services, names: Sequence[str] = SERVICES) -> dict[Cell, tuple[str, float]]:
    """:func:`run` for all cells of those services, side by side."""

    def of_service(service: str) -> dict[Cell, tuple[str, float]]:
        return {cell: run(services, cell) for cell in cells() if cell.service == service}

    with ThreadPoolExecutor(len(names)) as pool:
        return {cell: result for part in pool.map(of_service, names) for cell, result in part.items()}


def _append(old: Buffer | None) -> bytes:
    return bytes(old or b"") + b"+"


def _check_equal(blob: object, expected: bytes) -> None:
    data = getattr(blob, "data", None)
    if data is None or bytes(data) != expected:
        raise AssertionError(f"{blob!r} instead of {len(expected)} bytes")


def _check_state(store: Store, key: str, cell: Cell, outcome: str) -> None:
    """Check the value of the key: changed once if that was reported done; once or not at all if not."""
    before = None if cell.operation == "create" else OLD
    after = {"delete": None, "update: GET": OLD + b"+", "update: PUT": OLD + b"+"}.get(cell.operation, NEW)
    blob = store.get(key)
    found = None if blob is None else bytes(blob.data)
    if found != after and (outcome == "ok" or found != before):
        raise AssertionError(f"{cell}: reported {outcome}, found {found!r}")
