"""Rectified flow in pixel space (arXiv:2209.03003), and with other paths and targets any diffusion there: a U-Net, or a
transformer on big patches that predicts the data (arXiv:2511.13720); from text, from a class, or from nothing.

    training  x = picture in [-1, 1], condition = caption | class | none       the loss and the loop: families/flow.py
    sampling  noise -> picture;  encode: picture -> the noise that it comes from, along the same ODE
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from genctl import files, hub
from genctl.data.pictures import Pictures, PictureSource
from genctl.draws import Draw
from genctl.errors import InputError, UsageError, nearest
from genctl.families.base import Blend, Source
from genctl.families.captions import Captions, Labels, preview_prompts
from genctl.families.pixel import PixelFlow
from genctl.families.prompted import Conditions
from genctl.families.settings import DiffusionConfig, SamplingConfig
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.unet import UNet, UNetConfig


@dataclass(frozen=True)
class RFConfig:
    pixels: int = 64
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
        if self.condition == "none":
            return replace(chosen, text="none")
        if self.condition == "class":
            return replace(chosen, text_width=max(1, len(self.classes)), text_slots=1)
        return chosen


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
        if config.pixels < 1:
            raise UsageError(f"model.pixels is {config.pixels}; it wants 1 or more")
        step = net.patch * (1 if isinstance(net, DiTConfig) else 2 ** (len(net.channels) - 1))
        if config.pixels % step:
            raise UsageError(f"{config.pixels} pixels do not divide by {step}, the patch times the net's own factor")
        self.net = DiT(net, 3) if isinstance(net, DiTConfig) else UNet(net)
        self.shape = (3, config.pixels, config.pixels)
        self.can = self.can - {"text", "class"} | {config.condition} - {"none"}  # type: ignore[misc]

    @staticmethod
    def with_net(config: RFConfig, **changes: Any) -> RFConfig:
        return replace(config, **{config.architecture: replace(getattr(config, config.architecture), **changes)})

    @staticmethod
    def fitted(config: RFConfig, pictures: Pictures) -> RFConfig:
        if config.condition != "class":
            return config
        classes = tuple(sorted({entry.concept for entry in pictures.entries}))
        if config.classes:
            unknown = [name for name in classes if name not in config.classes]
            if unknown:
                raise UsageError(f"model.classes lacks {unknown[0]!r}, of which the data have pictures")
            return config
        if len(classes) < 2:
            raise InputError("the pictures are of no two classes; sort them into folders, or model.condition = none")
        return replace(config, classes=classes)

    @staticmethod
    def part_hashes(config: RFConfig) -> dict[str, str]:
        if config.condition != "text":
            return {}
        path = hub.resolve(config.text, kind="part")
        return {"text": hub.weights_sha256(path, files.read_header(path))}

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return PixelSource(self, pictures, device)

    def conditions(self, prompts: list[str | Blend]) -> Conditions:
        """As any flow's for text; a class by its name, for which the empty text is none."""
        if self.config.condition == "text":
            return super().conditions(prompts)
        if self.config.condition == "none":
            return ()
        rows = []
        for prompt in prompts:
            a, b, share = (prompt, prompt, 0.0) if isinstance(prompt, str) else (prompt.start, prompt.end, prompt.share)
            rows.append(torch.lerp(self._hot(a), self._hot(b), share))
        hot = torch.stack(rows).to(self.device)  # [B, K]
        return hot[:, None], hot.any(1, keepdim=True), hot

    def _hot(self, name: str) -> Tensor:
        """One-hot [K] of a class, or zeros for the empty name. Raises UsageError for an unknown one."""
        classes = self.config.classes
        if name and name not in classes:
            some = ", ".join(classes[:8]) + ", ..." * (len(classes) > 8)
            raise UsageError(f"no class {name!r}{nearest(name, list(classes))}; known: {some}")
        return torch.tensor([float(name == known) for known in classes])

    def cuts(self, prompt: str) -> bool:
        return self.config.condition == "text" and super().cuts(prompt)


class PixelSource:
    """Batches of pictures x [B, 3, S, S] and their conditions."""

    def __init__(self, model: RF, pictures: Pictures, device: torch.device) -> None:
        self.pictures = PictureSource(pictures, device)
        self.weights = pictures.weights
        self.conditions: Captions | Labels | None = None
        self.preview_prompts = [""] * 16
        if model.config.condition == "text":
            self.conditions = Captions(model, pictures, device)
            self.preview_prompts = preview_prompts(pictures)
        if model.config.condition == "class":
            classes = model.config.classes
            self.conditions = Labels(classes, pictures, device)
            self.preview_prompts = [classes[index * len(classes) // 16] for index in range(16)]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        batch = {"x": self.pictures.batch(rows, draw)["pictures"]}
        return batch if self.conditions is None else batch | self.conditions.batch(rows, draw)
