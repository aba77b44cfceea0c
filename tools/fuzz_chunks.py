"""Fuzz the compiled part: build it with AddressSanitizer and libFuzzer, and run it on mutations of honest chunks.

``python -m tools.fuzz_chunks --runs 10000000`` (or ``tox -e fuzz``) needs clang with its runtimes (on Debian: clang and
libclang-rt-14-dev, or the number of its release) and the libraries that ``setup.py`` looks for. Exits with the status
of the fuzzer: an input that does harm is written to the current folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zarrdock.codecs.builtin import parse_codecs
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ChunkSpec

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {"HAVE_ZSTD": "libzstd", "HAVE_BLOSC": "blosc", "HAVE_DEFLATE": "libdeflate", "HAVE_LZ4": "liblz4"}

_CRC32C = {"name": "crc32c"}
_ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
_ZLIB = {"name": "numcodecs.zlib", "configuration": {"level": 1}}
_LZ4 = {"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}


def blosc(cname: str, shuffle: str, clevel: int = 5) -> dict[str, Any]:
    settings = {"cname": cname, "clevel": clevel, "shuffle": shuffle, "typesize": 2, "blocksize": 256}
    return {"name": "blosc", "configuration": settings}


#: Bytes-to-bytes codecs, and their number in ``chunks.c``.
CHAINS: list[tuple[int, list[dict[str, Any]]]] = [
    (0, []),
    (1, [_CRC32C]),
    (2, [_ZSTD]),
    (3, [_ZSTD, _CRC32C]),
    (4, [_CRC32C, _ZSTD]),
    (6, [{"name": "gzip", "configuration": {"level": 1}}]),
    (7, [_ZLIB]),
    (8, [_LZ4]),
    *((5, [blosc(c, s)]) for c in ("lz4", "zstd", "zlib", "blosclz") for s in ("shuffle", "bitshuffle", "noshuffle")),
    (5, [blosc("lz4", "noshuffle", 0)]),
    (9, [blosc("lz4", "shuffle"), _CRC32C]),
]
_WHOLE = 16


def seeds() -> list[bytes]:
    """Honest inputs, whose layout the head of ``chunks.c`` describes."""
    found = []
    values = np.random.default_rng(0).integers(0, 40, (6, 5, 31)).astype("<u2")
    for number, codecs in CHAINS:
        document = [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs]
        chain = bind_chain(parse_codecs(document, ""), ChunkSpec(values.shape, values.dtype))
        encoded = bytes(chain.encode(values))
        for flags in (_WHOLE, _WHOLE | 1, _WHOLE | 32, 0, 4, 8, 32):
            shape = [n - 1 for n in values.shape]
            head = bytes([number, 1, flags, 3, *shape, 1, 0, 2, 3, 5, 7, 1, 1, 3, 1])
            found.append(head + struct.pack("<HH", 0, len(encoded)) * 4 + encoded)
    return found


def build(folder: Path, options: list[str]) -> Path:
    """Compile the target."""
    flags: list[str] = []
    for macro, package in LIBRARIES.items():
        done = subprocess.run(
            ["pkg-config", "--cflags", "--libs", package], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            flags += [f"-D{macro}", *shlex.split(done.stdout)]
        else:
            print(f"left out: {package}", file=sys.stderr)
    target = folder / "fuzz_chunks"
    command = ["clang", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all", *options]
    subprocess.run([*command, str(ROOT / "tests/fuzz/chunks.c"), "-o", str(target), *flags], check=True)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000_000, help="inputs to run (default: 10 million)")
    parser.add_argument("--seconds", type=int, default=0, help="stop after that time (default: when all were run)")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was found to be new (default: none)")
    options = parser.parse_args()
    if shutil.which("clang") is None:
        print("clang is not here: apt-get install clang libclang-rt-14-dev", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        target = build(Path(scratch), shlex.split(os.environ.get("CLANG_OPTIONS", "")))
        corpus = options.corpus or Path(scratch, "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds()):
            Path(corpus, f"seed-{i}").write_bytes(seed)
        arguments = [
            f"-runs={options.runs}",
            f"-max_total_time={options.seconds}",
            "-max_len=4096",
            "-print_final_stats=1",
        ]
        return subprocess.run([str(target), *arguments, str(corpus)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
