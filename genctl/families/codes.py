"""Training data of latent flows: each picture's code, computed once by the frozen codec, and one of its captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genctl.data import cache
from genctl.data.pictures import Pictures, onto
from genctl.draws import Draw
from genctl.families.captions import Captions, preview_prompts

if TYPE_CHECKING:
    from genctl.families.ldm import LDM
    from genctl.families.vae import VAE


class CodeSource:
    """Batches of codes x [B, d, h, w] and the conditions of a caption each. Codes lie in the cache under a key of
    content and weights, and on the training device while training runs."""

    def __init__(self, model: LDM, pictures: Pictures, device: torch.device) -> None:
        self.weights = pictures.weights
        codec = model.codec()
        key = [2, codec.weights_sha256, pictures.fingerprint]
        self.codes = cache.cached("codes", key, lambda: {"codes": self._encode(codec, pictures)})["codes"].to(device)
        assert len(self.codes) == len(pictures)
        self.captions = Captions(model, pictures, device)
        self.preview_prompts = preview_prompts(pictures)

    @staticmethod
    def _encode(codec: VAE, pictures: Pictures) -> Tensor:
        chunks = [codec.encode(chunk.float() / 127.5 - 1).cpu() for chunk in pictures.pixels.split(32)]
        return torch.cat(chunks)

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        return {"x": self.codes[onto(rows, self.codes.device)].float()} | self.captions.batch(rows, draw)
