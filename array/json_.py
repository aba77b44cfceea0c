"""Strict reading and writing of JSON documents, with JSON pointers (RFC 6901) in every error.

Read: UTF-8 (a byte order mark is passed over), no duplicate members, at most ``MAX_DEPTH`` levels. The literals
``NaN``, ``Infinity`` and ``-Infinity`` are not JSON, but zarr-python and xarray write them into attributes: they are
accepted, and written again as they were found, because any replacement would change the user's attribute. Nothing that
zarrdock itself puts into a document needs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from zarrdock.errors import MetadataError

__all__ = [
    "JSON",
    "MAX_DEPTH",
    "check_json",
    "expect_integers",
    "expect_object",
    "expect_string",
    "in_document",
    "loads",
    "named",
    "pointer_to",
    "reject_members",
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
        raise error.with_key(key) from error.__cause__


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
        raise MetadataError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError:
        raise _too_deep() from None
    except _DuplicateError as error:
        raise MetadataError(f"duplicate member {error.args[0]!r}: it is not clear which one counts") from None
    except ValueError as error:  # an integer of thousands of digits
        raise MetadataError(f"not JSON that can be read: {error}") from error
    # Counting brackets is a cheap upper bound on the depth; only long documents need the walk.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    return value


def serialise(document: Mapping[str, Any]) -> bytes:
    """The document as UTF-8 bytes: two spaces of indentation, members in the order given.

    Raises:
        MetadataError: with a pointer to a value that JSON has no form for.
    """
    check_json(document)
    return json.dumps(document, indent=2, allow_nan=True).encode()


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


def expect_object(value: JSON, pointer: str = "", expected: str = "an object") -> dict[str, Any]:
    """``value``, which must be an object."""
    if not isinstance(value, dict):
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    return value


def expect_string(value: JSON, pointer: str = "", expected: str = "a string") -> str:
    """``value``, which must be a string."""
    if not isinstance(value, str):
        raise MetadataError(pointer=pointer, expected=expected, found=value)
    return value


def expect_integers(value: JSON, pointer: str = "", *, minimum: int = 0, stop: int = 2**63) -> tuple[int, ...]:
    """``value``, which must be an array of integers in [minimum, stop); booleans and 1.0 are not integers."""
    if not isinstance(value, (list, tuple)):
        raise MetadataError(pointer=pointer, expected="an array of integers", found=value)
    for i, number in enumerate(value):
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
    reject_members(value, {"name", "configuration", "must_understand"}, pointer)
    return name, configuration


def reject_members(value: Mapping[str, Any], known: set[str] | frozenset[str], pointer: str = "") -> None:
    """Refuse members that nobody here understands."""
    for member in value:
        if member not in known:
            raise MetadataError(
                "unknown member",
                pointer=pointer_to(pointer, member),
                expected=" or ".join(sorted(known)) or "nothing",
                found=value[member],
            )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateError(name)
            seen.add(name)
    return members


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
