"""Patterns of access: what readers of an array are going to ask for, or did ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from zarrdock.array.array import Array
from zarrdock.errors import SelectionError

__all__ = ["Access", "Kind", "Recorded", "boxes", "lines", "planes", "read_log", "selection_text"]

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


# -- logs -------------------------------------------------------------------------------------------------------------


def selection_text(selection: Any) -> str:
    """A selection as ``zarrdock plan`` takes it: ``0:64, 3, ..., [1, 5]``.

    Raises:
        SelectionError: it can't be written so (masks of several dimensions, nested lists).
    """
    items = selection if isinstance(selection, tuple) else (selection,)
    return ", ".join(_item_text(item) for item in items)


def _item_text(item: Any) -> str:
    if item is Ellipsis:
        return "..."
    if isinstance(item, slice):
        ends = ["" if end is None else str(int(end)) for end in (item.start, item.stop, item.step)]
        return ":".join(ends if item.step is not None else ends[:2])
    array = np.asarray(item)
    if array.dtype == bool and array.ndim == 1:
        array = np.flatnonzero(array)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise SelectionError(f"cannot be written to a log: {item!r}")
    return str(int(array)) if array.ndim == 0 else f"[{', '.join(map(str, array.tolist()))}]"


class Recorded:
    """An array that writes what is read of it to a file, one JSON document a line, for ``zarrdock layout --access``.

    All else is the array's own. For one process; lines are whole also where several threads read.

    Args:
        array: the array. path: of the file; lines are added at its end.
    """

    def __init__(self, array: Array, path: str | Path) -> None:
        self._array = array
        self._path = Path(path)

    def __getitem__(self, selection: Any) -> Any:
        self._note(selection)
        return self._array[selection]

    def read(self, selection: Any = ..., *arguments: Any, **settings: Any) -> Any:
        """:meth:`Array.read`, recorded."""
        self._note(selection)
        return self._array.read(selection, *arguments, **settings)

    def _note(self, selection: Any) -> None:
        line = json.dumps({"selection": selection_text(selection)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)


def read_log(path: str | Path) -> Iterator[str]:
    """Selections of a log, as text: JSON documents with a member ``selection``, or selections themselves, one a line.
    Empty lines and those that begin with ``#`` are left out.

    Raises:
        SelectionError: a line is something else; it is named.
    """
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if not text.startswith("{"):
                yield text
                continue
            try:
                selection = json.loads(text)["selection"]
            except (ValueError, KeyError, TypeError):
                selection = None
            if not isinstance(selection, str):
                raise SelectionError(f"{path}, line {number}: no JSON document with a member 'selection' that is text")
            yield selection
