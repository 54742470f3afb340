"""Rotary position embedding over grids of places, and of places in time (arXiv:2104.09864)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BASE = 100.0  # of the frequencies: 1 to 1 / BASE


def rotary(
    shape: tuple[int, ...], depth: int, device: torch.device | None = None, trained: tuple[int, ...] | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    """RoPE's angles as cosines and sines [2, N, depth] for a grid of `shape`: each axis turns its share of the head.
    Of three axes the first is time, which turns the slower half of what the other two turn, in addition: at time 0 a
    clip is turned as a picture is, so that a network on pictures can go on with clips.

    With a `step` the last two axes count that many places from one to the next, from the middle of the first. Where
    the network was `trained` on another grid, places are squeezed into that one's range (position interpolation,
    arXiv:2306.15595): a picture then holds one thing, stretched, where places beyond the range would begin another.

    depth must be even; the rotated pairs are (i, i + depth / 2).
    """
    places = [torch.arange(size, device=device, dtype=torch.float32) for size in shape]
    if step > 1:
        places[-2:] = [step * place + (step - 1) / 2 for place in places[-2:]]
    if trained is not None and trained != shape:  # not in time: that would be a slower clip
        squeezed = zip(places[-2:], trained[-2:], shape[-2:], strict=True)
        places[-2:] = [place * (known / size) for place, known, size in squeezed]
    axes = [axis.flatten() for axis in torch.meshgrid(*places, indexing="ij")]
    return turns(axes[-2:], depth, axes[0] if len(axes) == 3 else None)


def turns(axes: list[Tensor], depth: int, time: Tensor | None = None) -> Tensor:
    """RoPE's cosines and sines [2, N, depth] of N places, one [N] an axis, and of their times [N]."""
    pairs = depth // 2 // len(axes)
    frequencies = BASE ** (-torch.arange(pairs, device=axes[0].device) / pairs)
    angles = [axis[:, None] * frequencies for axis in axes]  # [N, pairs] each
    if time is not None:
        slow = pairs - pairs // 2
        later = F.pad(BASE ** (-torch.arange(slow, device=time.device) / slow), (pairs - slow, 0))
        angles = [one + time[:, None] * later for one in angles]
    every = torch.cat(angles, -1)  # [N, depth / 2]
    spare = depth // 2 - every.shape[-1]
    every = F.pad(every, (0, spare)) if spare else every
    every = torch.cat([every, every], -1)  # [N, depth]
    return torch.stack([every.cos(), every.sin()])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn x [..., N, d] by the angles of `rotary` [2, N, d]."""
    first, second = x.chunk(2, -1)
    return x * table[0] + torch.cat([-second, first], -1) * table[1]
