"""The network that draws, by way of styles where it has them; and what can be done with a style: towards the mean,
mixed with another, along a direction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genctl.families.adversarial.settings import GeneratorConfig
from genctl.nets.dcgan import DCGenerator
from genctl.nets.stylegan import Mapping, Synthesis
from genctl.rng import generator

MEAN_OF = 512  # noises of which a mean style and deviations are taken


class Generator(nn.Module):
    """Noise z [B, Z] and a condition [B, T] -> x [B, C, S, S]: pictures, or a codec's codes."""

    def __init__(self, net: GeneratorConfig, side: int, condition: int, channels: int = 3) -> None:
        super().__init__()
        self.styled, self.latent = net.kind == "style", net.latent
        if self.styled:
            self.mapping = Mapping(net.latent, condition, net.style, net.depth)
            self.synthesis = Synthesis(side, net.style, net.width, net.most, channels)
        else:
            self.convolutions = DCGenerator(side, net.latent, condition, net.width, channels)
        if condition:
            self.empty_slot = nn.Parameter(torch.zeros(net.text_slots, net.text_width), requires_grad=False)
            self.empty_pooled = nn.Parameter(torch.randn(net.text_width) / net.text_width**0.5)  # as long as a text's

    def forward(self, z: Tensor, c: Tensor | None, noises: list[Tensor] | None = None) -> Tensor:
        if not self.styled:
            return self.convolutions(z, c)
        return self.synthesis(self.styles(self.mapping(z, c)), noises)

    def styles(self, w: Tensor) -> Tensor:
        """One style [B, W] for all layers [B, L, W]."""
        return w[:, None].expand(-1, self.synthesis.count, -1)

    def style(self, z: Tensor, c: Tensor | None, options: Any, other: Tensor | None = None) -> Tensor:
        """The styles [B, L, W] of noise z as the options (GANOptions, settled) want them; `other`: the noise of the
        seed that is mixed in."""
        styles = self.styles(self._truncated(z, c, options.truncation))
        if other is not None:
            later = torch.arange(self.synthesis.count, device=z.device) >= options.mix_from
            styles = torch.where(later[:, None], self.styles(self._truncated(other, c, options.truncation)), styles)
        if options.direction is None:
            return styles
        step = self.directions()[options.direction - 1]
        deviation = (self.some_styles(c) @ step).std()
        return styles + options.along * deviation * step

    def _truncated(self, z: Tensor, c: Tensor | None, psi: float) -> Tensor:
        w = self.mapping(z, c)
        return w if psi == 1 else torch.lerp(self.some_styles(c).mean(0, keepdim=True), w, psi)

    def some_styles(self, c: Tensor | None) -> Tensor:
        """The styles [MEAN_OF, W] of fixed noises under a condition [1, T]."""
        z = torch.randn(MEAN_OF, self.latent, generator=generator("mean style"))
        return self.mapping(z.to(self.synthesis.first), None if c is None else c.expand(MEAN_OF, -1))

    def directions(self) -> Tensor:
        """Unit directions [W, W] of the style, a row each, that which moves all layers' modulation most first: the
        eigenvectors of A^T A, of the layers' matrices A one above the other (SeFa, arXiv:2007.06600). Signs are so that
        the largest entry is positive."""
        matrices = [layer.conv.style for layer in self.synthesis.layers]  # type: ignore[union-attr]
        weights = [matrix.weight.detach().cpu().double() * matrix.scale for matrix in matrices]  # type: ignore
        stacked = torch.cat(weights)
        vectors = torch.linalg.eigh(stacked.T @ stacked).eigenvectors.T.flip(0)
        largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
        return (vectors * largest.sign()).to(self.synthesis.first)
