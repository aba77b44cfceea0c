"""Copies between any two kinds of store, and what a kill leaves behind in each of them."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from support.servers import Endpoint
from zarrdock.array.group import Group
from zarrdock.checking import check
from zarrdock.cli.main import run
from zarrdock.copying.progress import MARK
from zarrdock.errors import NodeExistsError, NodeNotFoundError

pytestmark = pytest.mark.server

DATA = np.random.default_rng(0).integers(0, 1000, (40, 40, 20)).astype("uint16")
KINDS = ("local", "zip", "s3", "gcs")
Place = tuple[str, dict[str, Any]]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def servers(moto: Endpoint, gcs_emulator: Endpoint) -> dict[str, tuple[str, Endpoint]]:
    return {"s3": ("s3", moto), "gcs": ("gs", gcs_emulator)}


@pytest.fixture
def place(servers: dict[str, tuple[str, Endpoint]], tmp_path: Path) -> Callable[[str], Place]:
    """A new URL of a kind, and the storage options for it."""

    def new(kind: str) -> Place:
        n = next(_numbers)
        if kind in servers:
            protocol, endpoint = servers[kind]
            return f"{protocol}://{endpoint.bucket}/copy-{n}.zarr", endpoint.storage_options
        return str(tmp_path / f"copy-{n}.zarr{'.zip' if kind == 'zip' else ''}"), {}

    return new


def open_group(place: Place) -> Group:
    return zarrdock.open_group(place[0], storage_options=place[1])


@pytest.mark.parametrize("dst", KINDS)
@pytest.mark.parametrize("src", KINDS)
def test_between_any_two(place: Callable[[str], Place], src: str, dst: str) -> None:
    origin = zarrdock.create_group(None, attributes={"a": 1})
    origin.create_array("in/x", data=DATA, chunks=(10, 10, 10), shards=(20, 20, 20))
    first, second, third = place(src), place(dst), place(dst)
    zarrdock.copy(origin, first[0], dst_storage_options=first[1])
    options = {"src_storage_options": first[1], "dst_storage_options": second[1]}
    same = zarrdock.copy(first[0], second[0], **options)
    np.testing.assert_array_equal(same["in/x"][...], DATA)
    other = zarrdock.copy(first[0], third[0], chunks=(20, 20, 20), shards=(40, 40, 20), **options)
    np.testing.assert_array_equal(other["in/x"][...], DATA)
    for group in (open_group(second), open_group(third)):
        assert dict(group.attrs) == {"a": 1}
        assert MARK not in {entry.key for entry in group.store.list()}
    assert check(second[0], storage_options=second[1]).problems == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pyramid(place: Callable[[str], Place], kind: str) -> None:
    """An image elsewhere, and levels beside an array; where chunks cannot be marked as unfinished, too."""
    first, second = place(kind), place(kind)
    origin = zarrdock.create_group(first[0], storage_options=first[1])
    origin.create_array("0", data=DATA, chunks=(10, 10, 10), shards=(20, 20, 20), dimension_names=("z", "y", "x"))
    image = zarrdock.pyramid(origin, second[0], dst_storage_options=second[1], levels=3, method="max")
    zarrdock.pyramid(first[0], src_storage_options=first[1], levels=3, method="max")
    expected = DATA
    for name in "012":
        if name > "0":
            expected = expected.reshape([part for n in expected.shape for part in (n // 2, 2)]).max((1, 3, 5))
        for found in (image, open_group(first), open_group(second)):
            np.testing.assert_array_equal(found[name][...], expected)
            assert len(found.attrs["ome"]["multiscales"][0]["datasets"]) == 3
            assert MARK not in {entry.key for entry in found.store.list()}
    assert check(second[0], storage_options=second[1]).problems == ()
    with pytest.raises(NodeExistsError):
        zarrdock.pyramid(first[0], src_storage_options=first[1], levels=3)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_npy_in_object_storage(place: Callable[[str], Place], kind: str, tmp_path: Path) -> None:
    url, options = place(kind)
    np.save(tmp_path / "x.npy", DATA)
    zarrdock.open_store(url, storage_options=options).write("x.npy", (tmp_path / "x.npy").read_bytes())
    copied = zarrdock.copy(f"{url}/x.npy", None, src_storage_options=options, chunks=10, memory_bytes=10_000)
    np.testing.assert_array_equal(copied[...], DATA)


KILLED = """
import json, os, signal, sys
import zarrdock

class Deadly(zarrdock.PrefixStore):
    n = 0
    def write(self, key, value, /, **more):
        Deadly.n += 1
        if Deadly.n == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(key, value, **more)

url, options = json.loads(sys.argv[2])
store = Deadly(zarrdock.open_store(url, storage_options=options or None), "")
zarrdock.copy(sys.argv[1], store, chunks=10, shards=20, memory_bytes=2**16)
"""


@pytest.mark.parametrize("dst", KINDS)
def test_killed_and_run_again(
    place: Callable[[str], Place], dst: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", DATA)
    src, (url, options) = tmp_path / "x.npy", place(dst)
    command = [sys.executable, "-c", KILLED, str(src), json.dumps([url, options])]
    done = subprocess.run(command, check=False, timeout=120, stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(NodeNotFoundError):
        zarrdock.open(url, storage_options=options)
    given = [f"--dst-storage-option={key}={json.dumps(value)}" for key, value in options.items()]
    assert run(["copy", str(src), url, "--chunks", "10", "--shards", "20", *given, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["n_kept"] >= 1
    assert facts["n_objects"] + facts["n_kept"] == 4
    array = zarrdock.open_array(url, storage_options=options)
    np.testing.assert_array_equal(array[...], DATA)
    assert {entry.key for entry in array.store.list()} == {"zarr.json"} | {
        f"c/{i}/{j}/0" for i in (0, 1) for j in (0, 1)
    }
