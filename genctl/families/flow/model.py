"""What a flow's network says: the data guess at a time, under some conditions, with another network or on another path.

    prediction = net(x_t, t, condition)           target row of the path: c x + d z          diffusion/target.py
    data guess = solve(prediction)                weighted squared error of the prediction

A family adds its network `net` and how pictures become x and back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.diffusion import guide
from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.target import combine, solve, weight
from genctl.families.base import Blend, Edit, Request
from genctl.families.conditions.conditional import Conditional, Conditions
from genctl.families.flow.options import FlowOptions
from genctl.nets import fast
from genctl.nets.dit import DiT
from genctl.nets.dit_sample import Loop, Packed, TwoLoops, pack
from genctl.nets.graph import Captured, GraphLoop
from genctl.nets.plain import PlainLoop
from genctl.rng import Draw
from genctl.sizes import Size

GUIDANCE_UNIT = 1 / 8  # of the guidance scale as a student's network gets it, so that usual ones lie within (0, 1)
AnyLoop = Loop | TwoLoops | GraphLoop | PlainLoop


@dataclass(frozen=True)
class Given:
    """x that a drawing begins from [1, *shape]; with `free` [1, 1, ...] it stays so where that is 0, as the network has
    learnt to see it: under the noise of the time, or `clean`."""

    x: Tensor
    free: Tensor | None = None
    clean: bool = False


class FlowModel(Conditional):
    """Base of flows. A subclass sets `net` and `shape` (of one x), and says `to_x`, `from_x` and `shape_of`."""

    Options = FlowOptions
    net: nn.Module
    shape: tuple[int, ...]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.config, self.pixels = config, config.pixels
        self.path = PATHS[config.diffusion.path]
        self.packed: dict[torch.dtype, Packed] = {}
        self.graphs: dict[tuple[Any, ...], Captured] = {}
        self.plain: dict[torch.dtype, nn.Module] = {}
        self.alike: dict[tuple[Any, ...], bool] = {}  # what rounds_alike found

    @staticmethod
    def with_net(config: Any, **changes: Any) -> Any:
        """The configuration with its network's changed."""
        return replace(config, net=replace(config.net, **changes))

    def to_x(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] -> x [B, *shape]."""
        raise NotImplementedError

    def from_x(self, x: Tensor) -> Tensor:
        """x [B, *shape] -> pictures [B, 3, H, W] in [-1, 1]."""
        raise NotImplementedError

    def rendered(self, x: Tensor) -> Tensor:
        """As `from_x`, for training: gradients reach x, and nothing is clamped."""
        raise NotImplementedError

    def shape_of(self, size: Size) -> tuple[int, ...]:
        """The shape of the x of one picture of this size."""
        raise NotImplementedError

    @property
    def distilled(self) -> bool:
        """Whether this is a student, whose network is conditioned on the guidance scale, and may be on a step's end."""
        return bool(self.config.net.scalars)

    def noise_of(self, batch: dict[str, Tensor], t: Tensor, draw: Draw) -> Tensor:
        """The noise [B, *shape] that training mixes with x at times t [B]."""
        return draw.normal(*batch["x"].shape[1:])

    def shape_for(self, request: Request) -> tuple[int, ...]:
        """The shape of the x of one picture of a request."""
        return self.shape if request.size is None else self.shape_of(request.size)

    def begins_at(self, request: Request) -> float:
        """The time at which drawing begins: 1 is noise."""
        return request.edit.strength if request.edit else 1.0

    def given(self, edit: Edit, shape: tuple[int, ...]) -> Given:
        """What an x of this shape begins from, or is known of it."""
        known = self.to_x(edit.picture[None]).to(self.device)
        if edit.mask is None:
            return Given(known)
        return Given(known, F.adaptive_max_pool2d(edit.mask[None].to(known), known.shape[-2:]))

    # the network's word ----------------------------------------------------------------------------------------------
    def scaled(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t scaled to the size that a network likes: 1 / sqrt(a^2 + b^2) (EDM's c_in for unit data; 1 where a path
        preserves variance)."""
        if self.config.diffusion.path not in ("ve", "edm"):
            return x_t
        a, b = self.path.a(t), self.path.b(t)
        return x_t * torch.rsqrt(a**2 + b**2).reshape(t.shape + (1,) * (x_t.ndim - t.ndim))

    def predict(
        self, x_t: Tensor, t: Tensor, conditions: Conditions, scalars: Tensor | None, net: nn.Module | None
    ) -> Tensor:
        further = {} if scalars is None else {"scalars": scalars}
        return (net or self.net)(self.scaled(x_t, t), t, *conditions, **further).float() + self.linear(x_t, t)

    def linear(self, x_t: Tensor, t: Tensor) -> Tensor | float:
        """What the prediction has beside the network's output, at times t [B] or []: here nothing."""
        return 0.0

    def guess(
        self, x_t: Tensor, t: Tensor, conditions: Conditions, scalars: Tensor | None = None,
        net: nn.Module | None = None,
    ) -> Tensor:  # fmt: skip
        """The data guess [B, ...] at times t [B], under conditions of B rows, with scalars [B, S] where the network is
        conditioned on any; by another network of its kind, where one is given."""
        prediction = self.predict(x_t, t, conditions, scalars, net)
        return solve(self.config.diffusion.target, self.path, x_t, prediction, t)[0]

    def error(
        self, x: Tensor, z: Tensor, t: Tensor, conditions: Conditions, scalars: Tensor | None = None,
        net: nn.Module | None = None,
    ) -> Tensor:  # fmt: skip
        """The weighted squared error [B] of the prediction for x and z mixed at times t [B]; see `guess`."""
        config = self.config.diffusion
        x_t = self.path.mix(x, z, t)
        error = self.predict(x_t, t, conditions, scalars, net) - combine(config.target, self.path, x, z, t)
        return weight(config.weighting, config.target, self.path, t) * self.mean_of(error.square(), x, x_t)

    def mean_of(self, error: Tensor, x: Tensor, x_t: Tensor) -> Tensor:
        """Of errors [B, ...] of predictions: [B]."""
        return error.flatten(1).mean(1)

    # in sampling -----------------------------------------------------------------------------------------------------
    def own_times(self, path: Path, times: Tensor) -> tuple[Tensor, Tensor]:
        """The times [K] of the model's own path at which signal and noise stand as on `path` at `times`, and by what
        its x_t is larger there, [K]: a model trained on one path is sampled on every other (arXiv:2303.00848)."""
        if path == self.path:
            return times, torch.ones_like(times)
        own = self.path.from_log_snr(path.log_snr(times).clamp(-30, 30)).clamp(0, 1)
        size, other = (torch.sqrt(p.a(t) ** 2 + p.b(t) ** 2) for p, t in ((self.path, own), (path, times)))
        return own, size / other

    def guesses(
        self, asked: list[str | Blend], shape: tuple[int, ...], path: Path, evaluations: Tensor,
        scalars: Tensor | None = None, dtype: torch.dtype | None = None, packed: bool = True,
    ) -> guide.Guesses:  # fmt: skip
        """Data guesses of x [B, ...] of this shape under each of the conditions, which come condition by condition, at
        the evaluation times of `path`."""
        own, size = self.own_times(path, evaluations)
        times, size = (part.to(self.device, torch.float32) for part in (own, size))
        conditions = self.conditions(asked) if asked else ()
        loop = self._loop(shape, own, conditions, scalars, dtype, packed)
        target = self.config.diffusion.target

        def guess(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
            x_t = size[k] * x_t
            predictions, linear = loop(self.scaled(x_t, times[k]), k, every), self.linear(x_t, times[k])
            return [
                solve(target, self.path, x_t, prediction + linear, times[k])[0]
                for prediction in predictions.split(shape[0])
            ]

        return guess

    def dtype_of(self, dtype: torch.dtype | None) -> torch.dtype:
        """The numbers that the network runs in: those asked for, or what is fastest here."""
        return dtype or (torch.bfloat16 if fast.bf16_pays(self.device) else torch.float32)

    def rounds_alike(self, pictures: int, rows: int, shape: tuple[int, ...], dtype: torch.dtype | None) -> bool:
        """Whether each of so many pictures, drawn together with `rows` conditions each, gets the very numbers that it
        would get alone. Tried once for each such chunk; of other networks than a DiT each row runs alone anyway."""
        key = (self.dtype_of(dtype), pictures, rows, shape)
        if key not in self.alike:
            scalars = torch.zeros(1, len(self.config.net.scalars)) if self.distilled else None
            conditions = self.conditions(["" for _ in range(pictures * rows)])
            scalars = None if scalars is None else scalars.expand(2, -1)
            loop = self._loop((pictures, *shape), torch.tensor([1.0, 0.0]), conditions, scalars, key[0], True)
            self.alike[key] = not isinstance(loop, Loop | TwoLoops) or loop.rounds_alike()
        return self.alike[key]

    def _loop(
        self, shape: tuple[int, ...], evaluations: Tensor, conditions: Conditions, scalars: Tensor | None,
        dtype: torch.dtype | None, packed: bool,
    ) -> AnyLoop:  # fmt: skip
        """The prepared network of one chunk; on a GPU as a graph, captured once a shape."""
        dtype = self.dtype_of(dtype)
        if not isinstance(self.net, DiT):
            return PlainLoop(self._plain(dtype, packed), dtype, shape[0], evaluations, *conditions, scalars=scalars)
        blocks = self.packed.get(dtype) if packed else None
        if blocks is None:
            blocks = pack(self.net, dtype)
            if packed:
                self.packed[dtype] = blocks
        net, (states, present, pooled) = self.net, conditions or (None, None, None)

        def made(places: Tensor, coarse: bool) -> Loop | GraphLoop:
            further = None if scalars is None else scalars[places]
            times = evaluations[places]
            loop = Loop(net, blocks, dtype, shape, times, states, present, pooled, further, self.shape, coarse)
            if self.device.type != "cuda" or not packed:
                return loop
            key = (dtype, shape, loop.rows, coarse)
            graph = GraphLoop(loop, self.graphs.get(key))
            self.graphs[key] = graph.captured
            return graph

        coarse = evaluations.float() > net.config.coarse_from
        if coarse.any() and not coarse.all():
            return TwoLoops(made, coarse)
        return made(torch.arange(len(evaluations)), bool(coarse.any()))

    def _plain(self, dtype: torch.dtype, keep: bool) -> nn.Module:
        """A copy of the network in `dtype`; kept for the next call where its weights stay as they are."""
        net = self.plain.get(dtype) if keep else None
        if net is None:
            net = fast.channels_last(copy.deepcopy(self.net).to(dtype).eval())
            if keep:
                self.plain[dtype] = net
        return net


def stacked(names: tuple[str, ...], scale: Tensor, end: Tensor) -> Tensor:
    """What a network is conditioned on beside t, [N, S]: guidance scales and the ends of steps, both [N]."""
    values = {"guidance": scale * GUIDANCE_UNIT, "end": end}
    return torch.stack([values[name] for name in names], 1)
