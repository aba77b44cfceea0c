"""How often reads and writes of local files give the interpreter's lock away, and so may have to wait for it: calls of
functions in C that do, counted, which no busy machine can change. Beside a thread that computes each is a wait.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.codecs.compiled import compiled_codecs
from zarrdock.config import config

SHAPE = (64, 128, 128)  # 2 MiB in 32 chunks of 64 KiB, in one shard
VALUES = np.random.default_rng(0).integers(1, 1000, SHAPE, np.uint16)
NBYTES_MIB = VALUES.nbytes / 2**20
CODECS: dict[str, Any] = {
    "zstd": [zarrdock.Zstd(3)],
    "blosc": [zarrdock.Blosc("lz4", 5, "shuffle")],
    "gzip": [zarrdock.Gzip(1)],
    "none": None,
}
BOX = np.s_[10:30, 40:70, 60:90]  # parts of four chunks

# Those that the reads and writes here call, and what can stand in for one of them some day.
_CODEC_CALLS = ("compress", "decompress", "decode", "encode", "multi_decompress_to_buffer", "multi_compress_to_buffer")
_FILE_CALLS = ("open", "close", "stat", "fstat", "lstat", "rename", "replace", "link", "unlink", "mkdir", "fsync")
_FILE_CALLS += ("read", "readinto", "pread", "preadv", "write", "writev", "pwrite", "pwritev", "fcntl", "flock")
_WAITS = ("acquire", "acquire_lock", "wait", "select", "poll", "send", "recv", "recv_into")


def hand_overs(act: Callable[[], Any]) -> Counter[str]:
    """Calls of this thread that give the lock away, by name."""
    found: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: Any) -> None:
        if event != "c_call" or argument.__name__ not in (*_CODEC_CALLS, *_FILE_CALLS, *_WAITS):
            return
        if not isinstance(getattr(argument, "__self__", None), (str, bytes, GeneratorType)):  # "".encode()
            found[argument.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return found


@pytest.fixture(params=list(CODECS))
def array(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zarrdock.Array:
    """An array opened before, and read once: what is imported at the first read does not count."""
    monkeypatch.setattr(config, "threads", 1)
    codecs = CODECS[request.param]
    for name in ("warm", "array"):
        zarrdock.create_array(
            zarrdock.LocalStore(tmp_path / name), data=VALUES, chunks=(32, 32, 32), shards=SHAPE, compressors=codecs
        )
        array = zarrdock.open_array(zarrdock.LocalStore(tmp_path / name), "r+")
        if name == "warm":
            for compiled in (0, 1):
                with config.set(compiled=compiled):
                    array[...]
                    array[BOX]
            array.write(..., VALUES)
    return array


needs_compiled = pytest.mark.skipif(
    not {"zstd", "blosc", "gzip"} <= (compiled_codecs() or {}).keys() or not config.compiled,
    reason="built without the compiled part, or a codec of it",
)


def n_codec_calls(found: Counter[str]) -> int:
    return sum(found[name] for name in _CODEC_CALLS)


@needs_compiled
def test_a_whole_read(array: zarrdock.Array) -> None:
    found = hand_overs(lambda: array[...])
    assert found["decode"] == n_codec_calls(found) == 1
    assert sum(found.values()) / NBYTES_MIB <= 2.5  # open, fstat, stat, the index, the call


@needs_compiled
def test_a_box(array: zarrdock.Array) -> None:
    array[:1]
    found = hand_overs(lambda: array[BOX])
    assert n_codec_calls(found) == 1
    assert sum(found.values()) <= 6


@needs_compiled
@pytest.mark.parametrize("kind", ["points", "mask"])
def test_elements_here_and_there(array: zarrdock.Array, kind: str) -> None:
    """Chunks that are not wanted as boxes."""
    array[:1]
    rng = np.random.default_rng(1)
    points = tuple(rng.integers(0, n, 100) for n in SHAPE)
    mask = rng.random(SHAPE) > 0.999
    found = hand_overs(lambda: array.vindex[points] if kind == "points" else array[mask])
    assert n_codec_calls(found) == 1
    assert sum(found.values()) <= 6


def test_in_python(array: zarrdock.Array) -> None:
    """One call of a codec for each chunk, and no more."""
    with config.set(compiled=0):
        found = hand_overs(lambda: array[...])
        assert n_codec_calls(found) <= 32
        assert sum(found.values()) - n_codec_calls(found) <= 8
        found = hand_overs(lambda: array[BOX])
        assert n_codec_calls(found) <= 4
        assert sum(found.values()) - n_codec_calls(found) <= 8


def test_a_whole_write(array: zarrdock.Array) -> None:
    found = hand_overs(lambda: array.write(..., VALUES))
    is_compiled = {"zstd", "blosc", "gzip"} <= (compiled_codecs() or {}).keys() and config.compiled
    assert n_codec_calls(found) <= (1 if is_compiled else 32)
    assert sum(found.values()) - n_codec_calls(found) <= 24
    with config.set(compiled=0):
        assert n_codec_calls(hand_overs(lambda: array.write(..., VALUES))) <= 32
