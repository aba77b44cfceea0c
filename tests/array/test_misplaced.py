"""Chunks that lie under the other separator read as fill value: that is said, and costs ordinary reads nothing."""

import asyncio
import json
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.checking import check
from zarrdock.cli.main import run
from zarrdock.stores.wrappers import RecordingStore

V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4, 4],
    "chunks": [2, 2],
    "dtype": "<i4",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
CHUNK = np.full((2, 2), 7, "<i4").tobytes()


def stored(separator: str | None, *keys: str, **changes: Any) -> dict[str, bytes]:
    named = {} if separator is None else {"dimension_separator": separator}
    return {".zarray": json.dumps(V2 | named | changes).encode()} | dict.fromkeys(keys, CHUNK)


READS: list[Callable[[zarrdock.Array], Any]] = [
    lambda array: array[...],
    lambda array: array[0, 0],
    lambda array: array.oindex[[0, 3], [1]],
    lambda array: array.vindex[[0, 3], [1, 3]],
    lambda array: array.blocks[0, 0],
    lambda array: array.read(np.s_[:2], consistent=True),
    lambda array: asyncio.run(array.read_async()),
    lambda array: pickle.loads(pickle.dumps(array))[...],
]


@pytest.mark.parametrize("read", READS)
def test_a_read_that_found_nothing_says_where_a_chunk_is(read: Callable[[zarrdock.Array], Any]) -> None:
    store = zarrdock.MemoryStore()
    for key, value in stored(None, "0/0", "1/1").items():
        store.write(key, value)
    array = zarrdock.open_array(store)
    with pytest.warns(
        UserWarning, match=r"chunk lies at '0/0'.*separator '/' \(\"dimension_separator\": \"/\" in \.zarray\)"
    ):
        assert not np.any(read(array))


def test_it_is_said_once_for_an_array() -> None:
    array = zarrdock.open_array(stored(None, "0/0"))
    with pytest.warns(UserWarning, match="separator"):
        array[...]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array[...]
        array[0, 0]


@pytest.mark.parametrize(
    ("values", "extra"),
    [
        (stored(None, "0.0"), 0),  # a chunk was found
        (stored(None), 1),  # nothing was found: a look at one key
        (stored("."), 0),  # the metadata name the separator
        (stored(".", "0/0"), 0),
        (stored("/"), 0),
        (stored(None, shape=[4], chunks=[2]), 0),  # no separator at all
    ],
)
def test_what_reads_ask_for(values: dict[str, bytes], extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RecordingStore(zarrdock.open_store(values))
    asked: list[str] = []
    monkeypatch.setattr(RecordingStore, "size", lambda self, key: (asked.append(key), self.store.size(key))[1])
    array = zarrdock.open_array(recorder, zarr_format=2)
    n_chunks = array.nchunks
    for again in (extra, 0):
        recorder.reset()
        asked.clear()
        array[...]
        assert (recorder.n_requests, asked) == (n_chunks, ["0/0"] * again)
    array = zarrdock.open_array(recorder, zarr_format=2)
    if not extra:
        recorder.reset()
        array[(0,) * array.ndim]
        assert (recorder.n_requests, asked) == (1, [])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("separator", [".", "/"])
def test_check_finds_them(zarr_format: Any, separator: str) -> None:
    values: dict[str, bytes] = {}
    array = zarrdock.create_array(
        values, data=np.ones((4, 4)), chunks=2, zarr_format=zarr_format, chunk_key_encoding=separator
    )
    assert check(values).problems == ()
    other = "." if separator == "/" else "/"
    for key in [key for key in values if not key.endswith(("zarr.json", ".zarray"))]:
        values[key.replace(separator, other)] = values.pop(key)
    assert not np.any(zarrdock.open_array(values)[...])
    report = check(values)
    (problem,) = report.problems
    assert not report.is_good
    assert problem.severity == "error"
    assert "4 chunks lie at keys such as" in problem.message
    assert f"separator {other!r}" in problem.message
    assert problem.key in values
    assert array.nchunks == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_info_finds_them(as_json: bool, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value in stored(None, "0/0").items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(value)
    arguments = ["info", str(tmp_path), *(["--json"] if as_json else [])]
    assert run(arguments) == 0
    assert "separator '/'" in capsys.readouterr().out
    (tmp_path / "0.0").write_bytes(CHUNK)
    assert run(arguments) == 0
    assert "separator '/'" not in capsys.readouterr().out
