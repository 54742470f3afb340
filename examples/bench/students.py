"""A student beside its teacher: concept retrieval, distances and time by steps, and retrieval by guidance scale.

python examples/bench/students.py data/emoji --teacher ldm --students ldm-fast --limit 120 [--curve]

As many held-out as trained (concept, style) pairs are drawn, `--limit` of each; retrieval is over both, distances are
to all training pictures. Seconds are of one picture's denoising, without the text encoder's part and the codec's: the
median of ten rounds in turns, after two to warm up.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from genctl.config import build
from genctl.data.pictures import DataConfig, Pictures, load
from genctl.families.base import Request
from genctl.families.conditions.captions import prompt_of
from genctl.families.flow.flow import Flow
from genctl.families.flow.options import FlowOptions
from genctl.families.saved import load as load_model
from genctl.metrics.evaluate import pairs
from genctl.metrics.features import extractor, features_of, real_features
from genctl.metrics.retrieval import build_gallery, ranks, summary
from genctl.metrics.samples import distances, draw


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

    def __call__(self, model: Flow, far: bool, **options: Any) -> dict[str, float]:
        made = draw(model, [prompt_of(model, entry) for entry in self.chosen], FlowOptions(**options))
        features = features_of(self.net, made)
        concepts, styles = [e.concept for e in self.chosen], [e.style for e in self.chosen]
        found = summary(ranks(self.gallery, features, concepts, styles))
        return found | (distances(model, made, self.pictures) if far else {})


Row = tuple[str, int]  # model, steps


def seconds(models: dict[str, Flow], rows: list[Row], rounds: int = 12) -> dict[Row, float]:
    """Medians of a picture's denoising, all rows in turns so that a machine's moods meet all alike."""
    times: dict[Row, list[float]] = {row: [] for row in rows}
    with ExitStack() as kept:
        for model in models.values():
            known = {tuple(texts): model.conditions(texts) for texts in (["cat"], ["cat", ""])}
            kept.enter_context(mock.patch.object(model, "conditions", lambda texts, known=known: known[tuple(texts)]))
        for seed in range(rounds):
            for name, steps in rows:
                begin = time.perf_counter()
                models[name].drawn(Request([seed], ["cat"], FlowOptions(steps=steps)))
                times[name, steps].append(time.perf_counter() - begin)
    return {row: median(taken[2:]) for row, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--students", nargs="*", default=["ldm-fast"])
    parser.add_argument("--teacher", default="ldm")
    parser.add_argument("--teacher-steps", type=int, nargs="*", default=[1, 2, 4, 8, 32])
    parser.add_argument("--limit", type=int, default=120)
    parser.add_argument("--curve", action="store_true", help="also retrieval by guidance scale")
    arguments = parser.parse_args()
    loaded = {name: load_model(name) for name in [*arguments.students, arguments.teacher]}
    models = {name: model for name, model in loaded.items() if isinstance(model, Flow)}
    for model in models.values():
        model.prepare()
    teacher = models[arguments.teacher]
    settings = build(DataConfig, teacher.info.get("data", {}).get("settings", {}))
    judge = Judge(load(arguments.data, teacher.pixels, settings), arguments.limit)
    print("| model | steps | retrieval top-1 / top-5 | Frechet / kernel x 1000 | seconds |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    rows = [(name, steps) for name in arguments.students for steps in (1, 2, 4)]
    rows += [(arguments.teacher, steps) for steps in arguments.teacher_steps]
    taken = seconds(models, rows)
    for name, steps in rows:
        found = judge(models[name], True, steps=steps)
        near = f"{100 * found['top1']:.1f} / {100 * found['top5']:.1f}"
        far = f"{found['frechet']:.1f} / {found['kernel_x1000']:.1f}"
        print(f"| {name} | {steps} | {near} | {far} | {taken[name, steps]:.4f} |", flush=True)
    if arguments.curve:
        curves = [*((name, 1) for name in arguments.students), (arguments.teacher, 16)]
        print(f"\n| guidance | {' | '.join(f'{name}, {steps} steps' for name, steps in curves)} |")
        print(f"| --- |{' --- |' * len(curves)}", flush=True)
        for scale in (1.0, 2.0, 4.0, 6.0, 8.0):
            at_scale = [judge(models[name], False, steps=steps, cfg=scale) for name, steps in curves]
            cells = (f"{100 * one['top1']:.1f} / {100 * one['top5']:.1f}" for one in at_scale)
            print(f"| {scale:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
