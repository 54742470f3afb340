"""The token transformer: who sees whom, and the cached step against the plain forward."""

import pytest
import torch
from torch import Tensor

from genctl.nets.gpt import GPT, GPTConfig
from genctl.nets.gpt_sample import Cached, pack

PLACES = torch.cartesian_prod(torch.arange(3), torch.arange(4))


def made(text: str = "prefix", features: int = 0) -> GPT:
    torch.manual_seed(0)
    net = GPT(GPTConfig(32, 3, 2, text=text, text_width=8, text_slots=5, dropout=0.0), 11, PLACES, features)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def conditions(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    present = torch.tensor([[True, True, False, False, False], [False] * 5, [True] * 5])[:rows]
    return torch.randn(rows, 5, 8, generator=generator), present, torch.randn(rows, 8, generator=generator)


def known(rows: int, count: int = 12) -> Tensor:
    return torch.randn(rows, count, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("text", ["prefix", "cross"])
def test_an_element_sees_its_block_and_those_before(text: str) -> None:
    net, blocks = made(text), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3])
    x, at = known(1), torch.arange(12)[None]
    before = net(x, at, blocks, *conditions(1))
    for changed in range(12):
        other = x.clone()
        other[0, changed] += 1
        moved = (net(other, at, blocks, *conditions(1)) - before).abs().amax(-1)[0] > 1e-6
        assert moved.tolist() == (blocks >= blocks[changed]).tolist()


@pytest.mark.parametrize("text", ["prefix", "cross"])
def test_text_is_heeded_and_an_empty_one_is_the_learned_one(text: str) -> None:
    net, x, at, blocks = made(text), known(1), torch.arange(12)[None], torch.arange(12)
    states, present, pooled = conditions(3)
    full = net(x, at, blocks, states[[2]], present[[2]], pooled[[2]])
    assert (net(x, at, blocks, states[[0]], present[[2]], pooled[[2]]) - full).abs().max() > 1e-3
    empty = [net(x, at, blocks, states[[i]], present[[1]], pooled[[i]]) for i in (0, 2)]
    assert torch.equal(*empty)


@pytest.mark.parametrize("text", ["prefix", "cross", "none"])
@pytest.mark.parametrize("sizes", [[1] * 12, [1, 4, 7], [12]])
def test_cached_passes_are_the_plain_forward(text: str, sizes: list[int]) -> None:
    net = made(text)
    given = () if text == "none" else conditions(3)
    blocks = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    wanted = net(known(3), torch.arange(12)[None], blocks, *given)
    loop, parts = Cached(net, pack(net, torch.float32), 3, *given), torch.arange(12).split(sizes)
    with torch.inference_mode():
        got = torch.cat([loop(known(3)[:, part], part) for part in parts], 1)
    assert torch.allclose(got, wanted, atol=2e-5), (got - wanted).abs().max()


@pytest.mark.parametrize("text", ["prefix", "cross"])
def test_in_bf16_it_is_nearly_the_same(text: str) -> None:
    net, at = made(text), torch.arange(12)
    with torch.inference_mode():
        exact, rough = (
            Cached(net, pack(net, dtype), 3, *conditions(3))(known(3), at) for dtype in (torch.float32, torch.bfloat16)
        )
    assert float((exact - rough).std() / exact.std()) < 0.05


def test_what_is_not_kept_is_forgotten_and_pictures_repeat_over_conditions() -> None:
    net, at = made(), torch.arange(12)
    loop = Cached(net, pack(net, torch.float32), 2, *(part[:2] for part in conditions(3)))
    with torch.inference_mode():
        loop(torch.ones(1, 12, 32), at, keep=False)
        got = loop(known(1), at, keep=False)
    wanted = net(known(1).expand(2, -1, -1), at[None], torch.zeros(12), *(part[:2] for part in conditions(3)))
    assert got.shape == (2, 12, 11)
    assert torch.allclose(got, wanted, atol=2e-5)


def test_any_order_of_elements_is_the_same_net_where_all_see_all() -> None:
    net, order = made(), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    blocks, at = torch.zeros(12), torch.arange(12)
    straight = net(known(1), at[None], blocks, *conditions(1))
    mixed = net(known(1)[:, order], at[order][None], blocks, *conditions(1))
    assert torch.allclose(mixed, straight[:, order], atol=1e-5)


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        GPT(GPTConfig(30, 1, 4), 5, PLACES)
