"""MeanFlow (arXiv:2505.13447): the average velocity over a stretch of the ODE, which needs no small steps to follow.

    u(x_t, t, r) = 1 / (t - r) times the integral of v from r to t        x_r = x_t - (t - r) u
    differentiated by t along the ODE:   u = v - (t - r) d/dt u,     d/dt u = v . grad_x u + du/dt

The total derivative is a central difference along (v, 1) in float32: two forwards without gradient, no forward-mode
derivative, any attention kernel. Linear path. Here without a teacher, v = z - x of the data; from one it is a lesson
(families/distill/meanflow.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genctl.diffusion.path import like
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.flow.model import FlowModel, stacked
from genctl.families.flow.objective import Batch, Objective, mean_square, times
from genctl.rng import Draw

SCALARS = ("guidance", "end")
TARGETS = ("x", "velocity", "v", "F")  # predictions from which the data can be read at t = 1
LEAST, MOST = 1.0, 8.0  # guidance scales that are trained, drawn evenly
STEP = 5e-3  # of t, in the central difference
SAME = 0.25  # share of rows with r = t, which learn the momentary velocity itself
POWER, SMALL = 0.75, 1e-3  # of the adaptive weight 1 / (error + SMALL)^POWER
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, z, t) -> the momentary velocity [B, ...]


class MeanFlow(Objective):
    """From nothing, without a teacher: a training row's own velocity z - x, whose mean is v. A guided velocity w v +
    (1 - w) v' (v' without the condition) is where u = v + (1 - 1/w) (u - u') leads, so rows are no noisier at large w
    (the paper's appendix B.1, its omega kept at one)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        net, diffusion = config.net, config.diffusion
        if tuple(net.scalars) != SCALARS:
            wanted = '["guidance","end"]'
            raise UsageError(f"the network's scalars are {list(net.scalars)}; {wanted} trains a model of few steps")
        if diffusion.path != "linear" or diffusion.target not in TARGETS:
            raise UsageError("a model of few steps (scalars) wants the linear path, and target x, velocity, v or F")
        if net.dropout:
            raise UsageError("a model of few steps (scalars) compares its guesses; set the network's dropout to 0")

    def step(self, flow: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        def velocity(x_t: Tensor, z: Tensor, t: Tensor) -> Tensor:
            return self.velocity(flow, batch, x_t, z, t, scale)

        stretch = stretch_of(flow, draw)
        scale, z = LEAST + (MOST - LEAST) * draw.uniform(), draw.normal(*batch["x"].shape[1:])
        yield from average_velocity(flow, batch, stretch, scale, z, velocity)

    def velocity(self, flow: FlowModel, batch: Batch, x_t: Tensor, z: Tensor, t: Tensor, scale: Tensor) -> Tensor:
        """z - x, corrected by the network's own two halves towards the velocity guided at the rows' scales [B]."""
        v = z - batch["x"]
        if not (conditions := conditions_of(batch)):
            return v
        states, present, pooled = conditions
        low, high = flow.config.sampling.guidance_interval
        share = torch.where((t >= low) & (t <= high), 1 - 1 / scale, 0.0)
        with torch.no_grad():
            scalars = stacked(SCALARS, scale, t)
            with_it, without = (
                flow.guess(x_t, t, (states, there, pooled), scalars) for there in (present, present & False)
            )
        return v + like(share / t, x_t) * (without - with_it)

    @torch.no_grad()
    def validation_loss(self, flow: FlowModel, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """That of an ordinary flow: of the momentary velocity, unguided."""
        t, z = times(flow, draw), draw.normal(*batch["x"].shape[1:])
        scalars = stacked(SCALARS, torch.ones_like(t), t)
        return {"loss": flow.error(batch["x"], z, t, conditions_of(batch), scalars).mean()}


def stretch_of(flow: FlowModel, draw: Draw) -> tuple[Tensor, Tensor]:
    """Times t and r [B] between which a row learns, r <= t, equal in a share of the rows."""
    first, second = times(flow, draw), times(flow, draw)
    t, r = torch.maximum(first, second), torch.minimum(first, second)
    return t, torch.where(draw.uniform() < SAME, t, r)


def around(t: Tensor, coarse_from: float) -> tuple[Tensor, Tensor]:
    """Times [B] a little before and after t, between which the network does not go over to coarser patches."""
    low, high = torch.clamp(t - STEP, min=STEP / 5), torch.clamp(t + STEP, max=1.0)
    coarse, edge = t > coarse_from, torch.full_like(t, coarse_from)
    beyond = edge.nextafter(edge + 1)
    return torch.where(coarse, low.maximum(beyond), low), torch.where(coarse, high, high.minimum(edge))


def average_velocity(
    flow: FlowModel, batch: Batch, stretch: tuple[Tensor, Tensor], scale: Tensor, z: Tensor, velocity: Velocity
) -> Losses:
    """The loss of the rows' average velocities at guidance scales [B], from the momentary `velocity`."""
    yield "model", *_velocity_loss(flow, batch, stretch, scale, z, velocity)  # not held here: it holds a graph


def _velocity_loss(
    flow: FlowModel, batch: Batch, stretch: tuple[Tensor, Tensor], scale: Tensor, z: Tensor, velocity: Velocity
) -> tuple[Tensor, dict[str, Tensor]]:
    x, conditions, (t, r) = batch["x"], conditions_of(batch), stretch
    x_t = flow.path.mix(x, z, t)
    v = velocity(x_t, z, t)

    def average(at: Tensor, time: Tensor) -> Tensor:
        guess = flow.guess(at, time, conditions, stacked(flow.config.net.scalars, scale, r))
        return (at - guess) / like(time, at)

    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        low, high = around(t, getattr(flow.config.net, "coarse_from", 1.0))
        ahead, behind = (average(x_t + like(s - t, x) * v, s) for s in (high, low))
        change = (ahead - behind) / like(high - low, x)
    error = mean_square(average(x_t, t) - (v - like(t - r, x) * change))
    weight = (error.detach() + SMALL) ** -POWER
    return (weight * error).mean(), {"error": error.detach().mean().sqrt()}
