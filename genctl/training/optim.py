"""What turns gradients into weights: fused AdamW or Muon, the rate (warm-up, plateau, decay), clipping, the moving
average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from genctl.config import above, below, within
from genctl.errors import UsageError
from genctl.nets.fast import bf16_pays


@dataclass(frozen=True)
class TrainConfig:
    """How a run is trained; every field is recorded in the run folder and in the model file."""

    steps: Annotated[int | None, within(1)] = None
    minutes: Annotated[float | None, within(0)] = None  # over all resumes; whichever ends first counts
    batch: Annotated[int, within(1, 1 << 20)] = 64
    parts: Annotated[int, within(1, 1 << 20)] = 1  # of a batch (gradient accumulation); more where memory ends
    optimiser: Literal["adamw", "muon"] = "adamw"  # muon: for the blocks' matrices, AdamW for the rest
    muon_size: Annotated[float, above(0)] = 0.2  # RMS of a muon step in units of the learning rate
    learning_rate: Annotated[float, above(0)] = 1e-3
    warmup: Annotated[int, within(0)] = 200  # steps of linear warm-up
    decay: Annotated[float, within(0, 1)] = 0.25  # share of the run over which the rate falls linearly to zero
    betas: Annotated[tuple[float, float], below(1)] = (0.9, 0.95)
    weight_decay: Annotated[float, within(0)] = 0.0
    clip: Annotated[float, within(0)] = 1.0  # largest norm of a phase's gradient; 0 = as it is
    ema: Annotated[float, below(0.28)] = 0.05  # width of the moving average, relative to the steps so far; 0 = none
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    log_steps: Annotated[int, within(1)] = 20
    save_minutes: Annotated[float, within(0)] = 5.0
    early: Annotated[float, within(0, 1)] = 0.1  # share of the run after which early.safetensors is kept; 0 = never
    store: Literal["float16", "bfloat16", "float32"] = "float16"  # of the model file


def check(config: TrainConfig) -> None:
    """Raise UsageError where nothing says how long to train."""
    if not (config.steps or config.minutes):
        raise UsageError("say how long: train.minutes or train.steps, above 0")


def with_length(
    values: dict[str, Any], minutes: float | None, steps: int | None, flag: str = "--steps"
) -> dict[str, Any]:
    """A run's settings, as long as the command says where it does. Raises UsageError for both at once."""
    if minutes is not None and steps is not None:
        raise UsageError(f"--minutes or {flag}, not both")
    if minutes is None and steps is None:
        return values
    return values | {"train": values.get("train", {}) | {"minutes": minutes, "steps": steps}}


def rate(config: TrainConfig, step: int, progress: float) -> float:
    """The learning rate of a step: linear warm-up by steps, a plateau, linear decay over the last share of progress."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = min(1.0, (1.0 - progress) / config.decay) if config.decay else 1.0
    return config.learning_rate * warm * max(0.0, left)


def make_optimisers(module: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Fused AdamW, after Muon for the blocks' matrices (nets/heads.py) where the config says so. Only the matrices of
    linear layers and kernels are decayed, not biases, scales, tables and slots."""
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    trained = [p for p in module.parameters() if p.requires_grad]
    made: list[torch.optim.Optimizer] = []
    if config.optimiser == "muon":
        stacks: dict[Any, Any] = {layer.weight: layer.stacked for layer in layers if hasattr(layer, "stacked")}
        if stacks:
            made.append(Muon(stacks, config.learning_rate, config.muon_size, weight_decay=config.weight_decay))
            trained = [p for p in trained if p not in stacks]
    matrices = {id(layer.weight) for layer in layers}
    decayed = [p for p in trained if id(p) in matrices]
    plain = [p for p in trained if id(p) not in matrices]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return [*made, torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=1e-8, fused=True)]


def update(
    optimisers: list[torch.optim.Optimizer], config: TrainConfig, learning_rate: float, beta2: float | None = None
) -> tuple[Tensor, Tensor]:
    """Clip, step, clear. A gradient that is not finite leaves the weights untouched, decided on the device without a
    host synchronisation. Returns the gradient's norm and whether the step was skipped (0 or 1), both on the device."""
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    skipped = (~torch.isfinite(norm)).float()
    if config.clip:
        nn.utils.clip_grads_with_norm_(parameters, config.clip, norm)
    for group in groups:
        group["lr"] = learning_rate
        if beta2 is not None and "betas" in group:
            group["betas"] = (group["betas"][0], beta2)
    for optimiser in optimisers:
        optimiser.found_inf = skipped  # type: ignore[attr-defined]  # the fused kernel skips where this is 1 (GradScaler's way)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return norm, skipped


def check_moments(optimiser: torch.optim.Optimizer, states: dict[int, dict[str, Tensor]]) -> None:
    """Raise ValueError for moments that are not of this optimiser and its parameters, by their order: torch would take
    them."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    names = {"momentum"} if isinstance(optimiser, Muon) else {"step", "exp_avg", "exp_avg_sq"}
    for index, moments in states.items():
        if index >= len(parameters) or moments.keys() != names:
            raise ValueError("other trained parameters" if index >= len(parameters) else "another optimiser")
        if any(moment.ndim and moment.shape != parameters[index].shape for moment in moments.values()):
            raise ValueError("other trained parameters")


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal: every direction of a weight moves equally far, whatever the size of
    its gradient (Jordan 2024, kellerjordan.github.io/posts/muon). A step's RMS is `size` times the learning rate, so
    that one rate serves Muon and AdamW side by side; AdamW's own steps have .2 to .4 (Moonlight, arXiv:2502.16982).

    `stacks`: weight [n R, C] -> n, how many matrices it holds above one another (queries, keys, values); each is made
    orthogonal alone. A kernel [R, C, 3, 3] is a matrix [R, 9 C].
    """

    def __init__(
        self, stacks: dict[nn.Parameter, int], lr: float, size: float = 0.2, momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(list(stacks), {"lr": lr, "size": size, "momentum": momentum, "weight_decay": weight_decay})
        self.stacks = stacks
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    size = (weight.shape[0] // self.stacks[weight], weight[0].numel())
                    shapes.setdefault(size, []).append(weight)
            for (height, width), weights in shapes.items():
                updates = torch.cat([self._momentum(w, group["momentum"]).reshape(-1, height, width) for w in weights])
                size = group["lr"] * group["size"] * max(height, width) ** 0.5
                moves = (size * orthogonal(updates).float()).split([self.stacks[w] for w in weights])
                for weight, move in zip(weights, moves, strict=True):
                    kept = 1 - group["lr"] * group["weight_decay"]
                    new = weight * kept - move.reshape(weight.shape)
                    weight.copy_(new if self.found_inf is None else torch.where(self.found_inf > 0, weight, new))

    def _momentum(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """The gradient's moving average, looked at one step ahead (Nesterov)."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        average = torch.lerp(gradient, state["momentum"], momentum)
        if self.found_inf is not None:
            average = torch.where(self.found_inf > 0, state["momentum"], average)
        state["momentum"].copy_(average)
        return torch.lerp(gradient, average, momentum)


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrices [n, R, C] with equal singular values, about 1 (0.7 to 1.2), by Newton and Schulz's iteration
    with Jordan's coefficients; in bf16 where that is fast, else in float32 (emulated bf16 is many times slower)."""
    x = matrices.bfloat16() if bf16_pays(matrices.device) else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT.contiguous() if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True, dtype=torch.float32).to(x.dtype) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if tall else x


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
