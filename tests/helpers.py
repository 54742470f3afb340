"""Small real-looking data for tests: coloured shapes on white, with captions."""

from __future__ import annotations

import json
import math
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


def moving(shape: str, colour: str, frames: int, size: int = 32) -> list[Image.Image]:
    """A shape that goes round and comes back to where it began after so many frames."""
    made = []
    for place in range(frames):
        x = 6 + round(6 * math.sin(2 * math.pi * place / frames))
        made.append(draw_shape(shape, colour, "plain", size, x - 6))
    return made


def clip_folder(folder: Path, frames: int = 8, stills: int = 0) -> Path:
    """A set of eight loops and so many stills; every fifth row is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        for colour in COLOURS:
            name = f"{shape}-{colour}.webp"
            first, *rest = moving(shape, colour, frames)
            first.save(folder / name, save_all=True, append_images=rest, duration=125, loop=0, lossless=True)
            rows.append({"file_name": name, "text": f"{colour} {shape}", "loop": True})
    for place in range(stills):
        draw_shape("circle", COLOURS[place % 4], "outline").save(folder / f"still-{place}.png")
        rows.append({"file_name": f"still-{place}.png", "text": f"{COLOURS[place % 4]} ring"})
    for place, row in enumerate(rows):
        row["split"] = "test" if place % 5 == 4 else "train"
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
