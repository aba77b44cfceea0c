"""Which chunks need not be stored, because there is nothing in them."""

from __future__ import annotations

import numpy as np

from zarrdock.codecs.base import AnyArray, ChunkSpec

__all__ = ["EmptyTest"]


class EmptyTest:
    """Whether a chunk holds nothing but the fill value, compared bit by bit: -0.0 is not 0.0, and a NaN equals only
    the same NaN. Text and objects are compared as values of one Python type.
    """

    __slots__ = ("_bits", "_fill", "_kind", "_zero")

    def __init__(self, spec: ChunkSpec) -> None:
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
        # Most chunks with data already differ in their first element: asked first, since it costs nothing.
        if chunk[(slice(0, 1),) * chunk.ndim].reshape(-1).view(self._bits)[0] != self._fill:
            return False
        bits = chunk.reshape(1).view(self._bits) if chunk.ndim == 0 else chunk.view(self._bits)
        return not bits.any() if self._zero else bool((bits == self._fill).all())
