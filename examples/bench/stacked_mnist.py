"""How many of 1,000 modes a GAN finds: three MNIST digits as the colours of a picture (arXiv:1611.02163), for the
relativistic and the non-saturating objective, each with R1 and R2 and with R1 alone.

    python examples/bench/stacked_mnist.py data/mnist --minutes 10 [--side 16]

`data/mnist` holds MNIST in its own format (train-images-idx3-ubyte.gz and its labels). A small classifier is trained
first; its accuracy on held-out digits is printed. Of 26,000 drawn pictures each channel is classified: the modes that
occur, of 1,000, and the reverse KL divergence of their shares to the even ones, in nats (of as many stacks of real
digits, so classified: the floor). Pictures are drawn at 32 px (or --side) by DC-GAN's generator; the critic is the
residual one.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.data.pictures import DataConfig, load
from genctl.families.adversarial.losses import OBJECTIVES, zero_centred
from genctl.nets.critics import ResidualCritic
from genctl.nets.dcgan import DCGenerator
from genctl.sizes import Size

LATENT, BATCH, DRAWN = 64, 64, 26_000
CASES = [(objective, both) for objective in ("relativistic", "non-saturating") for both in (True, False)]


def digits(folder: Path, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grey pictures [N, S, S] uint8, labels [N], and which are held out."""
    pictures = load(folder, Size(side, side), DataConfig(), lambda line: None)
    labels = torch.tensor([int(entry.concept) for entry in pictures.entries])
    return pictures.pixels[:, 0], labels, torch.tensor([entry.held_out for entry in pictures.entries])


def classifier(pixels: Tensor, labels: Tensor, held: Tensor, updates: int = 1500) -> nn.Module:
    """A small network that names a digit [B, 1, S, S] in [-1, 1]."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1)]
    net = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(64 * (pixels.shape[-1] // 8) ** 2, 10))
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    rows = (~held).nonzero()[:, 0]
    for _ in range(updates):
        some = rows[torch.randint(len(rows), (128,))]
        loss = F.cross_entropy(net(as_floats(pixels[some])[:, None]), labels[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        rest = held.nonzero()[:, 0][:5000]
        right = (net(as_floats(pixels[rest])[:, None]).argmax(1) == labels[rest]).float().mean()
    print(f"classifier: {100 * float(right):.1f} % of held-out digits", flush=True)
    return net.eval()


def as_floats(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def stacks(pixels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Pictures [count, 3, S, S] of three digits each."""
    return as_floats(pixels[torch.randint(len(pixels), (count, 3), generator=generator)])


@torch.no_grad()
def judge(net: nn.Module, pictures: Tensor) -> tuple[int, float]:
    """Modes of 1,000 that occur, and the reverse KL divergence in nats."""
    names = torch.cat([net(part.flatten(0, 1)[:, None]).argmax(1).view(-1, 3) for part in pictures.split(500)])
    counts = torch.bincount(names @ torch.tensor([100, 10, 1]), minlength=1000).double()
    shares = counts / counts.sum()
    return int((counts > 0).sum()), float((shares * (shares * 1000).clamp(min=1e-12).log()).sum())


def train(pixels: Tensor, objective: str, both: bool, minutes: float, weight: float) -> tuple[Tensor | None, int]:
    """Drawn pictures [DRAWN, 3, S, S] after so many minutes, or None where the run diverged; and its updates."""
    torch.manual_seed(0)
    generator, loss = torch.Generator().manual_seed(0), OBJECTIVES[objective]
    side = pixels.shape[-1]
    draw, critic = DCGenerator(side, LATENT, 0, 16), ResidualCritic(side, 0, 16, 64)
    optimisers = [torch.optim.Adam(net.parameters(), 5e-4, betas=(0.0, 0.99), fused=True) for net in (draw, critic)]
    begun, updates = time.monotonic(), 0
    while time.monotonic() - begun < 60 * minutes:
        real = stacks(pixels, BATCH, generator).requires_grad_()
        fake = draw(torch.randn(BATCH, LATENT, generator=generator)).detach().requires_grad_()
        r, f = critic(real), critic(fake)
        total = loss.critic(r, f).mean() + weight * zero_centred(r, real).mean()
        total = total + (weight * zero_centred(f, fake).mean() if both else 0)
        optimisers[1].zero_grad()
        total.backward()
        optimisers[1].step()
        made = critic(draw(torch.randn(BATCH, LATENT, generator=generator)))
        optimisers[0].zero_grad()
        loss.generator(critic(stacks(pixels, BATCH, generator)).detach(), made).mean().backward()
        optimisers[0].step()
        updates += 1
        if not math.isfinite(float(total.detach())):
            return None, updates
    with torch.no_grad():
        parts = [draw(torch.randn(500, LATENT, generator=generator)) for _ in range(DRAWN // 500)]
    return torch.cat(parts), updates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--side", type=int, default=32, help="pixels: a power of two")
    parser.add_argument("--weight", type=float, default=1.0, help="of R1 and R2")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pixels, labels, held = digits(given.data, given.side)
    net, training = classifier(pixels, labels, held), pixels[~held]
    modes, divergence = judge(net, stacks(training, DRAWN, torch.Generator().manual_seed(1)))
    print(f"real digits: {modes} modes, KL {divergence:.3f}\n", flush=True)
    print("| objective | penalties | updates | modes of 1,000 | reverse KL |\n" + "| --- " * 5 + "|", flush=True)
    for objective, both in CASES:
        made, updates = train(training, objective, both, given.minutes, given.weight)
        found = "diverged | " if made is None else "{} | {:.3f}".format(*judge(net, made))
        print(f"| {objective} | {'R1 + R2' if both else 'R1'} | {updates} | {found} |", flush=True)


if __name__ == "__main__":
    main()
