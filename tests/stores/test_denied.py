"""Services that do not say "not found" of what is missing: 403, pages of HTML; and what they say of credentials."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import fsspec
import numpy as np
import obstore.store
import pytest
from aiohttp import web

import zarrdock
from support.servers import Fault, FaultProxy, StrictGCS, StrictS3
from support.strict_s3 import _Refused
from zarrdock.errors import AccessError, NodeNotFoundError, StoreError, UnsupportedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.base import Store
from zarrdock.stores.diagnose import HttpStatusError, Kind, diagnose, translate
from zarrdock.stores.gcs import GCSStore
from zarrdock.stores.http_ import HTTPStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.obstore_ import ObstoreStore
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=60, attempt_seconds=20, initial=0.01, max=0.02)
PAGE = b"<!doctype html><html><body>" + b"x" * 500


class Denying(StrictS3):
    """Says 403 of what is missing, or sends a page."""

    page: bytes | None = None
    types_all_html = False

    def _dispatch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        try:
            response = super()._dispatch(request, body)
        except _Refused as error:
            if error.code != "NoSuchKey" or request.method not in ("GET", "HEAD"):
                raise
            if self.page is not None:
                return web.Response(body=self.page, content_type="text/html", charset="utf-8")
            raise _Refused(403, "AccessDenied", "Access Denied") from error
        if self.types_all_html:
            response.content_type = "text/html"
        return response


@pytest.fixture
def server() -> Iterator[Denying]:
    with Denying("bucket") as server:
        server.put("bucket", "x/k", bytes(range(100)))
        yield server


def fill(server: StrictS3, make: Callable[[Store], object]) -> None:
    inside = MemoryStore()
    make(inside)
    for entry in inside.list():
        blob = inside.get(entry.key)
        assert blob is not None
        server.put("bucket", f"x/{entry.key}", bytes(blob.data))


Client = Callable[..., Store]


def by_s3fs(server: StrictS3, url: str = "", **settings: Any) -> Store:
    options = {**server.storage_options, "endpoint_url": url or server.url}
    return S3Store("s3://bucket/x", storage_options=options, retry=QUICK, **settings)


def by_botocore(server: StrictS3, url: str = "", **settings: Any) -> Store:
    return by_s3fs(server, url, direct_reads=False, **settings)


def by_obstore(server: StrictS3, url: str = "", **settings: Any) -> Store:
    client = {"allow_http": True}
    inner = obstore.store.S3Store(
        "bucket",
        prefix="x",
        endpoint=url or server.url,
        access_key_id="test",
        secret_access_key="test",
        region="us-east-1",
        client_options=client,
    )
    return ObstoreStore(inner, retry=QUICK, **settings)


def by_http(server: StrictS3, url: str = "", **settings: Any) -> Store:
    return HTTPStore(f"{url or server.url}/bucket/x", retry=QUICK, **settings)


def by_obstore_http(server: StrictS3, url: str = "", **settings: Any) -> Store:
    address = f"{url or server.url}/bucket/x"
    inner = obstore.store.HTTPStore.from_url(address, client_options={"allow_http": True})
    return ObstoreStore(inner, retry=QUICK, **settings)


def by_fsspec(server: StrictS3, url: str = "", **settings: Any) -> Store:
    """A generic filesystem that raises PermissionError."""
    fs = fsspec.filesystem("simplecache", fs=_s3fs(server, url))
    return zarrdock.open_store(fs, path="bucket/x", retry=QUICK, **settings)


def _s3fs(server: StrictS3, url: str) -> Any:
    return fsspec.filesystem("s3", **{**server.storage_options, "endpoint_url": url or server.url})


EVERY = pytest.mark.parametrize("client", [by_s3fs, by_botocore, by_obstore, by_http, by_obstore_http, by_fsspec])
SERVICES = pytest.mark.parametrize("client", [by_s3fs, by_botocore, by_obstore])
WEB = pytest.mark.parametrize("client", [by_http, by_obstore_http])


# -- 403 ---------------------------------------------------------------------------------------------------------------


@EVERY
def test_denied_is_missing_only_where_it_is_said_to_be(client: Client, server: Denying) -> None:
    for use in (lambda s: s.get("no"), lambda s: s.get("no", Span(1, 2)), lambda s: s.get("no", Tail(3))):
        with pytest.raises(AccessError, match=r"missing_statuses=\(403,\)"):
            use(client(server))
        assert use(client(server, missing_statuses=(403,))) is None
    assert client(server, missing_statuses=(403,)).size("no") is None
    assert client(server, missing_statuses=[403]).exists("k")
    assert bytes(client(server, missing_statuses=(403,)).get("k", Span(1, 4)).data) == b"\1\2\3"  # type: ignore[union-attr]
    with pytest.raises(AccessError):
        client(server, missing_statuses=(400,)).get("no")


def test_on_google_cloud_storage() -> None:
    with StrictGCS("bucket") as server, FaultProxy(server.url, "gcs") as proxy:
        proxy.inject(Fault("status", status=403, path="missing", times=None))
        options = {**server.storage_options, "endpoint_url": proxy.url}
        store = GCSStore("gs://bucket/x", storage_options=options, retry=QUICK)
        with pytest.raises(AccessError):
            store.get("missing")
        store = GCSStore("gs://bucket/x", storage_options=options, retry=QUICK, missing_statuses=(403,))
        assert store.get("missing") is None
        assert store.size("missing") is None


@SERVICES
def test_writes_are_never_missing(client: Client, server: Denying) -> None:
    with FaultProxy(server.url) as proxy:
        store = client(server, proxy.url, missing_statuses=(403,), conditional_writes=True)
        store.update("new", lambda old: b"1" if old is None else b"2")
        proxy.inject(Fault("status", status=403, method="PUT|DELETE|POST", times=None))
        for use in (
            lambda: store.write("new", b"3"),
            lambda: store.delete("new"),
            lambda: store.update("new", lambda _: b"3"),
            lambda: store.write("k", b"3", create_only=True),
        ):
            with pytest.raises(AccessError):
                use()
        assert bytes(store.get("new").data) == b"1"  # type: ignore[union-attr]


@SERVICES
@pytest.mark.parametrize(
    "code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
)
def test_what_is_said_of_credentials_is_not_said_of_keys(client: Client, code: str, server: Denying) -> None:
    with FaultProxy(server.url) as proxy:
        proxy.inject(Fault("status", status=403, code=code, times=None))
        with pytest.raises(AccessError, match="credentials"):
            client(server, proxy.url, missing_statuses=(403,)).get("k")


@EVERY
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_denied_probes_for_other_formats_do_not_matter(client: Client, zarr_format: Any, server: Denying) -> None:
    def make(store: Store) -> None:
        group = zarrdock.create_group(store, zarr_format=zarr_format, attributes={"a": 1})
        group.create_array("v", data=np.arange(4), chunks=(2,), attributes={"units": "m"})
        group.create_group("g")
        zarrdock.consolidate_metadata(store)

    fill(server, make)
    store = client(server)
    group = zarrdock.open_group(store)
    assert group.attrs["a"] == 1
    assert sorted(name for name, _ in group.arrays()) == ["v"]
    assert zarrdock.open_array(store, path="v")[:].tolist() == [0, 1, 2, 3]
    assert zarrdock.open(store, path="v").attrs["units"] == "m"
    with pytest.raises(AccessError, match="missing_statuses"):
        zarrdock.open_array(store, path="w")
    with pytest.raises(NodeNotFoundError):
        zarrdock.open_array(client(server, missing_statuses=(403,)), path="w")


def test_no_more_requests_where_nothing_is_denied() -> None:
    with StrictS3("bucket") as server, FaultProxy(server.url) as proxy:
        fill(server, lambda store: zarrdock.create_array(store, data=np.arange(4)))
        zarrdock.open_array(by_http(server, proxy.url))
        assert len(proxy.sent()) == 3


@EVERY
def test_absent_chunks(client: Client, server: Denying) -> None:
    fill(server, lambda store: zarrdock.create_array(store, shape=(8,), dtype="i4", chunks=(2,), fill_value=5))
    with pytest.raises(AccessError):
        zarrdock.open_array(client(server), zarr_format=3)[:]
    assert zarrdock.open_array(client(server, missing_statuses=(403,)))[:].tolist() == [5] * 8


def test_open_store_hands_it_on(server: Denying) -> None:
    store = zarrdock.open_store(f"{server.url}/bucket/x", missing_statuses=(403,))
    assert store.get("no") is None
    for place in ("/tmp", {}):
        with pytest.raises(UnsupportedError, match="missing_statuses="):
            zarrdock.open_store(place, missing_statuses=(403,))
    for wrong in (503, 301, 0):
        with pytest.raises(ValueError, match="never means that a key is missing"):
            HTTPStore(server.url, missing_statuses=(wrong,))


# -- pages of HTML -----------------------------------------------------------------------------------------------------


@WEB
def test_a_page_is_no_object(client: Client, server: Denying) -> None:
    server.page = PAGE
    store = client(server)
    for use in (
        lambda s: s.get("no"),
        lambda s: s.get("no", Span(0, 64)),
        lambda s: s.get("no", Tail(3)),
        lambda s: s.size("no"),
    ):
        with pytest.raises(AccessError, match=r"page of HTML.*missing_statuses=\(200,\)"):
            use(store)
        assert use(client(server, missing_statuses=(200,))) is None
    server.put("bucket", "x/doc/index.html", PAGE)
    server.types_all_html = True
    assert bytes(store.get("doc/index.html").data) == PAGE  # type: ignore[union-attr]


@WEB
@pytest.mark.parametrize("chunks", [(len(PAGE),), (64,)])
def test_a_page_is_no_pixels(client: Client, chunks: tuple[int, ...], server: Denying) -> None:
    def make(store: Store) -> None:
        array = zarrdock.create_array(store, shape=(4 * chunks[0],), dtype="u1", chunks=chunks, compressors=None)
        array[: chunks[0]] = 3

    fill(server, make)
    server.page = PAGE[: chunks[0]]
    array = zarrdock.open_array(client(server))
    assert array[:4].tolist() == [3] * 4
    with pytest.raises(AccessError, match="page of HTML"):
        array[:]
    with pytest.raises(AccessError, match="page of HTML"):
        array[chunks[0] + 1]
    lenient = zarrdock.open_array(client(server, missing_statuses=(200,)))
    assert set(lenient[chunks[0] :].tolist()) == {0}


def test_a_server_that_calls_everything_html(server: Denying) -> None:
    server.types_all_html = True
    fill(server, lambda store: zarrdock.create_array(store, data=np.arange(8), chunks=(4,), shards=(8,)))
    assert zarrdock.open_array(by_http(server))[2:5].tolist() == [2, 3, 4]


# -- what is said ------------------------------------------------------------------------------------------------------


def test_anonymous_readers_are_not_told_to_be_anonymous(server: Denying) -> None:
    anonymous = {"anon": True, "endpoint_url": server.url, "client_kwargs": {"region_name": "us-east-1"}}
    client = {"allow_http": True}
    unsigned = obstore.store.S3Store("bucket", endpoint=server.url, skip_signature=True, client_options=client)
    for store in (S3Store("s3://bucket/x", storage_options=anonymous), by_http(server), ObstoreStore(unsigned)):
        with pytest.raises(AccessError, match="anonymous readers may not read this") as caught:
            store.get("no")
        assert "anon=True" not in str(caught.value)
    for store in (by_s3fs(server), by_obstore(server)):
        with pytest.raises(AccessError, match="anon=True"):
            store.get("no")


NOW = datetime.now(UTC)


def signed(style: str, seconds: int) -> str:
    """The query of a URL whose signature is good for so many seconds more."""
    begin = (NOW - timedelta(hours=1)).strftime("%Y%m%dT%H%M%SZ")
    end = NOW + timedelta(seconds=seconds)
    return {
        "aws": f"X-Amz-Date={begin}&X-Amz-Expires={3600 + seconds}&X-Amz-Signature=abc",
        "google": f"X-Goog-Date={begin}&X-Goog-Expires={3600 + seconds}&X-Goog-Signature=abc",
        "cloudfront": f"Expires={int(end.timestamp())}&Signature=abc&Key-Pair-Id=K",
        "azure": f"sv=2024-01-01&se={end.strftime('%Y-%m-%dT%H:%M:%SZ')}&sig=abc",
    }[style]


@pytest.mark.parametrize("style", ["aws", "google", "cloudfront", "azure"])
def test_signed_urls_expire(style: str, server: Denying) -> None:
    with FaultProxy(server.url, "http") as proxy:
        proxy.inject(Fault("status", status=403, times=None))
        url = f"{proxy.url}/bucket/x?{signed(style, -60)}"
        with pytest.raises(AccessError, match="the credentials have expired"):
            HTTPStore(url, missing_statuses=(403,)).get("k")
        with pytest.raises(AccessError, match="access denied"):
            HTTPStore(f"{proxy.url}/bucket/x?{signed(style, 600)}").get("k")


@pytest.mark.parametrize(
    "error",
    [
        HttpStatusError(403, "Request has expired", code="AccessDenied"),
        HttpStatusError(403, "Signature not valid in the specified time frame", code="AuthenticationFailed"),
        type("RefreshError", (Exception,), {})("('invalid_grant: Token has been expired or revoked.')"),
        type("TokenRetrievalError", (Exception,), {})("Error when retrieving token from sso: Token has expired"),
        type("SSOError", (Exception,), {})("The SSO session associated with this profile has expired"),
    ],
    ids=lambda error: str(error)[:30],
)
def test_expired_is_called_expired(error: Exception) -> None:
    assert diagnose(error).kind is Kind.EXPIRED
    translated = translate(error, is_anonymous=False)
    assert isinstance(translated, AccessError)
    assert "get new ones" in str(translated)


def test_an_expired_session_is_not_a_stale_version() -> None:
    assert diagnose(HttpStatusError(412, "expired")).kind is Kind.PRECONDITION
    assert isinstance(translate(HttpStatusError(500, "expired")), StoreError)


@pytest.mark.parametrize("status", [400, 405, 418, 451])
def test_statuses_that_mean_nothing_else(status: int) -> None:
    """Servers that answer so for keys that are not there: told by the error, taken so where that is asked for."""
    document = json.dumps(zarrdock.create_array({}, shape=4, dtype="i4", chunks=2, fill_value=7).metadata.to_json())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path.endswith("zarr.json")
            body = document.encode() if there else b""
            self.send_response(200 if there else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.zarr"
        array = zarrdock.open_array(url)  # other documents are asked for, too
        with pytest.raises(StoreError, match=rf"HTTP {status}.*missing_statuses=\({status},\)"):
            array[...]
        store = zarrdock.open_store(url, missing_statuses=(status,))
        assert zarrdock.open_array(store)[...].tolist() == [7] * 4
        server.shutdown()
