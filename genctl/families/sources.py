"""Training data of families that draw: pictures, or their codes computed once by a frozen codec; and
what each is described by."""

from __future__ import annotations

import torch
from torch import Tensor

from genctl.data import cache
from genctl.data.pictures import Pictures, PictureSource, augment, onto
from genctl.families.base import Watch
from genctl.families.codec import Codec
from genctl.families.conditions.captions import Described
from genctl.families.conditions.conditional import Conditional
from genctl.rng import Draw, address

CHUNK = 64  # pictures that a codec encodes at once
VIEWS = 4  # of a picture that is mirrored or shifted, where nobody says how many


class PixelSource:
    """Batches of pictures x [B, 3, H, W] and their conditions."""

    def __init__(self, model: Conditional, pictures: Pictures, device: torch.device) -> None:
        self.pictures, self.weights = PictureSource(pictures, device), pictures.weights
        self.described = Described(model, pictures, device)
        self.preview_prompts = self.described.previews

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        return {"x": self.pictures.batch(rows, draw)["pictures"]} | self.described.batch(rows, draw)


class CodeSource:
    """Batches of codes x [B, d, h, w], or of tokens [B, ...], and their conditions. Codes lie in the cache under a key
    of content and weights, and on the training device while training runs. Where pictures are mirrored or shifted, so
    many `views` of each are encoded, of which a batch has one."""

    def __init__(self, model: Conditional, codec: Codec, pictures: Pictures, device: torch.device) -> None:
        self.weights, config = pictures.weights, pictures.config
        self.views = (config.views or VIEWS) if config.varies else 1
        varied = [self.views, config.flip, config.jitter, pictures.flips.tolist()] if config.varies else []
        key = [3, codec.weights_sha256, pictures.fingerprint, varied, *codec.beyond_tensors]
        made = cache.cached("codes", key, lambda: {"codes": encoded(codec, pictures, self.views, model.watch)})
        self.codes = made["codes"].to(device)  # view by view
        assert len(self.codes) == self.views * len(pictures)
        self.described = Described(model, pictures, device)
        self.preview_prompts = self.described.previews

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        places = rows
        if self.views > 1:
            places = rows + len(self.weights) * (draw.uniform() * self.views).long()
        x = self.codes[onto(places, self.codes.device)]
        return {"x": x.float() if x.is_floating_point() else x} | self.described.batch(rows, draw)


def encoded(
    codec: Codec, pictures: Pictures, views: int = 1, watch: Watch = lambda stage, done, of: None
) -> Tensor:  # fmt: skip
    """The codes [views N, ...] of all pictures, numbers as float16: as they are, then each of their further views."""
    chunks: list[Tensor] = []
    count = len(pictures)
    for view in range(views):
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            watch("encoding pictures", view * count + start, views * count)
            pixels = pictures.pixels[start:stop]
            if view:
                draw = Draw(address("view", view), count).part(start, stop)
                pixels = augment(pixels, pictures.config, draw, pictures.flips[start:stop])
            made = codec.encoded(pixels.float() / 127.5 - 1).cpu()
            chunks.append(made.half() if made.is_floating_point() else made)
    return torch.cat(chunks)
