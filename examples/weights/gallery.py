"""Draw the README's sheets from weights/ into a folder: gallery.png, changes.png, students.png.

python examples/weights/gallery.py docs data/emoji

gallery: nine prompts, three seeds each. changes: two real pictures of the emoji set (examples/emoji) changed: a walk
between their codes, one through the noise that draws them, a variation by a prompt, and a part redrawn. students: the
nine prompts by teacher and student, from the same noise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from genctl.families.base import Family, Request, load
from genctl.families.walk import between_noises, between_pictures
from genctl.media.pictures import read_picture, to_float, to_tensor
from genctl.media.write import grid, write_picture

PROMPTS = (
    "cat",
    "dog",
    "rocket",
    "red apple",
    "smiling face, flat style",
    "tulip",
    "house, 3d style",
    "guitar",
    "pizza",
)
SEEDS = 3
STUDENTS = (("ldm", 20), ("ldm-fast", 4), ("ldm-fast", 2), ("ldm-fast", 1), ("ldm", 4), ("ldm", 2), ("ldm", 1))  # rows
CAT, DOG, COLUMNS = "3d/1f431.webp", "3d/1f436.webp", 7


def gallery(model: Family) -> Tensor:
    prompts = [prompt for prompt in PROMPTS for _ in range(SEEDS)]
    pictures = drawn(model, seeds=list(range(1, SEEDS + 1)) * len(PROMPTS), prompts=prompts)
    return pictures.view(len(PROMPTS), SEEDS, *pictures.shape[1:]).transpose(0, 1).flatten(0, 1)


def changes(model: Family, data: Path) -> Tensor:
    """Four rows of seven: walk between codes, walk through noise, variation by strength, the upper half redrawn."""
    cat, dog = (to_float(to_tensor(read_picture((data / name).read_bytes(), name))) for name in (CAT, DOG))
    ends = torch.stack([cat, dog])
    strengths = [index / COLUMNS for index in range(1, COLUMNS)]
    varied = [drawn(model, seeds=[0], prompts=["dog face"], image=cat, strength=share) for share in strengths]
    mask = torch.zeros(1, model.pixels, model.pixels)
    mask[:, : model.pixels // 2] = 1
    redrawn = drawn(
        model, seeds=list(range(COLUMNS - 1)), prompts=["rabbit face"] * (COLUMNS - 1), image=cat, mask=mask
    )
    rows = [between_pictures(model, ends, COLUMNS), between_noises(model, ends, COLUMNS), cat[None], *varied]
    return torch.cat([*rows, cat[None], redrawn])


def students() -> Tensor:
    models = {name: load(name) for name, _ in STUDENTS}
    asked = {"seeds": [1] * len(PROMPTS), "prompts": [*PROMPTS]}
    return torch.cat([drawn(models[name], steps=steps, **asked) for name, steps in STUDENTS])


def drawn(model: Family, **request: object) -> Tensor:
    parts = model.sample(Request(guidance_scale=4.0, **request))  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in parts if part.final])


def main() -> None:
    folder, data = (Path(argument) for argument in sys.argv[1:3])
    model = load("ldm")
    write_picture(folder / "gallery.png", grid(gallery(model), columns=len(PROMPTS)))
    write_picture(folder / "changes.png", grid(changes(model, data), columns=COLUMNS))
    write_picture(folder / "students.png", grid(students(), columns=len(PROMPTS)))


if __name__ == "__main__":
    main()
