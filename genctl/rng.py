"""Randomness has an address: every draw is a pure function of (seed, purpose, index), never of what ran before.

Sampling: picture i of a call has its own generator, seeded seed + i, drawn on the CPU; so a picture depends neither on
the batch it came in nor (up to rounding) on the device. Training: step k of a run draws from (seed, k) alone; so a
resumed run needs only weights, optimiser and k, and continues exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def address(*parts: int | str) -> int:
    """A 63-bit seed that is a hash of an address such as ("train", seed, step)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded by an address."""
    return torch.Generator(device).manual_seed(address(*parts))


class PictureNoise:
    """Standard normal noise [len(seeds), *shape], float32 on the CPU, new at each call; row i depends on seeds[i] and
    the number of the call alone."""

    def __init__(self, seeds: list[int], shape: tuple[int, ...]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape = shape

    def __call__(self) -> Tensor:
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators])


def picture_noise(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """The noise [len(seeds), *shape] that pictures of these seeds start from."""
    return PictureNoise(seeds, shape)()


class Draw:
    """A training step's random numbers for rows `start` to `stop` of its global batch of `total`.

    All rows are drawn and these are kept, so that what a row gets does not depend on how the batch is split: into parts
    that fit the memory, or over processes. `seed` is the step's own.
    """

    def __init__(self, seed: int, total: int, device: torch.device | str = "cpu") -> None:
        self.seed, self.total, self.start, self.stop = seed, total, 0, total
        self.generator = torch.Generator(device).manual_seed(seed)

    def part(self, start: int, stop: int) -> Draw:
        """The same draws for fewer rows; to be taken before anything was drawn."""
        made = Draw(self.seed, self.total, self.generator.device)
        made.start, made.stop = start, stop
        return made

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), [rows, *shape]."""
        return self._rows(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """U(0, 1), [rows, *shape]."""
        return self._rows(torch.rand, shape)

    def strata(self) -> Tensor:
        """U(0, 1), [rows]: one in each of `total` equal strata, in random order. Estimates a mean over (0, 1) with less
        variance than independent draws (VDM, arXiv:2107.00630, appendix I.1)."""
        device = self.generator.device
        order = torch.randperm(self.total, generator=self.generator, device=device)
        within = torch.rand(self.total, generator=self.generator, device=device)
        return ((order + within) / self.total)[self.start : self.stop]

    def step(self, purpose: str) -> torch.Generator:
        """A CPU generator for what the whole batch shares and the host must know (a shape, a choice)."""
        return generator(purpose, self.seed)

    def _rows(self, make: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        drawn = make(self.total, *shape, generator=self.generator, device=self.generator.device)
        return drawn[self.start : self.stop]


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
