"""Quantisers against the slow obvious version, and that their codes are used."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.nets import quantise
from genctl.nets.quantise import FSQ, LONG, Binary, Codebook, Residual, closest, entropy, perplexity, shrunk
from genctl.rng import Draw


def features(seed: int = 0, width: int = 4, batch: int = 6, side: int = 8, spread: float = 1.5) -> Tensor:
    return spread * torch.randn(batch, width, side, side, generator=torch.Generator().manual_seed(seed))


def codebook(codes: int, width: int) -> Codebook:
    """One at random, as if it had been begun."""
    quantiser = Codebook(codes, width)
    quantiser.book.data.normal_(generator=torch.Generator().manual_seed(codes))
    return quantiser


@pytest.mark.parametrize("levels", [(3, 5), (8, 5, 5, 5), (4, 2), (7,), (2000,), (4096, 2)])
def test_every_fsq_code_is_its_vectors_code_and_all_are_on_the_grid(levels: tuple[int, ...]) -> None:
    quantiser = FSQ(levels)
    index = torch.arange(math.prod(levels))
    vectors = quantiser.vectors(index)
    assert torch.equal(quantiser.nearest(vectors), index)
    wanted = [[(digit - level // 2) / (level // 2) for digit in range(level)] for level in levels]
    assert torch.allclose(vectors, torch.tensor([*itertools.product(*wanted)]))


@pytest.mark.parametrize("levels", [(3, 5, 4, 2), (8, 8, 6, 5)])
def test_fsq_reaches_its_ends_and_rounds_to_the_nearest(levels: tuple[int, ...]) -> None:
    quantiser = FSQ(levels)
    far = torch.full((1, 4, 1, 1), 20.0)
    assert int(quantiser(far).tokens) == math.prod(levels) - 1
    assert int(quantiser(-far).tokens) == 0
    projected = quantiser.project(features().movedim(1, -1))
    every = quantiser.vectors(torch.arange(quantiser.codes))
    assert torch.equal(
        quantiser.nearest(projected), torch.cdist(projected.flatten(0, -2), every).argmin(-1).view(6, 8, 8)
    )


def test_binary_codes_are_the_bits_of_the_signs() -> None:
    quantiser = Binary(4)
    made = quantiser(features())
    bits = (features() > 0).int()
    wanted = 8 * bits[:, 0] + 4 * bits[:, 1] + 2 * bits[:, 2] + bits[:, 3]
    assert torch.equal(made.tokens, wanted.flatten(1))
    assert torch.equal(made.features, 2.0 * bits - 1)
    assert torch.equal(quantiser.vectors(torch.arange(16)), torch.tensor([*itertools.product((-1.0, 1.0), repeat=4)]))
    assert torch.equal(quantiser.nearest(quantiser.vectors(torch.arange(16))), torch.arange(16))


def test_the_entropy_terms_fall_as_signs_are_sure_and_even() -> None:
    quantiser, sure = Binary(4), features(batch=64).sign()
    unsure, uneven = 0.01 * sure, sure.abs()
    losses = [float(quantiser(x + 1e-4 * features(1, batch=64)).loss) for x in (sure, uneven)]
    assert losses[0] < losses[1] - 0.03
    assert float(entropy(torch.tensor(0.5))) == pytest.approx(math.log(2))
    assert float(quantiser(unsure).loss) == pytest.approx(losses[0], abs=1e-3)  # a unit vector's length says nothing


def test_a_gradient_passes_the_rounding() -> None:
    for quantiser in (FSQ((5, 5, 5, 5)), codebook(16, 4), Binary(4)):
        x = features().requires_grad_()
        weight = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))
        (quantiser(x).features * weight).sum().backward()
        smooth = features().requires_grad_()
        (quantiser.project(smooth.movedim(1, -1)).movedim(-1, 1) * weight).sum().backward()
        assert x.grad is not None
        assert torch.allclose(x.grad, smooth.grad)


def test_the_codebook_takes_the_nearest_and_its_loss_pulls_both_ways() -> None:
    quantiser = codebook(32, 4)
    x = features().requires_grad_()
    made = quantiser(x)
    unit = torch.nn.functional.normalize(x.detach().movedim(1, -1), dim=-1).reshape(-1, 4)
    book = torch.nn.functional.normalize(quantiser.book.detach(), dim=-1)
    assert torch.equal(made.tokens.flatten(), torch.cdist(unit, book).argmin(-1))
    made.loss.backward()
    assert x.grad is not None
    assert quantiser.book.grad is not None
    assert x.grad.abs().sum() > 0
    assert quantiser.book.grad.abs().sum() > 0
    before, after = made.loss, quantiser(x.detach() - 50 * x.grad).loss
    assert after < before


def test_a_codebook_begins_by_k_means_and_revives_what_nobody_chooses() -> None:
    torch.manual_seed(0)
    centres = 4 * torch.nn.functional.normalize(torch.randn(8, 4), dim=-1)
    x = (centres[torch.arange(512) % 8] + 0.05 * torch.randn(512, 4)).T.reshape(1, 4, 16, 32)
    quantiser = Codebook(8, 4)
    first = quantiser(x, Draw(0, 1))
    assert quantiser.book.any()
    assert float(quantiser.used()) == 1.0
    error = (first.features - 2 * torch.nn.functional.normalize(x, dim=1)).square().mean()
    assert float(error) < 0.1  # with a book at random .6
    with torch.no_grad():
        quantiser.book[3] = quantiser.book[2]  # of two that are equal the first is chosen
        quantiser.since[3] = LONG
    quantiser(x, Draw(1, 1))
    assert torch.equal(quantiser.book[3], quantiser.book[2])  # it has not had its time yet
    assert float(quantiser.used()) == 0.875
    quantiser.age.fill_(LONG)
    quantiser(x, Draw(2, 1))
    assert not torch.equal(quantiser.book[3], quantiser.book[2])
    unit = 2 * torch.nn.functional.normalize(x, dim=1)[0].flatten(1).T
    assert float(torch.cdist(quantiser.book[[3]].detach(), unit).min()) < 1e-3


def test_codes_count_as_used_only_once_chosen() -> None:
    quantiser = Codebook(4, 4)
    for step in range(LONG + 1):
        quantiser.seen(torch.tensor([0, 1] if step == 0 else [0]), Draw(step, 2))
    assert quantiser.since.tolist() == [0.0, float(LONG), float(LONG), float(LONG)]
    quantiser.seen(torch.tensor([2]), Draw(0, 2).part(0, 1))
    quantiser.seen(torch.tensor([3]), Draw(0, 2).part(1, 2))
    assert quantiser.since.tolist() == [1.0, float(LONG), 0.0, 0.0]  # one step, in two parts


def test_a_codebook_that_was_loaded_is_gone_on_from() -> None:
    quantiser = codebook(8, 4)
    before = quantiser.book.detach().clone()
    for step in range(3):
        quantiser(features(), Draw(step, 6))
    assert torch.equal(quantiser.book, before)


def test_nothing_is_chosen_in_low_precision() -> None:
    for quantiser in (codebook(512, 4), Residual(64, 4, (1, 2, 8)), FSQ((8, 8, 8, 8))):
        if isinstance(quantiser, Residual):
            quantiser.base.book.data.normal_()
        wanted = quantiser(features()).tokens
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(quantiser(features()).tokens, wanted)
            assert torch.equal(quantiser.index(features()).flatten(1), wanted)


def test_residual_grids_are_what_the_coarser_ones_leave_over() -> None:
    torch.manual_seed(0)
    quantiser = Residual(16, 4, (1, 2, 8))
    quantiser.base.book.data.normal_()
    x = features()
    made = quantiser(x)
    total = torch.zeros_like(x)
    tokens = []
    for level, side in enumerate((1, 2, 8)):
        index = closest(shrunk(x - total, side).movedim(1, -1), quantiser.base.book)
        tokens.append(index.flatten(1))
        total = total + quantiser.grown(index, level)
    assert torch.equal(made.tokens, torch.cat(tokens, 1))
    assert made.tokens.shape == (6, 1 + 4 + 64)
    assert torch.allclose(made.features, total, atol=1e-6)
    assert torch.allclose(quantiser.features(made.tokens), total, atol=1e-6)
    two = quantiser.features(made.tokens, 2)
    assert torch.allclose(two + quantiser.grown(index, 2), total, atol=1e-6)
    assert torch.equal(quantiser.index(x), made.tokens)


def test_areas_are_means() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert shrunk(x, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert shrunk(x, 4) is x


def test_perplexity_counts_codes_in_even_use() -> None:
    assert float(perplexity(torch.tensor([0, 1, 2, 3]), 16)) == pytest.approx(4)
    assert float(perplexity(torch.zeros(4, dtype=torch.long), 16)) == pytest.approx(1)


def test_the_nearest_code_by_parts_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    x, book = features(1).movedim(1, -1), torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    whole = torch.cdist(x.flatten(0, -2), book).argmin(-1).view(x.shape[:-1])
    assert torch.equal(quantise.closest(x, book), whole)
    monkeypatch.setattr(quantise, "TABLE", 150)  # three rows at a time
    assert torch.equal(quantise.closest(x, book), whole)


def test_a_book_of_grids_begins_with_what_the_grids_are_asked_to_code() -> None:
    """Pictures of one mean, a smooth layout and detail: what the grids leave over gets ever less."""
    torch.manual_seed(0)
    coarse, fine = torch.randn(32, 4, 2, 2), torch.randn(32, 4, 8, 8)
    x = 3 + F.interpolate(coarse, (8, 8), mode="bicubic") + 0.3 * fine
    quantiser = Residual(256, 4, (1, 2, 4, 8))
    for layer in quantiser.smooth:
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    tokens = quantiser(x, Draw(0, 32)).tokens
    left = [float((x - quantiser.features(tokens, levels)).square().mean().detach()) for levels in (1, 2, 3, 4)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.15  # of 1.1 about the mean
