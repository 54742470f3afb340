"""Consistency distillation (arXiv:2303.01469) with a curriculum of shrinking steps (ECT, arXiv:2406.14548).

    f(x_t, t) = the student's data guess; all points of one ODE must have the same:   f(x_t, t) ~ f(x_r, r), r < t

x_r comes from x_t by a step of the teacher. At r = 0 the guess is x_r itself, by construction and on every path, so
what is known at small t spreads to large t. Early in the run t - r is t / 2, halved from stage to stage.

A student of another method that is conditioned on where a step ends goes on so, as a flow map: steps from t and from r
to the same end must meet there (arXiv:2310.02279), and half of them end in a picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.lesson import Lesson, guess_between, remix
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import Batch, mean_square, times
from genctl.rng import Draw

HUBER = 0.01  # below this root mean square the distance is quadratic, above linear
WHOLE = 0.5  # share of a flow map's rows whose step ends in a picture


class Place(NamedTuple):
    """Where B rows are looked at: x_t at times t, for steps to `end`, at guidance scales."""

    x_t: Tensor
    t: Tensor
    end: Tensor
    scale: Tensor


class Consistency(Lesson):
    name = "consistency"
    targets = ("velocity", "v", "F")  # of which the guess is x_t itself at t = 0

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        self.flow_map = "end" in self.scalars
        self.solver = "euler" if self.flow_map else "consistency"
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.stage: Tensor

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        distance, _, figures = self.distances(student, batch, self.place(student, batch, draw), progress)
        yield "model", distance.mean(), figures

    def place(self, student: FlowModel, batch: Batch, draw: Draw) -> Place:
        t, scale, z = times(student, draw), self.scales(batch, draw), draw.normal(*batch["x"].shape[1:])
        end = torch.zeros_like(t)
        if self.flow_map:
            end = torch.where(draw.uniform() < WHOLE, end, 0.9 * t * draw.uniform())
        return Place(student.path.mix(batch["x"], z, t), t, end, scale)

    def seen(self, student: FlowModel, batch: Batch, place: Place) -> Tensor:
        """What the student takes the data of the rows for."""
        return student.guess(place.x_t, place.t, conditions_of(batch), self.scalars_at(place.scale, place.end))

    def distances(
        self, student: FlowModel, batch: Batch, place: Place, progress: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss of each row [B], the student's guesses [B, ...] and figures."""
        self.stage.fill_(max(int(progress * self.config.stages), int(self.stage)))  # a longer run goes no stage back
        share = 0.5 ** (1 + int(self.stage))
        x_t, t, end, scale = place
        r = t - share * (t - end)
        x_r = self.ode_step(x_t, t, r, batch, scale)
        with torch.no_grad():
            wanted = self.seen(student, batch, Place(x_r, r, end, scale))
            if self.flow_map:
                wanted = guess_between(student, x_t, remix(student, x_r, wanted, r, end), t, end)
        guess = self.seen(student, batch, place)
        error = mean_square(guess - wanted)
        distance = (torch.sqrt(error + HUBER**2) - HUBER) / share
        return distance, guess, {"error": error.mean().sqrt(), "share": torch.as_tensor(share)}
