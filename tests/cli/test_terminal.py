"""The command line on a terminal: completion, suggestions, widths, encodings, patience, interruptions, pipes."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.app import _COMMANDS
from zarrdock.cli.main import _interrupted, run

MAIN = "import sys; from zarrdock.cli.main import main; main()"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a hierarchy and files of other kinds."""
    group = zarrdock.create_group(tmp_path / "tree.zarr")
    group.create_array("volume", data=np.zeros((40, 60, 20)), chunks=(10, 10, 10), shards=(20, 20, 20))
    group.create_array("inner/deep", data=np.arange(3))
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "numbers.npy", np.arange(3))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    words = line.split(" ")
    monkeypatch.setenv("_ZARRDOCK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert run([]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zarrdock re", ["plain,relayout"]),
        ("zarrdock copy --compr", ["plain,--compressor"]),
        ("zarrdock copy a b --compressor zs", ["plain,zstd"]),
        ("zarrdock copy a b --order mor", ["plain,morton"]),
        ("zarrdock info s3", ["file,s3", "plain,s3://"]),
        ("zarrdock info tr", ["file,tr"]),
        ("zarrdock info s3://bucket/", []),
        ("zarrdock info a.zip|zi", ["plain,a.zip|zip:"]),
        ("zarrdock info tree.zarr --path ", ["plain,inner/", "plain,volume"]),
        ("zarrdock info tree.zarr --path inner/d", ["plain,inner/deep"]),
        ("zarrdock copy tree.zarr out.zarr --src-path v", ["plain,volume"]),
        ("zarrdock info s3://bucket/x --path ", []),
        ("zarrdock info nosuch --path ", []),
    ],
)
@pytest.mark.usefixtures("place")
def test_completion(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    assert completed(capfd, monkeypatch, line) == expected


def test_all_commands_and_shells_complete(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(completed(capfd, monkeypatch, "zarrdock ")) == {f"plain,{name}" for name in _COMMANDS}
    for command in _COMMANDS:
        assert "plain,--help" in completed(capfd, monkeypatch, f"zarrdock {command} --")
    for shell in ("bash", "zsh", "fish"):
        environment = {**os.environ, "_ZARRDOCK_COMPLETE": f"{shell}_source"}
        done = subprocess.run([sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True, check=True)
        assert "_ZARRDOCK_COMPLETE=" in done.stdout
        assert "Usage" not in done.stdout


def test_the_list_of_commands_has_a_sentence_for_each() -> None:
    from zarrdock.cli.app import app, click

    context = click.Context(app)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        said = str(command.short_help)
        assert said.endswith(".")
        assert not re.search(r"\. [A-Z]|--", said), f"{name}: {said}"
        assert len(said) < 210


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inof", "x"], "did you mean info?"),
        (["tree.zarr"], "say zarrdock info tree.zarr"),
        (["quux"], "one of info, ls,"),
        (["info", "--pth", "x", "tree.zarr"], "Did you mean '--path'"),
        (["copy", "tree.zarr", "b", "--compressor", "zstandard"], "did you mean zstd?"),
        (["copy", "tree.zarr", "b", "--compressor", "quux"], "known are zstd, blosc, gzip"),
        (["copy", "tree.zarr", "b", "--compressor", "bosc:lz4"], "did you mean blosc?"),
        (["copy", "tree.zarr", "b", "--missing", "error"], "is not stored: --missing fill reads the fill value"),
        (["tree", "."], "in it are tree.zarr"),
        (["plan", "nowhere.zarr", "0"], "nowhere.zarr does not exist"),
        (["info", "tre.zarr"], "did you mean tree.zarr"),
        (["info", "file:tre.zarr"], "did you mean tree.zarr"),
        (["check", "tre.zarr"], "did you mean tree.zarr"),
        (["copy", "tre.zarr", "copy.zarr"], "did you mean tree.zarr"),
        (["ls", "tre.zarr"], "did you mean tree.zarr"),
        (["info", "tree.dat|zp:"], "did you mean zip:?"),
        (["info", "tree.zarr", "--path", "volum"], "did you mean volume?"),
        (["info", "notes.txt"], "of no kind that can be read as Zarr (HDF5, netCDF, .npy, .npz, TIFF, zip)"),
        (["check", "numbers.npy"], "numbers.npy NAME.zarr"),
        (["info", "tree.dat"], "tree.dat|zip:"),
        (["info", "https://[::1"], "not a URL of https"),
        (["info", "http://127.0.0.1:99999/x"], "not a URL of http"),
        (["info", "S3://bucket/x"], "did you mean s3://?"),
        (["info", "htps://host/x"], "did you mean https://?"),
        (["info", "webdav://x"], "storage_options lack 'base_url'"),
        (["info", "ftp://"], "write ftp://host/path"),
        (["info", "~nosuchuser/x"], "does not exist"),
        (["info", "nosuch|icechunk:"], "repository doesn't exist"),
        (["info", "tree.zarr", "--retry-seconds", "0"], "--retry-seconds"),
        (["info", "tree.zarr", "--missing-statuses", "x"], "write HTTP statuses with commas"),
        (["layout", "tree.zarr/volume", "--chunks", "0,0,0"], "lengths above 0"),
        (["layout", "tree.zarr/volume", "--rtt-ms", "nan"], "--rtt-ms"),
        (["layout", "tree.zarr/volume", "--seed", "-1"], "--seed"),
        (["layout", "tree.zarr/volume", "--access", "tree.dat"], "is no text"),
        (["layout", "tree.zarr/volume", "--access", "plains"], "boxes, planes, lines"),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_are_told_with_what_to_do(capfd: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with zarrdock.ZipStore("tree.dat") as store:
        zarrdock.create_array(store, data=np.zeros(4096))
    if any("icechunk" in argument for argument in arguments):
        pytest.importorskip("icechunk")
    assert run(arguments) in (1, 2)
    captured = capfd.readouterr()
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert words in line
    assert "should not happen" not in captured.err
    assert run([*arguments, "--json"]) in (1, 2)
    found = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert words in found["error"]
    assert found["type"].endswith(("Error", "Parameter", "Option"))


@pytest.mark.parametrize(
    ("url", "words"), [("numbers.npy", "numbers.npy NAME.zarr"), ("nowhere.zarr", "nowhere.zarr does not exist")]
)
@pytest.mark.usefixtures("place")
def test_nothing_is_served_that_is_no_store(capfd: pytest.CaptureFixture[str], url: str, words: str) -> None:
    assert run(["serve", url]) == 1
    assert words in capfd.readouterr().err


def test_a_scalar_has_a_layout(tmp_path: Path) -> None:
    array = zarrdock.create_array(tmp_path / "s.zarr", data=np.float32(1))
    assert zarrdock.tools.survey(array.store, "", array.metadata).n_objects == 1


# -- widths and encodings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80])
@pytest.mark.usefixtures("place")
def test_tables_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (
        ["info", "tree.zarr/volume"],
        ["ls", "-l", "tree.zarr"],
        ["layout", "tree.zarr/volume", "--reads", "2"],
    ):
        assert run(arguments) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        lines += [] if arguments[0] == "info" else [first]  # a URL is not broken
        assert max(map(len, lines)) <= columns
    monkeypatch.delenv("COLUMNS")
    assert run(["layout", "tree.zarr/volume", "--reads", "2"]) == 0
    titles = {"requests", "rounds", "decoded"}
    assert any(titles <= {*line.split()} for line in capsys.readouterr().out.splitlines())


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], env={**os.environ, **environment}, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
)
@pytest.mark.usefixtures("place")
def test_signs_become_ascii_together(environment: dict[str, str]) -> None:
    told = command("info", "tree.zarr/volume", **environment).stdout.decode("ascii")
    assert "40 x 60 x 20" in told
    assert "?" not in told
    tree = command("tree", "tree.zarr", **environment).stdout.decode("ascii")
    assert "-- volume" in tree
    assert "?" not in tree
    helped = command("--help", **environment).stdout.decode("ascii")
    assert "+- Options -" in helped
    assert "?" not in helped


# -- patience ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.zarr"


def on_terminal(arguments: list[str], *, seconds: float = 90, interrupt_at: str = "") -> tuple[int, str]:
    """Exit status, and what is on standard error, which is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", MAIN, *arguments], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    text, deadline = b"", time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            text += data
            if interrupt_at and interrupt_at.encode() in text:
                process.send_signal(signal.SIGINT)
                interrupt_at = ""
        process.communicate(timeout=seconds)
    finally:
        process.kill()
        os.close(ours)
    return process.returncode, text.decode()


@pytest.mark.server
def test_impatient_people_are_told_and_heard(silent: str) -> None:
    status, text = on_terminal(["info", silent, "--retry-seconds", "4"])
    assert status == 1
    assert f"still waiting for {silent}" in text
    assert "--retry-seconds" in text
    assert text.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.server
def test_an_interruption_says_whether_one_can_go_on(silent: str, tmp_path: Path) -> None:
    status, text = on_terminal(["copy", silent, str(tmp_path / "x.zarr")], interrupt_at="still waiting")
    assert status == 130
    assert text.strip().splitlines()[-1].rpartition("\x1b[2K")[2] == "interrupted: run the same command again to go on"
    status, text = on_terminal(["info", silent], interrupt_at="still waiting")
    assert status == 130
    assert text.strip().splitlines()[-1] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["copy", "a", "b"], True),
        (["relayout", "a"], True),
        (["--debug", "copy", "a", "b"], True),
        (["copy", "a", "b", "--overwrite"], False),
        (["copy", "a", "b", "--no-resume"], False),
        (["copy", "a", "b.ozx"], False),
        (["relayout", "a", "--dry-run"], False),
        (["check", "a"], False),
    ],
)
def test_only_where_it_is_true(arguments: list[str], goes_on: bool) -> None:
    assert ("again" in _interrupted(arguments)) is goes_on


@pytest.mark.server
def test_other_statuses_mean_missing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import http.server
    import threading

    zarrdock.create_array(tmp_path / "a.zarr", data=np.arange(8), chunks=2, fill_value=5)
    (tmp_path / "a.zarr" / "c" / "1").unlink()

    class Refusing(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def send_error(self, code: int, *_: Any, **__: Any) -> None:
            super().send_error(403 if code == 404 else code)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.zarr"
        refused = run(["copy", url, str(tmp_path / "b.zarr"), "-q", "--compressor", "none"])
        assert (refused, "403" in capfd.readouterr().err) == (1, True)
        arguments = ["copy", url, str(tmp_path / "c.zarr"), "-q", "--compressor", "none", "--missing-statuses", "403"]
        assert run(arguments) == 0
        server.shutdown()
    assert zarrdock.open_array(tmp_path / "c.zarr")[:].tolist() == [0, 1, 5, 5, 4, 5, 6, 7]
    # What one command was told is forgotten after it.
    assert zarrdock.open_store("http://127.0.0.1:1/x").missing_statuses != (403,)  # type: ignore[attr-defined]


def test_closed_pipes_are_silent(tmp_path: Path) -> None:
    group = zarrdock.create_group(tmp_path / "many.zarr")
    for number in range(40):
        group.create_group(f"{'name' * 20}{number}")
    line = f"{sys.executable} -c '{MAIN}' {{}} {tmp_path / 'many.zarr'} | head -1"
    for name in ("ls", "tree", "info", "ls --json"):
        done = subprocess.run(line.format(name), shell=True, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
