"""The mathematics of noise against closed forms: derivatives, the 2x2 solve, solver orders on an exact denoiser."""

import functools
import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from genctl.diffusion import guide, names
from genctl.diffusion.guide import RULES
from genctl.diffusion.oracle import Mixture, denoiser, of_data
from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.solve import SOLVERS, Denoiser, churned
from genctl.diffusion.target import TARGETS, combine, score, solve, velocity, weight
from genctl.diffusion.time import beta_quantiles, grid, shift, training_times
from genctl.errors import UsageError
from genctl.families.flow.settings import DiffusionConfig
from genctl.rng import Draw

TIMES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_derivatives_agree_with_autograd(path: Path) -> None:
    for function, derivative in ((path.a, path.da), (path.b, path.db)):
        t = TIMES.clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(t).sum() + 0 * t.sum(), t)
        assert torch.allclose(slope, derivative(TIMES), atol=1e-12)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_log_snr_and_its_inverse(path: Path) -> None:
    assert torch.allclose(path.from_log_snr(path.log_snr(TIMES)), TIMES, atol=1e-12)
    assert (path.log_snr(TIMES).diff() < 0).all()
    assert torch.allclose(path.from_sigma(path.b(TIMES) / path.a(TIMES)), TIMES, atol=1e-12)


def test_paths_as_their_papers_have_them() -> None:
    ends, half = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    for name in ("linear", "cosine"):
        assert torch.allclose(PATHS[name].a(ends), torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-12)
        assert torch.allclose(PATHS[name].b(ends), torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-12)
    for name in ("cosine", "vp"):
        assert torch.allclose(PATHS[name].a(TIMES) ** 2 + PATHS[name].b(TIMES) ** 2, torch.ones_like(TIMES))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # DDPM's own table, of which vp is the limit
    discrete = (1 - betas).cumprod(0).sqrt()
    assert torch.allclose(PATHS["vp"].a(torch.arange(1, 1001).double() / 1000), discrete, rtol=0.05)
    assert torch.allclose(PATHS["subvp"].b(TIMES), PATHS["vp"].b(TIMES) ** 2)
    assert torch.allclose(PATHS["ve"].b(ends), torch.tensor([0.01, 50.0], dtype=torch.float64))
    assert float(PATHS["edm"].b(half)) == 40


def test_karras_target_has_unit_variance_and_is_edms_preconditioning() -> None:
    path, sigma = PATHS["edm"], torch.tensor([0.01, 0.5, 3.0, 80.0], dtype=torch.float64)
    t = path.from_sigma(sigma)
    x, z = 0.5 * torch.randn(4, 20_000, dtype=torch.float64), torch.randn(4, 20_000, dtype=torch.float64)
    made = combine("F", path, x, z, t)
    assert torch.allclose(made.std(1), torch.ones(4, dtype=torch.float64), atol=0.03)
    skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25).sqrt()  # table 1
    assert torch.allclose(skip[:, None] * path.mix(x, z, t) + out[:, None] * made, x, atol=1e-10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_weights_speak_of_one_error_whatever_is_predicted(path: Path, target: str) -> None:
    """A given error of the noise costs the same under a named weight, for every target."""
    x, z, error = torch.randn(3, 25, 6, dtype=torch.float64)
    x_t = path.mix(x, z, TIMES)
    prediction = combine(target, path, x, z, TIMES) + error
    found = solve(target, path, x_t, prediction, TIMES)
    snr = torch.exp(path.log_snr(TIMES))
    of_x, of_z = ((part - true).square().sum(1) for part, true in zip(found, (x, z), strict=True))
    of_v = (velocity(path, *found, TIMES) - velocity(path, x, z, TIMES)).square().sum(1)
    of_v = torch.minimum(of_v, 400 * error.square().sum(1))
    wanted = {"elbo": of_z, "min-snr": snr.clamp(max=5) * of_x, "edm": (1 / snr + 0.25) / (0.25 / snr) * of_x,
              "sigmoid": of_z / (1 + snr * math.exp(-2)), "velocity": of_v, "unit": error.square().sum(1)}  # fmt: skip
    for name, cost in wanted.items():
        assert torch.allclose(weight(name, target, path, TIMES) * error.square().sum(1), cost, rtol=1e-6), name
    assert torch.allclose(score(path, z, TIMES), -z / path.b(TIMES)[:, None])


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


def exact_end(path: Path, x_t: Tensor, t: Tensor, s: Tensor, mean: float, std: float) -> Tensor:
    """Where the probability-flow ODE takes a Gaussian's points from t to s: each keeps its quantile."""
    size_t, size_s = (torch.sqrt((path.a(u) * std) ** 2 + path.b(u) ** 2) for u in (t, s))
    return path.a(s) * mean + size_s * (x_t - path.a(t) * mean) / size_t


def no_noise() -> Tensor:
    raise AssertionError("a deterministic solver asked for noise")


MIXTURE = Mixture(*(torch.tensor(v, dtype=torch.float64) for v in ([0.4, 0.6], [[-1.0], [0.8]], [0.3, 0.4])))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_ode_of_a_gaussian_ends_where_it_must(path: Path) -> None:
    most, least = path.from_sigma(torch.tensor([4.0, 0.1], dtype=torch.float64))
    times = torch.linspace(float(most), float(least), 101, dtype=torch.float64)
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    denoise = gaussian_denoiser(path, SOLVERS["rk4"].evaluations(times, path), 0.7, 0.5)
    *_, (end, _) = SOLVERS["rk4"].run(denoise, x_t, times, path, no_noise)
    assert torch.allclose(end, exact_end(path, x_t, most, least, 0.7, 0.5), atol=1e-7)


@functools.cache
def mixture_end(path_name: str, solver: str, steps: int) -> Tensor:
    """Nine points taken along the ODE of MIXTURE, sigma 4 to .1. The multistep solver of order 3 starts with two steps
    too small to matter, as its first ones are of lower order."""
    path = PATHS[path_name]
    most, least = path.from_sigma(torch.tensor([4.0, 0.1], dtype=torch.float64)).tolist()
    times = torch.linspace(most, least, steps + 1, dtype=torch.float64)
    if solver == "dpmpp_3m":
        small = (times[0] - times[1]) * torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64) / steps
        times = torch.cat([times[0] - small, times[1:]])
    denoise = denoiser(lambda x, t: MIXTURE.posterior(path, x, t), SOLVERS[solver].evaluations(times, path))
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    *_, (end, _) = SOLVERS[solver].run(denoise, x_t, times, path, no_noise)
    return end


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if solver.order])
@pytest.mark.parametrize("path", PATHS)
def test_solvers_converge_at_their_order(path: str, solver: str) -> None:
    exact, order = mixture_end(path, "rk4", 800), SOLVERS[solver].order
    counts = {3: (250, 500), 4: (60, 120)}.get(order or 0, (150, 300))
    errors = [float((mixture_end(path, solver, steps) - exact).abs().max()) for steps in counts]
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - order) < 0.2, (errors, slope)


STOCHASTIC = [name for name, solver in SOLVERS.items() if not solver.order and name != "consistency"]


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_stochastic_solvers_draw_from_the_data(path: Path, solver: str) -> None:
    """Gaussian data: mean and spread at the end, within the errors of 20,000 draws, of 400 steps and, for Langevin's
    corrector, of its own step (a share of .16^2 of the variance)."""
    draw = torch.Generator().manual_seed(0)
    fresh = lambda: torch.randn(200, 100, generator=draw, dtype=torch.float64)  # noqa: E731
    times = grid(400, 1.0, "exponential" if path.name in ("ve", "edm") else "uniform", path)
    evaluations = SOLVERS[solver].evaluations(times, path)
    denoise = gaussian_denoiser(path, evaluations, 0.7, 0.5)
    begin = path.a(times[0]) * 0.7 + torch.sqrt((path.a(times[0]) * 0.5) ** 2 + path.b(times[0]) ** 2) * fresh()
    *_, (end, _) = SOLVERS[solver].run(denoise, begin, times, path, fresh)
    assert float(end.mean()) == pytest.approx(0.7, abs=0.012)
    assert float(end.std()) == pytest.approx(0.5, abs=0.02 if solver == "predictor_corrector" else 0.015)


@pytest.mark.parametrize("solver", SOLVERS)
def test_any_number_of_steps_from_pure_noise_to_pure_data(solver: str) -> None:
    """At both ends of the linear path the log-SNR is infinite; one point of data must be met exactly."""
    for steps in (1, 2, 3, 5):
        times = grid(steps)
        evaluations = SOLVERS[solver].evaluations(times, PATHS["linear"])
        point = torch.tensor([[0.3, -0.8]], dtype=torch.float64)

        def denoise(x_t: Tensor, k: int, at: Tensor = evaluations, x: Tensor = point) -> tuple[Tensor, Tensor]:
            return x, (x_t - PATHS["linear"].a(at[k]) * x) / PATHS["linear"].b(at[k])

        x_1 = torch.randn(1, 2, dtype=torch.float64)
        fresh = lambda: torch.randn(1, 2, dtype=torch.float64)  # noqa: E731
        *_, (end, _) = SOLVERS[solver].run(denoise, x_1, times, PATHS["linear"], fresh)
        assert torch.allclose(end, point, atol=1e-12)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_consistency_steps_draw_from_the_data(path: Path) -> None:
    """With a guess that is where the ODE ends, not the posterior mean, any number of steps draws exactly."""
    draw = torch.Generator().manual_seed(0)
    fresh = lambda: torch.randn(200, 100, generator=draw, dtype=torch.float64)  # noqa: E731
    times = grid(3, 1.0, "exponential" if path.name in ("ve", "edm") else "uniform", path)
    zero = torch.zeros((), dtype=torch.float64)

    def leap(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        x = exact_end(path, x_t, times[k], zero, 0.7, 0.5)
        return x, x

    begin = path.a(times[0]) * 0.7 + torch.sqrt((path.a(times[0]) * 0.5) ** 2 + path.b(times[0]) ** 2) * fresh()
    *_, (end, _) = SOLVERS["consistency"].run(leap, begin, times, path, fresh)
    assert float(end.mean()) == pytest.approx(0.7, abs=0.012)
    assert float(end.std()) == pytest.approx(0.5, abs=0.01)


def test_every_name_has_its_function_and_the_other_way_round() -> None:
    tables = ((names.SolverName, SOLVERS), (names.PathName, PATHS), (names.Rule, RULES), (names.TargetName, TARGETS))
    for declared, table in tables:
        assert get_args(declared) == tuple(table)
    assert set(names.SYNONYMS.values()) <= set(SOLVERS)
    assert not set(names.SYNONYMS) & set(SOLVERS)


def test_churn_raises_sigma_as_in_edm() -> None:
    path, sigma = PATHS["edm"], torch.tensor([80.0, 20.0, 1.0, 0.04, 0.0], dtype=torch.float64)
    up = path.b(churned(path.from_sigma(sigma), path))
    assert torch.allclose(up, torch.tensor([80.0, 20 * 2**0.5, 2**0.5, 0.04], dtype=torch.float64))  # S_tmin, S_tmax
    many = torch.full((201,), float(path.from_sigma(torch.tensor(1.0))), dtype=torch.float64)
    assert torch.allclose(path.b(churned(many, path)), torch.full((200,), 1.2, dtype=torch.float64))  # 1 + 40 / 200


@pytest.mark.parametrize("solver", SOLVERS)
def test_evaluations_are_the_times_that_the_solver_uses(solver: str) -> None:
    times = grid(5, 2.0)
    evaluations = SOLVERS[solver].evaluations(times, PATHS["linear"])
    used = []

    def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        used.append(k)
        return torch.zeros_like(x_t), x_t / evaluations[k]

    list(
        SOLVERS[solver].run(
            denoise,
            torch.ones(1, dtype=torch.float64),
            times,
            PATHS["linear"],
            lambda: torch.ones(1, dtype=torch.float64),
        )
    )
    assert used == list(range(len(evaluations)))
    assert torch.allclose(evaluations[0], times[0])


def test_euler_on_the_linear_path_is_eulers_method() -> None:
    path, t, s = PATHS["linear"], torch.tensor(0.6), torch.tensor(0.4)
    x, z = torch.randn(2, 5)
    x_t = path.mix(x, z, t)
    *_, (x_s, _) = SOLVERS["euler"].run(lambda *_: (x, z), x_t, torch.stack([t, s]), path, no_noise)
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


def test_densities_against_their_definitions() -> None:
    uniform = Draw(0, 8192).strata().double()
    sigma = training_times("log-normal", uniform, -1.2, 1.2, path=PATHS["edm"]) * 80
    assert abs(float(sigma.log().mean()) + 1.2) < 0.01
    assert abs(float(sigma.log().std()) - 1.2) < 0.01
    mode = training_times("mode", uniform, std=1.29)
    middle = ((mode > 0.49) & (mode < 0.51)).double().mean()
    slope = -1 - 1.29 * (1 - math.pi / 2 * math.sin(math.pi / 2))  # dt/du at u = 1/2, where t = 1/2
    assert float(middle) == pytest.approx(0.02 / abs(slope), rel=0.02)
    assert torch.allclose(training_times("mode", uniform, std=0.0), 1 - uniform, atol=2e-5)


def test_the_density_mode_stays_within_its_range() -> None:
    for std in (-1.0, 1.75):
        DiffusionConfig(density="mode", density_std=std)
        times = training_times("mode", torch.linspace(0, 1, 1001), std=std)
        assert 0 <= float(times.min()) < float(times.max()) <= 1
    for std in (-1.5, 3.0):
        with pytest.raises(UsageError, match="a number from -1 to"):
            DiffusionConfig(density="mode", density_std=std)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("spacing", ["uniform", "karras", "exponential", "beta"])
def test_grids_fall_to_the_data(path: Path, spacing: str) -> None:
    times = grid(9, 1.0, spacing, path)  # type: ignore[arg-type]
    assert len(times) == 10
    assert times[-1] == 0
    assert (times.diff() <= 0).all()
    assert 0 < times[0] <= 1


def test_grids_against_their_formulas() -> None:
    sigma = PATHS["edm"].b(grid(5, spacing="karras", path=PATHS["edm"]))
    wanted = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)] + [0.0]
    assert torch.allclose(sigma, torch.tensor(wanted, dtype=torch.float64))
    sigma = PATHS["edm"].b(grid(5, spacing="exponential", path=PATHS["edm"]))[:5]
    assert torch.allclose(sigma.log().diff(), torch.full((4,), math.log(0.002 / 80) / 4, dtype=torch.float64))
    third = torch.tensor([0.0, 1 / 3, 0.5, 1.0], dtype=torch.float64)
    arcsine = torch.sin(math.pi / 2 * third) ** 2  # the quantiles of Beta(1/2, 1/2)
    assert torch.allclose(beta_quantiles(third, 0.5, 0.5), arcsine, atol=1e-6)
    assert torch.allclose(beta_quantiles(third, 1.0, 1.0), third, atol=1e-6)


def two_guesses(calls: list[bool] | None = None) -> guide.Guesses:
    """The guesses x_t + 1 with the condition, and x_t / 2 without."""

    def guesses(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
        if calls is not None:
            calls.append(every)
        return [x_t + 1, x_t / 2] if every else [x_t + 1]

    return guesses


def test_guidance_is_the_known_formula_within_its_interval() -> None:
    calls: list[bool] = []
    times, path = torch.tensor([1.0, 0.5, 0.05]), PATHS["linear"]
    denoise = guide.guided(two_guesses(calls), guide.Guidance(4.0, (0.1, 0.95)), path, times)
    x_t = torch.randn(2, 3)
    for k, wanted in enumerate((x_t + 1, x_t / 2 + 4 * (x_t / 2 + 1), x_t + 1)):
        x, z = denoise(x_t, k)
        assert torch.allclose(x, wanted)
        assert torch.allclose(path.a(times[k]) * x + path.b(times[k]) * z, x_t, atol=1e-5)
    assert calls == [False, True, False]
    assert torch.equal(guide.guided(two_guesses(), guide.Guidance(), path, times)(x_t, 1)[0], x_t + 1)


@pytest.mark.parametrize("target", ["velocity", "noise"])
def test_guiding_the_data_guess_is_guiding_the_prediction(target: str) -> None:
    """At a given x_t every target is an affine reading of the data guess, so extrapolation commutes with it."""
    path, t = PATHS["linear"], torch.tensor([0.7], dtype=torch.float64)
    x_t, cond, uncond = torch.randn(3, 4, 5, dtype=torch.float64)

    def guesses(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
        return [solve(target, path, x_t, prediction, t[0])[0] for prediction in (cond, uncond)]

    x, z = guide.guided(guesses, guide.Guidance(3.0), path, t)(x_t, 0)
    wanted = solve(target, path, x_t, uncond + 3 * (cond - uncond), t[0])
    assert torch.allclose(x, wanted[0])
    assert torch.allclose(z, wanted[1])


def test_composed_conditions_add_up() -> None:
    path, t, x_t = PATHS["linear"], torch.tensor([0.5]), torch.randn(2, 3)

    def guesses(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
        return [x_t + 1, x_t + 2, x_t][: None if every else 2]

    both = guide.guided(guesses, guide.Guidance(3.0, weights=(1.0, 0.5)), path, t)
    assert torch.allclose(both(x_t, 0)[0], x_t + 3 * (1 + 0.5 * 2))
    outside = guide.guided(guesses, guide.Guidance(3.0, (0.9, 1.0), weights=(1.0, -0.5)), path, t)
    assert torch.allclose(outside(x_t, 0)[0], x_t + 1 - 0.5 * 2)


def test_rescaled_guidance_keeps_the_conditional_spread() -> None:
    path, t, x_t = PATHS["linear"], torch.tensor([0.5]), torch.randn(2, 3, 8, 8)
    cond, uncond = torch.randn(2, 2, 3, 8, 8)
    guesses = lambda x_t, k, every: [cond, uncond]  # noqa: E731
    spread = [
        guide.guided(guesses, guide.Guidance(5.0, rescale=share), path, t)(x_t, 0)[0].std((1, 2, 3))
        for share in (0.0, 1.0)
    ]
    assert torch.allclose(spread[1], cond.std((1, 2, 3)), rtol=1e-5)
    assert (spread[0] > 2 * spread[1]).all()


def test_projected_guidance_leaves_out_what_is_parallel() -> None:
    path, t, x_t = PATHS["linear"], torch.tensor([0.5, 0.4]), torch.randn(1, 64)
    cond = torch.randn(1, 64)
    across = torch.randn(1, 64)
    across = 0.01 * (across - (across * cond).sum() / (cond * cond).sum() * cond)
    away = cond - across - 0.3 * cond  # small enough across for the bound, were it not for what is parallel
    denoise = guide.guided(lambda x_t, k, every: [cond, away], guide.Guidance(3.0, method="apg"), path, t)
    moved = denoise(x_t, 0)[0] - cond
    assert abs(float((moved * cond).sum())) < 1e-4 * float(cond.norm() * moved.norm())
    rms = float((cond - away).square().mean().sqrt())
    assert torch.allclose(moved, 2 * across * min(1, guide.APG_MOST / rms), atol=1e-5)
    second = denoise(x_t, 1)[0] - cond  # the same difference again, with half of the last one taken off
    bound = min(1, guide.APG_MOST / (rms / 2))
    assert torch.allclose(second, 2 * (across / 2) * bound, atol=1e-5)


def test_zero_star_fits_the_unconditional_velocity() -> None:
    path, t = PATHS["linear"], torch.tensor([0.6], dtype=torch.float64)
    x_t, v = torch.randn(2, 1, 50, dtype=torch.float64)
    guess = {name: solve("velocity", path, x_t, value, t[0])[0] for name, value in (("x", v), ("away", 0.25 * v))}
    guesses = lambda x_t, k, every: [guess["x"], guess["away"]]  # noqa: E731
    x, z = guide.guided(guesses, guide.Guidance(7.0, method="zero_star"), path, t)(x_t, 0)
    assert torch.allclose(velocity(path, x, z, t), v)  # a quarter of the same direction fits it fully: nothing to add


def test_the_mixtures_posterior_is_the_slope_of_its_density() -> None:
    """Tweedie's formula: the gradient of log p_t is -E[z | x_t] / b; and x_t = a E[x] + b E[z]."""
    means = torch.tensor([[1.0, -1.0, 0.5], [-0.5, 0.2, 0.0]])
    mixture = Mixture(torch.tensor([0.3, 0.7]), means, torch.tensor([0.2, 0.6]))
    for path in PATHS.values():
        t = path.from_sigma(torch.tensor(0.7))
        x_t = torch.randn(5, 3, requires_grad=True)
        (slope,) = torch.autograd.grad(mixture.log_density(path, x_t, t).sum(), x_t)
        x, z = mixture.posterior(path, x_t, t)
        assert torch.allclose(slope, score(path, z, t), atol=1e-4)
        assert torch.allclose(path.a(t) * x + path.b(t) * z, x_t, atol=1e-5)


def test_the_mixtures_density_is_one_of_its_draws() -> None:
    drawn = MIXTURE.sample(20_000, torch.Generator().manual_seed(0))[:, 0]
    edges = torch.linspace(-2, 2, 21, dtype=torch.float64)
    middles = (edges[:-1] + edges[1:]) / 2
    path, zero = PATHS["linear"], torch.tensor(0.0, dtype=torch.float64)
    density = MIXTURE.log_density(path, middles[:, None], zero).exp()
    counted = torch.histc(drawn, 20, -2, 2) / len(drawn) / 0.2
    assert (counted - density).abs().max() < 0.03


def test_the_oracle_of_data_is_the_slow_obvious_sum() -> None:
    path, data = PATHS["cosine"], torch.rand(50, 3, 4, 4) * 2 - 1
    t = torch.tensor(0.4)
    x_t = path.mix(data[:6], torch.randn(6, 3, 4, 4), t)
    x, z = of_data(path, x_t, t, data, chunk=7)
    for row in range(6):
        distance = torch.stack([(x_t[row] - path.a(t) * one).square().sum() for one in data]).double()
        share = torch.exp(-distance / (2 * path.b(t).double() ** 2) + distance.min() / (2 * path.b(t).double() ** 2))
        wanted = (share[:, None, None, None] * data).sum(0) / share.sum()
        assert torch.allclose(x[row].double(), wanted, atol=1e-5)
    assert torch.allclose(path.a(t) * x + path.b(t) * z, x_t, atol=1e-5)
    near, _ = of_data(path, path.mix(data, torch.randn_like(data), torch.tensor(0.01)), torch.tensor(0.01), data)
    assert torch.allclose(near, data, atol=1e-5)  # almost no noise: the datum itself; no overflow


def test_the_oracles_samples_are_its_data() -> None:
    """With a finite data set the perfect model can only repeat it."""
    path, data = PATHS["linear"], torch.rand(12, 3, 4, 4) * 2 - 1
    times = grid(50)
    denoise = denoiser(lambda x, t: of_data(path, x, t, data), times[:-1])
    *_, (end, _) = SOLVERS["euler"].run(denoise, torch.randn(30, 3, 4, 4), times, path, no_noise)
    assert torch.cdist(end.flatten(1).double(), data.flatten(1).double()).min(1).values.max() < 1e-3


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_snr_is_a_number_up_to_the_ends(name: str, dtype: torch.dtype) -> None:
    """Also where a vanishes, which a rounded cosine misses by a hair to the negative side."""
    snr = PATHS[name].log_snr(torch.tensor([0.0, 0.5, 1.0], dtype=dtype))
    assert not torch.isnan(snr).any()
    assert snr[0] > snr[1] > snr[2]
