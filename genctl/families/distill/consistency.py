"""Consistency distillation (arXiv:2303.01469) with a curriculum of shrinking steps (ECT, arXiv:2406.14548).

    f(x_t, t) = the student's data guess; all points of one ODE must have the same:   f(x_t, t) ~ f(x_r, r), r < t

x_r comes from x_t by a step of the teacher. At r = 0 the guess is x_r itself, by construction and on every path, so
what is known at small t spreads to large t. Early in the run t - r is t / 2, halved from stage to stage.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genctl.draws import Draw
from genctl.families.distill.lesson import Batch, DistillConfig, OneGuess, Place, mean_square
from genctl.families.flow import Flow

HUBER = 0.01  # below this root mean square the distance is quadratic, above linear


class Consistency(OneGuess):
    name = "consistency"
    solver = "consistency"
    targets = ("velocity", "v", "F")  # of which the guess is x_t itself at t = 0

    def __init__(self, teacher: Flow, config: DistillConfig, told: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, told)
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.stage: Tensor

    def place(self, student: Flow, batch: Batch, draw: Draw) -> Place:
        t, scale, z = self.times(student, draw), self.scales(batch, draw), draw.normal(*batch["x"].shape[1:])
        return Place(student.path.mix(batch["x"], z, t), t, torch.zeros_like(t), scale)

    def distances(
        self, student: Flow, batch: Batch, place: Place, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.stage.fill_(max(int(progress * self.config.stages), int(self.stage)))  # a longer run goes no stage back
        share = 0.5 ** (1 + int(self.stage))
        r = place.t * (1 - share)
        x_r = self.leap(place.x_t, place.t, r, batch, place.scale)
        with torch.no_grad():
            wanted = self.student_guess(student, batch, replace(place, x_t=x_r, t=r))
        guess = self.student_guess(student, batch, place)
        error = mean_square(guess - wanted)
        distance = (torch.sqrt(error + HUBER**2) - HUBER) / share
        return distance, guess, {"error": error.mean().sqrt(), "share": torch.as_tensor(share)}
