"""A store over any mapping of keys to bytes."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from zarrdock.errors import KeyExistsError, RangeError, UnsupportedError, VersionChangedError, ZarrdockError
from zarrdock.ranges import is_empty, resolve
from zarrdock.stores.base import (
    Blob,
    Change,
    Entry,
    Listing,
    Read,
    Result,
    Results,
    Store,
    Traits,
    Value,
    check_key,
    check_prefix,
    join_value,
)
from zarrdock.stores.diagnose import cause_of, translate
from zarrdock.stores.group_commit import KeyLocks
from zarrdock.stores.identity import Identity, identity_of_object

__all__ = ["MappingStore"]

# By mapping and key: several stores over one dict exclude each other.
_key_locks = KeyLocks()


class MappingStore(Store):
    """A store over a mapping, with slash-separated string keys and values of bytes.

    Args:
        mapping: the mapping; its other keys (not strings, or not valid keys) are left alone and not listed.
        read_only: refuse every mutating verb.
        assume_single_writer: allow ``update`` on a mapping that may be shared with other processes; the caller
            promises that it is not, or that no other process writes the same keys.

    ``update`` and ``create_only`` are atomic between all stores over one mapping in one process. That is everybody who
    can reach a ``dict``, so there ``update`` works as it is; other mappings may stand for something that is shared. A
    mapping has no versions, and a range costs reading the whole value.

    >>> mapping = {}
    >>> _ = zarrdock.MappingStore(mapping).write("key", b"value")
    >>> mapping
    {'key': b'value'}
    """

    def __init__(
        self, mapping: MutableMapping[str, Any], *, read_only: bool = False, assume_single_writer: bool = False
    ) -> None:
        self.mapping = mapping
        self.read_only = read_only
        self.assume_single_writer = assume_single_writer
        self.traits = Traits(atomic_update=isinstance(mapping, dict))

    @property
    def identity(self) -> Identity:
        """Identity of the mapping."""
        return identity_of_object("mapping", self.mapping)

    @property
    def url(self) -> str:
        return f"<{type(self.mapping).__name__} at {id(self.mapping):#x}>"

    def read(self, requests: Sequence[Read], /) -> Results:
        for read in requests:
            check_key(read.key, self)
        return [self._read_one(read) for read in requests]

    def write(self, key: str, value: Value, /, *, create_only: bool = False) -> None:
        check_key(key, self)
        self._check_writable(key)
        data = bytes(join_value(value))
        with self._exclusive(key):
            if create_only and self._value(key) is not None:
                raise KeyExistsError("the key exists already", key=key, store=self)
            self._set(key, data)

    def update(self, key: str, change: Change, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        if not (self.traits.atomic_update or self.assume_single_writer):
            raise self._no_update(key)
        with self._exclusive(key):
            old = self._value(key)
            new = change(old)
            if new is None:
                self._remove(key)
            elif new is not old:
                self._set(key, bytes(join_value(new)))

    def delete(self, key: str, /) -> None:
        check_key(key, self)
        self._check_writable(key)
        with self._exclusive(key):
            self._remove(key)

    def delete_prefix(self, prefix: str, /) -> None:
        prefix = check_prefix(prefix, self)
        self._check_writable(prefix)
        for key in self._keys(prefix):
            self.delete(key)

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = check_prefix(prefix, self)
        return iter([Entry(key, self._size_at_hand(key)) for key in self._keys(prefix)])

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        keys: set[str] = set()
        prefixes: set[str] = set()
        for key in self._keys(prefix):
            name, slash, _ = key[len(prefix) + 1 if prefix else 0 :].partition("/")
            (prefixes if slash else keys).add(name)
        return Listing(tuple(sorted(keys)), tuple(sorted(prefixes)))

    def size(self, key: str, /) -> int | None:
        check_key(key, self)
        value = self._value(key)
        return None if value is None else len(value)

    def _read_one(self, read: Read) -> Result:
        if is_empty(read.range):
            return Blob(b"")
        value = self._value(read.key)
        if value is None:
            return None
        if read.version is not None:
            return VersionChangedError("this store has no versions", key=read.key, store=self)
        span = resolve(read.range, len(value))
        if span is None:
            raise RangeError(
                f"the range begins beyond the end of an object of {len(value)} bytes", key=read.key, store=self
            )
        return Blob(value if span == (0, len(value)) else memoryview(value)[slice(*span)])

    def _value(self, key: str) -> bytes | None:
        try:
            value = self.mapping[key]
        except KeyError:
            return None
        except Exception as error:
            raise translate(error, key=key, store=self) from cause_of(error)
        try:
            # A copy where the value could change under its reader.
            return value if isinstance(value, bytes) else bytes(memoryview(value))
        except TypeError as error:
            raise UnsupportedError(f"the mapping's value at {key!r} is a {type(value).__name__}, not bytes") from error

    def _size_at_hand(self, key: str) -> int | None:
        """The size of a value that need not be fetched or made from anything first."""
        value = self.mapping.get(key) if type(self.mapping) is dict else None
        return len(value) if isinstance(value, (bytes, bytearray)) else None

    def _set(self, key: str, data: bytes) -> None:
        try:
            self.mapping[key] = data
        except Exception as error:
            raise translate(error, key=key, store=self) from cause_of(error)

    def _remove(self, key: str) -> None:
        try:
            del self.mapping[key]
        except KeyError:
            return
        except Exception as error:
            raise translate(error, key=key, store=self) from cause_of(error)

    def _keys(self, prefix: str) -> tuple[str, ...]:
        """The valid keys below a prefix, as they are now."""
        start = f"{prefix}/" if prefix else ""
        keys = tuple(self.mapping)
        return tuple(key for key in keys if isinstance(key, str) and key.startswith(start) and _good(key))

    def _exclusive(self, key: str) -> AbstractContextManager[None]:
        return _key_locks(f"{id(self.mapping)}\0{key}")


def _good(key: str) -> bool:
    try:
        check_key(key)
    except ZarrdockError:
        return False
    return True
