"""Times: where training looks, and where sampling steps.

Both can be shifted towards noise, t' = s t / (1 + (s - 1) t): a picture of more numbers keeps its layout visible at the
same t, so larger ones need s > 1 (SD3, arXiv:2403.03206, section 5.3.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genctl.diffusion.names import Density, Spacing
from genctl.diffusion.path import PATHS, Path

LEAST_SIGMA, MOST_SIGMA, RHO = 0.002, 80.0, 7.0  # of Karras' grid (EDM, arXiv:2206.00364, table 1)


def shift(t: Tensor, s: float) -> Tensor:
    """t' = s t / (1 + (s - 1) t); s = 1 leaves t as it is, s > 1 moves it towards noise."""
    return s * t / (1 + (s - 1) * t)


def training_times(
    density: Density, uniform: Tensor, mean: float = 0.0, std: float = 1.0, s: float = 1.0,
    path: Path = PATHS["linear"],
) -> Tensor:  # fmt: skip
    """Training times [B] in (0, 1) of a density, from uniform draws [B] by its inverse distribution function.

    uniform: t ~ U(0, 1). logit-normal: logit(t) ~ N(mean, std) (SD3). log-normal: log(b / a) ~ N(mean, std) on this
    path (EDM: -1.2, 1.2). mode: denser in the middle for std > 0, at the ends for std < 0 (SD3, eq. 20, its s).
    """
    u = uniform.clamp(1e-5, 1 - 1e-5)
    if density == "logit-normal":
        u = torch.sigmoid(mean + std * torch.special.ndtri(u))
    elif density == "log-normal":
        u = path.from_sigma(torch.exp(mean + std * torch.special.ndtri(u))).clamp(1e-5, 1 - 1e-5)
    elif density == "mode":
        u = 1 - u - std * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
    return shift(u, s)


def grid(steps: int, s: float = 1.0, spacing: Spacing = "uniform", path: Path = PATHS["linear"]) -> Tensor:
    """The steps + 1 times of a sampling run, falling, the last one 0 (data), float64.

    uniform: even in t, from 1. karras: even in sigma^(1/7), sigma = b / a from 80 to .002. exponential: even in log
    sigma over the same range. beta: quantiles of Beta(.6, .6), dense at both ends (arXiv:2407.12173). A path that ends
    earlier at either side (VE: .01 to 50) is followed from end to end.
    """
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    if spacing == "uniform":
        return shift(even, s)
    if spacing == "beta":
        return shift(beta_quantiles(even, 0.6, 0.6), s)
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    most, least = (float(sigma) for sigma in path.b(ends) / path.a(ends))
    most, least = min(MOST_SIGMA, most), max(LEAST_SIGMA, least)
    meets_data = least == LEAST_SIGMA  # else the path's own end is the last time
    ramp = torch.linspace(1, 0, steps if meets_data else steps + 1, dtype=torch.float64)
    if spacing == "karras":
        sigma = (least ** (1 / RHO) + ramp * (most ** (1 / RHO) - least ** (1 / RHO))) ** RHO
    else:
        sigma = torch.exp(math.log(least) + ramp * math.log(most / least))
    times = shift(path.from_sigma(sigma).clamp(0, 1), s)
    return torch.cat([times[:steps], ends[1:]])


def beta_quantiles(probability: Tensor, alpha: float, beta: float, cells: int = 20_000) -> Tensor:
    """Quantiles of the Beta distribution by summing its density over cells of u, t = sin^2(pi u / 2), which takes the
    poles at both ends out of the integral."""
    u = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    angle = math.pi / 2 * u
    mass = torch.sin(angle) ** (2 * alpha - 1) * torch.cos(angle) ** (2 * beta - 1)  # density(t) dt/du
    total = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
    total = total / total[-1]
    right = torch.searchsorted(total, probability.contiguous()).clamp(1, cells)
    share = (probability - total[right - 1]) / (total[right] - total[right - 1])
    return torch.sin(math.pi / 2 * (right - 1 + share) / cells) ** 2
