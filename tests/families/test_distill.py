"""Students of an exact teacher on a mixture in the plane: few steps draw what the teacher draws in many."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from helpers import shape_folder
from torch import Tensor, nn

from genctl.data.pictures import DataConfig, load
from genctl.diffusion.oracle import Mixture
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Blend, Request
from genctl.families.base import load as load_model
from genctl.families.distill import METHODS, student_of
from genctl.families.distill.adversarial import Adversarial
from genctl.families.distill.lesson import DistillConfig
from genctl.families.distill.progressive import Progressive
from genctl.families.distill.source import Drawn
from genctl.families.flow import Flow
from genctl.families.settings import DiffusionConfig, SamplingConfig
from genctl.train.loop import Trainer
from genctl.train.optim import TrainConfig
from genctl.train.run import Run

ANGLES = torch.arange(5) * 2 * torch.pi / 5
MIXTURE = Mixture(torch.full((5,), 0.2), 1.5 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1), torch.full((5,), 0.15))


@dataclass(frozen=True)
class PlaneNet:
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlaneConfig:
    pixels: int = 1
    net: PlaneNet = field(default_factory=PlaneNet)
    diffusion: DiffusionConfig = field(default_factory=lambda: DiffusionConfig(density="uniform"))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=32, guidance_scale=1.0))


class Learner(nn.Module):
    """An MLP on (x_t, t, scalars), beside the exact velocity at its first input only where it is the teacher's."""

    def __init__(self, scalars: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 9 * (1 + scalars), 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 2)
        )

    def forward(self, x: Tensor, t: Tensor, scalars: Tensor | None = None) -> Tensor:
        numbers = [t] if scalars is None else [t, *scalars.unbind(1)]
        waves = [torch.cat([n[:, None], *((2**k * n)[:, None].sin() for k in range(4)),
                            *((2**k * n)[:, None].cos() for k in range(4))], 1) for n in numbers]  # fmt: skip
        return self.layers(torch.cat([x.flatten(1), *waves], 1)).view(x.shape)


class Exact(nn.Module):
    """The mixture's own velocity."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128))

    def inner(self) -> list[tuple[nn.Module, int]]:
        return [(self.look, 128)]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        flat = x.flatten(1)
        self.look(flat[:, None])  # features [B, 1, 128] for those who want some
        variance = ((1 - t) * MIXTURE.stds) ** 2 + t**2  # [B, K]
        residual = flat[:, None] - (1 - t)[..., None] * MIXTURE.means
        share = (-residual.square().sum(2) / (2 * variance) - variance.log()).softmax(1)[..., None]
        slope = residual / variance[..., None]
        guess = (share * (MIXTURE.means + ((1 - t) * MIXTURE.stds**2)[..., None] * slope)).sum(1)
        noise = (share * t[..., None] * slope).sum(1)
        return (noise - guess).view(x.shape)


class Plane(Flow):
    name = "plane"
    can = frozenset({"sample"})

    def __init__(self, config: PlaneConfig) -> None:
        super().__init__(config)
        self.shape = (2, 1, 1)
        self.net = Learner(len(config.net.scalars)) if config.net.scalars else Exact()

    def conditions(self, prompts: list) -> tuple[Tensor, ...]:  # type: ignore[type-arg]
        return ()

    def from_x(self, x: Tensor) -> Tensor:
        return x


def drawn(model: Flow, count: int, **request: object) -> Tensor:
    noise = torch.randn(count, 2, 1, 1, generator=torch.Generator().manual_seed(5))
    asked = Request(list(range(count)), noise=noise, chunk=count, dtype=torch.float32, **request)  # type: ignore[arg-type]
    return torch.cat([part.pictures for part in model.sample(asked) if part.final]).flatten(1)


def energy(a: Tensor, b: Tensor) -> float:
    """The squared energy distance of two samples (Szekely & Rizzo): 2 E|a - b| - E|a - a'| - E|b - b'|."""
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def taught(method: str, steps: int, updates: int) -> Flow:
    torch.manual_seed(0)
    student = student_of(Plane(PlaneConfig()), method, steps, DistillConfig(most_guidance=1.0, stages=6))
    optimisers = {phase: torch.optim.AdamW(module.parameters(), RATE, betas=(0.9, 0.99))
                  for phase, module in student.phases().items()}  # fmt: skip
    average = [p.detach().clone() for p in student.net.parameters()]
    for step in range(updates):
        progress = step / updates
        for group in (group for optimiser in optimisers.values() for group in optimiser.param_groups):
            group["lr"] = RATE * min(1, 2 * (1 - progress))
        x = MIXTURE.sample(256, torch.Generator().manual_seed(step))[:, :, None, None]
        for phase, loss, _ in student.training_step({"x": x}, Draw(step, 256), progress):
            loss.backward()
            optimisers[phase].step()
            for optimiser in optimisers.values():
                optimiser.zero_grad()
        for a, p in zip(average, student.net.parameters(), strict=True):
            a.lerp_(p.detach(), 0.02)
    with torch.no_grad():
        for a, p in zip(average, student.net.parameters(), strict=True):
            p.copy_(a)
    return student.eval()


RATE = 2e-3
REAL = MIXTURE.sample(4000, torch.Generator().manual_seed(99))


def test_energy_distance() -> None:
    a, b = (torch.randn(3000, 2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert abs(energy(a, b)) < 0.003
    assert energy(a, b + 1) > 0.3


def test_the_teacher_is_exact() -> None:
    assert abs(energy(drawn(Plane(PlaneConfig()), 4000, steps=32), REAL)) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_student_draws_in_one_step_and_in_two_what_its_teacher_draws_in_many(method: str) -> None:
    assert energy(drawn(Plane(PlaneConfig()), 4000, steps=1), REAL) > 1
    student = taught(method, 2, 3000)
    assert energy(drawn(student, 4000, steps=1), REAL) < 0.03
    assert energy(drawn(student, 4000, steps=2), REAL) < 0.03


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-rf"])
def test_a_student_begins_as_its_teacher(models: Path, name: str, method: str) -> None:
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    student = student_of(teacher, method, 1, DistillConfig()).eval()
    prompt = "a red circle" if name == "tiny-ldm" else "red"
    asked = {
        "seeds": [3],
        "prompts": [prompt],
        "steps": 1,
        "dtype": torch.float32,
        "guidance_scale": 1.0,
        "packed": False,
    }
    wanted, got = (
        torch.cat([part.pictures for part in model.sample(Request(**asked)) if part.final])  # type: ignore[arg-type]
        for model in (teacher, student)
    )
    assert torch.allclose(got, wanted, atol=1e-4)
    with torch.no_grad():
        for parameter in student.net.scalars.parameters():  # type: ignore[union-attr]
            parameter.add_(0.3 * torch.randn_like(parameter))
    scales = [Request(**(asked | {"guidance_scale": scale})) for scale in (2.0, 6.0)]  # type: ignore[arg-type]
    low, high = (torch.cat([part.pictures for part in student.sample(request)]) for request in scales)
    assert (low - high).abs().max() > 1e-3  # it is told the scale


@pytest.mark.parametrize("method", METHODS)
def test_a_student_trains_and_its_file_needs_no_teacher(models: Path, tmp_path: Path, method: str) -> None:
    def trainer(folder: str, steps: int) -> Trainer:
        torch.manual_seed(0)
        teacher = load_model("tiny-ldm")
        assert isinstance(teacher, Flow)
        student = student_of(teacher, method, 2, DistillConfig(stages=3, teacher_steps=2))
        pictures = load(shape_folder(tmp_path / "data", 1), 32, DataConfig())
        config = TrainConfig(steps=6, batch=4, warmup=1, learning_rate=1e-3, precision="fp32", early=0.0)
        run = Run(tmp_path / folder)
        run.begin({"config": 1}, False)
        device = torch.device("cpu")
        sources = (student.source(pictures.split(part), device) for part in (False, True))
        made = Trainer(student, *sources, run, config, seed=3)
        for _ in range(steps):
            made.advance()
        return made

    whole, cut = trainer("whole", 6), trainer("cut", 4)
    cut.run.save_state(cut.step, cut.tensors(), 0.1)
    resumed = trainer("cut", 0)
    resumed.resume()
    for _ in range(2):
        resumed.advance()
    pairs = zip(whole.model.net.parameters(), resumed.model.net.parameters(), strict=True)  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in pairs)
    begun = zip(whole.model.net.parameters(), student_net("tiny-ldm", method).parameters(), strict=True)  # type: ignore[union-attr]
    assert not all(torch.equal(a, b) for a, b in begun)
    whole.save({}, lambda row: None)
    student = load_model(str(whole.run.folder))
    assert isinstance(student, Flow)
    assert student.config.sampling.steps == 2
    assert student.lesson is None
    parts = [part for part in student.sample(Request(seeds=[1], prompts=["a"])) if part.final]
    assert torch.isfinite(parts[0].pictures).all()


def student_net(name: str, method: str) -> nn.Module:
    torch.manual_seed(0)
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    return student_of(teacher, method, 1, DistillConfig()).net


def test_a_finisher_goes_on_from_another_student(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    first = student_of(teacher, "meanflow", 1, DistillConfig()).eval()
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    second = student_of(teacher, "dmd", 1, DistillConfig(), first).eval()
    assert second.config.net.scalars == ("guidance", "end")
    asked = Request(seeds=[3], prompts=["red"], steps=1, guidance_scale=2.0, dtype=torch.float32, packed=False)
    wanted, got = (torch.cat([part.pictures for part in model.sample(asked)]) for model in (first, second))
    assert torch.equal(wanted, got)
    two = Request(seeds=[3], prompts=["red"], steps=2, dtype=torch.float32, packed=False)
    assert torch.isfinite(torch.cat([part.pictures for part in second.sample(two)])).all()


@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-rf"])
def test_what_the_teacher_draws(models: Path, name: str) -> None:
    """A row's x is what the teacher draws from the row's own noise at its scale; without pictures nothing is drawn."""
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    prompts = ["red circle", "green square", "blue"] if name == "tiny-ldm" else ["red", "green"]
    config = DistillConfig(teacher_steps=2)
    source = Drawn(teacher, prompts, 40, config, True, "training")
    batch = source.batch(torch.tensor([0, 33]), Draw(1, 2))
    assert batch["x"].std() > 0.1
    assert 1 <= float(batch["scale"].min()) < float(batch["scale"].max()) <= 8
    asked = [source.asked[row] for row in (0, 33)]
    assert set(source.asked) == set(prompts)
    for row in range(2):
        request = Request(
            [0], [asked[row]], steps=2, guidance_scale=float(batch["scale"][row]), noise=batch["z"][row : row + 1]
        )
        assert torch.allclose(teacher.drawn(request)[0], batch["x"][row], atol=2e-3)
    states, present, pooled = teacher.conditions([*asked])
    assert torch.equal(batch["present"], present)
    assert torch.allclose(batch["states"], states, atol=2e-3)
    assert torch.allclose(batch["pooled"], pooled, atol=2e-3)
    bare = Drawn(teacher, prompts, 4, config, False, "training").batch(torch.tensor([1]), Draw(1, 1))
    assert bare.keys() == batch.keys() - {"z", "scale"}
    assert not bare["x"].any()


@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-rf"])
def test_a_critic_looks_through_the_teachers_layers(models: Path, name: str) -> None:
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "adversarial", 1, DistillConfig())
    lesson = student.lesson
    assert isinstance(lesson, Adversarial)
    prompts: list[str | Blend] = ["red", "green"]
    states, present, pooled = teacher.conditions(prompts)
    batch = {"x": torch.randn(2, *teacher.shape), "states": states, "present": present, "pooled": pooled}
    one, x = torch.ones(2), batch["x"].clone().requires_grad_()
    opinions = lesson.opinions(x, torch.zeros_like(x), 0.5 * one, batch, one)
    (slope,) = torch.autograd.grad(opinions.sum(), x)
    assert opinions.shape[0] == 2
    assert slope.abs().max() > 0
    phases = [phase for phase, _, _ in student.training_step(batch, Draw(1, 2), 0.5)]
    assert phases == ["critic", "model"]


def test_progressive_students_become_the_teacher(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "progressive", 1, DistillConfig(stages=3))
    lesson = student.lesson
    assert isinstance(lesson, Progressive)
    states, present, pooled = teacher.conditions(["red", "green"])
    batch = {"x": torch.randn(2, 3, 32, 32), "states": states, "present": present, "pooled": pooled}
    for progress, steps in ((0.0, 4.0), (0.4, 2.0), (0.99, 1.0)):
        with torch.no_grad():
            for parameter in student.net.parameters():
                parameter.add_(0.01)
        ((_, loss, figures),) = student.training_step(batch, Draw(1, 2), progress)
        assert torch.isfinite(loss)
        assert float(figures["steps"]) == steps
        older = zip(lesson.before.parameters(), student.net.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in older) == (progress > 0)


def test_leaping_students_refuse_solvers_that_do_not_say_where_they_land(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "meanflow", 1, DistillConfig()).eval()
    with pytest.raises(UsageError, match="leaps from time to time"):
        list(student.sample(Request(seeds=[1], prompts=["red"], solver="heun", steps=2)))
