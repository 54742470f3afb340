"""Rectified flow in pixel space (arXiv:2209.03003), and with other paths and targets any diffusion there: a U-Net, or a
transformer on big patches that predicts the data (arXiv:2511.13720); from text, from a class, or from nothing.

    training  x = picture in [-1, 1], condition = caption | class | none       the loss and the loop: families/flow/
    sampling  noise -> picture;  encode: picture -> the noise that it comes from, along the same ODE
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from genctl.data.pictures import Pictures
from genctl.errors import UsageError
from genctl.families.base import Source
from genctl.families.conditions.conditional import conditioned
from genctl.families.flow.pixel import PixelFlow
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.families.sources import PixelSource
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.unet import UNet, UNetConfig
from genctl.sizes import Size, Sized


@dataclass(frozen=True)
class RFConfig(Sized):
    pixels: Size = Size(64, 64)
    condition: Literal["text", "class", "none"] = "text"
    classes: tuple[str, ...] = ()  # empty in training means: as the data have them
    text: str = "minilm"  # name of the text encoder
    architecture: Literal["unet", "dit"] = "unet"
    unet: UNetConfig = field(default_factory=UNetConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def net(self) -> UNetConfig | DiTConfig:
        """The chosen network's configuration, with the shape of its conditions."""
        chosen: UNetConfig | DiTConfig = self.unet if self.architecture == "unet" else self.dit
        return conditioned(chosen, self.condition, self.classes)


class RF(PixelFlow):
    """Text, a class or nothing -> pictures [B, 3, S, S]. Codes are noise of the pictures' own shape."""

    name = "rf"
    Config = RFConfig
    can = frozenset({"sample", "encode", "decode", "interpolate", "text", "class", "image", "mask"})
    config: RFConfig

    def __init__(self, config: RFConfig) -> None:
        super().__init__(config)
        net = config.net
        if config.condition != "none" and net.text == "none":
            raise UsageError('the net has text = "none"; say model.condition = "none" instead')
        step = net.coarsest if isinstance(net, DiTConfig) else net.patch * 2 ** (len(net.channels) - 1)
        config.pixels.check(step, "the patch times the net's own factor")
        self.net = DiT(net, 3) if isinstance(net, DiTConfig) else UNet(net)
        self.shape = self.shape_of(config.pixels)

    @staticmethod
    def with_net(config: RFConfig, **changes: Any) -> RFConfig:
        return replace(config, **{config.architecture: replace(getattr(config, config.architecture), **changes)})

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return PixelSource(self, pictures, device)
