"""Progressive distillation (arXiv:2202.00512): one step of the student is two of its teacher, which it then replaces.

The run is cut into stages of equal length; a stage of N steps learns to do in one DDIM step what its teacher does in
two, on the grid of N steps, and the next stage's teacher is this stage's student: N = K 2^(stages - 1), ..., 2 K, K for
a student of K steps.
The student is told where a step ends, so that a step of N and one of 2N do not contradict each other; a share of each
stage keeps alive what the stage before had learnt, so a student of K steps also draws in 2 K.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from genctl.diffusion.path import like
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.distill.lesson import (
    Batch,
    DistillConfig,
    Lesson,
    conditions_of,
    guess_of,
    mean_square,
    remix,
)
from genctl.families.flow import Flow

KEPT = 0.25  # share of rows on the grid of the stage before


class Progressive(Lesson):
    name = "progressive"
    scalars = ("guidance", "end")

    def __init__(self, teacher: Flow, config: DistillConfig) -> None:
        super().__init__(teacher, config)
        if teacher.config.sampling.spacing in ("karras", "exponential"):
            raise UsageError("--method progressive: the teacher's times of N steps are not among those of 2 N")
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.stage: Tensor

    def begin(self, student: Flow) -> None:
        self.before = copy.deepcopy(student.net).requires_grad_(False).eval()  # the last stage's student

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        stages = self.config.stages
        stage = max(min(int(progress * stages), stages - 1), int(self.stage))  # a longer run stays in its last stage
        if stage > int(self.stage):
            self.before.load_state_dict(student.net.state_dict())
            self.stage.fill_(stage)
        fewest = student.config.sampling.steps
        steps, finest = fewest * 2 ** (stages - 1 - stage), 4 * fewest * 2 ** (stages - 1)
        times = self.grid(finest).flip(0).to(batch["x"])  # rising; those of any stage are among them
        x, scale, kept = batch["x"], self.scales(batch, draw), draw.uniform() < KEPT
        count = torch.where(kept, 2 * steps, steps)
        index = torch.minimum((draw.strata() * count).floor(), count - 1)
        t, middle, s = (times[((index + part) * (finest / count)).round().long()] for part in (1.0, 0.5, 0.0))
        x_t = student.path.mix(x, draw.normal(*x.shape[1:]), t)
        with torch.no_grad():
            first = self.older(student, x_t, t, torch.where(kept, s, middle), batch, scale)
            x_m = remix(student, x_t, first, t, middle)
            x_s = remix(student, x_m, self.older(student, x_m, middle, s, batch, scale), middle, s)
            ratio = like(student.path.b(s) / student.path.b(t), x)
            both = (x_s - ratio * x_t) / (like(student.path.a(s), x) - ratio * like(student.path.a(t), x))
            wanted = torch.where(like(kept, x), first, both)
        error = mean_square(guess_of(student, x_t, t, conditions_of(batch), self.told(scale, s)) - wanted)
        weight = torch.exp(student.path.log_snr(t)).clamp(min=1, max=100)  # truncated SNR, the paper's
        yield "model", (weight * error).mean(), {"error": error.mean().sqrt(), "steps": torch.as_tensor(float(steps))}

    def older(self, student: Flow, x_t: Tensor, t: Tensor, end: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """The data guess for a step from t to `end`: the teacher's, in later stages the last student's."""
        if not int(self.stage):
            return self.guess(x_t, t, batch, scale)
        return guess_of(student, x_t, t, conditions_of(batch), self.told(scale, end), self.before)
