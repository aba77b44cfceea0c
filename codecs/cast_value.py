"""The ``cast_value`` codec: values converted to another data type, with stated rounding and range."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from zarrdock.codecs.base import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.codecs.casting import Caster, OutOfRange, Rounding
from zarrdock.codecs.elements import element_of, number_type
from zarrdock.codecs.fields import known_members, one_of
from zarrdock.codecs.scalars import scalar_from_json
from zarrdock.errors import CodecError, MetadataError

__all__ = ["BoundCastValue", "CastValue"]

_ROUNDINGS = ("nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away")
_RANGES = ("error", "clamp", "wrap")
_DIRECTIONS = ("encode", "decode")

Entries: TypeAlias = "tuple[tuple[int | float | str, int | float | str], ...]"


@dataclass(frozen=True, slots=True)
class CastValue(ArrayArrayCodec):
    """Casts integers and floats to ``data_type`` on encoding, and back on decoding.

    Args:
        data_type: v3 metadata of an integer or float data type: its name, or an object.
        rounding: of what is not exactly representable: "nearest-even", "nearest-away", "towards-zero",
            "towards-positive", "towards-negative".
        out_of_range: "error"; "clamp" to the nearest value the type has (infinity, where a float has it); "wrap" of
            integers, modulo their number of values. NaN is an error in integers, always.
        scalar_map: {"encode": [[value, encoded], ...], "decode": [[encoded, value], ...]}: values that are replaced
            before anything else, in the form of fill values.
    Source: Zarr extensions, codec ``cast_value``.
    """

    name: ClassVar[str] = "cast_value"
    data_type: str
    rounding: Rounding = "nearest-even"
    out_of_range: OutOfRange = "error"
    scalar_map: Any = None
    _map: tuple[tuple[str, Entries], ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        # An object is kept as its JSON, so that codecs can be compared and hashed.
        if isinstance(self.data_type, Mapping):
            object.__setattr__(self, "data_type", json.dumps(dict(self.data_type), sort_keys=True))
        elif isinstance(self.data_type, np.dtype | type):
            object.__setattr__(self, "data_type", np.dtype(self.data_type).name)
        number_type(self._data_type())
        one_of("rounding", self.rounding, _ROUNDINGS)
        one_of("out_of_range", self.out_of_range, _RANGES)
        entries = _entries(self.scalar_map)
        object.__setattr__(self, "_map", entries)
        object.__setattr__(self, "scalar_map", json.dumps(dict(entries)) if entries else None)

    @classmethod
    def from_json(cls, configuration: Configuration) -> CastValue:
        members = known_members(configuration, ("data_type", "rounding", "out_of_range", "scalar_map"))
        if members.get("out_of_range", "error") is None:
            del members["out_of_range"]
        return cls(**{"data_type": None, **members})

    def to_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {"data_type": self._data_type()}
        if self.rounding != "nearest-even":
            members["rounding"] = self.rounding
        if self.out_of_range != "error":
            members["out_of_range"] = self.out_of_range
        if self._map:
            members["scalar_map"] = {side: [list(entry) for entry in entries] for side, entries in self._map}
        return {"name": self.name, "configuration": members}

    def _data_type(self) -> Any:
        text: Any = self.data_type
        return json.loads(text) if isinstance(text, str) and text.startswith("{") else text

    def with_defaults(self, spec: ChunkSpec) -> CastValue:
        """Itself. Of a new array the fill value must also come back: chunks at the edge are padded with it."""
        bound = self.bind(spec)
        try:
            bound.decode(np.full((1,), bound.encoded.fill_value, bound.encoded.dtype))
        except CodecError as error:
            message = f"the fill value cannot be decoded again: {error.reason}"
            raise MetadataError(message, pointer="/configuration") from error
        return self

    def bind(self, spec: ChunkSpec) -> BoundCastValue:
        source, target = element_of(spec.dtype), element_of(number_type(self._data_type()))
        if source is None or source.kind == "b" or source.n_components != 1:
            raise MetadataError(f"cast_value casts integers and floats, not {spec.dtype}")
        assert target is not None  # number_type saw to it
        if self.out_of_range == "wrap" and target.kind == "f":
            expected = '"error" or "clamp", as floats are not modular'
            raise MetadataError(pointer="/configuration/out_of_range", expected=expected, found="wrap")
        maps = {}
        for side, entries in self._map:
            types = (source.native, target.native) if side == "encode" else (target.native, source.native)
            pointer = f"/configuration/scalar_map/{side}"
            maps[side] = tuple(
                tuple(scalar_from_json(entry[j], types[j], f"{pointer}/{i}/{j}") for j in range(2))
                for i, entry in enumerate(entries)
            )
        # What cannot have been encoded by wrapping cannot be unwrapped: floats decode from integers that were wrapped.
        back: OutOfRange = "error" if self.out_of_range == "wrap" and source.kind == "f" else self.out_of_range
        return BoundCastValue(
            spec,
            Caster(source, target, self.rounding, self.out_of_range, maps.get("encode", ())),
            Caster(target, source, self.rounding, back, maps.get("decode", ())),
        )


class BoundCastValue(BoundArrayArray):
    """Chunks of the same shape."""

    __slots__ = ("_back", "_forth", "decoded", "encoded")

    def __init__(self, spec: ChunkSpec, forth: Caster, back: Caster) -> None:
        self.decoded = spec
        self._forth = forth
        self._back = back
        try:
            fill = self.encode(np.full((1,), spec.fill_value, spec.dtype))[0]
        except CodecError as error:
            message = f"the fill value cannot be encoded: {error.reason}"
            raise MetadataError(message, pointer="/configuration") from error
        self.encoded = ChunkSpec(spec.shape, forth.target.native, fill)

    def encode(self, array: AnyArray) -> AnyArray:
        return self._cast(self._forth, array, "encode")

    def decode(self, array: AnyArray) -> AnyArray:
        return self._cast(self._back, array, "decode")

    def _cast(self, caster: Caster, array: AnyArray, direction: Literal["encode", "decode"]) -> AnyArray:
        try:
            return caster(array)
        except ValueError as error:
            raise CodecError(str(error), codec=CastValue.name, direction=direction) from error


def _entries(given: object) -> tuple[tuple[str, Entries], ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        given = json.loads(given)
    expected = '{"encode": [[from, to], ...], "decode": [[from, to], ...]}'
    if not isinstance(given, Mapping) or set(given) - set(_DIRECTIONS):
        raise MetadataError(pointer="/scalar_map", expected=expected, found=given)
    sides: list[tuple[str, Entries]] = []
    for side in _DIRECTIONS:
        listed = given.get(side)
        if listed is None:
            continue
        pairs = list(listed.items()) if isinstance(listed, Mapping) else listed
        if not isinstance(pairs, list | tuple):
            raise MetadataError(pointer=f"/scalar_map/{side}", expected=expected, found=listed)
        for i, pair in enumerate(pairs):
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_scalar(v) for v in pair):
                raise MetadataError(pointer=f"/scalar_map/{side}/{i}", expected="a pair of numbers", found=pair)
        if pairs:
            sides.append((side, tuple((pair[0], pair[1]) for pair in pairs)))
    return tuple(sides)


def _is_scalar(value: object) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)
