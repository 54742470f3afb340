"""What a trained generator is used for: mixing, directions, projection; and how training is watched."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import shape_folder
from torch import Tensor

from genctl.data.pictures import DataConfig, load
from genctl.errors import UsageError
from genctl.families import saved
from genctl.families.adversarial import step
from genctl.families.adversarial.settings import (
    CriticConfig,
    GANConfig,
    GANOptions,
    GeneratorConfig,
    LossConfig,
    styles_of,
)
from genctl.families.base import Blend, Request
from genctl.families.gan import GAN
from genctl.nets.lpips import psnr
from genctl.rng import Draw, picture_noise
from genctl.sizes import Size

SMALL = GANConfig(
    Size(32, 32), "none", generator=GeneratorConfig(latent=8, style=12, width=4, most=8),
    critic=CriticConfig(width=4, most=8), loss=LossConfig(augment=(0.0, 0.0)),
)  # fmt: skip


def small(**changes: object) -> GAN:
    torch.manual_seed(0)
    model = GAN(replace(SMALL, **changes))  # type: ignore[arg-type]
    model.prepare_training()
    return model.eval()


def styles(model: GAN, seed: int, **options: object) -> Tensor:
    """The styles [L, W] that a picture of this seed is drawn by."""
    settled = GANOptions(**options).settled(model.document())  # type: ignore[arg-type]
    noises = [
        None if one is None else picture_noise([one], model.noise_shape())[:, : model.net.latent]
        for one in (seed, settled.mix)
    ]
    assert noises[0] is not None
    with torch.inference_mode():
        return model.net.style(noises[0], None, settled, noises[1])[0]


def drawn(model: GAN, seeds: list[int], **options: object) -> Tensor:
    request = Request(seeds, [""] * len(seeds), GANOptions(**options))  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in model.sample(request)])


def test_mixing_takes_the_later_layers_of_another_seed() -> None:
    model = small()
    count = model.net.synthesis.count
    assert count == styles_of(32)
    one, other = styles(model, 1), styles(model, 2)
    mixed = styles(model, 1, mix=2, mix_from=3)
    assert torch.equal(mixed[:3], one[:3])
    assert torch.equal(mixed[3:], other[3:])
    assert torch.equal(styles(model, 1, mix=2), styles(model, 1, mix=2, mix_from=count // 2))
    assert torch.equal(drawn(model, [1], mix=1), drawn(model, [1]))
    half = styles(model, 1, mix=2, mix_from=3, truncation=0.5)  # both are drawn towards the mean
    mean = styles(model, 1, truncation=0.0)
    assert torch.allclose(half, (mixed + mean) / 2, atol=1e-6)


def test_directions_are_what_moves_the_modulation_most() -> None:
    """The first direction against 2,000 random ones, and all by definition: A^T A v = length v."""
    model = small()
    found = model.net.directions()
    assert torch.allclose(found @ found.T, torch.eye(12), atol=1e-5)
    matrices = torch.cat([layer.conv.style.weight * layer.conv.style.scale for layer in model.net.synthesis.layers])  # type: ignore[union-attr, operator]
    lengths = (matrices @ found.T).norm(dim=0).detach()
    assert torch.equal(lengths.argsort(descending=True), torch.arange(12))
    assert torch.allclose(matrices.T @ matrices @ found.T, found.T * lengths.square(), atol=1e-4)
    random = torch.nn.functional.normalize(torch.randn(2000, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    assert float((matrices @ random.T).norm(dim=0).max().detach()) <= float(lengths[0]) + 1e-6


def test_a_direction_moves_every_layer_by_so_many_deviations() -> None:
    model = small()
    step_of = styles(model, 1, direction=2, along=3.0) - styles(model, 1)
    direction = model.net.directions()[1]
    with torch.inference_mode():
        deviation = (model.net.some_styles(None) @ direction).std()
    assert torch.allclose(step_of, (3 * deviation * direction).expand_as(step_of), atol=1e-5)
    assert torch.equal(styles(model, 1, direction=2), styles(model, 1, direction=2, along=2.0))


@pytest.mark.parametrize(("options", "said"), [
    ({"mix_from": 2}, "--mix-from has no effect without --mix"), ({"along": 1.0}, "--along has no effect without"),
    ({"mix": 1, "mix_from": 20}, "has 8 layers; 1 to 7"), ({"direction": 13}, "styles have 12"),
])  # fmt: skip
def test_options_that_do_not_go_together(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        drawn(small(), [1], **options)


def test_a_net_without_styles_takes_none_of_it() -> None:
    model = small(generator=GeneratorConfig("dcgan", latent=8, width=4))
    assert not {"encode", "decode"} & model.can
    assert drawn(model, [1]).shape == (1, 3, 32, 32)
    for option in ({"truncation": 0.5}, {"mix": 1}, {"direction": 1}):
        with pytest.raises(UsageError, match="no styles; a gan model takes no options"):
            drawn(model, [1], **option)


def test_nothing_asked_for_is_the_learned_vector_of_classes_too() -> None:
    """A class model asked for no class, alone and as an end of a walk."""
    model = small(condition="class", classes=("a", "b", "c"))
    with torch.no_grad():
        model.net.empty_pooled.copy_(torch.tensor([2.0, -1.0, 0.5]))
    assert torch.equal(model.conditions([""])[2][0], model.net.empty_pooled.detach())
    half = model.conditions([Blend("", "a", 0.5)])[2][0]
    assert torch.allclose(half, torch.tensor([1.5, -0.5, 0.25]))


def test_projection_finds_a_picture_that_the_generator_can_draw() -> None:
    """From the mean style to a drawn picture: nearer by far in numbers, and what decode draws of the code says so."""
    torch.manual_seed(0)
    model = small()
    with torch.no_grad():
        model.net.synthesis.bias.fill_(0.2)
    picture = drawn(model, [5], noise=0.0, truncation=1.5)
    codes = model.encode(picture)
    assert codes.shape == (1, *model.code_shape())
    back = model.decode(codes)
    before = drawn(model, [5], noise=0.0, truncation=0.0)
    assert float(psnr(back, picture)) > float(psnr(before, picture)) + 6
    facts = model.code_facts(picture, codes)
    assert facts["round_trip_db"] == pytest.approx(float(psnr(back, picture)), abs=2e-3)
    assert torch.equal(model.encode(picture), codes)  # the same each time
    assert all(parameter.requires_grad for parameter in model.net.parameters())  # as they were


# training ------------------------------------------------------------------------------------------------------------
def batch(model: GAN, rows: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {"x": torch.rand(rows, 3, 32, 32, generator=generator) * 2 - 1}
    if model.config.condition_width:
        c = torch.eye(model.config.condition_width)[torch.arange(rows) % model.config.condition_width]
        made |= {"pooled": c, "present": torch.ones(rows, 1, dtype=torch.bool), "other": c.roll(1, 0)}
    return made


def classed(**loss: float) -> GAN:
    config = LossConfig(augment=(0.0, 0.0), condition_dropout=0.0, **loss)  # type: ignore[arg-type]
    return small(condition="class", classes=("a", "b", "c"), loss=config).train()


def critic_loss(model: GAN, rows: dict[str, Tensor]) -> float:
    return float(next(iter(model.training_step(rows, Draw(1, 4), 1.0)))[1].detach())


def test_a_real_picture_of_another_condition_counts_as_a_fake() -> None:
    """By hand: the mean over rows whose other condition is not theirs, and nothing where there is no other."""
    plain, model = classed(mismatch=0.0), classed(mismatch=2.0)
    rows = batch(model)  # of 4 rows with conditions 0 1 2 0, the first one's neighbour has the same
    with torch.no_grad():
        right, wrong = (model.critic(rows["x"], rows[name]) for name in ("pooled", "other"))
    added = torch.nn.functional.softplus(wrong - right)
    by_hand = 2 * float(added[1:].sum()) / 4
    assert critic_loss(model, rows) == pytest.approx(critic_loss(plain, rows) + by_hand, rel=1e-5)
    same = rows | {"other": rows["pooled"]}
    assert critic_loss(model, same) == pytest.approx(critic_loss(plain, same), rel=1e-6)


def test_what_is_left_out_is_drawn_by_the_learned_vector() -> None:
    model = classed()
    rows = batch(model)
    absent = rows | {"present": torch.zeros(4, 1, dtype=torch.bool)}
    assert torch.equal(step.condition(model.net, rows), rows["pooled"])  # type: ignore[arg-type]
    assert torch.equal(step.condition(model.net, absent), model.net.empty_pooled.expand(4, -1))  # type: ignore[arg-type]
    for phase, loss, _ in model.training_step(absent, Draw(1, 4), 0.5):
        loss.backward()
        learns = model.net.empty_pooled.grad is not None
        assert learns == (phase == "model")
        model.zero_grad(set_to_none=True)
    many = batch(model, 40)
    left_out = step.condition(model.net, many, 0.5, Draw(3, 40))
    assert 10 < int((left_out != many["pooled"]).any(1).sum()) < 30  # type: ignore[union-attr]


def test_penalties_every_few_steps_weigh_as_much_in_the_mean() -> None:
    often, seldom = small().train(), small(loss=LossConfig(augment=(0.0, 0.0), every=4)).train()
    rows = batch(often)

    def loss(model: GAN, seed: int) -> tuple[float, float]:
        _, total, figures = next(iter(model.training_step(rows, Draw(seed, 4), 1.0)))
        return float(total.detach()), float(figures.get("penalty", 0.0))

    pairs = [(loss(often, seed), loss(seldom, seed)) for seed in range(200)]
    taken = [pair for pair in pairs if pair[1][1] > 0]
    assert 25 < len(taken) < 80  # a quarter of 200
    for (_, once), (_, four) in taken:
        assert four == pytest.approx(once, rel=1e-5)
    (total, penalty), (seldom_total, _) = taken[0]
    assert seldom_total == pytest.approx(total + 3 * LossConfig().penalty[1] * penalty, rel=1e-5)


def test_an_adaptive_share_is_state_and_moves_alike_whole_and_in_parts() -> None:
    """Nothing of a change is seen before the next step, and parts add up to what the whole batch does."""
    whole, parts = (small(loss=LossConfig(adapt=0.6, augment=(0.0, 0.0))).train() for _ in range(2))
    assert "critic.share" in whole.state_dict()
    rows = batch(whole, 8)
    rows["x"][:3] += 0.5  # so that the parts differ in sign
    for model, cuts in ((whole, [(0, 8)]), (parts, [(0, 3), (3, 8)])):
        model.critic.share.fill_(0.5)
        walks = [
            model.training_step({key: value[a:b] for key, value in rows.items()}, Draw(1, 8).part(a, b), 0.5)
            for a, b in cuts
        ]
        for walk in walks:
            next(iter(walk))
        figures = [next(iter(walk))[2] for walk in walks]
        assert all(float(one["augmented"]) == 0.5 for one in figures)
        for walk in walks:
            list(walk)
    moved = [float(model.critic.share) - 0.5 for model in (whole, parts)]
    assert moved[0] != 0
    assert moved[1] == pytest.approx(moved[0], rel=1e-2)


def test_a_large_critic_keeps_no_model_from_being_loaded(tmp_path: Path) -> None:
    """The critic is a part of training, and a model file knows nothing of it."""
    model = small(critic=CriticConfig(width=4, most=8, blocks=40))
    saved.save(model, tmp_path / "m.safetensors", saved.kept(model, model.state_dict()), {})
    loaded = saved.load(str(tmp_path / "m.safetensors"), torch.device("cpu"))
    assert isinstance(loaded, GAN)
    assert not hasattr(loaded, "critic")
    assert torch.equal(drawn(loaded, [1]), drawn(model, [1]))


def test_a_critic_that_knows_its_pictures_is_said(tmp_path: Path) -> None:
    model = small()
    assert not model.warnings({"sign": 0.7, "sign_trained": 0.9})
    assert "by heart" in model.warnings({"sign": 0.2, "sign_trained": 0.95})[0]
    pictures = load(shape_folder(tmp_path / "data", 1), Size(32, 32), DataConfig())
    source = model.source(pictures.split(False), torch.device("cpu"))
    model.finish(source)
    held = model.validation_loss(source.batch(torch.arange(4), Draw(0, 4)), Draw(1, 4))
    assert set(held) == {"sign", "sign_trained"}
    assert -1 <= float(held["sign"]) <= 1
    assert float(held["sign_trained"]) == pytest.approx(model.trained_sign)


def test_augmentation_does_not_leak() -> None:
    """Where a critic sees each picture undisturbed as the likeliest, real and disturbed data are told apart by it:
    the mean over disturbances keeps the order of any two pictures' likelihoods (ADA, section 2.2). Here: of shifts by
    whole pixels with share p, the map from picture to seen distribution is invertible for p < 1."""
    from genctl.families.adversarial.augment import SHIFT, augment

    side = 16
    one = torch.zeros(4000, 3, side, side)
    one[:, :, side // 2, side // 2] = 1.0
    draws = torch.rand(4000, 10, generator=torch.Generator().manual_seed(3))
    draws[:, [0, 2]] = 1.0  # no tint, no hole
    mean = augment(one, draws, 0.8)[:, 0].mean(0)
    assert int(mean.flatten().argmax()) == side // 2 * side + side // 2  # unmoved is the likeliest place
    assert float(mean.max()) > 0.2
    reach = round(SHIFT * side)
    assert int((mean > 0).sum()) == (2 * reach + 1) ** 2
    spectrum = torch.fft.fft2(mean).abs()
    assert float(spectrum.min()) > 0.05  # no frequency of the data is lost to it
