"""Every mistake of a user, and all damage to data, is one line on standard error, and the right exit status."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.cli.main import run
from zarrdock.codecs.crc32c_ import crc32c

DATA = np.random.default_rng(0).integers(0, 1000, (40, 40)).astype("uint16")
MAIN = "import sys; from zarrdock.cli.main import main; main()"


@pytest.fixture
def array(tmp_path: Path) -> Path:
    zarrdock.create_array(tmp_path / "a.zarr", data=DATA, chunks=(10, 10), shards=(20, 20))
    return tmp_path / "a.zarr"


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """The one line on standard error."""
    assert run([str(a) for a in arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "should not happen" not in captured.err
    return captured.err


# -- damage -----------------------------------------------------------------------------------------------------------


def cut(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:n])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def absurd(path: Path) -> None:
    """An index with a good checksum that claims a chunk of 2^62 bytes."""

    data = bytearray(path.read_bytes())
    data[-68 + 8 : -68 + 16] = (2**62).to_bytes(8, "little")
    data[-4:] = crc32c(bytes(data[-68:-4])).to_bytes(4, "little")
    path.write_bytes(data)


SHARD_DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda path: cut(path, path.stat().st_size - 7),
    "truncated before its index": lambda path: cut(path, 20),
    "emptied": lambda path: cut(path, 0),
    "bits of the index flipped": lambda path: flip(path, -20),
    "bits of the checksum flipped": lambda path: flip(path, -1),
    "bits of a chunk's header flipped": lambda path: flip(path, 0),
    "an absurd size in the index": absurd,
}


@pytest.mark.parametrize("damage", SHARD_DAMAGE)
def test_a_damaged_shard(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    SHARD_DAMAGE[damage](array / "c" / "0" / "1")
    # Reading it, here by a copy that has to decode, names the key.
    assert "'c/0/1'" in fails(capsys, "copy", array, tmp_path / "b.zarr", "--compressor", "gzip")
    assert run(["check", str(array)]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert all(line.startswith("error: ") and "c/0/1" in line for line in lines[:-1])
    assert lines[-1].startswith(f"{len(lines) - 1} error")
    run(["check", str(array), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["is_good"] is False
    assert {problem["key"] for problem in report["problems"]} == {"c/0/1"}
    # Metadata can still be shown.
    assert run(["info", str(array)]) == 0


def test_a_damaged_chunk_is_named(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(array / "c" / "1" / "0", 0)
    assert run(["check", str(array), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["key"], problem["chunk"]) == ("c/1/0", [2, 0])
    assert "(2, 0)" in problem["message"]


DOCUMENTS: dict[str, bytes] = {
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "empty": b"",
    "no object": b"[1]",
    "no Zarr": b'{"name": "package", "version": 1}',
    "a wrong version": b'{"zarr_format": 99, "node_type": "array"}',
    "a wrong node type": b'{"zarr_format": 3, "node_type": "banana"}',
    "nested too deeply": b"[" * 100_000,
}
MEMBERS: dict[str, Any] = {
    "shape": "large",
    "data_type": "float99",
    "chunk_grid": [],
    "codecs": {},
    "fill_value": "three",
    "attributes": 7,
    "chunk_key_encoding": None,
    "dimension_names": ["only one"],
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("command", ["info", "tree", "ls", "plan", "copy"])
def test_a_document_that_is_none(array: Path, capsys: pytest.CaptureFixture[str], document: str, command: str) -> None:
    (array / "zarr.json").write_bytes(DOCUMENTS[document])
    more = {"plan": ["0"], "copy": [array.parent / "b.zarr"]}.get(command, [])
    assert "zarr.json" in fails(capsys, command, array, *more)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_of_the_wrong_type(array: Path, capsys: pytest.CaptureFixture[str], member: str) -> None:
    path = array / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {member: MEMBERS[member]}))
    text = fails(capsys, "plan", array, "0")
    assert f"/{member}" in text
    assert run(["check", str(array)]) == 1
    assert capsys.readouterr().out.startswith("error: ")


def test_absurd_shapes_allocate_nothing(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = array / "zarr.json"
    document = json.loads(path.read_text())
    document["shape"] = [2**62, 2**62]
    path.write_text(json.dumps(document))
    assert run(["info", str(array)]) == 0
    assert run(["check", str(array)]) == 0
    assert run(["copy", str(array), str(array.parent / "b.zarr")]) == 0


def test_an_unknown_codec(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = array / "zarr.json"
    document = json.loads(path.read_text())
    document["codecs"].append({"name": "example.mystery"})
    path.write_text(json.dumps(document))
    assert "example.mystery" in fails(capsys, "plan", array, "0")
    assert "example.mystery" in fails(capsys, "copy", array, array.parent / "b.zarr", "--chunks", "5")
    assert run(["check", str(array)]) == 1
    assert "example.mystery" in capsys.readouterr().out


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["info"], ["ls"], ["tree"], ["check"], ["plan", "0"], ["copy", "b"]])
def test_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    name, *more = command
    more = [str(tmp_path / "b")] if more == ["b"] else more
    assert "does not exist" in fails(capsys, name, tmp_path / "nothing.zarr", *more)
    (tmp_path / "empty").mkdir()
    assert "there is no array or group" in fails(capsys, name, tmp_path / "empty", *more)
    (tmp_path / "file").write_text("hello")
    assert "is a file, not a folder" in fails(capsys, name, tmp_path / "file", *more)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["empty", "file"]


def test_a_plan_of_a_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_group(tmp_path / "g")
    assert "a plan is for an array" in fails(capsys, "plan", tmp_path / "g", "0")


def test_a_selection_outside(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "40" in fails(capsys, "plan", array, "40")
    assert "3 were indexed" in fails(capsys, "plan", array, "0,0,0")


def test_a_file_where_a_folder_should_be(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("a file")
    fails(capsys, "copy", array, tmp_path / "taken")
    fails(capsys, "copy", array, tmp_path / "taken" / "below")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_where_a_file_should_be(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (array / "c" / "0" / "1").unlink()
    (array / "c" / "0" / "1").mkdir()
    run(["check", str(array)])
    assert "Traceback" not in capsys.readouterr().err


def test_a_destination_that_is_taken(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrdock.create_array(tmp_path / "b.zarr", data=DATA)
    assert "--overwrite replaces it" in fails(capsys, "copy", array, tmp_path / "b.zarr")
    assert "overlap" in fails(capsys, "copy", array, array, "--overwrite")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    assert "no Zarr" in fails(capsys, "copy", array, tmp_path / "home", "--overwrite")


def test_an_unknown_protocol_and_wrong_options(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nonsense" in fails(capsys, "info", "nonsense://bucket/a")
    assert "storage_options" in fails(capsys, "info", array, "--storage-option", "anon=true")


@pytest.fixture
def unprivileged() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a user whom permissions hold back, which they don't do to root."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = MAIN
        if os.getuid() == 0:
            # All that is needed is imported first: the packages may be where only root may look.
            code = (
                "import locale, os, sys; from zarrdock.cli.main import main; "
                "import zarrdock.cli.app, zarrdock.cli.copy_, zarrdock.cli.info, zarrdock.cli.check, rich.progress, "
                "rich.live, numcodecs, pathlib, importlib, zarrdock.array as a, zarrdock.codecs as c; "
                "[importlib.import_module('.'.join((p.__name__, *m.relative_to(f).with_suffix('').parts))) "
                "for p in (a, c) for f in map(pathlib.Path, p.__path__) for m in f.rglob('*.py')]; "
                "os.setuid(65534); main()"
            )
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
        )

    return call


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user can reach."""
    folder = tmp_path_factory.mktemp("open")
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to(tmp_path_factory.getbasetemp().parent):
            parent.chmod(0o755)
    return folder


def test_a_folder_that_may_not_be_written(
    open_folder: Path, unprivileged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    np.save(open_folder / "x.npy", DATA)
    (open_folder / "x.npy").chmod(0o644)
    locked = open_folder / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        done = unprivileged("copy", open_folder / "x.npy", locked / "x.zarr")
    finally:
        locked.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "denied" in done.stderr.lower()


def test_a_folder_that_may_not_be_read(
    open_folder: Path, unprivileged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    zarrdock.create_array(open_folder / "a.zarr", data=DATA)
    (open_folder / "a.zarr").chmod(0)
    try:
        done = unprivileged("info", open_folder / "a.zarr")
    finally:
        (open_folder / "a.zarr").chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert "denied" in done.stderr.lower(), "never taken for missing"
    assert done.stderr.count("\n") == 1


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["sing"],
        ["info"],
        ["info", "a", "b"],
        ["info", "a", "--nonsense"],
        ["info", "a", "--storage-option", "anon"],
        ["plan", "a"],
        ["plan", "a", "x"],
        ["plan", "a", "0", "--jsonn"],
        ["copy", "a"],
        ["copy", "a", "b", "--chunks", "x"],
        ["copy", "a", "b", "--order", "random"],
        ["copy", "a", "b", "--zarr-format", "4"],
        ["copy", "a", "b", "--memory", "lots"],
        ["copy", "a", "b", "--shards", "auto", "--shards", "3"],
        ["copy", "a", "b", "--compressor", "none", "--compressor", "zstd"],
        ["tree", "a", "--depth", "-1"],
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    fails(capsys, *arguments, status=2)


def test_a_traceback_only_where_it_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["info", str(tmp_path / "x"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ZARRDOCK_DEBUG", "1")
    assert run(["info", str(tmp_path / "x")]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ZARRDOCK_DEBUG", "0")
    fails(capsys, "info", tmp_path / "x")


def test_what_should_not_happen_is_one_line_too(
    array: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import zarrdock.cli.info as info

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(info, "find", broken)
    assert run(["info", str(array)]) == 1
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: oh no (this should not happen; --debug shows where it did)\n"
    )


def test_interrupted(array: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import zarrdock.cli.info as info

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "find", interrupt)
    assert run(["info", str(array)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


# -- as a process -----------------------------------------------------------------------------------------------------


def command(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **settings,
    )


def test_the_process_has_the_exit_status(array: Path, tmp_path: Path) -> None:
    done = command("info", array)
    assert (done.returncode, done.stderr) == (0, "")
    done = command("check", array)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("good: 0 groups, 1 array, 4 objects, 16 chunks")
    flip(array / "c" / "0" / "0", -3)
    assert command("check", array).returncode == 1
    done = command("info", tmp_path / "nothing")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert command("sing").returncode == 2
    assert command().returncode == 2


def test_whoever_reads_the_output_may_go_away(tmp_path: Path) -> None:
    root = zarrdock.create_group(tmp_path / "g")
    for i in range(30):
        root.create_group(f"member-with-a-long-name-{i:03}" + "x" * 150)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "ls", str(tmp_path / "g"), "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c_ends_a_copy_that_can_be_completed(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 1000, (64, 64, 64)).astype("uint16")
    zarrdock.create_array(tmp_path / "a", data=data, chunks=(2, 64, 64))
    code = (
        "import os, signal, sys, zarrdock.copying.transfer as t; from zarrdock.cli.main import main\n"
        "write = t._Mover._write\n"
        "def slow(*a):\n"
        "    n = write(*a)\n"
        "    t._Mover._write = write\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return n\n"
        # Whoever started the tests in the background of a shell has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "t._Mover._write = slow; main()"
    )
    settings = ["--chunks", "8", "--shards", "16", "--memory", "64K"]
    arguments = ["copy", str(tmp_path / "a"), str(tmp_path / "b"), *settings]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    said = "interrupted: run the same command again to go on\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "kept from an earlier attempt" in done.stdout
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "b")[...], data)


def test_a_killed_copy_is_completed_by_the_same_command(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 1000, (64, 64, 64)).astype("uint16")
    np.save(tmp_path / "a.npy", data)
    arguments = ["copy", str(tmp_path / "a.npy"), str(tmp_path / "b"), "--chunks", "8", "--shards", "16"]
    process = subprocess.Popen([sys.executable, "-c", MAIN, *arguments, "--memory", "32K", "-q"])
    while process.poll() is None and len(list((tmp_path / "b").glob("c/*/*/*"))) < 3:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = command(*arguments)
    # It may have been quicker than the signal.
    assert done.returncode == 0 or process.returncode == 0, done.stderr
    np.testing.assert_array_equal(zarrdock.open_array(tmp_path / "b")[...], data)


def test_without_the_extra_it_says_what_to_install(array: Path) -> None:
    code = "import sys; sys.modules['click'] = None; " + MAIN
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(array)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "zarrdock[cli]"' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["rich", "PIL", "s3fs", "moto", "numcodecs.zfpy", "zarr"])
def test_info_imports_nothing_it_does_not_need(array: Path, name: str) -> None:
    code = f"import sys; from zarrdock.cli.main import run; run(sys.argv[1:]); print({name!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", str(array)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("size", ["0", "0M", "12Q", "-1", "1.5G"])
def test_a_size_that_is_none(array: Path, tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["copy", str(array), str(tmp_path / "b.zarr"), "--memory", size]) == 2
    assert "is no size" in capsys.readouterr().err
    assert not (tmp_path / "b.zarr").exists()


@pytest.mark.parametrize(
    "options, said",
    [
        ("--chunks 33 --shards 100", "error: --shards: chunks must divide shards evenly; expected a multiple of"),
        ("--shards 15", "error: --shards: the source's chunks do not divide these shards: "),
        ("--chunks 0", "error: --chunks: expected "),
        ("--compressor zstd:99", "error: --compressor (/configuration/level): expected "),
        ("--zarr-format 2 --shards 20", "--shards none, or --zarr-format 3"),
    ],
)
def test_messages_name_the_options_that_were_typed(
    array: Path, capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    assert said in fails(capsys, "copy", array, array.parent / "b.zarr", *options.split())


def test_names_of_options_inside_paths_stay(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a?path=3" in fails(capsys, "info", array.parent / "a?path=3")
