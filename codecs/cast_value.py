"""The ``cast_value`` codec: values converted to another data type, with stated rounding and range."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from zarrdock.codecs.codec import AnyArray, ArrayArrayCodec, BoundArrayArray, ChunkSpec, Configuration
from zarrdock.codecs.element_bits import Element, element_of, number_type
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import expect_one_of, known_members

__all__ = ["BoundCastValue", "CastValue", "Caster", "OutOfRange", "Rounding"]


# -- Conversion of numbers between data types, with stated rounding and range. All of an array at a time.

Rounding: TypeAlias = Literal["nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away"]
OutOfRange: TypeAlias = Literal["error", "clamp", "wrap"]


@dataclass(frozen=True, slots=True)
class Caster:
    """Cast from ``source`` to ``target``, both integers or floats.

    Attributes:
        scalar_map: pairs of scalars (of the source, of the target) that go before all rules.
    """

    source: Element
    target: Element
    rounding: Rounding = "nearest-even"
    out_of_range: OutOfRange = "error"
    scalar_map: tuple[tuple[Any, ...], ...] = ()

    def __call__(self, array: AnyArray) -> AnyArray:
        """Cast an array of any byte order and strides to the target's native dtype.

        Raises:
            ValueError: the target type cannot represent a value.
        """
        values = array.astype(self.source.native, copy=False)
        with np.errstate(all="ignore"):
            if not self.scalar_map:
                return self._cast(values)
            rest = values.copy()
            found = np.zeros(values.shape, bool)
            selected = []
            for key, value in self.scalar_map:
                here = ~found & (np.isnan(values) if key != key else values == key)
                selected.append((here, value))
                found |= here
            rest[found] = self.source.native.type(0 if self.source.mantissa or self.source.kind != "f" else 1)
            out = self._cast(rest)
            for here, value in selected:
                out[here] = value
            return out

    def _cast(self, values: AnyArray) -> AnyArray:
        if self.source.kind == "f":
            return self._float_to_integer(values) if self.target.kind != "f" else self._to_float(values)
        return self._integer_to_integer(values) if self.target.kind != "f" else self._to_float(values)

    # -- to integers --------------------------------------------------------------------------------------------------

    def _integer_to_integer(self, values: AnyArray) -> AnyArray:
        if self.source.bits < 8:
            values = values.astype(np.int8)
        (low, high), (source_low, source_high) = self.target.limits(), self.source.limits()
        if source_low < low or source_high > high:
            if self.out_of_range == "wrap":
                return self._wrapped(values)
            if self.out_of_range == "clamp":
                kind = values.dtype.type
                values = np.clip(values, kind(max(low, source_low)), kind(min(high, source_high)))
            elif values.size and (int(values.min()) < low or int(values.max()) > high):
                worst = values.min() if int(values.min()) < low else values.max()
                raise ValueError(self._beyond(worst))
        return values.astype(self.target.native)

    def _float_to_integer(self, values: AnyArray) -> AnyArray:
        wide = values.astype(np.float64)
        if np.isnan(wide).any():
            raise ValueError(f"{self.target.native} has no NaN; a scalar_map can say what becomes of it")
        rounded = _round(wide, self.rounding)
        low, high = self.target.limits()
        # 2**63 - 1 is no float64, but 2**63 is.
        too_low, too_high = rounded < low, rounded >= float(high + 1)
        outside = too_low | too_high
        if not outside.any():
            return self._narrow(rounded)
        if self.out_of_range == "wrap":
            if not np.isfinite(rounded).all():
                raise ValueError(f"infinity cannot be wrapped to {self.target.native}")
            rest = np.fmod(rounded, 2.0**self.target.bits)
            magnitude = np.abs(rest).astype(np.uint64)
            return self._wrapped(np.where(rest < 0, -magnitude, magnitude))
        if self.out_of_range == "error":
            raise ValueError(self._beyond(wide[outside].flat[0]))
        out = self._narrow(np.where(outside, 0.0, rounded))
        out[too_low], out[too_high] = low, high
        return out

    def _narrow(self, whole: AnyArray) -> AnyArray:
        """Floats without a fraction, within the target's range."""
        if self.target.bits < 8:
            whole = whole.astype(np.int8)
        return whole.astype(self.target.native)

    def _wrapped(self, values: AnyArray) -> AnyArray:
        """Integers modulo the target's number of values."""
        bits = self.target.bits
        if bits >= 8:
            return values.astype(self.target.native)
        low = (values & values.dtype.type((1 << bits) - 1)).astype(np.int8)
        if self.target.kind == "i":
            low = np.where(low >= 1 << bits - 1, low - np.int8(1 << bits), low).astype(np.int8)
        wrapped: AnyArray = low.astype(self.target.native)
        return wrapped

    # -- to floats ----------------------------------------------------------------------------------------------------

    def _to_float(self, values: AnyArray) -> AnyArray:
        target = self.target.native
        wide = self._widened(values)
        nearest = wide.astype(np.float64).astype(target) if self.target.is_small else values.astype(target)
        if self.rounding != "nearest-even":
            nearest = self._directed(wide, nearest)
        back = nearest.astype(np.float64)
        finite, nan = np.isfinite(wide), np.isnan(wide)
        if (nan & ~np.isnan(back)).any():
            raise ValueError(f"{target} has no NaN; a scalar_map can say what becomes of it")
        largest = float(_limit(self.target, "max"))
        infinity = float(np.array([np.inf]).astype(target).astype(np.float64)[0])
        # Types without infinities overflow to a NaN or, without that too, to their largest value.
        overflow = ~nan & (np.isnan(back) | (np.isfinite(back) != finite))
        if np.isfinite(infinity):
            below = float(np.nextafter(_limit(self.target, "max"), target.type(0)))
            overflow |= np.abs(wide) >= largest + (largest - below) / 2
        if not overflow.any():
            return nearest
        if self.out_of_range == "error":
            raise ValueError(self._beyond(wide[overflow].flat[0]))
        has_infinity = np.isinf(infinity)
        limit = np.array([np.inf if has_infinity else largest]).astype(target)
        low = -limit if has_infinity else np.array([float(_limit(self.target, "min"))]).astype(target)
        return np.where(overflow, np.where(wide > 0, limit, low), nearest).astype(target)

    def _widened(self, values: AnyArray) -> AnyArray:
        """Convert to floats that represent all values of the source exactly."""
        if self.source.kind == "f" or self.source.bits <= 32:
            return values.astype(np.float64)
        if np.finfo(np.longdouble).nmant < 63 and self.rounding != "nearest-even":
            raise ValueError(f"this machine has no floats that could round {self.source.native} {self.rounding}")
        return values.astype(np.longdouble)

    def _directed(self, wide: AnyArray, nearest: AnyArray) -> AnyArray:
        """Moved to the neighbour where the nearest value is on the wrong side."""
        back = nearest.astype(wide.dtype)
        finite = np.isfinite(wide) & np.isfinite(back)
        up = np.nextafter(nearest, np.full_like(nearest, np.inf))
        down = np.nextafter(nearest, np.full_like(nearest, -np.inf))
        match self.rounding:
            case "towards-positive":
                return np.where(finite & (back < wide), up, nearest)
            case "towards-negative":
                return np.where(finite & (back > wide), down, nearest)
            case "towards-zero":
                beyond = finite & (np.abs(back) > np.abs(wide))
                return np.where(beyond, np.where(wide > 0, down, up), nearest)
        away = np.where(wide > 0, up, down)
        tie = (np.abs(back) < np.abs(wide)) & (np.abs(away.astype(wide.dtype) - wide) == np.abs(wide - back))
        return np.where(finite & tie, away, nearest)

    def _beyond(self, value: Any) -> str:
        return f"{value} is beyond the range of {self.target.native}; out_of_range can say what becomes of it"


def _round(values: AnyArray, rounding: Rounding) -> AnyArray:
    match rounding:
        case "nearest-even":
            return np.rint(values)
        case "towards-zero":
            return np.trunc(values)
        case "towards-positive":
            return np.ceil(values)
        case "towards-negative":
            return np.floor(values)
    whole = np.trunc(values)
    return np.where(np.isfinite(values), whole + np.copysign(np.abs(values - whole) >= 0.5, values), values)


def _limit(element: Element, name: Literal["min", "max"]) -> Any:
    """The least or the greatest finite value of a float type."""
    if not element.is_small:
        return getattr(np.finfo(element.native), name)
    import ml_dtypes

    return getattr(ml_dtypes.finfo(element.native), name)  # type: ignore[no-untyped-call]


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

    >>> array = zarrdock.create_array({}, data=[1.0, 2.0], filters=[zarrdock.CastValue("int8")], compressors=None)
    >>> array[...].tolist(), array.nbytes
    ([1.0, 2.0], 16)
    >>> array.store.size("c/0")
    2
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
        expect_one_of(self.rounding, "/rounding", _ROUNDINGS)
        expect_one_of(self.out_of_range, "/out_of_range", _RANGES)
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
            types = (source, target) if side == "encode" else (target, source)
            pointer = f"/configuration/scalar_map/{side}"
            maps[side] = tuple(
                tuple(types[j].scalar(entry[j], f"{pointer}/{i}/{j}") for j in range(2))
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
