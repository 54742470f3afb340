"""Concept retrieval: does a drawn picture show the thing that was asked for?

For the emoji set (examples/emoji), where each concept is drawn in several styles. The query is a picture's feature minus
the real mean of its style; the gallery has, for each concept, the mean of its real features in the *other* styles, each
minus its style's mean. The rank of the asked concept by cosine says how well it is shown; copying the one training
picture of that style does not help, since its style is not in the gallery.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FAMILIES = {"3d": "fluent", "flat": "fluent", "modern": "fluent"}  # styles that shade one drawing; others are their own
HELD_OUT_SHARE = 0.05


def is_held_out(key: str, style: str) -> bool:
    """The set's own rule: sha256("KEY|STYLE") begins below 5 % of its range (see examples/emoji/build.py)."""
    first = hashlib.sha256(f"{key}|{style}".encode()).digest()[:8]
    return int.from_bytes(first, "big") < HELD_OUT_SHARE * 2**64


def family_of(style: str) -> str:
    """The drawing that a style shades."""
    return FAMILIES.get(style, style)


@dataclass(frozen=True)
class Gallery:
    """Real features, centred a style: [concepts, styles, D], and which of them exist."""

    concepts: list[str]
    styles: list[str]
    centred: Tensor  # [C, S, D]; zero where absent
    exists: Tensor  # [C, S] bool
    style_means: Tensor  # [S, D]


def build_gallery(features: Tensor, concepts: list[str], styles: list[str]) -> Gallery:
    """The gallery of real pictures: features [N, D], with the concept and style of each."""
    concept_names, style_names = sorted(set(concepts)), sorted(set(styles))
    rows = torch.tensor([concept_names.index(name) for name in concepts])
    columns = torch.tensor([style_names.index(name) for name in styles])
    means = torch.stack([features[columns == index].mean(0) for index in range(len(style_names))])
    centred = torch.zeros(len(concept_names), len(style_names), features.shape[1])
    exists = torch.zeros(len(concept_names), len(style_names), dtype=torch.bool)
    centred[rows, columns] = features - means[columns]
    exists[rows, columns] = True
    return Gallery(concept_names, style_names, centred, exists, means)


def others_of(style: str, styles: list[str], strict: bool) -> list[int]:
    """Columns of the styles that a query of `style` is compared with; strict: only those of another drawing."""
    if strict:
        return [i for i, other in enumerate(styles) if family_of(other) != family_of(style)]
    return [i for i, other in enumerate(styles) if other != style]


def ranks(gallery: Gallery, features: Tensor, concepts: list[str], styles: list[str], strict: bool = False) -> Tensor:
    """Rank [N] (0 = best) of the asked concept for query features [N, D]; -1 where no other style draws the concept."""
    found = torch.full((len(features),), -1)
    for style in set(styles):
        columns = others_of(style, gallery.styles, strict)
        exists = gallery.exists[:, columns]
        count = exists.sum(1)
        entries = gallery.centred[:, columns].sum(1) / count.clamp(min=1)[:, None]  # [C, D]
        entries = F.normalize(entries, dim=1)
        mine = [index for index, name in enumerate(styles) if name == style]
        queries = F.normalize(features[mine] - gallery.style_means[gallery.styles.index(style)], dim=1)
        scores = (queries @ entries.T).masked_fill(count == 0, -2.0)  # [n, C]
        for row, index in enumerate(mine):
            asked = gallery.concepts.index(concepts[index])
            if count[asked]:
                found[index] = int((scores[row] > scores[row, asked]).sum())
    return found


def summary(found: Tensor) -> dict[str, float]:
    """Count, top-1 and top-5 share, and median rank of `ranks` that were found."""
    valid = found[found >= 0].float()
    if not len(valid):
        return {"count": 0}
    return {
        "count": len(valid),
        "top1": round(float((valid < 1).float().mean()), 4),
        "top5": round(float((valid < 5).float().mean()), 4),
        "median_rank": float(valid.median()),
    }
