"""Reflow (arXiv:2209.03003): a flow trained on its teacher's own pairs of noise and picture has straighter paths, which
fewer steps follow.

Pairs are drawn anew for each batch, which costs `teacher_steps` guided evaluations a picture; of the data only the
conditions are used.
"""

from __future__ import annotations

import torch

from genctl.diffusion.target import combine
from genctl.draws import Draw
from genctl.families.base import Losses
from genctl.families.distill.lesson import Batch, Lesson, conditions_of, mean_square, told
from genctl.families.flow import Flow


class Reflow(Lesson):
    name = "reflow"

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        conditions, scale = conditions_of(batch), self.scales(draw)
        z = draw.normal(*batch["x"].shape[1:])
        x = self.sample(z, batch, scale)
        t = self.times(student, draw)
        scalars = told(self, scale, torch.zeros_like(t))
        x_t = student.path.mix(x, z, t)
        prediction = student.net(student.scaled(x_t, t), t, *conditions, scalars=scalars).float()
        error = mean_square(prediction - combine(student.config.diffusion.target, student.path, x, z, t))
        yield "model", error.mean(), {}
