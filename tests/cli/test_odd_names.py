"""Folders and files whose names are no UTF-8: read, trained on, written and named on a strict terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import draw_shape

ODD = os.fsdecode(b"gr\xfcn")
STRICT = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}


def run(*arguments: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", "genctl", *arguments], env=STRICT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.slow
def test_names_of_another_encoding_all_the_way(models: Path, tmp_path: Path) -> None:
    for name in (ODD, "rot"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(3):
            draw_shape("circle", "red", "plain", shift=index).save(tmp_path / "data" / name / f"{index}.png")
    train = ["train", "data", "--model", "rf", "--preset", "tiny", "--threads", "1", "-o", f"run-{ODD}",
             "--set", "train.batch=2", "--set", "model.condition=class", "--progress", "none"]  # fmt: skip
    assert run(*train, "--steps", "2") == b"run-gr\xfcn/model.safetensors\n"
    drawn = run("sample", "--model", f"run-{ODD}", "--class", "grün", "--steps", "1", "-o", f"{ODD}.png")
    assert drawn == b"gr\xfcn.png\n"
    first, second = run("info", f"{ODD}.png", f"run-{ODD}", "--json").splitlines()
    assert os.fsencode(json.loads(first)["path"]) == b"gr\xfcn.png"
    assert json.loads(first)["class"] == "grün"
    assert json.loads(second)["config"]["classes"] == ["grün", "rot"]
