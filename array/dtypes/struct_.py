"""Structures: ``struct``, its older form ``structured``, and the lists of fields of Zarr v2."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from zarrdock.array.dtypes.dtype import MAX_ITEM_BYTES, DataType, of_numpy, parse_data_type
from zarrdock.array.dtypes.fill import parse_raw_base64
from zarrdock.errors import MetadataError, UnsupportedError
from zarrdock.json_ import JSON, expect_integers, expect_string, known_members, pointer_to

__all__ = ["Struct"]

#: Name, data type, and the shape of a field that is an array (Zarr v2 only; () otherwise).
Field: TypeAlias = "tuple[str, DataType, tuple[int, ...]]"


@dataclass(frozen=True, slots=True)
class Struct(DataType):
    """Named fields, one behind the other. The padding that zarr-python 2 names "" is a field like others, called as
    numpy calls it: ``f`` and its number.

    Attributes:
        fields: in the order they are stored.
        unnamed: numbers of the fields whose name is "" in v2 metadata.

    Source: Zarr extensions, data types "struct" and "structured"; Zarr v2, "Data type encoding".
    """

    fields: tuple[Field, ...] = ()
    unnamed: frozenset[int] = frozenset()

    @classmethod
    def of(cls, name: str, fields: Iterable[Field], place: str = "") -> Struct:
        """Make a struct of its fields.

        Raises:
            MetadataError: no fields, two of one name, one of variable length, or too many bytes.
        """
        found = tuple(fields)
        if not found:
            raise MetadataError(pointer=place, expected="at least one field", found=[])
        seen: set[str] = set()
        for i, (field, data_type, _) in enumerate(found):
            if not field or field in seen:
                raise MetadataError(pointer=pointer_to(place, i), expected="names, each of them once", found=field)
            if data_type.numpy.hasobject:
                expected = "fields of a fixed size"
                raise MetadataError(pointer=pointer_to(place, i), expected=expected, found=data_type.name)
            seen.add(field)
        try:
            dtype = np.dtype(
                [(field, data_type.numpy, *([shape] if shape else [])) for field, data_type, shape in found]
            )
        except (TypeError, ValueError) as error:
            raise MetadataError(str(error), pointer=place, expected="fields that numpy can hold") from error
        if dtype.itemsize > MAX_ITEM_BYTES:
            raise MetadataError(pointer=place, expected=f"at most {MAX_ITEM_BYTES} bytes", found=dtype.itemsize)
        return cls(name, dtype, found)

    @classmethod
    def from_json(cls, name: str, configuration: dict[str, Any]) -> DataType:
        known_members(configuration, ("fields",))
        given = configuration.get("fields")
        if not isinstance(given, list):
            raise MetadataError(pointer="/fields", expected="an array of fields", found=given)
        fields: list[Field] = []
        for i, item in enumerate(given):
            place = pointer_to("/fields", i)
            if isinstance(item, dict) and {"name", "data_type"} <= item.keys():
                known_members(item, ("name", "data_type"), place)
                label, kind = pointer_to(place, "name"), pointer_to(place, "data_type")
                pair = item["name"], item["data_type"]
            elif isinstance(item, list) and len(item) == 2:
                label, kind = pointer_to(place, 0), pointer_to(place, 1)
                pair = item[0], item[1]
            else:
                expected = "an object with name and data_type, or an array of these two"
                raise MetadataError(pointer=place, expected=expected, found=item)
            fields.append((expect_string(pair[0], label), parse_data_type(pair[1], kind), ()))
        return cls.of(name, fields, "/fields")

    @classmethod
    def from_json_v2(cls, value: Sequence[JSON], pointer: str, parse: Callable[[JSON, str], DataType]) -> Struct:
        """Parse v2's list of fields: name, data type (by ``parse``), and optionally the shape of a subarray."""
        fields: list[Field] = []
        unnamed: set[int] = set()
        taken = {item[0] for item in value if isinstance(item, list) and item and isinstance(item[0], str)}
        for i, item in enumerate(value):
            place = pointer_to(pointer, i)
            if not isinstance(item, list) or not 2 <= len(item) <= 3:
                raise MetadataError(pointer=place, expected="an array: name, data type, perhaps a shape", found=item)
            shape: tuple[int, ...] = ()
            if len(item) == 3:
                given = [item[2]] if isinstance(item[2], int) else item[2]
                shape = expect_integers(given, pointer_to(place, 2), minimum=1, stop=MAX_ITEM_BYTES + 1)
            name = expect_string(item[0], pointer_to(place, 0))
            if not name:
                unnamed.add(i)
                name = f"f{i}"
                while name in taken:
                    name += "_"
                taken.add(name)
            fields.append((name, parse(item[1], pointer_to(place, 1)), shape))
        return replace(cls.of("struct", fields, pointer), unnamed=frozenset(unnamed))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        assert dtype.names is not None
        assert dtype.fields is not None
        fields: list[Field] = []
        for name in dtype.names:
            base, shape = dtype.fields[name][0], ()
            if base.subdtype is not None:
                base, shape = base.subdtype
            fields.append((name, of_numpy(base), shape))
        return cls.of("struct", fields)

    def parse_fill(self, value: JSON, pointer: str = "") -> Any:
        if isinstance(value, str):  # as zarr-python wrote it first
            return parse_raw_base64(value, self.numpy, pointer)
        if not isinstance(value, dict) or value.keys() != {name for name, _, _ in self.fields}:
            expected = f"an object with the members {', '.join(name for name, _, _ in self.fields)}"
            raise MetadataError(pointer=pointer, expected=expected, found=value)
        return self._filled(
            data_type.parse_fill(value[name], pointer_to(pointer, name)) for name, data_type, _ in self.fields
        )

    def fill_to_json(self, value: Any) -> JSON:
        scalar = np.asarray(value, self.numpy)
        return {
            name: [data_type.fill_to_json(item) for item in scalar[name].reshape(-1)]
            if shape
            else data_type.fill_to_json(scalar[name][()])
            for name, data_type, shape in self.fields
        }

    def parse_fill_v2(self, value: JSON, pointer: str = "") -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value == 0:
            return self._zeros()[()]
        return parse_raw_base64(value, self.numpy, pointer)

    def fill_to_json_v2(self, value: Any) -> JSON:
        return base64.b64encode(np.asarray(value, self.numpy).tobytes()).decode("ascii")

    def cast_fill(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value[()]
        if isinstance(value, np.void) and value.dtype.names is not None:
            value = tuple(value[name] for name in value.dtype.names)
        elif isinstance(value, Mapping) and value.keys() == {name for name, _, _ in self.fields}:
            value = tuple(value[name] for name, _, _ in self.fields)
        if isinstance(value, (tuple, list)) and len(value) == len(self.fields):
            return self._filled(
                np.asarray(item, data_type.numpy) if shape else data_type.cast_fill(item)
                for item, (_, data_type, shape) in zip(value, self.fields, strict=True)
            )
        if isinstance(value, int) and not isinstance(value, bool) and value == 0:
            return self._zeros()[()]
        return self.parse_fill(value, "/fill_value")

    def default_fill(self) -> Any:
        return self._filled(data_type.default_fill() for _, data_type, _ in self.fields)

    def to_json(self) -> JSON:
        for name, _, shape in self.fields:
            if shape:
                raise UnsupportedError(f"Zarr v3 has no fields that are arrays, as {name!r} is: make it several fields")
        fields: list[JSON] = [
            [name, data_type.to_json()]
            if self.name == "structured"
            else {"name": name, "data_type": data_type.to_json()}
            for name, data_type, _ in self.fields
        ]
        return {"name": self.name, "configuration": {"fields": fields}}

    def to_json_v2(self) -> JSON:
        return [
            ["" if i in self.unnamed else name, data_type.to_json_v2(), *([list(shape)] if shape else [])]
            for i, (name, data_type, shape) in enumerate(self.fields)
        ]

    def _zeros(self) -> np.ndarray[Any, np.dtype[Any]]:
        return np.zeros((), self.numpy)

    def _filled(self, values: Iterable[Any]) -> Any:
        scalar = self._zeros()
        for (name, _, _), value in zip(self.fields, values, strict=True):
            scalar[name] = value
        return scalar[()]
