"""Codecs in order: what stands where, and what a bound chain knows and does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.chain import bind_chain
from zarrdock.codecs.codec import ChunkSpec, Codec
from zarrdock.codecs.crc32c_ import Crc32c
from zarrdock.codecs.gzip_ import Gzip
from zarrdock.codecs.sharding import Sharding
from zarrdock.codecs.transpose import Transpose
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import ChecksumError, MetadataError

SPEC = ChunkSpec((3, 4), np.dtype("i4"), np.int32(7))


@pytest.mark.parametrize(
    "codecs, pointer",
    [
        ((), ""),
        ((Transpose((1, 0)),), ""),
        ((Zstd(),), "/0"),
        ((Bytes(), Bytes()), "/1"),
        ((Bytes(), Transpose((1, 0))), "/1"),
        ((Bytes(), Zstd(), Bytes()), "/2"),
        ((Transpose((1, 0)), Crc32c(), Bytes()), "/1"),
        ((Transpose((0, 1, 2)), Bytes()), "/0/configuration/order"),
        ((Transpose((1, 0)), Bytes(None)), "/1/configuration/endian"),
    ],
)
def test_what_does_not_fit_is_refused_where_it_stands(codecs: tuple[Codec, ...], pointer: str) -> None:
    with pytest.raises(MetadataError) as caught:
        bind_chain(codecs, SPEC)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "codecs",
    [
        (Bytes(),),
        (Bytes("big"), Crc32c()),
        (Transpose((1, 0)), Bytes(), Zstd(), Crc32c()),
        (Transpose((1, 0)), Transpose((1, 0)), Bytes(), Gzip()),
        (Transpose((1, 0)), Sharding((2, 3), (Transpose((1, 0)), Bytes(), Zstd())), Crc32c()),
    ],
)
@pytest.mark.parametrize("order", ["C", "F", "strided", "broadcast", "big"])
def test_decode_is_the_inverse_of_encode(codecs: tuple[Codec, ...], order: Any) -> None:
    chain = bind_chain(codecs, SPEC)
    array = np.arange(12, dtype="i4").reshape(3, 4)
    match order:
        case "F":
            array = np.asfortranarray(array)
        case "strided":
            array = np.repeat(np.repeat(array, 2, 0), 3, 1)[::2, ::3]
        case "broadcast":
            array = np.broadcast_to(array[:, :1], (3, 4))
        case "big":
            array = array.astype(">i4")
    data = chain.encode(array)
    found = chain.decode(data)
    assert found.shape == (3, 4)
    assert found.dtype.newbyteorder("=") == np.int32
    np.testing.assert_array_equal(found, array)
    if chain.encoded.exact is not None:
        assert len(data) == chain.encoded.exact
    assert len(data) <= chain.encoded.limit


def test_what_a_chain_knows() -> None:
    assert bind_chain((Bytes(), Crc32c()), SPEC).encoded.exact == 52
    assert bind_chain((Bytes(), Zstd()), SPEC).encoded.exact is None
    assert bind_chain((Bytes(),), SPEC).is_plain
    assert not bind_chain((Bytes(), Crc32c()), SPEC).is_plain
    assert not bind_chain((Transpose((1, 0)), Bytes()), SPEC).is_plain


def test_codecs_are_undone_in_reverse() -> None:
    inside_out = bind_chain((Bytes(), Crc32c(), Zstd()), SPEC)
    data = bytearray(inside_out.encode(np.zeros((3, 4), "i4")))
    assert data[:4] == b"\x28\xb5\x2f\xfd"  # a Zstandard frame outermost
    outside = bind_chain((Bytes(), Zstd(), Crc32c()), SPEC)
    damaged = bytearray(outside.encode(np.zeros((3, 4), "i4")))
    damaged[8] ^= 1
    with pytest.raises(ChecksumError):  # the checksum is looked at before the frame
        outside.decode(bytes(damaged))


def test_fill_is_a_chunk_that_costs_nothing() -> None:
    fill = bind_chain((Bytes(),), SPEC).fill()
    assert fill.shape == (3, 4)
    assert fill.strides == (0, 0)
    assert (fill == 7).all()
    assert not fill.flags.writeable
