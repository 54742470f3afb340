"""Bits a dimension against a density that is known: Gaussian pixels."""

import math
from pathlib import Path

import pytest
import torch
from helpers import shape_folder
from torch import Tensor, nn

from genctl.data.pictures import DataConfig, Pictures, load
from genctl.errors import UsageError
from genctl.families.flow.settings import DiffusionConfig
from genctl.families.rf import RF, RFConfig
from genctl.families.saved import load as load_model
from genctl.metrics.bits import bits
from genctl.nets.unet import UNetConfig
from genctl.rng import generator

MEAN, STD, SHARED = 0.2, 0.5, 1.0


class GaussianNet(nn.Module):
    """The exact data guess for pixels ~ N(MEAN, STD^2), on the linear path; `error` makes it a worse one."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.error = error

    def forward(self, x_t: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        t = t[:, None, None, None]
        a, b = 1 - t, t
        gain = a * STD**2 / ((a * STD) ** 2 + b**2)
        return MEAN + gain * (x_t - a * MEAN) + self.error * t


def gaussian_flow(error: float = 0.0) -> RF:
    unet = UNetConfig((16,), 1, (False,), patch=1)
    model = RF(RFConfig(16, "none", unet=unet, diffusion=DiffusionConfig(target="x")))
    model.net = GaussianNet(error)
    return model


@pytest.fixture
def shapes(tmp_path: Path) -> Pictures:
    return load(shape_folder(tmp_path / "data", 1), 16, DataConfig())


def test_bits_of_gaussian_pixels(shapes: Pictures) -> None:
    got = bits(gaussian_flow(), shapes, most=2, dequantisations=2, steps=32)
    held = shapes.split(True)
    wanted = []
    for row in torch.randperm(len(held), generator=generator("bits"))[:2].tolist():
        noise = torch.rand(2, 3, 16, 16, generator=generator("dequantise", row))
        x = (held.pixels[row].float() + noise) / 128 - 1
        nats = (x - MEAN).square() / (2 * STD**2) + math.log(STD) + math.log(2 * math.pi) / 2
        wanted.append(nats.mean() / math.log(2) + 7)  # log2(128) for the scale
    assert got["ode"] == pytest.approx(float(torch.stack(wanted).mean()), abs=2e-3)
    assert got["bound"] == pytest.approx(got["ode"], abs=0.1)  # tight for the optimal denoiser, but for its own draws
    levels = got["bound_by_log_snr"]
    assert list(levels) == ["13 to 6.5", "6.5 to 0", "0 to -6.5", "-6.5 to -13"]
    assert levels["-6.5 to -13"] < 0.01 < levels["0 to -6.5"] < levels["6.5 to 0"]  # |z - guess|^2 falls with the noise
    assert (got["count"], got["held_out"], got["dequantisations"]) == (2, True, 2)


class RowsNet(GaussianNet):
    """The exact data guess where the pixels of a row share a part: x = MEAN + STD e + SHARED r, one r a row."""

    def forward(self, x_t: Tensor, t: Tensor, *conditions: Tensor) -> Tensor:
        a, b = (part[:, None, None, None] for part in (1 - t, t))
        rest = x_t - a * MEAN
        common = rest.mean(3, keepdim=True)
        alone, together = STD**2, STD**2 + x_t.shape[3] * SHARED**2  # variances of what differs and of what is shared
        return (
            MEAN
            + a * alone / (a**2 * alone + b**2) * (rest - common)
            + a * together / (a**2 * together + b**2) * common
        )


def test_bits_of_pixels_that_depend_on_each_other(shapes: Pictures) -> None:
    """One probe a draw estimates a divergence whose off-diagonal parts it also sees."""
    model = gaussian_flow()
    model.net = RowsNet()
    got = bits(model, shapes, most=1, dequantisations=12, steps=32)
    held = shapes.split(True)
    row = int(torch.randperm(len(held), generator=generator("bits"))[0])
    noise = torch.rand(12, 3, 16, 16, generator=generator("dequantise", row))
    rest = (held.pixels[row].float() + noise) / 128 - 1 - MEAN
    common, together = rest.mean(3, keepdim=True), STD**2 + 16 * SHARED**2
    nats = (rest - common).square() / (2 * STD**2) + common.square() / (2 * together) + math.log(2 * math.pi) / 2
    logs = (15 * math.log(STD) + math.log(together) / 2) / 16
    assert got["ode"] == pytest.approx(float(nats.mean() + logs) / math.log(2) + 7, abs=0.04)
    assert got["bound"] == pytest.approx(got["ode"], abs=0.1)


def test_a_worse_denoiser_has_a_worse_bound(shapes: Pictures) -> None:
    right, wrong = (bits(gaussian_flow(error), shapes, most=1, dequantisations=1, steps=16) for error in (0.0, -0.3))
    assert wrong["bound"] > right["bound"] + 0.1  # its guesses are darker, the pictures mostly white


def test_latent_models_are_refused(models: Path, shapes: Pictures) -> None:
    with pytest.raises(UsageError, match="gives pictures no density"):
        bits(load_model("tiny-ldm"), shapes, most=1)


def test_the_unet_has_a_likelihood(shapes: Pictures) -> None:
    torch.manual_seed(0)
    model = RF(RF.fitted(RFConfig(16, "class", unet=UNetConfig((16, 32), 1, (False, True), head=16)), shapes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    got = bits(model.eval(), shapes, most=1, dequantisations=2, steps=4)
    assert math.isfinite(got["ode"])
    assert math.isfinite(got["bound"])


@pytest.mark.parametrize(
    ("path", "target"), [("cosine", "noise"), ("linear", "score"), ("vp", "velocity"), ("edm", "F")]
)
def test_every_kind_of_flow_has_finite_bits(shapes: Pictures, path: str, target: str) -> None:
    torch.manual_seed(0)
    diffusion = DiffusionConfig(path=path, target=target)  # type: ignore[arg-type]
    model = RF(RFConfig(16, "none", unet=UNetConfig((16,), 1, (False,), patch=2), diffusion=diffusion))
    got = bits(model.eval(), shapes, most=1, dequantisations=1, steps=6)
    assert math.isfinite(got["ode"])
    assert math.isfinite(got["bound"])
    ranges = list(got["bound_by_log_snr"])
    assert ranges[-1].endswith({"linear": "-13", "cosine": "-12.9", "vp": "-10", "edm": "-8.76"}[path])
    assert path == "vp" or ranges[0].startswith("13")
