"""Formats of values in the output."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from zarrdock.codecs.codec import Codec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "codec_text",
    "console",
    "line_width",
    "print_json",
    "progress_bar",
    "shape_text",
    "short",
    "size_text",
    "table",
    "wrapped",
]


def size_text(nbytes: float) -> str:
    """Bytes for people: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(nbytes) < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 100 else f"{nbytes:.3g} {unit}"
        nbytes /= 1024
    return f"{nbytes:,.3g} PiB"


def log_request(method: str, path: str, status: int, nbytes: int) -> None:
    """Print one line about an HTTP request. The path is still encoded, so nothing in it moves the terminal's cursor."""
    print(f"{method} {path} {status} {nbytes}", file=sys.stderr)


def shape_text(shape: tuple[int, ...] | None) -> str:
    """``96 × 112 × 96``; a scalar's shape is ``()``."""
    if shape is None:
        return "none"
    return " × ".join(map(str, shape)) if shape else "()"


def short(text: str, width: int = 100) -> str:
    """Shorten a text to at most ``width`` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def codec_text(codec: Codec) -> str:
    """``zstd(level=3, checksum=False)``."""
    try:
        document: Any = codec.to_json()
    except Exception:
        return codec.name
    if not isinstance(document, dict):
        return str(document)
    configuration = document.get("configuration") or {}
    inside = ", ".join(f"{key}={value}" for key, value in configuration.items())
    return short(f"{document.get('name', codec.name)}({inside})" if inside else str(document.get("name", codec.name)))


def print_json(value: Any) -> None:
    """A document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def line_width() -> int | None:
    """Columns of the terminal, or those that COLUMNS names; None where the output is for a program."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return max(20, shutil.get_terminal_size().columns)
    return None


def table(rows: list[tuple[str, str]], indent: str = "  ") -> None:
    """Names and values, one a line; on a terminal long values go on below themselves."""
    width, room = max((len(name) for name, _ in rows), default=0), line_width()
    if room is not None:
        width = min(width, room // 2)
    for name, value in rows:
        before = f"{indent}{name:<{width}}  "
        for line in wrapped(value, before, " " * (len(indent) + width + 2)):
            print(line.rstrip())


def wrapped(text: str, before: str, behind: str = "  ") -> list[str]:
    """Lines of a text behind ``before``, those after the first behind ``behind``, as the terminal is wide."""
    room = line_width()
    if room is None or len(before) + len(text) <= room:
        return [before + text]
    return textwrap.wrap(text, room, initial_indent=before, subsequent_indent=behind) or [before]


def console(*, stderr: bool = False) -> Console:
    """The console for rich output. Anything but a terminal gets plain text of unlimited width."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 200, highlight=False, soft_wrap=True)


def progress_bar(*, quiet: bool, unit_bytes: bool) -> Progress:
    """A bar on standard error, where that is a terminal. To be used in ``with``."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    if unit_bytes:
        columns += [DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]
    else:
        columns += [TextColumn("{task.fields[counts]}")]
    err = Console(stderr=True)
    return Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
