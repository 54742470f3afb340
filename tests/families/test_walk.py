"""Walks: their ends, their pace, and the length of what lies between."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from helpers import flow_request

from genctl.families.flow.options import FlowOptions
from genctl.families.saved import load as load_model
from genctl.families.walk import between_pictures, between_prompts, between_seeds, places, slerp, walk
from genctl.rng import picture_noise


def test_slerp_is_the_arc() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for share in (0.0, 0.25, 0.7, 1.0):
        angle = share * math.pi / 2
        assert torch.allclose(slerp(a, b, share), torch.tensor([math.cos(angle), math.sin(angle)]), atol=1e-6)
    assert torch.allclose(slerp(a, 3 * b, 0.5).norm(), torch.tensor(2.0))
    assert torch.allclose(slerp(a, a, 0.3), a)  # no arc: the straight line
    assert torch.allclose(slerp(a, -a, 0.25), 0.5 * a)


def test_slerp_keeps_the_length_of_noise() -> None:
    noise = picture_noise([1, 2], (6, 16, 16))
    lengths = walk(noise, 9).flatten(1).norm(dim=1)
    assert torch.allclose(lengths, torch.full((9,), 1536**0.5), rtol=0.06)
    assert torch.lerp(noise[0], noise[1], 0.5).norm() < 0.75 * lengths.min()  # what a straight line would do


@pytest.mark.parametrize(("ends", "frames"), [(2, 2), (2, 9), (3, 7), (4, 5), (3, 4), (5, 5), (7, 40)])
def test_a_walk_meets_each_of_its_ends_at_a_pace_as_even_as_frames_allow(ends: int, frames: int) -> None:
    spots = [left + share for left, share in places(ends, frames)]
    assert len(spots) == frames
    assert set(range(ends)) <= set(spots)
    steps = [round(1 / (b - a)) for a, b in itertools.pairwise(spots)]  # frames from one end to the next
    assert all(b > a for a, b in itertools.pairwise(spots))
    assert max(steps) - min(steps) <= ((frames - 1) % (ends - 1) > 0)
    assert all(0 <= left <= ends - 2 for left, _ in places(ends, frames))


def test_the_ends_are_what_each_gives_alone(models: Path) -> None:
    codec, model = load_model("tiny-vae"), load_model("tiny-ldm")
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    walked = between_pictures(codec, pictures, 5)
    for frame, picture in ((0, pictures[:1]), (2, pictures[1:2]), (4, pictures[2:])):
        assert torch.allclose(walked[[frame]], codec.decode(codec.encode(picture)), atol=1e-5)

    def alone(seed: int, prompt: str) -> torch.Tensor:
        request = flow_request(seeds=[seed], prompts=[prompt], steps=3)
        return next(part.pictures for part in model.sample(request) if part.final)

    walked = between_seeds(model, [4, 9], 3, "cat", FlowOptions(steps=3))
    assert torch.allclose(walked[[0, 2]], torch.cat([alone(4, "cat"), alone(9, "cat")]), atol=1e-2)
    walked = between_prompts(model, ["cat", "dog"], 3, seed=4, options=FlowOptions(steps=3))
    assert torch.allclose(walked[[0, 2]], torch.cat([alone(4, "cat"), alone(4, "dog")]), atol=1e-2)
    assert not torch.allclose(walked[0], walked[2], atol=1e-2)
