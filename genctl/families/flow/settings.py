"""The settings that all flows have: how they are trained, and how they are sampled by default. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

from genctl.diffusion.names import Density, PathName, SolverName, Spacing, TargetName, WeightName
from genctl.errors import UsageError


@dataclass(frozen=True)
class DiffusionConfig:
    path: PathName = "linear"
    target: TargetName = "velocity"
    weighting: WeightName = "unit"
    density: Density = "logit-normal"
    density_mean: float = 0.0
    density_std: float = 1.0
    shift: float = 1.0  # of training times, towards noise
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.shift <= 0 or (self.density_std <= 0 and self.density != "mode"):
            raise UsageError(f"shift is {self.shift}, density_std {self.density_std}; both want to be above 0")
        if not 0 <= self.condition_dropout <= 1:
            raise UsageError(f"condition_dropout is {self.condition_dropout}; it wants a share from 0 to 1")


@dataclass(frozen=True)
class SamplingConfig:
    """What `sample` does by default; kept in the model file."""

    solver: SolverName = "euler"
    steps: int = 20
    guidance_scale: float = 4.0
    guidance_interval: tuple[float, float] = (0.1, 0.95)
    shift: float = 1.0
    spacing: Spacing = "uniform"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.shift <= 0:
            raise UsageError(f"sampling steps are {self.steps}, shift {self.shift}; they want 1 or more, and above 0")
