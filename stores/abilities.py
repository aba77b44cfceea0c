"""The abilities of a store, found by trying each: what a service promises and what it does are two things."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from zarrdock.errors import (
    AccessError,
    KeyExistsError,
    RangeError,
    ReadOnlyError,
    UnsupportedError,
    VersionChangedError,
    ZarrdockError,
)
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Blob, Buffer, Change, Read, Store
from zarrdock.stores.local import LocalStore
from zarrdock.stores.local_files import prune
from zarrdock.stores.remote import RemoteStore
from zarrdock.stores.zip_ import ZipStore, missing_archive

__all__ = ["ABILITIES", "Ability", "StoreReport", "check_store"]

Outcome: TypeAlias = Literal["yes", "no", "wrong", "not tried"]

_IN_PROCESS = "by a lock of this process, in which the store lives"
_NBYTES = 1000
_N_WRITERS, _N_UPDATES = 4, 5
# Read where nothing can be written.
_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")


@dataclass(frozen=True, slots=True)
class Ability:
    """An ability that was tried.

    Attributes:
        name: of the ability.
        outcome: "yes"; "no": refused, as it should be where a store can't; "wrong": done, but not right; "not tried".
        text: more about it, one line.
    """

    name: str
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """Findings about a store.

    Attributes:
        url: of the store. place: its identity as text.
        abilities: in the order in which they were tried.

    >>> report = zarrdock.tools.check_store(zarrdock.MemoryStore())
    >>> report.url.startswith("<memory")
    True
    """

    url: str
    place: str
    abilities: tuple[Ability, ...]

    @property
    def is_good(self) -> bool:
        """True where nothing that the store does is wrong."""
        return all(ability.outcome != "wrong" for ability in self.abilities)


def check_store(store: Store, *, key: str | None = None) -> StoreReport:
    """Try what a store can do: writes, ranges, versions, conditions, listing, deletion.

    Args:
        store: the store. Marks are written below ``.zarrdock-check-...`` and taken away again, 1,000 bytes at a time.
        key: an object to read where nothing can be written; by default a document of Zarr at the root.

    >>> from zarrdock import MemoryStore
    >>> report = check_store(MemoryStore())
    >>> report.is_good, report.abilities[0]
    (True, Ability(name='writes', outcome='yes', text=''))
    """
    trial = _Trial(store, key)
    made = _missing_folder(store)
    archive = missing_archive(store) if isinstance(store, ZipStore) else None
    try:
        found = tuple(trial.outcome(name) for name in ABILITIES)
    finally:
        trial.clean()
        if made is not None and isinstance(store, LocalStore):
            prune(store.root, os.path.dirname(made))
        if archive is not None and isinstance(store, ZipStore) and next(store.list(""), None) is None:
            store.close()
            with contextlib.suppress(FileNotFoundError):
                os.remove(archive)
    return StoreReport(store.url, str(store.identity), found)


class _No(Exception):
    """The store can't."""


class _Wrong(Exception):
    """The store does something else than it says."""


class _NotTried(Exception):
    """The ability could not be tried."""


class _Trial:
    """The marks of one trial, and the trials made with them."""

    def __init__(self, store: Store, key: str | None) -> None:
        self.store = store
        self.root = f".zarrdock-check-{uuid.uuid4().hex}"
        self.key = f"{self.root}/mark"
        self.given = key
        self.data: Buffer | None = None
        self.is_writable = False

    def outcome(self, name: str) -> Ability:
        """Try one ability."""
        try:
            return Ability(name, "yes", _TRIALS[name](self))
        except _NotTried as error:
            return Ability(name, "not tried", str(error))
        except _Wrong as error:
            return Ability(name, "wrong", str(error))
        except (_No, AccessError, ReadOnlyError, UnsupportedError) as error:
            return Ability(name, "no", _one_line(error))
        except ZarrdockError as error:
            return Ability(name, "wrong", _one_line(error))

    def clean(self) -> None:
        """Take the marks away."""
        if self.is_writable:
            self.store.delete_prefix(self.root)

    # -- the trials; they return more about what works -----------------------------------------------------------------

    def writes(self) -> str:
        data = os.urandom(_NBYTES)
        self.store.write(self.key, data)
        self.is_writable = True
        self.data = data
        if self._whole(self.key) != data:
            raise _Wrong("the value read differs from the value written")
        return ""

    def missing(self) -> str:
        if self.store.get(f"{self.root}/missing") is not None:
            raise _Wrong("a key that was never written has a value")
        return ""

    def sizes(self) -> str:
        data = self._known()
        if self.store.size(self.key) != len(data):
            raise _Wrong(f"{self.store.size(self.key)} is told of an object of {len(data)} bytes")
        return ""

    def ranges(self) -> str:
        n = len(self._known())
        self._compare([Span(1, 2), Span(0, n), Span(n // 2, n + 10), From(n - 1)])
        try:
            self.store.get(self.key, From(n))
        except RangeError:
            pass
        else:
            raise _Wrong("a range beyond the end is answered")
        return "the server sends whole objects" if getattr(self.store, "_ignores_ranges", False) else ""

    def tails(self) -> str:
        self._compare([Tail(1), Tail(len(self._known()) + 10)])
        return ""

    def versions(self) -> str:
        self._known()
        blob = self.store.get(self.key)
        if blob is None or blob.version is None:
            raise _No("objects have no versions")
        if not self.is_writable:
            return ""
        self.writes()
        if not isinstance(self.store.read([Read(self.key, Span(0, 1), blob.version)])[0], VersionChangedError):
            raise _Wrong("an object that was replaced is taken for the old one")
        return ""

    def creates(self) -> str:
        self._must_write()
        try:
            self.store.write(self.key, b"again", create_only=True)
        except KeyExistsError:
            if not self.store.traits.atomic_update:
                return "after a look: of two writers at once both may succeed"
            return _IN_PROCESS if self.store.identity.in_process else ""
        raise _Wrong("a key that exists is created again")

    def updates(self) -> str:
        self._must_write()
        key = f"{self.root}/count"
        self._update(key, lambda _: b"0")
        identity = self.store.identity
        stores = [self.store if identity.in_process else _copy(self.store) for _ in range(_N_WRITERS)]
        errors: list[BaseException] = []

        def count(store: Store) -> None:
            try:
                for _ in range(_N_UPDATES):
                    store.update(key, lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=count, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        n, found = _N_WRITERS * _N_UPDATES, int(self._whole(key) or b"0")
        if found != n:
            raise _Wrong(f"{n - found} of {n} updates were lost")
        return _IN_PROCESS if identity.in_process else ""

    def update_deletes(self) -> str:
        self._must_write()
        key = f"{self.root}/gone"
        self.store.write(key, b"1")
        self._update(key, lambda _: None)
        if self.store.get(key) is not None:
            raise _Wrong("a key that was deleted is there")
        if (
            isinstance(self.store, RemoteStore)
            and self.store.traits.atomic_update
            and not self.store.identity.in_process
        ):
            self._interrupted_deletion(key)
        return ""

    def _interrupted_deletion(self, key: str) -> None:
        self.store.write(key, b"1")
        other, n_calls = _copy(self.store), 0

        def change(old: Buffer | None) -> Buffer | None:
            nonlocal n_calls
            n_calls += 1
            if n_calls > 1:
                return old
            other.write(key, b"2")
            return None

        self.store.update(key, change)
        if self._whole(key) != b"2":
            raise _Wrong("a value that another writer had just written was deleted")

    def lists(self) -> str:
        if not self.store.traits.listable:
            raise _No("no listing")
        if not self.is_writable:
            next(self.store.list(), None)
            return ""
        key = f"{self.root}/listed/new"
        self.store.write(key, b"1")
        if [entry.key for entry in self.store.list(f"{self.root}/listed")] != [key]:
            raise _Wrong("a key that was just written is not listed")
        if "listed" not in self.store.list_dir(self.root).prefixes:
            raise _Wrong("a folder that was just written is not listed")
        self.store.delete(key)
        if [*self.store.list(f"{self.root}/listed")]:
            raise _Wrong("a key that was just deleted is listed")
        return ""

    def deletes(self) -> str:
        self._must_write()
        for i in range(3):
            self.store.write(f"{self.root}/many/{i}", b"1")
        self.store.delete(f"{self.root}/many/0")
        self.store.delete(f"{self.root}/many/0")
        self.store.delete_prefix(f"{self.root}/many")
        if any(self.store.get(f"{self.root}/many/{i}") is not None for i in range(3)):
            raise _Wrong("a key that was deleted is there")
        return ""

    def _update(self, key: str, change: Change) -> None:
        try:
            self.store.update(key, change)
        except UnsupportedError as error:
            if self.store.traits.atomic_update:
                raise
            raise _No("of two writers at once one could undo the other's change") from error

    # -- for these -----------------------------------------------------------------------------------------------------

    def _must_write(self) -> None:
        if not self.is_writable:
            raise _NotTried("nothing can be written")

    def _known(self) -> Buffer:
        """The value of the key that is read; where nothing can be written, of one that exists."""
        if self.data is None:
            for key in (self.given,) if self.given is not None else _DOCUMENTS:
                data = self._whole(key)
                if data:
                    self.key, self.data = key, data
                    break
            else:
                raise _NotTried("nothing can be written, and there is no document of Zarr to read: name a key")
        return self.data

    def _whole(self, key: str) -> bytes | None:
        blob = self.store.get(key)
        return None if blob is None else bytes(blob.data)

    def _compare(self, ranges: list[Range]) -> None:
        whole = bytes(self._known())
        for range_, answer in zip(ranges, self.store.read([Read(self.key, range_) for range_ in ranges]), strict=True):
            if not isinstance(answer, Blob) or bytes(answer.data) != _cut(whole, range_):
                raise _Wrong(f"the bytes read as {range_} of {len(whole)} differ from those of the whole object")


_TRIALS: dict[str, Callable[[_Trial], str]] = {
    "writes": _Trial.writes,
    "missing keys": _Trial.missing,
    "sizes": _Trial.sizes,
    "ranges": _Trial.ranges,
    "tails": _Trial.tails,
    "versions": _Trial.versions,
    "exclusive creation": _Trial.creates,
    "atomic updates": _Trial.updates,
    "updates that delete": _Trial.update_deletes,
    "listing": _Trial.lists,
    "deletion": _Trial.deletes,
}
#: Names of the abilities that are tried, in this order.
ABILITIES: tuple[str, ...] = tuple(_TRIALS)


def _missing_folder(store: Store) -> str | None:
    """The uppermost folder that a write into a local store would make; None where there is none."""
    found, folder = None, store.root if isinstance(store, LocalStore) else ""
    while folder and not os.path.lexists(folder):
        found, folder = folder, os.path.dirname(folder)
    return found


def _cut(data: bytes, range_: Range) -> bytes:
    match range_:
        case Span(start, stop):
            return data[start:stop]
        case From(start):
            return data[start:]
        case Tail(n):
            return data[-n:]
        case None:
            return data


def _copy(store: Store) -> Store:
    """A store object of its own on the same place, so that nothing but the service stands between writers."""
    copied: Store = pickle.loads(pickle.dumps(store))
    return copied


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
