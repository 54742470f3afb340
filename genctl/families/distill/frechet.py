"""The Frechet distance itself as a loss (arXiv:2604.28190): what a student draws in its own steps should have the mean
and the covariance that real pictures have, in the features of a frozen network, together with their captions.

    f = [features of a picture, c R]            c: pooled text, R: a fixed random projection
    loss = |m - m_r|^2 + tr(C + C_r - 2 (C_r^1/2 C C_r^1/2)^1/2)        for each of the network's layers

m and C are moving averages over the batches, of which the newest has gradients. Text is the same on both sides, so its
covariance with the features is what keeps a picture to its prompt. A finisher: it trains the student of another method
further (`--init`). The eyes are LPIPS's AlexNet, so that figures by the shipped extractor stay a stranger's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genctl.families.base import Losses
from genctl.families.conditions.conditional import conditions_of
from genctl.families.distill.lesson import Lesson
from genctl.families.distill.settings import DistillConfig
from genctl.families.eyes import lpips
from genctl.families.flow.flow import Flow
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import Batch
from genctl.nets.lpips import CHANNELS, LPIPS
from genctl.rng import Draw

LAYERS = (2, 3, 4)  # of AlexNet's five
TEXT = 64  # numbers of a caption beside the features
FRAMES = 4  # of a clip that are looked at
RECENT = 4096  # pictures that the averages of the student's remember
REAL = 8192  # pictures after which those of the real ones stand
GATHERED = 1024  # pictures before the first that is learnt from: fewer say nothing of a covariance
BLUR = 0.1  # variance of normal noise through which both sides are seen, in units of a feature's own: where the
# student's pictures, or so few of them, do not vary, the slope would else have no bound


class Moments(nn.Module):
    """Mean [D] and second moment [D, D] of features, in float64, with how many were seen."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(width, width, dtype=torch.float64))
        self.count: Tensor
        self.mean: Tensor
        self.second: Tensor

    def take(self, features: Tensor, most: float) -> tuple[Tensor, Tensor, float]:
        """Take in features [B, D], remembering `most` of them: mean and covariance with the gradients of these, and
        their share in both."""
        x = features.double()
        self.count += len(x)
        share = len(x) / min(float(self.count), most)
        mean = torch.lerp(self.mean, x.mean(0), share)
        second = torch.lerp(self.second, x.T @ x / len(x), share)
        self.mean.copy_(mean.detach())
        self.second.copy_(second.detach())
        return mean, second - torch.outer(mean, mean), share

    def covariance(self) -> Tensor:
        return self.second - torch.outer(self.mean, self.mean)


class Compared(nn.Module):
    """The features of one layer, D numbers with their caption's: of real pictures and of the student's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.real, self.made = Moments(width), Moments(width)

    def distance(self, features: Tensor) -> tuple[Tensor, float]:
        """The distance once features [B, D] of the student's are taken in, all in units of the real ones' standard
        deviations, and the share of these features in it."""
        mean, covariance, share = self.made.take(features, RECENT)
        wanted = self.real.covariance()
        size = wanted.diagonal().clamp(min=1e-12).rsqrt()
        units, blur = torch.outer(size, size), BLUR * torch.eye(len(size)).to(size)
        return frechet(size * mean, units * covariance + blur, size * self.real.mean, units * wanted + blur), share


class Frechet(Lesson):
    name = "frechet"
    solver = "consistency"

    def __init__(self, teacher: Flow, config: DistillConfig, earlier: tuple[str, ...] = ()) -> None:
        super().__init__(teacher, config, earlier)
        text = TEXT if teacher.condition != "none" else 0
        self.compared = [Compared(CHANNELS[layer] + text) for layer in LAYERS]
        self.layers = nn.ModuleList(self.compared)
        generator = torch.Generator().manual_seed(0)
        source = teacher.config.net.text_width if text else 1
        self.register_buffer("projection", torch.randn(source, text, generator=generator), persistent=False)
        self.projection: Tensor
        self.eyes: list[LPIPS] = []  # loaded at first use; in a list, as the teacher is

    def step(self, student: FlowModel, batch: Batch, draw: Draw, progress: float) -> Losses:
        scale = self.scales(batch, draw)
        if self.compared[0].real.count < REAL:
            self._see_real(student, batch)
        x_t, t = self.reached(student, batch, draw, scale)
        gathered = float(self.compared[0].made.count) + len(x_t) >= GATHERED
        with torch.set_grad_enabled(gathered):
            x = student.guess(x_t, t, conditions_of(batch), self.scalars_at(scale, torch.zeros_like(scale)))
            pairs = zip(self.compared, self.features(student, x, batch), strict=True)
            found = [compared.distance(features) for compared, features in pairs]
        distance = torch.stack([distance.detach() for distance, _ in found]).sum()
        slope = torch.stack([distance / share for distance, share in found]).sum()  # as if all were of this batch
        loss = distance + (slope - slope.detach() if gathered else torch.zeros((), requires_grad=True))
        yield "model", loss, {}

    @torch.no_grad()
    def _see_real(self, student: FlowModel, batch: Batch) -> None:
        for compared, features in zip(self.compared, self.features(student, batch["x"], batch), strict=True):
            compared.real.take(features, math.inf)

    def features(self, student: FlowModel, x: Tensor, batch: Batch) -> list[Tensor]:
        """[B, D] of each layer: the mean over a picture's places, of a clip over some frames', and its caption's."""
        if not self.eyes:
            self.eyes.append(lpips().to(x.device))
        shown = student.rendered(x)
        if shown.ndim == 5:
            places = torch.linspace(0, shown.shape[2] - 1, min(FRAMES, shown.shape[2])).round().long()
            shown = shown[:, :, places].transpose(1, 2).flatten(0, 1)
        seen = [layer.mean((2, 3)).unflatten(0, (len(x), -1)).mean(1) for layer in self.eyes[0].features(shown)]
        text = []
        if self.projection.numel():  # a row whose caption is left out has none on either side
            given = batch["present"].any(-1, keepdim=True)
            text.append(torch.where(given, batch["pooled"].float(), 0) @ self.projection)
        return [torch.cat([seen[layer], *text], 1) for layer in LAYERS]


def frechet(mean: Tensor, covariance: Tensor, real_mean: Tensor, real_covariance: Tensor) -> Tensor:
    """The Frechet distance of two Gaussians [], with gradients to the first; all in float64. The trace of the root is
    the sum of the roots of the eigenvalues of C_r^1/2 C C_r^1/2, which a small number keeps from an infinite slope."""
    values, vectors = torch.linalg.eigh(real_covariance.detach())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ covariance @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    cross = (eigenvalues.clamp(min=0) + 1e-8).sqrt().sum()
    return (mean - real_mean).square().sum() + covariance.trace() + real_covariance.trace() - 2 * cross
