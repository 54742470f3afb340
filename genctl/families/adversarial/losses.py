"""What critic and generator want of each other, and how a critic is kept smooth.

    r = critic(real), f = critic(fake)          critic minimises                generator minimises
    minimax (arXiv:1406.2661)                   softplus(-r) + softplus(f)      -softplus(f), that is log(1 - D)
    non-saturating (the same, section 3)        the same                        softplus(-f), that is -log D
    hinge (arXiv:1705.02894)                    relu(1 - r) + relu(1 + f)       -f
    wasserstein (arXiv:1701.07875)              f - r                           -f
    relativistic (arXiv:1807.00734)             softplus(f - r)                 softplus(r - f)

The relativistic loss compares each fake with one real picture, so that no real picture may be left without a fake near
it; with both penalties R1 and R2 it is R3GAN's (arXiv:2501.05441).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor], Tensor]  # pictures [B, ...] -> opinions [B] or [B, M]


class Objective(NamedTuple):
    """Losses of opinions on as many real as fake pictures, elementwise."""

    critic: Callable[[Tensor, Tensor], Tensor]  # (r, f)
    generator: Callable[[Tensor, Tensor], Tensor]  # (r, f)
    centre: float = 0.0  # the slope that a penalty asks of the critic
    paired: bool = False  # whether the generator's loss depends on the real pictures


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(lambda r, f: F.softplus(-r) + F.softplus(f), lambda r, f: -F.softplus(f)),
    "non-saturating": Objective(lambda r, f: F.softplus(-r) + F.softplus(f), lambda r, f: F.softplus(-f)),
    "hinge": Objective(lambda r, f: F.relu(1 - r) + F.relu(1 + f), lambda r, f: -f),
    "wasserstein": Objective(lambda r, f: f - r, lambda r, f: -f, centre=1.0),
    "relativistic": Objective(lambda r, f: F.softplus(f - r), lambda r, f: F.softplus(r - f), paired=True),
}


def slope(opinions: Tensor, pictures: Tensor) -> Tensor:
    """|d opinion / d picture|^2 [B], of opinions [B] or of the mean of several [B, M]; it has gradients itself. Of a
    critic that normalises by the batch: of all opinions together."""
    each = opinions.flatten(1).mean(1) if opinions.ndim > 1 else opinions
    (gradient,) = torch.autograd.grad(each.sum(), pictures, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def zero_centred(opinions: Tensor, pictures: Tensor) -> Tensor:
    """R1 on real pictures, R2 on fake ones [B]: half of the squared slope (arXiv:1801.04406)."""
    return 0.5 * slope(opinions, pictures)


def one_centred(critic: Critic, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """WGAN-GP's penalty [B] (arXiv:1704.00028): how far from 1 the slope is somewhere between a real and a fake
    picture, `share` [B] of the way."""
    between = torch.lerp(real, fake, share.reshape(-1, *[1] * (real.ndim - 1))).detach().requires_grad_()
    return ((slope(critic(between), between) + 1e-12).sqrt() - 1).square()
