"""Small real-looking data for tests: coloured shapes on white, with captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from genctl.families.base import Blend, Edit, Request
from genctl.families.flow.options import FlowOptions
from genctl.options import by_keyword

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


def flow_request(seeds: list[int], prompts: Sequence[str | Blend] = (), **asked: Any) -> Request:
    """A flow's request from keywords: those of `FlowOptions`, of an edit (image, strength, mask), and of `Request`."""
    options = {about.name: asked.pop(key) for key, about in by_keyword(FlowOptions).items() if key in asked}
    edit = None
    if "image" in asked:
        edit = Edit(asked.pop("image"), asked.pop("strength", 1.0), asked.pop("mask", None))
    return Request(seeds, list(prompts), FlowOptions(**options), edit, **asked)


class Blind:
    """In the place of LPIPS: to it all pictures are alike."""

    def features(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        return [pictures]

    def distance(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
        return torch.zeros(len(a[0]))

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(a))
