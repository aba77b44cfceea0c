"""What the tests of layouts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from zarrdock.codecs.builtin import CODECS
from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Configuration


@dataclass(frozen=True)
class Counting(BytesBytesCodec):
    """A codec that does nothing but count."""

    name: ClassVar[str] = "example.counting"
    calls: ClassVar[list[str]] = []

    @classmethod
    def from_json(cls, configuration: Configuration) -> Counting:
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def bind(self, spec: ByteSpec) -> BoundBytesBytes:
        return _Bound(spec)


class _Bound(BoundBytesBytes):
    def __init__(self, spec: ByteSpec) -> None:
        self.decoded, self.encoded = spec, spec

    def encode(self, data: Buffer) -> Buffer:
        Counting.calls.append("encode")
        return data

    def decode(self, data: Buffer) -> Buffer:
        Counting.calls.append("decode")
        return data


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The codec, known by its name for the length of a test."""
    monkeypatch.setitem(CODECS._loaded, Counting.name, Counting)
    Counting.calls.clear()
    return Counting()
