"""Codes of pictures put together into codes of clips: of so many frames one code, their mean and what rises or falls in
them (cosines in time). With all cosines nothing is left out and folding has nothing to learn; with the first ones alone
it begins as these and learns what they leave out.

    fold     codes of frames [B, 1 + f n, d, h, w]  ->  [B, 1 + n, d + further, h, w]       unfold goes the other way

The first frame keeps its code. Folding looks at the frame before as well, unfolding at the code before: nothing looks
ahead, and a clip may come in parts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.nets.frames import Memory, each_frame

WIDTH = 96  # of the networks that learn the rest
LEAST = -20.0  # log-variance of what is known


def cosines(latent: int, further: int, frames: int) -> Tensor:
    """Numbers of so many frames as sums of cosines in time: [latent + further, frames]; the first `latent` the mean,
    the next ones what rises or falls, and so on."""
    order = torch.arange(latent + further) // latent
    time = torch.arange(frames) + 0.5
    return torch.cos(math.pi * order[:, None] * time / frames)


def correction(before: int, after: int) -> nn.Sequential:
    """Three convolutions, of which the last begins at zero."""
    net = nn.Sequential(
        nn.Conv2d(before, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(),
        nn.Conv2d(WIDTH, after, 3, padding=1),
    )  # fmt: skip
    nn.init.zeros_(net[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(net[-1].bias)  # type: ignore[arg-type]
    return net


class Fold(nn.Module):
    """Means and log-variances of frames [B, T, 2 d, h, w] -> those of the first one, and one for so many that follow,
    made of these and, where numbers are left out, of the one before: [B, t, 2 (d + further), h, w]. A first frame has
    nothing further."""

    def __init__(self, latent: int, further: int, frames: int) -> None:
        super().__init__()
        self.latent, self.further, self.frames = latent, further, frames
        self.mix = nn.Conv2d(frames * latent, latent + further, 1, bias=False)
        whole = further == (frames - 1) * latent
        self.net = None if whole else correction((frames + 1) * latent, latent + further)
        self.mix.requires_grad_(not whole)
        waves, channel = cosines(latent, further, frames), torch.arange(latent + further)
        share = torch.where(channel < latent, 1, 2) / frames
        self.spread = share.log()[:, None, None]  # log-variance of such a sum of independent numbers, against theirs
        with torch.no_grad():
            self.mix.weight.zero_()
            for frame in range(frames):
                self.mix.weight[channel, frame * latent + channel % latent, 0, 0] = share * waves[:, frame]

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        mean, log_variance = x.chunk(2, 2)
        first = self not in memory
        long = mean if first else torch.cat([memory[self], mean], 1)
        memory[self] = mean[:, -1:]
        means = [self._spread(mean[:, :1], 0.0)] * first
        log_variances = [self._spread(log_variance[:, :1], LEAST)] * first
        if long.shape[1] > 1:
            last = long.shape[1] - self.frames
            parts = [long[:, place : last + place : self.frames] for place in range(self.frames + 1)]
            made = each_frame(self.mix, torch.cat(parts[1:], 2))
            means.append(made if self.net is None else made + each_frame(self.net, torch.cat(parts, 2)))
            every = log_variance[:, int(first) :].unflatten(1, (-1, self.frames)).mean(2)
            every = every[:, :, torch.arange(self.latent + self.further) % self.latent]
            log_variances.append(every + self.spread.to(every))
        return torch.cat([torch.cat(means, 1), torch.cat(log_variances, 1)], 2)

    def _spread(self, first: Tensor, value: float) -> Tensor:
        return F.pad(first, (0, 0, 0, 0, 0, self.further), value=value)


class Unfold(nn.Module):
    """Codes [B, t, d + further, h, w] -> those of each frame [B, T, d, h, w], by a look at the code before."""

    def __init__(self, latent: int, further: int, frames: int) -> None:
        super().__init__()
        self.latent, self.frames, numbers = latent, frames, latent + further
        self.mix = nn.Conv2d(numbers, frames * latent, 1, bias=False)
        self.net = correction(2 * numbers, frames * latent)
        waves, channel = cosines(latent, further, frames), torch.arange(numbers)
        with torch.no_grad():
            self.mix.weight.zero_()
            for frame in range(frames):
                self.mix.weight[frame * latent + channel % latent, channel, 0, 0] = waves[:, frame]

    def forward(self, codes: Tensor, memory: Memory) -> Tensor:
        first = self not in memory
        if first:  # which has nothing further, whatever a flow drew there
            alone = F.pad(codes[:, :1, : self.latent], (0, 0, 0, 0, 0, codes.shape[2] - self.latent))
            codes = torch.cat([alone, codes[:, 1:]], 1)
        long = codes if first else torch.cat([memory[self], codes], 1)
        memory[self] = codes[:, -1:]
        made = [codes[:, :1, : self.latent]] * first
        if long.shape[1] > 1:
            later, both = long[:, 1:], torch.cat([long[:, :-1], long[:, 1:]], 2)
            frames = each_frame(self.mix, later) + each_frame(self.net, both)
            made.append(frames.unflatten(2, (self.frames, self.latent)).flatten(1, 2))
        return torch.cat(made, 1)
