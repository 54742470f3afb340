"""MeanFlow (arXiv:2505.13447): the average velocity over a stretch of the ODE, learnt from a teacher's momentary one.

    u(x_t, t, r) = 1 / (t - r) times the integral of v from r to t        x_r = x_t - (t - r) u
    differentiated by t along the ODE:   u = v - (t - r) d/dt u,     d/dt u = v . grad_x u + du/dt

The teacher's own pairs of noise and picture, where the batch has them, take its place: their straight lines hardly
cross, so v = z - x (Re-MeanFlow, arXiv:2511.23342). The total derivative is a central difference along (v, 1) in
float32: two forwards without gradient, no forward-mode derivative, any attention kernel. Linear path.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genctl.diffusion.path import like
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.distill.lesson import Batch, DistillConfig, OneGuess, Place, mean_square
from genctl.families.flow import Flow

STEP = 5e-3  # of t, in the central difference
SAME = 0.25  # share of rows with r = t, which learn the momentary velocity itself
POWER, SMALL = 0.75, 1e-3  # of the adaptive weight 1 / (error + SMALL)^POWER


class MeanFlow(OneGuess):
    name = "meanflow"
    scalars = ("guidance", "end")

    def __init__(self, teacher: Flow, config: DistillConfig, told: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, told)
        if teacher.path.name != "linear":
            raise UsageError(f"--method meanflow: wants a teacher on the linear path, not {teacher.path.name}")

    def place(self, student: Flow, batch: Batch, draw: Draw) -> Place:
        x = batch["x"]
        first, second = self.times(student, draw), self.times(student, draw)
        t, r = torch.maximum(first, second), torch.minimum(first, second)
        r = torch.where(draw.uniform() < SAME, t, r)
        scale, z = self.scales(batch, draw), batch.get("z", draw.normal(*x.shape[1:]))
        x_t = student.path.mix(x, z, t)
        v = z - x if "z" in batch else (x_t - self.guess(x_t, t, batch, scale)) / like(t, x)
        return Place(x_t, t, r, scale, v)

    def distances(
        self, student: Flow, batch: Batch, place: Place, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x_t, t, v = place.x_t, place.t, place.velocity
        assert v is not None

        def average(at: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
            guess = self.student_guess(student, batch, replace(place, x_t=at, t=time))
            return (at - guess) / like(time, at), guess

        with torch.no_grad(), torch.autocast(x_t.device.type, enabled=False):
            low, high = torch.clamp(t - STEP, min=STEP / 5), torch.clamp(t + STEP, max=1.0)
            (ahead, _), (behind, _) = (average(x_t + like(s - t, x_t) * v, s) for s in (high, low))
            change = (ahead - behind) / like(high - low, x_t)
        u, guess = average(x_t, t)
        error = mean_square(u - (v - like(t - place.end, x_t) * change))
        weight = (error.detach() + SMALL) ** -POWER
        return weight * error, guess, {"error": error.mean().sqrt()}
