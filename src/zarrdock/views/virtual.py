"""Virtual arrays: arrays in different stores, one behind another or stacked, as one array that is read-only."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np

from zarrdock.array.array import Array
from zarrdock.array.create import make_metadata
from zarrdock.array.dtypes.dtype import DataType, data_type_of
from zarrdock.array.execution.read_plan import Plan, join_plans
from zarrdock.array.execution.read_together import Begun, read_together, read_together_async
from zarrdock.array.execution.read_write import every_axis, flipped, shaped
from zarrdock.array.metadata.v2 import documents
from zarrdock.array.metadata.v3 import ArrayMetadata
from zarrdock.array.node_storage import load, node_path
from zarrdock.array.planning.compose import check_not_smaller, columns_of
from zarrdock.array.planning.runs import Runs
from zarrdock.array.planning.selection import Axis, Points, Product, Selector, basic, keeps_zero_dimensions
from zarrdock.array.planning.tasks import parts_of_axis
from zarrdock.array.resize import with_length
from zarrdock.codecs.codec import AnyArray
from zarrdock.errors import (
    MetadataError,
    NodeNotFoundError,
    RangeError,
    ReadOnlyError,
    SelectionError,
    UnsupportedError,
)
from zarrdock.json_ import expect_integer, expect_list, expect_object, expect_string, in_document, loads, serialise
from zarrdock.ranges import is_empty, resolve
from zarrdock.stores.base import Blob, Entry, Listing, Read, Results, Store, Traits, check_key, check_prefix
from zarrdock.stores.identity import Identity, digest_of
from zarrdock.stores.open import open_store
from zarrdock.stores.wrappers import RefusingStore
from zarrdock.views.view import dir_of

__all__ = ["VirtualArray", "concatenate", "open_virtual", "stack"]

DOCUMENT: Final = "zarr.json"
_FORMAT: Final = "zarrdock_virtual"
# Bounds on documents, which may come from anywhere.
MAX_NBYTES, MAX_DEPTH, MAX_PARTS = 64 * 2**20, 16, 100_000
_N_OPENED = 32
# Attributes that say which number is meant: under those of another array its numbers would be others.
_MEANING = ("scale_factor", "add_offset", "units", "calendar", "_FillValue", "missing_value", "_Unsigned")
# The places that a document on a remote store may lead to: never a file of the reader's own.
_REMOTE = frozenset(("s3", "s3a", "gs", "gcs", "http", "https", "az", "abfs", "abfss"))


def concatenate(arrays: Sequence[Array], *, axis: int = 0) -> VirtualArray:
    """Arrays one behind another along an axis, as one array; nothing is read or copied.

    Args:
        arrays: of one data type and, but for ``axis``, one shape; in any stores, and themselves virtual if need be.
            Chunks, codecs and fill values may differ; attributes are those of the first.
    Raises:
        SelectionError: shapes, data types, names of dimensions or attributes that say what numbers mean
            (``scale_factor``, ``add_offset``, ``units`` and their like) do not go together, or there is no array.

    >>> a = zarrdock.create_array({}, data=np.arange(6).reshape(2, 3))
    >>> b = zarrdock.create_array({}, data=np.arange(6, 12).reshape(2, 3))
    >>> zarrdock.concatenate([a, b])[1:3].tolist()
    [[3, 4, 5], [6, 7, 8]]
    """
    return VirtualArray(arrays, axis, is_stack=False)


def stack(arrays: Sequence[Array], *, axis: int = 0) -> VirtualArray:
    """Arrays of one shape along a new axis, as one array; see :func:`concatenate`.

    >>> a, b = zarrdock.create_array({}, data=[1, 2]), zarrdock.create_array({}, data=[3, 4])
    >>> zarrdock.stack([a, b], axis=1)[...].tolist()
    [[1, 3], [2, 4]]
    """
    return VirtualArray(arrays, axis, is_stack=True)


# A part of a read: the array, its selection, and the place in the result (with every axis; numbers of points).
_Put: TypeAlias = tuple[Array, "Product | Points", tuple[Any, ...]]


class VirtualArray(Array):
    """Arrays as one array: what :func:`concatenate` and :func:`stack` give.

    A read is one plan over all parts concerned: see :func:`zarrdock.read_many`. Its ``store`` shows it as a hierarchy
    whose chunks are made when they are asked for, for readers that want files.

    >>> array = zarrdock.stack([zarrdock.create_array({}, data=np.arange(4)) for _ in range(3)])
    >>> array.shape, array.read_only
    ((3, 4), True)
    """

    def __init__(
        self, arrays: Sequence[Array], axis: int, *, is_stack: bool, shapes: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        self.parts = tuple(arrays)
        self.is_stack = is_stack
        if not self.parts:
            raise SelectionError("a list of arrays is needed, with one array at least")
        for i, part in enumerate(self.parts):
            if not isinstance(part, Array):
                hint = f": zarrdock.open_array({part!r})" if isinstance(part, str) else ""
                raise SelectionError(f"item {i}: an array is needed, not {type(part).__name__}{hint}")
        first = self.parts[0]
        ndim = first.ndim + is_stack
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or not -ndim <= axis < ndim:
            raise SelectionError(f"axis={axis!r}: the result has {ndim} dimensions")
        self.axis = int(axis) % ndim
        # A part that grows later is seen as it was, in copies by pickle too.
        self._part_shapes = [part.shape for part in self.parts] if shapes is None else list(shapes)
        for i, part in enumerate(self.parts):
            self._check_fits(i, part, first)
        lengths = [1] * len(self.parts) if is_stack else [shape[self.axis] for shape in self._part_shapes]
        self._bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        metadata = self._metadata_of(first)
        super().__init__(VirtualStore(self, metadata), "", metadata, read_only=True)

    def _check_fits(self, i: int, part: Array, first: Array) -> None:
        if _type_of(part).numpy != _type_of(first).numpy:
            raise SelectionError(f"array {i} has data type {part.dtype}, the first one {first.dtype}")
        both = self._part_shapes[i], self._part_shapes[0]
        theirs, ours = both if self.is_stack else (a[: self.axis] + a[self.axis + 1 :] for a in both)
        if part.ndim != first.ndim or theirs != ours:
            but = "" if self.is_stack else f" but for axis {self.axis}"
            raise SelectionError(f"array {i} has shape {both[0]}, the first one {both[1]}: they must agree{but}")
        names = part.dimension_names, first.dimension_names
        if None not in names and names[0] != names[1]:
            raise SelectionError(f"array {i} has the dimensions {names[0]}, the first one {names[1]}")
        for name in _MEANING:
            here, there = (a.metadata.attributes.get(name) for a in (part, first))
            if serialise({name: here}) != serialise({name: there}):  # NaN is NaN
                raise SelectionError(
                    f"array {i} has the attribute {name}={here!r}, the first one {there!r}: its numbers would be taken "
                    "for others"
                )

    def _metadata_of(self, first: Array) -> ArrayMetadata:
        shape, chunks, names = self._part_shapes[0], first._layout.leaf_shape, first.dimension_names
        if self.is_stack:
            shape, chunks = ((*each[: self.axis], 1, *each[self.axis :]) for each in (shape, chunks))
            names = None if names is None else (*names[: self.axis], None, *names[self.axis :])
        return make_metadata(
            shape=with_length(shape, self.axis, int(self._bounds[-1])),
            dtype=_type_of(first),
            chunks=tuple(max(1, n) for n in chunks),
            compressors=first.compressors,
            fill_value=first.fill_value,
            attributes=first.metadata.attributes,
            dimension_names=names,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.parts, self.axis, self.is_stack, self._part_shapes)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _split(self, selection: Product | Points) -> Iterator[_Put]:
        """A selection, as selections of the parts."""
        if isinstance(selection, Points):
            columns = columns_of(selection)
            owners = np.searchsorted(self._bounds, columns[self.axis], "right") - 1
            for number in np.unique(owners).tolist():
                (mine,) = np.nonzero(owners == number)
                coords = [column[mine] for column in columns]
                coords[self.axis] = coords[self.axis] - self._bounds[number]
                if self.is_stack:
                    del coords[self.axis]
                stacked = np.stack(coords, axis=1) if coords else np.empty((len(mine), 0), np.int64)
                yield self._part(number), Points(stacked, (len(mine),)), (mine,)
            return
        if 0 in selection.full_shape:
            return
        before, after = selection.axes[: self.axis], selection.axes[self.axis + 1 :]
        for number, pieces in parts_of_axis(selection.axes[self.axis], self._bounds, 1, 0):
            (inner,), (outer,) = pieces.inner, pieces.outer
            axes = (*before, *after) if self.is_stack else (*before, _axis_of(inner), *after)
            shape = tuple(axis.n for axis in axes)
            place = outer.arrays()[0] if isinstance(outer, Runs) else outer
            yield self._part(number), Product(axes, shape, shape), (*(slice(None),) * self.axis, place)

    def _part(self, number: int) -> Array:
        part = self.parts[number]
        check_not_smaller(part.shape, self._part_shapes[number])
        return part

    def _begin(self, selection: Product | Points, out: AnyArray | None) -> Begun:
        direct = None if out is None else every_axis(out, selection)
        shape = (selection.n,) if isinstance(selection, Points) else selection.full_shape
        full = np.empty(shape, self.dtype) if direct is None else direct
        inside = flipped(full, selection)
        new_axis = self.axis if self.is_stack and not isinstance(selection, Points) else None
        begun: list[tuple[Begun, Callable[[AnyArray], None]]] = []
        for part, theirs, place in self._split(selection):
            target: AnyArray | None = None
            if isinstance(place[-1], slice):
                view = inside[place]
                target = view if not self.is_stack else view.squeeze(self.axis) if view.shape[self.axis] == 1 else None
            begun.append(
                (part._begin(theirs, target), _putter(inside, place, new_axis) if target is None else _nothing)
            )

        def finish() -> AnyArray:
            for (_, finish_part), put in begun:
                put(finish_part())
            result = shaped(full, selection)
            if out is None:
                return result
            if direct is None:
                out[...] = result
            return out

        return [reading for (readings, _), _ in begun for reading in readings], finish

    def _read(self, selection: Product | Points, out: AnyArray | None = None) -> AnyArray:
        self._check_out(selection, out)
        return read_together([self._begin(selection, out)])[0]

    def _plan(self, selection: Product | Points) -> Plan:
        return join_plans([part._plan(theirs) for part, theirs, _ in self._split(selection)], selection.shape)

    def __getitem__(self, selection: Any) -> Any:
        array = self._read(basic(selection, self.shape))
        return array[()] if array.ndim == 0 and not keeps_zero_dimensions(selection) else array

    async def read_async(self, selection: Any = ..., out: AnyArray | None = None) -> AnyArray:
        """See :meth:`zarrdock.Array.read_async`."""
        wanted = basic(selection, self.shape)
        self._check_out(wanted, out)
        return (await read_together_async([self._begin(wanted, out)]))[0]

    def _check_writable(self) -> None:
        raise ReadOnlyError("a virtual array is read-only: write to the arrays it is made of", store=self._store)

    # -- documents -----------------------------------------------------------------------------------------------------

    def to_json(self, base: str | None = None) -> dict[str, Any]:
        """The array as a JSON document, for :func:`open_virtual`: where its parts are, and how they go together.

        Args:
            base: URL of the folder that the document will lie in: parts below it are named relative to it.
        Raises:
            UnsupportedError: a part lies in the memory of this process.
        """
        return {_FORMAT: 1, **self._spec(base)}

    def _spec(self, base: str | None) -> dict[str, Any]:
        name = "stack" if self.is_stack else "concatenate"
        return {name: [_spec_of(part, base) for part in self.parts], "axis": self.axis}

    def save(self, url: Any, *, storage_options: dict[str, Any] | None = None) -> None:
        """Write :meth:`to_json` to a file; ``url`` ends with its name.

        >>> a = zarrdock.create_array("a.zarr", data=[1, 2])
        >>> zarrdock.concatenate([a, a]).save("both.json")
        >>> zarrdock.open_virtual("both.json")[...].tolist()
        [1, 2, 1, 2]
        """
        folder, name = _folder_of(url, storage_options, read_only=False)
        folder.write(name, serialise(self.to_json(folder.url)))


def _type_of(array: Array) -> DataType:
    """The data type as v3 has it: in the machine's byte order."""
    data_type = array.metadata.data_type
    if array.zarr_format == 3 or data_type.object_codec is not None:
        return data_type
    return data_type_of(array.dtype.newbyteorder("="), zarr_format=3)


def _remade(parts: tuple[Array, ...], axis: int, is_stack: bool, shapes: Sequence[tuple[int, ...]]) -> VirtualArray:
    return VirtualArray(parts, axis, is_stack=is_stack, shapes=shapes)


def _putter(full: AnyArray, place: tuple[Any, ...], new_axis: int | None) -> Callable[[AnyArray], None]:
    def put(values: AnyArray) -> None:
        full[place] = values if new_axis is None else np.expand_dims(values, new_axis)

    return put


def _nothing(values: AnyArray) -> None:
    """The values are in their place."""


def _axis_of(inner: Selector) -> Axis:
    if isinstance(inner, slice):
        step = inner.step or 1
        return Axis(inner.start, step, len(range(inner.start, inner.stop, step)))
    return Axis.of_indices(inner.arrays()[0] if isinstance(inner, Runs) else inner)


class VirtualStore(RefusingStore):
    """The store of a virtual array: its document, and chunks that are read from its parts and encoded when they are
    asked for; those of one call are one read.
    """

    read_only = True
    name = "virtual"
    refusal = "a virtual array is read-only: write to the arrays it is made of"

    def __init__(self, array: VirtualArray, metadata: ArrayMetadata) -> None:
        self._array = array
        self._metadata = metadata
        self._document = documents(metadata)[DOCUMENT]
        traits = [part.store.traits for part in array.parts]
        # Not remote itself: rounds are those of the stores inside.
        self.traits = Traits(writable=False, listable=True, n_concurrent=max(one.n_concurrent for one in traits))

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_of, (self._array,)

    def read(self, requests: Sequence[Read], /) -> Results:
        for read in requests:
            check_key(read.key, self)
        wanted = {read.key: None for read in requests if read.key != DOCUMENT and not is_empty(read.range)}
        boxes = [(key, box) for key in wanted if (box := self._box(key)) is not None]
        spec = self._array._layout.chain.spec
        values = [np.full(spec.shape, spec.fill_value, spec.dtype) for _ in boxes]
        begun = [
            self._array._begin(basic(box, self._array.shape), value[tuple(slice(0, b.stop - b.start) for b in box)])
            for (_, box), value in zip(boxes, values, strict=True)
        ]
        read_together(begun)
        data = {DOCUMENT: self._document}
        for (key, _), value in zip(boxes, values, strict=True):
            data[key] = bytes(self._array._layout.chain.encode(value))
        return [_part_of(data.get(read.key), read, self) for read in requests]

    def _box(self, key: str) -> tuple[slice, ...] | None:
        metadata, lengths = self._metadata, self._array._layout.chunk_shape
        coords = metadata.key_encoding.parse(key, metadata.ndim)
        if coords is None or any(c * n >= end for c, n, end in zip(coords, lengths, metadata.shape, strict=True)):
            return None
        return tuple(
            slice(c * n, min((c + 1) * n, end)) for c, n, end in zip(coords, lengths, metadata.shape, strict=True)
        )

    def size(self, key: str, /) -> int | None:
        (found,) = self.read([Read(key)])
        return len(found.data) if isinstance(found, Blob) else None

    def list(self, prefix: str = "", /) -> Iterator[Entry]:
        prefix = check_prefix(prefix, self)
        start = f"{prefix}/" if prefix else ""
        metadata = self._metadata
        every = product(*map(range, metadata.grid.n_chunks(metadata.shape)))
        if DOCUMENT.startswith(start):
            yield Entry(DOCUMENT, len(self._document))
        keys = map(metadata.key_encoding.key, every)
        yield from (Entry(key, None) for key in keys if key.startswith(start))

    def list_dir(self, prefix: str = "", /) -> Listing:
        prefix = check_prefix(prefix, self)
        return dir_of((entry.key for entry in self.list(prefix)), prefix)

    def origins(self, prefix: str = "") -> Iterator[tuple[Store, str]]:
        for part in self._array.parts:
            yield from part.store.origins(part.path)

    def close(self) -> None:
        """Nothing: the stores inside belong to the arrays."""

    @property
    def identity(self) -> Identity:
        """A name made of those of the parts."""
        array = self._array
        places = [(part.store.identity, part.path) for part in array.parts]
        name = digest_of([[str(one), path] for one, path in places] + [array.axis, array.is_stack])
        return Identity("virtual", name, in_process=any(one.in_process for one, _ in places))

    @property
    def url(self) -> str:
        """A name for messages; see :meth:`VirtualArray.save` for one that can be opened."""
        return f"virtual({len(self._array.parts)} arrays)"


def _store_of(array: VirtualArray) -> Store:
    return array.store


def _part_of(data: bytes | None, read: Read, store: Store) -> Blob | None:
    if is_empty(read.range):
        return Blob(b"")
    if data is None:
        return None
    span = resolve(read.range, len(data))
    if span is None:
        message = f"the range starts at or beyond the end of an object of {len(data)} bytes"
        raise RangeError(message, key=read.key, store=store)
    return Blob(data[slice(*span)])


# -- documents ---------------------------------------------------------------------------------------------------------


def _spec_of(part: Array, base: str | None) -> dict[str, Any]:
    if isinstance(part, VirtualArray):
        return part._spec(base)
    if part.store.identity.in_process:
        raise UnsupportedError(f"{part!r} lies in the memory of this process: no document can lead to it")
    url = part.store.url
    if base is not None and (url == base or url.startswith(f"{base.rstrip('/')}/")):
        url = f"./{url[len(base.rstrip('/')) + 1 :]}"
    return {"url": url, "path": part.path}


def _folder_of(url: Any, storage_options: dict[str, Any] | None, *, read_only: bool) -> tuple[Store, str]:
    text = str(url)
    folder, _, name = text.rpartition("/")
    if not name:
        raise UnsupportedError(f"{text}: the URL of a virtual array ends with the name of its document")
    folder = folder or ("/" if text.startswith("/") else ".")
    return open_store(folder, storage_options=storage_options, read_only=read_only), name


def open_virtual(url: Any, *, storage_options: dict[str, Any] | None = None) -> VirtualArray:
    """Open the document of a virtual array, as :meth:`VirtualArray.save` writes it. Its parts are opened at one time.

    Args:
        url: path or URL of the document.
        storage_options: options of the fsspec filesystem it leads to, and of those parts that have its protocol.
    Raises:
        NodeNotFoundError: there is no document, or a part is missing. MetadataError: it is not of that form.
        UnsupportedError: a document on a remote store names local files.

    >>> a = zarrdock.create_array("day1.zarr", data=[1, 2])
    >>> b = zarrdock.create_array("day2.zarr", data=[3, 4])
    >>> zarrdock.concatenate([a, b]).save("days.json")
    >>> zarrdock.open_virtual("days.json")[1:3].tolist()
    [2, 3]
    """
    folder, name = _folder_of(url, storage_options, read_only=True)
    size = folder.size(name)
    if size is None:
        raise NodeNotFoundError(f"there is no {name!r} in {folder}")
    if size > MAX_NBYTES:
        raise MetadataError(f"{name}: a document of {size} bytes; {MAX_NBYTES} are the most that is read")
    found = folder.get(name)
    if found is None:
        raise NodeNotFoundError(f"there is no {name!r} in {folder}")
    with in_document(name):
        document = expect_object(loads(bytes(found.data)))
        expect_integer(document.get(_FORMAT), f"/{_FORMAT}", 1, 1)
        places: list[tuple[str, str]] = []
        _check(document, "", places, 0)
    stores: dict[str, Store] = {}
    for at, _ in places:
        if at not in stores:
            stores[at] = _store_at(at, folder, storage_options)
    with ThreadPoolExecutor(_N_OPENED) as pool:
        arrays = list(pool.map(lambda place: _opened(stores[place[0]], place[1]), places))
    built = _built(document, iter(arrays))
    assert isinstance(built, VirtualArray)
    return built


def _check(spec: Any, pointer: str, places: list[tuple[str, str]], depth: int) -> None:
    """Check a document, and collect the places of its parts."""
    if depth > MAX_DEPTH or len(places) >= MAX_PARTS:
        raise MetadataError(
            pointer=pointer, expected=f"at most {MAX_DEPTH} levels and {MAX_PARTS} arrays", found="more"
        )
    expect_object(spec, pointer)
    kind = _kind(spec)
    if kind is None:
        url, path = (expect_string(spec.get(name), f"{pointer}/{name}") for name in ("url", "path"))
        places.append((url, node_path(path)))
        return
    expect_integer(spec.get("axis"), f"{pointer}/axis", -32, 31)
    for i, part in enumerate(expect_list(spec[kind], f"{pointer}/{kind}")):
        _check(part, f"{pointer}/{kind}/{i}", places, depth + 1)


def _kind(spec: Mapping[str, Any]) -> str | None:
    return next((kind for kind in ("stack", "concatenate") if kind in spec), None)


def _store_at(url: str, folder: Store, storage_options: dict[str, Any] | None) -> Store:
    own, _, _ = folder.url.partition("://")
    if url.startswith("./"):
        inside = posixpath.normpath(url)
        if inside.startswith(("..", "/")):
            raise UnsupportedError(f"{url}: a relative URL in a document stays below the document's folder")
        url = folder.url if inside == "." else f"{folder.url.rstrip('/')}/{inside}"
        return open_store(url, storage_options=storage_options, read_only=True)
    protocol, found, _ = url.partition("://")
    if folder.traits.remote and (not found or (protocol not in _REMOTE and protocol != own)):
        raise UnsupportedError(
            f"{url}: a document on a remote store cannot lead to such a place; open the parts, and join them here"
        )
    return open_store(url, storage_options=storage_options if protocol == own else None, read_only=True)


def _opened(store: Store, path: str) -> Array:
    node = load(store, path, "array", None)
    assert isinstance(node, ArrayMetadata)
    return Array(store, path, node, read_only=True)


def _built(spec: Mapping[str, Any], arrays: Iterator[Array]) -> Array:
    kind = _kind(spec)
    if kind is None:
        return next(arrays)
    return VirtualArray([_built(part, arrays) for part in spec[kind]], spec["axis"], is_stack=kind == "stack")
