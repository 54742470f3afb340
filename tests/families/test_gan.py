"""Adversarial networks: what a step moves, what a picture depends on, what truncation and noise do."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import shape_folder
from torch import Tensor

from genctl import files
from genctl.data.pictures import DataConfig, load
from genctl.errors import DivergedError, UsageError
from genctl.families.adversarial.losses import OBJECTIVES
from genctl.families.adversarial.settings import (
    CriticConfig,
    GANConfig,
    GANOptions,
    GeneratorConfig,
    LossConfig,
    between,
)
from genctl.families.base import Request
from genctl.families.gan import GAN
from genctl.rng import Draw
from genctl.sizes import Size
from genctl.training.loop import Trainer
from genctl.training.optim import TrainConfig
from genctl.training.run import Run
from genctl.training.score import Score, spread, warning

SMALL = GANConfig(
    Size(16, 16), "none", generator=GeneratorConfig(latent=8, style=8, width=4, most=8),
    critic=CriticConfig(width=4, most=8),
)  # fmt: skip


def small(**changes: object) -> GAN:
    torch.manual_seed(0)
    model = GAN(replace(SMALL, **changes))  # type: ignore[arg-type]
    model.prepare_training()
    return model


def some(count: int = 4) -> dict[str, Tensor]:
    return {"x": torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1}


def drawn(model: GAN, seeds: list[int], **options: float) -> Tensor:
    request = Request(seeds, [""] * len(seeds), GANOptions(**options), chunk=2)
    return torch.cat([part.pictures for part in model.eval().sample(request)])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kinds", [("style", "residual"), ("dcgan", "dcgan")])
def test_each_network_is_moved_by_its_own_phase(objective: str, kinds: tuple[str, str]) -> None:
    model = small(
        loss=LossConfig(objective=objective), generator=replace(SMALL.generator, kind=kinds[0]),  # type: ignore[arg-type]
        critic=replace(SMALL.critic, kind=kinds[1], statistics=True),  # type: ignore[arg-type]
    )  # fmt: skip
    phases = []
    for phase, loss, figures in model.training_step(some(), Draw(1, 4), 0.5):
        model.zero_grad(set_to_none=True)
        loss.backward()
        phases.append(phase)
        own = model.phases()[phase]
        moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in own.parameters()]
        assert sum(moved) > len(moved) / 3  # branches that begin at zero open first
        assert all(torch.isfinite(value).all() for value in figures.values())
        if phase == "critic":
            assert all(p.grad is None for p in model.net.parameters())
    assert phases == ["critic", "model"]


def test_the_penalty_falls_with_its_schedule() -> None:
    assert between((2.0, 0.2), 0.2, 0.0) == 2.0
    assert between((2.0, 0.2), 0.2, 0.1) == pytest.approx(1.1)
    assert between((2.0, 0.2), 0.2, 0.2) == between((2.0, 0.2), 0.2, 1.0) == pytest.approx(0.2)
    assert between((2.0, 0.2), 0.0, 0.0) == pytest.approx(0.2)
    losses = []
    for weight in (0.0, 10.0):
        (_, loss, figures), *_ = small(loss=LossConfig(penalty=(weight, weight))).training_step(some(), Draw(1, 4), 0)
        losses.append((float(loss.detach()), float(figures.get("penalty", 0))))
    assert losses[0][1] == 0  # what weighs nothing is not computed
    assert losses[1][1] > 0
    assert losses[1][0] == pytest.approx(losses[0][0] + 10 * losses[1][1], rel=1e-5)


def test_pictures_do_not_depend_on_their_batch() -> None:
    for kind in ("style", "dcgan"):
        model = small(generator=replace(SMALL.generator, kind=kind))  # type: ignore[arg-type]
        together = drawn(model, [1, 2, 3])
        assert together.shape == (3, 3, 16, 16)
        for place, seed in enumerate([1, 2, 3]):
            assert torch.equal(together[[place]], drawn(model, [seed]))


def test_truncation_leads_to_the_mean_and_noise_makes_details() -> None:
    model = small()
    with torch.no_grad():
        for layer in model.net.synthesis.layers:
            layer.strength.fill_(0.3)  # type: ignore[union-attr, operator]
    assert torch.equal(*drawn(model, [1, 2], truncation=0.0, noise=0.0))
    far, near = (drawn(model, [1, 2], truncation=psi, noise=0.0) for psi in (1.0, 0.2))
    assert (far[0] - far[1]).abs().mean() > 2 * (near[0] - near[1]).abs().mean()
    assert not torch.equal(drawn(model, [1]), drawn(model, [1], noise=0.0))
    assert torch.equal(drawn(model, [1]), drawn(model, [1], noise=1.0, truncation=1.0))


def test_classes_and_what_cannot_be_built(tmp_path: Path) -> None:
    pictures = load(shape_folder(tmp_path / "data", 1), Size(16, 16), DataConfig())
    config = GAN.fitted(replace(SMALL, condition="class"), pictures)
    torch.manual_seed(0)
    model = GAN(config)
    model.prepare_training()
    assert "class" in model.can
    assert "text" not in model.can
    source = model.source(pictures, torch.device("cpu"))
    batch = source.batch(torch.arange(4), Draw(0, 4))
    assert [phase for phase, _, _ in model.training_step(batch, Draw(1, 4), 0.5)] == ["critic", "model"]
    one, other = (next(model.eval().sample(Request([1], [name]))).pictures for name in config.classes[:2])
    assert not torch.equal(one, other)
    with pytest.raises(UsageError, match="draws squares"):
        small(pixels=Size(16, 32))
    with pytest.raises(UsageError, match="48 cells"):
        small(pixels=Size(48, 48))


def test_a_run_has_its_schedule_of_adams_memory_and_resumes_exactly(tmp_path: Path) -> None:
    def trainer(folder: str, steps: int) -> Trainer:
        model = small(loss=LossConfig(burn_in=0.5))
        pictures = load(shape_folder(tmp_path / "data", 1), Size(16, 16), DataConfig())
        run = Run(tmp_path / folder)
        run.begin({}, False)
        config = TrainConfig(steps=6, batch=4, warmup=1, betas=(0.0, 0.9), early=0.0)
        made = Trainer(model, model.source(pictures, torch.device("cpu")), None, run, config, seed=3)
        for _ in range(steps):
            made.advance()
        return made

    whole, cut = trainer("whole", 6), trainer("cut", 4)
    betas = [group["betas"] for (made,) in whole.optimisers.values() for group in made.param_groups]
    assert all(beta == pytest.approx((0.0, 0.99)) for beta in betas)
    cut.run.save_state(cut.step, cut.tensors(), 0.1)
    resumed = trainer("cut", 0)
    resumed.resume()
    for _ in range(2):
        resumed.advance()
    wanted = whole.tensors()
    assert any(key.startswith("model/critic") for key in wanted)
    assert all(torch.equal(wanted.pop(key), tensor) for key, tensor in resumed.tensors().items())
    assert not wanted
    whole.save({}, lambda row: None)
    names = files.read_header(whole.run.model).tensors
    assert not any(name.startswith("critic") for name in names)


def test_the_best_scoring_weights_are_the_model_file(tmp_path: Path) -> None:
    """A run whose pictures get worse keeps its model, says so, and goes on from its latest state."""
    scores, said = iter([30.0, 50.0, 20.0]), []

    def score(model: object) -> dict[str, float]:
        return {"frechet": next(scores), "diversity": 0.1}

    model = small()
    pictures = load(shape_folder(tmp_path / "data", 1), Size(16, 16), DataConfig())
    run = Run(tmp_path / "run")
    run.begin({}, False)
    config = TrainConfig(steps=6, batch=4, warmup=1, early=0.0)
    source = model.source(pictures, torch.device("cpu"))
    made = Trainer(model, source, None, run, config, 3, said.append, score=score)  # type: ignore[arg-type]
    steps = []
    for _ in range(3):
        made.advance()
        made.save({}, lambda row: None)
        steps.append(files.read_header(run.model).document["training"]["steps"])
    assert steps == [1, 1, 3]
    assert run.states()[-1].name == "state-00000003.safetensors"
    assert any("stays as it was: its frechet distance is 30, that of now 50" in line for line in said)
    assert any("collapsed" in line for line in said)


def test_a_score_tells_varied_pictures_from_equal_ones(tmp_path: Path) -> None:
    pictures = load(shape_folder(tmp_path / "data", 4), Size(16, 16), DataConfig())
    model = small().eval()
    found = Score(pictures, 12)(model)
    assert found["frechet"] > 0
    assert 0 <= found["diversity"] < 1.5
    assert spread(torch.ones(4, 3)) == 0
    assert spread(torch.tensor([[0.0, 0], [3, 4]])) == pytest.approx(5)
    assert not warning(0.9)
    assert "little varied" in warning(0.4)


def test_an_adversarys_loss_may_go_where_it_wants(tmp_path: Path) -> None:
    """A generator's loss (-f) may drift far from its usual size, which would end a run of another family; numbers that
    are not finite still do."""
    pictures = load(shape_folder(tmp_path / "data", 1), Size(16, 16), DataConfig())
    model, run = small(), Run(tmp_path / "run")
    config = TrainConfig(steps=40, batch=4, warmup=1, early=0.0)
    made = Trainer(model, model.source(pictures, torch.device("cpu")), None, run, config, seed=3)
    for loss in (0.01, *range(50, 500, 10)):
        made._watch({"loss": torch.tensor(float(loss)), "skipped": torch.tensor(0.0)})
    with pytest.raises(DivergedError):
        [made._watch({"loss": torch.tensor(math.nan), "skipped": torch.tensor(0.0)}) for _ in range(20)]
