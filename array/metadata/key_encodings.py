"""Chunk key encodings: grid coordinates to keys below the array's path, and back.

Those of the specification come first, then those of the extension registry.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.errors import MetadataError, UnknownExtensionError
from zarrdock.json_ import JSON, expect_string, known_members, named, pointer_to

__all__ = [
    "NUMBER",
    "FanoutKeys",
    "KeyEncoding",
    "PrefixedKeys",
    "SeparatedKeys",
    "Separator",
    "SuffixedKeys",
    "TemplateKeys",
    "parse_key_encoding",
]


Separator: TypeAlias = Literal["/", "."]

_DEFAULT_SEPARATORS: dict[str, Separator] = {"default": "/", "v2": "."}
#: Decimal without leading zeros, below 10**19: nothing else is ever written.
NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,18})", re.ASCII)


class KeyEncoding(ABC):
    """Encoding of chunk coordinates as keys."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """The extension's."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The metadata's ``chunk_key_encoding``."""

    @abstractmethod
    def key(self, coords: Sequence[int]) -> str:
        """The key of one chunk."""

    @abstractmethod
    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        """The coordinates that a key stands for; None where it is not the key of a chunk of ``ndim`` dimensions."""

    def is_above(self, name: str, ndim: int) -> bool:
        """True where ``name`` is that of a folder that keys of chunks lie in."""
        below = "".join("/0" for _ in range(ndim))
        return any(self.parse(name + below[: 2 * n], ndim) is not None for n in range(1, ndim + 1))

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        """The keys of many chunks: ``coords`` has shape (n, ndim)."""
        return list(map(self.key, coords.tolist()))

    def check(self, ndim: int, pointer: str) -> None:
        """Make sure that the chunks of an array of ``ndim`` dimensions have keys, and no two the same.

        Args:
            pointer: to the encoding.
        Raises:
            MetadataError: they don't.
        """
        sample = self.key((0,) * ndim)
        parts = sample.split("/")
        if {"", ".", ".."} & set(parts) or parts[-1] == "zarr.json" or re.search(r"[\0\\\ud800-\udfff]", sample):
            raise MetadataError(
                "the template makes keys that no store accepts",
                pointer=pointer_to(pointer, "configuration"),
                expected="Unicode text whose parts between slashes are neither empty nor dots, without \\ and null",
                found=sample,
            )

    def in_v2(self) -> SeparatedKeys:
        """The encoding of Zarr v2 that is the nearest."""
        return SeparatedKeys("v2", ".")


@dataclass(frozen=True, slots=True)
class SeparatedKeys(KeyEncoding):
    """``default``: ``c/1/2``, and ``c`` for an array without dimensions. ``v2``: ``1.2``, and ``0``.

    Source: Zarr v3, chunk key encodings "default" and "v2"; Zarr v2, "Chunks".
    """

    name: Literal["default", "v2"] = "default"
    separator: Separator = "/"

    @classmethod
    def from_json(cls, value: JSON, pointer: str = "") -> SeparatedKeys:
        """Parse the metadata's ``chunk_key_encoding``; the separator may be omitted ("/" for default, "." for v2).

        Raises:
            MetadataError: it is no such encoding.
        """
        name, configuration = named(value, pointer, what="chunk key encoding")
        place = pointer_to(pointer, "configuration")
        known_members(configuration, ("separator",), place)
        separator = configuration.get("separator", _DEFAULT_SEPARATORS[name])
        if separator not in ("/", "."):
            raise MetadataError(pointer=pointer_to(place, "separator"), expected="'/' or '.'", found=separator)
        return cls("default" if name == "default" else "v2", separator)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"separator": self.separator}}

    def key(self, coords: Sequence[int]) -> str:
        numbers = self.separator.join(map(str, coords))
        if self.name == "v2":
            return numbers or "0"
        return f"c{self.separator}{numbers}" if numbers else "c"

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        n, ndim = coords.shape
        if ndim == 0:
            return [self.key(())] * n
        pattern = self.separator.join(["%d"] * ndim)
        if self.name == "default":
            pattern = f"c{self.separator}{pattern}"
        # One C call a key: no Python frame, no list of coordinates.
        return list(map(pattern.__mod__, zip(*coords.T.tolist(), strict=True)))

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        if self.name == "v2":
            if not ndim:
                return () if key == "0" else None
            numbers = key
        elif not ndim:
            return () if key == "c" else None
        elif key.startswith(f"c{self.separator}"):
            numbers = key[2:]
        else:
            return None
        parts = numbers.split(self.separator)
        if len(parts) != ndim or not all(map(NUMBER.fullmatch, parts)):
            return None
        return tuple(map(int, parts))

    def check(self, ndim: int, pointer: str) -> None:
        return None

    def in_v2(self) -> SeparatedKeys:
        return SeparatedKeys("v2", self.separator)


# -- Chunk key encodings of the extension registry: ``prefix``, ``suffix``, ``fanout`` and ``template``.

_HINT: Final = (
    "zarrdock knows default, v2, prefix, suffix, fanout and template; "
    "known extensions: https://github.com/zarr-developers/zarr-extensions"
)
# Encodings around encodings: nobody needs more.
_MAX_DEPTH: Final = 8
# A key is no longer than this in any store, and what a template pads is part of one.
_MAX_WIDTH: Final = 1024
_DEFAULT_CHILDREN: Final = 1001
_FORBIDDEN: Final = ("..", "\\", "\0", "//", "zarr.json")


def parse_key_encoding(value: JSON, pointer: str = "") -> KeyEncoding:
    """The encoding that the metadata's ``chunk_key_encoding`` describes.

    Raises:
        UnknownExtensionError: it is not known here. MetadataError: not an encoding.
    """
    return _parse(value, pointer, 0)


@dataclass(frozen=True, slots=True)
class PrefixedKeys(KeyEncoding):
    """The keys of another encoding with the same text before each.

    Source: Zarr extensions, chunk key encoding "prefix".
    """

    name: ClassVar[str] = "prefix"

    prefix: str
    base: KeyEncoding

    def to_json(self) -> dict[str, Any]:
        configuration = {"prefix": self.prefix, "base_encoding": self.base.to_json()}
        return {"name": self.name, "configuration": configuration}

    def key(self, coords: Sequence[int]) -> str:
        return self.prefix + self.base.key(coords)

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        return [self.prefix + key for key in self.base.keys(coords)]

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        return self.base.parse(key[len(self.prefix) :], ndim) if key.startswith(self.prefix) else None

    def check(self, ndim: int, pointer: str) -> None:
        self.base.check(ndim, pointer_to(pointer, "configuration", "base_encoding"))
        KeyEncoding.check(self, ndim, pointer)

    def in_v2(self) -> SeparatedKeys:
        return self.base.in_v2()


@dataclass(frozen=True, slots=True)
class SuffixedKeys(KeyEncoding):
    """The keys of another encoding with the same text after each.

    Attributes:
        member: what the encoding inside is called in the metadata: the registry itself has two spellings.

    Source: Zarr extensions, chunk key encoding "suffix".
    """

    name: ClassVar[str] = "suffix"

    suffix: str
    base: KeyEncoding
    member: str = "base_encoding"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"suffix": self.suffix, self.member: self.base.to_json()}}

    def key(self, coords: Sequence[int]) -> str:
        return self.base.key(coords) + self.suffix

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        return [key + self.suffix for key in self.base.keys(coords)]

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        return self.base.parse(key.removesuffix(self.suffix), ndim) if key.endswith(self.suffix) else None

    def check(self, ndim: int, pointer: str) -> None:
        self.base.check(ndim, pointer_to(pointer, "configuration", self.member))
        KeyEncoding.check(self, ndim, pointer)

    def in_v2(self) -> SeparatedKeys:
        return self.base.in_v2()


@dataclass(frozen=True, slots=True)
class FanoutKeys(KeyEncoding):
    """``d0/1/23/d1/5/c``: coordinates in digits to the base ``max_children - 1``, so that no directory has more
    entries than ``max_children``.

    Source: Zarr extensions, chunk key encoding "fanout".
    """

    name: ClassVar[str] = "fanout"

    max_children: int = _DEFAULT_CHILDREN

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "configuration": {"max_children": self.max_children}}

    def key(self, coords: Sequence[int]) -> str:
        base = self.max_children - 1
        parts: list[str] = []
        for axis, number in enumerate(coords):
            number, digit = divmod(int(number), base)
            digits = [str(digit)]
            while number:
                number, digit = divmod(number, base)
                digits.append(str(digit))
            parts += (f"d{axis}", *reversed(digits))
        return "/".join((*parts, "c"))

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        base = self.max_children - 1
        *parts, last = key.split("/")
        coords: list[int] = []
        for part in parts:
            if part == f"d{len(coords)}":
                coords.append(0)
            elif not coords or not NUMBER.fullmatch(part) or int(part) >= base or coords[-1] >= 10**19:
                return None
            else:
                coords[-1] = coords[-1] * base + int(part)
        # Digits with zeros before them, or none at all, would have passed till here.
        if last != "c" or len(coords) != ndim or self.key(coords) != key:
            return None
        return tuple(coords) if all(number < 10**19 for number in coords) else None


@dataclass(frozen=True, slots=True)
class TemplateKeys(KeyEncoding):
    """Keys made of a pattern: ``images/{-1}/{*:04}.jpeg``.

    Attributes:
        format: literal text, and in braces the coordinate of a dimension, counted from either end, or ``*`` for all
            the others; ``:0`` and a number pad it with zeros. Braces of the text are doubled.
        separator: between the coordinates that ``*`` stands for.
        member: what ``format`` is called in the metadata: the registry's text has "template", all else "format".

    Source: Zarr extensions, chunk key encoding "template".
    """

    name: ClassVar[str] = "template"

    format: str
    separator: str | None = None
    member: str = "format"

    def to_json(self) -> dict[str, Any]:
        configuration = {self.member: self.format}
        if self.separator is not None:
            configuration["separator"] = self.separator
        return {"name": self.name, "configuration": configuration}

    def key(self, coords: Sequence[int]) -> str:
        form = _form(self, len(coords))
        return form.pattern % tuple(coords[axis] for axis in form.axes)

    def keys(self, coords: npt.NDArray[np.integer[Any]]) -> list[str]:
        form = _form(self, coords.shape[1])
        return list(map(form.pattern.__mod__, zip(*coords.T[list(form.axes)].tolist(), strict=True)))

    def parse(self, key: str, ndim: int) -> tuple[int, ...] | None:
        form = _form(self, ndim)
        found = form.expression.fullmatch(key)
        if found is None:
            return None
        coords = [0] * ndim
        for axis, digits in zip(form.axes, found.groups(), strict=True):
            coords[axis] = int(digits)
        # Only what would be written: not with more zeros than asked for.
        return tuple(coords) if self.key(coords) == key and all(number < 10**19 for number in coords) else None

    def check(self, ndim: int, pointer: str) -> None:
        try:
            _form(self, ndim)
        except MetadataError as error:
            raise error.below(pointer_to(pointer, "configuration")) from None
        KeyEncoding.check(self, ndim, pointer)


@dataclass(frozen=True, slots=True)
class _Field:
    """An expression in braces: an axis, from the end if negative, or None for all the others."""

    axis: int | None
    width: int


@dataclass(frozen=True, slots=True)
class _Form:
    """A template for one number of dimensions.

    Attributes:
        pattern: for the operator ``%``, with the coordinates in the order of ``axes``.
        expression: of keys, with a group a coordinate.
    """

    pattern: str
    axes: tuple[int, ...]
    expression: re.Pattern[str]


# Doubled braces, an expression, or text.
_TOKEN: Final = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<axis>\*|0|-?[1-9][0-9]*)(?::0(?P<width>[1-9][0-9]*))?\}|(?P<text>[^{}]+)", re.ASCII
)


@lru_cache(256)
def _tokens(template: TemplateKeys) -> tuple[str | _Field, ...]:
    """Text and expressions by turns."""
    pointer, text = pointer_to("", template.member), template.format
    found: list[str | _Field] = [""]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            expected = "an expression such as {0}, {-1}, {*} or {1:04}, or doubled braces"
            raise MetadataError(pointer=pointer, expected=expected, found=text[at:])
        at = match.end()
        if match["axis"] is None:
            found[-1] = f"{found[-1]}{match['brace'][0] if match['brace'] else match['text']}"
            continue
        width = int(match["width"] or 1) if len(match["width"] or "") <= 4 else _MAX_WIDTH + 1
        if width > _MAX_WIDTH:
            raise MetadataError(pointer=pointer, expected=f"at most {_MAX_WIDTH} digits", found=match[0])
        axis = None if match["axis"] == "*" else int(match["axis"][:20])
        found += [_Field(axis, width), ""]
    n_rest = sum(isinstance(token, _Field) and token.axis is None for token in found)
    if len(found) == 1 or n_rest > 1:
        expected = "at least one expression such as {0}, and {*} at most once"
        raise MetadataError(pointer=pointer, expected=expected, found=text)
    for token in found:
        if isinstance(token, str):
            _check_text(token, pointer)
    if text.startswith("/"):
        raise MetadataError(pointer=pointer, expected="text that does not begin with a slash", found=text)
    if n_rest and template.separator is None:
        raise MetadataError(pointer="/separator", expected="text between the coordinates of {*}", found=None)
    return tuple(found)


@lru_cache(256)
def _form(template: TemplateKeys, ndim: int) -> _Form:
    """The template for arrays of ``ndim`` dimensions.

    Raises:
        MetadataError: it does not fit them.
    """
    pointer = pointer_to("", template.member)
    named_axes: list[int] = []
    for token in _tokens(template):
        if isinstance(token, _Field) and token.axis is not None:
            axis = token.axis + ndim if token.axis < 0 else token.axis
            if not 0 <= axis < ndim or axis in named_axes:
                expected = f"each of {ndim} dimensions once"
                raise MetadataError(pointer=pointer, expected=expected, found=template.format)
            named_axes.append(axis)
    rest = [axis for axis in range(ndim) if axis not in named_axes]
    if bool(rest) != any(isinstance(token, _Field) and token.axis is None for token in _tokens(template)):
        expected = f"each of {ndim} dimensions once, and {{*}} where there are others"
        raise MetadataError(pointer=pointer, expected=expected, found=template.format)
    # Text, coordinate, text, coordinate, ..., text.
    texts, axes, widths = [""], [], []
    for token in _tokens(template):
        if isinstance(token, str):
            texts[-1] += token
            continue
        own = rest if token.axis is None else [token.axis % ndim]
        texts += [*[template.separator or ""] * (len(own) - 1), ""]
        axes += own
        widths += [token.width] * len(own)
    for text in texts[1:-1]:
        # Between two numbers something has to tell where one ends: else 1, 11 and 11, 1 were the same key.
        if not re.search(r"[^0-9]", text):
            place = "/separator" if len(rest) > 1 and text == template.separator else pointer
            raise MetadataError(pointer=place, expected="a separator that contains no digits", found=text)
    pattern = texts[0].replace("%", "%%")
    expression = re.escape(texts[0])
    for text, width in zip(texts[1:], widths, strict=True):
        pattern += f"%0{width}d{text.replace('%', '%%')}"
        expression += f"([0-9]{{{width},{max(width, 19)}}}){re.escape(text)}"
    return _Form(pattern, tuple(axes), re.compile(expression, re.ASCII | re.DOTALL))


def _check_text(text: str, pointer: str) -> None:
    for forbidden in _FORBIDDEN:
        if forbidden in text:
            raise MetadataError(pointer=pointer, expected=f"text without {forbidden!r}", found=text)


def _parse(value: JSON, pointer: str, depth: int) -> KeyEncoding:
    name, configuration = named(value, pointer, what="chunk key encoding")
    place = pointer_to(pointer, "configuration")
    if depth > _MAX_DEPTH:
        raise MetadataError(pointer=pointer, expected=f"at most {_MAX_DEPTH} encodings around one", found=name)
    if name in ("default", "v2"):
        return SeparatedKeys.from_json(value, pointer)
    if name == "prefix":
        known_members(configuration, ("prefix", "base_encoding"), place)
        prefix = _text(configuration, "prefix", place)
        _check_text(prefix, pointer_to(place, "prefix"))
        if not prefix or prefix.startswith("/"):
            expected = "text that does not begin with a slash"
            raise MetadataError(pointer=pointer_to(place, "prefix"), expected=expected, found=prefix)
        return PrefixedKeys(prefix, _base(configuration, "base_encoding", place, depth))
    if name == "suffix":
        known_members(configuration, ("suffix", "base_encoding", "base-encoding"), place)
        member = "base-encoding" if "base-encoding" in configuration else "base_encoding"
        if {"base_encoding", "base-encoding"} <= set(configuration):
            raise MetadataError(pointer=place, expected="one encoding inside", found=configuration)
        suffix = _text(configuration, "suffix", place)
        if member not in configuration:  # as an older text of the registry allows
            return SuffixedKeys(suffix, SeparatedKeys())
        return SuffixedKeys(suffix, _base(configuration, member, place, depth), member)
    if name == "fanout":
        known_members(configuration, ("max_children",), place)
        n = configuration.get("max_children", _DEFAULT_CHILDREN)
        if isinstance(n, bool) or not isinstance(n, int) or n < 3:
            raise MetadataError(pointer=pointer_to(place, "max_children"), expected="an integer from 3", found=n)
        return FanoutKeys(n)
    if name == "template":
        known_members(configuration, ("format", "template", "separator"), place)
        member = "template" if "template" in configuration and "format" not in configuration else "format"
        if {"format", "template"} <= set(configuration):
            raise MetadataError(pointer=place, expected="one template", found=configuration)
        text = _text(configuration, member, place)
        separator = _text(configuration, "separator", place) if "separator" in configuration else None
        template = TemplateKeys(text, separator, member)
        try:
            _tokens(template)
        except MetadataError as error:
            raise error.below(place) from None
        return template
    raise UnknownExtensionError("chunk key encoding", name, hint=_HINT, pointer=pointer)


def _text(configuration: dict[str, Any], member: str, pointer: str) -> str:
    if member not in configuration:
        raise MetadataError(pointer=pointer, expected=f"a member {member!r}", found=configuration)
    return expect_string(configuration[member], pointer_to(pointer, member))


def _base(configuration: dict[str, Any], member: str, pointer: str, depth: int) -> KeyEncoding:
    if member not in configuration:
        raise MetadataError(pointer=pointer, expected=f"a member {member!r}", found=configuration)
    return _parse(configuration[member], pointer_to(pointer, member), depth + 1)
