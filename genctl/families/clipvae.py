"""The codec of clips: the picture codec with a time axis (networks: nets/causal.py).

    clip [3, 1 + 4 n, H, W]  ->  code [d, 1 + n, H/8, W/8]        loss: that of pictures (codec.py) on frames, and how
                                                                  neighbouring frames differ

A picture is a clip of one frame. Where what looks at one frame alone is `loss.frozen`, and begun from a picture codec
(--init vae), a first frame keeps that codec's code: a flow on such codes can go on from one on pictures. Clips are
coded part by part, in memory that does not grow with their length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import above, within
from genctl.data.clips import Clips, ClipSource, load_clips
from genctl.data.pictures import DataConfig, Pictures
from genctl.errors import UsageError
from genctl.families.base import Losses, Remark, Source
from genctl.families.codec import ConvConfig
from genctl.families.vae import MEASURED, VAE, LossConfig
from genctl.media.pictures import refuse_infinite, refuse_large
from genctl.nets.causal import KINDS, Decoder, Encoder, KindName, Shape
from genctl.nets.fold import LEAST
from genctl.nets.frames import Memory
from genctl.nets.lpips import psnr
from genctl.rng import Draw
from genctl.sizes import Size, Sized

JUDGED, FAIR = 8, 15.0  # pictures, and dB below which frozen slices of the present are no picture codec's
PART = 2  # code frames that are coded at once
SLOW = 2.0  # further channels of a fold are divided by so many deviations of their slowest cosine
SAYS = 1e-3  # share of the largest deviation below which a channel says nothing


@dataclass(frozen=True)
class ClipNetConfig(ConvConfig):
    latent: Annotated[int, within(1, 1024)] = 6  # channels of the code of a picture
    kind: KindName = "plain"
    times: tuple[bool, ...] = (True, True)  # between which levels time is halved as well
    pasts: Annotated[tuple[int, ...], within(0, 3)] = (0, 1, 1)  # side of a level's kernels in earlier frames
    fold: Annotated[int, within(1, 64)] = 1  # frames whose codes are put together, into one with
    further: Annotated[int, within(0, 1024)] = 0  # channels more, nothing in a first frame

    @property
    def channels_of_code(self) -> int:
        return self.latent + self.further

    @property
    def factor(self) -> int:
        return 2 ** (len(self.channels) if self.kind == "plain" else len(self.channels) - 1)

    @property
    def shape(self) -> Shape:
        """Raises UsageError for lists of lengths that do not go together."""
        levels = len(self.channels)
        if len(self.times) != levels - 1 or len(self.pasts) != levels or 2 in self.pasts:
            raise UsageError("net.pasts wants 0, 1 or 3 for each level, and net.times true or false for all but one")
        if self.further > (self.fold - 1) * self.latent or (self.fold > 1 and self.kind != "plain"):
            raise UsageError("net.further wants at most (net.fold - 1) net.latent, and net.fold the kind plain")
        blocks = self.encoder_blocks, self.decoder_blocks
        return Shape(self.channels, *blocks, self.times, self.pasts, KINDS[self.kind], self.fold, self.further)


@dataclass(frozen=True)
class ClipLossConfig(LossConfig):
    temporal: Annotated[float, within(0)] = 1.0  # of the absolute error of differences between neighbouring frames
    seen: Annotated[int, within(1, 4096)] = 4  # frames of a clip that LPIPS and the critic look at
    decoded: Annotated[int, within(0, 4096)] = 0  # frames in a row that are decoded in training; 0: all
    frozen: Literal["none", "encoder", "both"] = "none"  # whose slices of the present stay a picture codec's
    equivariance: Annotated[float, within(0, 1)] = 0.0


@dataclass(frozen=True)
class ClipVAEConfig(Sized):
    pixels: Size = Size(64, 64)
    frames: Annotated[int, within(1, 4096)] = 17  # of a training window
    fps: Annotated[float, above(0, 1000)] = 8.0
    stills: Annotated[float, within(0, 1)] = 0.2  # share of training batches of single frames
    net: ClipNetConfig = field(default_factory=ClipNetConfig)
    loss: ClipLossConfig = field(default_factory=ClipLossConfig)


class ClipVAE(VAE):
    """Clips [B, 3, T, H, W] <-> codes [B, d, t, H/f, W/f], normalised a channel, the first frame's by itself."""

    name = "clipvae"
    Config = ClipVAEConfig  # type: ignore[assignment]
    can = frozenset({"encode", "decode", "interpolate"})
    axes = "channels, time, height, width"
    config: ClipVAEConfig  # type: ignore[assignment]

    def __init__(self, config: ClipVAEConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]
        latent, self.period, self.fps = config.net.channels_of_code, config.net.shape.period, config.fps
        if config.loss.decoded and not config.net.shape.apart:
            raise UsageError(
                "model.loss.decoded wants frames that are decoded alone: net.times and net.pasts of nothing"
            )
        if config.loss.equivariance or config.loss.alignment:
            raise UsageError("model.loss.equivariance and model.loss.alignment are of pictures; clips have neither")
        if (config.frames - 1) % self.period:
            raise UsageError(f"model.frames = {config.frames}: one and a multiple of {self.period}")
        self.register_buffer("later_mean", torch.zeros(latent, 1, 1))
        self.register_buffer("later_std", torch.ones(latent, 1, 1))
        self.later_mean: Tensor
        self.later_std: Tensor
        self.code_mean, self.code_std = torch.zeros(latent, 1, 1), torch.ones(latent, 1, 1)

    @property
    def frozen(self) -> str:
        return self.config.loss.frozen

    def networks(self, latent: int) -> tuple[nn.Module, nn.Module]:
        shape = self.config.net.shape
        return Encoder(shape, latent), Decoder(shape, latent)

    # training --------------------------------------------------------------------------------------------------------
    @staticmethod
    def load_data(config: Any, folder: Any, data: DataConfig, report: Remark) -> Pictures:
        return load_clips(folder, config.pixels, config.frames, config.fps, data, report)

    def inherited(self, family: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A picture codec's kernels are slices of the present: the networks' convolutions in order."""
        measured = ("code_mean", "code_std", "later_mean", "later_std")
        spare = {key: len(self.get_buffer(key)) - len(tensors[key]) for key in measured if key in tensors}
        made = {
            key: F.pad(tensors[key], (0, 0, 0, 0, 0, more), value=float("std" in key)) for key, more in spare.items()
        }
        if family == self.name:
            return tensors | made
        for side in ("encoder", "decoder"):
            theirs = [key for key in ordered(tensors) if key.startswith(side)]
            ours = [f"{side}.{name}" for name in of_the_present(self.get_submodule(side))]
            if len(theirs) != len(ours):
                raise UsageError(f"--init: its {side} has {len(theirs)} tensors, the slices of the present {len(ours)}")
            made |= {own: tensors[key] for own, key in zip(ours, theirs, strict=True)}
        return made

    def prepare_training(self) -> None:
        if not self.config.loss.train_encoder:
            self.encoder.requires_grad_(False)
        for side in {"none": [], "encoder": [self.encoder], "both": [self.encoder, self.decoder]}[self.frozen]:
            for name in of_the_present(side):
                side.get_parameter(name).requires_grad_(False)

    def judged(self, pictures: Pictures) -> list[str]:
        """Raises UsageError where slices of the present are not trained and are no picture codec's."""
        if self.frozen != "none":
            shown = pictures.spread(JUDGED).pixels[:JUDGED, :, None].to(self.device).float() / 127.5 - 1
            with torch.no_grad():
                found = float(psnr(self.round_trip(shown)[:, :, 0], shown[:, :, 0]).mean())
            if found < FAIR:
                raise UsageError(
                    f"model.loss.frozen = {self.frozen} wants a picture codec to begin from (--init vae): "
                    f"single frames come back at {found:.1f} dB"
                )
        return []

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        assert isinstance(pictures, Clips)
        return ClipSource(pictures, self.config.frames, self.config.stills, device)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        loss, clips = self.config.loss, batch["clips"]  # [B, T, 3, H, W]
        mean, log_variance = self.moments(clips, {})
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        kl = torch.where(log_variance > LEAST, kl, 0.0).flatten(1).sum(1).mean()  # not of what is known to be nothing
        noise = draw.normal(*mean.shape[1:]) if loss.train_encoder else 0.0
        features = mean + (0.5 * log_variance).exp() * noise
        count = min(loss.decoded or clips.shape[1], clips.shape[1])
        start = int(torch.randint(clips.shape[1] - count + 1, (), generator=draw.step("decoded")))
        clips = clips[:, start : start + count]
        out = self.decoder(features, {}, slice(start, start + count)).float()
        absolute, temporal = (out - clips).abs().mean(), _differences(out, clips)
        chosen = torch.randperm(clips.shape[1], generator=draw.step("frames"))[: loss.seen]
        seen, shown = out[:, chosen].flatten(0, 1), clips[:, chosen].flatten(0, 1)
        perceptual = self.perceptual()(seen, shown).mean()
        figures = {"l1": absolute, "lpips": perceptual, "temporal": temporal, "kl": kl}
        figures["psnr"] = psnr(seen.clamp(-1, 1), shown).mean()
        made = absolute + loss.perceptual * perceptual
        total = made + loss.temporal * temporal + loss.kl * kl
        yield from self.with_critic(total, made, figures, seen, shown, progress)

    def moments(self, clips: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [B, t, d, h, w] of clips [B, T, 3, H, W]."""
        mean, log_variance = self.encoder(clips, memory).float().chunk(2, 2)
        return mean, log_variance.clamp(-20, 4)

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        clips = batch["clips"]
        out = self.round_trip(clips.transpose(1, 2)).transpose(1, 2).clamp(-1, 1)
        absolute, temporal = (out - clips).abs().mean(), _differences(out, clips)
        frames, shown = out.flatten(0, 1), clips.flatten(0, 1)
        perceptual = self.perceptual()(frames, shown).mean()
        total = absolute + self.config.loss.perceptual * perceptual + self.config.loss.temporal * temporal
        return {"loss": total, "psnr": psnr(frames, shown).mean(), "lpips": perceptual, "temporal": temporal}

    def round_trip(self, pictures: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W] as they come back, many at once."""
        mean, _ = self.moments(pictures.transpose(1, 2), {})
        return self.decoder(mean, {}).float().transpose(1, 2)

    @torch.no_grad()
    def preview(self, source: Source) -> Tensor:
        """Four frames of each of four clips above what comes back."""
        rows = torch.linspace(0, len(source.weights) - 1, 4).round().long()
        clips = self._windows(source, rows)
        places = torch.linspace(0, clips.shape[1] - 1, 4).round().long()
        out = self.round_trip(clips.transpose(1, 2)).transpose(1, 2)
        return torch.cat([part[:, places].flatten(0, 1) for part in (clips, out)]).clamp(-1, 1)

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        return [{"shown": label, "label": label} for label in ("frame", "as the codec has it") for _ in range(16)]

    def _windows(self, source: Source, rows: Tensor) -> Tensor:
        """Windows [B, T, 3, H, W] of these clips from their beginning, where they are so long."""
        assert isinstance(source, ClipSource)
        made = source.clips.windows(rows, torch.zeros_like(rows), self.config.frames)
        return made.float() / 127.5 - 1

    @torch.no_grad()
    def finish(self, source: Source) -> None:
        """Measure each channel's mean and deviation over the training clips, of first frames and of later ones."""
        assert isinstance(source, ClipSource)
        if not self.config.loss.train_encoder:
            return
        still = source.clips.still()
        moving = (torch.ones_like(still) if still.all() else ~still).nonzero()[:, 0]
        most = min(len(moving), max(1, MEASURED // self.config.frames))
        rows = moving[torch.linspace(0, len(moving) - 1, most).round().long()]
        codes = torch.cat([self.moments(self._windows(source, chunk), {})[0] for chunk in rows.split(8)])
        first, later = codes[:, :1], codes[:, 1:]
        if self.frozen == "none":
            self.code_mean.copy_(first.mean((0, 1, 3, 4))[:, None, None])
            self.code_std.copy_(deviations(first))
        if later.numel() and not still.all():
            self.later_mean.copy_(later.mean((0, 1, 3, 4))[:, None, None])
            self.later_std.copy_(self._divisors(deviations(later)))

    def _divisors(self, deviation: Tensor) -> Tensor:
        """By what channels are divided: further ones of a fold, whose deviations fall with the cosine's frequency, all
        by SLOW deviations of the slowest. With unit variance each, 18 of 24 channels would be noise to a flow."""
        latent = self.config.net.latent
        if not self.config.net.further:
            return deviation
        place = torch.arange(len(deviation), device=deviation.device)
        slow = deviation[latent + (place - latent) % min(latent, self.config.net.further)]  # of the same channel's
        return torch.where(place[:, None, None] < latent, deviation, SLOW * slow)

    # codes ------------------------------------------------------------------------------------------------------------
    def code_shape(self) -> tuple[int | None, ...]:
        return self.config.net.channels_of_code, None, None, None

    def code_frames(self, frames: int) -> int:
        """Frames of the code of a clip of so many."""
        return 1 + -(-(frames - 1) // self.period)

    def codes_of(self, features: Tensor) -> Tensor:
        """[B, t, d, h, w], the first one being a clip's first -> [B, d, t, h, w]."""
        first, later = features[:, :1], features[:, 1:]
        made = [(first - self.code_mean) / self.code_std, (later - self.later_mean) / self.later_std]
        return torch.cat(made, 1).transpose(1, 2)

    def features_of(self, codes: Tensor) -> Tensor:
        """[B, d, t, h, w] -> [B, t, d, h, w]."""
        codes = codes.to(self.dtype).transpose(1, 2)
        made = [codes[:, :1] * self.code_std + self.code_mean, codes[:, 1:] * self.later_std + self.later_mean]
        return torch.cat(made, 1)

    def _encode_one(self, picture: Tensor) -> Tensor:
        """A clip [1, 3, T, H, W] part by part; where its last part is not whole, its last frame stands for the rest."""
        refuse_large(picture.shape[-1], picture.shape[-2])
        clip = picture.transpose(1, 2)  # [1, T, 3, H, W]
        if spare := -(clip.shape[1] - 1) % self.period:
            clip = torch.cat([clip, clip[:, -1:].expand(-1, spare, -1, -1, -1)], 1)
        memory: Memory = {}
        parts = in_parts(clip, PART * self.period)
        made = [self.moments(part.to(self.device, self.dtype), memory)[0] for part in parts]
        return self.codes_of(torch.cat(made, 1))

    def _decode_one(self, code: Tensor) -> Tensor:
        features = self.features_of(code.to(self.device))
        memory: Memory = {}
        refuse_large(features.shape[-1] * self.factor, features.shape[-2] * self.factor)
        count, side = 1 + self.period * (features.shape[1] - 1), [cells * self.factor for cells in features.shape[-2:]]
        clip, done = features.new_empty(1, count, 3, *side, dtype=torch.float32), 0
        for part in in_parts(features, PART):
            made = refuse_infinite(self.decoder(part, memory).float()).clamp(-1, 1)
            clip[:, done : done + made.shape[1]] = made
            done += made.shape[1]
        return clip.transpose(1, 2)

    @torch.inference_mode()
    def encoded(self, pictures: Tensor) -> Tensor:
        return self.codes_of(self.moments(pictures.to(self.device, self.dtype).transpose(1, 2), {})[0])

    def prepare(self) -> None:
        for weight in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weight.ndim == 4:  # not the slices of the past
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def rendered(self, codes: Tensor) -> Tensor:
        return self.decoder(self.features_of(codes), {}).float().transpose(1, 2)


def in_parts(clip: Tensor, most: int) -> list[Tensor]:
    """The first frame of [B, T, ...], then at most so many at a time."""
    return [clip[:, :1], *(clip[:, 1:].split(most, 1) if clip.shape[1] > 1 else ())]


def deviations(codes: Tensor) -> Tensor:
    """Of each channel of [B, t, d, h, w], as [d, 1, 1]; 1 of those that say nothing, such as of how a still moves."""
    found = codes.std((0, 1, 3, 4))
    return torch.where(found > SAYS * found.max(), found, 1.0)[:, None, None]


def _differences(out: Tensor, clips: Tensor) -> Tensor:
    """The mean absolute error of differences between neighbouring frames [B, T, ...]; 0 of single frames."""
    if clips.shape[1] < 2:
        return out.new_zeros(())
    return (out.diff(dim=1) - clips.diff(dim=1)).abs().mean()


def ordered(tensors: dict[str, Tensor]) -> list[str]:
    """Keys in the order of their modules in a network, weights before biases."""

    def place(key: str) -> tuple[Any, ...]:
        *module, leaf = key.split(".")
        return [f"{int(part):04d}" if part.isdigit() else part for part in module], leaf != "weight"

    return sorted(tensors, key=place)


def of_the_present(side: nn.Module) -> list[str]:
    """The parameters of a network that look at one frame, in its order."""
    others = (".time.", ".past", ".fold.", ".unfold.")
    return [name for name, _ in side.named_parameters() if not any(part in f".{name}" for part in others)]
