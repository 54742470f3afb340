"""How networks take their conditions: the time and other numbers as features, and learned vectors where no text is."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Scalar = Literal["guidance", "end"]  # what a student is conditioned on beside t


def time_features(t: Tensor, width: int = 256) -> Tensor:
    """Sines and cosines of 1000 t at geometric frequencies, [B] -> [B, width] float32."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = 1000 * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


class ScalarEmbedding(nn.Module):
    """A number [B] -> a vector [B, width], zero at the start, so that a student begins as its teacher."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(256, width), nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, value: Tensor) -> Tensor:
        return self.last(F.silu(self.first(time_features(value).to(self.first.weight.dtype))))


def filled(pooled: Tensor, present: Tensor, net: nn.Module) -> Tensor:
    """Pooled [B, T], with the network's learned empty vector in rows whose slots `present` [B, L] are all empty."""
    return torch.where(present.any(-1, keepdim=True), pooled, net.get_parameter("empty_pooled").to(pooled.dtype))


def slotted(states: Tensor, present: Tensor, net: nn.Module) -> Tensor:
    """States [B, L, T], with the network's learned vectors in slots that are not `present` [B, L]."""
    slots = net.get_parameter("empty_slot").to(states.dtype)[: states.shape[1]]
    return torch.where(present[..., None], states, slots)


def embedded(embeddings: nn.ModuleList, scalars: Tensor | None) -> Tensor | float:
    """The sum of what `embeddings` make of scalars [B, S]: [B, width], or 0 for none."""
    if scalars is None or not len(embeddings):
        return 0.0
    return torch.stack([embed(scalars[:, i]) for i, embed in enumerate(embeddings)]).sum(0)
