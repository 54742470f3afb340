"""I3D: padding as its authors' library has it, normalisation folded, and the distance of logits."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from genctl import hub
from genctl.cli.main import execute
from genctl.errors import ModelError
from genctl.files import save_tensors
from genctl.metrics import fvd
from genctl.nets.i3d import I3D, MIXED, pooled, prepared, same

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "weights"))


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (7, 2)])
def test_padding_gives_a_place_for_each_step(size: int, kernel: int, stride: int) -> None:
    x = torch.randn(1, 2, size, size, size)
    padded = same(x, (kernel,) * 3, (stride,) * 3)
    places = (padded.shape[2] - kernel) // stride + 1
    assert places == math.ceil(size / stride)
    before = max((places - 1) * stride + kernel - size, 0) // 2  # the odd one lies at the end
    assert torch.equal(padded[:, :, before : before + size, before : before + size, before : before + size], x)
    slow = pooled(x, (kernel,) * 3, (stride,) * 3)
    first = [max(0, 0 - before), min(size, kernel - before)]
    assert torch.allclose(
        slow[:, :, 0, 0, 0], x[:, :, first[0] : first[1], first[0] : first[1], first[0] : first[1]].amax((2, 3, 4))
    )


def test_normalisation_folded_into_a_convolution() -> None:
    pytest.importorskip("numpy", reason="the converter reads numpy arrays")
    from i3d import folded

    torch.manual_seed(0)
    conv, norm = nn.Conv3d(3, 5, 3, bias=False), nn.BatchNorm3d(5, eps=1e-3)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.bias)
    kernels = {
        "Conv_0": {"kernel": conv.weight.detach().permute(2, 3, 4, 1, 0).numpy()},
        "BatchNorm_0": {"bias": norm.bias.detach().numpy()},
    }
    averages = {"BatchNorm_0": {"mean": norm.running_mean.numpy(), "var": norm.running_var.numpy()}}
    weight, bias = folded(kernels, averages)
    x = torch.randn(1, 3, 4, 6, 6)
    assert torch.allclose(nn.functional.conv3d(x, weight, bias), norm.eval()(conv(x)), atol=1e-5)


def test_a_network_of_the_published_size() -> None:
    with torch.device("meta"):
        net = I3D()
    assert sum(p.numel() for p in net.parameters()) == 12_689_984
    assert [net.mixed[name].out for name in MIXED] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    assert prepared(torch.zeros(2, 3, 5, 64, 48)).shape == (2, 3, 9, 224, 224)
    with pytest.raises(ValueError, match="9 frames"):
        net(torch.zeros(1, 3, 4, 224, 224, device="meta"))
    assert net(torch.zeros(2, 3, 17, 224, 224, device="meta")).shape == (2, 400)


def test_the_distance_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the network: the distance of two Gaussians is that of their means and deviations."""
    torch.manual_seed(0)
    monkeypatch.setattr(fvd, "sha256", lambda: "x")
    monkeypatch.setattr(fvd, "logits", lambda clips, device, report: clips.flatten(1)[:, :4].double().float())
    unit = 32 / 127.5
    real = (127.5 + 32 * torch.randn(4000, 1, 2, 2, 2)).round().clamp(0, 255).to(torch.uint8)
    made = unit * (2 * torch.randn(4000, 1, 2, 2, 2) + 3)
    monkeypatch.setattr(fvd, "REAL", 4000)
    found = fvd.fvd(made, real, ["x"], torch.device("cpu"), lambda done, total: None)
    assert found["fvd"] == pytest.approx(unit**2 * (4 * 9 + 4 * (1 - 2) ** 2), abs=0.15)
    same_again = real.float() / 127.5 - 1
    assert fvd.fvd(same_again, real, ["x"], torch.device("cpu"), lambda done, total: None)["fvd"] == pytest.approx(
        0, abs=0.1
    )


def test_a_part_is_found_in_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENCTL_MODELS", str(tmp_path))
    assert not fvd.known()
    document = {"format": 1, "kind": "part", "part": "i3d", "licence": "Apache-2.0"}
    save_tensors(tmp_path / "i3d.safetensors", {"a": torch.ones(2)}, {"genctl": json.dumps(document)})
    assert hub.load_part("i3d")[0]["a"].tolist() == [1, 1]
    with pytest.raises(ModelError, match="not the tensors of I3D"):
        fvd.known()
    os.mkfifo(tmp_path / "pipe.safetensors")  # which nobody writes to
    assert execute(["models"]) == 0
    assert "i3d" not in capsys.readouterr().out  # it is no model
    save_tensors(tmp_path / "minilm.safetensors", {"a": torch.ones(2)}, {"genctl": json.dumps(document)})
    assert hub.resolve("minilm", "part") == hub.weights_folder() / "minilm.safetensors"  # a shipped one stays itself
