"""Chunk key encodings: grid coordinates to keys below the array's path, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.array.json_ import JSON, named, pointer_to, reject_members
from zarrdock.errors import MetadataError, UnknownExtensionError

__all__ = ["KeyEncoding", "Separator"]

Separator: TypeAlias = Literal["/", "."]

_DEFAULT_SEPARATORS: dict[str, Separator] = {"default": "/", "v2": "."}
# Decimal without leading zeros, below 10**19: nothing else is ever written.
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyEncoding:
    """``default``: ``c/1/2``, and ``c`` for an array without dimensions. ``v2``: ``1.2``, and ``0``.

    Source: Zarr v3, chunk key encodings "default" and "v2"; Zarr v2, "Chunks".
    """

    name: Literal["default", "v2"] = "default"
    separator: Separator = "/"

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> KeyEncoding:
        """Of the metadata's ``chunk_key_encoding``; the separator may be left out ("/" for default, "." for v2).

        Raises:
            UnknownExtensionError: another encoding. MetadataError: not an encoding.
        """
        name, configuration = named(value, pointer, what="chunk key encoding")
        if name not in _DEFAULT_SEPARATORS:
            hint = "zarrdock knows default and v2; known extensions: https://github.com/zarr-developers/zarr-extensions"
            raise UnknownExtensionError("chunk key encoding", name, hint=hint, pointer=pointer)
        place = pointer_to(pointer, "configuration")
        reject_members(configuration, {"separator"}, place)
        separator = configuration.get("separator", _DEFAULT_SEPARATORS[name])
        if separator not in ("/", "."):
            raise MetadataError(pointer=pointer_to(place, "separator"), expected="'/' or '.'", found=separator)
        return cls("default" if name == "default" else "v2", separator)

    def to_json(self) -> dict[str, Any]:
        """The metadata's ``chunk_key_encoding``."""
        return {"name": self.name, "configuration": {"separator": self.separator}}

    def key(self, coords: Sequence[int]) -> str:
        """The key of one chunk."""
        numbers = self.separator.join(map(str, coords))
        if self.name == "v2":
            return numbers or "0"
        return f"c{self.separator}{numbers}" if numbers else "c"

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        """The keys of many chunks: ``coords`` has shape (n, ndim)."""
        n, ndim = coords.shape
        if ndim == 0:
            return [self.key(())] * n
        pattern = self.separator.join(["%d"] * ndim)
        if self.name == "default":
            pattern = f"c{self.separator}{pattern}"
        # One C call a key: no Python frame, no list of coordinates.
        return list(map(pattern.__mod__, zip(*coords.T.tolist(), strict=True)))

    def parse(self, key: str, ndim: int | None = None) -> tuple[int, ...] | None:
        """The coordinates that a key stands for; None where it is not a chunk's key (of ``ndim`` dimensions, if given).

        Without ``ndim`` the key "0" of v2 is taken for one dimension, though an array without dimensions has it too.
        """
        if self.name == "v2":
            if ndim == 0:
                return () if key == "0" else None
            numbers = key
        elif key == "c":
            return () if not ndim else None
        elif key.startswith(f"c{self.separator}"):
            numbers = key[2:]
        else:
            return None
        parts = numbers.split(self.separator)
        if (ndim is not None and len(parts) != ndim) or not all(map(_NUMBER.fullmatch, parts)):
            return None
        return tuple(map(int, parts))
