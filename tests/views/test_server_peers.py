"""Readers that are no libraries of this environment: zarrita.js, and the last zarr-python that knows only Zarr v2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp")

import zarrdock
from support.servers import Endpoint
from zarrdock.serve.server import Server
from zarrdock.views import as_v2, unshard

pytestmark = [pytest.mark.server, pytest.mark.peer]

VALUES = np.random.default_rng(0).integers(0, 1000, (50, 47)).astype("u2")


def missing(what: str) -> Any:
    """Continuous integration has everything; elsewhere it is said what was left out, and how to have it."""
    return pytest.fail(what) if "CI" in os.environ else pytest.skip(what)


@pytest.fixture
def javascript(repository: Path) -> Path:
    folder = repository / "tests" / "javascript"
    if shutil.which("node") is None or not (folder / "node_modules" / "zarrita").exists():
        missing("no zarrita.js on this machine: install node and npm, and run npm ci --prefix tests/javascript")
    return folder


@pytest.fixture
def zarr2() -> str:
    python = os.environ.get("ZARRDOCK_ZARR2_PYTHON", "")
    if not Path(python).is_file():
        missing("no zarr-python 2 on this machine: run tox -e zarr2,py311, or name its Python in ZARRDOCK_ZARR2_PYTHON")
    return python


# It looks for a shard's index at the end, wherever the metadata says it is: then a view helps.
@pytest.mark.parametrize(
    "index_location,view", [("end", None), ("end", unshard), ("end", as_v2), ("start", unshard), ("start", as_v2)]
)
def test_zarrita_reads_it(javascript: Path, index_location: Any, view: Any) -> None:
    store = zarrdock.MemoryStore()
    layout: dict[str, Any] = {"chunks": (8, 8), "shards": {"shape": (16, 24), "index_location": index_location}}
    zarrdock.create_array(store, name="a/b", data=VALUES, **layout)
    log: list[tuple[str, str, int, int]] = []
    with Server(view(store) if view else store, log=lambda *line: log.append(line)) as server:
        command = ["node", str(javascript / "read.js"), f"{server.url}/a/b", "5", "30"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["dtype"] == "uint16"
    assert found["chunks"] == [8, 8]
    np.testing.assert_array_equal(np.reshape(found["values"], found["shape"]), VALUES[5:30])
    if view is None:
        assert {status for method, path, status, _ in log if method == "GET" and "/c/" in path} == {206}


READ = """
import json, sys
import numpy, zarr
assert zarr.__version__.startswith("2."), zarr.__version__
url, out = sys.argv[1:]
group = zarr.open_consolidated(url, mode="r")
array = group["a/b"]
numpy.save(out, array[...])
alone = zarr.open(url + "/a/b", mode="r")
assert (alone[3:9, ::5] == array[3:9, ::5]).all()
print(json.dumps([sorted(group["a"]), array.chunks, dict(array.attrs), zarr.__version__]))
"""


@pytest.mark.parametrize("filters", [[], [{"name": "transpose", "configuration": {"order": [1, 2, 0]}}]])
def test_zarr_python_2_reads_sharded_v3_from_s3(moto: Endpoint, zarr2: str, tmp_path: Path, filters: list[Any]) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (10, 9, 14)).astype("u2")
    url = f"s3://{moto.bucket}/zarr2-{len(filters)}"
    group = zarrdock.create_group(url, storage_options=moto.storage_options)
    group.create_array(
        "a/b", data=values, chunks=(4, 4, 4), shards=(8, 8, 16), filters=filters, attributes={"unit": "mm"}
    )
    options = [f"--storage-option={name}={json.dumps(value)}" for name, value in moto.storage_options.items()]
    program = [sys.executable, "-c", "from zarrdock.cli.main import main; main()"]
    command = [*program, "serve", url, *options, "--as-v2", "--reencode"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split(" at ")[1].strip().rstrip("/")
            reader = [zarr2, "-c", READ, address, str(tmp_path / "found.npy")]
            done = subprocess.run(reader, capture_output=True, text=True, timeout=120, check=False)
        finally:
            server.terminate()
            server.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    names, chunks, attributes, _ = json.loads(done.stdout)
    assert (names, chunks, attributes) == (["b"], [4, 4, 4], {"unit": "mm"})
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), values)
