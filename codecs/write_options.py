"""Options for writing arrays: settings of a writer, never part of the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np

from zarrdock.codecs.chunk_order import Order, frozen
from zarrdock.errors import UnsupportedError

__all__ = ["DEFAULT_WRITE_OPTIONS", "WriteOptions", "WriteOptionsLike", "write_options"]


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Settings of a writer of arrays. They are not stored, and readers need not know them.

    Args:
        write_empty_chunks: store chunks that hold nothing but the fill value.
        subchunk_write_order: order of the chunks in a shard: "lexicographic", "colexicographic", "morton", "hilbert",
            "unordered", a permutation, a callable that makes one of the grid's shape, or a sequence of these, one per
            level of shards.
        in_place: change parts of shards without reading and writing the rest, in folders of the local file system: as
            atomic and as safe from crashes as without it. Chunks go over those they replace, where they fit, else
            behind all others; see ``docs/explanation/layout.md``.
        single_writer: the caller vouches that nothing else writes to the array meanwhile. Stores without an atomic
            update then change parts of chunks all the same; other stores take no notice.
        max_garbage: with ``in_place``, a shard of which more than this share would be garbage is written anew.
    Raises:
        UnsupportedError: no order, no share, or neither True nor False.

    >>> WriteOptions(subchunk_write_order="morton").subchunk_write_order
    'morton'
    """

    write_empty_chunks: bool = False
    subchunk_write_order: Order = "lexicographic"
    in_place: bool = False
    single_writer: bool = False
    max_garbage: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "subchunk_write_order", frozen(self.subchunk_write_order))
        for name in ("write_empty_chunks", "in_place", "single_writer"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise UnsupportedError(f"{name}: True or False, not {getattr(self, name)!r}")
        if not 0 <= self.max_garbage <= 1:
            raise UnsupportedError(f"max_garbage: a share between 0 and 1, not {self.max_garbage!r}")


WriteOptionsLike: TypeAlias = "WriteOptions | Mapping[str, Any] | None"

DEFAULT_WRITE_OPTIONS = WriteOptions()


def write_options(given: WriteOptionsLike, default: WriteOptions = DEFAULT_WRITE_OPTIONS) -> WriteOptions:
    """The options a user gave: an object, a mapping of some of its fields over ``default``, or None for ``default``.

    Raises:
        UnsupportedError: a field that does not exist, or a wrong value.
    """
    if given is None:
        return default
    if isinstance(given, WriteOptions):
        return given
    names = [field.name for field in fields(WriteOptions)]
    if not isinstance(given, Mapping):
        raise UnsupportedError(f"options: zarrdock.WriteOptions, or a mapping of {', '.join(names)}; not {given!r}")
    values = {name: getattr(default, name) for name in names}
    for name, value in given.items():
        if name not in values:
            raise UnsupportedError(f"options: there is no {name!r}, only {', '.join(names)}")
        values[name] = value
    return WriteOptions(**values)
