"""The contract of listing: whole path segments, one level or all."""

from __future__ import annotations

from zarrdock.errors import StoreError
from zarrdock.stores.base import Listing, Store
from zarrdock.testing.contract_base import ContractBase

__all__ = ["ListContract"]

ITEMS = {
    "zarr.json": b"{}",
    "foo/a": b"1",
    "foo/b/c": b"22",
    "foo/b/d/e": b"",
    "foobar/a": b"333",
    "foo.bar/x": b"4444",
}


def keys(store: Store, prefix: str = "") -> list[str]:
    """The keys below a prefix, sorted."""
    return sorted(entry.key for entry in store.list(prefix))


class ListContract(ContractBase):
    """Listing."""

    def test_list_all(self) -> None:
        store = self.filled(ITEMS)
        if self.can_list(store):
            entries = list(store.list())
            assert sorted(entry.key for entry in entries) == sorted(ITEMS)
            assert all(entry.size in (None, len(ITEMS[entry.key])) for entry in entries)

    def test_list_matches_whole_segments(self) -> None:
        store = self.filled(ITEMS)
        if self.can_list(store):
            assert keys(store, "foo") == keys(store, "foo/") == ["foo/a", "foo/b/c", "foo/b/d/e"]
            assert keys(store, "foo/b") == ["foo/b/c", "foo/b/d/e"]
            assert keys(store, "foobar") == ["foobar/a"]
            assert keys(store, "fo") == []
            assert keys(store, "foo/a") == []
            assert keys(store, "zarr.json") == []
            assert keys(store, "no/such") == []

    def test_list_dir(self) -> None:
        store = self.filled(ITEMS)
        if self.can_list(store):
            assert store.list_dir() == Listing(("zarr.json",), ("foo", "foo.bar", "foobar"))
            assert store.list_dir("foo") == store.list_dir("foo/") == Listing(("a",), ("b",))
            assert store.list_dir("foo/b") == Listing(("c",), ("d",))
            for nothing in ("fo", "no/such", "zarr.json", "foo/a"):
                assert store.list_dir(nothing) == Listing()
            both = [*store.list_dirs(["foo/b", "no/such", "foo", "foo/b/"])]
            assert both == [Listing(("c",), ("d",)), Listing(), Listing(("a",), ("b",)), Listing(("c",), ("d",))]
            assert [*store.list_dirs([])] == []

    def test_empty_store(self) -> None:
        store = self.filled()
        if self.can_list(store):
            assert keys(store) == []
            assert keys(store, "a/b") == []
            assert store.list_dir() == store.list_dir("a/b") == Listing()

    def test_a_key_that_is_a_prefix_too(self) -> None:
        try:
            store = self.filled({"foo/a": b"1", "foobar/a": b"2", "foo": b"3"})
        except StoreError:
            return  # a store of files and folders can't hold both, and says so
        if self.can_list(store):
            assert keys(store) == ["foo", "foo/a", "foobar/a"]
            assert keys(store, "foo") == ["foo/a"]
            assert store.list_dir() == Listing(("foo",), ("foo", "foobar"))
            assert store.list_dir("foo") == Listing(("a",))
        if self.can_write(store):
            store.delete_prefix("foo")
            assert store.size("foo") == 1
            assert store.size("foo/a") is None
            assert store.size("foobar/a") == 1

    def test_many_keys(self) -> None:
        items = {f"c/{i // 10}/{i % 10}": b"" for i in range(self.n_keys)}
        store = self.filled(items)
        if self.can_list(store):
            assert keys(store) == sorted(items)
            assert len(store.list_dir("c").prefixes) == len({key.rpartition("/")[0] for key in items})

    def test_prefixes_go_with_their_keys(self) -> None:
        store = self.filled({"a/b/c": b"1", "a/d": b"2"})
        if self.can_list(store) and self.can_write(store):
            store.delete("a/b/c")
            assert store.list_dir("a") == Listing(("d",))
            store.delete("a/d")
            assert store.list_dir() == Listing()
            store.write("a", b"now a key")
            assert store.list_dir() == Listing(("a",))

    def test_deleting_while_listing(self) -> None:
        store = self.filled(ITEMS)
        if self.can_list(store) and self.can_write(store):
            for entry in store.list():
                store.delete(entry.key)
            assert keys(store) == []
