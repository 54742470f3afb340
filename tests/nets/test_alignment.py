"""The loss that makes a codec's codes alike where a frozen net sees alike."""

import torch
import torch.nn.functional as F

from genctl.nets.alignment import Alignment, cosines
from genctl.nets.lpips import CHANNELS


def features(seed: int, side: int = 4, rank: int = 3) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A small map [2, rank, side, side] and features that are linear in it."""
    draw = torch.Generator().manual_seed(seed)
    base = torch.randn(2, rank, side, side, generator=draw)
    base = base - base.mean((0, 2, 3), keepdim=True)
    mixes = [torch.randn(count, rank, generator=draw) for count in CHANNELS]
    return base, [torch.einsum("bchw,oc->bohw", base, mix) for mix in mixes]


def test_cosines_are_those_of_each_two_places() -> None:
    x = torch.randn(2, 3, 2, 3)
    got = cosines(x)
    assert got.shape == (2, 6, 6)
    for i in range(6):
        for j in range(6):
            one, other = x[1, :, i // 3, i % 3], x[1, :, j // 3, j % 3]
            assert torch.allclose(got[1, i, j], F.cosine_similarity(one, other, dim=0), atol=1e-6)


def test_codes_from_which_the_features_can_be_read_have_no_loss() -> None:
    base, seen = features(0)
    loss = Alignment(3)
    mix = torch.cat([torch.linalg.lstsq(base.transpose(0, 1).flatten(1).T, one.transpose(0, 1).flatten(1).T).solution.T
                     for one in seen[1:]])  # fmt: skip
    with torch.no_grad():
        loss.project.weight.copy_(mix[:, :, None, None])
        weights = torch.linalg.qr(mix).R  # codes with the very inner products of the features
        codes = torch.einsum("bchw,oc->bohw", base, weights)
        loss.project.weight.copy_((mix @ torch.linalg.inv(weights))[:, :, None, None])
        assert loss(codes, seen) < 1e-5
        other, _ = features(1)
        assert loss(other, seen) > 0.5


def test_descending_it_aligns_the_codes() -> None:
    """By the loss alone, codes and projection become such that features are seen in them, on a finer grid as well."""
    torch.manual_seed(0)
    _, seen = features(0)
    codes = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = Alignment(3)
    first = float(loss(codes, seen).detach())
    optimiser = torch.optim.Adam([codes, *loss.parameters()], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss(codes, seen).backward()
        optimiser.step()
    assert float(loss(codes, seen).detach()) < 0.2 * first
