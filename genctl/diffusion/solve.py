"""Solvers: from noise at times[0] to data at times[-1], over a denoiser.

A denoiser is (x_t, k) -> (x, z): the expected data and noise given x_t at the k-th evaluation. A solver says beforehand
at which times it evaluates (`evaluations`), so that a network can compute all that depends on t alone before the loop.
Every solver is a generator with one signature that yields (x_t, x) after each step: the state, and the current guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genctl.diffusion.path import Path
from genctl.diffusion.target import velocity

Denoiser = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Steps = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Solver:
    """`run(denoise, x_t, times, path)`, its order of convergence, and the times at which it evaluates."""

    run: Callable[[Denoiser, Tensor, Tensor, Path], Steps]
    order: int
    evaluations: Callable[[Tensor], Tensor]


def euler(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path) -> Steps:
    """x_s = a(s) x + b(s) z: re-mix the two guesses at the next time. On any path this is DDIM (arXiv:2010.02502); on
    the linear path it is Euler's method."""
    for k, s in enumerate(times[1:]):
        x, z = denoise(x_t, k)
        x_t = path.a(s) * x + path.b(s) * z
        yield x_t, x


def heun(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path) -> Steps:
    """Predict by `euler`, then take the mean of both ends' velocities (EDM, arXiv:2206.00364, algorithm 1); the last
    step, to t = 0, is plain."""
    k = 0
    for t, s in pairwise(times):
        x, z = denoise(x_t, k)
        guess = path.a(s) * x + path.b(s) * z
        k += 1
        if s > 0:
            x_s, z_s = denoise(guess, k)
            k += 1
            guess = x_t + (s - t) * (velocity(path, x, z, t) + velocity(path, x_s, z_s, s)) / 2
        x_t = guess
        yield x_t, x


def _heun_evaluations(times: Tensor) -> Tensor:
    inner = times[1:-1]
    return (
        torch.cat([times[:1], torch.stack([inner, inner], 1).flatten()])
        if times[-1] == 0
        else torch.stack([times[:-1], times[1:]], 1).flatten()
    )


SOLVERS: dict[str, Solver] = {
    "euler": Solver(euler, 1, lambda times: times[:-1]),
    "heun": Solver(heun, 2, _heun_evaluations),
}
