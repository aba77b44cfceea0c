"""Imitations of S3 that refuse what newer clients add to requests, or store it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from aiohttp import web

import zarrdock
from support.servers import StrictS3
from zarrdock.errors import StoreError
from zarrdock.stores.retry import RetryPolicy
from zarrdock.stores.s3 import S3Store

pytestmark = pytest.mark.server

QUICK = RetryPolicy(attempts=3, deadline_seconds=60, attempt_seconds=20, initial=0.01, max=0.02)
DIRECT_READS = pytest.mark.parametrize("direct_reads", [True, False])


class Imitation(StrictS3):
    """A fake of S3 that knows less than the service."""

    def __init__(self) -> None:
        super().__init__("bucket")
        self.knows_checksums = True
        self.wants_md5 = self.knows_batches = True
        self.adds = b""
        self.seen: list[tuple[str, bool, bool]] = []

    def _dispatch(self, request: web.BaseRequest, body: bytes) -> web.Response:
        names = {name.lower() for name in request.headers}
        has_checksum = any("checksum" in name or name == "x-amz-trailer" for name in names)
        self.seen.append((request.method, has_checksum, "content-md5" in names))
        if request.method == "PUT" and has_checksum and not self.knows_checksums:
            return refused(400, "NotImplemented", "A header you provided implies functionality that is not implemented")
        if request.method == "POST" and self.wants_md5 and "content-md5" not in names:
            return refused(400, "MissingContentMD5", "Missing required header for this request: Content-MD5")
        if request.method == "POST" and not self.knows_batches:
            return refused(501, "NotImplemented", "DeleteObjects")
        if request.method == "PUT" and has_checksum:
            body = self.adds + body
        return super()._dispatch(request, body)


def refused(status: int, code: str, message: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@pytest.fixture
def server() -> Iterator[Imitation]:
    with Imitation() as server:
        yield server


def open_at(server: Imitation, direct_reads: bool, **more: Any) -> S3Store:
    options = {**server.storage_options, **more}
    return S3Store("s3://bucket/x", storage_options=options, retry=QUICK, direct_reads=direct_reads)


def use(store: S3Store, server: Imitation) -> None:
    """Write wholly and in part, look at the bytes, delete."""
    array = zarrdock.create_array(store, shape=(64,), dtype="u1", chunks=(8,), compressors=None)
    array[:] = np.arange(64)
    array[3:5] = 0
    assert server.buckets["bucket"]["x/c/1"].data == bytes(range(8, 16))
    assert array[:6].tolist() == [0, 1, 2, 0, 0, 5]
    store.delete_prefix("c")
    assert [key for key in server.buckets["bucket"] if "/c/" in key] == []


@DIRECT_READS
def test_checksums_are_refused(server: Imitation, direct_reads: bool) -> None:
    server.knows_checksums = False
    with pytest.warns(RuntimeWarning, match="request_checksum_calculation") as caught:
        use(open_at(server, direct_reads), server)
    assert len(caught) == 1
    puts = [has_checksum for method, has_checksum, _ in server.seen if method == "PUT"]
    assert puts.index(False) == 1, "found out by the first"
    assert not any(puts[1:])


@DIRECT_READS
def test_checksums_that_were_turned_off(server: Imitation, direct_reads: bool) -> None:
    server.knows_checksums = False
    use(open_at(server, direct_reads, config_kwargs={"request_checksum_calculation": "when_required"}), server)
    assert not any(has_checksum for method, has_checksum, _ in server.seen if method == "PUT")


@DIRECT_READS
def test_checksums_stay_where_they_are_known(
    server: Imitation, direct_reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(server, direct_reads)
    use(store, server)
    assert all(has_checksum for method, has_checksum, _ in server.seen if method == "PUT")
    assert all(has_md5 for method, _, has_md5 in server.seen if method == "POST")
    server.seen.clear()
    monkeypatch.setattr(server, "_put", lambda *_: refused(400, "InvalidStorageClass", "no such class"))
    with pytest.raises(StoreError, match="no such class"):
        store.write("k", b"1")
    monkeypatch.undo()
    server.seen.clear()
    store.write("k", b"1")
    assert [has_checksum for _, has_checksum, _ in server.seen] == [True], "an error of another kind changes nothing"


@DIRECT_READS
@pytest.mark.parametrize("wants_md5", [True, False])
def test_no_batches(server: Imitation, direct_reads: bool, wants_md5: bool) -> None:
    server.knows_batches, server.wants_md5 = False, wants_md5
    use(open_at(server, direct_reads), server)


@DIRECT_READS
def test_uploads_that_are_stored_with_what_was_added(server: Imitation, direct_reads: bool) -> None:
    server.adds = b"10000;chunk-signature=..."
    with pytest.raises(StoreError, match="when_required"):
        zarrdock.create_array(open_at(server, direct_reads), shape=(4,), dtype="u1")
    assert server.buckets["bucket"] == {}
    use(open_at(server, direct_reads, config_kwargs={"request_checksum_calculation": "when_required"}), server)


def test_etags_that_are_no_hashes(server: Imitation, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with encryption: the mark is read once to see that it is what was sent."""
    monkeypatch.setattr("support.strict_s3._etag", lambda data: f'"{hash(data):x}"')
    use(open_at(server, True), server)
    # The mark: made, read, replaced; and beside it, in either order, a look at the group above the opened place.
    methods = [method for method, _, _ in server.seen[:4]]
    assert methods in (["GET", "PUT", "GET", "PUT"], ["PUT", "GET", "GET", "PUT"])
