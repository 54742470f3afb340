"""Consistency with a critic (arXiv:2310.02279): the student's guesses, noised, should look to the teacher's
own features as real pictures do (arXiv:2403.12015).

    critic    hinge loss of small heads on the teacher's inner layers, at x_s = a(s) x + b(s) z, under the condition;
              s is mostly small: what betrays a student is fine, and noise hides it
    student   the consistency loss, and the critic's opinion of the same guess at a fixed share of its gradient

What counts as real is the batch's x: pictures of the data set, or the teacher's own where it drew the batch, which have
the guidance scale's look. Also a finisher for the student of another method.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.diffusion.path import like
from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.consistency import WHOLE, Consistency
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import GUIDANCE_UNIT, FlowModel
from genctl.families.flow.objective import Batch
from genctl.nets.conditions import ScalarEmbedding
from genctl.rng import Draw

WIDTH = 128
ALONE = 0.1  # share of the run in which the critic learns and is not heeded


class Head(nn.Module):
    """Features [B, N, D] or [B, D, H, W], conditioned on numbers [B, 2] -> an opinion [B, N] of each place."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, WIDTH), nn.Linear(WIDTH, 1)
        self.numbers = nn.ModuleList(ScalarEmbedding(WIDTH) for _ in range(2))

    def forward(self, features: Tensor, numbers: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
        tokens = F.rms_norm(tokens, tokens.shape[-1:], eps=1e-6)
        c = torch.stack([embed(numbers[:, i]) for i, embed in enumerate(self.numbers)]).sum(0)
        return self.last(F.silu(self.first(tokens) + c[:, None]))[..., 0]


class Adversarial(Consistency):
    name = "adversarial"

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        self.heads = nn.ModuleList(Head(width) for _, width in teacher.net.inner())  # type: ignore[operator]

    def phases(self) -> dict[str, nn.Module]:
        return {"critic": self.heads}

    def rate_of(self, phase: str) -> float:
        return self.config.critic_rate if phase == "critic" else 1.0

    def fine_until(self) -> float:
        """The time up to which the teacher's features are those of fine patches."""
        return getattr(self.teacher.config.net, "coarse_from", 1.0)

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        place = self.place(student, batch, draw)
        judged = (place.end == 0) / (WHOLE if self.flow_map else 1.0)  # [B], of mean 1: guesses that are pictures
        real, z, scale = batch["x"], draw.normal(*batch["x"].shape[1:]), place.scale
        s = self.fine_until() * draw.uniform() ** 2
        with torch.no_grad():
            guess = self.seen(student, batch, place)
        both = torch.cat([real, guess])
        on_real, on_fake = self.opinions(both, z.repeat(2, *[1] * (z.ndim - 1)), s, batch, scale).chunk(2)
        critic = F.relu(1 - on_real).mean() + (judged * F.relu(1 + on_fake).mean(1)).mean()
        yield "critic", critic, {}
        distance, guess, figures = self.distances(student, batch, place, progress)
        opinion = self.opinions(guess, z, s, batch, scale).mean(1)  # [B]
        ours, theirs = (torch.autograd.grad(part.sum(), guess)[0] for part in (distance, opinion))  # by row
        sizes = [slope.flatten(1).norm(dim=1) for slope in (ours, theirs)]
        heeded = self.config.adversarial * (progress >= ALONE)
        share = heeded * sizes[0] / sizes[1].clamp(min=1e-8) * (judged > 0)
        slope = (ours - like(share, guess) * theirs) / len(guess)
        through = (guess * slope).sum()  # has the loss's gradient; no second pass back through the teacher
        loss = distance.mean().detach() + through - through.detach()  # an opinion has no scale to watch a run by
        yield "model", loss, figures | {"opinion": (judged * opinion).mean()}

    def opinions(self, x: Tensor, z: Tensor, s: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        """What the heads think [B, M] of pictures x [B, ...], noised to s; the batch's conditions are repeated as often
        as x holds the batch."""
        times = len(x) // len(scale)
        s, scale = s.repeat(times), scale.repeat(times)
        conditions = [part.repeat(times, *[1] * (part.ndim - 1)) for part in conditions_of(batch)]
        found: list[Tensor] = []
        layers = [layer for layer, _ in self.teacher.net.inner()]  # type: ignore[operator]
        hooks = [layer.register_forward_hook(lambda _m, _i, out: found.append(out)) for layer in layers]
        try:
            x_s = like(self.teacher.path.a(s), x) * x + like(self.teacher.path.b(s), x) * z
            self.teacher.net(self.teacher.scaled(x_s, s), s, *conditions)
        finally:
            for hook in hooks:
                hook.remove()
        numbers = torch.stack([s, scale * GUIDANCE_UNIT], 1)
        return torch.cat([head(part.float(), numbers) for head, part in zip(self.heads, found, strict=True)], 1).float()
