"""The optimal prediction of a folder of pictures as a model: what a perfectly trained flow would draw.

    E[x | x_t] = the mean of all pictures, weighted by how likely each is to have become x_t        diffusion/oracle.py

Nothing is trained. Sampled with enough steps it ends at training pictures: a perfect fit copies, and whatever else a
trained network draws is how it differs from the optimum (arXiv:2310.02557, 2412.20292). A prompt narrows the pictures
down to those that it describes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from genctl.data.captions import variants
from genctl.data.pictures import Pictures
from genctl.diffusion import guide
from genctl.diffusion.oracle import of_data
from genctl.diffusion.path import Path
from genctl.errors import UsageError
from genctl.families.base import Blend, Request
from genctl.families.conditions.conditional import ends_of
from genctl.families.flow.pixel import PixelFlow
from genctl.families.flow.settings import DiffusionConfig, SamplingConfig
from genctl.sizes import Size, Sized


@dataclass(frozen=True)
class NoNet:
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimalConfig(Sized):
    pixels: Size = Size(64, 64)
    net: NoNet = field(default_factory=NoNet)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=50, guidance_scale=1.0))


class Optimal(PixelFlow):
    """The pictures of a folder -> pictures [B, 3, S, S]."""

    name = "optimal"
    Config = OptimalConfig
    can = frozenset({"sample", "encode", "decode", "interpolate", "text", "image", "mask"})

    def __init__(self, config: OptimalConfig, pictures: Pictures, device: torch.device) -> None:
        super().__init__(config)
        self.pictures, self.place = pictures, device
        self.shape = self.shape_of(config.pixels)
        self.sha256 = pictures.fingerprint

    @property
    def device(self) -> torch.device:
        return self.place

    def rows(self, prompt: str) -> Tensor:
        """Which pictures a prompt describes: those of that class, caption or tag, or any with the style; with no
        prompt all. Raises UsageError where there are none."""
        word = prompt.strip().lower()
        described = [
            (e.concept, *(text for text, _ in variants(e)), *e.captions, *e.tags) for e in self.pictures.entries
        ]
        found = [row for row, texts in enumerate(described) if not word or word in map(str.lower, texts)]
        if not found:
            raise UsageError(f"no picture of the data is described as {prompt!r}")
        return torch.tensor(found)

    def guesses(
        self, asked: list[str | Blend], shape: tuple[int, ...], path: Path, evaluations: Tensor,
        scalars: Tensor | None = None, dtype: torch.dtype | None = None, packed: bool = True,
    ) -> guide.Guesses:  # fmt: skip
        """The exact guesses; rows that share a condition are computed together. A blend mixes both ends' guesses."""
        times, count = evaluations.to(self.device), shape[0]
        ends = [ends_of(one) for one in asked or [""] * count]
        groups = [ends[start : start + count] for start in range(0, len(ends), count)]

        def exact(x_t: Tensor, t: Tensor, prompts: list[str]) -> Tensor:
            x = torch.empty_like(x_t)
            for prompt in set(prompts):
                mine = torch.tensor([prompt == other for other in prompts], device=x_t.device)
                data = self.pictures.pixels[self.rows(prompt)]
                x[mine] = of_data(path, x_t[mine], t, data, scale=(2 / 255, -1.0))[0]
            return x

        def guess(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
            found = []
            for group in groups if every else groups[:1]:
                first = exact(x_t, times[k], [begin for begin, _, _ in group])
                last = exact(x_t, times[k], [end for _, end, _ in group])
                share = torch.tensor([share for _, _, share in group])
                found.append(torch.lerp(first, last, share.to(x_t)[:, None, None, None]))
            return found

        return guess

    def rounds_alike(self, pictures: int, rows: int, shape: tuple[int, ...], dtype: torch.dtype | None) -> bool:
        return True  # there is no network; float32 products over the data have been equal wherever this was tried

    def remarks(self, request: Request) -> list[str]:
        return []
