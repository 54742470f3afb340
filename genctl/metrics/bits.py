"""Bits of held-out pictures: a dimension under a flow in pixel space, exact by its ODE, and the variational bound; a
token under a model over tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from genctl.data.pictures import Pictures
from genctl.diffusion.likelihood import Predict, bits_per_dimension, bound_parts, log_likelihood
from genctl.diffusion.target import solve
from genctl.errors import UsageError
from genctl.families.ar import AR
from genctl.families.base import Family
from genctl.families.conditions.captions import prompt_of
from genctl.families.flow.flow import Flow
from genctl.families.flow.sample import noisiest
from genctl.media.pictures import to_image
from genctl.media.write import encode_picture
from genctl.metrics import readings
from genctl.nets.lpips import psnr
from genctl.rng import generator

LEAST_SNR, MOST_SNR = -13.0, 13.0  # of the path that is integrated; beyond, a pixel's step of 2/256 is above the noise
LEVELS = 4  # ranges of log-SNR by which the bound is given
Report = Callable[[int, int], None]


def bits(
    model: Family, pictures: Pictures, most: int, dequantisations: int = 3, steps: int = 32,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:  # fmt: skip
    """Bits a dimension of at most `most` held-out pictures (of all, where none is held out), means over pictures.

    ode: log-likelihood along the probability-flow ODE by `steps` steps of RK4, evenly in log-SNR, one Rademacher probe
    a dequantisation. Pictures of whole numbers are dequantised uniformly, x = (n + u) / 128 - 1, `dequantisations`
    times; `ode` averages the bits of all draws, `spread` is the standard deviation over draws of the set's mean. bound:
    the variational one at the same draws, and its share by ranges of log-SNR. Raises UsageError for a latent model: the
    density of codes says nothing of the pictures'.
    """
    known = with_density(model)
    held = pictures.split(True)
    chosen = held if len(held) else pictures
    rows = torch.randperm(len(chosen), generator=generator("bits"))[:most].tolist()
    if isinstance(known, AR):
        return {"held_out": len(held) > 0} | token_bits(known, chosen, rows, report)
    model = known
    nats, bounds, by_level = [], [], []
    for done, row in enumerate(rows):
        prompt = prompt_of(model, chosen.entries[row])
        ode, bound, levels = _of_picture(model, chosen.pixels[row], prompt, dequantisations, steps, row)
        nats.append(ode)
        bounds.append(bound)
        by_level.append(levels)
        report(done + 1, len(rows))
    size = math.prod(model.shape)
    ode, bound = torch.stack(nats).detach(), torch.stack(bounds)  # [N, K] of -log p
    per_draw = bits_per_dimension(ode.mean(0), size)
    png = png_bits(chosen.pixels[torch.tensor(rows)])
    return {
        "reading": readings.bits(float(per_draw.mean()), png),
        "count": len(rows), "held_out": len(held) > 0, "dequantisations": dequantisations,
        "ode": round(float(per_draw.mean()), 4),
        "spread": round(float(per_draw.std(correction=min(1, dequantisations - 1))), 4),
        "bound": round(float(bits_per_dimension(bound.mean(), size)), 4),
        "bound_by_log_snr": _named(torch.stack(by_level).mean(0) / (size * math.log(2)), snr_ends(model)),
    }  # fmt: skip


def token_bits(model: AR, pictures: Pictures, rows: list[int], report: Report) -> dict[str, Any]:
    """Of the tokens of these pictures, exactly, under each one's own condition: a model's likelihood by the passes that
    it draws in. A pixel's bits are those of the tokens that stand for it, which are not the picture: `psnr` says how
    near they lead back."""
    nats, back = [], []
    for done, row in enumerate(rows):
        picture = (pictures.pixels[[row]].float() / 127.5 - 1).to(model.device)
        tokens = model.codec().encode(picture).flatten(1).long()
        nats.append(model.nats(tokens, model.conditions([prompt_of(model, pictures.entries[row])])))
        back.append(psnr(model.decoded(tokens), picture))
        report(done + 1, len(rows))
    count, codes = model.order.count, model.net.codes
    total = float(torch.cat(nats).mean()) / math.log(2)
    return {
        "reading": readings.token_bits(total / count, math.log2(codes)),
        "count": len(rows), "tokens": count, "codes": codes, "psnr": round(float(torch.cat(back).mean()), 2),
        "bits_a_token": round(total / count, 4), "nats_a_token": round(total / count * math.log(2), 4),
        "bits_a_pixel": round(total / model.pixels.area, 5),
    }  # fmt: skip


def with_density(model: Family) -> Flow | AR:
    """The model, as one over tokens or a flow in pixel space that follows an ODE. Raises UsageError for any other."""
    if isinstance(model, AR):
        return model
    if not isinstance(model, Flow) or model.shape != (3, *model.pixels.high) or not hasattr(model, "net"):
        able = "flows in pixel space (rf) and models over tokens (ar) do"
        raise UsageError(f"--bpd: a {model.name} model gives pictures no density; {able}")
    if model.distilled:
        raise UsageError("--bpd: a student follows no ODE; its teacher does")
    return model


def png_bits(pictures: Tensor) -> float:
    """Bits a number that uint8 pictures [N, 3, H, W] take as PNG, their mean."""
    total = sum(len(encode_picture(to_image(picture), "png")) for picture in pictures)
    return 8 * total / pictures.numel()


def snr_ends(model: Flow) -> tuple[float, float]:
    """The log-SNR between which a model's path is integrated: what is wanted, as far as the path goes and a prediction
    tells both data and noise."""
    ends = model.path.log_snr(torch.tensor([1e-6, noisiest(model)], dtype=torch.float64)).tolist()
    return min(MOST_SNR, ends[0]), max(LEAST_SNR, ends[1])


def _named(levels: Tensor, ends: tuple[float, float]) -> dict[str, float]:
    """The integral's bits by equal ranges of log-SNR, from clean to noisy."""
    edges = torch.linspace(*ends, len(levels) + 1).tolist()
    return {f"{a:.3g} to {b:.3g}": round(float(v), 4) for a, b, v in zip(edges, edges[1:], levels, strict=False)}


def _of_picture(
    model: Flow, pixels: Tensor, prompt: str, dequantisations: int, steps: int, row: int
) -> tuple[Tensor, Tensor, Tensor]:
    """-log p [K] of one picture's dequantisations in nats, by the ODE and by the bound, and the bound's integral by
    noise level [LEVELS]."""
    draw = generator("dequantise", row)
    noise = torch.rand(dequantisations, *pixels.shape, generator=draw)
    x = ((pixels.float() + noise) / 128 - 1).to(model.device)
    probes = (torch.randint(0, 2, x.shape, generator=draw).float() * 2 - 1).to(x)[None]
    predict, path = predictor(model, prompt, len(x)), model.path
    snr = torch.linspace(*snr_ends(model), steps + 1, dtype=torch.float64)
    times = path.from_log_snr(snr).clamp(0, 1).to(x)
    times[-1] = noisiest(model)
    ends = float(times[0]), float(path.from_log_snr(snr[-1]))
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels know no forward derivative
        log_p, _ = log_likelihood(predict, x * path.a(times[0]), path, times, probes)
    log_p = log_p + x[0].numel() * torch.log(path.a(times[0]))  # x_t at the first time is a x, not x
    uniform = (torch.arange(4 * steps, dtype=x.dtype, device=x.device) + 0.5) / (4 * steps)
    fresh = lambda: torch.randn(x.shape, generator=draw).to(x)  # noqa: E731
    with torch.no_grad():
        reconstruction, terms, prior = bound_parts(predict, x, path, uniform, fresh, ends)
    levels = terms.mean(1).flip(0).view(LEVELS, -1).sum(1) / len(terms)  # `uniform` rises with log-SNR
    return -log_p, reconstruction + terms.mean(0) + prior, levels


def predictor(model: Flow, prompt: str, count: int) -> Predict:
    """The model's own guesses (x, z) at any (x_t [B, ...], t []) under one condition, in float32."""
    conditions = model.conditions([prompt] * count)

    def predict(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        prediction = model.predict(x_t, t.expand(len(x_t)).float(), conditions, None, None)
        return solve(model.config.diffusion.target, model.path, x_t, prediction, t)

    return predict
