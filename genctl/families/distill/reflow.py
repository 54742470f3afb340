"""Reflow (arXiv:2209.03003): a flow trained on its teacher's own pairs of noise and picture has straighter paths, which
fewer steps follow.

Where the batch does not bring them, pairs are drawn anew each time, which costs `teacher_steps` guided evaluations a
picture; of the data only the conditions are used.
"""

from __future__ import annotations

from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.lesson import Lesson
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import Batch, times
from genctl.rng import Draw


class Reflow(Lesson):
    name = "reflow"

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        conditions, scale = conditions_of(batch), self.scales(batch, draw)
        z = batch.get("z", draw.normal(*batch["x"].shape[1:]))
        x = batch["x"] if "z" in batch else self.sample(z, batch, scale)
        t = times(student, draw)
        scalars = self.scalars_at(scale, t * draw.uniform())  # on a straight way every end asks for the same velocity
        yield "model", student.error(x, z, t, conditions, scalars).mean(), {}
