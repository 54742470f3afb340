"""Times: where training looks, and where sampling steps.

Both can be shifted towards noise, t' = s t / (1 + (s - 1) t): a picture of more numbers keeps its layout visible at the
same t, so larger ones need s > 1 (SD3, arXiv:2403.03206, section 5.3.2).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Density = Literal["uniform", "logit-normal"]


def shift(t: Tensor, s: float) -> Tensor:
    """t' = s t / (1 + (s - 1) t); s = 1 leaves t as it is, s > 1 moves it towards noise."""
    return s * t / (1 + (s - 1) * t)


def draw_times(
    density: Density, count: int, draw: torch.Generator, mean: float = 0.0, std: float = 1.0, s: float = 1.0
) -> Tensor:
    """Training times [count] in (0, 1), one in each of `count` equal strata of the density, in random order.

    Stratified draws estimate the same loss with less variance (VDM, arXiv:2107.00630, appendix I.1).
    uniform: t ~ U(0, 1). logit-normal: logit(t) ~ N(mean, std) (SD3).
    """
    device = draw.device
    uniform = (
        torch.randperm(count, generator=draw, device=device) + torch.rand(count, generator=draw, device=device)
    ) / count
    uniform = uniform.clamp(1e-5, 1 - 1e-5)
    if density == "logit-normal":
        uniform = torch.sigmoid(mean + std * torch.special.ndtri(uniform))
    return shift(uniform, s)


def grid(steps: int, s: float = 1.0) -> Tensor:
    """The steps + 1 times of a sampling run, from 1 (noise) to 0 (data), float64."""
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), s)
