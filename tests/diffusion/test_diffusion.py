"""The mathematics of noise against closed forms: derivatives, the 2x2 solve, solver orders on an exact denoiser."""

import math

import pytest
import torch
from torch import Tensor

from genctl.diffusion import guide
from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.solve import SOLVERS, Denoiser
from genctl.diffusion.target import TARGETS, combine, solve, velocity
from genctl.diffusion.time import grid, shift, training_times
from genctl.draws import Draw

TIMES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_derivatives_agree_with_autograd(path: Path) -> None:
    for function, derivative in ((path.a, path.da), (path.b, path.db)):
        t = TIMES.clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(t).sum(), t)
        assert torch.allclose(slope, derivative(TIMES), atol=1e-12)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_log_snr_and_its_inverse(path: Path) -> None:
    assert torch.allclose(path.from_log_snr(path.log_snr(TIMES)), TIMES, atol=1e-12)
    assert (path.log_snr(TIMES).diff() < 0).all()
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(path.a(ends), torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(path.b(ends), torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_every_target_on_every_path_round_trips(path: Path, target: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 25, 3, 4, generator=draw, dtype=torch.float64)
    x_t = path.mix(x, z, TIMES)
    found = solve(target, path, x_t, combine(target, path, x, z, TIMES), TIMES)
    assert torch.allclose(found[0], x, atol=1e-10)
    assert torch.allclose(found[1], z, atol=1e-10)


def gaussian_denoiser(path: Path, times: Tensor, mean: float, std: float) -> Denoiser:
    """The exact posterior means for data N(mean, std^2): linear in x_t (Bayes' rule for two Gaussians)."""

    def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        a, b = path.a(times[k]), path.b(times[k])
        variance = a**2 * std**2 + b**2
        residual = x_t - a * mean
        return mean + a * std**2 / variance * residual, b / variance * residual

    return denoise


def exact_end(path: Path, x_1: Tensor, mean: float, std: float) -> Tensor:
    """Where the probability-flow ODE of a Gaussian ends: it keeps each point's quantile."""
    one = torch.tensor(1.0, dtype=torch.float64)
    return mean + std * (x_1 - path.a(one) * mean) / torch.sqrt(path.a(one) ** 2 * std**2 + path.b(one) ** 2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_solvers_converge_at_their_order(path: Path, solver: str) -> None:
    x_1 = torch.linspace(-2, 2, 9, dtype=torch.float64)
    errors = []
    for steps in (20, 40, 80, 160):
        times = grid(steps)
        evaluations = SOLVERS[solver].evaluations(times)
        denoise = gaussian_denoiser(path, evaluations, 0.7, 0.5)
        *_, (end, _) = SOLVERS[solver].run(denoise, x_1, times, path)
        errors.append(float((end - exact_end(path, x_1, 0.7, 0.5)).abs().max()))
    slope = math.log(errors[0] / errors[-1]) / math.log(8)
    assert abs(slope - SOLVERS[solver].order) < 0.2, (errors, slope)


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_the_times_that_the_solver_uses(solver: str) -> None:
    times = grid(5, 2.0)
    evaluations = SOLVERS[solver].evaluations(times)
    used = []

    def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        used.append(k)
        return torch.zeros_like(x_t), x_t / evaluations[k]

    list(SOLVERS[solver].run(denoise, torch.ones(1, dtype=torch.float64), times, PATHS["linear"]))
    assert used == list(range(len(evaluations)))
    assert torch.allclose(evaluations[0], times[0])


def test_euler_on_the_linear_path_is_eulers_method() -> None:
    path, t, s = PATHS["linear"], torch.tensor(0.6), torch.tensor(0.4)
    x, z = torch.randn(2, 5)
    x_t = path.mix(x, z, t)
    *_, (x_s, _) = SOLVERS["euler"].run(lambda *_: (x, z), x_t, torch.stack([t, s]), path)
    assert torch.allclose(x_s, x_t + (s - t) * velocity(path, x, z, t), atol=1e-6)


def test_shift_moves_towards_noise_and_keeps_the_ends() -> None:
    t = grid(10)
    assert torch.allclose(shift(t, 1.0), t)
    moved = shift(t, 3.0)
    assert (moved[1:-1] > t[1:-1]).all()
    assert moved[0] == 1
    assert moved[-1] == 0
    # SD3's derivation: scaling the noise by s adds 2 log s to the log-SNR gap
    path = PATHS["linear"]
    assert torch.allclose(path.log_snr(moved[1:-1]), path.log_snr(t[1:-1]) - 2 * math.log(3), atol=1e-9)


def test_drawn_times_follow_their_density() -> None:
    uniform = Draw(0, 4096).strata()
    assert torch.equal(uniform, training_times("uniform", uniform))
    assert abs(float(uniform.mean()) - 0.5) < 1e-3  # stratified: far closer than 1 / sqrt(N)
    logits = torch.logit(training_times("logit-normal", uniform, mean=-0.5, std=0.8))
    assert abs(float(logits.mean()) + 0.5) < 0.01
    assert abs(float(logits.std()) - 0.8) < 0.01


def test_guidance_is_the_known_formula_within_its_interval() -> None:
    calls = []

    def predict(x: Tensor, k: int, both: bool) -> Tensor:
        calls.append(both)
        return torch.cat([x + 1, x]) if both else x + 1

    times = [1.0, 0.5, 0.05]
    on = guide.active(times, (0.1, 0.95))
    assert on == [False, True, False]
    guided = guide.classifier_free(predict, 4.0, on)
    x = torch.zeros(2, 3)
    assert torch.equal(guided(x, 0), x + 1)
    assert torch.equal(guided(x, 1), x + 4)
    assert calls == [False, True]
    assert torch.equal(guide.classifier_free(predict, 1.0, on)(x, 1), x + 1)
