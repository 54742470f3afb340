"""The picture codec: a KL autoencoder (arXiv:1312.6114, 2112.10752) with perceptual, equivariant and, late in the run,
adversarial losses.

    loss = |x - y| + w_p LPIPS(x, y) + w_k KL(q(z|x) || N(0, 1)) + w_a adaptive adversarial

Half of the steps decode a resized and rotated latent against the picture resized and rotated alike (EQ-VAE). The file
keeps each channel's mean and standard deviation over the training pictures; codes are normalised by them, so a flow on
codes sees unit variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import within
from genctl.data.pictures import Pictures, PictureSource
from genctl.draws import Draw
from genctl.errors import UsageError
from genctl.families.base import Family, Losses, Source
from genctl.families.eyes import lpips
from genctl.media.pictures import refuse_infinite, refuse_large
from genctl.nets.alignment import Alignment
from genctl.nets.autoencoder import Decoder, Encoder, PatchDiscriminator, transform_pair
from genctl.nets.fast import channels_last
from genctl.nets.lpips import LPIPS, psnr
from genctl.nets.tiles import tiled
from genctl.sizes import Size, Sized

TILE = 1024  # pixels of a side above which a picture is taken in parts


@dataclass(frozen=True)
class NetConfig:
    channels: Annotated[tuple[int, ...], within(1, 8192)] = (32, 64, 192)  # one a factor of two
    encoder_blocks: Annotated[tuple[int, ...], within(0, 256)] = (1, 1, 1)
    decoder_blocks: Annotated[tuple[int, ...], within(0, 256)] = (1, 2, 2)
    latent: Annotated[int, within(1, 1024)] = 6  # channels of the code


@dataclass(frozen=True)
class LossConfig:
    perceptual: Annotated[float, within(0)] = 1.0
    kl: Annotated[float, within(0)] = 1e-6  # of the sum over a picture's code, against the mean absolute error
    equivariance: Annotated[float, within(0, 1)] = 0.5  # share of steps that decode a transformed code
    alignment: Annotated[float, within(0)] = 0.0  # of the code with what LPIPS's net sees (nets/alignment.py)
    adversarial: Annotated[float, within(0)] = 0.25  # times the adaptive weight
    adversarial_from: Annotated[float, within(0, 1)] = 0.6  # share of the run; 1 = never
    critic_width: Annotated[int, within(1, 1024)] = 32
    critic_penalty: Annotated[float, within(0)] = 1.0  # zero-centred gradient penalty on real pictures
    train_encoder: bool = True  # False: fine-tune the decoder alone; codes stay valid


@dataclass(frozen=True)
class VAEConfig(Sized):
    pixels: Size = Size(128, 128)
    net: NetConfig = field(default_factory=NetConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    @property
    def factor(self) -> int:
        """Pixels of a code cell's side."""
        return 2 ** len(self.net.channels)

    @property
    def sight(self) -> int:
        """How many code cells around one either network looks at, at most: two convolutions a block, one between
        levels, one at each end."""
        deepest = [max(pair) for pair in zip(self.net.encoder_blocks, self.net.decoder_blocks, strict=True)]
        pixels = sum(2 ** (level + 1) * (2 * blocks + 1) for level, blocks in enumerate(deepest)) + self.factor
        return 1 + -(-pixels // self.factor)


class VAE(Family):
    """Pictures [B, 3, H, W] <-> codes [B, d, H/f, W/f], normalised a channel."""

    name = "vae"
    Config = VAEConfig
    can = frozenset({"encode", "decode", "interpolate"})
    training_only = ("critic.", "alignment.")

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        net = config.net
        if not len(net.channels) == len(net.encoder_blocks) == len(net.decoder_blocks) or not net.channels:
            raise UsageError("net.channels, net.encoder_blocks and net.decoder_blocks want one number a level each")
        self.config, self.pixels = config, config.pixels
        self.factor, self.tile = config.factor, max(TILE, config.factor)
        config.pixels.check(config.factor, "the factor by which codes are smaller")
        self.encoder = Encoder(net.channels, net.encoder_blocks, net.latent)
        self.decoder = Decoder(net.channels, net.decoder_blocks, net.latent)
        self.critic = PatchDiscriminator(config.loss.critic_width)
        self.alignment = Alignment(net.latent) if config.loss.alignment and config.loss.train_encoder else None
        self.register_buffer("code_mean", torch.zeros(net.latent, 1, 1))
        self.register_buffer("code_std", torch.ones(net.latent, 1, 1))
        self.code_mean: Tensor
        self.code_std: Tensor

    def phases(self) -> dict[str, nn.Module]:
        trained: list[nn.Module] = [self.encoder, self.decoder] if self.config.loss.train_encoder else [self.decoder]
        if self.alignment is not None:
            trained.append(self.alignment)
        return {"model": nn.ModuleList(trained), "critic": self.critic}

    def averaged(self) -> nn.Module:
        return nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return PictureSource(pictures, device)

    def perceptual(self) -> LPIPS:
        """LPIPS, a training-only part, loaded at first use."""
        if "lpips" not in self.parts:
            self.parts["lpips"] = lpips().to(self.device)
        return self.parts["lpips"]

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        loss = self.config.loss
        pictures = batch["pictures"].contiguous(memory_format=torch.channels_last)
        codes, kl = self._posterior(pictures, draw)
        choice = torch.rand(3, generator=draw.step("equivariance"))
        if choice[0] < loss.equivariance:
            codes, pictures = transform_pair(codes, pictures, 0.25 + 0.75 * float(choice[1]), int(4 * choice[2]))
        out = self.decoder(codes).float()
        absolute = (out - pictures).abs().mean()
        eyes = self.perceptual()
        seen = eyes.features(pictures)
        perceptual = eyes.distance(eyes.features(out), seen).mean()
        total = absolute + loss.perceptual * perceptual + loss.kl * kl
        figures = {"l1": absolute, "lpips": perceptual, "kl": kl, "psnr": psnr(out.clamp(-1, 1), pictures).mean()}
        if self.alignment is not None:
            figures["alignment"] = self.alignment(codes, seen)
            total = total + loss.alignment * figures["alignment"]
        if progress < loss.adversarial_from:
            yield "model", total, figures
            return
        fooled = -self.critic(out).float().mean()
        weight = self._adaptive_weight(absolute + loss.perceptual * perceptual, fooled)
        yield "model", total + loss.adversarial * weight * fooled, figures | {"adaptive": weight}
        yield self._critic_step(pictures, out.detach())

    def _posterior(self, pictures: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        if not self.config.loss.train_encoder:
            with torch.no_grad():
                mean, _ = self.encoder(pictures)
            return mean.float(), mean.new_zeros((), dtype=torch.float32)
        mean, log_variance = self.encoder(pictures)
        mean, log_variance = mean.float(), log_variance.float()
        noise = draw.normal(*mean.shape[1:])
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        return mean + (0.5 * log_variance).exp() * noise, kl

    def _adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """|grad reconstruction| / |grad adversarial| at the decoder's last layer (VQGAN, arXiv:2012.09841)."""
        last = [module for module in self.decoder.modules() if isinstance(module, nn.Conv2d)][-1].weight
        ours = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].float().norm()
        theirs = torch.autograd.grad(adversarial, last, retain_graph=True)[0].float().norm()
        return (ours / (theirs + 1e-4)).clamp(0, 1e4).detach()

    def _critic_step(self, real: Tensor, fake: Tensor) -> tuple[str, Tensor, dict[str, Tensor]]:
        """Hinge loss and a zero-centred gradient penalty on real pictures (R1, arXiv:1801.04406)."""
        real = real.detach().requires_grad_()
        on_real, on_fake = self.critic(real).float(), self.critic(fake).float()
        (slope,) = torch.autograd.grad(on_real.mean((1, 2, 3)).sum(), real, create_graph=True)
        penalty = self.config.loss.critic_penalty * slope.float().square().sum((1, 2, 3)).mean()
        hinge = (F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()) / 2
        return "critic", hinge + penalty, {"critic": hinge, "critic_penalty": penalty}

    def code_shape(self) -> tuple[int | None, ...]:
        return self.config.net.latent, None, None

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        pictures = batch["pictures"]
        out = self.decoder(self.encoder(pictures)[0]).float().clamp(-1, 1)
        perceptual = self.perceptual()(out, pictures).mean()
        absolute = (out - pictures).abs().mean()
        total = absolute + self.config.loss.perceptual * perceptual
        return {"loss": total, "psnr": psnr(out, pictures).mean(), "lpips": perceptual}

    @torch.no_grad()
    def finish(self, source: Source) -> None:
        """Measure each channel's mean and standard deviation over (at most 2,048 of) the training pictures."""
        if not self.config.loss.train_encoder:
            return
        count = len(source.weights)
        rows = torch.linspace(0, count - 1, min(count, 2048)).round().long()
        parts = []
        for chunk in rows.split(64):
            pictures = source.batch(chunk, Draw(0, len(chunk)))["pictures"]
            parts.append(self.encoder(pictures)[0].float())
        codes = torch.cat(parts)
        self.code_mean.copy_(codes.mean((0, 2, 3)).reshape(self.code_mean.shape))
        self.code_std.copy_(codes.std((0, 2, 3)).reshape(self.code_std.shape))

    def preview(self, source: Source) -> Tensor:
        """Eight pictures above their reconstructions."""
        rows = torch.linspace(0, len(source.weights) - 1, 8).round().long()
        pictures = source.batch(rows, Draw(0, len(rows)))["pictures"]
        with torch.no_grad():
            out = self.decoder(self.encoder(pictures)[0]).float()
        return torch.cat([pictures, out]).clamp(-1, 1)

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        return [{"shown": label, "label": label} for label in ("picture", "as the codec has it") for _ in range(8)]

    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], sides multiples of the factor -> the posterior's mean, normalised [B, d, H/f, W/f]."""
        return torch.cat([self._encode_one(picture[None]) for picture in pictures])

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes -> pictures. Each passes alone: a convolution's rounding may depend on the batch that it is in."""
        return torch.cat([self._decode_one(code[None]) for code in codes])

    @torch.inference_mode()
    def encoded(self, pictures: Tensor) -> Tensor:
        """As `encode`, for what is trained on: many of one size at once, whose rounding depends on their number."""
        return (self._mean(pictures).float() - self.code_mean) / self.code_std

    def rendered(self, codes: Tensor) -> Tensor:
        """As `decode`, for training on codes of one size: many at once, with gradients to the codes."""
        return self.decoder(contiguous_last(codes.to(self.dtype) * self.code_std + self.code_mean)).float()

    def _encode_one(self, picture: Tensor) -> Tensor:
        refuse_large(picture.shape[-1], picture.shape[-2])
        mean = tiled(self._mean, picture, self.tile, self.factor * self.config.sight, 1 / self.factor)
        return ((mean - self.code_mean) / self.code_std).float()

    def _mean(self, pictures: Tensor) -> Tensor:
        return self.encoder(contiguous_last(pictures.to(self.device, self.dtype)))[0]

    def _decode_one(self, code: Tensor) -> Tensor:
        refuse_large(code.shape[-1] * self.factor, code.shape[-2] * self.factor)
        code = code.to(self.device, self.dtype) * self.code_std + self.code_mean
        return tiled(self._picture, code, self.tile // self.factor, self.config.sight, self.factor)

    def _picture(self, codes: Tensor) -> Tensor:
        return refuse_infinite(self.decoder(contiguous_last(codes)).float()).clamp(-1, 1)

    def prepare(self) -> None:
        channels_last(self)


def contiguous_last(x: Tensor) -> Tensor:
    """In the order that convolutions like best."""
    return x.contiguous(memory_format=torch.channels_last)
