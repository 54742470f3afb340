"""The optimal prediction, where it is known: what a perfect network would say.

The best guess of the data given x_t is the posterior mean E[x | x_t]. For a mixture of Gaussians it is a closed form;
for a finite data set it is the mean of the data weighted by how likely each is to have become x_t. Everything else in
this folder is tested against these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genctl.diffusion.path import Path
from genctl.diffusion.solve import Denoiser


@dataclass(frozen=True)
class Mixture:
    """Sum over k of shares[k] N(means[k], stds[k]^2 I): shares [K], means [K, D], stds [K]."""

    shares: Tensor
    means: Tensor
    stds: Tensor

    def posterior(self, path: Path, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x | x_t] and E[z | x_t], each [B, D], for x_t [B, D] at one time t."""
        a, b = path.a(t), path.b(t)
        variance = (a * self.stds) ** 2 + b**2  # [K]
        residual = x_t[:, None] - a * self.means  # [B, K, D]
        share = self._log_parts(residual, variance).softmax(1)[..., None]
        slope = residual / variance[:, None]
        x = (share * (self.means + a * self.stds[:, None] ** 2 * slope)).sum(1)
        return x, (share * b * slope).sum(1)

    def log_density(self, path: Path, x_t: Tensor, t: Tensor) -> Tensor:
        """log p_t(x_t) [B] in nats."""
        a, b = path.a(t), path.b(t)
        parts = self._log_parts(x_t[:, None] - a * self.means, (a * self.stds) ** 2 + b**2)
        return parts.logsumexp(1) - x_t.shape[1] / 2 * math.log(2 * math.pi)

    def _log_parts(self, residual: Tensor, variance: Tensor) -> Tensor:
        """The logarithm of each component's share of the density, [B, K], up to (2 pi)^(-D / 2)."""
        dimensions = residual.shape[2]
        return self.shares.log() - residual.square().sum(2) / (2 * variance) - dimensions / 2 * variance.log()

    def sample(self, count: int, draw: torch.Generator) -> Tensor:
        """Draws [count, D]."""
        which = torch.multinomial(self.shares, count, replacement=True, generator=draw)
        noise = torch.randn(count, self.means.shape[1], generator=draw, dtype=self.means.dtype)
        return self.means[which] + self.stds[which, None] * noise


def of_data(
    path: Path, x_t: Tensor, t: Tensor, data: Tensor, chunk: int = 1024, scale: tuple[float, float] = (1.0, 0.0)
) -> tuple[Tensor, Tensor]:
    """E[x | x_t] and E[z | x_t] like x_t [B, ...] at one time t > 0, if the data are exactly `data` [N, ...], times
    scale[0] plus scale[1] (so that uint8 pictures need no copy as floats).

    The data pass through in chunks (the largest logit so far is carried along), so they need not fit beside their
    distances; float64 within.
    """
    a, b = path.a(t.double()), path.b(t.double())
    flat = x_t.flatten(1).double()
    most = torch.full((len(flat), 1), -math.inf, dtype=torch.float64, device=flat.device)
    total = torch.zeros_like(most)
    mean = torch.zeros_like(flat)
    for part in data.flatten(1).split(chunk):
        part = part.to(flat) * scale[0] + scale[1]
        logits = -torch.cdist(flat, a * part, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * b**2)
        higher = torch.maximum(most, logits.max(1, keepdim=True).values)
        kept, weights = torch.exp(most - higher), torch.exp(logits - higher)
        total, mean, most = kept * total + weights.sum(1, keepdim=True), kept * mean + weights @ part, higher
    x = (mean / total).view(x_t.shape)
    return x.to(x_t.dtype), ((x_t - a * x) / b).to(x_t.dtype)


def denoiser(predict: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], times: Tensor) -> Denoiser:
    """The (x_t, k) that solvers call, of a prediction (x_t, t)."""
    return lambda x_t, k: predict(x_t, times[k])
