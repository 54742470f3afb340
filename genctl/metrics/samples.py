"""What many samples say of a generator: how far their features lie from real ones, and whether they are copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genctl.data.pictures import Pictures
from genctl.errors import InputError
from genctl.families.base import Family, Request
from genctl.families.conditions.captions import prompt_of
from genctl.metrics import readings
from genctl.metrics.distance import frechet, kid, precision_recall
from genctl.metrics.features import EXTRACTOR, extractor, features_of, real_features
from genctl.options import Options
from genctl.rng import generator

Report = Callable[[int, int], None]
COPY = 1 / 3  # nearest over second nearest distance below which a sample is a copy (as in arXiv:2310.02664)


def draw(
    model: Family, prompts: list[str], options: Options | None = None, report: Report = lambda done, total: None,
    whole: bool = False,
) -> Tensor:  # fmt: skip
    """One picture [N, 3, H, W] for each prompt, of a clip its middle frame; the i-th has seed i."""
    parts = []
    for part in model.sample(Request(seeds=list(range(len(prompts))), conditions=list(prompts), options=options)):
        if part.final:
            made = part.pictures.cpu()
            parts.append(made if whole or made.ndim == 4 else made[:, :, made.shape[2] // 2])
            report(part.start + len(made), len(prompts))
    return torch.cat(parts)


def draw_like(model: Family, pictures: Pictures, count: int, options: Options | None, report: Report) -> Tensor:
    """`count` pictures asked for as `pictures` are described, spread over them by a fixed shuffle."""
    order = torch.randperm(len(pictures), generator=generator("draw like")).tolist()
    entries = [pictures.entries[order[index % len(order)]] for index in range(count)]
    return draw(model, [prompt_of(model, entry) for entry in entries], options, report)


def draw_clips(model: Family, clips: Pictures, most: int, options: Options | None, report: Report) -> Tensor:
    """At most so many clips [N, 3, T, H, W], asked for as `clips` are described, spread over them."""
    prompts = [prompt_of(model, entry) for entry in clips.spread(most).entries]
    return draw(model, prompts, options, report, whole=True)


def distances(
    model: Family, made: Tensor, pictures: Pictures, report: Report = lambda done, total: None
) -> dict[str, Any]:
    """Frechet and kernel distance (x 1000) of samples to the training pictures, with precision and recall; `floor` has
    what held-out pictures score against them, as many as were drawn; where fewer are held out, `as_few` has what so
    many of the drawn ones score. Under the name of the extractor: no figure is comparable with Inception's."""
    net = extractor(model.device)
    every = real_features(net, pictures, report=report)  # of both parts: retrieval needs them too, and they are cached
    held_out = torch.tensor([entry.held_out for entry in pictures.entries])
    real, held = every[~held_out], every[held_out]
    drawn = features_of(net, made)
    figures: dict[str, Any] = {"extractor": EXTRACTOR} | against(drawn, real)
    if len(held) > 3:
        count = min(len(held), len(drawn))  # a Frechet distance falls with it
        order = torch.randperm(len(held), generator=generator("floor"))  # folders are sorted by class, style and name
        figures["floor"] = against(held[order[:count]], real)
        if count < len(drawn):
            figures["as_few"] = against(drawn[:count], real)
    return figures | {"reading": readings.distance(figures)}


def against(features: Tensor, real: Tensor) -> dict[str, float]:
    size = min(len(features), len(real), 1000)
    kernel, _ = kid(features, real, max(1, min(20, 4 * len(real) // size)), size, generator("kernel distance"))
    precision, recall = precision_recall(real, features)
    return {
        "count": len(features), "frechet": round(frechet(features, real), 2), "kernel_x1000": round(1000 * kernel, 3),
        "precision": round(precision, 3), "recall": round(recall, 3),
    }  # fmt: skip


def memorised(made: Tensor, pictures: Pictures) -> dict[str, Any]:
    """The share of samples that are near copies of a training picture: whose distance to the nearest one (in pixels) is
    less than a third of that to the second nearest. Beside it the same for the held-out pictures, which cannot be
    copies but may have near twins in the set. Raises InputError where there are less than two training pictures."""
    training, held = pictures.split(False), pictures.split(True)
    if len(torch.unique(training.pixels.flatten(1), dim=0)) < 2:
        raise InputError("--memorised needs two different training pictures or more")
    figures: dict[str, Any] = _copies(made, training) | {"criterion": "d1 / d2 < 1/3, pixels"}
    if len(held):
        figures["held_out"] = _copies(held.pixels.float() / 127.5 - 1, training)
    return figures | {"reading": readings.memorised(figures)}


def _copies(made: Tensor, training: Pictures) -> dict[str, float]:
    ratio = nearest_two(made, training)
    ratio = ratio[:, 0] / ratio[:, 1].clamp(min=1e-12)
    share, median = float((ratio < COPY).float().mean()), float(ratio.median())
    return {"count": len(made), "copies": round(share, 4), "median_ratio": round(median, 3)}


def nearest_two(made: Tensor, training: Pictures) -> Tensor:
    """Distances [N, 2] of pictures [N, 3, H, W] to their nearest and second nearest training picture (equal training
    pictures count once), root mean square over all numbers."""
    flat = made.flatten(1).float()
    best = torch.full((len(flat), 2), float("inf"))
    unique = torch.unique(training.pixels.flatten(1), dim=0)
    for chunk in unique.split(512):
        table = torch.cdist(flat, chunk.float() / 127.5 - 1) / flat.shape[1] ** 0.5
        best = torch.cat([best, table], 1).topk(2, dim=1, largest=False).values
    return best
