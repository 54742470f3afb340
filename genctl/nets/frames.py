"""Frames of a clip in a network: as rows of a batch for what is done in space, and what a layer keeps of those before,
so that a clip may come in parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Memory = dict[nn.Module, Tensor]  # of each layer, the last frames that it was given
KERNEL = 3  # frames that a layer sees, the present one included


def each_frame(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function` of frames [B T, C, H, W], of a clip [B, T, C, H, W]."""
    made = function(x.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    return made.view(*x.shape[:2], *made.shape[1:])


def with_past(x: Tensor, layer: nn.Module, memory: Memory) -> Tensor:
    """x with the frames before it that a kernel sees, zeros before the first; the last ones are kept for the next
    part."""
    before = memory.get(layer)
    long = torch.cat([x.new_zeros(len(x), KERNEL - 1, *x.shape[2:]) if before is None else before, x], 1)
    memory[layer] = long[:, 1 - KERNEL :]
    return long
