"""MeanFlow (arXiv:2505.13447): the average velocity over a stretch of the ODE, learnt from a teacher's momentary one.

    u(x_t, t, r) = 1 / (t - r) times the integral of v from r to t        x_r = x_t - (t - r) u
    differentiated by t along the ODE:   u = v - (t - r) d/dt u,     d/dt u = v . grad_x u + du/dt

The teacher's own pairs of noise and picture, where the batch has them, take its place: their straight lines hardly
cross, so v = z - x (Re-MeanFlow, arXiv:2511.23342). The total derivative is a central difference along (v, 1) in
float32: two forwards without gradient, no forward-mode derivative, any attention kernel. Linear path.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.diffusion.path import like
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.distill.lesson import Batch, DistillConfig, Lesson, conditions_of, guess_of, mean_square
from genctl.families.flow import Flow

STEP = 5e-3  # of t, in the central difference
SAME = 0.25  # share of rows with r = t, which learn the momentary velocity itself
POWER, SMALL = 0.75, 1e-3  # of the adaptive weight 1 / (error + SMALL)^POWER


class MeanFlow(Lesson):
    name = "meanflow"
    scalars = ("guidance", "end")

    def __init__(self, teacher: Flow, config: DistillConfig, told: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, told)
        if teacher.path.name != "linear":
            raise UsageError(f"--method meanflow: wants a teacher on the linear path, not {teacher.path.name}")

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        x, conditions = batch["x"], conditions_of(batch)
        first, second = self.times(student, draw), self.times(student, draw)
        t, r = torch.maximum(first, second), torch.minimum(first, second)
        r = torch.where(draw.uniform() < SAME, t, r)
        scale, z = self.scales(batch, draw), batch.get("z", draw.normal(*x.shape[1:]))
        x_t = student.path.mix(x, z, t)
        v = z - x if "z" in batch else (x_t - self.guess(x_t, t, batch, scale)) / like(t, x)

        def average(at: Tensor, time: Tensor) -> Tensor:
            guess = guess_of(student, at, time, conditions, self.told(scale, r))
            return (at - guess) / like(time, at)

        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            low, high = torch.clamp(t - STEP, min=STEP / 5), torch.clamp(t + STEP, max=1.0)
            ahead, behind = (average(x_t + like(s - t, x) * v, s) for s in (high, low))
            change = (ahead - behind) / like(high - low, x)
        error = mean_square(average(x_t, t) - (v - like(t - r, x) * change))
        weight = (error.detach() + SMALL) ** -POWER
        yield "model", (weight * error).mean(), {"error": error.mean().sqrt()}
