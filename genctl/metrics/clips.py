"""What clips are measured by: how a codec of them renders frames and what lies between, and whether drawn clips move as
real ones do.

    difference   mean absolute difference of neighbouring frames, colours from 0 to 1: 0 stands still
    order        that over the same of the clip's frames shuffled: 1 is no motion but flicker
    warping      what is left of the difference when each block of a frame may come from nearby in the one before
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.data.clips import Clips
from genctl.errors import UsageError
from genctl.families.base import Family
from genctl.families.eyes import lpips
from genctl.metrics import fvd, readings
from genctl.metrics.features import EXTRACTOR, extractor, features_of
from genctl.metrics.samples import Report, against, draw_clips
from genctl.nets.lpips import LPIPS, psnr
from genctl.options import Options
from genctl.rng import generator

BLOCK, REACH = 8, 3  # pixels: of a block's side, and how far it may have moved
FRAMES = 4  # of each clip, by which frames are compared with real ones
REAL = 512  # real clips at most that drawn ones are held against
CHUNK = 16  # clips that are floats at once
RANGE = (0.05, 0.95)  # of real clips, which a drawn one should lie within


def motion(clips: Tensor) -> dict[str, Tensor]:
    """Difference, order and warping of each clip [N, 3, T, H, W] in [-1, 1], T > 1: [N] each."""
    frames = ((clips + 1) / 2).transpose(1, 2)  # [N, T, 3, H, W]
    difference = frames.diff(dim=1).abs().mean((1, 2, 3, 4))
    order = torch.randperm(frames.shape[1], generator=generator("shuffled frames"))
    mixed = frames[:, order].diff(dim=1).abs().mean((1, 2, 3, 4))
    warped = torch.stack([warping(clip) for clip in frames])
    return {"difference": difference, "order": difference / mixed.clamp(min=1e-9), "warping": warped}


def floats(pixels: Tensor) -> Tensor:
    """uint8 -> [-1, 1]."""
    return pixels.float() / 127.5 - 1


def moving_ones(clips: Clips) -> Clips:
    """Without the stills among them."""
    return clips._rows([row for row in range(len(clips)) if clips.lengths[row] > 1])


def warping(frames: Tensor) -> Tensor:
    """The mean absolute error of frames [T, 3, H, W] as blocks of the ones before, each from the best place within
    reach: exhaustive block matching."""
    before = F.pad(frames[:-1], (REACH,) * 4, mode="replicate")
    height, width = frames.shape[-2:]
    errors = []
    for y in range(2 * REACH + 1):
        for x in range(2 * REACH + 1):
            apart = (before[..., y : y + height, x : x + width] - frames[1:]).abs().mean(1, keepdim=True)
            errors.append(F.avg_pool2d(apart, BLOCK, ceil_mode=True))
    return torch.stack(errors).amin(0).mean()


@torch.inference_mode()
def reconstruction(model: Any, clips: Clips, most: int, report: Report = lambda done, total: None) -> dict[str, Any]:
    """Means over windows of at most so many clips: PSNR (dB) and LPIPS of frames, and the error of differences between
    neighbouring ones (colours from 0 to 1); beside the same of frames that are coded one by one."""
    clips = moving_ones(clips)
    rows = torch.linspace(0, len(clips) - 1, min(most, len(clips))).round().long()
    frames, eyes = int(model.config.frames), lpips()
    sums: dict[str, dict[str, float]] = {"clips": {}, "frame_by_frame": {}}
    for done, row in enumerate(rows):
        report(done, len(rows))
        window = clips.windows(row[None], torch.zeros(1, dtype=torch.long), frames).float() / 127.5 - 1
        real = window.transpose(1, 2)  # [1, 3, T, H, W]
        whole = model.decode(model.encode(real))[:, :, :frames]
        alone = torch.cat([model.decode(model.encode(real[:, :, [t]])) for t in range(frames)], 2)
        for name, made in (("clips", whole.cpu()), ("frame_by_frame", alone.cpu())):
            for key, value in _errors(made, real, eyes).items():
                sums[name][key] = sums[name].get(key, 0.0) + value / len(rows)
    figures = {name: {key: round(value, 4) for key, value in found.items()} for name, found in sums.items()}
    reading = readings.clip_reconstruction(figures["clips"], figures["frame_by_frame"])
    return {"count": len(rows), "frames": frames} | figures["clips"] | {
        "frame_by_frame": figures["frame_by_frame"], "reading": reading
    }  # fmt: skip


def _errors(made: Tensor, real: Tensor, eyes: LPIPS) -> dict[str, float]:
    rounded = ((made + 1) * 127.5).round() / 127.5 - 1
    flat, wanted = (part.transpose(1, 2).flatten(0, 1) for part in (rounded, real))
    return {
        "psnr": float(psnr(flat, wanted).mean()), "lpips": float(eyes(flat, wanted).mean()),
        "temporal": float((rounded.diff(dim=2) - real.diff(dim=2)).abs().mean()) / 2,
    }  # fmt: skip


def drawn(
    model: Family, clips: Clips, most: int, options: Options | None, report: Report = lambda done, total: None
) -> dict[str, Any]:
    """At most so many clips, asked for as those of the data are described (held-out ones where there are), beside the
    real ones: how they move, and the distance of their frames."""
    measured = fvd.known()
    moving = moving_ones(clips)
    held = moving.split(True)
    asked = held if len(held) else moving
    made = draw_clips(model, asked, most, options, report)
    frames = made.shape[2]
    if frames < 2:
        raise UsageError("--frames: how a clip moves is seen of two frames or more")
    long = torch.nonzero(moving.loops | (moving.lengths >= frames))[:, 0]
    if not len(long):
        raise UsageError(f"--frames {frames}: no clip of the data is as long")
    rows = long[torch.linspace(0, len(long) - 1, min(REAL, len(long))).round().long()]
    real = moving.windows(rows, torch.zeros_like(rows), frames).transpose(1, 2)  # uint8 [N, 3, T, H, W]
    ours, parts = motion(made), [motion(floats(part)) for part in real.split(CHUNK)]
    theirs = {name: torch.cat([part[name] for part in parts]) for name in ours}
    figures: dict[str, Any] = {"count": len(made), "frames": frames, "held_out_prompts": len(held) > 0}
    for name, values in ours.items():
        low, middle, high = (float(theirs[name].quantile(q)) for q in (RANGE[0], 0.5, RANGE[1]))
        inside = float(((values >= low) & (values <= high)).float().mean())
        figures[name] = {
            "median": round(float(values.median()), 4), "real_median": round(middle, 4),
            "real_range": [round(low, 4), round(high, 4)], "inside": round(inside, 3),
        }  # fmt: skip
    net = extractor(model.device)
    places = torch.linspace(0, frames - 1, min(FRAMES, frames)).round().long()
    shown, known = (part[:, :, places].transpose(1, 2).flatten(0, 1) for part in (made, real))
    figures["frames_distance"] = {"extractor": EXTRACTOR} | against(
        features_of(net, shown), features_of(net, floats(known))
    )
    if measured and len(made) > 2:
        key = [clips.fingerprint, frames, list(real.shape)]
        figures["fvd"] = fvd.fvd(made, real, key, model.device, report)
    else:
        figures["fvd"] = fvd.HOW
    return figures | {"reading": readings.motion(figures)}
