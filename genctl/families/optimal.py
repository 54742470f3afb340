"""The optimal prediction of a folder of pictures as a model: what a perfectly trained flow would draw.

    E[x | x_t] = the mean of all pictures, weighted by how likely each is to have become x_t        diffusion/oracle.py

Nothing is trained. Sampled with enough steps it lands on training pictures: a perfect fit copies, and whatever else a
trained network draws is how it differs from the optimum (arXiv:2310.02557, 2412.20292). A prompt narrows the pictures
down to those that it describes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from genctl.data.pictures import Pictures
from genctl.diffusion import guide
from genctl.diffusion.oracle import of_data
from genctl.errors import UsageError
from genctl.families.base import Blend, Request
from genctl.families.pixel import PixelFlow
from genctl.families.settings import DiffusionConfig, SamplingConfig


@dataclass(frozen=True)
class NoNet:
    scalars: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimalConfig:
    pixels: int = 64
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
        self.shape = (3, config.pixels, config.pixels)
        self.sha256 = pictures.fingerprint

    @property
    def device(self) -> torch.device:
        return self.place

    def rows(self, prompt: str) -> Tensor:
        """Which pictures a prompt describes: those of that class, caption or tag; with no prompt all. Raises UsageError
        where there are none."""
        word = prompt.strip().lower()
        described = [(e.concept, *e.captions, *e.tags) for e in self.pictures.entries]
        found = [row for row, texts in enumerate(described) if not word or word in map(str.lower, texts)]
        if not found:
            raise UsageError(f"no picture of the data is described as {prompt!r}")
        return torch.tensor(found)

    def guesses(
        self, request: Request, conditions: list[str | Blend], count: int, evaluations: Tensor,
        told: Tensor | None = None,
    ) -> guide.Guesses:  # fmt: skip
        """The exact guesses; rows that share a condition are computed together. A blend mixes both ends' guesses."""
        times, path = evaluations.to(self.device), self.walked(request)
        groups = [conditions[start : start + count] for start in range(0, len(conditions), count)] or [[""] * count]

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
                first, last = (exact(x_t, times[k], [_end(p, at_end) for p in group]) for at_end in (False, True))
                share = torch.tensor([getattr(prompt, "share", 0.0) for prompt in group])
                found.append(torch.lerp(first, last, share.to(x_t)[:, None, None, None]))
            return found

        return guess

    def cuts(self, prompt: str) -> bool:
        return False


def _end(prompt: str | Blend, last: bool) -> str:
    if isinstance(prompt, str):
        return prompt
    return prompt.end if last else prompt.start
