"""Families that work on a frozen codec's codes instead of pixels: latent flows, GANs that draw codes, and models over
tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from genctl import config as configs
from genctl import files, hub
from genctl.data.pictures import Pictures
from genctl.errors import ModelError
from genctl.families.codec import Codec
from genctl.families.conditions.conditional import Conditional, part_hash
from genctl.families.registry import family_class
from genctl.families.saved import load
from genctl.nets.lpips import psnr

JUDGED, FAIR = 8, 22.0  # pictures by which a codec is judged, and dB (PSNR) below which it is said
C = TypeVar("C")


def codec_config(name: str, family: str = "vae") -> Any:
    """The configuration of the codec called `name`, from its header. Raises ModelError when it is none of the family
    that is wanted."""
    document = files.read_header(hub.resolve(name)).document
    if document.get("family") != family:
        raise ModelError(
            f"{name}: a {document.get('family', 'foreign')} model cannot be the codec of another ({family})"
        )
    return configs.build(family_class(family).Config, document.get("config", {}))


def with_codec(config: C) -> C:
    """The configuration with the codec's `channels` and `factor` where it leaves them open (None)."""
    said: Any = config
    codec = codec_config(said.codec)
    channels = codec.net.latent if said.channels is None else said.channels
    return replace(said, channels=channels, factor=said.factor or codec.net.factor)


def codec_hash(config: Any) -> dict[str, str]:
    """Which tensors the codec of a configuration has, without loading it."""
    return {"codec": part_hash(config.codec)}


class Coded(Conditional):
    """A family whose config has `codec` (its name), `factor` (pixels of a code cell's side), what `unlike` checks."""

    codec_family: ClassVar[str] = "vae"

    def codec(self) -> Any:
        """The frozen codec, loaded at first use; ModelError when it is not the one this model was trained on."""
        if "codec" not in self.parts:
            path = str(hub.resolve_part("codec", self.config.codec, self.file, self.trusted))
            codec_config(path, self.codec_family)
            with torch.inference_mode(False):  # also where drawing wants it first: projection learns through it
                model = load(path, self.device)
                model.prepare()
            assert isinstance(model, Codec)
            self.check_part("codec", model.weights_sha256)
            if wrong := self.unlike(model):
                raise ModelError(f"codec {self.config.codec} {wrong}")
            self.parts["codec"] = model
        return self.parts["codec"]

    def unlike(self, codec: Any) -> str:
        """In what a codec of the right family is not the one that the configuration speaks of, if in anything."""
        found, wanted = (codec.code_shape()[0], codec.factor), (self.config.channels, self.config.factor)
        if found == wanted:
            return ""
        return (
            f"has {found[0]} channels at 1/{found[1]}, this model wants {wanted[0]} at 1/{wanted[1]}; see --set "
            "model.channels, model.factor"
        )

    def judged(self, pictures: Pictures) -> list[str]:
        """Whether the codec renders such pictures at all: nothing drawn by its codes can be better."""
        held_out, codec = pictures.split(True), self.codec()
        shown = (held_out if len(held_out) else pictures).spread(JUDGED).pixels.to(self.device).float() / 127.5 - 1
        found = float(psnr(codec.decode(codec.encode(shown)), shown).mean())
        if found >= FAIR:
            return []
        how = f"train a codec on them first (genctl train --model {self.codec_family} ... -o runs/codec), then this"
        return [
            f"the codec {self.config.codec!r} renders these pictures at {found:.1f} dB (22 is poor, 26 fair), and what "
            f"is drawn will be no sharper; {how} with --set model.codec=runs/codec"
        ]

    def rendered(self, x: Tensor) -> Tensor:
        """Pictures of codes, with a gradient."""
        return self.codec().rendered(x)
