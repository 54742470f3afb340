"""What critic and generator minimise: closed forms, finite differences; augmentation and its gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from genctl.families.adversarial.augment import CUT, SHIFT, augment, change_of_share, numbers, shifted
from genctl.families.adversarial.losses import OBJECTIVES, one_centred, zero_centred
from genctl.rng import Draw


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "critic", "generator"), [
    ("minimax", 2 * math.log(2), -math.log(2)), ("non-saturating", 2 * math.log(2), math.log(2)), ("hinge", 2.0, 0.0),
    ("wasserstein", 0.0, 0.0), ("relativistic", math.log(2), math.log(2)),
])  # fmt: skip
def test_losses_where_nothing_is_known(name: str, critic: float, generator: float) -> None:
    zero = torch.zeros(3)
    assert float(OBJECTIVES[name].critic(zero, zero).mean()) == pytest.approx(critic)
    assert float(OBJECTIVES[name].generator(zero, zero).mean()) == pytest.approx(generator)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_critics_push_apart_and_generators_up(name: str) -> None:
    r, f = torch.tensor([0.3], requires_grad=True), torch.tensor([-0.2], requires_grad=True)
    OBJECTIVES[name].critic(r, f).sum().backward()
    assert r.grad is not None
    assert f.grad is not None
    assert r.grad < 0 < f.grad
    (slope,) = torch.autograd.grad(OBJECTIVES[name].generator(r, f).sum(), f)
    assert slope < 0


def test_the_first_generator_loss_vanishes_where_the_critic_is_sure() -> None:
    f = torch.tensor([-10.0], requires_grad=True)
    slopes = {
        name: float(torch.autograd.grad(OBJECTIVES[name].generator(torch.tensor([10.0]), f).sum(), f)[0])
        for name in ("minimax", "non-saturating")
    }
    assert abs(slopes["minimax"]) < 1e-4  # sigmoid(f)
    assert slopes["non-saturating"] == pytest.approx(-1, abs=1e-4)  # sigmoid(f) - 1


def test_penalties_are_slopes() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.SiLU(), nn.Linear(8, 2)).double()
    x = noise(3, 3, 2, 2).double().requires_grad_()
    got = zero_centred(net(x), x)
    step, total = 1e-5, torch.zeros(3).double()
    with torch.no_grad():
        for index in range(12):
            moved = torch.zeros(12).double()
            moved[index] = step
            both = [net(x + sign * moved.view(3, 2, 2)).mean(1) for sign in (1, -1)]
            total += ((both[0] - both[1]) / (2 * step)).square()
    assert torch.allclose(got, (total / 2).to(got.dtype), rtol=1e-4)
    got.sum().backward()  # the critic learns from it
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*net.parameters()][:1])


def test_the_wasserstein_penalty_wants_a_slope_of_one() -> None:
    weight = torch.full((3, 2, 2), 1 / math.sqrt(12))
    real, fake = noise(4, 3, 2, 2), noise(4, 3, 2, 2, seed=1)
    for size in (1.0, 3.0):
        found = one_centred(lambda x, size=size: size * (x * weight).flatten(1).sum(1), real, fake, torch.rand(4))
        assert torch.allclose(found, torch.full((4,), (size - 1) ** 2), atol=1e-5)


def test_augmentation_is_of_each_picture_and_for_a_share_of_them() -> None:
    x, draws = noise(400, 3, 16, 16).clamp(-1, 1), numbers(Draw(1, 400))
    assert augment(x, draws, 0.0) is x
    changed = (augment(x, draws, 0.3) != x).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(1 - 0.7**3, abs=0.08)
    assert torch.equal(augment(x, draws, 0.8)[:7], augment(x[:7], draws[:7], 0.8))
    assert augment(noise(4, 6, 16, 16), draws[:4], 1.0).shape == (4, 6, 16, 16)  # codes: shifts and holes


def test_augmentation_has_gradients() -> None:
    x = noise(2, 3, 8, 8).double().requires_grad_()
    draws = torch.tensor([[0, 0, 0, 0.2, 0.7, 0.9, 0.1, 0.8, 0.3, 0.5], [0, 0, 1, 0.9, 0.1, 0.4, 0.9, 0.2, 0.5, 0.5]])
    assert torch.autograd.gradcheck(lambda x: augment(x, draws.double(), 0.9), (x,))


def test_shifts_and_holes_are_of_the_sizes_that_they_say() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8)
    most = int(8 * SHIFT)
    moved = shifted(x, torch.tensor([[1.0, 0.0]]), torch.tensor([True]))
    assert torch.equal(moved[0, 0, most:, :-most], x[0, 0, :-most, most:])
    ones = torch.ones(1, 4, 8, 8)
    draws = torch.tensor([[1.0, 1.0, 0.0, 0, 0, 0, 0, 0, 0.5, 0.5]])
    assert float(augment(ones, draws, 0.5).sum()) == 4 * (64 - (8 * CUT) ** 2)


def test_the_share_follows_how_well_the_critic_knows_its_pictures() -> None:
    assert change_of_share(1.0, 1000, images=10_000) == pytest.approx(0.1)
    assert change_of_share(0.6, 1000) == 0
    assert change_of_share(0.2, 1000, images=10_000) == pytest.approx(-0.1)
    parts = change_of_share(1.0, 300) + change_of_share(-1.0, 700)
    assert parts == pytest.approx(change_of_share(-0.4, 1000))
