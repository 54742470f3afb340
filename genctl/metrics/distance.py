"""How far apart: two pictures (PSNR), or two sets of pictures by their features (Frechet, kernel distance, recall).

A figure is comparable only with others of the same extractor, count and preprocessing; the Frechet distance is biased up
for small sets, the kernel distance is not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [B], of pictures [B, ...] in [-1, 1] (peak to peak 2); equal ones give 120."""
    return -10 * torch.log10(((a - b).float() / 2).square().flatten(1).mean(1) + 1e-12)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of features [N, D], in float64."""
    x = features.double()
    return x.mean(0), torch.cov(x.T)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features [N, D] and [M, D] (arXiv:1706.08500, eq. 6):
    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)); the root by the eigenvalues of C_a^(1/2) C_b C_a^(1/2)."""
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def kernel_distance(a: Tensor, b: Tensor, subsets: int, size: int, draw: torch.Generator) -> tuple[float, float]:
    """KID (arXiv:1801.01401): unbiased squared MMD under the kernel (x.y / D + 1)^3, its mean and standard error over
    random subsets of `size` features of each set."""
    values = []
    for _ in range(subsets):
        x = a[torch.randperm(len(a), generator=draw)[:size]].double()
        y = b[torch.randperm(len(b), generator=draw)[:size]].double()
        within = sum((_kernel(s, s).sum() - _kernel(s, s).trace()) / (len(s) * (len(s) - 1)) for s in (x, y))
        values.append(within - 2 * _kernel(x, y).mean())
    stacked = torch.stack([torch.as_tensor(value) for value in values])
    return float(stacked.mean()), float(stacked.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def precision_recall(real: Tensor, made: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (arXiv:1904.06991): the share of made features that lie within the k-th neighbour's
    distance of some real one, and the reverse."""

    def covered(centres: Tensor, points: Tensor) -> float:
        radius = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values  # the nearest is the point itself
        return float((torch.cdist(points, centres) <= radius).any(1).float().mean())

    real, made = real.double(), made.double()
    return covered(real, made), covered(made, real)
