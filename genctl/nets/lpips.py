"""LPIPS v0.1 with AlexNet: how different two pictures look (Zhang et al., arXiv:1801.03924).

    d(a, b) = sum over layers l of  mean over places of  sum_c w_lc (f_lc(a) - f_lc(b))^2,   |f_l| = 1 at each place

A training loss of codecs and a metric. Frozen; gradients reach the pictures. The weights are a shipped part
(weights/lpips_alex.md); they are stored in fp16 and must be made float32 before they are loaded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (64, 192, 384, 256, 256)
SMALLEST = 64  # pixels; under it the last layers would see one place to three, under 31 none: pictures are enlarged


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [B], of pictures [B, ...] in [-1, 1] (peak to peak 2); equal ones give 120."""
    return -10 * torch.log10(((a - b).float() / 2).square().flatten(1).mean(1) + 1e-12)


class Weights(nn.Module):
    """One weight a channel, [C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))


class LPIPS(nn.Module):
    """Distance [B] between pictures a and b, [B, 3, H, W] in [-1, 1]; 0 for equal ones, about 1 for unlike ones.

    Pictures whose shorter side is under `smallest` pixels are enlarged to it (bilinear). To compare many pictures with
    the same ones, keep `features(b)` and call `distance(features(a), kept)`.
    """

    def __init__(self, smallest: int = SMALLEST) -> None:
        super().__init__()
        self.smallest = smallest
        self.conv1 = nn.Conv2d(3, 64, 11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        for index, channels in enumerate(CHANNELS, 1):
            self.add_module(f"lin{index}", Weights(channels))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)
        self.shift: Tensor
        self.scale: Tensor
        self.requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of the five layers, float32 or wider, each [B, C, h, w] and of unit length at each place."""
        x = (enlarge(x, self.smallest) - self.shift) / self.scale  # [B, 3, H, W]
        x1 = F.relu(self.conv1(x))  # [B, 64, H/4, W/4]
        x2 = F.relu(self.conv2(F.max_pool2d(x1, 3, 2)))  # [B, 192, H/8, W/8]
        x3 = F.relu(self.conv3(F.max_pool2d(x2, 3, 2)))  # [B, 384, H/16, W/16]
        x4 = F.relu(self.conv4(x3))  # [B, 256, H/16, W/16]
        x5 = F.relu(self.conv5(x4))
        wide = torch.promote_types(x1.dtype, torch.float32)
        return [unit(layer.to(wide)) for layer in (x1, x2, x3, x4, x5)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distance [B], float32 or wider, between two lists of `features`; b's batch may be 1."""
        total = a[0].new_zeros(len(a[0]))
        for index, (one, other) in enumerate(zip(a, b, strict=True), 1):
            weight = self.get_parameter(f"lin{index}.weight").to(one.dtype)[:, None, None]
            total = total + ((one - other).square() * weight).sum(1).mean((1, 2))
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(self.features(a), self.features(b))


def unit(x: Tensor) -> Tensor:
    """x [B, C, h, w] over its length at each place; places where all is 0 stay 0, with gradient 0 and not NaN."""
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)


def enlarge(x: Tensor, smallest: int) -> Tensor:
    """x [B, 3, H, W] with its shorter side brought up to `smallest` pixels, the other in proportion."""
    height, width = x.shape[-2:]
    shorter = min(height, width)
    if shorter >= smallest:
        return x
    size = (round(height * smallest / shorter), round(width * smallest / shorter))
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
