"""One store object, and one array object: from threads, loops, forks, copies, other processes, dask."""

import asyncio
import copy
import json
import multiprocessing
import operator
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import dask
import dask.array
import numpy as np
import pytest

import zarrdock
from zarrdock.stores.async_store import AsyncStore
from zarrdock.testing.contract_read import in_fork

pytestmark = pytest.mark.server

DATA = bytes(range(200)) * 5
# Interpreters that are started import the libraries of clouds anew.
IN_OTHER_PROCESSES = pytest.mark.parametrize(
    "where",
    ["local", "S3", *(pytest.param(kind, marks=pytest.mark.rare) for kind in ("zip", "GCS", "Azure"))],
    indirect=True,
)


def opened(where: Any) -> tuple[zarrdock.Store, zarrdock.Array]:
    """Used already: what works in a new object only is not enough."""
    store = where.open()
    array = zarrdock.open_array(store, "r+", path="a", zarr_format=3)
    assert bytes(store.get("k").data) == DATA
    np.testing.assert_array_equal(array[:], where.values)
    return store, array


def check(where: Any, store: zarrdock.Store, array: zarrdock.Array) -> bool:
    blob = store.get("k", zarrdock.Span(5, 25))
    return (
        blob is not None
        and bytes(blob.data) == DATA[5:25]
        and bool((array[3:20, 5:9] == where.values[3:20, 5:9]).all())
    )


def test_threads(where: Any) -> None:
    store, array = opened(where)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: check(where, store, array), range(40)))
        rows = list(range(0, 32, 4))

        def write(row: int) -> None:
            array[row : row + 4] = row  # four threads share each shard

        list(pool.map(write, rows))
    np.testing.assert_array_equal(array[:], np.repeat(rows, 4)[:, None] * np.ones((1, 32)))
    store.close()


def test_event_loops_one_after_another(where: Any) -> None:
    store, array = opened(where)

    async def use() -> bool:
        blob, part = await asyncio.gather(AsyncStore(store).get("k"), array.read_async((slice(3, 20), 5)))
        await array.write_async((0, slice(0, 3)), where.values[0, :3])
        inside = check(where, store, array)  # a blocking call within a running loop, as in a notebook
        return bytes(blob.data) == DATA and bool((part == where.values[3:20, 5]).all()) and inside

    for _ in range(3):
        assert asyncio.run(use())
    with ThreadPoolExecutor(3) as pool:  # and several at once, in threads of their own
        assert all(pool.map(lambda _: asyncio.run(use()), range(3)))
    assert check(where, store, array)
    store.close()


def test_fork(where: Any) -> None:
    store, array = opened(where)

    def child() -> bool:
        good = check(where, store, array)
        store.write("child", b"1")
        array[0, 0] = 77

        async def inside() -> bool:
            blob = await AsyncStore(store).get("child")
            return blob is not None and bytes(blob.data) == b"1"

        return good and asyncio.run(inside()) and int(array[0, 0]) == 77

    assert in_fork(child)
    assert bytes(store.get("child").data) == b"1"
    assert int(array[0, 0]) == 77
    array[0, 0] = 0
    assert in_fork(lambda: check(where, store, array) and in_fork(lambda: check(where, store, array)))
    assert check(where, store, array)
    store.close()


def test_copies(where: Any) -> None:
    store, array = opened(where)
    group = zarrdock.create_group(store, path="g")
    for make in (copy.copy, copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))):
        other, other_array, other_group = make(store), make(array), make(group)
        assert check(where, other, other_array)
        assert other_group.path == "g"
        other.write("copy", b"1")
        assert bytes(store.get("copy").data) == b"1"
        other_array[31, 31] = 5
        assert int(array[31, 31]) == 5
    other, other_array = pickle.loads(pickle.dumps((store, array)))
    assert check(where, other, other_array)
    store.close()
    assert check(where, store, array), "closed, it opens anew"
    store.close()
    other.close()


@IN_OTHER_PROCESSES
def test_spawned_processes(where: Any) -> None:
    store, array = opened(where)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(operator.getitem, array, slice(i, i + 8)) for i in range(0, 32, 8)]
        np.testing.assert_array_equal(np.concatenate([part.result(120) for part in parts]), where.values)
        blobs = [pool.submit(store.get, "k", zarrdock.Tail(n)) for n in (1, 10)]
        assert [bytes(blob.result(120).data) for blob in blobs] == [DATA[-1:], DATA[-10:]]
        pool.submit(store.write, "from/there", b"1").result(120)
        # Both write into the same shards.
        ones = [pool.submit(operator.setitem, array, slice(i, i + 4), 1) for i in range(0, 32, 4)]
        assert [one.result(120) for one in ones] == [None] * 8
    assert bytes(store.get("from/there").data) == b"1"
    assert (array[:] == 1).all()
    store.close()


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.rare)])
def test_dask(where: Any, scheduler: str) -> None:
    _, array = opened(where)
    lazy = dask.array.from_array(array, chunks=(16, 16), lock=False)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        total, part = dask.compute(lazy.sum(), (lazy + 1)[3:30])
    assert int(total) == int(where.values.sum())
    np.testing.assert_array_equal(part, where.values[3:30] + 1)
    array.store.close()


@pytest.mark.rare
def test_dask_workers(everywhere: list[Any]) -> None:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for where in everywhere:
            store, array = opened(where)
            lazy = dask.array.from_array(array, chunks=(16, 16), lock=False)
            np.testing.assert_array_equal(client.compute(lazy * 2).result(timeout=120), where.values * 2)
            writes = [client.submit(operator.setitem, array, slice(i, i + 4), i, pure=False) for i in range(0, 32, 4)]
            client.gather(writes)
            assert client.submit(store.exists, "k").result(timeout=120)
            np.testing.assert_array_equal(array[:, 0], np.repeat(range(0, 32, 4), 4))
            store.close()


# -- the end of a process ----------------------------------------------------------------------------------------------

ENDINGS = {
    "left open": "",
    "closed": "store.close()",
    "in a thread": """
import threading
thread = threading.Thread(target=lambda: array[:])
thread.start()
thread.join()
""",
    "after loops": """
import asyncio
for _ in range(2):
    asyncio.run(array.read_async(slice(0, 3)))
""",
    "after a fork": """
import os, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads: that is what is tested
    pid = os.fork()
if pid == 0:
    array[:]
    store.write("child", b"1")
    raise SystemExit
assert os.waitpid(pid, 0)[1] == 0
array[:]
""",
    "while it is used": """
import threading, time
def use():
    while True:
        array[:]
threading.Thread(target=use, daemon=True).start()
time.sleep(0.2)
""",
    "copied": """
import copy, pickle
others = [copy.copy(array), pickle.loads(pickle.dumps(array))]
assert all((other[:] == array[:]).all() for other in others)
del others, array
""",
}


# Forks itself for each ending, so that what takes long to import is imported once; each fork ends as a process does.
RUN = """
import json, logging, os, sys
import zarrdock, {modules}
logging.getLogger("asyncio").setLevel(logging.ERROR)  # its debug mode tells of slow callbacks, on a busy machine
found = {{}}
for name, code in json.loads(sys.stdin.read()).items():
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(there, 1)
        os.dup2(there, 2)
        os.close(here)
        os.close(there)
        break
    os.close(there)
    with open(here, encoding="utf-8") as output:
        said = output.read()
    found[name] = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said]
if pid:
    print(json.dumps(found))
else:
    del found, here, there, name
    exec(code)
"""

USE = """
store.write("new", b"1")
store.update("new", lambda old: bytes(old) + b"2")
array = zarrdock.open_array(store, "r+", path="a")
array[:3, :3] = 1
array[:]
list(store.list())
"""


@IN_OTHER_PROCESSES
def test_no_word_at_exit(where: Any) -> None:
    programs = {name: where.code + USE + ending for name, ending in ENDINGS.items()}
    modules = {"S3": "s3fs, aiobotocore.session", "GCS": "gcsfs", "Azure": "adlfs"}.get(where.kind, "asyncio")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", RUN.format(modules=modules)],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {name: [0, ""] for name in ENDINGS}
