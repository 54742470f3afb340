"""Training data of latent text models: each picture's code and one of its captions' text states, kept and cached.

Codes are computed once by the frozen codec, captions once by the frozen text encoder; both lie in the cache under a key
of content and weights, and on the training device while training runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genctl.data import cache
from genctl.data.captions import variants, with_style
from genctl.data.pictures import Pictures, onto
from genctl.draws import Draw

if TYPE_CHECKING:
    from genctl.families.ldm import LDM
    from genctl.families.vae import VAE


class CodeSource:
    """Batches of codes and a caption variant each: codes [B, d, h, w], states [B, L, T], present [B, L], pooled [B, T].

    Text states are kept without padding in one table; row 0 is zero and stands for an empty slot.
    """

    def __init__(self, model: LDM, pictures: Pictures, device: torch.device) -> None:
        self.weights = pictures.weights
        codec = model.codec()
        key = [2, codec.weights_sha256, pictures.fingerprint]
        self.codes = cache.cached("codes", key, lambda: {"codes": self._encode(codec, pictures)})["codes"].to(device)
        forms = [variants(entry) for entry in pictures.entries]
        texts = sorted({text for form in forms for text, _ in form})
        number = {text: index for index, text in enumerate(texts)}
        most = max(map(len, forms))
        choices = [[number[text] for text, _ in form] + [0] * (most - len(form)) for form in forms]
        shares = [[share for _, share in form] + [0.0] * (most - len(form)) for form in forms]
        self.choices, self.upto = torch.tensor(choices), torch.tensor(shares).cumsum(1)
        self.upto[torch.arange(len(forms)), torch.tensor([len(form) - 1 for form in forms])] = 2.0  # whatever rounding
        assert len(self.codes) == len(forms)
        slots = model.config.net.text_slots
        model.text()
        table = cache.cached("text", [1, model.used["text"], slots, texts], lambda: embed_texts(model, texts))
        self.states, self.pooled = table["states"].to(device), table["pooled"].to(device)
        self.places = table["places"].to(device)
        self.preview_prompts = preview_prompts(pictures)

    @staticmethod
    def _encode(codec: VAE, pictures: Pictures) -> Tensor:
        chunks = [codec.encode(chunk.float() / 127.5 - 1).cpu() for chunk in pictures.pixels.split(32)]
        return torch.cat(chunks)

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        uniform = draw.uniform(1)
        form = (uniform >= self.upto[rows]).sum(1).clamp(max=self.choices.shape[1] - 1)
        caption = onto(self.choices[rows, form], self.codes.device)
        places = self.places[caption]  # [B, L]
        return {
            "codes": self.codes[onto(rows, self.codes.device)].float(),
            "states": self.states[places].float(),
            "present": places > 0,
            "pooled": self.pooled[caption].float(),
        }


@torch.inference_mode()
def embed_texts(model: LDM, texts: list[str]) -> dict[str, Tensor]:
    """States [1 + sum of lengths, T] fp16, places [M, L] in them (0 = empty slot), pooled [M, T] fp16 of M texts."""
    tokenizer, encoder = model.text()
    slots, width = model.config.net.text_slots, model.config.net.text_width
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    places = torch.zeros(len(texts), slots, dtype=torch.long)
    pooled = torch.zeros(len(texts), width, dtype=torch.float16)
    states, filled = [torch.zeros(1, width, dtype=torch.float16)], 1
    for start in range(0, len(order), 128):
        chunk = [index for index in order[start : start + 128] if texts[index].strip()]
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


def preview_prompts(pictures: Pictures, count: int = 16) -> list[str]:
    """Labels with their styles, spread over the data."""
    captioned = [with_style(entry.captions[0], entry.style) for entry in pictures.entries if entry.captions] or [""]
    return [captioned[index * len(captioned) // count] for index in range(count)]
