"""EfficientNet-Lite0 without its classifier: 1280 features of a picture, for distances and retrieval (arXiv:1905.11946).

Batch normalisation is folded into the convolutions by the converter (examples/weights/efficientnet.py). A Frechet
distance on these features is not FID (which is Inception's) and must not be compared with one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (  # repeats, stride, kernel, expansion, channels in, channels out
    (1, 1, 3, 1, 32, 16),
    (2, 2, 3, 6, 16, 24),
    (2, 2, 5, 6, 24, 40),
    (3, 2, 3, 6, 40, 80),
    (3, 1, 5, 6, 80, 112),
    (4, 2, 5, 6, 112, 192),
    (1, 1, 3, 6, 192, 320),
)
FEATURES, PIXELS = 1280, 224


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Inverted(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1; with a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        self.expand = SameConv(before, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv(hidden, after, 1)
        self.shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] -> features [B, 1280]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, stride=2)
        blocks = []
        for repeats, stride, kernel, expansion, before, after in STAGES:
            for index in range(repeats):
                first = index == 0
                blocks.append(Inverted(before if first else after, after, kernel, stride if first else 1, expansion))
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(320, FEATURES, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        size = (PIXELS, PIXELS)
        if pictures.shape[-2:] != size:
            pictures = F.interpolate(pictures, size=size, mode="bicubic")
        x = ((pictures + 1) * 127.5 - 127) / 128
        x = x.to(self.head.weight.dtype).contiguous(memory_format=torch.channels_last)
        return F.relu6(self.head(self.blocks(F.relu6(self.stem(x))))).float().mean((2, 3))
