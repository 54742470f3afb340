"""How far apart two sets of pictures are by their features: Frechet and kernel distance, precision and recall.

A figure is comparable only with others of the same extractor, count and preprocessing; the Frechet distance is biased
up for small sets, the kernel distance is not. With the shipped extractor (EfficientNet-Lite0) neither is a published
"FID" or "KID", which are Inception's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.errors import InputError

CHUNK = 1024  # rows of a distance table held at a time


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and unbiased covariance [D, D] of features [N, D], in float64. Raises InputError for N < 2."""
    _enough(features, 2)
    x = features.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


def frechet(features_a: Tensor, features_b: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features [N, D] and [M, D] (arXiv:1706.08500)."""
    return frechet_of_moments(*moments(features_a), *moments(features_b))


def frechet_of_moments(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), for means [D] and covariances [D, D] in float64.

    The trace of the root is the sum of the singular values of C_a^(1/2) C_b^(1/2), which needs no matrix root of a
    non-symmetric matrix and loses nothing when the covariances are singular (fewer pictures than features).
    """
    cross = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b)).sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def _root(cov: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def kid(
    features_a: Tensor, features_b: Tensor, subsets: int, subset_size: int, generator: torch.Generator
) -> tuple[float, float]:
    """Kernel distance of features [N, D] and [M, D] (arXiv:1801.01401): the unbiased squared MMD under the kernel
    (x.y / D + 1)^3, its mean and standard deviation over random subsets of `subset_size` of each.

    The mean is unbiased, so it is below 0 about half of the time for sets of one distribution. The subsets overlap: the
    deviation says how sure a figure on one subset is, and that of the mean is less than it.
    """
    _enough(features_a, subset_size)
    _enough(features_b, subset_size)
    values = []
    for _ in range(subsets):
        x = features_a[torch.randperm(len(features_a), generator=generator)[:subset_size]].double()
        y = features_b[torch.randperm(len(features_b), generator=generator)[:subset_size]].double()
        values.append(_within(x) + _within(y) - 2 * _kernel(x, y).mean())
    stacked = torch.stack(values)
    return float(stacked.mean()), float(stacked.std(correction=min(1, subsets - 1)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3  # [n, m]


def _within(x: Tensor) -> Tensor:
    """Mean kernel of two different rows of x [n, D]."""
    table = _kernel(x, x)
    return (table.sum() - table.trace()) / (len(x) * (len(x) - 1))


def precision_recall(real: Tensor, made: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (arXiv:1904.06991): the share of made features that lie within the k-th neighbour's
    distance of some real one, and the reverse. Features [N, D] and [M, D]; raises InputError for N or M <= k."""
    _enough(real, k + 1)
    _enough(made, k + 1)
    real, made = real.double(), made.double()
    return _covered(real, made, k), _covered(made, real, k)


def _covered(centres: Tensor, points: Tensor, k: int) -> float:
    """Share of points inside a ball around some centre, whose radius is the distance of its k-th neighbour."""
    radii = [_distances(part, centres).kthvalue(k + 1, dim=1).values for part in centres.split(CHUNK)]  # 1st: itself
    radius = torch.cat(radii)
    inside = [(_distances(part, centres) <= radius).any(1) for part in points.split(CHUNK)]
    return float(torch.cat(inside).double().mean())


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")  # ten times faster; about 1e-7 off in float64


def _enough(features: Tensor, least: int) -> None:
    if len(features) < max(least, 2):
        raise InputError(f"{len(features)} pictures are too few for this figure; it needs {max(least, 2)} of each set")
