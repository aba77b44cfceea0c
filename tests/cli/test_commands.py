"""What each command says of good input, for people and for scripts."""

import functools
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

import zarrdock
from zarrdock.cli.app import app
from zarrdock.cli.main import run
from zarrdock.cli.parse import parse_compressor, parse_memory, parse_selection, parse_shape
from zarrdock.copying.progress import MARK
from zarrdock.testing import FaultyStore, StoreFault

DATA = np.random.default_rng(0).integers(0, 1000, (40, 60, 20)).astype("uint16")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A hierarchy with a sharded array, an array of v3 without shards, and a group."""
    root = zarrdock.create_group(tmp_path / "tree.zarr", attributes={"title": "a tree", "n": [1, 2]})
    root.create_array(
        "volume",
        data=DATA,
        chunks=(10, 10, 10),
        shards=(20, 20, 20),
        attributes={"unit": "mm"},
        dimension_names=("z", "y", None),
        fill_value=3,
    )
    root.create_array("inner/plain", data=np.arange(100.0), chunks=(10,))
    return tmp_path / "tree.zarr"


def out(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    assert run([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def out_json(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    return json.loads(out(capsys, *arguments, "--json", status=status))


# -- looking ----------------------------------------------------------------------------------------------------------


def test_info_of_an_array(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "info", tree / "volume", "--stored")
    facts = dict(line.strip().split("  ", 1) for line in text.splitlines()[1:])
    facts = {key: value.strip() for key, value in facts.items()}
    assert facts["shape"] == "40 × 60 × 20"
    assert facts["data type"] == "uint16"
    assert facts["chunks"] == "10 × 10 × 10 (48 chunks)"
    assert facts["shards"] == "20 × 20 × 20 (6 shards)"
    assert facts["codecs"].endswith("zstd(level=0, checksum=True)")
    assert facts["shard index"].startswith("at the end")
    assert facts["fill value"] == "3"
    assert facts["dimensions"] == "z, y, -"
    assert facts["attributes"] == 'unit: "mm"'
    assert "in 7 objects" in facts["stored"]


def test_info_for_scripts(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = out_json(capsys, "info", tree, "--path", "volume", "--stored")
    array = zarrdock.open_array(tree / "volume")
    assert facts["shape"] == list(DATA.shape)
    assert (facts["chunks"], facts["shards"]) == ([10, 10, 10], [[20, 20, 20]])
    assert (facts["n_chunks"], facts["n_objects"], facts["n_stored"]) == (48, 6, 7)
    assert facts["nbytes"] == DATA.nbytes
    assert facts["nbytes_stored"] == array.nbytes_stored()
    assert facts["codecs"] == [codec.to_json() for codec in array.codecs]
    assert facts["attributes"] == {"unit": "mm"}
    assert facts["unknown"] == []


def test_info_of_a_group(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, "info", tree)
    assert 'title: "a tree"' in text
    assert "volume  uint16 40 × 60 × 20, chunks 10 × 10 × 10, shards 20 × 20 × 20" in text
    facts = out_json(capsys, "info", tree)
    assert facts["members"]["inner"] == {"node_type": "group"}
    assert facts["is_consolidated"] is False
    assert facts["attributes"] == {"title": "a tree", "n": [1, 2]}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("codecs", [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "example.mystery"}]),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "conditional", "configuration": {"codecs": ["example.mystery"]}}]),
        ("data_type", {"name": "example.mystery"}),
        ("chunk_grid", {"name": "example.mystery", "configuration": {"wild": True}}),
        ("chunk_key_encoding", {"name": "example.mystery"}),
        ("storage_transformers", [{"name": "example.mystery"}]),
    ],
)  # fmt: skip
def test_info_of_what_nobody_here_understands(
    tree: Path, capsys: pytest.CaptureFixture[str], member: str, value: Any
) -> None:
    path = tree / "volume" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {member: value}))
    assert "example.mystery" in out(capsys, "info", tree / "volume")
    facts = out_json(capsys, "info", tree / "volume")
    assert [item["name"] for item in facts["unknown"]] == ["example.mystery"]
    assert facts["shape"] == list(DATA.shape)
    with pytest.raises(zarrdock.ZarrdockError, match=r"zarr\.json.*example\.mystery.*; ") as caught:
        zarrdock.open_array(tree / "volume")
    assert member in str(caught.value)
    assert "unknown" in out(capsys, "ls", "-l", tree)
    assert "unknown" in out(capsys, "tree", tree)


@pytest.mark.parametrize("fill", ["NaN", "Infinity", "0x7ff8000000000001"])
def test_fill_values_that_json_has_no_number_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], fill: str) -> None:
    zarrdock.create_array(tmp_path / "a", shape=(2,), dtype="f8", fill_value=fill)
    assert out_json(capsys, "info", tmp_path / "a")["fill_value"] == fill


def test_ls(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "ls", tree).split() == ["inner/", "volume"]
    assert out(capsys, "ls", tree, "--path", "inner").split() == ["plain"]
    assert "float64 100, chunks 10" in out(capsys, "ls", "-l", tree, "--path", "inner")
    assert [item["name"] for item in out_json(capsys, "ls", tree)] == ["inner", "volume"]
    assert out(capsys, "ls", tree, "--path", "volume") == "volume\n"


def test_tree(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = out(capsys, "tree", tree).splitlines()
    assert lines[1] == "├── inner/"
    assert lines[2].startswith("│   └── plain  float64")
    assert lines[3].startswith("└── volume  uint16")
    assert len(out(capsys, "tree", tree, "--depth", "1").splitlines()) == 3
    facts = out_json(capsys, "tree", tree)
    assert facts["members"]["inner"]["members"]["plain"]["shape"] == [100]


def test_a_broken_node_does_not_hide_its_neighbours(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "inner" / "plain" / "zarr.json").write_text("{")
    text = out(capsys, "tree", tree)
    assert "plain  error: " in text
    assert "volume  uint16" in text
    assert "error" in out_json(capsys, "tree", tree)["members"]["inner"]["members"]["plain"]
    assert "error: " in out(capsys, "ls", "-l", tree, "--path", "inner")


def test_consolidated_metadata_is_enough(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.consolidate_metadata(tree)
    for path in tree.glob("*/zarr.json"):
        path.unlink()
    assert out(capsys, "ls", tree).split() == ["inner/", "volume"]
    assert "plain" in out(capsys, "tree", tree)


def test_a_group_on_the_web(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = functools.partial(QuietHandler, directory=tree)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            assert "unknown: this store cannot list" in out(capsys, "info", url)
            assert out_json(capsys, "info", url)["members"] is None
            assert run(["ls", url]) == 1
            assert "no listing" in capsys.readouterr().err
            zarrdock.consolidate_metadata(tree)
            assert "volume  uint16" in out(capsys, "info", url)
            assert out(capsys, "ls", url).split() == ["inner/", "volume"]
        finally:
            server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


# -- plan -------------------------------------------------------------------------------------------------------------


def test_a_plan_says_what_a_read_does(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = zarrdock.RecordingStore(zarrdock.LocalStore(tree / "volume"))
    array = zarrdock.open_array(recorder, zarr_format=3)
    recorder.reset()
    array[0:15, 3, ::2]
    facts = out_json(capsys, "plan", tree / "volume", "0:15, 3, ::2")
    happened = (recorder.n_rounds, recorder.n_requests, recorder.nbytes)
    assert (facts["n_rounds"], facts["n_requests"], facts["nbytes"]) == happened
    assert facts["shape"] == [15, 10]
    assert sum(item["nbytes"] for item in facts["rounds"]) == recorder.nbytes
    assert out(capsys, "plan", tree / "volume", "0:15, 3, ::2").startswith("2 rounds, ")
    assert out(capsys, "plan", tree / "volume", "-1").startswith("2 rounds, ")


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("0:64, 3, ...", np.s_[0:64, 3, ...]),
        ("::-2", np.s_[::-2]),
        ("-1", np.s_[-1,]),
        ("[1,5, 9], :", ([1, 5, 9], slice(None))),
        ("[2:3, 4]", np.s_[2:3, 4]),
        ("", ()),
        ("3,", (3,)),
        ("[]", ([],)),
        (" : , +1 ", np.s_[:, 1]),
    ],
)
def test_selections(text: str, selection: Any) -> None:
    expected = selection if isinstance(selection, tuple) else (selection,)
    found = [item.tolist() if isinstance(item, np.ndarray) else item for item in parse_selection(text)]
    assert found == list(expected)


@pytest.mark.parametrize("text", ["a", "1:2:3:4", "[1", "1]", "[[1]]", "1.5", "::0", "1,,2", "__import__('os')", "0x1"])
def test_no_selections(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_selection(text)


# -- copy -------------------------------------------------------------------------------------------------------------


def test_copy_an_npy_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", DATA)
    settings = ["--chunks", "8,8,8", "--shards", "16,32,16", "--compressor", "gzip:1", "--order", "hilbert"]
    text = out(capsys, "copy", tmp_path / "x.npy", tmp_path / "x.zarr", *settings)
    assert text.startswith("40 × 60 × 20 uint16, ")
    array = zarrdock.open_array(tmp_path / "x.zarr")
    assert (array.chunks, array.shards) == ((8, 8, 8), (16, 32, 16))
    assert [codec.name for codec in array.compressors] == ["gzip"]
    np.testing.assert_array_equal(array[...], DATA)


def test_copy_a_hierarchy_for_scripts(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = out_json(capsys, "copy", tree, tmp_path / "copy.zarr", "--zarr-format", "2", "--compressor", "blosc:zstd:3")
    assert facts["nbytes"] == DATA.nbytes + 800
    copied = zarrdock.open_group(tmp_path / "copy.zarr")
    assert copied.zarr_format == 2
    np.testing.assert_array_equal(copied["volume"][...], DATA)
    assert out(capsys, "copy", "-q", tree, tmp_path / "again.zarr") == ""


def test_copy_completes_what_is_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", DATA)
    arguments = ["copy", str(tmp_path / "x.npy"), str(tmp_path / "x.zarr"), "--chunks", "10", "--shards", "20"]
    assert run(arguments) == 0
    # As a kill before the last step would leave it.
    store = zarrdock.LocalStore(tmp_path / "x.zarr")
    stop = StoreFault("write", error=zarrdock.errors.StoreError("stop"), after=4, count=None)
    stopping = FaultyStore(zarrdock.LocalStore(tmp_path / "y.zarr"), [stop])
    with pytest.raises(zarrdock.errors.StoreError, match="stop"):
        zarrdock.copy(tmp_path / "x.npy", stopping, chunks=10, shards=20)
    assert store.get(MARK) is None
    arguments[2] = str(tmp_path / "y.zarr")
    capsys.readouterr()
    assert run(["info", arguments[2]]) == 1
    assert "unfinished copy" in capsys.readouterr().err
    assert run([*arguments, "--no-resume"]) == 1
    assert "--resume" in capsys.readouterr().err
    assert run(arguments) == 0
    assert "3 objects kept from an earlier attempt" in capsys.readouterr().out
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "y.zarr")[...], DATA)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", None),
        ("keep", "keep"),
        ("zstd:3", {"name": "zstd", "configuration": {"level": 3}}),
        ("zstd", {"name": "zstd"}),
        ("gzip", {"name": "gzip", "configuration": {"level": 5}}),
        ("crc32c", {"name": "crc32c"}),
        ("blosc", zarrdock.Blosc()),
        ("blosc:zstd:7:bitshuffle", zarrdock.Blosc("zstd", 7, "bitshuffle")),
        ('{"id": "zlib", "level": 2}', {"id": "zlib", "level": 2}),
    ],
)
def test_compressors(text: str, value: Any) -> None:
    assert parse_compressor(text) == value


@pytest.mark.parametrize("text", ["", "zstd:fast", "zstd:1:2", "blosc:lz4:5:shuffled", "blosc:lz4:5:shuffle:1", "{"])
def test_no_compressors(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_compressor(text)


def test_shapes_and_sizes() -> None:
    assert parse_shape("32, 32,8") == (32, 32, 8)
    assert parse_shape("(4,)") == (4,)
    assert (parse_shape("64"), parse_shape("auto"), parse_shape("none")) == (64, "auto", None)
    assert (parse_memory("512M"), parse_memory("2 GiB"), parse_memory("77")) == (2**29, 2**31, 77)
    for text in ("3,-1", "a", "1.5", ""):
        with pytest.raises(click.BadParameter):
            parse_shape(text)
    for text in ("lots", "1.5G", "-1", ""):
        with pytest.raises(click.BadParameter):
            parse_memory(text)


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "ls", "tree", "copy", "plan", "check", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.output
    assert result.output.count("--") > 2


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "--version") == f"zarrdock {zarrdock.__version__}\n"
    assert "check" in out(capsys, "--help")


def test_as_a_module(tmp_path: Path) -> None:
    zarrdock.create_array(tmp_path / "a.zarr", shape=(3,), dtype="u1")
    command = [sys.executable, "-m", "zarrdock", "info", str(tmp_path / "a.zarr"), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["shape"] == [3]
