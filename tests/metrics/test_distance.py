"""Distances of pictures and of feature sets against closed forms and slow obvious versions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genctl.errors import InputError
from genctl.metrics.distance import frechet, frechet_of_moments, kid, moments, precision_recall
from genctl.nets.lpips import psnr


def drawn(count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(width: int, seed: int) -> Tensor:
    root = drawn(width, width, seed)
    return root @ root.T / width


def test_psnr_by_hand() -> None:
    a = torch.zeros(3, 3, 4, 4)
    b = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 2.0)])
    assert psnr(a, b).tolist() == pytest.approx([120.0, 20.0, 0.0], abs=1e-3)  # a tenth of the range is 20 dB
    assert float(psnr(a[:1].bfloat16(), b[1:2].bfloat16())) == pytest.approx(20, abs=0.05)


def test_frechet_of_known_moments() -> None:
    zero, eye = torch.zeros(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    assert frechet_of_moments(zero, eye, zero + 2, eye) == pytest.approx(20)  # the means alone
    assert frechet_of_moments(zero, 4 * eye, zero, 9 * eye) == pytest.approx(5)  # 5 (3 - 2)^2
    one, other = torch.tensor([1.0, 4, 9, 0, 2]).double(), torch.tensor([4.0, 1, 9, 3, 0]).double()
    want = float((one.sqrt() - other.sqrt()).square().sum())  # commuting covariances
    assert frechet_of_moments(zero, torch.diag(one), zero, torch.diag(other)) == pytest.approx(want)


def test_frechet_against_the_matrix_root() -> None:
    """tr (A B)^(1/2) by the eigenvalues of A B itself, which are real and not negative."""
    a, b = covariance(8, 0), covariance(8, 1)
    zero = torch.zeros(8, dtype=torch.float64)
    cross = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    want = float(a.trace() + b.trace() - 2 * cross)
    assert frechet_of_moments(zero, a, zero, b) == pytest.approx(want, rel=1e-9)
    assert frechet_of_moments(zero, b, zero, a) == pytest.approx(want, rel=1e-9)


def test_frechet_of_samples_finds_the_gaussians_own() -> None:
    root = torch.linalg.cholesky(covariance(4, 2))
    x, y = drawn(40_000, 4, 3) @ root.T + 1, drawn(40_000, 4, 4)
    mean = torch.zeros(4, dtype=torch.float64)
    want = frechet_of_moments(mean + 1, root @ root.T, mean, torch.eye(4, dtype=torch.float64))
    assert frechet(x, y) == pytest.approx(want, rel=0.03)


def test_frechet_with_fewer_pictures_than_features() -> None:
    """Singular covariances: the root's trace is the nuclear norm of the centred features' product."""
    x, y = drawn(20, 50, 5), drawn(30, 50, 6) * 2
    (mean_x, cov_x), (mean_y, cov_y) = moments(x), moments(y)
    cross = torch.linalg.matrix_norm((x - mean_x) @ (y - mean_y).T, "nuc") / math.sqrt(19 * 29)
    want = float((mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross)
    assert frechet(x, y) == pytest.approx(want, rel=1e-6)
    assert frechet(x, x) == pytest.approx(0, abs=1e-5 * float(cov_x.trace()))


def test_moments_are_unbiased() -> None:
    x = drawn(7, 3)
    centred = x - x.mean(0)
    assert torch.allclose(moments(x)[1], centred.T @ centred / 6)


def slow_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimator as it is written in the paper, a pair at a time."""

    def kernel(p: Tensor, q: Tensor) -> float:
        return (float(p @ q) / len(p) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(p, q) for p in x for q in y) / (n * m)


def test_kid_against_the_slow_estimator() -> None:
    x, y = drawn(6, 4, 0), drawn(6, 4, 1) + 0.5
    mean, deviation = kid(x, y, subsets=1, subset_size=6, generator=torch.Generator().manual_seed(0))
    assert mean == pytest.approx(slow_mmd(x, y))
    assert deviation == 0


def test_kid_is_unbiased_and_sees_a_shift() -> None:
    """Over many small independent sets of one distribution its mean is 0, where a biased estimate is above."""
    values = []
    for seed in range(400):
        x, y = drawn(10, 3, 2 * seed), drawn(10, 3, 2 * seed + 1)
        values.append(kid(x, y, 1, 10, torch.Generator().manual_seed(seed))[0])
    found = torch.tensor(values)
    assert abs(float(found.mean())) < 3 * float(found.std()) / math.sqrt(400)
    generator = torch.Generator().manual_seed(0)
    same, _ = kid(drawn(500, 8, 0), drawn(500, 8, 1), 20, 100, generator)
    shifted, deviation = kid(drawn(500, 8, 0), drawn(500, 8, 1) + 0.5, 20, 100, generator)
    assert shifted > 10 * abs(same)
    assert 0 < deviation < shifted


def test_kid_is_repeatable() -> None:
    x, y = drawn(50, 4, 0), drawn(60, 4, 1)
    first, second = (kid(x, y, 5, 20, torch.Generator().manual_seed(7)) for _ in range(2))
    assert first == second


def slow_covered(centres: Tensor, points: Tensor, k: int) -> float:
    hits = 0
    for point in points:
        for index, centre in enumerate(centres):
            others = sorted(float((centre - other).norm()) for j, other in enumerate(centres) if j != index)
            if float((point - centre).norm()) <= others[k - 1]:
                hits += 1
                break
    return hits / len(points)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(0, 4), k=st.integers(1, 4))
def test_precision_and_recall_against_the_slow_definition(seed: int, shift: float, k: int) -> None:
    real, made = drawn(15, 2, seed), drawn(12, 2, seed + 1) + shift
    precision, recall = precision_recall(real, made, k)
    assert precision == pytest.approx(slow_covered(real, made, k))
    assert recall == pytest.approx(slow_covered(made, real, k))


def test_precision_and_recall_tell_collapse_from_noise() -> None:
    real = drawn(400, 4, 0)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    precision, recall = precision_recall(real, 0.2 * drawn(400, 4, 1))  # only the middle is drawn
    assert precision > 0.95
    assert recall < 0.3
    precision, recall = precision_recall(real, 4 * drawn(400, 4, 1))  # drawn far and wide
    assert precision < 0.3
    assert recall > 0.9


def test_too_few_pictures_are_refused() -> None:
    generator = torch.Generator()
    for call in (
        lambda: frechet(drawn(1, 3), drawn(5, 3)),
        lambda: kid(drawn(10, 3), drawn(5, 3), 1, 8, generator),
        lambda: precision_recall(drawn(3, 3), drawn(5, 3)),
    ):
        with pytest.raises(InputError, match="too few"):
            call()
