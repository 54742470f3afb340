"""Students of an exact teacher in the plane, small enough to train by the thousand: python tests/plane.py

The teacher is the exact velocity of five Gaussians on a circle; a student is a multilayer perceptron from nothing (as
a correction to the exact velocity it learnt worse). As a program it prints all methods' energy distances as a table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import torch
from helpers import flow_request
from torch import Tensor, nn

from genctl.diffusion.oracle import Mixture
from genctl.families.distill.settings import DistillConfig
from genctl.families.distill.student import METHODS, student_of
from genctl.families.flow.flow import Flow
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.rng import Draw
from genctl.sizes import Size

IN_A_PLANE = [method for method in METHODS if method != "frechet"]  # which looks at pictures
ANGLES = torch.arange(5) * 2 * torch.pi / 5
MIXTURE = Mixture(torch.full((5,), 0.2), 1.5 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1), torch.full((5,), 0.15))


ALONE = "meanflow from data"  # without the teacher


@dataclass(frozen=True)
class PlaneNet:
    scalars: tuple[str, ...] = ()
    dropout: float = 0.0


@dataclass(frozen=True)
class PlaneConfig:
    net: PlaneNet = field(default_factory=PlaneNet)
    pixels: Size = Size(1, 1)
    diffusion: DiffusionConfig = field(default_factory=lambda: DiffusionConfig(density="uniform"))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=32, guidance_scale=1.0))


class Exact(nn.Module):
    """The mixture's own velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128))

    def inner(self) -> list[tuple[nn.Module, int]]:
        return [(self.look, 128)]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        flat = x.flatten(1)
        self.look(flat[:, None])  # features [B, 1, 128] for those who want some
        variance = ((1 - t) * MIXTURE.stds) ** 2 + t**2  # [B, K]
        residual = flat[:, None] - (1 - t)[..., None] * MIXTURE.means
        share = (-residual.square().sum(2) / (2 * variance) - variance.log()).softmax(1)[..., None]
        slope = residual / variance[..., None]
        guess = (share * (MIXTURE.means + ((1 - t) * MIXTURE.stds**2)[..., None] * slope)).sum(1)
        noise = (share * t[..., None] * slope).sum(1)
        return (noise - guess).view(x.shape)


class Learner(nn.Module):
    """A multilayer perceptron on (x_t, t, scalars)."""

    def __init__(self, scalars: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 9 * (1 + scalars), 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 2)
        )

    def forward(self, x: Tensor, t: Tensor, scalars: Tensor | None = None) -> Tensor:
        numbers = [t] if scalars is None else [t, *scalars.unbind(1)]
        waves = [torch.cat([n[:, None], *((2**k * n)[:, None].sin() for k in range(4)),
                            *((2**k * n)[:, None].cos() for k in range(4))], 1) for n in numbers]  # fmt: skip
        return self.layers(torch.cat([x.flatten(1), *waves], 1)).view(x.shape)


class Plane(Flow):
    name = "plane"
    can = frozenset({"sample"})

    def __init__(self, config: PlaneConfig) -> None:
        super().__init__(config)
        self.shape = (2, 1, 1)
        self.net = Learner(len(config.net.scalars)) if config.net.scalars else Exact()

    def conditions(self, prompts: list) -> tuple[Tensor, ...]:  # type: ignore[type-arg]
        return ()

    def from_x(self, x: Tensor) -> Tensor:
        return x


def drawn(model: Flow, count: int, **request: object) -> Tensor:
    noise = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(5))
    asked = flow_request(list(range(count)), noise=noise, chunk=count, dtype=torch.float32, **request)  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in model.sample(asked) if part.final]).flatten(1)


def energy(a: Tensor, b: Tensor) -> float:
    """The squared energy distance of two samples (Szekely & Rizzo): 2 E|a - b| - E|a - a'| - E|b - b'|."""
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def taught(method: str, steps: int, updates: int, stages: int = 8) -> Flow:
    torch.manual_seed(0)
    if method == ALONE:
        student: Flow = Plane(PlaneConfig(PlaneNet(("guidance", "end"))))
        student.prepare_training()
    else:
        config = DistillConfig(most_guidance=1.0, stages=stages, teacher_steps=32)
        student = student_of(Plane(PlaneConfig()), method, steps, config)
    optimisers = {phase: torch.optim.AdamW(module.parameters(), RATE, betas=(0.9, 0.99))
                  for phase, module in student.phases().items()}  # fmt: skip
    average = [p.detach().clone() for p in student.net.parameters()]
    for step in range(updates):
        progress = step / updates
        for phase, optimiser in optimisers.items():
            optimiser.param_groups[0]["lr"] = student.rate_of(phase) * RATE * min(1, 2 * (1 - progress))
        x = MIXTURE.sample(256, torch.Generator().manual_seed(step))[:, :, None, None]
        for phase, loss, _ in student.training_step({"x": x}, Draw(step, 256), progress):
            loss.backward()
            optimisers[phase].step()
            for optimiser in optimisers.values():
                optimiser.zero_grad()
        for a, p in zip(average, student.net.parameters(), strict=True):
            a.lerp_(p.detach(), 0.02)
    with torch.no_grad():
        for a, p in zip(average, student.net.parameters(), strict=True):
            p.copy_(a)
    return student.eval()


RATE = 2e-3
REAL = MIXTURE.sample(4000, torch.Generator().manual_seed(99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*", default=[*IN_A_PLANE, ALONE])
    parser.add_argument("--updates", type=int, default=10000)
    options = parser.parse_args()
    print("| drawn by | one step | two steps | 32 steps |\n| --- | --- | --- | --- |")
    show("teacher", Plane(PlaneConfig()), (1, 2, 32))
    for method in options.methods:
        show(method, taught(method, 1 if method == "progressive" else 2, options.updates), (1, 2))


def show(name: str, model: Flow, counts: tuple[int, ...]) -> None:
    cells = [f"{energy(drawn(model, 4000, steps=steps), REAL):.4f}" for steps in counts]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
