"""The picture codec's two networks: convolutions and ReLU only, so that a CPU decodes fast.

Pixel shuffling takes the first factor of two (full-resolution convolutions would be half of the work), strided
convolutions and nearest-neighbour upsampling the others; the channels double as the side halves, so that every level
costs the same. Residual blocks without normalisation start as the identity (last convolution zero), which keeps the net
stable and lets it run on any picture size. After TAESD (github.com/madebyollin/taesd) and DC-AE (arXiv:2410.10733).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def inner(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution between features; it says so (`stacked`) to optimisers that look at whole matrices."""
    layer = nn.Conv2d(before, after, 3, stride=stride, padding=1)
    layer.stacked = 1  # type: ignore[assignment]
    return layer


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), the identity at the start. [B, C, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = inner(channels, channels), inner(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class Encoder(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] -> means and log-variances, each [B, d, H/f, W/f], f = 2 ** len(channels)."""

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...], latent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, channels[0], 3, padding=1)]
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            if level:
                layers.append(inner(channels[level - 1], width, stride=2))
            layers += [Residual(width) for _ in range(count)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 2 * latent, 3, padding=1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(pictures).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 4)


class Decoder(nn.Module):
    """Latents [B, d, h, w] -> pictures [B, 3, h f, w f]; not clamped, so that training sees its excess."""

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...], latent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(latent, channels[-1], 3, padding=1)]
        for level in reversed(range(len(channels))):
            layers += [Residual(channels[level]) for _ in range(blocks[level])]
            if level:
                layers += [nn.Upsample(scale_factor=2), inner(channels[level], channels[level - 1])]
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels[0], 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)


class PatchDiscriminator(nn.Module):
    """Pictures [B, 3, H, W] -> realness of overlapping patches [B, 1, H/8, W/8] (pix2pix, arXiv:1611.07004), without
    normalisation layers; the critic's loss bounds its slope instead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for factor in (1, 2, 4):
            layers += [nn.Conv2d(before, width * factor, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = width * factor
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


def transform_pair(latents: Tensor, pictures: Tensor, scale: float, turns: int) -> tuple[Tensor, Tensor]:
    """The same resize and rotation of latents and pictures: a codec for which decoding commutes with both has latents
    that a flow learns faster (EQ-VAE, arXiv:2502.09509). `scale` in (0, 1], `turns` of 90 degrees."""
    sides = [max(2, round(side * scale)) for side in latents.shape[-2:]]
    factor = pictures.shape[-1] // latents.shape[-1]
    if sides != [*latents.shape[-2:]]:
        latents = F.interpolate(latents, size=sides, mode="bilinear", antialias=True)
        pictures = F.interpolate(pictures, size=[factor * side for side in sides], mode="bilinear", antialias=True)
    return torch.rot90(latents, turns, (2, 3)), torch.rot90(pictures, turns, (2, 3))
