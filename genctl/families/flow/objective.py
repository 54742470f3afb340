"""What a flow learns. Its own objective is flow matching; MeanFlow (meanflow.py) and a teacher's lesson
(families/distill) are others, with the same methods."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genctl.diffusion.time import training_times
from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.flow.model import FlowModel
from genctl.rng import Draw

Batch = dict[str, Tensor]


class Objective(nn.Module):
    """`step` yields (phase, loss, figures) as a family's `training_step` does, the flow's network being phase "model";
    `validation_loss` gives held-out figures, the loss first."""

    def step(self, flow: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        raise NotImplementedError

    def validation_loss(self, flow: FlowModel, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        raise NotImplementedError

    def phases(self) -> dict[str, nn.Module]:
        """Further networks that learn, by phase."""
        return {}

    def rate_of(self, phase: str) -> float:
        """A phase's learning rate in units of the run's."""
        return 1.0

    def networks(self) -> list[nn.Module]:
        """Networks that run beside the flow's own, and are worth compiling."""
        return []

    def peers(self) -> list[FlowModel]:
        """Models whose pictures are shown below the flow's own in a preview."""
        return []


class FlowMatching(Objective):
    """z ~ N(0, 1), t ~ density:  w(t) |net(x_t, t, condition) - (c x + d z)|^2   (arXiv:2210.02747, 2303.00848)."""

    def step(self, flow: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        figures = self.loss(flow, batch, draw)
        yield "model", figures.pop("loss"), figures

    @torch.no_grad()
    def validation_loss(self, flow: FlowModel, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        return self.loss(flow, batch, draw)

    def loss(self, flow: FlowModel, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """The loss, and what it is at the cleaner and the noisier times."""
        t = times(flow, draw)
        z = flow.noise_of(batch, t, draw)
        error = flow.error(batch["x"], z, t, conditions_of(batch))
        noisy, seen = (t > 0.5).float(), error.detach()  # a figure with a graph would hold the step's memory
        return {
            "loss": error.mean(),
            "loss_clean_half": (seen * (1 - noisy)).sum() / (1 - noisy).sum().clamp(min=1),
            "loss_noisy_half": (seen * noisy).sum() / noisy.sum().clamp(min=1),
        }


def times(flow: FlowModel, draw: Draw) -> Tensor:
    """Training times [B] as the flow's configuration has them."""
    config = flow.config.diffusion
    density = (config.density, draw.strata(), config.density_mean, config.density_std)
    return training_times(*density, config.shift, flow.path)


def mean_square(error: Tensor) -> Tensor:
    """[B, ...] -> [B]."""
    return error.square().flatten(1).mean(1)


def trained(objective: Objective) -> Iterator[nn.Module]:
    """The modules within an objective that can be compiled."""
    yield from objective.networks()
    yield from objective.children()
