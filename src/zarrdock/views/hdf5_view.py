"""An HDF5 file as a Zarr hierarchy: groups and datasets are documents, chunks are the byte ranges that they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import join
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.conditional import Conditional
from zarrdock.errors import ConflictError, InvalidKeyError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Entry, Listing, Read, Store, check_key
from zarrdock.stores.identity import Identity
from zarrdock.stores.open import open_store
from zarrdock.views.hdf5_nodes import Dataset, attributes_of, dataset_of
from zarrdock.views.store_file import StoreFile
from zarrdock.views.view import ATTEMPTS, Document, Part, Place, View, dir_of

__all__ = ["HDF5View", "Masks", "hdf5", "open_hdf5"]

T = TypeVar("T")
Masks = Literal["conditional", "encode"]

DOCUMENT = "zarr.json"
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def hdf5(
    file: Any,
    key: str = "",
    *,
    reencode: bool = False,
    masks: Masks = "conditional",
    storage_options: dict[str, Any] | None = None,
) -> HDF5View:
    """A read-only store that shows an HDF5 file (netCDF4 files are such) as a Zarr v3 hierarchy.

    Args:
        file: path or URL of the file; or a store, with the file's ``key`` in it.
        reencode: show what Zarr has no codec for (other filters, data in HDF5's heap, such as text of any length)
            decoded by h5py and encoded anew when it is asked for. Otherwise such a dataset is an array with an unknown
            codec or data type, named after the dataset's own.
        masks: how a dataset is shown that has chunks to which filters were not applied: "conditional" hands chunks out
            as they are, under the codec of that name; "encode" applies the missing filters to those chunks when they
            are asked for, for readers that don't know the codec.
    Raises:
        NodeNotFoundError: no such file. UnsupportedError: it is no HDF5, or h5py is missing. StoreError.
    """
    if masks not in ("conditional", "encode"):
        raise UnsupportedError(f"masks is 'conditional' or 'encode', not {masks!r}")
    if not key:
        if not isinstance(file, str | os.PathLike):
            raise UnsupportedError("say which key of the store the HDF5 file is: hdf5(store, key)")
        file, key = _split(os.fspath(file))
    return HDF5View(open_store(file, storage_options=storage_options, read_only=True), key, reencode, masks)


def open_hdf5(
    url: str, *, storage_options: dict[str, Any] | None = None, read_only: bool = True, **tuning: Any
) -> HDF5View:
    """Open the URLs ``hdf5://PATH`` and ``hdf5::URL``. The view is always read-only."""
    folder, key = _split(url.removeprefix("hdf5://") if url.startswith("hdf5://") else url.removeprefix("hdf5::"))
    return HDF5View(open_store(folder, storage_options=storage_options, read_only=True, **tuning), key)


def _split(url: str) -> tuple[str, str]:
    """A folder, and the name of a file in it."""
    folder, slash, key = url.rpartition("/")
    return folder or slash or ".", key


class _State:
    """An open file, and what was found in it."""

    def __init__(self, store: Store, key: str) -> None:
        try:
            import h5py
        except ImportError as error:
            raise UnsupportedError(f'HDF5 files need h5py: pip install "zarrdock[hdf5]" ({error})') from error
        self.file = StoreFile(store, key)
        try:
            self.root = h5py.File(self.file, "r")
        except OSError as error:
            if self.file.error is not None:
                raise self.file.error from None
            raise UnsupportedError(f"{key!r} in {store} is no HDF5 file that h5py can read: {error}") from error
        self.datasets: dict[str, Dataset] = {}
        self.layouts: dict[str, Layout] = {}

    def close(self) -> None:
        self.root.close()


class HDF5View(View):
    """See :func:`hdf5`. ``store`` is where the file is. One file is open while the view is used; when it is replaced,
    it is opened again.
    """

    name = "hdf5"

    def __init__(self, store: Store, key: str, reencode: bool = False, masks: Masks = "conditional") -> None:
        super().__init__(store)
        self._key = check_key(key, store)
        self._reencode = reencode
        self._masks: Masks = masks
        self._state: _State | None = None
        self._lock = threading.RLock()
        self._with(lambda state: None)  # what is no HDF5 file says so now

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self._key, self._reencode, self._masks)

    @property
    def identity(self) -> Identity:
        """Identity of the file, seen as Zarr."""
        return self.store.identity.below(self._key).as_file().seen_as(f"{self.name}({self._reencode}, {self._masks})")

    @property
    def url(self) -> str:
        return f"hdf5({self.store.url}/{self._key})"

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        return self.store.origins(self._key)

    def close(self) -> None:
        self._drop()
        self.store.close()

    # -- the file ------------------------------------------------------------------------------------------------------

    def _with(self, function: Callable[[_State], T], *, fresh: bool = False) -> T:
        """Call a function on the file, on one version of it."""
        with self._lock:
            for _ in range(ATTEMPTS):
                try:
                    if self._state is None:
                        self._state = _State(self.store, self._key)
                    elif fresh and self._state.file.version is not None:
                        read = Read(self._key, Span(0, 1), self._state.file.version)
                        if not isinstance(self.store.read([read])[0], Blob):
                            self._drop()
                            continue
                    return self._guarded(function, self._state)
                except VersionChangedError:
                    self._drop()
        raise ConflictError("the file kept changing", key=self._key, store=self.store)

    def _guarded(self, function: Callable[[_State], T], state: _State) -> T:
        try:
            return function(state)
        except (OSError, RuntimeError, ValueError) as error:
            if state.file.error is not None:
                raise state.file.error from None
            if type(error).__module__.startswith("zarrdock"):
                raise
            raise StoreError(f"h5py cannot read it: {error}", key=self._key, store=self.store) from error

    def _drop(self) -> None:
        with self._lock:
            if self._state is not None:
                self._state.close()
                self._state = None

    def _forget(self, place: Part) -> None:
        self._drop()

    # -- places --------------------------------------------------------------------------------------------------------

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        is_made = fresh or any(key.rpartition("/")[2] == DOCUMENT for key in keys)
        return self._with(lambda state: [self._place(state, key) for key in keys], fresh=is_made)

    def _place(self, state: _State, key: str) -> Place:
        path, _, name = key.rpartition("/")
        if name == DOCUMENT:
            return self._document(state, path)
        path, _, rest = f"/{key}".rpartition("/c/") if "/c/" in f"/{key}" else (f"/{key}"[:-2], "", "")
        if not rest and not f"/{key}".endswith("/c"):
            return None
        path = path.removeprefix("/")
        found = self._dataset(state, path)
        if found is None or found.metadata.unknown:
            return None
        coords = found.metadata.key_encoding.parse(key[len(path) + 1 if path else 0 :], found.metadata.ndim)
        grid = _grid(found.metadata)
        if coords is None or any(c >= n for c, n in zip(coords, grid, strict=True)):
            return None
        return self._chunk(state, path, found, coords, grid)

    def _document(self, state: _State, path: str) -> Place:
        node = self._node(state, path)
        if node is None:
            return None
        found = self._dataset(state, path)
        metadata = GroupMetadata(attributes=attributes_of(node)) if found is None else found.metadata
        return Document(documents(metadata)[DOCUMENT], state.file.version)

    def _node(self, state: _State, path: str) -> Any:
        """The h5py object at a path; None where there is none, or only one that is in another file."""
        import h5py

        try:
            node = state.root.get(path) if path else state.root
        except (KeyError, OSError, RuntimeError):
            if state.file.error is not None:
                raise
            return None
        if not isinstance(node, h5py.Group | h5py.Dataset) or node.file.id != state.root.id or _is_hidden(node):
            return None
        return node

    def _dataset(self, state: _State, path: str) -> Dataset | None:
        found = state.datasets.get(path)
        if found is None:
            import h5py

            node = self._node(state, path)
            if isinstance(node, h5py.Dataset):
                conditional = self._masks == "conditional"
                found = dataset_of(node, state.file.bytes_at, reencode=self._reencode, conditional=conditional)
                state.datasets[path] = found
        return found

    def _chunk(self, state: _State, path: str, found: Dataset, coords: tuple[int, ...], grid: tuple[int, ...]) -> Place:
        if found.chunks is None:
            return self._made(state, path, found, coords)
        row = found.chunks.find(int(np.ravel_multi_index(coords, grid)) if coords else 0)
        if row is None:
            return None
        start, length, mask = (
            int(column[row]) for column in (found.chunks.starts, found.chunks.lengths, found.chunks.masks)
        )
        part = Part(self._key, start, length, state.file.version, found.head(mask))
        if mask and not found.heads:
            return self._completed(state, path, found, part, mask)
        return part

    def _completed(self, state: _State, path: str, found: Dataset, part: Part, mask: int) -> Document:
        """A chunk with those filters applied that were skipped."""
        assert part.length is not None
        (answer,) = self.store.read([Read(part.key, Span(part.start, part.start + part.length), part.version)])
        if not isinstance(answer, Blob):
            raise VersionChangedError("replaced while it was read", key=part.key, store=self.store)
        chain = self._layout(state, path, found).chain
        codec = Conditional(found.filters)
        assert codec.header_bits is not None
        applied = ~mask & ((1 << len(found.filters)) - 1)
        head = applied.to_bytes(codec.header_bits // 8, "little")
        data = codec.bind(chain.serializer.encoded).decode(b"".join((head, answer.data)))
        for filter_ in chain.byte_codecs:
            data = filter_.encode(data)
        return Document(bytes(data), state.file.version)

    def _made(self, state: _State, path: str, found: Dataset, coords: tuple[int, ...]) -> Document:
        """A chunk of what h5py reads, as long as every chunk is."""
        layout = self._layout(state, path, found)
        at = tuple(
            slice(c * n, min((c + 1) * n, length))
            for c, n, length in zip(coords, layout.chunk_shape, layout.shape, strict=True)
        )
        node = self._node(state, path)
        values = node.asstr()[at] if found.metadata.data_type.name == "string" else node[at]
        chunk = np.full(layout.chunk_shape, layout.fill_scalar, layout.dtype)
        chunk[tuple(slice(0, n) for n in np.shape(values))] = values
        return Document(bytes(layout.chain.encode(chunk)), state.file.version)

    def _layout(self, state: _State, path: str, found: Dataset) -> Layout:
        layout = state.layouts.get(path)
        if layout is None:
            node = found.metadata
            layout = state.layouts[path] = Layout.bind(
                node.shape, node.grid.chunk_shape, node.dtype, node.fill_value, node.codecs, node.key_encoding
            )
        return layout

    # -- listing -------------------------------------------------------------------------------------------------------

    def _entries(self, prefix: str) -> Iterator[Entry]:
        yield from self._with(lambda state: self._listed(state, prefix), fresh=True)

    def _listed(self, state: _State, prefix: str) -> list[Entry]:
        start = f"{prefix}/" if prefix else ""
        found: list[Entry] = []
        for path in self._paths(state):
            inside = f"{path}/" if path else ""
            if not (inside.startswith(start) or start.startswith(inside)):
                continue
            found.append(Entry(join(path, DOCUMENT)))
            dataset = self._dataset(state, path)
            if dataset is not None and not dataset.metadata.unknown:
                found += [Entry(inside + key, size) for key, size in self._stored(dataset)]
        return [entry for entry in found if entry.key.startswith(start)]

    def _paths(self, state: _State) -> list[str]:
        """Every object once, under one of its names."""
        paths = [""]

        def take(name: str, node: Any) -> None:
            if _is_good(name) and self._node(state, name) is not None:
                paths.append(name)

        state.root.visititems(take)
        return paths

    def _stored(self, dataset: Dataset) -> Iterator[tuple[str, int | None]]:
        grid, chunks = _grid(dataset.metadata), dataset.chunks
        numbers = np.arange(int(np.prod(grid, dtype=np.int64))) if chunks is None else chunks.numbers
        coords = np.stack(np.unravel_index(numbers, grid), -1) if grid else np.zeros((len(numbers), 0), np.int64)
        for i, key in enumerate(dataset.metadata.key_encoding.keys(coords)):
            is_stored = chunks is not None and (dataset.heads or not chunks.masks[i])
            yield key, int(chunks.lengths[i]) + dataset.heads if is_stored and chunks is not None else None

    def list_dir(self, prefix: str = "", /) -> Listing:
        import h5py

        def look(state: _State) -> Listing | None:
            node = self._node(state, path) if not path or _is_good(path) else None
            if isinstance(node, h5py.Group):
                names = [name for name in node if _is_good(name) and self._node(state, join(path, name)) is not None]
                return Listing((DOCUMENT,), tuple(sorted(names)))
            return None

        path = prefix.removesuffix("/")
        if path:
            check_key(path, self)
        listing = self._with(look, fresh=True)
        return dir_of((entry.key for entry in self._entries(path)), path) if listing is None else listing


def _grid(metadata: ArrayMetadata) -> tuple[int, ...]:
    return tuple(-(-n // c) for n, c in zip(metadata.shape, metadata.grid.chunk_shape, strict=True))


def _is_good(name: str) -> bool:
    """True if the name can be a key of a store: HDF5 allows any characters."""
    try:
        return check_key(name).rpartition("/")[2] != DOCUMENT
    except InvalidKeyError:
        return False


def _is_hidden(node: Any) -> bool:
    """netCDF writes a dimension without a variable as a dataset without data."""
    name = node.attrs.get("NAME") if "NAME" in node.attrs else None
    return isinstance(name, bytes | np.bytes_) and bytes(name).startswith(_NO_VARIABLE)
