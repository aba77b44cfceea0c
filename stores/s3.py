"""S3, and services that speak its protocol, through s3fs."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from zarrdock.config import config
from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.ranges import Range
from zarrdock.stores.base import Traits, Version
from zarrdock.stores.conditions import ABSENT, METADATA_NAME, Answer, Expected, Lineage
from zarrdock.stores.diagnose import Diagnosis, Kind, diagnose
from zarrdock.stores.fsspec_ import from_url, place_of
from zarrdock.stores.http_ranges import range_header
from zarrdock.stores.identity import Identity, partition_of, service_of_url
from zarrdock.stores.io_loop import Live, expect_bytes
from zarrdock.stores.remote import Page, RemoteStore

if TYPE_CHECKING:
    from zarrdock.stores.s3_direct_reads import DirectReads

__all__ = ["S3Store"]

MAX_PUT_BYTES = 5 * 2**30  # more is only taken in parts
DELETE_BATCH = 1000
# Measured: see docs/design/s3-direct-reads.md.
DIRECT_GAP_BYTES = 128 * 2**10


class S3Store(RemoteStore):
    """A prefix of an S3 bucket.

    One request for any read, and no HEAD before it; ETags are versions; writes are conditional where they must be
    (If-None-Match and If-Match, on DELETE too). An imitation of S3 may refuse such conditions as "not implemented", or
    ignore them without a word: a service that is not Amazon's is asked once in a process, by five small requests before
    the first conditional write. Without conditions it is a store without atomic updates, which refuses partial writes.

    Args:
        fs: a URL (``s3://bucket/prefix``), or an s3fs filesystem, of which a copy is used that does not retry by
            itself.
        path: bucket and prefix; only with a filesystem.
        storage_options: all of s3fs's (``anon``, ``key``, ``secret``, ``token``, ``profile``, ``endpoint_url``,
            ``client_kwargs``, ``requester_pays``, ...); only with a URL.
        direct_reads: send reads past botocore, over connections of their own (``docs/design/s3-direct-reads.md``),
            where its requests can be made equal. Without it, or where something unusual is configured, s3fs sends
            them. None: ``zarrdock.config.s3_direct_reads``.

    The other arguments are those of :class:`~zarrdock.stores.remote.RemoteStore`.

    >>> zarrdock.S3Store("s3://bucket/folder", storage_options={"anon": True}).url
    's3://bucket/folder'
    """

    # For reads through s3fs: CPU time of one request (about 2 ms) times the bandwidth it could have used. 0.7 MB
    # were measured on loopback.
    default_gap_bytes = 700_000
    put_may_repeat = True
    delete_may_repeat = True

    def __init__(
        self,
        fs: AbstractFileSystem | str,
        path: str = "",
        *,
        storage_options: Mapping[str, Any] | None = None,
        direct_reads: bool | None = None,
        **settings: Any,
    ) -> None:
        place = place_of(fs, path, storage_options, _from_url)
        super().__init__(_plain(place.fs), place.root, place.url, **settings)
        if not self._root:
            raise StoreError("an S3 store needs a bucket: s3://bucket/prefix", store=self)
        self._direct_reads = (
            _direct_reads_of(self._bridge._fs)
            if (bool(config.s3_direct_reads) if direct_reads is None else direct_reads)
            else None
        )
        if self._direct_reads is not None and settings.get("merge_gap_bytes") is None:
            self.traits = replace(self.traits, merge_gap_bytes=DIRECT_GAP_BYTES)

    def _make_traits(self, traits: Traits) -> Traits:
        return replace(super()._make_traits(traits), max_request_bytes=64 * 2**20)

    @property
    def identity(self) -> Identity:
        """The endpoint, the bucket and the prefix."""
        return Identity(self._service(), self._root)

    def _is_anonymous(self) -> bool:
        return bool(self._bridge.fs.anon)

    def _service(self) -> str:
        from zarrdock.stores.s3_fs import endpoint_of

        endpoint, region = endpoint_of(self._bridge.fs)
        return service_of_url("s3", endpoint, partition=partition_of(region))

    def _where(self, key: str) -> dict[str, str]:
        bucket, _, name = self._path(key).partition("/")
        return {"Bucket": bucket, "Key": name}

    # -- requests
    # ----------------------------------------------------------------------------------------------------------

    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        header = range_header(range_)
        etag = version if isinstance(version, str) else None  # of anything else, what came is not the version
        if self._direct_reads is not None:
            bucket, _, name = self._path(key).partition("/")
            found = await self._direct_reads.get(live, bucket, name, header, etag)
            if found is not None:
                return found
        options: dict[str, Any] = self._where(key)
        if header is not None:
            options["Range"] = header
        if etag is not None:
            options["IfMatch"] = etag
        answer = await live.fs._call_s3("get_object", **options)
        expect_bytes(answer.get("ContentLength", 0))
        async with answer["Body"] as body:  # the connection goes back to the pool, or is closed, whatever happens
            data: bytes = await body.read()
        return Answer(
            data,
            answer.get("ETag"),
            answer["ResponseMetadata"]["HTTPStatusCode"],
            answer.get("ContentRange"),
            answer.get("ContentLength"),
            Lineage.parse(answer.get("Metadata", {}).get(METADATA_NAME)),
        )

    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        if len(data) > MAX_PUT_BYTES:
            if expected is not None:
                raise UnsupportedError(
                    f"{self}: key {key!r}: a conditional write takes at most 5 GiB, not {len(data)} bytes"
                )
            await live.fs._pipe_file(self._path(key), data)
            return None  # asking for the version would be another request, for another moment
        options: dict[str, Any] = {**self._where(key), "Body": data, **_condition(expected)}
        if lineage is not None:
            metadata = live.fs.s3_additional_kwargs.get("Metadata", {})
            options["Metadata"] = {**metadata, METADATA_NAME: str(lineage)}
        answer = await self._less_checksums(live, lambda: live.fs._call_s3("put_object", **options))
        etag: Version = answer.get("ETag")
        return etag

    async def _less_checksums(self, live: Live, send: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Send a request with a body; where it is refused, once more without the checksum that botocore adds, which
        imitations of S3 may not know. What helped is kept.
        """
        config = (await live.fs.set_session()).meta.config
        before = getattr(config, "request_checksum_calculation", "when_required")
        try:
            return await send()
        except Exception as error:
            if before == "when_required" or not _may_be_about_headers(diagnose(error)):
                raise
            config.request_checksum_calculation = "when_required"
            try:
                answer = await send()
            except Exception:
                config.request_checksum_calculation = before
                raise error from error.__cause__
        live.fs.config_kwargs = {**live.fs.config_kwargs, "request_checksum_calculation": "when_required"}
        warnings.warn(
            f"{self.url}: the service refuses uploads with checksums, so they are sent without; config_kwargs="
            "{'request_checksum_calculation': 'when_required'} in storage_options avoids the first refused request",
            RuntimeWarning,
            stacklevel=2,
        )
        return answer

    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        await live.fs._call_s3("delete_object", **self._where(key), **_condition(expected))

    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        answer = await live.fs._call_s3("head_object", **self._where(key))
        return answer.get("ETag"), Lineage.parse(answer.get("Metadata", {}).get(METADATA_NAME))

    # -- sizes and listing
    # -------------------------------------------------------------------------------------------------

    async def _send_size(self, live: Live, key: str) -> tuple[int, Version]:
        answer = await live.fs._call_s3("head_object", **self._where(key))
        return int(answer["ContentLength"]), answer.get("ETag")

    async def _pages(self, live: Live, prefix: str, delimiter: str = "") -> AsyncIterator[Page]:
        """Pages of up to 1,000 names, one request each."""
        bucket, beginning = self._bucket_and_prefix(prefix)
        options: dict[str, Any] = {
            "Bucket": bucket,
            "Prefix": beginning,
            **({"Delimiter": delimiter} if delimiter else {}),
        }
        while True:
            answer: dict[str, Any] = await self._request(
                live, prefix, lambda: live.fs._call_s3("list_objects_v2", **options)
            )
            yield Page(
                {item["Key"]: int(item["Size"]) for item in answer.get("Contents", [])},
                [item["Prefix"] for item in answer.get("CommonPrefixes", [])],
            )
            if not answer.get("IsTruncated"):
                return
            options["ContinuationToken"] = answer["NextContinuationToken"]

    async def _delete_below(self, live: Live, prefix: str) -> None:
        bucket, beginning = self._bucket_and_prefix(prefix)
        start = len(beginning)
        names: list[str] = []
        async for page in self._pages(live, prefix):
            names += [name for name in page.sizes if len(name) > start]
        await self._delete_names(live, bucket, names)

    async def _delete_keys(self, live: Live, keys: Sequence[str]) -> None:
        bucket, beginning = self._bucket_and_prefix("")
        await self._delete_names(live, bucket, [beginning + key for key in keys])

    async def _delete_names(self, live: Live, bucket: str, names: list[str]) -> None:
        batches = [names[i : i + DELETE_BATCH] for i in range(0, len(names), DELETE_BATCH)]

        async def delete(batch: list[str]) -> None:
            await self._request(live, batch[0], lambda: self._send_delete_many(live, bucket, batch))

        await live.gather(delete, batches)

    async def _send_delete_many(self, live: Live, bucket: str, names: list[str]) -> None:
        request = {"Objects": [{"Key": name} for name in names], "Quiet": True}
        try:
            answer = await live.fs._call_s3("delete_objects", Bucket=bucket, Delete=request)
        except Exception as error:
            if not _may_be_about_headers(diagnose(error)):
                raise
            for name in names:  # a service that knows no such request, or not this one's checksum
                await live.fs._call_s3("delete_object", Bucket=bucket, Key=name)
            return
        if errors := answer.get("Errors"):
            first = errors[0]
            raise _NotDeletedError(
                f"{len(errors)} of {len(names)} keys could not be deleted, the first for {first.get('Message')}", first
            )


def _may_be_about_headers(found: Diagnosis) -> bool:
    """True for a refusal that may mean a header that the service does not know."""
    return found.status in (400, 411, 501) and found.kind in (Kind.OTHER, Kind.UNSUPPORTED)


class _NotDeletedError(Exception):
    """Some keys of a batch could not be deleted; carries the first error as botocore would."""

    def __init__(self, message: str, first: dict[str, Any]) -> None:
        super().__init__(message)
        self.response = {"Error": {"Code": first.get("Code", "")}, "ResponseMetadata": {}}


def _from_url(url: str, storage_options: dict[str, Any]) -> tuple[AbstractFileSystem, str]:
    _plain(None)  # a missing s3fs is reported in our words, not in fsspec's
    fs, path = from_url(url, storage_options)
    if not hasattr(fs, "_call_s3"):  # another library has taken the protocol
        from s3fs import S3FileSystem

        fs = S3FileSystem(**storage_options)
        path = fs._strip_protocol(url)
    return fs, path


def _condition(expected: Expected) -> dict[str, Any]:
    if expected is None:
        return {}
    return {"IfNoneMatch": "*"} if expected is ABSENT else {"IfMatch": expected}


def _direct_reads_of(fs: AbstractFileSystem) -> DirectReads | None:
    """Direct reads; None for a subclass of s3fs or a session that was handed in: it may have hooks we can't know."""
    from zarrdock.stores.s3_direct_reads import DirectReads
    from zarrdock.stores.s3_fs import is_usual

    return DirectReads() if is_usual(fs) else None


def _plain(fs: Any) -> Any:
    try:
        from zarrdock.stores.s3_fs import plain
    except ImportError as error:
        raise UnsupportedError('S3 needs s3fs: pip install "zarrdock[s3]"') from error
    return None if fs is None else plain(fs)
