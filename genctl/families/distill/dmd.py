"""Distribution matching distillation (arXiv:2311.18828, 2405.14867): the student's pictures, noised, should be as
likely under the teacher as under a second flow that learns the student's own pictures all the while.

    x = student(x_t)         x_s = a(s) x + b(s) z
    gradient of KL(student || teacher) by x   ~   fake(x_s) - teacher(x_s)      (data guesses)

The second flow is conditioned on at which of the student's steps a picture was made: each step has to draw all that
the teacher draws, not a part of it.

Of the data only the conditions are used. A student of several steps learns each of them from where its own earlier
steps lead, so that training and sampling see the same x_t. Also a finisher: it sharpens the student of another method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genctl.diffusion.path import like
from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.lesson import Lesson
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import GUIDANCE_UNIT, FlowModel
from genctl.families.flow.objective import Batch, mean_square, times
from genctl.rng import Draw


class DMD(Lesson):
    name = "dmd"
    solver = "consistency"
    needs_pictures = False

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        self.fake: nn.Module

    def begin(self, student: Flow) -> None:
        config = student.with_net(student.config, scalars=("guidance", "end"))
        self.fake = type(student)(config).net
        self.fake.load_state_dict(self.teacher.net.state_dict(), strict=False)

    def phases(self) -> dict[str, nn.Module]:
        return {"fake": self.fake}

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        scale, conditions = self.scales(batch, draw), conditions_of(batch)
        x_t, made_at = self.reached(student, batch, draw, scale)
        scalars = self.scalars_at(scale, torch.zeros_like(scale))
        with torch.no_grad():
            x = student.guess(x_t, made_at, conditions, scalars)
        for _ in range(self.config.critic_updates):
            t, z = times(student, draw), draw.normal(*x.shape[1:])
            yield "fake", student.error(x, z, t, conditions, numbers(scale, made_at), self.fake).mean(), {}
        s = times(student, draw)
        x = student.guess(x_t, made_at, conditions, scalars)
        with torch.no_grad():
            x_s = student.path.mix(x, draw.normal(*x.shape[1:]), s)
            real = self.guess(x_s, s, batch, scale)
            fake = student.guess(x_s, s, conditions, numbers(scale, made_at), self.fake)
            size = (x - real).abs().flatten(1).mean(1)
            pull = (fake - real) / like(size.clamp(min=1e-3), x)
        yield "model", 0.5 * mean_square(x - (x - pull).detach()).mean(), {"pull": pull.square().mean().sqrt()}


def numbers(scale: Tensor, made_at: Tensor) -> Tensor:
    """What the second flow is conditioned on [B, 2]."""
    return torch.stack([scale * GUIDANCE_UNIT, made_at], 1)
