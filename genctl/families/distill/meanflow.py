"""MeanFlow (arXiv:2505.13447): the average velocity over a stretch of the ODE, learnt from a teacher's momentary one.

    u(x_t, t, r) = 1 / (t - r) times the integral of v from r to t        x_r = x_t - (t - r) u
    differentiated by t along the ODE:   u = v - (t - r) d/dt u,     d/dt u = v . grad_x u + du/dt

The teacher's own pairs of noise and picture, where the batch has them, take its place: their straight lines hardly
cross, so v = z - x (Re-MeanFlow, arXiv:2511.23342). Without any teacher v = z - x of the data, and guidance comes from
the network's own two halves (`Alone`). The total derivative is a central difference along (v, 1) in
float32: two forwards without gradient, no forward-mode derivative, any attention kernel. Linear path.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genctl.diffusion.path import like
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Losses
from genctl.families.distill.lesson import Batch, DistillConfig, Lesson, conditions_of, guess_of, mean_square
from genctl.families.flow import Flow

STEP = 5e-3  # of t, in the central difference
SAME = 0.25  # share of rows with r = t, which learn the momentary velocity itself
POWER, SMALL = 0.75, 1e-3  # of the adaptive weight 1 / (error + SMALL)^POWER


class MeanFlow(Lesson):
    name = "meanflow"
    scalars = ("guidance", "end")

    def __init__(self, teacher: Flow, config: DistillConfig, told: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, told)
        if teacher.path.name != "linear":
            raise UsageError(f"--method meanflow: wants a teacher on the linear path, not {teacher.path.name}")

    def step(self, student: Flow, batch: Batch, draw: Draw, progress: float) -> Losses:
        x, conditions = batch["x"], conditions_of(batch)
        first, second = self.times(student, draw), self.times(student, draw)
        t, r = torch.maximum(first, second), torch.minimum(first, second)
        r = torch.where(draw.uniform() < SAME, t, r)
        scale, z = self.scales(batch, draw), batch.get("z", draw.normal(*x.shape[1:]))
        x_t = student.path.mix(x, z, t)
        v = self.velocity(student, batch, x_t, z, t, scale)

        def average(at: Tensor, time: Tensor) -> Tensor:
            guess = guess_of(student, at, time, conditions, self.told(scale, r))
            return (at - guess) / like(time, at)

        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            low, high = torch.clamp(t - STEP, min=STEP / 5), torch.clamp(t + STEP, max=1.0)
            ahead, behind = (average(x_t + like(s - t, x) * v, s) for s in (high, low))
            change = (ahead - behind) / like(high - low, x)
        error = mean_square(average(x_t, t) - (v - like(t - r, x) * change))
        weight = (error.detach() + SMALL) ** -POWER
        yield "model", (weight * error).mean(), {"error": error.mean().sqrt()}

    def velocity(self, student: Flow, batch: Batch, x_t: Tensor, z: Tensor, t: Tensor, scale: Tensor) -> Tensor:
        """The momentary velocity at x_t, guided at the rows' scales."""
        return z - batch["x"] if "z" in batch else (x_t - self.guess(x_t, t, batch, scale)) / like(t, x_t)


class Alone(MeanFlow):
    """From nothing, without a teacher: a training row's own velocity z - x, whose mean is v. A guided velocity w v +
    (1 - w) v' (v' without the condition) is where u = v + (1 - 1/w) (u - u') leads, so rows are no noisier at large w
    (the paper's appendix B.1, its omega kept at one)."""

    def __init__(self, model: Flow, config: DistillConfig) -> None:
        nn.Module.__init__(self)
        self.teachers: list[Flow] = []
        self.config = config
        net, diffusion = model.config.net, model.config.diffusion
        if tuple(net.scalars) != self.scalars:
            wanted = '["guidance","end"]'
            raise UsageError(f"the network's scalars are {list(net.scalars)}; {wanted} trains a model of few steps")
        if diffusion.path != "linear" or diffusion.target not in self.targets:
            raise UsageError("a model of few steps (scalars) wants the linear path, and target x, velocity, v or F")
        if net.dropout:
            raise UsageError("a model of few steps (scalars) compares its guesses; set the network's dropout to 0")

    def velocity(self, student: Flow, batch: Batch, x_t: Tensor, z: Tensor, t: Tensor, scale: Tensor) -> Tensor:
        v = z - batch["x"]
        if not (conditions := conditions_of(batch)):
            return v
        states, present, pooled = conditions
        low, high = student.config.sampling.guidance_interval
        share = torch.where((t >= low) & (t <= high), 1 - 1 / scale, 0.0)
        with torch.no_grad():
            told = self.told(scale, t)
            with_it, without = (
                guess_of(student, x_t, t, (states, there, pooled), told) for there in (present, present & False)
            )
        return v + like(share / t, x_t) * (without - with_it)

    @torch.no_grad()
    def validation_loss(self, student: Flow, batch: Batch, draw: Draw) -> dict[str, Tensor]:
        """That of an ordinary flow: of the momentary velocity, unguided."""
        t, z = self.times(student, draw), draw.normal(*batch["x"].shape[1:])
        told = self.told(torch.ones_like(t), t)
        return {"loss": student.error(batch["x"], z, t, conditions_of(batch), told).mean()}
