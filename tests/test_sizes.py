"""Sizes as people write them, and pictures that are not square from the folder to the file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import flow_request, shape_folder
from PIL import Image

from genctl.cli.main import execute
from genctl.config import build, to_dict
from genctl.errors import UsageError
from genctl.families.flow.options import FlowOptions
from genctl.families.rf import RF, RFConfig
from genctl.families.saved import load
from genctl.nets.dit import DiTConfig
from genctl.nets.rotary import rotary
from genctl.nets.unet import UNetConfig
from genctl.sizes import Size


@pytest.mark.parametrize(("said", "size"), [(128, (128, 128)), ("128", (128, 128)), ("192x128", (192, 128)),
                                            (" 8X4 ", (8, 4)), ([3, 5], (3, 5))])  # fmt: skip
def test_sizes(said: object, size: tuple[int, int]) -> None:
    assert Size.of(said).wide == size
    assert Size.of(Size.of(said).plain) == Size.of(said)
    assert build(RFConfig, {"pixels": said}).pixels.wide == size


@pytest.mark.parametrize("said", [0, -1, "x", "12x", "1x2x3", 1.5, True, [1], [1, 2.0], "99999999x1", None, "1e3"])
def test_what_is_no_size_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match="wants"):
        Size.of(said)
    with pytest.raises(UsageError, match=r"pixels"):
        build(RFConfig, {"pixels": said}, "model.")


def test_a_square_is_recorded_as_its_side() -> None:
    assert to_dict(RFConfig(64))["pixels"] == 64
    assert to_dict(RFConfig("64x32"))["pixels"] == "64x32"
    with pytest.raises(UsageError, match=r"50x30 pixels do not divide by 8.*48x32 would"):
        RF(RFConfig("50x30", "none"))


@pytest.mark.parametrize("family", ["vae", "rf", "ldm"])
def test_training_and_drawing_that_are_not_square(
    family: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(shape_folder(Path("data"), 1))
    more = {"ldm": ["--set", "model.codec=tiny-vae"], "rf": ["--set", "model.condition=none"]}.get(family, [])
    command = ["train", data, "--model", family, "--preset", "tiny", "--steps", "2", "--set", "model.pixels=48x32"]
    assert execute([*command, *more, "-o", "runs/mine", "-q"]) == 0
    assert Image.open("runs/mine/samples/00000002.png").width > 48
    model = load("runs/mine")
    assert model.pixels == Size(48, 32)
    if family == "vae":
        assert model.encode(torch.zeros(1, 3, 32, 48)).shape[-2:] == (8, 12)
        return
    assert execute(["sample", "-m", "runs/mine", "--steps", "1", "-s", "1", "-o", "a.png"]) == 0
    assert Image.open("a.png").size == (48, 32)
    assert execute(["sample", "-m", "runs/mine", "--size", "32", "--steps", "1", "-s", "1", "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (32, 32)
    assert "trained on pictures of 48x32; at 32x32" in capsys.readouterr().err


def test_places_of_another_size_lie_within_the_trained_ones() -> None:
    own, wider = rotary((4, 4), 16), rotary((4, 8), 16, trained=(4, 4))
    assert torch.equal(rotary((4, 4), 16, trained=(4, 4)), own)
    torch.testing.assert_close(wider.view(2, 4, 8, 16)[:, :, ::2], own.view(2, 4, 4, 16))  # every second place is one


@pytest.mark.parametrize("architecture", ["unet", "dit"])
def test_a_size_given_that_is_the_models_own_changes_nothing(architecture: str) -> None:
    torch.manual_seed(0)
    unet, dit = UNetConfig((16, 32), 1, (False, True), head=16), DiTConfig(32, 2, 2, 4)
    model = RF(RFConfig(32, "none", architecture=architecture, unet=unet, dit=dit)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    request = flow_request([1, 2], steps=2)
    assert FlowOptions.sides(model.document()) == 4
    assert torch.equal(model.drawn(request), model.drawn(replace(request, size=Size(32, 32))))
    other = model.drawn(replace(request, size=Size(40, 24)))
    assert other.shape == (2, 3, 24, 40)
    alone = model.drawn(replace(request, seeds=[2], size=Size(40, 24)))
    assert torch.equal(other[1:], alone)  # a picture of any size depends on its seed alone
