"""Strict reading and writing of JSON, with JSON pointers (RFC 6901) in every error: documents, members, numbers.

Documents are UTF-8 (a byte order mark is passed over), without duplicate members, of at most ``MAX_DEPTH`` levels. The
literals ``NaN``, ``Infinity`` and ``-Infinity`` are not JSON, but zarr-python and xarray write them into attributes:
they are accepted, and written again as they were found, because any replacement would change the user's attribute.
Nothing that zarrdock itself puts into a document needs them.

Every check takes a value and the pointer to it, and returns the value in the form asked for. Pointers begin where the
caller begins: who holds a part of a document puts the way to it in front (``MetadataError.below``).
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from zarrdock.errors import MetadataError

__all__ = [
    "JSON",
    "MAX_DEPTH",
    "NOT_FINITE",
    "LaxDocument",
    "as_json",
    "check_json",
    "expect_boolean",
    "expect_integer",
    "expect_integers",
    "expect_list",
    "expect_object",
    "expect_one_of",
    "expect_string",
    "float_bits",
    "float_to_json",
    "in_document",
    "in_parameters",
    "known_members",
    "loads",
    "loads_lax",
    "named",
    "parse_float",
    "parse_integer",
    "pointer_to",
    "serialise",
]

# A JSON value. mypy has no use for the recursive union here: every value is checked before it is used.
JSON: TypeAlias = Any

# Far more than any attribute needs, far less than Python's recursion limit.
MAX_DEPTH: Final = 200


class _DuplicateError(ValueError):
    """An object has two members of one name."""


def pointer_to(pointer: str, *parts: str | int) -> str:
    """``pointer`` extended by members and positions, escaped."""
    return pointer + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@contextmanager
def in_document(key: str) -> Iterator[None]:
    """Tell every MetadataError raised inside which document it is about."""
    try:
        yield
    except MetadataError as error:
        raise error.with_key(key or error.key) from error.__cause__


# Beginnings of documents that others put in the place of one.
_OTHERS: Final = {
    "version https://git-lfs": "it is a pointer of Git LFS to a file that was not fetched: run git lfs pull",
    "/annex/objects/": "it is a pointer of git-annex to a file that was not fetched: run git annex get",
    "<!doctype html": "it is a web page: is the address right, and need you log in?",
    "<html": "it is a web page: is the address right, and need you log in?",
    "<?xml": "it is XML, such as a service's message",
}


@contextmanager
def in_parameters() -> Iterator[None]:
    """Tell every MetadataError raised inside that it is about a parameter of a new array."""
    try:
        yield
    except MetadataError as error:
        error.name_parameter()
        raise


def loads(document: bytes | bytearray | memoryview) -> JSON:
    """Parse a document.

    Raises:
        MetadataError: not UTF-8, not JSON (with line and column), a duplicate member, nested too deeply.
    """
    data = bytes(document)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MetadataError(f"not UTF-8: byte 0x{data[error.start]:02x} in line {line}") from error
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        hint = next((f"; {hint}" for start, hint in _OTHERS.items() if text.lstrip().lower().startswith(start)), "")
        raise MetadataError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno}){hint}") from error
    except RecursionError:
        raise _too_deep() from None
    except _DuplicateError as error:
        raise MetadataError(f"duplicate member {error.args[0]!r}: it is not clear which one counts") from None
    except ValueError as error:  # an integer of thousands of digits
        raise MetadataError(f"not JSON that can be read: {error}") from error
    if _may_be_deep(data) and _deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    return value


@dataclass(frozen=True, slots=True)
class LaxDocument:
    """A parsed document in which names of members may be repeated, and which may be in Latin-1.

    Attributes:
        value: as :func:`loads` gives it, the last one of members of one name.
        is_latin1: the document is no UTF-8; every string beyond ASCII in it is a guess.
        doubled: objects with a repeated member, and its name.
    """

    value: JSON
    is_latin1: bool
    doubled: list[tuple[dict[str, Any], str]]


def loads_lax(document: bytes | bytearray | memoryview) -> LaxDocument | None:
    """Parse a document that :func:`loads` refuses; None where it is no JSON in any encoding, or nested too deeply."""
    data = bytes(document)
    try:
        text, is_latin1 = data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        text, is_latin1 = data.decode("latin-1"), True
    doubled: list[tuple[dict[str, Any], str]] = []

    def keep_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            names = [name for name, _ in pairs]
            doubled.extend((members, name) for name in members if names.count(name) > 1)
        return members

    try:
        value = json.loads(text, object_pairs_hook=keep_last)
    except (ValueError, RecursionError):
        return None
    if _may_be_deep(data) and _deeper_than(value, MAX_DEPTH):
        return None
    return LaxDocument(value, is_latin1, doubled)


def serialise(document: Mapping[str, Any]) -> bytes:
    """The document as UTF-8 bytes: two spaces of indentation, members in the order given.

    Raises:
        MetadataError: with a pointer to a value that JSON has no form for.
    """
    check_json(document)
    return json.dumps(document, indent=2, allow_nan=True).encode()


def as_json(value: Any, *, _depth: int = 0) -> JSON:
    """``value`` as it will be read back: numpy's scalars and arrays as numbers and lists, tuples as lists.

    What JSON has no form for stays as it is, for :func:`check_json` to refuse.

    >>> import numpy as np
    >>> as_json({"scale": np.float32(0.5), "offsets": np.arange(3)})
    {'scale': 0.5, 'offsets': [0, 1, 2]}
    """
    if _depth > MAX_DEPTH:
        raise _too_deep()
    if (
        isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biufUOT"
    ):  # tolist() makes integers of times
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: as_json(item, _depth=_depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item, _depth=_depth + 1) for item in value]
    return value


def check_json(value: object, pointer: str = "") -> None:
    """Make sure that JSON has a form for ``value``: dicts with string keys, lists, strings, numbers, booleans, None.

    Raises:
        MetadataError: with a pointer to the first thing that is not.
    """
    # The way to a container, innermost last: pointers are made of it only for an error.
    stack: list[tuple[object, tuple[str | int, ...]]] = [([value], ())]
    while stack:
        container, way = stack.pop()
        if len(way) > MAX_DEPTH:
            raise _too_deep()
        for name, item in container.items() if isinstance(container, dict) else enumerate(container):  # type: ignore[arg-type]
            if isinstance(container, dict) and not isinstance(name, str):
                place = pointer_to(pointer, *way[1:])
                raise MetadataError("names of members are strings", pointer=place, expected="a string", found=name)
            if isinstance(item, (dict, list, tuple)):
                stack.append((item, (*way, name)))
            elif item is not None and not isinstance(item, (str, bool, int, float)):
                raise MetadataError(
                    "JSON has no form for this",
                    pointer=pointer_to(pointer, *way[1:], *([name] if way else [])),
                    expected="a string, number, boolean, null, list or dict",
                    found=item,
                )


# -- members ----------------------------------------------------------------------------------------------------------


def expect_object(value: JSON, pointer: str = "", expected: str = "an object") -> dict[str, Any]:
    """``value``, which must be an object."""
    if not isinstance(value, dict):
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    return value


def expect_list(value: JSON, pointer: str = "", expected: str = "an array") -> list[Any] | tuple[Any, ...]:
    """``value``, which must be an array."""
    if not isinstance(value, (list, tuple)):
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    return value


def expect_string(value: JSON, pointer: str = "", expected: str = "a string") -> str:
    """``value``, which must be a string."""
    if not isinstance(value, str):
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    return value


def expect_one_of(value: JSON, pointer: str, choices: Collection[str]) -> str:
    """``value``, which must be one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise MetadataError(pointer=pointer, expected=f"one of {', '.join(choices)}", found=value)
    return value


def expect_boolean(value: JSON, pointer: str = "") -> bool:
    """``value``, which must be true or false."""
    if not isinstance(value, bool):
        raise MetadataError(pointer=pointer, expected="true or false", found=value)
    return value


def expect_integer(value: JSON, pointer: str, low: int, high: int) -> int:
    """``value`` as an int from ``low`` to ``high``, both included; numpy's integers count, booleans and 1.0 don't."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, (bool, np.bool_)) or not low <= number <= high:
        raise MetadataError(pointer=pointer, expected=f"an integer from {low} to {high}", found=value)
    return number


def expect_integers(value: JSON, pointer: str = "", *, minimum: int = 0, stop: int = 2**63) -> tuple[int, ...]:
    """``value``, which must be an array of integers in [minimum, stop); booleans and 1.0 are not integers."""
    for i, number in enumerate(expect_list(value, pointer, "an array of integers")):
        if isinstance(number, bool) or not isinstance(number, int) or not minimum <= number < stop:
            raise MetadataError(
                pointer=pointer_to(pointer, i), expected=f"an integer from {minimum} to {stop - 1}", found=number
            )
    return tuple(value)


def named(value: JSON, pointer: str = "", *, what: str = "extension") -> tuple[str, dict[str, Any]]:
    """Name and configuration of an extension: an object with ``name`` and perhaps ``configuration``, or the name alone.

    Source: Zarr v3 core, "Extension definition".
    """
    if isinstance(value, str):
        return value, {}
    wanted = f"the name of a {what}, or an object with its name and configuration"
    if not isinstance(value, dict) or "name" not in value:
        raise MetadataError(pointer=pointer, expected=wanted, found=value)
    name = expect_string(value["name"], pointer_to(pointer, "name"))
    configuration = expect_object(value.get("configuration", {}), pointer_to(pointer, "configuration"))
    if not isinstance(value.get("must_understand", True), bool):
        raise MetadataError(
            pointer=pointer_to(pointer, "must_understand"), expected="a boolean", found=value["must_understand"]
        )
    known_members(value, ("name", "configuration", "must_understand"), pointer)
    return name, configuration


def known_members(value: Mapping[str, Any], names: Collection[str], pointer: str = "") -> dict[str, Any]:
    """The members of an object, all of which must be among ``names``.

    Raises:
        MetadataError: there is an unknown member.
    """
    for member in value:
        if member not in names:
            expected = f"one of {', '.join(names)}" if names else "no members"
            raise MetadataError(
                "unknown member", pointer=pointer_to(pointer, member), expected=expected, found=value[member]
            )
    return dict(value)


# -- numbers, in the form that fill values of v3 have -----------------------------------------------------------------

#: Floats that JSON has no numbers for.
NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_HEXADECIMAL: Final = re.compile(r"0x([0-9a-fA-F]+)", re.ASCII)
# By bytes of the float: what the specification calls "NaN": positive, only the highest bit of the mantissa set.
_NAN: Final = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}


def parse_integer(value: JSON, dtype: np.dtype[Any], pointer: str, *, integral: bool = False) -> Any:
    """An integer in the range of ``dtype``, numpy's or of ml_dtypes; with ``integral`` also one written as 1.0.

    Returns:
        A scalar of ``dtype`` in native byte order.
    Raises:
        MetadataError: the type has no such value.
    """
    if integral and isinstance(value, float) and value.is_integer():
        value = int(value)
    n_bits = _n_bits(dtype)
    low, high = (0, 2**n_bits - 1) if dtype.name.startswith("u") else (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MetadataError(pointer=pointer, expected=f"an integer from {low} to {high}", found=value)
    return dtype.type(value)


def parse_float(
    value: JSON, dtype: np.dtype[Any], pointer: str, *, hexadecimal: bool = True, all_digits: bool = False
) -> Any:
    """A number, rounded to the nearest float, "NaN", "Infinity", "-Infinity"; if ``hexadecimal``, also the bits, with
    ``all_digits`` as many as the type has.

    Returns:
        A scalar of ``dtype`` in native byte order.
    Raises:
        MetadataError: the type has no such value.
    Source: Zarr v3, "Fill value list".
    """
    bits = float_bits(value, dtype, pointer, hexadecimal=hexadecimal, all_digits=all_digits)
    return np.array(bits, f"u{dtype.itemsize}").view(dtype.newbyteorder("="))[()]


def float_bits(
    value: JSON, dtype: np.dtype[Any], pointer: str, *, hexadecimal: bool = True, all_digits: bool = False
) -> int:
    """The bits of what :func:`parse_float` gives; as numbers, NaNs may lose some."""
    native, raw, n_digits = dtype.newbyteorder("="), f"u{dtype.itemsize}", 2 * dtype.itemsize
    if isinstance(value, str):
        found = _HEXADECIMAL.fullmatch(value) if hexadecimal else None
        digits = found.group(1) if found else ""
        fits = len(digits) == n_digits if all_digits else 0 < len(digits) <= n_digits
        if fits and int(digits, 16) < 2 ** _n_bits(dtype):
            return int(digits, 16)
        value = NOT_FINITE.get(value, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != value and dtype.name in ("float16", "float32", "float64"):
            return _NAN[dtype.itemsize]
        try:
            with np.errstate(all="ignore"):  # rounds to infinity
                scalar = np.array(value, native)
        except OverflowError:
            pass
        else:
            if value != value or float(scalar) == float(scalar):  # some types have no infinity, and make it a NaN
                return int(scalar.view(raw))
    bits = f" or 0x and {'' if all_digits else 'up to '}{n_digits} hexadecimal digits" if hexadecimal else ""
    expected = f"a number, 'NaN', 'Infinity', '-Infinity'{bits}"
    raise MetadataError(pointer=pointer, expected=expected, found=value)


def float_to_json(value: Any, dtype: np.dtype[Any], *, hexadecimal: bool = True) -> JSON:
    """The inverse of :func:`parse_float`; NaNs other than "NaN" as their bits, if ``hexadecimal``."""
    scalar = np.asarray(value, dtype.newbyteorder("="))
    number = float(scalar)
    if math.isnan(number):
        bits = int(scalar.view(f"u{scalar.itemsize}"))
        usual = float_bits(math.nan, scalar.dtype, "")
        return "NaN" if bits == usual or not hexadecimal else f"0x{bits:0{2 * scalar.itemsize}x}"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _n_bits(dtype: np.dtype[Any]) -> int:
    """Bits of a number, by the name of its type: ``int4`` has 4 of them, in a byte."""
    found = re.search(r"[0-9]+", dtype.name)
    assert found is not None
    return int(found.group())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateError(name)
            seen.add(name)
    return members


def _may_be_deep(data: bytes) -> bool:
    # Counting brackets is a cheap upper bound on the depth; only long documents need the walk.
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _deeper_than(value: JSON, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _too_deep() -> MetadataError:
    return MetadataError(f"nested more than {MAX_DEPTH} levels deep")
