"""The Python face of a model: draw, encode, decode, interpolate. The command line does the same through these.

model = genctl.load("ldm")
pictures = model.draw("cat", n=4, seed=1, cfg=4)     # Pillow pictures that know how they were made
pictures[0].save("cat.png")
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genctl.asked import Job, build, takes
from genctl.drawing import as_picture, draw, made_by
from genctl.errors import InputError, UsageError
from genctl.families import registry, walk
from genctl.families.base import Family
from genctl.media.clips import read_clip
from genctl.media.pictures import crops, fit, pad_to, refuse_large, refuse_many, to_float, to_image, to_tensor
from genctl.media.stream import read_file
from genctl.nets.lpips import psnr
from genctl.options import walked
from genctl.seeds import MOST, MOST_SEED, fresh_seed
from genctl.shown import Clip, Picture, Pictures, made_of, warn, whole
from genctl.sizes import MOST_SIDE, Size
from genctl.writing import write_whole

Callback = Callable[[int, int, int, Any], Any]  # (picture's index, step, steps, the current guess)


@dataclass(frozen=True)
class Codes:
    """A picture's code (or noise) [C, H, W] and what is needed to decode it: `info` names the model, the picture's size
    and the space."""

    values: Tensor
    info: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """As a code file, which `genctl decode` reads."""
        write_whole(Path(path), self.packed())

    def packed(self) -> bytes:
        from genctl.media.codes import pack_codes

        return pack_codes(self.values, self.info)


class Model:
    """A model ready for use; `genctl.load` makes it. `can` says what it does, `options` what `draw` takes."""

    def __init__(self, family: Family, name: str) -> None:
        self.family, self.name = family, name

    @property
    def document(self) -> dict[str, Any]:
        """Everything that its file says of itself."""
        return self.family.document()

    @property
    def can(self) -> list[str]:
        return sorted(self.family.can)

    @property
    def options(self) -> list[str]:
        """The keywords of `draw` that are the family's own."""
        return [flag.removeprefix("--").replace("-", "_") for flag in takes(self.document)]

    def __repr__(self) -> str:
        return f"<genctl model {self.name!r}: {self.family.name}, {self.family.pixels}, can {', '.join(self.can)}>"

    # drawing ---------------------------------------------------------------------------------------------------------
    def draw(
        self, prompt: str | Iterable[str] | None = "", n: int = 1, seed: int | None = None, *, batch: int = 8,
        callback: Callback | None = None, **asked: Any,
    ) -> Pictures | list[Clip]:  # fmt: skip
        """`n` pictures (or clips) of each prompt (or of `class_name=`), picture i from seed + i.

        `asked` are the model's options (`self.options`) and size=(width, height), image=, mask=, strength=, dtype=, as
        of `genctl sample`. `callback` gets the current guess after each step, of the first of each `batch`. Raises
        UsageError for what the model does not take.
        """
        if not isinstance(prompt, (str, type(None), Iterable)):
            raise UsageError(f"prompt {prompt!r}: wants a text, or several")
        prompts = [prompt] if isinstance(prompt, str) or prompt is None else list(prompt)
        if "sample" not in self.family.can:
            raise UsageError(f"a {self.family.name} model ({self.name}) cannot sample")
        n, batch = whole("n", n, 1, MOST), whole("batch", batch, 1, MOST)
        first = fresh_seed() if seed is None else whole("seed", seed, 0, MOST_SEED - n)
        document = self.document
        jobs = [
            Job(self.name, first + index, *made, document)
            for made in (build(self.name, document, {"prompt": text} | asked) for text in prompts)
            for index in range(n)
        ]
        found: list[Any] = [] if registry.row(self.family.name).clips else Pictures()
        for event in draw(self.family, jobs, batch, lambda line: warnings.warn(line, stacklevel=4)):
            if event.document is not None:
                found.append(made_of(event.guess(), event.document))
            elif callback is not None:
                callback(event.index, event.step, event.steps, made_of(event.guess(), {}))
        return found

    # codes -----------------------------------------------------------------------------------------------------------
    def space_of(self, space: str | None) -> str:
        """The space asked for, or the family's own. Raises UsageError where the family lacks it."""
        if not self.family.spaces:
            raise UsageError(f"{self.name}: has no codes, so it takes no pictures")
        if space is not None and space not in self.family.spaces:
            raise UsageError(f"--space {space}: a {self.family.name} model has {' and '.join(self.family.spaces)}")
        return space or self.family.spaces[0]

    def fitted(self, space: str) -> bool:
        """Whether pictures are fitted to the model's own size on their way to this space."""
        return space == "noise" or registry.row(self.family.name).own_size

    def encode(self, picture: Any, space: str | None = None, prompt: str = "", steps: int | None = None) -> Codes:
        """The code of a picture (a path or a Pillow picture); sides that the codec cannot take are padded with white,
        and noted. In the space "noise": the noise that draws it, of its middle in the model's proportions; so is the
        code of a family that has one size only."""
        image = as_picture(picture, warn)
        refuse_large(*image.size)
        info: dict[str, Any] = {"model": self.shown, "sha256": self.family.weights_sha256}
        info |= {"axes": self.family.axes}
        space = self.space_of(space)
        if registry.row(self.family.name).clips:
            return self._encode_clip([image], 0.0, info)
        if not self.fitted(space):
            padded = to_float(pad_to(to_tensor(image), self.family.factor))
            return Codes(self.family.encode(padded[None])[0].cpu(), info | {"pixels": [image.height, image.width]})
        fitted = to_float(to_tensor(fit(image, self.family.pixels)))[None]
        if space == "code":
            codes = self.family.encode(fitted)
            return Codes(codes[0].cpu(), info | self.family.code_facts(fitted, codes))
        noise = self.family.invert(fitted, prompt, steps)
        back = float(psnr(self.family.from_noise(noise, prompt, steps).cpu(), fitted)[0])
        said = {"space": "noise", "prompt": prompt, "steps": steps, "round_trip_db": round(back, 2)}
        return Codes(noise[0].cpu(), info | said)

    def encode_clip(self, source: Any) -> Codes:
        """The code of a clip: a path, or its frames as Pillow pictures."""
        if not registry.row(self.family.name).clips:
            raise UsageError(f"{self.name}: encodes pictures, not clips; encode takes one")
        fps = self.family.fps
        frames = source if isinstance(source, list) else read_clip(read_file(Path(source)), str(source), fps)
        if not frames:
            raise UsageError("a clip of no frames")
        refuse_many(len(frames), *_clip_size(as_picture(frames[0])).wide)
        info: dict[str, Any] = {"model": self.shown, "sha256": self.family.weights_sha256, "axes": self.family.axes}
        return self._encode_clip([as_picture(frame, warn) for frame in frames], fps, info)

    def _encode_clip(self, frames: list[Image.Image], fps: float, info: dict[str, Any]) -> Codes:
        size, factor = frames[0].size, self.family.factor
        padded = [to_float(pad_to(to_tensor(fit(frame, Size(*size))), factor)) for frame in frames]
        refuse_large(*size)
        codes = self.family.encode(torch.stack(padded, 1)[None])[0].cpu()
        said = {"pixels": [size[1], size[0]]} | ({"frames": len(frames), "fps": fps} if len(frames) > 1 else {})
        return Codes(codes, info | said)

    @property
    def shown(self) -> str:
        """Its name, never a path of this machine."""
        from genctl import hub

        return hub.plain_name(self.name)

    def decode(self, codes: Codes, name: str = "codes") -> Picture | Clip:
        """The picture (or clip) of codes or, where they say so, of noise. Raises InputError for codes of another
        shape."""
        info, family, shape = codes.info, self.family, list(codes.values.shape)
        if self.space_of(info.get("space")) == "noise":
            if len(shape) != len(family.noise_shape()) or shape[0] != family.noise_shape()[0]:
                raise InputError(f"{name}: noise of shape {shape}, where the model wants {list(family.noise_shape())}")
            steps = info.get("steps")
            if steps is not None and not (type(steps) is int and 1 <= steps <= 1000):
                raise InputError(f"{name}: says {steps!r} steps of itself, which cannot be")
            picture = family.from_noise(codes.values[None], str(info.get("prompt", "")), steps)[0]
        else:
            wanted = family.code_shape()
            fits = len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))
            if not fits:
                shown = ", ".join("any" if side is None else str(side) for side in wanted)
                raise InputError(f"{name}: codes of shape {shape}, where the model wants [{shown}]")
            picture = family.decode(codes.values[None])[0]
        height, width = info.get("pixels") or picture.shape[-2:]
        document = made_by(family, self.name, task="decode", size=f"{width}x{height}")
        picture = picture[..., :height, :width]
        if picture.ndim == 4 and picture.shape[1] > 1:
            picture = picture[:, : info.get("frames") or picture.shape[1]]
            return Clip.of(picture, document | {"frames": picture.shape[1], "fps": info.get("fps") or family.fps})
        return Picture.of(to_image(picture[:, 0] if picture.ndim == 4 else picture), document)

    # walks -----------------------------------------------------------------------------------------------------------
    def interpolate(
        self, *ends: Any, prompts: list[str] | None = None, seeds: list[int] | None = None, frames: int = 9,
        space: str | None = None, prompt: str = "", seed: int = 0, loop: bool = False, **asked: Any,
    ) -> Pictures:  # fmt: skip
        """A walk between pictures (paths or Pillow pictures), between `prompts` from one seed, or between `seeds` with
        one prompt: `frames` in all, both ends included; with `loop` back to the first end, without drawing it twice.
        Where no ends are given, along what one of the options moves (a GAN's `direction`). `asked` are options of
        `draw`; between pictures only steps."""
        made, options = build(self.name, self.document, asked)
        if isinstance(prompts, str):
            raise UsageError("interpolate wants a list of prompts")
        along = walked(options)
        kinds = sum((bool(ends), prompts is not None, seeds is not None))
        if kinds > 1 or (kinds == 1 and len(ends or prompts or seeds or []) < 2) or (not kinds and along is None):
            raise UsageError("interpolate wants two ends or more: pictures, prompts or seeds")
        if (loop or space is not None) and not kinds:
            raise UsageError("loop and space want ends: pictures, prompts or seeds")
        if (prompts or (prompt and not ends)) and not {"text", "class"} & self.family.can:
            raise UsageError(f"{self.name} takes no text or class condition")
        seed = whole("seed", seed, 0, MOST_SEED)
        frames = whole("frames", frames, max(2, len(ends or prompts or seeds or [])), MOST)
        if made != type(made)():
            raise UsageError("interpolate takes no prompt, size, dtype or picture to change beside its ends")
        if ends and options.recorded().keys() - {"steps"}:
            raise UsageError("between pictures no option is taken but steps (through noise)")
        said: dict[str, Any] = {"task": "interpolate", "frames": frames, "prompt": prompt or " -> ".join(prompts or [])}
        if ends:
            images = [as_picture(end, warn) for end in ends]
            if max(images[0].size) > MOST_SIDE:
                raise InputError(f"the first picture has a side of more than {MOST_SIDE} pixels")
            said |= {"space": self.space_of(space), "steps": getattr(options, "steps", None)}
            size = self.family.pixels if self.fitted(said["space"]) else Size(*images[0].size)
            if cropped := sum(crops(image, size) for image in images):
                warn(f"of {cropped} of {len(images)} pictures the middle alone, in the proportions of {size}")
            images = [fit(image, size) for image in images]
            drawn = self._between(images, said["space"], prompt, said["steps"], frames, loop)
        elif "sample" not in self.family.can:
            raise UsageError(f"a {self.family.name} model ({self.name}) cannot sample")
        else:
            if prompts is not None:
                drawn = walk.between_prompts(self.family, prompts, frames, seed, options, loop)
            elif seeds is not None:
                said["seeds"] = ",".join(map(str, seeds))
                drawn = walk.between_seeds(self.family, seeds, frames, prompt, options, loop)
            else:
                assert along is not None
                value = getattr(options, along.name)
                if value == 0:
                    raise UsageError(f"{along.name} 0: the walk would stand still")
                ends_of = (along.low, along.high) if value is None else (-abs(value), abs(value))
                drawn = walk.between_values(self.family, options, along.name, ends_of, frames, seed, prompt)
                said[along.name] = list(ends_of)
            settled = options.settled(self.document, bool(prompt or prompts))
            said = settled.recorded() | said | ({"seed": seed} if seeds is None else {})
        said |= {"loop": True} if loop else {}
        document = made_by(self.family, self.name, **said)
        return Pictures(Picture.of(to_image(picture), document) for picture in drawn)

    def between_clips(self, *ends: Any, frames: int = 17, loop: bool = False) -> Clip:
        """One clip of so many frames that goes over from the first of the `ends` (paths, or lists of Pillow pictures)
        to the last, or with `loop` on to the first again; a shorter end begins anew."""
        if len(ends) < 2:
            raise UsageError("interpolate wants two ends or more: clips")
        frames = whole("frames", frames, max(2, len(ends)), MOST)
        fps, factor = self.family.fps, self.family.factor
        size: Size | None = None
        tensors = []
        for end in ends:
            fitted = partial(fit, size=size) if size else as_picture
            clip = end if isinstance(end, list) else read_clip(read_file(Path(end)), str(end), fps, fitted, frames)
            if not clip:
                raise UsageError("a clip of no frames")
            size = size or _clip_size(as_picture(clip[0]))
            refuse_many(len(ends) * frames, *size.wide)
            chosen = [fit(as_picture(clip[place % len(clip)], warn), size) for place in range(frames)]
            tensors.append(torch.stack([to_float(pad_to(to_tensor(image), factor)) for image in chosen], 1))
        assert size is not None
        made = walk.between_clips(self.family, torch.stack(tensors), loop)[:, :frames, : size.height, : size.width]
        said = {"task": "interpolate", "frames": frames, "fps": fps} | ({"loop": True} if loop else {})
        return Clip.of(made, made_by(self.family, self.name, **said))

    def _between(
        self, images: list[Image.Image], space: str, prompt: str, steps: int | None, frames: int, loop: bool
    ) -> Tensor:
        if space == "noise":
            fitted = torch.stack([to_float(to_tensor(image)) for image in images])
            return walk.between_noises(self.family, fitted, frames, prompt, steps, loop)
        tensors = [to_float(pad_to(to_tensor(image), self.family.factor)) for image in images]
        width, height = images[0].size
        return walk.between_pictures(self.family, torch.stack(tensors), frames, loop)[:, :, :height, :width]


def _clip_size(image: Image.Image) -> Size:
    """The size of a clip's first frame, to which the others are fitted. Raises InputError for one that is too large."""
    if max(image.size) > MOST_SIDE:
        raise InputError(f"a clip has a side of more than {MOST_SIDE} pixels")
    refuse_large(*image.size)
    return Size(*image.size)
