"""The preview shows the picture's own colours, two pixels a cell, and never floods the screen."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from rich.console import Console

from genctl.media.terminal import half_blocks


def test_each_cell_has_the_colour_of_its_two_pixels() -> None:
    image = Image.new("RGB", (2, 2))
    for place, colour in {(0, 0): (255, 0, 0), (1, 0): (0, 255, 0), (0, 1): (0, 0, 255), (1, 1): (9, 8, 7)}.items():
        image.putpixel(place, colour)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=80, no_color=False)
    console.print(half_blocks(image, 2), end="")
    shown = out.getvalue()
    assert shown.index("38;2;255;0;0;48;2;0;0;255") < shown.index("38;2;0;255;0;48;2;9;8;7")
    assert shown.count("▀") == 2


@pytest.mark.parametrize(("size", "lines", "cells"), [
    ((64, 64), 20, 40), ((64, 32), 10, 40), ((32, 64), 20, 20), ((1, 1), 20, 40), ((3, 2000), 20, 1),
    ((2000, 3), 1, 40),
])  # fmt: skip
def test_shape_is_kept_within_the_screen(size: tuple[int, int], lines: int, cells: int) -> None:
    rows = half_blocks(Image.new("RGB", size), 40).plain.splitlines()
    assert len(rows) == lines
    assert {len(row) for row in rows} == {cells}
