"""Concept retrieval: does a drawn picture show the thing that was asked for?

For the emoji set (examples/emoji), where each concept is drawn in several styles. The query is a picture's feature
minus the *real* mean of its style; the gallery has, for each concept, the mean of its real features in the *other*
styles, each minus its style's mean. The rank of the asked concept by cosine says how well it is shown; copying the one
training picture of that style does not help, since its style is not in the gallery.

Strict: styles of the query's drawing family are left out of the gallery, so that an outline shared by three shadings of
one drawing is not what is found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.errors import InputError, nearest

FAMILIES = {"3d": "fluent", "flat": "fluent", "modern": "fluent"}  # styles that shade one drawing; others are their own
HELD_OUT_SHARE = 0.05


def is_held_out(key: str, style: str) -> bool:
    """The set's own rule: sha256("KEY|STYLE") begins below 5 % of its range (see examples/emoji/build.py, which keeps a
    concept of which every picture would be held out)."""
    first = hashlib.sha256(f"{key}|{style}".encode()).digest()[:8]
    return int.from_bytes(first, "big") < HELD_OUT_SHARE * 2**64


def held_out_family(key: str, style: str) -> bool:
    """The second split: the same rule over drawings, so that all shadings of a held-out drawing are held out."""
    return is_held_out(key, family_of(style))


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

    def row(self, concept: str) -> int:
        return _place(concept, self.concepts, "concept")

    def column(self, style: str) -> int:
        return _place(style, self.styles, "style")


def _place(name: str, names: list[str], kind: str) -> int:
    if name not in names:
        raise InputError(f"the real pictures hold no {kind} {name!r}{nearest(name, names)}")
    return names.index(name)


def build_gallery(features: Tensor, concepts: list[str], styles: list[str]) -> Gallery:
    """The gallery of real pictures: features [N, D], with the concept and style of each, every pair at most once.

    Raises InputError when a (concept, style) pair is given twice.
    """
    if len(set(zip(concepts, styles, strict=True))) < len(concepts):
        raise InputError("some concept has two pictures of one style; give each (concept, style) pair once")
    concept_names, style_names = sorted(set(concepts)), sorted(set(styles))
    row_of = {name: row for row, name in enumerate(concept_names)}
    rows = torch.tensor([row_of[name] for name in concepts])
    columns = torch.tensor([style_names.index(name) for name in styles])
    features = features.float()
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
    """Rank [N] int64 (0 = best) of the asked concept for query features [N, D]; -1 where no other style draws it.

    A concept that scores the same as the asked one counts as before it, and so does everything when the query is not a
    number: a picture that says nothing is never a hit. Raises InputError for a concept or style without real pictures.
    """
    found = torch.full((len(features),), -1)
    features = features.float()
    for style in sorted(set(styles)):
        mine = torch.tensor([index for index, name in enumerate(styles) if name == style])
        entries, drawn = entries_for(gallery, style, strict)
        if not drawn.any():
            continue
        queries = F.normalize(features[mine] - gallery.style_means[gallery.column(style)], dim=1)  # [n, D]
        scores = (queries @ entries.T)[:, drawn]  # [n, concepts drawn]
        asked = torch.tensor([gallery.row(concepts[index]) for index in mine.tolist()])
        valid = drawn[asked]
        column = (drawn.cumsum(0) - 1)[asked].clamp(min=0)  # of the asked concept among those drawn
        own = scores.gather(1, column[:, None])  # [n, 1]
        found[mine[valid]] = (~(scores < own)).sum(1)[valid] - 1  # itself is not below itself
    return found


def entries_for(gallery: Gallery, style: str, strict: bool = False) -> tuple[Tensor, Tensor]:
    """What a query of `style` is compared with: unit vectors [C, D], and which concepts have one, [C] bool."""
    columns = others_of(style, gallery.styles, strict)
    count = gallery.exists[:, columns].sum(1)
    mean = gallery.centred[:, columns].sum(1) / count.clamp(min=1)[:, None]
    return F.normalize(mean, dim=1), count > 0


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
