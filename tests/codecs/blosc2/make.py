"""Writes ``chunks.json``: chunks in Blosc 2's format, made by its own library, for ``tests/codecs/test_blosc2.py``.

    pip install blosc2==4.14.1 numpy && python tests/codecs/blosc2/make.py

A chunk is kept only if the library itself reads it back. Where no whole number of elements fills a block, it does not.
"""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import blosc2
import numpy as np

CODECS = [blosc2.Codec.BLOSCLZ, blosc2.Codec.LZ4, blosc2.Codec.LZ4HC, blosc2.Codec.ZLIB, blosc2.Codec.ZSTD]
SHUFFLE, BITSHUFFLE, TRUNC = blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE, blosc2.Filter.TRUNC_PREC
PIPELINES = [[], [SHUFFLE], [BITSHUFFLE], [BITSHUFFLE, SHUFFLE]]


def contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    words = [b"chunk", b"block", b"stream", b"of", b"the", b"a", b"and", b"byte"]
    return {
        "ramp": np.cumsum(rng.integers(-3, 4, 250)).astype("<i4").tobytes(),
        "zeros": bytes(700),
        "noise": rng.bytes(100),
        "text": b" ".join(words[i] for i in rng.integers(0, len(words), 60)) + bytes(9000) + b"chunk block stream",
        "short": b"abc",
    }


def main() -> None:
    chunks = []
    for (name, content), codec, filters, typesize, blocksize in itertools.product(
        contents().items(), CODECS, PIPELINES, [1, 4, 7], [0, 256]
    ):
        plain = name in ("noise", "zeros", "short")
        if (typesize == 7 and codec == blosc2.Codec.LZ4HC) or (plain and (blocksize or typesize == 7)):
            continue
        chunk = blosc2.compress2(
            content,
            typesize=typesize,
            codec=codec,
            clevel=5,
            filters=filters or [blosc2.Filter.NOFILTER],
            filters_meta=[0] * max(1, len(filters)),
            blocksize=blocksize,
        )
        try:
            assert blosc2.decompress2(chunk) == content
        except (ValueError, RuntimeError):
            continue
        chunks.append([name, f"{codec.name} {[f.name for f in filters]} {typesize} {blocksize}", chunk])
    floats = np.linspace(0, 1, 200, dtype="<f4")
    truncated = blosc2.compress2(floats, typesize=4, filters=[TRUNC, SHUFFLE], filters_meta=[10, 0])
    document = {
        "contents": {name: base64.b85encode(content).decode() for name, content in contents().items()},
        "chunks": [[name, label, base64.b85encode(chunk).decode()] for name, label, chunk in chunks],
        "truncated": [base64.b85encode(blosc2.decompress2(truncated)).decode(), base64.b85encode(truncated).decode()],
        "library": blosc2.__version__,
    }
    Path(__file__).with_name("chunks.json").write_text(json.dumps(document, indent=0) + "\n")


if __name__ == "__main__":
    main()
