"""Latent diffusion with a transformer, text to image: a flow on a frozen codec's codes, conditioned on a frozen
encoder's text (arXiv:2112.10752, 2212.09748, 2403.03206).

    training  x = codec.encode(picture), text states of a caption          the loss and the loop: families/flow/
    sampling  noise -> x -> codec.decode

Codes and text states are computed once and cached; a tenth of the captions is dropped in training, so that the same net
also predicts without text, which guidance needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from genctl.config import within
from genctl.data.pictures import Pictures
from genctl.errors import UsageError
from genctl.families.base import Source
from genctl.families.coded import Coded, codec_hash, with_codec
from genctl.families.conditions.conditional import part_hash
from genctl.families.flow.flow import Flow
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.families.sources import CodeSource
from genctl.nets.dit import DiT, DiTConfig
from genctl.sizes import Size, Sized


@dataclass(frozen=True)
class LDMConfig(Sized):
    pixels: Size = Size(128, 128)
    codec: str = "vae"  # name of the codec, and
    text: str = "minilm"  # of the text encoder
    channels: Annotated[int | None, within(1, 1024)] = None  # of the codec's codes, and
    factor: Annotated[int | None, within(1, 256)] = None  # pixels a code cell; None in training: as the codec has
    net: DiTConfig = field(default_factory=DiTConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


class LDM(Coded, Flow):
    """Text (or nothing) -> pictures [B, 3, S, S]; codes [B, d, S/f, S/f] are the codec's."""

    name = "ldm"
    Config = LDMConfig
    can = frozenset({"sample", "encode", "decode", "interpolate", "text", "image", "mask"})
    spaces: tuple[str, ...] = ("code", "noise")
    config: LDMConfig

    def __init__(self, config: LDMConfig) -> None:
        super().__init__(config)
        if config.channels is None or config.factor is None:
            raise UsageError("model.channels and model.factor are open; say those of the codec")
        if config.net.text == "none":
            raise UsageError('net.text = "none": an ldm is a text model; use joint or cross')
        config.pixels.check(config.factor * config.net.coarsest, "the codec's factor times the patch")
        self.factor = config.factor
        self.net = DiT(config.net, config.channels)
        self.shape = self.shape_of(config.pixels)

    @staticmethod
    def settled(config: LDMConfig) -> LDMConfig:
        return with_codec(config)

    @staticmethod
    def part_hashes(config: LDMConfig) -> dict[str, str]:
        return codec_hash(config) | {"text": part_hash(config.text, "part")}

    def shape_of(self, size: Size) -> tuple[int, ...]:
        return self.config.channels or 1, size.height // self.factor, size.width // self.factor

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return CodeSource(self, self.codec(), pictures, device)

    def to_x(self, pictures: Tensor) -> Tensor:
        return self.encode(pictures)

    def from_x(self, x: Tensor) -> Tensor:
        return self.decode(x)

    def code_shape(self) -> tuple[int | None, ...]:
        return self.config.channels, None, None

    def encode(self, pictures: Tensor) -> Tensor:
        return self.codec().encode(pictures)

    def decode(self, codes: Tensor) -> Tensor:
        return self.codec().decode(codes)
