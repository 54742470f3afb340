"""Models of all families side by side: retrieval, distances and seconds a picture; and one prompt by each, as a sheet.

    python examples/bench/families.py data/emoji gan rf:4 ldm-fast:1 ldm:4 ldm:20 --limit 120
    python examples/bench/families.py data/emoji gan rf:20 ldm-fast:1 ldm:20 --limit 0 --sheet docs/families.png

MODEL or MODEL:STEPS, otherwise by its own defaults. Retrieval: of `--limit` held-out (concept, style) pairs, does the
drawn picture's nearest neighbour among real ones, or one of five, show what was asked for. Distances to all training
pictures of as many drawn like these (as `genctl eval`). Seconds: of one picture by `sample`, codec included, the median
of five, models in turns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from genctl.config import build
from genctl.data.pictures import DataConfig, load
from genctl.errors import UsageError
from genctl.families.base import Family, Request
from genctl.families.saved import load as load_model
from genctl.media.pictures import to_image
from genctl.media.sheet import Layout, compose
from genctl.media.write import write_picture
from genctl.metrics.evaluate import retrieval
from genctl.metrics.samples import distances, draw_like
from genctl.options import Options

ROUNDS, SIDE = 5, 128


def options_of(model: Family, steps: str) -> Options:
    kind = type(model).Options
    return kind(steps=int(steps)) if steps else kind()  # type: ignore[call-arg]


def one(model: Family, options: Options, prompt: str, seed: int = 1) -> torch.Tensor:
    request = Request([seed], [prompt if "text" in model.can else ""], options)
    return [part for part in model.sample(request) if part.final][-1].pictures[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", help="MODEL or MODEL:STEPS")
    parser.add_argument("--limit", type=int, default=120, help="pairs; 0: no figures but seconds")
    parser.add_argument("--prompt", default="cat face")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = [tuple(name.partition(":")[::2]) for name in given.models]
    models = {name: load_model(name) for name, _ in names}
    for model in models.values():
        model.prepare()
    rows = {
        f"{name}:{steps}" if steps else name: (models[name], options_of(models[name], steps)) for name, steps in names
    }
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for round_ in range(ROUNDS + 1):
        for name, (model, options) in rows.items():
            begun = time.perf_counter()
            one(model, options, given.prompt)
            taken[name] += [time.perf_counter() - begun] if round_ else []
    print(
        "| model | retrieval top-1 / top-5, % | Frechet | precision / recall | seconds |\n" + "| --- " * 5 + "|",
        flush=True,
    )
    for name, (model, options) in rows.items():
        said = figures(model, options, given.data, given.limit) if given.limit else "| | |"
        print(f"| {name} {said} {median(taken[name]):.3f} |", flush=True)
    if given.sheet:
        pictures = [
            to_image(one(*row, given.prompt)).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for row in rows.values()
        ]
        labels = tuple(f"{name}, {median(taken[name]):.2f} s" for name in rows)
        write_picture(given.sheet, compose(pictures, Layout(len(pictures), 1, column_labels=labels)), {}, force=True)


def figures(model: Family, options: Options, data: Path, most: int) -> str:
    """A row's middle cells."""
    pictures = load(data, model.pixels, build(DataConfig, model.info.get("data", {}).get("settings", {})))
    if not pictures.entries:
        raise UsageError(f"{data}: no pictures")
    found = retrieval(model, pictures, most, options)["held_out"]["drawn"]
    made = draw_like(model, pictures.split(False), most, options, lambda done, total: None)
    far = distances(model, made, pictures)
    return (
        f"| {100 * found['top1']:.1f} / {100 * found['top5']:.1f} | {far['frechet']:.1f} | "
        f"{far['precision']:.2f} / {far['recall']:.2f} |"
    )


if __name__ == "__main__":
    main()
