"""Flows in pixel space."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from genctl.families.flow.flow import Flow
from genctl.media.pictures import refuse_infinite
from genctl.sizes import Size


class PixelFlow(Flow):
    """A flow whose x is the picture itself, so that its codes are noise."""

    spaces = ("noise",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if self.distilled:  # and knows no way back to noise
            self.can = self.can - {"encode", "decode"}

    def shape_of(self, size: Size) -> tuple[int, ...]:
        return 3, *size.high

    def to_x(self, pictures: Tensor) -> Tensor:
        return pictures

    def from_x(self, x: Tensor) -> Tensor:
        return refuse_infinite(x.float()).clamp(-1, 1)

    def rendered(self, x: Tensor) -> Tensor:
        return x.float()

    def encode(self, pictures: Tensor) -> Tensor:
        return self.invert(pictures)

    def decode(self, codes: Tensor) -> Tensor:
        return self.from_noise(codes)
