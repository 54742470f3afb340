"""Which modes each adversarial objective finds: 25 Gaussians on a grid in the plane, with and without penalties.

    python examples/bench/gaussians.py                      # a table; half an hour of one thread
    python examples/bench/gaussians.py --updates 2000 --objectives relativistic hinge

The grid has places 2 apart and deviations of .05. Generator and critic are perceptrons of three hidden layers of 64;
Adam 5e-3 (beta1 0, beta2 .99), falling over the second half, batch 128. A sample is good within three deviations of a
mode, and a mode is found with 20 good samples of 10,000 (a fair share is 400). Samples are drawn from a moving average
of the weights. In the row of wasserstein the column R1 has its own penalty, of a slope of 1 with weight 10.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch import Tensor, nn

from genctl.families.adversarial.losses import OBJECTIVES, one_centred, zero_centred

SPACING, DEVIATION, SAMPLES, FOUND = 2.0, 0.05, 10_000, 20
RATE = 5e-3  # of Adam, falling to 0 over the second half
MODES = torch.tensor(list(itertools.product([-2.0, -1, 0, 1, 2], repeat=2))) * SPACING  # [25, 2]
PENALTIES = {"none": (False, False), "R1": (True, False), "R1 + R2": (True, True)}


def perceptron(before: int, after: int, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(before, width), nn.LeakyReLU(0.2)]
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, after))


def real(count: int, generator: torch.Generator) -> Tensor:
    places = torch.randint(25, (count,), generator=generator)
    return MODES[places] + DEVIATION * torch.randn(count, 2, generator=generator)


def train(objective: str, on_real: bool, on_fake: bool, weight: float, updates: int, batch: int, seed: int) -> Tensor:
    """Samples [SAMPLES, 2] after so many updates of both networks."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    loss, latent = OBJECTIVES[objective], 8
    draw, critic = perceptron(latent, 2), perceptron(2, 1)
    average = [parameter.detach().clone() for parameter in draw.parameters()]
    optimisers = [torch.optim.Adam(net.parameters(), RATE, betas=(0.0, 0.99), fused=True) for net in (draw, critic)]
    for step in range(updates):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - step / updates))
        x = real(batch, generator).requires_grad_()
        fake = draw(torch.randn(batch, latent, generator=generator)).detach().requires_grad_()
        r, f = critic(x)[:, 0], critic(fake)[:, 0]
        total = loss.critic(r, f).mean()
        if (on_real or on_fake) and loss.centre:
            between = one_centred(lambda p: critic(p)[:, 0], x, fake, torch.rand(batch, generator=generator))
            total = total + 10 * between.mean()
        else:
            total = total + weight * sum(
                zero_centred(o, p).mean() for on, o, p in ((on_real, r, x), (on_fake, f, fake)) if on
            )
        optimisers[1].zero_grad()
        total.backward()
        optimisers[1].step()
        fake = draw(torch.randn(batch, latent, generator=generator))
        optimisers[0].zero_grad()
        loss.generator(critic(real(batch, generator))[:, 0], critic(fake)[:, 0]).mean().backward()
        optimisers[0].step()
        keep = min(0.999, (step + 1) / (step + 10))
        for mean, parameter in zip(average, draw.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - keep)
    for mean, parameter in zip(average, draw.parameters(), strict=True):
        parameter.data.copy_(mean)
    with torch.no_grad():
        return draw(torch.randn(SAMPLES, latent, generator=generator))


def judge(samples: Tensor) -> tuple[int, float]:
    """Modes found of 25, and the share of good samples."""
    distance, nearest = torch.cdist(samples, MODES).min(1)
    good = distance < 3 * DEVIATION
    counts = torch.bincount(nearest[good], minlength=25)
    return int((counts >= FOUND).sum()), float(good.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="*", default=list(OBJECTIVES))
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--weight", type=float, default=1.0, help="of R1 and R2")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| objective | " + " | ".join(PENALTIES) + " |\n| --- |" + " --- |" * len(PENALTIES), flush=True)
    for objective in given.objectives:
        cells = []
        for name, (on_real, on_fake) in PENALTIES.items():
            if OBJECTIVES[objective].centre and name == "R1 + R2":
                cells.append("")
                continue
            found = [
                judge(train(objective, on_real, on_fake, given.weight, given.updates, given.batch, seed))
                for seed in range(given.seeds)
            ]
            modes, good = "/".join(str(one) for one, _ in found), "/".join(f"{100 * share:.0f}" for _, share in found)
            cells.append(f"{modes}, {good} %")
        print(f"| {objective} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
