"""Archives with bytes changed at random: every answer is right or one of our errors, and no claim is believed."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrdock.errors import StoreError, UnsupportedError
from zarrdock.ranges import Span, Tail
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.zip_ import ZipStore

ITEMS = {"zarr.json": b"{}" * 10, "c/0": b"0123456789" * 30, "c/1": bytes(200), "empty": b"", "ü/x": b"umlaut"}
VALUES = {*ITEMS.values()}


def make(method: int, *, zip64: bool, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in ITEMS.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as file:
                file.write(data)
        archive.comment = comment
    return out.getvalue()


GOOD = [
    make(zipfile.ZIP_STORED, zip64=False),
    make(zipfile.ZIP_DEFLATED, zip64=False, comment=b"a comment"),
    make(zipfile.ZIP_STORED, zip64=True),
    b"stub" + make(zipfile.ZIP_DEFLATED, zip64=True),
]
# Numbers at which parsers go wrong, little-endian.
NUMBERS = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1, 46, 22, 0x06054B50, 0x02014B50]

places = st.integers(0, 10**6)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("set"), places, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("number"), places, st.sampled_from(NUMBERS)),
        st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("remove"), places, st.integers(1, 60)),
        st.tuples(st.just("cut"), places, st.none()),
        st.tuples(st.just("repeat"), places, st.integers(1, 200)),
    ),
    min_size=1,
    max_size=5,
)


def changed(data: bytes, what: list) -> bytes:
    for kind, place, value in what:
        # Most of what there is to break is at the end.
        at = max(0, len(data) - 1 - place % 400) if place % 3 else place % max(1, len(data))
        if kind == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "number":
            new = value.to_bytes(8, "little")[: max(2, (value.bit_length() + 7) // 8)]
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind == "remove":
            data = data[:at] + data[at + value :]
        elif kind == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at : at + value] * 2 + data[at + value :]
    return data


def look(store: ZipStore) -> int:
    """Read all that can be read; returns how many entries could be."""
    n_read = 0
    try:
        entries = list(store.list())
        store.list_dir()
    except (StoreError, UnsupportedError):
        return 0
    for entry in entries:
        assert entry.size is not None
        try:
            blob = store.get(entry.key)
            assert blob is not None
            assert len(blob.data) == entry.size
            # What has a checksum can't be wrong, unless two are alike; stored numbers may be changed with it.
            n_read += bytes(blob.data) in VALUES
            if entry.size:
                tail = store.get(entry.key, Tail(3))
                span = store.get(entry.key, Span(0, 2))
                assert tail is not None
                assert span is not None
                assert bytes(blob.data).endswith(bytes(tail.data))
                assert bytes(blob.data).startswith(bytes(span.data))
        except (StoreError, UnsupportedError):
            pass
    return n_read


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.zip"


def test_good_ones(path):
    for data in GOOD:
        path.write_bytes(data)
        assert look(ZipStore(path)) == len(ITEMS)


@given(data=st.sampled_from(GOOD), what=changes)
def test_changed_archives(path, data, what):
    data = changed(data, what)
    outer = MemoryStore()
    outer.write("x.zip", data)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        look(ZipStore((outer, "x.zip")))
        look(ZipStore(path, read_only=True))
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@given(data=st.sampled_from(GOOD), what=changes)
def test_changed_archives_that_are_written_to(path, data, what):
    data = changed(data, what)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    try:
        with ZipStore(path) as store:
            store.write("new", b"new")
            store.write("c/0", b"other")
            assert bytes(store.get("new").data) == b"new"
    except (StoreError, UnsupportedError):
        assert path.read_bytes() == data  # what can't be read is left as it is
        assert not Path(f"{path}.__journal").exists()
        return
    again = ZipStore(path)
    assert bytes(again.get("new").data) == b"new"
    assert bytes(again.get("c/0").data) == b"other"


@given(st.binary(max_size=300))
def test_journals_of_any_bytes(path, data):
    path.unlink(missing_ok=True)
    path.write_bytes(GOOD[0])
    journal = Path(f"{path}.__journal")
    journal.write_bytes(data)
    with ZipStore(path) as store:
        assert look(store) == len(ITEMS)
        store.write("new", b"new")
        assert look(store) == len(ITEMS)
    assert not journal.exists()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {*archive.namelist()} == {*ITEMS, "new"}


@given(places, st.binary(min_size=1, max_size=4))
def test_damaged_journals(path, place, data):
    path.unlink(missing_ok=True)
    path.write_bytes(GOOD[0])
    store = ZipStore(path)
    for i in range(3):
        store.write("k", b"%d" % i)
    journal = Path(f"{path}.__journal")
    good = journal.read_bytes()
    at = place % len(good)
    journal.write_bytes(good[:at] + data + good[at + len(data) :])
    reader = ZipStore(path)
    assert look(reader) == len(ITEMS)
    blob = reader.get("k")
    assert blob is None or bytes(blob.data) in (b"0", b"1", b"2")
    with reader:
        reader.write("new", b"new")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {*ITEMS, "new"} <= {*archive.namelist()}
