"""Array and group metadata, and their Zarr v3 documents (``zarr.json``).

The values here serve both formats; the documents of v2 are in ``v2.py``, those of consolidated metadata in
``consolidated.py``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np

from zarrdock.array.dtypes.dtype import DataType
from zarrdock.array.metadata.chunk_grids import MAX_LENGTH, ChunkGrid, RegularGrid
from zarrdock.array.metadata.key_encodings import KeyEncoding
from zarrdock.array.metadata.lenient import Leniency, load_node, mend_array, mend_group
from zarrdock.array.metadata.members import (
    parse_codecs_or_unknown,
    parse_data_type_or_unknown,
    parse_dimension_names,
    parse_extra,
    parse_grid_or_unknown,
    parse_keys_or_unknown,
    parse_transformers,
)
from zarrdock.array.metadata.nodes import LazyNodes
from zarrdock.array.metadata.unknown import UnknownCodec, UnknownDataType, UnknownGrid, UnknownKeyEncoding
from zarrdock.codecs.builtin import codecs_to_json
from zarrdock.codecs.codec import Codec
from zarrdock.codecs.sharding import Sharding
from zarrdock.errors import MetadataError, UnknownExtensionError, UnsupportedError
from zarrdock.json_ import (
    JSON,
    expect_integers,
    expect_object,
    in_document,
    pointer_to,
    serialise,
)

__all__ = ["MAX_NDIM", "ArrayMetadata", "GroupMetadata", "Node", "V2Details", "parse_node", "serialise"]

# numpy has arrays of no more dimensions.
MAX_NDIM: Final = 64

_REQUIRED = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs")
_ARRAY_MEMBERS = frozenset(
    {"zarr_format", "node_type", *_REQUIRED, "attributes", "storage_transformers", "dimension_names"}
)
_GROUP_MEMBERS = frozenset({"zarr_format", "node_type", "attributes", "consolidated_metadata"})


@dataclass(frozen=True, slots=True)
class V2Details:
    """Details of a v2 document that ``ArrayMetadata`` has no other place for.

    Attributes:
        fill_value_is_null: missing chunks are undefined; they are read as the data type's default.
        fill_value: as found, to be written again; None if it is null, or follows from the array's fill value.
        members: ``compressor``, ``filters`` and ``order`` as found; None if they follow from the codecs.
        names_separator: the document names the separator in keys of chunks.
    """

    fill_value_is_null: bool = False
    fill_value: JSON = None
    members: Mapping[str, Any] | None = None
    names_separator: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayMetadata:
    """Metadata of an array. Two are equal if their documents would be, NaNs included.

    Attributes:
        shape: elements along each dimension, at most 64 of them, each below 2**63.
        data_type, grid, key_encoding: see there.
        fill_value: a numpy scalar of ``dtype``, in native byte order; None only of an unknown data type.
        codecs: array to array, then one array to bytes, then bytes to bytes.
        attributes: the user's, any JSON.
        dimension_names: of v3; None if there are none at all.
        extra: members that need not be understood, as found; they are written again.
        leniencies: breaches of the specification in the documents, and how they were read.
        v2: set only if ``zarr_format`` is 2, and even then may be None.

    Raises:
        MetadataError: shape, chunks and dimension names don't fit each other.
    """

    shape: tuple[int, ...]
    data_type: DataType
    grid: ChunkGrid
    key_encoding: KeyEncoding
    fill_value: Any
    codecs: tuple[Codec, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dimension_names: tuple[str | None, ...] | None = None
    zarr_format: Literal[2, 3] = 3
    extra: Mapping[str, Any] = field(default_factory=dict)
    v2: V2Details | None = None
    leniencies: tuple[Leniency, ...] = ()

    node_type: ClassVar[str] = "array"

    def __post_init__(self) -> None:
        expect_integers(self.shape, "/shape")
        if len(self.shape) > MAX_NDIM:
            expected = f"at most {MAX_NDIM} dimensions, which is numpy's limit"
            raise MetadataError(pointer="/shape", expected=expected, found=len(self.shape))
        for i, length in enumerate(self.shape):
            if length > MAX_LENGTH:
                expected = f"a length of at most {MAX_LENGTH}, with which positions can be computed in 64 bits"
                raise MetadataError(pointer=pointer_to("/shape", i), expected=expected, found=length)
        member = "chunk_shape" if isinstance(self.grid, RegularGrid) else "chunk_shapes"
        self.grid.check(self.shape, f"/chunk_grid/configuration/{member}" if self.zarr_format == 3 else "/chunks")
        self.key_encoding.check(len(self.shape), "/chunk_key_encoding")
        names = self.dimension_names
        if names is not None and len(names) != len(self.shape):
            expected = f"{len(self.shape)} names or nulls, one a dimension"
            raise MetadataError(pointer="/dimension_names", expected=expected, found=list(names))

    @classmethod
    def from_json(cls, document: JSON, *, lenient: bool = False) -> ArrayMetadata:
        """Parse the JSON of a ``zarr.json``.

        Args:
            document: as a JSON parser gives it.
            lenient: keep unknown codecs, data type, grid, key encoding and storage transformers as they are, see
                ``unknown``, instead of raising.
        Raises:
            UnknownExtensionError: it uses an extension that is not known here.
            MetadataError: it is invalid.

        Source: Zarr v3 core, "Array metadata".
        """
        members = expect_object(document, expected="an object, the metadata of a node")
        try:
            return cls._strict(members, lenient)
        except MetadataError:
            mended, leniencies = mend_array(members)
            if not leniencies:
                raise
        return dataclasses.replace(cls._strict(mended, lenient), leniencies=leniencies)

    @classmethod
    def _strict(cls, members: dict[str, Any], lenient: bool) -> ArrayMetadata:
        _check_kind(members, "array")
        for member in _REQUIRED:
            if member not in members:
                raise MetadataError(expected=f"a member {member!r}", found=sorted(members))
        shape = expect_integers(members["shape"], "/shape")
        data_type = parse_data_type_or_unknown(members["data_type"], lenient)
        return cls(
            shape=shape,
            data_type=data_type.spelled_as(members["fill_value"]),
            grid=parse_grid_or_unknown(members["chunk_grid"], shape, lenient),
            key_encoding=parse_keys_or_unknown(members["chunk_key_encoding"], lenient),
            fill_value=data_type.parse_fill(members["fill_value"], "/fill_value"),
            codecs=parse_codecs_or_unknown(members["codecs"], lenient),
            attributes=expect_object(members.get("attributes", {}), "/attributes"),
            dimension_names=parse_dimension_names(members.get("dimension_names")),
            extra=parse_extra(members, _ARRAY_MEMBERS)
            | parse_transformers(members.get("storage_transformers"), lenient),
        )

    def to_json(self) -> dict[str, Any]:
        """The document ``zarr.json``, members in the order of the specification.

        Raises:
            UnsupportedError: this is v2 metadata, see ``v2.to_v2_documents``.
        """
        if self.zarr_format != 3:
            raise UnsupportedError(
                "metadata of Zarr v2 has documents of its own: use zarrdock.array.metadata.v2.documents"
            )
        document: dict[str, Any] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.data_type.to_json(),
            "chunk_grid": self.grid.to_json(),
            "chunk_key_encoding": self.key_encoding.to_json(),
            "fill_value": self.data_type.fill_to_json(self.fill_value),
            "codecs": codecs_to_json(self.codecs),
            "attributes": dict(self.attributes),
        }
        if self.dimension_names is not None:
            document["dimension_names"] = list(self.dimension_names)
        return document | dict(self.extra)

    def replace(self, **changes: Any) -> ArrayMetadata:
        """A copy with some members changed, checked as a new one is."""
        if self.v2 is not None and "v2" not in changes:
            v2 = self.v2
            if "codecs" in changes:
                v2 = dataclasses.replace(v2, members=None)
            if "fill_value" in changes:
                v2 = dataclasses.replace(v2, fill_value_is_null=False, fill_value=None)
            elif "data_type" in changes:
                v2 = dataclasses.replace(v2, fill_value=None)
            changes["v2"] = v2
        return dataclasses.replace(self, **changes)

    def resized(self, shape: tuple[int, ...]) -> ArrayMetadata:
        """The metadata of the same array with another shape."""
        sharding = next((codec for codec in self.codecs if isinstance(codec, Sharding)), None)
        return self.replace(
            shape=shape, grid=self.grid.resized(shape, sharding.chunk_shape if sharding else (1,) * len(shape))
        )

    def _fill_json(self) -> str:
        # NaN equals NaN with the same bits, and 0.0 is not -0.0.
        return json.dumps(self.data_type.fill_to_json(self.fill_value))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the elements; in v2 with the byte order they are stored in."""
        return self.data_type.numpy

    @property
    def fill_value_is_null(self) -> bool:
        """v2 only: no fill value was given, and ``fill_value`` is the default."""
        return self.v2 is not None and self.v2.fill_value_is_null

    @property
    def dims(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions: ``dimension_names``, or in v2 xarray's attribute ``_ARRAY_DIMENSIONS``; or else
        what NCZarr keeps, in the document or in the attributes.
        """
        if self.dimension_names is not None:
            return self.dimension_names
        names = self.attributes.get("_ARRAY_DIMENSIONS") if self.zarr_format == 2 else None
        return self._names(names) or self._names(_nczarr_dimensions(self.extra) or _nczarr_dimensions(self.attributes))

    def _names(self, names: JSON) -> tuple[str, ...] | None:
        good = isinstance(names, list) and len(names) == self.ndim and all(isinstance(name, str) for name in names)
        return tuple(names) if good else None

    @property
    def unknown(self) -> tuple[UnknownExtensionError, ...]:
        """Unknown extensions that lenient parsing accepted, as the errors that strict parsing raises."""
        parts = (self.data_type, self.grid, self.key_encoding, *self.codecs)
        kinds = (UnknownDataType, UnknownGrid, UnknownKeyEncoding, UnknownCodec)
        errors = [part.error() for part in parts if isinstance(part, kinds)]
        try:
            parse_transformers(self.extra.get("storage_transformers"), False)
        except UnknownExtensionError as error:
            errors.append(error)
        return tuple(errors)

    def require_known(self, key: str = "") -> ArrayMetadata:
        """This metadata, if chunks can be read with it.

        Raises:
            UnknownExtensionError: the first of :attr:`unknown`.
        """
        for error in self.unknown:
            raise error.with_key(key)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArrayMetadata):
            return NotImplemented
        return self._identity() == other._identity() and (self.attributes, self.extra, self.v2) == (
            other.attributes,
            other.extra,
            other.v2,
        )

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        parts = (self.shape, self.data_type, self.grid, self.key_encoding, self._fill_json(), self.codecs)
        return (*parts, self.dimension_names, self.zarr_format)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetadata:
    """Metadata of a group.

    Attributes:
        attributes: the user's, any JSON.
        extra: members that need not be understood, as found; they are written again.
        leniencies: breaches of the specification in the documents, and how they were read.
        consolidated: path, relative to this group, to the metadata of every node below it; None if it is not
            consolidated. Arrays in it were parsed leniently (see ``ArrayMetadata.require_known``), and perhaps only
            when looked up.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    zarr_format: Literal[2, 3] = 3
    extra: Mapping[str, Any] = field(default_factory=dict)
    consolidated: Mapping[str, Node] | None = None
    leniencies: tuple[Leniency, ...] = field(default=(), compare=False)

    node_type: ClassVar[str] = "group"

    @classmethod
    def from_json(cls, document: JSON, *, key: str = "") -> GroupMetadata:
        """Parse the JSON of a ``zarr.json``; ``key`` is for the errors of consolidated metadata, which is parsed later.

        Raises:
            MetadataError: it is invalid.

        Source: Zarr v3 core, "Group metadata"; consolidated metadata as zarr-python 3 writes it.
        """
        members = expect_object(document, expected="an object, the metadata of a node")
        leniencies: tuple[Leniency, ...] = ()
        try:
            _check_kind(members, "group")
            attributes = expect_object(members.get("attributes", {}), "/attributes")
        except MetadataError:
            members, leniencies = mend_group(members)
            if not leniencies:
                raise
            _check_kind(members, "group")
            attributes = expect_object(members.get("attributes", {}), "/attributes")
        extra = parse_extra(members, _GROUP_MEMBERS)
        inline = members.get("consolidated_metadata")
        consolidated = None
        if inline is not None:
            try:
                consolidated = parse_inline(inline, key)
            except MetadataError as error:
                if error.pointer.endswith("/kind"):
                    raise
                # A copy, which may be passed over: the members' own documents say the same.
                leniencies += (Leniency("zarr.json", error.pointer, f"{error.problem}: it is not used"),)
            if consolidated is None:
                extra["consolidated_metadata"] = inline
        return cls(attributes=attributes, extra=extra, consolidated=consolidated, leniencies=leniencies)

    def to_json(self) -> dict[str, Any]:
        """The document ``zarr.json``.

        Raises:
            UnsupportedError: this is v2 metadata, see ``v2.to_v2_documents``.
        """
        if self.zarr_format != 3:
            raise UnsupportedError(
                "metadata of Zarr v2 has documents of its own: use zarrdock.array.metadata.v2.documents"
            )
        document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": dict(self.attributes)}
        document |= dict(self.extra)
        if self.consolidated is not None:
            document["consolidated_metadata"] = inline_to_json(self.consolidated)
        return document

    def replace(self, **changes: Any) -> GroupMetadata:
        """A copy with some members changed."""
        return dataclasses.replace(self, **changes)


Node: TypeAlias = ArrayMetadata | GroupMetadata


def parse_node(document: bytes | bytearray | memoryview, key: str = "", *, lenient: bool = False) -> Node:
    """The node that a ``zarr.json`` describes.

    Args:
        document: its bytes.
        key: where it was found, for errors.
        lenient: as for :meth:`ArrayMetadata.from_json`.
    Raises:
        UnknownExtensionError, MetadataError: with the key, and a pointer into the document.
    """
    with in_document(key):
        value, leniencies = load_node(document, "zarr.json")
        node = _node(value, key, lenient)
    return node.replace(leniencies=leniencies + node.leniencies) if leniencies else node


def parse_inline(value: JSON, key: str = "") -> LazyNodes | None:
    """The nodes in a group's ``consolidated_metadata``; None for a kind that is not known and need not be.

    Raises:
        MetadataError: it is wrong as a whole. A wrong node is reported when it is looked up.
    """
    members = expect_object(value, "/consolidated_metadata")
    if members.get("kind") != "inline":
        if members.get("must_understand") is False:
            return None
        raise MetadataError(pointer="/consolidated_metadata/kind", expected="'inline'", found=members.get("kind"))
    nodes = expect_object(members.get("metadata"), "/consolidated_metadata/metadata")
    return LazyNodes(nodes, _inline_node, key)


def inline_to_json(nodes: Mapping[str, Node]) -> dict[str, Any]:
    """The member ``consolidated_metadata``; nodes by depth, then by name. What was parsed is written as found."""
    metadata: dict[str, Any] = {}
    for path in sorted(nodes, key=lambda path: (path.count("/"), path)):
        if isinstance(nodes, LazyNodes):
            metadata[path] = nodes.document(path)
            continue
        node = nodes[path]
        # As zarr-python does: an empty mark says "consolidated", and the nodes are all in the outermost group.
        metadata[path] = (node.replace(consolidated={}) if isinstance(node, GroupMetadata) else node).to_json()
    return {"kind": "inline", "must_understand": False, "metadata": metadata}


def _node(document: JSON, key: str, lenient: bool) -> Node:
    members = expect_object(document, expected="an object, the metadata of a node")
    kind = members.get("node_type")
    if kind == "array":
        return ArrayMetadata.from_json(members, lenient=lenient)
    if kind == "group":
        return GroupMetadata.from_json(members, key=key)
    _check_format(members)
    raise MetadataError(pointer="/node_type", expected="'array' or 'group'", found=kind)


def _nczarr_dimensions(members: Mapping[str, Any]) -> JSON:
    """Names of dimensions as NCZarr of the netCDF library has them: paths of dimensions in the hierarchy."""
    for member, names in (("_nczarr_array", "dimension_references"), ("_NCZARR_ARRAY", "dimrefs")):
        details = members.get(member)
        found = details.get(names) if isinstance(details, dict) else None
        if isinstance(found, list):
            return [name.rpartition("/")[2] if isinstance(name, str) else name for name in found]
    return None


def _inline_node(path: str, document: JSON) -> Node:
    try:
        return _node(document, "", lenient=True)
    except MetadataError as error:
        raise error.below(pointer_to("/consolidated_metadata/metadata", path)) from error.__cause__


def _check_format(members: dict[str, Any]) -> None:
    found = members.get("zarr_format")
    if type(found) is not int or found != 3:
        raise MetadataError(pointer="/zarr_format", expected="3", found=found)


def _check_kind(members: dict[str, Any], kind: str) -> None:
    _check_format(members)
    if members.get("node_type") != kind:
        raise MetadataError(pointer="/node_type", expected=repr(kind), found=members.get("node_type"))
