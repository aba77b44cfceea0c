"""Zarr v2's object codecs other than ``vlen-utf8`` and ``vlen-bytes``: Python objects to bytes, numcodecs' formats.

Zarr v3 has no arrays of objects, so these have no metadata in it. What is decoded is checked here, since the formats
say how large and of what kind their content is, and numcodecs believes it.
"""

from __future__ import annotations

import json
import pickle
from abc import abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from zarrdock.codecs.codec import (
    AnyArray,
    ArrayArrayCodec,
    ArrayBytesCodec,
    BoundArrayArray,
    BoundArrayBytes,
    Buffer,
    ByteSpec,
    ChunkSpec,
    as_bytes,
)
from zarrdock.codecs.numcodecs_ import NumcodecsCodec, flat
from zarrdock.codecs.vlen import MAX_NBYTES, checked_count
from zarrdock.config import config
from zarrdock.errors import CodecError, MetadataError, UnsupportedError

__all__ = ["Categorize", "Json", "MsgPack", "ObjectCodec", "Pickle", "VlenArray", "check_pickle_allowed"]


@dataclass(frozen=True, init=False, repr=False)
class ObjectCodec(NumcodecsCodec, ArrayBytesCodec):
    """Objects to bytes. Subclasses say how a chunk's bytes become its elements."""

    in_v3 = False

    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        return _BoundObjects(self, self.implementation(), spec)

    @abstractmethod
    def items(self, codec: Any, data: Buffer, spec: ChunkSpec) -> list[Any]:
        """The chunk's elements in C order; any exception means that the data is damaged.

        Args:
            codec: numcodecs' object.
        """


class VlenArray(ObjectCodec):
    """One-dimensional arrays of any length, all of one ``dtype``."""

    name = "numcodecs.vlen-array"

    def items(self, codec: Any, data: Buffer, spec: ChunkSpec) -> list[Any]:
        return list(codec.decode(checked_count(data, spec, self.name)))


class _Listed(ObjectCodec):
    """A list: of the elements, nested as the array's shape is, then of their dtype and shape."""

    @abstractmethod
    def parse(self, codec: Any, data: Buffer) -> Any:
        """The list."""

    def items(self, codec: Any, data: Buffer, spec: ChunkSpec) -> list[Any]:
        listed = self.parse(codec, data)
        if not isinstance(listed, list) or len(listed) < 2 or not isinstance(listed[-1], list):
            raise ValueError("not a list that ends with a shape")
        found, shape = listed[:-2], listed[-1]
        if len(found) != (shape[0] if shape else 1):
            raise ValueError(f"{len(found)} elements where the shape is {shape}")
        for n in shape[1:]:
            if any(not isinstance(row, list) or len(row) != n for row in found):
                raise ValueError(f"rows of other lengths than the shape {shape} has")
            found = [item for row in found for item in row]
        return found


class Json(_Listed):
    """JSON."""

    name = "numcodecs.json2"

    def parse(self, codec: Any, data: Buffer) -> Any:
        settings = self.configuration
        text = bytes(as_bytes(data)).decode(settings.get("encoding", "utf-8"))
        return json.loads(text, strict=bool(settings.get("strict", True)))


class MsgPack(_Listed):
    """MessagePack."""

    name = "numcodecs.msgpack2"

    def parse(self, codec: Any, data: Buffer) -> Any:
        # Lists and maps are not allocated by the lengths they claim, but as far as they go.
        return import_module("msgpack").unpackb(as_bytes(data), raw=codec.raw, strict_map_key=False)


class Pickle(ObjectCodec):
    """Python's pickle. Decoding runs whatever code the data holds, so it is refused unless it was allowed."""

    name = "numcodecs.pickle"

    def bind(self, spec: ChunkSpec) -> BoundArrayBytes:
        check_pickle_allowed()
        return super().bind(spec)

    def items(self, codec: Any, data: Buffer, spec: ChunkSpec) -> list[Any]:
        found = np.asarray(pickle.loads(as_bytes(data)))
        return list(found.reshape(-1)) if found.dtype == object else found.reshape(-1).tolist()


def check_pickle_allowed(where: str = "") -> None:
    """Raises UnsupportedError unless the user has allowed pickles."""
    if not config.allow_pickle:
        raise UnsupportedError(
            f"codec 'pickle' is refused: unpickling runs whatever code the file holds{where}. For files you trust: "
            "zarrdock.config.allow_pickle = 1, or the environment variable ZARRDOCK_ALLOW_PICKLE=1"
        )


class _BoundObjects(BoundArrayBytes):
    __slots__ = ("_codec", "_configuration", "decoded", "encoded")

    def __init__(self, configuration: ObjectCodec, codec: Any, spec: ChunkSpec) -> None:
        self.decoded = spec
        self.encoded = ByteSpec(None, MAX_NBYTES)
        self._configuration = configuration
        self._codec = codec

    def encode(self, array: AnyArray) -> Buffer:
        whole = np.ascontiguousarray(array).reshape(self.decoded.shape)
        # numcodecs wants objects, and to be able to write to them.
        whole = whole.astype(object, copy=not whole.flags.writeable)
        try:
            encoded = flat(self._codec.encode(whole))
        except Exception as error:
            name = self._configuration.name
            raise CodecError(f"{type(error).__name__}: {error}", codec=name, direction="encode") from error
        return encoded

    def decode(self, data: Buffer) -> AnyArray:
        name, spec = self._configuration.name, self.decoded
        try:
            items = self._configuration.items(self._codec, data, spec)
            if len(items) != spec.size:
                raise ValueError(f"{len(items)} elements, where the chunk has {spec.size}")
            out: AnyArray = np.empty(spec.size, spec.dtype)
            if spec.dtype == object:
                for i, item in enumerate(items):  # at once, numpy would look into lists
                    out[i] = item
            else:
                out[...] = items
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"damaged, or another chunk: {error}", codec=name) from error
        return out.reshape(spec.shape)


class Categorize(NumcodecsCodec, ArrayArrayCodec):
    """Labels to their numbers, from 1; 0 is any other text, and decodes to ""."""

    name = "numcodecs.categorize"
    in_v3 = False

    def bind(self, spec: ChunkSpec) -> BoundArrayArray:
        if spec.dtype.kind not in "OTU":
            raise MetadataError(f"{self.name} is for text, not {spec.dtype}")
        codec = self.implementation()  # checks the configuration
        if codec.astype.kind not in "iu":
            found = codec.astype.str
            raise MetadataError(pointer="/configuration/astype", expected="a dtype of integers", found=found)
        return _BoundCategories(spec, codec.labels, codec.astype)

    @property
    def made(self) -> np.dtype[Any]:
        """The dtype of the numbers."""
        found: np.dtype[Any] = self.implementation().astype
        return found


class _BoundCategories(BoundArrayArray):
    __slots__ = ("_codes", "_labels", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, labels: list[str], made: np.dtype[Any]) -> None:
        self.decoded = spec
        # As many as the numbers reach; where a label is there twice, the last one counts.
        self._codes = {label: i for i, label in enumerate(labels, 1) if i <= np.iinfo(made).max}
        self._labels = np.array(["", *labels], object).astype(spec.dtype)
        self.encoded = ChunkSpec(spec.shape, made, made.type(self._codes.get(spec.fill_value, 0)))

    def encode(self, array: AnyArray) -> AnyArray:
        get = self._codes.get
        codes = [get(item, 0) if isinstance(item, str) else 0 for item in array.reshape(-1).tolist()]
        return np.array(codes, self.encoded.dtype).reshape(array.shape)

    def decode(self, array: AnyArray) -> AnyArray:
        known = (array > 0) & (array < len(self._labels))
        return self._labels[np.where(known, array, 0).astype(np.intp)]
