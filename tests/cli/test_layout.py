"""``zarrdock layout``: what it says of an array, what it predicts, and what it recommends."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run

VALUES = np.arange(1, 64 * 64 * 32 + 1, dtype="u2").reshape(64, 64, 32)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    settings: dict[str, Any] = {"chunks": (8, 8, 8), "shards": (32, 32, 32), "compressors": None}
    zarrdock.create_array(tmp_path / "a.zarr", data=VALUES, dimension_names=("z", "y", "x"), **settings)
    return tmp_path / "a.zarr"


def out(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    assert run([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert (captured.err == "") == (status == 0)
    return captured.out + captured.err


def out_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(out(capsys, *arguments, "--json"))


def test_a_table(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--reads", 5, "--box", "16", "--order", "hilbert", "--gap", 0, "--plot", tmp_path / "p.svg"]
    text = out(capsys, "layout", array, "--shards", "32,32,32", *arguments)
    lines = text.splitlines()
    assert lines[0].startswith("4 objects: 256 KiB in chunks, 4.02 KiB in indexes, 0 B garbage")
    assert all(name in lines[1] for name in ("boxes 16×16×16", "planes at z", "planes at x"))
    assert lines[3].lstrip("* ").startswith("as stored, 32×32×32, 8×8×8, gap 0 B")
    assert lines[4].lstrip("* ").startswith("hilbert, 32×32×32, 8×8×8, gap 0 B")
    assert sum(line.startswith("* ") for line in lines[3:5]) == 1
    assert (tmp_path / "p.svg").read_text().startswith("<svg ")


def test_what_is_foretold_happens(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.txt"
    selections = ["0:16, 3, ...", "40:50, 8:30, ::2", "-1"]
    log.write_text("\n".join(selections))
    facts = out_json(
        capsys, "layout", array, "--access", log, "--order", "morton", "--shards", "32,32,32", "--gap", "100"
    )
    assert facts["access"] == [{"name": "log.txt", "n_reads": 3}]
    by_order = {layout["order"]: layout["total"] for layout in facts["layouts"]}
    for order in ("as stored", "morton"):
        if order != "as stored":
            out(capsys, "relayout", array, "--order", order)
        store = zarrdock.RecordingStore(zarrdock.open_store(array, merge_gap_bytes=100))
        reader = zarrdock.open_array(store)
        store.reset()
        for selection in (np.s_[0:16, 3, ...], np.s_[40:50, 8:30, ::2], np.s_[-1]):
            reader.read(selection)
        foretold = by_order[order]
        assert (foretold["n_rounds"], foretold["n_requests"], foretold["nbytes"]) == (
            store.n_rounds,
            store.n_requests,
            store.nbytes,
        )


def test_the_recommendation_is_a_command(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out(capsys, "relayout", array, "--order", "colexicographic")
    arguments = ["--access", "lines", "--reads", 10, "--gap", 0, "--on", "s3", "--by", "requests"]
    text = out(capsys, "layout", array, *arguments, "--shards", "64,64,32", "--order", "hilbert").splitlines()[-1]
    assert text.startswith("* least requests")
    assert "chunks copied, not decoded" in text
    command = text.partition(": zarrdock ")[2].partition(", then")[0].replace("DST", str(tmp_path / "b.zarr"))
    out(capsys, *command.split())
    found = zarrdock.open_array(tmp_path / "b.zarr")
    assert found.shards == (64, 64, 32)
    assert np.array_equal(found[...], VALUES)
    again = out_json(capsys, "layout", tmp_path / "b.zarr", *arguments, "--order", "hilbert", "--shards", "64,64,32")
    assert again["layouts"][0]["total"] == again["layouts"][1]["total"]


def test_planes_and_lines_of_one_axis(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["layout", array, "--reads", 2, "--order", "hilbert", "--shards", "32,32,32"]
    for given, name in (
        ("y", "planes at y"),
        ("planes:x", "planes at x"),
        ("lines:z", "lines along z"),
        ("2", "planes at x"),
    ):
        facts = out_json(capsys, *arguments, "--access", given)
        assert facts["access"] == [{"name": name, "n_reads": 2}]
    assert "no axis (z, y, x)" in out(capsys, *arguments, "--access", "q", status=2)


def test_prices_name_their_currency(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["layout", array, "--on", "s3", "--access", "z", "--order", "hilbert", "--decode-mb-per-s", "100"]
    inside, outside = (out_json(capsys, *arguments, *more) for more in ([], ["--egress"]))
    for a, b in zip(inside["layouts"], outside["layouts"], strict=True):
        assert b["total"]["price"] == pytest.approx(a["total"]["price"] + 0.09 * a["total"]["nbytes"] / 1e9)
    assert inside["prices"]["currency"] == "USD"
    assert inside["prices"]["decode_bytes_per_s"] == 1e8
    text = out(capsys, *arguments, "--egress-per-gb", "0.05", "--currency", "EUR")
    assert text.splitlines()[1].endswith("EUR")
    assert "decoding at 100 MB/s, egress 0.05 EUR a GB" in text
    flat = out(capsys, *arguments, "--by", "bytes").splitlines()[-1]
    assert "all encoded anew" in flat
    assert "--chunks 1," in flat


def test_garbage_is_accounted_for(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = array / "c" / "0" / "0" / "0"
    index = 64 * 16 + 4
    data = shard.read_bytes()
    # An index that moves nothing, behind bytes that nobody uses.
    shard.write_bytes(data[:-index] + bytes(5000) + data[-index:])
    usage = out_json(capsys, "layout", array, "--reads", 1)["usage"]
    assert usage["garbage"] == 5000
    assert sum(usage.values()) == sum(path.stat().st_size for path in (array / "c").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "arguments, message, status",
    [
        (["--access", "circles"], "no pattern", 2),
        (["--box", "3,3"], "3 positive lengths", 2),
        (["--chunks", "auto"], "write shapes", 2),
        (["--shards", "64"], "write shapes", 2),
        (["--mb-per-s", "0"], "expected a number above 0", 2),
        (["--order", "zigzag"], "zigzag", 2),
        (["--access", "{empty}"], "nothing to read", 1),
        (["--access", "{outside}"], "out of bounds", 1),
        (["--access", "{wrong}"], "wrong, line 1: ", 2),
    ],
)
def test_what_can_not_be(
    array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, status: int
) -> None:
    for name, text in {"empty": "# nothing\n", "outside": "99\n", "wrong": "{}\n"}.items():
        (tmp_path / name).write_text(text)
    given = [
        argument.format(**{name: tmp_path / name for name in ("empty", "outside", "wrong")}) for argument in arguments
    ]
    text = out(capsys, "layout", array, *given, status=status)
    assert message in text
    assert text.count("\n") == 1


def test_a_group_is_no_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_group(tmp_path / "g")
    assert "name an array" in out(capsys, "layout", tmp_path / "g", status=1)
