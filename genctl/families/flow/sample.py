"""From noise to pictures: the times of a run, the guided denoiser at them, and the solver's steps from one to the next.

    x_1 = z(seed) -> solver over guided denoisers -> x_0            diffusion/solve.py, diffusion/guide.py

A variation begins at t = strength; a redrawn part is a denoiser whose guess is known outside of the mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.diffusion import guide
from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.solve import SOLVERS, Denoiser
from genctl.diffusion.time import grid
from genctl.errors import UsageError
from genctl.families.base import Blend, Request
from genctl.families.flow.model import FlowModel, Given, stacked
from genctl.families.flow.options import FlowOptions
from genctl.rng import PictureNoise

MOST_TOGETHER = (256, 32)  # pictures of the training size (and length) drawn at once at most: on a GPU, on a CPU
FADE = 1 / 48  # of a picture's longer side: the width over which a redrawn part goes over into what is kept
NOISE_START = 1 - 1e-3  # a predicted noise or score says nothing of the data at t = 1, where x_t is that noise


def steps(model: FlowModel, request: Request, start: int) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """(x_t, data guess, step, steps) of one chunk of pictures after each step."""
    options, shape = options_of(model, request), model.shape_for(request)
    seeds = request.seeds[start : start + request.chunk]
    asked = request.conditions[start : start + request.chunk] or [""] * len(seeds)
    noise = PictureNoise(seeds, shape)
    begin = noise()
    begin = begin if request.noise is None else request.noise[start : start + len(seeds)]
    path, times = path_of(model, options), times_of(model, options, model.begins_at(request))
    solver = SOLVERS[options.solver]
    evaluations = solver.evaluations(times, path)
    ends = 0 * times[1:] if options.solver == "consistency" else times[1:]  # it jumps to the data, and adds new noise
    denoise = denoiser(model, options, asked, (len(seeds), *shape), evaluations, ends, request.dtype, request.packed)
    x_t = path.b(times[0]) * begin.to(model.device)
    if request.edit is not None:
        given = model.given(request.edit, shape)
        x_t = x_t if given.clean else x_t + path.a(times[0]) * given.x
        if given.free is not None:
            denoise = keeping(denoise, given, path, evaluations, model.own_times(path, evaluations)[1])
    walk = solver.run(denoise, x_t, times, path, lambda: noise().to(model.device))
    for step, (state, x) in enumerate(walk, 1):
        yield state, x, step, len(times) - 1


def together(model: FlowModel, request: Request) -> int:
    """How many pictures are drawn at once: `request.chunk`, or one on a CPU whose products round a picture by the batch
    that it is in. So a picture is the same whatever it is drawn with. (On a GPU it is up to rounding.)"""
    options, shape, count = options_of(model, request), model.shape_for(request), len(request.seeds)
    most = MOST_TOGETHER[model.device.type == "cpu"] * math.prod(model.noise_shape()) // math.prod(shape)
    request = replace(request, chunk=max(1, min(request.chunk, most)))
    chunk = min(request.chunk, count)
    if model.device.type != "cpu" or chunk == 1 or not request.packed:
        return request.chunk
    nets = [(model, 1 if model.distilled else 2 + len(options.also))]
    nets += [] if options.guide is None else [(guide_of(model, options.guide), 1)]
    sizes = {chunk, count % chunk} - {0, 1}
    alike = all(net.rounds_alike(size, rows, shape, request.dtype) for net, rows in nets for size in sizes)
    return request.chunk if alike else 1


def options_of(model: FlowModel, request: Request) -> Any:
    """The request's options, settled: FlowOptions in which `steps` and `solver` are said."""
    return model.options(request)


def path_of(model: FlowModel, options: FlowOptions) -> Path:
    """The path that sampling follows: the model's own, or any other (`own_times`)."""
    return model.path if options.path is None else PATHS[options.path]


def times_of(model: FlowModel, options: Any, strength: float = 1.0) -> Tensor:
    """The steps + 1 falling times of settled options; from `strength` on where a picture is varied."""
    config, path = model.config.sampling, path_of(model, options)
    times = grid(options.steps, options.shift or config.shift, options.spacing or config.spacing, path)
    begin = torch.tensor(min(noisiest(model), strength), dtype=torch.float64)
    if path != model.path and begin < 1:  # as noisy as the model's own path is there
        begin = path.from_log_snr(model.path.log_snr(begin)).clamp(0, 1)
    return begin * times


def noisiest(model: FlowModel) -> float:
    """The latest time at which the data can be read from a prediction."""
    return NOISE_START if model.config.diffusion.target in ("noise", "score") else 1.0


def denoiser(
    model: FlowModel, options: FlowOptions, asked: list[str | Blend], shape: tuple[int, ...], evaluations: Tensor,
    ends: Tensor | None = None, dtype: torch.dtype | None = None, packed: bool = True,
) -> Denoiser:  # fmt: skip
    """The guided denoiser of x [B, ...] of this shape, asked for by B conditions, at the times where a solver will
    evaluate it, and where each step ends. A student, conditioned on the guidance scale, needs no unconditional half."""
    path, count = path_of(model, options), shape[0]
    scale, scalars = 1.0 if options.cfg is None else options.cfg, None
    if model.distilled and ends is not None:
        same = torch.full_like(evaluations, scale)
        scalars = stacked(model.config.net.scalars, same, model.own_times(path, ends)[0])
    interval, weights = options.interval or (0.0, 1.0), (1.0, *(share for _, share in options.also))
    guidance = guide.Guidance(
        1.0 if model.distilled else scale, interval, options.guidance, options.rescale, weights
    )  # fmt: skip
    rows: list[str | Blend] = [*asked, *(text for text, _ in options.also for _ in range(count))]
    away = options.guide is None and (guidance.scale != 1 or len(options.also) > 0)
    run: dict[str, Any] = {"dtype": dtype, "packed": packed}
    own = model.guesses([*rows, *[options.negative] * count * away], shape, path, evaluations, scalars, **run)
    guesses = own
    if options.guide is not None:
        weak = guide_of(model, options.guide).guesses(list(asked), shape, path, evaluations, **run)

        def guesses(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
            return own(x_t, k, every) + (weak(x_t, k, False) if every else [])

    judged, _ = model.own_times(path, evaluations)
    return guide.guided(guesses, guidance, path, evaluations.to(model.device, torch.float32), judged)


def guide_of(model: FlowModel, weaker: Any) -> FlowModel:
    """The weaker model to guide away from, by name or loaded. Raises UsageError for one that cannot be it."""
    from genctl.families.saved import load

    if isinstance(weaker, str):
        name, known = weaker, model.parts.setdefault("guides", {})
        weaker = known[name] = known.get(name) or load(name, model.device)
        if weaker.name != model.name:
            raise UsageError(f"--guide {name}: a {weaker.name} model, not {model.name}")
    if weaker.distilled:
        raise UsageError("a student is no guide: its guidance is distilled into it; give a weaker flow")
    if weaker.shape != model.shape or codec_of(weaker) != codec_of(model):
        raise UsageError("the guide draws pictures of another size, or by another codec, than the model")
    return weaker


def codec_of(model: FlowModel) -> str:
    """The hash of the codec that a model was trained with; empty in pixel space."""
    return str(model.info.get("parts", {}).get("codec", {}).get("sha256", ""))


def seamless(drawn: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """Drawn pictures [B, 3, H, W] where the mask [1, H, W] is not 0, the kept one [3, H, W] exactly elsewhere. From the
    edge inwards the one goes over into the other, within some FADE of the longer side; what is thinner than that is
    drawn in full along its middle."""
    depth = (1 - 2 * _blurred((mask <= 0).to(drawn)[None])).clamp(min=0)  # [1, 1, H, W]: 0 at a straight edge, 1 deep
    reach = 2 * round(FADE * max(mask.shape[-2:])) + 1
    deepest = F.max_pool2d(depth, reach, 1, reach // 2)
    share = torch.where(mask > 0, depth.clamp(min=1e-3) / deepest.clamp(min=1e-3), 0)
    return torch.where(mask > 0, torch.lerp(kept, drawn, share), kept)


def _blurred(pictures: Tensor) -> Tensor:
    """[B, C, H, W], by a Gaussian over FADE of the longer side, edges repeated."""
    sigma = FADE * max(pictures.shape[-2:])
    reach = min(max(1, round(3 * sigma)), min(pictures.shape[-2:]) - 1)
    places = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    padded = F.pad(pictures, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel, groups=pictures.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=pictures.shape[1])


def keeping(denoise: Denoiser, given: Given, path: Path, evaluations: Tensor, size: Tensor) -> Denoiser:
    """Where nothing is free the data guess is what is given. x_t there is then the known data with this sample's noise:
    inpainting by replacement (arXiv:2011.13456, appendix I.2), exactly so where a and b are linear in t, or the solver
    mixes guesses (euler, dpmpp_2m); else as nearly as the solver follows the path. Or the network, to which `size` [K]
    times x_t is shown, sees it clean."""
    assert given.free is not None
    known, free, times, size = given.x, given.free, evaluations.to(given.x), size.to(given.x)

    def keep(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
        seen = torch.lerp(known / size[k], x_t, free) if given.clean else x_t
        x = torch.lerp(known, denoise(seen, k)[0], free)
        return x, (x_t - path.a(times[k]) * x) / path.b(times[k])

    return keep
