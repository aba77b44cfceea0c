"""What notebooks and ``zarrdock thumbnail`` show."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run

Image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("shape", [(), (7,), (50, 47), (4, 30, 20), (0, 3), (1, 10**9)])
def test_html(shape: tuple[int, ...]) -> None:
    record = zarrdock.RecordingStore(zarrdock.MemoryStore())
    array = zarrdock.create_array(
        record, name="a<b", shape=shape, dtype="u2", chunks=tuple(min(8, max(1, n)) for n in shape)
    )
    before = record.n_requests
    html = array._repr_html_()
    assert record.n_requests == before
    text = "".join(ET.fromstring(html).itertext())  # well formed, whatever the names
    assert "/a<b" in text
    assert all(str(n) in text for n in shape)
    assert ("<svg" in html) == bool(shape and 0 not in shape[-2:])
    assert html.count("<line") < 200


def test_a_picture_of_a_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.zeros((5, 64, 96), "f4")
    values[2, :, 48:] = 100
    values[2, 0, 0] = np.nan
    zarrdock.create_array(tmp_path / "a.zarr", data=values, chunks=(1, 16, 16), shards=(1, 64, 96))
    out = tmp_path / "out.png"
    assert run(["thumbnail", str(tmp_path / "a.zarr"), str(out)]) == 0
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (64, 96)
    assert (pixels[:, :48] == 0).all()
    assert (pixels[:, 48:] == 255).all()
    assert run(["thumbnail", str(tmp_path / "a.zarr"), str(out), "--size", "32", "--index", "0=1"]) == 0
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (22, 32)
    assert not pixels.any()
    capsys.readouterr()


def test_what_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = zarrdock.create_group(tmp_path / "a.zarr")
    group.create_array("c", shape=(4, 4), dtype="c8", chunks=(4, 4))
    group.create_array("good", shape=(4, 4), dtype="u1", chunks=(4, 4))
    place, out = str(tmp_path / "a.zarr"), str(tmp_path / "x.png")
    for arguments, message in (
        ([place, out], "is a group"),
        ([place, out, "--path", "c"], "cannot be drawn"),
        ([place, out, "--path", "good", "--index", "0=1"], "no such place"),
        ([place, str(tmp_path / "x.nothing"), "--path", "good"], ".png"),
    ):
        assert run(["thumbnail", *arguments]) in (1, 2)
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
