"""Concept retrieval on made features whose ranks are known by hand, and the held-out rule's check values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.errors import InputError
from genctl.metrics.retrieval import build_gallery, family_of, held_out_family, is_held_out, ranks, summary

STYLES = ["3d", "flat", "modern", "noto", "twemoji"]


def made(concepts: int, width: int = 16, noise: float = 0.0) -> tuple[Tensor, list[str], list[str]]:
    """Real features: a direction of the concept's own plus an offset of the style's, and noise."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn(concepts, width, generator=draw)
    directions -= directions.mean(0)  # so that a style's mean is its offset
    offsets = 10 * torch.randn(len(STYLES), width, generator=draw)
    names, styles, rows = [], [], []
    for concept in range(concepts):
        for index, style in enumerate(STYLES):
            rows.append(directions[concept] + offsets[index] + noise * torch.randn(width, generator=draw))
            names.append(f"c{concept}")
            styles.append(style)
    return torch.stack(rows), names, styles


@pytest.mark.parametrize(
    ("key", "style", "held"), [("1f408", "3d", False), ("270a", "twemoji", True), ("1f642", "3d", True)]
)
def test_the_held_out_rule(key: str, style: str, held: bool) -> None:
    assert is_held_out(key, style) is held


def test_the_family_split_holds_out_whole_drawings() -> None:
    keys = [f"{number:x}" for number in range(0x1F300, 0x1F700)]
    for key in keys:
        assert held_out_family(key, "3d") == held_out_family(key, "flat") == held_out_family(key, "modern")
        assert held_out_family(key, "noto") == is_held_out(key, "noto")
    share = sum(held_out_family(key, "3d") for key in keys) / len(keys)
    assert 0.02 < share < 0.08
    assert [family_of(style) for style in STYLES] == ["fluent"] * 3 + ["noto", "twemoji"]


@pytest.mark.parametrize("strict", [False, True])
def test_the_style_does_not_matter_once_its_mean_is_gone(strict: bool) -> None:
    features, names, styles = made(12)
    gallery = build_gallery(features, names, styles)
    assert ranks(gallery, features, names, styles, strict).tolist() == [0] * len(names)


def test_ranks_by_hand() -> None:
    """Two dimensions, the gallery at 0, 90, 180 and 270 degrees in both styles."""
    compass = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    names = ["east", "north", "west", "south"]
    shift = torch.tensor([5.0, 5])
    features = torch.cat([compass, compass + shift])
    gallery = build_gallery(features, names * 2, ["noto"] * 4 + ["twemoji"] * 4)
    query = torch.tensor([[2.0, 1.0]])  # nearest east, then north, then south, then west
    found = ranks(gallery, query.repeat(4, 1), names, ["noto"] * 4)
    assert found.tolist() == [0, 1, 3, 2]
    found = ranks(gallery, query.repeat(4, 1) + shift, names, ["twemoji"] * 4)
    assert found.tolist() == [0, 1, 3, 2]


def test_the_batch_own_mean_is_not_used() -> None:
    """A generator that draws one picture for every concept is right once in C, whatever it draws."""
    features, names, styles = made(12)
    gallery = build_gallery(features, names, styles)
    chosen = [index for index, style in enumerate(styles) if style == "flat"]
    same = features[chosen[3]].repeat(len(chosen), 1)
    found = ranks(gallery, same, [names[index] for index in chosen], ["flat"] * len(chosen))
    assert sorted(found.tolist()) == list(range(12))
    assert int(found[3]) == 0


def test_a_picture_that_says_nothing_is_no_hit() -> None:
    features, names, styles = made(12)
    gallery = build_gallery(features, names, styles)
    mean = gallery.style_means[gallery.column("noto")]
    nothing = torch.stack([mean, torch.full_like(mean, torch.nan)])
    assert ranks(gallery, nothing, ["c0", "c1"], ["noto", "noto"]).tolist() == [11, 11]


def test_strict_leaves_the_query_drawing_out() -> None:
    """3d, flat and modern agree on a false concept; noto and twemoji tell the true one."""
    features, names, styles = made(8)
    wrong = features.clone()
    fluent = [index for index, style in enumerate(styles) if family_of(style) == "fluent"]
    by_pair = {(name, style): row for row, (name, style) in enumerate(zip(names, styles, strict=True))}
    for index in fluent:
        following = f"c{(int(names[index][1:]) + 1) % 8}"
        wrong[index] = features[by_pair[following, styles[index]]]
    gallery = build_gallery(wrong, names, styles)
    row = by_pair["c2", "3d"]
    drawn_as_fluent = wrong[row : row + 1]
    truly = features[row : row + 1]
    assert ranks(gallery, truly, ["c2"], ["3d"], strict=True).tolist() == [0]
    assert ranks(gallery, drawn_as_fluent, ["c2"], ["3d"], strict=False).tolist() == [0]
    assert ranks(gallery, drawn_as_fluent, ["c3"], ["3d"], strict=True).tolist() == [0]


def test_missing_styles_are_left_out_and_told() -> None:
    features, names, styles = made(6)
    kept = [i for i in range(len(names)) if names[i] != "c5" or styles[i] == "noto"]  # c5 is drawn in noto only
    kept = [i for i in kept if names[i] != "c4" or styles[i] in ("3d", "flat")]  # c4 in two shadings of one drawing
    gallery = build_gallery(features[kept], [names[i] for i in kept], [styles[i] for i in kept])
    rows = {(names[i], styles[i]): i for i in kept}
    query = features[[rows["c5", "noto"], rows["c4", "3d"]]]
    assert int(ranks(gallery, query, ["c5", "c4"], ["noto", "3d"])[0]) == -1
    assert int(ranks(gallery, query, ["c5", "c4"], ["noto", "3d"])[1]) == 0
    assert ranks(gallery, query, ["c5", "c4"], ["noto", "3d"], strict=True).tolist() == [-1, -1]


def test_one_style_alone_gives_no_rank() -> None:
    gallery = build_gallery(torch.eye(3), ["a", "b", "c"], ["noto"] * 3)
    assert ranks(gallery, torch.eye(3), ["a", "b", "c"], ["noto"] * 3).tolist() == [-1, -1, -1]


def test_ranks_against_the_slow_definition() -> None:
    features, names, styles = made(15, width=6, noise=1.5)
    gallery = build_gallery(features, names, styles)
    rows = {pair: features[i] for i, pair in enumerate(zip(names, styles, strict=True))}
    means = {style: torch.stack([rows[f"c{c}", style] for c in range(15)]).mean(0) for style in STYLES}
    for strict in (False, True):
        found = ranks(gallery, features, names, styles, strict)
        for index, (name, style) in enumerate(zip(names, styles, strict=True)):
            others = [s for s in STYLES if (family_of(s) != family_of(style) if strict else s != style)]
            scores = {}
            for c in range(15):
                entry = torch.stack([rows[f"c{c}", other] - means[other] for other in others]).mean(0)
                scores[f"c{c}"] = float(F.cosine_similarity(features[index] - means[style], entry, dim=0))
            assert int(found[index]) == sum(score > scores[name] for score in scores.values())
    assert len(set(found.tolist())) > 3  # the noise makes it a test


def test_wrong_names_are_refused() -> None:
    features, names, styles = made(3)
    gallery = build_gallery(features, names, styles)
    with pytest.raises(InputError, match="no concept 'c9'"):
        ranks(gallery, features[:1], ["c9"], ["3d"])
    with pytest.raises(InputError, match=r"no style 'twemojis' \(did you mean \"twemoji\"\?\)"):
        ranks(gallery, features[:1], ["c0"], ["twemojis"])
    with pytest.raises(InputError, match="two pictures of one style"):
        build_gallery(features[[0, 0]], ["c0", "c0"], ["3d", "3d"])


def test_summary() -> None:
    report = summary(torch.tensor([0, 0, 3, 5, 100, -1]))
    assert report == {"count": 5, "top1": 0.4, "top5": 0.6, "median_rank": 3.0}
    assert summary(torch.tensor([-1, -1])) == {"count": 0}
