"""genctl distill as people type it."""

import json
from pathlib import Path

import pytest
from helpers import shape_folder

from genctl import files
from genctl.cli import shared
from genctl.cli.main import execute
from genctl.families.distill import METHODS


def test_the_command_line_knows_every_method() -> None:
    assert tuple(METHODS) == shared.METHODS


def test_a_student_from_the_command_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    command = ["distill", "--model", "tiny-ldm", "--data", data, "--steps", "2", "--updates", "3", "-o", "runs/fast"]
    command += ["--set", "train.batch=4", "--set", "distill.stages=2", "-q"]
    assert execute(command) == 0
    assert capsys.readouterr().out.strip() == "runs/fast/model.safetensors"
    said = files.read_header(Path("runs/fast/model.safetensors")).document
    assert said["teacher"]["name"] == "tiny-ldm"
    assert said["teacher"]["method"] == "consistency"
    assert said["config"]["sampling"]["steps"] == 2
    assert execute(["sample", "-m", "runs/fast", "-p", "red circle", "--cfg", "3", "-s", "1", "-o", "a.png", "-q"]) == 0
    capsys.readouterr()
    assert execute(["info", "a.png", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["solver"], drawn["steps"], drawn["guidance_scale"]) == ("consistency", 2, 3)
    assert execute([*command[:-1], "--updates", "5"]) == 0  # more of the same goes on
    assert files.read_header(Path("runs/fast/model.safetensors")).document["training"]["steps"] == 5


def test_what_cannot_be_distilled(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(shape_folder(Path("data"), 1))
    for arguments, said in (
        (["--model", "tiny-vae", "--data", data], "only flows can be distilled"),
        (["--model", "tiny-ldm"], "--data: give the pictures"),
        (["--model", "tiny-ldm", "--data", data, "--method", "consistence"], 'did you mean "consistency"'),
        (["--model", "tiny-ldm", "--data", data, "--updates", "1", "--set", "model.pixels=3"], "--set section"),
    ):
        assert execute(["distill", *arguments, "-o", "runs/x"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert not Path("runs/x").exists()
