"""The demo, end to end: what the README promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zarrdock
from zarrdock.cli import demo
from zarrdock.cli.main import run

MAIN = "from zarrdock.cli.main import main; main()"


def call(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", MAIN, "demo", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_volume_is_what_its_notes_say() -> None:
    volume = demo.load_volume()
    assert (volume.shape, volume.dtype, volume.max()) == ((96, 112, 96), np.dtype("uint16"), 1942)


def test_the_demo_in_a_folder_of_its_own(tmp_path: Path) -> None:
    done = call("--no-s3", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    (folder,) = tmp_path.iterdir()
    assert str(folder / "brain.zarr") in done.stdout, "the folder is printed"
    array = zarrdock.open_array(folder / "brain.zarr")
    assert (array.chunks, array.shards) == ((16, 16, 16), (48, 48, 48))
    assert array.dimension_names == ("x", "y", "z")
    np.testing.assert_array_equal(array[...], demo.load_volume())
    assert done.stdout.count("yes") == 16
    assert " NO " not in done.stdout
    # The plan, and what happened, cold and hot: a box in one shard takes two rounds, then one.
    rows = [line for line in done.stdout.splitlines() if " cold " in line or " hot " in line]
    assert len(rows) == 16
    for row in rows:
        planned, happened = re.findall(r"\d+ / \d+ / [\d.]+ \S*B", row)
        assert planned == happened
        assert planned.startswith("2 /" if "cold" in row else "1 /")
    assert "a box inside one shard" in rows[0]
    assert "2 / 2 /" in rows[0]


def test_the_demo_again_and_again_in_the_same_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["demo", str(tmp_path / "here"), "--no-s3", "--picture", str(tmp_path / "deep" / "p.png")]) == 0
    assert (tmp_path / "deep" / "p.png").exists()
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["brain.zarr"]


def test_the_picture_shows_the_slices_the_right_way_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(tmp_path), "--no-s3"]) == 0
    pixels = np.asarray(Image.open(tmp_path / "brain.png").convert("L")).astype(float)
    volume = demo.load_volume()
    planes = (volume[demo.X], volume[:, demo.Y], volume[:, :, demo.Z])
    left, bottom = 28, 26 + 112 * 4
    for plane in planes:
        width, height = plane.shape[0] * 4, plane.shape[1] * 4
        panel = pixels[bottom - height : bottom, left : left + width]
        # Seen as four by four pixels an element, rows from top to bottom.
        seen = panel.reshape(plane.shape[1], 4, plane.shape[0], 4).mean(axis=(1, 3))
        upright = plane.T[::-1].astype(float) ** 1.6
        assert np.corrcoef(seen.ravel(), upright.ravel())[0, 1] > 0.97
        assert np.corrcoef(seen[::-1].ravel(), upright.ravel())[0, 1] < 0.9
        left += width + 28


def test_a_wrong_byte_does_not_go_unnoticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = demo.load_volume()

    def write(_: object, store: zarrdock.Store) -> zarrdock.Array:
        wrong = volume.copy()
        wrong[demo.X, demo.Y, demo.Z] += 1
        return zarrdock.create_array(store, data=wrong, chunks=demo.CHUNKS, shards=demo.SHARDS)

    monkeypatch.setattr(demo, "_write", write)
    assert run(["demo", str(tmp_path), "--no-s3"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: values read differ")
    assert "NO" in captured.out


@pytest.mark.server
def test_the_demo_over_s3(tmp_path: Path) -> None:
    pytest.importorskip("moto")
    done = call(tmp_path / "demo", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    over_s3 = done.stdout.split("S3, served by moto")[1]
    rows = [line for line in over_s3.splitlines() if " cold " in line or " hot " in line]
    assert len(rows) == 8
    for row in rows:
        (planned, seen) = re.search(r"\d+ / (\d+) / [\d.]+ \S*B +\d+ / \d+ / [\d.]+ \S*B +(\d+) ", row).groups()  # type: ignore[union-attr]
        assert planned == seen, "the server saw as many requests as the plan had said"


def test_without_the_libraries_s3_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert run(["demo", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "S3 is left out: " in text
    assert 'pip install "zarrdock[s3]" "moto[server]"' in text


def test_the_tables_fit_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto.server")
    monkeypatch.setattr(demo, "_REPEATS", 1)
    assert run(["demo", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if " cold " in line or " hot " in line or line.startswith(("selection", "─"))]
    assert len(rows) == 3 * 10
    assert [line for line in rows if len(line) > 80 or "…" in line] == []
    assert "\n\n\n" not in "\n".join(lines)


def test_the_demo_at_any_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", str(tmp_path / "here"), "--no-s3", "--at", "memory://demo-at/brain.zarr"]) == 0
    text = capsys.readouterr().out
    assert "memory:///demo-at/brain.zarr: rounds / requests / bytes" in text
    assert text.count("yes") == 24
    np.testing.assert_array_equal(zarrdock.open_array("memory://demo-at/brain.zarr")[...], demo.load_volume())
    assert run(["demo", str(tmp_path / "here"), "--no-s3", "--at", "memory://demo-at/brain.zarr"]) == 1
    assert "overwrite" in capsys.readouterr().err
    assert run(["demo", str(tmp_path / "here"), "--no-s3", "--storage-option", "a=1"]) == 1
