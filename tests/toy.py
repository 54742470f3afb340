"""A whole family in 60 lines: pictures of one colour from a class. What a new family has to say, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from genctl.data.pictures import Pictures
from genctl.families.base import Drawn, Losses, Request, Source
from genctl.families.conditions.conditional import Conditional, classes_of
from genctl.families.sources import PixelSource
from genctl.options import Options, option
from genctl.rng import Draw, picture_noise
from genctl.sizes import Size, Sized


@dataclass(frozen=True)
class ToyOptions(Options):
    warmth: float = option(0.0, "How much redder.", panel="Toy", low=-1, high=1)


@dataclass(frozen=True)
class ToyConfig(Sized):
    pixels: Size = Size(16, 16)
    condition: str = "class"
    classes: tuple[str, ...] = ()


class Toy(Conditional):
    name, Config, Options, can = "toy", ToyConfig, ToyOptions, frozenset({"sample", "class"})

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.config, self.pixels = config, config.pixels
        self.net = nn.Linear(max(1, len(config.classes)), 3)

    @staticmethod
    def fitted(config: ToyConfig, pictures: Pictures) -> ToyConfig:
        return replace(config, classes=classes_of(config, pictures))

    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net}

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return PixelSource(self, pictures, device)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        yield "model", (self.net(batch["pooled"]) - batch["x"].mean((2, 3))).square().mean(), {}

    def preview(self, source: Source) -> Tensor:
        return next(self.sample(Request([0, 1], [*self.config.classes[:2]]))).pictures

    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        warm = torch.tensor([1.0, 0, -1]) * self.options(request).warmth
        colours = self.net(self.conditions(request.conditions)[2]) + warm + 0.05 * picture_noise(request.seeds, (3,))
        yield Drawn(0, colours.clamp(-1, 1)[:, :, None, None].expand(-1, -1, *self.pixels.high))
