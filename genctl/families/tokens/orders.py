"""The three orders in which a picture's N tokens are drawn, by one contract.

    passes    the places that are drawn together, pass after pass
    element   what the network is fed to draw some of them, the tokens before being known
    training  the whole of a picture as the network sees it in training, and which tokens it is asked for

raster goes by rows and keeps what it computed (a cache); masked computes all anew at each pass, by places that are
spread evenly (a Halton sequence: arXiv:2503.17076), few at first; scale draws a whole grid a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from genctl.errors import UsageError
from genctl.nets.gpt import GPT
from genctl.nets.quantise import shrunk
from genctl.rng import Draw

Features = Callable[[Tensor, int], Tensor]  # tokens [B, N] of the first so many grids -> features [B, d, S, S]


class Elements(NamedTuple):
    """A sequence for the network: what elements know [B, M, D], the places [B or 1, M] that they are asked for, and
    their blocks [M]."""

    known: Tensor
    at: Tensor
    blocks: Tensor


class Lesson(NamedTuple):
    """Elements, the tokens [B, M] that are right, and the weight of each [B, M], which adds up to 1 a row."""

    elements: Elements
    wanted: Tensor
    weight: Tensor


class Order:
    """Base of orders of the tokens [N] of one grid or several, `sides` cells (height, width) each."""

    cached = True  # whether what a pass computed serves the next ones
    redraws = True  # whether a part of a given picture can be drawn anew

    def __init__(self, grids: list[tuple[int, int]]) -> None:
        self.grids = grids
        self.count = sum(height * width for height, width in grids)

    def places(self) -> Tensor:
        """Where each token is [N, 2], in cells of the finest grid."""
        finest = self.grids[-1]
        found = []
        for grid in self.grids:
            axes = [(torch.arange(side) + 0.5) * (most / side) - 0.5 for side, most in zip(grid, finest, strict=True)]
            found.append(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 2))
        return torch.cat(found)

    def passes(self, asked: int | None, redrawn: Tensor) -> list[Tensor]:
        """Places [n] of each pass; of these `redrawn` [N] are to be drawn. Raises UsageError where that can't be."""
        raise NotImplementedError

    def elements(self, net: GPT, tokens: Tensor, known: Tensor, part: Tensor, features: Features) -> Elements:
        """What draws the places `part` [n] of tokens [B, N], of which `known` [N] are there. In a cached order only
        these, else all N."""
        raise NotImplementedError

    def training(self, net: GPT, tokens: Tensor, features: Features, draw: Draw, progress: float) -> Lesson:
        raise NotImplementedError

    def judging(self, net: GPT, tokens: Tensor, features: Features, draw: Draw) -> Lesson:
        """As in training, but in the order that draws and with nothing dropped."""
        return self.training(net, tokens, features, draw, 1.0)


class Raster(Order):
    """Row by row. `random_order`: see LossConfig."""

    def __init__(
        self, grids: list[tuple[int, int]], dropout: float = 0.0, random_order: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        super().__init__(grids)
        self.dropout, self.random_order = dropout, random_order

    def passes(self, asked: int | None, redrawn: Tensor) -> list[Tensor]:
        if not bool(redrawn.cummax(0).values.eq(redrawn).all()):
            raise UsageError("--mask: this model draws row by row: it can go on from a picture's upper part, no more")
        return [*torch.arange(self.count).split(1)]

    def elements(self, net: GPT, tokens: Tensor, known: Tensor, part: Tensor, features: Features) -> Elements:
        place = int(part)
        given = net.nothing(len(tokens)) if not place else net.token_known(tokens[:, [place - 1]], part[None] - 1)
        return Elements(given, part[None], torch.zeros(1, dtype=torch.long, device=part.device))

    def training(self, net: GPT, tokens: Tensor, features: Features, draw: Draw, progress: float) -> Lesson:
        at = self._rows(tokens)
        shuffled, any_order = draw.uniform(self.count).argsort(1), draw.uniform(1)
        at = torch.where(any_order < self.share(progress), shuffled, at)
        return self._lesson(net, tokens, at, draw.uniform(self.count - 1) >= self.dropout)

    def judging(self, net: GPT, tokens: Tensor, features: Features, draw: Draw) -> Lesson:
        return self._lesson(net, tokens, self._rows(tokens), torch.ones_like(tokens[:, 1:], dtype=torch.bool))

    def _rows(self, tokens: Tensor) -> Tensor:
        return torch.arange(self.count, device=tokens.device).expand(len(tokens), -1)

    def _lesson(self, net: GPT, tokens: Tensor, at: Tensor, kept: Tensor) -> Lesson:
        """Places `at` [B, N] in turn, of each but the last whether its token is `kept` [B, N - 1] for the next one."""
        wanted = tokens.gather(1, at)
        before = net.token_known(torch.where(kept, wanted[:, :-1], net.codes), at[:, :-1])
        known = torch.cat([net.nothing(len(tokens)), before], 1)
        return Lesson(Elements(known, at, torch.arange(self.count, device=at.device)), wanted, even(wanted))

    def share(self, progress: float) -> float:
        """Of pictures that are learnt in any order."""
        start, end = self.random_order
        return 1.0 if progress < start else max(0.0, (end - progress) / (end - start)) if end > start else 0.0


class Masked(Order):
    """Several places a pass, spread evenly over the picture; a pass sees all that is known."""

    cached = False

    @cached_property
    def spread(self) -> Tensor:
        """Places [N] in the order that draws."""
        return halton(*self.grids[-1])

    def passes(self, asked: int | None, redrawn: Tensor) -> list[Tensor]:
        order = self.spread[redrawn[self.spread]]
        count = max(1, min(asked or 1, len(order)))
        shares = [1 - math.cos(math.pi / 2 * k / count) for k in range(count + 1)]
        stops = [round(len(order) * share) for share in shares]
        for k in range(1, count + 1):  # one at least a pass
            stops[k] = min(max(stops[k], stops[k - 1] + 1), len(order) - (count - k))
        return [order[a:b] for a, b in pairwise(stops)]

    def elements(self, net: GPT, tokens: Tensor, known: Tensor, part: Tensor, features: Features) -> Elements:
        at = torch.arange(self.count, device=tokens.device)
        return Elements(net.token_known(torch.where(known, tokens, net.codes)), at[None], torch.zeros_like(at))

    def training(self, net: GPT, tokens: Tensor, features: Features, draw: Draw, progress: float) -> Lesson:
        hidden = (torch.cos(math.pi / 2 * draw.strata()) * self.count).ceil().clamp(1, self.count)
        rank = draw.uniform(self.count).argsort(1).argsort(1)
        masked = rank < hidden[:, None]
        elements = self.elements(net, tokens, ~masked, rank, features)
        return Lesson(elements, tokens, masked / hidden[:, None])


class Scale(Order):
    """A grid a pass, from coarse to fine."""

    redraws = False

    def parts(self) -> list[Tensor]:
        return [*torch.arange(self.count).split([height * width for height, width in self.grids])]

    def passes(self, asked: int | None, redrawn: Tensor) -> list[Tensor]:
        return self.parts()

    def elements(self, net: GPT, tokens: Tensor, known: Tensor, part: Tensor, features: Features) -> Elements:
        level = next(i for i, one in enumerate(self.parts()) if int(one[0]) == int(part[0]))
        return Elements(self._known(net, tokens, level, features), part[None], torch.full_like(part, level))

    def _known(self, net: GPT, tokens: Tensor, level: int, features: Features) -> Tensor:
        """What the coarser grids make of the picture, seen at this one's size."""
        if not level or net.known_in is None:
            return net.nothing(len(tokens), math.prod(self.grids[0]))
        seen = shrunk(features(tokens, level), self.grids[level][0])
        return net.known_in(seen.flatten(2).transpose(1, 2).to(net.known_in.weight.dtype))

    def training(self, net: GPT, tokens: Tensor, features: Features, draw: Draw, progress: float) -> Lesson:
        parts = [part.to(tokens.device) for part in self.parts()]
        known = torch.cat([self._known(net, tokens, level, features) for level in range(len(parts))], 1)
        blocks = torch.cat([torch.full_like(part, level) for level, part in enumerate(parts)])
        return Lesson(Elements(known, torch.cat(parts)[None], blocks), tokens, even(tokens))


def even(tokens: Tensor) -> Tensor:
    return torch.full(tokens.shape, 1 / tokens.shape[1], device=tokens.device)


def halton(height: int, width: int) -> Tensor:
    """The places [N] of a grid in the order in which a Halton sequence of bases 2 and 3 meets them."""
    found: dict[int, None] = {}
    index = 1
    while len(found) < height * width:
        row, column = (int(radical_inverse(index, base) * side) for base, side in ((2, height), (3, width)))
        found.setdefault(row * width + column)
        index += 1
    return torch.tensor(list(found))


def radical_inverse(index: int, base: int) -> float:
    """A whole number's digits mirrored at the point: 6 = 110 in base 2 gives .011 = 3/8."""
    value, unit = 0.0, 1.0
    while index:
        unit /= base
        value += unit * (index % base)
        index //= base
    return value
