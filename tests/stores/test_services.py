"""What holds at the wire for every service with conditional requests, and for obstore in front of one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import obstore.store
import pytest

from support.servers import Endpoint, Fault, FaultProxy, Seen
from zarrdock.errors import KeyExistsError, StoreError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.base import Store
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=3, initial=0.01, max=0.02)
DATA = bytes(range(100))


def _s3(endpoint: Endpoint, prefix: str, retry: RetryPolicy) -> Store:
    return S3Store(f"s3://{endpoint.bucket}/{prefix}", storage_options=endpoint.storage_options, retry=retry)


def _gcs(endpoint: Endpoint, prefix: str, retry: RetryPolicy) -> Store:
    return GCSStore(f"gs://{endpoint.bucket}/{prefix}", storage_options=endpoint.storage_options, retry=retry)


def _azure(endpoint: Endpoint, prefix: str, retry: RetryPolicy) -> Store:
    return AzureStore(f"az://{endpoint.bucket}/{prefix}", storage_options=endpoint.storage_options, retry=retry)


def _obstore(endpoint: Endpoint, prefix: str, retry: RetryPolicy) -> Store:
    config: Any = {"endpoint": endpoint.url, "region": "us-east-1", "access_key_id": "a", "secret_access_key": "b"}
    options: Any = {"allow_http": True}
    inner = obstore.store.S3Store(endpoint.bucket, prefix=prefix, config=config, client_options=options)
    return ObstoreStore(inner, retry=retry)


@dataclass(frozen=True, slots=True)
class Service:
    """How one is reached: the fixture of its server, the proxy's dialect, the store, the method of its writes, the
    version that a request of it was made on condition of, the status of writes, and if ranges count from the end.
    """

    server: str
    dialect: Any
    make: Callable[[Endpoint, str, RetryPolicy], Store]
    put: str
    condition: Callable[[Seen], str]
    written: int = 200
    has_tails: bool = True


S3 = Service("strict_s3", "s3", _s3, "PUT", lambda seen: seen.if_match)
GCS = Service("strict_gcs", "gcs", _gcs, "POST", lambda seen: seen.path.partition("ifGenerationMatch=")[2])
AZURE = Service("strict_azure", "azure", _azure, "PUT", lambda seen: seen.if_match, 201, has_tails=False)
OBSTORE = replace(S3, make=_obstore)

own = pytest.mark.parametrize("service", [S3, GCS, AZURE], ids=["s3", "gcs", "azure"], scope="module", indirect=True)
every = pytest.mark.parametrize(
    "service", [S3, GCS, AZURE, OBSTORE], ids=["s3", "gcs", "azure", "obstore"], scope="module", indirect=True
)


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.param
    return found


@pytest.fixture(scope="module")
def endpoint(service: Service, request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue(service.server)
    return found


@pytest.fixture(scope="module")
def proxy(service: Service, endpoint: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(endpoint.url, service.dialect) as proxy:
        yield proxy


@pytest.fixture
def through(endpoint: Endpoint, proxy: FaultProxy) -> Endpoint:
    """The server, by way of the proxy."""
    proxy.clear()
    return replace(endpoint, url=proxy.url, storage_options=endpoint.through(proxy))


@pytest.fixture
def store(service: Service, through: Endpoint, prefix: str) -> Store:
    return service.make(through, prefix, QUICK)


@every
@pytest.mark.parametrize(
    ("range_", "header", "status"),
    [
        (None, "", 200),
        (Span(5, 9), "bytes=5-8", 206),
        (Span(90, 200), "bytes=90-199", 206),
        (From(7), "bytes=7-", 206),
        (Tail(4), "bytes=-4", 206),
        (Tail(400), "bytes=-400", 206),
    ],
)
def test_one_get_a_read(
    service: Service, store: Store, proxy: FaultProxy, range_: Range, header: str, status: int
) -> None:
    version = store.write("k", DATA)
    assert proxy.sent() == [(service.put, service.written)]
    for condition in (None, version):
        store.get("k", range_, version=condition)
        seen = [(seen.method, seen.range, service.condition(seen), seen.status) for seen in proxy.log]
        expected = [("GET", header, condition or "", status)]
        if isinstance(range_, Tail) and not service.has_tails:
            bounded = f"bytes={max(0, len(DATA) - range_.n)}-{len(DATA) - 1}"
            expected = [("HEAD", "", "", 200), ("GET", bounded, version or "", 206)]
        assert seen == expected
        proxy.clear()


@every
def test_no_bucket(service: Service, endpoint: Endpoint) -> None:
    store = service.make(replace(endpoint, bucket="not-there"), "x", QUICK)
    for verb in (lambda: store.get("k"), lambda: store.write("k", b""), lambda: list(store.list())):
        with pytest.raises(StoreError, match=r"no such (bucket|container)"):
            verb()


@own
def test_no_name_of_a_bucket(service: Service, endpoint: Endpoint) -> None:
    with pytest.raises(StoreError, match=r"needs a (bucket|container)"):
        service.make(replace(endpoint, bucket=""), "", QUICK)


@own
def test_one_request_for_one_request(service: Service, through: Endpoint, proxy: FaultProxy, prefix: str) -> None:
    # gcsfs would send six; retries of botocore times those of s3fs would be 25.
    once = service.make(through, prefix, RetryPolicy(attempts=1))
    once.write("k", DATA)
    proxy.clear()
    proxy.inject(Fault("status", 500, times=None))
    with pytest.raises(StoreError):
        once.get("k")
    assert len(proxy.log) == 1


# -- lost replies ------------------------------------------------------------------------------------------------------


@own
def test_an_update_whose_reply_was_lost_is_made_once(service: Service, store: Store, proxy: FaultProxy) -> None:
    for i in range(1, 6):
        proxy.inject(Fault("lost_reply", method=service.put))
        store.update("n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        assert store.get("n").data == b"%d" % i


@own
def test_a_creation_whose_reply_was_lost_is_ours(service: Service, store: Store, proxy: FaultProxy) -> None:
    proxy.inject(Fault("lost_reply", method=service.put))
    version = store.write("k", DATA, create_only=True)
    assert store.get("k", version=version).data == DATA
    proxy.inject(Fault("reset", method=service.put))
    with pytest.raises(KeyExistsError):
        store.write("k", DATA, create_only=True)


@own
def test_a_deletion_whose_reply_was_lost_is_done(store: Store, proxy: FaultProxy) -> None:
    store.write("k", DATA)
    proxy.inject(Fault("lost_reply", method="DELETE"))
    seen = []
    store.update("k", seen.append)
    assert seen == [DATA]
    assert store.get("k") is None
