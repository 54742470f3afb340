"""Solvers: from noise at times[0] to data at times[-1], over a denoiser.

A denoiser is (x_t, k) -> (x, z): the expected data and noise given x_t at the k-th evaluation. A solver says beforehand
at which times it evaluates (`evaluations`), so that a network can compute all that depends on t alone before the loop.
Every solver is a generator with one signature that yields (x_t, x) after each step: the state, and the current guess.

Deterministic ones follow the probability-flow ODE dx_t/dt = a' x + b' z; stochastic ones add `fresh` noise, which they
ask for step by step. Data are at t = 0, where the noise cannot be read from x_t: steps that end there are plain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genctl.diffusion.names import SolverName
from genctl.diffusion.path import Path
from genctl.diffusion.target import velocity

Denoiser = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Fresh = Callable[[], Tensor]  # standard normal noise of x_t's shape, new at each call
Steps = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Solver:
    """`run(denoise, x_t, times, path, fresh)`, its order of convergence (None: stochastic), its evaluation times."""

    run: Callable[[Denoiser, Tensor, Tensor, Path, Fresh], Steps]
    order: int | None
    evaluations: Callable[[Tensor, Path], Tensor]  # of (times, path)


def plain(path: Path, x: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """x_s = a(s) x + b(s) z: re-mix the two guesses at another time (DDIM, arXiv:2010.02502)."""
    return path.a(s) * x + path.b(s) * z


def euler(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """On any path this is DDIM; on the linear path and on EDM's it is Euler's method."""
    for k, s in enumerate(times[1:]):
        x, z = denoise(x_t, k)
        x_t = plain(path, x, z, s)
        yield x_t, x


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stage i at share[i] of the step, from the slopes before it by rows[i]."""

    share: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def run(self, denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
        k = 0
        for t, s in pairwise(times):
            x, z = denoise(x_t, k)
            k += 1
            if s == 0:
                x_t = plain(path, x, z, s)
                yield x_t, x
                continue
            slopes = [velocity(path, x, z, t)]
            for share, row in zip(self.share[1:], self.rows[1:], strict=True):
                stage = x_t + (s - t) * sum(c * slope for c, slope in zip(row, slopes, strict=True))
                slopes.append(velocity(path, *denoise(stage, k), t + share * (s - t)))
                k += 1
            x_t = x_t + (s - t) * sum(w * slope for w, slope in zip(self.weights, slopes, strict=True))
            yield x_t, x

    def evaluations(self, times: Tensor, path: Path) -> Tensor:
        return _staged(times, self.share)


def _staged(times: Tensor, share: tuple[float, ...]) -> Tensor:
    """The stages' times of every step; of a step to 0 the first alone."""
    stages = [t + part * (s - t) for t, s in pairwise(times) for part in (share if s > 0 else share[:1])]
    return torch.stack(stages)


HEUN = Tableau((0, 1), ((), (1,)), (1 / 2, 1 / 2))  # EDM, arXiv:2206.00364, algorithm 1
MIDPOINT = Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1))
RK4 = Tableau((0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


CHURN, CHURN_LEAST, CHURN_MOST, CHURN_NOISE = 40.0, 0.05, 50.0, 1.003  # EDM's S_churn, S_tmin, S_tmax, S_noise


def heun_churn(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """Heun's method with fresh noise before each step (EDM, arXiv:2206.00364, algorithm 2): from t up to a noisier t',
    and from there down to s. New noise washes out the errors of the steps before; too much of it blurs."""
    noisier, k = churned(times, path), 0
    for t, up, s in zip(times, noisier, times[1:], strict=False):
        if up > t:
            sigma, more = path.b(t) / path.a(t), path.b(up) / path.a(up)
            added = CHURN_NOISE * torch.sqrt(more**2 - sigma**2) * fresh()
            x_t = path.a(up) * (x_t / path.a(t) + added)
        stages = 1 if s == 0 else 2

        def within(x: Tensor, stage: int, first: int = k) -> tuple[Tensor, Tensor]:
            return denoise(x, first + stage)

        x_t, x = next(HEUN.run(within, x_t, torch.stack([up, s]), path, fresh))
        k += stages
        yield x_t, x


def churned(times: Tensor, path: Path) -> Tensor:
    """The times from which each step really starts: sigma = b / a is raised by min(CHURN / steps, sqrt(2) - 1)."""
    raised = 1 + min(CHURN / (len(times) - 1), math.sqrt(2) - 1)
    sigma = path.b(times[:-1]) / path.a(times[:-1])
    up = path.from_sigma(sigma * raised).to(times)
    within = (sigma >= CHURN_LEAST) & (sigma <= CHURN_MOST) & (up <= 1)
    return torch.where(within, up, times[:-1])


def _churned_stages(times: Tensor, path: Path) -> Tensor:
    stages = [torch.stack([up, s])[: 1 if s == 0 else 2] for up, s in zip(churned(times, path), times[1:], strict=True)]
    return torch.cat(stages)


def gap(path: Path, t: Tensor, s: Tensor) -> Tensor:
    """Half the log-SNR gained from t to s, log(a_s b_t / (a_t b_s)); infinite from pure noise and to pure data."""
    return torch.log(path.a(s) * path.b(t)) - torch.log(path.a(t) * path.b(s))


def dpmpp_2m(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """DPM-Solver++ (2M) (arXiv:2211.01095, algorithm 2): the data guess is extrapolated to the middle of the step, in
    log-SNR, from this and the last one; x_s then follows from it exactly."""
    before: tuple[Tensor, Tensor] | None = None  # the last data guess, and the gap of the step that followed
    for k, (t, s) in enumerate(pairwise(times)):
        x, z = denoise(x_t, k)
        step = gap(path, t, s)
        if before is None or s == 0:
            x_t = plain(path, x, z, s)
        else:
            ahead = _ahead(x, step, before)
            x_t = path.b(s) / path.b(t) * x_t - path.a(s) * torch.expm1(-step) * ahead
        before = x, step
        yield x_t, x


def _ahead(x: Tensor, step: Tensor, before: tuple[Tensor, Tensor] | None) -> Tensor:
    """The data guess in the middle of the step, on the line through this and the last one."""
    if before is None or not step.isfinite() or not before[1].isfinite():
        return x
    return x + step / (2 * before[1]) * (x - before[0])


def dpmpp_3m(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """DPM-Solver++ (3M): as 2M, with a parabola through the last three data guesses, integrated exactly. (The usual
    implementations take half of its curvature, which leaves order 2.)"""
    guesses: list[tuple[Tensor, Tensor]] = []  # (data guess, gap of the step that followed), newest first
    for k, (t, s) in enumerate(pairwise(times)):
        x, z = denoise(x_t, k)
        step = gap(path, t, s)
        known = [(guess, width) for guess, width in guesses if width.isfinite()]
        if not step.isfinite() or s == 0:
            x_t = plain(path, x, z, s)
        else:
            first, second = _derivatives(x, step, known)
            phi_2 = torch.expm1(-step) / step + 1
            phi_3 = phi_2 / step - 0.5
            change = -torch.expm1(-step) * x + phi_2 * first - phi_3 * second
            x_t = path.b(s) / path.b(t) * x_t + path.a(s) * change
        guesses = [(x, step), *guesses[:1]]
        yield x_t, x


def _derivatives(x: Tensor, step: Tensor, known: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """First and second derivative of the data guess by the step's share of log-SNR; zero where too few are known."""
    if not known:
        return torch.zeros_like(x), torch.zeros_like(x)
    (x_1, width_1), *older = known
    r_1 = width_1 / step
    slope_1 = (x - x_1) / r_1
    if not older:
        return slope_1, torch.zeros_like(x)
    x_2, width_2 = older[0]
    r_2 = width_2 / step
    slope_2 = (x_1 - x_2) / r_2
    bend = (slope_1 - slope_2) / (r_1 + r_2)
    return slope_1 + bend * r_1, 2 * bend


def ancestral(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """Draws x_s from its posterior given x_t and the data guess. On a VP path this is DDPM's sampler with its smaller
    variance (arXiv:2006.11239), and everywhere Karras' "Euler ancestral"."""
    for k, (t, s) in enumerate(pairwise(times)):
        x, z = denoise(x_t, k)
        kept = torch.exp(-gap(path, t, s))  # b_s a_t / (b_t a_s)
        x_t = path.a(s) * x + path.b(s) * kept * z
        if s > 0:
            x_t = x_t + path.b(s) * torch.sqrt(-torch.expm1(-2 * gap(path, t, s))) * fresh()
        yield x_t, x


def consistency(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """For a network whose data guess is already where the ODE ends (a consistency model): the guess is noised anew to
    the next time (arXiv:2303.01469, algorithm 1). One step is the guess itself."""
    for k, s in enumerate(times[1:]):
        x, _ = denoise(x_t, k)
        x_t = path.a(s) * x + (path.b(s) * fresh() if s > 0 else 0)
        yield x_t, x


def dpmpp_2m_sde(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """DPM-Solver++ (2M) for the reverse SDE (arXiv:2211.01095, section 5), its correction by the midpoint rule."""
    before: tuple[Tensor, Tensor] | None = None  # the last data guess, and the gap of the step that followed
    for k, (t, s) in enumerate(pairwise(times)):
        x, _ = denoise(x_t, k)
        step = gap(path, t, s)
        ahead = _ahead(x, step, before)
        x_t = path.b(s) / path.b(t) * torch.exp(-step) * x_t - path.a(s) * torch.expm1(-2 * step) * ahead
        if s > 0:
            x_t = x_t + path.b(s) * torch.sqrt(-torch.expm1(-2 * step)) * fresh()
        before = x, step
        yield x_t, x


def sde(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """Euler and Maruyama's method for a reverse SDE with the path's own marginals: any diffusion w(t) has them if the
    drift is the ODE's minus w/2 times the score (arXiv:2401.08740). Here w = d(b^2)/dt, the forward process' own where
    a = 1, and finite everywhere: dx = (a' x + 2 b' z) dt + sqrt(2 b b') dW."""
    for k, (t, s) in enumerate(pairwise(times)):
        x, z = denoise(x_t, k)
        if s == 0:
            x_t = plain(path, x, z, s)
        else:
            drift = path.da(t) * x + 2 * path.db(t) * z
            x_t = x_t + (s - t) * drift + torch.sqrt(2 * path.b(t) * path.db(t) * (t - s)) * fresh()
        yield x_t, x


def predictor_corrector(denoise: Denoiser, x_t: Tensor, times: Tensor, path: Path, fresh: Fresh) -> Steps:
    """Euler, then a step of Langevin's dynamics at the new time (arXiv:2011.13456, algorithm 5): x += h score +
    sqrt(2 h) noise, with h = 2 (.16 |noise| / |score|)^2 for each picture."""
    k = 0
    for s in times[1:]:
        x, z = denoise(x_t, k)
        x_t = plain(path, x, z, s)
        k += 1
        if s > 0:
            _, z = denoise(x_t, k)
            k += 1
            slope, noise = -z / path.b(s), fresh()
            width = 2 * (0.16 * _length(noise) / _length(slope)) ** 2
            x_t = x_t + width * slope + torch.sqrt(2 * width) * noise
        yield x_t, x


def _length(x: Tensor) -> Tensor:
    """Each picture's norm, [B, 1, ...]."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def _firsts(times: Tensor, path: Path) -> Tensor:
    return times[:-1]


SOLVERS: dict[SolverName, Solver] = {
    "euler": Solver(euler, 1, _firsts),
    "heun": Solver(HEUN.run, 2, HEUN.evaluations),
    "heun_churn": Solver(heun_churn, None, _churned_stages),
    "midpoint": Solver(MIDPOINT.run, 2, MIDPOINT.evaluations),
    "rk4": Solver(RK4.run, 4, RK4.evaluations),
    "dpmpp_2m": Solver(dpmpp_2m, 2, _firsts),
    "dpmpp_3m": Solver(dpmpp_3m, 3, _firsts),  # once it has started: its first two steps are of lower order
    "ancestral": Solver(ancestral, None, _firsts),
    "consistency": Solver(consistency, None, _firsts),
    "dpmpp_2m_sde": Solver(dpmpp_2m_sde, None, _firsts),
    "sde": Solver(sde, None, _firsts),
    "predictor_corrector": Solver(predictor_corrector, None, HEUN.evaluations),
}
