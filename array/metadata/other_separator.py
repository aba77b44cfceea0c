"""Chunks that lie under the other separator: at ``0/0`` while the metadata says ``0.0``. They read as fill value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarrdock.array.metadata.key_encodings import SeparatedKeys

if TYPE_CHECKING:
    from zarrdock.array.metadata.key_encodings import KeyEncoding
    from zarrdock.array.metadata.v3 import ArrayMetadata

__all__ = ["explain", "likely_other", "other_keys"]


def other_keys(encoding: KeyEncoding, ndim: int) -> SeparatedKeys | None:
    """The encoding with the other separator; None where the separator makes no difference."""
    if not isinstance(encoding, SeparatedKeys) or (encoding.name == "v2" and ndim < 2):
        return None
    return SeparatedKeys(encoding.name, "." if encoding.separator == "/" else "/")


def likely_other(metadata: ArrayMetadata) -> SeparatedKeys | None:
    """The encoding that the chunks of an array may have against its metadata; only where v2 metadata name none."""
    if metadata.v2 is None or metadata.v2.names_separator:
        return None
    return other_keys(metadata.key_encoding, metadata.ndim)


def explain(keys: SeparatedKeys, found: str, zarr_format: int, n: int = 1) -> str:
    """Text of one line that says where the chunks are, and which member to change so that they are read."""
    lie = f"a chunk lies at {found!r}" if n == 1 else f"{n} chunks lie at keys such as {found!r}"
    named = f'"{"dimension_separator" if zarr_format == 2 else "separator"}": "{keys.separator}"'
    place = ".zarray" if zarr_format == 2 else "the configuration of chunk_key_encoding in zarr.json"
    return (
        f"{lie}, which the metadata never lead to; to have it read, name the separator {keys.separator!r} "
        f"({named} in {place})"
    )
