"""Generative adversarial networks (arXiv:1406.2661): a generator draws a picture of noise in one pass, a critic tells
it from real ones, and each learns from the other.

    w = mapping(z, c),  fake = synthesis(w, noise)                     nets/stylegan.py (or dcgan.py)
    critic     objective(D(A real), D(A fake)) + gamma (R1 + R2)        adversarial/losses.py; A: adversarial/augment.py
    generator  objective(D(A real), D(A fake))

x is a picture, or with `codec` the codes that it is decoded from. The default is R3GAN's objective (arXiv:2501.05441):
relativistic pairs, whose penalties on real and on fake ones keep it stable, with its schedules over the first part of a
run. Real pictures under another's condition count as fakes too (arXiv:1605.05396), so that words are heeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from genctl.data.pictures import Pictures
from genctl.errors import UsageError
from genctl.families.adversarial import step
from genctl.families.adversarial.generator import Generator
from genctl.families.adversarial.project import project
from genctl.families.adversarial.settings import GANConfig, GANOptions, between
from genctl.families.base import Drawn, Losses, Request, Source
from genctl.families.coded import Coded, codec_hash, with_codec
from genctl.families.conditions.conditional import Conditional, Row
from genctl.families.eyes import lpips
from genctl.families.sources import CodeSource, PixelSource
from genctl.media.pictures import refuse_infinite
from genctl.nets.critics import BorrowedCritic, Critic, ResidualCritic
from genctl.nets.dcgan import DCCritic
from genctl.nets.lpips import psnr
from genctl.rng import Draw, address, picture_noise

LOOKED = 64  # training pictures by which the critic's sign is taken
KNOWS, BEYOND = 0.8, 0.3  # sign on training pictures, and how far below it on held-out ones, that a person should know


class GAN(Coded):
    """Text, a class or nothing -> pictures [B, 3, S, S]; codes [L, W] are the styles of the generator's layers."""

    name = "gan"
    Config = GANConfig
    Options = GANOptions
    can = frozenset({"sample", "encode", "decode", "interpolate", "text", "class"})
    axes, straight = "layers, style", True
    training_only = ("critic.",)
    scored = True
    config: GANConfig
    net: Generator

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        if config.pixels.width != config.pixels.height:
            raise UsageError(f"model.pixels is {config.pixels}; a gan draws squares")
        if config.codec and config.generator.kind == "dcgan":
            raise UsageError("model.generator.kind = dcgan draws pictures, not codes; take style, or no model.codec")
        if config.codec and (config.channels is None or config.factor is None):
            raise UsageError("model.channels and model.factor are open; say those of the codec")
        if config.codec:
            self.factor = config.factor or 1
            config.pixels.check(self.factor, "the codec's factor")
        self.config, self.pixels = config, config.pixels
        channels, side = config.shape
        try:
            self.net = Generator(config.net, side, config.condition_width, channels)
        except ValueError as error:
            raise UsageError(f"model.pixels: {error}") from None
        self.trained_sign = 0.0  # of the critic on training pictures, at the latest save
        if not self.net.styled:
            self.can, self.spaces = self.can - {"encode", "decode"}, ()

    @staticmethod
    def settled(config: GANConfig) -> GANConfig:
        return with_codec(config) if config.codec else config

    @staticmethod
    def part_hashes(config: GANConfig) -> dict[str, str]:
        return Conditional.part_hashes(config) | (codec_hash(config) if config.codec else {})

    def judged(self, pictures: Pictures) -> list[str]:
        return super().judged(pictures) if self.config.codec else []

    # training --------------------------------------------------------------------------------------------------------
    critic: Critic

    def prepare_training(self) -> None:
        """With a critic, which only training needs."""
        self.critic = critic_of(self.config, self.rendered if self.config.codec else None).to(self.device)

    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net, "critic": self.critic}

    def rate_of(self, phase: str) -> float:
        return self.config.loss.critic_rate if phase == "critic" else 1.0

    def beta2_at(self, progress: float) -> float:
        return between(self.config.loss.beta2, self.config.loss.burn_in, progress)

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        if self.config.codec:
            return Mismatched(CodeSource(self, self.codec(), pictures, device))
        return Mismatched(PixelSource(self, pictures, device))

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        yield from step.losses(self, batch, draw, progress)

    def finish(self, source: Source) -> None:
        rows = torch.linspace(0, len(source.weights) - 1, min(LOOKED, len(source.weights))).round().long()
        batch = source.batch(rows, Draw(address("sign"), len(rows)))
        self.trained_sign = float(step.sign_of(self, batch, Draw(address("sign noise"), len(rows), self.device)))

    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """No loss says how good the pictures are (training/score.py does); the critic's sign says what it knows by
        heart."""
        sign = step.sign_of(self, batch, draw)
        return {"sign": sign, "sign_trained": sign.new_tensor(self.trained_sign)}

    def warnings(self, figures: dict[str, float]) -> list[str]:
        trained, held = figures.get("sign_trained", 0.0), figures.get("sign", 0.0)
        if trained < KNOWS or trained - held < BEYOND:
            return []
        return [
            f"the critic knows the training pictures by heart (it prefers them with sign {trained:.2f}, held-out ones "
            f"with {held:.2f}): --set model.loss.adapt=0.6 disturbs what it sees as far as it takes; more pictures help"
        ]

    # sampling --------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        """Each picture alone: what it rounds to does not depend on what is drawn beside it."""
        options, asked = self.options(request), request.conditions or [""] * len(request.seeds)
        conditions = self.conditions(asked)
        for start in range(0, len(request.seeds), request.chunk):
            places = range(start, min(start + request.chunk, len(request.seeds)))
            made = []
            for place in places:
                noise = None if request.noise is None else request.noise[[place]]
                c = conditions[2][[place]] if conditions else None
                with torch.autocast(self.device.type, torch.bfloat16, enabled=request.dtype == torch.bfloat16):
                    made.append(self._one(request.seeds[place], c, options, noise))
            yield Drawn(start, torch.cat(made))

    def _one(self, seed: int, c: Tensor | None, options: GANOptions, noise: Tensor | None = None) -> Tensor:
        net, shape = self.net, self.noise_shape()
        numbers = (picture_noise([seed], shape) if noise is None else noise).to(self.device, self.dtype)
        if not net.styled:
            return self.shown(net(numbers, c))
        z, *layers = numbers.split(self.sizes(), 1)
        other = None if options.mix is None else picture_noise([options.mix], shape).to(z)[:, : net.latent]
        sides = net.synthesis.sides()
        noises = [options.noise * one.view(1, 1, side, side) for one, side in zip(layers, sides, strict=True)]
        return self.shown(net.synthesis(net.style(z, c, options, other), noises))

    def sizes(self) -> list[int]:
        """How many of a picture's random numbers are z, and each layer's noise."""
        sides = self.net.synthesis.sides() if self.net.styled else []
        return [self.net.latent, *(side**2 for side in sides)]

    def shown(self, x: Tensor) -> Tensor:
        """x [B, C, S, S] as pictures."""
        x = refuse_infinite(x.float())
        return self.codec().decode(x) if self.config.codec else x.clamp(-1, 1)

    def recorded(self, request: Request) -> dict[str, Any]:
        dtype = {"dtype": "bf16"} if request.dtype == torch.bfloat16 else {}
        return dtype | super().recorded(request)

    def noise_shape(self, size: Any = None) -> tuple[int, ...]:
        return (sum(self.sizes()),)

    def _class_row(self, name: str) -> Row:
        states, present, pooled = super()._class_row(name)
        return states, present, pooled if name else self.net.empty_pooled.detach().float().cpu()

    # codes -----------------------------------------------------------------------------------------------------------
    def code_shape(self) -> tuple[int | None, ...]:
        return self.net.synthesis.count, self.config.net.style

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, S, S] in [-1, 1] -> styles [B, L, W] that draw them, each found by optimisation."""
        if "eyes" not in self.parts:
            with torch.inference_mode(False):
                self.parts["eyes"] = lpips().to(self.device)
        return torch.cat([self._encoded(picture[None].to(self.device)) for picture in pictures])

    def _encoded(self, picture: Tensor) -> Tensor:
        net, codec = self.net, self.codec() if self.config.codec else None
        with torch.inference_mode(False), torch.enable_grad():
            c = None if not self.config.condition_width else net.empty_pooled.detach()[None]
            start = net.styles(net.some_styles(c).mean(0, keepdim=True)).float()
            picture = picture.clone()
            x = picture if codec is None else codec.encode(picture).clone()
            render = codec.rendered if codec is not None else nn.Identity()
            with step.frozen(self), step.frozen(codec or nn.Identity()):
                return project(net.synthesis, render, start, x, picture, self.parts["eyes"], self.watch)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Styles [B, L, W] -> pictures [B, 3, S, S], without fresh noise."""
        return torch.cat([self.shown(self.net.synthesis(code[None].to(self.device, self.dtype))) for code in codes])

    @torch.inference_mode()
    def code_facts(self, pictures: Tensor, codes: Tensor) -> dict[str, float]:
        back = self.decode(codes)
        pictures = pictures.to(self.device)
        found = {"round_trip_db": psnr(back, pictures), "round_trip_lpips": self.parts["eyes"](back, pictures)}
        return {key: round(float(value.mean()), 3) for key, value in found.items()}


class Mismatched:
    """A source whose batches also have, as `other`, the condition of another row (one's own where that has none)."""

    def __init__(self, source: PixelSource | CodeSource) -> None:
        self.source, self.weights, self.preview_prompts = source, source.weights, source.preview_prompts

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        made = self.source.batch(rows, draw)
        if "pooled" not in made:
            return made
        given, own = made["present"].any(1, keepdim=True), made["pooled"]
        return made | {"other": torch.where(given.roll(1, 0), own.roll(1, 0), own)}


def critic_of(config: GANConfig, rendered: Callable[[Tensor], Tensor] | None) -> Critic:
    critic, condition, (channels, side) = config.critic, config.condition_width, config.shape
    if critic.kind == "borrowed":
        return BorrowedCritic(condition, lpips, rendered)
    if critic.kind == "dcgan":
        return DCCritic(side, condition, critic.width, channels)
    return ResidualCritic(side, condition, critic.width, critic.most, critic.blocks, channels, critic.statistics)
