"""What is the local store's own: files, folders, links, descriptors, and a system that says no."""

import errno
import os
import pickle
import stat
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from zarrdock.errors import (
    AccessError,
    InvalidKeyError,
    KeyExistsError,
    ReadOnlyError,
    StoreError,
    UnsupportedError,
    VersionChangedError,
)
from zarrdock.ranges import Span, Tail
from zarrdock.stores import local, local_files, local_lock, local_version
from zarrdock.stores.base import Blob, Listing, Patch, Read
from zarrdock.stores.local import LocalStore
from zarrdock.testing.contract_read import in_fork, whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file modes, symbolic links and forks: POSIX")


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "root")


@pytest.fixture
def root(store):
    return Path(store.root)


def files(root):
    """Every file below a folder, hidden or not."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def n_open():
    return len([*Path("/proc/self/fd").iterdir()])


def failing(monkeypatch, name, code, after=0):
    """Let ``os.<name>`` fail with an errno, after some calls that don't."""
    real, n = getattr(os, name), iter(range(10**9))

    def call(*args, **kwargs):
        if next(n) >= after:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


# -- files and folders -------------------------------------------------------------------------------------------------


def test_root_is_made_by_the_first_write_only(store, root):
    assert store.get("a/b") is None
    assert store.list_dir() == Listing()
    store.delete("a/b")
    store.delete_prefix("")
    store.update("a/b", lambda _: None)
    assert not (root / "a").exists()
    store.write("a/b", b"1")
    assert files(root) == ["a/b"]


def test_root_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("relative")
    store.write("k", b"1")
    monkeypatch.chdir("/")
    assert whole(store, "k") == b"1"
    assert store.url == f"file://{tmp_path}/relative"
    assert whole(LocalStore(os.fsencode(tmp_path / "relative")), "k") == b"1"


def test_deletion_takes_empty_folders_along_but_not_the_root(store, root):
    store.write("a/b/c/d", b"")
    store.write("a/x", b"")
    store.delete("a/b/c/d")
    assert [path.name for path in root.rglob("*")] in (["a", "x"], ["x", "a"])
    store.delete("a/x")
    assert root.is_dir()
    assert [*root.iterdir()] == []


def test_delete_prefix_leaves_no_folder(store, root):
    for key in ("a/b/c", "a/b/d/e", "a/f", "g"):
        store.write(key, b"")
    (root / "a/empty/folder").mkdir(parents=True)
    (root / "a/b/c.__lock").write_bytes(b"left by a writer that died")
    store.delete_prefix("a")
    assert [*root.iterdir()] == [root / "g"]


def test_a_folder_is_no_key(store, root):
    store.write("a/b", b"1")
    assert store.get("a", Tail(3)) is None
    for write in (
        lambda: store.write("a", b"2"),
        lambda: store.write("a", b"2", create_only=True),
        lambda: store.update("a", lambda _: b"2"),
    ):
        with pytest.raises(StoreError, match="a folder stands where the file should be") as caught:
            write()
        assert not isinstance(caught.value, KeyExistsError)
        assert caught.value.key == "a"
    assert files(root) == ["a/b"]


def test_a_file_is_no_folder(store, root):
    store.write("a", b"1")
    assert store.get("a/b/c") is None
    for key in ("a/b", "a/b/c"):
        with pytest.raises(StoreError, match="a file stands where a folder should be") as caught:
            store.write(key, b"2")
        assert str(root / "a") in str(caught.value)
    assert files(root) == ["a"]
    assert whole(store, "a") == b"1"


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file")
    assert store.get("a") is None
    assert [*store.list()] == []
    with pytest.raises(StoreError, match="a file stands where"):
        store.write("a", b"")


def test_what_is_not_a_file_is_no_key(store, root):
    root.mkdir()
    os.mkfifo(root / "pipe")
    assert store.get("pipe") is None  # and does not wait for a writer
    assert store.size("pipe") is None
    assert store.list_dir() == Listing()
    assert [*store.list()] == []


def test_name_longer_than_the_file_system_takes(store, root):
    root.mkdir()
    for key in ("x" * 300, "a/" + "x" * 250):
        with pytest.raises(InvalidKeyError):
            store.write(key, b"")
    with pytest.raises(InvalidKeyError):
        store.get("x" * 300)
    assert [*root.iterdir()] == []


def test_names_that_no_key_can_have_are_not_listed(store, root):
    root.mkdir()
    (root / "back\\slash").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(root) + b"/not-\xff-utf8")).write_bytes(b"")
    store.write("good", b"")
    assert [entry.key for entry in store.list()] == ["good"]
    assert store.list_dir() == Listing(("good",))


def test_new_files_have_the_mode_of_any_new_file(store, root):
    before = os.umask(0o027)
    try:
        store.write("a", b"")
        store.write("b", b"", create_only=True)
        store.update("c", lambda _: b"")
    finally:
        os.umask(before)
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in "abc"} == {0o640}


# -- symbolic links ----------------------------------------------------------------------------------------------------


def test_links_are_followed(store, root, tmp_path):
    store.write("real/k", b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/far").write_bytes(b"22")
    (root / "link").symlink_to("real/k")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    assert whole(store, "link") == b"1"
    assert whole(store, "folder/far") == b"22"
    assert sorted((entry.key, entry.size) for entry in store.list()) == [("folder/far", 2), ("link", 1), ("real/k", 1)]
    assert store.list_dir() == Listing(("link",), ("folder", "real"))


def test_links_in_a_circle_end(store, root):
    store.write("a/k", b"")
    store.write("b/k", b"")
    (root / "a/up").symlink_to("..")
    (root / "a/other").symlink_to("../b")
    (root / "b/other").symlink_to("../a")
    (root / "b/self").symlink_to("self")
    with pytest.raises(StoreError):
        store.get("b/self")
    found = [entry.key for entry in store.list()]
    assert {"a/k", "b/k"} <= {*found}
    assert len(found) < 10


def test_writing_replaces_a_link_and_deleting_removes_it(store, root):
    store.write("real", b"1")
    for name in ("w", "d"):
        (root / name).symlink_to("real")
    store.write("w", b"2")
    store.delete("d")
    assert whole(store, "real") == b"1"
    assert whole(store, "w") == b"2"
    assert files(root) == ["real", "w"]


def test_delete_prefix_does_not_follow_links_out(store, root, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(b"")
    store.write("a/k", b"")
    (root / "a/link").symlink_to(tmp_path / "precious")
    (root / "link").symlink_to(tmp_path / "precious")
    store.delete_prefix("a")
    assert [entry.key for entry in store.list()] == ["link/file"]
    store.delete_prefix("link")
    assert [*store.list()] == []
    assert (tmp_path / "precious/file").exists()


# -- what writers that died left behind --------------------------------------------------------------------------------


def test_leftovers_are_never_seen(store, root):
    store.write("a/k", b"value")
    for name in ("a/k.__lock", "a/new.__lock", "a/k.__lock.__lock", "top.__lock"):
        (root / name).write_bytes(b"half of something")
    assert [entry.key for entry in store.list()] == ["a/k"]
    assert store.list_dir("a") == Listing(("k",))
    assert store.list_dir() == Listing((), ("a",))
    for key in ("a/k.__lock", "top.__lock", "x.__lock/k"):
        for verb in (store.get, store.size, store.delete, lambda k: store.write(k, b""), lambda k: [*store.list(k)]):
            with pytest.raises(InvalidKeyError):
                verb(key)


def test_leftovers_are_taken_over_by_the_next_writer(store, root):
    store.write("k", b"value")
    for name in ("k.__lock", "new.__lock", "new.__lock.__lock"):
        (root / name).write_bytes(b"much longer than the value that comes")
    store.write("k", b"v")
    store.write("new", b"n", create_only=True)
    assert files(root) == ["k", "new"]
    assert (whole(store, "k"), whole(store, "new")) == (b"v", b"n")


def test_clean(store, root):
    store.write("a/k", b"value")
    left = ["a/k.__lock", "a/k.__lock.__lock", "b/gone.__lock"]
    (root / "b").mkdir()
    for name in left:
        (root / name).write_bytes(b"left")
    inside = []

    def change(old):
        inside.extend([[*store.stale_files()], store.clean("held")])
        return b"1"

    store.update("held/k", change)
    assert inside == [left, []]
    assert [*store.stale_files("a")] == left[:2]
    assert files(root) == sorted(["a/k", "held/k", *left])
    assert store.clean() == left
    assert files(root) == ["a/k", "held/k"]
    assert (whole(store, "a/k"), whole(store, "held/k")) == (b"value", b"1")
    with pytest.raises(ReadOnlyError):
        LocalStore(root, read_only=True).clean()


# -- versions and descriptors ------------------------------------------------------------------------------------------


def test_a_version_keeps_its_file_open_only_while_it_lives(store):
    store.write("k", b"0123456789")
    before = n_open()
    blob = store.get("k", Tail(2))
    again = store.get("k", Tail(3))
    assert n_open() == before + 2
    assert blob.version == again.version
    assert hash(blob.version) == hash(again.version)
    del blob, again
    assert n_open() == before
    results = store.read([Read("k", Span(i, i + 2)) for i in range(8)])
    assert n_open() == before + 1
    assert len({result.version for result in results}) == 1
    del results
    assert n_open() == before


def test_descriptors_are_bounded(store):
    limit = local_version.set_limit(4)
    try:
        for i in range(12):
            store.write(f"k{i}", b"%02d" % i)
        before = n_open()
        blobs = [store.get(f"k{i}", Tail(1)) for i in range(12)]
        assert n_open() <= before + 4
        results = [store.read([Read(f"k{i}", None, blob.version)])[0] for i, blob in enumerate(blobs)]
        assert [isinstance(result, Blob) for result in results] == [False] * 8 + [True] * 4
        assert all(isinstance(result, VersionChangedError) for result in results[:8])
        assert blobs[0].version == blobs[0].version
        assert blobs[0].version != store.get("k0", Tail(1)).version
    finally:
        assert local_version.set_limit(limit) == 4


def test_the_version_used_last_is_kept_longest(store):
    limit = local_version.set_limit(3)
    try:
        for i in range(4):
            store.write(f"k{i}", b"%02d" % i)
        first, *others = [store.get(f"k{i}", Tail(1)) for i in range(3)]
        assert isinstance(store.get("k0", Tail(2), version=first.version), Blob)
        others.append(store.get("k3", Tail(1)))
        assert isinstance(store.get("k0", Tail(2), version=first.version), Blob)
        assert isinstance(store.read([Read("k1", None, others[0].version)])[0], VersionChangedError)
    finally:
        local_version.set_limit(limit)


def test_a_version_dropped_while_it_is_read_is_read_to_the_end(store, monkeypatch):
    store.write("k", b"0123456789")
    blob = store.get("k", Tail(2))
    real = os.pread

    def pread(fd, n, at):
        local_version.drop_all()
        return real(fd, n, at)

    monkeypatch.setattr(os, "pread", pread)
    assert bytes(store.get("k", Span(0, 3), version=blob.version).data) == b"012"
    assert isinstance(store.read([Read("k", Span(0, 3), blob.version)])[0], VersionChangedError)


def test_a_version_of_another_make_is_not_that_of_a_file(store):
    store.write("k", b"0123456789")
    blob = store.get("k", Tail(2))
    for version in ("etag", 7, pickle.loads(pickle.dumps(blob.version))):
        assert blob.version != version
        assert isinstance(store.read([Read("k", None, version)])[0], VersionChangedError)


def test_a_change_in_place_by_another_program_is_noticed(store, root):
    store.write("k", b"0123456789")
    blob = store.get("k", Tail(2))
    with open(root / "k", "ab") as file:
        file.write(b"more")
    assert isinstance(store.read([Read("k", Tail(2), blob.version)])[0], VersionChangedError)
    assert bytes(store.get("k", Tail(2)).data) == b"re"


def test_a_file_like_the_one_before_is_another_version(store, root):
    # Without the descriptor that a version keeps, the second replacement would often get the inode back.
    store.write("k", b"0000")
    os.utime(root / "k", ns=(1, 1))
    old = store.get("k", Tail(2))
    for i in range(1, 6):
        store.write("k", b"%04d" % i)
        os.utime(root / "k", ns=(1, 1))
        assert isinstance(store.read([Read("k", Tail(2), old.version)])[0], VersionChangedError)
        assert store.get("k", Tail(2)).version != old.version


def test_out_of_descriptors_lets_go_of_versions_first(store):
    import resource

    for i in range(60):
        store.write(f"k{i}", b"x")

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open() + 20, n_open() + 20))
        blobs = [store.get(f"k{i}", Tail(1)) for i in range(60)]
        return all(bytes(blob.data) == b"x" for blob in blobs)

    assert in_fork(check)


def test_no_descriptor_leaks(store):
    store.write("k", b"1")
    before = n_open()
    for _ in range(20):
        store.write("k", b"1")
        store.update("k", lambda old: old)
        store.update("k", lambda old: old + b"1")
        with pytest.raises(KeyExistsError):
            store.write("k", b"", create_only=True)
        with pytest.raises(ZeroDivisionError):
            store.update("k", lambda _: 1 // 0)
        store.get("missing")
        store.delete("gone")
        whole(store, "k")
    assert n_open() == before


# -- a system that reads and writes in bits, or says no ----------------------------------------------------------------


def test_short_reads_and_writes(store, monkeypatch):
    pread, preadv, writev, write = os.pread, os.preadv, os.writev, os.write
    monkeypatch.setattr(os, "pread", lambda fd, n, at: pread(fd, min(n, 7), at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:5]], at))
    monkeypatch.setattr(os, "writev", lambda fd, parts: writev(fd, [memoryview(parts[0])[:4]]))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    monkeypatch.setattr(local_files, "_MAX_PARTS", 3)
    parts = [b"0123456789", b"", b"ab", bytearray(b"cdefgh"), b"i", memoryview(b"jklm"), b"nop"]
    store.write("k", parts)
    value = b"".join(parts)
    assert whole(store, "k") == value
    assert bytes(store.get("k", Span(1, 25)).data) == value[1:25]


def test_cut_short_in_place_while_it_is_read(store, root, monkeypatch):
    store.write("k", b"0123456789" * 10)
    fstat = os.fstat

    def cut(fd):
        status = fstat(fd)
        os.truncate(root / "k", 30)
        return status

    monkeypatch.setattr(os, "fstat", cut)
    with pytest.raises(StoreError, match="truncated"):
        store.get("k")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("create_only", [False, True])
@pytest.mark.parametrize("call", ["writev", "fsync"])
def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, code, create_only, call):
    store = LocalStore(tmp_path / "root", durable=True)
    store.write("k", b"old")
    key = "a/b/new" if create_only else "k"
    with monkeypatch.context() as patch:
        failing(patch, call, code)
        with pytest.raises(StoreError) as caught:
            store.write(key, b"new value", create_only=create_only)
        assert caught.value.key == key
        if code != errno.EIO:
            assert "the value that was there is as it was" in str(caught.value)
        if not create_only:
            with pytest.raises(StoreError):
                store.update("k", lambda _: b"new value")
    assert files(tmp_path / "root") == ["k"]
    assert store.list_dir() == Listing(("k",))
    assert whole(store, "k") == b"old"
    store.write(key, b"new value", create_only=create_only)
    assert whole(store, key) == b"new value"


def test_a_disk_that_is_full_in_earnest(store, root):
    store.write("k", b"old")

    def check():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(StoreError):
            store.write("k", [b"x" * 6000, b"y" * 6000])
        with pytest.raises(StoreError):
            store.update("k", lambda old: old + b"z" * 20_000)
        return whole(store, "k") == b"old" and files(root) == ["k"]

    assert in_fork(check)


def test_denied_is_not_missing():
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(f"{folder}/root")
        store.write("closed/k", b"1")
        store.write("open/k", b"1")
        (Path(store.root) / "open/k").chmod(0)
        (Path(store.root) / "open").chmod(0o555)
        (Path(store.root) / "closed").chmod(0)
        if os.geteuid() == 0:
            Path(folder).chmod(0o755)

        def check():
            if os.geteuid() == 0:
                os.setuid(65534)  # permissions do not bind root
            verbs = [
                lambda: store.get("closed/k"),
                lambda: store.get("closed/missing", Tail(1)),
                lambda: store.get("open/k"),
                lambda: store.size("closed/k"),
                lambda: store.write("open/new", b""),
                lambda: store.write("closed/k", b""),
                lambda: store.update("open/k", lambda old: old),
                lambda: store.delete("open/k"),
                lambda: store.delete("closed/k"),
                lambda: [*store.list()],
                lambda: store.list_dir("closed"),
                lambda: store.delete_prefix("closed"),
            ]
            for verb in verbs:
                with pytest.raises(AccessError):
                    verb()
            return store.size("open/k") == 1

        good = in_fork(check)
        for name in ("closed", "open"):
            (Path(store.root) / name).chmod(0o755)
        assert good


def test_read_only_file_system(store, monkeypatch):
    store.write("k", b"1")
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    for verb in (lambda: store.write("k", b""), lambda: store.update("k", lambda _: b""), lambda: store.delete("k")):
        with pytest.raises(ReadOnlyError):
            verb()
    assert whole(store, "k") == b"1"


# -- file systems without locks or links -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_without_locks(store, root, monkeypatch, code):
    def refuse(fd, *, wait):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local_lock, "_lock", refuse)
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="no file locks"):
            store.update("a/k", lambda _: b"1")
    store.write("a/k", b"1")
    store.write("a/k", b"2")
    store.write("a/new", b"3", create_only=True)
    with pytest.raises(KeyExistsError):
        store.write("a/new", b"4", create_only=True)
    with pytest.raises(UnsupportedError):
        store.update("a/k", lambda _: b"1")
    store.write("gone", b"")
    store.delete("gone")
    assert {entry.key: whole(store, entry.key) for entry in store.list()} == {"a/k": b"2", "a/new": b"3"}
    assert files(root) == ["a/k", "a/new"]
    assert [*store.stale_files()] == []
    left = root / "a/left.__lock"
    left.write_bytes(b"")
    assert [*store.stale_files()] == []  # nobody can tell whether a writer is at it
    os.utime(left, (0, 0))
    assert store.clean() == ["a/left.__lock"]
    assert pickle.loads(pickle.dumps(store))._has_locks


def test_a_lock_refused_for_the_moment_is_an_error_and_locking_stays_on(store, root, monkeypatch):
    # Writing without a lock instead would land between another process's read and its rename.
    store.write("a/k", b"1")
    before = n_open()

    def refuse(fd, *, wait):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(local_lock, "_lock", refuse)
        for verb in (
            lambda: store.write("a/k", b"2"),
            lambda: store.write("a/new", b"2", create_only=True),
            lambda: store.update("a/k", lambda _: b"2"),
            lambda: store.delete("a/k"),
        ):
            with pytest.raises(StoreError, match="no lock at the moment") as caught:
                verb()
            assert not isinstance(caught.value, UnsupportedError)
        assert store.clean() == []
        assert n_open() == before
        assert whole(store, "a/k") == b"1"
    store.update("a/k", lambda old: old + b"2")
    assert whole(store, "a/k") == b"12"
    assert store.clean() == ["a/new.__lock"]
    assert files(root) == ["a/k"]


def test_a_file_that_cannot_be_looked_at_once_open(store, monkeypatch):
    store.write("k", b"1")
    before = n_open()

    def refuse(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", refuse)
        with pytest.raises(StoreError, match="cannot look at"):
            store.get("k")
    assert n_open() == before


def test_without_links(store, root, monkeypatch):
    failing(monkeypatch, "link", errno.EPERM)
    store.write("new", b"1", create_only=True)
    with pytest.raises(KeyExistsError):
        store.write("new", b"2", create_only=True)
    assert files(root) == ["new"]
    assert whole(store, "new") == b"1"
    store._has_locks = False
    with pytest.raises(UnsupportedError, match="neither locks nor links"):
        store.write("other", b"", create_only=True)
    assert files(root) == ["new"]


def test_a_program_that_takes_no_lock_is_noticed_in_creation(store, root, monkeypatch):
    real = os.link

    def link(old, new):
        Path(new).write_bytes(b"theirs")
        real(old, new)

    store.write("x", b"")
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyExistsError):
        store.write("new", b"ours", create_only=True)
    assert whole(store, "new") == b"theirs"
    assert files(root) == ["new", "x"]


# -- durable writing ---------------------------------------------------------------------------------------------------


def test_durable_order(tmp_path, monkeypatch):
    root = tmp_path / "root"
    log = []

    def logged(name, describe):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args: (log.append(f"{name} {describe(*args)}"), real(*args))[1])

    def short(path):
        return os.path.relpath(path, tmp_path)

    logged("fsync", lambda fd: short(Path(f"/proc/self/fd/{fd}").readlink()))
    logged("rename", lambda old, new: short(new))
    logged("link", lambda old, new: short(new))
    logged("unlink", short)
    store = LocalStore(root, durable=True)
    store.write("a/b", b"1")
    assert log == ["fsync .", "fsync root", "fsync root/a/b.__lock", "rename root/a/b", "fsync root/a"]
    log.clear()
    store.update("a/b", lambda _: b"2")
    assert log == ["fsync root/a/b.__lock", "rename root/a/b", "fsync root/a"]
    log.clear()
    store.write("a/new", b"2", create_only=True)
    assert [line for line in log if not line.startswith("unlink")] == [
        "fsync root/a/new.__lock.__lock",
        "link root/a/new",
        "fsync root/a",
    ]
    log.clear()
    store.delete("a/b")
    assert log[:2] == ["unlink root/a/b", "fsync root/a"]
    log.clear()
    LocalStore(root).write("a/c", b"")
    assert [line for line in log if line.startswith("fsync")] == []


# -- threads -----------------------------------------------------------------------------------------------------------


def test_folders_that_come_and_go_under_writers(store, root):
    def work(i):
        for j in range(60):
            store.write(f"a/b/{i}", b"%d" % j)
            store.update(f"a/b/c/{i}", lambda old: b"x")
            store.delete(f"a/b/{i}")
            store.delete(f"a/b/c/{i}")
            if i == 0 and j % 10 == 0:
                store.delete_prefix("a")
            assert {entry.key for entry in store.list("a")} <= {f"a/b/{c}{n}" for c in ("", "c/") for n in range(4)}

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(work, range(4))] == [None] * 4
    assert files(root) == []


def test_other_keys_do_not_wait(store):
    entered, leave = threading.Event(), threading.Event()

    def slow(old):
        entered.set()
        assert leave.wait(30)
        return b"slow"

    with ThreadPoolExecutor(1) as pool:
        update = pool.submit(store.update, "a/k", slow)
        assert entered.wait(30)
        store.write("a/other", b"1")
        store.update("a/third", lambda _: b"2")
        assert whole(store, "a/k") is None
        leave.set()
        update.result(30)
    assert whole(store, "a/k") == b"slow"


@pytest.mark.parametrize("how", ["write", "update", "patch", "parts"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o777])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, how: str, mode: int) -> None:
    store = zarrdock.LocalStore(tmp_path)
    store.write("a/k", b"old")
    path = tmp_path / "a" / "k"
    path.chmod(mode)
    replace_in_way(store, how)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def replace_in_way(store: zarrdock.LocalStore, how: str) -> None:
    match how:
        case "write":
            store.write("a/k", b"new")
        case "parts":
            store.write("a/k", [b"n", b"ew"])
        case "update":
            store.update("a/k", lambda old: b"new")
        case "patch":
            store.patch("a/k", lambda old: Patch(3, [(0, b"new")]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser gives files to any group")
@pytest.mark.parametrize("how", ["write", "update", "patch"])
def test_a_replaced_file_keeps_its_group_and_owner(tmp_path: Path, how: str) -> None:
    store = zarrdock.LocalStore(tmp_path)
    store.write("a/k", b"old")
    path = tmp_path / "a" / "k"
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    replace_in_way(store, how)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)


def test_where_the_group_cannot_be_kept_it_gets_no_more_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = zarrdock.LocalStore(tmp_path)
    for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o666, 0o666)):
        store.write("a/k", b"old")
        path = tmp_path / "a" / "k"
        path.chmod(mode)
        real = path.stat()
        with monkeypatch.context() as patched:
            other = os.stat_result((*real[:5], real.st_gid + 1, *real[6:]))
            patched.setattr(local.os, "stat", lambda p, other=other, **_: other)
            patched.setattr(local.os, "fchown", _refuse)
            fd = os.open(tmp_path / "new", os.O_CREAT | os.O_RDWR)
            local.keep_permissions(fd, str(path))
            os.close(fd)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == expected


def _refuse(*_: object) -> None:
    raise PermissionError


def test_chunks_and_documents_keep_their_modes(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "a", data=np.ones(8, "i4"), chunks=8)
    for name in ("c/0", "zarr.json"):
        (tmp_path / "a" / name).chmod(0o600)
    array[2:4] = 5
    array[:] = 7
    array.attrs["x"] = 1
    array.resize(12)
    assert [stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) for name in ("c/0", "zarr.json")] == [0o600, 0o600]
