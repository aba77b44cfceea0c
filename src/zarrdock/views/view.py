"""Base of all views: a view locates the bytes of a key; this module reads them, batch-wise and merged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zarrdock.errors import ConflictError, RangeError, VersionChangedError
from zarrdock.ranges import Span, is_empty, merge, resolve
from zarrdock.stores.base import (
    Blob,
    Entry,
    Listing,
    Read,
    Result,
    Results,
    Store,
    Version,
    attempts,
    check_key,
    check_prefix,
)
from zarrdock.stores.identity import Identity
from zarrdock.stores.wrappers import RefusingStore

__all__ = ["Document", "Part", "Place", "View", "dir_of"]

ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of an object of the store inside.

    Attributes:
        key: of the object. start, length: the bytes; a length of None means the whole object.
        version: that the place was found in.
        head: bytes that the view puts in front of them; only where there is a length.
    """

    key: str
    start: int = 0
    length: int | None = None
    version: Version | None = None
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes that the view has made itself, from an object of that version."""

    data: bytes
    version: Version | None = None


# Where the bytes of a key are; None: there is no such key.
Place: TypeAlias = "Part | Document | None"


class View(RefusingStore):
    """A read-only store over another one.

    Attributes:
        store: the store inside.
    """

    read_only = True
    name = "view"
    refusal = "a view is read-only: write to the store inside"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.traits = store.traits

    # -- what a view is ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        """Locate the bytes of each key.

        Args:
            fresh: rely on no cached information whose error a read of the bytes would not reveal.
        """

    @abstractmethod
    def _entries(self, prefix: str) -> Iterator[Entry]:
        """Every key below a prefix that is checked."""

    def _forget(self, place: Part) -> None:
        """An object is not the version any more that ``place`` was found in."""

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, requests: Sequence[Read], /) -> Results:
        for read in requests:
            check_key(read.key, self)
        results: Results = [Blob(b"") if is_empty(read.range) else None for read in requests]
        left = [i for i, read in enumerate(requests) if not is_empty(read.range)]
        kept_changing = lambda: ConflictError(  # noqa: E731
            "other writers kept changing it: try again", key=requests[left[0]].key, store=self
        )
        for _ in attempts(ATTEMPTS, kept_changing):
            if left:
                places = self._locate([requests[i].key for i in left])
                left = self._fetch(requests, left, places, results)
            if not left:
                break
        return results

    def _fetch(self, requests: Sequence[Read], numbers: list[int], places: list[Place], results: Results) -> list[int]:
        """Fill in ``results``; the numbers of the requests whose places were out of date."""
        reads: list[Read] = []
        whole: list[tuple[int, int]] = []  # request, its number among the reads
        parts: dict[tuple[str, Version | None], list[tuple[int, int, int]]] = {}
        heads: dict[int, bytes] = {}
        for i, place in zip(numbers, places, strict=True):
            read = requests[i]
            if place is None:
                results[i] = None
            elif isinstance(place, Document) or place.length is not None:
                if read.version is not None and read.version != place.version:
                    results[i] = VersionChangedError("changed since that version", key=read.key, store=self)
                    continue
                size = _size(place)
                span = resolve(read.range, size)
                if span is None:
                    message = f"the range starts at or beyond the end of an object of {size} bytes"
                    raise RangeError(message, key=read.key, store=self)
                if isinstance(place, Document):
                    results[i] = Blob(place.data[slice(*span)], place.version)
                else:
                    head, body = place.head[slice(*span)], [max(0, at - len(place.head)) for at in span]
                    if body[0] == body[1]:
                        results[i] = Blob(head, place.version)
                        continue
                    heads[i] = head
                    start = place.start + body[0]
                    parts.setdefault((place.key, place.version), []).append((i, start, body[1] - body[0]))
            else:
                whole.append((i, len(reads)))
                reads.append(Read(place.key, read.range, read.version))
        taken = self._plan(parts, reads)
        answers = self.store.read(reads) if reads else []
        for i, number in whole:
            results[i] = self._named(answers[number], requests[i].key)
        outdated: list[int] = []
        for i, number, offset, length in taken:
            answer = answers[number]
            if isinstance(answer, Blob):
                data = memoryview(answer.data)[offset : offset + length]
                if len(data) != length:
                    raise RangeError("the object is shorter than its index says", key=requests[i].key, store=self)
                results[i] = Blob(b"".join((heads[i], data)) if heads[i] else data, answer.version)
            else:
                self._forget(Part(reads[number].key))
                outdated.append(i)
        return outdated

    def _plan(
        self, parts: dict[tuple[str, Version | None], list[tuple[int, int, int]]], reads: list[Read]
    ) -> list[tuple[int, int, int, int]]:
        """Append merged reads; for each part (request, number of its read, offset in it, length)."""
        taken: list[tuple[int, int, int, int]] = []
        for (key, version), wanted in parts.items():
            starts = np.array([start for _, start, _ in wanted], np.int64)
            lengths = np.array([length for _, _, length in wanted], np.int64)
            traits = self.store.traits
            merged = merge(starts, lengths, gap_bytes=traits.merge_gap_bytes, max_bytes=traits.max_request_bytes)
            first = len(reads)
            bounds = zip(merged.starts.tolist(), merged.stops.tolist(), strict=True)
            reads.extend(Read(key, Span(start, stop), version) for start, stop in bounds)
            for (i, _, length), number, offset in zip(
                wanted, merged.request.tolist(), merged.offset.tolist(), strict=True
            ):
                taken.append((i, first + number, offset, length))
        return taken

    def _named(self, answer: Result, key: str) -> Result:
        if isinstance(answer, VersionChangedError):
            return VersionChangedError("changed since that version", key=key, store=self)
        return answer

    def size(self, key: str, /) -> int | None:
        (place,) = self._locate([check_key(key, self)], fresh=True)
        if place is None:
            return None
        if isinstance(place, Part) and place.length is None:
            return self.store.size(place.key)
        return _size(place)

    # -- listing -------------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        return self._entries(check_prefix(prefix, self))

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        return dir_of((entry.key for entry in self._entries(prefix)), prefix)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        return self.store.origins(prefix)

    def close(self) -> None:
        self.store.close()

    @property
    def identity(self) -> Identity:
        """Identity of the store inside, as this view shows it."""
        return self.store.identity.seen_as(self.name)

    @property
    def url(self) -> str:
        """URL of the store inside, and the view's name."""
        return f"{self.name}({self.store.url})"


def _size(place: Part | Document) -> int:
    """Bytes of a place that knows its size."""
    return len(place.data) if isinstance(place, Document) else len(place.head) + (place.length or 0)


def dir_of(keys: Iterator[str], prefix: str) -> Listing:
    """The level right below ``prefix`` of keys that are all below it."""
    skip = len(prefix) + 1 if prefix else 0
    names: set[str] = set()
    prefixes: set[str] = set()
    for key in keys:
        name, slash, _ = key[skip:].partition("/")
        (prefixes if slash else names).add(name)
    return Listing(tuple(sorted(names)), tuple(sorted(prefixes)))
