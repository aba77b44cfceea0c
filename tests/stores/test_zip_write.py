"""Local archives that are written: what other programs find in them, and what is left when a writer dies."""

import errno
import gc
import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
import zipfile
from pathlib import Path

import pytest

from zarrdock.errors import (
    AccessError,
    ConflictError,
    KeyExistsError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import Span
from zarrdock.stores import zip_format, zip_local, zip_write
from zarrdock.stores.local import LocalStore
from zarrdock.stores.local_lock import Held
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.stores.zip_journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file modes and forks: POSIX")


def content(path) -> dict[str, bytes]:
    """What Python's zipfile finds, after it found no fault."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len({*names})
        return {name: archive.read(name) for name in names}


def everything(store: ZipStore) -> dict[str, bytes]:
    return {entry.key: bytes(store.get(entry.key).data) for entry in store.list()}


def journal_of(path) -> Path:
    return Path(f"{path}.__journal")


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "x.zip"
    assert not list(tmp_path.rglob("*.__lock"))


# -- what other programs find ------------------------------------------------------------------------------------------


def test_other_programs_can_read_it(path):
    items = {
        "zarr.json": b"{}",
        "c/0/0": os.urandom(100_000),
        "empty": b"",
        "Grün/🧠": b"unicode",
        "long": b"x" * 10**6,
    }
    with ZipStore(path) as store:
        for key, value in items.items():
            store.write(key, value)
    assert content(path) == items
    assert not journal_of(path).exists()
    tools = [[sys.executable, "-m", "zipfile", "-t"]]
    tools += [[tool, option] for tool, option in (("unzip", "-t"), ("zip", "-T")) if shutil.which(tool)]
    for tool in tools:
        done = subprocess.run([*tool, path], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("zarr.json")
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time[0] >= 2024
        archive.extractall(path.parent / "out")
    assert (path.parent / "out/c/0/0").read_bytes() == items["c/0/0"]
    assert (path.parent / "out/zarr.json").stat().st_mode & 0o777 != 0


def test_compressed(path):
    value, noise = b"the same again and again" * 1000, os.urandom(1000)
    with ZipStore(path, compressed=True) as store:
        store.write("a", value)
        store.write("b", [noise])
        store.write("empty", b"")
        assert everything(store) == {"a": value, "b": noise, "empty": b""}
    assert path.stat().st_size < 5000
    assert content(path) == {"a": value, "b": noise, "empty": b""}
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("b").compress_type == zipfile.ZIP_STORED  # it would not have become shorter


def test_archive_of_another_program_is_added_to(path):
    info = zipfile.ZipInfo("theirs/a", (2001, 2, 3, 4, 5, 6))
    info.external_attr = 0o100600 << 16
    info.comment = b"of the entry"
    info.extra = b"\x99\x99\x02\x00ab"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"of the archive"
        archive.writestr(info, b"1")
        archive.writestr("theirs/b", b"2")
        archive.writestr("folder/", b"")
        archive.writestr("../no/key", b"3")
    with ZipStore(path) as store:
        store.write("ours", b"4")
        store.write("theirs/b", b"5")
        store.delete("missing")
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"of the archive"
        kept = archive.getinfo("theirs/a")
        assert (kept.date_time, kept.external_attr) == (info.date_time, info.external_attr)
        assert (kept.comment, kept.extra) == (info.comment, info.extra)
    expected = {"theirs/a": b"1", "theirs/b": b"5", "folder/": b"", "../no/key": b"3", "ours": b"4"}
    assert content(path) == expected
    with ZipStore(path) as store:
        assert store.compact() > 0
    assert content(path) == expected


def test_nothing_written_changes_nothing(path):
    with ZipStore(path) as store:
        assert store.get("k") is None
        store.delete("k")
        store.delete_prefix("")
        store.update("k", lambda old: None)
    assert not path.exists()
    with ZipStore(path) as store:
        store.write("k", b"1")
    before = path.read_bytes()
    with ZipStore(path) as store:
        with pytest.raises(KeyExistsError):
            store.write("k", b"2", create_only=True)
        store.update("k", lambda old: old)
        store.delete("missing")
    assert path.read_bytes() == before


def test_everything_deleted(path):
    with ZipStore(path) as store:
        for key in ("a/b", "a/c", "d"):
            store.write(key, b"1")
        store.delete_prefix("")
        assert everything(store) == {}
    assert content(path) == {}
    with ZipStore(path) as store:
        store.compact()
    assert path.stat().st_size == 22


def test_an_empty_file_is_an_empty_archive(path):
    path.touch()  # as tempfile makes it
    with ZipStore(path) as store:
        assert everything(store) == {}
        store.write("k", b"1")
    assert content(path) == {"k": b"1"}


def test_compact(path):
    with ZipStore(path) as store:
        for i in range(20):
            store.write("k", b"%04d" % i * 1000)
        store.write("gone", b"x" * 5000)
        store.write("other", b"o")
        store.delete("gone")
        old = store.get("k", Span(0, 4))
        other = ZipStore(path)
        assert bytes(other.get("k", Span(0, 4)).data) == b"0019"
        nbytes = path.stat().st_size
        path.chmod(0o640)
        assert store.compact() == nbytes - path.stat().st_size > 70_000
        assert not journal_of(path).exists()
        assert content(path) == {"k": b"0019" * 1000, "other": b"o"}
        assert path.stat().st_mode & 0o777 == 0o640
        with pytest.raises(VersionChangedError):
            store.get("k", version=old.version)
        for reader in (store, other):
            assert everything(reader) == content(path)
        store.write("k", b"after")
    assert content(path) == {"k": b"after", "other": b"o"}


def test_writer_that_comes_as_soon_as_it_can_after_compacting(path, monkeypatch):
    # The lock file takes the archive's place, and with its name goes the lock.
    store, other = ZipStore(path), ZipStore(path)
    rename_to = Held.rename_to

    def rename(held, to):
        rename_to(held, to)
        other.write("late", b"2")

    monkeypatch.setattr(Held, "rename_to", rename)
    store.write("k", b"1")
    store.write("k", b"1")
    store.compact()
    monkeypatch.undo()
    for reader in (store, other, ZipStore(path)):
        assert everything(reader) == {"k": b"1", "late": b"2"}
    store.close()
    assert content(path) == {"k": b"1", "late": b"2"}


def test_compacting_what_others_wrote(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"a" * 10_000)
        archive.writestr("folder/", b"")
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())  # an archive that unpacks itself: nothing may be added to it
    with ZipStore(path) as store:
        with pytest.raises(UnsupportedError, match="compact"):
            store.write("b", b"b")
        assert not journal_of(path).exists()
        store.compact()
        store.write("b", b"b")
    assert content(path) == {"a": b"a" * 10_000, "folder/": b"", "b": b"b"}
    assert path.read_bytes()[:4] == b"PK\3\4"


def test_sizes_after_the_data_are_gone_when_compacted(path):
    with open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        file.seekable = None  # type: ignore[assignment]
        archive._seekable = False
        archive.writestr("a", b"a" * 1000)
        archive.writestr("b", b"b" * 1000)
    with ZipStore(path) as store:
        store.delete("a")
        store.compact()
        assert everything(store) == {"b": b"b" * 1000}
    assert content(path) == {"b": b"b" * 1000}
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("b").flag_bits & 8 == 0


def test_more_entries_than_16_bits_can_count(path):
    body, records = bytearray(), []
    for i in range(2**16 - 3):
        record, _ = zip_format.new_record(f"{i}", size=0, compressed=0, crc=0, method=0, store="")
        records.append(zip_format.placed(record, len(body)))
        body += zip_format.local_header(record)
    directory = b"".join(records)
    path.write_bytes(body + directory + zip_format.end_records(2**16 - 3, len(directory), len(body), b""))
    for name in ("x", "y"):  # the last number of 16 bits says that there are more
        with ZipStore(path) as store:
            store.write(name, b"1")
        with zipfile.ZipFile(path) as archive:
            assert archive.read(name) == b"1"
            n_entries = len(archive.namelist())
        assert sum(1 for _ in ZipStore(path).list()) == n_entries
    assert n_entries == 2**16 - 1


def test_beyond_4_gib(path):
    # A hole instead of data: the file is sparse, and so are its blocks on the disk.
    with ZipStore(path) as store:
        store.write("first", b"1")
        with store._archive.writing() as writing:
            writing._begin()
            os.ftruncate(writing.fd(), 5 * 2**30)
            writing.state.journal.stop = writing.state.stop = 5 * 2**30
        store.write("far", b"2" * 100)
        assert everything(store) == {"first": b"1", "far": b"2" * 100}
        assert everything(ZipStore(path)) == {"first": b"1", "far": b"2" * 100}
    assert path.stat().st_size > 5 * 2**30
    assert content(path) == {"first": b"1", "far": b"2" * 100}
    assert everything(ZipStore(path)) == {"first": b"1", "far": b"2" * 100}
    with ZipStore(path) as store:
        store.compact()
        assert path.stat().st_size < 1000
    assert content(path) == {"first": b"1", "far": b"2" * 100}


def test_name_too_long(path):
    with ZipStore(path) as store, pytest.raises(StoreError):
        store.write("x" * 70_000, b"1")


# -- before the directory is written -----------------------------------------------------------------------------------


def test_others_see_a_write_at_once(path):
    with ZipStore(path) as store:
        store.write("a", b"1")
        other = ZipStore(path)
        reader = ZipStore(path, read_only=True)
        for i in range(5):
            store.write("k", b"%d" % i)
            other.write(f"o{i}", b"o")
            assert everything(reader) == everything(store) == everything(other)
            if i == 2:
                store.flush()
            if i == 3:
                other.compact()
        store.delete("a")
        assert reader.get("a") is None
        with pytest.raises(ReadOnlyError):
            reader.write("k", b"no")
    assert content(path) == everything(other)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("where", ["before", "after"])
def test_first_write_in_the_middle_of_a_look(path, monkeypatch, is_new, where):
    # The journal comes between the look for one and the look at the archive.
    expected = {} if is_new else {"old": b"1"}
    with ZipStore(path) as store:
        for key, value in expected.items():
            store.write(key, value)
    path.touch()
    other = ZipStore(path)
    open_journal = Journal.open
    n_looks = 0

    def look(*args):
        nonlocal n_looks
        n_looks += 1
        if n_looks == 1 and where == "before":
            other.write("new", b"2")
        found = open_journal(*args)
        if n_looks == 1 and where == "after":
            other.write("new", b"2")
        return found

    monkeypatch.setattr(zip_local.Journal, "open", look)
    store = ZipStore(path)
    assert everything(store) == {**expected, "new": b"2"}
    store.write("newer", b"3")
    monkeypatch.undo()
    for reader in (store, other, ZipStore(path)):
        assert everything(reader) == {**expected, "new": b"2", "newer": b"3"}


def test_versions_stay_while_the_archive_grows(path):
    with ZipStore(path) as store:
        store.write("k", b"value")
    reader = ZipStore(path)
    version = reader.get("k", Span(0, 2)).version
    with ZipStore(path) as store:
        mine = store.get("k", Span(0, 2)).version
        for i in range(3):
            store.write(f"{i}", b"1")
            assert bytes(reader.get("k", Span(2, 5), version=version).data) == b"lue"
        store.flush()
        assert bytes(store.get("k", Span(2, 5), version=mine).data) == b"lue"


def test_dropped_without_being_closed(path):
    store = ZipStore(path)
    store.write("k", b"1")
    copy = pickle.loads(pickle.dumps(store))
    copy.write("l", b"2")
    del copy
    gc.collect()
    assert journal_of(path).exists()  # a copy that came and went leaves it to others
    del store
    gc.collect()
    assert content(path) == {"k": b"1", "l": b"2"}


def run(code: str, *args: object, **options) -> subprocess.CompletedProcess:
    text = "import os, sys\nfrom zarrdock.stores.zip_ import ZipStore\n" + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", text, *map(str, args)], capture_output=True, timeout=60, **options)


def test_directory_is_written_at_exit(path):
    done = run("store = ZipStore(sys.argv[1]); store.write('k', b'1'); keep = [store]; keep.append(keep)", path)
    assert done.returncode == 0, done.stderr
    assert content(path) == {"k": b"1"}


def test_forked_child_leaves_the_directory_to_its_parent(path):
    store = ZipStore(path)
    store.write("k", b"1")
    done = run("store = ZipStore(sys.argv[1]); store.write('child', b'2'); os._exit(0)", path)
    assert done.returncode == 0, done.stderr
    assert journal_of(path).exists()
    store.close()
    assert content(path) == {"k": b"1", "child": b"2"}


# -- writers that die --------------------------------------------------------------------------------------------------


def write_for_ever(path, out: int) -> None:
    """Write, and say after each step how many steps were done."""
    store = ZipStore(path)
    i = 0
    while True:
        i += 1
        letter = b"%c" % (97 + i % 26)
        store.write(f"c/{i % 5}", [letter * 20_000, letter * (i % 5 * 30_000)])
        if i % 3 == 0:
            store.update("counter", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        if i % 7 == 0:
            store.delete("c/1")
        if i % 11 == 0:
            store.flush()
        if i % 50 == 0:
            store.compact()
        os.write(out, b"%d\n" % i)


def killed_while_writing(path, n_steps: int, seconds: float) -> int:
    """How many steps a forked child did that was killed so long after the first ``n_steps``."""
    out, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
        pid = os.fork()
    if pid == 0:
        try:
            write_for_ever(path, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(out, "rb", buffering=0) as lines:
        n_written = sum(lines.readline() != b"" for _ in range(n_steps))
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        n_written += len(lines.read().split())
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    return n_written


def test_killed_at_any_moment(path):
    rng = random.Random(5)
    n_journals = 0
    after: dict[str, bytes] = {}
    for _ in range(40):
        before, n_written = after, killed_while_writing(path, rng.randrange(60), rng.uniform(0, 0.002))
        n_journals += journal_of(path).exists()
        after = everything(ZipStore(path, read_only=path.exists() and rng.random() < 0.5))
        for key, value in after.items():
            assert key == "counter" or len({*value}) == 1, "a mixture"
        counted = int(after.get("counter", b"0")) - int(before.get("counter", b"0"))
        assert counted in (n_written // 3, (n_written + 1) // 3)  # what had returned is there, and at most one more
        if n_written and n_written % 5 != 1:
            assert after[f"c/{n_written % 5}"][:1] in (b"%c" % (97 + (n_written + 5 * late) % 26) for late in (0, 1))
        if rng.random() < 0.5:
            with ZipStore(path) as store:
                assert everything(store) == after
            if path.exists():
                assert content(path) == after
    assert n_journals > 5, "no kill came at an interesting moment"
    for lock in path.parent.glob("*.__lock"):
        lock.unlink()


def count_for_ever(path, name: bytes, out: int) -> None:
    """One of several writers: count, replace, remove, finish and compact, and say after each step who did one."""
    store = ZipStore(path)
    rng = random.Random(name)
    for i in itertools.count(1):
        k = rng.randrange(8)
        store.write(f"k{k}", b"%d" % k * rng.randrange(1, 60_000))
        store.update(f"n/{name.hex()}", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        if i % 5 == 0:
            store.delete(f"k{k}")
        if i % 7 == 0:
            store.flush()
        if i % 11 == 0:
            store.compact()
        os.write(out, name)


def test_killed_among_other_writers(path):
    rng = random.Random(8)
    for i in range(6):
        out, write_end = os.pipe()
        writers = {}
        for j in range(3):
            name = bytes([i * 3 + j])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                try:
                    count_for_ever(path, name, write_end)
                finally:
                    os._exit(1)
            writers[pid] = name
        os.close(write_end)
        said = b""
        for pid in writers:
            for _ in range(rng.randrange(5, 40)):
                said += os.read(out, 1)
            time.sleep(rng.uniform(0, 0.002))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), "it ended by itself"
        while more := os.read(out, 65536):
            said += more
        os.close(out)
        found = everything(ZipStore(path))
        for name in writers.values():
            assert int(found.get(f"n/{name.hex()}", b"0")) - said.count(name) in (0, 1)
        assert all({*value} == {ord(key[1])} for key, value in found.items() if key.startswith("k"))
    ZipStore(path).close()
    assert content(path) == found
    for lock in path.parent.glob("*.__lock"):
        lock.unlink()


def test_every_prefix_of_what_is_written_is_old_or_new(path, tmp_path):
    # A kill between any two bytes: the archive first, then the journal, are cut at every place a write can stop.
    with ZipStore(path) as store:
        store.write("k", b"old")
        store.write("other", b"stays")
    finished = path.read_bytes()
    store = ZipStore(path)
    store.write("second", b"2")
    base, base_journal = path.read_bytes(), journal_of(path).read_bytes()
    store.write("k", b"new value")
    after, journal = path.read_bytes(), journal_of(path).read_bytes()
    assert after.startswith(base)
    assert base.startswith(finished)
    assert journal.startswith(base_journal)
    old = {"k": b"old", "other": b"stays", "second": b"2"}
    new = {**old, "k": b"new value"}
    copy = tmp_path / "copy" / "x.zip"
    copy.parent.mkdir()

    def found(data: bytes, records: bytes | None) -> dict[str, bytes]:
        copy.write_bytes(data)
        journal_of(copy).unlink(missing_ok=True)
        if records is not None:
            journal_of(copy).write_bytes(records)
        return everything(ZipStore(copy))

    for n in range(len(base), len(after) + 1):
        assert found(after[:n], base_journal) == old
    for n in range(len(base_journal), len(journal)):
        assert found(after, journal[:n]) == old
    assert found(after, journal) == new
    # While the journal is begun nothing is written to the archive.
    for n in range(len(base_journal) - 40):
        assert found(finished, base_journal[:n]) == {"k": b"old", "other": b"stays"}
    # And while the directory is written, the journal counts.
    store.flush()
    whole = path.read_bytes()
    assert whole.startswith(after)
    for n in range(len(after), len(whole) + 1):
        assert found(whole[:n], journal) == new
    assert found(whole, None) == new
    # An archive that lost its journal is what it was when its directory was written last.
    for n in range(len(finished), len(whole)):
        assert found(whole[:n], None) == {"k": b"old", "other": b"stays"}
    # Whatever was left behind: it can be written to, and is whole again.
    for data, records in ((after[:-3], base_journal), (after, journal[:-3]), (whole[:-3], journal), (after[:-9], None)):
        was = found(data, records)
        with ZipStore(copy) as again:
            again.write("again", b"3")
        assert content(copy) == {**was, "again": b"3"}


def test_archive_inside_an_archive_is_not_taken_for_it(path):
    inner = path.parent / "inner.zip"
    with ZipStore(inner) as store:
        store.write("wrong", b"archive")
    with ZipStore(path) as store:
        store.write("right", b"archive")
    store = ZipStore(path)
    store.write("nested", [inner.read_bytes(), b"\0" * 100])
    journal_of(path).unlink()  # and nothing but the archive to go by
    assert everything(ZipStore(path)) == {"right": b"archive"}


def test_journal_of_another_archive_is_left_out(path):
    store = ZipStore(path)
    for i in range(3):
        store.write(f"k{i}", b"of the first archive")
    left = journal_of(path).read_bytes()
    path.unlink()
    assert everything(store) == {}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1" * 1000)
    assert everything(ZipStore(path)) == everything(store) == {"a": b"1" * 1000}
    with ZipStore(path) as second:
        second.write("b", b"2")
        journal_of(path).write_bytes(left)  # by hand, which no writer does
        assert everything(ZipStore(path, read_only=True)).get("k1") is None
    assert "k1" not in content(path)


def test_replaced_as_a_whole_by_a_store(path):
    # Both take the same lock file.
    folder = LocalStore(path.parent)
    with ZipStore(path) as store:
        store.write("k", b"1")
        folder.write("y.zip", b"")
    data = path.read_bytes()
    with ZipStore(path) as store:
        store.write("k", b"2")
        folder.write("x.zip", data)
        assert everything(store) == {"k": b"1"}
        store.write("l", b"3")
        assert everything(store) == {"k": b"1", "l": b"3"}
    assert content(path) == {"k": b"1", "l": b"3"}


# -- several processes -------------------------------------------------------------------------------------------------


def count(path: str, n: int, name: str) -> None:
    store = ZipStore(path)
    for i in range(n):
        store.update("n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
        store.write(f"{name}/{i}", b"%d" % i * 100)
        if i % 10 == 9:
            store.flush()
        if i % 17 == 16:
            store.compact()
    store.close()


def test_processes_lose_nothing(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count, args=(str(path), 20, f"p{i}")) for i in range(3)]
    for process in processes:
        process.start()
    reader = ZipStore(path)
    while any(process.is_alive() for process in processes):
        seen = everything_stable(reader)
        assert all(value == b"%d" % int(key.split("/")[1]) * 100 for key, value in seen.items() if key != "n")
        time.sleep(0.01)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    ZipStore(path).close()
    found = content(path)
    assert found.pop("n") == b"60"
    assert found == {f"p{i}/{j}": b"%d" % j * 100 for i in range(3) for j in range(20)}


def everything_stable(store: ZipStore) -> dict[str, bytes]:
    """Entries that are there, as they are looked at one after another while others write."""
    blobs = {entry.key: store.get(entry.key) for entry in store.list()}
    return {key: bytes(blob.data) for key, blob in blobs.items() if blob is not None}


def test_an_update_that_keeps_losing_comes_to_its_turn(path):
    with ZipStore(path) as store:
        store.write("k", b"0")
        other = ZipStore(path)
        n_runs = 0

        def change(old):
            nonlocal n_runs
            n_runs += 1
            if n_runs <= 3:
                other.write("k", b"%d" % (10 * n_runs))
            return bytes(old) + b"+"

        try:
            store.update("k", change)
        except ConflictError:
            pytest.fail("it had to wait for its turn")
        assert n_runs == 4
        assert bytes(store.get("k").data) == b"30+"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_no_space_left(path, monkeypatch):
    with ZipStore(path) as store:
        store.write("k", b"1")
        size = path.stat().st_size
        pwritev = zip_write.pwritev_all

        def full(fd, parts, position):
            pwritev(fd, [b"some of it"], position)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(zip_write, "pwritev_all", full)
        with pytest.raises(StoreError, match="no space left") as caught:
            store.write("l", b"2" * 1000)
        assert caught.value.key == "l"
        assert path.stat().st_size == size
        with pytest.raises(StoreError):
            store.flush()
        monkeypatch.undo()
        assert everything(store) == everything(ZipStore(path)) == {"k": b"1"}
        store.write("l", b"2")
    assert content(path) == {"k": b"1", "l": b"2"}


def test_no_locks(path, monkeypatch):
    def no_locks(*_, **__):
        raise zip_write.NoLocksError(errno.ENOTSUP, "Not supported")

    monkeypatch.setattr(zip_write, "acquire", no_locks)
    with pytest.raises(UnsupportedError, match="no file locks"):
        ZipStore(path).write("k", b"1")
    monkeypatch.undo()
    assert not path.exists()


def test_read_only(path):
    with ZipStore(path) as store:
        store.write("k", b"1")
    reader = ZipStore(path, read_only=True)
    assert reader.read_only
    for verb in (lambda: reader.write("k", b"2"), lambda: reader.delete("k"), reader.compact):
        with pytest.raises(ReadOnlyError):
            verb()
    reader.flush()
    outer = MemoryStore()
    outer.write("x.zip", path.read_bytes())
    inside = ZipStore((outer, "x.zip"))
    assert inside.read_only
    with pytest.raises(ReadOnlyError):
        inside.compact()
    with pytest.raises(ReadOnlyError):
        ZipStore((outer, "x.zip"), read_only=False)


def test_access_denied(path, monkeypatch):
    with ZipStore(path) as store:
        store.write("k", b"1")

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as one who may do everything
    assert ZipStore(path).read_only
    assert not ZipStore(path.parent / "new.zip").read_only
    monkeypatch.undo()
    store = ZipStore(path)
    monkeypatch.setattr(zip_write, "acquire", denied)
    with pytest.raises(AccessError):
        store.write("k", b"2")
