"""Three slices through a volume as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Panel", "draw"]

Pixels = npt.NDArray[np.uint8]

_SCALE = 4
_GAP = 28
_TOP = 26
_BOTTOM = 46
_BACKGROUND = (13, 15, 20)
_FRAME = (38, 42, 52)
_TEXT = (235, 238, 245)
_DIM = (148, 156, 172)
_SHARD = (96, 176, 255, 150)
_CHUNK = (96, 176, 255, 36)


@dataclass(frozen=True, slots=True)
class Panel:
    """A slice as it is to be seen.

    Attributes:
        title: above it.
        plane: shape (width, height): the first axis from left to right, the second one from bottom to top.
        sides: letters at the left, right, bottom and top.
        chunk, shard: lengths of chunks and shards, whose borders are drawn.
    """

    title: str
    plane: npt.NDArray[np.uint16]
    sides: tuple[str, str, str, str]
    chunk: int
    shard: int


def draw(panels: Sequence[Panel], title: str, caption: str, path: Path, *, white: float) -> None:
    """Write a PNG with the panels side by side.

    Args:
        white: the value that is shown as white.
    """
    sizes = [(panel.plane.shape[0] * _SCALE, panel.plane.shape[1] * _SCALE) for panel in panels]
    tallest = max(height for _, height in sizes)
    width = sum(w for w, _ in sizes) + _GAP * (len(panels) + 1)
    image = Image.new("RGB", (width, _TOP + tallest + _BOTTOM + 30), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.text((_GAP, _TOP), title, _TEXT, font=_font(22))
    left = _GAP
    for panel, (w, h) in zip(panels, sizes, strict=True):
        top = _TOP + tallest - h
        image.paste(Image.fromarray(_shades(panel.plane, white)).resize((w, h), Image.Resampling.LANCZOS), (left, top))
        pen.rectangle((left - 1, top - 1, left + w, top + h), outline=_FRAME)
        _grids(image, panel, (left, top, w, h))
        _letters(pen, panel, (left, top, w, h))
        pen.text((left + w / 2, _TOP + tallest + 10), panel.title, _TEXT, font=_font(16), anchor="ma")
        left += w + _GAP
    pen.text((_GAP, _TOP + tallest + _BOTTOM - 2), caption, _DIM, font=_font(14))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shades(plane: npt.NDArray[np.uint16], white: float) -> Pixels:
    """Grey levels, shape (height, width), the first row on top."""
    upright = plane.T[::-1]
    # Darker greys than they are: the cortex stands out from the white matter.
    levels: Pixels = (np.clip(upright / white, 0, 1) ** 1.6 * 255).astype(np.uint8)
    return levels


def _grids(image: Image.Image, panel: Panel, box: tuple[int, int, int, int]) -> None:
    """Borders of chunks and shards: thin lines, half transparent."""
    left, top, w, h = box
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    for step, colour in ((panel.chunk, _CHUNK), (panel.shard, _SHARD)):
        for i in range(step, panel.plane.shape[0], step):
            pen.line((left + i * _SCALE, top, left + i * _SCALE, top + h - 1), colour)
        for i in range(step, panel.plane.shape[1], step):
            pen.line((left, top + h - i * _SCALE, left + w - 1, top + h - i * _SCALE), colour)
    image.paste(Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB"))


def _letters(pen: ImageDraw.ImageDraw, panel: Panel, box: tuple[int, int, int, int]) -> None:
    left, top, w, h = box
    font = _font(15)
    x, y = left + w / 2 + 12, top + h / 2 + 14  # beside the middle, where a line may be
    places = ((left + 8, y), (left + w - 8, y), (x, top + h - 6), (x, top + 6))
    for letter, place, anchor in zip(panel.sides, places, ("lm", "rm", "mb", "mt"), strict=True):
        pen.text(place, letter, _DIM, font=font, anchor=anchor)
