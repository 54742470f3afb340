"""How good what a model draws is by now, for families whose loss does not say it: a distance to the real pictures at
every save, and how varied the pictures are.

    frechet     Frechet distance of COUNT drawn pictures to the training ones, in EfficientNet-Lite0's features
    diversity   mean distance of two drawn pictures in those features, over that of two real ones

The model file of a run is the one with the least distance so far; its state goes on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.data.pictures import Pictures
from genctl.families.base import Family
from genctl.metrics.distance import frechet
from genctl.metrics.features import extractor, features_of, real_features
from genctl.metrics.samples import draw_like

SCORE = "frechet"  # the figure that decides; lower is better
COUNT = 256  # pictures that are drawn for it
REAL = 2048  # real ones at most
LITTLE, NOTHING = 0.5, 0.2  # diversity below which a person should know


class Score:
    """Called with the model, averaged and in evaluation mode: its figures, the distance first."""

    def __init__(self, pictures: Pictures, count: int = COUNT) -> None:
        self.pictures, self.count = pictures.split(False).spread(REAL), count
        self.real: Tensor | None = None

    @torch.no_grad()
    def __call__(self, model: Family) -> dict[str, float]:
        net = extractor(model.device)
        if self.real is None:
            self.real = real_features(net, self.pictures)
        made = features_of(net, draw_like(model, self.pictures, self.count, None, lambda done, total: None))
        return {
            SCORE: round(frechet(made, self.real), 2),
            "diversity": round(spread(made) / max(spread(self.real), 1e-9), 3),
        }


def spread(features: Tensor) -> float:
    """The mean distance of two different rows of features [N, D]."""
    table = torch.cdist(features.double(), features.double())
    return float(table.sum() / (len(features) * (len(features) - 1)))


def warning(diversity: float) -> str:
    """A warning in words, or nothing."""
    if diversity < NOTHING:
        return f"the pictures are nearly all alike (diversity {diversity:.2f} of the real ones'): the run has collapsed"
    if diversity < LITTLE:
        return f"the pictures are little varied (diversity {diversity:.2f} of the real ones'): modes may be missing"
    return ""
