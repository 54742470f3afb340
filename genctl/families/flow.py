"""What all flows share, in pixels or on a codec's codes: the loss, the denoising loop with guidance, walks to noise and
back (arXiv:2303.00848 is the unified view; diffusion/ has the mathematics).

    training   z ~ N(0, 1), t ~ density:      w(t) |net(x_t, t, condition) - (c x + d z)|^2
    sampling   x_1 = z(seed) -> solver over guided denoisers -> x_0
    inversion  x_0 -> solver, backwards -> z

A family adds its network `net`, the shape of its x, how pictures become x and back, and where conditions come from. A
condition is (states [B, L, T], present [B, L], pooled [B, T]): L slots of vectors, which of them are filled, and one
vector of the whole; text gives many slots, a class one, and a row without any is unconditional.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.diffusion import guide
from genctl.diffusion.path import PATHS, Path
from genctl.diffusion.solve import SOLVERS, Denoiser
from genctl.diffusion.target import combine, solve, weight
from genctl.diffusion.time import grid, training_times
from genctl.draws import Draw, PictureNoise
from genctl.errors import UsageError
from genctl.families import inversion
from genctl.families.base import Blend, Drawn, Losses, Request, Source
from genctl.families.prompted import Conditions, Prompted
from genctl.nets import fast
from genctl.nets.dit import DiT
from genctl.nets.dit_sample import Loop, Packed, pack
from genctl.nets.graph import GraphLoop
from genctl.nets.plain import PlainLoop

if TYPE_CHECKING:
    from genctl.families.distill.lesson import Lesson

NOISE_START = 1 - 1e-3  # a predicted noise or score says nothing of the data at t = 1, where x_t is that noise
LEAPS = ("euler", "consistency")  # solvers of students that are told, or know, where a step ends
GUIDANCE_UNIT = 1 / 8  # of the guidance scale that a student is told, so that usual ones lie within (0, 1)
AnyLoop = Loop | GraphLoop | PlainLoop


class Flow(Prompted):
    """Base of flows. A subclass sets `net` and `shape` (of one x), and says `to_x` and `from_x`."""

    training_only = ("lesson.",)
    net: nn.Module
    shape: tuple[int, ...]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.config, self.pixels = config, config.pixels
        self.path = PATHS[config.diffusion.path]
        self.packed: dict[torch.dtype, Packed] = {}
        self.graphs: dict[tuple[Any, ...], GraphLoop] = {}
        self.plain: dict[torch.dtype, nn.Module] = {}
        self.lesson: Lesson | None = (
            None  # of a student: what it learns from its teacher instead of the flow's own loss
        )

    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net} | (self.lesson.phases() if self.lesson is not None else {})

    def rate_of(self, phase: str) -> float:
        return 1.0 if self.lesson is None else self.lesson.rate_of(phase)

    def compile_parts(self) -> None:
        torch._dynamo.config.recompile_limit = 64  # of all networks together: with a gradient and without, by rows
        nets = [self.net]
        if self.lesson is not None:  # the teacher's network runs more often than the student's
            nets += [*(teacher.net for teacher in self.lesson.teachers), *self.lesson.children()]
        for net in nets:
            if isinstance(net, DiT):
                for block in net.blocks:  # equal blocks share one compilation
                    block.compile()
            elif net is self.net:
                net.compile()

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

    def noise_shape(self) -> tuple[int, ...]:
        return self.shape

    # training --------------------------------------------------------------------------------------------------------
    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        if self.lesson is not None:
            yield from self.lesson.step(self, self._some_without(batch, draw), draw, progress)
            return
        loss, figures = self._loss(self._some_without(batch, draw), draw)
        yield "model", loss, figures

    def prepare_training(self) -> None:
        """A network that is told where a leap ends learns average velocities, without a teacher."""
        if self.config.net.scalars:
            from genctl.families.distill.lesson import DistillConfig
            from genctl.families.distill.meanflow import Alone

            self.lesson = Alone(self, DistillConfig())

    def _some_without(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """The batch with the conditions of a few rows left out; not where the teacher drew it by its conditions."""
        kept = draw.uniform(1) >= self.config.diffusion.condition_dropout
        return batch | {"present": batch["present"] & kept} if "present" in batch and "z" not in batch else batch

    def _loss(self, batch: dict[str, Tensor], draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        config, x = self.config.diffusion, batch["x"]
        density = (config.density, draw.strata(), config.density_mean, config.density_std)
        t = training_times(*density, config.shift, self.path)
        z = draw.normal(*x.shape[1:])
        conditions = (batch["states"], batch["present"], batch["pooled"]) if "present" in batch else ()
        error = self.error(x, z, t, conditions)
        noisy = (t > 0.5).float()
        by_time = {
            "loss_clean_half": (error * (1 - noisy)).sum() / (1 - noisy).sum().clamp(min=1),
            "loss_noisy_half": (error * noisy).sum() / noisy.sum().clamp(min=1),
        }
        return error.mean(), by_time

    def error(
        self, x: Tensor, z: Tensor, t: Tensor, conditions: Conditions, scalars: Tensor | None = None,
        net: nn.Module | None = None,
    ) -> Tensor:  # fmt: skip
        """The weighted squared error [B] of the prediction for x and z mixed at times t [B]; by another network of the
        same kind, where one is given."""
        config, told = self.config.diffusion, {} if scalars is None else {"scalars": scalars}
        prediction = (net or self.net)(self.scaled(self.path.mix(x, z, t), t), t, *conditions, **told).float()
        error = (prediction - combine(config.target, self.path, x, z, t)).square().flatten(1).mean(1)
        return weight(config.weighting, config.target, self.path, t) * error

    def scaled(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t scaled to the size that a network likes: 1 / sqrt(a^2 + b^2) (EDM's c_in for unit data; 1 where a path
        preserves variance)."""
        if self.config.diffusion.path not in ("ve", "edm"):
            return x_t
        a, b = self.path.a(t), self.path.b(t)
        return x_t * torch.rsqrt(a**2 + b**2).reshape(t.shape + (1,) * (x_t.ndim - t.ndim))

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        if self.lesson is not None:
            return self.lesson.validation_loss(self, batch, draw)
        loss, figures = self._loss(batch, draw)
        return {"loss": loss} | figures

    def preview(self, source: Source) -> Tensor:
        """Sixteen pictures; of a student eight, above its teacher's from the same noise."""
        prompts: list[str | Blend] = list(getattr(source, "preview_prompts", [""] * 16))
        teachers = [] if self.lesson is None else self.lesson.teachers
        prompts = prompts[::2] if teachers else prompts
        models = [self, *teachers]
        request = Request(seeds=list(range(len(prompts))), prompts=prompts, packed=False)
        with torch.autocast(self.device.type, enabled=False):
            parts = [part for model in models for part in model.sample(request) if part.final]
        return torch.cat([part.pictures for part in parts])

    # sampling --------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        """Pictures of the request, `request.chunk` at a time; a preview after each step where `request.preview`."""
        for start in range(0, len(request.seeds), request.chunk):
            yield from self._chunk(request, start)

    @torch.inference_mode()
    def drawn(self, request: Request) -> Tensor:
        """The x [N, *shape] of all pictures of a request, before they become pictures."""
        parts = []
        for start in range(0, len(request.seeds), request.chunk):
            *_, (end, *_) = self._walk(request, start)
            parts.append(end)
        return torch.cat(parts).clone()

    def _chunk(self, request: Request, start: int) -> Iterator[Drawn]:
        for state, x, step, steps in self._walk(request, start):
            x_t = state
            if request.preview and step < steps:
                yield Drawn(start, self.from_x(x[:1]), step, steps, final=False)
        pictures = self.from_x(x_t)
        if request.image is not None and request.mask is not None:  # what was to be kept is kept exactly
            pictures = torch.where(request.mask.to(self.device) > 0, pictures, request.image.to(self.device))
        yield Drawn(start, pictures, steps, steps, final=True)

    def _walk(self, request: Request, start: int) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """(x_t, data guess, step, steps) of one chunk of pictures after each step."""
        seeds = request.seeds[start : start + request.chunk]
        prompts = request.prompts[start : start + request.chunk] or [""] * len(seeds)
        noise = PictureNoise(seeds, self.shape)
        begin = noise()
        begin = begin if request.noise is None else request.noise[start : start + len(seeds)]
        path, times, solver = self.walked(request), self.times(request), SOLVERS[self.solver(request)]
        evaluations = solver.evaluations(times, path)
        lands = self.solver(request) == "consistency"  # on the data at each step, and is noised anew
        denoise = self.denoiser(request, prompts, evaluations, 0 * times[1:] if lands else times[1:])
        x_t = path.b(times[0]) * begin.to(self.device)
        if request.image is not None:
            known = self.to_x(request.image[None]).to(self.device)
            x_t = x_t + path.a(times[0]) * known
            if request.mask is not None:
                denoise = self._keeping(denoise, known, request.mask, path, evaluations)
        steps = len(times) - 1
        walk = solver.run(denoise, x_t, times, path, lambda: noise().to(self.device))
        for step, (state, x) in enumerate(walk, 1):
            yield state, x, step, steps

    def times(self, request: Request) -> Tensor:
        """The steps + 1 falling times of a request; from `strength` on where a picture is varied."""
        config = self.config.sampling
        spacing, path = request.spacing or config.spacing, self.walked(request)
        times = grid(self.steps(request), request.shift or config.shift, spacing, path)
        begin = torch.tensor(min(self.noisiest, request.strength), dtype=torch.float64)
        if path != self.path and begin < 1:  # as noisy as the model's own path is there
            begin = path.from_log_snr(self.path.log_snr(begin)).clamp(0, 1)
        return begin * times

    @property
    def noisiest(self) -> float:
        """The latest time at which the data can be read from a prediction."""
        return NOISE_START if self.config.diffusion.target in ("noise", "score") else 1.0

    def walked(self, request: Request) -> Path:
        """The path that sampling follows: the model's own, or any other (`own_times`)."""
        return self.path if request.path is None else PATHS[request.path]

    def own_times(self, path: Path, times: Tensor) -> tuple[Tensor, Tensor]:
        """The times [K] of the model's own path at which signal and noise stand as on `path` at `times`, and by what
        its x_t is larger there, [K]: a model trained on one path is sampled on every other (arXiv:2303.00848)."""
        if path == self.path:
            return times, torch.ones_like(times)
        own = self.path.from_log_snr(path.log_snr(times).clamp(-30, 30)).clamp(0, 1)
        size, other = (torch.sqrt(p.a(t) ** 2 + p.b(t) ** 2) for p, t in ((self.path, own), (path, times)))
        return own, size / other

    def steps(self, request: Request) -> int:
        return request.steps or self.config.sampling.steps

    def solver(self, request: Request) -> str:
        return request.solver or self.config.sampling.solver

    def guidance(self, request: Request) -> guide.Guidance:
        """How a request is guided, with what it leaves open filled in from the model's own settings."""
        config = self.config.sampling
        scale = config.guidance_scale if request.guidance_scale is None else request.guidance_scale
        if request.guide is None and not self._has_condition(request):
            scale = 1.0  # nothing to guide by
        if self.taught:
            asked = {"negative": request.negative, "also": request.also, "guide": request.guide,
                     "guidance": request.guidance != "cfg", "rescale": request.rescale,
                     "interval": request.guidance_interval}  # fmt: skip
            for name, value in asked.items():
                if value:
                    raise UsageError(f"--{name}: a student has learnt its guidance, of which --cfg is the scale alone")
        interval = request.guidance_interval or config.guidance_interval
        weights = (1.0, *(share for _, share in request.also))
        return guide.Guidance(scale, interval, request.guidance, request.rescale, weights)

    @property
    def taught(self) -> bool:
        """Whether this is a student, which is told its guidance scale and may leap along the ODE."""
        return bool(self.config.net.scalars)

    @property
    def leaps(self) -> bool:
        """Whether its guess is where a leap ends, not the mean of the data that x_t may come from."""
        return "end" in self.config.net.scalars or (self.taught and self.config.sampling.solver == "consistency")

    @staticmethod
    def _has_condition(request: Request) -> bool:
        """Whether any condition differs from the empty one; then, and only then, is there something to guide."""
        return bool(request.negative) or bool(request.also) or any(request.prompts)

    def denoiser(
        self, request: Request, prompts: list[str | Blend], evaluations: Tensor, ends: Tensor | None = None
    ) -> Denoiser:
        """The guided denoiser of one chunk of pictures, at the times where a solver will evaluate it, and where each
        step ends. A student that is told the guidance scale needs no unconditional half."""
        guidance, count = self.guidance(request), len(prompts)
        if self.leaps and self.solver(request) not in LEAPS:
            raise UsageError(
                f"--solver {self.solver(request)}: this model leaps from time to time, by {' or '.join(LEAPS)}"
            )
        path = self.walked(request)
        told = self.told(guidance.scale, evaluations, None if ends is None else self.own_times(path, ends)[0])
        if self.taught:
            guidance = replace(guidance, scale=1.0)
        rows: list[str | Blend] = [*prompts, *(text for text, _ in request.also for _ in range(count))]
        needs = request.guide is None and (guidance.scale != 1 or len(request.also) > 0)
        own = self.guesses(request, [*rows, *[request.negative] * count * needs], count, evaluations, told)
        guesses = own
        if request.guide is not None:
            if request.guide.taught:
                raise UsageError("a student is no guide: its guidance is learnt; give a weaker flow")
            if request.guide.shape != self.shape or _codec(request.guide) != _codec(self):
                raise UsageError("the guide draws pictures of another size, or by another codec, than the model")
            if request.negative or request.also:
                raise UsageError("a guide takes the place of the negative prompt, and does not go with further ones")
            along = replace(request, path=self.walked(request).name)  # whatever path the guide was trained on
            weak = request.guide.guesses(along, list(prompts), count, evaluations)

            def guesses(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
                return own(x_t, k, every) + (weak(x_t, k, False) if every else [])

        judged, _ = self.own_times(path, evaluations)
        return guide.guided(guesses, guidance, path, evaluations.to(self.device, torch.float32), judged)

    def told(self, scale: float, evaluations: Tensor, ends: Tensor | None) -> Tensor | None:
        """The scalars [K, S] that the network is told at its K evaluations: scale, and the end of each one's step."""
        names = self.config.net.scalars
        if not names:
            return None
        guided = torch.full_like(evaluations, scale * GUIDANCE_UNIT)
        return torch.stack([ends if name == "end" and ends is not None else guided for name in names], 1)

    def guesses(
        self, request: Request, conditions: list[str | Blend], count: int, evaluations: Tensor,
        told: Tensor | None = None,
    ) -> guide.Guesses:  # fmt: skip
        """Data guesses of `count` pictures under each of the conditions, which come condition by condition."""
        own, size = self.own_times(self.walked(request), evaluations)
        times, size = (part.to(self.device, torch.float32) for part in (own, size))
        loop = self._loop(request, count, own, self.conditions(conditions) if conditions else (), told)
        target = self.config.diffusion.target

        def guess(x_t: Tensor, k: int, every: bool) -> list[Tensor]:
            x_t = size[k] * x_t
            predictions = loop(self.scaled(x_t, times[k]), k, every).split(count)
            return [solve(target, self.path, x_t, prediction, times[k])[0] for prediction in predictions]

        return guess

    def _loop(
        self, request: Request, count: int, evaluations: Tensor, conditions: Conditions, told: Tensor | None
    ) -> AnyLoop:
        """The prepared network of one chunk; on a GPU as a graph, captured once a shape."""
        dtype = request.dtype or (torch.bfloat16 if fast.bf16_pays(self.device) else torch.float32)
        shape = (count, *self.shape)
        if not isinstance(self.net, DiT):
            net = self._plain(dtype, request.packed)
            return PlainLoop(net, dtype, count, evaluations, *conditions, scalars=told)
        blocks = self.packed.get(dtype) if request.packed else None
        if blocks is None:
            blocks = pack(self.net, dtype)
            if request.packed:
                self.packed[dtype] = blocks
        states, present, pooled = conditions or (None, None, None)
        loop = Loop(self.net, blocks, dtype, shape, evaluations, states, present, pooled, told)
        if self.device.type != "cuda" or not request.packed:
            return loop
        key = (dtype, shape, loop.rows)
        if key in self.graphs:
            return self.graphs[key].take(loop)
        return self.graphs.setdefault(key, GraphLoop(loop))

    def _plain(self, dtype: torch.dtype, keep: bool) -> nn.Module:
        """A copy of the network in `dtype`; kept for the next call where its weights stay as they are."""
        net = self.plain.get(dtype) if keep else None
        if net is None:
            net = fast.channels_last(copy.deepcopy(self.net).to(dtype).eval())
            if keep:
                self.plain[dtype] = net
        return net

    def _keeping(self, denoise: Denoiser, known: Tensor, mask: Tensor, path: Path, evaluations: Tensor) -> Denoiser:
        """Where the mask is 0 the data guess is the known picture itself. x_t there is then the known data with this
        sample's noise: inpainting by replacement (arXiv:2011.13456, appendix I.2), exactly so where a and b are linear
        in t, or the solver mixes guesses (euler, dpmpp_2m); else as nearly as the solver follows the path."""
        free = F.adaptive_max_pool2d(mask[None].to(known), self.shape[-2:])
        times = evaluations.to(known)

        def keeping(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
            x = torch.lerp(known, denoise(x_t, k)[0], free)
            return x, (x_t - path.a(times[k]) * x) / path.b(times[k])

        return keeping

    def invert(self, pictures: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        return inversion.invert(self, pictures, prompt, steps)

    def from_noise(self, noise: Tensor, prompt: str = "", steps: int | None = None) -> Tensor:
        return inversion.from_noise(self, noise, prompt, steps)

    def resolved(self, request: Request) -> dict[str, Any]:
        facts: dict[str, Any] = {"steps": self.steps(request), "solver": self.solver(request), "path": request.path}
        facts |= {"spacing": request.spacing, "shift": request.shift}
        guidance = self.guidance(request)
        if guidance.scale != 1 or self._has_condition(request):
            facts |= {"guidance_scale": guidance.scale}
            facts |= {} if self.taught else {"guidance_interval": list(guidance.interval)}
            facts |= {"negative": request.negative, "guidance": guidance.method, "rescale": guidance.rescale or None}
        if request.also:
            facts["also"] = [list(pair) for pair in request.also]
        if request.guide is not None:
            facts["guide"] = request.guide.sha256[:16]
        if request.image is not None:
            facts |= {"image": _fingerprint(request.image), "strength": request.strength}
        if request.mask is not None:
            facts["mask"] = _fingerprint(request.mask)
        if facts.get("guidance") == "cfg":
            del facts["guidance"]
        return {key: value for key, value in facts.items() if value is not None}


def _codec(model: Flow) -> str:
    """The hash of the codec that a model was trained with; empty in pixel space."""
    return str(model.info.get("parts", {}).get("codec", {}).get("sha256", ""))


def _fingerprint(picture: Tensor) -> str:
    """What identifies a picture's numbers, not its file."""
    levels = ((picture.cpu().flatten() + 1) * 127.5).round().to(torch.uint8)
    return hashlib.sha256(bytes(levels.tolist())).hexdigest()[:16]
