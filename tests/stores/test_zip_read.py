"""Archives of other hands: what ZipStore makes of every kind of zip, good and bad."""

import io
import pickle
import re
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import InvalidKeyError, NodeNotFoundError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import From, Span, Tail
from zarrdock.stores.base import Blob, Listing, Read
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.wrappers import RecordingStore
from zarrdock.stores.zip_ import ZipStore

SMALL = b"0123456789" * 7
LARGE = bytes(range(256)) * 4000  # a megabyte

ITEMS = {"zarr.json": b"{}", "c/0/0": SMALL, "c/0/1": LARGE, "empty": b"", "Grün/🧠": b"unicode"}


class Unseekable(io.RawIOBase):
    """A file that can't go back, so that sizes come after the data, in descriptors."""

    def __init__(self) -> None:
        self.out = io.BytesIO()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self.out.write(data)


def make(items=None, *, method=zipfile.ZIP_STORED, streamed=False, zip64=False, comment=b"") -> bytes:
    raw = Unseekable()
    out = io.BufferedWriter(raw) if streamed else raw.out
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in (ITEMS if items is None else items).items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as file:
                file.write(data)
        archive.comment = comment
    out.flush()
    return raw.out.getvalue()


def with_local_extra(items, extra: bytes) -> bytes:
    """An archive whose local headers are longer than its directory lets on, as Info-ZIP and zipalign write them."""
    body, directory = b"", b""
    for name, data in items.items():
        raw = name.encode()
        common = struct.pack("<HHHHHLLL", 20, 0x800, 0, 0, 33, zlib.crc32(data), len(data), len(data))
        central = struct.pack("<4sH", b"PK\1\2", 20) + common
        central += struct.pack("<HHHHHLL", len(raw), 0, 0, 0, 0, 0, len(body)) + raw
        directory += central
        body += struct.pack("<4s", b"PK\3\4") + common + struct.pack("<HH", len(raw), len(extra)) + raw + extra + data
    n = len(items)
    return body + directory + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, n, n, len(directory), len(body), 0)


def in_memory(data: bytes) -> ZipStore:
    outer = MemoryStore()
    outer.write("x.zip", data)
    return ZipStore((outer, "x.zip"))


@pytest.fixture(params=["path", "store"])
def open_(request, tmp_path):
    """Opens an archive as a local file, and as a key of a store."""

    def open_zip(data: bytes, **options) -> ZipStore:
        if request.param == "store":
            outer = MemoryStore()
            outer.write("x.zip", data)
            return ZipStore((outer, "x.zip"), **options)
        (tmp_path / "x.zip").write_bytes(data)
        return ZipStore(tmp_path / "x.zip", **options)

    return open_zip


def check(store: ZipStore, items=None) -> None:
    items = ITEMS if items is None else items
    assert {entry.key: entry.size for entry in store.list()} == {key: len(data) for key, data in items.items()}
    for _ in range(2):  # the second time it is known where the data begin
        for key, data in items.items():
            blob = store.get(key)
            assert blob is not None
            assert bytes(blob.data) == data
            for range_, expected in [
                (Span(0, 7), data[:7]),
                (Span(3, 11), data[3:11]),
                (Tail(5), data[-5:]),
                (Span(700_000, 700_100), data[700_000:700_100]),
                (From(999_999), data[999_999:]),
            ]:
                if expected:
                    part = store.get(key, range_)
                    assert part is not None
                    assert bytes(part.data) == expected
    for key, data in items.items():  # what is deep inside an entry is read right at the first time, too
        if len(data) > 100_000:
            fresh = pickle.loads(pickle.dumps(store)).get(key, Span(700_000, 700_100))
            assert bytes(fresh.data) == data[700_000:700_100]


KINDS = {
    "stored": make(),
    "deflated": make(method=zipfile.ZIP_DEFLATED),
    "stored, sizes after the data": make(streamed=True),
    "deflated, sizes after the data": make(method=zipfile.ZIP_DEFLATED, streamed=True),
    "zip64 fields": make(zip64=True),
    "zip64 fields after the data": make(zip64=True, streamed=True),
    "comment": make(comment=b"a comment with PK\5\6 in it, and more than enough behind it to look like a record"),
    "long comment": make(comment=b"x" * 65535),
    "something before it": b"#!/bin/sh\nexit 0\n" * 20 + make(),
    "something large before it": b"\0" * 300_000 + make(),
    "local extra fields": with_local_extra(ITEMS, b"\x99\x99\x10\x00" + b"x" * 16),
    "aligned to pages": with_local_extra(ITEMS, b"\x99\x99" + struct.pack("<H", 4000) + b"x" * 4000),
    "very long local extra fields": with_local_extra(ITEMS, b"\x99\x99" + struct.pack("<H", 65000) + b"x" * 65000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind, open_):
    check(open_(KINDS[kind]))


def test_something_behind_it(open_):
    # Not what the format allows, but what mail gateways and padding leave; a directory with the right offsets counts.
    check(open_(make() + b"\0" * 100))


def test_many_entries_zip64(open_):
    items = {f"c/{i}": b"%d" % i for i in range(66_000)}  # more than 16 bits, and a directory larger than the tail
    store = open_(make(items))
    assert sum(1 for _ in store.list()) == 66_000
    assert bytes(store.get("c/65999").data) == b"65999"
    assert store.list_dir("c").keys == tuple(sorted(str(i) for i in range(66_000)))


def test_something_before_a_directory_larger_than_the_tail(open_):
    items = {f"a/rather/long/name/{i:06}": b"%d" % i for i in range(3000)}
    check(open_(b"stub" * 1000 + make(items)), items)


def test_zip64_end_record_with_claims_of_64_bits(open_):
    # Every number of the old end record says "look into the zip64 one".
    data = make()
    end = len(data) - 22
    _, _, _, n, _, size, offset, _ = struct.unpack("<4sHHHHLLH", data[end:])
    zip64 = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    old = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    check(open_(data[:end] + zip64 + locator + old))
    # With a data sector of its own the record is longer.
    zip64 = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 54, 45, 45, 0, 0, n, n, size, offset) + b"extra data"
    check(open_(data[:end] + zip64 + locator + old))


def test_the_last_of_several_counts(open_, tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a/k", b"first")
        for value in (b"second", b"the last"):
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a/k", value)
    store = open_((tmp_path / "d.zip").read_bytes())
    assert [entry.key for entry in store.list()] == ["a/k"]
    assert bytes(store.get("a/k").data) == b"the last"


BAD_NAMES = ["../evil", "/etc/passwd", "a/../../evil", "C:\\evil", "C:/evil", "a\\b", "a//b", "./a"]


def test_names_that_lead_out_are_not_there(open_):
    store = open_(make({"folder/": b"", **dict.fromkeys(BAD_NAMES, b"evil"), "good": b"1"}))
    assert [entry.key for entry in store.list()] == ["good"]
    assert store.list_dir() == Listing(("good",))
    for name in BAD_NAMES:
        with pytest.raises(InvalidKeyError):
            store.get(name)
    assert store.get("folder") is None


def test_prefix(open_):
    data = make({"outer/x.zarr/zarr.json": b"{}", "outer/x.zarr/c/0": b"0", "outer/x.zarr2/c/0": b"no", "c/0": b"no"})
    store = open_(data, prefix="outer/x.zarr/")
    check(store, {"zarr.json": b"{}", "c/0": b"0"})
    assert store.list_dir() == Listing(("zarr.json",), ("c",))
    assert store.get("c/1") is None
    with pytest.raises(InvalidKeyError):
        ZipStore((MemoryStore(), "x.zip"), prefix="../x")


def test_level_by_level(open_):
    items = {f"{a}/{b}": b"" for a in ("a", "a.b", "a0", "ab") for b in ("x/y", "x", "z/1/2")}
    store = open_(make({**items, "a": b"both a key and a prefix", "a-": b""}))
    assert store.list_dir() == Listing(("a", "a-"), ("a", "a.b", "a0", "ab"))
    assert store.list_dir("a") == Listing(("x",), ("x", "z"))
    assert store.list_dir("a0/z") == Listing((), ("1",))


# -- what can't be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_unknown_methods_are_named(method, name, open_):
    store = open_(make({"a/k": SMALL}, method=method))
    assert store.size("a/k") == len(SMALL)
    with pytest.raises(UnsupportedError, match=rf"'a/k' is compressed with {name}"):
        store.get("a/k")


def patched(data: bytes, offset_of: bytes, at: int, new: bytes) -> bytes:
    position = data.index(offset_of) + at
    return data[:position] + new + data[position + len(new) :]


def test_encrypted_entries_are_named(open_):
    data = patched(make({"a/k": SMALL}), b"PK\1\2", 8, b"\1\0")
    with pytest.raises(UnsupportedError, match="'a/k' is encrypted"):
        open_(data).get("a/k")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_data(method, open_):
    data = make({"a/k": LARGE}, method=method)
    store = open_(patched(data, b"a/k", 1000, b"\xff\x00\xff"))
    with pytest.raises(StoreError, match="damaged") as caught:
        store.get("a/k")
    assert caught.value.key == "a/k"


DIRECTORY = b"PK\1\2"
DAMAGED = {
    "empty bytes": b"not a zip",
    "only a local header": make()[:40],
    "cut in the data": make()[:5000],
    "cut in the directory": make()[:-100],
    "cut in the end record": make()[:-1],
    "directory larger than all": patched(make(), b"PK\5\6", 12, struct.pack("<L", 2**31)),
    "more entries announced": patched(make(), b"PK\5\6", 8, struct.pack("<HH", 9, 9)),
    "fewer entries announced": patched(make(), b"PK\5\6", 8, struct.pack("<HH", 3, 3)),
    "no entries announced": patched(make(), b"PK\5\6", 8, struct.pack("<HH", 0, 0)),
    "a name that does not end": patched(make(), DIRECTORY, 28, b"\xff\xff"),
    "header outside": patched(make(), DIRECTORY, 42, struct.pack("<L", 2**31)),
    "not a directory": patched(make(), DIRECTORY, 0, b"XXXX"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_directory(kind, open_):
    store = open_(DAMAGED[kind])
    for verb in (lambda: store.get("c/0/0"), lambda: store.size("c/0/0"), store.list_dir, lambda: list(store.list())):
        with pytest.raises(StoreError) as caught:
            verb()
        assert "x.zip" in str(caught.value)


def test_directory_said_to_be_elsewhere(tmp_path):
    data = patched(make(), b"PK\5\6", 16, struct.pack("<L", 2**31))
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(StoreError):
        ZipStore(tmp_path / "x.zip").size("c/0/0")
    # A store isn't asked for the size of an archive for nothing, and all is where the directory says.
    assert bytes(in_memory(data).get("c/0/0").data) == SMALL


DAMAGED_ENTRIES = {
    "header elsewhere": patched(make({"k": LARGE}), DIRECTORY, 42, struct.pack("<L", 7)),
    "another name": patched(make({"k": LARGE}), DIRECTORY, 46, b"K"),
    "stored in fewer bytes": patched(make({"k": LARGE}), DIRECTORY, 20, struct.pack("<L", 7)),
    "longer than the archive": patched(make({"k": LARGE}), DIRECTORY, 20, struct.pack("<LL", 2**30, 2**30)),
    "overlaps with the next": patched(
        make({"k": LARGE, "l": LARGE}), DIRECTORY, 20, struct.pack("<LL", *[1_100_000] * 2)
    ),
    "inflates too far": patched(
        make({"k": LARGE}, method=zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<L", 2**32 - 2)
    ),
    "inflates further than announced": patched(
        make({"k": LARGE}, method=zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<L", 1000)
    ),
    "inflates less far than announced": patched(
        make({"k": LARGE}, method=zipfile.ZIP_DEFLATED), DIRECTORY, 24, struct.pack("<L", len(LARGE) + 1)
    ),
}


@pytest.mark.parametrize("kind", DAMAGED_ENTRIES)
def test_damaged_entry(kind, open_):
    store = open_(DAMAGED_ENTRIES[kind])
    key = next(store.list()).key
    for range_ in (None, Span(100, 200)):
        with pytest.raises(StoreError):
            store.get(key, range_)


def test_bomb_of_overlapping_entries(open_):
    # One kernel of data that every entry of the directory points at.
    data = make({"a": LARGE}, method=zipfile.ZIP_DEFLATED)
    start = data.index(DIRECTORY)
    record = data[start:-22]
    records = b"".join(record.replace(b"a", b"%c" % (97 + i)) for i in range(20))
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 20, 20, len(records), start, 0)
    store = open_(data[:start] + records + end)
    for i in range(1, 20):
        with pytest.raises(StoreError):
            store.get(chr(97 + i))


def test_no_such_archive(tmp_path):
    with pytest.raises(StoreError, match="no such archive"):
        ZipStore((MemoryStore(), "x.zip")).get("k")
    with pytest.raises(StoreError, match="no such archive"):
        ZipStore(tmp_path / "x.zip", read_only=True).get("k")
    assert ZipStore(tmp_path / "x.zip").get("k") is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        ZipStore(tmp_path / "folder", read_only=True).get("k")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# -- an archive that is replaced ---------------------------------------------------------------------------------------


def test_replaced_in_its_store():
    outer = MemoryStore()
    outer.write("x.zip", make({"k": b"old value", "gone": b"1"}))
    store = ZipStore((outer, "x.zip"))
    old = store.get("k", Span(0, 3))
    outer.write("x.zip", make({"other": b"1", "k": b"the new value"}))
    results = store.read([Read("k", Span(4, 9), old.version), Read("k"), Read("gone"), Read("other")])
    assert isinstance(results[0], VersionChangedError)
    assert [r if r is None else bytes(r.data) for r in results[1:]] == [b"the new value", None, b"1"]
    # Missing keys are looked up in the directory that is known.
    outer.write("x.zip", make({"newer": b"2"}))
    assert store.size("newer") is None
    store.refresh()
    assert store.size("newer") == 1
    outer.delete("x.zip")
    with pytest.raises(StoreError):
        store.get("newer")


def test_replaced_on_the_disk(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(make({"k": b"old value", "gone": b"1"}))
    store = ZipStore(path)
    old = store.get("k", Span(0, 3))
    (tmp_path / "new").write_bytes(make({"k": b"the new value"}))
    (tmp_path / "new").rename(path)
    results = store.read([Read("k", Span(4, 9), old.version), Read("k"), Read("gone")])
    assert isinstance(results[0], VersionChangedError)
    assert isinstance(results[1], Blob)
    assert bytes(results[1].data) == b"the new value"
    assert results[2] is None
    path.write_bytes(make({"k": b"written over it in place"}))
    assert bytes(store.get("k").data) == b"written over it in place"


# -- in how many requests ----------------------------------------------------------------------------------------------


def recorded(data: bytes, **options) -> tuple[RecordingStore, ZipStore]:
    inner = MemoryStore()
    inner.write("x.zip", data)
    outer = RecordingStore(inner, n_events=100)
    return outer, ZipStore((outer, "x.zip"), **options)


def counted(outer: RecordingStore) -> tuple[int, int]:
    counts = outer.n_rounds, outer.n_requests
    assert all(event.verb == "read" for event in outer.log), [*outer.log]
    outer.reset()
    return counts


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_requests_of_a_small_archive(method):
    outer, store = recorded(make(method=method))
    assert store.size("c/0/0") == len(SMALL)
    assert counted(outer) == (1, 1)
    for key in ITEMS:
        store.get(key)
        assert counted(outer) == ((1, 1) if ITEMS[key] else (0, 0))
    assert store.get("missing") is None
    store.list_dir("c")
    list(store.list())
    store.get("c/0/1", Tail(10))
    assert counted(outer) == (1, 1)


def test_requests_of_an_archive_with_a_large_directory():
    items = {f"a/rather/long/name/{i:06}": b"%d" % i for i in range(3000)}
    outer, store = recorded(make(items, comment=b"with a comment"))
    assert store.size("a/rather/long/name/000000") == 1
    assert counted(outer) == (2, 2)
    store.get("a/rather/long/name/002999")
    assert counted(outer) == (1, 1)


def test_requests_deep_inside_a_large_entry():
    outer, store = recorded(make())
    store.size("c/0/1")
    outer.reset()
    store.get("c/0/1", Tail(100))  # as the index of a shard: the header says where the data begin
    assert counted(outer) == (1, 2)
    store.get("c/0/1", Span(300_000, 310_000))
    assert counted(outer) == (1, 1)


def test_requests_of_an_entry_with_a_very_long_header():
    outer, store = recorded(with_local_extra(ITEMS, b"\x99\x99" + struct.pack("<H", 65000) + b"x" * 65000))
    store.size("c/0/1")
    outer.reset()
    store.get("c/0/1")
    assert counted(outer) == (2, 2)
    store.get("c/0/1")
    assert counted(outer) == (1, 1)


def test_neighbours_are_one_request():
    inner = MemoryStore()
    inner.traits = replace(inner.traits, merge_gap_bytes=1000)
    inner.write("x.zip", make({f"c/{i}": SMALL for i in range(100)}))
    outer = RecordingStore(inner)
    store = ZipStore((outer, "x.zip"))
    results = store.read([Read(f"c/{i}", Span(1, 9)) for i in range(100)])
    assert {bytes(result.data) for result in results} == {SMALL[1:9]}
    assert counted(outer) == (2, 2)  # of which one is for the directory


def test_one_deflated_entry_is_fetched_once_a_batch():
    outer, store = recorded(make(method=zipfile.ZIP_DEFLATED))
    store.get("c/0/1")
    outer.reset()
    results = store.read([Read("c/0/1", Span(i, i + 10)) for i in range(0, 900_000, 100_000)])
    assert [bytes(result.data) for result in results] == [LARGE[i : i + 10] for i in range(0, 900_000, 100_000)]
    assert counted(outer) == (1, 1)


# -- real ones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zarr2", "zarr3", "tensorstore"])
def test_golden_archives(name, repository: Path):
    path = repository / "tests/golden" / f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        expected = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    for store in (ZipStore(path, read_only=True), in_memory(path.read_bytes())):
        assert {entry.key for entry in store.list()} == expected.keys()
        for key, result in zip(expected, store.read([Read(key) for key in expected]), strict=True):
            assert isinstance(result, Blob)
            assert bytes(result.data) == expected[key]


# -- what other writers make -------------------------------------------------------------------------------------------


def with_zip64_end(data: bytes, **lies: int) -> bytes:
    """An archive with a zip64 end record that nothing in it needs."""
    end = data[-22:]
    fields = dict(zip(("n", "size", "offset"), struct.unpack("<HLL", end[10:20]), strict=True)) | lies
    n, size, offset = fields["n"], fields["size"], fields["offset"]
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, n, n, size, offset)
    return data[:-22] + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1) + end


def test_a_zip64_end_record_that_was_not_needed(open_, tmp_path):
    data = with_zip64_end(make())
    check(open_(data))
    check(open_(b"x" * 100 + data))
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with ZipStore(path) as store:
        store.write("added", b"1")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("added") == b"1"
        assert archive.testzip() is None


@pytest.mark.parametrize("lie", [{"n": 1}, {"size": 10}, {"offset": 3}])
def test_a_zip64_end_record_that_says_something_else(lie, open_):
    with pytest.raises(StoreError):
        list(open_(with_zip64_end(make(), **lie)).list())


def renamed(name: str, old: bytes, *, crc: int | None = None, data: bytes = b"1") -> bytes:
    """An archive as Info-ZIP writes it: the name in the system's own letters, and in UTF-8 in a field beside it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("?" * len(old))
        field = struct.pack("<BL", 1, zlib.crc32(old) if crc is None else crc) + name.encode()
        info.extra = struct.pack("<HH", 0x5855, 2) + b"ab" + struct.pack("<HH", 0x7075, len(field)) + field
        archive.writestr(info, data)
    return out.getvalue().replace(b"?" * len(old), old)


def test_names_in_utf8_beside_the_name(open_, tmp_path):
    data = renamed("größe/é", "größe/é".encode("latin-1"))
    store = open_(data)
    assert [entry.key for entry in store.list()] == ["größe/é"]
    assert store.get("größe/é").data == b"1"
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with ZipStore(path) as store:
        store.write("größe/ß", b"2")
        store.write("größe/é", b"3")
        store.compact()
    with ZipStore(path) as store:
        assert {entry.key: bytes(store.get(entry.key).data) for entry in store.list()} == {
            "größe/é": b"3",
            "größe/ß": b"2",
        }


def test_names_in_utf8_that_belong_to_another_name(open_):
    """The field is stale where a tool renamed the entry and knew nothing of it."""
    store = open_(renamed("größe", "gr\xf6\xdfe".encode("latin-1"), crc=1))
    assert [entry.key for entry in store.list()] == [b"gr\xf6\xdfe".decode("cp437")]
    assert store.get(b"gr\xf6\xdfe".decode("cp437")).data == b"1"
    store = open_(renamed("../out", b"gr\xf6\xdfe"))
    assert list(store.list()) == []


def test_an_archive_kept_when_it_is_compacted_keeps_such_names(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(renamed("größe", b"gr\xf6\xdfe"))
    with ZipStore(path) as store:
        store.write("x", b"1")
        store.write("x", b"2")
        store.compact()
    with ZipStore(path) as store:
        assert {entry.key for entry in store.list()} == {"größe", "x"}
        assert store.get("größe").data == b"1"


def test_one_folder_on_top(tmp_path):
    inside = zarrdock.MemoryStore()
    zarrdock.create_group(inside).create_array("v", data=np.arange(3))
    items = {entry.key: bytes(inside.get(entry.key).data) for entry in inside.list()}
    path = tmp_path / "a.zip"

    def pack(**more):
        with zipfile.ZipFile(path, "w") as archive:
            for key, value in items.items():
                archive.writestr(f"x.zarr/{key}", value)
            for key, value in more.items():
                archive.writestr(key, value)

    pack(**{".DS_Store": b""})
    for use in (zarrdock.open_group, zarrdock.open, lambda place: zarrdock.copy(place, tmp_path / "b.zarr")):
        with pytest.raises(NodeNotFoundError, match=r"all of the archive lies in its folder 'x\.zarr'") as caught:
            use(path)
        url = re.search(r"open '([^']+)'", str(caught.value))[1]
        assert zarrdock.open_group(url)["v"][:].tolist() == [0, 1, 2]
    pack(other=b"1")
    with pytest.raises(NodeNotFoundError) as caught:
        zarrdock.open_group(path)
    assert "its folder" not in str(caught.value)
    with pytest.raises(NodeNotFoundError) as caught:
        zarrdock.open_array(path, path="missing")
    assert "its folder" not in str(caught.value)
