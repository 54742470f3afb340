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


def training_times(density: Density, uniform: Tensor, mean: float = 0.0, std: float = 1.0, s: float = 1.0) -> Tensor:
    """Training times [B] in (0, 1) of a density, from uniform draws [B] by its inverse distribution function.

    uniform: t ~ U(0, 1). logit-normal: logit(t) ~ N(mean, std) (SD3).
    """
    t = uniform.clamp(1e-5, 1 - 1e-5)
    if density == "logit-normal":
        t = torch.sigmoid(mean + std * torch.special.ndtri(t))
    return shift(t, s)


def grid(steps: int, s: float = 1.0) -> Tensor:
    """The steps + 1 times of a sampling run, from 1 (noise) to 0 (data), float64."""
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), s)
