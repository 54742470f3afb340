"""Latent diffusion with a transformer, text to image: a flow on a frozen codec's codes, conditioned on a frozen
encoder's text (arXiv:2112.10752, 2212.09748, 2403.03206).

    training  x = codec.encode(picture), text states of a caption          the loss and the loop: families/flow/
    sampling  noise -> x -> codec.decode

Codes and text states are computed once and cached; a tenth of the captions is dropped in training, so that the same net
also predicts without text, which guidance needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from torch import Tensor

from genctl import config as configs
from genctl import files, hub
from genctl.config import within
from genctl.data.pictures import Pictures
from genctl.errors import ModelError, UsageError
from genctl.families.base import Source
from genctl.families.conditions.conditional import part_hash
from genctl.families.flow.flow import Flow
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.families.flow.sources import CodeSource
from genctl.families.saved import load
from genctl.families.vae import VAE, VAEConfig
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.lpips import psnr
from genctl.sizes import Size, Sized

JUDGED, FAIR = 8, 22.0  # pictures by which a codec is judged, and dB (PSNR) below which it is said


@dataclass(frozen=True)
class LDMConfig(Sized):
    pixels: Size = Size(128, 128)
    codec: str = "vae"  # name of the codec, and
    text: str = "minilm"  # of the text encoder
    channels: Annotated[int | None, within(1, 1024)] = None  # of the codec's codes, and
    factor: Annotated[int | None, within(1, 256)] = None  # pixels a code cell; None in training: as the codec has
    net: DiTConfig = field(default_factory=DiTConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def codec_config(name: str) -> VAEConfig:
    """The configuration of the codec called `name`, from its header. Raises ModelError when it is no codec."""
    document = files.read_header(hub.resolve(name)).document
    if document.get("family") != VAE.name:
        raise ModelError(f"{name}: a {document.get('family', 'foreign')} model cannot be the codec of an ldm")
    return configs.build(VAEConfig, document.get("config", {}))


class LDM(Flow):
    """Text (or nothing) -> pictures [B, 3, S, S]; codes [B, d, S/f, S/f] are the codec's."""

    name = "ldm"
    Config = LDMConfig
    can = frozenset({"sample", "encode", "decode", "interpolate", "text", "image", "mask"})
    spaces = ("code", "noise")
    config: LDMConfig

    def __init__(self, config: LDMConfig) -> None:
        super().__init__(config)
        if config.channels is None or config.factor is None:
            raise UsageError("model.channels and model.factor are open; say those of the codec")
        if config.net.text == "none":
            raise UsageError('net.text = "none": an ldm is a text model; use joint or cross')
        config.pixels.check(config.factor * config.net.coarsest, "the codec's factor times the patch")
        self.net = DiT(config.net, config.channels)
        self.shape = self.shape_of(config.pixels)

    @staticmethod
    def settled(config: LDMConfig) -> LDMConfig:
        codec = codec_config(config.codec)
        channels = codec.net.latent if config.channels is None else config.channels
        return replace(config, channels=channels, factor=config.factor or codec.factor)

    @staticmethod
    def part_hashes(config: LDMConfig) -> dict[str, str]:
        return {"codec": part_hash(config.codec), "text": part_hash(config.text, "part")}

    def shape_of(self, size: Size) -> tuple[int, ...]:
        factor = self.config.factor or 1
        return self.config.channels or 1, size.height // factor, size.width // factor

    def codec(self) -> VAE:
        """The frozen codec, loaded at first use; ModelError when it is not the one this model was trained on."""
        if "codec" not in self.parts:
            path = str(hub.resolve_part("codec", self.config.codec, self.file, self.trusted))
            codec_config(path)
            model = load(path, self.device)
            assert isinstance(model, VAE)
            self.check_part("codec", model.weights_sha256)
            if (model.config.net.latent, model.factor) != (self.config.channels, self.config.factor):
                raise ModelError(
                    f"codec {self.config.codec} has {model.config.net.latent} channels at 1/{model.factor}, this model "
                    f"wants {self.config.channels} at 1/{self.config.factor}; see --set model.channels, model.factor"
                )
            model.prepare()
            self.parts["codec"] = model
        return self.parts["codec"]

    def judged(self, pictures: Pictures) -> list[str]:
        """Whether the codec renders such pictures at all: no flow on its codes can be better."""
        held_out = pictures.split(True)
        shown = (held_out if len(held_out) else pictures).spread(JUDGED).pixels.to(self.device).float() / 127.5 - 1
        found = float(psnr(self.decode(self.encode(shown)), shown).mean())
        if found >= FAIR:
            return []
        how = "train a codec on them first (genctl train --model vae ... -o runs/codec), then this"
        return [
            f"the codec {self.config.codec!r} renders these pictures at {found:.1f} dB (22 is poor, 26 fair), and what "
            f"is drawn will be no sharper; {how} with --set model.codec=runs/codec"
        ]

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return CodeSource(self, self.codec(), pictures, device)

    def to_x(self, pictures: Tensor) -> Tensor:
        return self.encode(pictures)

    def from_x(self, x: Tensor) -> Tensor:
        return self.decode(x)

    def rendered(self, x: Tensor) -> Tensor:
        return self.codec().rendered(x)

    def encode(self, pictures: Tensor) -> Tensor:
        return self.codec().encode(pictures)

    def decode(self, codes: Tensor) -> Tensor:
        return self.codec().decode(codes)
