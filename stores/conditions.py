"""Conditional requests of services: expected versions, lineages of writes, answers.

**A lost reply.** A conditional write may be applied while its reply is lost. The retry is then refused, because the
object is no longer the version it was: by our own write, or by another writer's? Comparing contents can't tell: two
writers that both count from 5 to 6 write the same bytes. So each conditional write marks the object's metadata with a
token of its own, followed by the tokens of the writes it was built on (its *lineage*), and the lineage found there
afterwards decides: see :func:`landed`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

from zarrdock.stores.base import Version

__all__ = [
    "ABSENT",
    "AZURE_METADATA_NAME",
    "METADATA_NAME",
    "Absent",
    "Answer",
    "Conditions",
    "Expected",
    "Lineage",
    "landed",
]

METADATA_NAME: Final = "zarrdock-writes"
# Azure takes identifiers only; servers in between drop headers with underscores.
AZURE_METADATA_NAME: Final = "zarrdockwrites"
# S3 allows 2 KiB of metadata for each object; 64 tokens of 12 characters take 831 bytes.
MAX_LINEAGE: Final = 64


class Absent(enum.Enum):
    """The condition that there is no such key."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
Expected: TypeAlias = "Version | Absent | None"  # None: whatever is there


@dataclass(frozen=True, slots=True)
class Lineage:
    """The tokens of the writes an object was built by, the newest first.

    ``is_whole`` where it goes back to a write that replaced everything; otherwise older ones were dropped, or the
    service does not keep them.
    """

    tokens: tuple[str, ...] = ()
    is_whole: bool = True

    def then(self, token: str) -> Lineage:
        """The lineage of the next write."""
        return Lineage((token, *self.tokens[: MAX_LINEAGE - 1]), self.is_whole and len(self.tokens) < MAX_LINEAGE)

    def __str__(self) -> str:
        return ",".join(self.tokens) + ("" if self.is_whole else ",...")

    @classmethod
    def parse(cls, text: str | None) -> Lineage:
        """Parse the text made by ``str``; any other text gives a lineage that matches no token."""
        if not text:
            return _NO_LINEAGE
        tokens = tuple(part for part in text.split(",") if part)
        return cls(tokens[:-1], False) if tokens[-1:] == ("...",) else cls(tokens)


_NO_LINEAGE: Final = Lineage()


def landed(token: str, parent: Lineage, found: Lineage) -> bool | None:
    """Decide from the lineage found now if the write marked ``token``, built on a value of lineage ``parent``, was
    applied.

    Returns:
        True: it was, and the present value was built on it. False: it was not, or a writer that did not look at its
            value has replaced that as a whole, so that making the change now counts it once. None: undecidable.
    """
    if token in found.tokens:
        return True
    if parent.tokens and parent.tokens[0] in found.tokens:
        return False  # all that followed our parent is in sight, and we are not there
    return False if found.is_whole else None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditional requests that a service refuses, as it must, when the condition does not hold.

    Attributes:
        create: PUT of an object that must not exist. replace: PUT over one version only. delete: DELETE of one version.
    """

    create: bool = True
    replace: bool = True
    delete: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful GET: the body and what the headers say of it. ``length`` is what was announced, None where the
    body was decoded on the way.
    """

    data: bytes | bytearray
    version: Version
    status: int
    content_range: str | None = None
    length: int | None = None
    lineage: Lineage = Lineage()
