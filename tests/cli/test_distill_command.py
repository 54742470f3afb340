"""genctl distill as people type it."""

import json
from pathlib import Path
from typing import get_args

import pytest
from helpers import shape_folder

from genctl import files
from genctl.cli.main import execute
from genctl.families.distill.settings import WITHOUT_PICTURES, Method, default_method
from genctl.families.distill.student import METHODS

SHORT = ["--set", "train.batch=4", "--set", "distill.stages=2", "--set", "distill.teacher_steps=2", "-q"]


def test_the_command_line_knows_every_method() -> None:
    assert tuple(METHODS) == get_args(Method)
    assert {name for name, lesson in METHODS.items() if not lesson.needs_pictures} == set(WITHOUT_PICTURES)


@pytest.mark.parametrize(
    ("target", "spacing", "method"),
    [("velocity", "uniform", "progressive"), ("x", "uniform", "dmd"), ("F", "karras", "consistency")],
)
def test_the_default_is_a_method_that_the_model_can_learn_by(target: str, spacing: str, method: str) -> None:
    assert default_method({"diffusion": {"target": target}, "sampling": {"spacing": spacing}}) == method
    assert target in METHODS[method].targets


def test_a_student_from_the_command_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    command = ["distill", "--model", "tiny-ldm", "--data", data, "--steps", "2", "--updates", "3", "-o", "runs/fast"]
    command += SHORT
    assert execute(command) == 0
    assert capsys.readouterr().out.strip() == "runs/fast/model.safetensors"
    said = files.read_header(Path("runs/fast/model.safetensors")).document
    assert said["teacher"]["name"] == "tiny-ldm"
    assert said["teacher"]["method"] == "progressive"
    assert said["config"]["sampling"]["steps"] == 2
    assert execute(["sample", "-m", "runs/fast", "-p", "red circle", "--cfg", "3", "-s", "1", "-o", "a.png", "-q"]) == 0
    beyond = ["sample", "-m", "runs/fast", "-p", "red circle", "--cfg", "12", "-s", "1", "-o", "b.png"]
    assert execute(beyond) == 0
    assert "distilled for --cfg 1 to 8; 12 is a guess" in capsys.readouterr().err
    assert execute(["info", "a.png", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["solver"], drawn["steps"], drawn["guidance_scale"]) == ("euler", 2, 3)
    assert execute(["eval", "runs/fast", data, "--limit", "2", "--steps", "1", "-q"]) == 0, capsys.readouterr()
    assert execute([*command[:-1], "--updates", "5"]) == 0  # more of the same goes on
    assert files.read_header(Path("runs/fast/model.safetensors")).document["training"]["steps"] == 5


@pytest.mark.parametrize("method", ["meanflow", "dmd"])
def test_without_data_the_teacher_draws(models: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    """From the classes of its configuration, or the prompts that training wrote into its file."""
    command = ["distill", "--updates", "2", "--method", method, *SHORT]
    command += ["--pairs", "9"] * (method == "meanflow")
    assert execute([*command, "--model", "tiny-rf", "-o", "runs/rf-fast"]) == 0
    assert execute(["sample", "-m", "runs/rf-fast", "--class", "red", "-s", "1", "-o", "red.png", "-q"]) == 0
    data = shape_folder(Path("data"), 1)
    tiny = ["--set", "model.codec=tiny-vae", "--set", "model.net.width=32", "--set", "model.net.depth=1"]
    tiny += ["--set", "model.net.heads=2", "--set", "train.batch=4", "--set", "model.pixels=32"]
    assert execute(["train", str(data), "--steps", "2", "-o", "runs/mine", *tiny, "-q"]) == 0
    said = files.read_header(Path("runs/mine/model.safetensors")).document
    assert "red circle, plain style" in said["prompts"]
    assert execute([*command, "--model", "runs/mine", "-o", "runs/mine-fast"]) == 0
    made = files.read_header(Path("runs/mine-fast/model.safetensors")).document
    assert made["prompts"] == said["prompts"]
    assert made["data"]["fingerprint"] == said["data"]["fingerprint"]
    assert made["teacher"]["pairs"] == (9 if method == "meanflow" else None)
    finish = ["distill", "--model", "runs/mine", "--method", "dmd", "--updates", "2", *SHORT]
    assert execute([*finish, "--init", "runs/mine-fast", "-o", "runs/finished"]) == 0
    assert files.read_header(Path("runs/finished/model.safetensors")).document["training"]["init"] == "mine-fast"
    capsys.readouterr()
    for arguments, wanted in (
        (["--model", "tiny-ldm", "--init", "runs/mine-fast", "--prompts", "p.txt"], "is no student of tiny-ldm"),
        (["--model", "runs/mine-fast"], "is a student itself; distill its teacher mine"),
    ):
        assert execute(["distill", *arguments, "-o", "runs/x"]) == 2
        assert wanted in capsys.readouterr().err
    for command in (
        ["sample", "-m", "runs/mine-fast", "-p", "red circle", "--negative", "blue"],
        ["encode", "red.png", "-m", "runs/mine-fast", "--space", "noise"],
        ["encode", "red.png", "-m", "runs/rf-fast"],
        ["eval", "runs/rf-fast", "data", "--bpd"],
    ):
        assert execute([*command, "-q"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)


def test_prompts_from_a_file(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text("red circle\n\nblue square\n")
    command = ["distill", "--model", "tiny-ldm", "--method", "dmd", "--updates", "2", "-o", "runs/a", *SHORT]
    assert execute([*command, "--prompts", "prompts.txt"]) == 0
    capsys.readouterr()
    Path("empty.txt").write_text("\n")
    for name in ("empty.txt", "nowhere.txt"):
        assert execute([*command[: -len(SHORT) - 1], "runs/b", "--prompts", name]) == 3
        assert name in capsys.readouterr().err
        assert not Path("runs/b").exists()


def test_pictures_without_captions_do_not_hide_the_others_prompts(models: Path) -> None:
    data = shape_folder(Path("data"), 1)
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["style"] = ""
    rows[0]["text"], rows[0]["tags"] = "", []
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny = ["--set", "model.codec=tiny-vae", "--set", "model.net.width=32", "--set", "model.net.depth=1"]
    tiny += ["--set", "model.net.heads=2", "--set", "train.batch=4", "--set", "model.pixels=32"]
    assert execute(["train", str(data), "--steps", "1", "-o", "runs/mine", *tiny, "-q"]) == 0
    prompts = files.read_header(Path("runs/mine/model.safetensors")).document["prompts"]
    assert "" not in prompts
    assert "red square" in prompts


def test_a_model_of_few_steps_without_a_teacher(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    command = ["train", data, "--model", "rf", "--preset", "tiny", "--set", "train.batch=4", "-o", "runs/few", "-q"]
    command += [
        "--set",
        "model.unet.channels=[16,32]",
        "--set",
        "model.unet.head=16",
        "--set",
        "model.sampling.steps=1",
    ]
    assert execute([*command, "--steps", "2", "--set", 'model.unet.scalars=["guidance"]']) == 2
    assert 'the network\'s scalars are [\'guidance\']; ["guidance","end"] trains' in capsys.readouterr().err
    assert not Path("runs/few").exists()
    command += ["--set", 'model.unet.scalars=["guidance","end"]']
    assert execute([*command, "--steps", "2"]) == 0, capsys.readouterr()
    assert execute([*command, "--steps", "3"]) == 0  # goes on
    assert execute(["sample", "-m", "runs/few", "-p", "red circle", "--cfg", "3", "-s", "1", "-o", "a.png", "-q"]) == 0
    capsys.readouterr()
    assert execute(["info", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 1
    assert execute(["distill", "--model", "runs/few", "--data", data, "-o", "runs/x"]) == 2
    assert "trained for few steps already" in capsys.readouterr().err


def test_what_cannot_be_distilled(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    for arguments, said in (
        (["--model", "tiny-vae", "--data", data], "only flows can be distilled"),
        (["--model", "tiny-ldm"], "give --data DIR or --prompts FILE"),
        (["--model", "tiny-ldm", "--data", data, "--method", "consistence"], 'did you mean "consistency"'),
        (["--model", "tiny-ldm", "--data", data, "--updates", "1", "--set", "model.pixels=3"], "--set section"),
        (["--model", "tiny-rf", "--set", "data.flip=true"], "--set section"),
        (["--model", "tiny-rf", "--method", "dmd", "--pairs", "9"], "--pairs has no effect"),
        (["--model", "tiny-rf", "--minutes", "0"], "say how long"),
        (["--model", "tiny-rf", "--minutes", "1", "--updates", "1"], "--minutes or --updates, not both"),
        (["--model", "tiny-rf", "--set", "distill.stages=0"], "distill.stages is 0"),
        (["--model", "tiny-rf", "--prompts", "asked.txt"], "asked.txt: rot: not one of green, red"),
    ):
        Path("asked.txt").write_text("red\nrot\n")
        assert execute(["distill", *arguments, "-o", "runs/x"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert not Path("runs/x").exists()
