"""EfficientNet-Lite0 (arXiv:1905.11946) without its classifier: 1280 features of a picture, for comparing pictures.

Batch normalisation is folded into the convolutions by the converter (examples/weights/efficientnet.py). A Frechet
distance on these features is not FID (which is Inception's) and must not be compared with one.

Fastest on a CPU with `.to(memory_format=torch.channels_last)`. With `.to(torch.bfloat16)` as well it is about twice as
fast again; features move by 4 % of their length (mean over the emoji set, 15 % at most) and retrieval figures of the
whole set by 0.2 in 100. A single picture's rank may change, so figures that are reported are made in float32.
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
        if down == across and down % 2 == 0:  # even on all sides: the convolution pads, which saves a copy
            return F.conv2d(x, self.weight, self.bias, self.stride, padding=down // 2, groups=self.groups)
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

    def forward(self, x: Tensor) -> Tensor:  # [B, before, h, w]
        y = F.relu6(self.expand(x), inplace=True) if self.expand is not None else x  # [B, hidden, h, w]
        y = self.project(F.relu6(self.depthwise(y), inplace=True))  # [B, after, h / stride, w / stride]
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] -> float32 features [B, 1280], all in [0, 6].

    Pictures of any size are brought to 224 x 224 (bicubic, antialiased where they shrink); oblong ones are squeezed.
    """

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
        height, width = pictures.shape[-2:]
        if (height, width) != (PIXELS, PIXELS):
            shrinks = height > PIXELS or width > PIXELS
            pictures = F.interpolate(pictures, size=(PIXELS, PIXELS), mode="bicubic", antialias=shrinks)
        x = ((pictures + 1) * 127.5 - 127) / 128  # the Lite networks' own normalisation of 0..255
        x = x.to(self.head.weight.dtype).contiguous(memory_format=torch.channels_last)  # [B, 3, 224, 224]
        x = self.blocks(F.relu6(self.stem(x), inplace=True))  # [B, 320, 7, 7]
        return F.relu6(self.head(x), inplace=True).float().mean((2, 3))  # [B, 1280]
