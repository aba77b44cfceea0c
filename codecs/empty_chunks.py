"""Test for empty chunks, which need not be stored."""

from __future__ import annotations

import numpy as np

from zarrdock.codecs.codec import AnyArray, ChunkSpec

__all__ = ["EmptyTest"]


def _samples(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Elements on a chunk's diagonal, each as a part of one element."""
    return [tuple(slice(i, i + 1) for i in (int(at * (n - 1)) for n in shape)) for at in (0.0, 0.5, 1.0)]


class EmptyTest:
    """Test if a chunk holds only the fill value, compared bit by bit: -0.0 is not 0.0, and a NaN equals only the same
    NaN. Text and objects are compared as values of one Python type.
    """

    __slots__ = ("_bits", "_fill", "_kind", "_samples", "_shape", "_zero")

    def __init__(self, spec: ChunkSpec) -> None:
        self._shape = spec.shape or (1,)
        self._samples = _samples(self._shape)
        self._kind = "T" if spec.dtype.kind == "T" else "O" if spec.dtype.hasobject else ""
        if self._kind:
            self._bits, self._fill, self._zero = None, spec.fill_value, False
            return
        itemsize = spec.dtype.itemsize
        raw = np.frombuffer(np.asarray(spec.fill_value, spec.dtype).tobytes(), np.uint8)
        self._bits = np.dtype(f"u{itemsize}") if itemsize in (1, 2, 4, 8) else None
        self._fill = raw.view(self._bits)[0] if self._bits is not None else raw
        self._zero = not raw.any()

    def __call__(self, chunk: AnyArray) -> bool:
        if not chunk.size:
            return True
        if self._kind == "T":
            return bool((chunk == self._fill).all())
        if self._kind:
            kind = type(self._fill)
            return kind in (type(None), str, bytes, bool, int) and all(
                type(item) is kind and item == self._fill for item in chunk.flat
            )
        if self._bits is None:
            rows = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).reshape(chunk.size, -1)
            return bool((rows == self._fill).all())
        if not chunk.ndim:
            chunk = chunk.reshape(1)  # of a 0-d array numpy gives scalars, and text in them is as long as it has to be
        # Most chunks with data differ in one of these elements: asked first, since it costs next to nothing.
        for place in self._samples if chunk.shape == self._shape else _samples(chunk.shape):
            if chunk[place].reshape(-1).view(self._bits)[0] != self._fill:
                return False
        bits = chunk.view(self._bits)
        return not np.count_nonzero(bits) if self._zero else bool((bits == self._fill).all())
