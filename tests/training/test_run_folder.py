"""A run folder under harm: damaged files, links, two processes at once, kills in bad moments, weights that diverge."""

import json
import math
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import Blind, shape_folder
from test_train import trainer, weights

from genctl import files, hub
from genctl.cli.main import execute
from genctl.data import cache
from genctl.errors import DivergedError, GenctlError, InputError, ModelError, UsageError, WorldError
from genctl.families.rf import RF
from genctl.families.vae import VAE
from genctl.training.keep import Keeper
from genctl.training.loop import Trainer
from genctl.training.run import Run, differences, lengthened, read_state

TINY = ["--preset", "tiny", "--threads", "1", "--set", "train.batch=4"]
CODEC = ["train", "data", "--model", "vae", "-o", "runs/codec", *TINY, "--set", "model.net.channels=[8,8]"]
LATENT = ["train", "data", "--model", "ldm", "-o", "runs/mine", *TINY, "--set", "model.codec=tiny-vae",
          "--set", "model.net.patch=2", "--set", "model.net.width=64", "--set", "model.net.depth=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_perceptual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "perceptual", lambda self: Blind())


def held(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# what diverges -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [9, 10, 13])
def test_a_diverged_end_keeps_the_last_good_model(tmp_path: Path, steps: int) -> None:
    """A learning rate of 1e9 in the last one, two or five steps: too few for the watch over many steps."""
    trainer(tmp_path, tmp_path / "run", 8).train(lambda: {}, lambda row: None)
    good = held(tmp_path / "run")
    wild = trainer(tmp_path, tmp_path / "run", steps, learning_rate=1e9)
    wild.resume()
    with pytest.raises(DivergedError, match=r"not saved; the last good state is .*state-00000008") as error:
        wild.train(lambda: {}, lambda row: None)
    assert error.value.exit_code == 6
    now = held(tmp_path / "run")
    assert all(now[name] == data for name, data in good.items() if name.endswith(".safetensors"))
    assert {name for name in now if name.endswith(".safetensors")} <= set(good)


def test_nor_does_an_interruption_or_an_early_save_keep_it(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 100, save_minutes=0.0)
    for _ in range(4):
        made.advance()
    made.save({}, lambda row: None)
    good = held(tmp_path / "run")
    with torch.no_grad():
        next(iter(made.model.parameters())).fill_(math.nan)
    assert "NaN" in made.fault()
    made.stopping = True
    with pytest.raises(DivergedError, match="NaN"):
        made.train(lambda: {}, lambda row: None)
    with pytest.raises(DivergedError, match="NaN"):
        made.run.save_state(5, made.tensors(), 0.0)
    assert held(tmp_path / "run") == good


def test_averages_beyond_the_files_numbers_are_not_written(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 100)
    made.advance()
    made.save({}, lambda row: None)
    good = held(tmp_path / "run")
    made.ema.average[0].fill_(1e6)  # float16 ends at 65,504
    with pytest.raises(DivergedError, match="float16"):
        made.save({}, lambda row: None)
    assert held(tmp_path / "run") == good


def test_looking_for_faults_changes_nothing(tmp_path: Path) -> None:
    plain, looked = trainer(tmp_path, tmp_path / "a", 8), trainer(tmp_path, tmp_path / "b", 8)
    for _ in range(8):  # over both phases
        plain.advance()
        looked.advance()
        assert looked.fault() == ""
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(looked), strict=True))


def test_a_students_lesson_is_not_moved_by_looking(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progressive halving averages its student whenever it looks at a batch."""
    sets = ["--set", "train.batch=4", "--set", "distill.teacher_steps=4", "--pairs", "8", "--threads", "1", "-q"]
    command = ["distill", "--model", "tiny-rf", "--method", "progressive", "--steps", "1", "--updates", "5", *sets]
    monkeypatch.setattr(Keeper, "validate", lambda self: {})
    monkeypatch.setattr(RF, "preview", lambda self, source: torch.zeros(2, 3, 8, 8))
    assert execute([*command, "-o", "runs/plain"]) == 0
    advance, faults = Trainer.advance, []

    def looked(self: Trainer) -> object:
        figures = advance(self)
        faults.append(self.fault())
        return figures

    monkeypatch.setattr(Trainer, "advance", looked)
    assert execute([*command, "-o", "runs/looked"]) == 0
    assert faults == [""] * 5
    one, other = (read_state(Path("runs") / name / "state-00000005.safetensors") for name in ("plain", "looked"))
    assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)


def test_a_wild_learning_rate_ends_with_exit_6(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape_folder(Path("data"), 1)
    assert execute([*CODEC, "--steps", "4"]) == 0
    before = Path("runs/codec/model.safetensors").read_bytes()
    capsys.readouterr()
    assert execute([*CODEC, "--steps", "12", "--override", "--set", "train.learning_rate=1e9"]) == 6
    err = capsys.readouterr().err.splitlines()[-1]
    assert "runs/codec/state-00000004.safetensors" in err
    assert Path("runs/codec/model.safetensors").read_bytes() == before
    assert execute(["info", "runs/codec"]) == 0


# what is stored is what is used --------------------------------------------------------------------------------------
def test_the_cache_gives_the_first_time_what_it_gives_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = {
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "view": torch.randn(4, 6).t(),
        "one": torch.randn(1, 3, 1, 4).transpose(1, 3),
    }
    for folder in (tmp_path, Path("/proc/nowhere")):  # where nothing can be kept
        monkeypatch.setenv("GENCTL_CACHE", str(folder))
        cold = cache.cached("test", 1, lambda: made)
        for key, value in made.items():
            assert torch.equal(cold[key], value)
            assert cold[key].stride() == torch.empty(value.shape).stride()
    monkeypatch.setenv("GENCTL_CACHE", str(tmp_path))
    warm = cache.cached("test", 1, lambda: {})
    assert {key: value.stride() for key, value in warm.items()} == {key: cold[key].stride() for key in warm}


def test_cold_and_warm_runs_end_in_equal_weights(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape_folder(Path("data"), 1)
    made = {}
    for name, folder in (("cold", "one"), ("warm", "one"), ("killed", "two")):
        monkeypatch.setenv("GENCTL_CACHE", str(Path(folder).absolute()))
        command = [*LATENT[:5], f"runs/{name}", *LATENT[6:], "-q"]
        assert Path(folder).exists() == (name == "warm")
        if name == "killed":  # after two steps of a cold run, gone on with by a warm one
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, "advance", stopping_at(3, Trainer.advance))
                assert execute([*command, "--steps", "5"]) == 130
            assert Run(Path("runs/killed")).states()
        assert execute([*command, "--steps", "5"]) == 0
        made[name] = files.load_tensors(Path("runs") / name / "model.safetensors")[0]
    for name in ("warm", "killed"):
        assert all(torch.equal(made["cold"][key], made[name][key]) for key in made["cold"]), name


def stopping_at(step: int, advance: object) -> object:
    def stepped(self: Trainer) -> object:
        if self.step == step - 1:
            self.stopping = True
        return advance(self)  # type: ignore[operator]

    return stepped


# hashes --------------------------------------------------------------------------------------------------------------
def test_init_takes_no_damaged_file(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shape_folder(Path("data"), 1)
    data = bytearray((models / "tiny-vae.safetensors").read_bytes())
    header = files.read_header(models / "tiny-vae.safetensors")
    for place in (header.data_start + 9, len(data) - 3):
        Path("bad.safetensors").write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert execute([*CODEC, "--steps", "1", "--init", "bad.safetensors"]) == 4
        assert "bad.safetensors: damaged" in capsys.readouterr().err
    tensors, header = files.load_tensors(models / "tiny-vae.safetensors")
    broken = {key: value * math.nan if value.is_floating_point() else value for key, value in tensors.items()}
    facts = header.metadata | {"modelspec.hash_sha256": "0x" + files.tensors_sha256(broken)}
    files.save_tensors(Path("nan.safetensors"), broken, facts)
    assert execute([*CODEC, "--steps", "1", "--init", "nan.safetensors"]) == 4
    assert "NaN" in capsys.readouterr().err
    assert not Path("runs/codec").exists()


def test_a_shipped_file_is_checked_against_the_index(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("index.json", "vae.safetensors"):
        Path(name).write_bytes((hub.weights_folder() / name).read_bytes())
    data = bytearray(Path("vae.safetensors").read_bytes())
    data[-40] ^= 1
    Path("vae.safetensors").write_bytes(data)
    shape_folder(Path("data"), 1)
    monkeypatch.setattr(hub, "weights_folder", lambda: Path().absolute())
    assert execute([*CODEC[:-4], "--preset", "cpu", "--set", "model.pixels=32", "--steps", "1", "--init", "vae"]) == 4


def test_a_flipped_bit_in_a_state_is_seen(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin({}, False)
    for step in (1, 2):
        run.save_state(step, {"x": torch.full((64,), float(step))}, 0.5)
    data = run.states()[-1].read_bytes()
    choose = random.Random(0)
    header = files.read_header(run.states()[-1]).data_start
    for place in [header + 5, *(choose.randrange(len(data)) for _ in range(60))]:
        if data[place : place + 1] == b" ":
            continue  # the header's padding, where a flip may say nothing
        run.states()[-1].write_bytes(data[:place] + bytes([data[place] ^ 1 << choose.randrange(8)]) + data[place + 1 :])
        said: list[str] = []
        state = run.load_state(said.append)
        assert (state.step, float(state.tensors["x"][0])) == (1, 1.0)
        assert "state-00000002.safetensors" in said[0]


def test_a_state_of_nan_is_refused_and_what_comes_after_the_good_one_goes(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 8)
    made.advance()
    made.save({}, lambda row: None)
    made.run.log({"step": 2, "minutes": 0.1})
    broken = {key: value * math.nan if value.is_floating_point() else value for key, value in made.tensors().items()}
    files.save_tensors(made.run.folder / "state-00000002.safetensors", broken, {"step": "2", "minutes": "0.1"})
    said: list[str] = []
    again = trainer(tmp_path, tmp_path / "run", 8)
    again.remark = said.append
    again.resume()
    assert again.step == 1
    assert "state-00000002.safetensors" in said[0]
    assert [path.name for path in made.run.states()] == ["state-00000001.safetensors"]
    assert '"step": 2' not in made.run.metrics.read_text()


# who may remove, and what a kill leaves ------------------------------------------------------------------------------
def test_only_who_holds_the_lock_removes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    inside, leave = threading.Event(), threading.Event()

    def winner() -> None:
        with Run(folder).locked():
            inside.set()
            leave.wait(20)
            Run(folder).begin({"a": 1}, False)
            Run(folder).log({"step": 1})

    thread = threading.Thread(target=winner)
    loser = Run(folder)
    assert not folder.exists()
    real = Path.exists
    try:
        Path.exists = lambda self: False if self == folder else real(self)  # type: ignore[method-assign]  # as it saw it
        thread.start()
        inside.wait(20)
        with pytest.raises(WorldError, match="trains here"), loser.locked():
            pass
    finally:
        Path.exists = real  # type: ignore[method-assign]
    with pytest.raises(WorldError, match="trains here"):
        Run(folder).refuse_second()
    assert folder.exists()
    leave.set()
    thread.join()
    assert (folder / "metrics.jsonl").exists()


def test_two_processes_that_begin_one_run(models: Path) -> None:
    shape_folder(Path("data"), 1)
    command = [sys.executable, "-m", "genctl", *CODEC, "--steps", "3", "-q"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    codes = [process.returncode for process in both]
    assert set(codes) <= {0, 5}, said
    assert 0 in codes
    assert all("trains here" in err for code, (_, err) in zip(codes, said, strict=True) if code == 5)
    rows = [json.loads(line) for line in Path("runs/codec/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] in ([3], [3, 3])
    assert Run(Path("runs/codec")).states()


@pytest.mark.parametrize("names", [[".run.json.k2x_9a"], ["lock", ".run.json.k2x_9a"], ["lock"]])
def test_a_kill_during_the_first_write_leaves_a_folder_to_begin_in(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).write_text('{"a"')
    run = Run(folder)
    run.check()
    with run.locked():
        assert run.begin({"a": 1}, False) is False
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "run.json"]
    (folder / ".letter").write_text("mine")
    (folder / "run.json").unlink()
    with pytest.raises(UsageError, match="not empty and not a run"):
        Run(folder).check()


def test_a_kill_before_the_first_state_leaves_nothing_behind(models: Path) -> None:
    shape_folder(Path("data"), 1)
    run = Run(Path("runs/mine"))
    assert execute([*LATENT, "--steps", "2", "-q", "--set", "train.log_steps=1"]) == 0
    once = run.metrics.read_text()
    early = run.early.read_bytes()
    for state in run.states():
        state.unlink()
    run.model.unlink()  # as killed after logging, and after the early model of other settings
    (run.samples / "00000009.png").write_bytes(b"of other settings")
    run.early.write_bytes(b"of other settings")
    assert execute([*LATENT, "--steps", "2", "-q", "--set", "train.log_steps=1"]) == 0
    steps = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in once.splitlines()]
    assert len(run.early.read_bytes()) == len(early)
    assert not (run.samples / "00000009.png").exists()


def test_a_model_without_its_states_is_not_trained_over(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin({"a": 1}, False)
    run.model.write_bytes(b"a model of two hours")
    with pytest.raises(UsageError, match="has a model but no state"):
        run.begin({"a": 1}, False)
    assert run.begin({"a": 1}, True) is False


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "run/lock").symlink_to(tmp_path / "letter")
    run = Run(tmp_path / "run")
    with pytest.raises(UsageError, match="run/lock: cannot be the lock of a run"):
        run.refuse_second()
    with pytest.raises(UsageError, match="run/lock: cannot be the lock of a run"), run.locked():
        pass
    assert (tmp_path / "letter").read_text() == "dear"
    (tmp_path / "run/lock").unlink()
    os.mkfifo(tmp_path / "run/lock")
    with pytest.raises(UsageError, match="no plain file"), Run(tmp_path / "run").locked():
        pass


# damaged files -------------------------------------------------------------------------------------------------------
WORDS = [b"null", b"[]", b"{}", b"-1", b"1e400", b"NaN", b"\"\\ud800\"", b"\xff\xfe", b"9" * 5000, b"[" * 3000, b"true",
         b"\"\x1b[31m\"", b"{\"step\": []}", b"", b"\0\0"]  # fmt: skip


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The bytes with bits flipped, parts cut, doubled, or replaced by awkward words."""
    choose = random.Random(seed)
    for _ in range(count):
        start, length = choose.randrange(len(data)), choose.choice((1, 2, 8, 40))
        middle = [
            bytes([data[start] ^ 1 << choose.randrange(8)]), choose.choice(WORDS),
            bytes(choose.randrange(256) for _ in range(length)), data[start : start + length] * 2,
        ][choose.randrange(4)]  # fmt: skip
        yield choose.choice((data[:start] + middle + data[start + length :], data[:start], middle))


def test_a_damaged_run_json_is_named(tmp_path: Path) -> None:
    document = {"train": {"steps": 3, "minutes": None, "batch": 4}, "seed": 0, "data": {"fingerprint": "ab"}}
    run = Run(tmp_path / "run")
    run.begin(document, False)
    run.save_state(1, {"x": torch.zeros(1)}, 0.0)
    whole = (run.folder / "run.json").read_bytes()
    outcomes: Counter[str] = Counter()
    for data in mutants(whole, 400, 1):
        (run.folder / "run.json").write_bytes(data)
        run.recorded("train", "steps")
        try:
            assert run.begin(document, False)
            outcomes["resumes"] += 1
        except GenctlError as error:
            outcomes[type(error).__name__] += 1
            said = str(error)
            assert "run.json" in said or "begun otherwise" in said
            assert said.isprintable(), repr(said)
            assert len(said) < 700
    assert outcomes["InputError"] > 100
    assert outcomes["UsageError"] > 8
    assert set(outcomes) <= {"resumes", "InputError", "UsageError"}
    (run.folder / "run.json").write_bytes(b"{")
    assert run.begin(document, True)  # --override goes on
    run.record(document)  # as a training does once it has resumed
    assert run.begin(document, False)
    (run.folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"run\.json: damaged or missing"):
        run.begin(document, False)


def test_a_damaged_state_or_metrics_give_way(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin({}, False)
    for step in (1, 2):
        run.save_state(step, {"model/x": torch.ones(2), "y": torch.ones(2, dtype=torch.long)}, 0.5, 0.25)
    last = run.states()[-1]
    whole = last.read_bytes()
    steps: Counter[int] = Counter()
    for data in mutants(whole, 300, 2):
        last.write_bytes(data)
        said: list[str] = []
        steps[run.load_state(said.append).step] += 1
        assert len(said) <= 1
        assert all(last.name in line and line.isprintable() for line in said)
    assert steps[1] > 250
    for path in run.states():
        path.write_bytes(b"\0")
    with pytest.raises(ModelError, match=r"no whole state to resume.*another -o"):
        run.load_state()
    rows = "".join(json.dumps({"step": step, "minutes": step / 10, "loss": 0.5}) + "\n" for step in range(1, 9))
    for data in mutants(rows.encode(), 300, 3):
        run.metrics.write_bytes(data)
        run.trim_metrics(4, said.append)
        assert all(json.loads(line)["step"] <= 4 for line in run.metrics.read_text().splitlines())


def test_what_a_header_may_say_of_step_and_time(tmp_path: Path) -> None:
    path = tmp_path / "state-00000001.safetensors"
    for facts in ({}, {"step": "x", "minutes": "1"}, {"step": "-1", "minutes": "1"}, {"step": "1", "minutes": "nan"},
                  {"step": "1", "minutes": "-1"}, {"step": "9" * 5000, "minutes": "1"}):  # fmt: skip
        files.save_tensors(path, {"x": torch.zeros(1)}, facts)
        with pytest.raises(ModelError, match="state-00000001"):
            read_state(path)
    files.save_tensors(path, {"x": torch.zeros(1)}, {"step": "1", "minutes": "2.5"})  # of an earlier genctl
    assert read_state(path)[:2] == (1, 2.5)


@pytest.mark.parametrize(("old", "new"), [({"train": []}, {"train": {}}), ({"train": {"steps": "9"}}, {"train":
    {"steps": 4}}), ({}, {"train": {"steps": 4}}), ({"train": {"steps": [1]}}, {"train": {"steps": 4}})])  # fmt: skip
def test_odd_documents_differ_in_words(old: dict, new: dict) -> None:
    assert list(differences(lengthened(old, new), new))


def test_commands_on_a_damaged_folder_end_in_a_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape_folder(Path("data"), 1)
    command = [*CODEC, "--steps", "2"]
    assert execute(command) == 0
    folder = Path("runs/codec")
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    seeds = iter(range(100))
    for name in ("run.json", "metrics.jsonl", "state-00000002.safetensors", "model.safetensors"):
        for data in mutants(kept[folder / name], 4, next(seeds)):
            for path, whole in kept.items():
                path.write_bytes(whole)
            (folder / name).write_bytes(data)
            capsys.readouterr()
            for arguments in (["info", str(folder)], command):
                code = execute(arguments)
                err = capsys.readouterr().err
                assert code in (0, 2, 3, 4), (arguments, err)
                assert "Traceback" not in err


def test_a_run_goes_on_with_the_codec_that_it_was_begun_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped codec is trained on and its former tensors kept by another name while a run on them waits."""
    shape_folder(Path("data"), 1)
    tensors, header = files.load_tensors(models / "tiny-vae.safetensors")
    index = dict(hub.index())

    def ship(name: str, values: dict[str, torch.Tensor]) -> None:
        found = files.tensors_sha256(values)
        path = tmp_path / f"{name}.safetensors"
        files.save_tensors(path, values, header.metadata | {"modelspec.hash_sha256": "0x" + found})
        index[name] = {"file": str(path), "sha256": files.file_sha256(path), "tensors": found}

    monkeypatch.setattr(hub, "index", lambda: index)
    ship("tiny-vae", tensors)
    assert execute([*LATENT, "--steps", "1"]) == 0
    changed = {key: value + 1e-3 if value.is_floating_point() else value for key, value in tensors.items()}
    ship("tiny-vae", changed)
    assert execute([*LATENT, "--steps", "2"]) == 2  # nobody has the former one: it would be another codec's codes
    assert "parts.codec" in capsys.readouterr().err
    ship("tiny-vae-1", tensors)
    assert execute([*LATENT, "--steps", "2"]) == 0
    assert files.read_header(Path("runs/mine/model.safetensors")).document["config"]["codec"] == "tiny-vae-1"
    assert execute([*LATENT, "--steps", "3"]) == 0
