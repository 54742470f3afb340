"""The codec of integers (VQGAN, arXiv:2012.09841; FSQ, arXiv:2309.15505): what models over tokens are made of. The
quantisers are in nets/quantise.py, everything else is shared with the continuous codec (codec.py).

    picture -> encoder -> features -> integers [1, H/f, W/f], or those of several grids [N] -> vectors -> decoder
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from genctl.config import to_dict, within
from genctl.errors import InputError, UsageError
from genctl.families.codec import Codec, ConvConfig, PictureLoss
from genctl.nets.quantise import FSQ, Binary, Codebook, Quantiser, Residual, perplexity
from genctl.rng import Draw
from genctl.sizes import Size, Sized

IDLE = 0.5  # share of the codes in use, below which a person should know
MOST_CODES = 1 << 20


@dataclass(frozen=True)
class QuantiserConfig:
    """Of what turns features into integers."""

    kind: Literal["fsq", "vq", "binary"] = "fsq"
    levels: Annotated[tuple[int, ...], within(3, 4096)] = (8, 5, 5, 5)  # fsq: of each number; their product are codes
    codes: Annotated[int, within(2, MOST_CODES)] = 1024  # vq: how many
    width: Annotated[int, within(1, 1024)] = 8  # vq: numbers of a code's vector; binary: bits of a code
    sides: Annotated[tuple[int, ...], within(1, 4096)] = ()  # vq: cells of each grid, coarse to fine; none: one grid

    @property
    def latent(self) -> int:
        return len(self.levels) if self.kind == "fsq" else self.width

    @property
    def count(self) -> int:
        """How many codes there are."""
        return {"fsq": math.prod(self.levels), "vq": self.codes, "binary": 2**self.width}[self.kind]


@dataclass(frozen=True)
class LossConfig(PictureLoss):
    quantiser: Annotated[float, within(0)] = 1.0  # of the quantiser's own loss


@dataclass(frozen=True)
class VQConfig(Sized):
    pixels: Size = Size(128, 128)
    net: ConvConfig = field(default_factory=ConvConfig)
    quantiser: QuantiserConfig = field(default_factory=QuantiserConfig)
    loss: LossConfig = field(default_factory=LossConfig)


class VQ(Codec):
    """Pictures [B, 3, H, W] <-> integers [B, 1, H/f, W/f], or [B, N] of several grids, which take one size only."""

    name = "vq"
    Config = VQConfig
    can = frozenset({"encode", "decode"})
    axes = "token, height, width"
    training_only = ("critic.", "quantiser.since", "quantiser.age", "quantiser.base.since", "quantiser.base.age")
    config: VQConfig

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config, config.quantiser.latent)
        self.quantiser = quantiser_of(config)
        self.sides = config.quantiser.sides
        if self.sides:
            self.axes = "token"  # type: ignore[misc]

    @property
    def beyond_tensors(self) -> list[Any]:
        return [to_dict(self.config.quantiser)]

    def between(self) -> list[nn.Module]:
        return [self.quantiser] if self.config.loss.train_encoder else []

    def averaged(self) -> nn.Module:
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder, "quantiser": self.quantiser})

    def bottleneck(self, pictures: Tensor, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if not self.config.loss.train_encoder:
            with torch.no_grad():
                features = self.quantiser(self.encoder(pictures)[0]).features
            return features, features.new_zeros(()), {}
        made = self.quantiser(self.encoder(pictures)[0], draw)
        figures = {"used": self.quantiser.used(), "perplexity": perplexity(made.tokens, self.quantiser.codes)}
        return made.features, self.config.loss.quantiser * made.loss, figures

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        used = {"used": self.quantiser.used()} if self.config.loss.train_encoder else {}
        return super().validation_loss(batch, draw) | used

    def warnings(self, figures: dict[str, float]) -> list[str]:
        used = figures.get("used", 1.0)
        if used >= IDLE:
            return []
        return [
            f"{used:.0%} of the codes are in use: take fewer of them (--set model.quantiser.codes, levels or width) "
            "or more pictures"
        ]

    def codes_of(self, features: Tensor) -> Tensor:
        if self.sides and features.shape[-2:] != (self.sides[-1],) * 2:
            raise UsageError(f"this codec takes pictures of {self.pixels} only, for it codes them grid by grid")
        return self.quantiser.index(features).int()

    def features_of(self, codes: Tensor) -> Tensor:
        """Raises InputError for what is no code of this codec."""
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise InputError(f"codes of type {str(codes.dtype)[6:]}, where this codec wants whole numbers")
        if not 0 <= int(codes.min()) <= int(codes.max()) < self.quantiser.codes:
            raise InputError(f"codes that are no whole numbers from 0 to {self.quantiser.codes - 1}")
        return self.quantiser.features(codes).to(self.dtype)

    def code_shape(self) -> tuple[int | None, ...]:
        return (sum(side**2 for side in self.sides),) if self.sides else (1, None, None)


def quantiser_of(config: VQConfig) -> Quantiser | Residual:
    """Raises UsageError for settings that do not go together."""
    said, cells = config.quantiser, config.pixels.width // config.net.factor
    if not 2 <= said.count <= MOST_CODES:
        raise UsageError(f"model.quantiser: {said.count} codes; 2 to {MOST_CODES}")
    if said.sides:
        if said.kind != "vq":
            raise UsageError(f"model.quantiser.sides: grids of what is left over want kind = vq, not {said.kind}")
        rising = all(a < b for a, b in pairwise(said.sides))
        if config.pixels.width != config.pixels.height or said.sides[-1] != cells or not rising:
            raise UsageError(f"model.quantiser.sides: rising, the last one {cells}, of square pictures")
        return Residual(said.codes, said.width, said.sides)
    if said.kind == "vq":
        return Codebook(said.codes, said.width)
    return FSQ(said.levels) if said.kind == "fsq" else Binary(said.width)
