"""Walks between pictures, seeds or prompts: one default for every family that can encode, or draw from noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from genctl.families.base import Blend, Family, Request
from genctl.rng import picture_noise

Between = Callable[[Tensor, Tensor, float], Tensor]


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation: along the arc between directions, lengths mixed linearly. share 0 is a, 1 is b.

    Keeps the norm of Gaussian noise, which a straight line would shrink (arXiv:1609.04468).
    """
    dtype, a, b = a.dtype, a.double(), b.double()  # no sum by the order it is taken in
    length_a, length_b = a.norm(), b.norm()
    cosine = ((a * b).sum() / (length_a * length_b).clamp(min=1e-12)).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle < 1e-4 or angle > torch.pi - 1e-4:
        return torch.lerp(a, b, share).to(dtype)
    unit = torch.sin((1 - share) * angle) * a / length_a + torch.sin(share * angle) * b / length_b
    return (unit / torch.sin(angle) * torch.lerp(length_a, length_b, share)).to(dtype)


def places(ends: int, frames: int) -> list[tuple[int, float]]:
    """(left end, share) of each frame on a walk over so many ends, each of which is a frame: at an even pace where
    frames - 1 divides by ends - 1, else at one as even as whole frames allow. Frames are as many as ends, or more."""
    stops = [round(end * (frames - 1) / (ends - 1)) for end in range(ends)]
    between = [(left, index / (b - a)) for left, (a, b) in enumerate(pairwise(stops)) for index in range(b - a)]
    return [*between, (ends - 2, 1.0)]


def between_pictures(family: Family, pictures: Tensor, frames: int, loop: bool = False) -> Tensor:
    """Pictures [n, 3, H, W], sides multiples of the codec's factor -> [frames, 3, H, W]: encode, walk, decode."""
    codes = torch.cat([family.encode(picture[None]) for picture in pictures])
    way = walk(codes, frames, loop, torch.lerp if family.straight else slerp)
    return torch.cat([family.decode(code[None]) for code in way])


def between_clips(family: Family, clips: Tensor, loop: bool = False) -> Tensor:
    """Clips [n, 3, T, H, W] -> one [3, T', H, W] that goes over from each to the next as it runs: code frame by code
    frame on the arc between theirs."""
    codes = torch.cat([family.encode(clip[None]) for clip in clips])  # [n, d, t, h, w]
    way = [
        slerp(codes[a, :, k], codes[b, :, k], share)
        for k, (a, b, share) in enumerate(spans(len(codes), codes.shape[2], loop))
    ]
    return family.decode(torch.stack(way, 1)[None])[0]


def between_noises(
    family: Family, pictures: Tensor, frames: int, prompt: str = "", steps: int | None = None, loop: bool = False
) -> Tensor:
    """As `between_pictures`, by way of the noise that each picture comes from: what lies between is drawn anew."""
    ends = family.invert(pictures, prompt, steps)
    return family.from_noise(walk(ends, frames, loop), prompt, steps)


def between_seeds(
    family: Family, seeds: list[int], frames: int, prompt: str = "", options: Any = None, loop: bool = False
) -> Tensor:
    """[frames, 3, H, W] from noise that turns from one seed's to the next one's, with one prompt."""
    starts = walk(picture_noise(seeds, family.noise_shape()), frames, loop)
    return _draw(family, starts, [prompt] * frames, options)


def between_prompts(
    family: Family, prompts: list[str], frames: int, seed: int = 0, options: Any = None, loop: bool = False
) -> Tensor:
    """[frames, 3, H, W] from one seed, with conditions on straight lines from one prompt's to the next one's."""
    blends = [Blend(prompts[a], prompts[b], share) for a, b, share in spans(len(prompts), frames, loop)]
    return _draw(family, picture_noise([seed] * frames, family.noise_shape()), blends, options)


def between_values(
    family: Family, options: Any, name: str, ends: tuple[float, float], frames: int, seed: int = 0, condition: str = ""
) -> Tensor:
    """[frames, 3, H, W] of one seed and condition, while an option (a number) goes from one end to the other."""
    drawn = []
    for index in range(frames):
        value = ends[0] + (ends[1] - ends[0]) * index / (frames - 1)
        request = Request(seeds=[seed], conditions=[condition], options=replace(options, **{name: value}))
        drawn += [part.pictures for part in family.sample(request) if part.final]
    return torch.cat(drawn)


def walk(ends: Tensor, frames: int, loop: bool = False, between: Between = slerp) -> Tensor:
    """Ends [n, ...] -> [frames, ...] on the arcs between neighbours, or on what else lies between."""
    return torch.stack([between(ends[a], ends[b], share) for a, b, share in spans(len(ends), frames, loop)])


def spans(ends: int, frames: int, loop: bool = False) -> list[tuple[int, int, float]]:
    """(one end, the next, share of the way) of each frame; a loop goes on from the last end towards the first, at which
    its next round begins."""
    found = places(ends + loop, frames + loop)[:frames]
    return [(left, (left + 1) % ends, share) for left, share in found]


def _draw(family: Family, noise: Tensor, prompts: list[str] | list[Blend], options: Any) -> Tensor:
    asked = Request(seeds=[0] * len(noise), conditions=list(prompts), options=options, noise=noise)
    return torch.cat([part.pictures for part in family.sample(asked) if part.final])
