"""How adversarial families are built and trained, and what their pictures can be asked for. Without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from genctl.config import within
from genctl.options import Options, option

ObjectiveName = Literal["relativistic", "non-saturating", "minimax", "hinge", "wasserstein"]
Span = tuple[float, float]


@dataclass(frozen=True)
class GeneratorConfig:
    """Of the network that draws."""

    kind: Literal["style", "dcgan"] = "style"
    latent: Annotated[int, within(1, 4096)] = 128  # numbers of z, and
    style: Annotated[int, within(1, 4096)] = 256  # of the style that is made of it
    depth: Annotated[int, within(1, 16)] = 2  # layers of the mapping
    width: Annotated[int, within(1, 4096)] = 32  # at the finest resolution; doubled at each coarser one
    most: Annotated[int, within(1, 8192)] = 256  # up to this
    text_width: Annotated[int, within(1, 1 << 16)] = 384
    text_slots: Annotated[int, within(1, 4096)] = 16


@dataclass(frozen=True)
class CriticConfig:
    """Of the network that judges; it is not part of the model file."""

    kind: Literal["residual", "borrowed", "dcgan"] = "residual"
    width: Annotated[int, within(1, 4096)] = 32
    most: Annotated[int, within(1, 8192)] = 256
    blocks: Annotated[int, within(1, 64)] = 1  # a resolution
    statistics: bool = False  # of the batch, so that pictures which are all alike are seen to be


@dataclass(frozen=True)
class LossConfig:
    """Pairs are values at the start and after the burn-in, between which a cosine leads (R3GAN, arXiv:2501.05441)."""

    objective: ObjectiveName = "relativistic"
    penalty: Annotated[Span, within(0)] = (2.0, 0.2)  # weight of the slope's; grows with the pixels
    on_real: bool = True  # R1
    on_fake: bool = True  # R2
    burn_in: Annotated[float, within(0, 1)] = 0.2  # share of the run
    beta2: Annotated[Span, within(0, 1)] = (0.9, 0.99)  # of Adam
    augment: Annotated[Span, within(0, 1)] = (0.0, 0.3)  # share of the pictures that the critic sees disturbed
    mixing: Annotated[float, within(0, 1)] = 0.5  # share of pictures whose later layers take another style


def between(span: Span, burn_in: float, progress: float) -> float:
    """The value of a schedule at a share of the run."""
    share = min(1.0, progress / burn_in) if burn_in else 1.0
    return span[1] + (span[0] - span[1]) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class GANOptions(Options):
    truncation: float = option(
        1.0, "Towards the mean style of what is asked for: 1 = as drawn, 0 = the mean itself.", panel="GAN",
        low=-4, high=4, aliases=("truncation_psi",),
    )  # fmt: skip
    noise: float = option(1.0, "Strength of the fresh noise that makes the details.", panel="GAN", low=0, high=10)
