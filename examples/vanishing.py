"""Why a generator is not trained by the loss as it was first written: its gradient against how sure the critic is.

    python examples/vanishing.py data/emoji -o docs/vanishing.png      # two minutes; pip install 'genctl[plot]'

A DC-GAN generator stays as it begins while a critic learns to tell its pictures from real ones. Before each of the
critic's updates: D, the mean sigmoid of its opinions of drawn pictures, and the length of each objective's gradient
with respect to the generator's weights. Minimax, log(1 - D), has none once D is near 0, which is where training begins;
non-saturating, -log D, has the most there (arXiv:1406.2661, section 3).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from genctl.data.pictures import DataConfig, load
from genctl.families.adversarial.losses import OBJECTIVES
from genctl.nets.dcgan import DCCritic, DCGenerator
from genctl.sizes import Size

SIDE, LATENT, BATCH, UPDATES = 32, 64, 32, 80
SHOWN = ("minimax", "non-saturating", "hinge", "relativistic")


def gradient(objective: str, critic: DCCritic, draw: DCGenerator, z: Tensor, real: Tensor) -> float:
    """The length of the generator's gradient."""
    draw.zero_grad()
    OBJECTIVES[objective].generator(critic(real).detach(), critic(draw(z))).mean().backward()
    return float(sum(p.grad.square().sum() for p in draw.parameters() if p.grad is not None) ** 0.5)


def measure(folder: Path) -> list[dict[str, float]]:
    torch.manual_seed(0)
    pictures = load(folder, Size(SIDE, SIDE), DataConfig(), lambda line: None).split(False)
    draw, critic = DCGenerator(SIDE, LATENT, 0, 32), DCCritic(SIDE, 0, 32)
    optimiser = torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.999))
    rows = []
    for step in range(UPDATES):
        places = torch.randint(len(pictures), (BATCH,), generator=torch.Generator().manual_seed(step))
        real, z = pictures.pixels[places].float() / 127.5 - 1, torch.randn(BATCH, LATENT)
        row = {name: gradient(name, critic, draw, z, real) for name in SHOWN}
        rows.append(row | {"D": float(torch.sigmoid(critic(draw(z)).detach()).mean())})
        loss = OBJECTIVES["minimax"].critic(critic(real), critic(draw(z).detach())).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 10 == 0:
            print(f"update {step}: " + ", ".join(f"{name} {value:.2g}" for name, value in rows[-1].items()), flush=True)
    return rows


def plot(rows: list[dict[str, float]], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name in SHOWN:
        axes.plot([row["D"] for row in rows], [row[name] for row in rows], ".-", label=name, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="D, the critic's belief that drawn pictures are real",
             ylabel="length of the generator's gradient")  # fmt: skip
    axes.invert_xaxis()
    axes.set_title("The surer the critic, the further to the right")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of pictures")
    parser.add_argument("-o", "--out", type=Path, default=Path("vanishing.png"))
    given = parser.parse_args()
    plot(measure(given.data), given.out)


if __name__ == "__main__":
    main()
