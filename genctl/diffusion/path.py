"""Paths from data to noise: x_t = a(t) x + b(t) z, t = 0 data, t = 1 noise, z ~ N(0, 1).

Everything that is called flow matching or diffusion is a choice of the two functions a and b (and of how t is drawn and
stepped). A path gives them, their derivatives, the log signal-to-noise ratio lambda(t) = 2 log(a/b) and its inverse.

    linear   a = 1 - t                    b = t                          rectified flow, arXiv:2209.03003
    cosine   a = cos(pi t / 2)            b = sin(pi t / 2)              arXiv:2102.09672 (without its offset)
    vp       a = exp(-B(t) / 2)           b = sqrt(1 - a^2)              DDPM in continuous time, arXiv:2011.13456
    subvp    a = exp(-B(t) / 2)           b = 1 - a^2                    arXiv:2011.13456
    ve       a = 1                        b = .01 (50 / .01)^t           arXiv:2011.13456, 1907.05600
    edm      a = 1                        b = 80 t                       arXiv:2206.00364, its sigma in units of 80

with B(t) = beta_0 t + (beta_1 - beta_0) t^2 / 2, beta_0 = 0.1, beta_1 = 20. The unified view: arXiv:2303.00848.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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

    def from_sigma(self, sigma: Tensor) -> Tensor:
        """The time at which b / a, the noise's size when the data keep theirs, is `sigma`."""
        return self.from_log_snr(-2 * torch.log(sigma))


def like(t: Tensor, x: Tensor) -> Tensor:
    """t [B] or [] shaped to broadcast against x [B, ...]."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


HALF_PI = math.pi / 2
BETA_0, BETA_SLOPE = 0.1, 19.9
VE_LEAST, VE_LOG = 0.01, math.log(50 / 0.01)
EDM_MOST = 80.0


def _beta(t: Tensor) -> Tensor:
    return BETA_0 + BETA_SLOPE * t


def _beta_integral(t: Tensor) -> Tensor:
    return BETA_0 * t + BETA_SLOPE * t**2 / 2


def _from_beta_integral(integral: Tensor) -> Tensor:
    """The root of BETA_SLOPE t^2 / 2 + BETA_0 t = integral, without cancellation near 0."""
    return 2 * integral / (BETA_0 + torch.sqrt(BETA_0**2 + 2 * BETA_SLOPE * integral))


def _vp_a(t: Tensor) -> Tensor:
    return torch.exp(-_beta_integral(t) / 2)


def _vp_b(t: Tensor) -> Tensor:
    return torch.sqrt(-torch.expm1(-_beta_integral(t)))


def _subvp_from_log_snr(snr: Tensor) -> Tensor:
    """a / (1 - a^2) = r is a quadratic equation for a."""
    r = torch.exp(snr / 2)
    return _from_beta_integral(-2 * torch.log(2 * r / (1 + torch.sqrt(1 + 4 * r**2))))


PATHS: dict[str, Path] = {
    path.name: path
    for path in (
        Path(
            "linear",
            a=lambda t: 1 - t,
            b=lambda t: t,
            da=lambda t: -torch.ones_like(t),
            db=lambda t: torch.ones_like(t),
            from_log_snr=lambda snr: torch.sigmoid(-snr / 2),
        ),
        Path(
            "cosine",
            a=lambda t: torch.sin(HALF_PI * (1 - t)),  # cos(pi t / 2), and 0 at t = 1 where that rounds below
            b=lambda t: torch.sin(HALF_PI * t),
            da=lambda t: -HALF_PI * torch.sin(HALF_PI * t),
            db=lambda t: HALF_PI * torch.cos(HALF_PI * t),
            from_log_snr=lambda snr: torch.atan(torch.exp(-snr / 2)) / HALF_PI,
        ),
        Path(
            "vp",
            a=_vp_a,
            b=_vp_b,
            da=lambda t: -_beta(t) / 2 * _vp_a(t),
            db=lambda t: _beta(t) / 2 * _vp_a(t) ** 2 / _vp_b(t),
            from_log_snr=lambda snr: _from_beta_integral(F.softplus(-snr)),
        ),
        Path(
            "subvp",
            a=_vp_a,
            b=lambda t: -torch.expm1(-_beta_integral(t)),
            da=lambda t: -_beta(t) / 2 * _vp_a(t),
            db=lambda t: _beta(t) * _vp_a(t) ** 2,
            from_log_snr=_subvp_from_log_snr,
        ),
        Path(
            "ve",
            a=torch.ones_like,
            b=lambda t: VE_LEAST * torch.exp(VE_LOG * t),
            da=torch.zeros_like,
            db=lambda t: VE_LEAST * VE_LOG * torch.exp(VE_LOG * t),
            from_log_snr=lambda snr: (-snr / 2 - math.log(VE_LEAST)) / VE_LOG,
        ),
        Path(
            "edm",
            a=torch.ones_like,
            b=lambda t: EDM_MOST * t,
            da=torch.zeros_like,
            db=lambda t: torch.full_like(t, EDM_MOST),
            from_log_snr=lambda snr: torch.exp(-snr / 2) / EDM_MOST,
        ),
    )
}
