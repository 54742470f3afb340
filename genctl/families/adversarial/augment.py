"""Differentiable augmentation of what a critic sees, real and fake alike (DiffAugment, arXiv:2006.10738), each kind
applied to a share p of the pictures (ADA, arXiv:2006.06676).

With p below 1 an undisturbed picture stays the likeliest one, so that the generator is not led to draw shifted or
tinted ones: what is invertible in distribution does not leak.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.rng import Draw

SHIFT, CUT = 1 / 8, 1 / 2  # of a side: at most; of a hole
DRAWS = 10  # random numbers of a picture


def augment(pictures: Tensor, draws: Tensor, share: float) -> Tensor:
    """Pictures [B, C, H, W] in about [-1, 1], each shifted, tinted (if it has three channels) and with a hole, or not:
    each for a share of them. draws: [B, DRAWS] even in [0, 1), from `numbers`; gradients reach the pictures."""
    if share <= 0:
        return pictures
    draws = draws.to(pictures)
    does = draws[:, :3] < share
    out = tinted(pictures, draws[:, 3:6], does[:, 0]) if pictures.shape[1] == 3 else pictures
    out = shifted(out, draws[:, 6:8], does[:, 1])
    return with_hole(out, draws[:, 8:10], does[:, 2])


def numbers(draw: Draw) -> Tensor:
    """The random numbers of a batch's rows [B, DRAWS]."""
    return draw.uniform(DRAWS)


def tinted(x: Tensor, draws: Tensor, does: Tensor) -> Tensor:
    """Brightness by up to half of the range's half, saturation of 0 to 2, contrast of 1/2 to 3/2; draws [B, 3]."""
    bright, colour, contrast = (draws - 0.5).reshape(-1, 3, 1, 1, 1).unbind(1)
    y = x + bright
    grey = y.mean(1, keepdim=True)
    y = grey + (y - grey) * (1 + 2 * colour)
    middle = y.mean((1, 2, 3), keepdim=True)
    return torch.where(does[:, None, None, None], middle + (y - middle) * (1 + contrast), x)


def shifted(x: Tensor, draws: Tensor, does: Tensor) -> Tensor:
    """Moved by whole pixels, up to SHIFT of a side each way, edges repeated; draws [B, 2]."""
    height, width = x.shape[-2:]
    most = torch.tensor([height, width], device=x.device) * SHIFT
    moves = ((2 * draws - 1) * most).round().long() * does[:, None]
    rows = (torch.arange(height, device=x.device) - moves[:, :1]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=x.device) - moves[:, 1:]).clamp(0, width - 1)
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def with_hole(x: Tensor, draws: Tensor, does: Tensor) -> Tensor:
    """A square of CUT of the sides set to 0, its middle anywhere; draws [B, 2]."""
    masks = []
    for axis, side in enumerate(x.shape[-2:]):
        place = torch.arange(side, device=x.device) + 0.5
        masks.append((place - draws[:, [axis]] * side).abs() < CUT * side / 2)
    hole = masks[0][:, :, None] & masks[1][:, None] & does[:, None, None]
    return x * (~hole)[:, None]


def change_of_share(sign: float, rows: int, target: float = 0.6, images: float = 500_000) -> float:
    """By how much an adaptive augmentation's share changes after so many rows: up while the critic's mean sign is above
    the target (it knows the pictures by heart), down while below; at a sign of 1 from 0 to 1 in so many images. ADA
    takes equal steps up and down; a step in proportion is the same for a batch in one piece and in parts."""
    return rows / images * (sign - target) / max(1 - target, 1e-3)
