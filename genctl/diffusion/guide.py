"""Guidance: from several data guesses to one, and so from denoisers to a denoiser.

    x = x_away + scale (x_cond - x_away)

x_away is the guess without the condition (classifier-free guidance, arXiv:2207.12598), with a negative prompt, or of a
weaker model (autoguidance, arXiv:2406.02507). scale 1 is the plain conditional guess. Guiding only within an interval
of t (arXiv:2404.07724) costs less and keeps variety: at the noisiest times guidance narrows the layout, at the cleanest
it does nothing. At a given x_t the noise, velocity and score follow from the data guess: it is enough to guide that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genctl.diffusion.names import Rule
from genctl.diffusion.path import Path
from genctl.diffusion.solve import Denoiser
from genctl.diffusion.target import solve, velocity

# (x_t, k, all) -> data guesses [B, ...]: of each condition and, for `all`, last the one to be guided away from
Guesses = Callable[[Tensor, int, bool], list[Tensor]]
APG_MOMENTUM, APG_MOST = -0.5, 0.06  # of the differences; their largest RMS (arXiv:2410.02416: 15 of 65,536 numbers)


@dataclass(frozen=True)
class Guidance:
    """How strongly, when, and by which rule. `weights` are those of several conditions, composed (arXiv:2206.01714):
    the guess is x_away + sum of weights[i] (x_i - x_away), and the scale acts on that."""

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    method: Rule = "cfg"
    rescale: float = 0.0  # share in which the guess's spread is brought back to the conditional one's, arXiv:2305.08891
    weights: tuple[float, ...] = (1.0,)

    @property
    def one(self) -> bool:
        """Whether there is one condition of weight 1, so that outside of the interval it alone is needed."""
        return self.weights == (1.0,)


def guided(guesses: Guesses, guidance: Guidance, path: Path, times: Tensor, judged: Tensor | None = None) -> Denoiser:
    """The denoiser that solvers call, at evaluation `times` [K]. Outside of the interval the scale is 1; `judged` are
    the times [K] that the interval is about, where they are another path's."""
    on = active((times if judged is None else judged).tolist(), guidance.interval)
    rule = RULES[guidance.method]()

    def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        t, scale = times[k], guidance.scale if on[k] else 1.0
        if scale == 1 and guidance.one:
            x = guesses(x_t, k, False)[0]
        else:
            *conditional, away = guesses(x_t, k, True)
            x = sum((w * (guess - away) for w, guess in zip(guidance.weights, conditional, strict=True)), away)
            x = x if scale == 1 else _rescaled(rule(x, away, scale, path, x_t, t), x, guidance.rescale)
        return x, (x_t - path.a(t) * x) / path.b(t)

    return denoise


def active(times: list[float], interval: tuple[float, float]) -> list[bool]:
    """Which evaluation times lie within the guidance interval (ends included)."""
    low, high = interval
    return [low <= t <= high for t in times]


class ClassifierFree:
    """x_away + scale (x - x_away)."""

    def __call__(self, x: Tensor, away: Tensor, scale: float, path: Path, x_t: Tensor, t: Tensor) -> Tensor:
        return away + scale * (x - away)


class AdaptiveProjected:
    """Only the part of the difference that is orthogonal to the guess is amplified, since the parallel one saturates
    colours; differences are damped by the ones before, and bounded (APG, arXiv:2410.02416)."""

    def __init__(self) -> None:
        self.mean: Tensor | None = None  # running sum of the differences

    def __call__(self, x: Tensor, away: Tensor, scale: float, path: Path, x_t: Tensor, t: Tensor) -> Tensor:
        self.mean = x - away if self.mean is None else x - away + APG_MOMENTUM * self.mean
        rms = self.mean.square().mean(_inner(x), keepdim=True).sqrt()
        difference = self.mean * (APG_MOST / rms.clamp(min=1e-12)).clamp(max=1)
        parallel = _dot(difference, x) / _dot(x, x).clamp(min=1e-12) * x
        return x + (scale - 1) * (difference - parallel)


class ZeroStar:
    """The unconditional velocity is first scaled to fit the conditional one best: s v_away + scale (v - s v_away), s =
    <v, v_away> / |v_away|^2 (CFG-Zero*, arXiv:2503.18886; without its zero first step, meant for undertrained nets)."""

    def __call__(self, x: Tensor, away: Tensor, scale: float, path: Path, x_t: Tensor, t: Tensor) -> Tensor:
        v, v_away = (velocity(path, guess, (x_t - path.a(t) * guess) / path.b(t), t) for guess in (x, away))
        fit = _dot(v, v_away) / _dot(v_away, v_away).clamp(min=1e-12) * v_away
        return solve("velocity", path, x_t, fit + scale * (v - fit), t)[0]


RULES: dict[Rule, type] = {"cfg": ClassifierFree, "apg": AdaptiveProjected, "zero_star": ZeroStar}


def _rescaled(x: Tensor, conditional: Tensor, share: float) -> Tensor:
    """x with its standard deviation brought towards the conditional guess's by `share`. (The paper does so with what
    its network predicts; on data guesses it means the same for every target.)"""
    if not share:
        return x
    spread = conditional.std(_inner(x), keepdim=True) / x.std(_inner(x), keepdim=True).clamp(min=1e-12)
    return torch.lerp(x, x * spread, share)


def _inner(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product a picture, [B, 1, ...]."""
    return (a * b).sum(_inner(a), keepdim=True)
