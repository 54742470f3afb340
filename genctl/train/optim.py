"""What turns gradients into weights: fused AdamW, the rate (warm-up, plateau, decay), clipping, the moving average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from genctl.errors import UsageError


@dataclass(frozen=True)
class TrainConfig:
    """How a run is trained; every field is recorded in the run folder and in the model file."""

    steps: int | None = None
    minutes: float | None = None  # of training time, over all resumes; the schedule follows whichever ends first
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200  # steps of linear warm-up
    decay: float = 0.25  # share of the run over which the rate falls linearly to zero
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of a phase's gradient
    ema: float = 0.05  # width of the moving average, relative to the steps so far; 0 = none
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    log_steps: int = 20
    save_minutes: float = 5.0
    store: Literal["float16", "bfloat16", "float32"] = "float16"  # of the model file


def check(config: TrainConfig) -> None:
    """Raise UsageError for values that cannot train."""
    for name in ("batch", "log_steps"):
        if getattr(config, name) < 1:
            raise UsageError(f"train.{name} is {getattr(config, name)}; it wants 1 or more")
    if not 0 <= config.ema < 0.28:
        raise UsageError(f"train.ema is {config.ema}; a relative width lies between 0 and 0.28")


def rate(config: TrainConfig, step: int, progress: float) -> float:
    """The learning rate of a step: linear warm-up by steps, a plateau, linear decay over the last share of progress."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = min(1.0, (1.0 - progress) / config.decay) if config.decay else 1.0
    return config.learning_rate * warm * max(0.0, left)


def make_optimiser(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Fused AdamW; only the matrices of linear layers and kernels are decayed, not biases, scales, tables and slots."""
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    matrices = {id(layer.weight) for layer in layers}
    trained = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trained if id(p) in matrices]
    plain = [p for p in trained if id(p) not in matrices]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=1e-8, fused=True)


def update(optimiser: torch.optim.AdamW, config: TrainConfig, learning_rate: float) -> tuple[Tensor, Tensor]:
    """Clip, step, clear. A gradient that is not finite leaves the weights untouched, decided on the device without a
    host synchronisation. Returns the gradient's norm and whether the step was skipped (0 or 1), both on the device."""
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    skipped = (~torch.isfinite(norm)).float()
    nn.utils.clip_grads_with_norm_(parameters, config.clip, norm)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.found_inf = skipped  # type: ignore[attr-defined]  # the fused kernel skips where this is 1 (GradScaler's way)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norm, skipped


def power_of_width(width: float) -> float:
    """The power g of the average a(t) ~ t^g whose relative standard deviation is `width` (EDM2, arXiv:2312.02696,
    eq. 4: width = sqrt((g + 1) / (g + 3)) / (g + 2)), by bisection; 0 < width < 0.28."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        value = math.sqrt((middle + 1) / (middle + 3)) / (middle + 2)
        low, high = (middle, high) if value > width else (low, middle)
    return low


class PowerEMA:
    """Moving average with beta_t = (1 - 1/t)^(g + 1): its length is a fixed share of the steps so far, so it neither
    lags behind in a short run nor needs tuning for a long one (EDM2, arXiv:2312.02696)."""

    def __init__(self, module: nn.Module, width: float) -> None:
        self.live = list(module.parameters())
        self.average = [p.detach().clone() for p in self.live]
        self.power = power_of_width(width) if width else 0.0
        self.width = width

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step` (from 1)."""
        weight = 1 - (1 - 1 / step) ** (self.power + 1) if self.width else 1.0
        torch._foreach_lerp_(self.average, [p.detach() for p in self.live], weight)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged values in place (call again to change back)."""
        for live, average in zip(self.live, self.average, strict=True):
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)
