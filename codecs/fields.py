"""Checks of the members of a codec's configuration. Pointers are relative to the configuration object."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any

from zarrdock.errors import MetadataError

__all__ = ["boolean", "integer", "known_members", "one_of"]


def known_members(configuration: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The configuration as keyword arguments.

    Raises:
        MetadataError: it has a member that is not among ``names``.
    """
    for member in configuration:
        if member not in names:
            expected = f"one of {', '.join(names)}"
            raise MetadataError(
                "unknown member of the configuration", pointer=f"/{member}", expected=expected, found=member
            )
    return dict(configuration)


def integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int from ``low`` to ``high``, both included; numpy's integers count, booleans don't."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise MetadataError(pointer=f"/{name}", expected=f"an integer from {low} to {high}", found=value)
    return number


def boolean(name: str, value: object) -> bool:
    """``value``, which must be true or false."""
    if not isinstance(value, bool):
        raise MetadataError(pointer=f"/{name}", expected="true or false", found=value)
    return value


def one_of(name: str, value: object, choices: Collection[str]) -> str:
    """``value``, which must be one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise MetadataError(pointer=f"/{name}", expected=f"one of {', '.join(choices)}", found=value)
    return value
