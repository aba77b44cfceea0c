"""Stores of services with conditional requests: S3 by ETag, Google Cloud Storage by generation.

Their common part: reads that check the bytes and the version they got, and an update that is never lost, not even when
the reply to a write is lost. A service implements the six requests at the end.

**An update** reads the value with its version, changes it, and writes it on condition that the version is still the
same; if it is not, it begins again.

**A lost reply.** A conditional write may be applied while its reply is lost. The retry is then refused, because the
object is no longer the version it
was: by our own write, or by somebody else's? Comparing contents can't tell: two writers that both count from 5 to 6
    write the same bytes.
So each conditional write marks the object's metadata with a token of its own, followed by the tokens of the writes it
was built on (its *lineage*),
and the lineage found there afterwards decides: see :func:`landed`.

**Conditions that are ignored.** Imitations of S3 exist that take a condition and write all the same. A service that is
not known to keep them is asked once in a process, before the first conditional write: see
:meth:`ConditionalStore.conditions`.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import hashlib
import random
import time
import uuid
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from zarrdock.errors import (
    AccessError,
    ConflictError,
    KeyExistsError,
    RangeError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import Range, Tail
from zarrdock.stores.base import Blob, Change, Read, Result, Traits, Value, Version
from zarrdock.stores.diagnose import Diagnosis, Kind, diagnose
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.group_commit import Combiner, Doubt, KeyLocks, Ticket, apply_all
from zarrdock.stores.http_ranges import take
from zarrdock.stores.io_loop import Live
from zarrdock.stores.remote import as_bytes, n_bytes_of

__all__ = [
    "ABSENT",
    "METADATA_NAME",
    "Absent",
    "Answer",
    "ConditionalStore",
    "Conditions",
    "Expected",
    "Lineage",
    "landed",
]

METADATA_NAME: Final = "zarrdock-writes"
# S3 allows 2 KiB of metadata for each object; 64 tokens of 12 characters take 831 bytes.
MAX_LINEAGE: Final = 64
# A pause between two lost races; each loss means that another writer won, so short pauses cost little.
_RACE_PAUSE_SECONDS: Final = (0.02, 2.0)
# How long an interrupt (Ctrl-C) waits for the outcome of a write that others rely on.
_FINISH_SECONDS: Final = 10.0


Keys: TypeAlias = list[str]  # inside Store, `list` is a method


class Absent(enum.Enum):
    """The condition that there is no such key."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
Expected: TypeAlias = "Version | Absent | None"  # None: whatever is there


@dataclass(frozen=True, slots=True)
class Lineage:
    """The tokens of the writes an object was built by, the newest first.

    ``is_whole`` where it goes back to a write that replaced everything; otherwise older ones were dropped, or the
    service does not keep them.
    """

    tokens: tuple[str, ...] = ()
    is_whole: bool = True

    def then(self, token: str) -> Lineage:
        """The lineage of the next write."""
        return Lineage((token, *self.tokens[: MAX_LINEAGE - 1]), self.is_whole and len(self.tokens) < MAX_LINEAGE)

    def __str__(self) -> str:
        return ",".join(self.tokens) + ("" if self.is_whole else ",...")

    @classmethod
    def parse(cls, text: str | None) -> Lineage:
        """Parse the text made by ``str``; any other text gives a lineage that matches no token."""
        tokens = tuple(part for part in (text or "").split(",") if part)
        return cls(tokens[:-1], False) if tokens[-1:] == ("...",) else cls(tokens)


def landed(token: str, parent: Lineage, found: Lineage) -> bool | None:
    """Decide from the lineage found now if the write marked ``token``, built on a value of lineage ``parent``, was
    applied.

    Returns:
        True: it was, and the present value was built on it. False: it was not, or a writer that did not look at its
            value has replaced that as a whole, so that making the change now counts it once. None: undecidable.
    """
    if token in found.tokens:
        return True
    if parent.tokens and parent.tokens[0] in found.tokens:
        return False  # all that followed our parent is in sight, and we are not there
    return False if found.is_whole else None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditional requests that a service refuses, as it must, when the condition does not hold.

    Attributes:
        create: PUT of an object that must not exist. replace: PUT over one version only. delete: DELETE of one version.
    """

    create: bool = True
    replace: bool = True
    delete: bool = True


# By service and bucket: what services answered in this process.
_answers: dict[str, Conditions] = {}
_asking = KeyLocks()
_MARK: Final = b"a mark by zarrdock: it may be removed\n"
# No object has this ETag.
_STALE: Final = '"00000000000000000000000000000000"'


class _LostRace(ConflictError):
    """The object was not the version the write was to replace, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful GET: the body and what the headers say of it. ``length`` is what was announced, None where the
    body was decoded on the way.
    """

    data: bytes
    version: Version
    status: int
    content_range: str | None = None
    length: int | None = None
    lineage: Lineage = Lineage()


def _is_refusal(found: Diagnosis) -> bool:
    """True where a service says that the condition of a write does not hold."""
    return found.kind is Kind.PRECONDITION or (found.kind is Kind.CONFLICT and not found.is_transient)


class ConditionalStore(FsspecStore):
    """See the module.

    Args:
        conditional_writes: the service refuses writes whose condition does not hold; None: Amazon, Google and Azure do,
            any other is asked. The other arguments are those of :class:`~zarrdock.stores.fsspec_.FsspecStore`.
    """

    default_concurrency = 128  # planes across many chunks are one round, not two; more than that gains nothing
    # Whether a library sends a PUT or a DELETE again by itself: aiohttp does so with both where a connection breaks.
    put_may_repeat = False
    delete_may_repeat = False

    def __init__(self, *args: Any, conditional_writes: bool | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._combiner = Combiner()
        self._kept: Conditions | None = None
        if conditional_writes is not None:
            self._keep(Conditions(*[conditional_writes] * 3))

    def _make_traits(self, traits: Traits) -> Traits:
        return replace(traits, atomic_update=True, conditional_read=True, remote=True)

    # -- what the service keeps
    # --------------------------------------------------------------------------------------------------

    def conditions(self) -> Conditions:
        """The conditional requests that the service keeps. Amazon, Google and Azure are known to keep all of them.

        An imitation of S3 is asked once in a process, by five small requests before the first conditional write: a mark
        is created beside the store's keys, created again, replaced and deleted on stale conditions, and deleted.

        Raises:
            AccessError, StoreError: the mark cannot be written.
        """
        if self._kept is None:
            identity = self.identity
            if not identity.service.startswith("s3 at "):
                return self._keep(Conditions())
            name = f"{identity.service}/{identity.path.partition('/')[0]}"
            with _asking(name):
                if name not in _answers:
                    try:
                        _answers[name] = self._bridge.run_to_end(self._ask, _FINISH_SECONDS)
                    except AccessError as error:
                        text = "conditional_writes=True on the store says that the service keeps conditions on writes"
                        error.add_note(f"to find out, a mark is written beside the keys; {text}")
                        raise
                return self._keep(_answers[name])
        return self._kept

    def _keep(self, conditions: Conditions) -> Conditions:
        self._kept = conditions
        if self.traits.atomic_update and not (conditions.create and conditions.replace):
            self.traits = replace(self.traits, atomic_update=False)
        return conditions

    def _is_atomic(self) -> bool:
        conditions = self.conditions()
        return conditions.create and conditions.replace

    async def _ask(self, live: Live) -> Conditions:
        key = f".zarrdock-conditions-{uuid.uuid4().hex}"

        async def refuses(send: Callable[[], Awaitable[object]]) -> bool:
            async def request() -> bool:
                try:
                    await send()
                except Exception as error:
                    if _is_refusal(diagnose(error)):
                        return True
                    raise
                return False

            return await self._request(live, key, request)

        etags: list[Version] = []

        async def put(expected: Expected) -> None:
            version = await self._send_put(live, key, _MARK, expected, None)
            etags.append(version[0] if isinstance(version, tuple) else version)

        try:
            await refuses(lambda: put(ABSENT))  # refused where an earlier try was applied and its reply lost
            await self._check_mark(live, key, etags)
            conditions: list[Expected] = [ABSENT, _STALE]
            create, replaces = await asyncio.gather(*(refuses(functools.partial(put, one)) for one in conditions))
        except UnsupportedError:  # "not implemented"; where a plain PUT is neither, that is another matter
            await self._request(live, key, lambda: put(None))
            create = replaces = False
        try:
            deletes = await refuses(lambda: self._send_delete(live, key, _STALE))
        except UnsupportedError:  # as an update that deletes will be told
            deletes = True
        await self._delete_one(live, key)
        return Conditions(create, replaces, deletes)

    async def _check_mark(self, live: Live, key: str, etags: Sequence[Version]) -> None:
        """Make sure that the mark was stored as it was sent. Most services tell by an ETag, which is its hash."""
        if [f'"{hashlib.md5(_MARK, usedforsecurity=False).hexdigest()}"'] == [*etags]:
            return
        found = await self._fetch(live, key, None, None)
        if isinstance(found, Answer) and bytes(found.data) != _MARK:
            await self._delete_one(live, key)
            raise StoreError(
                "the service does not store what it is sent; if it adds lines to uploads, it does not know the "
                "encoding aws-chunked: config_kwargs={'request_checksum_calculation': 'when_required'} in "
                "storage_options does without",
                key=key,
                store=self,
            )

    # -- reading
    # -----------------------------------------------------------------------------------------------------------

    async def _read_one(self, live: Live, read: Read) -> Result:
        answer = await self._fetch(live, read.key, read.range, read.version)
        return Blob(answer.data, answer.version) if isinstance(answer, Answer) else answer

    async def _fetch(
        self, live: Live, key: str, range_: Range, version: Version | None
    ) -> Answer | VersionChangedError | None:
        """One GET. The answer's data are exactly those of the range."""

        async def request() -> Answer | VersionChangedError | None:
            try:
                answer = await self._send_get(live, key, range_, version)
            except Exception as error:
                found = diagnose(error)
                if self._is_missing(found):
                    return None
                match found.kind:
                    case Kind.PRECONDITION:
                        return self._changed(key, version)
                    case Kind.RANGE if isinstance(range_, Tail):  # only an empty object has no tail
                        return Answer(b"", version, 206)
                    case Kind.RANGE:
                        raise RangeError(
                            "the range starts at or beyond the end of the object", key=key, store=self
                        ) from error
                raise
            if version is not None and answer.version != version:  # services exist that ignore the condition
                return self._changed(key, version)
            try:
                data = take(
                    answer.data, range_, status=answer.status, content_range=answer.content_range, length=answer.length
                )
            except RangeError as error:
                raise RangeError(str(error), key=key, store=self) from None
            return replace(answer, data=data)

        return await self._request(live, key, request, n_bytes=n_bytes_of(range_))

    def _changed(self, key: str, version: Version | None) -> VersionChangedError:
        return VersionChangedError(f"the object is no longer the version {version}", key=key, store=self)

    # -- writing
    # -----------------------------------------------------------------------------------------------------------

    async def _put(self, live: Live, key: str, data: bytes, create_only: bool) -> Version | None:
        if create_only and not (self._kept or Conditions()).create:
            if await self._size(live, key) is not None:
                raise KeyExistsError("the key exists already", key=key, store=self)
            create_only = False
        if not create_only:
            return await self._request(
                live, key, lambda: self._send_put(live, key, data, None, None), n_bytes=len(data)
            )
        try:
            return await self._commit(live, key, data, ABSENT, Lineage())
        except _LostRace as error:
            raise KeyExistsError("the key exists already", key=key, store=self) from error

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> Version | None:
        if create_only:
            self._check_key(key)
            self._check_writable(key)
            self.conditions()
        return super().write(key, value, create_only=create_only)

    def update(self, key: str, change: Change, /) -> None:
        self._check_key(key)
        self._check_writable(key)
        if not self._is_atomic():
            super().update(key, change)
            return
        # Threads of this process join forces here instead of colliding over there.
        self._combiner.update(key, change, self._exclusive(key), lambda tickets: self._update(key, tickets))

    def _update(self, key: str, tickets: Sequence[Ticket]) -> None:
        began, n_lost = time.monotonic(), 0
        while True:
            try:
                self._update_once(key, tickets)
                return
            except _LostRace as race:
                n_lost += 1
                passed = time.monotonic() - began
                if passed > self.retry.deadline_seconds:
                    text = f"lost {n_lost} races in {passed:.0f} s against other writers, nothing was changed"
                    raise ConflictError(text, key=key, store=self) from race
            # Full jitter. In each round one of the writers that collide wins, so together they always get on.
            first, most = _RACE_PAUSE_SECONDS
            time.sleep(random.uniform(0, min(most, first * 2 ** min(n_lost, 20))))

    def _update_once(self, key: str, tickets: Sequence[Ticket]) -> None:
        found = self._bridge.run(lambda live: self._fetch(live, key, None, None))
        base = found if isinstance(found, Answer) else None
        old = base.data if base else None
        new = apply_all(tickets, old)
        if new is old:
            return
        if base is not None and base.version is None:
            raise UnsupportedError(f"{self}: key {key!r}: the service tells no version, so no write can be tied to one")
        if new is None and not self.conditions().delete:
            raise UnsupportedError(
                f"{self}: key {key!r}: the service ignores conditions on DELETE, so that an update that deletes could "
                "take another writer's value with it; WriteOptions(write_empty_chunks=True) keeps empty chunks"
            )
        data = None if new is None else as_bytes(new)
        expected, parent = (base.version, base.lineage) if base else (ABSENT, Lineage())
        doubt = Doubt(
            tickets,
            ConflictError(
                "the thread that wrote for several was interrupted, and it is unknown if the change was made: "
                "read the key and decide",
                key=key,
                store=self,
            ),
            unmade=_LostRace,
        )

        async def commit(live: Live) -> None:
            with doubt:  # on the IO loop, where no interrupt comes
                await self._commit(live, key, data, expected, parent)

        self._bridge.run_to_end(commit, _FINISH_SECONDS)

    async def _commit(
        self, live: Live, key: str, data: bytes | None, expected: Expected, parent: Lineage
    ) -> Version | None:
        """Write ``data``, or delete, if the object still is the ``expected`` one.

        Raises:
            _LostRace: it is not. ConflictError: it is unknown if the change was made.
        """
        token = uuid.uuid4().hex[:12]
        n_sent = 0

        async def request() -> Version | None:
            nonlocal n_sent
            n_sent += 1
            try:
                if data is None:
                    await self._send_delete(live, key, expected)
                    return None
                return await self._send_put(live, key, data, expected, parent.then(token))
            except Exception as error:
                found = diagnose(error)
                if not _is_refusal(found) and (found.kind is not Kind.MISSING or expected in (None, ABSENT)):
                    raise
                if n_sent > 1 or (self.delete_may_repeat if data is None else self.put_may_repeat):
                    # An earlier try may have been applied, and be the very reason for this refusal. Settled at once:
                    # the longer one waits, the more writes of others hide it.
                    applied, version = await self._settle(live, key, data is None, token, parent)
                    if applied:
                        return version
                raise _LostRace("another writer was faster", key=key, store=self) from error

        return await self._request(live, key, request, n_bytes=len(data or b""))

    async def _settle(
        self, live: Live, key: str, is_delete: bool, token: str, parent: Lineage
    ) -> tuple[bool, Version | None]:
        """Find out if an earlier try had applied a write that was refused, and the present version."""
        try:
            version, found = await self._send_head(live, key)
        except Exception as error:
            if not self._is_missing(diagnose(error)):
                raise
            # Deleted: all that was wanted, if it was. A value: whether it was there before the deletion or not, it is
            # to be there now.
            return is_delete, None
        applied = landed(token, parent, found)
        if applied is None:
            raise ConflictError(
                "the reply to a write was lost and others have written since; it is unknown if the change was "
                "made: read the key and decide",
                key=key,
                store=self,
            )
        return applied, version

    async def _delete_one(self, live: Live, key: str) -> None:
        async def request() -> None:
            try:
                await self._send_delete(live, key, None)
            except Exception as error:
                if diagnose(error).kind is not Kind.MISSING:
                    raise

        await self._request(live, key, request)

    # -- the requests of a service; what they raise is foreign
    # -------------------------------------------------------------

    @abstractmethod
    async def _send_get(self, live: Live, key: str, range_: Range, version: Version | None) -> Answer:
        """GET the range (not empty), of that version if one is given."""

    @abstractmethod
    async def _send_put(
        self, live: Live, key: str, data: bytes, expected: Expected, lineage: Lineage | None
    ) -> Version:
        """Write the whole object if it still is the expected one, with the lineage in its metadata."""

    @abstractmethod
    async def _send_delete(self, live: Live, key: str, expected: Expected) -> None:
        """Delete the object if it still is the expected one."""

    @abstractmethod
    async def _send_head(self, live: Live, key: str) -> tuple[Version, Lineage]:
        """Version and lineage of the object as it is now."""

    # -- listing, from names as the service has them
    # ------------------------------------------------------------------------

    def _bucket_and_prefix(self, prefix: str) -> tuple[str, str]:
        """The bucket, and the beginning of all names below ``prefix``: whole segments only."""
        bucket, _, name = self._path(prefix).partition("/")
        return bucket, f"{name}/" if name else ""

    def _names_to_keys(self, names: Sequence[str], strip: int) -> Keys:
        """Names without their first ``strip`` characters; markers of folders and what no store could hold as a key
        left out.
        """
        keys = (name[strip:] for name in names)
        return [key for key in keys if key and not key.endswith("/") and not key.startswith("/") and "//" not in key]
