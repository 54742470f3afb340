"""Held-out figures of a model: a codec's reconstruction, a text model's concept retrieval, what its samples say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genctl.data.folder import Entry
from genctl.data.pictures import Pictures
from genctl.errors import InputError
from genctl.families.base import Family
from genctl.families.conditions.captions import prompt_of
from genctl.families.eyes import lpips
from genctl.metrics import clips, readings
from genctl.metrics.bits import bits
from genctl.metrics.features import EXTRACTOR, extractor, features_of, real_features
from genctl.metrics.retrieval import build_gallery, ranks, summary
from genctl.metrics.samples import Report, distances, draw, draw_like, memorised
from genctl.nets.lpips import psnr
from genctl.options import Options
from genctl.rng import generator

Stages = Callable[[str], Report]
REAL = "features of the real pictures"
MOST_BITS = 64  # pictures of which a likelihood is computed


@torch.inference_mode()
def reconstruction(model: Family, pictures: Pictures, report: Report = lambda done, total: None) -> dict[str, Any]:
    """PSNR (dB) and LPIPS of pictures encoded and decoded, means over all."""
    eyes = lpips()
    sums: dict[str, float] = {"psnr": 0.0, "lpips": 0.0, "l1": 0.0}
    for done, chunk in enumerate(pictures.pixels.split(16)):
        report(16 * done, len(pictures))
        real = chunk.float() / 127.5 - 1
        made = model.decode(model.encode(real[:, :, None] if len(model.code_shape()) == 4 else real)).cpu()
        made = made if made.ndim == 4 else made[:, :, 0]
        made = ((made + 1) * 127.5).round() / 127.5 - 1  # as a file would hold it
        sums["psnr"] += float(psnr(made, real).sum())
        sums["lpips"] += float(eyes(made, real).sum())
        sums["l1"] += float((made - real).abs().mean((1, 2, 3)).sum())
    means = {key: round(value / len(pictures), 4) for key, value in sums.items()}
    return {"count": len(pictures)} | means | {"reading": readings.reconstruction(means["psnr"], means["lpips"])}


def codec(model: Family, pictures: Pictures, most: int, report: Report) -> dict[str, Any]:
    """`reconstruction`, of clips that of clips.py."""
    if moves(pictures):
        assert isinstance(pictures, clips.Clips)
        return clips.reconstruction(model, pictures, most, report)
    return reconstruction(model, pictures, report)


def moves(pictures: Pictures) -> bool:
    """Whether there are clips among the data."""
    return isinstance(pictures, clips.Clips) and not bool(pictures.still().all())


def default_kinds(model: Family, pictures: Pictures) -> list[str]:
    """What is measured where nothing was asked for: of clips how they move, retrieval for text drawn in several styles,
    else distances."""
    if moves(pictures):
        return ["motion"]
    pairs = [(entry.concept, entry.style) for entry in pictures.entries if entry.concept and entry.style]
    once = len(set(pairs)) == len(pairs)
    return ["retrieval"] if "text" in model.can and once and len({style for _, style in pairs}) > 1 else ["distance"]


def samples(
    model: Family, pictures: Pictures, kinds: list[str], most: int, options: Options | None, stages: Stages
) -> dict[str, Any]:
    """The figures of each kind: retrieval, distance, memorised (of the same drawn pictures), bpd; each with a
    `reading`, a sentence on whether it is good. `stages` gives what each stage reports to, by its name."""
    figures: dict[str, Any] = {}
    if moves(pictures):
        assert isinstance(pictures, clips.Clips)
        if set(kinds) - {"motion"}:
            raise InputError("of a folder of clips only motion is measured; give one of pictures for the rest")
        return {"motion": clips.drawn(model, pictures, most, options, stages("drawing"))}
    if "retrieval" in kinds:
        figures |= retrieval(model, pictures, most, options, stages)
    if {"distance", "memorised"} & set(kinds):
        if not len(pictures.split(False)):
            raise InputError("all pictures are held out; distances and copies are measured against training pictures")
        made = draw_like(model, pictures.split(False), most, options, stages("drawing"))
        figures["distance"] = distances(model, made, pictures, stages(REAL)) if "distance" in kinds else None
        figures["memorised"] = memorised(made, pictures) if "memorised" in kinds else None
    if "bpd" in kinds:  # some ten seconds a small picture on two cores
        figures["bpd"] = bits(model, pictures, min(most, MOST_BITS), report=stages("likelihood"))
    return {name: value for name, value in figures.items() if value is not None}


def retrieval(
    model: Family, pictures: Pictures, most: int, options: Options | None, stages: Stages = lambda name: _silent
) -> dict[str, Any]:
    """Concept retrieval of drawn pictures for held-out and for trained (concept, style) pairs, at most `most` of each,
    beside the real pictures' own score (the ceiling) and chance; `strict` compares with other drawings only."""
    entries = [e for e in pictures.entries if e.concept and e.style]
    if len({e.style for e in entries}) < 2:
        raise InputError("concept retrieval needs a set where concepts are drawn in several styles (examples/emoji)")
    net = extractor(model.device)
    real = real_features(net, pictures, report=stages(REAL))
    report = stages("drawing")
    row_of = {id(entry): row for row, entry in enumerate(pictures.entries)}
    rows = torch.tensor([row_of[id(entry)] for entry in entries])
    gallery = build_gallery(real[rows], [e.concept for e in entries], [e.style for e in entries])
    out: dict[str, Any] = {
        "extractor": EXTRACTOR, "concepts": len(gallery.concepts), "chance_top1": round(1 / len(gallery.concepts), 5),
    }  # fmt: skip
    out |= {} if options is None else options.recorded()
    groups = pairs(entries, most)
    done, total = 0, sum(map(len, groups.values()))
    for name, chosen in groups.items():
        concepts, styles = [e.concept for e in chosen], [e.style for e in chosen]
        prompts = [prompt_of(model, entry) for entry in chosen]
        drawn = draw(model, prompts, options, partial(_report, report, done, total))
        done += len(chosen)
        made = features_of(net, drawn)
        ceiling = real[torch.tensor([row_of[id(entry)] for entry in chosen])]
        found, best = (summary(ranks(gallery, features, concepts, styles)) for features in (made, ceiling))
        out[name] = {
            "reading": readings.retrieval(found, best, out["chance_top1"]),
            "drawn": found,
            "ceiling": best,
            "by_style": by_style(ranks(gallery, made, concepts, styles), styles),
            "strict": summary(ranks(gallery, made, concepts, styles, strict=True)),
            "strict_ceiling": summary(ranks(gallery, ceiling, concepts, styles, strict=True)),
        }
    return out


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _report(report: Report, before: int, total: int, count: int, of: int) -> None:
    report(before + count, total)


def pairs(entries: list[Entry], most: int) -> dict[str, list[Entry]]:
    """The groups of (concept, style) pairs to draw, each spread over the set by a fixed shuffle."""
    held = [e for e in entries if e.held_out]
    groups = {
        "held_out": held,
        "trained": [e for e in entries if not e.held_out],
    }
    chosen = {}
    for name, group in groups.items():
        order = torch.randperm(len(group), generator=generator("pairs", name))[:most].tolist()
        chosen[name] = [group[index] for index in order]
    return {name: group for name, group in chosen.items() if group}


def by_style(found: Tensor, styles: list[str]) -> dict[str, float]:
    """Top-1 share a style."""
    shares = {}
    for style in sorted(set(styles)):
        mine = found[torch.tensor([name == style for name in styles])]
        shares[style] = summary(mine).get("top1", 0.0)
    return shares
