"""Opening nodes as commands do: leniently, so that nodes with unknown extensions can still be shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.unknown import UnknownGrid
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node_storage import node_path
from zarrdock.cli.app import did_you_mean
from zarrdock.cli.output import shape_text
from zarrdock.codecs.sharding import Sharding
from zarrdock.copying.conversions import Described, contents_of, tiff_folder
from zarrdock.copying.recognise import FileKind, ForeignFile, find_file
from zarrdock.copying.sources import load_root
from zarrdock.copying.target_metadata import Wishes
from zarrdock.errors import NodeNotFoundError, ZarrdockError
from zarrdock.stores.base import Store
from zarrdock.stores.open import open_store
from zarrdock.stores.urls import path_of_file_url

__all__ = ["Found", "brief", "find", "leaf", "name_left_out", "neighbour"]


@dataclass(frozen=True, slots=True)
class Found:
    """A node, and where it is.

    Attributes:
        file: the file that is shown as Zarr, where the URL names one: HDF5 as its chunks lie there, other kinds as
            their copy would be.
        left_out: what a copy of it would lack.
    """

    store: Store
    path: str
    node: Node
    file: ForeignFile | None = None
    left_out: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """Format of the node, for people."""
        text = f"Zarr v{self.node.zarr_format}"
        if self.file is None:
            return text
        return (
            f"an HDF5 file as {text}" if self.file.kind == "hdf5" else f"{_KINDS[self.file.kind]}, its copy as {text}"
        )


_KINDS: Mapping[FileKind, str] = {
    "netcdf3": "netCDF",
    "npy": "a .npy file",
    "npz": "an .npz file",
    "tiff": "TIFF",
    "virtual": "a virtual array",
}


def find(url: str, path: str, storage_options: dict[str, Any]) -> Found:
    """The node that a command line names.

    Raises:
        NodeNotFoundError: there is none; an unfinished copy is named as such. MetadataError, StoreError.
    """
    at = node_path(path)
    file = find_file(url, storage_options)
    if file is not None and file.kind == "hdf5":
        from zarrdock.views.hdf5_view import ConvertedHDF5, HDF5View

        view = HDF5View(file.store, file.key)
        return Found(view, at, load_root(view, at), file, ConvertedHDF5(file.store, file.key).left_out(at))
    if file is not None:
        contents = contents_of(file, "", Wishes(), recode=False)
        shown = Described(contents)
        return Found(shown, at, load_root(shown, at), file, contents.left_out)
    store = open_store(url, storage_options=storage_options or None, read_only=True)
    try:
        return Found(store, at, load_root(store, at))
    except NodeNotFoundError as error:
        folder = tiff_folder(store, at)
        if folder is None:
            hint = _member(store, at)
            if hint:
                error.add_note(hint)
            raise
        contents = folder(Wishes())
        shown = Described(contents)
        return Found(shown, "", load_root(shown, ""), ForeignFile("tiff", store, at), contents.left_out)


def name_left_out(found: Found) -> None:
    """Say on standard error what is in a foreign file and not among its nodes."""
    for line in found.left_out:
        print(f"not readable as Zarr: {line}", file=sys.stderr)


def neighbour(url: str) -> str:
    """Words about a local path at which nothing is; "" about all else."""
    path = Path(path_of_file_url(url) or url)
    if path.exists() or not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, (one.name for one in path.parent.iterdir())).removeprefix(": ")


def _member(store: Store, path: str) -> str:
    """Words about a node that is not there, where its folder can be listed for no more than a request."""
    parent, _, name = path.rpartition("/")
    if not name or not store.traits.listable:
        return ""
    return did_you_mean(name, store.list_dir(parent).prefixes).removeprefix(": ")


def leaf(metadata: ArrayMetadata) -> tuple[list[tuple[int, ...]], tuple[int, ...], tuple[Any, ...]]:
    """Shapes of shards, outermost first, shape of a chunk, and codecs of a chunk; the greatest, where they differ."""
    levels: list[tuple[int, ...]] = []
    shape, codecs = metadata.grid.largest, metadata.codecs
    while len(codecs) == 1 and isinstance(codecs[0], Sharding):
        levels.append(shape)
        shape, codecs = codecs[0].chunk_shape, codecs[0].codecs
    return levels, shape, codecs


def brief(node: Node | ZarrdockError) -> str:
    """A node in half a line."""
    if isinstance(node, ZarrdockError):
        return f"error: {' '.join(str(node).split())}"
    if isinstance(node, GroupMetadata):
        return "group"
    levels, chunks, _ = leaf(node)
    dtype = node.data_type.name if node.unknown else str(node.dtype)
    up_to = "up to " if isinstance(node.grid, RectilinearGrid) else ""
    chunked = "?" if isinstance(node.grid, UnknownGrid) else f"{'' if levels else up_to}{shape_text(chunks)}"
    text = f"{dtype} {shape_text(node.shape)}, chunks {chunked}"
    for level in reversed(levels):
        text += f", shards {up_to if level is levels[0] else ''}{shape_text(level)}"
    unknown = ", ".join(f"{error.kind} {error.name!r}" for error in node.unknown)
    return f"{text}, unknown {unknown}" if unknown else text
