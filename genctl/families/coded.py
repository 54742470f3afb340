"""Families that work on a frozen codec's codes instead of pixels: latent flows, and GANs that draw codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from genctl import config as configs
from genctl import files, hub
from genctl.data.pictures import Pictures
from genctl.errors import ModelError
from genctl.families.conditions.conditional import Conditional, part_hash
from genctl.families.saved import load
from genctl.families.vae import VAE, VAEConfig
from genctl.nets.lpips import psnr

JUDGED, FAIR = 8, 22.0  # pictures by which a codec is judged, and dB (PSNR) below which it is said
C = TypeVar("C")


def codec_config(name: str) -> VAEConfig:
    """The configuration of the codec called `name`, from its header. Raises ModelError when it is no codec."""
    document = files.read_header(hub.resolve(name)).document
    if document.get("family") != VAE.name:
        raise ModelError(f"{name}: a {document.get('family', 'foreign')} model cannot be the codec of another")
    return configs.build(VAEConfig, document.get("config", {}))


def with_codec(config: C) -> C:
    """The configuration with the codec's `channels` and `factor` where it leaves them open (None)."""
    said: Any = config
    codec = codec_config(said.codec)
    channels = codec.net.latent if said.channels is None else said.channels
    return replace(said, channels=channels, factor=said.factor or codec.factor)


def codec_hash(config: Any) -> dict[str, str]:
    """Which tensors the codec of a configuration has, without loading it."""
    return {"codec": part_hash(config.codec)}


class Coded(Conditional):
    """A family whose config has `codec` (its name), `channels` and `factor` (of its codes)."""

    def codec(self) -> VAE:
        """The frozen codec, loaded at first use; ModelError when it is not the one this model was trained on."""
        if "codec" not in self.parts:
            config = self.config
            path = str(hub.resolve_part("codec", config.codec, self.file, self.trusted))
            codec_config(path)
            with torch.inference_mode(False):  # also where drawing wants it first: projection learns through it
                model = load(path, self.device)
                model.prepare()
            assert isinstance(model, VAE)
            self.check_part("codec", model.weights_sha256)
            if (model.config.net.latent, model.factor) != (config.channels, config.factor):
                raise ModelError(
                    f"codec {config.codec} has {model.config.net.latent} channels at 1/{model.factor}, this model "
                    f"wants {config.channels} at 1/{config.factor}; see --set model.channels, model.factor"
                )
            self.parts["codec"] = model
        return self.parts["codec"]

    def judged(self, pictures: Pictures) -> list[str]:
        """Whether the codec renders such pictures at all: nothing drawn by its codes can be better."""
        held_out, codec = pictures.split(True), self.codec()
        shown = (held_out if len(held_out) else pictures).spread(JUDGED).pixels.to(self.device).float() / 127.5 - 1
        found = float(psnr(codec.decode(codec.encode(shown)), shown).mean())
        if found >= FAIR:
            return []
        how = "train a codec on them first (genctl train --model vae ... -o runs/codec), then this"
        return [
            f"the codec {self.config.codec!r} renders these pictures at {found:.1f} dB (22 is poor, 26 fair), and what "
            f"is drawn will be no sharper; {how} with --set model.codec=runs/codec"
        ]

    def rendered(self, x: Tensor) -> Tensor:
        """Pictures of codes, with a gradient."""
        return self.codec().rendered(x)
