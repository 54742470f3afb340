"""Randomness has an address: every draw is a pure function of (seed, purpose, index), never of what ran before.

Sampling: picture i of a call has its own generator, seeded seed + i, drawn on the CPU; so a picture depends neither on
the batch it came in nor (up to rounding) on the device. Training: step k of a run draws from (seed, k) alone; so a
resumed run needs only weights, optimiser and k, and continues exactly.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def address(*parts: int | str) -> int:
    """A 63-bit seed that is a hash of an address such as ("train", seed, step)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by an address."""
    return torch.Generator(device).manual_seed(address(*parts))


def picture_noise(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [len(seeds), *shape], float32 on the CPU; row i depends on seeds[i] alone."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def rows(seed: int, step: int, batch: int, weights: Tensor) -> Tensor:
    """The data rows [batch] of a training step, a pure function of (seed, step). weights: [N], not negative.

    Equal weights walk through a fresh permutation each epoch, so that every picture is seen equally often; unequal
    weights are independent draws.
    """
    count = len(weights)
    if not bool((weights == weights[0]).all()):
        return torch.multinomial(weights, batch, replacement=True, generator=generator("rows", seed, step))
    parts: list[Tensor] = []
    position, found = step * batch, 0
    while found < batch:
        epoch, offset = divmod(position + found, count)
        order = torch.randperm(count, generator=generator("epoch", seed, epoch))
        parts.append(order[offset : offset + batch - found])
        found += len(parts[-1])
    return torch.cat(parts)
