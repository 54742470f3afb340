"""Features of many pictures by the shipped extractor, cached for real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl import files, hub
from genctl.data import cache
from genctl.data.pictures import Pictures
from genctl.nets.efficientnet import EfficientNetLite0
from genctl.nets.fast import channels_last

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
    for chunk in pictures.split(16):
        if chunk.shape[-1] > pixels:
            chunk = torch.nn.functional.interpolate(chunk, size=(pixels, pixels), mode="area")
        parts.append(net(chunk.to(next(net.parameters()).device)).cpu())
    return torch.cat(parts)


def real_features(net: EfficientNetLite0, pictures: Pictures, pixels: int = 64) -> Tensor:
    """Features of a folder's pictures, cached under its fingerprint and the extractor's hash."""
    key = [1, files.file_sha256(hub.resolve(EXTRACTOR, kind="part")), pictures.fingerprint, pixels]

    def make() -> dict[str, Tensor]:
        parts = [features_of(net, chunk.float() / 127.5 - 1, pixels) for chunk in pictures.pixels.split(256)]
        return {"features": torch.cat(parts)}

    return cache.cached("features", key, make)["features"]
