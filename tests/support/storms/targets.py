"""Targets of fuzzing: good inputs, and code that is given broken ones. It may raise only subclasses of
``ZarrdockError``.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import weakref
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from support.storms.replies import Replies
from zarrdock.api import open_array
from zarrdock.array.array import Array
from zarrdock.array.create import make_metadata
from zarrdock.array.metadata.consolidated import parse_consolidated_v2
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, parse_node
from zarrdock.codecs.builtin import parse_codec
from zarrdock.codecs.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, ByteSpec, ChunkSpec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import ZarrdockError
from zarrdock.ranges import From, Range, Span, Tail
from zarrdock.stores.base import Read, check_key
from zarrdock.stores.diagnose import TruncatedError
from zarrdock.stores.http_ranges import take
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.zip_ import ZipStore
from zarrdock.stores.zip_journal import SUFFIX

__all__ = ["TARGETS", "Target"]


class Target(ABC):
    """Something that reads what others wrote."""

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Good inputs."""

    @abstractmethod
    def feed(self, data: bytes, number: int) -> None:
        """Read an input; ``number`` chooses between ways to do it. Raises ZarrdockError, or nothing."""


class Metadata(Target):
    """Documents of nodes; arrays of those that are good are opened, and an element is read."""

    def seeds(self) -> list[bytes]:
        found = []
        for options in (
            {"chunks": (4, 4)},
            {"chunks": (2, 2), "shards": (8, 8), "order": "F"},
            {"chunks": (2, 2), "shards": [(8, 8), (4, 4)], "dimension_names": ["x", None]},
            {"chunks": (4, 4), "zarr_format": 2, "filters": [{"id": "delta", "dtype": "<f4"}]},
            {"chunks": (4, 4), "fill_value": float("nan"), "compressors": ["gzip", "crc32c"], "attributes": {"a": [1]}},
        ):
            node = make_metadata(shape=(20, 20), dtype="float32", **options)
            found += [bytes(document) for document in documents(node).values()]
        for group in (GroupMetadata(), GroupMetadata(attributes={"a": 1}, zarr_format=2)):
            found += [bytes(document) for document in documents(group).values()]
        found.append(json.dumps({"zarr_consolidated_format": 1, "metadata": {".zgroup": {"zarr_format": 2}}}).encode())
        return found

    def feed(self, data: bytes, number: int) -> None:
        match number % 8:
            case 0:
                parse_group_v2(data, None, ".zgroup")
            case 1:
                parse_consolidated_v2(data, ".zmetadata")
            case 2:
                parse_array_v2(data, data if number % 3 else None, ".zarray", lenient=number % 5 == 0)
            case 3:
                parse_array_v2(self.seeds_of_v2(), data, ".zarray")
            case _:
                node = parse_node(data, "zarr.json", lenient=number % 5 == 0)
                if isinstance(node, ArrayMetadata) and number % 5:
                    array = Array(MemoryStore(), "", node)
                    if all(array.shape):
                        array[(0,) * array.ndim]

    @staticmethod
    @lru_cache
    def seeds_of_v2() -> bytes:
        node = make_metadata(shape=(20,), dtype="int16", chunks=(4,), zarr_format=2)
        return bytes(documents(node)[".zarray"])


class Shards(Target):
    """Shards, with indexes that no checksum protects, and chunks of several codecs."""

    def __init__(self) -> None:
        self.arrays: list[tuple[Array, str]] = []
        for location in ("end", "start"):
            for codecs in (["bytes"], ["bytes", {"name": "zstd", "configuration": {"level": 1}}], ["bytes", "crc32c"]):
                for nested in (False, True):
                    self.arrays.append(self._make(location, codecs, nested))

    def _make(self, location: str, codecs: list[Any], nested: bool) -> tuple[Array, str]:
        def sharding(chunk: list[int], inside: list[Any]) -> dict[str, Any]:
            index_codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
            configuration = {"chunk_shape": chunk, "codecs": inside, "index_codecs": index_codecs}
            return {"name": "sharding_indexed", "configuration": {**configuration, "index_location": location}}

        inner = [{"name": "bytes", "configuration": {"endian": "little"}}, *codecs[1:]]
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [16, 16],
            "data_type": "int32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16]}},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0,
            "codecs": [sharding([8, 8], [sharding([4, 4], inner)]) if nested else sharding([4, 4], inner)],
        }
        store = MemoryStore()
        store.write("zarr.json", json.dumps(document).encode())
        array = open_array(store, mode="r+")
        array[...] = np.arange(256).reshape(16, 16)
        return array, "c/0/0"

    def seeds(self) -> list[bytes]:
        found = []
        for array, key in self.arrays:
            blob = array.store.get(key)
            assert blob is not None
            found.append(bytes(blob.data))
        return found

    def feed(self, data: bytes, number: int) -> None:
        array, key = self.arrays[number % len(self.arrays)]
        array.store.write(key, data)
        match number // len(self.arrays) % 4:
            case 0:
                array[...]
            case 1:
                array[3, 5]
            case 2:
                array[::5, 2:11]
            case _:
                array[1:3, 1] = 7


class Codecs(Target):
    """The bytes of every codec that needs no library beyond the core ones."""

    NAMES: Final = (
        "blosc",
        "bytes",
        "crc32c",
        "gzip",
        "transpose",
        "zstd",
        "numcodecs.adler32",
        "numcodecs.blosc",
        "numcodecs.bz2",
        "numcodecs.crc32",
        "numcodecs.fletcher32",
        "numcodecs.gzip",
        "numcodecs.lz4",
        "numcodecs.lzma",
        "numcodecs.zlib",
        "numcodecs.zstd",
    )
    N: Final = 1200

    def __init__(self) -> None:
        self.bound: list[tuple[Any, bytes]] = []
        values = np.arange(self.N // 4, dtype="<i4") // 3
        for name in self.NAMES:
            configuration = (
                {"order": [1, 0]} if name == "transpose" else {"endian": "little"} if name == "bytes" else {}
            )
            try:
                codec = parse_codec({"name": name, "configuration": configuration})
            except ZarrdockError:
                codec = parse_codec(_REQUIRED[name])
            if isinstance(codec, (ArrayArrayCodec, Sharding)):
                continue
            if isinstance(codec, ArrayBytesCodec):
                bound: Any = codec.bind(ChunkSpec((self.N // 4,), np.dtype("<i4"), 0))
                self.bound.append((bound, bytes(bound.encode(values))))
            else:
                assert isinstance(codec, BytesBytesCodec)
                for exact in (self.N, None):
                    bound = codec.bind(ByteSpec(exact, self.N + 77, 4))
                    self.bound.append((bound, bytes(bound.encode(values.tobytes()))))

    def seeds(self) -> list[bytes]:
        return [encoded for _, encoded in self.bound]

    def feed(self, data: bytes, number: int) -> None:
        decoded = self.bound[number % len(self.bound)][0].decode(data)
        n = memoryview(decoded).nbytes
        if n > self.N + 77:
            raise AssertionError(f"{n} bytes came of a chunk of at most {self.N + 77}")


_REQUIRED: Final[dict[str, Any]] = {
    "blosc": {
        "name": "blosc",
        "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
    },
    "gzip": {"name": "gzip", "configuration": {"level": 1}},
    "zstd": {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
}


class Zips(Target):
    """Archives, read through a store: the same code reads local ones."""

    def seeds(self) -> list[bytes]:
        found = []
        for method, comment in ((zipfile.ZIP_STORED, b""), (zipfile.ZIP_DEFLATED, b"PK\5\6 and more")):
            raw = io.BytesIO()
            with zipfile.ZipFile(raw, "w", method) as archive:
                archive.comment = comment
                for i in range(4):
                    entry = zipfile.ZipInfo(f"a/{i}")  # with a date that is always the same
                    archive.writestr(entry, bytes(range(i * 20)) * 3, method)
            found.append(raw.getvalue())
        return found

    def feed(self, data: bytes, number: int) -> None:
        below = MemoryStore()
        below.write("x.zip", data)
        store = ZipStore((below, "x.zip"))
        keys = [entry.key for entry in store.list()]
        store.list_dir("a")
        store.read([Read(key, Span(2, 9) if number % 2 else None) for key in keys[:8]])


class Journals(Target):
    """Journals next to a local archive, of what was written since its directory was."""

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="zarrdock-storm-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / "x.zip"
        with ZipStore(self._path) as store:
            store.write("a/0", b"0" * 50)
        before = self._path.read_bytes()
        with ZipStore(self._path) as store:
            store.write("a/1", b"1" * 50)
            store.write("a/0", b"2" * 9)
            store.delete("a/1")
            self._good, self._archive = self._journal.read_bytes(), self._path.read_bytes()
        self._path.write_bytes(before)

    @property
    def _journal(self) -> Path:
        return self._path.with_name(self._path.name + SUFFIX)

    def seeds(self) -> list[bytes]:
        return [self._good]

    def feed(self, data: bytes, number: int) -> None:
        self._path.write_bytes(self._archive)
        self._journal.write_bytes(data)
        store = ZipStore(self._path, read_only=True)
        keys = [entry.key for entry in store.list()]
        store.read([Read(key) for key in keys[:8]])


class Ranges(Target):
    """Status, headers and body of answers to requests for a range."""

    WANTED: Final[tuple[Range, ...]] = (None, Span(3, 9), Span(0, 1), From(5), Tail(4), Span(0, 2**62))

    def seeds(self) -> list[bytes]:
        return [
            f"{n}|bytes {a}-{b}/{c}|".encode() + b"x" * 12
            for n, a, b, c in ((12, 0, 11, 12), (6, 3, 8, 20), (4, 5, 8, 9))
        ]

    def feed(self, data: bytes, number: int) -> None:
        length, _, rest = data.partition(b"|")
        header, _, body = rest.partition(b"|")
        announced = int(length) if length.isdigit() and length.isascii() and len(length) < 20 else None
        wanted = self.WANTED[number % len(self.WANTED)]
        text = header.decode("latin-1") or None
        with contextlib.suppress(TruncatedError):  # translated by who calls it, once it gives up asking again
            got = take(body, wanted, status=206 if number % 3 else 200, content_range=text, length=announced)
            if len(got) > len(body):
                raise AssertionError("more than came")


class Keys(Target):
    """Names of keys: what is accepted stays within the store."""

    def seeds(self) -> list[bytes]:
        return [
            b"a/b/c",
            b"../a",
            b"/etc/x",
            b"C:\\x",
            b"a//b",
            b"a/./b",
            "ü/é".encode(),
            b"a\x00b",
            b"con/aux",
            b"a/..",
            b"~/x",
        ]

    def feed(self, data: bytes, number: int) -> None:
        key = check_key(data.decode("utf-8", "surrogateescape" if number % 2 else "replace"))
        segments = key.split("/")
        if key.startswith("/") or "\\" in key or "\0" in key or {"", ".", ".."} & set(segments):
            raise AssertionError(f"accepted: {key!r}")
        key.encode()


class HTTPReplies(Replies, Target):
    """Whole replies of a web server."""


def _all() -> Iterator[tuple[str, type[Target], int]]:
    yield "metadata", Metadata, 200_000
    yield "shards", Shards, 250_000
    yield "codecs", Codecs, 400_000
    yield "zips", Zips, 60_000
    yield "journals", Journals, 20_000
    yield "ranges", Ranges, 40_000
    yield "replies", HTTPReplies, 20_000
    yield "keys", Keys, 30_000


# Name -> class, and how many inputs it gets in full: 10^6 in all.
TARGETS: Final = {name: (kind, n) for name, kind, n in _all()}
