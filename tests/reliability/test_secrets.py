"""Credentials stay where they were given: no error, repr, log or traceback text of ours shows them."""

import logging
import traceback

import pytest

import zarrdock
from support.servers import Fault, FaultProxy, StrictS3
from zarrdock.errors import ZarrdockError
from zarrdock.stores.azure import AzureStore
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.open import open_store
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store
from zarrdock.testing import RecordingStore

KEY, SECRET, TOKEN, PASSWORD, SIGNATURE = "AKIAFAKEKEY0", "fakesecret1", "faketoken2", "fakepassword3", "fakesignature4"
SECRETS = (SECRET, TOKEN, PASSWORD, SIGNATURE)
ONCE = RetryPolicy(attempts=1, deadline_seconds=3, attempt_seconds=3)


def shown(error: BaseException) -> str:
    """All that goes on with an error: message, attributes, and what pickle takes of it."""
    return "\n".join([str(error), repr(error), repr(vars(error)), repr(error.__reduce__())])


def clean(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.fixture(scope="module")
def proxy():
    with StrictS3("bucket") as server, FaultProxy(server.url) as proxy:
        server.put("bucket", "x/zarr.json", b"not json")
        yield proxy


def s3(proxy) -> S3Store:
    options = {"key": KEY, "secret": SECRET, "token": TOKEN, "endpoint_url": proxy.url}
    return S3Store("s3://bucket/x", storage_options=options, retry=ONCE)


def http(proxy) -> HTTPStore:
    url = (
        proxy.url.replace("http://", f"http://user:{PASSWORD}@")
        + f"/bucket/x?X-Amz-Signature={SIGNATURE}&sig={SIGNATURE}"
    )
    return HTTPStore(url, storage_options={"headers": {"Authorization": f"Bearer {TOKEN}"}}, retry=ONCE)


def gcs(proxy) -> GCSStore:
    options = {"project": "p", "token": "anon", "endpoint_url": proxy.url.replace("//", f"//user:{PASSWORD}@")}
    return GCSStore("gs://bucket/x", storage_options=options, retry=ONCE)


def azure(proxy) -> AzureStore:
    options = {"connection_string": f"BlobEndpoint={proxy.url};SharedAccessSignature=sv=2024-01-01&sig={SIGNATURE}"}
    return AzureStore("az://bucket/x", storage_options=options, retry=ONCE)


def azure_by_key(proxy) -> AzureStore:
    text = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={SECRET};BlobEndpoint={proxy.url};"
    return AzureStore("az://bucket/x", storage_options={"connection_string": text}, retry=ONCE)


@pytest.mark.server
@pytest.mark.parametrize("kind", ["status", "reset", "truncate"])
@pytest.mark.parametrize("make", [s3, http, gcs, azure, azure_by_key])
def test_errors_of_services(proxy, make, kind, caplog) -> None:
    with make(proxy) as store, caplog.at_level(logging.DEBUG, "zarrdock"):
        clean(f"{store} {store!r} {store.url} {RecordingStore(store)!r}")
        n_errors = 0
        for status in (403, 500, 401):
            proxy.clear()
            proxy.inject(Fault(kind, status=status, times=None))
            calls = [lambda: store.read([zarrdock.Read("k")]), lambda: zarrdock.open_array(store)]
            if store.traits.writable:
                calls += [
                    lambda: store.write("k", b"x"),
                    lambda: store.update("k", lambda _: b"x"),
                    lambda: zarrdock.create_array(store, shape=4, dtype="i4"),
                ]
            for call in calls:
                try:
                    call()
                except ZarrdockError as error:
                    n_errors += 1
                    clean(shown(error))
                    clean("".join(traceback.format_exception_only(error)))
        proxy.clear()
    assert n_errors >= 3
    clean("\n".join(record.getMessage() for record in caplog.records if record.name.startswith("zarrdock")))


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"http://user:{PASSWORD}@127.0.0.1:1/a.zip", {}),
        (f"http://127.0.0.1:1/a.zip?sig={SIGNATURE}", {}),
        (f"zip://::http://user:{PASSWORD}@127.0.0.1:1/a.zip?sig={SIGNATURE}", {}),
        (f"http://user:{PASSWORD}@127.0.0.1:1/a?X-Goog-Signature={SIGNATURE}", {}),
        (f"nosuchthing://user:{PASSWORD}@host/a?sig={SIGNATURE}", {}),
        ("s3://bucket/x", {"key": KEY, "secret": SECRET, "endpoint_url": "http://127.0.0.1:1"}),
        ("s3://bucket/x", {"key": KEY, "secret": SECRET, "no_such_option": SIGNATURE}),
        ("/tmp/nowhere/at/all", {"secret": SECRET}),
        ("memory://x", {"secret": SECRET}),
        ("gs://bucket/x", {"token": {"private_key": SECRET}, "endpoint_url": "http://127.0.0.1:1"}),
        (f"sftp://user:{PASSWORD}@127.0.0.1:1/a", {}),
        (f"ftp://user:{PASSWORD}@127.0.0.1:1/a", {}),
    ],
)
def test_urls_and_options(url, options) -> None:
    try:
        store = (
            open_store(url, storage_options=options, retry=ONCE)
            if "s3:" in url
            else open_store(url, storage_options=options)
        )
    except ZarrdockError as error:
        clean(shown(error))
        return
    clean(f"{store} {store!r} {store.url}")


def obstore_s3() -> zarrdock.Store:
    import obstore.store as stores

    store = stores.S3Store(
        "bucket",
        endpoint="http://127.0.0.1:1",
        access_key_id=KEY,
        secret_access_key=SECRET,
        token=TOKEN,
        client_options={"allow_http": True},
    )
    return open_store(store, retry=ONCE)


def obstore_http() -> zarrdock.Store:
    import obstore.store as stores

    url = f"http://user:{PASSWORD}@127.0.0.1:1/x?sig={SIGNATURE}"
    return open_store(stores.HTTPStore(url, client_options={"allow_http": True}), retry=ONCE)


def plain_s3() -> zarrdock.Store:
    options = {"key": KEY, "secret": SECRET, "token": TOKEN, "endpoint_url": "http://127.0.0.1:1"}
    return open_store("s3://bucket/x", storage_options=options, retry=ONCE)


def chained() -> zarrdock.Store:
    retries = {"retries": {"total_max_attempts": 1}}
    options = {"key": KEY, "secret": SECRET, "endpoint_url": "http://127.0.0.1:1", "config_kwargs": retries}
    return open_store("simplecache::s3://bucket/x", storage_options={"s3": options}, retry=ONCE)


def test_chains() -> None:
    test_stores_on_stores(chained, lambda store: store)


@pytest.mark.parametrize("make", [obstore_s3, obstore_http, plain_s3])
@pytest.mark.parametrize(
    "layer",
    [
        lambda store: store,
        lambda store: zarrdock.PrefixStore(store, "a"),
        zarrdock.ReadOnlyStore,
        RecordingStore,
        lambda store: zarrdock.CachingStore(store, max_bytes=1000),
        lambda store: zarrdock.ZipStore((store, "x.zip")),
        lambda store: store.with_costs(merge_gap_bytes=1),
        zarrdock.AsyncStore,
    ],
    ids=["itself", "prefix", "read-only", "recording", "caching", "zip", "costs", "async"],
)
def test_stores_on_stores(make, layer) -> None:
    store = layer(make())
    clean(f"{store} {store!r} {store.url}")
    if isinstance(store, zarrdock.AsyncStore):
        return
    with pytest.raises(ZarrdockError) as raised:
        store.get("k")
    clean(shown(raised.value))
    clean("".join(traceback.format_exception_only(raised.value)))
    with pytest.raises(ZarrdockError) as raised:
        zarrdock.open(store)
    clean(shown(raised.value))
