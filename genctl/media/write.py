"""Pictures to bytes: single ones and animations, each with how it was made."""

from __future__ import annotations

import io
import os
import struct
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from genctl.errors import PipeClosedError, UsageError
from genctl.media.clips import CODECS, encode_film
from genctl.media.names import format_of, hundredths
from genctl.media.provenance import as_text, embed
from genctl.writing import write_new

OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 6},
    "webp": {"lossless": True, "quality": 80},  # of a lossless picture, quality is the effort to make it small
    "jpeg": {"quality": 95, "subsampling": 0},
    "gif": {},
}


MOST_SHOWN = 60_000  # milliseconds of a frame; GIF counts hundredths of a second to 65,535, equal neighbours together
GIF_EXACT = 10  # frames a second up to which a hundredth more is within a tenth of a frame's time, as reading allows
MOST_SHEET = 64_000_000  # pixels of a sheet of many pictures; a wrong count would fill the memory
MOST_SIDE = {"webp": 16_383, "jpeg": 65_500, "gif": 65_535}  # pixels, by the formats' own rules


def encode_picture(image: Image.Image, form: str, document: dict[str, Any] | None = None) -> bytes:
    """The bytes of one picture in the form "png", "webp" (both lossless), "jpeg" or "gif"; `document` says how it was
    made."""
    refuse_size(form, *image.size)
    out = io.BytesIO()
    Image.Image.save(image, out, form, **OPTIONS[form], **embed(document, form))
    return out.getvalue()


def encode_animation(
    frames: list[Image.Image], form: str, milliseconds: int | list[int], document: dict[str, Any] | None = None
) -> bytes:
    """The bytes of an endless loop of frames: "webp" (lossy), "gif" (256 colours, whole centiseconds) or "png" (APNG).

    `milliseconds` are of all frames, or of each. Equal neighbours are stored once and shown for as long. Raises
    UsageError for times that a frame cannot have.
    """
    each = milliseconds if isinstance(milliseconds, list) else [milliseconds] * len(frames)
    if not 10 <= min(each) <= max(each) <= MOST_SHOWN:
        raise UsageError(f"{milliseconds} milliseconds a frame: from 10 to {MOST_SHOWN:,}")
    out = io.BytesIO()
    options: dict[str, Any] = {"webp": {"quality": 90, "method": 4}, "gif": {"disposal": 2}, "png": {}}[form]
    shown = [hundredths(one) for one in each] if form == "gif" else each
    try:
        Image.Image.save(
            frames[0], out, form, save_all=True, append_images=frames[1:], duration=shown, loop=0, **options,
            **embed(document, form),
        )  # fmt: skip
    except (OverflowError, struct.error):
        raise UsageError(
            f"{max(shown)} milliseconds a frame: equal frames together are longer than a {form.upper()} has"
        ) from None
    return out.getvalue()


def encode_clip(
    frames: list[Image.Image], form: str, fps: float, document: dict[str, Any] | None = None
) -> bytes:  # fmt: skip
    """The bytes of a clip: an endless animation ("webp", "gif", "png"), or a film ("mp4", "webm")."""
    if form in CODECS:
        return encode_film(frames, form, fps, "" if document is None else as_text(document))
    return encode_animation(frames, form, times_of(len(frames), form, fps), document)


def times_of(frames: int, form: str, fps: float) -> int | list[int]:
    """The milliseconds of all frames, or of each in a GIF, which counts in hundredths of a second: some are longer by
    one, so that the clip is as long as it should be."""
    if form != "gif" or fps > GIF_EXACT:
        return max(10, round(1000 / fps))
    ends = [round(100 * place / fps) for place in range(frames + 1)]
    return [10 * (end - begin) for begin, end in pairwise(ends)]


def refuse_size(form: str, width: int, height: int) -> None:
    """Raise UsageError for a picture that the format cannot hold."""
    most = MOST_SIDE.get(form)
    if most and max(width, height) > most:
        raise UsageError(
            f"a picture of {width} x {height} pixels, and a side of {form.upper()} has at most {most}; use .png"
        )


def write_picture(path: Path, image: Image.Image, document: dict[str, Any] | None = None, force: bool = True) -> Path:
    """Write a picture whole; the name's ending picks the format. Returns where it is: see `write_new` for a name that
    another process took meanwhile."""
    return write_new(path, encode_picture(image, format_of(path), document), force)


def refuse_terminal() -> None:
    """Raise UsageError when stdout, asked for by `-o -`, would show bytes to a person, or was closed."""
    if sys.stdout is None or getattr(sys.stdout, "name", "") == os.devnull:  # put there by cli/say.py
        raise UsageError("-o -: stdout is closed; give a file name")
    if sys.stdout.isatty():
        raise UsageError("-o -: stdout is a terminal; pipe it somewhere, or give a file name")


def write_stdout(data: bytes) -> None:
    """Bytes to stdout, at once; a terminal is refused."""
    refuse_terminal()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise PipeClosedError from None
