"""Sheets for a reader who is not told the prompts: what is seen? Pictures of several models in random order, numbered.

    python examples/bench/naming.py sheets/ --models ldm ldm-fast    # 20 things, five seeds of each
    python examples/bench/naming.py sheets/ --models ldm --composed      # 30 of colour, number, place, style

Writes sheets/00.png ..., of 20 pictures at twice their size, and sheets/key.json (number -> model, prompt, seed) to
count by afterwards. With --composed the prompt stands above each picture: is that drawn?
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

import genctl

THINGS = ("cat", "dog", "rocket", "red apple", "car", "house", "tree", "fish", "bird", "guitar", "pizza", "airplane",
          "tulip", "heart", "hat", "clock", "umbrella", "sailboat", "smiling face", "cow")  # fmt: skip
COMPOSED = (
    "green rocket", "blue cat", "yellow car", "purple apple", "red guitar", "pink elephant", "orange umbrella",
    "green heart", "a cat and a dog", "a car and a tree", "an apple and a banana", "a fish and a bird",
    "a book and a key", "a cup and a clock", "two red apples", "three fish", "four stars", "two cars", "three cats",
    "four tulips", "a cat to the left of a dog", "a bird above a house", "a ball below a tree",
    "a car to the right of a bus", "a heart above a cup", "a frog to the left of a mushroom", "cat, flat style",
    "rocket, noto style", "smiling face, 3d style", "fox, twemoji style",
)  # fmt: skip
COLUMNS, ROWS, SIDE, LABEL = 5, 4, 256, 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--models", nargs="+", default=["ldm"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--composed", action="store_true")
    given = parser.parse_args()
    given.output.mkdir(parents=True)
    prompts = COMPOSED if given.composed else THINGS
    seeds = range(1) if given.composed else range(given.seeds)
    made = [
        (name, prompt, seed, model.draw(prompt, seed=seed)[0])
        for name in given.models
        for model in [genctl.load(name)]
        for prompt in prompts
        for seed in seeds
    ]
    random.Random(0).shuffle(made)
    each = COLUMNS * ROWS
    for start in range(0, len(made), each):
        sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * (SIDE + LABEL)), "white")
        pen = ImageDraw.Draw(sheet)
        for index, (_, prompt, _, picture) in enumerate(made[start : start + each]):
            x, y = index % COLUMNS * SIDE, index // COLUMNS * (SIDE + LABEL)
            pen.text(
                (x + 4, y + 4), f"{start + index}  {prompt}" if given.composed else str(start + index), fill="black"
            )
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y + LABEL))
        sheet.save(given.output / f"{start // each:02d}.png")
    key = {index: {"model": name, "prompt": prompt, "seed": seed} for index, (name, prompt, seed, _) in enumerate(made)}
    (given.output / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
