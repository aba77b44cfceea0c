"""``numpy.datetime64`` and ``numpy.timedelta64``: 64-bit counts of a unit, since 1970 or as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zarrdock.array.dtypes.dtype import DataType
from zarrdock.errors import MetadataError
from zarrdock.json_ import JSON, expect_integer, expect_one_of, known_members

__all__ = ["Time"]

_UNITS: Final = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic")
_MICRO: Final = ("μs", "µs")  # the Greek letter and the sign
_NOT_A_TIME: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class Time(DataType):
    """Moments and durations. What was never written is NaT unless another fill value is given.

    numpy does not swap the bytes of times without a unit when it casts them. So these are always in native byte order
    in memory, in v2 too, where another order is that of the codec ``bytes``.

    Attributes:
        swapped: v2 stores times without a unit in the byte order that is not native.

    Source: Zarr extensions, data types "numpy.datetime64" and "numpy.timedelta64".
    """

    swapped: bool = False

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ("unit", "scale_factor"))
        unit, factor = configuration.get("unit"), configuration.get("scale_factor")
        unit = expect_one_of("us" if unit in _MICRO else unit, "/unit", _UNITS)
        factor = expect_integer(factor, "/scale_factor", 1, 2**31 - 1)
        kind = name.removeprefix("numpy.")
        # numpy has no multiples of no unit.
        return cls(name, np.dtype(kind if unit == "generic" else f"{kind}[{factor}{unit}]"))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        name = "numpy.datetime64" if dtype.kind == "M" else "numpy.timedelta64"
        swapped = not dtype.isnative and np.datetime_data(dtype)[0] == "generic"
        return cls(name, dtype.newbyteorder("=") if swapped else dtype, swapped)

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if value == "NaT":
            value = _NOT_A_TIME
        if isinstance(value, bool) or not isinstance(value, int) or not _NOT_A_TIME <= value < 2**63:
            raise MetadataError(pointer=pointer, expected="an integer of 64 bits, or 'NaT'", found=value)
        return self._of_count(value)

    def fill_to_json(self, value: Any) -> JSON:
        return int(np.asarray(value, self._native).view(np.int64))

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        return self.parse_fill(value, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return self.fill_to_json(value)

    def cast_fill(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value[()]
        if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64)):
            return self.parse_fill(int(value), "/fill_value")
        try:
            scalar = np.array(value, self._native)[()]
            # A moment of a finer unit is not one of a coarser unit.
            exact = np.isnat(scalar) or isinstance(value, str) or scalar == np.array(value)[()]
        except (TypeError, ValueError, OverflowError):
            exact = False
        if not exact or np.ndim(scalar):
            raise MetadataError(pointer="/fill_value", expected=f"a {self.numpy}, an integer, or 'NaT'", found=value)
        return scalar

    def default_fill(self) -> Any:
        return self._of_count(_NOT_A_TIME)

    def to_json(self) -> JSON:
        unit, factor = np.datetime_data(self.numpy)
        return {"name": self.name, "configuration": {"unit": unit, "scale_factor": factor}}

    @property
    def stored_v2(self) -> np.dtype[Any]:
        return self.numpy.newbyteorder() if self.swapped else self.numpy

    def to_json_v2(self) -> JSON:
        return self.stored_v2.str

    @property
    def _native(self) -> np.dtype[Any]:
        return self.numpy.newbyteorder("=")

    def _of_count(self, count: int) -> Any:
        return np.array(count, np.int64).view(self._native)[()]
