"""Quantisers: features [B, d, h, w] -> integers, and the vectors that stand for them.

    fsq     d bounded numbers, each rounded to one of a few levels (arXiv:2309.15505): nothing to learn, no code dies
    vq      the nearest of K learned vectors on the unit sphere (arXiv:1711.00937, 2110.04627), begun by k-means; codes
            that nobody chooses are put where a feature is
    binary  the signs of a unit vector (arXiv:2310.05737, 2406.07548), with entropy terms that keep all of them in use
    scales  vq of what coarser grids leave over (VAR, arXiv:2404.02905): 1 + 4 + 9 ... integers a picture

A gradient passes the rounding as if it were not there. In training each notes how many steps ago a code was last
chosen, and a codebook moves those that are not: besides what is learnt, a step changes these. Of a batch that is taken
in parts all count towards what was chosen, and the first one is where codes are moved to. Nothing here runs in bf16.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.rng import Draw

LONG = 100  # training steps without being chosen, after which a code counts as unused, and is moved
TABLE = 1 << 24  # distances held at a time
KMEANS = 10  # rounds by which a codebook begins
COMMIT = 0.25  # weight of the features' way to their codes, beside the codes' way to them
SHARPNESS = 2.0  # of the soft signs by which entropies are taken, times sqrt(d)
GROW = 0.5  # share of the convolution in what smooths an upsampled grid


class Quantised(NamedTuple):
    features: Tensor  # [B, d, h, w], with a gradient to what was quantised
    tokens: Tensor  # [B, N]
    loss: Tensor


class Quantiser(nn.Module):
    """`codes` integers; vectors have `width` numbers, last in what `project`, `nearest` and `vectors` take and give."""

    since: Tensor  # steps of this training since a code was chosen

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.codes, self.width = codes, width
        self.register_buffer("since", torch.full((codes,), float(LONG)))

    def project(self, x: Tensor) -> Tensor:
        """Features [..., d] as what is rounded."""
        raise NotImplementedError

    def nearest(self, x: Tensor) -> Tensor:
        """Projected features [..., d] -> integers [...]."""
        raise NotImplementedError

    def vectors(self, index: Tensor) -> Tensor:
        """Integers [...] -> vectors [..., d]."""
        raise NotImplementedError

    def loss(self, projected: Tensor, vectors: Tensor) -> Tensor:
        """What training asks beside what comes back."""
        return projected.new_zeros(())

    def begin(self, projected: Tensor, draw: Draw) -> None:
        """Before a training step's features [M, d] are rounded."""

    def forward(self, features: Tensor, draw: Draw | None = None) -> Quantised:
        """With a `draw` as a training step. Features [B, d, h, w] -> tokens [B, h w] by rows."""
        with torch.autocast(features.device.type, enabled=False):
            projected = self.project(features.movedim(1, -1).float())
            if draw is not None:
                self.begin(projected.detach().flatten(0, -2), draw)
            index = self.nearest(projected)
            vectors = self.vectors(index)
            loss = self.loss(projected, vectors)
            if draw is not None:
                self.seen(index, draw)
            rounded = projected + (vectors - projected).detach()
            return Quantised(rounded.movedim(-1, 1), index.flatten(1), loss)

    def index(self, features: Tensor) -> Tensor:
        """[B, d, h, w] -> integers [B, 1, h, w]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.nearest(self.project(features.movedim(1, -1).float()))[:, None]

    def features(self, index: Tensor) -> Tensor:
        """[B, 1, h, w] -> [B, d, h, w]."""
        return self.vectors(index[:, 0].long()).movedim(-1, 1)

    def seen(self, index: Tensor, draw: Draw) -> None:
        """Note which codes a training step chose."""
        if draw.start == 0:
            self.since.add_(1).clamp_(max=LONG)
        self.since[index.flatten().unique()] = 0

    def used(self) -> Tensor:
        """Share of the codes that the latest LONG steps chose."""
        return (self.since < LONG).float().mean()


class FSQ(Quantiser):
    """Codes are numbers written in the base of `levels`, the last one fastest; vectors lie in [-1, 1]."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__(math.prod(levels), len(levels))
        count = torch.tensor(levels)
        place = torch.tensor([math.prod(levels[i + 1 :]) for i in range(len(levels))])
        self.register_buffer("levels", count, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.levels: Tensor
        self.place: Tensor

    def project(self, x: Tensor) -> Tensor:
        """tanh, so wide that rounding gives as many numbers as there are levels; an even count has none at 0."""
        half = (self.levels - 1) * 1.001 / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        return (torch.tanh(x + torch.atanh(offset / half)) * half - offset) / (self.levels // 2)

    def nearest(self, x: Tensor) -> Tensor:
        half = self.levels // 2
        digits = torch.minimum((x * half).round().long() + half, self.levels - 1).clamp(min=0)
        return (digits * self.place).sum(-1)

    def vectors(self, index: Tensor) -> Tensor:
        half = self.levels // 2
        digits = index[..., None] // self.place % self.levels
        return (digits - half) / half


class Codebook(Quantiser):
    """Codes are rows of a codebook, all zero until it is begun. With `sphere` all have length 1 times sqrt(d), else
    they lie anywhere."""

    def __init__(self, codes: int, width: int, sphere: bool = True) -> None:
        super().__init__(codes, width)
        self.sphere = sphere
        self.book = nn.Parameter(torch.zeros(codes, width))
        self.register_buffer("age", torch.zeros(codes))  # steps of this training since a code was moved
        self.age: Tensor

    def on_sphere(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * math.sqrt(self.width) if self.sphere else x

    def project(self, x: Tensor) -> Tensor:
        return self.on_sphere(x)

    def nearest(self, x: Tensor) -> Tensor:
        return closest(x, self.on_sphere(self.book))

    def vectors(self, index: Tensor) -> Tensor:
        return self.on_sphere(F.embedding(index, self.book))

    def loss(self, projected: Tensor, vectors: Tensor) -> Tensor:
        return F.mse_loss(vectors, projected.detach()) + COMMIT * F.mse_loss(projected, vectors.detach())

    @torch.no_grad()
    def begin(self, projected: Tensor, draw: Draw) -> None:
        """k-means where there is no codebook yet, then new places for codes that LONG steps did not choose."""
        if draw.start:
            return
        order = torch.randperm(len(projected), generator=draw.step("codebook")).to(projected.device)
        if not self.book.any():
            self.book.copy_(self.on_sphere(kmeans(projected[order], self.codes, self)))
        self.age.add_(1)
        dead = ((self.since >= LONG) & (self.age > LONG)).nonzero()[:, 0][: len(projected)]
        self.book[dead] = projected[order[: len(dead)]].to(self.book)
        self.age[dead] = 0


def closest(x: Tensor, book: Tensor) -> Tensor:
    """Rows [..., d] -> the place [...] of the nearest row of `book` [K, d]."""
    half, rows = 0.5 * book.square().sum(1), x.detach().flatten(0, -2)
    parts = [(part @ book.T - half).argmax(-1) for part in rows.split(max(1, TABLE // len(book)))]
    return torch.cat(parts).view(x.shape[:-1])


def kmeans(x: Tensor, count: int, of: Codebook) -> Tensor:
    """`count` centres [count, d] of rows [M, d] in random order; where M is less, rows several times."""
    centres = x.repeat(-(-count // len(x)), 1)[:count].clone()
    for _ in range(KMEANS):
        place = closest(x, centres)
        total = torch.zeros_like(centres).index_add_(0, place, x)
        size = torch.bincount(place, minlength=count)[:, None]
        centres = torch.where(size > 0, of.on_sphere(total / size.clamp(min=1)), centres)
    return centres


class Binary(Quantiser):
    """Codes are the bits of `width` signs, the last one fastest; vectors have entries of -1 and 1."""

    def __init__(self, width: int) -> None:
        super().__init__(2**width, width)
        self.register_buffer("place", 2 ** torch.arange(width - 1, -1, -1), persistent=False)
        self.place: Tensor

    def project(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * math.sqrt(self.width)

    def nearest(self, x: Tensor) -> Tensor:
        return ((x > 0) * self.place).sum(-1)

    def vectors(self, index: Tensor) -> Tensor:
        return (index[..., None] // self.place % 2 * 2 - 1).float()

    def loss(self, projected: Tensor, vectors: Tensor) -> Tensor:
        """Each sign sure of itself, all of them together even: mean entropy less the mean's, in nats a sign."""
        share = torch.sigmoid(SHARPNESS * projected).flatten(0, -2)
        return 0.1 * (entropy(share).mean() - entropy(share.mean(0)).mean())


def entropy(share: Tensor) -> Tensor:
    """Of a coin that shows heads with probability `share`, in nats."""
    share = share.clamp(1e-6, 1 - 1e-6)
    return -share * share.log() - (1 - share) * (1 - share).log()


class Residual(nn.Module):
    """Grids from coarse to fine, each the codes of what the coarser ones leave over (VAR, arXiv:2404.02905)."""

    def __init__(self, codes: int, width: int, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.codes, self.width, self.sides = codes, width, sides
        self.base = Codebook(codes, width, sphere=False)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in sides)

    def forward(self, features: Tensor, draw: Draw | None = None) -> Quantised:
        """As Quantiser's; tokens [B, N] grid by grid."""
        with torch.autocast(features.device.type, enabled=False):
            return self._quantised(features.float(), draw)

    def _quantised(self, features: Tensor, draw: Draw | None) -> Quantised:
        if draw is not None:
            self.base.begin(self.asked(features.detach()), draw)
        total, loss, found = torch.zeros_like(features), features.new_zeros(()), list[Tensor]()
        for level, side in enumerate(self.sides):
            rest = features.detach() - total.detach()
            found.append(self.base.nearest(shrunk(rest, side).movedim(1, -1)).flatten(1))
            total = total + self.grown(found[-1].view(-1, side, side), level)
            loss = loss + F.mse_loss(total, features.detach()) + COMMIT * F.mse_loss(features, total.detach())
        index = torch.cat(found, 1)
        if draw is not None:
            self.base.seen(index, draw)
        return Quantised(features + (total - features).detach(), index, loss / len(self.sides))

    def asked(self, features: Tensor) -> Tensor:
        """What the grids would be asked to code, were the coarser ones exact: rows [M, d] of all of them."""
        rest, rows = features, list[Tensor]()
        for level, side in enumerate(self.sides):
            wanted = shrunk(rest, side)
            rows.append(wanted.movedim(1, -1).flatten(0, -2))
            rest = rest - self.spread(wanted, level)
        return torch.cat(rows)

    def grown(self, index: Tensor, level: int) -> Tensor:
        """One grid's codes [B, s, s] as what they add to the features [B, d, S, S]."""
        return self.spread(self.base.vectors(index).movedim(-1, 1), level)

    def spread(self, x: Tensor, level: int) -> Tensor:
        """One grid's vectors [B, d, s, s] over all places [B, d, S, S]."""
        side = self.sides[-1]
        x = F.interpolate(x, size=(side, side), mode="bicubic") if x.shape[-1] != side else x
        return (1 - GROW) * x + GROW * self.smooth[level](x)

    def index(self, features: Tensor) -> Tensor:
        """[B, d, S, S] -> integers [B, N]."""
        return self(features).tokens

    def features(self, index: Tensor, levels: int | None = None) -> Tensor:
        """Integers [B, N] -> [B, d, S, S], of the first so many grids alone."""
        sides = self.sides[:levels]
        parts = index.long()[:, : sum(side**2 for side in sides)].split([side**2 for side in sides], 1)
        grown = (self.grown(part.view(-1, sides[i], sides[i]), i) for i, part in enumerate(parts))
        return torch.stack([*grown]).sum(0)

    def used(self) -> Tensor:
        return self.base.used()


def shrunk(x: Tensor, side: int) -> Tensor:
    """[B, d, S, S] -> the means of areas [B, d, side, side]."""
    return x if x.shape[-1] == side else F.interpolate(x, size=(side, side), mode="area")


def perplexity(index: Tensor, codes: int) -> Tensor:
    """exp of the entropy of a batch's codes: as many are in even use."""
    share = torch.bincount(index.flatten(), minlength=codes).float() / index.numel()
    return torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
