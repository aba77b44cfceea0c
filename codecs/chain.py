"""A chunk's codecs in order, and the same bound to a chunk: what encodes and decodes a chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zarrdock.codecs.codec import (
    AnyArray,
    ArrayArrayCodec,
    ArrayBytesCodec,
    BoundArrayArray,
    BoundArrayBytes,
    BoundBytesBytes,
    Buffer,
    BytesBytesCodec,
    ByteSpec,
    ChunkSpec,
    Codec,
    Encoded,
)
from zarrdock.errors import CodecError, MetadataError

if TYPE_CHECKING:
    from zarrdock.codecs.blosc_ import BoundBlosc

__all__ = ["BoundChain", "bind_chain", "check_kinds"]


def check_kinds(codecs: tuple[Codec, ...]) -> None:
    """Array-to-array codecs, exactly one array-to-bytes codec, bytes-to-bytes codecs, in this order.

    Raises:
        MetadataError: with a pointer to the codec that stands in the wrong place.
    """
    stage = 0
    for i, codec in enumerate(codecs):
        kind = 0 if isinstance(codec, ArrayArrayCodec) else 1 if isinstance(codec, ArrayBytesCodec) else 2
        if kind < stage or (kind == 1 and stage == 1) or (kind == 2 and stage == 0):
            expected = (
                "an array-to-array or array-to-bytes codec",
                "a bytes-to-bytes codec",
                "a bytes-to-bytes codec",
            )[stage]
            raise MetadataError(
                f"codec {codec.name!r} is in the wrong place", pointer=f"/{i}", expected=expected, found=codec.name
            )
        stage = max(stage, kind)
    if stage == 0:
        raise MetadataError(
            "no array-to-bytes codec",
            expected="one array-to-bytes codec, such as 'bytes'",
            found=[codec.name for codec in codecs],
        )


@dataclass(frozen=True, slots=True)
class BoundChain:
    """Codecs bound to one kind of chunk. Used from many threads at once.

    Attributes:
        spec: the chunk as the array sees it.
        encoded: the length of its bytes.
    """

    spec: ChunkSpec
    array_codecs: tuple[BoundArrayArray, ...]
    serializer: BoundArrayBytes
    byte_codecs: tuple[BoundBytesBytes, ...]
    encoded: ByteSpec
    # Reversed once here instead of once a chunk.
    _decode_bytes: tuple[BoundBytesBytes, ...]
    _decode_arrays: tuple[BoundArrayArray, ...]
    # Whether ``encode`` should be told where the chunk is.
    needs_coords: bool = False
    # The codec, where a large chunk is its elements in C order, in blocks that decode by themselves.
    framed: BoundBlosc | None = None

    def encode(self, array: AnyArray, coords: tuple[int, ...] | None = None) -> Buffer:
        """Array of ``spec.shape`` to the bytes that are stored.

        Args:
            coords: of the chunk in the grid of the array's (inner) chunks, where ``needs_coords`` asks for it.
        """
        for codec in self.array_codecs:
            array = codec.encode(array)
        data = self.serializer.encode(array)
        for byte_codec in self.byte_codecs:
            data = byte_codec.encode(data) if coords is None else byte_codec.encode_at(data, coords)
        return data

    def decode(self, data: Buffer) -> AnyArray:
        """Stored bytes to an array of ``spec.shape`` and ``spec.dtype`` (up to byte order); may be a read-only view.

        Raises:
            CodecError: damaged, or not of this kind of chunk.
        """
        for codec in self._decode_bytes:
            data = codec.decode(data)
        return self._to_array(data)

    def _to_array(self, data: Buffer) -> AnyArray:
        array = self.serializer.decode(data)
        for array_codec in self._decode_arrays:
            array = array_codec.decode(array)
        return array

    def decode_each(self, encoded: Encoded) -> Iterator[AnyArray]:
        """:meth:`decode` of each, in order; by fewer calls where the library can.

        Raises:
            CodecError: when it is the turn of the one that is damaged.
        """
        codecs = self._decode_bytes
        found = codecs[0].decode_many(encoded) if len(codecs) == 1 and len(encoded) > 1 else None
        return map(self.decode, encoded) if found is None else map(self._to_array, found)

    def decode_joined(self, encoded: Encoded) -> AnyArray | None:
        """Decode all to one array, with one axis more in front. None where what they decode to can't be put side by
        side, and where something is wrong with any of them: :meth:`decode` says what.
        """
        from zarrdock.codecs.bytes_ import BoundBytes

        serializer, nbytes = self.serializer, self.serializer.encoded.exact
        if self.array_codecs or not isinstance(serializer, BoundBytes):
            return None
        codecs = self._decode_bytes
        pieces = codecs[0].decode_many(encoded) if len(codecs) == 1 else None
        if pieces is None:
            pieces = list(encoded)
            try:
                for codec in codecs:
                    pieces = list(map(codec.decode, pieces))
            except CodecError:
                return None
        if {*map(len, pieces)} != {nbytes}:
            return None
        try:
            return serializer.decode_joined(b"".join(pieces), len(pieces))
        except CodecError:
            return None

    @property
    def is_plain(self) -> bool:
        """True where a chunk's bytes are its elements in C order and nothing else: part of it is then a byte range."""
        from zarrdock.codecs.bytes_ import BoundBytes

        return not self.array_codecs and not self.byte_codecs and isinstance(self.serializer, BoundBytes)

    def fill(self) -> AnyArray:
        """A read-only chunk full of the fill value, of zero strides: costs no memory."""
        return np.broadcast_to(np.asarray(self.spec.fill_value, self.spec.dtype), self.spec.shape)


def bind_chain(codecs: tuple[Codec, ...], spec: ChunkSpec) -> BoundChain:
    """Bind codecs to a chunk.

    Raises:
        MetadataError: a codec in the wrong place, or one that can't work on such a chunk; the pointer begins with the
            codec's place in the list.
    """
    check_kinds(codecs)
    array_codecs: list[BoundArrayArray] = []
    byte_codecs: list[BoundBytesBytes] = []
    serializer: BoundArrayBytes | None = None
    current, length = spec, ByteSpec(None, 0)
    for i, codec in enumerate(codecs):
        try:
            if isinstance(codec, ArrayArrayCodec):
                array_codecs.append(codec.bind(current))
                current = array_codecs[-1].encoded
            elif isinstance(codec, ArrayBytesCodec):
                serializer = codec.bind(current)
                length = serializer.encoded
            elif isinstance(codec, BytesBytesCodec):
                byte_codecs.append(codec.bind(length))
                length = byte_codecs[-1].encoded
        except MetadataError as error:
            raise error.below(f"/{i}") from error.__cause__
    assert serializer is not None  # check_kinds saw to it
    return BoundChain(
        spec,
        tuple(array_codecs),
        serializer,
        tuple(byte_codecs),
        length,
        tuple(reversed(byte_codecs)),
        tuple(reversed(array_codecs)),
        any(codec.needs_coords for codec in byte_codecs),
        _framed(spec, array_codecs, serializer, byte_codecs),
    )


# Of smaller chunks it is not worth while to read but a part.
_FRAMED_NBYTES = 512 * 2**10


def _framed(
    spec: ChunkSpec,
    array_codecs: list[BoundArrayArray],
    serializer: BoundArrayBytes,
    byte_codecs: list[BoundBytesBytes],
) -> BoundBlosc | None:
    if array_codecs or len(byte_codecs) != 1 or not byte_codecs[0].in_blocks or spec.nbytes < _FRAMED_NBYTES:
        return None
    from zarrdock.codecs.blosc_ import BoundBlosc
    from zarrdock.codecs.bytes_ import BoundBytes

    (codec,) = byte_codecs
    return codec if isinstance(serializer, BoundBytes) and isinstance(codec, BoundBlosc) else None
