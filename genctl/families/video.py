"""Text to clips: latent diffusion (ldm.py) over codes with a time axis, by the same transformer.

    training  x = codec.encode(window of a clip) [d, t, h, w], or of one frame [d, 1, h, w]; text states of a caption
    sampling  noise -> x -> codec.decode

A picture is a clip of one frame, so both are learned together. In some rows the first code frames are given: the
network sees them without noise at every time, and so learns to go on from a picture, or from a clip's end
(arXiv:2503.20314 gives them their own time; here the network is left to see that they are clean); in some of these the
last one as well, and so it learns the way from an end to a beginning, which closes a loop. Beside the codec (`clipvae`)
and the number of axes one thing differs from text to image: of channels that say how a code's frames differ, mostly by
nothing, the best linear prediction is known, and the network learns what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from genctl.config import above, within
from genctl.data import cache
from genctl.data.clips import Clips, Mixed, load_clips, varied
from genctl.data.pictures import DataConfig, Pictures, onto
from genctl.diffusion.path import like
from genctl.diffusion.target import TARGETS
from genctl.errors import UsageError
from genctl.families.base import Drawn, Edit, Remark, Request, Source
from genctl.families.clipvae import ClipVAE
from genctl.families.coded import codec_config
from genctl.families.conditions.captions import Described
from genctl.families.flow.model import Given
from genctl.families.flow.video_options import MOST_GIVEN, Closing, VideoOptions
from genctl.families.ldm import LDM, LDMConfig
from genctl.nets.dit import DiT
from genctl.rng import Draw, address
from genctl.sizes import Size

VIEWS = 4  # windows of a clip whose codes are computed ahead, where nobody says how many
CHUNK = 8  # windows encoded at once
GIVEN = 1e-5  # noise below which a code frame is a given one
SHOWN = 4  # frames of a clip of a preview


@dataclass(frozen=True)
class VideoConfig(LDMConfig):
    pixels: Size = Size(64, 64)
    codec: str = "clipvae"
    frames: Annotated[int | None, within(1, 4096)] = None  # of a training window, and
    fps: Annotated[float | None, above(0, 1000)] = None  # frames a second, and
    period: Annotated[int | None, within(1, 64)] = None  # frames of a code frame, and
    latent: Annotated[int | None, within(1, 1024)] = None  # channels of a picture's code; None: as the codec has
    spread: Annotated[float, within(0, 100)] = 0.3  # deviation that a code's further channels are taken to have
    stills: Annotated[float, within(0, 1)] = 0.2  # share of training batches of single frames
    given: Annotated[float, within(0, 1)] = 0.25  # share of training rows whose first code frames are given
    closed: Annotated[float, within(0, 1)] = 0.4  # share of those whose last one is given too


@dataclass(frozen=True)
class Ends(Edit):
    """A clip's end [3, T, H, W], and a beginning [3, period, H, W] that is to follow after what is drawn."""

    end: Tensor = field(kw_only=True)


class Video(LDM):
    """Text (or nothing) -> clips [B, 3, T, S, S]; codes [B, d, t, S/f, S/f] are the codec's."""

    name = "video"
    Config = VideoConfig
    Options = VideoOptions
    can = frozenset({"sample", "encode", "decode", "text", "image"})
    spaces = ("code",)
    axes = "channels, time, height, width"
    codec_family = "clipvae"
    frames = 1  # of a clip as trained
    config: VideoConfig

    def __init__(self, config: VideoConfig) -> None:
        if config.frames is None or config.fps is None or config.period is None:
            raise UsageError("model.frames, model.fps and model.period are open; say those of the codec")
        super().__init__(config)
        self.frames, self.fps, self.period = config.frames, config.fps, config.period
        self.shape = self.shape_of(config.pixels)
        if (self.frames - 1) % self.period:
            raise UsageError(f"model.frames = {self.frames}: one and a multiple of the codec's {self.period}")
        if self.distilled:  # whose lessons have no given frames
            self.can = self.can - {"image"}
        self.net = DiT(config.net, config.channels or 1, axes=3)

    @staticmethod
    def settled(config: Any) -> Any:
        codec = codec_config(config.codec, Video.codec_family)
        net = codec.net
        found = {"channels": net.channels_of_code, "factor": net.factor, "period": net.shape.period}
        found |= {"frames": codec.frames, "fps": codec.fps, "latent": net.latent}
        return replace(config, **{key: value for key, value in found.items() if getattr(config, key) is None})

    @staticmethod
    def load_data(config: Any, folder: Any, data: DataConfig, report: Remark) -> Pictures:
        return load_clips(folder, config.pixels, config.frames, config.fps, data, report)

    def unlike(self, codec: Any) -> str:
        assert isinstance(codec, ClipVAE)
        wrong = super().unlike(codec)
        if wrong or codec.period == self.period:
            return wrong
        return f"has a code frame for {codec.period} frames, this model wants one for {self.period}"

    # training --------------------------------------------------------------------------------------------------------
    def inherited(self, family: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of a flow on pictures: what a code has beside a picture's enters as at random, and nothing is said of it."""
        before, other = divmod(tensors["net.embed.weight"].shape[1], self.config.net.patch**2)
        spare, made = (self.config.channels or 1) - before, dict(tensors)
        if family == self.name or spare <= 0 or other:  # other patches: nothing of these layers fits
            return tensors
        own = self.state_dict()
        for layer, axis in (("embed", 1), ("coarse_embed", 1), ("last", 0), ("coarse_last", 0)):
            for name in (f"net.{layer}.weight", *([] if axis else [f"net.{layer}.bias"])):
                if name not in tensors or name not in own:
                    continue
                apart = tensors[name].unflatten(axis, (-1, before))  # patch by patch, channel by channel
                more = own[name].cpu().unflatten(axis, (-1, before + spare)).narrow(axis + 1, before, spare)
                if more.select(axis + 1, 0).shape == apart.select(axis + 1, 0).shape:
                    made[name] = torch.cat([apart, more.to(apart)], axis + 1).flatten(axis, axis + 1)
        return made

    def judged(self, pictures: Pictures) -> list[str]:
        return []

    def source(self, pictures: Pictures, device: torch.device) -> Source:
        assert isinstance(pictures, Clips)
        return ClipCodeSource(self, pictures, device)

    def noise_of(self, batch: dict[str, Tensor], t: Tensor, draw: Draw) -> Tensor:
        """In some rows noise that leaves some code frames as they are: (1 - a) / b x."""
        x = batch["x"]
        noise, kept = draw.normal(*x.shape[1:]), self.kept(x.shape[2], draw).to(x.device)
        a, b = (part.to(x)[:, None, None, None, None] for part in (self.path.a(t), self.path.b(t).clamp(min=1e-4)))
        return torch.where(kept[:, None, :, None, None], (1 - a) / b * x, noise)

    def kept(self, frames: int, draw: Draw) -> Tensor:
        """Which of so many code frames are given in training [B, frames]: in some rows the first ones, in some of those
        the last one too; never all."""
        chance, count, closing = draw.uniform(3).T
        closed = (closing < self.config.closed) & (frames > 2)
        most = (frames - 1 - closed.long()).clamp(max=MOST_GIVEN)
        given = torch.where(chance < self.config.given, (1 + (count * most).long()).clamp(max=most), 0)
        places = torch.arange(frames, device=given.device)
        return (places < given[:, None]) | ((closed & (given > 0))[:, None] & (places == frames - 1))

    def linear(self, x_t: Tensor, t: Tensor) -> Tensor | float:
        """Of channels beside a picture's the best linear prediction, were they normal and of deviation s = `spread`, 0
        in a first frame: (c a s^2 + d b) / (a^2 s^2 + b^2) x_t, the target being c x + d z. Karras' preconditioning
        (arXiv:2206.00364) for these channels alone; the others are as in a flow on pictures."""
        channels = x_t.shape[1]
        latent = self.config.latent or channels
        if latent == channels:
            return 0.0
        further, first = (torch.arange(size, device=x_t.device) for size in x_t.shape[1:3])
        variance = self.config.spread**2 * (first > 0).to(x_t)[:, None, None]
        t = like(t.to(x_t), x_t)
        a, b = self.path.a(t), self.path.b(t)
        c, d = TARGETS[self.config.diffusion.target](self.path, t)
        known = (c * a * variance + d * b) / (a**2 * variance + b**2).clamp(min=1e-8)
        return known * x_t * (further >= latent)[:, None, None, None]

    def mean_of(self, error: Tensor, x: Tensor, x_t: Tensor) -> Tensor:
        """Of code frames that are drawn: those that are given, without noise, are asked of nobody."""
        drawn = ((x_t - x).abs().amax((1, 3, 4)) > GIVEN).to(error)
        return (error.mean((1, 3, 4)) * drawn).sum(1) / drawn.sum(1).clamp(min=1)

    def preview(self, source: Source) -> Tensor:
        """Four frames of each clip."""
        clips = super().preview(source)
        places = torch.linspace(0, clips.shape[2] - 1, SHOWN).round().long()
        return clips[:, :, places].transpose(1, 2).flatten(0, 1)

    def previewed(self, source: Source) -> list[dict[str, Any]]:
        return [row for row in super().previewed(source) for _ in range(SHOWN)]

    # sampling --------------------------------------------------------------------------------------------------------
    def code_frames(self, frames: int) -> int:
        """Frames of the code of so many."""
        return 1 + -(-(frames - 1) // self.period)

    def shape_of(self, size: Size) -> tuple[int, ...]:
        channels, height, width = super().shape_of(size)
        return channels, self.code_frames(self.frames), height, width

    def closing(self) -> Closing:
        return Closing.of(self.frames, self.period)

    def drawn_frames(self, request: Request) -> int:
        """Frames that are drawn at once: of a loop all but the way from its end to its beginning."""
        options = self.options(request)
        frames = getattr(options, "frames", None) or self.frames  # also of a flow's plain options
        if not getattr(options, "loop", False):
            return frames
        given = request.edit.picture.shape[1] if request.edit and request.edit.picture.ndim == 4 else 0
        return self.closing().drawn(frames, given + 1)

    def remarks(self, request: Request) -> list[str]:
        drawn = self.drawn_frames(request)
        if drawn <= self.frames:
            return super().remarks(request)
        said = f"trained on clips of {self.frames} frames: of {drawn} the later ones are less sure"
        return [*super().remarks(request), said]

    def shape_for(self, request: Request) -> tuple[int, ...]:
        channels, _, height, width = super().shape_for(request)
        return channels, self.code_frames(self.drawn_frames(request)), height, width

    def finished(self, x: Tensor, request: Request) -> Tensor:
        return self.from_x(x)[:, :, : self.drawn_frames(request)]

    @torch.inference_mode()
    def sample(self, request: Request) -> Iterator[Drawn]:
        if not getattr(self.options(request), "loop", False):
            yield from super().sample(request)
            return
        for part in super().sample(request):
            if not part.final:
                yield replace(part, steps=2 * part.steps)
                continue
            clips, loops = part.pictures, list[Tensor]()
            for place, clip in enumerate(clips):
                for way in self._way(clip, request, part.start + place):
                    if way.final:
                        loops.append(torch.cat([clip, way.pictures[0].to(clip)], 1))
                    else:
                        step = part.steps + (place * way.steps + way.step) * part.steps // (len(clips) * way.steps)
                        yield Drawn(part.start, way.made, step, 2 * part.steps, final=False)
            yield replace(part, made=torch.stack(loops), step=2 * part.steps, steps=2 * part.steps)

    def _way(self, clip: Tensor, request: Request, place: int) -> Iterator[Drawn]:
        """From the end of a clip [3, T, H, W] to its beginning, by noise of its own."""
        closing = self.closing()
        ends = Ends(clip[:, -closing.end :], end=clip[:, : closing.beginning])
        options = replace(self.options(request).way_back(any(request.conditions)), frames=self.frames)
        seed, condition = address("loop", request.seeds[place]), request.conditions[place : place + 1]
        asked = replace(request, seeds=[seed], conditions=condition, options=options, edit=ends, noise=None)
        for part in super().sample(asked):
            shown = slice(closing.end, closing.end + closing.new)
            yield replace(part, made=part.pictures[:, :, shown]) if part.final else part

    def begins_at(self, request: Request) -> float:
        return 1.0

    def given(self, edit: Edit, shape: tuple[int, ...]) -> Given:
        """The code of a picture, or of a clip's end, as the first code frames, and of a beginning as the last one; the
        others are drawn. Raises UsageError where none is left to draw."""
        clip = edit.picture if edit.picture.ndim == 4 else edit.picture[:, None]
        first = self.code_frames(clip.shape[1])
        if first >= shape[1]:
            raise UsageError(f"--frames: more than the {clip.shape[1]} that are given")
        places = torch.arange(shape[1], device=self.device)
        free = places >= first
        if isinstance(edit, Ends):
            new = 1 + self.period * (shape[1] - 1) - clip.shape[1] - edit.end.shape[1]
            share = torch.linspace(0, 1, new + 2)[1:-1].to(clip)[:, None, None]
            way = torch.lerp(clip[:, -1:], edit.end[:, :1], share)  # what the end's code sees before it: about that
            clip, free = torch.cat([clip, way, edit.end], 1), free & (places < shape[1] - 1)
        code = self.to_x(clip[None]).to(self.device)
        x = torch.cat([code, code.new_zeros(1, shape[0], shape[1] - code.shape[2], *shape[2:])], 2)
        return Given(x, free.to(x)[None, None, :, None, None], clean=True)

    def code_shape(self) -> tuple[int | None, ...]:
        return self.config.channels, None, None, None


class ClipCodeSource:
    """Batches of codes x [B, d, t, h, w] of windows, or of single frames [B, d, 1, h, w], and their conditions. Of each
    clip so many windows (`views`) are encoded ahead, from anywhere in it; codes lie in the cache."""

    def __init__(self, model: Video, clips: Clips, device: torch.device) -> None:
        codec, config = model.codec(), clips.config
        self.mixed, self.views = Mixed(clips, model.config.stills), config.views or VIEWS
        self.weights = self.mixed.weights
        self.slot = (~clips.still()).long().cumsum(0) - 1  # of a clip among those that move
        varied_by = [self.views, config.flip, config.jitter, clips.flips.tolist(), clips.loops.tolist()]
        key = [2, codec.weights_sha256, clips.fingerprint, model.frames, *varied_by, *codec.beyond_tensors]
        made = cache.cached("codes", key, lambda: encoded(codec, clips, model.frames, self.views, model.watch))
        self.codes, self.firsts = made["windows"].to(device), made["stills"].to(device)  # view by view
        self.described = Described(model, clips, device)
        self.preview_prompts = self.described.previews[:4]

    def batch(self, rows: Tensor, draw: Draw) -> dict[str, Tensor]:
        rows, frames = self.mixed.rows(rows, 2, draw)
        table, slots = (self.firsts, rows) if frames == 1 else (self.codes, self.slot[rows])
        places = slots + len(table) // self.views * (draw.uniform() * self.views).long()
        return {"x": table[onto(places, table.device)].float()} | self.described.batch(rows, draw)


def encoded(codec: ClipVAE, clips: Clips, frames: int, views: int, watch: Any) -> dict[str, Tensor]:
    """View by view, as float16: the code of a window of each clip that moves, and of each clip or picture that of one
    frame alone (the window's first). The first view of a loop begins at its beginning and is not varied."""
    windows: list[Tensor] = []
    stills: list[Tensor] = []
    count, still = len(clips), clips.still()
    for view in range(views):
        for start in range(0, count, CHUNK):
            watch("encoding clips", view * count + start, views * count)
            rows = torch.arange(start, min(start + CHUNK, count))
            draw = Draw(address("window", view), count).part(start, start + len(rows))
            first = clips.anywhere(rows, draw.uniform() * (view > 0), frames)
            length = 1 if still[rows].all() else frames
            made = clips.windows(rows, first, length)
            made = varied(made, clips, rows, draw) if view else made
            clip = (made.float() / 127.5 - 1).transpose(1, 2)
            if length > 1:
                windows.append(codec.encoded(clip[~still[rows]]).cpu().half())
            stills.append(codec.encoded(clip[:, :, :1]).cpu().half())
    shape = [0, *stills[0].shape[1:]]
    return {"windows": torch.cat(windows) if windows else torch.zeros(shape), "stills": torch.cat(stills)}
