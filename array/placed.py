"""Where a node is: what the faces of arrays and groups say alike."""

from __future__ import annotations

from zarrdock.stores.base import Store

__all__ = ["Placed"]


class Placed:
    """A node of a hierarchy: its store, and its path there."""

    _store: Store
    _path: str

    @property
    def store(self) -> Store:
        """The store of the hierarchy."""
        return self._store

    @property
    def path(self) -> str:
        """Path within the hierarchy; "" for the root."""
        return self._path

    @property
    def name(self) -> str:
        """Path with a leading "/", as zarr-python has it."""
        return "/" + self._path

    @property
    def basename(self) -> str:
        """Last part of the path."""
        return self._path.rpartition("/")[2]
