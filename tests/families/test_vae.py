"""The codec: normalised codes, a transform that is what it says, frozen encoders, learning on pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import shape_folder

from genctl.data.pictures import DataConfig, load
from genctl.errors import InputError
from genctl.families.saved import load as load_model
from genctl.families.vae import VAE, LossConfig, NetConfig, VAEConfig
from genctl.nets.autoencoder import transform_pair
from genctl.rng import Draw

CONFIG = VAEConfig(
    pixels=32,
    net=NetConfig((16, 32), (1, 1), (1, 1), latent=4),
    loss=LossConfig(adversarial_from=0.5, critic_width=8),
)


@pytest.fixture
def source(tmp_path: Path):  # noqa: ANN201
    pictures = load(shape_folder(tmp_path, 1), 32, DataConfig()).split(False)
    torch.manual_seed(0)
    return VAE(CONFIG).source(pictures, torch.device("cpu"))


def test_codes_have_zero_mean_and_unit_deviation_a_channel(source) -> None:  # noqa: ANN001
    model = VAE(CONFIG)
    model.finish(source)
    rows = torch.arange(len(source.weights))
    codes = model.encode(source.batch(rows, Draw(0, len(rows)))["pictures"])
    assert codes.shape == (len(rows), 4, 8, 8)
    assert torch.allclose(codes.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(codes.std((0, 2, 3)), torch.ones(4), atol=1e-3)


def test_decode_undoes_the_normalisation(source) -> None:  # noqa: ANN001
    model = VAE(CONFIG)
    model.finish(source)
    pictures = source.batch(torch.arange(3), Draw(0, 3))["pictures"]
    with torch.no_grad():
        plain = model.decoder(model.encoder(pictures)[0]).clamp(-1, 1)
    assert torch.allclose(model.decode(model.encode(pictures)), plain, atol=1e-4)


@pytest.mark.parametrize("side", [(32, 32), (8, 24)])
def test_any_size_that_is_a_multiple(side: tuple[int, int]) -> None:
    model = VAE(CONFIG)
    pictures = torch.rand(1, 3, *side) * 2 - 1
    codes = model.encode(pictures)
    assert codes.shape == (1, 4, side[0] // 4, side[1] // 4)
    assert model.decode(codes).shape == pictures.shape


def test_the_transform_moves_codes_and_pictures_alike() -> None:
    """With average pooling as the encoder, which commutes with turns and halving, both ways round agree."""
    pictures = torch.rand(2, 3, 32, 32)
    codes = torch.nn.functional.avg_pool2d(pictures, 4)
    moved_codes, moved = transform_pair(codes, pictures, 1.0, 3)
    assert torch.allclose(torch.nn.functional.avg_pool2d(moved, 4), moved_codes, atol=1e-6)
    moved_codes, moved = transform_pair(codes, pictures, 0.5, 1)
    assert moved.shape == (2, 3, 16, 16)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # resizing differs at the borders
    assert (torch.nn.functional.avg_pool2d(moved, 4)[inner] - moved_codes[inner]).abs().max() < 0.06


def test_oblong_pictures_keep_their_proportions_as_they_are_transformed() -> None:
    codes, moved = transform_pair(torch.rand(1, 4, 16, 8), torch.rand(1, 3, 64, 32), 0.5, 1)
    assert codes.shape == (1, 4, 4, 8)  # halved, and turned
    assert moved.shape == (1, 3, 16, 32)


def test_a_frozen_encoder_keeps_codes_valid(source) -> None:  # noqa: ANN001
    model = VAE(dataclasses.replace(CONFIG, loss=dataclasses.replace(CONFIG.loss, train_encoder=False)))
    owned = {id(p) for p in model.phases()["model"].parameters()}
    assert not owned & {id(p) for p in model.encoder.parameters()}
    before = model.code_mean.clone()
    model.finish(source)
    assert torch.equal(before, model.code_mean)
    for _, loss, _ in model.training_step(source.batch(torch.arange(4), Draw(0, 4)), Draw(0, 4), 0.0):
        loss.backward()
    assert all(p.grad is None for p in model.encoder.parameters())


def test_it_learns_and_the_critic_joins_in(source) -> None:  # noqa: ANN001
    torch.manual_seed(0)
    model = VAE(CONFIG)
    optimisers = {name: torch.optim.AdamW(part.parameters(), 2e-3) for name, part in model.phases().items()}
    first = last = 0.0
    phases = set()
    for step in range(40):
        batch = source.batch(torch.randint(0, 12, (8,), generator=torch.Generator().manual_seed(step)), Draw(0, 8))
        for phase, loss, figures in model.training_step(batch, Draw(step, 8), step / 40):
            phases.add(phase)
            loss.backward()
            optimisers[phase].step()
            for optimiser in optimisers.values():
                optimiser.zero_grad()
            if "l1" in figures:
                first = first or float(figures["l1"].detach())
                last = float(figures["l1"].detach())
    assert phases == {"model", "critic"}
    assert last < 0.6 * first


def test_a_large_picture_is_worked_on_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same codes and the same picture as in one piece, at any size, and never a large piece."""
    model = load_model("vae")
    assert isinstance(model, VAE)
    torch.manual_seed(0)
    for height, width in ((296, 520), (128, 1000), (72, 64)):
        picture = torch.rand(1, 3, height, width) * 2 - 1
        model.tile = 4096
        whole = model.encode(picture)
        back = model.decode(whole)
        model.tile = 128
        largest = 0
        encoder = model.encoder.forward

        def watched(pictures: torch.Tensor, forward=encoder) -> Any:  # noqa: ANN001
            nonlocal largest
            largest = max(largest, *pictures.shape[-2:])
            return forward(pictures)

        monkeypatch.setattr(model.encoder, "forward", watched)
        assert torch.allclose(model.encode(picture), whole, atol=2e-5)
        assert largest <= 128 + 2 * 8 * model.config.net.sight
        assert torch.allclose(model.decode(whole), back, atol=2e-5)
        monkeypatch.undo()


def test_the_margin_of_a_part_is_what_the_networks_see() -> None:
    """By the gradient of one cell in the middle: what it depends on lies within `sight`, for odd networks too."""
    for channels, blocks in (((8, 8), (1, 2)), ((4, 4, 4, 4), (2, 1, 0, 3)), ((8,), (3,))):
        model = VAE(VAEConfig(pixels=64, net=NetConfig(channels, blocks, tuple(reversed(blocks)), latent=2)))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
        side, cells, factor = 64 * model.factor, 64, model.factor
        picture = torch.randn(1, 3, side, side, requires_grad=True)
        model.encoder(picture)[0][..., cells // 2, cells // 2].sum().backward()
        assert picture.grad is not None
        rows = torch.nonzero(picture.grad.abs().sum((0, 1, 3))).flatten()
        middle = cells // 2 * factor
        assert rows.min() >= middle - factor * model.config.net.sight
        assert rows.max() < middle + factor * (model.config.net.sight + 1)
        code = torch.randn(1, 2, cells, cells, requires_grad=True)
        model.decoder(code)[..., middle, middle].sum().backward()
        assert code.grad is not None
        rows = torch.nonzero(code.grad.abs().sum((0, 1, 3))).flatten()
        assert rows.min() >= cells // 2 - model.config.net.sight
        assert rows.max() <= cells // 2 + model.config.net.sight


def test_a_picture_too_large_is_refused_before_it_is_worked_on() -> None:
    model = load_model("vae")
    with pytest.raises(InputError, match="at most 25 megapixels"):
        model.encode(torch.zeros(1, 1, 1, 1).expand(1, 3, 8000, 8000))
    with pytest.raises(InputError, match="at most 25 megapixels"):
        model.decode(torch.zeros(1, 1, 1, 1).expand(1, 6, 2500, 2500))
