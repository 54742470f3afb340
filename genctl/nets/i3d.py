"""I3D (arXiv:1705.07750), trained on Kinetics-400: what a Frechet video distance looks at clips with. Batch
normalisation is folded into the convolutions when the weights are converted (examples/weights/i3d.py).

    clips [B, 3, T, 224, 224] in [-1, 1], T >= 9  ->  logits of 400 actions [B, 400]
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, LEAST = 224, 9  # pixels, frames
ACTIONS = 400
MIXED = {  # the channels of a module's convolutions: 1x1; 1x1, 3x3; 1x1, 3x3; pooled 1x1
    "3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64), "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64), "4d": (128, 128, 256, 24, 64, 64), "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128), "5b": (256, 160, 320, 32, 128, 128), "5c": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
Three = tuple[int, int, int]


def same(x: Tensor, kernel: Three, stride: Three, value: float = 0.0) -> Tensor:
    """Padded so that a kernel gives ceil(n / stride) places a side, the odd one at the end."""
    pads: list[int] = []
    for size, wide, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((math.ceil(size / step) - 1) * step + wide - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def pooled(x: Tensor, kernel: Three, stride: Three) -> Tensor:
    return F.max_pool3d(same(x, kernel, stride, -math.inf), kernel, stride)


class Unit(nn.Conv3d):
    """relu(conv(x)), padded as `same`."""

    def __init__(self, before: int, after: int, side: int = 1, stride: int = 1) -> None:
        super().__init__(before, after, side, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(same(x, self.kernel_size, self.stride)))  # type: ignore[arg-type]


class Mixed(nn.Module):
    """Four ways side by side."""

    def __init__(self, before: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, two, three, four, five, six = channels
        self.first = Unit(before, one)
        self.second = nn.Sequential(Unit(before, two), Unit(two, three, 3))
        self.third = nn.Sequential(Unit(before, four), Unit(four, five, 3))
        self.fourth = Unit(before, six)
        self.out = one + three + five + six

    def forward(self, x: Tensor) -> Tensor:
        last = self.fourth(pooled(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.first(x), self.second(x), self.third(x), last], 1)


class I3D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList([Unit(3, 64, 7, 2), Unit(64, 64), Unit(64, 192, 3)])
        self.mixed, before = nn.ModuleDict(), 192
        for name, channels in MIXED.items():
            self.mixed[name] = Mixed(before, channels)
            before = self.mixed[name].out  # type: ignore[assignment]
        self.last = nn.Conv3d(before, ACTIONS, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Raises ValueError for clips of another size, or of too few frames."""
        if clips.shape[2] < LEAST or tuple(clips.shape[3:]) != (SIDE, SIDE):
            raise ValueError(f"clips of {tuple(clips.shape[2:])}; {LEAST} frames or more of {SIDE} x {SIDE}")
        x = pooled(self.stem[0](clips), (1, 3, 3), (1, 2, 2))
        x = pooled(self.stem[2](self.stem[1](x)), (1, 3, 3), (1, 2, 2))
        for name, module in self.mixed.items():
            if name == "4b":
                x = pooled(x, (3, 3, 3), (2, 2, 2))
            elif name == "5b":
                x = pooled(x, (2, 2, 2), (2, 2, 2))
            x = module(x)
        frames = min(2, x.shape[2])
        x = F.avg_pool3d(x, (frames, 7, 7), 1)
        return self.last(x).mean((2, 3, 4))


def prepared(clips: Tensor) -> Tensor:
    """Clips [B, 3, T, H, W] as the network wants them: 224 pixels square, and where they are shorter the last frame
    held."""
    batch, _, frames = clips.shape[:3]
    flat = clips.transpose(1, 2).flatten(0, 1)
    flat = F.interpolate(flat, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    made = flat.unflatten(0, (batch, frames)).transpose(1, 2)
    spare = LEAST - frames
    return torch.cat([made, made[:, :, -1:].expand(-1, -1, spare, -1, -1)], 2) if spare > 0 else made
