"""MeanFlow (arXiv:2505.13447; families/flow/meanflow.py has the mathematics) with a teacher's momentary velocity.
The teacher's own pairs of noise and picture, where the batch has them, take its place: their straight lines hardly
cross, so v = z - x (Re-MeanFlow, arXiv:2511.23342)."""

from __future__ import annotations

from torch import Tensor

from genctl.diffusion.path import like
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.distill.lesson import Lesson
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.meanflow import SCALARS, average_velocity, stretch_of
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import Batch
from genctl.rng import Draw


class MeanFlow(Lesson):
    name = "meanflow"
    scalars = SCALARS

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        if teacher.path.name != "linear":
            raise UsageError(f"--method meanflow: wants a teacher on the linear path, not {teacher.path.name}")

    def step(self, flow: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        def velocity(x_t: Tensor, z: Tensor, t: Tensor) -> Tensor:
            return z - batch["x"] if "z" in batch else (x_t - self.guess(x_t, t, batch, scale)) / like(t, x_t)

        stretch = stretch_of(flow, draw)
        scale, z = self.scales(batch, draw), batch.get("z", draw.normal(*batch["x"].shape[1:]))
        yield from average_velocity(flow, batch, stretch, scale, z, velocity)
