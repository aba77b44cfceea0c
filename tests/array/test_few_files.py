"""Processes that may keep only few files open: a version in a local store is an open file."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, tempfile

limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

import numpy as np
import zarrdock
from zarrdock.errors import UnsupportedError

values = np.arange(300 * 8, dtype="i4").reshape(300, 8)
record = zarrdock.RecordingStore(zarrdock.LocalStore(tempfile.mkdtemp()))
zarrdock.create_array(record, data=values, chunks=(1, 4), shards=(1, 8))
array = zarrdock.open_array(record, zarr_format=3)
plan = array.plan()
record.reset()
assert (array[...] == values).all()
assert (record.n_rounds, record.n_requests) == (plan.n_rounds, plan.n_requests), record.n_requests
assert plan.n_requests == 600
assert (array[...] == values).all()
try:
    assert (array.read(consistent=True) == values).all()
    print("consistent")
except UnsupportedError as error:
    assert "ulimit -n" in str(error)
    print("too many for a second look")
plain = zarrdock.create_array(tempfile.mkdtemp(), data=values, chunks=(1, 8))
assert (plain[...] == values).all()
"""


@pytest.mark.parametrize(("limit", "says"), [(128, "too many"), (256, "too many"), (4096, "consistent")])
def test_reads_cost_what_was_planned(limit: int, says: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(limit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(says)
