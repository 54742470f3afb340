"""Frechet video distance (arXiv:1812.01717): of the logits that I3D gives clips, whose weights are a part that is made
once by examples/weights/i3d.py and is not shipped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genctl import files, hub
from genctl.data import cache
from genctl.errors import ModelError
from genctl.metrics.distance import frechet
from genctl.metrics.samples import Report
from genctl.nets.i3d import I3D, prepared

PART = "i3d"
REAL = 256  # real clips at most: a second each on a core
HOW = "fvd needs I3D's weights, made once by examples/weights/i3d.py"


def known() -> bool:
    """Whether the part is there. Raises ModelError for a file of its name that is another network's."""
    return PART in dict(hub.known("part")) and bool(sha256())


def sha256() -> str:
    """Of the part's tensors. Raises ModelError where they are not I3D's."""
    path = hub.resolve(PART, "part")
    header = files.read_header(path)
    with torch.device("meta"):
        wanted = {key: tuple(tensor.shape) for key, tensor in I3D().state_dict().items()}
    if {key: tuple(about.shape) for key, about in header.tensors.items()} != wanted:
        raise ModelError(f"{path}: not the tensors of I3D; make it anew by examples/weights/i3d.py")
    return hub.weights_sha256(path, header)


@torch.inference_mode()
def logits(clips: Tensor, device: torch.device, report: Report = lambda done, total: None) -> Tensor:
    """[N, 400] of clips [N, 3, T, H, W] in [-1, 1]."""
    net = I3D().eval()
    net.load_state_dict(hub.load_part(PART)[0], assign=True)
    net.to(device)
    found = []
    for done, clip in enumerate(clips.split(1)):
        report(done, len(clips))
        found.append(net(prepared(clip.to(device))).cpu())
    return torch.cat(found)


def fvd(made: Tensor, real: Tensor, key: list[Any], device: torch.device, report: Report) -> dict[str, Any]:
    """Of drawn clips in [-1, 1] to real ones, uint8 [N, 3, T, H, W] (REAL of them, spread over all), whose logits are
    cached under `key`."""
    rows = torch.linspace(0, len(real) - 1, min(REAL, len(real))).round().long()
    kept = cache.cached(
        "fvd",
        [2, sha256(), *key, len(rows)],
        lambda: {"logits": logits(real[rows].float() / 127.5 - 1, device, report)},
    )["logits"]
    ours = logits(made, device, report)
    return {"fvd": round(frechet(ours, kept), 1), "real": len(rows), "count": len(ours)}
