"""Direct reads from S3 send what botocore would have sent, and leave to it what they can't tell."""

import asyncio
import base64
import datetime as dt
import hashlib
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import FlexibleChecksumError

from support.servers import Endpoint, Fault, FaultProxy
from zarrdock.config import config
from zarrdock.errors import AccessError, StoreError, VersionChangedError
from zarrdock.ranges import Span
from zarrdock.stores import s3 as s3_module
from zarrdock.stores import s3_direct_reads
from zarrdock.stores.base import Read
from zarrdock.stores.diagnose import Kind, diagnose, xml_error
from zarrdock.stores.http_connections import Origin
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=10, attempt_seconds=3, initial=0.01, max=0.02)
DATA = bytes(range(100))
SIGNED = {"key": "AKIDEXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG"}


@pytest.fixture(scope="module")
def proxy(strict_s3: Endpoint) -> Iterator[FaultProxy]:
    with FaultProxy(strict_s3.url, "s3") as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, strict_s3: Endpoint, prefix: str) -> S3Store:
    proxy.clear()
    s3_direct_reads._known.clear()  # stores with equal options share a client, and what it found out
    return S3Store(f"s3://{strict_s3.bucket}/{prefix}", storage_options=strict_s3.through(proxy), retry=QUICK)


@pytest.fixture
def botocore_calls(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The GETs that went to s3fs, the one that was never sent included."""
    calls: list[dict[str, Any]] = []
    call = store.fs._call_s3

    async def count(method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "get_object":
            calls.append(kwargs)
        return await call(method, *args, **kwargs)

    monkeypatch.setattr(store.fs, "_call_s3", count)
    return calls


def route_of(store: S3Store, bucket: str = "bucket") -> Any:
    return store._bridge.run(lambda live: s3_direct_reads._find_route(live, bucket))


def opened(**options: Any) -> S3Store:
    return S3Store("s3://bucket/x", storage_options=options)


# -- which requests go through it --------------------------------------------------------------------------------------


def test_botocore_is_asked_once_a_bucket(
    store: S3Store, proxy: FaultProxy, botocore_calls: list[dict[str, Any]]
) -> None:
    version = store.write("k", DATA)
    proxy.clear()
    for i in range(5):
        assert store.get("k", Span(i, i + 9)).data == DATA[i : i + 9]
    assert store.read([Read("k", None, version), Read("missing")])[1] is None
    assert isinstance(store.read([Read("k", None, '"stale"')])[0], VersionChangedError)
    statuses = [seen.status for seen in proxy.log]
    assert statuses[:5] == [206] * 5
    assert sorted(statuses[5:7]) == [200, 404]  # of one batch
    assert statuses[7:] == [412]
    assert len(botocore_calls) == 1
    assert botocore_calls[0]["Key"] == s3_direct_reads._PROBE_KEY
    assert all("probe" not in seen.path for seen in proxy.log)


def test_many_first_reads_share_one_question(store: S3Store, botocore_calls: list[dict[str, Any]]) -> None:
    store.write("k", DATA)
    assert {blob.data for blob in store.read([Read("k", Span(3, 7))] * 40)} == {DATA[3:7]}
    assert len(botocore_calls) == 1


def test_stores_of_one_client_share_its_answers_and_connections(
    store: S3Store, strict_s3: Endpoint, proxy: FaultProxy, botocore_calls: list[dict[str, Any]]
) -> None:
    store.write("k", DATA)
    others = [S3Store(store.url, storage_options=strict_s3.through(proxy), retry=QUICK) for _ in range(3)]
    assert {one.get("k", Span(3, 7)).data for one in [store, *others]} == {DATA[3:7]}
    assert len(botocore_calls) == 1
    assert len({id(one._direct_reads._routes[strict_s3.bucket].origin) for one in [store, *others]}) == 1
    # What botocore learns, all of them learn.
    proxy.inject(Fault("status", 400))
    assert others[0].get("k").data == DATA
    assert others[1].get("k").data == DATA
    S3Store(store.url, storage_options=strict_s3.through(proxy), retry=QUICK).get("k")
    assert [call["Key"] == s3_direct_reads._PROBE_KEY for call in botocore_calls] == [True, False, True]


def test_a_new_store_looks_for_listeners_again(store: S3Store, botocore_calls: list[dict[str, Any]]) -> None:
    heard: list[str] = []

    def listen(request: Any, **_: Any) -> None:
        heard.append(request.url)

    store.write("k", DATA)
    assert store.get("k").data == DATA
    store.fs.s3.meta.events.register("before-send.s3.*", listen)
    try:
        assert S3Store(store.fs, store.root, retry=QUICK).get("k").data == DATA
    finally:
        store.fs.s3.meta.events.unregister("before-send.s3.*", listen)
    assert len(heard) == 1


@pytest.mark.parametrize("way", ["argument", "config"])
def test_it_can_be_turned_off(
    store: S3Store, botocore_calls: list[dict[str, Any]], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "config":
        monkeypatch.setattr(config, "s3_direct_reads", 0)
    plain = S3Store(store.fs, store.root, direct_reads=False if way == "argument" else None)
    plain.write("k", DATA)
    assert plain.get("k").data == DATA
    assert [call["Key"].rpartition("/")[2] for call in botocore_calls] == ["k"]
    assert plain.traits.merge_gap_bytes == S3Store.default_gap_bytes
    assert store.traits.merge_gap_bytes == s3_module.DIRECT_GAP_BYTES


@pytest.mark.parametrize("key", ["a b/ü+(1)~&=%25.x", "%2e", "'quoted'", "c/0/1,2;3:4@5!$*", "日本/#?x=1"])
def test_names_with_anything_in_them(store: S3Store, key: str, botocore_calls: list[dict[str, Any]]) -> None:
    store.write(key, DATA)
    assert store.get(key, Span(1, 3)).data == DATA[1:3]
    assert len(botocore_calls) == 1


# -- the same requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "bucket", "prefix"),
    [
        ({**SIGNED, "endpoint_url": "http://127.0.0.1:1"}, "bucket", "http://127.0.0.1:1/bucket/"),
        ({"anon": True, "endpoint_url": "http://127.0.0.1:1/under"}, "bucket", "http://127.0.0.1:1/under/bucket/"),
        (SIGNED, "bucket", "https://bucket.s3.amazonaws.com/"),
        ({"anon": True}, "bucket", "https://bucket.s3.amazonaws.com/"),
        (
            {**SIGNED, "token": "session-token", "client_kwargs": {"region_name": "eu-central-1"}},
            "bucket",
            "https://bucket.s3.eu-central-1.amazonaws.com/",
        ),
        (
            {**SIGNED, "client_kwargs": {"region_name": "eu-central-1"}},
            "with.dots",
            "https://s3.eu-central-1.amazonaws.com/with.dots/",
        ),
        (
            {**SIGNED, "config_kwargs": {"s3": {"addressing_style": "path"}}},
            "bucket",
            "https://s3.us-east-1.amazonaws.com/bucket/",
        ),
        ({**SIGNED, "requester_pays": True}, "bucket", "https://bucket.s3.amazonaws.com/"),
    ],
)
def test_the_route_is_botocores(options: dict[str, Any], bucket: str, prefix: str) -> None:
    route = route_of(opened(**options), bucket)
    assert route.prefix == prefix or route.prefix == prefix.replace("s3.us-east-1", "s3")
    assert (route.credentials is None) == ("anon" in options)
    assert route.headers.get("x-amz-request-payer") == ("requester" if "requester_pays" in options else None)


@pytest.mark.parametrize(
    "options",
    [
        {**SIGNED, "config_kwargs": {"signature_version": "s3"}},
        {**SIGNED, "config_kwargs": {"proxies": {"https": "http://proxy:3128"}}},
        {
            **SIGNED,
            "s3_additional_kwargs": {
                "SSECustomerAlgorithm": "AES256",
                "SSECustomerKey": base64.b64encode(bytes(32)).decode(),
            },
        },
        {**SIGNED, "s3_additional_kwargs": {"VersionId": "abc"}},
        {**SIGNED, "s3_additional_kwargs": {"IfModifiedSince": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}},
    ],
)
def test_it_stands_aside_for_what_is_unusual(options: dict[str, Any]) -> None:
    assert route_of(opened(**options)) is None


def test_it_stands_aside_for_those_who_listen(store: S3Store, botocore_calls: list[dict[str, Any]]) -> None:
    heard: list[str] = []

    def listen(request: Any, **_: Any) -> None:
        heard.append(request.url)

    store.fs.connect()
    store.fs.s3.meta.events.register("before-send.s3.*", listen)
    try:
        store.write("k", DATA)
        assert store.get("k").data == DATA
    finally:  # fsspec shares clients of equal options
        store.fs.s3.meta.events.unregister("before-send.s3.*", listen)
    assert len(heard) == 2
    assert len(botocore_calls) == 1


def test_a_listener_that_is_off_is_no_reason(store: S3Store) -> None:
    class Stub:
        enabled = False

        def __call__(self, **_: Any) -> None:
            raise AssertionError

    store.fs.connect()
    stub, client = Stub(), store.fs.s3
    client.meta.events.register("choose-signer.s3.*", stub)  # which nobody emits for what is not signed
    try:
        assert not s3_direct_reads._is_hooked(client)
        stub.enabled = True
        assert s3_direct_reads._is_hooked(client)
    finally:
        client.meta.events.unregister("choose-signer.s3.*", stub)


def test_it_stands_aside_for_a_session_of_the_users(strict_s3: Endpoint) -> None:
    from aiobotocore.session import AioSession

    store = opened(**strict_s3.storage_options, session=AioSession(), skip_instance_cache=True)
    assert store._direct_reads is None
    assert store.traits.merge_gap_bytes == S3Store.default_gap_bytes


def test_a_region_that_botocore_learns_is_learnt(
    store: S3Store, proxy: FaultProxy, botocore_calls: list[dict[str, Any]]
) -> None:
    store.write("k", DATA)
    assert store.get("k").data == DATA
    # Anything a client of S3 has to understand is left to one; here the bad request passes by then.
    proxy.inject(Fault("status", 400))
    assert store.get("k").data == DATA
    assert [call["Key"] == s3_direct_reads._PROBE_KEY for call in botocore_calls] == [True, False]
    assert store.get("k").data == DATA
    assert [call["Key"] == s3_direct_reads._PROBE_KEY for call in botocore_calls] == [True, False, True]


def test_credentials_are_asked_for_each_request() -> None:
    class Rotating:
        n = 0

        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            self.n += 1
            return ReadOnlyCredentials(f"KEY{self.n}", "secret", f"token{self.n}")

    nowhere: Any = None
    origin = Origin("https", "b", None, n_max=1, connect_seconds=1, read_seconds=1, idle_seconds=1)
    route = s3_direct_reads._Route(nowhere, origin, "https://b/", {}, Rotating(), "eu-west-1", "s3")
    for i in (1, 2):
        _, headers = asyncio.run(route.request("k", None, None, "20260102T030405Z"))
        assert headers["X-Amz-Security-Token"] == f"token{i}"
        assert f"Credential=KEY{i}/20260102/eu-west-1/s3/aws4_request" in headers["Authorization"]


@pytest.mark.parametrize("token", ["", "session/token+of=some"])
@pytest.mark.parametrize("netloc", ["Bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "host:443", "[::1]:9000"])
@pytest.mark.parametrize(("range_", "etag"), [(None, None), ("bytes=-5", None), ("bytes=0-9", '"a  b"')])
def test_signatures_are_botocores(netloc: str, token: str, range_: str | None, etag: str | None) -> None:
    """The probe compares one request; here are others."""
    secret = ReadOnlyCredentials("AKIDEXAMPLE", "s3/cr+t", token)

    class Kept:
        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            return secret

    nowhere: Any = None
    origin = Origin("https", netloc, None, n_max=1, connect_seconds=1, read_seconds=1, idle_seconds=1)
    fixed = {
        "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD",
        "User-Agent": "some  one/1.0",
        "x-amz-request-payer": "requester",
    }
    route = s3_direct_reads._Route(nowhere, origin, f"https://{netloc}/under/", fixed, Kept(), "eu-west-1", "s3")
    for key in ("k", "a b/ü+(1)~&=%25.x", "'quoted'", "日本/#?x=1;y", "c/0/1"):
        url, ours = asyncio.run(route.request(key, range_, etag, "20260102T030405Z"))
        theirs = AWSRequest("GET", url, {name: value for name, value in ours.items() if name != "Authorization"})
        del theirs.headers["Accept-Encoding"]
        theirs.context["timestamp"] = "20260102T030405Z"
        signer = S3SigV4Auth(secret, "s3", "eu-west-1")
        expected = signer.signature(signer.string_to_sign(theirs, signer.canonical_request(theirs)), theirs)
        assert ours["Authorization"].endswith(f"Signature={expected}"), key


# -- answers -----------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_s3fs(store: S3Store, proxy: FaultProxy) -> None:
    plain = S3Store(store.url, storage_options=store.fs.storage_options, retry=QUICK, direct_reads=False)
    store.write("k", DATA)
    for status in (403, 404, 429, 500, 503):
        found = []
        for one in (store, plain):
            proxy.clear()
            proxy.inject(Fault("status", status, times=None))
            try:
                found.append((one.get("k", Span(0, 4)), len(proxy.log)))
            except StoreError as error:
                found.append((type(error), str(error).partition(":")[0], len(proxy.log)))
        proxy.clear()
        assert found[0] == found[1], status


def test_denied_says_so(store: S3Store, proxy: FaultProxy) -> None:
    proxy.inject(Fault("status", 403))
    with pytest.raises(AccessError, match="AccessDenied"):
        store.get("k")


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "after"),
    [
        (404, b"<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>", {}, Kind.NO_BUCKET, None),
        (404, b"not xml at all", {}, Kind.MISSING, None),
        (403, b"<Error><Code>ExpiredToken</Code></Error>", {}, Kind.EXPIRED, None),
        (503, b"", {"Retry-After": "3"}, Kind.SLOW_DOWN, 3.0),
        (503, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, Kind.SLOW_DOWN, None),
        (500, b"\xff<Code>Internal\xff</Code>", {}, Kind.SERVER, None),
    ],
)
def test_what_an_answer_means(
    status: int, body: bytes, headers: dict[str, str], kind: Kind, after: float | None
) -> None:
    found = diagnose(xml_error(status, body, headers))
    assert (found.kind, found.status, found.retry_after) == (kind, status, after)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("crc32", zlib.crc32(DATA).to_bytes(4, "big")),
        ("sha1", hashlib.sha1(DATA).digest()),
        ("sha256", hashlib.sha256(DATA).digest()),
    ],
)
def test_checksums_of_whole_objects(name: str, digest: bytes) -> None:
    headers = {f"x-amz-checksum-{name}": base64.b64encode(digest).decode()}
    s3_direct_reads._verify(DATA, headers)
    with pytest.raises(FlexibleChecksumError, match=name):
        s3_direct_reads._verify(DATA[1:] + b"x", headers)
    s3_direct_reads._verify(DATA[1:], {f"x-amz-checksum-{name}": "abc=-3"})  # of parts
