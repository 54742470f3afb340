"""What picture codecs share: an encoder, a decoder, and losses of what comes back; between the two lies what each makes
of the encoder's features (KL: vae.py, integers: vq.py).

    loss = |x - y| + w_p LPIPS(x, y) + [the bottleneck's own] + w_a adaptive adversarial, late in the run

Half of the steps decode a resized and rotated code against the picture resized and rotated alike (EQ-VAE).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import within
from genctl.data.pictures import Pictures, PictureSource
from genctl.errors import UsageError
from genctl.families.base import Family, Losses, Source
from genctl.families.eyes import lpips
from genctl.media.pictures import refuse_infinite, refuse_large
from genctl.nets.autoencoder import Decoder, Encoder, PatchDiscriminator, transform_pair
from genctl.nets.fast import channels_last
from genctl.nets.lpips import LPIPS, psnr
from genctl.nets.tiles import tiled
from genctl.rng import Draw

TILE = 1024  # pixels of a side above which a picture is taken in parts


@dataclass(frozen=True)
class ConvConfig:
    """Of the encoder and the decoder."""

    channels: Annotated[tuple[int, ...], within(1, 8192)] = (32, 64, 192)  # one a factor of two
    encoder_blocks: Annotated[tuple[int, ...], within(0, 256)] = (1, 1, 1)
    decoder_blocks: Annotated[tuple[int, ...], within(0, 256)] = (1, 2, 2)

    @property
    def factor(self) -> int:
        """Pixels of a code cell's side."""
        return 2 ** len(self.channels)

    @property
    def sight(self) -> int:
        """How many code cells around one either network looks at, at most: two convolutions a block, one between
        levels, one at each end."""
        deepest = [max(pair) for pair in zip(self.encoder_blocks, self.decoder_blocks, strict=True)]
        pixels = sum(2 ** (level + 1) * (2 * blocks + 1) for level, blocks in enumerate(deepest)) + self.factor
        return 1 + -(-pixels // self.factor)


@dataclass(frozen=True)
class PictureLoss:
    """Of what comes back."""

    perceptual: Annotated[float, within(0)] = 1.0
    equivariance: Annotated[float, within(0, 1)] = 0.5  # share of steps that decode a transformed code
    adversarial: Annotated[float, within(0)] = 0.25  # times the adaptive weight
    adversarial_from: Annotated[float, within(0, 1)] = 0.6  # share of the run; 1 = never
    critic_width: Annotated[int, within(1, 1024)] = 32
    critic_penalty: Annotated[float, within(0)] = 1.0  # zero-centred gradient penalty on real pictures
    train_encoder: bool = True  # False: fine-tune the decoder alone; codes stay valid


class Codec(Family):
    """Pictures [B, 3, H, W] <-> codes of cells of `factor` pixels a side. A subclass says what lies between the
    networks: `bottleneck`, `codes_of` and `features_of`."""

    training_only: ClassVar[tuple[str, ...]] = ("critic.",)

    def __init__(self, config: Any, latent: int) -> None:
        """config: pixels, net (a ConvConfig), loss (a PictureLoss); latent: channels of the encoder's features."""
        super().__init__()
        net = config.net
        if not len(net.channels) == len(net.encoder_blocks) == len(net.decoder_blocks) or not net.channels:
            raise UsageError("net.channels, net.encoder_blocks and net.decoder_blocks want one number a level each")
        self.config, self.pixels = config, config.pixels
        self.factor, self.tile = net.factor, max(TILE, net.factor)
        config.pixels.check(net.factor, "the factor by which codes are smaller")
        self.encoder, self.decoder = self.networks(latent)
        self.critic = PatchDiscriminator(config.loss.critic_width)

    def networks(self, latent: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder."""
        net = self.config.net
        encoder = Encoder(net.channels, net.encoder_blocks, latent)
        return encoder, Decoder(net.channels, net.decoder_blocks, latent)

    @property
    def beyond_tensors(self) -> list[Any]:
        """What the codes of a picture depend on beside tensors and their shapes."""
        return []

    # what lies between ------------------------------------------------------------------------------------------------
    def between(self) -> list[nn.Module]:
        """What is trained beside encoder and decoder."""
        return []

    def bottleneck(self, pictures: Tensor, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """In training: the decoder's input [B, d, h, w] of pictures, a loss of its own, and figures."""
        raise NotImplementedError

    def further(self, features: Tensor, seen: list[Tensor]) -> tuple[Tensor | float, dict[str, Tensor]]:
        """A loss of the decoder's input beside what the eyes see of the same pictures, and figures."""
        return 0.0, {}

    def codes_of(self, features: Tensor) -> Tensor:
        """The encoder's features [B, d, h, w] -> codes."""
        raise NotImplementedError

    def features_of(self, codes: Tensor) -> Tensor:
        """Codes -> the decoder's input [B, d, h, w]."""
        raise NotImplementedError

    # training --------------------------------------------------------------------------------------------------------
    def phases(self) -> dict[str, nn.Module]:
        trained: list[nn.Module] = [self.encoder, self.decoder] if self.config.loss.train_encoder else [self.decoder]
        return {"model": nn.ModuleList([*trained, *self.between()]), "critic": self.critic}

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
        features, own, figures = self.bottleneck(pictures, draw)
        choice = torch.rand(3, generator=draw.step("equivariance"))
        if choice[0] < loss.equivariance:
            features, pictures = transform_pair(features, pictures, 0.25 + 0.75 * float(choice[1]), int(4 * choice[2]))
        out = self.decoder(features).float()
        absolute = (out - pictures).abs().mean()
        eyes = self.perceptual()
        seen = eyes.features(pictures)
        perceptual = eyes.distance(eyes.features(out), seen).mean()
        figures = {"l1": absolute, "lpips": perceptual, **figures, "psnr": psnr(out.clamp(-1, 1), pictures).mean()}
        further, more = self.further(features, seen)
        rendered = absolute + loss.perceptual * perceptual
        yield from self.with_critic(rendered + own + further, rendered, figures | more, out, pictures, progress)

    def with_critic(
        self, total: Tensor, rendered: Tensor, figures: dict[str, Tensor], made: Tensor, real: Tensor, progress: float
    ) -> Losses:  # fmt: skip
        """The phases of a step whose loss is `total`, of which `rendered` is what the critic is weighed against: once
        it has begun, what it says of the pictures `made` is added, and it learns them from `real` ones."""
        if progress < self.config.loss.adversarial_from:
            yield "model", total, figures
            return
        fooled = -self.critic(made).float().mean()
        weight = self._adaptive_weight(rendered, fooled)
        yield "model", total + self.config.loss.adversarial * weight * fooled, figures | {"adaptive": weight}
        yield self._critic_step(real, made.detach())

    def _adaptive_weight(self, reconstruction: Tensor, adversarial: Tensor) -> Tensor:
        """|grad reconstruction| / |grad adversarial| at the decoder's last learning layer (VQGAN, arXiv:2012.09841)."""
        layers = [module.weight for module in self.decoder.modules() if isinstance(module, nn.Conv2d)]
        last = [weight for weight in layers if weight.requires_grad][-1]
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

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        pictures = batch["pictures"]
        out = self.round_trip(pictures).clamp(-1, 1)
        perceptual = self.perceptual()(out, pictures).mean()
        absolute = (out - pictures).abs().mean()
        total = absolute + self.config.loss.perceptual * perceptual
        return {"loss": total, "psnr": psnr(out, pictures).mean(), "lpips": perceptual}

    def round_trip(self, pictures: Tensor) -> Tensor:
        """Pictures of one size as they come back, many at once."""
        return self.rendered(self.encoded(pictures))

    def preview(self, source: Source) -> Tensor:
        """Eight pictures above their reconstructions."""
        rows = torch.linspace(0, len(source.weights) - 1, 8).round().long()
        pictures = source.batch(rows, Draw(0, len(rows)))["pictures"]
        with torch.no_grad():
            out = self.round_trip(pictures)
        return torch.cat([pictures, out]).clamp(-1, 1)

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        return [{"shown": label, "label": label} for label in ("picture", "as the codec has it") for _ in range(8)]

    # codes ------------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], sides multiples of the factor -> codes."""
        return torch.cat([self._encode_one(picture[None]) for picture in pictures])

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes -> pictures. Each passes alone: a convolution's rounding may depend on the batch that it is in."""
        made = [self._decode_one(code[None]) for code in codes]
        return made[0] if len(made) == 1 else torch.cat(made)

    @torch.inference_mode()
    def encoded(self, pictures: Tensor) -> Tensor:
        """As `encode`, for what is trained on: many of one size at once, whose rounding depends on their number."""
        return self.codes_of(self._features(pictures).float())

    def rendered(self, codes: Tensor) -> Tensor:
        """As `decode`, for training on codes of one size: many at once, with gradients to codes that have any."""
        return self.decoder(contiguous_last(self.features_of(codes))).float()

    def _encode_one(self, picture: Tensor) -> Tensor:
        refuse_large(picture.shape[-1], picture.shape[-2])
        around = self.factor * self.config.net.sight
        return self.codes_of(tiled(self._features, picture, self.tile, around, 1 / self.factor).float())

    def _features(self, pictures: Tensor) -> Tensor:
        return self.encoder(contiguous_last(pictures.to(self.device, self.dtype)))[0]

    def _decode_one(self, code: Tensor) -> Tensor:
        features = self.features_of(code.to(self.device))
        refuse_large(features.shape[-1] * self.factor, features.shape[-2] * self.factor)
        return tiled(self._picture, features, self.tile // self.factor, self.config.net.sight, self.factor)

    def _picture(self, features: Tensor) -> Tensor:
        return refuse_infinite(self.decoder(contiguous_last(features)).float()).clamp(-1, 1)

    def prepare(self) -> None:
        channels_last(self)


def contiguous_last(x: Tensor) -> Tensor:
    """In the order that convolutions like best."""
    return x.contiguous(memory_format=torch.channels_last)
