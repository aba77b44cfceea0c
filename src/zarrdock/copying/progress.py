"""State of a copy under way: its progress, and the mark it leaves in the destination until it is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zarrdock.array.node_storage import join
from zarrdock.array.removal import COPY_MARK
from zarrdock.errors import KeyExistsError, NodeExistsError
from zarrdock.stores.base import Store
from zarrdock.stores.identity import Identity

__all__ = ["MARK", "CopyProgress", "IncompleteCopyWarning", "Mark", "below"]

#: Name of the mark, next to where the copy's metadata will be. No Zarr reader takes it for a part of a hierarchy.
MARK = COPY_MARK


def below(path: str, relative: str) -> str:
    """The path or key ``relative`` below ``path``; either may be empty."""
    return join(path, relative) if relative else path


class IncompleteCopyWarning(UserWarning):
    """A copy is done, but lacks something of the source."""


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Progress of a copy.

    Attributes:
        path: of the array at work, relative to the source node; "" for the root.
        nbytes: bytes of elements dealt with, uncompressed, and nbytes_total: of all arrays together.
        n_objects: objects written, and nbytes_written: their bytes.
        n_kept: objects found finished by an earlier attempt.
        n_files: files copied that lie in the hierarchy and are no Zarr.
        left_out: what the copy does not have of the source, and why, one line each.
    """

    path: str = ""
    nbytes: int = 0
    nbytes_total: int = 0
    n_objects: int = 0
    nbytes_written: int = 0
    n_kept: int = 0
    n_files: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of an unfinished copy.

    Attributes:
        source: URL of the source, without credentials.
        fingerprint: of the source's identity and all metadata that the copy will have: what other settings, or another
            source, would change.
    """

    source: str
    fingerprint: str

    @classmethod
    def of(cls, source: str, identity: Identity | None, documents: Mapping[str, bytes]) -> Mark:
        """The mark of a copy that will have these documents."""
        digest = hashlib.sha256(f"{identity}\0".encode())
        for key in sorted(documents):
            digest.update(b"%s\0%d\0" % (key.encode(), len(documents[key])))
            digest.update(documents[key])
        return cls(source, digest.hexdigest())

    @classmethod
    def read(cls, store: Store, path: str) -> Mark | None:
        """The mark at ``path``, if there is one; one that cannot be read is a mark of nothing known."""
        blob = store.get(below(path, MARK))
        if blob is None:
            return None
        try:
            document = json.loads(bytes(blob.data))
            return cls(str(document["source"]), str(document["fingerprint"]))
        except (ValueError, KeyError, TypeError):
            return cls("", "")

    def write(self, store: Store, path: str, arrays: list[dict[str, Any]]) -> None:
        """Leave the mark. Two copies that begin at once are caught here, where the store can tell.

        Args:
            arrays: how the chunks of the copy's arrays are named: they are there before their documents are.
        Raises:
            NodeExistsError: another copy began in this moment.
        """
        document = {
            "about": "an unfinished copy by zarrdock: run it again to complete it",
            "source": self.source,
            "fingerprint": self.fingerprint,
            "arrays": arrays,
        }
        try:
            store.write(below(path, MARK), json.dumps(document, indent=1).encode(), create_only=True)
        except KeyExistsError:
            raise NodeExistsError(f"another copy to {path or '/'!r} in {store} has just begun: wait for it") from None

    def remove(self, store: Store, path: str) -> None:
        """The copy is finished."""
        store.delete(below(path, MARK))
