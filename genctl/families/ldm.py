"""Latent diffusion with a transformer, text to image: a flow on a frozen codec's codes, conditioned on a frozen
encoder's text (arXiv:2112.10752, 2212.09748, 2403.03206).

    training  x = codec.encode(picture), z ~ N(0, 1), t ~ density:   |net(x_t, t, text) - (c x + d z)|^2
    sampling  x_1 = z(seed) -> solver over guided denoisers -> x_0 -> codec.decode

Codes and text states are computed once and cached; a tenth of the captions is dropped in training, so that the same net
also predicts without text, which guidance needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genctl import config as configs
from genctl import files, hub
from genctl.data.pictures import Pictures
from genctl.diffusion import guide
from genctl.diffusion.path import PATHS
from genctl.diffusion.solve import SOLVERS
from genctl.diffusion.target import combine, solve, weight
from genctl.diffusion.time import Density, grid, training_times
from genctl.draws import Draw, PictureNoise
from genctl.errors import ModelError, UsageError
from genctl.families.base import Blend, Drawn, Family, Losses, Request, Source, load
from genctl.families.codes import CodeSource
from genctl.families.vae import VAE, VAEConfig
from genctl.nets import fast
from genctl.nets.dit import DiT, DiTConfig
from genctl.nets.dit_sample import Loop, PackedBlock, pack
from genctl.nets.graph import GraphLoop
from genctl.nets.text import TextEncoder, Tokenizer, load_text_encoder

NOISE_START = 1 - 1e-3  # a predicted noise says nothing of the data at t = 1, where x_t is that noise
Conditions = tuple[Tensor, Tensor, Tensor]  # states [B, L, T], present [B, L], pooled [B, T]


@dataclass(frozen=True)
class DiffusionConfig:
    path: Literal["linear", "cosine", "vp", "subvp"] = "linear"
    target: Literal["x", "noise", "velocity", "v"] = "velocity"
    weighting: Literal["unit", "min-snr", "sigmoid"] = "unit"
    density: Density = "logit-normal"
    density_mean: float = 0.0
    density_std: float = 1.0
    shift: float = 1.0  # of training times, towards noise
    condition_dropout: float = 0.1


@dataclass(frozen=True)
class SamplingConfig:
    """What `sample` does unless told otherwise; kept in the model file."""

    steps: int = 20
    guidance_scale: float = 4.0
    guidance_interval: tuple[float, float] = (0.1, 0.95)
    shift: float = 1.0


@dataclass(frozen=True)
class LDMConfig:
    pixels: int = 128
    codec: str = "vae"  # name of the codec, and
    text: str = "minilm"  # of the text encoder
    channels: int | None = None  # of the codec's codes, and
    factor: int | None = None  # pixels a code cell; None in training means: as the codec has them
    net: DiTConfig = field(default_factory=DiTConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def codec_config(name: str) -> VAEConfig:
    """The configuration of the codec called `name`, from its header. Raises ModelError when it is no codec."""
    document = files.read_header(hub.resolve(name)).document
    if document.get("family") != VAE.name:
        raise ModelError(f"{name}: a {document.get('family', 'foreign')} model cannot be the codec of an ldm")
    return configs.build(VAEConfig, document.get("config", {}))


class LDM(Family):
    """Text (or nothing) -> pictures [B, 3, S, S]; codes [B, d, S/f, S/f] are the codec's."""

    name = "ldm"
    Config = LDMConfig
    can = frozenset({"sample", "encode", "decode", "interpolate", "text"})

    def __init__(self, config: LDMConfig) -> None:
        super().__init__()
        if config.channels is None or config.factor is None:
            raise UsageError("model.channels and model.factor are open; say those of the codec")
        if config.net.text == "none":
            raise UsageError('net.text = "none": an ldm is a text model; use joint or cross')
        if config.pixels % (config.factor * config.net.patch):
            raise UsageError(
                f"{config.pixels} pixels do not divide by factor x patch = {config.factor * config.net.patch}"
            )
        self.config, self.pixels = config, config.pixels
        self.net = DiT(config.net, config.channels)
        self.path = PATHS[config.diffusion.path]
        self.packed: dict[torch.dtype, list[PackedBlock]] = {}
        self.graphs: dict[tuple[Any, ...], GraphLoop] = {}
        self.used: dict[str, dict[str, str]] = {}  # the parts that were loaded: name and sha256
        side = config.pixels // config.factor
        self.shape = (config.channels, side, side)

    @staticmethod
    def settled(config: LDMConfig) -> LDMConfig:
        codec = codec_config(config.codec)
        channels = codec.net.latent if config.channels is None else config.channels
        return replace(config, channels=channels, factor=config.factor or codec.factor)

    @staticmethod
    def part_hashes(config: LDMConfig) -> dict[str, str]:
        paths = {"codec": hub.resolve(config.codec), "text": hub.resolve(config.text, kind="part")}
        return {part: hub.weights_sha256(path, files.read_header(path)) for part, path in paths.items()}

    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net}

    def compile_parts(self) -> None:
        for block in self.net.blocks:  # equal blocks share one compilation
            block.compile()

    # parts -----------------------------------------------------------------------------------------------------------
    def codec(self) -> VAE:
        """The frozen codec, loaded at first use; ModelError when it is not the one this model was trained on."""
        if "codec" not in self.parts:
            path = str(hub.resolve_part("codec", self.config.codec, self.file))
            codec_config(path)
            model = load(path, self.device)
            assert isinstance(model, VAE)
            self._check_part("codec", model.weights_sha256)
            if (model.config.net.latent, model.factor) != (self.config.channels, self.config.factor):
                raise ModelError(
                    f"codec {self.config.codec} has {model.config.net.latent} channels at 1/{model.factor}, this model "
                    f"wants {self.config.channels} at 1/{self.config.factor}; see --set model.channels, model.factor"
                )
            model.prepare()
            self.parts["codec"] = model
        return self.parts["codec"]

    def text(self) -> tuple[Tokenizer, TextEncoder]:
        """The frozen text encoder, loaded at first use."""
        if "text" not in self.parts:
            tensors, header = hub.load_part(self.config.text)
            self._check_part("text", hub.weights_sha256(hub.resolve(self.config.text, kind="part"), header))
            encoder = load_text_encoder(tensors).to(self.device).requires_grad_(False).eval()
            self.parts["text"] = (Tokenizer(header.metadata["tokenizer"]), encoder)
        return self.parts["text"]

    def _check_part(self, part: str, found: str) -> None:
        recorded = self.info.get("parts", {}).get(part, {}).get("sha256", found)
        self.used[part] = {"name": getattr(self.config, part), "sha256": found}
        if recorded != found:
            raise ModelError(
                f"this model was trained with another {part} {getattr(self.config, part)!r} "
                f"(sha256 {recorded[:12]}, found {found[:12]})"
            )

    @torch.inference_mode()
    def encode_text(self, text: str) -> tuple[Tensor, Tensor, bool]:
        """States [n, T] (n <= slots) and pooled [T] of one text, and whether it was cut; an empty text has n = 0."""
        tokenizer, encoder = self.text()
        if not text.strip():
            width = self.config.net.text_width
            return torch.zeros(0, width), torch.zeros(width), False
        ids, mask, cut = tokenizer.encode([text], max_tokens=self.config.net.text_slots)
        states, pooled = encoder(ids.to(self.device), mask.to(self.device))
        return states[0, : int(mask.sum())].float().cpu(), pooled[0].float().cpu(), cut[0]

    def conditions(self, prompts: list[str | Blend]) -> Conditions:
        """The network's conditions of some prompts; each distinct one is encoded once, alone."""
        slots = self.config.net.text_slots
        known: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

        def one(text: str) -> tuple[Tensor, Tensor, Tensor]:
            if text not in known:
                states, pooled, _ = self.encode_text(text)
                filled = self.net.empty_slot.detach().float().cpu().clone()
                filled[: len(states)] = states
                if not len(states):
                    pooled = self.net.empty_pooled.detach().float().cpu()
                known[text] = (filled, torch.arange(slots) < len(states), pooled)
            return known[text]

        rows = []
        for prompt in prompts:
            if isinstance(prompt, str):
                rows.append(one(prompt))
            else:  # between two prompts; a slot that only one fills moves to or from the learned empty one
                (a, in_a, pa), (b, in_b, pb) = one(prompt.start), one(prompt.end)
                rows.append((torch.lerp(a, b, prompt.share), in_a | in_b, torch.lerp(pa, pb, prompt.share)))
        states, present, pooled = (torch.stack(part).to(self.device) for part in zip(*rows, strict=True))
        return states, present, pooled

    # training --------------------------------------------------------------------------------------------------------
    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return CodeSource(self, pictures, device)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        present = batch["present"]
        dropped = draw.uniform(1)
        batch = batch | {"present": present & (dropped >= self.config.diffusion.condition_dropout)}
        loss, figures = self._loss(batch, draw)
        yield "model", loss, figures

    def _loss(self, batch: dict[str, Tensor], draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        config, x = self.config.diffusion, batch["codes"]
        density = (config.density, draw.strata(), config.density_mean, config.density_std)
        t = training_times(*density, config.shift, self.path)
        z = draw.normal(*x.shape[1:])
        prediction = self.net(self.path.mix(x, z, t), t, batch["states"], batch["present"], batch["pooled"])
        error = (prediction.float() - combine(config.target, self.path, x, z, t)).square().mean((1, 2, 3))  # [B]
        error = weight(config.weighting, config.target, self.path, t) * error
        noisy = (t > 0.5).float()
        by_time = {
            "loss_clean_half": (error * (1 - noisy)).sum() / (1 - noisy).sum().clamp(min=1),
            "loss_noisy_half": (error * noisy).sum() / noisy.sum().clamp(min=1),
        }
        return error.mean(), by_time

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        loss, figures = self._loss(batch, draw)
        return {"loss": loss} | figures

    def preview(self, source: Source) -> Tensor:
        assert isinstance(source, CodeSource)
        prompts: list[str | Blend] = list(source.preview_prompts)
        with torch.autocast(self.device.type, enabled=False):
            drawn = list(self.sample(Request(seeds=list(range(len(prompts))), prompts=prompts, packed=False)))
        return torch.cat([part.pictures for part in drawn if part.final])

    # inference -------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        """Pictures of the request, `request.chunk` at a time; a preview after each step where `request.preview`."""
        dtype = request.dtype or (torch.bfloat16 if fast.bf16_pays(self.device) else torch.float32)
        blocks = self.packed.get(dtype) if request.packed else None
        if blocks is None:
            blocks = pack(self.net, dtype)
            if request.packed:
                self.packed[dtype] = blocks
        for start in range(0, len(request.seeds), request.chunk):
            yield from self._chunk(request, start, dtype, blocks)

    def _chunk(self, request: Request, start: int, dtype: torch.dtype, blocks: list[PackedBlock]) -> Iterator[Drawn]:
        config = self.config.sampling
        seeds = request.seeds[start : start + request.chunk]
        prompts = request.prompts[start : start + request.chunk] or [""] * len(seeds)
        scale = config.guidance_scale if request.guidance_scale is None else request.guidance_scale
        steps = request.steps or config.steps
        start_time = 1.0 if self.config.diffusion.target != "noise" else NOISE_START
        times = start_time * grid(steps, request.shift or config.shift)
        solver = SOLVERS[request.solver]
        evaluations = solver.evaluations(times)
        unguided = scale == 1 or not self._has_text(request)
        rows = prompts if unguided else prompts + [request.negative] * len(prompts)
        loop = self._loop(request, blocks, dtype, (len(seeds), *self.shape), evaluations, self.conditions(rows))
        interval = request.guidance_interval or config.guidance_interval
        on = guide.active(evaluations.tolist(), interval)
        predict = guide.classifier_free(loop, 1.0 if unguided else scale, on)
        noise = PictureNoise(seeds, self.shape)
        begin = noise()
        begin = begin if request.noise is None else request.noise[start : start + len(seeds)]
        x_t = self.path.b(times[0]) * begin.to(self.device)
        denoise = self._denoiser(predict, evaluations)
        walk = solver.run(denoise, x_t, times, self.path, lambda: noise().to(self.device))
        for step, (state, x) in enumerate(walk, 1):
            x_t = state
            if request.preview and step < steps:
                yield Drawn(start, self.decode(x[:1]), step, steps, final=False)
        yield Drawn(start, self.decode(x_t), steps, steps, final=True)

    def _loop(
        self, request: Request, blocks: list[PackedBlock], dtype: torch.dtype, shape: tuple[int, ...],
        evaluations: Tensor, conditions: Conditions,
    ) -> Loop | GraphLoop:  # fmt: skip
        """The prepared network of one chunk; on a GPU as a graph, captured once a shape."""
        loop = Loop(self.net, blocks, dtype, shape, evaluations, *conditions)
        if self.device.type != "cuda" or not request.packed:
            return loop
        key = (dtype, shape, loop.rows)
        if key in self.graphs:
            return self.graphs[key].take(loop)
        return self.graphs.setdefault(key, GraphLoop(loop))

    @staticmethod
    def _has_text(request: Request) -> bool:
        """Whether any condition differs from the empty one; then, and only then, is there something to guide."""
        return bool(request.negative) or any(request.prompts)

    def _denoiser(
        self, predict: Callable[[Tensor, int], Tensor], evaluations: Tensor
    ) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
        times, target = evaluations.to(self.device, torch.float32), self.config.diffusion.target

        def denoise(x_t: Tensor, k: int) -> tuple[Tensor, Tensor]:
            return solve(target, self.path, x_t, predict(x_t, k), times[k])

        return denoise

    def resolved(self, request: Request) -> dict[str, Any]:
        config = self.config.sampling
        scale = config.guidance_scale if request.guidance_scale is None else request.guidance_scale
        facts: dict[str, Any] = {"steps": request.steps or config.steps, "solver": request.solver}
        if self._has_text(request):
            interval = request.guidance_interval or config.guidance_interval
            facts |= {"guidance_scale": scale, "guidance_interval": list(interval), "negative": request.negative}
        return facts

    def cuts(self, prompt: str) -> bool:
        return self.text()[0].encode([prompt], max_tokens=self.config.net.text_slots)[2][0]

    def noise_shape(self) -> tuple[int, ...]:
        return self.shape

    def facts(self) -> dict[str, Any]:
        return {"parts": self.used}

    def encode(self, pictures: Tensor) -> Tensor:
        return self.codec().encode(pictures)

    def decode(self, codes: Tensor) -> Tensor:
        return self.codec().decode(codes)
