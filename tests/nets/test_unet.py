"""The U-Net: its parts against plain formulas, conditions, sizes."""

import pytest
import torch
import torch.nn.functional as F

from genctl.nets.plain import PlainLoop
from genctl.nets.unet import Attention, Residual, UNet, UNetConfig

SMALL = UNetConfig((16, 32, 48), 1, (False, True, True), head=16, patch=2, text_width=12, text_slots=5)


def awake(module: torch.nn.Module) -> torch.nn.Module:
    """With the zeros that it starts from replaced."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def test_it_starts_at_zero_and_every_parameter_learns() -> None:
    net = UNet(SMALL)
    inputs = (
        torch.randn(2, 3, 16, 24),
        torch.rand(2),
        torch.randn(2, 5, 12),
        torch.rand(2, 5) > 0.5,
        torch.randn(2, 12),
    )
    assert not net(*inputs).any()
    awake(net)(*inputs).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == ["empty_pooled"]
    absent = (*inputs[:3], torch.zeros(2, 5, dtype=torch.bool), inputs[4])
    net(*absent).sum().backward()
    assert net.empty_pooled.grad is not None


def test_a_residual_block_is_its_formula() -> None:
    block = awake(Residual(16, 32, 8, 0.0))
    x, c = torch.randn(2, 16, 6, 6), torch.randn(2, 8)
    shift, scale = F.linear(c, block.modulation.weight, block.modulation.bias)[:, :, None, None].chunk(2, 1)
    h = block.first(F.silu(F.group_norm(x, 1, block.norm1.weight, block.norm1.bias)))
    h = F.group_norm(h, 2, block.norm2.weight, block.norm2.bias) * (1 + scale) + shift
    assert torch.allclose(block(x, c), block.skip(x) + block.second(F.silu(h)), atol=1e-5)


def test_attention_is_a_softmax_over_cells_and_slots() -> None:
    layer = awake(Attention(32, 16, 12))
    x, text = torch.randn(1, 32, 3, 4), torch.randn(1, 5, 12)
    normed = F.group_norm(x, 2, layer.norm.weight, layer.norm.bias).flatten(2)[0].T  # [12, 32]
    q, k, v = layer.qkv(normed).chunk(3, -1)
    text_k, text_v = layer.text_kv(text[0]).chunk(2, -1)
    out = []
    for head in range(2):
        part = slice(16 * head, 16 * head + 16)
        keys, values = torch.cat([text_k[:, part], k[:, part]]), torch.cat([text_v[:, part], v[:, part]])
        unit = lambda y: y / y.square().mean(1, keepdim=True).sqrt()  # noqa: E731
        scores = (unit(q[:, part]) * layer.qk_scale[0]) @ (unit(keys) * layer.qk_scale[1]).T / 4
        out.append(scores.softmax(1) @ values)
    wanted = x[0] + layer.out(torch.cat(out, 1)).T.view(32, 3, 4)
    assert torch.allclose(layer(x, text)[0], wanted, atol=1e-4)


def test_empty_slots_hold_the_learned_vectors() -> None:
    net = awake(UNet(SMALL))
    x, t, states, pooled = torch.randn(1, 3, 16, 16), torch.rand(1), torch.randn(1, 5, 12), torch.randn(1, 12)
    none = torch.zeros(1, 5, dtype=torch.bool)
    plain = net(x, t, states, none, pooled)
    assert torch.equal(plain, net(x, t, torch.randn(1, 5, 12), none, torch.randn(1, 12)))
    every = torch.ones(1, 5, dtype=torch.bool)
    learned = net(x, t, net.empty_slot[None], every, net.empty_pooled[None])
    assert torch.allclose(plain, learned, atol=1e-6)
    assert (net(x, t, states, every, pooled) - plain).abs().max() > 1e-3


def test_a_plain_loop_repeats_pictures_for_all_conditions() -> None:
    net = awake(UNet(SMALL)).eval()
    conditions = (torch.randn(4, 5, 12), torch.rand(4, 5) > 0.3, torch.randn(4, 12))
    times, x = torch.tensor([0.9, 0.2]), torch.randn(2, 3, 16, 16)
    loop = PlainLoop(net, torch.float32, 2, times, *conditions)
    with torch.no_grad():
        wanted = net(x.repeat(2, 1, 1, 1), torch.full((4,), 0.2), *conditions)
        assert torch.allclose(loop(x, 1, True), wanted, atol=1e-5)
        assert torch.allclose(loop(x, 1, False), wanted[:2], atol=1e-5)


@pytest.mark.parametrize("channels", [(16, 40), (8, 16)])
def test_widths_that_do_not_fit_are_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        UNet(UNetConfig(channels, attention=(False, False)))
