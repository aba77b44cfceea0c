"""``zarrdock relayout``: what it says, and what it does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run

VALUES = np.arange(1, 40 * 60 + 1, dtype="u2").reshape(40, 60)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(5, 5), shards=(20, 20), compressors=None)
    return tmp_path / "a.zarr"


def out(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    assert run([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert (captured.err == "") == (status == 0)
    return captured.out + captured.err


def out_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(out(capsys, *arguments, "--json"))


def test_in_place(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "relayout", array, "--order", "hilbert", "--dry-run").startswith("6 of 6 shards to be rewritten")
    assert "6 of 6 shards rewritten, 0 B saved" in out(capsys, "relayout", array, "--order", "hilbert", "-q")
    facts = out_json(capsys, "relayout", array, "--order", "hilbert")
    assert (facts["n_objects"], facts["n_rewritten"], facts["nbytes_saved"]) == (6, 0, 0)
    assert np.array_equal(zarrdock.open_array(array)[...], VALUES)
    assert out_json(capsys, "relayout", array)["n_rewritten"] == 0


def test_nothing_sharded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_array(tmp_path / "p.zarr", data=VALUES, chunks=(5, 5))
    assert "no array is sharded" in out(capsys, "relayout", tmp_path / "p.zarr", "--order", "morton", status=1)
    assert run(["relayout", str(tmp_path / "p.zarr"), "--order", "zigzag"]) == 2
