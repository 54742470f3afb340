"""What a student learns from its teacher: the base of the methods, and what they share.

A student is a flow of its teacher's kind whose network is told one or two numbers more: the guidance scale, which it
has learnt to apply in a single forward, and for some methods the time at which a leap ends. It begins as its teacher,
whose weights it takes and to which the new inputs add nothing yet. All else is the trainer's and the sampler's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from genctl.diffusion.path import like
from genctl.diffusion.target import solve
from genctl.diffusion.time import grid, training_times
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.flow import GUIDANCE_UNIT, Flow

Batch = dict[str, Tensor]
VALIDATED = 16  # rows of a held-out batch for which the teacher draws


@dataclass(frozen=True)
class DistillConfig:
    """How a student is taught."""

    least_guidance: float = 1.0  # scales are drawn evenly from here
    most_guidance: float = 8.0  # to here, so that --cfg works at one step
    stages: int = 8  # of a curriculum, where a method has one
    teacher_steps: int = 16  # that the teacher draws in, or that progressive halving begins from
    critic_updates: int = 2  # of a second network that learns beside the student, for each of the student's own
    critic_rate: float = 10.0  # learning rate of a critic's heads, in units of the student's
    adversarial: float = 0.2  # the critic's gradient in units of the other loss's, where a method has both

    def __post_init__(self) -> None:
        for name in ("stages", "teacher_steps", "critic_updates"):
            if getattr(self, name) < 1:
                raise UsageError(f"distill.{name} is {getattr(self, name)}; it wants 1 or more")
        if not 0 < self.least_guidance <= self.most_guidance:
            raise UsageError("distill.least_guidance wants to be above 0 and at most distill.most_guidance")
        if not self.critic_rate > 0:
            raise UsageError(f"distill.critic_rate is {self.critic_rate}; it wants to be above 0")
        if self.adversarial < 0:
            raise UsageError(f"distill.adversarial is {self.adversarial}; it wants 0 or more")


class Lesson(nn.Module):
    """`step` yields losses as a family's training_step does, with the student's network as phase "model". `told`: the
    scalars of the earlier student that this one goes on from.

    A batch has the conditions and x, a picture; where the teacher drew it (source.py) also z, the noise that it drew it
    from, and the guidance scale.
    """

    name: ClassVar[str]
    scalars: tuple[str, ...] = ("guidance",)  # what the student's network is told
    solver: str = "euler"  # how the student is sampled
    needs_pictures: ClassVar[bool] = True  # else the conditions are enough
    targets: tuple[str, ...] = ("x", "velocity", "v", "F")  # of teachers that it can teach from

    def __init__(self, teacher: Flow, config: DistillConfig, told: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.scalars = tuple(dict.fromkeys(told + self.scalars))
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

    def phases(self) -> dict[str, nn.Module]:
        """Further networks that learn, by phase."""
        return {}

    def rate_of(self, phase: str) -> float:
        """A phase's learning rate in units of the run's."""
        return 1.0

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        raise NotImplementedError

    @torch.no_grad()
    def validation_loss(self, student: Flow, batch: Batch, draw: Draw) -> dict[str, Tensor]:
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
                student, x_t, guess_of(student, x_t, here, conditions_of(rows), self.told(scale, end)), here, there
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
    def times(self, student: Flow, draw: Draw) -> Tensor:
        """Training times [B] as the student's configuration has them."""
        config = student.config.diffusion
        return training_times(
            config.density, draw.strata(), config.density_mean, config.density_std, config.shift, student.path
        )

    def scales(self, batch: Batch, draw: Draw) -> Tensor:
        """Guidance scales [B]: those that the teacher drew the batch at, else drawn here."""
        low, high = self.config.least_guidance, self.config.most_guidance
        return batch["scale"] if "scale" in batch else low + (high - low) * draw.uniform()

    def told(self, scale: Tensor, end: Tensor) -> Tensor:
        """The scalars [B, S] of the student's network."""
        values = {"guidance": scale * GUIDANCE_UNIT, "end": end}
        return torch.stack([values[name] for name in self.scalars], 1)

    @torch.no_grad()
    def reached(self, student: Flow, batch: Batch, draw: Draw, scale: Tensor) -> tuple[Tensor, Tensor]:
        """x_t [B, ...] at the times [B] of the student's own steps, one drawn for each row: where its earlier steps,
        each a data guess noised anew, lead."""
        conditions = conditions_of(batch)
        times = self.grid(student.config.sampling.steps).to(batch["x"])[:-1]
        chosen = (draw.uniform() * len(times)).long().clamp(max=len(times) - 1)
        shape = batch["x"].shape[1:]
        x_t = at = student.path.b(times[0]) * draw.normal(*shape)
        scalars = self.told(scale, torch.zeros_like(scale))
        for k, (t, s) in enumerate(pairwise(times), 1):
            x = guess_of(student, at, t.expand(len(at)), conditions, scalars)
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
            return guess_of(teacher, x_t, t, ())
        states, present, pooled = conditions
        both = (
            torch.cat([part, other])
            for part, other in ((states, states), (present, torch.zeros_like(present)), (pooled, pooled))
        )
        x, away = guess_of(teacher, torch.cat([x_t, x_t]), torch.cat([t, t]), tuple(both)).chunk(2)
        return away + like(scale, x) * (x - away)

    def leap(self, x_t: Tensor, t: Tensor, s: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """x_s: the teacher's ODE from t to s [B], a step of Heun's method on the data guess (two evaluations)."""
        first = self.guess(x_t, t, batch, scale)
        x_s = remix(self.teacher, x_t, first, t, s)
        second = self.guess(x_s, s.clamp(min=1e-3), batch, scale)
        return remix(self.teacher, x_t, torch.where(like(s, x_t) > 0, (first + second) / 2, first), t, s)


def conditions_of(batch: Batch) -> tuple[Tensor, ...]:
    return (batch["states"], batch["present"], batch["pooled"]) if "present" in batch else ()


def guess_of(
    model: Flow, x_t: Tensor, t: Tensor, conditions: tuple[Tensor, ...], scalars: Tensor | None = None,
    net: nn.Module | None = None,
) -> Tensor:  # fmt: skip
    """A model's data guess at times t [B]; by another network of its kind, where one is given."""
    told = {} if scalars is None else {"scalars": scalars}
    prediction = (net or model.net)(model.scaled(x_t, t), t, *conditions, **told).float()
    return solve(model.config.diffusion.target, model.path, x_t, prediction, t)[0]


def remix(model: Flow, x_t: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x_s for times [B], from x_t and a data guess: a(s) x + b(s) z with the noise that x_t then holds."""
    t, s = like(t, x_t), like(s, x_t)
    z = (x_t - model.path.a(t) * x) / model.path.b(t)
    return model.path.a(s) * x + model.path.b(s) * z


def guess_between(model: Flow, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The data guess by which `remix` leads from x_t to x_s, times [B], s < t."""
    ratio = like(model.path.b(s) / model.path.b(t), x_t)
    return (x_s - ratio * x_t) / (like(model.path.a(s), x_t) - ratio * like(model.path.a(t), x_t))


def mean_square(error: Tensor) -> Tensor:
    """[B, ...] -> [B]."""
    return error.square().flatten(1).mean(1)
