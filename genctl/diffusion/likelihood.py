"""How probable data are under a denoiser: exactly, by the probability-flow ODE, and as a variational bound.

A prediction is (x_t [B, ...], t) -> (x, z): the expected data and noise. Logarithms are natural (nats);
`bits_per_dimension` converts for pictures of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from genctl.diffusion.path import Path
from genctl.diffusion.solve import RK4
from genctl.diffusion.target import velocity

Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def log_likelihood(
    predict: Predict, x: Tensor, path: Path, times: Tensor, probes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(log p(x) [B], the noise [B, ...] that x came from), along the ODE dx_t/dt = v (arXiv:2011.13456, section 4.3):

        log p(x) = log N(x_1; 0, b(1)^2) + integral of div v over t, from data to noise, by RK4 over rising `times`.

    The divergence is exact, D products of the Jacobian for D numbers, or with `probes` [P, B, ...] of +-1 the mean of
    probe . J probe (Hutchinson 1989), whose expectation it is. A path that is not pure noise at its end (a(1) > 0)
    makes the first term an approximation.
    """
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for t, s in pairwise(times):
        slopes: list[tuple[Tensor, Tensor]] = []
        for share, row in zip(RK4.share, RK4.rows, strict=True):
            parts = [c * slope for c, (slope, _) in zip(row, slopes, strict=True)]
            stage = x + (s - t) * torch.stack(parts).sum(0) if parts else x
            slopes.append(flow_and_divergence(predict, stage, path, t + share * (s - t), probes))
        x = x + (s - t) * sum(w * slope for w, (slope, _) in zip(RK4.weights, slopes, strict=True))
        total = total + (s - t) * sum(w * change for w, (_, change) in zip(RK4.weights, slopes, strict=True))
    return total + _log_normal(x, path.b(times[-1])), x


def flow_and_divergence(
    predict: Predict, x_t: Tensor, path: Path, t: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """v [B, ...] and its divergence [B] at one time."""

    def flow(at: Tensor) -> Tensor:
        return velocity(path, *predict(at, t), t)

    if probes is None:
        basis = torch.eye(x_t[0].numel(), dtype=x_t.dtype, device=x_t.device).view(-1, 1, *x_t.shape[1:])
        probes = basis.expand(-1, *x_t.shape)
        count = 1
    else:
        count = len(probes)
    slope, total = flow(x_t), torch.zeros(len(x_t), dtype=x_t.dtype, device=x_t.device)
    for probe in probes:
        product = torch.func.jvp(flow, (x_t,), (probe.contiguous(),))[1]
        total = total + (probe * product).flatten(1).sum(1) / count
    return slope, total


def variational_bound(
    predict: Predict, x: Tensor, path: Path, uniform: Tensor, noise: Callable[[], Tensor], ends: tuple[float, float]
) -> Tensor:
    """An upper bound of -log p(x) [B] in nats (VDM, arXiv:2107.00630, eq. 11 and 17):

        reconstruction from x_t at ends[0]  +  1/2 E |z - z_hat|^2 integrated over log-SNR  +  prior at ends[1].

    Each of `uniform` [K] in (0, 1) is a place in the range of log-SNR and takes one draw of `noise`; their mean
    estimates the integral, so the bound holds in expectation.
    """
    reconstruction, terms, prior = bound_parts(predict, x, path, uniform, noise, ends)
    return reconstruction + terms.mean(0) + prior


def bound_parts(
    predict: Predict, x: Tensor, path: Path, uniform: Tensor, noise: Callable[[], Tensor], ends: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts of `variational_bound`: the reconstruction [], for each of `uniform` what the integral would be
    if every noise level cost as much as this one [K, B], and the prior [B]."""
    low, high = (torch.tensor(end, dtype=x.dtype, device=x.device) for end in ends)
    most, least = path.log_snr(low), path.log_snr(high)
    terms = []
    for t in path.from_log_snr(least + uniform * (most - least)):
        z = noise()
        _, guess = predict(path.a(t) * x + path.b(t) * z, t)
        terms.append((z - guess).square().flatten(1).sum(1) / 2 * (most - least))
    reconstruction = x[0].numel() / 2 * (math.log(2 * math.pi * math.e) - most)  # of N(x_t / a, (b / a)^2)
    return reconstruction, torch.stack(terms), _prior_divergence(x, path, high)


def bits_per_dimension(nats: Tensor, dimensions: int, levels: int = 256) -> Tensor:
    """-log p in bits a dimension of pictures with so many levels, from nats of their dequantised values in [-1, 1]."""
    return nats / (dimensions * math.log(2)) + math.log2(levels / 2)


def _log_normal(x: Tensor, std: Tensor) -> Tensor:
    """log N(x; 0, std^2) [B]."""
    dimensions = x[0].numel()
    return -x.square().flatten(1).sum(1) / (2 * std**2) - dimensions / 2 * (math.log(2 * math.pi) + 2 * torch.log(std))


def _prior_divergence(x: Tensor, path: Path, t: Tensor) -> Tensor:
    """KL(N(a x, b^2) || N(0, b(1)^2)) [B] at the noisy end."""
    last = path.b(torch.ones_like(t))
    ratio = (path.b(t) / last) ** 2
    dimensions = x[0].numel()
    shift = (path.a(t) / last) ** 2 * x.square().flatten(1).sum(1)
    return (dimensions * (ratio - 1 - torch.log(ratio)) + shift) / 2
