"""Parse selections, shapes, compressors and sizes typed by a user. No text is evaluated as code."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from zarrdock.cli.app import click, did_you_mean
from zarrdock.codecs.builtin import CODECS

__all__ = ["compressor_names", "parse_chunks", "parse_compressor", "parse_memory", "parse_selection", "parse_shape"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
# Codecs of other kinds: filters, serialisers, and an old name.
_NO_COMPRESSORS = {
    "bitround", "bytes", "cast_value", "conditional", "endian", "reshape", "scale_offset", "sharding_indexed",
    "transpose", "vlen-bytes", "vlen-utf8",
}  # fmt: skip
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


def parse_selection(text: str) -> tuple[Any, ...]:
    """A selection as numpy's brackets take it: integers, slices, ``...`` and lists of integers, for instance
    ``0:64, ::2, ..., -1, [1,5]``. Brackets around it all may be there.

    Raises:
        click.BadParameter: it is something else.
    """
    return tuple(_axis(item, text) for item in _split(_unbracketed(text.strip()), text))


def _unbracketed(text: str) -> str:
    """Remove brackets that enclose the whole text, except those of a list of integers."""
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1]
        if "[" not in inner and (":" in inner or "..." in inner):
            return inner
    return text


def _split(text: str, whole: str) -> list[str]:
    items, depth, item = [], 0, ""
    for character in text:
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            raise _bad_selection(whole)
        if character == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += character
    if depth:
        raise _bad_selection(whole)
    if item.strip() or not items:  # a comma at the end is allowed, as in Python
        items.append(item)
    return [] if items == [""] else items


def _axis(item: str, whole: str) -> Any:
    item = item.strip()
    if item == "...":
        return Ellipsis
    if item.startswith("[") and item.endswith("]"):
        inner = item[1:-1].strip().rstrip(",")
        return np.array([_integer(part, whole) for part in inner.split(",")] if inner else [], np.intp)
    if ":" in item:
        parts = [part.strip() for part in item.split(":")]
        if len(parts) > 3:
            raise _bad_selection(whole)
        numbers = [_integer(part, whole) if part else None for part in parts]
        if len(numbers) == 3 and numbers[2] == 0:
            raise click.BadParameter(f"{whole!r}: the step of a slice cannot be zero")
        return slice(*numbers)
    return _integer(item, whole)


def _integer(text: str, whole: str) -> int:
    text = text.strip()
    if not _INTEGER.fullmatch(text):
        raise _bad_selection(whole)
    return int(text)


def _bad_selection(text: str) -> click.BadParameter:
    return click.BadParameter(f"{text!r} is no selection: write integers, slices and lists, such as '0:64, 3, ...'")


def parse_shape(text: str) -> Any:
    """``32,32,32``, ``64`` for all dimensions, "auto", "keep", or "none"."""
    stripped = text.strip().lower()
    if stripped in ("auto", "keep"):
        return stripped
    if stripped == "none":
        return None
    parts = stripped.strip("()[]").rstrip(",").split(",")
    if not all(re.fullmatch(r"[0-9]{1,18}", part.strip(), re.ASCII) for part in parts):
        raise click.BadParameter(f"{text!r} is no shape: write lengths with commas, such as 32,32,32")
    shape = tuple(int(part) for part in parts)
    return shape[0] if len(shape) == 1 and "," not in stripped else shape


def parse_chunks(text: str) -> Any:
    """Parse a shape (:func:`parse_shape`), lengths of chunks along each axis, ``[[2,6,2],4]``, or a grid's metadata.

    Raises:
        click.BadParameter: it is something else.
    """
    stripped = text.strip()
    if not stripped.startswith("{") and "[" not in stripped[1:]:
        return parse_shape(text)
    try:
        found = json.loads(stripped)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if isinstance(found, dict) or all(
        isinstance(length, int) for axis in found for length in (axis if isinstance(axis, list) else [axis])
    ):
        return found
    raise click.BadParameter(f"{text!r}: write the lengths along each axis, such as [[2,6,2],4]")


def compressor_names() -> list[str]:
    """Names of the codecs that may be given as compressors, the usual ones first."""
    usual = ["zstd", "blosc", "gzip"]
    return [*usual, *(name for name in CODECS.names() if name not in (*usual, *_NO_COMPRESSORS))]


def parse_compressor(text: str) -> Any:
    """``none``, ``auto``, ``keep``, ``zstd:3``, ``gzip:5``, ``blosc:lz4:5:shuffle``, any other codec by name, or JSON
    as in the metadata of either format.
    """
    stripped = text.strip()
    if stripped.startswith(("{", "[")):
        try:
            return json.loads(stripped)
        except ValueError as error:
            raise click.BadParameter(f"not JSON: {error}") from None
    name, *settings = stripped.split(":")
    if name in ("none", "auto", "keep") and not settings:
        return None if name == "none" else name
    if name == "blosc":
        return _blosc(settings, text)
    if name and name not in CODECS.names():
        hint = did_you_mean(name, compressor_names())
        raise click.BadParameter(f"no codec is called {name!r}{hint or '; known are ' + ', '.join(compressor_names())}")
    if len(settings) > 1 or not all(_INTEGER.fullmatch(part) for part in settings) or not name:
        raise click.BadParameter(f"{text!r}: write a codec's name and perhaps a level, such as zstd:3")
    configuration: dict[str, Any] = {"level": int(settings[0])} if settings else {}
    defaults: dict[str, dict[str, Any]] = {"gzip": {"level": 5}}
    configuration = {**defaults.get(name, {}), **configuration}
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


def _blosc(settings: list[str], text: str) -> Any:
    from zarrdock.codecs.blosc_ import Blosc

    cname, level, shuffle = (*settings, *("lz4", "5", "")[len(settings) :])[:3]
    if len(settings) > 3 or not _INTEGER.fullmatch(level) or (shuffle and shuffle not in _SHUFFLES):
        raise click.BadParameter(
            f"{text!r}: write blosc:cname:level:shuffle, such as blosc:lz4:5:bitshuffle ({', '.join(_SHUFFLES)})"
        )
    arguments: dict[str, Any] = {"shuffle": shuffle} if shuffle else {}
    return Blosc(cname=cname, clevel=int(level), **arguments)


def parse_memory(text: str, *, least: int = 1) -> int:
    """Bytes: ``512M``, ``2G``; at least ``least``."""
    found = re.fullmatch(r"([0-9]{1,15})\s*([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{text!r} is no size: write a number of bytes, or for instance 512M")
    if int(found[1]) < least:
        raise click.BadParameter(f"{text!r} is no size: give at least {least} byte")
    factor: int = 1024 ** " KMGT".index(found[2].upper() or " ")
    return int(found[1]) * factor
