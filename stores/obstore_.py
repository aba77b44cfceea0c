"""obstore's stores, and objects that follow the obspec protocols, as stores.

They bring transport, credentials and signatures in compiled code; versions, conditional writes, retries and errors are
those of all our stores.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

from zarrdock.errors import InvalidKeyError, StoreError, UnsupportedError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Entry, Listing, Store, Traits, Value, Version
from zarrdock.stores.conditions import ABSENT, AZURE_METADATA_NAME, METADATA_NAME, Answer, Expected, Lineage
from zarrdock.stores.diagnose import HttpStatusError, Kind, PageError, diagnose, is_page, redact
from zarrdock.stores.identity import Identity
from zarrdock.stores.io_loop import Live
from zarrdock.stores.obstore_client import LOCAL_KINDS, Fetched, client_of, delete_if, identity_of, kind_of, plain
from zarrdock.stores.remote import Entries, RemoteStore
from zarrdock.stores.retry import RetryPolicy

__all__ = ["ObstoreStore"]

MAX_PUT_BYTES = 5 * 2**30  # more is only taken in parts
DELETE_BATCH = 1000
_CONDITIONAL_WRITES = ("s3", "gs", "az", "memory")
_CONDITIONAL_DELETES = ("s3", "az", "memory")
# What obstore says where a service knows no ranges that are counted from the end.
_NO_TAILS = "does not support suffix range"
# Errors of obstore where a server answered a range with the whole object.
_RANGE_IGNORED = ("Received non-partial response", "Range request not supported by")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STAGED = re.compile(r"#\d+$")  # what obstore calls a local file while it is being written


class ObstoreStore(RemoteStore):
    """An obstore store, or any object with the methods of obspec's protocols.

    Args:
        store: the object. Of obstore's own, one is made with the same settings that does not retry by itself, unless
            its ``retry_config`` was set.
        read_only: refuse every mutating verb.
        assume_single_writer: make ``update`` a plain read and write under a lock of this process, where the store has
            no conditional writes. The caller promises that no other process writes the same keys.
        retry: when to try again.
        n_concurrent: requests in flight at most.
        merge_gap_bytes: unwanted bytes that are cheaper to read than one more request.
        conditional_writes: the service refuses writes whose condition does not hold; None: an imitation of S3 is asked.
        missing_statuses: HTTP statuses that are taken for "no such key" in reads, beside 404 and 410.

    Of obstore's stores, those of S3, Google Cloud Storage, Azure and memory have versions and atomic updates. Its local
    files have neither (ETags of inode, time and size can come again): give the path instead, for
    :class:`~zarrdock.stores.local.LocalStore`. Other objects are trusted with versions where they tell an ETag, and
    with no conditional write.

    An update that deletes is a DELETE with If-Match, signed by obstore and sent by Python; on Google Cloud Storage,
    which takes no such request, it is refused. obstore does not survive ``fork``: a forked child gets an error.

    >>> import obstore
    >>> store = zarrdock.ObstoreStore(obstore.store.MemoryStore())
    >>> _ = store.write("key", b"value")
    >>> bytes(store.get("key").data)
    b'value'
    """

    put_may_repeat = True
    price_of_a_part = "a part costs two requests and the whole object"
    # A request takes 0.5 ms of CPU time, most of it the way into the event loop and back; a megabyte 1.4 ms. That is
    # 50 kB where the network brings 100 MB/s, and 380 KiB on loopback.
    default_gap_bytes = 64 * 1024
    _above: ObstoreStore | None = None

    def __init__(
        self,
        store: Any,
        *,
        read_only: bool = False,
        assume_single_writer: bool = False,
        retry: RetryPolicy | None = None,
        n_concurrent: int | None = None,
        merge_gap_bytes: int | None = None,
        conditional_writes: bool | None = None,
        missing_statuses: Collection[int] = (),
    ) -> None:
        self._kind = kind_of(store)
        self._metadata_name = AZURE_METADATA_NAME if self._kind == "az" else METADATA_NAME
        self._writable = self._kind != "http" and (hasattr(store, "put") or hasattr(store, "put_async"))
        self._listable = self._kind != "http" and hasattr(store, "list")
        super().__init__(
            client_of(plain(store)),
            "",
            _url_of(store, self._kind),
            remote=self._kind not in LOCAL_KINDS,
            read_only=read_only,
            assume_single_writer=assume_single_writer,
            retry=retry,
            n_concurrent=n_concurrent,
            merge_gap_bytes=merge_gap_bytes,
            conditional_writes=conditional_writes,
            missing_statuses=missing_statuses,
        )

    def _make_traits(self, traits: Traits) -> Traits:
        return replace(
            traits,
            writable=self._writable,
            listable=self._listable,
            atomic_update=self._kind in _CONDITIONAL_WRITES,
            conditional_read=self._kind != "file",
            one_request_tails=self._kind != "az",
        )

    @property
    def obstore(self) -> Any:
        """The object that is used: like the one that was given, or that itself."""
        return self.fs.store

    def _is_anonymous(self) -> bool:
        config = getattr(self._bridge.fs.store, "config", None) or {}
        return str(config.get("skip_signature", "")).lower() == "true"

    @property
    def identity(self) -> Identity:
        """The endpoint, account, bucket and prefix; an object that tells none of them is a place of its own."""
        return identity_of(self._bridge.fs.store)

    def above(self) -> tuple[Store, str] | None:
        store = self.obstore
        folder, _, name = str(getattr(store, "prefix", None) or "").strip("/").rpartition("/")
        if self._kind not in ("s3", "gs", "az") or not name:
            return None
        if self._above is None:  # made once: it has connections of its own
            args, kwargs = store.__getnewargs_ex__()
            self._above = ObstoreStore(
                type(store)(*args, **{**kwargs, "prefix": folder or None}),
                assume_single_writer=self.assume_single_writer,
                retry=self.retry,
                missing_statuses=self.missing_statuses,
            )
            self._above._kept = self._kept
        return self._above, name

    # -- the contract, where it differs -------------------------------------------------------------------------------

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        # Updates of a store in memory that delete look and act in two steps: nothing may come between.
        with self._exclusive(key) if self._kind == "memory" and not create_only else nullcontext():
            return super().write(key, value, create_only=create_only)

    def delete(self, key: str, /) -> None:
        with self._exclusive(key) if self._kind == "memory" else nullcontext():
            super().delete(key)

    def delete_many(self, keys: Sequence[str], /) -> None:
        if self._kind != "memory":
            super().delete_many(keys)
            return
        for key in keys:
            self.delete(key)

    def delete_prefix(self, prefix: str, /) -> None:
        if self._kind != "memory":
            super().delete_prefix(prefix)
            return
        self._check_writable(prefix)
        for entry in self.list(prefix):
            self.delete(entry.key)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        options: dict[str, Any] = {}
        match range_:
            case Span(start, stop):
                options["range"] = (start, stop)
            case From(start):
                options["range"] = {"offset": start}
            case Tail(n) if not self.traits.one_request_tails:
                return await self._send_get_tail(live, key, n, version)
            case Tail(n):
                options["range"] = {"suffix": n}
        if version is not None:  # what is not one of ours is answered by the comparison with what came
            options["if_match"] = version[0] if isinstance(version, tuple) else version
        try:
            found = await live.call("fetch", key, options)
        except Exception as error:
            if isinstance(range_, Tail) and _NO_TAILS in str(error):
                self.traits = replace(self.traits, one_request_tails=False)
                return await self._send_get_tail(live, key, range_.n, version)
            if not any(text in str(error) for text in _RANGE_IGNORED):
                raise
            options.pop("range")
            found = await live.call("fetch", key, options)
            self._check_page(key, found)
            self._ignores_ranges |= found.meta["size"] > 0  # of an empty object there is no part
        self._check_page(key, found)
        first, last = found.span
        part = "range" in options and last > first
        return Answer(
            cast(bytes, memoryview(found.data)),  # not copied
            None if self._kind == "file" else _version(found.meta),
            206 if "range" in options else 200,
            f"bytes {first}-{last - 1}/{found.meta['size']}" if part else None,
            last - first,
            Lineage.parse(found.attributes.get(self._metadata_name)),
        )

    async def _send_size(self, live: Live, key: str) -> tuple[int, Version]:
        found = await live.call("fetch", key, {"head": True})
        self._check_page(key, found)
        return int(found.meta["size"]), _version(found.meta)

    def _check_page(self, key: str, found: Fetched) -> None:
        """Raise for a page of HTML in the place of the object."""
        content_type = found.attributes.get("Content-Type", "") if self._kind == "http" else ""
        if is_page(content_type, key):
            raise PageError(content_type)

    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        if len(data) > MAX_PUT_BYTES and expected is not None:
            raise UnsupportedError(
                f"{self}: key {key!r}: a conditional write takes at most 5 GiB, not {len(data)} bytes"
            )
        options: dict[str, Any] = {"use_multipart": len(data) > MAX_PUT_BYTES}
        if expected is ABSENT:
            options["mode"] = "create"
        elif expected is not None:
            e_tag, version = expected if isinstance(expected, tuple) else (expected, None)
            options["mode"] = {"e_tag": e_tag, "version": version} if version else {"e_tag": e_tag}
        if lineage is not None and self.traits.atomic_update:
            options["attributes"] = {self._metadata_name: str(lineage)}
        written = await live.call("send", key, data, options)
        return None if self._kind == "file" or not written else _version(written)

    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        if expected is None:
            await live.call("remove", [key])
        elif self._kind == "memory":
            if (await self._send_head(live, key))[0] != expected:
                raise HttpStatusError(412, "the object has changed")
            await live.call("remove", [key])
        elif self._kind in _CONDITIONAL_DELETES:
            e_tag = str(expected[0] if isinstance(expected, tuple) else expected)
            await asyncio.to_thread(delete_if, self.obstore, key, e_tag)
        else:
            raise UnsupportedError(
                f"{self}: key {key!r}: an update that deletes needs a conditional deletion, which obstore has not for "
                "this service; keep empty chunks (options={'write_empty_chunks': True}), or open the gs:// URL instead"
            )

    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        found = await live.call("fetch", key, {"head": True})
        return _version(found.meta), Lineage.parse(found.attributes.get(self._metadata_name))

    # -- sizes and listing --------------------------------------------------------------------------------------------

    async def _find(self, live: Live, prefix: str) -> Entries:
        self._check_listable()
        found = await self._request(live, prefix, lambda: live.call("list_all", prefix or None))
        return [Entry(key, int(meta["size"])) for meta in found for key in self._names_to_keys([meta["path"]], 0)]

    async def _list_level(self, live: Live, prefix: str) -> Listing:
        self._check_listable()
        level = await self._request(live, prefix, lambda: live.call("list_level", prefix or None))
        start = len(prefix) + 1 if prefix else 0
        keys = self._names_to_keys([meta["path"] for meta in level["objects"]], start)
        prefixes = self._names_to_keys([name.removesuffix("/") for name in level["common_prefixes"]], start)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    async def _delete_keys(self, live: Live, keys: Sequence[str]) -> None:
        batches = [[*keys[i : i + DELETE_BATCH]] for i in range(0, len(keys), DELETE_BATCH)]

        async def delete(batch: list[str]) -> None:
            try:
                await self._request(live, batch[0], lambda: live.call("remove", batch))
            except StoreError as error:
                if diagnose(error.__cause__ or error).kind is not Kind.MISSING:
                    raise
                # Some services report a missing key, and leave those behind it.
                await super(ObstoreStore, self)._delete_keys(live, batch)

        await live.gather(delete, batches)

    # -- names --------------------------------------------------------------------------------------------------------

    def _check_listable(self) -> None:
        if not self._listable:
            raise UnsupportedError(f"{self.url}: there is no listing here; open a node by its full path")

    def _check_key(self, key: str) -> None:
        super()._check_key(key)
        if _CONTROL.search(key) or (self._kind == "file" and _STAGED.search(key)):
            raise InvalidKeyError(
                "obstore does not support this key",
                key=key,
                store=self,
            )

    def _exclusive(self, key: str) -> Any:
        return super()._exclusive(f"{id(self.obstore)}/{key}" if self._kind == "memory" else key)


def _version(meta: Any) -> Version | None:
    """A token of an object's ETag, and of its generation or version where the service has one; None without an ETag
    that tells two objects apart.
    """
    e_tag, version = meta.get("e_tag"), meta.get("version")
    if not e_tag or e_tag.startswith("W/"):
        return None
    return (e_tag, version) if version else e_tag


def _url_of(store: Any, kind: str) -> str:
    match kind:
        case "":
            return f"<{type(store).__name__}>"
        case "memory":
            return "memory:"
        case "http":
            return redact(store.url)
        case "file":
            return f"file://{store.prefix or ''}"
    config = store.config
    bucket = config.get("container_name" if kind == "az" else "bucket", "")
    return f"{kind}://{bucket}/{store.prefix or ''}".rstrip("/")
