"""Documents that break the specification, but can only mean one thing: read as meant, noted, and written strictly.

Every document is parsed strictly first. Only where that fails is it rewritten here into the strict form and parsed
again, so ordinary documents pay nothing. Each rewriting is a :class:`Leniency` in the metadata, which ``zarrdock info``
and ``zarrdock check`` show. Who writes what:

========================================================  ==============================================
Numbers as text in ``fill_value``                         n5-zarr up to 1.3.1, the IDR's images
``0`` and ``1`` for booleans, ``0.0`` for integers        early zarrita, early zarr-python 3
``"nan"`` for ``"NaN"``                                   writers that print a float
No ``fill_value``, ``order``, ``compressor``, ``filters``  older nccopy; writers by hand
``4`` for ``[4]``, ``{}`` or ``[]`` for nothing            R (jsonlite unboxes lists of one element)
``4.0`` for ``4`` in lists                                JSON libraries with one type of number
``"attributes": null``, ``"configuration": null``         serialisers of optional members
Attributes in Latin-1, or with a member twice             GDAL; programs that join texts
``shuffle`` as text in v2, as a number in v3              hand-written configurations of Blosc
No ``typesize`` for Blosc in v3                           several v3 writers
``"5"`` and ``5.0`` for levels, ``-1`` for the usual one   N5's defaults, JSON libraries, configurations by hand
========================================================  ==============================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zarrdock.array.dtypes.dtype import DataType, parse_data_type
from zarrdock.array.dtypes.v2_dtypes import parse_data_type_v2
from zarrdock.errors import MetadataError
from zarrdock.json_ import JSON, loads, loads_lax, pointer_to

__all__ = ["Leniency", "load_attributes", "load_node", "mend_array", "mend_array_v2", "mend_group"]


@dataclass(frozen=True, slots=True)
class Leniency:
    """Something in a document that breaks the specification, and was read as it was meant.

    Attributes:
        document: its name: ``zarr.json``, ``.zarray``, ``.zgroup``, ``.zattrs`` or ``.zmetadata``.
        pointer: JSON pointer to the place.
        message: what stands there, and how it is read.
    """

    document: str
    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.document}{'#' + self.pointer if self.pointer else ''}: {self.message}"


# -- text -------------------------------------------------------------------------------------------------------------


def load_node(document: bytes | bytearray | memoryview, name: str) -> tuple[JSON, tuple[Leniency, ...]]:
    """A parsed ``zarr.json``, whose attributes may be in Latin-1 or have a member twice.

    Args:
        name: of the document, for the notes.
    Raises:
        MetadataError: as :func:`zarrdock.json_.loads`.
    """
    try:
        return loads(document), ()
    except MetadataError:
        found = loads_lax(document)
        if found is None:
            raise
        doubled = {id(owner) for owner, _ in found.doubled}
        for value in _outside_attributes(found.value):
            if id(value) in doubled or (found.is_latin1 and isinstance(value, str) and not value.isascii()):
                raise
    return found.value, _notes_of_text(found.is_latin1, found.doubled, name, "/attributes")


def load_attributes(document: bytes | bytearray | memoryview) -> tuple[dict[str, Any], tuple[Leniency, ...]]:
    """A parsed ``.zattrs``: an object; ``null`` and ``[]`` are read as an empty one.

    Raises:
        MetadataError: no JSON, or something else.
    """
    notes: tuple[Leniency, ...] = ()
    try:
        value = loads(document)
    except MetadataError:
        found = loads_lax(document)
        if found is None:
            raise
        value = found.value
        notes = _notes_of_text(found.is_latin1, found.doubled, ".zattrs", "")
    if value is None or value == []:
        return {}, (*notes, Leniency(".zattrs", "", f"{_shown(value)} is read as no attributes"))
    if not isinstance(value, dict):
        raise MetadataError(expected="an object, the attributes", found=value)
    return value, notes


def _notes_of_text(
    is_latin1: bool, doubled: list[tuple[dict[str, Any], str]], name: str, pointer: str
) -> tuple[Leniency, ...]:
    notes = [Leniency(name, pointer, "not UTF-8: read as Latin-1")] if is_latin1 else []
    notes += [Leniency(name, pointer, f"member {member!r} stands twice: the last one counts") for _, member in doubled]
    return tuple(notes)


def _outside_attributes(document: JSON) -> Iterator[JSON]:
    """Every value and every name of a member of a ``zarr.json`` but those in the attributes of nodes."""
    nodes: list[JSON] = [document]
    rest: list[JSON] = []
    while nodes:
        node = nodes.pop()
        yield node
        if not isinstance(node, dict):
            continue
        yield from node
        for name, value in node.items():
            inline = value.get("metadata") if name == "consolidated_metadata" and isinstance(value, dict) else None
            if isinstance(inline, dict):
                yield value
                yield inline
                yield from inline
                nodes += inline.values()
            elif name != "attributes" or not isinstance(value, dict):
                rest.append(value)
    while rest:
        value = rest.pop()
        yield value
        if isinstance(value, dict):
            yield from value
            rest += value.values()
        elif isinstance(value, list):
            rest += value


# -- values -----------------------------------------------------------------------------------------------------------


def mend_array(members: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Leniency, ...]]:
    """The members of an array's ``zarr.json`` in their strict form, and what was changed for that."""
    mending = _Mending("zarr.json")
    mended = dict(members)
    mending.format_and_attributes(mended)
    data_type = None
    try:
        data_type = parse_data_type(mended.get("data_type"))
    except MetadataError:
        pass
    if isinstance(mended.get("chunk_grid"), dict):
        mended["chunk_grid"] = mending.extension(mended["chunk_grid"], "/chunk_grid", {"chunk_shape"})
    if "shape" in mended:
        grid: Any = mended.get("chunk_grid")
        chunks = grid.get("configuration") if isinstance(grid, dict) else None
        chunks = chunks.get("chunk_shape") if isinstance(chunks, dict) else None
        mended["shape"] = mending.integers(mended["shape"], "/shape", alone=_n(chunks) == 1)
    names = mended.get("dimension_names")
    if isinstance(names, str) and _n(mended.get("shape")) == 1:
        mended["dimension_names"] = mending.read_as("/dimension_names", names, [names])
    if isinstance(mended.get("chunk_key_encoding"), dict):
        mended["chunk_key_encoding"] = mending.extension(mended["chunk_key_encoding"], "/chunk_key_encoding", set())
    itemsize = 1
    if data_type is not None:
        itemsize = 1 if data_type.numpy.hasobject or data_type.numpy.kind == "T" else data_type.numpy.itemsize
        if "fill_value" in mended:
            mended["fill_value"] = mending.fill(mended["fill_value"], data_type, "/fill_value")
    if "codecs" in mended:
        mended["codecs"] = mending.codecs(mended["codecs"], "/codecs", itemsize)
    return mended, tuple(mending.notes)


def mend_group(members: Mapping[str, Any], document: str = "zarr.json") -> tuple[dict[str, Any], tuple[Leniency, ...]]:
    """The members of a group's ``zarr.json`` or ``.zgroup`` in their strict form, and what was changed for that."""
    mending = _Mending(document)
    mended = dict(members)
    mending.format_and_attributes(mended)
    return mended, tuple(mending.notes)


def mend_array_v2(members: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Leniency, ...]]:
    """The members of a ``.zarray`` in their strict form, and what was changed for that."""
    mending = _Mending(".zarray")
    mended = dict(members)
    mending.format_and_attributes(mended)
    for name, default in _MISSING_V2.items():
        if name not in mended:
            mended[name] = default
            mending.note("", f"no member {name!r}: read as {_shown(default)}")
    for name, other in (("shape", "chunks"), ("chunks", "shape")):
        if name in mended:
            mended[name] = mending.integers(mended[name], pointer_to("", name), alone=_n(mended.get(other)) == 1)
    dtype = mended.get("dtype")
    if isinstance(dtype, str) and dtype in _ONE_BYTE:
        mended["dtype"] = mending.read_as("/dtype", dtype, _ONE_BYTE[dtype])
    filters = mended["filters"]
    if isinstance(filters, dict):
        mended["filters"] = mending.read_as("/filters", filters, [filters] if filters else None)
    if isinstance(mended["filters"], list):
        mended["filters"] = [
            mending.codec_v2(item, pointer_to("/filters", i)) for i, item in enumerate(mended["filters"])
        ]
    mended["compressor"] = mending.codec_v2(mended["compressor"], "/compressor")
    try:
        data_type = parse_data_type_v2(mended.get("dtype"), filters=mended["filters"])
    except MetadataError:
        return mended, tuple(mending.notes)
    if mended["fill_value"] is not None:
        mended["fill_value"] = mending.fill(mended["fill_value"], data_type, "/fill_value")
    return mended, tuple(mending.notes)


_MISSING_V2: Final[dict[str, Any]] = {"compressor": None, "fill_value": None, "order": "C", "filters": None}
# Types of one byte, whose byte order says nothing.
_ONE_BYTE: Final = {
    **dict.fromkeys(("bool", "b1", "?"), "|b1"),
    **dict.fromkeys(("int8", "i1"), "|i1"),
    **dict.fromkeys(("uint8", "u1"), "|u1"),
}
_SHUFFLES: Final = ("noshuffle", "shuffle", "bitshuffle")  # their numbers are their places
# Settings of compressors that readers have no use for, and zlib's level for -1.
_SETTINGS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("zlib", "gzip", "zstd"), frozenset({"level"})),
    "blosc": frozenset({"clevel", "blocksize", "typesize"}),
}
_USUAL_LEVEL: Final = 6
_NUMBER: Final = re.compile(
    r"\s*[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,6})?\s*", re.ASCII
)
_NOT_FINITE: Final = {
    "nan": "NaN",
    **dict.fromkeys(("inf", "+inf", "infinity", "+infinity"), "Infinity"),
    **dict.fromkeys(("-inf", "-infinity"), "-Infinity"),
}


class _Mending:
    """Rewrites parts of one document, and notes what it changed. What it is given stays as it is."""

    def __init__(self, document: str) -> None:
        self.notes: list[Leniency] = []
        self._document = document

    def note(self, pointer: str, message: str) -> None:
        """Remember that something at ``pointer`` was changed."""
        self.notes.append(Leniency(self._document, pointer, message))

    def read_as(self, pointer: str, found: JSON, value: JSON) -> JSON:
        """``value``, which takes the place of ``found``."""
        self.note(pointer, f"{_shown(found)} is read as {_shown(value)}")
        return value

    def format_and_attributes(self, members: dict[str, Any]) -> None:
        """``zarr_format`` and ``attributes``, changed in place."""
        found: Any = members.get("zarr_format")
        if _integral(found):
            members["zarr_format"] = self.read_as("/zarr_format", found, int(found))
        if "attributes" in members and self._document == "zarr.json":
            attributes = members["attributes"]
            if attributes is None or attributes == []:
                members["attributes"] = self.read_as("/attributes", attributes, {})

    def integers(self, value: JSON, pointer: str, *, alone: bool = True) -> JSON:
        """A list of integers: one may stand ``alone``, where that can only mean a list of it, and each be a float."""
        if alone and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = self.read_as(pointer, value, [int(value) if _integral(value) else value])
        if isinstance(value, list) and any(_integral(item) for item in value):
            value = self.read_as(pointer, value, [int(item) if _integral(item) else item for item in value])
        return value

    def extension(self, value: dict[str, Any], pointer: str, lists: set[str]) -> dict[str, Any]:
        """Name and configuration; ``lists`` are members of the latter that are lists of integers."""
        if "configuration" not in value:
            return value
        found = value["configuration"]
        at = pointer_to(pointer, "configuration")
        if found is None or found == []:
            return {**value, "configuration": self.read_as(at, found, {})}
        if isinstance(found, dict):
            changed = {name: self.integers(found[name], pointer_to(at, name)) for name in lists & found.keys()}
            return {**value, "configuration": {**found, **changed}}
        return value

    def codecs(self, value: JSON, pointer: str, itemsize: int) -> JSON:
        """A chain of codecs of v3, those within shards included; ``itemsize``: bytes of an element."""
        if not isinstance(value, list):
            return value
        return [
            self._codec(item, pointer_to(pointer, i), itemsize) if isinstance(item, dict) else item
            for i, item in enumerate(value)
        ]

    def _codec(self, value: dict[str, Any], pointer: str, itemsize: int) -> dict[str, Any]:
        value = self.extension(value, pointer, {"chunk_shape", "order"})
        at = pointer_to(pointer, "configuration")
        found = value.get("configuration", {})
        if not isinstance(found, dict):
            return value
        changed = self._settings(value.get("name"), found, at)
        if value.get("name") == "sharding_indexed":
            for name, size in (("codecs", itemsize), ("index_codecs", 8)):
                if name in found:
                    changed[name] = self.codecs(found[name], pointer_to(at, name), size)
        elif value.get("name") == "blosc":
            shuffle = found.get("shuffle", "noshuffle")
            if type(shuffle) is int and 0 <= shuffle < len(_SHUFFLES):
                changed["shuffle"] = self.read_as(pointer_to(at, "shuffle"), shuffle, _SHUFFLES[shuffle])
            if changed.get("shuffle", "noshuffle") != "noshuffle" and "typesize" not in found:
                changed["typesize"] = itemsize
                self.note(at, f"no member 'typesize': read as {itemsize}, the bytes of an element")
        return {**value, "configuration": changed} if changed else value

    def codec_v2(self, value: JSON, pointer: str) -> JSON:
        """A configuration of numcodecs."""
        if not isinstance(value, dict):
            return value
        changed = self._settings(value.get("id"), value, pointer)
        if value.get("id") == "blosc":
            shuffle = value.get("shuffle")
            if shuffle in _SHUFFLES:
                changed["shuffle"] = self.read_as(pointer_to(pointer, "shuffle"), shuffle, _SHUFFLES.index(shuffle))
            if changed.pop("nthreads", None) is not None:
                self.note(pointer_to(pointer, "nthreads"), "a matter of the program that writes: not used")
        return changed

    def _settings(self, codec: JSON, members: Mapping[str, Any], pointer: str) -> dict[str, Any]:
        """Members of a compressor's configuration that matter only when it writes, as integers."""
        changed = dict(members)
        for name in [name for name in members if name in _SETTINGS.get(str(codec), ())]:
            number = _number(changed[name], "i")
            if codec == "gzip" and number == -1:
                number = _USUAL_LEVEL
            if number is not None and (type(number) is not type(changed[name]) or number != changed[name]):
                changed[name] = self.read_as(pointer_to(pointer, name), changed[name], number)
        return changed

    def fill(self, value: JSON, data_type: DataType, pointer: str) -> JSON:
        """A fill value, and those of its parts."""
        fields: Any = getattr(data_type, "fields", ())
        if isinstance(value, dict) and fields:
            kinds = {name: kind for name, kind, shape in fields if not shape}
            return {
                name: self.fill(item, kinds[name], pointer_to(pointer, name)) if name in kinds else item
                for name, item in value.items()
            }
        kind = _kind(data_type)
        if kind == "c":
            if isinstance(value, list):
                return [self._scalar(item, "f", pointer_to(pointer, i)) for i, item in enumerate(value)]
            number = _number(value, "f")
            return value if number is None else self.read_as(pointer, value, [number, 0])
        return self._scalar(value, kind, pointer)

    def _scalar(self, value: JSON, kind: str, pointer: str) -> JSON:
        number = _number(value, kind)
        # Equality is not enough: True is 1, and 1 is 1.0.
        same = number is None or (type(number) is type(value) and number == value)
        return value if same else self.read_as(pointer, value, number)


def _kind(data_type: DataType) -> str:
    """Kind of the data type by numpy's letters, where numpy itself says V for all types of ml_dtypes."""
    dtype = data_type.numpy
    if dtype.kind != "V" or dtype.type is np.void:
        return dtype.kind
    return "i" if "int" in data_type.name else "c" if "complex" in data_type.name else "f"


def _number(value: JSON, kind: str) -> JSON:
    """The value that a JSON value stands for in a type of that kind; None where it is not certain."""
    if kind not in "biufcmM":
        return None
    if isinstance(value, str):
        text = value.strip().lower()
        if kind == "b" and text in ("true", "false"):
            return text == "true"
        if kind == "f" and text in _NOT_FINITE:
            return _NOT_FINITE[text]
        if not _NUMBER.fullmatch(value):
            return None
        try:
            value = int(value)
        except ValueError:
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return value if kind == "b" and isinstance(value, bool) else None
    if kind == "b":
        return bool(value) if value in (0, 1) else None
    if kind == "f":
        return value
    return int(value) if value == int(value) else None


def _n(value: JSON) -> int | None:
    """The length of a list, or of the one that a number stands for; None of anything else."""
    if isinstance(value, list):
        return len(value)
    return 1 if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _integral(value: JSON) -> bool:
    return isinstance(value, float) and value.is_integer()


def _shown(value: JSON) -> str:
    """The value roughly as it stands in JSON, for messages."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
