"""Step by step against diffusers' schedulers, on one random network: the same numbers, by the general core."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.solve import SOLVERS
from genctl.diffusion.target import solve

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers (the extra `peer`)")
pytestmark = pytest.mark.peer

STEPS = 12
SHAPE = (2, 3, 8, 8)
VP: dict[str, Any] = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def network() -> Callable[[Tensor, int], Tensor]:
    """A smooth random function of (x, step) with outputs of order one."""
    draw = torch.Generator().manual_seed(7)
    mix = torch.randn(192, 192, generator=draw, dtype=torch.float64) / 192**0.5
    shifts = torch.randn(STEPS, 192, generator=draw, dtype=torch.float64)

    def net(x: Tensor, k: int) -> Tensor:
        inner = x.flatten(1) / (1 + x.flatten(1).square().mean(1, keepdim=True)).sqrt()
        return (1.5 * torch.tanh(inner @ mix.to(x) + shifts[k].to(x))).view(x.shape)

    return net


def theirs(scheduler: Any, x: Tensor, generator: torch.Generator | None) -> list[Tensor]:
    net, states = network(), []
    for k, t in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)  # it wants to be called; the network is given x itself
        options = {} if generator is None else {"generator": generator}
        x = scheduler.step(net(x, k), t, x, **options).prev_sample
        states.append(x)
    return states


def ours(
    path: Path, target: str, solver: str, times: Tensor, x: Tensor, generator: torch.Generator | None
) -> list[Tensor]:
    net = network()

    def fresh() -> Tensor:
        return torch.randn(SHAPE, generator=generator, dtype=x.dtype)

    def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return solve(target, path, x_t, net(x_t, k), times[k])

    return [state for state, _ in SOLVERS[solver].run(denoise, x, times, path, fresh)]


def vp_times(scheduler: Any) -> Tensor:
    """Times at which vp has the log-SNR of the scheduler's table: on VP paths that fixes a and b."""
    kept = scheduler.alphas_cumprod.double()[scheduler.timesteps.long()]
    times = PATHS["vp"].from_log_snr(torch.log(kept) - torch.log1p(-kept))
    return torch.cat([times, times.new_zeros(1)])


def sigma_times(path: str) -> Callable[[Any], Tensor]:
    def times(scheduler: Any) -> Tensor:
        sigma = scheduler.sigmas.double()
        return torch.cat([PATHS[path].from_sigma(sigma[:-1]), sigma.new_zeros(1)])

    return times


CASES: dict[str, tuple[str, dict[str, Any], str, str, str, Callable[[Any], Tensor], float]] = {
    "flow": ("FlowMatchEulerDiscreteScheduler", {}, "linear", "velocity", "euler",
             lambda s: s.sigmas.double(), 1.0),
    "ddim": ("DDIMScheduler", VP | {"clip_sample": False}, "vp", "noise", "euler", vp_times, 1.0),
    "ddpm": ("DDPMScheduler", VP | {"clip_sample": False}, "vp", "noise", "ancestral", vp_times, 1.0),
    "euler": ("EulerDiscreteScheduler", VP, "edm", "noise", "euler", sigma_times("edm"), 10.0),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", VP, "edm", "noise", "ancestral", sigma_times("edm"), 10.0),
    "dpm-solver++": ("DPMSolverMultistepScheduler", VP | {"final_sigmas_type": "zero"}, "vp", "noise", "dpmpp_2m",
                     sigma_times("vp"), 1.0),
    "dpm-solver++ sde": ("DPMSolverMultistepScheduler", VP | {"final_sigmas_type": "zero",
                         "algorithm_type": "sde-dpmsolver++"}, "vp", "noise", "dpmpp_2m_sde", sigma_times("vp"), 1.0),
    "edm": ("EDMEulerScheduler", {}, "edm", "F", "euler", sigma_times("edm"), 80.0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_step_by_step_as_diffusers(case: str) -> None:
    name, options, path, target, solver, times_of, size = CASES[case]
    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(STEPS)
    x = size * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    stochastic = SOLVERS[solver].order is None
    draws = [torch.Generator().manual_seed(1) if stochastic else None for _ in range(2)]
    wanted = theirs(scheduler, x, draws[0])
    got = ours(PATHS[path], target, solver, times_of(scheduler), x, draws[1])
    assert len(got) == len(wanted) == STEPS
    for mine, peer in zip(got, wanted, strict=True):
        assert (mine - peer).norm() <= 1e-5 * peer.norm(), case
