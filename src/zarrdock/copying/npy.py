"""``.npy`` files, local or behind any URL, read in parts: the header once, then only the wanted bytes.

Reads are positional and not by memory map: a file that is cut short under a map kills the process, and mapped pages
count as the process's memory.

Source: NumPy, "NPY format", versions 1.0 to 3.0.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from zarrdock.codecs.codec import AnyArray
from zarrdock.copying.blocks import Region
from zarrdock.errors import MetadataError, NodeNotFoundError, RangeError, UnsupportedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Read, Store

__all__ = ["Npy", "is_npy"]

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 2**20
_PIECE_BYTES = 8 * 2**20
_MAX_READS = 1024


def is_npy(obj: object) -> bool:
    """True for a path or URL whose last part ends in ``.npy``."""
    if not isinstance(obj, (str, os.PathLike)):
        return False
    return os.fspath(obj).split("::")[0].lower().endswith(".npy")


@dataclass(frozen=True, slots=True)
class Npy:
    """An array in a ``.npy`` file.

    Attributes:
        store, key: where it is.
        shape, dtype: of the array.
        is_fortran: the first axis is the fastest.
        start: the first byte of the elements.
    """

    store: Store
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    start: int

    @classmethod
    def load(cls, store: Store, key: str) -> Npy:
        """Read and check the header."""
        try:
            blob = store.get(key, Span(0, 4096))
        except RangeError:  # empty
            blob = Blob(b"")
        if blob is None:
            raise NodeNotFoundError(f"there is no file {key!r} in {store}")
        data = bytes(blob.data)
        if data[:6] != _MAGIC or len(data) < 12:
            raise MetadataError("not a .npy file", expected="a file that begins with \\x93NUMPY", key=key)
        wide = data[6] >= 2
        if data[6] not in (1, 2, 3):
            raise MetadataError("not a .npy file", expected="version 1, 2 or 3", found=data[6], key=key)
        begin = 12 if wide else 10
        start = begin + int.from_bytes(data[8:begin], "little")
        if start > _MAX_HEADER:
            raise MetadataError("not a .npy file", expected=f"a header below {_MAX_HEADER} bytes", found=start, key=key)
        if start > len(data):
            more = store.get(key, Span(0, start))
            data = b"" if more is None else bytes(more.data)
        shape, dtype, is_fortran = _parse(data[begin:start].decode("utf-8" if data[6] == 3 else "latin-1"), key)
        size = store.size(key)
        end = start + prod(shape) * dtype.itemsize
        if size is not None and size < end:
            raise MetadataError("the .npy file is cut short", expected=f"{end} bytes", found=size, key=key)
        return cls(store, key, shape, dtype, is_fortran, start)

    @property
    def url(self) -> str:
        """URL of the file."""
        return self.store.url_of(self.key)

    @property
    def grain(self) -> tuple[int, ...]:
        """Shape best read at once: a row."""
        n = len(self.shape)
        fastest = 0 if self.is_fortran else n - 1
        return tuple(max(1, length) if i == fastest else 1 for i, length in enumerate(self.shape))

    def read(self, region: Region, out: AnyArray) -> None:
        """Read a region into ``out``, which has its shape."""
        shape, starts = self.shape, [part.start for part in region]
        if self.is_fortran:
            shape, starts, out = shape[::-1], starts[::-1], out.T
        strides = tuple(self.dtype.itemsize * prod(shape[i + 1 :]) for i in range(len(shape)))
        first = self.start + sum(a * b for a, b in zip(starts, strides, strict=True))
        # Within one turn the reader may take several runs, as long as they are few bytes.
        pending: list[tuple[Read, tuple[Any, ...]]] = []
        nbytes = 0
        for place, offset, length in _runs(out.shape, strides, self.dtype.itemsize, self.store.traits.merge_gap_bytes):
            if pending and (nbytes + length > _PIECE_BYTES or len(pending) >= _MAX_READS):
                self._fetch(pending, out, strides)
                pending, nbytes = [], 0
            pending.append((Read(self.key, Span(first + offset, first + offset + length)), place))
            nbytes += length
        self._fetch(pending, out, strides)

    def _fetch(self, pending: list[tuple[Read, tuple[Any, ...]]], out: AnyArray, strides: tuple[int, ...]) -> None:
        try:
            results = self.store.read([read for read, _ in pending]) if pending else []
        except RangeError as error:
            raise MetadataError("the .npy file was cut short while it was read", key=self.key) from error
        for (read, place), result in zip(pending, results, strict=True):
            assert isinstance(read.range, Span)
            data = result.data if isinstance(result, Blob) else b""
            if len(data) != read.range.stop - read.range.start:
                raise MetadataError("the .npy file was cut short while it was read", key=self.key)
            # A view, so that a 0-d target is one as well.
            target = out[(*place, ...)]
            target[...] = np.ndarray(target.shape, self.dtype, data, strides=strides[len(strides) - target.ndim :])


def _runs(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, gap: int
) -> Iterator[tuple[tuple[Any, ...], int, int]]:
    """Contiguous spans that cover a box: index into the box, first byte relative to the box's, bytes."""
    if 0 in shape:
        return
    n = len(shape)

    def span(axis: int) -> int:
        return sum((shape[i] - 1) * strides[i] for i in range(axis, n)) + itemsize

    # The leftmost axis from which on one span wastes little: at most half of it, or less than a request costs.
    axis = next(i for i in range(n + 1) if span(i) <= max(2 * prod(shape[i:]) * itemsize, gap))
    for lead in product(*(range(length) for length in shape[:axis])):
        offset = sum(i * stride for i, stride in zip(lead, strides, strict=False))
        if axis == n:
            yield lead, offset, itemsize
            continue
        step = max(1, _PIECE_BYTES // strides[axis])
        for low in range(0, shape[axis], step):
            high = min(low + step, shape[axis])
            length = (high - low - 1) * strides[axis] + span(axis + 1)
            yield (*lead, slice(low, high)), offset + low * strides[axis], length


def _parse(header: str, key: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    try:
        found = ast.literal_eval(header)
        descr, shape, is_fortran = found["descr"], found["shape"], found["fortran_order"]
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("shape")
        dtype = np.lib.format.descr_to_dtype(descr)
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError) as error:
        raise MetadataError(
            "not a .npy file", expected="a header with descr, shape and fortran_order", found=header[:200], key=key
        ) from error
    if dtype.hasobject:
        raise UnsupportedError(f"{key!r} holds Python objects, which would have to be unpickled: not done")
    return shape, dtype, bool(is_fortran)
