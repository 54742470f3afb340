"""Generative adversarial networks (arXiv:1406.2661): a generator draws a picture of noise in one pass, a critic tells
it from real ones, and each learns from the other.

    w = mapping(z, c),  fake = synthesis(w, noise)                    nets/stylegan.py (or dcgan.py)
    critic     objective(D(A real), D(A fake)) + gamma (R1 + R2)       adversarial/losses.py; A: adversarial/augment.py
    generator  objective(D(A real), D(A fake))

Pictures are drawn in pixels. The default is R3GAN's objective (arXiv:2501.05441): relativistic pairs, whose penalties
on real and on fake pictures keep it stable, with its schedules over the first part of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genctl.data.pictures import Pictures
from genctl.draws import Draw, PictureNoise, address, generator, picture_noise
from genctl.errors import UsageError
from genctl.families.adversarial.augment import augment, numbers
from genctl.families.adversarial.losses import OBJECTIVES, one_centred, zero_centred
from genctl.families.adversarial.settings import CriticConfig, GANOptions, GeneratorConfig, LossConfig, between
from genctl.families.base import Blend, Drawn, Losses, Request, Source
from genctl.families.conditions.conditional import Conditional, classes_of
from genctl.families.eyes import lpips
from genctl.families.flow.sources import PixelSource
from genctl.media.pictures import refuse_infinite
from genctl.nets.critics import BorrowedCritic, ResidualCritic
from genctl.nets.dcgan import DCCritic, DCGenerator
from genctl.nets.stylegan import Mapping, Synthesis
from genctl.sizes import Size, Sized

MEAN_OF = 512  # noises of which the mean style of a condition is taken


@dataclass(frozen=True)
class GANConfig(Sized):
    pixels: Size = Size(64, 64)
    condition: Literal["text", "class", "none"] = "text"
    classes: tuple[str, ...] = ()  # empty in training means: as the data have them
    text: str = "minilm"  # name of the text encoder
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    @property
    def net(self) -> GeneratorConfig:
        """The generator's configuration, with the shape of its conditions."""
        if self.condition == "class":
            return replace(self.generator, text_width=max(1, len(self.classes)), text_slots=1)
        return self.generator

    @property
    def condition_width(self) -> int:
        return 0 if self.condition == "none" else self.net.text_width


class Generator(nn.Module):
    """Noise and a condition -> pictures, by way of styles where the network has them."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        net, side, condition = config.net, config.pixels.width, config.condition_width
        self.styled = net.kind == "style"
        if self.styled:
            self.mapping = Mapping(net.latent, condition, net.style, net.depth)
            self.synthesis = Synthesis(side, net.style, net.width, net.most)
        else:
            self.convolutions = DCGenerator(side, net.latent, condition, net.width)
        if condition:
            self.empty_slot = nn.Parameter(torch.zeros(net.text_slots, net.text_width), requires_grad=False)
            self.empty_pooled = nn.Parameter(torch.zeros(net.text_width))

    def forward(self, z: Tensor, c: Tensor | None, noises: list[Tensor] | None = None) -> Tensor:
        if not self.styled:
            return self.convolutions(z, c)
        return self.synthesis(self.styles(self.mapping(z, c)), noises)

    def styles(self, w: Tensor) -> Tensor:
        """One style [B, W] for all layers [B, L, W]."""
        return w[:, None].expand(-1, self.synthesis.count, -1)


class GAN(Conditional):
    """Text, a class or nothing -> pictures [B, 3, S, S]."""

    name = "gan"
    Config = GANConfig
    Options = GANOptions
    can = frozenset({"sample", "interpolate", "text", "class"})
    spaces = ()
    training_only = ("critic.",)
    scored = True
    config: GANConfig
    net: Generator

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config)
        if config.pixels.width != config.pixels.height:
            raise UsageError(f"model.pixels is {config.pixels}; a gan draws squares")
        self.config, self.pixels = config, config.pixels
        try:
            self.net = Generator(config)
            self.critic = critic_of(config)
        except ValueError as error:
            raise UsageError(f"model.pixels: {error}") from None
        self.can = self.can - {"text", "class"} | {config.condition} - {"none"}  # type: ignore[misc]

    @staticmethod
    def fitted(config: GANConfig, pictures: Pictures) -> GANConfig:
        if config.condition != "class":
            return config
        return replace(config, classes=classes_of(config, pictures))

    # training --------------------------------------------------------------------------------------------------------
    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net, "critic": self.critic}

    def beta2_at(self, progress: float) -> float:
        return between(self.config.loss.beta2, self.config.loss.burn_in, progress)

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return PixelSource(self, pictures, device)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        config, real, c = self.config.loss, batch["x"], self._condition(batch)
        objective = OBJECTIVES[config.objective]
        share = between(config.augment, config.burn_in, progress)
        disturbance = numbers(draw)

        def opinion(pictures: Tensor) -> Tensor:
            return self.critic(augment(pictures, disturbance, share), c).float()

        with torch.no_grad():
            fake = self._drawn(draw, c)
        real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
        on_real, on_fake = opinion(real), opinion(fake)
        loss = objective.critic(on_real, on_fake).mean()
        penalty = loss.new_zeros(())
        if objective.centre:
            penalty = one_centred(opinion, real, fake, draw.uniform()).mean()
        else:
            for given, opinions, pictures in ((config.on_real, on_real, real), (config.on_fake, on_fake, fake)):
                penalty = penalty + (zero_centred(opinions, pictures).mean() if given else 0)
        weight = between(config.penalty, config.burn_in, progress)
        signs = {"sign_real": on_real.detach().sign().mean(), "sign_fake": on_fake.detach().sign().mean()}
        yield "critic", loss + weight * penalty, signs | {"penalty": penalty.detach()}
        made = self._drawn(draw, c)
        with torch.no_grad():
            on_real = opinion(real.detach())
        yield "model", objective.generator(on_real, opinion(made)).mean(), {}

    def _condition(self, batch: dict[str, Tensor]) -> Tensor | None:
        if "pooled" not in batch:
            return None
        given = batch["present"].any(-1, keepdim=True)
        return torch.where(given, batch["pooled"], self.net.empty_pooled.to(batch["pooled"].dtype))

    def _drawn(self, draw: Draw, c: Tensor | None) -> Tensor:
        """Pictures of fresh noise; of some the later layers take the style of another one (arXiv:1812.04948)."""
        net, latent = self.net, self.config.net.latent
        z = draw.normal(latent)
        if not net.styled:
            return net(z, c).float()
        w = net.styles(net.mapping(z, c))
        other = net.styles(net.mapping(draw.normal(latent), c))
        cut = 1 + (draw.uniform() * (net.synthesis.count - 1)).long()
        cut = torch.where(draw.uniform() < self.config.loss.mixing, cut, net.synthesis.count)
        later = torch.arange(net.synthesis.count, device=w.device) >= cut[:, None]
        noises = [draw.normal(1, side, side) for side in net.synthesis.sides()]
        return net.synthesis(torch.where(later[..., None], other, w), noises).float()

    # sampling --------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        for start in range(0, len(request.seeds), request.chunk):
            places = range(start, min(start + request.chunk, len(request.seeds)))
            yield Drawn(start, torch.cat([self._one(request, place) for place in places]))

    def _one(self, request: Request, place: int) -> Tensor:
        """One picture, alone: what it rounds to does not depend on what is drawn beside it."""
        options, seed, net = self.options(request), request.seeds[place], self.net
        z = picture_noise([seed], self.noise_shape()) if request.noise is None else request.noise[[place]]
        asked: list[str | Blend] = [request.conditions[place] if request.conditions else ""]
        conditions = self.conditions(asked)
        c = conditions[2] if conditions else None
        z = z.to(self.device, self.dtype)
        if not net.styled:
            return refuse_infinite(net(z, c).float()).clamp(-1, 1)
        w = net.mapping(z, c)
        if options.truncation != 1:
            w = torch.lerp(self.mean_style(c), w, options.truncation)
        drawn = [PictureNoise([address("layer", seed, i)], (1, s, s))() for i, s in enumerate(net.synthesis.sides())]
        noises = [options.noise * noise.to(self.device) for noise in drawn]
        return refuse_infinite(net.synthesis(net.styles(w), noises).float()).clamp(-1, 1)

    def mean_style(self, c: Tensor | None) -> Tensor:
        """The mean style [1, W] under a condition [1, T], over fixed noises."""
        z = torch.randn(MEAN_OF, self.config.net.latent, generator=generator("mean style")).to(self.device)
        every = None if c is None else c.expand(MEAN_OF, -1)
        return self.net.mapping(z, every).mean(0, keepdim=True)

    def noise_shape(self, size: Any = None) -> tuple[int, ...]:
        return (self.config.net.latent,)

    def preview(self, source: Source) -> Tensor:
        asked: list[str | Blend] = [*self._asked(source)]
        request = Request(seeds=list(range(len(asked))), conditions=asked)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([part.pictures for part in self.sample(request)])

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        key = "class" if "class" in self.can else "prompt"
        return [{key: text, "seed": seed, "label": text} for seed, text in enumerate(self._asked(source))]

    def _asked(self, source: Source) -> list[str]:
        return [str(text) for text in getattr(source, "preview_prompts", [""] * 16)]


def critic_of(config: GANConfig) -> nn.Module:
    critic, side, condition = config.critic, config.pixels.width, config.condition_width
    if critic.kind == "borrowed":
        return BorrowedCritic(condition, lpips)
    if critic.kind == "dcgan":
        return DCCritic(side, condition, critic.width)
    return ResidualCritic(side, condition, critic.width, critic.most, critic.blocks, statistics=critic.statistics)
