"""What a benchmark asks of an implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Codec = Literal["zstd", "blosc", "none"]
Selection = tuple[slice | int, ...]


class Unavailable(Exception):
    """The implementation is not installed, or too old; the message says what is missing."""


class Unsupported(Exception):
    """The implementation can't do this workload by design; its cell in the report stays empty."""


@dataclass(frozen=True, slots=True)
class Layout:
    """An array to create: Zarr v3, C order, fill value 0, default key encoding.

    `codec` is that of a chunk: ``zstd`` (level 3, no checksum), ``blosc`` (lz4, level 5, byte shuffle) or ``none``.
    With `shards` the index is at the end with a crc32c, the default of all writers.
    """

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codec: Codec

    @property
    def item_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize

    def codec_json(self) -> list[dict[str, Any]]:
        """The bytes-to-bytes codecs of a chunk as they stand in ``zarr.json``."""
        if self.codec == "zstd":
            return [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
        if self.codec == "blosc":
            shuffled = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": self.item_bytes, "blocksize": 0}
            return [{"name": "blosc", "configuration": shuffled}]
        return []


def load_library(name: str) -> Any:
    """The module of this name.

    Raises:
        Unavailable: it can't be imported, for whatever reason: a broken installation of one peer must not end the run.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    except Exception as error:
        raise Unavailable(f"importing {name} failed: {type(error).__name__}: {error}") from error


class Peer(ABC):
    """One implementation. A handle is whatever it calls an open array; only the peer that made it looks inside.

    Methods do what a user of the library would write, on a local folder, and return numpy arrays. They are timed as
    they are.
    """

    name: str
    version: str
    writes_zarr: bool = True  # False: a format of its own, so it reads only what it wrote itself

    def active(self) -> AbstractContextManager[object]:
        """Configuration that has to be in force while the peer works; entered outside the clock."""
        return nullcontext()

    @abstractmethod
    def create(self, path: Path, layout: Layout) -> Any:
        """A new, empty array at `path`, open for writing."""

    @abstractmethod
    def open(self, path: Path, *, write: bool = False) -> Any: ...

    @abstractmethod
    def read(self, handle: Any, selection: Selection) -> NDArray[Any]:
        """A box. Integers drop their axis."""

    @abstractmethod
    def read_points(self, handle: Any, points: NDArray[np.intp]) -> NDArray[Any]:
        """The voxels at `points`, shape (n, ndim), in one call; answers with shape (n,)."""

    @abstractmethod
    def write(self, handle: Any, selection: Selection, values: NDArray[Any]) -> None: ...

    @abstractmethod
    def append(self, handle: Any, values: NDArray[Any]) -> Any:
        """Lengthen axis 0 by `values`; returns the handle to go on with."""


def load_peers(names: Sequence[str], threads: int) -> tuple[list[Peer], dict[str, str]]:
    """The peers of these names that can be used, and why the others can't.

    Raises:
        KeyError: no peer of that name is known.
    """
    from benchmarks.peers.catalogue import FACTORIES

    usable: list[Peer] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            usable.append(FACTORIES[name](threads))
        except Unavailable as reason:
            missing[name] = str(reason)
    return usable, missing
