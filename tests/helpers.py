"""Small real-looking data for tests: coloured shapes on white, with captions."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange")
SHAPES = ("circle", "square")
STYLES = ("plain", "outline")


def draw_shape(shape: str, colour: str, style: str, size: int = 32, shift: int = 0) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    box = (6 + shift, 6, size - 8 + shift, size - 8)
    pen = ImageDraw.Draw(image)
    fill = colour if style == "plain" else None
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=fill, outline=colour, width=3)
    return image


def shape_folder(folder: Path, copies: int = 4) -> Path:
    """An imagefolder of 16 x `copies` pictures; every fifth row is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for copy in range(copies):
        for shape in SHAPES:
            for colour in COLOURS:
                for style in STYLES:
                    name = f"{shape}-{colour}-{style}-{copy}.png"
                    draw_shape(shape, colour, style, shift=copy).save(folder / name)
                    split = "test" if len(rows) % 5 == 4 else "train"
                    row = {"file_name": name, "text": f"{colour} {shape}", "tags": [shape, colour]}
                    rows.append(row | {"style": style, "codepoint": f"{colour}-{shape}", "split": split})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
