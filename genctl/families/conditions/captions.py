"""What training pictures are described by: one of a picture's captions as a frozen encoder's states, or its class.

Each gives a batch's states [B, L, T], present [B, L] and pooled [B, T] (see conditional.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genctl.data import cache
from genctl.data.captions import variants, with_style
from genctl.data.folder import Entry
from genctl.data.pictures import Pictures, onto
from genctl.families.base import Family
from genctl.families.conditions.conditional import Conditional
from genctl.rng import Draw

PREVIEWS = 16  # pictures of a preview


class Described:
    """The conditions that `model` takes, of training pictures; `previews` are some to draw previews of."""

    def __init__(self, model: Conditional, pictures: Pictures, device: torch.device) -> None:
        self.kind: Captions | Labels | None = None
        self.previews = [""] * PREVIEWS
        if model.condition == "text":
            self.kind, self.previews = Captions(model, pictures, device), preview_prompts(pictures)
        elif model.condition == "class":
            classes = model.config.classes
            self.kind = Labels(classes, pictures, device)
            self.previews = [classes[index * len(classes) // PREVIEWS] for index in range(PREVIEWS)]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        return {} if self.kind is None else self.kind.batch(rows, draw)


class Captions:
    """All forms of all captions, encoded once and cached; a form is drawn anew at each step.

    Text states are kept without padding in one table; row 0 is zero and stands for an empty slot.
    """

    def __init__(self, model: Conditional, pictures: Pictures, device: torch.device) -> None:
        forms = [variants(entry) for entry in pictures.entries]
        texts = sorted({text for form in forms for text, _ in form})
        number = {text: index for index, text in enumerate(texts)}
        most = max(map(len, forms))
        choices = [[number[text] for text, _ in form] + [0] * (most - len(form)) for form in forms]
        shares = [[share for _, share in form] + [0.0] * (most - len(form)) for form in forms]
        self.choices, self.upto = torch.tensor(choices), torch.tensor(shares).cumsum(1)
        self.upto[torch.arange(len(forms)), torch.tensor([len(form) - 1 for form in forms])] = 2.0  # whatever rounding
        table = text_table(model, texts)
        self.states, self.pooled = table["states"].to(device), table["pooled"].to(device)
        self.places = table["places"].to(device)

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        form = (draw.uniform(1) >= self.upto[rows]).sum(1).clamp(max=self.choices.shape[1] - 1)
        caption = onto(self.choices[rows, form], self.places.device)
        places = self.places[caption]  # [B, L]
        states, pooled = self.states[places].float(), self.pooled[caption].float()
        return {"states": states, "present": places > 0, "pooled": pooled}


class Labels:
    """A picture's class as a one-hot vector in one slot: the network's first matrix is then its table of classes."""

    def __init__(self, classes: tuple[str, ...], pictures: Pictures, device: torch.device) -> None:
        number = {name: index for index, name in enumerate(classes)}
        self.labels = torch.tensor([number[entry.concept] for entry in pictures.entries], device=device)
        self.count = len(classes)

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        hot = F.one_hot(self.labels[onto(rows, self.labels.device)], self.count).float()
        present = torch.ones(len(hot), 1, dtype=torch.bool, device=hot.device)
        return {"states": hot[:, None], "present": present, "pooled": hot}


def text_table(model: Conditional, texts: list[str]) -> dict[str, Tensor]:
    """What `embed_texts` makes of the texts, from the cache where it is known."""
    model.text()
    key = [1, model.used["text"], model.config.net.text_slots, texts]
    return cache.cached("text", key, lambda: embed_texts(model, texts))


@torch.inference_mode()
def embed_texts(model: Conditional, texts: list[str]) -> dict[str, Tensor]:
    """States [1 + sum of lengths, T] fp16, places [M, L] in them (0 = empty slot), pooled [M, T] fp16 of M texts."""
    tokenizer, encoder = model.text()
    slots, width = model.config.net.text_slots, model.config.net.text_width
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    places = torch.zeros(len(texts), slots, dtype=torch.long)
    pooled = torch.zeros(len(texts), width, dtype=torch.float16)
    states, filled = [torch.zeros(1, width, dtype=torch.float16)], 1
    for start in range(0, len(order), 128):
        chunk = [index for index in order[start : start + 128] if texts[index].strip()]
        model.watch("encoding texts", start, len(order))
        if not chunk:
            continue
        ids, mask, _ = tokenizer.encode([texts[index] for index in chunk], max_tokens=slots)
        found, vectors = encoder(ids.to(model.device), mask.to(model.device))
        pooled[chunk] = vectors.cpu().half()
        for row, index in enumerate(chunk):
            count = int(mask[row].sum())
            states.append(found[row, :count].cpu().half())
            places[index, :count] = torch.arange(filled, filled + count)
            filled += count
    return {"states": torch.cat(states), "places": places, "pooled": pooled}


def preview_prompts(pictures: Pictures, count: int = PREVIEWS) -> list[str]:
    """Labels with their styles, spread over the data."""
    captioned = [with_style(entry.captions[0], entry.style) for entry in pictures.entries if entry.captions] or [""]
    return [captioned[index * len(captioned) // count] for index in range(count)]


def prompt_of(model: Family, entry: Entry) -> str:
    """What asks `model` for a picture like this one: its caption with its style, its class, or nothing."""
    if "text" in model.can:
        return with_style(entry.captions[0] if entry.captions else "", entry.style)
    return entry.concept if "class" in model.can else ""
