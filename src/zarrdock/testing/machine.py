"""Random sequences of operations on a store, compared with a dictionary (hypothesis)."""

from __future__ import annotations

import unittest
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from zarrdock.errors import KeyExistsError, RangeError, VersionChangedError
from zarrdock.ranges import From, Range, Span, Tail, is_empty, resolve
from zarrdock.stores.base import Blob, Buffer, Listing, Read, Result, Store, Value, Version

__all__ = ["StoreMachine", "store_machine"]

# No key is a prefix of another: stores of files and folders can't hold such. Names that begin alike go wrong most.
KEYS = ["a/b", "a/bc", "a/b.c", "ab", "a.b/c/d", "a.b/c/e", "a.b/x", "z", "ü/ö"]
PREFIXES = ["", "a", "a/", "a.b", "a.b/c", "ab", "a/b", "ü", "missing", "missing/too"]

_keys = st.sampled_from(KEYS)
_prefixes = st.sampled_from(PREFIXES)
_values = st.binary(max_size=40)
_numbers = st.integers(0, 50)


@st.composite
def _spans(draw: st.DrawFn) -> Span:
    start = draw(_numbers)
    return Span(start, start + draw(_numbers))


_ranges: st.SearchStrategy[Range] = st.none() | _spans() | st.builds(From, _numbers) | st.builds(Tail, _numbers)


class ChangeFailedError(Exception):
    """Raised by a change."""


def _below(key: str, prefix: str) -> bool:
    prefix = prefix.removesuffix("/")
    return not prefix or key.startswith(f"{prefix}/")


class StoreMachine(RuleBasedStateMachine):
    """A store, and the dictionary it must equal after every step. Made for a store by :func:`store_machine`."""

    versions = Bundle("versions")

    def make_store(self) -> Store:
        raise AssertionError("made by store_machine")

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.model: dict[str, bytes] = {}
        # How often a key was written: a version is good as long as this number stays.
        self.n_changes = dict.fromkeys(KEYS, 0)

    def teardown(self) -> None:
        self.store.close()

    # -- changes -------------------------------------------------------------------------------------------------------

    def _set(self, key: str, value: bytes) -> None:
        self.model[key] = value
        self.n_changes[key] += 1

    def _unset(self, key: str) -> None:
        if self.model.pop(key, None) is not None:
            self.n_changes[key] += 1

    @rule(key=_keys, value=_values, kind=st.sampled_from(["bytes", "bytearray", "view", "parts"]))
    def write(self, key: str, value: bytes, kind: str) -> None:
        buffer = bytearray(value)
        made: dict[str, Value] = {
            "bytes": value,
            "bytearray": buffer,
            "view": memoryview(buffer),
            "parts": [memoryview(buffer)[:3], value[3:7], b"", buffer[7:]],
        }
        self.store.write(key, made[kind])
        buffer[:] = b"!" * len(buffer)
        self._set(key, value)

    @rule(key=_keys, value=_values)
    def create(self, key: str, value: bytes) -> None:
        try:
            self.store.write(key, value, create_only=True)
        except KeyExistsError:
            assert key in self.model
        else:
            assert key not in self.model
            self._set(key, value)

    @precondition(lambda self: self.store.traits.atomic_update)
    @rule(key=_keys, value=_values, what=st.sampled_from(["append", "delete", "same", "fail", "parts"]))
    def update(self, key: str, value: bytes, what: str) -> None:
        expected = self.model.get(key)

        def change(old: Buffer | None) -> Value | None:
            assert (None if old is None else bytes(old)) == expected
            before = b"" if old is None else bytes(old)
            if what == "fail":
                raise ChangeFailedError
            if what == "same":
                return old
            if what == "delete":
                return None
            return [before, value] if what == "parts" else before + value

        try:
            self.store.update(key, change)
        except ChangeFailedError:
            assert what == "fail"
            return
        assert what != "fail"
        if what == "delete":
            self._unset(key)
        elif what != "same":
            self._set(key, (expected or b"") + value)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self._unset(key)

    @rule(prefix=_prefixes)
    def delete_prefix(self, prefix: str) -> None:
        self.store.delete_prefix(prefix)
        for key in [key for key in self.model if _below(key, prefix)]:
            self._unset(key)

    # -- reads ---------------------------------------------------------------------------------------------------------

    def _check(self, request: Read, result: Result) -> None:
        value = self.model.get(request.key)
        if is_empty(request.range):
            assert isinstance(result, Blob)
            assert bytes(result.data) == b""
        elif value is None:
            assert result is None
        else:
            assert isinstance(result, Blob)
            span = resolve(request.range, len(value))
            assert span is not None
            assert bytes(result.data) == value[slice(*span)]

    @rule(wanted=st.lists(st.tuples(_keys, _ranges), max_size=6))
    def read(self, wanted: list[tuple[str, Range]]) -> None:
        requests = [Read(key, range_) for key, range_ in wanted]
        beyond = any(
            key in self.model and not is_empty(range_) and resolve(range_, len(self.model[key])) is None
            for key, range_ in wanted
        )
        try:
            results = self.store.read(requests)
        except RangeError:
            assert beyond
            return
        assert not beyond
        for request, result in zip(requests, results, strict=True):
            self._check(request, result)

    @precondition(lambda self: self.store.traits.conditional_read)
    @rule(target=versions, key=_keys)
    def remember(self, key: str) -> tuple[str, int, Version | None]:
        blob = self.store.get(key)
        return key, self.n_changes[key], None if blob is None else blob.version

    def _conditional(self, remembered: tuple[str, int, Version | None], range_: Range) -> None:
        key, n_changes, version = remembered
        value = self.model.get(key)
        if version is None or (value is not None and resolve(range_, len(value)) is None):
            return
        request = Read(key, range_, version)
        result = self.store.read([request])[0]
        if isinstance(result, VersionChangedError):
            # A version may go out of use, as when too many are remembered; it is never good again after a change.
            return
        if value is not None and not is_empty(range_):
            # Two writes of the same bytes may share a version where that is made from the bytes.
            assert n_changes == self.n_changes[key] or self._version_is_of_the_bytes
        self._check(request, result)

    _version_is_of_the_bytes = False

    @rule(remembered=versions, range_=_ranges)
    def read_version(self, remembered: tuple[str, int, Version | None], range_: Range) -> None:
        self._conditional(remembered, range_)

    @rule(remembered=consumes(versions), range_=_ranges)
    def read_version_for_the_last_time(self, remembered: tuple[str, int, Version | None], range_: Range) -> None:
        self._conditional(remembered, range_)

    @rule(key=_keys)
    def size(self, key: str) -> None:
        value = self.model.get(key)
        assert self.store.size(key) == (None if value is None else len(value))
        assert self.store.exists(key) == (value is not None)

    @precondition(lambda self: self.store.traits.listable)
    @rule(prefix=_prefixes)
    def list(self, prefix: str) -> None:
        entries = {entry.key: entry.size for entry in self.store.list(prefix)}
        expected = {key: len(value) for key, value in self.model.items() if _below(key, prefix)}
        assert entries.keys() == expected.keys()
        assert all(size in (None, expected[key]) for key, size in entries.items())

    @precondition(lambda self: self.store.traits.listable)
    @rule(prefix=_prefixes)
    def list_dir(self, prefix: str) -> None:
        prefix = prefix.removesuffix("/")
        names = [key[len(prefix) + 1 if prefix else 0 :] for key in self.model if _below(key, prefix)]
        expected = Listing(
            tuple(sorted({name for name in names if "/" not in name})),
            tuple(sorted({name.partition("/")[0] for name in names if "/" in name})),
        )
        assert self.store.list_dir(prefix) == expected

    @rule()
    def close(self) -> None:
        self.store.close()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for key, result in zip(KEYS, self.store.read([Read(key) for key in KEYS]), strict=True):
            self._check(Read(key), result)


def store_machine(
    make_store: Callable[[], Store],
    *,
    n_examples: int = 20,
    n_steps: int = 30,
    version_is_of_the_bytes: bool = False,
) -> type[unittest.TestCase]:
    """A test case that drives fresh stores through random operations, each compared with a dictionary after every step.

    Args:
        make_store: a new, empty, writable store at each call.
        n_examples, n_steps: sequences tried, and operations in each.
        version_is_of_the_bytes: equal values may have equal versions, as with ETags that are hashes.

    >>> from zarrdock.testing import store_machine
    >>> TestMyStore = store_machine(zarrdock.MemoryStore, n_examples=5)
    """
    attributes = {
        "make_store": lambda _: make_store(),
        "_version_is_of_the_bytes": version_is_of_the_bytes,
    }
    machine: type[RuleBasedStateMachine] = type("Machine", (StoreMachine,), attributes)
    case: type[unittest.TestCase] = machine.TestCase
    case.settings = settings(  # type: ignore[attr-defined]
        max_examples=n_examples, stateful_step_count=n_steps, deadline=None
    )
    return case
