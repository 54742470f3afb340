"""What a run begins from, what it says before, during and after, and its sheets of pictures."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Blind, shape_folder
from PIL import Image
from test_run_folder import CODEC, LATENT, mutants
from test_train import trainer

from genctl import files
from genctl.cli.main import execute
from genctl.cli.progress import TrainingDisplay, duration
from genctl.families.conditions.conditional import Conditional
from genctl.families.distill.settings import DistillConfig
from genctl.families.distill.source import Drawn
from genctl.families.flow.flow import Flow
from genctl.families.ldm import LDM, LDMConfig
from genctl.families.saved import load as load_model
from genctl.families.vae import VAE
from genctl.media.provenance import read_provenance
from genctl.rng import Draw
from genctl.training.initial import chosen
from genctl.training.run import Run
from genctl.training.verdict import rows_of, verdict

SHIPPED = ["train", "data", "--model", "vae", "--preset", "cpu", "--threads", "1", "--set", "train.batch=2",
           "--set", "model.pixels=16", "-o"]  # fmt: skip
PIXELS = ["train", "data", "--model", "rf", "--preset", "tiny", "--threads", "1", "--set", "train.batch=2",
          "--set", "model.unet.channels=[16,16]", "--set", "model.unet.head=16", "--set", "model.pixels=16",
          "--set", "model.condition=none", "--set", "model.sampling.steps=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def no_perceptual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "perceptual", lambda self: Blind())


@pytest.fixture
def data(models: Path) -> Path:
    return shape_folder(Path("data"), 1)


def said_of(folder: str, key: str) -> Any:
    return json.loads((Path(folder) / "run.json").read_text())[key]


# from shipped weights ------------------------------------------------------------------------------------------------
def test_a_shipped_kind_begins_from_its_shipped_weights(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_rate = ["--set", "train.learning_rate=1e-9", "--steps"]
    assert execute([*SHIPPED, "runs/a", *tiny_rate, "1"]) == 0
    err = capsys.readouterr().err
    shipped = files.load_tensors(Path(load_model("vae").file or ""))[0]
    assert f"from vae: {len(shipped)} of {len(shipped)} tensors (--init none begins at random)" in err
    assert said_of("runs/a", "init") == "vae"
    made = files.load_tensors(Path("runs/a/model.safetensors"))[0]
    names = [name for name in shipped if name.endswith("weight")]
    assert all(torch.allclose(made[name].float(), shipped[name].float(), atol=1e-3) for name in names)
    assert execute([*SHIPPED, "runs/a", *tiny_rate, "2"]) == 0  # resumed: no beginning, and no difference
    assert "from vae" not in capsys.readouterr().err
    assert execute([*SHIPPED, "runs/b", *tiny_rate, "1", "--init", "none"]) == 0
    assert "from vae" not in capsys.readouterr().err
    assert said_of("runs/b", "init") is None
    assert execute([*SHIPPED, "runs/b", *tiny_rate, "2"]) == 0  # as it began, without being told again
    assert said_of("runs/b", "init") is None
    other = files.load_tensors(Path("runs/b/model.safetensors"))[0]
    assert not any(torch.allclose(other[name].float(), shipped[name].float(), atol=1e-3) for name in names)


def test_what_does_not_fit_begins_at_random(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*CODEC, "--steps", "1"]) == 0
    assert "from vae" not in capsys.readouterr().err
    assert said_of("runs/codec", "init") is None


@pytest.mark.parametrize(("changes", "wanted"), [
    ({}, "ldm"), ({"pixels": 64}, "ldm"), ({"net": {"depth": 2}}, None), ({"net": {"width": 160}}, None),
    ({"diffusion": {"target": "x"}}, None), ({"diffusion": {"path": "cosine"}}, None),
    ({"diffusion": {"shift": 3.0}}, "ldm"),
])  # fmt: skip
def test_where_shapes_and_meaning_agree(tmp_path: Path, changes: dict, wanted: str | None) -> None:
    from genctl import config

    recorded = load_model("ldm").info["config"]
    with torch.device("meta"):
        family = LDM(config.build(LDMConfig, config.merge(recorded, changes)))
    assert chosen(family, None, Run(tmp_path)) == wanted
    assert chosen(family, "none", Run(tmp_path)) is None
    assert chosen(family, "runs/mine", Run(tmp_path)) == "runs/mine"


def test_a_codec_that_renders_badly_is_said_before_training(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*LATENT, "--steps", "1"]) == 0
    err = capsys.readouterr().err
    assert "the codec 'tiny-vae' renders these pictures at" in err
    assert "genctl train --model vae ... -o runs/codec" in err
    assert err.index("renders these") < err.index("saving")
    assert execute([*LATENT, "--steps", "2"]) == 0
    assert "renders these" not in capsys.readouterr().err  # when it goes on


def test_a_codec_that_renders_well_is_not(models: Path) -> None:
    from genctl.data.pictures import DataConfig, load

    pictures = load(shape_folder(Path("data"), 1), 128, DataConfig())
    model = LDM(LDM.settled(LDMConfig(codec="vae")))
    assert model.judged(pictures) == []
    for entry, side in (("noise", 128),):
        Path(entry).mkdir()
        made = random.Random(0)
        for index in range(3):
            Image.frombytes("RGB", (side, side), made.randbytes(3 * side * side)).save(f"{entry}/{index}.png")
        (line,) = model.judged(load(Path(entry), 128, DataConfig()))
        assert " dB (22 is poor" in line


# sheets --------------------------------------------------------------------------------------------------------------
def test_sheets_say_what_they_show_and_come_early(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("asked.txt").write_text("red circle\nblue square, plain style\n\ngreen circle\n")
    short = ["--set", "model.sampling.steps=2", "--set", "train.log_steps=1", "--sample-prompts", "asked.txt"]
    assert execute([*LATENT, *short, "--steps", "3"]) == 0
    sheets = sorted(Path("runs/mine/samples").iterdir())
    assert [path.name for path in sheets] == ["00000001.png", "00000003.png"]
    assert sheets[0].read_bytes() != sheets[1].read_bytes()
    document = read_provenance(sheets[1].read_bytes()) or {}
    assert [row["prompt"] for row in document["pictures"]] == ["red circle", "blue square, plain style", "green circle"]
    assert document["sheet"]["cell_labels"][0] == "red circle"
    assert (document["model"], document["training_steps"]) == ("mine", 3)
    assert Image.open(sheets[1]).height > 32 + 10  # room for labels
    capsys.readouterr()
    assert execute(["plot", "run", "runs/mine", "-o", "with.png"]) == 0
    sheets[0].write_bytes(b"damaged")
    assert execute(["plot", "run", "runs/mine", "-o", "one.png"]) == 0
    assert "00000001.png" in capsys.readouterr().err
    for path in sheets:
        path.unlink()
    assert execute(["plot", "run", "runs/mine", "-o", "without.png"]) == 0
    heights = [Image.open(name).height for name in ("with.png", "one.png", "without.png")]
    assert heights[0] == heights[1] > heights[2]
    again = execute([*LATENT, *short, "--steps", "3"])  # other prompts are no other run
    assert again == 0


def test_a_codecs_sheet_is_labelled(data: Path) -> None:
    assert execute([*CODEC, "--steps", "1"]) == 0
    document = read_provenance(Path("runs/codec/samples/00000001.png").read_bytes()) or {}
    assert document["sheet"]["cell_labels"] == ["picture"] * 8 + ["as the codec has it"] * 8


@pytest.mark.parametrize(("command", "text", "code", "words"), [
    (CODEC, "red\n", 2, "--sample-prompts: this vae takes no condition"),
    (PIXELS, "red\n", 2, "--sample-prompts: this rf takes no condition"),
    ([*PIXELS[:-4], "--set", "model.condition=class"], "purple\n", 2, "--sample-prompts: no class 'purple'"),
    (LATENT, "\n\n", 3, "asked.txt"),
    (LATENT, "cat\n" * 65, 2, "65 prompts; a sheet has 1 to 64"),
])  # fmt: skip
def test_prompts_that_no_sheet_can_show(
    data: Path, command: list[str], text: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("asked.txt").write_text(text)
    assert execute([*command, "--steps", "1", "--sample-prompts", "asked.txt"]) == code
    assert words in capsys.readouterr().err
    assert not Path("runs/mine").exists()


def test_a_students_sheet_tells_it_from_its_teacher(models: Path) -> None:
    Path("asked.txt").write_text("red\ngreen\n")
    sets = ["--set", "train.batch=2", "--set", "distill.teacher_steps=2", "--updates", "1", "--threads", "1", "-q"]
    command = ["distill", "--model", "tiny-rf", "--method", "dmd", "--sample-prompts", "asked.txt", "-o", "runs/fast"]
    assert execute([*command, *sets]) == 0
    document = read_provenance(Path("runs/fast/samples/00000001.png").read_bytes()) or {}
    assert document["sheet"]["cell_labels"] == ["red", "green", "teacher: red", "teacher: green"]
    assert [(row["class"], row["seed"]) for row in document["pictures"]] == [("red", 0), ("green", 1)] * 2


# a teacher's pictures ------------------------------------------------------------------------------------------------
def teacher_of(name: str) -> Flow:
    teacher = load_model(name)
    assert isinstance(teacher, Flow)
    return teacher


def test_fewer_pictures_are_the_first_of_more(models: Path) -> None:
    teacher, config = teacher_of("tiny-rf"), DistillConfig(teacher_steps=2)
    whole = Drawn(teacher, ["red", "green"], 40, config, True, "training")
    left: list[float] = []
    few = Drawn(teacher, ["red", "green"], 40, config, True, "fewer", lambda *told: left.append(told[2]), 0.0)
    assert len(few.weights) == 8
    assert left == [0.0]
    few = Drawn(teacher, ["red", "green"], 40, config, True, "training", seconds=0.0)
    rows = torch.arange(8)
    one, other = (made.batch(rows, Draw(0, 8)) for made in (whole, few))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_teacher_that_was_stopped_goes_on(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, config = teacher_of("tiny-rf"), DistillConfig(teacher_steps=2)
    drawn, seeds = type(teacher).drawn, []

    def counted(self: Flow, request: Any) -> torch.Tensor:
        seeds.extend(request.seeds)
        if len(seeds) == 24:
            raise KeyboardInterrupt
        return drawn(self, request)

    monkeypatch.setattr(type(teacher), "drawn", counted)
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        Drawn(teacher, ["red"], 32, config, True, "stopped")
    seeds.clear()
    Drawn(teacher, ["red"], 32, config, True, "stopped", lambda done, of, left: told.append(done))
    assert len(seeds) == len(set(seeds)) == 16
    assert told == [16, 24]


def test_texts_are_encoded_many_at_once_and_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_of("tiny-ldm")
    monkeypatch.setattr(Conditional, "encode_text", lambda self, text: pytest.fail("one by one"))
    told: list[tuple[str, int, int]] = []
    teacher.watch = lambda *row: told.append(row)
    prompts = [f"{count} apples" for count in range(300)]
    Drawn(teacher, prompts, 300, DistillConfig(), False, "texts")
    assert told == [("encoding texts", start, 300) for start in (0, 128, 256)]
    Drawn(teacher, prompts, 300, DistillConfig(), False, "texts")
    assert len(told) == 3


def test_a_third_of_the_minutes_bounds_the_pictures(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "train.batch=2", "--set", "distill.teacher_steps=2", "--threads", "1"]
    command = ["distill", "--model", "tiny-rf", "--method", "meanflow", "-o", "runs/fast", *sets]
    assert execute([*command, "--minutes", "0.002"]) == 0
    err = capsys.readouterr().err
    assert "pictures of the teacher, as many as its time allowed; --pairs N draws N" in err
    assert "step" in err
    pairs = said_of("runs/fast", "data")["pairs"]
    assert 8 <= pairs < 4096
    assert files.read_header(Path("runs/fast/model.safetensors")).document["teacher"]["pairs"] == pairs
    assert execute([*command, "--minutes", "0.003"]) == 0  # goes on with as many
    assert said_of("runs/fast", "data")["pairs"] == pairs
    assert execute([*command[:-8], "-o", "runs/b", *sets, "--updates", "3", "--init", "none"]) == 0
    assert said_of("runs/b", "data")["pairs"] == 6  # as its updates see


# what is said meanwhile ----------------------------------------------------------------------------------------------
def test_preparation_counts_towards_the_minutes(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 8)
    object.__setattr__(made.config, "steps", None)
    object.__setattr__(made.config, "minutes", 9.0)
    made.minutes = 3.0
    assert made.progress == pytest.approx(1 / 3)
    made.prepared = 3.0
    assert made.progress == pytest.approx(1 / 2)
    made.prepared = 90.0  # a third is left to training
    assert made.progress == 1.0
    made.prepared = 3.0
    made.advance()
    made.save({}, lambda row: None)
    again = trainer(tmp_path, tmp_path / "run", 8)
    again.resume()
    assert (again.minutes, again.prepared) == (3.0, 3.0)


def test_figures_come_with_the_first_step_and_are_no_rows_of_the_log(tmp_path: Path) -> None:
    made = trainer(tmp_path, tmp_path / "run", 4)
    object.__setattr__(made.config, "log_steps", 3)
    rows: list[dict[str, Any]] = []
    made.train(lambda: {}, rows.append)
    assert [row["step"] for row in rows if "loss" in row] == [1, 3, 4]
    assert [row["stage"] for row in rows if "stage" in row] == ["drawing a sheet", "saving"]
    logged = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert logged == [3, 4]


def test_the_time_left_is_said_in_its_unit() -> None:
    assert [duration(seconds) for seconds in (0, 42.4, 65, 3600, 9000)] == ["0 s", "42 s", "1 min", "60 min", "2.5 h"]
    display = TrainingDisplay("auto", quiet=False)
    stage = {"stage": "encoding texts", "of": 2048}
    assert display._prepared(stage | {"step": 128}, 10.0) == "encoding texts: 128 of 2,048"
    assert display._prepared(stage | {"step": 608}, 15.0) == "encoding texts: 608 of 2,048, 15 s left"
    assert display._prepared({"stage": "teacher draws", "step": 8, "of": 64, "left": 3}, 16.0).endswith(", 3 s left")


def test_a_runs_end_is_judged(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def judged(rows: list[dict[str, Any]], hint: str = "") -> str:
        run.metrics.write_text("".join(json.dumps({"minutes": 1.0} | row) + "\n" for row in rows))
        return verdict(run, hint)

    falling = [{"step": 28 * k, "held_out_loss": 1 / k} for k in (1, 2)]
    line = judged(falling, "--init ldm-fast begins from the shipped student")
    assert line.startswith("56 steps, held-out loss still falling (1 to 0.5): not ready; the same command")
    assert line.endswith("; --init ldm-fast begins from the shipped student")
    assert "1 step, too few" in judged([{"step": 1, "loss": 0.5}])
    assert "0 steps, too few" in judged([])
    level = [{"step": 1000 * k, "held_out_loss": 0.5} for k in range(1, 6)]
    assert judged(level) == "5,000 steps, held-out loss level at 0.5"
    assert "by heart" in judged([*level, {"step": 6000, "held_out_loss": 0.6}])
    assert "loss still falling" in judged([{"step": 100 * k, "loss": 5.0 / k} for k in range(1, 20)])
    assert "so few" in judged([{"step": k, "loss": 0.5} for k in range(1, 9)])
    drawn = [{"step": 1000 * k, "loss": 3.0 / k, "held_out_frechet": 100.0 / k, "held_out_sign": 0.5} for k in (1, 2)]
    assert "2,000 steps, distance of what it draws still falling (100 to 50): not done" in judged(drawn)
    worse = judged([*drawn, {"step": 3000, "held_out_frechet": 90.0}])
    assert worse == "3,000 steps, distance of what it draws rising (50 to 90); the model file is the best so far"


def test_rows_of_damaged_metrics(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = "".join(json.dumps({"step": k, "minutes": k / 10, "loss": 0.5, "psnr": 20}) + "\n" for k in range(1, 9))
    odd = '{"step": 3, "minutes": "x", "$a_{": 1, "loss": [1], "b": 1e999, "c": true}\n{"step": 4, "minutes": 1e40}\n'
    run.metrics.write_text(odd)
    assert rows_of(run) == [{"step": 3}, {"step": 4}]
    for data in mutants(rows.encode(), 400, 4):
        run.metrics.write_bytes(data)
        for row in rows_of(run):
            assert all(key.isidentifier() and abs(value) < 1e31 for key, value in row.items())
        assert verdict(run).isprintable()
