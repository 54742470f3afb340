"""A picture in a terminal: half blocks, two pixels a cell, in 24-bit colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from rich.text import Text


def half_blocks(image: Image.Image, columns: int = 40) -> Text:
    """The picture as rich text, at most `columns` cells wide and `columns / 2` lines high, so that a tall one stays on
    the screen. A cell is about twice as high as wide and shows two pixels, one above the other."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    scale = columns / max(image.width, image.height)
    width, height = max(1, round(image.width * scale)), max(2, round(image.height * scale / 2) * 2)
    pixels = image.convert("RGB").resize((width, height), Image.Resampling.BOX).tobytes()
    text = Text()
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = (3 * ((y + row) * width + x) for row in (0, 1))
            colour, background = (Color.from_rgb(*pixels[start : start + 3]) for start in (upper, lower))
            text.append("▀", Style(color=colour, bgcolor=background))
        text.append("\n")
    return text
