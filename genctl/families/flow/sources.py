"""Training data of flows: pictures, or their codes computed once by a frozen codec; and what each is described by."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.data import cache
from genctl.data.pictures import Pictures, PictureSource, onto
from genctl.draws import Draw
from genctl.families.base import Family, Watch
from genctl.families.conditions.captions import Described
from genctl.families.conditions.conditional import Conditional

CHUNK = 32  # pictures that a codec encodes between two words on how far it is


class PixelSource:
    """Batches of pictures x [B, 3, H, W] and their conditions."""

    def __init__(self, model: Conditional, pictures: Pictures, device: torch.device) -> None:
        self.pictures, self.weights = PictureSource(pictures, device), pictures.weights
        self.described = Described(model, pictures, device)
        self.preview_prompts = self.described.previews

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        return {"x": self.pictures.batch(rows, draw)["pictures"]} | self.described.batch(rows, draw)


class CodeSource:
    """Batches of codes x [B, d, h, w] and their conditions. Codes lie in the cache under a key of content and weights,
    and on the training device while training runs."""

    def __init__(self, model: Conditional, codec: Family, pictures: Pictures, device: torch.device) -> None:
        self.weights = pictures.weights
        key = [2, codec.weights_sha256, pictures.fingerprint]
        self.codes = cache.cached("codes", key, lambda: {"codes": encoded(codec, pictures, model.watch)})["codes"].to(
            device
        )
        assert len(self.codes) == len(pictures)
        self.described = Described(model, pictures, device)
        self.preview_prompts = self.described.previews

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        return {"x": self.codes[onto(rows, self.codes.device)].float()} | self.described.batch(rows, draw)


def encoded(codec: Family, pictures: Pictures, watch: Watch = lambda stage, done, of: None) -> Tensor:
    """The codes [N, d, h, w] of all pictures."""
    chunks: list[Tensor] = []
    for index, chunk in enumerate(pictures.pixels.split(CHUNK)):
        watch("encoding pictures", index * CHUNK, len(pictures))
        chunks.append(codec.encode(chunk.float() / 127.5 - 1).cpu())
    return torch.cat(chunks)
