"""From jobs to pictures: jobs that differ in seed and condition alone go through a model together, and each comes out
with the document that says how it was made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genctl import __version__, hub
from genctl.asked import Asked, Job, size_of
from genctl.errors import InputError
from genctl.families import registry
from genctl.families.base import Edit, Family, Request
from genctl.media.clips import film_at, frames_of, last_frames
from genctl.media.pictures import (
    as_mask,
    crops,
    fit,
    on_white,
    read_mask,
    read_picture,
    to_float,
    to_tensor,
    turn_of,
    upright,
)
from genctl.media.stream import read_file
from genctl.sizes import Size

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Event:
    """The picture of job `index` done, with how it was made; before that, the state after a step, when `guess` makes
    the current picture [3, H, W] (clip [3, T, H, W]) and `document` is None."""

    index: int
    step: int
    steps: int
    document: dict[str, Any] | None
    guess: Callable[[], Tensor]


def draw(
    family: Family, jobs: list[Job], chunk: int = 8, remark: Callable[[str], None] = lambda line: None
) -> Iterator[Event]:
    """The events of all jobs, which are this family's, in order. `remark` gets what a person should know before it."""
    start = 0
    for _, group in groupby(jobs, key=lambda job: job.shared):
        together = list(group)
        request, facts = request_of(family, together, chunk, remark)
        for line in family.remarks(request):
            remark(line)
        recorded = facts | family.recorded(request)
        for part in family.sample(request):
            if not part.final:
                yield Event(start + part.start, part.step, part.steps, None, lambda part=part: part.pictures[0])  # type: ignore[misc]
                continue
            for offset, picture in enumerate(part.pictures):
                job = together[part.start + offset]
                size = f"{picture.shape[-1]}x{picture.shape[-2]}"
                own = {job.condition_key: job.asked.condition, "seed": job.seed, "size": size}
                document = made_by(family, job.model, **own, **recorded)
                yield Event(start + part.start + offset, part.step, part.steps, document, lambda one=picture: one)  # type: ignore[misc]
        start += len(together)


def request_of(
    family: Family, jobs: list[Job], chunk: int, remark: Callable[[str], None]
) -> tuple[Request, dict[str, Any]]:
    """The request of jobs that are drawn together, and what their pictures record beside its options."""
    first = jobs[0].asked
    clips = registry.row(family.name).clips
    start = read_start(first, (lambda line: None) if clips else remark)  # all of a clip's frames are looked at
    size = size_of(jobs[0], start[0].size if start else None)
    edit = None
    if start and clips:
        fps = getattr(jobs[0].options, "fps", None) or family.fps
        edit = clip_edit(first, start[0], size, fps, 1 + family.period, remark)  # of two code frames
    elif start:
        edit = edit_of(first, start, size, remark)
    facts: dict[str, Any] = {}
    if edit is not None:
        facts |= {"image": fingerprint(edit.picture)} | ({} if clips else {"strength": edit.strength})
        facts |= {} if edit.mask is None else {"mask": fingerprint(edit.mask)}
    request = Request(
        seeds=[job.seed for job in jobs],
        conditions=[job.asked.condition for job in jobs],
        options=jobs[0].options,
        edit=edit,
        size=None if size == family.pixels else size,
        chunk=chunk,
        dtype=DTYPES[first.dtype],
    )
    return request, facts


def made_by(family: Family, name: str, **facts: Any) -> dict[str, Any]:
    """The provenance document of a picture."""
    document = {"version": __version__, "model": hub.plain_name(name), "sha256": family.sha256} | facts
    return {key: value for key, value in document.items() if value not in (None, "")}


def read_start(
    asked: Asked, remark: Callable[[str], None] = lambda line: None
) -> tuple[Image.Image, Image.Image | None] | None:
    """The picture to begin from and its mask (grey), of one size. Raises InputError."""
    if asked.image is None:
        return None
    image = first_frame(asked.image) if is_clip(asked.image) else as_picture(asked.image, remark)
    mask = None if asked.mask is None else _as_mask(asked.mask, remark)
    if mask is not None and mask.size != image.size:
        sizes = ["x".join(map(str, one.size)) for one in (mask, image)]
        raise InputError(f"{_named(asked.mask)}: is {sizes[0]}, the picture {sizes[1]}; make them one size")
    return image, mask


def is_clip(source: Any) -> bool:
    """Whether a file is a film."""
    return not isinstance(source, Image.Image) and film_at(Path(str(source)))


def first_frame(source: Any) -> Image.Image:
    """Of a film. Raises InputError."""
    return next(frames_of(read_file(Path(source)), str(source)))[0]


def as_picture(source: Any, remark: Callable[[str], None] = lambda line: None) -> Image.Image:
    """An RGB picture from a path or from a Pillow picture. Raises InputError."""
    if not isinstance(source, Image.Image):
        return read_picture(read_file(Path(source)), str(source), remark)
    try:
        return on_white(upright(source.copy()), turn_of(source, "the picture", remark))
    except (ValueError, OSError) as error:
        raise InputError(f"the picture cannot be used: {error}") from None


def _as_mask(source: Any, remark: Callable[[str], None]) -> Image.Image:
    """A mask, grey, from a path or from a Pillow picture. Raises InputError."""
    if not isinstance(source, Image.Image):
        return read_mask(read_file(Path(source)), str(source), remark)
    try:
        return as_mask(upright(source.copy()))
    except (ValueError, OSError) as error:
        raise InputError(f"the mask cannot be used: {error}") from None


def _named(source: Any) -> str:
    return "the mask" if isinstance(source, Image.Image) else str(source)


def edit_of(
    asked: Asked, start: tuple[Image.Image, Image.Image | None], size: Size, remark: Callable[[str], None]
) -> Edit:
    image, mask = start
    if crops(image, size):
        remark(f"--image is cropped to the proportions of {size}, which is drawn")
    redrawn = None if mask is None else mask_of(mask, size)
    if redrawn is not None and redrawn.min() == redrawn.max():
        what = "white everywhere, so all is redrawn" if redrawn.max() else "white nowhere, so nothing is redrawn"
        remark(f"--mask is {what}")
    return Edit(to_float(to_tensor(fit(image, size))), asked.how_far, redrawn)


def clip_edit(
    asked: Asked, image: Image.Image, size: Size, fps: float, end: int, remark: Callable[[str], None]
) -> Edit:  # fmt: skip
    """A clip's first frames: a picture, or the last `end` frames of a clip, which is gone on with."""
    said = asked.image
    frames = [image] if isinstance(said, Image.Image) else last_frames(read_file(Path(str(said))), str(said), fps, end)
    if crops(image, size):
        remark(f"--image is cropped to the proportions of {size}, which is drawn")
    if 1 < len(frames) < end:
        remark(
            f"--image has {len(frames)} frames at {fps:g} a second, {end} are gone on with: its last one alone is used"
        )
    kept = frames if len(frames) == end else frames[-1:]
    return Edit(torch.stack([to_float(to_tensor(fit(frame, size))) for frame in kept], 1))


def mask_of(mask: Image.Image, size: Size) -> Tensor:
    """A grey mask as [1, H, W] of this size, 1 where any of a pixel's part of the mask is white (above 127), its middle
    cropped to the proportions as `fit` does: a thin stroke must not vanish as the mask is made smaller."""
    scale = max(size.width / mask.width, size.height / mask.height)
    wide, high = size.width / scale, size.height / scale
    left, top = (mask.width - wide) / 2, (mask.height - high) / 2
    white = mask.point(lambda level: 255 * (level > 127))
    flat = torch.frombuffer(bytearray(white.tobytes()), dtype=torch.uint8).view(mask.height, mask.width) > 0
    rows = torch.stack([flat[a:b].any(0) for a, b in _parts(top, high, size.height, mask.height)])
    return torch.stack([rows[:, a:b].any(1) for a, b in _parts(left, wide, size.width, mask.width)], 1)[None].float()


def _parts(start: float, length: float, count: int, most: int) -> list[tuple[int, int]]:
    """`count` equal parts of [start, start + length), each as the whole pixels that it touches: at least one."""
    edges = [start + length * index / count for index in range(count + 1)]
    cuts = [(int(a + 1e-6), min(most, max(int(a + 1e-6) + 1, math.ceil(b - 1e-6)))) for a, b in pairwise(edges)]
    return [(min(a, most - 1), b) for a, b in cuts]


def fingerprint(picture: Tensor) -> str:
    """What identifies a picture's numbers, not its file."""
    levels = ((picture.cpu().flatten() + 1) * 127.5).round().to(torch.uint8)
    return hashlib.sha256(bytes(levels.tolist())).hexdigest()[:16]
