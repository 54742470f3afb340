"""EfficientNet-Lite0's features against recorded values of the network as stored, before normalisation was folded."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genctl import files, hub
from genctl.nets.efficientnet import EfficientNetLite0, SameConv


@pytest.fixture(scope="module")
def net() -> EfficientNetLite0:
    return load()


def load() -> EfficientNetLite0:
    tensors, _ = files.load_tensors(hub.resolve("efficientnet_lite0", kind="part"))
    net = EfficientNetLite0()
    net.load_state_dict(tensors)
    return net.requires_grad_(False).eval()


def ramp_and_checker() -> Tensor:
    y, x = torch.meshgrid(torch.arange(224), torch.arange(224), indexing="ij")
    ramp = torch.stack([x / 223, y / 223, (x + y) / 446])
    checker = torch.stack([((x // 28 + y // 28) % 2).float(), x / 223, y / 223])
    return torch.stack([ramp, checker]) * 2 - 1


def test_values_of_the_network_as_stored(net: EfficientNetLite0) -> None:
    features = net(ramp_and_checker())
    assert features.norm(dim=1).tolist() == pytest.approx([12.4151, 11.2536], abs=1e-3)
    ramp = features[0, [113, 897, 930, 755, 468, 689]].tolist()
    checker = features[1, [113, 468, 747, 897, 61, 900]].tolist()
    assert ramp == pytest.approx([4.7913, 4.6702, 3.9067, 2.4786, 2.4695, 2.4685], abs=5e-4)
    assert checker == pytest.approx([5.0567, 3.1016, 2.7949, 2.7460, 2.2763, 2.2521], abs=5e-4)


def test_blur_moves_a_photograph_further_the_stronger_it_is(net: EfficientNetLite0) -> None:
    data = pytest.importorskip("skimage.data")
    cat = torch.tensor(data.chelsea()).permute(2, 0, 1)[None] / 127.5 - 1
    sharp = F.interpolate(cat[..., 75:375], size=(224, 224), mode="bicubic", antialias=True)
    blurred = [F.interpolate(F.avg_pool2d(sharp, n), size=(224, 224), mode="bilinear") for n in (2, 4, 8)]
    near, middle, far = (float((net(x) - net(sharp)).norm()) for x in blurred)
    assert 1 < near < middle < far < 30
    assert 12 < float(net(sharp).norm()) < 19


def test_a_row_does_not_depend_on_its_batch_and_any_size_is_taken(net: EfficientNetLite0) -> None:
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    alone = torch.cat([net(picture[None]) for picture in pictures])
    assert torch.allclose(net(pictures), alone, atol=1e-4)
    assert net(torch.zeros(1, 3, 30, 300)).shape == (1, 1280)
    large = F.interpolate(ramp_and_checker()[:1], size=(448, 448), mode="bicubic")
    assert float((net(large) - net(ramp_and_checker()[:1])).norm()) < 1.0


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(3, 1, 7), (3, 2, 8), (3, 2, 7), (5, 2, 8), (5, 2, 7), (5, 1, 6)]
)
def test_same_padding_puts_the_odd_pixel_right_and_below(kernel: int, stride: int, size: int) -> None:
    """Written out: output i sees inputs i * stride - floor(total / 2) .. + kernel - 1, zero outside."""
    torch.manual_seed(0)
    conv = SameConv(1, 1, kernel, stride=stride)
    x = torch.randn(1, 1, size, size + 1)
    out = conv(x)
    assert out.shape[-2:] == (-(-size // stride), -(-(size + 1) // stride))
    starts = []
    for length, count in zip((size, size + 1), out.shape[-2:], strict=True):
        starts.append(max((count - 1) * stride + kernel - length, 0) // 2)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            total = conv.bias.clone() if conv.bias is not None else torch.zeros(1)
            for u in range(kernel):
                for v in range(kernel):
                    row, column = i * stride + u - starts[0], j * stride + v - starts[1]
                    if 0 <= row < size and 0 <= column < size + 1:
                        total = total + conv.weight[0, 0, u, v] * x[0, 0, row, column]
            assert torch.allclose(out[0, 0, i, j], total, atol=1e-5)


def test_bfloat16_is_near_but_not_equal(net: EfficientNetLite0) -> None:
    """A smooth ramp is the hardest: its steps vanish in 8 bits of mantissa."""
    pictures = ramp_and_checker()
    exact = net(pictures)
    fast = load().to(torch.bfloat16).to(memory_format=torch.channels_last)(pictures)
    assert fast.dtype == torch.float32
    assert F.cosine_similarity(fast, exact).min() > 0.95
