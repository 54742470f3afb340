"""What a student learns from where no pictures are given, or instead of them: its teacher's own.

rows: a prompt, a guidance scale, the noise z and the x that the teacher leads it to; all but the noise are kept
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genctl.config import to_dict
from genctl.data import cache
from genctl.data.pictures import onto
from genctl.draws import Draw, address, generator, picture_noise
from genctl.families.base import Request
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.options import FlowOptions

CHUNK = 32  # pictures that the teacher draws at once, at one guidance scale
BLOCK = 16 * CHUNK  # pictures that are cached together: what an interruption loses at most
NAMES = ("states", "present", "pooled")


class Drawn:
    """`count` rows over `prompts`, which are gone through as often as it takes, with pictures but for a share without
    any; where a method needs no pictures, x is empty of content. `report` is called while the teacher draws."""

    def __init__(
        self, teacher: Flow, prompts: list[str], count: int, config: DistillConfig, pictures: bool, part: str,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        self.weights, self.shape, self.device = torch.ones(count), teacher.shape, teacher.device
        self.part, self.preview_prompts = part, [prompts[index * len(prompts) // 16] for index in range(16)]
        order = torch.randperm(len(prompts), generator=generator("prompts", part)).tolist()
        share = teacher.config.diffusion.condition_dropout if pictures else 0.0  # else the family leaves some out
        without = torch.rand(count, generator=generator("without", part)) < share
        self.asked = ["" if none else prompts[order[i % len(prompts)]] for i, none in enumerate(without.tolist())]
        place = {prompt: row for row, prompt in enumerate(dict.fromkeys(self.asked))}
        self.rows = torch.tensor([place[prompt] for prompt in self.asked])
        conditions = [part.cpu() for part in teacher.conditions([*place])]
        self.conditions = [part.half() if part.is_floating_point() else part for part in conditions]
        self.x: Tensor | None = None
        if pictures:
            chunks = math.ceil(count / CHUNK)
            spread = torch.rand(chunks, generator=generator("scales", part))
            levels = config.least_guidance + (config.most_guidance - config.least_guidance) * spread
            self.scales = levels.repeat_interleave(CHUNK)[:count].to(self.device)
            blocks = [self._block(teacher, config, start, report) for start in range(0, count, BLOCK)]
            self.x = torch.cat(blocks).to(self.device)

    def _block(self, teacher: Flow, config: DistillConfig, start: int, report: Callable[[int, int], None]) -> Tensor:
        """The teacher's x [n, ...] float16 of one block of rows, by Euler's method, from the cache if it is there."""
        asked, scales = self.asked[start : start + BLOCK], self.scales[start : start + BLOCK].tolist()

        def make() -> dict[str, Tensor]:
            parts = []
            for at in range(0, len(asked), CHUNK):
                prompts, seeds = asked[at : at + CHUNK], self._seeds(start + at, CHUNK)[: len(asked) - at]
                scale = scales[at] if teacher.condition != "none" else None  # else there is nothing to guide by
                options = FlowOptions(steps=config.teacher_steps, solver="euler", cfg=scale)
                request = Request(seeds, [*prompts], options, chunk=CHUNK)
                report(start + at, len(self.asked))
                parts.append(teacher.drawn(request).half().cpu())
            return {"x": torch.cat(parts)}

        named = [teacher.weights_sha256, to_dict(teacher.config), config.teacher_steps, self.part, start]
        return cache.cached("drawn", [1, *named, asked, scales], make)["x"]

    def _seeds(self, start: int, count: int) -> list[int]:
        return [address("drawn", self.part, row) for row in range(start, start + count)]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        chosen = self.rows[rows]
        found = [onto(part[chosen], self.device) for part in self.conditions]
        cast = [part.float() if part.is_floating_point() else part for part in found]
        batch = dict(zip(NAMES, cast, strict=bool(cast)))
        if self.x is None:
            return batch | {"x": torch.zeros(len(rows), *self.shape, device=self.device)}
        at = onto(rows, self.device)
        z = onto(picture_noise([self._seeds(row, 1)[0] for row in rows.tolist()], self.shape), self.device)
        return batch | {"x": self.x[at].float(), "z": z, "scale": self.scales[at]}
