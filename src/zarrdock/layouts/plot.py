"""Predictions as a picture: bars in SVG, written by hand so that nothing has to be installed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["bars"]

_BAR, _GAP, _PANEL_GAP = 15, 5, 34
_WIDTH, _LABEL, _VALUE = 460, 240, 70
_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#999933", "#bbbbbb")


def bars(title: str, rows: Sequence[str], panels: Sequence[tuple[str, Sequence[float]]], *, best: int = -1) -> str:
    """A panel of horizontal bars for each pattern of access, one bar a layout.

    Args:
        rows: names of the layouts. panels: name of each pattern, and a number a layout.
        best: the layout that is marked.
    Returns:
        An SVG document. Text is in the reader's own font and colour scheme's default, on white.
    """
    height_of_panel = len(rows) * (_BAR + _GAP) + _PANEL_GAP
    width, height = _LABEL + _WIDTH + _VALUE, 40 + height_of_panel * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for i, (name, values) in enumerate(panels):
        top = 40 + i * height_of_panel
        parts.append(f'<text x="10" y="{top + 14}" font-weight="bold">{escape(name)}</text>')
        most = max([*values, 1])
        for j, (row, value) in enumerate(zip(rows, values, strict=True)):
            y = top + 22 + j * (_BAR + _GAP)
            weight = ' font-weight="bold"' if j == best else ""
            length, colour = _WIDTH * value / most, _COLOURS[j % len(_COLOURS)]
            text = f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
            parts += [
                f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end"{weight}>{escape(row)}</text>',
                f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
                f'<text x="{_LABEL + length + 5:.1f}" y="{y + 12}"{weight}>{text}</text>',
            ]
    return "\n".join([*parts, "</g>", "</svg>", ""])
