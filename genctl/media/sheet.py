"""Many pictures on one sheet: a plain grid of equals, or rows and columns with labels of what differs."""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import unicodedata
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from genctl.errors import UsageError
from genctl.media.write import MOST_SHEET, refuse_size

CELLS = "pictures"  # of a sheet's provenance: what each of its pictures has of its own
MOST_STRIP = 8  # frames of a clip on a sheet
LABELS = ("row_labels", "column_labels", "cell_labels")
GAP = 2  # white pixels between pictures
INK = (20, 20, 20)
WIDEST = 14  # of a row's labels, in line heights
LINES = 3  # of a label at most
MOST_WORD = 160  # pixels by which a cell is widened for a label's longest word
LONGEST = 300  # characters of a label that are looked at


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


def below(layout: Layout, count: int) -> Layout:
    """So many in one column, each with the label that it has in `layout`."""
    labels = layout.cell_labels
    if not labels and layout.labelled:
        rows, columns = layout.row_labels or ("",) * layout.rows, layout.column_labels or ("",) * layout.columns
        labels = tuple(", ".join(filter(None, pair)) for pair in itertools.product(rows, columns))[:count]
    return Layout(1, count, cell_labels=labels)


def square(count: int) -> Layout:
    """As near to a square as it gets, without labels."""
    columns = math.ceil(math.sqrt(count))
    return Layout(columns, math.ceil(count / columns))


@dataclass(frozen=True)
class Measure:
    """A sheet in pixels: its size, the margin around, the space of row labels, above the columns, above each cell."""

    size: tuple[int, int]
    margin: int
    left: int
    top: int
    above: int
    line: int  # height of a label's line


def measured(layout: Layout, cell: tuple[int, int]) -> Measure:
    """What a sheet of pictures of at most `cell` pixels takes."""
    cell = widened(layout, cell)
    line = font_size(cell) * 5 // 4
    margin = line // 2 if layout.labelled else 0
    rows = [text for label in layout.row_labels for text in lines_of(label, cell, WIDEST * line)]
    left = max(width_of(text, cell) for text in rows) + line if rows else 0
    top, above = (
        line * max((len(lines_of(label, cell, cell[0])) for label in labels), default=0)
        for labels in (layout.column_labels, layout.cell_labels)
    )
    width = left + layout.columns * (cell[0] + GAP) - GAP
    height = top + layout.rows * (cell[1] + above + GAP) - GAP
    return Measure((width + 2 * margin, height + 2 * margin), margin, left, top, above, line)


def refuse(form: str, count: int, layout: Layout, cell: tuple[int, int]) -> None:
    """Raise UsageError for a sheet beyond the memory, or beyond what its format can hold; before any work."""
    plain = layout.columns * (cell[0] + GAP), layout.rows * (cell[1] + GAP)
    size = plain if plain[0] * plain[1] > MOST_SHEET else measured(layout, cell).size  # labels take their time
    if size[0] * size[1] > MOST_SHEET:
        what = f"{count:,} pictures on one sheet are {size[0] * size[1] / 1e6:,.0f} megapixels"
        most = MOST_SHEET // 1_000_000
        raise UsageError(f"{what}, more than {most} megapixels; ask for fewer, or for one file each")
    refuse_size(form, *size)


def compose(pictures: list[Image.Image], layout: Layout) -> Image.Image:
    """The pictures in reading order on white. Smaller ones are enlarged by a whole factor where that fills the cell of
    the largest, else they stand in its middle."""
    cell = (max(one.width for one in pictures), max(one.height for one in pictures))
    room = cell
    to, cell = measured(layout, cell), widened(layout, cell)
    sheet = Image.new("RGB", to.size, "white")
    pen = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, layout.columns)
        x = to.margin + to.left + column * (cell[0] + GAP)
        y = to.margin + to.top + row * (cell[1] + to.above + GAP)
        if layout.column_labels and row == 0:
            _write(pen, layout.column_labels[column], x, to.margin, cell, cell[0], centre=True)
        if layout.row_labels and column == 0:
            lines = len(lines_of(layout.row_labels[row], cell, WIDEST * to.line))
            _write(pen, layout.row_labels[row], to.margin, y + (cell[1] - lines * to.line) // 2, cell, WIDEST * to.line)
        if layout.cell_labels:
            _write(pen, layout.cell_labels[index], x, y, cell, cell[0], centre=True)
        fitted = _enlarged(picture, room)
        sheet.paste(fitted, (x + (cell[0] - fitted.width) // 2, y + to.above + (cell[1] - fitted.height) // 2))
    return sheet


def _enlarged(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    factor = min(cell[0] // picture.width, cell[1] // picture.height)
    size = (picture.width * factor, picture.height * factor)
    return picture if factor < 2 else picture.resize(size, Image.Resampling.NEAREST)


def document_of(documents: list[dict[str, Any]], layout: Layout) -> dict[str, Any]:
    """How a sheet was made: what all its pictures share, what each has of its own, and its labels."""
    first = documents[0]
    common = {key: value for key, value in first.items() if all(one.get(key) == value for one in documents)}
    rows = [{key: value for key, value in one.items() if key not in common} for one in documents]
    labels = {name: list(getattr(layout, name)) for name in LABELS}
    said = {"columns": layout.columns} | {name: texts for name, texts in labels.items() if texts}
    return common | {"count": len(documents), CELLS: rows, "sheet": said}


# labels --------------------------------------------------------------------------------------------------------------
def font_size(cell: tuple[int, int]) -> int:
    return max(10, min(24, min(cell) // 10))


@functools.cache
def _font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _font(cell: tuple[int, int]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return _font_of(font_size(cell))


def width_of(text: str, cell: tuple[int, int]) -> int:
    return math.ceil(_font(cell).getlength(text))


def lines_of(text: str, cell: tuple[int, int], most: int) -> list[str]:
    """The text in at most LINES lines of `most` pixels, broken at spaces where it can be, its end cut where it must."""
    lines: list[str] = []
    rest = " ".join(written(text[:LONGEST]).split())
    while rest and len(lines) < LINES:
        count = bisect.bisect_right(range(1, len(rest) + 1), most, key=lambda end: width_of(rest[:end], cell)) or 1
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


def written(text: str) -> str:
    """A label in the letters that Pillow's own font has: accents left away, "?" for what is in no Latin script."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(mark if mark.isascii() else "?" for mark in plain if not unicodedata.combining(mark))


def widened(layout: Layout, cell: tuple[int, int]) -> tuple[int, int]:
    """The cell, as wide as the longest word of the labels above it where that is not too much."""
    words = [word for label in (*layout.column_labels, *layout.cell_labels) for word in written(label).split()]
    longest = max((width_of(word, cell) for word in words[:LONGEST]), default=0)
    return max(cell[0], min(longest, MOST_WORD)), cell[1]


def _write(
    pen: ImageDraw.ImageDraw, text: str, x: int, y: int, cell: tuple[int, int], most: int, centre: bool = False
) -> None:
    for number, line in enumerate(lines_of(text, cell, most)):
        inset = (most - width_of(line, cell)) // 2 if centre else 0
        pen.text((x + inset, y + number * (font_size(cell) * 5 // 4)), line, fill=INK, font=_font(cell))
