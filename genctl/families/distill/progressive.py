"""Progressive distillation (arXiv:2202.00512): one step of the student is two of its teacher, which it then replaces.

The run is cut into stages of equal length; a stage of N steps learns to do in one DDIM step what its teacher does in
two, on the grid of N steps, and the next stage's teacher is this stage's student: for a student of K steps N falls from
half of `teacher_steps`, as near as doubling K comes to it, to 2 K and K.
The student is conditioned on where a step ends, so that steps of different grids do not contradict each other; a share
of each stage keeps alive what the two stages before had learnt, so a student of K steps also draws in 2 K and in 4 K.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor

from genctl.diffusion.path import like
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.lesson import Lesson, guess_between, remix
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import Batch, mean_square
from genctl.rng import Draw

RECENT = 10  # one part in so many of a stage is what its average remembers
KEPT = 0.25  # share of rows on the grids of the two stages before


class Progressive(Lesson):
    name = "progressive"
    scalars = ("guidance", "end")

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        if teacher.config.sampling.spacing in ("karras", "exponential"):
            raise UsageError("--method progressive: the teacher's times of N steps are not among those of 2 N")
        for name in ("stage", "seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))
        self.stage: Tensor
        self.seen: Tensor  # steps of this stage

    def begin(self, student: FlowModel) -> None:
        self.fewest = student.config.sampling.steps
        self.average = copy.deepcopy(student.net).requires_grad_(False).eval()  # of this stage's student
        self.before = copy.deepcopy(self.average)  # the last stage's student

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        stages = max(1, round(math.log2(self.config.teacher_steps / self.fewest)))
        stage = max(min(int(progress * stages), stages - 1), int(self.stage))  # a longer run stays in its last stage
        if stage > int(self.stage):
            self.before.load_state_dict(self.average.state_dict())
            self.stage.fill_(stage)
            self.seen.zero_()
        self.follow(student)
        steps, finest = self.fewest * 2 ** (stages - 1 - stage), 8 * self.fewest * 2 ** (stages - 1)
        if steps != student.config.sampling.steps:  # a file says what its student has come to
            student.config = replace(student.config, sampling=replace(student.config.sampling, steps=steps))
        times = self.grid(finest).flip(0).to(batch["x"])  # rising; those of any stage are among them
        x, scale, which = batch["x"], self.scales(batch, draw), draw.uniform()
        kept = which < KEPT
        count = torch.where(which < KEPT / 2, 4 * steps, torch.where(kept, 2 * steps, steps))
        index = torch.minimum((draw.strata() * count).floor(), count - 1)
        t, middle, s = (times[((index + part) * (finest / count)).round().long()] for part in (1.0, 0.5, 0.0))
        x_t = student.path.mix(x, draw.normal(*x.shape[1:]), t)
        with torch.no_grad():
            first = self.older(student, x_t, t, torch.where(kept, s, middle), batch, scale)
            x_m = remix(student, x_t, first, t, middle)
            x_s = remix(student, x_m, self.older(student, x_m, middle, s, batch, scale), middle, s)
            wanted = torch.where(like(kept, x), first, guess_between(student, x_t, x_s, t, s))
        error = mean_square(student.guess(x_t, t, conditions_of(batch), self.scalars_at(scale, s)) - wanted)
        weight = torch.exp(student.path.log_snr(t)).clamp(min=1, max=100)  # truncated SNR, the paper's
        yield "model", (weight * error).mean(), {"error": error.mean().sqrt(), "steps": torch.as_tensor(float(steps))}

    @torch.no_grad()
    def follow(self, student: FlowModel) -> None:
        """Average the student's weights over the last part of its stage: a teacher with less noise than the newest."""
        self.seen += 1
        newest = [p.detach() for p in student.net.parameters()]
        torch._foreach_lerp_([*self.average.parameters()], newest, min(1.0, RECENT / int(self.seen)))

    def older(self, student: FlowModel, x_t: Tensor, t: Tensor, end: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """The data guess for a step from t to `end`: the teacher's, in later stages the last student's."""
        if not int(self.stage):
            return self.guess(x_t, t, batch, scale)
        return student.guess(x_t, t, conditions_of(batch), self.scalars_at(scale, end), self.before)
