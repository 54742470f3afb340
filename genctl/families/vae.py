"""The continuous picture codec: a KL autoencoder (arXiv:1312.6114, 2112.10752).

    codes = mean + deviation * noise, both the encoder's     loss + w_k KL(q(z|x) || N(0, 1))     the rest: codec.py

The file keeps each channel's mean and standard deviation over the training pictures; codes are normalised by them, so a
flow on codes sees unit variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from genctl.config import within
from genctl.families.base import Source
from genctl.families.codec import Codec, ConvConfig, PictureLoss
from genctl.nets.alignment import Alignment
from genctl.rng import Draw
from genctl.sizes import Size, Sized

MEASURED = 2048  # pictures by which the codes' mean and deviation are taken


@dataclass(frozen=True)
class NetConfig(ConvConfig):
    latent: Annotated[int, within(1, 1024)] = 6  # channels of the code


@dataclass(frozen=True)
class LossConfig(PictureLoss):
    kl: Annotated[float, within(0)] = 1e-6  # of the sum over a picture's code, against the mean absolute error
    alignment: Annotated[float, within(0)] = 0.0  # of the code with what LPIPS's net sees (nets/alignment.py)


@dataclass(frozen=True)
class VAEConfig(Sized):
    pixels: Size = Size(128, 128)
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)


class VAE(Codec):
    """Pictures [B, 3, H, W] <-> codes [B, d, H/f, W/f], normalised a channel: the posterior's mean."""

    name = "vae"
    Config = VAEConfig
    can = frozenset({"encode", "decode", "interpolate"})
    training_only = ("critic.", "alignment.")
    config: VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        latent = config.net.latent
        super().__init__(config, latent)
        self.alignment = Alignment(latent) if config.loss.alignment and config.loss.train_encoder else None
        self.register_buffer("code_mean", torch.zeros(latent, 1, 1))
        self.register_buffer("code_std", torch.ones(latent, 1, 1))
        self.code_mean: Tensor
        self.code_std: Tensor

    def between(self) -> list[nn.Module]:
        return [] if self.alignment is None else [self.alignment]

    def bottleneck(self, pictures: Tensor, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if not self.config.loss.train_encoder:
            with torch.no_grad():
                mean = self.encoder(pictures)[0].float()
            kl = mean.new_zeros(())
            return mean, kl, {"kl": kl}
        mean, log_variance = (part.float() for part in self.encoder(pictures))
        noise = draw.normal(*mean.shape[1:])
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        return mean + (0.5 * log_variance).exp() * noise, self.config.loss.kl * kl, {"kl": kl}

    def further(self, features: Tensor, seen: list[Tensor]) -> tuple[Tensor | float, dict[str, Tensor]]:
        if self.alignment is None:
            return 0.0, {}
        found = self.alignment(features, seen)
        return self.config.loss.alignment * found, {"alignment": found}

    def codes_of(self, features: Tensor) -> Tensor:
        return (features - self.code_mean) / self.code_std

    def features_of(self, codes: Tensor) -> Tensor:
        return codes.to(self.dtype) * self.code_std + self.code_mean

    def round_trip(self, pictures: Tensor) -> Tensor:
        """Without the codes' mean and deviation, which are measured when a file is written."""
        return self.decoder(self.encoder(pictures)[0]).float()

    def code_shape(self) -> tuple[int | None, ...]:
        return self.config.net.latent, None, None

    @torch.no_grad()
    def finish(self, source: Source) -> None:
        """Measure each channel's mean and standard deviation over the training pictures, or so many of them."""
        if not self.config.loss.train_encoder:
            return
        count = len(source.weights)
        rows = torch.linspace(0, count - 1, min(count, MEASURED)).round().long()
        parts = []
        for chunk in rows.split(64):
            pictures = source.batch(chunk, Draw(0, len(chunk)))["pictures"]
            parts.append(self.encoder(pictures)[0].float())
        codes = torch.cat(parts)
        self.code_mean.copy_(codes.mean((0, 2, 3)).reshape(self.code_mean.shape))
        self.code_std.copy_(codes.std((0, 2, 3)).reshape(self.code_std.shape))
