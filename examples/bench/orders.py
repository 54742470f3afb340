"""Models over tokens side by side, whatever their order: bits, a distance, passes and seconds a picture.

    python examples/bench/orders.py data/fashion runs/masked runs/raster runs/scale

Bits: exact, of the tokens of 64 held-out pictures; those of two codecs are of different pictures (`psnr`). Frechet: of
256 drawn pictures to 2,048 training ones, as a GAN's run is scored. Seconds: of one picture by `sample`, codec
included, the median of five, models in turns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch

from genctl.data.pictures import DataConfig, load
from genctl.families.ar import AR
from genctl.families.base import Request
from genctl.families.saved import load as load_model
from genctl.metrics.bits import bits
from genctl.training.score import Score

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--limit", type=int, default=64, help="held-out pictures whose bits are counted")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    models = {name: load_model(name, trusted=True) for name in given.models}
    first = next(iter(models.values()))
    pictures = load(given.data, first.pixels, DataConfig())
    score, asked = Score(pictures), pictures.entries[0]
    taken: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.prepare()
    for round_ in range(ROUNDS + 1):
        for name, model in models.items():
            condition = asked.concept if "class" in model.can else (asked.captions or ("",))[0]
            begun = time.perf_counter()
            list(model.sample(Request([round_], [condition if {"class", "text"} & model.can else ""])))
            taken[name] += [time.perf_counter() - begun] if round_ else []
    print(
        "| model | order | tokens | bits a token | bits a pixel | PSNR, dB | Frechet | diversity | passes | seconds |"
    )
    print("| --- " * 10 + "|", flush=True)
    for name, model in models.items():
        assert isinstance(model, AR)
        found, quality = bits(model, pictures, given.limit), score(model)
        passes = len(model.order.passes(model.config.sampling.passes, torch.ones(model.order.count, dtype=torch.bool)))
        figures = [found["tokens"], found["bits_a_token"], found["bits_a_pixel"], found["psnr"], *quality.values()]
        row = [name, model.config.order, *figures, passes, f"{median(taken[name]):.3f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
