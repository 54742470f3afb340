"""Paths from data to noise: x_t = a(t) x + b(t) z, t = 0 data, t = 1 noise, z ~ N(0, 1).

Everything that is called flow matching or diffusion is a choice of the two functions a and b (and of how t is drawn and
stepped). A path gives them, their derivatives, the log signal-to-noise ratio lambda(t) = 2 log(a/b) and its inverse.
Sources: rectified flow (arXiv:2209.03003), cosine VP (arXiv:2102.09672), the unified view (arXiv:2303.00848).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Path:
    """a, b, their derivatives by t, and t as a function of log-SNR; all elementwise on tensors of any shape."""

    name: str
    a: Function
    b: Function
    da: Function
    db: Function
    from_log_snr: Function

    def log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = 2 log(a(t) / b(t)); +inf at t = 0 and -inf at t = 1 where b or a vanishes."""
        return 2 * (torch.log(self.a(t)) - torch.log(self.b(t)))

    def mix(self, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """x_t for data x and noise z [B, ...] at times t [B]."""
        t = like(t, x)
        return self.a(t) * x + self.b(t) * z


def like(t: Tensor, x: Tensor) -> Tensor:
    """t [B] or [] shaped to broadcast against x [B, ...]."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


HALF_PI = math.pi / 2

PATHS: dict[str, Path] = {
    path.name: path
    for path in (
        Path(  # rectified flow: straight lines
            "linear",
            a=lambda t: 1 - t,
            b=lambda t: t,
            da=lambda t: -torch.ones_like(t),
            db=lambda t: torch.ones_like(t),
            from_log_snr=lambda snr: torch.sigmoid(-snr / 2),
        ),
        Path(  # variance preserving, a^2 + b^2 = 1
            "cosine",
            a=lambda t: torch.cos(HALF_PI * t),
            b=lambda t: torch.sin(HALF_PI * t),
            da=lambda t: -HALF_PI * torch.sin(HALF_PI * t),
            db=lambda t: HALF_PI * torch.cos(HALF_PI * t),
            from_log_snr=lambda snr: torch.atan(torch.exp(-snr / 2)) / HALF_PI,
        ),
    )
}
