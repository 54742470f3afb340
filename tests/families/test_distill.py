"""Students of an exact teacher on a mixture in the plane: few steps draw what the teacher draws in many."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from helpers import flow_request, shape_folder
from plane import ALONE, IN_A_PLANE, REAL, Plane, PlaneConfig, drawn, energy, taught
from torch import Tensor, nn

from genctl.data.pictures import DataConfig, load
from genctl.diffusion.path import PATHS
from genctl.errors import ModelError, UsageError
from genctl.families.base import Blend
from genctl.families.distill import frechet
from genctl.families.distill.adversarial import Adversarial
from genctl.families.distill.lesson import Lesson, guess_between, remix
from genctl.families.distill.progressive import Progressive
from genctl.families.distill.settings import DistillConfig
from genctl.families.distill.source import Drawn
from genctl.families.distill.student import METHODS, student_of
from genctl.families.flow.flow import Flow
from genctl.families.flow.meanflow import MeanFlow
from genctl.families.flow.objective import FlowMatching
from genctl.families.flow.options import FlowOptions
from genctl.families.flow.sample import times_of
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.families.rf import RF, RFConfig
from genctl.families.saved import load as load_model
from genctl.nets.dit import DiTConfig
from genctl.nets.unet import UNetConfig
from genctl.rng import Draw
from genctl.training.loop import Trainer
from genctl.training.optim import TrainConfig
from genctl.training.run import Run


def test_energy_distance() -> None:
    a, b = (torch.randn(3000, 2, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert abs(energy(a, b)) < 0.003
    assert energy(a, b + 1) > 0.3


@pytest.mark.slow
def test_the_teacher_is_exact() -> None:
    assert abs(energy(drawn(Plane(PlaneConfig()), 4000, steps=32), REAL)) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("method", [*IN_A_PLANE, ALONE])
def test_a_student_draws_in_one_step_and_in_two_what_its_teacher_draws_in_many(method: str) -> None:
    assert energy(drawn(Plane(PlaneConfig()), 4000, steps=1), REAL) > 1
    student = taught(method, 1 if method == "progressive" else 2, 3000, stages=6)
    for steps in (1, 2, 4) if method == "progressive" else (1, 2):
        assert energy(drawn(student, 4000, steps=steps), REAL) < 0.03, steps


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
        torch.cat([part.pictures for part in model.sample(flow_request(**asked)) if part.final])  # type: ignore[arg-type]
        for model in (teacher, student)
    )
    assert torch.allclose(got, wanted, atol=1e-4)
    with torch.no_grad():
        for parameter in student.net.scalars.parameters():  # type: ignore[union-attr]
            parameter.add_(0.3 * torch.randn_like(parameter))
    scales = [flow_request(**(asked | {"guidance_scale": scale})) for scale in (2.0, 6.0)]  # type: ignore[arg-type]
    low, high = (torch.cat([part.pictures for part in student.sample(request)]) for request in scales)
    assert (low - high).abs().max() > 1e-3  # it is told the scale


@pytest.mark.parametrize("method", METHODS)
def test_a_student_trains_and_its_file_needs_no_teacher(
    models: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frechet, "GATHERED", 8)

    def trainer(folder: str, steps: int) -> Trainer:
        torch.manual_seed(0)
        teacher = load_model("tiny-ldm")
        assert isinstance(teacher, Flow)
        student = student_of(teacher, method, 2, DistillConfig(stages=3, teacher_steps=8))
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
    wanted = whole.tensors()  # with what the lesson has come to: its stage, the last stage's student, second networks
    assert all(torch.equal(wanted.pop(key), tensor) for key, tensor in resumed.tensors().items())
    assert not wanted
    begun = zip(whole.model.net.parameters(), student_net("tiny-ldm", method).parameters(), strict=True)  # type: ignore[union-attr]
    assert not all(torch.equal(a, b) for a, b in begun)
    whole.save({}, lambda row: None)
    student = load_model(str(whole.run.folder))
    assert isinstance(student, Flow)
    assert student.config.sampling.steps == 2
    assert isinstance(student.objective, FlowMatching)
    parts = [part for part in student.sample(flow_request(seeds=[1], prompts=["a"])) if part.final]
    assert torch.isfinite(parts[0].pictures).all()


def student_net(name: str, method: str) -> nn.Module:
    torch.manual_seed(0)
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    return student_of(teacher, method, 1, DistillConfig()).net


def small_teacher(path: str = "linear", target: str = "velocity", spacing: str = "uniform", dropout: float = 0.0) -> RF:
    """A pixel flow of random weights, by class."""
    torch.manual_seed(0)
    unet = UNetConfig((16, 32), 1, (False, True), head=16, dropout=dropout)
    diffusion = DiffusionConfig(path, target, shift=2.0)  # type: ignore[arg-type]
    sampling = SamplingConfig(shift=2.0, spacing=spacing)  # type: ignore[arg-type]
    teacher = RF(RFConfig(16, "class", ("green", "red"), unet=unet, diffusion=diffusion, sampling=sampling))
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return teacher.requires_grad_(False).eval()


def some_rows(teacher: RF, count: int = 4) -> dict[str, Tensor]:
    prompts: list[str | Blend] = ["red", "green"]
    states, present, pooled = teacher.conditions(prompts * (count // 2))
    x = torch.rand(count, *teacher.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return {"x": x, "states": states, "present": present, "pooled": pooled}


@pytest.mark.parametrize("method", METHODS)
def test_students_of_a_teacher_with_coarse_patches(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "GATHERED", 0)
    torch.manual_seed(0)
    net = DiTConfig(width=32, depth=2, heads=2, patch=2, text_slots=1, coarse_from=0.65)
    teacher = RF(RFConfig(16, "class", ("green", "red"), architecture="dit", dit=net))
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    student = student_of(teacher.requires_grad_(False).eval(), method, 2, DistillConfig(stages=3, teacher_steps=8))
    rows = some_rows(teacher)
    for phase, loss, _ in student.training_step(rows, Draw(0, 4), 0.5):
        loss.backward()
        assert torch.isfinite(loss), phase
    slopes = [student.net.get_parameter(name).grad for name in ("embed.weight", "blocks.0.qkv.weight")]
    assert all(slope is not None and torch.isfinite(slope).all() for slope in slopes)
    parts = [part for part in student.eval().sample(flow_request(seeds=[1], prompts=["red"])) if part.final]
    assert torch.isfinite(parts[0].pictures).all()


def test_without_a_teacher_the_guided_velocity_is_where_learning_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says w v + (1 - w) v' with the condition and v' without is wanted to say just that; outside of the
    guidance interval, and at scale 1, v itself."""
    model = small_teacher()
    config = RF.with_net(model.config, scalars=("guidance", "end"))
    model = RF(config)
    model.prepare_training()
    lesson, rows = model.objective, some_rows(model)
    assert isinstance(lesson, MeanFlow)
    z, away = torch.randn_like(rows["x"]), torch.randn_like(rows["x"])
    v = z - rows["x"]
    t, scale = torch.tensor([0.05, 0.3, 0.6, 0.9]), torch.tensor([4.0, 1.0, 3.0, 8.0])
    guided = torch.where(t[:, None, None, None] < 0.1, v, away + scale[:, None, None, None] * (v - away))

    def says(x_t: Tensor, t: Tensor, states: Tensor, present: Tensor, pooled: Tensor, scalars: Tensor) -> Tensor:
        torch.testing.assert_close(scalars, torch.stack([scale / 8, t], 1))
        return torch.where(present.any(1)[:, None, None, None], guided, away)

    monkeypatch.setattr(model.net, "forward", says)
    x_t = model.path.mix(rows["x"], z, t)
    torch.testing.assert_close(lesson.velocity(model, rows, x_t, z, t, scale), guided, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "diffusion", "said"),
    [
        ({"scalars": ("guidance",)}, {}, "scalars"),
        ({"scalars": ("guidance", "end"), "dropout": 0.1}, {}, "dropout"),
        ({"scalars": ("guidance", "end")}, {"path": "vp"}, "linear path"),
        ({"scalars": ("guidance", "end")}, {"target": "noise"}, "linear path"),
    ],
)
def test_models_of_few_steps_that_cannot_be_trained(net: dict, diffusion: dict, said: str) -> None:  # type: ignore[type-arg]
    config = RF.with_net(small_teacher().config, **net)
    with pytest.raises(UsageError, match=said):
        RF(replace(config, diffusion=replace(config.diffusion, **diffusion))).prepare_training()


def test_the_held_out_loss_of_a_model_of_few_steps_is_an_ordinary_flows() -> None:
    model = RF(RF.with_net(small_teacher().config, scalars=("guidance", "end")))
    rows, plain = some_rows(model), model.validation_loss(some_rows(model), Draw(7, 4))["loss"]
    model.prepare_training()  # the new inputs add nothing yet
    torch.testing.assert_close(model.validation_loss(rows, Draw(7, 4))["loss"], plain)


@pytest.mark.parametrize("spacing", ["uniform", "karras", "beta"])
@pytest.mark.parametrize(("path", "target"), [("linear", "x"), ("linear", "velocity"), ("vp", "v"), ("edm", "F")])
def test_a_lesson_follows_its_teacher_as_the_sampler_does(path: str, target: str, spacing: str) -> None:
    teacher = small_teacher(path, target, spacing)
    lesson = METHODS["dmd"](teacher, DistillConfig(teacher_steps=5))
    z = torch.randn(2, *teacher.shape, generator=torch.Generator().manual_seed(4))
    got = lesson.sample(z, some_rows(teacher, 2), torch.full((2,), 3.0))
    request = flow_request(
        [0, 1], ["red", "green"], steps=5, solver="euler", guidance_scale=3.0, noise=z, dtype=torch.float32
    )
    assert torch.allclose(got, teacher.drawn(request), atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("path", "target"), [("linear", "x"), ("linear", "noise"), ("cosine", "v"), ("vp", "velocity"),
                                              ("edm", "F"), ("ve", "F")])  # fmt: skip
def test_every_teacher_is_learnt_from_or_refused(method: str, path: str, target: str) -> None:
    """All losses and the held-out figure are finite; what cannot be learnt is said, and why."""
    teacher = small_teacher(path, target)
    refused = target == "noise" or (method == "meanflow" and path != "linear")
    if refused or (method in ("consistency", "adversarial") and target == "x"):
        with pytest.raises(UsageError, match=f"--method {method}: "):
            student_of(teacher, method, 2, DistillConfig())
        return
    student = student_of(teacher, method, 2, DistillConfig(stages=2, teacher_steps=2))
    batch = some_rows(teacher)
    for progress in (0.0, 0.9):
        for _, loss, _ in student.training_step(batch, Draw(1, 4), progress):
            assert torch.isfinite(loss)
            loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in student.net.parameters() if p.grad is not None)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert torch.isfinite(student.validation_loss(batch, Draw(2, 4))["loss"])


@pytest.mark.parametrize("method", [method for method in METHODS if method != "frechet"])  # a loss of the whole batch
def test_lessons_are_the_same_in_parts_and_without_dropout(method: str) -> None:
    """A batch in halves has the whole one's gradient; a teacher's dropout makes no noise in what is compared."""

    def gradients(parts: list[tuple[int, int]], training: bool) -> list[Tensor]:
        target = "x" if method == "dmd" else "velocity"
        student = student_of(
            small_teacher(target=target, dropout=0.5), method, 2, DistillConfig(stages=2, teacher_steps=2)
        )
        with torch.no_grad():
            for parameter in student.net.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        student.train(training)
        batch = some_rows(small_teacher())
        for start, stop in parts:
            rows = {key: value[start:stop] for key, value in batch.items()}
            for phase, loss, _ in student.training_step(rows, Draw(1, 4).part(start, stop), 0.5):
                if phase == "model":
                    ((stop - start) / 4 * loss).backward()
        return [p.grad for p in student.net.parameters() if p.grad is not None]

    whole = gradients([(0, 4)], True)
    for other in (gradients([(0, 2), (2, 4)], True), gradients([(0, 4)], False)):
        for a, b in zip(whole, other, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()) + 1e-7)


@pytest.mark.parametrize(("path", "target"), [("linear", "velocity"), ("vp", "v"), ("edm", "F")])
def test_the_guess_between_two_places_leads_from_one_to_the_other(path: str, target: str) -> None:
    teacher = small_teacher(path, target)
    x_t, x = torch.randn(2, 4, *teacher.shape, generator=torch.Generator().manual_seed(1)).double()
    t, s = torch.tensor([1.0, 0.9, 0.5, 0.2]).double(), torch.tensor([0.0, 0.6, 0.4, 0.0]).double()
    assert torch.allclose(guess_between(teacher, x_t, remix(teacher, x_t, x, t, s), t, s), x, atol=1e-8)


def test_a_longer_consistency_run_goes_no_stage_back() -> None:
    student = student_of(small_teacher(), "consistency", 1, DistillConfig(stages=4))
    batch, shares = some_rows(small_teacher()), []
    for progress in (0.0, 0.9, 0.4):
        ((_, _, figures),) = student.training_step(batch, Draw(1, 4), progress)
        shares.append(float(figures["share"]))
    assert shares == [1 / 2, 1 / 16, 1 / 16]


def test_the_held_out_figure_is_of_the_steps_that_the_student_takes() -> None:
    """Students as they begin are their teachers, at scale 1: those who take as many steps land where it does."""
    batch = some_rows(small_teacher())
    for method in METHODS:
        config = DistillConfig(least_guidance=1.0, most_guidance=1.0, teacher_steps=4)
        losses = [
            float(student_of(small_teacher(), method, steps, config).validation_loss(batch, Draw(2, 4))["loss"])
            for steps in (1, 4)
        ]
        assert losses[0] > 0.01
        assert losses[1] < 1e-5


def test_a_longer_progressive_run_stays_in_its_last_stage() -> None:
    student = student_of(small_teacher(), "progressive", 4, DistillConfig(teacher_steps=32))
    batch, steps = some_rows(small_teacher()), []
    for progress in (0.0, 0.99, 0.4):
        ((_, _, figures),) = student.training_step(batch, Draw(1, 4), progress)
        steps.append(float(figures["steps"]))
        assert student.config.sampling.steps == steps[-1]  # a run cut short says what it has come to
    assert steps == [16, 4, 4]


def test_progressive_students_learn_the_steps_that_samplers_take() -> None:
    student = student_of(small_teacher(), "progressive", 2, DistillConfig(teacher_steps=8))
    assert isinstance(student.objective, Progressive)
    seen: set[tuple[float, float]] = set()

    def look(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.update((round(t, 4), round(s, 4)) for t, s in torch.stack([args[1], kwargs["scalars"][:, 1]], 1).tolist())

    student.net.register_forward_pre_hook(look, with_kwargs=True)
    batch = some_rows(small_teacher(), 64)
    for progress, steps in ((0.0, 4), (0.9, 2)):
        seen.clear()
        for step in range(15):
            list(student.training_step(batch, Draw(step, 64), progress))
        grids = [[round(t, 4) for t in student.objective.grid(steps * 2**i).tolist()] for i in range(3)]
        assert seen == {pair for times in grids for pair in pairwise(times)}


def test_a_student_along_another_path_is_conditioned_on_its_own_times() -> None:
    """One step from noise to data is the same along every path."""
    student = student_of(small_teacher(), "meanflow", 1, DistillConfig()).eval()
    with torch.no_grad():
        for parameter in student.net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    request = flow_request([1], ["red"], steps=3, guidance_scale=2.0, dtype=torch.float32)
    seen: list[Tensor] = []
    student.net.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["scalars"][0, 1]), with_kwargs=True
    )
    student.drawn(replace(request, options=replace(request.options, path="cosine")))
    times = times_of(student, FlowOptions(steps=3, solver="euler", path="cosine"))
    own = PATHS["linear"].from_log_snr(PATHS["cosine"].log_snr(times))
    assert torch.allclose(torch.stack(seen), own[1:].clamp(0, 1).float(), atol=1e-5)


def test_what_students_cannot_do_is_refused() -> None:
    student = student_of(small_teacher(), "dmd", 1, DistillConfig()).eval()
    for asked in ({"negative": "green"}, {"also": [("green", 0.5)]}, {"guidance": "apg"}, {"rescale": 0.5},
                  {"guidance_interval": (0.2, 0.3)}, {"guide": small_teacher()}):  # fmt: skip
        with pytest.raises(UsageError, match="guidance is distilled into it"):
            student.drawn(flow_request([1], ["red"], **asked))  # type: ignore[arg-type]
    assert not {"encode", "decode"} & student.can
    for there_or_back in (student.invert, student.from_noise):
        with pytest.raises(UsageError, match="no way back to noise"):
            there_or_back(torch.zeros(1, *student.shape))
    assert "guidance_interval" not in student.recorded(flow_request([1], ["red"], guidance_scale=3.0))
    with pytest.raises(UsageError, match="a student is no guide"):
        small_teacher().drawn(flow_request([1], ["red"], guide=student))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "frechet"])  # led by the real pictures
def test_a_student_is_conditioned_on_the_scale_at_which_its_teacher_is_guided(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = student_of(small_teacher(), method, 2, DistillConfig(stages=2, teacher_steps=4))
    guess, shown, told = Lesson.guess, [], []

    def guided(self: Lesson, x_t: Tensor, t: Tensor, batch: dict[str, Tensor], scale: Tensor) -> Tensor:
        shown.append(scale)
        return guess(self, x_t, t, batch, scale)

    monkeypatch.setattr(Lesson, "guess", guided)
    student.net.register_forward_pre_hook(
        lambda _, args, kwargs: told.append(kwargs["scalars"][:, 0]), with_kwargs=True
    )
    for _ in student.training_step(some_rows(small_teacher()), Draw(1, 4), 0.0):
        pass
    assert shown
    assert told
    assert 1 <= float(shown[0].min()) < float(shown[0].max()) <= 8
    assert all(torch.equal(scale, shown[0]) for scale in shown)
    assert all(torch.allclose(8 * scalar, shown[0]) for scalar in told)


@pytest.mark.parametrize("settings", [{"stages": 0}, {"teacher_steps": 0}, {"critic_updates": 0}, {"adversarial": -1.0},
                                      {"critic_rate": 0.0},
                                      {"most_guidance": 0.5}])  # fmt: skip
def test_settings_that_teach_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(
        UsageError, match=f"distill.{'least_guidance' if 'most_guidance' in settings else next(iter(settings))}"
    ):
        DistillConfig(**settings)  # type: ignore[arg-type]


def test_a_student_takes_its_teachers_codec_alone(models: Path) -> None:
    teacher = load_model("tiny-ldm")
    assert isinstance(teacher, Flow)
    teacher.info["parts"]["codec"]["sha256"] = "0" * 64
    student = student_of(teacher, "dmd", 1, DistillConfig())
    with pytest.raises(ModelError, match="was trained with another codec"):
        student.codec()  # type: ignore[operator]
    assert student.file == teacher.file


def test_a_finisher_goes_on_from_another_student(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    first = student_of(teacher, "meanflow", 1, DistillConfig()).eval()
    with torch.no_grad():
        for parameter in first.net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    second = student_of(teacher, "dmd", 1, DistillConfig(), first).eval()
    assert second.config.net.scalars == ("guidance", "end")
    asked = flow_request(seeds=[3], prompts=["red"], steps=1, guidance_scale=2.0, dtype=torch.float32, packed=False)
    wanted, got = (torch.cat([part.pictures for part in model.sample(asked)]) for model in (first, second))
    assert torch.equal(wanted, got)
    two = flow_request(seeds=[3], prompts=["red"], steps=2, dtype=torch.float32, packed=False)
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
    assert set(source.asked) == {*prompts, ""}  # some without any
    for row in range(2):
        request = flow_request(
            [0], [asked[row]], steps=2, guidance_scale=float(batch["scale"][row]), noise=batch["z"][row : row + 1]
        )
        assert torch.allclose(teacher.drawn(request)[0], batch["x"][row], atol=2e-3)
    states, present, pooled = teacher.conditions([*asked])
    assert torch.equal(batch["present"], present)
    assert torch.allclose(batch["states"][present], states[present], atol=2e-3)  # networks fill the empty ones
    named = present.any(1)
    assert torch.allclose(batch["pooled"][named], pooled[named], atol=2e-3)
    bare = Drawn(teacher, prompts, 4, config, False, "training").batch(torch.tensor([1]), Draw(1, 1))
    assert bare.keys() == batch.keys() - {"z", "scale"}
    assert not bare["x"].any()


@pytest.mark.parametrize("name", ["tiny-ldm", "tiny-rf"])
@pytest.mark.parametrize("first", [None, "dmd", "meanflow"])
def test_a_critic_looks_through_the_teachers_layers(models: Path, name: str, first: str | None) -> None:
    """Its part of the gradient is a fifth of the other's, where a guess is a picture; students that leap go on
    leaping, and half of the leaps end in a picture."""
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    init = None if first is None else student_of(teacher, first, 1, DistillConfig())
    student = student_of(teacher, "adversarial", 1, DistillConfig(), init)
    leaping = first == "meanflow"
    assert student.config.sampling.solver == ("euler" if leaping else "consistency")
    lesson = student.objective
    assert isinstance(lesson, Adversarial)
    prompts: list[str | Blend] = ["red", "green"]
    states, present, pooled = teacher.conditions(prompts)
    batch = {"x": torch.randn(2, *teacher.shape), "states": states, "present": present, "pooled": pooled}
    one, x = torch.ones(2), batch["x"].clone().requires_grad_()
    opinions = lesson.opinions(x, torch.zeros_like(x), 0.5 * one, batch, one)
    (slope,) = torch.autograd.grad(opinions.sum(), x)
    assert opinions.shape[0] == 2
    assert slope.abs().max() > 0
    (_, critic, _), (_, loss, _) = lesson.step(student, batch, Draw(1, 2), 0.5)
    assert critic > 0

    draw = Draw(1, 2)
    place = lesson.place(student, batch, draw)
    z, s = draw.normal(*teacher.shape), draw.uniform() ** 2
    distance, guess, _ = lesson.distances(student, batch, place, 0.5)
    opinion = lesson.opinions(guess, z, s, batch, place.scale).mean(1)
    parts = [torch.autograd.grad(part.sum(), guess, retain_graph=True)[0] for part in (distance, opinion)]
    ours, theirs = (part.flatten(1).norm(dim=1) for part in parts)
    wanted = (distance - 0.2 * ours / theirs * (place.end == 0) * opinion).mean()
    assert torch.allclose(loss, distance.mean(), rtol=1e-5)  # by which a run is watched
    pairs = (torch.autograd.grad(one, [*student.net.parameters()], allow_unused=True) for one in (loss, wanted))
    for got, expected in zip(*pairs, strict=True):
        assert (got is None) == (expected is None)
        assert got is None or torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_compiled_lessons_teach_the_same(models: Path, method: str) -> None:
    """Compiled blocks of student, teacher and second network: the gradients of eager ones."""

    def gradients(compiled: bool) -> list[Tensor]:
        torch.manual_seed(0)
        teacher = load_model("tiny-ldm")
        assert isinstance(teacher, Flow)
        student = student_of(teacher, method, 2, DistillConfig(stages=2, teacher_steps=2))
        if compiled:
            student.compile_parts()
        states, present, pooled = teacher.conditions(["red", "green", "blue", ""])
        x = torch.randn(4, *teacher.shape, generator=torch.Generator().manual_seed(3))
        for phase, loss, _ in student.training_step(
            {"x": x, "states": states, "present": present, "pooled": pooled}, Draw(1, 4), 0.5
        ):
            if phase == "model":
                student.net.zero_grad()
            loss.backward()
        return [p.grad for p in student.net.parameters() if p.grad is not None]

    for compiled, eager in zip(gradients(True), gradients(False), strict=True):
        assert torch.allclose(compiled, eager, rtol=1e-3, atol=1e-3 * float(eager.abs().max()) + 1e-7)


def test_a_critic_tells_pictures_from_a_poor_students_guesses(models: Path, tmp_path: Path) -> None:
    """By the trainer, at its rates: the hinge loss falls from 2, where it knows nothing."""
    torch.manual_seed(0)
    teacher = load_model("tiny-ldm")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "adversarial", 1, DistillConfig())
    source = student.source(load(shape_folder(tmp_path / "data", 1), 32, DataConfig()), torch.device("cpu"))
    run = Run(tmp_path / "run")
    run.begin({}, False)
    trainer = Trainer(student, source, None, run, TrainConfig(steps=40, batch=8, warmup=1, learning_rate=3e-4), seed=3)
    losses = [float(trainer.advance()["critic_loss"]) for _ in range(30)]
    assert sum(losses[-10:]) / 10 < 1.65


def test_progressive_students_become_the_teacher(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    student = student_of(teacher, "progressive", 1, DistillConfig(teacher_steps=8))
    lesson = student.objective
    assert isinstance(lesson, Progressive)
    states, present, pooled = teacher.conditions(["red", "green"])
    batch = {"x": torch.randn(2, 3, 32, 32), "states": states, "present": present, "pooled": pooled}
    last: list[Tensor] = []
    for progress, steps in ((0.0, 4.0), (0.4, 2.0), (0.99, 1.0)):
        with torch.no_grad():
            for parameter in student.net.parameters():
                parameter.add_(0.01)
        ((_, loss, figures),) = student.training_step(batch, Draw(1, 2), progress)
        assert torch.isfinite(loss)
        assert float(figures["steps"]) == steps
        assert not last or all(map(torch.equal, lesson.before.parameters(), last))
        last = [parameter.detach().clone() for parameter in student.net.parameters()]


def test_the_next_teacher_is_an_average_of_the_end_of_a_stage() -> None:
    student = student_of(small_teacher(), "progressive", 1, DistillConfig(teacher_steps=8))
    lesson = student.objective
    assert isinstance(lesson, Progressive)
    parameter = next(student.net.parameters())
    with torch.no_grad():
        for number in range(100):
            parameter.fill_(number)
            lesson.follow(student)
    average = next(lesson.average.parameters())
    assert 87 < float(average.mean()) < 91  # of weights n^9, about 99 less a tenth
    assert float(average.std()) < 1e-3


def test_flow_maps_refuse_solvers_that_do_not_say_where_a_step_ends(models: Path) -> None:
    teacher = load_model("tiny-rf")
    assert isinstance(teacher, Flow)
    for method in METHODS:
        student = student_of(teacher, method, 1, DistillConfig()).eval()
        for solver in ("heun", "dpmpp_2m", "ancestral"):
            request = flow_request(seeds=[1], prompts=["red"], solver=solver, steps=2)
            if method == "reflow":  # still a flow
                assert torch.isfinite(student.drawn(request)).all()
                continue
            with pytest.raises(UsageError, match=f"--solver {solver}: this model is a flow map"):
                student.drawn(request)
