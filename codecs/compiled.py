"""The compiled part, where it was built: it decodes many chunks and puts them in their places by one call, or gathers
and encodes them, without the interpreter's lock. Which chains of codecs it knows, and which arrays it writes and reads.

It does the plain case of each codec and reports the chunks that are anything else; those are left to the codecs in
Python, which alone say what is wrong with a chunk. See ``docs/design/compiled.md``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zarrdock.codecs.bytes_ import BoundBytes
from zarrdock.codecs.chain import BoundChain
from zarrdock.codecs.codec import AnyArray
from zarrdock.codecs.transpose import BoundTranspose
from zarrdock.config import config

if TYPE_CHECKING:
    from zarrdock.codecs._compiled import Chain

__all__ = ["Chain", "Compiled", "compiled_codecs", "decode", "encode"]

_MAX_DIMENSIONS = 32


@functools.cache
def _library() -> Any:
    try:
        from zarrdock.codecs import _compiled
    except (ImportError, SystemError):  # it was not built, or for another Python
        return None
    return _compiled


def compiled_codecs() -> dict[str, str] | None:
    """Names of the codecs of the compiled part, with the versions of their libraries; None where it was not built."""
    library = _library()
    return None if library is None else dict(library.codecs)


class Compiled:
    """A chain of codecs that the compiled part knows.

    Attributes:
        chain: what it is handed. stored: dtype of the elements as they are stored.
        encodes: it knows how to encode, too, and there is a codec that does.
    """

    __slots__ = ("chain", "encodes", "stored")

    def __init__(self, chain: Chain, stored: np.dtype[Any], encodes: bool) -> None:
        self.chain = chain
        self.stored = stored
        self.encodes = encodes

    @classmethod
    def of(cls, codecs: BoundChain) -> Compiled | None:
        """The same chain for the compiled part; None where it was not built, or does not know one of the codecs."""
        library, serializer, spec = _library(), codecs.serializer, codecs.spec
        if library is None or type(serializer) is not BoundBytes or serializer.checks_more_than_booleans:
            return None
        steps: list[tuple[str, int, int, tuple[int, ...] | None]] = []
        for codec in reversed(codecs.byte_codecs):
            # Of a class of its own: what another one made of it is unknown.
            name = vars(type(codec)).get("compiled", "")
            exact = codec.decoded.exact
            if name not in library.codecs or (exact is None and name != "crc32c"):
                return None
            steps.append((name, -1 if exact is None else exact, codec.decoded.limit, codec.compiled_options))
        strides = _strides(serializer.decoded.shape, serializer.stored.itemsize)
        for array_codec in reversed(codecs.array_codecs):
            if type(array_codec) is not BoundTranspose:
                return None
            strides = tuple(strides[d] for d in array_codec.inverse)
        stored = serializer.stored
        if 0 in spec.shape or len(spec.shape) > _MAX_DIMENSIONS:
            return None
        unit = stored.itemsize // 2 if stored.kind == "c" else stored.itemsize
        try:
            chain = library.Chain(
                tuple(steps), spec.shape, strides, stored.itemsize, unit, stored.kind == "b", codecs.encoded.limit
            )
        except ValueError:  # longer than it can be
            return None
        return cls(chain, stored, bool(steps) and all(step[3] is not None for step in steps))

    def swapped(self, out: np.dtype[Any]) -> bool | None:
        """True where elements change their byte order on the way to an array of dtype ``out``; None where they would
        change in another way.
        """
        if out == self.stored:
            return False
        return True if self.stored.kind in "iufcmM" and out.newbyteorder() == self.stored else None


def _strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides of an array in C order."""
    found = []
    for length in reversed(shape):
        found.append(itemsize)
        itemsize *= length
    return tuple(reversed(found))


# Work that is done sooner than the lock, once given away, is had again beside other busy threads.
_SHORT_NBYTES = 64 * 2**10


def decode(groups: list[tuple[Any, ...]], out: AnyArray, nbytes: int) -> Any:
    """Decode the chunks of groups, as the compiled part describes them, to ``out``.

    Args:
        nbytes: of the decoded chunks.
    Returns:
        ``(group, chunk)`` of those that were left, which the codecs in Python have to decode; None: none.
    """
    n_threads = config.n_threads if nbytes > config.inline_bytes else 1
    # As raw bytes: not all dtypes are known to others than numpy.
    raw = out.view(_raw(out.dtype.itemsize))
    return _library().decode(groups, raw, n_threads, nbytes > _SHORT_NBYTES)


@functools.lru_cache(maxsize=256)
def _raw(itemsize: int) -> np.dtype[Any]:
    return np.dtype((np.void, itemsize))


def encode(
    known: Compiled,
    array: AnyArray,
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
    slices: tuple[tuple[list[Any], ...], tuple[list[Any], ...]],
    fill: AnyArray | None,
    nbytes: int,
) -> list[bytes | Literal[False] | None]:
    """Gather chunks out of an array whose dtype :meth:`Compiled.swapped` allows, and encode them.

    Args:
        numbers: of the chunks, in the product of the slices. slices: within the chunk and the array, lists by axis.
        fill: of shape () and the array's dtype, the element of chunks that are not stored; None: all are.
        nbytes: of all the chunks.
    Returns:
        bytes of each; None for one of nothing but ``fill``; False for one that the codecs in Python have to encode.
    """
    swapped = known.swapped(array.dtype)
    element = None if fill is None else (fill.byteswap() if swapped else fill).tobytes()
    n_threads = config.n_threads if nbytes > config.inline_bytes else 1
    numbers = np.ascontiguousarray(numbers)
    raw = array.view(_raw(array.dtype.itemsize))
    found: list[bytes | Literal[False] | None] = _library().encode(
        known.chain, bool(swapped), raw, numbers, *slices, element, n_threads, nbytes > _SHORT_NBYTES
    )
    return found
