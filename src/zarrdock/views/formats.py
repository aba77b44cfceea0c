"""Hierarchies of one Zarr format shown as the other: documents are translated, chunks are the bytes they are."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.group import walk
from zarrdock.array.metadata.chunk_grids import RectilinearGrid
from zarrdock.array.metadata.consolidated import consolidate, to_consolidated_v2
from zarrdock.array.metadata.v2 import documents, parse_array_v2, parse_group_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node, parse_node
from zarrdock.array.node_storage import join
from zarrdock.codecs.bytes_ import Bytes
from zarrdock.codecs.v2_codecs import to_v3
from zarrdock.codecs.zstd_ import Zstd
from zarrdock.errors import MetadataError, UnsupportedError, ZarrdockError
from zarrdock.json_ import serialise
from zarrdock.stores.base import Blob, Buffer, Entry, Read, Store
from zarrdock.stores.open import open_store
from zarrdock.views.array_lookup import Owners, v3_array
from zarrdock.views.reencoded import ReencodedView
from zarrdock.views.regular import RegularView
from zarrdock.views.unsharded import unshard
from zarrdock.views.view import Document, Part, Place, View

__all__ = ["AsV2View", "AsV3View", "as_v2", "as_v3"]

V2_NAMES = (".zarray", ".zgroup", ".zattrs", ".zmetadata")
V3_NAME = "zarr.json"
DIMENSIONS = "_ARRAY_DIMENSIONS"
PAGE = 64


def as_v2(store: Any, *, reencode: bool = False, storage_options: dict[str, Any] | None = None) -> AsV2View:
    """A read-only view of a hierarchy as Zarr v2, sharded arrays as plain chunks, for readers that know nothing else.

    Args:
        store: anything :func:`zarrdock.open_store` takes.
        reencode: decode chunks whose codecs v2 has no form for when they are asked for, and show them zstd-compressed;
            show chunks that differ in shape as chunks of one shape, see :func:`zarrdock.views.regular`.

    Nodes that are v2 already are shown as they are. ``.zmetadata`` is there for groups with consolidated metadata, and
    for the others where the store can list. Reading ``.zarray`` of an array that v2 has no form for raises
    UnsupportedError with the reason; ``.zmetadata`` leaves such an array out.

    >>> array = zarrdock.create_array({}, data=np.arange(8), chunks=2, shards=4)
    >>> view = zarrdock.views.as_v2(array.store)
    >>> sorted(entry.key for entry in view.list())
    ['.zarray', '.zattrs', '0', '1', '2', '3']
    """
    inside: Store = unshard(open_store(store, storage_options=storage_options, read_only=True))
    return AsV2View(ReencodedView(RegularView(inside), has_no_v2_form) if reencode else inside)


def as_v3(store: Any, *, storage_options: dict[str, Any] | None = None) -> AsV3View:
    """A read-only view of a hierarchy as Zarr v3. Nodes that are v3 already are shown as they are.

    Args:
        store: anything :func:`zarrdock.open_store` takes.

    Reading ``zarr.json`` of an array that v3 has no form for raises UnsupportedError with the reason.

    >>> array = zarrdock.create_array({}, data=np.arange(8), zarr_format=2)
    >>> zarrdock.open_array(zarrdock.views.as_v3(array.store)).metadata.zarr_format
    3
    """
    return AsV3View(open_store(store, storage_options=storage_options, read_only=True))


def has_no_v2_form(node: ArrayMetadata) -> bool:
    """True if an array's codecs have no v2 form."""
    if node.zarr_format == 2:
        return False
    try:
        documents(to_v2_node(node))
    except UnsupportedError:
        return True
    return False


def to_v2_node(node: ArrayMetadata) -> ArrayMetadata:
    """v3 metadata as v2's.

    Raises:
        UnsupportedError: v2 has no form for it.
    """
    if isinstance(node.grid, RectilinearGrid):
        raise UnsupportedError("Zarr v2 needs chunks of one shape: reencode=True makes them")
    dtype = node.dtype
    for codec in node.codecs:
        if isinstance(codec, Bytes) and codec.endian is not None:
            dtype = dtype.newbyteorder("<" if codec.endian == "little" else ">")
    data_type = data_type_of(dtype, zarr_format=2) if node.data_type.object_codec is None else node.data_type
    attributes = dict(node.attributes)
    if node.dimension_names is not None and None not in node.dimension_names:
        attributes[DIMENSIONS] = list(node.dimension_names)
    return ArrayMetadata(
        shape=node.shape,
        data_type=data_type,
        grid=node.grid,
        key_encoding=node.key_encoding.in_v2(),
        fill_value=data_type.cast_fill(node.fill_value),
        # Frames say themselves that they have a checksum, and readers refuse a member they don't know.
        codecs=tuple(replace(codec, checksum=False) if isinstance(codec, Zstd) else codec for codec in node.codecs),
        attributes=attributes,
        zarr_format=2,
    )


def to_v3_node(node: ArrayMetadata) -> ArrayMetadata:
    """v2 metadata as v3's; chunks keep their keys.

    Raises:
        UnsupportedError: v3 has no form for it.
    """
    # Text and bytes of any length have no byte order.
    is_ordered = node.data_type.object_codec is None
    data_type = data_type_of(node.dtype.newbyteorder("="), zarr_format=3) if is_ordered else node.data_type
    return ArrayMetadata(
        shape=node.shape,
        data_type=data_type,
        grid=node.grid,
        key_encoding=node.key_encoding,
        fill_value=data_type.cast_fill(node.fill_value),
        codecs=to_v3(node.codecs, dtype=node.data_type.stored_v2, chunk_shape=node.grid.largest),
        attributes={name: value for name, value in node.attributes.items() if name != DIMENSIONS},
        dimension_names=node.dims,
    )


class _FormatView(View):
    """Base of the views in both directions.

    Attributes:
        documents: names of the documents shown in place of others.
    """

    documents: ClassVar[tuple[str, ...]]

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._owners = self._make_owners()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)

    @abstractmethod
    def _make_owners(self) -> Owners:
        """Arrays of the format that is translated."""

    @abstractmethod
    def _translate(self, keys: Sequence[str]) -> list[Place]:
        """The places of documents of this view's format."""

    @abstractmethod
    def _chunk(self, key: str, path: str, array: ArrayMetadata) -> str | None:
        """The key inside for a key of this view, below an array; None where this view has no such key."""

    @abstractmethod
    def _outer(self, key: str, owner: tuple[str, ArrayMetadata] | None) -> list[str]:
        """Keys that the view shows for a key inside."""

    def _locate(self, keys: Sequence[str], *, fresh: bool = False) -> list[Place]:
        places: list[Place] = [None] * len(keys)
        of_nodes = [i for i, key in enumerate(keys) if key.rpartition("/")[2] in self.documents]
        for i, place in zip(of_nodes, self._translate([keys[i] for i in of_nodes]), strict=True):
            places[i] = place
        hidden = (V3_NAME,) if V3_NAME not in self.documents else V2_NAMES
        others = [i for i, key in enumerate(keys) if key.rpartition("/")[2] not in (*V2_NAMES, V3_NAME)]
        for i, owner in zip(others, self._owners.find([keys[i] for i in others]), strict=True):
            inner = keys[i] if owner is None else self._chunk(keys[i], *owner)
            places[i] = None if inner is None else Part(inner)
        for i, key in enumerate(keys):
            if key.rpartition("/")[2] in hidden and not self._is_document(key):
                places[i] = Part(key)
        return places

    def _is_document(self, key: str) -> bool:
        """False where something that is called like a document is none, and is shown like any other key."""
        (answer,) = self.store.read([Read(key)])
        return isinstance(answer, Blob) and answer.data[:1] == b"{"

    def _entries(self, prefix: str) -> Iterator[Entry]:
        inside = self._owners.find([join(prefix, "x")])[0] if prefix else None
        entries = self.store.list(inside[0] if inside is not None else prefix)
        start = f"{prefix}/" if prefix else ""
        seen: set[str] = set()
        while page := [*islice(entries, PAGE)]:
            for entry, owner in zip(page, self._owners.find([entry.key for entry in page]), strict=True):
                name = entry.key.rpartition("/")[2]
                for key in self._outer(entry.key, owner):
                    if key.startswith(start) and key not in seen:
                        if name in (*V2_NAMES, V3_NAME):
                            seen.add(key)
                        yield Entry(key, entry.size if name not in (*V2_NAMES, V3_NAME) else None)


class AsV2View(_FormatView):
    """See :func:`as_v2`."""

    name = "as_v2"
    documents = V2_NAMES

    def _make_owners(self) -> Owners:
        return Owners(self.store, V3_NAME, v3_array)

    def _translate(self, keys: Sequence[str]) -> list[Place]:
        paths = [key.rpartition("/")[0] for key in keys]
        answers = self.store.read([Read(join(path, V3_NAME)) for path in paths]) if keys else []
        return [
            self._document(key, path, answer) if isinstance(answer, Blob) else Part(key)
            for key, path, answer in zip(keys, paths, answers, strict=True)
        ]

    def _document(self, key: str, path: str, answer: Blob) -> Place:
        try:
            node = parse_node(answer.data, join(path, V3_NAME), lenient=True)
        except MetadataError:
            return Part(key)
        name = key.rpartition("/")[2]
        if name == ".zmetadata":
            return self._consolidated(path, node) if isinstance(node, GroupMetadata) else None
        if name == (".zgroup" if isinstance(node, ArrayMetadata) else ".zarray"):
            return None
        if name == ".zattrs" and isinstance(node, ArrayMetadata) and node.unknown:
            return None
        try:
            return Document(documents(_node_v2(node, key))[name], answer.version)
        except (MetadataError, UnsupportedError) as error:
            hint = "" if isinstance(self.store, ReencodedView) else "; reencode=True (--reencode) may show it decoded"
            raise UnsupportedError(f"{path or '/'!r} cannot be shown as Zarr v2: {error}{hint}") from error

    def _consolidated(self, path: str, group: GroupMetadata) -> Place:
        if group.consolidated is None and not self.traits.listable:
            return None
        nodes: dict[str, Node] = {}
        for name, node in walk(self.store, path, group):
            try:
                if not isinstance(node, ZarrdockError):
                    shown = _node_v2(node, join(path, name))
                    documents(shown)
                    nodes[name] = shown
            except (MetadataError, UnsupportedError):
                continue  # asked for by itself it says why
        root = _node_v2(group, path)
        assert isinstance(root, GroupMetadata)
        data = serialise(to_consolidated_v2(consolidate(root, nodes)))
        digest = hashlib.sha256(data).hexdigest() if self.traits.conditional_read else None
        return Document(data, digest)

    def _chunk(self, key: str, path: str, array: ArrayMetadata) -> str | None:
        skip = len(path) + 1 if path else 0
        coords = array.key_encoding.in_v2().parse(key[skip:], array.ndim)
        if coords is not None:
            return key[:skip] + array.key_encoding.key(coords)
        return None if array.key_encoding.parse(key[skip:], array.ndim) is not None else key

    def _outer(self, key: str, owner: tuple[str, ArrayMetadata] | None) -> list[str]:
        folder, _, name = key.rpartition("/")
        if name == V3_NAME:
            found = self._translate([join(folder, ".zgroup")])[0]
            if isinstance(found, Part):
                return [key]
            if found is None:
                return [join(folder, ".zarray"), join(folder, ".zattrs")]
            return [join(folder, ".zgroup"), join(folder, ".zattrs")]
        if owner is None:
            return [key]
        path, array = owner
        skip = len(path) + 1 if path else 0
        coords = array.key_encoding.parse(key[skip:], array.ndim)
        return [key if coords is None else key[:skip] + array.key_encoding.in_v2().key(coords)]


class AsV3View(_FormatView):
    """See :func:`as_v3`."""

    name = "as_v3"
    documents = (V3_NAME,)

    def _make_owners(self) -> Owners:
        return Owners(self.store, ".zarray", _v2_array)

    def _translate(self, keys: Sequence[str]) -> list[Place]:
        names = (V3_NAME, ".zarray", ".zgroup", ".zattrs")
        paths = [key.rpartition("/")[0] for key in keys]
        answers = self.store.read([Read(join(path, name)) for path in paths for name in names]) if keys else []
        places: list[Place] = []
        for i, path in enumerate(paths):
            v3, zarray, zgroup, zattrs = (
                answer if isinstance(answer, Blob) else None for answer in answers[4 * i : 4 * i + 4]
            )
            main = zarray or zgroup
            if v3 is not None or main is None:
                places.append(Part(keys[i]))
                continue
            try:
                attributes = None if zattrs is None else zattrs.data
                node: Node
                if zarray is not None:
                    node = to_v3_node(parse_array_v2(zarray.data, attributes, join(path, ".zarray")))
                else:
                    group = parse_group_v2(main.data, attributes, join(path, ".zgroup"))
                    node = GroupMetadata(attributes=group.attributes)
                data = documents(node)[V3_NAME]
            except (MetadataError, UnsupportedError) as error:
                raise UnsupportedError(f"{path or '/'!r} cannot be shown as Zarr v3: {error}") from error
            version = None if main.version is None else (main.version, None if zattrs is None else zattrs.version)
            places.append(Document(data, version))
        return places

    def _chunk(self, key: str, path: str, array: ArrayMetadata) -> str | None:
        return key

    def _outer(self, key: str, owner: tuple[str, ArrayMetadata] | None) -> list[str]:
        folder, _, name = key.rpartition("/")
        if name not in V2_NAMES or not self._is_document(key):
            return [key]
        return [join(folder, V3_NAME)] if name in (".zarray", ".zgroup") else []


def _node_v2(node: Node, key: str) -> Node:
    if isinstance(node, GroupMetadata):
        return GroupMetadata(attributes=node.attributes, zarr_format=2)
    return to_v2_node(node.require_known(key))


def _v2_array(document: Buffer, key: str) -> ArrayMetadata | None:
    try:
        return parse_array_v2(document, None, key, lenient=True)
    except MetadataError:
        return None
