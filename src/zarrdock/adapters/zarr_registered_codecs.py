"""Codecs registered for zarr-python (entry point group ``zarr.codecs``), as codecs of zarrdock.

Their classes are asked for the same things that zarr-python asks them for. How much memory they allocate can't be
bounded here; how much they return is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from zarr.abc import codec as theirs
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.dtype import get_data_type_from_native_dtype
from zarr.core.sync import sync
from zarr.registry import get_codec_class

from zarrdock.codecs import codec as base
from zarrdock.errors import CodecError, MetadataError

__all__ = ["adapted"]


def adapted(name: str) -> type[base.Codec] | None:
    """A class for zarr-python's codec ``name``; None where zarr-python does not know it either."""
    try:
        implementation = get_codec_class(name)
    except (KeyError, ValueError):
        return None
    return _class(name, implementation)  # type: ignore[arg-type]


@lru_cache
def _class(name: str, implementation: type[Any]) -> type[base.Codec] | None:
    for kind, ours in (
        (theirs.ArrayArrayCodec, _ArrayArray),
        (theirs.ArrayBytesCodec, _ArrayBytes),
        (theirs.BytesBytesCodec, _BytesBytes),
    ):
        if issubclass(implementation, kind):
            return type(implementation.__name__, (ours,), {"name": name, "implementation": implementation})
    return None


@dataclass(frozen=True)
class _Adapted(base.Codec):
    """A configuration, as JSON text: immutable, and comparable."""

    implementation: ClassVar[type[Any]]
    document: str

    @classmethod
    def from_json(cls, configuration: base.Configuration) -> Self:
        codec = cls(json.dumps({"name": cls.name, "configuration": dict(configuration)}, sort_keys=True))
        codec.theirs()
        return codec

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.document)
        return found if found["configuration"] else {"name": found["name"]}

    def theirs(self) -> Any:
        """zarr-python's object.

        Raises:
            MetadataError: it does not take the configuration.
        """
        try:
            return self.implementation.from_dict(json.loads(self.document))
        except Exception as error:
            raise MetadataError(f"{self.name}: {error}") from error

    def evolved(self, spec: ArraySpec) -> Any:
        """zarr-python's object for such a chunk."""
        try:
            codec = self.theirs().evolve_from_array_spec(array_spec=spec)
            codec.resolve_metadata(spec)
            return codec
        except MetadataError:
            raise
        except Exception as error:
            raise MetadataError(f"{self.name}: {error}") from error

    def __reduce__(self) -> Any:
        # The class was made here, and is made again where it is needed.
        return _again, (self.name, self.document)


def _again(name: str, document: str) -> base.Codec:
    kind: Any = adapted(name)
    if kind is None:
        raise CodecError("no installed package provides it", codec=name)
    found: base.Codec = kind(document)
    return found


class _ArrayArray(_Adapted, base.ArrayArrayCodec):
    def bind(self, spec: base.ChunkSpec) -> base.BoundArrayArray:
        return _BoundArrayArray(self, spec)


class _ArrayBytes(_Adapted, base.ArrayBytesCodec):
    def bind(self, spec: base.ChunkSpec) -> base.BoundArrayBytes:
        return _BoundArrayBytes(self, spec)


class _BytesBytes(_Adapted, base.BytesBytesCodec):
    def bind(self, spec: base.ByteSpec) -> base.BoundBytesBytes:
        return _BoundBytesBytes(self, spec)


def _array_spec(shape: tuple[int, ...], dtype: np.dtype[Any], fill: Any) -> ArraySpec:
    return ArraySpec(
        shape=shape,
        dtype=get_data_type_from_native_dtype(dtype.newbyteorder("=")),
        fill_value=fill,
        config=ArrayConfig(order="C", write_empty_chunks=True),
        prototype=default_buffer_prototype(),
    )


def _work(codec: Any, direction: Literal["encode", "decode"], data: Any, spec: ArraySpec, name: str) -> Any:
    try:
        at_once = getattr(codec, f"_{direction}_sync", None)
        found = at_once(data, spec) if at_once is not None else sync(getattr(codec, f"_{direction}_single")(data, spec))
    except Exception as error:
        raise CodecError(f"{type(error).__name__}: {error}", codec=name, direction=direction) from error
    if found is None:
        raise CodecError("it returned nothing", codec=name, direction=direction)
    return found


def _nd_buffer(array: base.AnyArray) -> Any:
    return default_buffer_prototype().nd_buffer.from_numpy_array(np.ascontiguousarray(array))


def _buffer(data: base.Buffer) -> Any:
    return default_buffer_prototype().buffer.from_bytes(bytes(base.as_bytes(data)))


class _BoundArrayArray(base.BoundArrayArray):
    def __init__(self, codec: _Adapted, spec: base.ChunkSpec) -> None:
        self.decoded = spec
        self._name = codec.name
        self._spec = _array_spec(spec.shape, spec.dtype, spec.fill_value)
        self._codec = codec.evolved(self._spec)
        self._after = self._codec.resolve_metadata(self._spec)
        self.encoded = base.ChunkSpec(
            tuple(self._after.shape), self._after.dtype.to_native_dtype().newbyteorder("="), self._after.fill_value
        )

    def encode(self, array: base.AnyArray) -> base.AnyArray:
        native = array.astype(self.decoded.dtype.newbyteorder("="), copy=False)
        found = _work(self._codec, "encode", _nd_buffer(native), self._spec, self._name)
        return _array_of(found, self.encoded, self._name, "encode")

    def decode(self, array: base.AnyArray) -> base.AnyArray:
        native = array.astype(self.encoded.dtype, copy=False)
        found = _work(self._codec, "decode", _nd_buffer(native), self._spec, self._name)
        return _array_of(found, self.decoded, self._name, "decode")


class _BoundArrayBytes(base.BoundArrayBytes):
    def __init__(self, codec: _Adapted, spec: base.ChunkSpec) -> None:
        self.decoded = spec
        self._name = codec.name
        self._spec = _array_spec(spec.shape, spec.dtype, spec.fill_value)
        self._codec = codec.evolved(self._spec)
        self.encoded = base.ByteSpec.compressed(base.ByteSpec(None, 2 * spec.nbytes))

    def encode(self, array: base.AnyArray) -> base.Buffer:
        native = array.astype(self.decoded.dtype.newbyteorder("="), copy=False)
        found: bytes = _work(self._codec, "encode", _nd_buffer(native), self._spec, self._name).to_bytes()
        return found

    def decode(self, data: base.Buffer) -> base.AnyArray:
        found = _work(self._codec, "decode", _buffer(data), self._spec, self._name)
        return _array_of(found, self.decoded, self._name, "decode")


class _BoundBytesBytes(base.BoundBytesBytes):
    def __init__(self, codec: _Adapted, spec: base.ByteSpec) -> None:
        self.decoded = spec
        self.encoded = base.ByteSpec.compressed(base.ByteSpec(None, 2 * spec.limit))
        self._name = codec.name
        # They are told of the array's chunk, of which only the size of an element is known here.
        itemsize = spec.itemsize if spec.itemsize in (1, 2, 4, 8) and spec.limit % spec.itemsize == 0 else 1
        dtype = np.dtype(f"u{itemsize}")
        self._spec = _array_spec((spec.limit // itemsize,), dtype, dtype.type(0))
        self._codec = codec.evolved(self._spec)

    def encode(self, data: base.Buffer) -> base.Buffer:
        found: bytes = _work(self._codec, "encode", _buffer(data), self._spec, self._name).to_bytes()
        return found

    def decode(self, data: base.Buffer) -> base.Buffer:
        found: bytes = _work(self._codec, "decode", _buffer(data), self._spec, self._name).to_bytes()
        spec = self.decoded
        if len(found) > spec.limit or spec.exact not in (None, len(found)):
            expected = f"at most {spec.limit}" if spec.exact is None else spec.exact
            raise CodecError(f"decoded to {len(found)} bytes, expected {expected}", codec=self._name)
        return found


def _array_of(found: Any, spec: base.ChunkSpec, name: str, direction: str) -> base.AnyArray:
    array: base.AnyArray = found.as_numpy_array()
    if array.size != spec.size:
        message = f"{array.size} elements came of it, expected {spec.size}"
        raise CodecError(message, codec=name, direction=direction)
    return array.reshape(spec.shape).astype(spec.dtype.newbyteorder("="), copy=False)
