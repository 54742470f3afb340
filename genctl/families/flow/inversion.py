"""From a picture to the noise that draws it, and back: a flow's ODE followed in either direction by Heun's method,
unguided, in float32 (DDIM inversion, arXiv:2105.05233, section F)."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.diffusion.solve import SOLVERS
from genctl.errors import UsageError
from genctl.families.flow.model import FlowModel
from genctl.families.flow.options import FlowOptions
from genctl.families.flow.sample import denoiser, times_of

DATA_END = 13.8  # log-SNR where inversion begins (linear t = .001): at t = 0 the noise cannot be read from x_t


@torch.inference_mode()
def invert(model: FlowModel, pictures: Tensor, prompt: str, steps: int | None) -> Tensor:
    """The noise [B, *shape] that would become these pictures [B, 3, H, W]. Raises UsageError for a student."""
    times = inner_times(model, steps).flip(0)
    ends = []
    for picture in pictures.split(1):  # alone: rounding may depend on the batch
        x_t = model.path.a(times[0]) * model.to_x(picture).to(model.device)
        ends.append(follow(model, x_t, times, prompt) / model.path.b(times[-1]))
    return torch.cat(ends).float()


@torch.inference_mode()
def from_noise(model: FlowModel, noise: Tensor, prompt: str, steps: int | None) -> Tensor:
    """Pictures [B, 3, H, W] of noise [B, *shape]: the same way back, so that little but rounding is lost."""
    times = inner_times(model, steps)
    starts = [model.path.b(times[0]) * one.to(model.device) for one in noise.split(1)]
    ends = [follow(model, x_t, times, prompt) for x_t in starts]
    return model.from_x(torch.cat(ends) / model.path.a(times[-1])).float()


def inner_times(model: FlowModel, steps: int | None) -> Tensor:
    """The model's falling times, kept from t = 0."""
    if model.distilled:
        raise UsageError("a student knows no way back to noise; its teacher does")
    least = model.path.from_log_snr(torch.tensor(DATA_END, dtype=torch.float64)).clamp(min=0)
    options = FlowOptions(steps=steps).settled(model.document(), conditional=False)
    return torch.maximum(times_of(model, options), least)


def follow(model: FlowModel, x_t: Tensor, times: Tensor, prompt: str) -> Tensor:
    solver, unguided = SOLVERS["heun"], FlowOptions()
    evaluations = solver.evaluations(times, model.path)
    denoise = denoiser(model, unguided, [prompt], tuple(x_t.shape), evaluations, dtype=torch.float32)
    for state, _ in solver.run(denoise, x_t, times, model.path, lambda: torch.empty(0)):
        x_t = state
    return x_t
