"""The settings that all flows have: how they are trained, and how they are sampled by default. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from genctl.config import above, within
from genctl.diffusion.names import Density, PathName, SolverName, Spacing, TargetName, WeightName
from genctl.errors import UsageError


@dataclass(frozen=True)
class DiffusionConfig:
    path: PathName = "linear"
    target: TargetName = "velocity"
    weighting: WeightName = "unit"
    density: Density = "logit-normal"
    density_mean: Annotated[float, within(-100, 100)] = 0.0
    density_std: Annotated[float, within(-100, 100)] = 1.0
    shift: Annotated[float, above(0)] = 1.0  # of training times, towards noise
    condition_dropout: Annotated[float, within(0, 1)] = 0.1

    def __post_init__(self) -> None:
        if self.density_std <= 0 and self.density != "mode":
            raise UsageError(f"density_std is {self.density_std}; it wants a number above 0")
        if self.density == "mode" and not -1 <= self.density_std <= 1.75:  # 2 / (pi - 2): beyond, times leave (0, 1)
            raise UsageError(
                f"density_std is {self.density_std}; of the density mode it wants a number from -1 to 1.75"
            )


@dataclass(frozen=True)
class SamplingConfig:
    """What `sample` does by default; kept in the model file."""

    solver: SolverName = "euler"
    steps: Annotated[int, within(1, 10_000)] = 20
    guidance_scale: float = 4.0
    guidance_interval: Annotated[tuple[float, float], within(0, 1)] = (0.1, 0.95)
    shift: Annotated[float, above(0)] = 1.0
    spacing: Spacing = "uniform"

    def __post_init__(self) -> None:
        low, high = self.guidance_interval
        if low > high:
            raise UsageError(f"guidance_interval is {[low, high]}; its second time wants to be the later one")
