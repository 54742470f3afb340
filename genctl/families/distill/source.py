"""What a student learns from where no pictures are given, or instead of them: its teacher's own.

rows: a prompt, a guidance scale, the noise z and the x that the teacher leads it to; all but the noise are kept
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genctl.data import cache
from genctl.data.pictures import onto
from genctl.draws import Draw, address, generator, picture_noise
from genctl.families.base import Request
from genctl.families.distill.lesson import DistillConfig
from genctl.families.flow import Flow

CHUNK = 32  # pictures that the teacher draws at once, at one guidance scale


class Drawn:
    """`count` rows over `prompts`, which are walked through as often as it takes; without pictures where a method needs
    none: x is then empty of content. The teacher's are cached."""

    def __init__(
        self, teacher: Flow, prompts: list[str], count: int, config: DistillConfig, pictures: bool, part: str,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.weights, self.shape, self.device = torch.ones(count), teacher.shape, teacher.device
        self.part, self.preview_prompts = part, [prompts[index * len(prompts) // 16] for index in range(16)]
        distinct = list(dict.fromkeys(prompts))
        place = {prompt: row for row, prompt in enumerate(distinct)}
        order = torch.randperm(len(prompts), generator=generator("prompts", part)).tolist()
        self.asked = [prompts[order[index % len(prompts)]] for index in range(count)]
        self.rows = torch.tensor([place[prompt] for prompt in self.asked])
        self.conditions = [
            part.half() if part.is_floating_point() else part for part in teacher.conditions([*distinct])
        ]
        self.x: Tensor | None = None
        if pictures:
            named = [teacher.weights_sha256, config.teacher_steps, config.least_guidance, config.most_guidance, part]
            made = cache.cached("drawn", [1, *named, self.asked], lambda: self._draw(teacher, config, report))
            self.x, self.scales = made["x"].to(self.device), made["scales"].to(self.device)

    def _draw(self, teacher: Flow, config: DistillConfig, report: Callable[[int, int], None]) -> dict[str, Tensor]:
        chunks = math.ceil(len(self.asked) / CHUNK)
        spread = torch.rand(chunks, generator=generator("scales", self.part))
        levels = config.least_guidance + (config.most_guidance - config.least_guidance) * spread
        parts = []
        for index in range(chunks):
            prompts = self.asked[CHUNK * index : CHUNK * (index + 1)]
            request = Request(
                self._seeds(range(CHUNK * index, CHUNK * index + len(prompts))), [*prompts],
                steps=config.teacher_steps, guidance_scale=float(levels[index]), chunk=CHUNK,
            )  # fmt: skip
            parts.append(teacher.drawn(request).half().cpu())
            report(min(CHUNK * (index + 1), len(self.asked)), len(self.asked))
        return {"x": torch.cat(parts), "scales": levels.repeat_interleave(CHUNK)[: len(self.asked)]}

    def _seeds(self, rows: range | list[int]) -> list[int]:
        return [address("drawn", self.part, row) for row in rows]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        chosen = self.rows[rows]
        found = [onto(part[chosen], self.device) for part in self.conditions]
        batch = dict(
            zip(
                ("states", "present", "pooled"),
                (p.float() if p.is_floating_point() else p for p in found),
                strict=False,
            )
        )
        if self.x is None:
            return batch | {"x": torch.zeros(len(rows), *self.shape, device=self.device)}
        at = onto(rows, self.device)
        z = onto(picture_noise(self._seeds(rows.tolist()), self.shape), self.device)
        return batch | {"x": self.x[at].float(), "z": z, "scale": self.scales[at]}
