"""DC-GAN (arXiv:1511.06434): a generator of transposed convolutions, a critic of strided ones, batch normalisation in
both. Its historical form, kept as what later networks are measured against.

    z [B, Z] -> 4 x 4 -> 8 x 8 -> ... -> pixels            widths halve as sides double
    picture -> pixels / 2 -> ... -> 4 x 4 -> opinion [B]
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from genctl.nets.critics import Critic

LEAST = 4  # pixels of the first grid


def levels(pixels: int) -> int:
    """How often a grid of 4 doubles to so many pixels. Raises ValueError for other than powers of two above 4."""
    count = round(math.log2(pixels / LEAST))
    if count < 1 or LEAST * 2**count != pixels:
        raise ValueError(f"{pixels} pixels: a power of two above {LEAST} is wanted")
    return count


def initialise(net: nn.Module) -> None:
    """The paper's: weights of deviation .02, normalisation's about 1."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.02)


def normalised(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


class DCGenerator(nn.Module):
    """Noise z [B, Z] and a condition [B, T] (T may be 0) -> pictures [B, C, S, S] in [-1, 1] (tanh)."""

    def __init__(self, pixels: int, latent: int, condition: int, width: int, channels: int = 3) -> None:
        super().__init__()
        count = levels(pixels)
        widths = [width * 2 ** min(count - 1 - level, 3) for level in range(count)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + condition, widths[0], LEAST, bias=False)]
        for before, after in pairwise(widths):
            layers += [*normalised(before), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
        layers += [*normalised(widths[-1]), nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        initialise(self)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        given = z if condition is None else torch.cat([z, condition], 1)
        return self.layers(given[:, :, None, None])


class DCCritic(Critic):
    """Pictures [B, C, S, S] and a condition [B, T] -> opinions [B]. With a condition, its projection is added
    (arXiv:1802.05637)."""

    def __init__(self, pixels: int, condition: int, width: int, channels: int = 3) -> None:
        super().__init__()
        count = levels(pixels)
        widths = [width * 2 ** min(level, 3) for level in range(count)]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=level == 0))
            layers += [nn.BatchNorm2d(after)] if level else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], 1, LEAST)
        self.project = nn.Linear(condition, widths[-1], bias=False) if condition else None
        initialise(self)

    def see(self, pictures: Tensor) -> Tensor:
        """Features [B, W, 4, 4]."""
        return self.layers(pictures)

    def judge(self, seen: Tensor, condition: Tensor | None) -> Tensor:
        opinion = self.last(seen)[:, 0, 0, 0]
        if self.project is None or condition is None:
            return opinion
        return opinion + (self.project(condition) * seen.mean((2, 3))).sum(1)
