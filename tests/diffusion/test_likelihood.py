"""Likelihoods against mixtures of Gaussians, whose density is known."""

import math

import pytest
import torch

from genctl.diffusion.likelihood import bits_per_dimension, log_likelihood, variational_bound
from genctl.diffusion.oracle import Mixture
from genctl.diffusion.path import PATHS
from genctl.rng import Draw

MIXTURE = Mixture(
    *(torch.tensor(v, dtype=torch.float64) for v in ([0.4, 0.6], [[-1.0, 0.3, 0.0], [0.8, -0.2, 0.5]], [0.3, 0.5]))
)
ZERO = torch.tensor(0.0, dtype=torch.float64)


@pytest.mark.parametrize("name", ["linear", pytest.param("cosine", marks=pytest.mark.slow)])
def test_exact_log_likelihood(name: str) -> None:
    path = PATHS[name]
    x = MIXTURE.sample(40, torch.Generator().manual_seed(0))
    times = torch.linspace(0, 1, 61, dtype=torch.float64)
    got, latent = log_likelihood(lambda x_t, t: MIXTURE.posterior(path, x_t, t), x, path, times)
    wanted = MIXTURE.log_density(path, x, ZERO)
    assert ((got - wanted).abs() / 3).max() < 1e-3  # nats a dimension
    assert latent.shape == x.shape
    many = MIXTURE.sample(3000, torch.Generator().manual_seed(1))
    _, latent = log_likelihood(
        lambda x_t, t: MIXTURE.posterior(path, x_t, t), many, path, times[::3], torch.ones(1, 3000, 3).double()
    )
    assert torch.allclose(torch.cov(latent.T), torch.eye(3, dtype=torch.float64), atol=0.1)  # data become pure noise


@pytest.mark.slow
def test_probes_estimate_the_divergence() -> None:
    path, x = PATHS["linear"], MIXTURE.sample(20, torch.Generator().manual_seed(0))
    times = torch.linspace(0, 1, 13, dtype=torch.float64)
    predict = lambda x_t, t: MIXTURE.posterior(path, x_t, t)  # noqa: E731
    draw = torch.Generator().manual_seed(2)
    probes = torch.randint(0, 2, (64, 20, 3), generator=draw).double() * 2 - 1
    exact, _ = log_likelihood(predict, x, path, times)
    estimated, _ = log_likelihood(predict, x, path, times, probes)
    one, _ = log_likelihood(predict, x, path, times, probes[:1])
    assert (estimated - exact).abs().mean() < 0.15
    assert (one - exact).abs().mean() > 2 * (estimated - exact).abs().mean()


@pytest.mark.parametrize("name", ["linear", "cosine", "vp"])
def test_the_bound_holds_and_is_tight_for_the_optimal_denoiser(name: str) -> None:
    """In expectation the bound is the entropy plus what the two ends add; a worse denoiser loosens it."""
    path = PATHS[name]
    x = MIXTURE.sample(4000, torch.Generator().manual_seed(0))
    truth = -MIXTURE.log_density(path, x, ZERO).mean()
    ends = (0.003, 0.999)
    uniform = Draw(3, 400).strata().double()
    bounds = []
    for error in (0.0, 0.3):
        draw = torch.Generator().manual_seed(4)
        bound = variational_bound(
            lambda x_t, t, error=error: (x_t, MIXTURE.posterior(path, x_t, t)[1] + error),
            x, path, uniform, lambda draw=draw: torch.randn(4000, 3, generator=draw, dtype=torch.float64), ends,
        )  # fmt: skip
        bounds.append(float(bound.mean()))
    assert float(truth) - 0.03 < bounds[0] < float(truth) + 0.06  # 0.03: four standard errors of the estimate
    assert bounds[1] > bounds[0] + 0.2


def test_bits_of_known_pictures() -> None:
    """Uniform values over 256 levels in [-1, 1] have density 1/2 each: eight bits."""
    assert float(bits_per_dimension(torch.tensor(10 * math.log(2.0)), 10)) == pytest.approx(8.0)
