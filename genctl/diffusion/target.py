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

TARGETS: dict[str, Row] = {
    "x": lambda path, t: (torch.ones_like(t), torch.zeros_like(t)),
    "noise": lambda path, t: (torch.zeros_like(t), torch.ones_like(t)),
    "velocity": lambda path, t: (path.da(t), path.db(t)),  # dx_t/dt along the straight pairing of x and z
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
