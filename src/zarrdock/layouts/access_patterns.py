"""Patterns of access: what readers of an array are going to ask for, or did ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

__all__ = ["Access", "Kind", "boxes", "lines", "planes", "read_log"]

Kind: TypeAlias = Literal["boxes", "planes", "lines"]


@dataclass(frozen=True, slots=True)
class Access:
    """Reads of one kind, one after another.

    Attributes:
        name: for people. selections: as numpy's brackets take them.
    """

    name: str
    selections: tuple[Any, ...]


def boxes(shape: Sequence[int], size: Sequence[int], n: int, *, seed: int = 0) -> list[Access]:
    """Random boxes of one size, cut to the array; every place is as likely as any other."""
    random = np.random.default_rng(seed)
    lengths = [min(a, b) for a, b in zip(size, shape, strict=True)]
    corners = [random.integers(0, length - own + 1, n) for length, own in zip(shape, lengths, strict=True)]
    found = tuple(
        tuple(slice(int(at), int(at) + own) for at, own in zip(corner, lengths, strict=True))
        for corner in zip(*corners, strict=True)
    )
    return [Access(f"boxes {'×'.join(map(str, lengths))}", found)] if 0 not in shape and found else []


def planes(shape: Sequence[int], n: int, *, names: Sequence[str | None] | None = None, seed: int = 0) -> list[Access]:
    """Random whole planes: one index fixed, all others free; one pattern an axis."""
    random = np.random.default_rng(seed)
    found = []
    for axis, length in enumerate(shape):
        if length > 1:
            at = random.integers(0, length, n).tolist()
            before = (slice(None),) * axis
            found.append(Access(f"planes at {_axis(axis, names)}", tuple((*before, i, Ellipsis) for i in at)))
    return found


def lines(shape: Sequence[int], n: int, *, names: Sequence[str | None] | None = None, seed: int = 0) -> list[Access]:
    """Random whole lines: one index free, all others fixed; one pattern an axis."""
    random = np.random.default_rng(seed)
    found = []
    for axis, length in enumerate(shape):
        if length > 1:
            places = [random.integers(0, max(other, 1), n).tolist() for other in shape]
            rows = zip(*places, strict=True)
            free = tuple((*row[:axis], slice(None), *row[axis + 1 :]) for row in rows)
            found.append(Access(f"lines along {_axis(axis, names)}", free))
    return found


def _axis(axis: int, names: Sequence[str | None] | None) -> str:
    return (names[axis] if names is not None else None) or f"axis {axis}"


def read_log(path: str | Path) -> Iterator[tuple[int, str]]:
    """Selections of a log, one per line: the number of the line, and its text. Empty lines and those that begin with
    ``#`` are left out.
    """
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if text and not text.startswith("#"):
                yield number, text
