"""Operations whose requests are counted on the wire, and the services they are counted at.

Each service stands behind a :class:`FaultProxy` that counts, and delays each request so that rounds can be told apart.
The tests hold zarrdock to the budgets written here; ``python -m tools.request_table`` prints them beside
zarr-python.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

import zarrdock
from support.fault_proxy import Fault, FaultProxy, n_rounds
from support.servers import Endpoint, azurite_server, gcs_server, moto_server
from support.strict_azure import StrictAzure
from support.strict_gcs import StrictGCS
from support.strict_s3 import StrictS3
from zarrdock.ranges import Range, Span, Tail
from zarrdock.stores.base import Store
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.remote import RemoteStore
from zarrdock.stores.zip_ import ZipStore

__all__ = ["ACROSS", "INSIDE", "NEW", "N_CHILDREN", "OPERATIONS", "SERVICES", "Counted", "Operation", "Place", "count"]
__all__ += ["hierarchies", "load", "measure", "place", "values", "without_many_objects"]

Call: TypeAlias = Callable[[], object]
ZarrFormat: TypeAlias = Literal[2, 3]
Box: TypeAlias = tuple[slice, ...]
Service: TypeAlias = Literal[
    "S3", "S3 (moto)", "S3 by obstore", "GCS", "GCS (emulator)", "Azure", "Azure (Azurite)", "HTTP"
]

SERVICES: Final[tuple[Service, ...]] = (
    "S3",
    "S3 (moto)",
    "S3 by obstore",
    "GCS",
    "GCS (emulator)",
    "Azure",
    "Azure (Azurite)",
    "HTTP",
)
N_CHILDREN: Final = 1000
SHAPE: Final = (64, 64, 64)
SHARD: Final = (32, 32, 32)
CHUNK: Final = (8, 8, 8)
NEW: Final[Mapping[str, Any]] = {"shape": SHAPE, "dtype": "u2", "chunks": CHUNK, "shards": SHARD}
INSIDE: Final = (slice(4, 20), slice(4, 20), slice(4, 20))  # 27 chunks of one shard
ACROSS: Final = (slice(20, 44), slice(20, 44), slice(20, 44))  # a corner of each of 8 shards
ONE_SHARD: Final = (slice(0, 32), slice(0, 32), slice(0, 32))
PART: Final = (slice(2, 20), slice(2, 20), slice(2, 20))
# Long against the time a client takes to send a round of requests.
DELAY_SECONDS: Final = 0.15

_BUCKET: Final = "zarrdock-test"


@dataclass(frozen=True, slots=True)
class Counted:
    """Cost of a call: round trips one after another, and requests."""

    rounds: int
    requests: int

    def __str__(self) -> str:
        return f"{self.rounds} / {self.requests}"


@dataclass(slots=True)
class Place:
    """A service behind its proxy.

    Attributes:
        service: its name in the tables.
        scheme: ``s3``, ``gs``, ``az``, ``http``, or ``obstore``.
        options: storage options of the fsspec filesystem, by way of the proxy.
    """

    service: Service
    scheme: str
    proxy: FaultProxy
    options: dict[str, Any] = field(default_factory=dict)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, path: str) -> str:
        """The URL of a path in the bucket."""
        if self.scheme == "http":
            return f"{self.proxy.url}/{_BUCKET}/{path}"
        return f"{'s3' if self.scheme == 'obstore' else self.scheme}://{_BUCKET}/{path}"

    def store(self, path: str = "") -> Store:
        """A new store that knows nothing yet."""
        if self.scheme == "obstore":
            from obstore.store import S3Store

            return ObstoreStore(
                S3Store(
                    _BUCKET,
                    prefix=path or None,
                    endpoint=self.proxy.url,
                    access_key_id="test",
                    secret_access_key="test",
                    region="us-east-1",
                    client_options={"allow_http": True},
                )
            )
        return zarrdock.open_store(self.url(path), storage_options=self.options or None)

    def archive(self) -> Store:
        """The volume as a zip archive, not looked at yet."""
        return ZipStore((self.store(), "volume.zarr.zip"))

    def new(self) -> str:
        """A path that nobody has used."""
        return f"new-{next(self._names)}"


_SCHEMES: Final = {"s3": "s3", "gcs": "gs", "azure": "az"}


@contextlib.contextmanager
def place(service: Service, items: Mapping[str, bytes]) -> Iterator[Place]:
    """A running service that holds ``items``."""
    with contextlib.ExitStack() as stack:
        match service:
            case "S3" | "S3 by obstore" | "HTTP":
                strict = stack.enter_context(StrictS3(_BUCKET))
                upstream, options = strict.url, strict.storage_options
                for key, value in items.items():
                    strict.put(_BUCKET, key, value)
            case "GCS":
                strict_gcs = stack.enter_context(StrictGCS(_BUCKET))
                upstream, options = strict_gcs.url, strict_gcs.storage_options
                for key, value in items.items():
                    strict_gcs.put(_BUCKET, key, value)
            case "Azure":
                strict_azure = stack.enter_context(StrictAzure(_BUCKET))
                upstream, options = strict_azure.url, strict_azure.storage_options
                for key, value in items.items():
                    strict_azure.put(key, value)
            case "Azure (Azurite)":
                azurite = stack.enter_context(azurite_server(_BUCKET))
                upstream, options = azurite.url, azurite.storage_options
                load(zarrdock.open_store(f"az://{_BUCKET}", storage_options=options), items)
            case "S3 (moto)":
                moto = stack.enter_context(moto_server(_BUCKET))
                upstream, options = moto.url, moto.storage_options
                load(zarrdock.open_store(f"s3://{_BUCKET}", storage_options=options), items)
            case "GCS (emulator)":
                emulator = stack.enter_context(gcs_server(_BUCKET))
                upstream, options = emulator.url, emulator.storage_options
                load(zarrdock.open_store(f"gs://{_BUCKET}", storage_options=options), items)
        dialect: Literal["s3", "gcs", "azure"] = "s3"
        if service.startswith(("GCS", "Azure")):
            dialect = "gcs" if service.startswith("GCS") else "azure"
        proxy = stack.enter_context(FaultProxy(upstream, dialect))
        scheme = {"HTTP": "http", "S3 by obstore": "obstore"}.get(service, _SCHEMES[dialect])
        through = {} if scheme == "http" else Endpoint(upstream, options).through(proxy)
        opened = Place(service, scheme, proxy, through)
        if isinstance(store := opened.store(), RemoteStore):
            store.conditions()  # once in a process, five requests of an imitation of S3: not part of any operation
        yield opened


def load(store: Store, items: Mapping[str, bytes]) -> None:
    """Write many items."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.write(*item), items.items()))


# -- what is in the store ----------------------------------------------------------------------------------------------


def values() -> Any:
    """The volume: compressible, and different everywhere."""
    return np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.uint16)


def hierarchies(n_children: int = N_CHILDREN) -> dict[str, bytes]:
    """Keys and values: a sharded volume as v3 and as a zip archive, a v2 array, consolidated groups of both formats,
    and groups with many children, consolidated and not.
    """
    store = MemoryStore()
    volume = zarrdock.create_array(store, name="volume", data=values(), chunks=CHUNK, shards=SHARD)
    assert volume.shape == SHAPE
    zarrdock.create_array(store, name="v2", data=values()[:32, :32, :32], chunks=(16, 16, 16), zarr_format=2)
    for name, zarr_format in (("tree", 3), ("tree2", 2), ("plain", 3)):
        root = zarrdock.create_group(store, path=name, zarr_format=zarr_format)  # type: ignore[arg-type]
        for i in range(4):
            root.create_group(f"g{i}").create_array("a", shape=(4,), dtype="u1")
        if name != "plain":
            root.consolidate()
    for name in ("many", "many_plain"):
        root = zarrdock.create_group(store, path=name)
        for i in range(n_children):
            root.create_array(f"a{i:04}", shape=(4,), dtype="u1")
        if name == "many":
            root.consolidate()
    items = {entry.key: bytes(_data(store, entry.key)) for entry in store.list()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for key, value in items.items():
            if key.startswith("volume/"):
                file.writestr(key.removeprefix("volume/"), value)
    return {**items, "volume.zarr.zip": archive.getvalue()}


def without_many_objects(items: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same for services that take seconds for thousands of objects: the 1,000 arrays are in consolidated metadata
    only, where they are read from.
    """
    return {key: value for key, value in items.items() if not key.startswith(("many_plain/", "many/a"))}


def _data(store: Store, key: str) -> Any:
    blob = store.get(key)
    assert blob is not None
    return blob.data


# -- the operations ----------------------------------------------------------------------------------------------------

Prepare: TypeAlias = Callable[[Place], Call]


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the table.

    Attributes:
        rounds, requests: the most it may take.
        tails: of the requests, those for the end of an object. A service that knows no such ranges (Azure) takes one
            more for each, and one more round for all.
        prepare: gets everything ready, and returns what is to be counted.
        writes: it changes the store, lists: it asks for names: not for web servers.
    """

    name: str
    rounds: int
    requests: int
    prepare: Prepare
    writes: bool = False
    lists: bool = False
    tails: int = 0

    def most(self, service: str) -> tuple[int, int]:
        """Rounds and requests that it may take of that service."""
        n = self.tails if service.startswith("Azure") else 0
        return self.rounds + bool(n), self.requests + n

    def is_for(self, place: Place) -> bool:
        """True if the operation has a meaning there."""
        return not (place.scheme == "http" and (self.writes or self.lists))

    def __str__(self) -> str:
        return self.name


def count(proxy: FaultProxy, call: Call) -> Counted:
    """Rounds and requests of a call."""
    proxy.clear()
    proxy.inject(Fault("delay", seconds=DELAY_SECONDS, times=None))
    try:
        call()
    finally:
        log = list(proxy.log)
        proxy.clear()
    return Counted(n_rounds(log), len(log))


def measure(operation: Operation, where: Place) -> Counted:
    """Prepare an operation, and count it. Again where it took more rounds than it should: on a busy machine the
    requests of one round may be sent so slowly that they look like two.
    """
    for _ in range(3):
        counted = count(where.proxy, operation.prepare(where))
        if counted.rounds <= operation.most(where.service)[0]:
            break
    return counted


def _get(key: str, range_: Range = None) -> Prepare:
    def prepare(place: Place) -> Call:
        store = place.store("volume")
        return lambda: store.get(key, range_)

    return prepare


def _open(path: str, zarr_format: ZarrFormat | None) -> Prepare:
    def prepare(place: Place) -> Call:
        store = place.store(path)
        return lambda: zarrdock.open_array(store, zarr_format=zarr_format)

    return prepare


def _child(path: str, zarr_format: ZarrFormat | None) -> Prepare:
    def prepare(place: Place) -> Call:
        store = place.store(path)
        return lambda: zarrdock.open_group(store, zarr_format=zarr_format)["g2/a"].attrs.asdict()

    return prepare


def _read(box: Box, *, hot: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        array = zarrdock.open_array(place.store("volume"), zarr_format=3)
        if hot:
            array[box]
        return lambda: np.testing.assert_array_equal(array[box], values()[box])

    return prepare


def _list(path: str) -> Prepare:
    def prepare(place: Place) -> Call:
        store = place.store(path)

        def members() -> None:
            shapes = [array.shape for _, array in zarrdock.open_group(store, zarr_format=3).arrays()]
            assert shapes == [(4,)] * N_CHILDREN

        return members

    return prepare


def _members(place: Place) -> Call:
    store = place.store("plain")

    def members() -> None:
        assert [name for name, _ in zarrdock.open_group(store, zarr_format=3).members()] == ["g0", "g1", "g2", "g3"]

    return members


def _create(*, overwrite: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        store = place.store(place.new())
        return lambda: zarrdock.create_array(store, overwrite=overwrite, **NEW)

    return prepare


def _write(box: Box, *, existing: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        array = zarrdock.create_array(place.store(place.new()), **NEW)
        if existing:
            array[ONE_SHARD] = values()[ONE_SHARD]

        def write() -> None:
            array[box] = values()[box]

        return write

    return prepare


def _archive_opened(place: Place) -> Call:
    store = place.archive()
    return lambda: store.size("zarr.json")


def _archive_read(place: Place) -> Call:
    store = place.archive()
    store.size("zarr.json")
    return lambda: store.get("c/0/1/1")


OPERATIONS: Final = (
    Operation("get a whole object", 1, 1, _get("zarr.json")),
    Operation("get a range", 1, 1, _get("zarr.json", Span(5, 50))),
    Operation("get the last bytes", 1, 1, _get("zarr.json", Tail(20)), tails=1),
    Operation("get what is missing", 1, 1, _get("nothing")),
    Operation("open an array, format known", 1, 1, _open("volume", 3)),
    Operation("open an array, format unknown", 1, 3, _open("volume", None)),
    Operation("open a v2 array, format unknown", 1, 3, _open("v2", None)),
    Operation("open a consolidated group, and its child's child", 1, 1, _child("tree", 3)),
    Operation("the same, format unknown", 1, 3, _child("tree", None)),
    Operation("the same, v2, format unknown", 1, 3, _child("tree2", None)),
    Operation("box inside a shard, cold", 2, 2, _read(INSIDE), tails=1),
    Operation("box inside a shard, hot", 1, 1, _read(INSIDE, hot=True)),
    Operation("box over 8 shards, cold", 2, 16, _read(ACROSS), tails=8),
    Operation("box over 8 shards, hot", 1, 8, _read(ACROSS, hot=True)),
    Operation("a whole shard", 1, 1, _read(ONE_SHARD)),
    Operation("open a consolidated group of 1,000 arrays, and all of them", 1, 1, _list("many")),
    Operation("open a group without consolidated metadata, and its 4 members", 3, 6, _members, lists=True),
    Operation("open a zip archive", 2, 2, _archive_opened, tails=1),
    Operation("read an entry of it", 1, 1, _archive_read),
    Operation("create an array", 1, 2, _create(), writes=True),
    Operation("create an array with overwrite", 2, 3, _create(overwrite=True), writes=True),
    Operation("write a full shard", 1, 2, _write(ONE_SHARD), writes=True),
    Operation("write a part of a shard", 2, 3, _write(PART, existing=True), writes=True),
)
