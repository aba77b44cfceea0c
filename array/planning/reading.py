"""What the steps of a read yield, and what they go by."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zarrdock.array.planning.chunk_cache import Chunks
from zarrdock.array.planning.index_cache import IndexCache
from zarrdock.array.planning.layout import Layout
from zarrdock.array.planning.pieces import Task
from zarrdock.stores.base import Read, Result, Traits, Version

__all__ = ["Asked", "ReadSettings", "Steps"]


@dataclass(frozen=True, slots=True)
class Asked:
    """The reads of one step.

    Attributes:
        is_data: False for indexes, which a plan may read.
        nbytes: what the answers will hold, as far as known.
        following: the steps that will follow without depending on the answers: a large shard's later rounds.
    """

    reads: list[Read]
    is_data: bool
    nbytes: int
    following: Sequence[Asked] = ()


Steps: TypeAlias = Generator[Asked, list[Result], None]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What a read goes by.

    Attributes:
        round_bytes: bytes one round may bring.
        whole_fraction: from this share of an object's chunks on it is read whole.
        chunks: where decoded chunks are kept, if they are.
        in_part: chunks may be handed over in part. in_blocks: and read by what their own headers say.
        seen: where given, filled with the version of every object that was read, None for those that are not there.
    """

    layout: Layout
    traits: Traits
    cache: IndexCache
    round_bytes: int
    whole_fraction: float
    chunks: Chunks | None = None
    seen: dict[str, Version | None] | None = None
    in_part: bool = True
    in_blocks: bool = True

    def note(self, key: str, version: Version | None) -> None:
        """Remember which version of an object was read; None: it was not there."""
        if self.seen is not None:
            self.seen[key] = version

    def wants_whole(self, task: Task) -> bool:
        """True where reading the object in one request beats reading its index first."""
        if task.layout.chain.spec.nbytes > 4 * self.round_bytes:
            return False  # one answer would be larger than all that a read may hold
        return task.pieces.n_leaves >= self.whole_fraction * task.n_inside
