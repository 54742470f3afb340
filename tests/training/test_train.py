"""The trainer: exact resume, skipped and diverged steps, the schedule, the moving average, the run folder's lock."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import Blind, shape_folder

from genctl import files
from genctl.data.pictures import DataConfig, load
from genctl.errors import DivergedError, UsageError, WorldError
from genctl.families.ldm import LDM, LDMConfig
from genctl.families.rf import RF, RFConfig
from genctl.families.saved import load as load_model
from genctl.families.vae import VAE, LossConfig, NetConfig, VAEConfig
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.unet import UNetConfig
from genctl.rng import Draw
from genctl.training import probe
from genctl.training.loop import Trainer
from genctl.training.optim import Muon, PowerEMA, TrainConfig, make_optimisers, orthogonal, power_of_width, rate, update
from genctl.training.run import Run
from genctl.training.train import _recorded

TINY = VAEConfig(
    pixels=32,
    net=NetConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), latent=2),
    loss=LossConfig(perceptual=0.0, adversarial_from=0.5, critic_width=4),
)


def trainer(tmp_path: Path, folder: Path, steps: int, **settings: object) -> Trainer:
    torch.manual_seed(0)
    config = TrainConfig(steps=steps, batch=4, warmup=2, log_steps=2, precision="fp32", **settings)  # type: ignore[arg-type]
    model = VAE(TINY)
    pictures = load(shape_folder(tmp_path / "data"), 32, DataConfig())
    source = model.source(pictures.split(False), torch.device("cpu"))
    run = Run(folder)
    run.begin({"config": 1}, False)
    return Trainer(model, source, None, run, config, seed=3)


def weights(made: Trainer) -> list[torch.Tensor]:
    return [*made.model.state_dict().values(), *made.ema.average]


@pytest.fixture(autouse=True)
def no_perceptual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "perceptual", lambda self: Blind())


def test_dropout_draws_from_the_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, tmp_path / "run", 8)
    made.model.decoder.layers.insert(1, torch.nn.Dropout(0.5))
    state = {key: value.clone() for key, value in made.tensors().items()}
    losses = []
    for disturbance in (0, 5):
        made.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model/")})
        made.step = 0
        torch.rand(disturbance)
        losses.append(float(made.advance()["loss"]))
    assert losses[0] == losses[1]


def test_a_second_phase_sees_the_first_ones_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast keeps bf16 copies of the weights; a critic must not be shown the generator before its update."""
    made = trainer(tmp_path, tmp_path / "run", 8, learning_rate=0.5)
    made.autocast = torch.autocast("cpu", torch.bfloat16)
    x, seen = torch.ones(2, 2, 4, 4), []

    def two_phases(batch: dict, draw: Draw, progress: float) -> Iterator:
        for phase, network in (("model", made.model.decoder), ("critic", made.model.critic)):
            seen.append(made.model.decoder(x).float().detach())
            yield phase, made.model.decoder(x).sum() + network(torch.ones(1, *network_input(network))).sum(), {}

    def network_input(network: torch.nn.Module) -> tuple[int, ...]:
        return (2, 4, 4) if network is made.model.decoder else (3, 32, 32)

    monkeypatch.setattr(made.model, "training_step", two_phases)
    made.advance()
    now = made.model.decoder(x).detach()
    assert float((seen[1] - now).abs().mean()) < 0.05 * float((seen[0] - now).abs().mean())


@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_trains_like_the_whole(tmp_path: Path, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over both phases; what is left is the order of sums, where the loss is a mean over rows (the adaptive weight of
    the adversarial term is not)."""
    monkeypatch.setattr(VAE, "_adaptive_weight", lambda self, ours, theirs: torch.ones(()))
    whole = trainer(tmp_path, tmp_path / "whole", 8)
    cut = trainer(tmp_path, tmp_path / "cut", 8, parts=parts)
    for made in (whole, cut):
        for optimiser in (made.optimisers["model"][0], made.optimisers["critic"][0]):
            for group in optimiser.param_groups:
                group["eps"] = 1.0  # nearly plain momentum: it would blow up the rounding of gradients near zero
    for _ in range(6):
        one, other = whole.advance(), cut.advance()
        for key in ("loss", "grad_norm", "kl", "psnr"):
            assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-3)
    assert "critic_loss" in one
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(whole), weights(cut), strict=True))


def test_a_batch_that_would_fill_the_memory_is_cut_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what a row's graph keeps: no less than the obvious count of its convolutions' inputs."""
    made, cut = trainer(tmp_path, tmp_path / "run", 8), trainer(tmp_path, tmp_path / "cut", 8, parts=4)
    said: list[str] = []
    made.remark = said.append
    taken: list[int] = []
    for module in made.model.modules():
        if isinstance(module, torch.nn.Conv2d) and not any(module is part for part in made.model.critic.modules()):
            module.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].nbytes))
    before = [value.clone() for value in weights(made)]
    a_row = made.probe.bytes_a_row()
    assert 0 < sum(taken) / 3 <= a_row < 20 * sum(taken) / 3  # seen with two rows and with one
    assert all(torch.equal(a, b) for a, b in zip(before, weights(made), strict=True))
    room = int(8 * 1.1 * a_row)
    monkeypatch.setattr(probe, "memory_bytes", lambda: room)
    for each in (made, cut):
        each._split()
        each.advance()
    assert made.parts == 4
    assert len(said) == 1
    assert "a batch of 4" in said[0]
    assert "in 4 parts" in said[0]
    assert all(torch.equal(a, b) for a, b in zip(weights(made), weights(cut), strict=True))
    room = 4 * 3 * 32 * 32
    with pytest.raises(UsageError, match=r"train.batch=4: its pictures alone take"):
        made._split()


def test_where_memory_runs_out_the_batch_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, cut = trainer(tmp_path, tmp_path / "run", 8), trainer(tmp_path, tmp_path / "cut", 8, parts=4)
    said: list[str] = []
    made.remark = said.append
    room, step = 1, made.model.training_step

    def short(batch: dict, draw: Draw, progress: float) -> Iterator:
        if len(batch["pictures"]) > room:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        yield from step(batch, draw, progress)

    monkeypatch.setattr(made.model, "training_step", short)
    for _ in range(2):
        made.advance()
        cut.advance()
    assert made.parts == 4
    assert [line.split()[-2] for line in said] == ["2", "4"]
    assert all(torch.equal(a, b) for a, b in zip(weights(made), weights(cut), strict=True))
    room = 0
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        made.advance()


def test_resume_is_exact(tmp_path: Path) -> None:
    whole = trainer(tmp_path, tmp_path / "whole", 8)
    for _ in range(8):
        whole.advance()
    first = trainer(tmp_path, tmp_path / "cut", 8)
    for _ in range(5):
        first.advance()
    first.run.save_state(first.step, first.tensors(), 0.1)
    second = trainer(tmp_path, tmp_path / "cut", 8)
    second.resume()
    assert second.step == 5
    for _ in range(3):
        second.advance()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_an_early_snapshot_is_kept_to_guide_by(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RF(RFConfig(32, "none", unet=UNetConfig((16,), 1, (False,), patch=4)))
    pictures = load(shape_folder(tmp_path / "data", 1), 32, DataConfig())
    config = TrainConfig(steps=10, batch=4, early=0.2, precision="fp32")  # no save in between
    run = Run(tmp_path / "run")
    run.begin({"config": 1}, False)
    made = Trainer(model, model.source(pictures, torch.device("cpu")), None, run, config, seed=3)
    made.train(lambda: {}, lambda row: None)
    steps = [files.read_header(path).document["training"]["steps"] for path in (run.early, run.model)]
    assert steps == [2, 10]
    assert load_model(str(run.early)).name == "rf"


def test_resume_is_exact_with_muon(models: Path, tmp_path: Path) -> None:
    def made(folder: str) -> Trainer:
        torch.manual_seed(0)
        model = LDM(LDM.settled(LDMConfig(32, codec="tiny-vae", net=DiTConfig(width=32, depth=2, heads=2))))
        pictures = load(shape_folder(tmp_path / "data", 1), 32, DataConfig())
        config = TrainConfig(steps=6, batch=4, warmup=2, optimiser="muon", precision="fp32")
        run = Run(tmp_path / folder)
        run.begin({"config": 1}, False)
        return Trainer(model, model.source(pictures, torch.device("cpu")), None, run, config, seed=3)

    whole, first, second = made("whole"), made("cut"), made("cut")
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        first.advance()
    assert isinstance(first.optimisers["model"][0], Muon)
    first.run.save_state(first.step, first.tensors(), 0.1)
    second.resume()
    for _ in range(3):
        second.advance()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    fresh = made("other")
    fresh.model.load_state_dict(first.model.state_dict())
    fresh.step = 3
    for _ in range(3):
        fresh.advance()  # without the saved momentum it goes another way
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))


def test_critic_learns_only_in_its_phase(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 8)
    before = [p.clone() for p in made.model.critic.parameters()]
    for _ in range(4):
        made.advance()
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.critic.parameters(), strict=True))
    for _ in range(2):
        made.advance()
    assert not all(torch.equal(a, b) for a, b in zip(before, made.model.critic.parameters(), strict=True))


def test_a_run_leaves_what_it_promises(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 6)
    made.train(lambda: {"title": "t"}, lambda row: None)
    document = files.read_header(tmp_path / "run/model.safetensors").document
    assert document["family"] == "vae"
    assert document["training"]["steps"] == 6
    assert not [key for key in files.load_tensors(tmp_path / "run/model.safetensors")[0] if key.startswith("critic")]
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert (tmp_path / "run/samples/00000006.png").exists()
    made.run.trim_metrics(4)
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2


def test_gradients_that_are_not_finite_change_nothing() -> None:
    layer = torch.nn.Linear(3, 3)
    optimisers = make_optimisers(layer, TrainConfig())
    layer(torch.ones(1, 3)).sum().backward()
    update(optimisers, TrainConfig(), 0.1)
    before = [p.clone() for p in layer.parameters()]
    layer(torch.full((1, 3), math.nan)).sum().backward()
    _, skipped = update(optimisers, TrainConfig(), 0.1)
    assert skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    layer(torch.ones(1, 3)).sum().backward()
    assert update(optimisers, TrainConfig(), 0.1)[1] == 0
    assert not torch.equal(before[0], layer.weight)


def test_update_is_clipped_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    theirs.load_state_dict(ours.state_dict())
    config = TrainConfig(weight_decay=0.1, clip=0.5)
    optimisers = make_optimisers(ours, config)
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=0.01, betas=config.betas, eps=1e-8, foreach=False, fused=False)
    for step in range(5):
        x = torch.randn(8, 4) * (step + 1)
        for layer in (ours, theirs):
            layer(x).square().sum().backward()
        update(optimisers, config, 0.01)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        plain.step()
        plain.zero_grad()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-6)


def test_orthogonal_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 24), (3, 24, 8)):
        matrices = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        got = orthogonal(matrices).float()
        values = u.mT @ got @ v.mT  # diagonal, if got has the same singular vectors
        diagonal = values.diagonal(dim1=1, dim2=2)
        assert float(diagonal.min()) > 0.5
        assert float(diagonal.max()) < 1.4
        assert torch.allclose(values, torch.diag_embed(diagonal), atol=0.03)


def test_muon_agrees_with_torchs() -> None:
    """Two matrices stacked in one weight move as torch's Muon moves each alone."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(16, 32) / 6)
    parts = [torch.nn.Parameter(part.detach().clone()) for part in weight.chunk(2)]
    ours = Muon({weight: 2}, lr=0.02, weight_decay=0.1)
    theirs = torch.optim.Muon(parts, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    start = weight.detach().clone()
    for _ in range(5):
        weight.grad = torch.randn(16, 32)
        for part, gradient in zip(parts, weight.grad.chunk(2), strict=True):
            part.grad = gradient.clone()
        ours.step()
        theirs.step()
    size = lambda move: float(move.detach().square().mean().sqrt())  # noqa: E731
    assert 0.005 < size(weight - start) < 0.1
    assert size(weight - torch.cat(parts)) < 0.02 * size(weight - start)  # both round to bf16, in another order


def test_muon_takes_a_kernel_as_a_matrix() -> None:
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last))
    matrix = torch.nn.Parameter(kernel.detach().contiguous().view(8, 36).clone())
    optimisers = [Muon({weight: 1}, lr=0.1) for weight in (kernel, matrix)]
    for _ in range(2):
        matrix.grad = torch.randn(8, 36)
        kernel.grad = matrix.grad.view(8, 4, 3, 3).to(memory_format=torch.channels_last)
        for optimiser in optimisers:
            optimiser.step()
    assert torch.allclose(kernel.detach().reshape(8, 36), matrix, atol=1e-3)


def test_muon_takes_the_blocks_matrices_and_skips_what_is_not_finite() -> None:
    torch.manual_seed(0)
    net = DiT(DiTConfig(width=32, depth=2, heads=2, text_width=8, text_slots=4), 4)
    optimisers = make_optimisers(net, TrainConfig(optimiser="muon"))
    assert [type(optimiser) for optimiser in optimisers] == [Muon, torch.optim.AdamW]
    assert sum(len(group["params"]) for group in optimisers[0].param_groups) == 2 * 5
    owned = [id(p) for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(map(id, net.parameters()))
    moments = []
    for factor in (1.0, math.nan, 1.0):
        before = net.blocks[0].qkv.weight.detach().clone()
        for p in net.parameters():
            p.grad = factor * torch.randn_like(p)
        _, skipped = update(optimisers, TrainConfig(), 0.01)
        assert bool(skipped) == math.isnan(factor)
        assert torch.equal(before, net.blocks[0].qkv.weight) == math.isnan(factor)
        moments.append(optimisers[0].state[net.blocks[0].qkv.weight]["momentum"].clone())
    assert torch.equal(moments[0], moments[1])
    assert torch.isfinite(moments[2]).all()


def test_divergence_ends_the_run_and_names_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, tmp_path / "run", 100)
    made.advance()
    made.run.save_state(made.step, made.tensors(), 0.0)
    saved = weights(made)
    saved = [tensor.clone() for tensor in saved]

    def diverged(batch: dict, draw: Draw, progress: float) -> Iterator:
        yield "model", made.model.decoder(torch.full((1, 2, 4, 4), math.inf)).sum(), {}

    monkeypatch.setattr(made.model, "training_step", diverged)
    with pytest.raises(DivergedError, match="state-00000001"):
        made.train(lambda: {}, lambda row: None)
    assert made.step == 11
    assert all(torch.isfinite(p).all() for p in made.model.parameters())


def test_schedule() -> None:
    config = TrainConfig(learning_rate=1.0, warmup=10, decay=0.25)
    assert rate(config, 0, 0.0) == pytest.approx(0.1)
    assert rate(config, 9, 0.1) == 1.0
    assert rate(config, 50, 0.5) == 1.0
    assert rate(config, 80, 0.875) == pytest.approx(0.5)
    assert rate(config, 100, 1.0) == 0.0


def test_power_average_against_its_closed_form() -> None:
    """Weights of the average at step T are proportional to increments of t^(g+1) (EDM2, section 3.1)."""
    layer = torch.nn.Linear(1, 1, bias=False)
    ema = PowerEMA(layer, 0.1)
    values = torch.randn(200, dtype=torch.float64)
    for step, value in enumerate(values, 1):
        layer.weight.data.fill_(float(value))
        ema.update(step)
    steps = torch.arange(1, 201, dtype=torch.float64)
    power = ema.power + 1
    shares = torch.empty(200, dtype=torch.float64)
    remaining = 1.0
    for index in range(199, -1, -1):
        keep = (1 - 1 / float(steps[index])) ** power
        shares[index], remaining = remaining * (1 - keep), remaining * keep
    assert float(ema.average[0]) == pytest.approx(float((shares * values).sum()), abs=1e-5)
    mean = float((shares * steps).sum())
    spread = math.sqrt(float((shares * (steps - mean) ** 2).sum()))
    assert spread / 200 == pytest.approx(0.1, rel=0.02)
    assert power_of_width(0.05) == pytest.approx(16.97, abs=0.01)  # the paper's value


def test_a_changed_run_is_shown_and_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin({"train": {"batch": 16}, "seed": 0}, False)
    run.begin({"train": {"batch": 64}, "seed": 0}, False)  # nothing was saved yet: a first try that failed
    run.save_state(1, {"x": torch.zeros(1)}, 0.0)
    with pytest.raises(UsageError, match=r"train\.batch: 64 -> 32"):
        run.begin({"train": {"batch": 32}, "seed": 0}, False)
    run.begin({"train": {"batch": 32}, "seed": 0}, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("x")
    with pytest.raises(UsageError, match="not a run"):
        Run(tmp_path / "other").begin({}, False)


def test_begin_within_the_lock_on_a_new_folder(tmp_path: Path) -> None:
    """The lock file alone must not make a new folder look used."""
    run = Run(tmp_path / "run")
    with run.locked():
        assert run.begin({"a": 1}, False) is False


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    holder = f"process {os.getpid()} on {socket.gethostname()} trains here"
    with run.locked():
        with pytest.raises(WorldError, match=holder), Run(tmp_path / "run").locked():
            pass
        assert (tmp_path / "run/lock").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/lock").write_text(
        f"process {os.getpid()} on {socket.gethostname()}"
    )  # left by one that was killed
    with run.locked():
        pass


def test_a_new_run_that_fails_before_its_first_step_leaves_no_folder(tmp_path: Path) -> None:
    def begun(run: Run, steps: int) -> None:
        with run.locked():
            run.begin({"a": 1}, False)
            for step in range(steps):
                run.log({"step": step})
            raise UsageError("no data")

    for steps in (0, 1):
        with pytest.raises(UsageError, match="no data"):
            begun(Run(tmp_path / str(steps)), steps)
        assert (tmp_path / str(steps)).exists() == (steps > 0)


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin({}, False)
    for step in (1, 2, 3):
        run.save_state(step, {"x": torch.tensor([float(step)])}, 0.5)
    assert len(run.states()) == 2
    run.states()[-1].write_bytes(b"broken")
    step, _, tensors, _ = run.load_state()
    assert (step, float(tensors["x"])) == (2, 2.0)


@pytest.mark.slow
def test_kill_at_any_moment_then_the_same_command(tmp_path: Path) -> None:
    """kill -9 during a run of the real command, resumed until done: the same bytes as the undisturbed run."""
    data = shape_folder(tmp_path / "data")

    def command(run: Path) -> list[str]:
        sets = ["model.net.channels=[8,8]", "model.net.encoder_blocks=[1,1]", "model.net.decoder_blocks=[1,1]",
                "model.pixels=32", "train.save_minutes=0.003", "train.batch=4",
                "model.loss.adversarial_from=1.0"]  # fmt: skip
        overrides = [part for text in sets for part in ("--set", text)]
        return [sys.executable, "-m", "genctl", "train", "--model", "vae", str(data), "-o", str(run), "--steps", "400",
                "--threads", "1", *overrides]  # fmt: skip

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    kills = 0
    for attempt in range(40):
        process = subprocess.Popen(command(tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if process.wait(timeout=2.5 + 0.37 * attempt) == 0:
                break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.1)
    assert kills >= 2
    whole, cut = (files.load_tensors(tmp_path / name / "model.safetensors")[0] for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_long_prompts_leave_a_model_file_that_can_be_read() -> None:
    """A header has 16 MiB; more of them would make the file one that no command opens."""
    prompts = [f"{index} " + "猫" * 9_990 for index in range(3000)]
    kept = _recorded(prompts)
    assert len(json.dumps(kept)) <= 4 << 20
    assert 10 < len(kept) < 2048
    assert (kept[0], kept) == (prompts[0], sorted(kept, key=prompts.index))
    assert len(_recorded([str(index) for index in range(5000)])) == 2048
    assert _recorded([]) == []
