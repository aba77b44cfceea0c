"""Chunk key encodings: grid coordinates to keys below the array's path, and back.

Here are those of the specification itself; those of the extension registry are in ``key_extensions.py``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.json_ import JSON, named, pointer_to, reject_members
from zarrdock.errors import MetadataError

__all__ = ["NUMBER", "KeyEncoding", "SeparatedKeys", "Separator"]

Separator: TypeAlias = Literal["/", "."]

_DEFAULT_SEPARATORS: dict[str, Separator] = {"default": "/", "v2": "."}
#: Decimal without leading zeros, below 10**19: nothing else is ever written.
NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,18})", re.ASCII)


class KeyEncoding(ABC):
    """How the coordinates of chunks become keys."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """The extension's."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The metadata's ``chunk_key_encoding``."""

    @abstractmethod
    def key(self, coords: Sequence[int]) -> str:
        """The key of one chunk."""

    @abstractmethod
    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        """The coordinates that a key stands for; None where it is not the key of a chunk of ``ndim`` dimensions."""

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        """The keys of many chunks: ``coords`` has shape (n, ndim)."""
        return list(map(self.key, coords.tolist()))

    def check(self, ndim: int, pointer: str) -> None:
        """Make sure that the chunks of an array of ``ndim`` dimensions have keys, and no two the same.

        Args:
            pointer: to the encoding.
        Raises:
            MetadataError: they don't.
        """
        sample = self.key((0,) * ndim)
        parts = sample.split("/")
        if {"", ".", ".."} & set(parts) or parts[-1] == "zarr.json" or re.search(r"[\0\\\ud800-\udfff]", sample):
            raise MetadataError(
                "keys that stores can't have",
                pointer=pointer_to(pointer, "configuration"),
                expected="Unicode text whose parts between slashes are neither empty nor dots, without \\ and null",
                found=sample,
            )

    def in_v2(self) -> SeparatedKeys:
        """The encoding of Zarr v2 that is the nearest."""
        return SeparatedKeys("v2", ".")


@dataclass(frozen=True, slots=True)
class SeparatedKeys(KeyEncoding):
    """``default``: ``c/1/2``, and ``c`` for an array without dimensions. ``v2``: ``1.2``, and ``0``.

    Source: Zarr v3, chunk key encodings "default" and "v2"; Zarr v2, "Chunks".
    """

    name: Literal["default", "v2"] = "default"
    separator: Separator = "/"

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> SeparatedKeys:
        """Of the metadata's ``chunk_key_encoding``; the separator may be left out ("/" for default, "." for v2).

        Raises:
            MetadataError: not such an encoding.
        """
        name, configuration = named(value, pointer, what="chunk key encoding")
        place = pointer_to(pointer, "configuration")
        reject_members(configuration, {"separator"}, place)
        separator = configuration.get("separator", _DEFAULT_SEPARATORS[name])
        if separator not in ("/", "."):
            raise MetadataError(pointer=pointer_to(place, "separator"), expected="'/' or '.'", found=separator)
        return cls("default" if name == "default" else "v2", separator)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"separator": self.separator}}

    def key(self, coords: Sequence[int]) -> str:
        numbers = self.separator.join(map(str, coords))
        if self.name == "v2":
            return numbers or "0"
        return f"c{self.separator}{numbers}" if numbers else "c"

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        n, ndim = coords.shape
        if ndim == 0:
            return [self.key(())] * n
        pattern = self.separator.join(["%d"] * ndim)
        if self.name == "default":
            pattern = f"c{self.separator}{pattern}"
        # One C call a key: no Python frame, no list of coordinates.
        return list(map(pattern.__mod__, zip(*coords.T.tolist(), strict=True)))

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        if self.name == "v2":
            if not ndim:
                return () if key == "0" else None
            numbers = key
        elif not ndim:
            return () if key == "c" else None
        elif key.startswith(f"c{self.separator}"):
            numbers = key[2:]
        else:
            return None
        parts = numbers.split(self.separator)
        if len(parts) != ndim or not all(map(NUMBER.fullmatch, parts)):
            return None
        return tuple(map(int, parts))

    def check(self, ndim: int, pointer: str) -> None:
        return None

    def in_v2(self) -> SeparatedKeys:
        return SeparatedKeys("v2", self.separator)
