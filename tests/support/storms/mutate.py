"""Broken inputs made of good ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Final

__all__ = ["mutated"]

_NUMBERS: Final = (
    0,
    1,
    15,
    16,
    255,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 16,
    2**64 - 1,
)
_TOKENS: Final = (
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"9" * 5000,
    b"18446744073709551616",
    b"1000000000000000000",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"\xff",
    b"\x00",
    b"\\u0000",
    b"\\ud800",
    b"\xc3\x28",
    b"../",
)


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """``data`` with a few things wrong with it.

    Args:
        others: where pieces come from.
    """
    broken = bytearray(data)
    for _ in range(1 + min(rng.randrange(1, 8), rng.randrange(1, 8)) // 2):
        n = len(broken)
        at = rng.randrange(n + 1)
        match rng.randrange(10):
            case 0:
                del broken[at:]
            case 1:
                del broken[at : at + rng.randrange(1, 17)]
            case 2 | 3 if n:
                broken[at % n] ^= 1 << rng.randrange(8)
            case 4 if n:
                broken[at % n] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 5:
                width, order = rng.choice("HIQ"), rng.choice("<>")
                packed = struct.pack(f"{order}{width}", rng.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(f"<{width}")))
                broken[at : at + len(packed)] = packed
            case 6:
                broken[at:at] = rng.choice(_TOKENS)
            case 7:  # an old piece in a new place
                start = rng.randrange(n + 1)
                broken[at:at] = broken[start : start + rng.randrange(1, 65)]
            case 8:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                broken[at : at + rng.randrange(17)] = other[start : start + rng.randrange(1, 129)]
            case _:
                broken[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(broken)
