"""LPIPS against the upstream's published behaviour: recorded values, growth with damage, gradient by differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genctl import files, hub
from genctl.nets.lpips import LPIPS, enlarge, unit


def load(smallest: int = 64) -> LPIPS:
    tensors, _ = files.load_tensors(hub.resolve("lpips_alex", kind="part"))
    net = LPIPS(smallest)
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net


@pytest.fixture(scope="module")
def net() -> LPIPS:
    return load()


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """Four photographs [4, 3, 64, 64] in [-1, 1]."""
    data = pytest.importorskip("skimage.data")
    pictures = [torch.tensor(read()).permute(2, 0, 1)[None].float() for read in (data.astronaut, data.chelsea)]
    pictures += [torch.tensor(read()).permute(2, 0, 1)[None].float() for read in (data.coffee, data.rocket)]
    small = [F.interpolate(picture, size=(64, 64), mode="area") for picture in pictures]
    return torch.cat(small) / 127.5 - 1


def blur(x: Tensor, sigma: float) -> Tensor:
    taps = torch.exp(-0.5 * (torch.arange(-9, 10) / sigma) ** 2)
    taps = (taps / taps.sum()).repeat(3, 1)
    x = F.conv2d(F.pad(x, (9, 9, 0, 0), mode="reflect"), taps[:, None, None], groups=3)
    return F.conv2d(F.pad(x, (0, 0, 9, 9), mode="reflect"), taps[:, None, :, None], groups=3)


def ramp_and_checker() -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    ramp = torch.stack([x / 63, y / 63, (x + y) / 126])
    checker = torch.stack([((x // 8 + y // 8) % 2).float(), x / 63, y / 63])
    return ramp[None] * 2 - 1, checker[None] * 2 - 1


def test_values_of_the_reference(net: LPIPS) -> None:
    a, b = ramp_and_checker()
    assert float(net(a, b)) == pytest.approx(0.78251, abs=2e-5)
    zeros = torch.zeros(1, 3, 32, 32)
    assert float(load(smallest=31)(zeros, zeros + 1)) == pytest.approx(0.35691, abs=2e-5)


def test_equal_pictures_have_distance_zero_and_order_does_not_matter(net: LPIPS, photos: Tensor) -> None:
    assert torch.equal(net(photos, photos), torch.zeros(4))
    other = photos.roll(1, 0)
    assert torch.allclose(net(photos, other), net(other, photos), atol=1e-6)
    assert (net(photos, other) > 0.3).all()


def test_grows_with_blur_and_noise_on_every_photo(net: LPIPS, photos: Tensor) -> None:
    noise = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    for damaged in ([blur(photos, s) for s in (0.5, 1, 2, 4)], [photos + s * noise for s in (0.05, 0.1, 0.3, 0.6)]):
        distances = torch.stack([net(photos, x) for x in damaged])
        assert (distances.diff(dim=0) > 0).all()


def test_a_row_does_not_depend_on_its_batch_and_features_can_be_kept(net: LPIPS, photos: Tensor) -> None:
    other = photos.roll(1, 0)
    alone = torch.cat([net(photos[i : i + 1], other[i : i + 1]) for i in range(4)])
    assert torch.allclose(net(photos, other), alone, atol=1e-6)
    kept = net.features(other[:1])
    assert torch.allclose(net.distance(net.features(photos), kept), net(photos, other[:1].expand(4, -1, -1, -1)))


def test_gradient_is_that_of_differences_and_reaches_only_the_pictures(net: LPIPS, photos: Tensor) -> None:
    exact = load().double()
    a, b = photos[:1].double().requires_grad_(), blur(photos[:1], 1).double()
    exact(a, b).sum().backward()
    assert a.grad is not None
    direction = torch.randn(a.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        slope = (exact(a + step * direction, b) - exact(a - step * direction, b)) / (2 * step)
    assert float((a.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-5)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in exact.parameters())


def test_a_place_without_any_activation_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit(x).square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (31, 50), (63, 63), (49, 200), (96, 64)])
def test_small_and_oblong_pictures(net: LPIPS, size: tuple[int, int]) -> None:
    a = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert min(enlarge(a, 64).shape[-2:]) == max(64, min(size))
    assert torch.isfinite(net(a, -a)).all()


def test_bf16_autocast_stays_near_and_returns_float32(net: LPIPS, photos: Tensor) -> None:
    damaged = blur(photos, 2)
    with torch.autocast("cpu", torch.bfloat16):
        fast = net(photos, damaged)
    assert fast.dtype == torch.float32
    assert torch.allclose(fast, net(photos, damaged), rtol=0.02)


def test_the_file_says_what_it_is_and_under_which_licences() -> None:
    header = files.read_header(hub.resolve("lpips_alex", kind="part"))
    assert (header.document["kind"], header.document["part"]) == ("part", "lpips_alex")
    assert "Zhang" in header.metadata["licence_text"]
    assert "Neither the name of the copyright holder" in header.metadata["licence_text"]
