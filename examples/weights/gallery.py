"""Draw the README's gallery from weights/: nine prompts, three seeds each.

python examples/weights/gallery.py docs/gallery.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from genctl.families.base import Request, load
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


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/gallery.png")
    model = load("ldm")
    prompts = [prompt for prompt in PROMPTS for _ in range(SEEDS)]
    request = Request(seeds=list(range(1, SEEDS + 1)) * len(PROMPTS), prompts=list(prompts), guidance_scale=4.0)
    pictures = torch.cat([part.pictures for part in model.sample(request) if part.final])
    by_seed = pictures.view(len(PROMPTS), SEEDS, *pictures.shape[1:]).transpose(0, 1).flatten(0, 1)
    write_picture(out, grid(by_seed, columns=len(PROMPTS)))
    print(out)


if __name__ == "__main__":
    main()
