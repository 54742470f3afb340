"""Features of many pictures by the shipped extractor, cached for real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from genctl import files, hub
from genctl.data import cache
from genctl.data.pictures import Pictures
from genctl.nets.efficientnet import EfficientNetLite0
from genctl.nets.fast import channels_last

Report = Callable[[int, int], None]
TOGETHER = 8  # pictures that go through the network at once: what fits a CPU's cache (62 a second; 16: 49, 32: 37)
BLOCK = 256  # pictures whose features are cached together
EXTRACTOR = "efficientnet_lite0"


def extractor(device: torch.device) -> EfficientNetLite0:
    """The shipped EfficientNet-Lite0, frozen, in float32."""
    tensors, _ = hub.load_part(EXTRACTOR)
    net = EfficientNetLite0()
    net.load_state_dict(tensors, assign=True)
    return channels_last(net.requires_grad_(False).eval().to(device))


@torch.inference_mode()
def features_of(net: EfficientNetLite0, pictures: Tensor, pixels: int = 64) -> Tensor:
    """Features [N, 1280] of float pictures [N, 3, H, W], brought to `pixels` first (area), so that sharpness beyond
    that does not count."""
    parts = []
    for chunk in pictures.split(TOGETHER):
        if chunk.shape[-1] > pixels:
            chunk = torch.nn.functional.interpolate(chunk, size=(pixels, pixels), mode="area")
        parts.append(net(chunk.to(next(net.parameters()).device)).cpu())
    return torch.cat(parts)


def real_features(
    net: EfficientNetLite0, pictures: Pictures, pixels: int = 64, report: Report = lambda done, total: None
) -> Tensor:
    """Features of a folder's pictures, cached block by block under their own pixels and the extractor's hash: other
    captions need no new ones, and what was made before an interruption is kept."""
    extracted_by = files.file_sha256(hub.resolve(EXTRACTOR, kind="part"))
    parts: list[Tensor] = []
    for block in pictures.pixels.split(BLOCK):
        content = hashlib.sha256(files.tensor_bytes(block.contiguous())).hexdigest()

        def make(block: Tensor = block) -> dict[str, Tensor]:
            return {"features": features_of(net, block.float() / 127.5 - 1, pixels)}

        parts.append(cache.cached("features", [2, extracted_by, content, list(block.shape), pixels], make)["features"])
        report(sum(map(len, parts)), len(pictures))
    return torch.cat(parts)
