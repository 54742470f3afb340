"""A style-based generator (arXiv:1912.04958): noise and condition become a style w, which scales what each convolution
looks at; fresh noise a layer makes the details; each resolution adds its part of the picture.

    w = mapping(z, c)                                            [B, L, W], the same for all L layers unless mixed
    y = d * conv(s * x) + b,   s = style(w),  d = 1 / |s * k|     modulated and demodulated, weights k
    picture = sum over resolutions of upsampled to_channels(x)

Scaling the input by s and the output by d is the same as a kernel of its own for each picture, and one convolution for
the whole batch. Plain torch: resampling is by [1, 2, 1].
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of leaky ReLU, whose output is scaled back to unit variance
GAIN = math.sqrt(2 / (1 + SLOPE**2))
FIRST = 4  # cells of the first grid's side


def activation(x: Tensor) -> Tensor:
    return GAIN * F.leaky_relu(x, SLOPE)


class Equalised(nn.Module):
    """A linear layer whose weights are drawn from N(0, 1) and scaled when used, so that all learn at one rate
    (arXiv:1710.10196)."""

    def __init__(self, before: int, after: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before) / rate)
        self.bias = nn.Parameter(torch.full((after,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(before), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Mapping(nn.Module):
    """z [B, Z] and a condition [B, T] (T may be 0) -> w [B, W]; both are brought to unit length an entry first."""

    def __init__(self, latent: int, condition: int, width: int, depth: int = 2) -> None:
        super().__init__()
        self.embed = Equalised(condition, latent) if condition else None
        sizes = [latent * (2 if condition else 1), *[width] * depth]
        self.layers = nn.ModuleList(Equalised(a, b, rate=0.01) for a, b in pairwise(sizes))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        w = unit(z)
        if self.embed is not None and condition is not None:
            w = torch.cat([w, unit(self.embed(condition))], 1)
        for layer in self.layers:
            w = activation(layer(w))
        return w


def unit(x: Tensor) -> Tensor:
    """x [B, D] with mean square 1 in each row."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class Modulated(nn.Module):
    """A convolution modulated by styles w [B, W]: x [B, C, H, W] -> [B, D, H, W]."""

    def __init__(self, before: int, after: int, style: int, kernel: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.style = Equalised(style, before, bias=1.0)
        self.scale, self.demodulate = 1 / math.sqrt(before * kernel**2), demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        weight, s = self.weight * self.scale, self.style(w)  # [D, C, k, k], [B, C]
        y = F.conv2d(x * s[:, :, None, None].to(x.dtype), weight.to(x.dtype), padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return y
        d = torch.rsqrt(s.square() @ weight.square().sum((2, 3)).T + 1e-8)  # [B, D]
        return y * d[:, :, None, None].to(x.dtype)


class Layer(nn.Module):
    """A modulated convolution, noise, bias and activation; doubled in size before where `up`."""

    def __init__(self, before: int, after: int, style: int, up: bool) -> None:
        super().__init__()
        self.conv, self.up = Modulated(before, after, style), up
        self.strength = nn.Parameter(torch.zeros(()))  # of the noise
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        y = self.conv(double(x) if self.up else x, w)
        if noise is not None:
            y = y + self.strength.to(y.dtype) * noise.to(y.dtype)
        return activation(y + self.bias[:, None, None].to(y.dtype))


def double(x: Tensor) -> Tensor:
    """Twice as large [B, C, 2 H, 2 W], by linear interpolation, whose filter is [1, 3, 3, 1]."""
    return F.interpolate(x, scale_factor=2, mode="bilinear")


class Synthesis(nn.Module):
    """Styles w [B, L, W], one a layer, and noises [B, 1, S, S] of each -> pictures [B, C, S, S], not bounded."""

    def __init__(self, side: int, style: int, width: int, most: int, channels: int = 3) -> None:
        super().__init__()
        count = round(math.log2(side / FIRST))
        if count < 0 or FIRST * 2**count != side:
            raise ValueError(f"{side} cells: {FIRST} times a power of two is wanted")
        widths = [min(width * 2 ** (count - level), most) for level in range(count + 1)]
        self.first = nn.Parameter(torch.randn(widths[0], FIRST, FIRST))
        self.layers = nn.ModuleList([Layer(widths[0], widths[0], style, up=False)])
        self.outs = nn.ModuleList([Modulated(widths[0], channels, style, 1, demodulate=False)])
        for before, after in pairwise(widths):
            self.layers += [Layer(before, after, style, up=True), Layer(after, after, style, up=False)]
            self.outs.append(Modulated(after, channels, style, 1, demodulate=False))
        self.bias = nn.Parameter(torch.zeros(channels))

    @property
    def count(self) -> int:
        """Styles: of every layer, and of the last part of the picture."""
        return len(self.layers) + 1

    def sides(self) -> list[int]:
        """Of each layer's noise."""
        return [FIRST * 2 ** ((index + 1) // 2) for index in range(len(self.layers))]

    def forward(self, w: Tensor, noises: list[Tensor] | None = None) -> Tensor:
        x = self.first.expand(len(w), -1, -1, -1)
        picture: Tensor | None = None
        for index, layer in enumerate(self.layers):
            x = layer(x, w[:, index], None if noises is None else noises[index])
            if index % 2 == 0:  # a resolution is done
                part = self.outs[index // 2](x, w[:, index + 1])
                picture = part if picture is None else double(picture) + part
        assert picture is not None
        return picture + self.bias[:, None, None].to(picture.dtype)
