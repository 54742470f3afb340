"""How a trained flow differs from the optimal prediction of its training pictures, by noise level.

python examples/bench/oracle.py ldm data/emoji docs/oracle.png

For training and for held-out pictures x, noised to x_t: the root mean square distance of the model's data guess to the
optimal one (diffusion/oracle.py, over all training pictures), and of both to x. Where the two guesses part, the model
does not do what the loss asks of it on its training set: that is where it generalises. No condition; of a latent model
all of it is about codes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from genctl.data.pictures import DataConfig, load
from genctl.diffusion.oracle import of_data
from genctl.families.flow.flow import Flow
from genctl.families.saved import load as load_model
from genctl.files import write_whole
from genctl.metrics.bits import predictor
from genctl.metrics.plots import panels_of, png_of

COUNT, TIMES = 96, 19


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def main() -> None:
    name, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model = load_model(name)
    assert isinstance(model, Flow)
    pictures = load(folder, model.pixels, DataConfig())
    device, draw = torch.device("cpu"), torch.Generator().manual_seed(0)
    data = {part: model.source(pictures.split(part == "held out"), device) for part in ("training", "held out")}
    every = data["training"].batch(torch.arange(len(data["training"].weights)), _Nothing())["x"]
    rows = []
    for t in torch.linspace(0.05, 0.95, TIMES):
        row = {"t": round(float(t), 3)}
        for part, source in data.items():
            chosen = torch.randperm(len(source.weights), generator=draw)[:COUNT]
            x = source.batch(chosen, _Nothing())["x"]
            x_t = model.path.mix(x, torch.randn(x.shape, generator=draw), t.expand(len(x)))
            best = of_data(model.path, x_t, t, every)[0]
            with torch.no_grad():
                guess = predictor(model, "", len(x))(x_t, t)[0]
            row |= {f"{part}: model to optimum": rms(guess, best), f"{part}: model to picture": rms(guess, x),
                    f"{part}: optimum to picture": rms(best, x)}  # fmt: skip
        rows.append(row)
        print(json.dumps({key: round(value, 4) for key, value in row.items()}), flush=True)
    figure, ((left, right),) = panels_of(1, 2)
    for panel, part in ((left, "training"), (right, "held out")):
        for key in rows[0]:
            if key.startswith(part):
                panel.plot([row["t"] for row in rows], [row[key] for row in rows], label=key.split(": ")[1])
        panel.set(title=f"{part} pictures", xlabel="t (1 = noise)", ylabel="RMS distance", ylim=(0, None))
        panel.legend()
    write_whole(out, png_of(figure, f"{name}: its guess of the data, and the optimal one"))


class _Nothing:
    """A draw that is not used: batches of codes and pictures without augmentation take captions only."""

    def uniform(self, *shape: int) -> Tensor:
        return torch.zeros(1, *shape)


if __name__ == "__main__":
    main()
