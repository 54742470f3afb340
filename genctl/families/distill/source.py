"""What a student learns from where no pictures are given, or instead of them: its teacher's own.

rows: a prompt, a guidance scale, the noise z and the x that the teacher leads it to; all but the noise are kept
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genctl.config import to_dict
from genctl.data import cache
from genctl.data.pictures import onto
from genctl.families.base import Request
from genctl.families.conditions.captions import text_table
from genctl.families.conditions.conditional import NAMES
from genctl.families.distill.settings import DistillConfig
from genctl.families.flow.flow import Flow
from genctl.families.flow.options import FlowOptions
from genctl.rng import Draw, address, generator, picture_noise

CHUNKS = {"cpu": 8}  # pictures that the teacher draws at once, at one guidance scale, and that are cached together
CHUNK = 32  # the same on other devices
Drawing = Callable[[int, int, float], None]  # done, of how many, seconds that it may still take


class Drawn:
    """`count` rows over `prompts`, which are gone through as often as it takes, with pictures but for a share without
    any; where a method needs no pictures, x is empty of content.

    `report` is called while the teacher draws. It stops after `seconds`, at the earliest after its first few pictures:
    there are then fewer rows, the first of those that there would have been.
    """

    def __init__(
        self, teacher: Flow, prompts: list[str], count: int, config: DistillConfig, pictures: bool, part: str,
        report: Drawing = lambda done, total, seconds: None, seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.device, self.part = teacher.shape, teacher.device, part
        self.preview_prompts = [prompts[index * len(prompts) // 16] for index in range(16)]
        order = torch.randperm(len(prompts), generator=generator("prompts", part)).tolist()
        share = teacher.config.diffusion.condition_dropout if pictures else 0.0  # else the family leaves some out
        without = torch.rand(count, generator=generator("without", part)) < share
        self.asked = ["" if none else prompts[order[i % len(prompts)]] for i, none in enumerate(without.tolist())]
        self.x: Tensor | None = None
        if pictures:
            chunk = CHUNKS.get(self.device.type, CHUNK)
            spread = torch.rand(math.ceil(count / chunk), generator=generator("scales", part))
            levels = config.least_guidance + (config.most_guidance - config.least_guidance) * spread
            self.scales = levels.repeat_interleave(chunk)[:count].to(self.device)
            self.x = self._drawn(teacher, config, chunk, report, seconds).to(self.device)
            self.asked, self.scales = self.asked[: len(self.x)], self.scales[: len(self.x)]
        self.weights = torch.ones(len(self.asked))
        place = {prompt: row for row, prompt in enumerate(dict.fromkeys(self.asked))}
        self.rows = torch.tensor([place[prompt] for prompt in self.asked])
        self.conditions = table_of(teacher, [*place])

    def _drawn(
        self, teacher: Flow, config: DistillConfig, chunk: int, report: Drawing, seconds: float | None
    ) -> Tensor:
        """The teacher's x [n, ...] float16 of the rows, or of as many as its time allows."""
        parts: list[Tensor] = []
        count, begun, fresh = len(self.asked), time.monotonic(), 0
        pace = 0.0  # seconds a chunk that is not in the cache

        def said() -> None:
            nonlocal fresh
            fresh += 1
            left = pace * math.ceil((count - start) / chunk) if pace else math.inf
            bound = math.inf if seconds is None else seconds - (time.monotonic() - begun)
            report(start, count, max(0.0, min(left, bound)))

        for start in range(0, count, chunk):
            before, drawn = time.monotonic(), fresh
            if seconds is not None and start and before - begun + pace > seconds:
                break
            parts.append(self._block(teacher, config, start, chunk, said))
            if fresh > drawn:
                taken = time.monotonic() - before
                pace = 0.7 * pace + 0.3 * taken if pace else taken
        return torch.cat(parts)

    def _block(self, teacher: Flow, config: DistillConfig, start: int, chunk: int, said: Callable[[], None]) -> Tensor:
        """The teacher's x [n, ...] float16 of the rows from `start`, by Euler's method, or from the cache. `said` is
        called before it draws."""
        asked, scales = self.asked[start : start + chunk], self.scales[start : start + chunk].tolist()

        def make() -> dict[str, Tensor]:
            said()
            scale = scales[0] if teacher.condition != "none" else None  # else there is nothing to guide by
            options = FlowOptions(steps=config.teacher_steps, solver="euler", cfg=scale)
            request = Request(self._seeds(start, len(asked)), [*asked], options, chunk=chunk)
            return {"x": teacher.drawn(request).half()}

        named = [teacher.weights_sha256, to_dict(teacher.config), config.teacher_steps, self.part, start]
        return cache.cached("drawn", [2, *named, asked, scales], make)["x"]

    def _seeds(self, start: int, count: int) -> list[int]:
        return [address("drawn", self.part, row) for row in range(start, start + count)]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        batch = dict(zip(NAMES, self.conditions(self.rows[rows], self.device), strict=False))
        if self.x is None:
            return batch | {"x": torch.zeros(len(rows), *self.shape, device=self.device)}
        at = onto(rows, self.device)
        z = onto(picture_noise([self._seeds(row, 1)[0] for row in rows.tolist()], self.shape), self.device)
        return batch | {"x": self.x[at].float(), "z": z, "scale": self.scales[at]}


def table_of(teacher: Flow, prompts: list[str]) -> Callable[[Tensor, torch.device], list[Tensor]]:
    """What gives the conditions (states, present, pooled) of some of the prompts, by their places [B], on a device;
    nothing where the teacher takes none. Texts are encoded many at once, and cached."""
    if teacher.condition == "text":
        table = text_table(teacher, prompts)

        def of_texts(rows: Tensor, device: torch.device) -> list[Tensor]:
            places = table["places"][rows]
            found = (table["states"][places].float(), places > 0, table["pooled"][rows].float())
            return [onto(part, device) for part in found]

        return of_texts
    parts: Any = [part.cpu() for part in teacher.conditions([*prompts])]
    return lambda rows, device: [onto(part[rows], device) for part in parts]
