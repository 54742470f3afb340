"""Many pictures on one sheet: a plain grid of equals, or rows and columns with labels of what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from genctl.errors import UsageError
from genctl.media.write import MOST_SHEET, refuse_size

GAP = 2  # white pixels between pictures
INK = (20, 20, 20)
WIDEST = 14  # of a row's labels, in line heights
LINES = 2  # of a label at most


@dataclass(frozen=True)
class Layout:
    """Where pictures go: `columns` of them a row; labels of rows, of columns, or of every single picture."""

    columns: int
    rows: int
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    cell_labels: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return bool(self.row_labels or self.column_labels or self.cell_labels)


def square(count: int) -> Layout:
    """As near to a square as it gets, without labels."""
    columns = math.ceil(math.sqrt(count))
    return Layout(columns, math.ceil(count / columns))


def measured(layout: Layout, cell: tuple[int, int]) -> tuple[tuple[int, int], int, int, int]:
    """The sheet's size for pictures of at most `cell` pixels, the space left for row labels, above the columns, and
    above each picture."""
    height = font_size(cell) * 5 // 4
    left = top = above = 0
    if layout.row_labels:
        widths = [
            width_of(line, cell) for label in layout.row_labels for line in lines_of(label, cell, WIDEST * height)
        ]
        left = max(widths) + height
    column_lines = [len(lines_of(label, cell, cell[0])) for label in layout.column_labels]
    cell_lines = [len(lines_of(label, cell, cell[0])) for label in layout.cell_labels]
    top = max(column_lines, default=0) * height
    above = max(cell_lines, default=0) * height
    width = left + layout.columns * (cell[0] + GAP) - GAP
    return (width, top + layout.rows * (cell[1] + above + GAP) - GAP), left, top, above


def refuse(form: str, count: int, layout: Layout, cell: tuple[int, int]) -> None:
    """Raise UsageError for a sheet beyond the memory, or beyond what its format can hold; before any work."""
    size, *_ = measured(layout, cell)
    if size[0] * size[1] > MOST_SHEET:
        what = f"{count:,} pictures on one sheet are {size[0] * size[1] / 1e6:,.0f} megapixels"
        most = MOST_SHEET // 1_000_000
        raise UsageError(f"{what}, more than {most} megapixels; ask for fewer, or for one file each")
    refuse_size(form, *size)


def compose(pictures: list[Image.Image], layout: Layout) -> Image.Image:
    """The pictures in reading order on white. Smaller ones are enlarged by a whole factor where that fills the cell of
    the largest, else they stand in its middle."""
    cell = (max(one.width for one in pictures), max(one.height for one in pictures))
    size, left, top, above = measured(layout, cell)
    sheet = Image.new("RGB", size, "white")
    pen, height = ImageDraw.Draw(sheet), font_size(cell) * 5 // 4
    for column, label in enumerate(layout.column_labels):
        _write(pen, label, left + column * (cell[0] + GAP), 0, cell, cell[0])
    for row, label in enumerate(layout.row_labels):
        lines = len(lines_of(label, cell, WIDEST * height))
        y = top + row * (cell[1] + above + GAP) + above + max(0, (cell[1] - lines * height) // 2)
        _write(pen, label, 0, y, cell, WIDEST * height)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, layout.columns)
        x, y = left + column * (cell[0] + GAP), top + row * (cell[1] + above + GAP)
        if layout.cell_labels:
            _write(pen, layout.cell_labels[index], x, y, cell, cell[0])
        fitted = _enlarged(picture, cell)
        sheet.paste(fitted, (x + (cell[0] - fitted.width) // 2, y + above + (cell[1] - fitted.height) // 2))
    return sheet


def _enlarged(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    factor = min(cell[0] // picture.width, cell[1] // picture.height)
    size = (picture.width * factor, picture.height * factor)
    return picture if factor < 2 else picture.resize(size, Image.Resampling.NEAREST)


# labels --------------------------------------------------------------------------------------------------------------
def font_size(cell: tuple[int, int]) -> int:
    return max(10, min(24, min(cell) // 10))


def _font(cell: tuple[int, int]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(font_size(cell))


def width_of(text: str, cell: tuple[int, int]) -> int:
    return math.ceil(_font(cell).getlength(text))


def lines_of(text: str, cell: tuple[int, int], most: int) -> list[str]:
    """The text in at most two lines of `most` pixels, broken at spaces where it can be, its end cut where it must."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < LINES:
        count = len(rest)
        while count > 1 and width_of(rest[:count], cell) > most:
            count -= 1
        space = rest.rfind(" ", 0, count + 1)
        count = count if count == len(rest) or space < 1 else space
        lines.append(rest[:count])
        rest = rest[count:].strip()
    if rest:
        last = lines[-1]
        while last and width_of(last + "…", cell) > most:
            last = last[:-1]
        lines[-1] = last + "…"
    return lines or [""]


def _write(pen: ImageDraw.ImageDraw, text: str, x: int, y: int, cell: tuple[int, int], most: int) -> None:
    for number, line in enumerate(lines_of(text, cell, most)):
        pen.text((x, y + number * (font_size(cell) * 5 // 4)), line, fill=INK, font=_font(cell))
