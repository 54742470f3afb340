"""Sizes of pictures in pixels, as people write them: 128, or 192x128 (width x height)."""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass, replace
from typing import Any

from genctl.errors import UsageError

MOST_SIDE = 16_384


@dataclass(frozen=True)
class Size:
    """Width and height; `Size.of(128)` is square."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if not (0 < self.width <= MOST_SIDE and 0 < self.height <= MOST_SIDE):
            raise ValueError(f"wants sides of 1 to {MOST_SIDE} pixels")

    @classmethod
    def of(cls, value: Any) -> Size:
        """From 128, "128", "192x128", (192, 128) or a Size. Raises ValueError that says what is wanted."""
        if isinstance(value, Size):
            return value
        if _whole(value):
            return cls(int(value), int(value))
        if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_whole, value)):
            return cls(int(value[0]), int(value[1]))
        match = re.fullmatch(r"(\d{1,9})(?:[xX×](\d{1,9}))?", value.strip()) if isinstance(value, str) else None
        if not match:
            raise ValueError("wants a size such as 128 or 192x128 (width x height)")
        return cls(int(match[1]), int(match[2] or match[1]))

    @property
    def plain(self) -> int | str:
        """As a file records it: the side of a square, else "192x128"."""
        return self.width if self.width == self.height else str(self)

    @property
    def wide(self) -> tuple[int, int]:
        """(width, height), as Pillow has it."""
        return self.width, self.height

    @property
    def high(self) -> tuple[int, int]:
        """(height, width), as tensors have it."""
        return self.height, self.width

    @property
    def area(self) -> int:
        return self.width * self.height

    def divides(self, step: int) -> bool:
        """Whether both sides are multiples of `step`."""
        return self.width % step == 0 == self.height % step

    def nearest(self, step: int) -> Size:
        """The nearest size whose sides are multiples of `step`."""
        return replace(self, **{name: max(1, round(getattr(self, name) / step)) * step for name in ("width", "height")})

    def check(self, step: int, why: str) -> None:
        """Raise UsageError, with the nearest size that works, where a side is no multiple of `step`."""
        if not self.divides(step):
            near = self.nearest(step)
            raise UsageError(f"{self.plain} pixels do not divide by {step}, {why}; {near.plain} would")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def _whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


class Sized:
    """Base of configurations with a size in `pixels`, which may be given as 128 or "192x128"."""

    pixels: Size

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "pixels", Size.of(self.pixels))
        except ValueError as error:
            raise UsageError(f"model.pixels is {self.pixels}; it {error}") from None
