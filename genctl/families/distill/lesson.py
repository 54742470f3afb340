"""What a student learns from its teacher: the base of the methods, and what they share.

A student is a flow of its teacher's kind whose network is conditioned on one or two numbers more: the guidance scale,
which it applies in a single forward, and for some methods the time at which a step ends. It begins as its teacher,
whose weights it takes and to which the new inputs add nothing yet. All else is the trainer's and the sampler's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from genctl.diffusion.path import like
from genctl.diffusion.time import grid
from genctl.errors import UsageError
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import FlowModel, stacked
from genctl.families.flow.objective import Batch, Objective, mean_square
from genctl.rng import Draw

VALIDATED = 16  # rows of a held-out batch for which the teacher draws


class Lesson(Objective):
    """What a student learns instead of the flow's own objective. `earlier`: the scalars of the student that this one
    goes on from.

    A batch has the conditions and x, a picture; where the teacher drew it (source.py) also z, the noise that it drew it
    from, and the guidance scale.
    """

    name: ClassVar[str]
    scalars: tuple[str, ...] = ("guidance",)  # what the student's network is conditioned on beside t
    solver: str = "euler"  # how the student is sampled
    needs_pictures: ClassVar[bool] = True  # else the conditions are enough
    targets: tuple[str, ...] = ("x", "velocity", "v", "F")  # of teachers that it can teach from

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.scalars = tuple(dict.fromkeys(earlier + self.scalars))
        target = teacher.config.diffusion.target
        if target not in self.targets:
            why = "it says nothing of the data at t = 1, where students begin"
            if target == "x":
                why = "its guess is not bound to x_t at t = 0, and the lesson diverges; another --method fits"
            raise UsageError(f"--method {self.name}: not from a teacher that predicts {target}: {why}")
        self.teachers = [teacher.requires_grad_(False).eval()]  # in a list: no part of the student, not saved with it
        self.config = config

    @property
    def teacher(self) -> Flow:
        return self.teachers[0]

    def begin(self, student: Flow) -> None:
        """Called once, when the student has its first weights."""

    def networks(self) -> list[nn.Module]:
        return [teacher.net for teacher in self.teachers]  # it runs more often than the student's

    def peers(self) -> list[FlowModel]:
        return [*self.teachers]

    @torch.no_grad()
    def validation_loss(self, student: FlowModel, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """Root mean square between where the student's own steps and the teacher's ODE lead from the same noise; of the
        first rows of the batch, at a middling guidance scale."""
        rows = {key: value[:VALIDATED] for key, value in batch.items()}
        z = draw.normal(*batch["x"].shape[1:])[:VALIDATED]
        scale = z.new_full((len(z),), (self.config.least_guidance + self.config.most_guidance) / 2)
        times = self.grid(student.config.sampling.steps).to(z)
        x_t = student.path.b(times[0]) * z
        for t, s in pairwise(times):
            here, there = t.expand(len(z)), s.expand(len(z))
            end = 0 * there if self.solver == "consistency" else there
            x_t = remix(
                student, x_t, student.guess(x_t, here, conditions_of(rows), self.scalars_at(scale, end)), here, there
            )
        return {"loss": mean_square(x_t - self.sample(z, rows, scale)).mean().sqrt()}

    @torch.no_grad()
    def sample(self, z: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """The teacher's x of noise z [B, ...]: DDIM steps on its own grid."""
        times = self.grid(self.config.teacher_steps).to(z)
        x_t = self.teacher.path.b(times[0]) * z
        for t, s in pairwise(times):
            here, there = t.expand(len(z)), s.expand(len(z))
            x_t = remix(self.teacher, x_t, self.guess(x_t, here, batch, scale), here, there)
        return x_t

    def grid(self, count: int) -> Tensor:
        """The falling times [count + 1] at which a sampler of so many steps stands, the teacher's as the student's."""
        config = self.teacher.config.sampling
        return grid(count, config.shift, config.spacing, self.teacher.path)

    # what methods share ----------------------------------------------------------------------------------------------
    def scales(self, batch: Batch, draw: Draw) -> Tensor:
        """Guidance scales [B]: those that the teacher drew the batch at, else drawn here."""
        low, high = self.config.least_guidance, self.config.most_guidance
        return batch["scale"] if "scale" in batch else low + (high - low) * draw.uniform()

    def scalars_at(self, scale: Tensor, end: Tensor) -> Tensor:
        """The scalars [B, S] of the student's network."""
        return stacked(self.scalars, scale, end)

    @torch.no_grad()
    def reached(self, student: FlowModel, batch: Batch, draw: Draw, scale: Tensor) -> tuple[Tensor, Tensor]:
        """x_t [B, ...] at the times [B] of the student's own steps, one drawn for each row: where its earlier steps,
        each a data guess noised anew, lead."""
        conditions = conditions_of(batch)
        times = self.grid(student.config.sampling.steps).to(batch["x"])[:-1]
        chosen = (draw.uniform() * len(times)).long().clamp(max=len(times) - 1)
        shape = batch["x"].shape[1:]
        x_t = at = student.path.b(times[0]) * draw.normal(*shape)
        scalars = self.scalars_at(scale, torch.zeros_like(scale))
        for k, (t, s) in enumerate(pairwise(times), 1):
            x = student.guess(at, t.expand(len(at)), conditions, scalars)
            at = student.path.mix(x, draw.normal(*shape), s.expand(len(at)))
            x_t = torch.where(like(chosen >= k, x_t), at, x_t)
        return x_t, times[chosen]

    @torch.no_grad()
    def guess(self, x_t: Tensor, t: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """The teacher's guided data guess at times t [B], with scales [B] within its own guidance interval."""
        teacher = self.teacher
        low, high = teacher.config.sampling.guidance_interval
        scale = torch.where((t >= low) & (t <= high), scale, 1.0)
        conditions = conditions_of(batch)
        if not conditions:
            return teacher.guess(x_t, t, ())
        states, present, pooled = conditions
        both = (
            torch.cat([part, other])
            for part, other in ((states, states), (present, torch.zeros_like(present)), (pooled, pooled))
        )
        x, away = teacher.guess(torch.cat([x_t, x_t]), torch.cat([t, t]), tuple(both)).chunk(2)
        return away + like(scale, x) * (x - away)

    def ode_step(self, x_t: Tensor, t: Tensor, s: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """x_s: the teacher's ODE from t to s [B], a step of Heun's method on the data guess (two evaluations)."""
        first = self.guess(x_t, t, batch, scale)
        x_s = remix(self.teacher, x_t, first, t, s)
        second = self.guess(x_s, s.clamp(min=1e-3), batch, scale)
        return remix(self.teacher, x_t, torch.where(like(s, x_t) > 0, (first + second) / 2, first), t, s)


def remix(model: FlowModel, x_t: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s for times [B], from x_t and a data guess: a(s) x + b(s) z with the noise that x_t then holds."""
    t, s = like(t, x_t), like(s, x_t)
    z = (x_t - model.path.a(t) * x) / model.path.b(t)
    return model.path.a(s) * x + model.path.b(s) * z


def guess_between(model: FlowModel, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The data guess by which `remix` leads from x_t to x_s, times [B], s < t."""
    ratio = like(model.path.b(s) / model.path.b(t), x_t)
    return (x_s - ratio * x_t) / (like(model.path.a(s), x_t) - ratio * like(model.path.a(t), x_t))
