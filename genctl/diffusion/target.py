"""What a network predicts is one row: target = c(t) x + d(t) z. Together with the path's row

    [ a(t)  b(t) ] [x]   [ x_t        ]
    [ c(t)  d(t) ] [z] = [ prediction ]

it is a 2x2 system, and one function solves it: so any network works on any path, and data, noise, velocity and score
are readings of one prediction.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genctl.diffusion.path import Path, like

Row = Callable[[Path, Tensor], tuple[Tensor, Tensor]]
SIGMA_DATA = 0.5  # the data's standard deviation in Karras' preconditioning


def karras(path: Path, t: Tensor) -> tuple[Tensor, Tensor]:
    """F of D(x_t) = c_skip x_t / a + c_out F (EDM, arXiv:2206.00364, table 1), with sigma = b / a and s = SIGMA_DATA:
    F = (sigma / s x - s z) / sqrt(sigma^2 + s^2), of unit variance for data of standard deviation s."""
    a, b = path.a(t), path.b(t)
    root = torch.sqrt(b**2 + (a * SIGMA_DATA) ** 2)
    return b / (SIGMA_DATA * root), -a * SIGMA_DATA / root


TARGETS: dict[str, Row] = {
    "x": lambda path, t: (torch.ones_like(t), torch.zeros_like(t)),
    "noise": lambda path, t: (torch.zeros_like(t), torch.ones_like(t)),
    "velocity": lambda path, t: (path.da(t), path.db(t)),  # dx_t/dt along the straight pairing of x and z
    "v": lambda path, t: (-path.b(t), path.a(t)),  # Salimans & Ho, arXiv:2202.00512
    "F": karras,
    "score": lambda path, t: (torch.zeros_like(t), -1 / path.b(t)),  # of p_t(x_t | x): denoising score matching
}


def combine(target: str, path: Path, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """The training target c x + d z for data x, noise z [B, ...] at times t [B]."""
    c, d = TARGETS[target](path, like(t, x))
    return c * x + d * z


def solve(target: str, path: Path, x_t: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x, z) [B, ...] from x_t and the network's prediction at times t ([B] or [])."""
    t = like(t, x_t)
    a, b = path.a(t), path.b(t)
    c, d = TARGETS[target](path, t)
    determinant = a * d - b * c
    return (d * x_t - b * prediction) / determinant, (a * prediction - c * x_t) / determinant


def velocity(path: Path, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """dx_t/dt of the probability-flow ODE from the expected data and noise at x_t."""
    t = like(t, x)
    return path.da(t) * x + path.db(t) * z


def score(path: Path, z: Tensor, t: Tensor) -> Tensor:
    """The gradient of log p_t at x_t from the expected noise there: -z / b (Tweedie's formula)."""
    return -z / path.b(like(t, z))


def noise_error_share(target: str, path: Path, t: Tensor) -> Tensor:
    """What a squared error of the prediction is worth as one of the noise: at a given x_t an error e of the prediction
    means one of a / (a d - b c) e of the noise, so |error of z|^2 = share |error of the prediction|^2."""
    a, b = path.a(t), path.b(t)
    c, d = TARGETS[target](path, t)
    return (a / (a * d - b * c)) ** 2


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {  # of the noise's squared error, as functions of log-SNR
    "elbo": torch.ones_like,  # the bound itself where t is drawn so that log-SNR is uniform (VDM, arXiv:2107.00630)
    "min-snr": lambda snr: torch.exp(-snr).mul(5.0).clamp(max=1.0),  # of the data's: min(SNR, 5), arXiv:2303.09556
    "edm": lambda snr: 1 + torch.exp(-snr) / SIGMA_DATA**2,  # of the data's: (sigma^2 + s^2) / (sigma s)^2
    "sigmoid": lambda snr: torch.sigmoid(
        2.0 - snr
    ),  # Kingma & Gao, arXiv:2303.00848, with bias 2; theirs on such times, too
}


def velocity_error_share(target: str, path: Path, t: Tensor) -> Tensor:
    """What a squared error of the prediction is worth as one of dx_t/dt, for which x and z err by -b and a parts."""
    a, b = path.a(t), path.b(t)
    c, d = TARGETS[target](path, t)
    return ((a * path.db(t) - b * path.da(t)) / (a * d - b * c)) ** 2


def weight(name: str, target: str, path: Path, t: Tensor) -> Tensor:
    """The weight [B] of the prediction's squared error at times t [B]. "unit" is 1 on the prediction itself, "velocity"
    1 on the velocity that it means, with 1/t bounded by 20 as in JiT (arXiv:2511.13720); the others are `WEIGHTS`."""
    if name == "unit":
        return torch.ones_like(t)
    if name == "velocity":
        return velocity_error_share(target, path, t).clamp(max=400.0)
    return WEIGHTS[name](path.log_snr(t)) * noise_error_share(target, path, t)
