"""How adversarial families are built and trained, and what their pictures can be asked for. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from genctl import config
from genctl.config import above, below, within
from genctl.errors import UsageError
from genctl.options import Options, Walked, option
from genctl.seeds import MOST_SEED
from genctl.sizes import Size, Sized

ObjectiveName = Literal["relativistic", "non-saturating", "minimax", "hinge", "wasserstein"]
Span = tuple[float, float]
FIRST = 4  # cells of a generator's first grid, a side
FAR = 3.0  # standard deviations that a walk along a direction goes each way


@dataclass(frozen=True)
class GeneratorConfig:
    """Of the network that draws."""

    kind: Literal["style", "dcgan"] = "style"  # dcgan normalises by the batch (or its parts), so train.ema = 0 fits it
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
    statistics: bool = False  # of the batch (or of its parts), so that pictures which are all alike are seen to be


@dataclass(frozen=True)
class LossConfig:
    """Pairs are values at the start and after the burn-in, between which a cosine leads (R3GAN, arXiv:2501.05441)."""

    objective: ObjectiveName = "relativistic"
    penalty: Annotated[Span, within(0)] = (2.0, 0.2)  # weight of the slope's; grows with the pixels
    on_real: bool = True  # R1
    on_fake: bool = True  # R2
    every: Annotated[int, within(1, 64)] = 1  # steps a penalty, which then weighs as many times as much
    critic_rate: Annotated[float, above(0)] = 0.05  # of the generator's rate: a style generator's weights are scaled
    burn_in: Annotated[float, within(0, 1)] = 0.2  # share of the run
    beta2: Annotated[Span, below(1)] = (0.9, 0.99)  # of Adam, in the place of the second of train.betas
    augment: Annotated[Span, within(0, 1)] = (0.0, 0.3)  # share of the pictures that the critic sees disturbed
    adapt: Annotated[float, within(0, 1)] = 0.0  # sign statistic to which this share adapts instead (ADA: .6)
    mixing: Annotated[float, within(0, 1)] = 0.5  # share of pictures whose later layers take another style
    condition_dropout: Annotated[float, within(0, 1)] = 0.1  # share of pictures that are asked for without a condition
    mismatch: Annotated[float, within(0)] = 0.5  # weight of real pictures with a condition that is not theirs, as fakes


@dataclass(frozen=True)
class GANConfig(Sized):
    pixels: Size = Size(64, 64)
    condition: Literal["text", "class", "none"] = "text"
    classes: tuple[str, ...] = ()  # empty in training means: as the data have them
    text: str = "minilm"  # name of the text encoder
    codec: str = ""  # name of the codec whose codes are drawn; empty: pixels
    channels: Annotated[int | None, within(1, 1024)] = None  # of these codes, and
    factor: Annotated[int | None, within(1, 256)] = None  # pixels a code cell; None in training: as the codec has
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    @property
    def net(self) -> GeneratorConfig:
        """The generator's configuration, with the shape of its conditions."""
        if self.condition == "class":
            return replace(self.generator, text_width=max(1, len(self.classes)), text_slots=1)
        return self.generator

    @property
    def condition_width(self) -> int:
        return 0 if self.condition == "none" else self.net.text_width

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and side of x."""
        side = self.pixels.width
        return (self.channels or 1, side // (self.factor or 1)) if self.codec else (3, side)


def between(span: Span, burn_in: float, progress: float) -> float:
    """The value of a schedule at a share of the run."""
    share = min(1.0, progress / burn_in) if burn_in else 1.0
    return span[1] + (span[0] - span[1]) * (1 + math.cos(math.pi * share)) / 2


def styles_of(side: int) -> int:
    """How many styles a style generator of grids up to `side` takes: two layers a resolution but for the first, and the
    last part of the picture."""
    return 2 * round(math.log2(side / FIRST)) + 2


@dataclass(frozen=True)
class GANOptions(Options):
    truncation: float = option(
        1.0, "Truncation: 1 = none, 0 = the mean style of the prompt.", panel="GAN",
        low=-4, high=4, aliases=("truncation_psi",),
    )  # fmt: skip
    noise: float = option(1.0, "Strength of the noise inputs of the layers (details).", panel="GAN", low=0, high=10)
    mix: int | None = option(
        None, "Later layers in the style of this seed (--seeds 1-3 --mix 4,5,6 --grid: a style-mixing sheet).",
        panel="GAN", low=0, high=MOST_SEED,
    )  # fmt: skip
    mix_from: int | None = option(
        None, "First layer in that style (default: the middle one).", panel="GAN", low=1, high=64
    )
    direction: int | None = option(
        None, "Move the style along this latent direction; 1 is what moves the layers' modulation most.", panel="GAN",
        low=1, high=4096, walked=Walked("along", -FAR, FAR),
    )  # fmt: skip
    along: float | None = option(
        None, "How far, in standard deviations (default 2; interpolate walks from -3 to 3).", panel="GAN",
        low=-100, high=100,
    )  # fmt: skip

    @classmethod
    def refused(cls, document: Mapping[str, Any]) -> dict[str, str]:
        if document["config"].get("generator", {}).get("kind") != "dcgan":
            return {}
        return dict.fromkeys(("truncation", "noise", "mix", "mix_from", "direction", "along"), "its net has no styles")

    @classmethod
    def check_document(cls, document: Mapping[str, Any]) -> None:
        made = config.build(GANConfig, document["config"])
        if made.shape[1] < FIRST:
            raise UsageError(f"settings pixels and factor want {FIRST} cells a side or more")

    def settled(self, document: Mapping[str, Any], conditional: bool = True) -> GANOptions:
        if self.mix is None and self.mix_from is not None:
            raise UsageError("--mix-from has no effect without --mix, the seed of that style; leave it out")
        if self.direction is None and self.along is not None:
            raise UsageError("--along has no effect without --direction; leave it out")
        made = config.build(GANConfig, document["config"])
        style, layers = made.generator.style, styles_of(made.shape[1])
        if self.mix_from is not None and self.mix_from >= layers:
            raise UsageError(f"--mix-from {self.mix_from}: the model has {layers} layers; 1 to {layers - 1}")
        if self.direction is not None and self.direction > style:
            raise UsageError(f"--direction {self.direction}: the model's styles have {style}")
        return replace(
            self,
            mix_from=None if self.mix is None else self.mix_from or layers // 2,
            along=None if self.direction is None else 2.0 if self.along is None else self.along,
        )
