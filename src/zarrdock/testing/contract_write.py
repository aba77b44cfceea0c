"""The contract of writing: values of any make, exclusive creation, deletion, updates."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from zarrdock.errors import KeyExistsError, VersionChangedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.base import Blob, Buffer, Read, Value
from zarrdock.testing.contract_base import ContractBase, case
from zarrdock.testing.contract_read import whole

__all__ = ["WriteContract"]


class ChangeFailedError(Exception):
    """Raised by a change, to be passed on."""


def values() -> dict[str, tuple[Value, bytes]]:
    """Values of every make, and their bytes."""
    numbers = np.arange(1000, dtype="<u2")
    table = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    parts: list[Buffer] = [b"ab", bytearray(b"cd"), memoryview(b"-ef-")[1:3], numbers.data, b""]
    return {
        "bytes": (b"abc", b"abc"),
        "empty": (b"", b""),
        "bytearray": (bytearray(b"abc"), b"abc"),
        "memoryview": (memoryview(b"abcdef")[2:4], b"cd"),
        "uint16": (numbers.data, numbers.tobytes()),
        "float32 with three axes": (table.data, table.tobytes()),
        "strided": (numbers[::3].data, numbers[::3].tobytes()),
        "array": (table, table.tobytes()),  # type: ignore[dict-item]  # a buffer, though no type says so before 3.12
        "no items": (np.empty((0, 4)).data, b""),
        "parts": (parts, b"abcdef" + numbers.tobytes()),
        "tuple of parts": ((b"a", b"b"), b"ab"),
        "one part": ([numbers.data], numbers.tobytes()),
        "no parts": ([], b""),
        "empty parts": ([b"", b""], b""),
        "thousands of parts": ([b"%d" % i for i in range(5000)], b"".join(b"%d" % i for i in range(5000))),
        "large parts": ([b"x" * 3_000_000, b"y" * 1_500_000], b"x" * 3_000_000 + b"y" * 1_500_000),
    }


def _replaced(new: Value, old: Buffer | None) -> Value:
    return new


class WriteContract(ContractBase):
    """Writing, where the store can."""

    def test_value(self) -> None:
        store = self.filled()
        if self.can_write(store):
            can_update = self.can_update(store)
            for name, (value, expected) in values().items():
                with case(name):
                    store.write("a/k", value)
                    assert whole(store, "a/k") == expected
                    assert store.size("a/k") == len(expected)
                    store.write(f"a/new {name}", value, create_only=True)
                    assert whole(store, f"a/new {name}") == expected
                    if can_update:
                        store.update("a/k", partial(_replaced, value))
                        assert whole(store, "a/k") == expected

    def test_replaced_as_a_whole(self) -> None:
        store = self.filled({"k": b"a long value"})
        if self.can_write(store):
            for value in (b"short", b"", b"much longer than the one before", b"x"):
                store.write("k", value)
                assert whole(store, "k") == value

    def test_later_changes_of_the_buffer_do_not_show(self) -> None:
        store = self.filled()
        if self.can_write(store):
            buffer, array = bytearray(b"before"), np.zeros(3, np.uint8)
            store.write("a", buffer)
            store.write("b", [array.data])
            store.write("c", memoryview(buffer))
            buffer[:] = b"after!"
            array[:] = 1
            assert [whole(store, key) for key in "abc"] == [b"before", b"\0\0\0", b"before"]

    def test_write_returns_the_version(self) -> None:
        store = self.filled()
        if self.can_write(store):
            version = store.write("k", b"0123456789")
            if version is not None and store.traits.conditional_read:
                blob = store.get("k", Tail(2), version=version)
                assert blob is not None
                assert bytes(blob.data) == b"89"
                assert blob.version == version

    # -- exclusive creation --------------------------------------------------------------------------------------------

    def test_create_only(self) -> None:
        store = self.filled({"old": b"old"})
        if self.can_write(store):
            store.write("a/new", b"1", create_only=True)
            assert whole(store, "a/new") == b"1"
            for key, value in (("old", b"old"), ("a/new", b"1")):
                with pytest.raises(KeyExistsError) as caught:
                    store.write(key, b"2", create_only=True)
                assert isinstance(caught.value, FileExistsError)
                assert whole(store, key) == value
            store.delete("old")
            store.write("old", b"3", create_only=True)
            assert whole(store, "old") == b"3"

    # -- deletion ------------------------------------------------------------------------------------------------------

    def test_delete(self) -> None:
        store = self.filled({"a/b": b"1", "a/c/d": b"2"})
        if self.can_write(store):
            store.delete("a/b")
            assert whole(store, "a/b") is None
            for nothing in ("a/b", "missing", "a", "a/c", "no/such/folder", "a/c/d/e"):
                store.delete(nothing)
            assert whole(store, "a/c/d") == b"2"
            store.write("a/b", b"again")
            assert whole(store, "a/b") == b"again"

    def test_delete_many(self) -> None:
        """Keys named one by one, some of them missing."""
        items = {"a/b": b"1", "a/c": b"2", "ab": b"3"}
        store = self.filled(items)
        if self.can_write(store):
            store.delete_many(["a/b", "missing", "ab", "a"])
            store.delete_many([])
            assert {key for key in items if whole(store, key) is not None} == {"a/c"}

    @pytest.mark.parametrize(
        ("prefix", "left"),
        [
            ("foo", {"foobar/a", "x"}),
            ("foo/", {"foobar/a", "x"}),
            ("foo/b", {"foo/a", "foobar/a", "x"}),
            ("fo", {"foo/a", "foo/b/c", "foo/b/d", "foobar/a", "x"}),
            ("x", {"foo/a", "foo/b/c", "foo/b/d", "foobar/a", "x"}),
            ("no/such", {"foo/a", "foo/b/c", "foo/b/d", "foobar/a", "x"}),
            ("", set()),
        ],
    )
    def test_delete_prefix(self, prefix: str, left: set[str]) -> None:
        items = {key: key.encode() for key in ("foo/a", "foo/b/c", "foo/b/d", "foobar/a", "x")}
        store = self.filled(items)
        if self.can_write(store):
            store.delete_prefix(prefix)
            assert {key for key in items if whole(store, key) == items[key]} == left
            store.write("foo/b/c", b"again")
            assert whole(store, "foo/b/c") == b"again"

    # -- updates -------------------------------------------------------------------------------------------------------

    def test_update(self) -> None:
        store = self.filled({"k": b"1"})
        if self.can_update(store):
            seen: list[bytes | None] = []

            def change(old: Buffer | None) -> bytes:
                seen.append(None if old is None else bytes(old))
                return (b"" if old is None else bytes(old)) + b"x"

            for key in ("k", "k", "a/new", "a/new"):
                store.update(key, change)
            assert seen == [b"1", b"1x", None, b"x"]
            assert (whole(store, "k"), whole(store, "a/new")) == (b"1xx", b"xx")

    def test_update_to_nothing_deletes(self) -> None:
        store = self.filled({"a/k": b"1", "other": b"2"})
        if self.can_update(store):
            for key in ("a/k", "a/k", "a/missing"):
                store.update(key, lambda _: None)
                assert store.size(key) is None
            if self.can_list(store):
                assert store.list_dir() == type(store.list_dir())(("other",))

    def test_update_to_the_same_object_changes_nothing(self) -> None:
        store = self.filled({"k": b"1"})
        if self.can_update(store):
            before = store.get("k")
            store.update("k", lambda old: old)
            after = store.get("k")
            assert before is not None
            assert after is not None
            assert bytes(after.data) == b"1"
            assert after.version == before.version

    def test_a_change_that_raises_changes_nothing(self) -> None:
        store = self.filled({"k": b"1"})
        if self.can_update(store):

            def fail(_: Buffer | None) -> bytes:
                raise ChangeFailedError

            for key in ("k", "a/missing"):
                with pytest.raises(ChangeFailedError):
                    store.update(key, fail)
            assert whole(store, "k") == b"1"
            assert whole(store, "a/missing") is None
            if self.can_list(store):
                assert store.list_dir() == type(store.list_dir())(("k",))
            store.update("k", lambda _: b"2")
            assert whole(store, "k") == b"2"

    def test_what_a_change_was_given_does_not_follow_the_store(self) -> None:
        store = self.filled({"k": b"first"})
        if self.can_update(store):
            given: list[Buffer | None] = []

            def keep(old: Buffer | None) -> bytes:
                given.append(old)
                return b"later"

            store.update("k", keep)
            store.write("k", b"last!")
            assert given[-1] is not None
            assert bytes(given[-1]) == b"first"

    # -- versions of changed objects -----------------------------------------------------------------------------------

    def test_version_of_a_replaced_object(self) -> None:
        store = self.filled({"k": b"old value", "same": b"same"})
        if not store.traits.conditional_read or not self.can_write(store):
            return
        old, same = store.get("k", Tail(3)), store.get("same", Tail(3))
        assert old is not None
        assert same is not None
        store.write("k", b"new value")  # as many bytes as before
        requests = [Read("same", Span(0, 2), same.version), Read("k", Span(0, 3), old.version), Read("k", Span(0, 3))]
        unchanged, changed, new = store.read(requests)
        assert isinstance(unchanged, Blob)
        assert bytes(unchanged.data) == b"sa"
        assert isinstance(changed, VersionChangedError)
        assert "k" in changed.key
        assert isinstance(new, Blob)
        assert bytes(new.data) == b"new"
        assert new.version != old.version
        with pytest.raises(VersionChangedError):
            store.get("k", version=old.version)
        store.delete("k")
        assert store.get("k", Span(0, 3), version=old.version) is None
        store.write("k", b"new again")
        for stale in (old.version, new.version):
            assert isinstance(store.read([Read("k", None, stale)])[0], VersionChangedError)

    def test_no_version_comes_twice(self) -> None:
        # Inodes and clock ticks are used again at once; contents of equal size are what a counter writes.
        store = self.filled({"k": b"0000"})
        if not store.traits.conditional_read or not self.can_write(store):
            return
        for i in range(1, 40):
            old = store.get("k", Tail(2))
            assert old is not None
            if i % 3 == 0:
                store.delete("k")
            store.write("k", b"%04d" % i)
            assert isinstance(store.read([Read("k", Tail(2), old.version)])[0], VersionChangedError)
            new = store.get("k", Tail(2))
            assert new is not None
            assert new.version != old.version
