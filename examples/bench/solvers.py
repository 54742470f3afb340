"""Solver x steps x distance to the real pictures, as a Markdown table.

python examples/bench/solvers.py ldm data/emoji --count 400

Each cell draws the same prompts and seeds and compares with all training pictures: Frechet distance, and kernel
distance x 1000 (unbiased for few samples), of the shipped extractor; not comparable with Inception's. A step is one or,
by order, several evaluations of the network: in brackets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from genctl.data.pictures import DataConfig, load
from genctl.diffusion.path import PATHS
from genctl.diffusion.solve import SOLVERS
from genctl.diffusion.time import grid
from genctl.families.flow.options import FlowOptions
from genctl.families.saved import load as load_model
from genctl.metrics.samples import distances, draw_like


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument(
        "--solvers", nargs="+", default=["euler", "heun", "dpmpp_2m", "dpmpp_3m", "ancestral", "dpmpp_2m_sde"]
    )
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    pictures = load(arguments.data, model.pixels, DataConfig())
    training = pictures.split(False)
    print(f"| solver | {' | '.join(f'{steps} steps' for steps in arguments.steps)} |")
    print(f"| --- |{' --- |' * len(arguments.steps)}", flush=True)
    for solver in arguments.solvers:
        cells = []
        for steps in arguments.steps:
            options = FlowOptions(solver=solver, steps=steps)
            made = draw_like(model, training, arguments.count, options, lambda done, total: None)
            found = distances(model, made, pictures)
            evaluations = len(SOLVERS[solver].evaluations(grid(steps), PATHS["linear"]))
            cells.append(f"{found['frechet']:.1f} / {found['kernel_x1000']:.1f} ({evaluations})")
        print(f"| {solver} | {' | '.join(cells)} |", flush=True)
    floor = found["floor"]
    print(f"\nHeld-out pictures against training ones: {floor['frechet']:.1f} / {floor['kernel_x1000']:.1f}")


if __name__ == "__main__":
    main()
