"""Distillation by the Frechet distance itself: the distance and its gradient, what is remembered, what a step moves."""

import pytest
import torch
from torch import Tensor

from genctl.families.distill import frechet as module
from genctl.families.distill.frechet import Compared, Frechet, Moments, frechet
from genctl.families.distill.settings import DistillConfig
from genctl.families.distill.student import student_of
from genctl.families.flow.flow import Flow
from genctl.families.saved import load as load_model
from genctl.metrics.distance import frechet_of_moments, moments
from genctl.rng import Draw


def features(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator).double()
    return torch.randn(count, width, generator=generator).double() @ mixed + torch.rand(width, generator=generator)


def test_it_is_the_metric_and_has_its_gradient() -> None:
    ours, theirs = moments(features(40, 5, 1)), moments(features(40, 5, 2))
    assert float(frechet(*ours, *theirs)) == pytest.approx(frechet_of_moments(*ours, *theirs), rel=1e-5)
    assert float(frechet(*ours, *ours)) == pytest.approx(0, abs=1e-3)
    mean, root = ours[0].requires_grad_(), torch.linalg.cholesky(ours[1]).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, r: frechet(m, r @ r.T, *theirs), (mean, root))


def test_moments_are_of_all_that_were_seen_and_then_of_the_recent() -> None:
    found, seen = Moments(3), features(60, 3, 1)
    for part in seen.split(20):
        mean, covariance, share = found.take(part, 1000)
    assert torch.allclose(mean, seen.mean(0))
    assert torch.allclose(covariance, torch.cov(seen.T, correction=0))
    assert share == pytest.approx(1 / 3)
    other = features(4000, 3, 2)
    for part in other.split(20):
        mean, _, share = found.take(part, 40)
    assert share == pytest.approx(1 / 2)
    assert (mean - other[-100:].mean(0)).abs().max() < (mean - seen.mean(0)).abs().max() / 2


def test_gaussians_are_led_to_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples A z + b: after some hundred steps they have the real mean and covariance."""
    monkeypatch.setattr(module, "RECENT", 512)
    compared, real = Compared(4), features(4000, 4, 1)
    compared.real.take(real, 4000)
    matrix, shift = torch.eye(4).double().requires_grad_(), torch.zeros(4).double().requires_grad_()
    optimiser = torch.optim.Adam([matrix, shift], lr=0.02)
    distances = []
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=1000)
    for step in range(1000):
        z = torch.randn(64, 4, generator=torch.Generator().manual_seed(step)).double()
        distance, share = compared.distance(z @ matrix + shift)
        (distance / share).backward()
        optimiser.step()
        falling.step()
        optimiser.zero_grad()
        distances.append(float(distance.detach()))
    assert distances[-1] < distances[0] / 25
    assert torch.allclose(matrix.T @ matrix, torch.cov(real.T), rtol=0.2, atol=0.2)


def test_where_nothing_varies_the_slope_is_bounded() -> None:
    """Of one feature, of deviation 2 in real pictures and 2e-6 in the student's: in units of 2, with l the student's
    variance and b the blur, d distance / d l = 1 - sqrt((1 + b) / (l + b))."""
    compared, b = Compared(1), module.BLUR
    compared.real.take(torch.tensor([[-2.0], [2.0]]), 2)
    x = torch.tensor([[-2e-6], [2e-6]], dtype=torch.float64, requires_grad=True)
    compared.distance(x)[0].backward()
    wanted = (1 - ((1 + b) / b) ** 0.5) * 2 * x.detach() / 2 / 4
    assert torch.allclose(x.grad, wanted, rtol=1e-4)  # type: ignore[arg-type]


def test_pictures_of_other_captions_are_farther_away() -> None:
    text = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)).double()
    seen = torch.cat([text @ features(3, 3, 2)[:, :3] + 0.1 * features(500, 3, 3), text], 1)
    swapped = torch.cat([seen[:, :3].roll(1, 0), text], 1)
    distances = []
    for made in (seen, swapped):
        compared = Compared(6)
        compared.real.take(seen, 500)
        distances.append(float(compared.distance(made)[0]))
    assert distances[0] < 1e-2
    assert distances[1] > 1


@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-rf"])
def test_a_student_is_moved_once_enough_was_seen(models: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHERED", 5)
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "frechet", 2, DistillConfig())
    lesson = student.objective
    assert isinstance(lesson, Frechet)
    states, present, pooled = teacher.conditions(["red", "green", "red", ""])
    x = torch.randn(4, *teacher.shape, generator=torch.Generator().manual_seed(3))
    batch = {"x": x, "states": states, "present": present, "pooled": pooled}
    sizes = []
    for step in range(2):
        ((phase, loss, _),) = lesson.step(student, batch, Draw(step, 4), 0.5)
        assert phase == "model"
        loss.backward()
        sizes.append(sum(float(p.grad.abs().sum()) for p in student.net.parameters() if p.grad is not None))
        assert float(loss.detach()) > 0
    assert sizes[0] == 0 < sizes[1]
    assert lesson.compared[0].real.count == lesson.compared[0].made.count == 8
    saved = lesson.state_dict()  # so that a resumed run goes on with what was gathered
    assert torch.equal(saved["layers.0.made.mean"], lesson.compared[0].made.mean)
    assert not any("eyes" in key or "projection" in key for key in saved)


def test_the_loss_is_the_distance_and_its_slope_that_of_a_whole_batch(
    models: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHERED", 0)
    teacher = load_model("tiny-ldm")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "frechet", 1, DistillConfig())
    states, present, pooled = teacher.conditions(["red", "green"])
    batch = {"x": torch.randn(2, *teacher.shape), "states": states, "present": present, "pooled": pooled}
    leaf = torch.tensor(2.0, requires_grad=True)
    monkeypatch.setattr(Compared, "distance", lambda *_: (leaf * 1, 0.25))
    ((_, loss, _),) = student.objective.step(student, batch, Draw(1, 2), 0.5)
    loss.backward()
    assert float(loss.detach()) == 2 * 3  # of three layers
    assert float(leaf.grad) == 3 / 0.25  # type: ignore[arg-type]


def test_a_caption_that_is_left_out_is_left_out_on_both_sides(models: object) -> None:
    teacher = load_model("tiny-ldm")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "frechet", 1, DistillConfig())
    lesson = student.objective
    assert isinstance(lesson, Frechet)
    states, present, pooled = teacher.conditions(["red", "green"])
    batch = {"states": states, "present": present & torch.tensor([[True], [False]]), "pooled": pooled}
    found = lesson.features(student, torch.randn(2, *teacher.shape), batch)
    assert all(bool(layer[0, -64:].abs().sum() > 0) and float(layer[1, -64:].abs().sum()) == 0 for layer in found)
