"""Consistency distillation (arXiv:2303.01469) with a curriculum of shrinking steps (ECT, arXiv:2406.14548).

    f(x_t, t) = the student's data guess; all points of one ODE must have the same:   f(x_t, t) ~ f(x_r, r), r < t

x_r comes from x_t by a step of the teacher. At r = 0 the guess is x_r itself, by construction and on every path, so
what is known at small t spreads to large t. Early in the run t - r is t / 2, halved from stage to stage.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.draws import Draw
from genctl.families.base import Losses
from genctl.families.distill.lesson import Batch, Lesson, conditions_of, guess_of, mean_square
from genctl.families.flow import Flow

HUBER = 0.01  # below this root mean square the distance is quadratic, above linear


class Consistency(Lesson):
    name = "consistency"
    solver = "consistency"

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        distance, _, _, figures = self.distance(student, batch, draw, progress)
        yield "model", distance, figures

    def distance(
        self, student: Flow, batch: Batch, draw: Draw, progress: float
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """The loss, the student's guesses [B, ...], their guidance scales [B], and figures."""
        x, conditions = batch["x"], conditions_of(batch)
        t, scale, z = self.times(student, draw), self.scales(batch, draw), draw.normal(*x.shape[1:])
        share = 0.5 ** (1 + int(progress * self.config.stages))
        r = t * (1 - share)
        x_t = student.path.mix(x, z, t)
        x_r = self.leap(x_t, t, r, batch, scale)
        scalars = self.told(scale, torch.zeros_like(t))
        with torch.no_grad():
            wanted = guess_of(student, x_r, r, conditions, scalars)
        guess = guess_of(student, x_t, t, conditions, scalars)
        error = mean_square(guess - wanted)
        distance = (torch.sqrt(error + HUBER**2) - HUBER) / share
        figures = {"error": error.mean().sqrt(), "share": torch.as_tensor(share)}
        return distance.mean(), guess, scale, figures
