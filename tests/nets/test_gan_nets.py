"""Generators and critics of adversarial families, against slow obvious versions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.families.eyes import lpips
from genctl.nets import critics, dcgan, stylegan
from genctl.nets.critics import BorrowedCritic, ResidualCritic, with_statistics


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_modulation_is_a_kernel_of_its_own_for_each_picture(kernel: int, demodulate: bool) -> None:
    layer = stylegan.Modulated(5, 7, 4, kernel, demodulate)
    x, w = noise(3, 5, 8, 8), noise(3, 4, seed=1)
    got = layer(x, w)
    for row in range(3):
        own = layer.scale * layer.weight * layer.style(w[[row]])[0][None, :, None, None]
        if demodulate:
            own = own / own.square().sum((1, 2, 3), keepdim=True).sqrt()
        assert torch.allclose(got[[row]], F.conv2d(x[[row]], own, padding=kernel // 2), atol=1e-5)


def test_synthesis_adds_up_its_resolutions() -> None:
    torch.manual_seed(0)
    net = stylegan.Synthesis(16, style=6, width=4, most=8)
    w = noise(2, 1, 6).expand(-1, net.count, -1)
    assert net.sides() == [4, 8, 8, 16, 16]
    assert net.count == 6
    noises = [noise(2, 1, side, side, seed=side) for side in net.sides()]
    assert net(w).shape == (2, 3, 16, 16)
    assert torch.equal(net(w), net(w, noises))  # noise is of no strength at first
    with torch.no_grad():
        net.layers[2].strength.fill_(1.0)
    assert not torch.equal(net(w), net(w, noises))
    with torch.no_grad():
        for layer in net.layers:
            layer.strength.fill_(0.3)
    w = noise(2, net.count, 6)  # a style of its own for each layer
    x, wanted = net.first.expand(2, -1, -1, -1), torch.zeros(2, 3, 4, 4)
    for place, side in enumerate(net.sides()):
        x = net.layers[place](x, w[:, place], noises[place])
        if place % 2 == 0:
            larger = wanted if side == 4 else F.interpolate(wanted, (side, side), mode="bilinear")
            wanted = larger + net.outs[place // 2](x, w[:, place + 1])
    assert torch.allclose(net(w, noises), wanted + net.bias[:, None, None], atol=1e-5)


def test_mapping_wants_directions_only() -> None:
    net = stylegan.Mapping(8, 5, 6)
    z, c = noise(3, 8), noise(3, 5, seed=1)
    assert torch.allclose(net(z, c), net(3 * z, c), atol=1e-5)
    assert not torch.allclose(net(z, c), net(z, -c))
    assert stylegan.Mapping(8, 0, 6)(z).shape == (3, 6)


@pytest.mark.parametrize("pixels", [8, 64])
def test_dcgan(pixels: int) -> None:
    torch.manual_seed(0)
    generator, critic = dcgan.DCGenerator(pixels, 10, 3, 4), dcgan.DCCritic(pixels, 3, 4)
    made = generator(noise(4, 10), noise(4, 3))
    assert made.shape == (4, 3, pixels, pixels)
    assert made.abs().max() <= 1
    assert critic(made, noise(4, 3)).shape == (4,)
    assert not torch.allclose(critic(made, noise(4, 3)), critic(made, noise(4, 3, seed=2)))
    generator.eval()  # what is drawn does not depend on what it is drawn beside
    assert torch.allclose(
        generator(noise(4, 10), noise(4, 3))[:1], generator(noise(4, 10)[:1], noise(4, 3)[:1]), atol=1e-5
    )


@pytest.mark.parametrize("net", [dcgan.DCGenerator, stylegan.Synthesis, ResidualCritic])
def test_sides_that_are_no_powers_of_two_are_refused(net: type) -> None:
    with pytest.raises(ValueError, match="48"):
        net(48, 4, 4, 4)


def test_a_residual_critic_judges_each_picture_alone() -> None:
    torch.manual_seed(0)
    critic = ResidualCritic(16, 3, 8, 16, blocks=2)
    for module in critic.modules():
        if isinstance(module, critics.Branch):
            torch.nn.init.normal_(module.back.weight, std=0.1)
    x, c = noise(4, 3, 16, 16), noise(4, 3, seed=1)
    together = critic(x, c)
    assert torch.allclose(together[:1], critic(x[:1], c[:1]), atol=1e-5)
    assert not torch.allclose(together, critic(x, -c))
    smooth = F.interpolate(noise(200, 3, 4, 4), scale_factor=4)
    assert 0.1 < float(critic(smooth, noise(200, 3, seed=1)).std()) < 10


def test_halving_smooths_first() -> None:
    x = noise(2, 3, 8, 8)
    kernel = torch.outer(*[torch.tensor([1.0, 2.0, 1.0]) / 4] * 2).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(x, (1,) * 4, mode="replicate"), kernel, groups=3)
    assert torch.allclose(critics.halve(x), F.avg_pool2d(smooth, 2), atol=1e-6)


def test_branches_begin_as_the_identity() -> None:
    x = noise(2, 8, 4, 4)
    assert torch.equal(critics.Branch(8, 4)(x), x)


def test_statistics_see_that_all_are_alike() -> None:
    alike, different = noise(1, 3, 4, 4).expand(8, -1, -1, -1), noise(8, 3, 4, 4)
    assert float(with_statistics(alike)[:, 3].max()) < 1e-3
    found = with_statistics(different)
    assert found.shape == (8, 4, 4, 4)
    groups = different[0::2]  # rows of one group are as far apart as there are groups
    assert torch.allclose(found[0, 3], groups.var(0, unbiased=False).add(1e-8).sqrt().mean() * torch.ones(4, 4))
    assert with_statistics(different[:6]).shape == (6, 4, 4, 4)


def test_borrowed_eyes_stay_as_they_are() -> None:
    torch.manual_seed(0)
    critic = BorrowedCritic(3, lpips)
    x, c = noise(2, 3, 64, 64).clamp(-1, 1).requires_grad_(), noise(2, 3, seed=1)
    opinions = critic(x, c)
    assert opinions.ndim == 2
    opinions.mean().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in critic.eyes[0].parameters())
    assert not any("eyes" in key for key in critic.state_dict())
    fine = [opinions[:, : len(opinions[0]) // 2].detach()]
    for level in range(len(critic.FROM) - 1):  # the finest head hears of every coarser scale
        kept = critic.get_buffer(f"down{level}").clone()
        critic.get_buffer(f"down{level}").zero_()
        fine.append(critic(x, c)[:, : len(opinions[0]) // 2].detach())
        critic.get_buffer(f"down{level}").copy_(kept)
    assert all(not torch.allclose(fine[0], one, atol=1e-6) for one in fine[1:])
    torch.manual_seed(7)
    again = BorrowedCritic(3, lpips)  # the maps are the same in every run
    assert torch.equal(again.get_buffer("mix0"), critic.get_buffer("mix0"))
    with torch.no_grad():
        spread = [F.conv2d(f, critic.get_buffer(f"mix{i}")).std() * f.shape[1] ** 0.5
                  for i, f in enumerate(critic.eyes[0].features(x)[j] for j in critic.FROM)]  # fmt: skip
    assert all(0.2 < float(one) < 5 for one in spread)


def test_borrowed_eyes_see_what_codes_are_decoded_to() -> None:
    torch.manual_seed(0)
    decode = torch.nn.ConvTranspose2d(6, 3, 8, stride=8).requires_grad_(False)
    critic = BorrowedCritic(0, lpips, decode.forward)
    codes = noise(2, 6, 8, 8).requires_grad_()
    opinions = critic(codes)
    assert not any("rendered" in key for key in critic.state_dict())
    critic.rendered = None
    assert torch.equal(opinions, critic(decode(codes)))
    opinions.mean().backward()
    assert codes.grad is not None
    assert float(codes.grad.abs().max()) > 0
