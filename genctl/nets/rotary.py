"""Rotary position embedding over grids of any number of axes (arXiv:2104.09864)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotary(
    shape: tuple[int, ...], depth: int, device: torch.device | None = None, trained: tuple[int, ...] | None = None,
    step: int = 1,
) -> Tensor:  # fmt: skip
    """RoPE's angles as cosines and sines [2, N, depth] for a grid of `shape`: each axis turns its share of the head.
    With a `step` the last two axes count that many places from one to the next, from the middle of the first.
    Where the network was `trained` on another grid, places are squeezed into that one's range (position interpolation,
    arXiv:2306.15595): a picture then holds one thing, stretched, where places beyond the range would begin another.

    depth must be even; the rotated pairs are (i, i + depth / 2).
    """
    places = [torch.arange(size, device=device) for size in shape]
    if step > 1:
        places[-2:] = [step * place + (step - 1) / 2 for place in places[-2:]]
    if trained is not None and trained != shape:
        places = [place * (known / size) for place, known, size in zip(places, trained, shape, strict=True)]
    axes = torch.meshgrid(*places, indexing="ij")
    return turns([axis.flatten() for axis in axes], depth)


def turns(axes: list[Tensor], depth: int) -> Tensor:
    """RoPE's cosines and sines [2, N, depth] of N places, one [N] an axis."""
    pairs = depth // 2 // len(axes)
    frequencies = 100.0 ** (-torch.arange(pairs, device=axes[0].device) / pairs)
    angles = torch.cat([axis[:, None] * frequencies for axis in axes], -1)  # [N, depth / 2]
    spare = depth // 2 - angles.shape[-1]
    angles = F.pad(angles, (0, spare)) if spare else angles
    angles = torch.cat([angles, angles], -1)  # [N, depth]
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn x [..., N, d] by the angles of `rotary` [2, N, d]."""
    first, second = x.chunk(2, -1)
    return x * table[0] + torch.cat([-second, first], -1) * table[1]
