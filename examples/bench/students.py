"""A student beside its teacher: concept retrieval, distances and time by steps, and retrieval by guidance scale.

python examples/bench/students.py ldm-fast ldm data/emoji --most 120 [--curve]

As many held-out as trained (concept, style) pairs are drawn, `--most` of each; retrieval is over both, distances are to
all training pictures. Seconds are of one picture without the codec's part, the median of nine after a warm-up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from genctl.config import build
from genctl.data.pictures import DataConfig, Pictures, load
from genctl.families.base import Request
from genctl.families.base import load as load_model
from genctl.families.flow import Flow
from genctl.metrics.evaluate import pairs
from genctl.metrics.features import extractor, features_of, real_features
from genctl.metrics.retrieval import build_gallery, ranks, summary
from genctl.metrics.samples import distances, draw, prompt_of


class Judge:
    """Draws the same pairs with any model and judges them."""

    def __init__(self, pictures: Pictures, most: int) -> None:
        self.pictures = pictures
        entries = [entry for entry in pictures.entries if entry.concept and entry.style]
        row_of = {id(entry): row for row, entry in enumerate(pictures.entries)}
        self.net = extractor(torch.device("cpu"))
        real = real_features(self.net, pictures)[torch.tensor([row_of[id(entry)] for entry in entries])]
        self.gallery = build_gallery(real, [e.concept for e in entries], [e.style for e in entries])
        self.chosen = [entry for group in pairs(entries, most).values() for entry in group]

    def __call__(self, model: Flow, far: bool, **request: Any) -> dict[str, float]:
        made = draw(model, [prompt_of(model, entry) for entry in self.chosen], request)
        features = features_of(self.net, made)
        concepts, styles = [e.concept for e in self.chosen], [e.style for e in self.chosen]
        found = summary(ranks(self.gallery, features, concepts, styles))
        return found | (distances(model, made, self.pictures) if far else {})


def seconds(model: Flow, **request: Any) -> float:
    times = []
    for seed in range(10):
        begin = time.perf_counter()
        model.drawn(Request(seeds=[seed], prompts=["cat"], **request))
        times.append(time.perf_counter() - begin)
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("student")
    parser.add_argument("teacher")
    parser.add_argument("data", type=Path)
    parser.add_argument("--most", type=int, default=120)
    parser.add_argument("--curve", action="store_true", help="also retrieval by guidance scale")
    arguments = parser.parse_args()
    student, teacher = load_model(arguments.student), load_model(arguments.teacher)
    assert isinstance(student, Flow)
    assert isinstance(teacher, Flow)
    for model in (student, teacher):
        model.prepare()
    settings = build(DataConfig, teacher.info.get("data", {}).get("settings", {}))
    judge = Judge(load(arguments.data, teacher.pixels, settings), arguments.most)
    print("| model | steps | retrieval top-1 / top-5 | Frechet / kernel x 1000 | seconds |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name, model, steps in [*(("student", student, n) for n in (1, 2, 4)),
                               *(("teacher", teacher, n) for n in (1, 2, 4, 8, 32))]:  # fmt: skip
        found = judge(model, True, steps=steps)
        near = f"{100 * found['top1']:.1f} / {100 * found['top5']:.1f}"
        far = f"{found['frechet']:.1f} / {found['kernel_x1000']:.1f}"
        print(f"| {name} | {steps} | {near} | {far} | {seconds(model, steps=steps):.3f} |", flush=True)
    if arguments.curve:
        print("\n| guidance | student, 1 step | teacher, 16 steps |\n| --- | --- | --- |", flush=True)
        for scale in (1.0, 2.0, 4.0, 6.0, 8.0):
            cells = []
            for model, steps in ((student, 1), (teacher, 16)):
                found = judge(model, False, steps=steps, guidance_scale=scale)
                cells.append(f"{100 * found['top1']:.1f} / {100 * found['top5']:.1f}")
            print(f"| {scale:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
