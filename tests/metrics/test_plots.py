"""Plots: the densities that they show, and that they are pictures."""

import io
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from genctl.cli.main import execute
from genctl.diffusion.time import training_times
from genctl.metrics.plots import density_of


def test_the_density_shown_is_the_density() -> None:
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    middles, heights = density_of(training_times("logit-normal", uniform, 0.5, 0.8))
    logit = torch.log(middles / (1 - middles))
    wanted = torch.exp(-((logit - 0.5) ** 2) / (2 * 0.8**2)) / (0.8 * math.sqrt(2 * math.pi) * middles * (1 - middles))
    assert torch.allclose(heights, wanted, atol=0.05)
    assert float(heights.mean()) == pytest.approx(1.0)


def test_plots_are_pictures(models: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert execute(["plot", "schedule", "--model", "tiny-ldm", "-o", "a.png"]) == 0
    assert execute(["plot", "schedule", "--set", "path=edm", "--set", "spacing=karras", "-o", "b.png"]) == 0
    first, second = (Image.open(name) for name in ("a.png", "b.png"))
    assert first.size == second.size
    assert first.tobytes() != second.tobytes()
    Path("run").mkdir()
    Path("run/metrics.jsonl").write_text(
        '{"step": 1, "minutes": 0.5, "loss": 2.0, "grad_norm": 1.0}\n'
        '{"step": 2, "minutes": 1, "loss": 1, "grad_norm": 1}\n'
        '{"step": 2, "minutes": 1.0, "held_out_loss": 1.1}\n{"step": 3, "min'
    )
    capsysbinary.readouterr()
    assert execute(["plot", "run", "run", "-o", "-"]) == 0
    assert Image.open(io.BytesIO(capsysbinary.readouterr().out)).width > 500


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["schedule", "--set", "path=xx"], 2, "it can be 'linear'"),
        (["schedule", "--model", "tiny-vae"], 2, "it is no flow"),
        (["schedule", "-o", "a.jpg"], 2, "plots are PNG"),
        (["run", "nowhere"], 3, "no metrics.jsonl"),
    ],
)
def test_errors(models: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    assert execute(["plot", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert not list(Path().glob("*.png"))
