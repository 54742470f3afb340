"""Codes that say where what is: a loss that makes a codec's code alike where a frozen net sees alike.

    mean_i relu(1 - m1 - cos(P z_i, f_i))  +  mean_ij relu(|cos(z_i, z_j) - cos(f_i, f_j)| - m2),   i, j places

The first term wants the features to be read off a code linearly, the second their pattern within a picture (VA-VAE,
arXiv:2501.01423, with margins m1 = .5 and m2 = .25). A flow learns faster on such codes. The eyes here are the AlexNet
of LPIPS, whose features the codec's loss has anyway.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.nets.lpips import CHANNELS

POINT_MARGIN, PAIR_MARGIN = 0.5, 0.25
FROM = 1  # the first of the layers whose features count; before it are edges and colours


class Alignment(nn.Module):
    """The loss, a scalar, of codes [B, d, h, w] and LPIPS features of the same pictures, each [B, C, ., .]."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(latent, sum(CHANNELS[FROM:]), 1, bias=False)

    def forward(self, codes: Tensor, features: list[Tensor]) -> Tensor:
        size = codes.shape[-2:]
        seen = torch.cat([F.interpolate(one, size, mode="bilinear") for one in features[FROM:]], 1)
        seen = seen - seen.mean((0, 2, 3), keepdim=True)  # after a ReLU all places are alike at first sight
        points = F.relu(1 - POINT_MARGIN - F.cosine_similarity(self.project(codes).float(), seen)).mean()
        differences = (cosines(codes.float()) - cosines(seen)).abs()
        return points + F.relu(differences - PAIR_MARGIN).mean()


def cosines(x: Tensor) -> Tensor:
    """x [B, C, h, w] -> the cosine of each two of its places, [B, h w, h w]."""
    x = F.normalize(x.flatten(2), dim=1)
    return x.transpose(1, 2) @ x
