"""Critics: pictures or codes [B, C, S, S] and a condition [B, T] -> opinions [B] or [B, M]. `see` is all that does not
depend on the condition, `judge` the rest, so that one look serves several conditions.

`ResidualCritic` has no normalisation layer, leaky ReLU, resampling by [1, 2, 1] and residual branches that begin at
zero (R3GAN, arXiv:2501.05441). `BorrowedCritic` has small heads on the frozen features of a trained network at several
scales, mixed by fixed random maps (Projected GAN, arXiv:2111.01007): what makes a critic of few pictures. A condition
is met by projection (arXiv:1802.05637): its product with the features is part of the opinion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.nets.lpips import CHANNELS, LPIPS

SLOPE = 0.2
LEAST = 4  # cells of the last grid's side
MIXED = 32  # channels of the borrowed features once mixed, at the finest scale; twice as many at each coarser one


class Branch(nn.Module):
    """x + branch(x): to half the width, a 3 x 3 convolution there, and back; the last begins at zero, so all as the
    identity (Fixup, arXiv:1901.09321). [B, C, H, W] -> the same.

    R3GAN widens to twice the width and convolves in groups of 16, whose second derivative torch takes group by group.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        inner = width // 2
        self.into = nn.Conv2d(width, inner, 1)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1)
        self.back = nn.Conv2d(inner, width, 1)
        for layer in (self.into, self.middle):
            scaled(layer, blocks**-0.25)
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.into(x), SLOPE)
        return x + self.back(F.leaky_relu(self.middle(y), SLOPE))


def scaled(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Weights that keep the size of what comes in through leaky ReLU, times `gain`."""
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.mul_(gain)


def halve(x: Tensor) -> Tensor:
    """Half as large [B, C, H / 2, W / 2]: means of fours, after smoothing by [1, 2, 1], which is two means of two."""
    smooth = F.avg_pool2d(F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 2, stride=1), 2, stride=1)
    return F.avg_pool2d(smooth, 2)


class Projection(nn.Module):
    """Features [B, D] -> opinions [B]: linear, and by their product with the condition."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.last = nn.Linear(width, 1)
        self.project = nn.Linear(condition, width, bias=False) if condition else None
        scaled(self.last, 1.0)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        opinion = self.last(features)[:, 0]
        if self.project is None or condition is None:
            return opinion
        wanted = self.project(condition)
        return opinion + (wanted * features).sum(1) / math.sqrt(features.shape[1])


class Critic(nn.Module):
    """Base of critics. `share` is that of the pictures which are disturbed before it sees them, where that adapts: it
    belongs to the critic's state."""

    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.zeros(()))

    def see(self, pictures: Tensor) -> Any:
        """What the critic sees of pictures [B, C, S, S], whatever they are to show."""
        raise NotImplementedError

    def judge(self, seen: Any, condition: Tensor | None) -> Tensor:
        """Opinions [B] or [B, M] of what was seen, under conditions [B, T]."""
        raise NotImplementedError

    def forward(self, pictures: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.judge(self.see(pictures), condition)


class ResidualCritic(Critic):
    """[B, C, S, S], S = 4 times a power of two -> opinions [B]."""

    def __init__(
        self, side: int, condition: int, width: int, most: int, blocks: int = 1, channels: int = 3,
        statistics: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        count = round(math.log2(side / LEAST))
        if count < 0 or LEAST * 2**count != side:
            raise ValueError(f"{side} cells: {LEAST} times a power of two is wanted")
        widths = [min(width * 2**level, most) for level in range(count + 1)]
        total = blocks * len(widths)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(nn.Sequential(*(Branch(w, total) for _ in range(blocks))) for w in widths)
        self.changes = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(widths))
        self.basis = nn.Conv2d(widths[-1] + statistics, widths[-1], LEAST, bias=False)
        self.head = Projection(widths[-1], condition)
        self.statistics = statistics
        scaled(self.first, 1.0)
        scaled(self.basis, 1.0)

    def see(self, pictures: Tensor) -> Tensor:
        """Features [B, W]."""
        x = self.first(pictures)
        for index, level in enumerate(self.levels):
            x = level(x)
            if index < len(self.changes):
                x = self.changes[index](halve(x))
        x = with_statistics(x) if self.statistics else x
        return F.leaky_relu(self.basis(x)[:, :, 0, 0], SLOPE)

    def judge(self, seen: Tensor, condition: Tensor | None) -> Tensor:
        return self.head(seen, condition)


def with_statistics(x: Tensor, group: int = 4) -> Tensor:
    """x [B, C, H, W] with one channel more: how much it deviates within groups of the batch, in the mean over all
    (arXiv:1710.10196), so that pictures which are all alike are seen to be. A batch that does not divide into groups is
    one group."""
    batch = len(x)
    size = group if batch % group == 0 else batch
    parts = x.reshape(size, batch // size, -1).float()
    spread = (parts.var(0, unbiased=False) + 1e-8).sqrt().mean(1)  # [B / size]
    return torch.cat([x, spread.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:]).to(x.dtype)], 1)


class Head(nn.Module):
    """Mixed features [B, C, h, w], halved while larger than LEAST, and a condition -> opinions [B, M] of places."""

    def __init__(self, width: int, condition: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers += [nn.Conv2d(width, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers, self.last = nn.Sequential(*layers), nn.Conv2d(width, 1, 1)
        self.project = nn.Linear(condition, width, bias=False) if condition else None

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Opinions of what `layers` made of the features."""
        opinion = self.last(x)[:, 0]
        if self.project is not None and condition is not None:
            wanted = self.project(condition)[:, :, None, None]
            opinion = opinion + (wanted * x).sum(1) / math.sqrt(x.shape[1])
        return opinion.flatten(1)


class BorrowedCritic(Critic):
    """Pictures [B, 3, S, S] in about [-1, 1], or what `rendered` makes such pictures of -> opinions [B, M] by what
    LPIPS's AlexNet sees at three scales."""

    FROM = (0, 1, 4)  # layers of the eyes, fine to coarse

    def __init__(
        self, condition: int, load: Callable[[], LPIPS], rendered: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.load, self.rendered = load, rendered
        self.eyes = list[LPIPS]()  # filled at first use; a list: not saved with the critic
        generator = torch.Generator().manual_seed(0)
        widths = [MIXED * 2**level for level in range(len(self.FROM))]
        for level, (layer, width) in enumerate(zip(self.FROM, widths, strict=True)):
            self.register_buffer(f"mix{level}", random_map(CHANNELS[layer], width, generator))
            if level + 1 < len(widths):
                self.register_buffer(f"down{level}", random_map(widths[level + 1], width, generator))
        self.heads = nn.ModuleList(Head(width, condition, max(0, 2 - level)) for level, width in enumerate(widths))

    def see(self, pictures: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of each scale, as its head has them."""
        if not self.eyes:
            self.eyes.append(self.load().to(pictures.device))
        pictures = pictures if self.rendered is None else self.rendered(pictures)
        seen = self.eyes[0].features(pictures.float())
        mixed: list[Tensor] = []
        coarser: Tensor | None = None
        for level in reversed(range(len(self.FROM))):  # coarse to fine, each with what the coarser ones see
            features = seen[self.FROM[level]]
            x = F.conv2d(features, self.get_buffer(f"mix{level}")) * math.sqrt(features.shape[1])
            if coarser is not None:
                wide = F.interpolate(coarser, x.shape[-2:], mode="bilinear")
                x = (x + F.conv2d(wide, self.get_buffer(f"down{level}"))) / math.sqrt(2)
            mixed.insert(0, x)
            coarser = x
        return [head.layers(x) for head, x in zip(self.heads, mixed, strict=True)]  # type: ignore[operator]

    def judge(self, seen: list[Tensor], condition: Tensor | None) -> Tensor:
        return torch.cat([head(x, condition) for head, x in zip(self.heads, seen, strict=True)], 1)


def random_map(before: int, after: int, generator: torch.Generator) -> Tensor:
    """A fixed random 1 x 1 kernel [after, before, 1, 1] that keeps the size of what comes in."""
    return torch.randn(after, before, 1, 1, generator=generator) / math.sqrt(before)
