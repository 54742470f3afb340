"""Draw the README's sheets from weights/ into a folder: gallery.png, changes.png, students.png, clips.webp, clips.png.

python examples/weights/gallery.py docs data/emoji

gallery: nine prompts, three seeds each. changes: two real pictures of the emoji set (examples/emoji) changed: a walk
between their codes, one through the noise that draws them, a variation by a prompt, and a part redrawn. students: the
nine prompts by teacher and student, from the same noise. clips: nine prompts as loops side by side, and eight frames of
each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import genctl
from genctl.media.sheet import Layout, compose
from genctl.media.write import write_picture

PROMPTS = (
    "cat face, 3d style",
    "dog face",
    "rocket, noto style",
    "red apple",
    "smiling face, flat style",
    "tulip",
    "owl",
    "butterfly",
    "two red apples",
)
SEEDS = 3
STUDENTS = (("ldm", 20), ("ldm-fast", 4), ("ldm-fast", 2), ("ldm-fast", 1), ("ldm", 4), ("ldm", 2), ("ldm", 1))  # rows
CLIPS = tuple(
    f"{thing}, 3d style"
    for thing in ("cat", "dog", "smiling face", "red heart", "monkey", "rocket", "bird", "woman", "waving hand")
)
CAT, DOG, COLUMNS = "3d/1f431.webp", "3d/1f436.webp", 7


def gallery(model: genctl.Model) -> list[Image.Image]:
    """A row a seed."""
    return [picture for seed in range(1, SEEDS + 1) for picture in model.draw(PROMPTS, seed=seed, cfg=4)]


def changes(model: genctl.Model, data: Path) -> list[Image.Image]:
    """Four rows of seven: walk between codes, walk through noise, variation by strength, the upper half redrawn."""
    cat, dog = (Image.open(data / name).convert("RGB") for name in (CAT, DOG))
    strengths = [index / COLUMNS for index in range(1, COLUMNS)]
    varied = [model.draw("dog face", seed=0, cfg=4, image=cat, strength=share)[0] for share in strengths]
    mask = Image.new("L", cat.size, 0)
    mask.paste(255, (0, 0, cat.width, cat.height // 2))
    redrawn = model.draw("rabbit face", n=COLUMNS - 1, seed=0, cfg=4, image=cat, mask=mask)
    walks = [model.interpolate(cat, dog, frames=COLUMNS, space=space) for space in ("code", "noise")]
    return [*walks[0], *walks[1], cat, *varied, cat, *redrawn]


def students() -> list[Image.Image]:
    models = {name: genctl.load(name) for name, _ in STUDENTS}
    return [picture for name, steps in STUDENTS for picture in models[name].draw(PROMPTS, seed=1, cfg=4, steps=steps)]


def clips(folder: Path) -> None:
    """Loops, playing side by side, and as strips."""
    made = genctl.load("video").draw(CLIPS, seed=1, loop=True)
    frames = [compose([clip[k] for clip in made], Layout(len(made), 1)) for k in range(len(made[0]))]
    frames[0].save(folder / "clips.webp", save_all=True, append_images=frames[1:], duration=125, loop=0, quality=90)
    shown = [clip[k] for clip in made for k in range(0, len(clip), 3)]
    write_picture(folder / "clips.png", compose(shown, Layout(len(shown) // len(made), len(made), row_labels=CLIPS)))


def sheet(pictures: list[Image.Image], columns: int, path: Path) -> None:
    write_picture(path, compose(pictures, Layout(columns, len(pictures) // columns)))


def main() -> None:
    folder, data = (Path(argument) for argument in sys.argv[1:3])
    model = genctl.load("ldm")
    sheet(gallery(model), len(PROMPTS), folder / "gallery.png")
    sheet(changes(model, data), COLUMNS, folder / "changes.png")
    sheet(students(), len(PROMPTS), folder / "students.png")
    clips(folder)


if __name__ == "__main__":
    main()
