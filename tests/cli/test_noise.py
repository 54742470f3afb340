"""Pictures to the noise that draws them, and back, from the command line."""

import json
from pathlib import Path

import pytest
from helpers import draw_shape
from PIL import Image, ImageChops, ImageStat

from genctl.cli.main import execute


def apart(a: str, b: str) -> float:
    """Mean absolute difference of two pictures, of 255."""
    return sum(ImageStat.Stat(ImageChops.difference(Image.open(a).convert("RGB"), Image.open(b))).mean) / 3


@pytest.fixture
def shapes(models: Path) -> None:
    draw_shape("circle", "red", "plain").save("a.png")
    draw_shape("square", "blue", "plain").save("b.png")


@pytest.mark.usefixtures("shapes")
def test_noise_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["encode", "a.png", "-m", "tiny-rf", "-p", "red", "-o", "n.safetensors"]) == 0
    assert "dB after the round trip" in capsys.readouterr().err
    assert execute(["info", "n.safetensors", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["space"], said["prompt"], said["shape"]) == ("noise", "red", [3, 32, 32])
    assert execute(["decode", "n.safetensors", "-o", "back.png"]) == 0
    assert apart("a.png", "back.png") < 4
    for space in ("code", "noise"):  # a latent model has both
        assert execute(["encode", "a.png", "-m", "tiny-ldm", "--space", space, "-o", f"{space}.safetensors", "-q"]) == 0
        assert execute(["decode", f"{space}.safetensors", "-o", f"{space}.png"]) == 0
    assert apart("code.png", "noise.png") < 4  # the same but for the way to noise and back


@pytest.mark.usefixtures("shapes")
def test_walks_through_noise_end_at_the_pictures() -> None:
    ends = ["a.png", "b.png"]
    assert execute(["interpolate", *ends, "-m", "tiny-rf", "--frames", "3", "--steps", "30", "-o", "walk/"]) == 0
    assert apart("a.png", "walk/0.png") < 4
    assert apart("b.png", "walk/2.png") < 4
    assert execute(["interpolate", *ends, "-m", "tiny-ldm", "--space", "noise", "-p", "red", "-o", "strip.png"]) == 0
    assert Image.open("strip.png").size == (9 * 34 - 2, 32)


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["encode", "a.png", "--space", "noise"], 2, "a vae model has code"),
        (["encode", "a.png", "-m", "tiny-rf", "--space", "code"], 2, "a rf model has noise"),
        (["encode", "a.png", "--space", "nose"], 2, 'did you mean "noise"'),
        (["encode", "a.png", "-m", "tiny-rf", "-p", "rad"], 2, 'did you mean "red"'),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    assert execute([*arguments, "-o", "x.safetensors"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert not Path("x.safetensors").exists()


@pytest.mark.usefixtures("shapes")
def test_noise_of_another_shape_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["encode", "a.png", "-m", "tiny-rf", "-o", "n.safetensors", "-q"]) == 0
    capsys.readouterr()
    assert execute(["decode", "n.safetensors", "-m", "tiny-ldm", "-o", "x.png"]) == 3
    assert "noise of shape [3, 32, 32], where the model wants [2, 8, 8]" in capsys.readouterr().err
