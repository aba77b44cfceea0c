"""An HDF5 file as a Zarr hierarchy: groups and datasets are documents, chunks are the byte ranges that they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np

from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata
from zarrdock.array.node_storage import join
from zarrdock.array.planning.layout import Layout
from zarrdock.codecs.conditional import Conditional
from zarrdock.errors import ConflictError, InvalidKeyError, StoreError, UnsupportedError, VersionChangedError
from zarrdock.ranges import Span
from zarrdock.stores.base import Blob, Entry, Listing, Read, Store, attempts, check_key
from zarrdock.stores.identity import Identity
from zarrdock.stores.open import open_store
from zarrdock.views.hdf5_nodes import Dataset, dataset_of
from zarrdock.views.netcdf import HIDDEN_PREFIX, attributes_of, dtype_of, is_hidden, phony_dimensions, quietly
from zarrdock.views.store_file import StoreFile
from zarrdock.views.view import ATTEMPTS, Document, Part, Place, View, dir_of

__all__ = ["ConvertedHDF5", "HDF5View", "Masks", "hdf5", "open_hdf5"]

T = TypeVar("T")
Masks = Literal["conditional", "encode"]

DOCUMENT = "zarr.json"


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

    >>> import h5py
    >>> with h5py.File("data.h5", "w") as file:
    ...     file["a/x"] = [1, 2, 3]
    >>> zarrdock.open_array(zarrdock.views.hdf5("data.h5"), path="a/x")[...].tolist()
    [1, 2, 3]
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
            kept_changing = ConflictError(
                "other programs kept changing the file: try again", key=self._key, store=self.store
            )
            for _ in attempts(ATTEMPTS, lambda: kept_changing):
                try:
                    if self._state is None:
                        self._state = _State(self.store, self._key)
                    elif fresh and self._state.file.version is not None:
                        read = Read(self._key, Span(0, 1), self._state.file.version)
                        if not isinstance(self.store.read([read])[0], Blob):
                            self._drop()
                            continue
                    found = self._guarded(function, self._state)
                    break
                except VersionChangedError:
                    self._drop()
            return found

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
        metadata = GroupMetadata(attributes=attributes_of(node)[0]) if found is None else found.metadata
        return Document(documents(metadata)[DOCUMENT], state.file.version)

    def _node(self, state: _State, path: str) -> Any:
        """The h5py object at a path; None where there is none, or only one that is in another file."""
        import h5py

        folder, slash, name = path.rpartition("/")
        try:
            node = state.root.get(path) if path else state.root
            if isinstance(node, h5py.Dataset) and is_hidden(node):
                # A variable called as a dimension is, of which it is not the coordinate, has another name in the file.
                node = state.root.get(f"{folder}{slash}{HIDDEN_PREFIX}{name}")
            elif name.startswith(HIDDEN_PREFIX):
                scale = state.root.get(f"{folder}{slash}{name.removeprefix(HIDDEN_PREFIX)}")
                node = None if scale is not None and is_hidden(scale) else node
        except (KeyError, OSError, RuntimeError):
            if state.file.error is not None:
                raise
            return None
        if not isinstance(node, h5py.Group | h5py.Dataset) or node.file.id != state.root.id:
            return None
        return None if isinstance(node, h5py.Group) and self._is_circle(state, path, node) else node

    def _is_circle(self, state: _State, path: str, group: Any) -> bool:
        """True for a group that stands above itself on this path, by way of a link."""
        while path:
            path = path.rpartition("/")[0]
            if (state.root.get(path) if path else state.root) == group:
                return True
        return False

    def _dataset(self, state: _State, path: str) -> Dataset | None:
        found = state.datasets.get(path)
        if found is None:
            import h5py

            node = self._node(state, path)
            if isinstance(node, h5py.Dataset):
                conditional = self._masks == "conditional"
                found = dataset_of(node, state.file.bytes_at, reencode=self._reencode, conditional=conditional)
                found = state.datasets[path] = self._shown(state, path, node, found)
        return found

    def _shown(self, state: _State, path: str, node: Any, found: Dataset) -> Dataset:
        """A dataset as the view shows it."""
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
        """Paths of all objects, under each of their names."""
        import h5py

        paths = [""]
        for path in paths:  # it grows
            node = self._node(state, path)
            if isinstance(node, h5py.Group):
                names = [join(path, name) for name in node]
                paths += [name for name in names if _is_good(name) and self._node(state, name) is not None]
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


class ConvertedHDF5(HDF5View):
    """An HDF5 file as it is converted. Whatever h5py can read is decoded, every dimension has a name, and what Zarr
    cannot express is not there and named by :meth:`left_out`.
    """

    name = "converted"

    def __init__(self, store: Store, key: str) -> None:
        self._conversion: tuple[_State, dict[str, tuple[str, ...]], dict[str, str]] | None = None
        super().__init__(store, key, reencode=True, masks="encode")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self._key)

    def left_out(self, path: str = "") -> tuple[str, ...]:
        """Parts of the node at ``path``, and of all below it, that have no form in Zarr, one line per part."""

        def look(state: _State) -> tuple[str, ...]:
            lines: list[str] = []
            for name, reason in self._converted(state)[1].items():
                if name == path or not path or name.startswith(f"{path}/"):
                    lines.append(f"{name}: {reason}")
            for name in self._paths(state):
                if name == path or not path or name.startswith(f"{path}/"):
                    lines += [f"{name or '/'}: {what}" for what in _lost(self._node(state, name))]
            return tuple(lines)

        return self._with(look)

    def _node(self, state: _State, path: str) -> Any:
        return None if path in self._converted(state)[1] else super()._node(state, path)

    def _shown(self, state: _State, path: str, node: Any, found: Dataset) -> Dataset:
        names = self._converted(state)[0].get(path, found.metadata.dimension_names)
        metadata = found.metadata.replace(dimension_names=names, shape=self._grown(node))
        chunks = found.chunks
        if chunks is not None and metadata.shape != found.metadata.shape:
            coords = np.unravel_index(chunks.numbers, _grid(found.metadata))
            chunks = replace(chunks, numbers=np.ravel_multi_index(coords, _grid(metadata)))  # in the same order
        return replace(found, metadata=metadata, chunks=chunks)

    def _grown(self, dataset: Any) -> tuple[int, ...]:
        """The shape of a dataset with unlimited dimensions as long as they are. netCDF stores no rows for a variable
        that were written for others only.
        """
        shape = list(dataset.shape or ())
        for axis, most in enumerate(dataset.maxshape or ()):
            if most is None and len(dataset.dims[axis]):
                shape[axis] = max(shape[axis], quietly(_length_of, dataset.dims[axis][0]) or 0)
        return tuple(shape)

    def _converted(self, state: _State) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
        """Names for dimensions that have none, and paths that are left out, each with the reason."""
        if self._conversion is None or self._conversion[0] is not state:
            self._conversion = state, phony_dimensions(state.root), {}
            left_out: dict[str, str] = {}
            self._look(state, state.root, "", left_out)
            self._conversion = state, self._conversion[1], left_out
        return self._conversion[1:]

    def _look(self, state: _State, group: Any, prefix: str, left_out: dict[str, str]) -> None:
        import h5py

        for name in group:
            path = prefix + name
            link = group.get(name, getlink=True)
            node = super()._node(state, path) if _is_good(path) else None
            if not _is_good(path):
                left_out[path] = "a name that a Zarr node cannot have"
            elif isinstance(link, h5py.ExternalLink):
                left_out[path] = f"a link to another file, {link.filename!r}"
            elif isinstance(node, h5py.Group):
                self._look(state, node, f"{path}/", left_out)
            elif isinstance(node, h5py.Dataset):
                found = super()._dataset(state, path)
                if found is not None and found.metadata.unknown:
                    unknown = found.metadata.unknown[-1].name  # where the data are matters more than their type
                    left_out[path] = _REASONS.get(unknown) or f"{unknown}, which cannot be read here"
            elif isinstance(quietly(group.get, name), h5py.Group):
                left_out[path] = "a link to a group that it lies in"
            elif isinstance(link, h5py.SoftLink):
                left_out[path] = "a link that leads nowhere"
            elif node is None and quietly(group.get, name) is None:
                left_out[path] = f"h5py cannot read it: {_why(group, name)}"


def _why(group: Any, name: str) -> str:
    """Reason why h5py does not open a member."""
    try:
        group[name]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        return str(error.args[0] if error.args else error)
    return "damaged"


def _length_of(scale: Any) -> int:
    """The length of a dimension: that of the longest dataset which has it."""
    lengths: list[int] = [scale.shape[0]]
    for reference, axis in scale.attrs.get("REFERENCE_LIST", ()):
        lengths.append(scale.file[reference].shape[axis])
    return max(lengths)


_REASONS = {
    "hdf5.vlen": "lists of different lengths, which Zarr has no data type for",
    "hdf5.reference": "references to objects of the file",
    "hdf5.null": "a dataset without data",
    "hdf5.virtual": "a virtual dataset of other files",
    "hdf5.external": "data in other files",
    "hdf5.time": "HDF5's data type of times, which no library reads",
    "hdf5.integer": "integers of a size that numpy has no data type for",
    "hdf5.f": "floats that Zarr has no data type for",
    "hdf5.c": "complex numbers that Zarr has no data type for",
    "hdf5.V": "arrays as elements, which Zarr has no data type for",
    "hdf5.O": "structures with text, lists or references in them, which Zarr has no data type for",
}


def _lost(node: Any) -> Iterator[str]:
    """Parts of a node that are lost when it is converted."""
    import h5py

    _, names = attributes_of(node)
    if names:
        yield f"attribute{'s' * (len(names) > 1)} {', '.join(map(repr, names))}, which JSON has no form for"
    dtype = dtype_of(node)
    values = None if dtype is None else h5py.check_enum_dtype(dtype)
    if values is not None:
        yield f"names of the values of an enumeration, {values}"
