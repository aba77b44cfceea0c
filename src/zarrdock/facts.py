"""Facts of nodes as text and as HTML, and a drawing of chunks. Reads nothing from the store."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Facts", "count", "facts_table", "grid_svg", "size_text"]

SIDE = 160
MAX_LINES = 40


def size_text(nbytes: int) -> str:
    """Bytes in a unit that leaves one to four digits."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{int(size)} B" if unit == "B" else f"{size:.1f} {unit}"


def count(n: int, noun: str) -> str:
    """``1 chunk``, ``2,000 chunks``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


class Facts(dict[str, Any]):
    """Names and values that describe a node: a dictionary that prints as a table.

    >>> print(Facts({"Shape": (3, 4), "Data type": "int8"}))
    Shape      (3, 4)
    Data type  int8
    """

    def __str__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.items())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return facts_table(list(self.items()))


def facts_table(facts: Sequence[tuple[str, Any]], beside: str = "") -> str:
    """Names and values as an HTML table, with something beside it."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(str(value))}</td></tr>"
        for name, value in facts
    )
    return f"<table><tr><td><table>{rows}</table></td><td>{beside}</td></tr></table>"


def grid_svg(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    stored: npt.NDArray[np.float64] | None = None,
) -> str:
    """The last two axes of an array (one is a row), with the borders of chunks, and of shards in bold; "" where
    there is nothing to draw.

    Args:
        stored: share of the objects that are stored, along the last two axes: at most ``MAX_LINES`` cells an axis.

    Colours are attributes, not styles: a page may forbid inline styles, and sets its own.
    """
    if not shape or 0 in shape[-2:]:
        return ""
    lengths = (1, *shape)[-2:]
    longest = max(lengths)
    # A long, thin array stays visible.
    height, width = (max(12.0, SIDE * n / longest) for n in lengths)
    lines = []
    for unit, style in (
        (chunks, "class='chunk' stroke='#7a8ba0' stroke-width='0.5'"),
        (shards, "class='shard' stroke='#1f5fa8' stroke-width='1.5'"),
    ):
        if unit is None:
            continue
        for axis, step in enumerate((1, *unit)[-2:]):
            n = -(-lengths[axis] // step)
            if not 1 < n <= MAX_LINES:  # more would be a grey field
                continue
            for i in range(1, n):
                at = i * step / lengths[axis]
                x1, y1, x2, y2 = (
                    (0.0, at * height, width, at * height) if axis == 0 else (at * width, 0.0, at * width, height)
                )
                lines.append(f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' {style}/>")
    cells = ""
    if stored is not None:
        unit = (1, *(shards or chunks))[-2:]
        ys, xs = (
            np.minimum(np.arange(n + 1) * (step if n == -(-length // step) else length / n), length) * side / length
            for n, step, length, side in zip(stored.shape, unit, lengths, (height, width), strict=True)
        )
        cells = "".join(
            f"<rect class='stored' shape-rendering='crispEdges' x='{xs[x]:.1f}' y='{ys[y]:.1f}' "
            f"width='{xs[x + 1] - xs[x]:.1f}' height='{ys[y + 1] - ys[y]:.1f}' "
            f"fill='#3b82c4' fill-opacity='{0.15 + 0.55 * share:.2f}'/>"
            for (y, x), share in np.ndenumerate(stored)
            if share
        )
    frame = (
        f"<rect width='{width:.1f}' height='{height:.1f}' class='frame' fill='#dfe8f2' "
        "stroke='#1f5fa8' stroke-width='1.5'/>"
    )
    return (
        f"<svg preserveAspectRatio='xMinYMid' "
        f"width='{width + 4:.0f}' height='{height + 4:.0f}' viewBox='-2 -2 {width + 4:.0f} {height + 4:.0f}'>"
        f"{frame}{cells}{''.join(lines)}</svg>"
    )
