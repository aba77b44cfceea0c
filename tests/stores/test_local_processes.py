"""The local store among processes: writers that race, writers that are killed, and TensorStore on the same files."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from zarrdock.stores.local import LocalStore
from zarrdock.testing.contract_read import whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks: POSIX")

COUNT = """
import sys
from zarrdock.stores.local import LocalStore
store = LocalStore(sys.argv[1])
for _ in range(int(sys.argv[2])):
    store.update("a/n", lambda old: b"%d" % (int(bytes(old or b"0")) + 1))
"""

CREATE = """
import sys
from zarrdock.errors import KeyExistsError
from zarrdock.stores.local import LocalStore
store = LocalStore(sys.argv[1])
won = []
for i in range(int(sys.argv[2])):
    try:
        store.write(f"new/{i}", sys.argv[3].encode(), create_only=True)
        won.append(i)
    except KeyExistsError:
        pass
print(*won)
"""

TENSORSTORE = """
import sys
import tensorstore as ts
context = ts.Context({"file_io_sync": False})
kv = ts.KvStore.open({"driver": "file", "path": sys.argv[1] + "/"}, context=context).result()
for i in range(int(sys.argv[2])):
    kv.write("k", b"%c" % (97 + i % 26) * (1000 + 777 * (i % 9))).result()
"""


def run(n, script, *args):
    """The outputs of ``n`` processes that run at the same time."""
    commands = [[sys.executable, "-c", script, *map(str, args), str(i)] for i in range(n)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * n
    return outputs


def fork(work):
    """The id of a child process that does ``work`` and ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    with contextlib.suppress(BaseException):
        work()
    os._exit(0)


def files(root):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if not path.is_dir())


# 300 objects, read in one batch; how many versions are good afterwards, and what an array of as many chunks says.
FEW = """
import resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import os
import numpy as np
import zarrdock
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read
from zarrdock.stores.local import LocalStore
store = LocalStore(sys.argv[1])
for i in range(300):
    store.write(f"k/{i}", b"%03d" % i)
blobs = store.read([Read(f"k/{i}", Span(s, 3)) for s in (0, 1) for i in range(300)])
assert [bytes(blob.data) for blob in blobs] == [(b"%03d" % i)[s:] for s in (0, 1) for i in range(300)]
assert all(blobs[i].version is blobs[300 + i].version for i in range(300))
again = store.read([Read(f"k/{i}", None, blobs[i].version) for i in range(300)])
n_good = sum(isinstance(result, Blob) for result in again)
n_open = len(os.listdir("/proc/self/fd"))
del blobs, again
# With descriptors of others' making about, writing and reading make room instead of failing.
kept = [store.get(f"k/{i}") for i in range(300)]
others = []
try:
    while True:
        others.append(os.open(sys.argv[1], os.O_RDONLY))
except OSError:
    pass
store.write("k/0", b"new")
assert bytes(store.get("k/0").data) == b"new"
for fd in others:
    os.close(fd)
print(store.traits.max_versions, n_good, n_open)
folder = LocalStore(sys.argv[1] + "/array")
array = zarrdock.create_array(folder, shape=(300,), chunks=(1,), dtype="int16", fill_value=-1)
array[...] = np.arange(300, dtype="int16")
assert (array[...] == np.arange(300)).all()
if limit >= 1024:
    assert (array.read(..., consistent=True) == np.arange(300)).all()
"""


@pytest.mark.parametrize(("limit", "max_versions", "n_good"), [(256, 128, 128), (1024, 512, 300)])
def test_few_descriptors(tmp_path, limit, max_versions, n_good):
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path), str(limit)], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    told, good, n_open = map(int, done.stdout.split())
    assert (told, good) == (max_versions, n_good)
    assert n_open < n_good + 40


def test_processes_lose_no_update(tmp_path):
    run(4, COUNT, tmp_path, 150)
    assert whole(LocalStore(tmp_path), "a/n") == b"600"
    assert files(tmp_path) == ["a/n"]


def test_each_key_has_one_creator(tmp_path):
    outputs = run(4, CREATE, tmp_path, 60)
    store = LocalStore(tmp_path)
    won = {int(i): who for who, output in enumerate(outputs) for i in output.split()}
    assert sum(len(output.split()) for output in outputs) == 60
    assert won == {i: int(whole(store, f"new/{i}")) for i in range(60)}
    assert len(files(tmp_path)) == 60


def test_killed_writers_leave_the_old_value_or_the_new_one(tmp_path):
    store = LocalStore(tmp_path)
    values = [b"%c" % (97 + i) * (1 + 40_000 * i) for i in range(6)]
    store.write("a/k", values[0])
    rng = random.Random(5)

    def create(value):
        store.delete("b/new")
        store.write("b/new", value, create_only=True)

    verbs = [
        lambda value: store.write("a/k", [value[:7], value[7:]]),
        lambda value: store.update("a/k", lambda _: value),
        create,
    ]

    started, tell = os.pipe()

    def work():
        os.write(tell, b"x")
        while True:
            rng.choice(verbs)(rng.choice(values))

    allowed = {f"{key}{end}" for key in ("a/k", "b/new") for end in ("", ".__lock", ".__lock.__lock")}
    n_seen = dict.fromkeys(values, 0)
    for _ in range(30):
        rng.seed(rng.random())
        pid = fork(work)
        os.read(started, 1)  # a fork of a large process takes longer than what follows
        time.sleep(rng.uniform(0.002, 0.015))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        n_seen[whole(store, "a/k")] += 1
        assert whole(store, "b/new") in (None, *values)
        assert {entry.key for entry in store.list()} <= {"a/k", "b/new"}
        assert {*files(tmp_path)} <= allowed
    assert sum(1 for n in n_seen.values() if n) > 1  # the children did write
    os.close(started)
    os.close(tell)
    store.update("a/k", lambda old: bytes(old[:1]) + b"!")
    assert whole(store, "a/k")[1:] == b"!"
    store.clean()
    assert {*files(tmp_path)} <= {"a/k", "b/new"}


def test_a_killed_holder_frees_the_key(tmp_path):
    store = LocalStore(tmp_path)
    store.write("k", b"1")
    ready, tell = os.pipe()

    def hold():
        store.update("k", lambda _: (os.write(tell, b"x"), time.sleep(60)))

    pid = fork(hold)
    assert os.read(ready, 1) == b"x"
    assert [*store.stale_files()] == []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [*store.stale_files()] == ["k.__lock"]
    store.update("k", lambda old: old + b"2")
    assert whole(store, "k") == b"12"
    assert files(tmp_path) == ["k"]


def test_a_child_of_the_holder_does_not_keep_the_key(tmp_path):
    # A lock lives as long as any copy of its descriptor, and a forked child has copies of them all.
    store = LocalStore(tmp_path)
    ready, tell = os.pipe()

    def parent():
        holding = threading.Event()
        threading.Thread(
            target=store.update, args=("k", lambda _: (holding.set(), time.sleep(60))), daemon=True
        ).start()
        holding.wait(10)
        child = fork(lambda: time.sleep(60))
        os.write(tell, b"%d\n" % child)
        time.sleep(60)

    pid = fork(parent)
    child = int(os.read(ready, 20))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        waiting = threading.Thread(target=store.update, args=("k", lambda _: b"free"), daemon=True)
        waiting.start()
        waiting.join(10)
        assert whole(store, "k") == b"free"
    finally:
        os.kill(child, signal.SIGKILL)


# -- TensorStore -------------------------------------------------------------------------------------------------------


@pytest.fixture
def kvstore(tmp_path):
    import tensorstore as ts

    return ts.KvStore.open({"driver": "file", "path": f"{tmp_path}/"}).result()


@pytest.mark.peer
def test_tensorstore_waits_for_our_update(tmp_path, kvstore):
    store = LocalStore(tmp_path)
    store.write("a/k", b"0")
    futures = []

    def change(old):
        futures.append(kvstore.write("a/k", b"theirs"))
        time.sleep(0.2)
        assert not futures[0].done()
        assert bytes(kvstore["a/k"]) == b"0"
        return old + b"1"

    store.update("a/k", change)
    futures[0].result()
    assert whole(store, "a/k") == b"theirs"
    assert files(tmp_path) == ["a/k"]


@pytest.mark.peer
def test_tensorstore_deletes_after_our_update(tmp_path, kvstore):
    store = LocalStore(tmp_path)
    store.write("k", b"0")
    futures = []

    def change(_):
        futures.append(kvstore.write("k", None))  # None: delete
        time.sleep(0.2)
        assert not futures[0].done()
        return b"1"

    store.update("k", change)
    futures[0].result()
    assert whole(store, "k") is None
    assert files(tmp_path) == []


@pytest.mark.peer
def test_tensorstore_and_we_write_one_key(tmp_path, kvstore):
    store = LocalStore(tmp_path)
    store.write("k", b"aaa")
    theirs = subprocess.Popen([sys.executable, "-c", TENSORSTORE, str(tmp_path), "300"])
    n = 0
    while theirs.poll() is None:
        n += 1
        store.update("k", lambda _, n=n: b"%c" % (65 + n % 26) * (500 + 1000 * (n % 13)))
        value = whole(store, "k")
        assert len({*value}) == 1
        assert {entry.key for entry in store.list()} == {"k"}
    assert theirs.returncode == 0
    assert n > 0
    assert files(tmp_path) == ["k"]
