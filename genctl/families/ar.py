"""Autoregressive models: a transformer over a picture's tokens, which are the integers of a frozen codec (vq.py), drawn
row by row, in parallel passes, or grid by grid (arXiv:2406.06525, 2202.04200, 2404.02905).

    training  tokens = codec.encode(picture); cross-entropy of those asked for         families/tokens/orders.py
    sampling  pass by pass: probabilities -> tokens;  codec.decode(tokens)             families/tokens/sample.py

Unlike other families it knows its own likelihood exactly: `nats` of the tokens, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genctl.config import within
from genctl.data.pictures import Pictures
from genctl.errors import UsageError
from genctl.families.base import Drawn, Edit, Losses, Request, Source
from genctl.families.coded import Coded, codec_config, codec_hash
from genctl.families.conditions.conditional import Conditional, Conditions, conditioned, conditions_of
from genctl.families.flow.sample import seamless
from genctl.families.sources import CodeSource
from genctl.families.tokens import sample
from genctl.families.tokens.orders import Lesson, Masked, Order, Raster, Scale
from genctl.families.tokens.settings import LossConfig, OrderName, SamplingConfig, TokenOptions
from genctl.nets import fast
from genctl.nets.dit_sample import by_row
from genctl.nets.gpt import GPT, GPTConfig
from genctl.nets.gpt_sample import Packed, pack
from genctl.rng import Draw, picture_noise
from genctl.sizes import Size, Sized

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16"}  # as --dtype has them


@dataclass(frozen=True)
class ARConfig(Sized):
    pixels: Size = Size(128, 128)
    condition: Literal["text", "class", "none"] = "text"
    classes: tuple[str, ...] = ()  # empty in training means: as the data have them
    text: str = "minilm"  # name of the text encoder
    codec: str = "vq"  # name of the codec of tokens; None below in training: as it has it
    codes: Annotated[int | None, within(2)] = None  # how many different tokens there are
    factor: Annotated[int | None, within(1, 4096)] = None  # pixels a code cell
    width: Annotated[int | None, within(1, 8192)] = None  # numbers of a token's vector
    sides: Annotated[tuple[int, ...] | None, within(1, 4096)] = None  # of the codec's grids; (): it has one
    order: OrderName = "masked"
    architecture: GPTConfig = field(default_factory=GPTConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def net(self) -> GPTConfig:
        """The network's configuration, with the shape of its conditions."""
        return conditioned(self.architecture, self.condition, self.classes)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Cells of each grid (height, width)."""
        factor = self.factor or 1
        return [(side, side) for side in self.sides or ()] or [
            (self.pixels.height // factor, self.pixels.width // factor)
        ]


class AR(Coded):
    """Text, a class or nothing -> tokens [B, N] -> pictures [B, 3, S, S]."""

    name = "ar"
    Config = ARConfig
    Options = TokenOptions
    can = frozenset({"sample", "interpolate", "text", "class", "image", "mask"})
    spaces = ()
    codec_family: ClassVar[str] = "vq"
    config: ARConfig
    net: GPT

    def __init__(self, config: ARConfig) -> None:
        super().__init__(config)
        if None in (config.codes, config.factor, config.width, config.sides):
            raise UsageError("model.codes, factor, width and sides are open; say those of the codec")
        if config.condition != "none" and config.architecture.text == "none":
            raise UsageError('the net has text = "none"; say model.condition = "none" instead')
        self.factor = config.factor or 1
        config.pixels.check(self.factor, "the codec's factor")
        if config.sides and config.pixels.high != (self.factor * config.sides[-1],) * 2:
            raise UsageError(
                f"model.pixels is {config.pixels}; grids of up to {config.sides[-1]} cells are another size"
            )
        self.config, self.pixels = config, config.pixels
        self.order = order_of(config)
        features = config.width if config.order == "scale" else 0
        self.net = GPT(config.net, config.codes or 0, self.order.places(), features or 0)
        self.packed: dict[torch.dtype, Packed] = {}
        self.alike: dict[tuple[Any, ...], bool] = {}
        cannot = set() if self.order.redraws else {"image", "mask"}
        self.can = self.can - cannot - ({"mask"} if config.sides else set())

    @staticmethod
    def settled(config: ARConfig) -> ARConfig:
        codec = codec_config(config.codec, AR.codec_family)
        found = {
            "codes": codec.quantiser.count, "factor": codec.net.factor, "width": codec.quantiser.latent,
            "sides": codec.quantiser.sides,
        }  # fmt: skip
        return replace(config, **{key: value for key, value in found.items() if getattr(config, key) is None})

    @staticmethod
    def part_hashes(config: ARConfig) -> dict[str, str]:
        return Conditional.part_hashes(config) | codec_hash(config)

    def unlike(self, codec: Any) -> str:
        said, config = codec.config.quantiser, self.config
        found, wanted = (said.count, codec.factor, said.latent), (config.codes, config.factor, config.width)
        if found == wanted and said.sides == config.sides:
            return ""
        what = "{} codes of {} numbers at 1/{}, grids {}"
        return (
            f"has {what.format(found[0], found[2], found[1], said.sides)}; this model wants "
            f"{what.format(wanted[0], wanted[2], wanted[1], config.sides)}"
        )

    # training --------------------------------------------------------------------------------------------------------
    def phases(self) -> dict[str, nn.Module]:
        return {"model": self.net}

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        return CodeSource(self, self.codec(), pictures, device)

    def features(self, tokens: Tensor, grids: int) -> Tensor:
        """What the first so many grids of tokens [B, N] make of the codec's features [B, d, S, S]."""
        with torch.no_grad():
            return self.codec().quantiser.features(tokens, grids)

    def features_alone(self, tokens: Tensor, grids: int) -> Tensor:
        """The same, a picture at a time: what it rounds to must not depend on what is drawn beside it."""
        return by_row(lambda one: self.features(one, grids), tokens)

    def training_step(self, batch: dict[str, Tensor], draw: Draw, progress: float) -> Losses:
        if "present" in batch:
            kept = draw.uniform(1) >= self.config.loss.condition_dropout
            batch = batch | {"present": batch["present"] & kept}
        lesson = self.order.training(self.net, batch["x"].flatten(1).long(), self.features, draw, progress)
        nats, accuracy = self.answer(lesson, batch, self.config.loss.smoothing)
        yield "model", nats.mean(), {"accuracy": accuracy}

    def answer(self, lesson: Lesson, batch: dict[str, Tensor], smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """Nats a token of each row [B], and the share of tokens whose likeliest value is right."""
        logits = self.net(*lesson.elements, *conditions_of(batch)).float()
        nats = F.cross_entropy(logits.transpose(1, 2), lesson.wanted, reduction="none", label_smoothing=smoothing)
        accuracy = (logits.argmax(-1) == lesson.wanted).float()
        return (nats * lesson.weight).sum(1), (accuracy * lesson.weight).sum(1).mean().detach()

    @torch.no_grad()
    def validation_loss(self, batch: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        tokens = batch["x"].flatten(1).long()
        nats, accuracy = self.answer(self.order.judging(self.net, tokens, self.features, draw), batch)
        return {"loss": nats.mean(), "accuracy": accuracy}

    @torch.no_grad()
    def nats(self, tokens: Tensor, conditions: Conditions, passes: int | None = None) -> Tensor:
        """-log p [B] of tokens [B, N] as they are drawn at temperature 1 without guidance or cuts, exactly: in a masked
        order the tokens of one pass are independent of each other, given those of the passes before."""
        passes = passes or self.config.sampling.passes
        total = torch.zeros(len(tokens), dtype=torch.float64)
        known = torch.zeros(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        if self.order.cached:
            lesson = self.order.judging(self.net, tokens, self.features, Draw(0, len(tokens), self.device))
            return -likelihood(self.net(*lesson.elements, *conditions), lesson.wanted)
        for part in self.order.passes(passes, ~known.cpu()):
            elements = self.order.elements(self.net, tokens, known, part.to(tokens.device), self.features)
            total -= likelihood(self.net(*elements, *conditions)[:, part], tokens[:, part])
            known[part] = True
        return total

    # sampling --------------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        options, dtype = self.options(request), self.dtype_of(request.dtype)
        packed = self.packed.get(dtype) if request.packed else None
        packed = packed or pack(self.net, dtype)
        if request.packed:
            self.packed[dtype] = packed
        given, redrawn = self.edited(request.edit) if request.edit is not None else (None, None)
        chunk = request.chunk if self._together(request, options, packed) else 1
        for start in range(0, len(request.seeds), chunk):
            seeds = request.seeds[start : start + chunk]
            asked = request.conditions[start : start + chunk] or [""] * len(seeds)
            noise = picture_noise(seeds, self.noise_shape()) if request.noise is None else request.noise[start:][:chunk]
            conditions = self.conditions([*asked, *[""] * len(asked)] if guides(options) else asked)
            before = None if given is None else given.expand(len(seeds), -1)
            drawing = sample.draw(
                self.net, packed, self.order, options, conditions, noise, self.features_alone, before, redrawn
            )
            for tokens, known, step, steps in drawing:
                if step < steps:
                    yield Drawn(start, self._guess_of(tokens[:1], known), step, steps, final=False)
            pictures, edit = self.decoded(tokens), request.edit
            if edit is not None and edit.mask is not None:
                pictures = seamless(pictures, edit.picture.to(self.device), edit.mask.to(self.device))
            yield Drawn(start, pictures, steps, steps)

    def _together(self, request: Request, options: TokenOptions, packed: Packed) -> bool:
        """Whether pictures are drawn several at once: on a CPU where that leaves each as it is alone."""
        count = len(request.seeds)
        if self.device.type != "cpu" or min(request.chunk, count) == 1:
            return True
        alike = True
        for size in {min(request.chunk, count), count % request.chunk} - {0, 1}:
            key = (packed.dtype, size, guides(options), options.passes)
            if key not in self.alike:
                conditions = self.conditions(["" for _ in range(size * (2 if guides(options) else 1))])
                self.alike[key] = sample.rounds_alike(
                    self.net, packed, self.order, options, conditions, self.features_alone, size
                )
            alike = alike and self.alike[key]
        return alike

    def edited(self, edit: Edit) -> tuple[Tensor, Tensor]:
        """The picture's tokens [1, N], and which of them [N] are drawn anew: of those that the mask touches, or of all,
        the last ones of the order, as many as the strength says."""
        tokens = self.codec().encode(edit.picture[None].to(self.device)).flatten(1).long()
        if edit.mask is None:
            redrawn = torch.ones(self.order.count, dtype=torch.bool)
        else:
            redrawn = F.max_pool2d((edit.mask > 0).float()[None], self.factor).flatten().bool().cpu()
        drawn = torch.cat(self.order.passes(self.order.count, redrawn))
        drawn = drawn[redrawn[drawn]]
        redrawn[drawn[: len(drawn) - max(1, round(edit.strength * len(drawn)))]] = False
        return tokens, redrawn

    def decoded(self, tokens: Tensor) -> Tensor:
        """Pictures of tokens [B, N]."""
        shape = (len(tokens), -1) if self.config.sides else (len(tokens), 1, *self.config.grids[0])
        return self.codec().decode(tokens.view(shape))

    def _guess_of(self, tokens: Tensor, known: Tensor) -> Any:
        """Of a drawing on its way: what is not there yet is white."""

        @torch.inference_mode()
        def guess() -> Tensor:
            white = self.codec().encode(torch.ones(1, 3, *self.pixels.high, device=self.device)).flatten(1).long()
            return self.decoded(torch.where(known, tokens, white))

        return guess

    def dtype_of(self, dtype: torch.dtype | None) -> torch.dtype:
        """The numbers that the network runs in: those asked for, or what is fastest here."""
        return dtype or (torch.bfloat16 if fast.bf16_pays(self.device) else torch.float32)

    def noise_shape(self, size: Any = None) -> tuple[int, ...]:
        return (self.order.count,)

    def recorded(self, request: Request) -> dict[str, Any]:
        return {"dtype": DTYPES[self.dtype_of(request.dtype)]} | super().recorded(request)


def likelihood(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p [B] of tokens [B, n] under logits [B, n, V]."""
    return logits.cpu().double().log_softmax(-1).gather(-1, tokens.cpu()[..., None])[..., 0].sum(1)


def guides(options: TokenOptions) -> bool:
    return options.cfg is not None and options.cfg != 1


def order_of(config: ARConfig) -> Order:
    """Raises UsageError for an order that the codec's tokens cannot be drawn in."""
    several = bool(config.sides)
    if config.order == "scale":
        if not several:
            raise UsageError("model.order = scale wants a codec of several grids (its model.quantiser.sides)")
        return Scale(config.grids)
    if several and config.order == "masked":
        raise UsageError("model.order = masked wants a codec of one grid; scale or raster draw several")
    return (
        Masked(config.grids)
        if config.order == "masked"
        else Raster(config.grids, config.loss.token_dropout, config.loss.random_order)
    )
