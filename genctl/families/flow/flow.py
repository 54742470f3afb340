"""What all flows share, in pixels or on a codec's codes (arXiv:2303.00848 is the unified view; diffusion/ has the
mathematics). Read in this order:

    model.py       what the network says: the data guess under a condition
    objective.py   what it learns: flow matching; meanflow.py: average velocities
    sample.py      noise -> pictures; inversion.py: pictures -> the noise that draws them
    options.py     what a picture can be asked for beside its prompt; settings.py: what a model file fixes
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genctl.families.base import Drawn, Losses, Request, Source
from genctl.families.flow import inversion, sample
from genctl.families.flow.meanflow import MeanFlow
from genctl.families.flow.model import FlowModel
from genctl.families.flow.objective import FlowMatching, Objective, trained
from genctl.families.flow.options import FlowOptions
from genctl.families.flow.sample import seamless
from genctl.nets.dit import DiT
from genctl.options import declared
from genctl.rng import Draw

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}  # as --dtype has them
NONE = {name: about.default for name, about in declared(FlowOptions).items()}  # what is not asked for


class Flow(FlowModel):
    """A flow that learns its objective and draws; see FlowModel for what a subclass says."""

    training_only = ("objective.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.objective: Objective = FlowMatching()

    # training --------------------------------------------------------------------------------------------------------
    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net} | self.objective.phases()

    def rate_of(self, phase: str) -> float:
        return self.objective.rate_of(phase)

    def compile_parts(self) -> None:
        torch._dynamo.config.recompile_limit = 64  # of all networks together: with a gradient and without, by rows
        for net in (self.net, *trained(self.objective)):
            if isinstance(net, DiT):
                for block in net.blocks:  # equal blocks share one compilation
                    block.compile()
            elif net is self.net:
                net.compile()

    def prepare_training(self) -> None:
        """A network that is conditioned on where a step ends learns average velocities, without a teacher."""
        if self.distilled:
            self.objective = MeanFlow(self.config)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        yield from self.objective.step(self, self._some_without(batch, draw), draw, progress)

    def _some_without(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """The batch with the conditions of a few rows left out; not where a teacher drew it by its conditions."""
        kept = draw.uniform(1) >= self.config.diffusion.condition_dropout
        return batch | {"present": batch["present"] & kept} if "present" in batch and "z" not in batch else batch

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return self.objective.validation_loss(self, batch, draw)

    def preview(self, source: Source) -> Tensor:
        """Of a student eight pictures, above its teacher's from the same noise."""
        return torch.cat([model.drawn_for(self._asked(source)) for model in (self, *self._beside())])

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        rows = super().previewed(source)
        beside = [row | {"label": f"teacher: {row['label']}"} for row in rows for _ in self._beside()]
        return rows + beside

    def _asked(self, source: Source) -> list[str]:
        asked = super()._asked(source)
        return asked[::2] if self._beside() and len(asked) > 8 else asked

    def _beside(self) -> list[Flow]:
        """The models whose pictures a preview shows below one's own: a student's teacher."""
        return [peer for peer in self.objective.peers() if isinstance(peer, Flow)][:1]

    # sampling --------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        """Pictures of the request, `request.chunk` at a time, after a guess at each step."""
        request = replace(request, chunk=sample.together(self, request))
        for start in range(0, len(request.seeds), request.chunk):
            for state, x, step, count in sample.steps(self, request, start):
                end = state
                if step < count:
                    yield Drawn(start, self._guess_of(x[:1]), step, count, final=False)
            pictures, edit = self.finished(end, request), request.edit
            if edit is not None and edit.mask is not None:
                pictures = seamless(pictures, edit.picture.to(self.device), edit.mask.to(self.device))
            yield Drawn(start, pictures, step, count)

    def finished(self, x: Tensor, request: Request) -> Tensor:
        """The pictures of x as they were asked for."""
        return self.from_x(x)

    def _guess_of(self, x: Tensor) -> Any:
        return torch.inference_mode()(lambda: self.from_x(x))

    @torch.inference_mode()
    def drawn(self, request: Request) -> Tensor:
        """The x [N, *shape] of all pictures of a request, before they become pictures."""
        parts = []
        request = replace(request, chunk=sample.together(self, request))
        for start in range(0, len(request.seeds), request.chunk):
            *_, (end, *_) = sample.steps(self, request, start)
            parts.append(end)
        return torch.cat(parts).clone()

    def noise_shape(self, size: Any = None) -> tuple[int, ...]:
        return self.shape if size is None else self.shape_of(size)

    def invert(self, pictures: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        return inversion.invert(self, pictures, prompt, steps)

    def from_noise(self, noise: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        return inversion.from_noise(self, noise, prompt, steps)

    # what is said ----------------------------------------------------------------------------------------------------
    def recorded(self, request: Request) -> dict[str, Any]:
        options: Any = self.options(request)
        guide = {} if options.guide is None else {"guide": sample.guide_of(self, options.guide).sha256[:16]}
        return {"dtype": DTYPES[self.dtype_of(request.dtype)]} | options.recorded() | guide

    def remarks(self, request: Request) -> list[str]:
        lines, options = super().remarks(request), request.options
        settings = self.info.get("teacher", {}).get("settings", {})
        low, high = settings.get("least_guidance"), settings.get("most_guidance")
        if low is not None and options is not None and options.cfg is not None and not low <= options.cfg <= high:
            lines.append(f"this student was distilled for --cfg {low:g} to {high:g}; {options.cfg:g} is a guess")
        if (
            options is not None
            and options.guide is None
            and not (any(request.conditions) or options.negative or options.also)
        ):
            idle = [name for name in ("cfg", "guidance", "interval", "rescale") if getattr(options, name) != NONE[name]]
            lines += [f"--{name} has no effect without a prompt: there is nothing to guide by" for name in idle]
        if request.size is not None and request.size != self.pixels:
            what = "things are stretched to fill it and edges are worse, the more the sizes differ"
            lines.append(f"trained on pictures of {self.pixels}; at {request.size} {what}")
        return lines
