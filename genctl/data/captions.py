"""Captions vary in training: the label or a tag, with and without the style, each with its share.

Short captions teach little (the same words each time); several forms of one, chosen anew each step, teach more.
"""

from __future__ import annotations

from genctl.data.folder import Entry

TAG_SHARE = 0.2  # of the captions that name a tag instead of the label (tags are search words, not descriptions)
STYLE_SHARE = 0.6  # of the captions that name the style


def variants(entry: Entry) -> list[tuple[str, float]]:
    """The captions of one picture and the probability of each; they sum to 1. [("", 1.0)] where there is none."""
    named = _shares(list(entry.captions), 1 - TAG_SHARE if entry.tags else 1.0)
    named += _shares(list(entry.tags), TAG_SHARE if entry.captions else 1.0)
    if not named:
        return [(with_style("", entry.style), 1.0)]
    if not entry.style:
        return named
    plain = [(text, share * (1 - STYLE_SHARE)) for text, share in named]
    return plain + [(with_style(text, entry.style), share * STYLE_SHARE) for text, share in named]


def with_style(text: str, style: str) -> str:
    """`cat` and `3d` -> `cat, 3d style`: how a prompt names a style."""
    if not style:
        return text
    return f"{text}, {style} style" if text else f"{style} style"


def _shares(texts: list[str], total: float) -> list[tuple[str, float]]:
    return [(text, total / len(texts)) for text in texts]
