"""Which words a text model was trained on, and which of them are near one that it never saw.

Near is what has a like vector in the text encoder's table of words, centred: no text is encoded, and the look-up takes
milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.nets.text import VOCABULARY, TextEncoder, Tokenizer

MOST = 8192  # words of a model file, the most frequent first
NEAR = 3  # words that are suggested
WORD = re.compile(r"[^\W\d_]{3,}")
PLAIN = frozenset(
    {"the", "and", "with", "for", "from", "that", "this", "its", "very", "one", "two", "into", "onto", "over", "under"}
)


def words_of(text: str) -> list[str]:
    """Words of three letters and more, lower case."""
    return WORD.findall(text.lower())


def vocabulary(captions: Iterable[str]) -> list[str]:
    """The words of the captions, sorted; the MOST frequent ones."""
    counts = Counter(word for caption in captions for word in words_of(caption))
    return sorted(word for word, _ in counts.most_common(MOST))


def unknown(text: str, known: Iterable[str]) -> list[str]:
    """The words of a text that are not known, in singular or plural, each once."""
    held = PLAIN | set(known)
    return [
        word
        for word in dict.fromkeys(words_of(text))
        if not {word, word + "s", word.removesuffix("s"), word.removesuffix("es")} & held
    ]


def near(word: str, known: list[str], tokenizer: Tokenizer, encoder: TextEncoder) -> list[str]:
    """The NEAR known words nearest to another, by the cosine of their vectors."""
    vectors = _vectors([word, *known], tokenizer, encoder)
    best = (vectors[1:] @ vectors[0]).topk(min(NEAR, len(known))).indices
    return [known[index] for index in best.tolist()]


def _vectors(words: list[str], tokenizer: Tokenizer, encoder: TextEncoder) -> Tensor:
    """The mean vector of each one's word pieces, centred, of unit length [N, T]."""
    ids, mask, _ = tokenizer.encode(words)
    ids, inner = ids[:, 1:], mask[:, 1:] & mask.roll(-1, 1)[:, 1:]  # without the marks of beginning and end
    inner[:, -1] = False
    device = encoder.positions.weight.device
    every = torch.arange(VOCABULARY, device=device).split(4096)
    mean = torch.stack([encoder.words(some).float().sum(0) for some in every]).sum(0) / VOCABULARY
    pieces = (encoder.words(ids.to(device)).float() - mean).cpu() * inner[..., None]
    return F.normalize(pieces.sum(1), dim=1)
